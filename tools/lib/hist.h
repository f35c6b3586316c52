/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A histogram of nanosecond values with a high dynamic range: every value from 0 to 137 s lands in
 * a bucket at most 1/1024 of the value wide, so three significant digits survive, in 225 KiB
 * whatever is recorded. A histogram belongs to one thread at a time; recording never allocates,
 * locks or fails.
 */
#ifndef TOOLS_HIST_H
#define TOOLS_HIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Values below 2 * HIST_STEPS have a bucket each; above, every doubling is cut into HIST_STEPS
 * equal buckets. Values of HIST_LIMIT and more share the last bucket (min, max and mean stay
 * exact).
 */
#define HIST_STEP_BITS  10
#define HIST_STEPS      ((size_t)1 << HIST_STEP_BITS)
#define HIST_LIMIT_BITS 37
#define HIST_LIMIT      (1ull << HIST_LIMIT_BITS)
#define HIST_BUCKETS    ((HIST_LIMIT_BITS - HIST_STEP_BITS + 1) * HIST_STEPS)

struct hist {
	uint64_t count; /* values recorded */
	uint64_t min;   /* smallest value, UINT64_MAX while empty */
	uint64_t max;   /* largest value, 0 while empty */
	double sum;     /* of all values */
	uint64_t bucket[HIST_BUCKETS];
};

/* An empty histogram, or NULL when there is no memory. Release it with free(3). */
struct hist *hist_create(void);

/* Forget all values. */
void hist_clear(struct hist *hist);

/* Add all values of `from` to `into`. */
void hist_merge(struct hist *into, const struct hist *from);

/*
 * The value below or at which `fraction` (0 to 1) of all values lie: the middle of its bucket, held
 * between the exact min and max, which are also the answers for 0 and 1. 0 while empty.
 */
uint64_t hist_quantile(const struct hist *hist, double fraction);

/* The exact mean, 0 while empty. */
double hist_mean(const struct hist *hist);

/* Lowest value of bucket `index`, which may be HIST_BUCKETS for the end of the last one. */
uint64_t hist_bucket_low(size_t index);

/*
 * Iterate over the buckets that hold something: set *index to the next such bucket at or after
 * *index. False when there is none. Start with 0, add one between calls.
 */
bool hist_next(const struct hist *hist, size_t *index);

/* The bucket of a value. */
static inline size_t
hist_index(uint64_t value)
{
	unsigned shift;

	if (value >= HIST_LIMIT)
		return (HIST_BUCKETS - 1);
	shift = 63u - (unsigned)__builtin_clzll(value | HIST_STEPS) - HIST_STEP_BITS;
	return (((size_t)shift << HIST_STEP_BITS) + (size_t)(value >> shift));
}

/* Record one value in nanoseconds. */
static inline void
hist_record(struct hist *hist, uint64_t value)
{
	hist->count++;
	hist->sum += (double)value;
	if (value < hist->min)
		hist->min = value;
	if (value > hist->max)
		hist->max = value;
	hist->bucket[hist_index(value)]++;
}

#endif
