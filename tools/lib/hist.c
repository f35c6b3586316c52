/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * High dynamic range histogram: everything but recording, which is inline in hist.h. Runs in the
 * thread that owns the histogram.
 */
#include "hist.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct hist *
hist_create(void)
{
	struct hist *hist;

	hist = malloc(sizeof(*hist));
	if (hist != NULL)
		hist_clear(hist);
	return (hist);
}

void
hist_clear(struct hist *hist)
{
	memset(hist, 0, sizeof(*hist));
	hist->min = UINT64_MAX;
}

void
hist_merge(struct hist *into, const struct hist *from)
{
	size_t i;

	into->count += from->count;
	into->sum += from->sum;
	if (from->min < into->min)
		into->min = from->min;
	if (from->max > into->max)
		into->max = from->max;
	for (i = 0; i < HIST_BUCKETS; i++)
		into->bucket[i] += from->bucket[i];
}

uint64_t
hist_bucket_low(size_t index)
{
	unsigned shift;

	if (index < 2 * HIST_STEPS)
		return (index);
	shift = (unsigned)(index >> HIST_STEP_BITS) - 1;
	return ((uint64_t)(index - ((size_t)shift << HIST_STEP_BITS)) << shift);
}

bool
hist_next(const struct hist *hist, size_t *index)
{
	for (; *index < HIST_BUCKETS; ++*index) {
		if (hist->bucket[*index] != 0)
			return (true);
	}
	return (false);
}

/* The middle of a bucket; the value itself where buckets are one wide. */
static uint64_t
bucket_middle(size_t index)
{
	uint64_t low;

	low = hist_bucket_low(index);
	return (low + (hist_bucket_low(index + 1) - low) / 2);
}

uint64_t
hist_quantile(const struct hist *hist, double fraction)
{
	uint64_t rank, seen, value;
	size_t i;

	if (hist->count == 0)
		return (0);
	if (fraction <= 0)
		return (hist->min);
	if (fraction >= 1)
		return (hist->max);

	rank = (uint64_t)ceil(fraction * (double)hist->count);
	seen = 0;
	for (i = 0; hist_next(hist, &i); i++) {
		seen += hist->bucket[i];
		if (seen >= rank)
			break;
	}

	value = i < HIST_BUCKETS - 1 ? bucket_middle(i) : hist->max;
	if (value < hist->min)
		return (hist->min);
	if (value > hist->max)
		return (hist->max);
	return (value);
}

double
hist_mean(const struct hist *hist)
{
	return (hist->count != 0 ? hist->sum / (double)hist->count : 0);
}
