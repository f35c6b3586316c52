/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Unit tests of the measuring tools' histogram (tools/lib/hist.h): precision over its whole range,
 * quantiles against sorted values, merging, iterating. One thread; prints TAP.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "hist.h"

#define VALUES 200000

static unsigned tests, failures;

static void
check(bool passed, const char *description)
{
	tests++;
	failures += !passed;
	printf("%sok %u - %s\n", passed ? "" : "not ", tests, description);
}

/* A small generator with a fixed sequence (xorshift64*). */
static uint64_t
next_random(void)
{
	static uint64_t state = 88172645463325252ull;

	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (state * 2685821657736338717ull);
}

/* A value whose magnitude is uniform between 2^low_bits and 2^high_bits. */
static uint64_t
random_value(unsigned low_bits, unsigned high_bits)
{
	unsigned bits;

	bits = low_bits + (unsigned)(next_random() % (high_bits - low_bits));
	return ((1ull << bits) | (next_random() & ((1ull << bits) - 1)));
}

static void
test_empty(struct hist *hist)
{
	size_t index;

	hist_clear(hist);
	check(
	    hist_quantile(hist, .5) == 0 && hist_mean(hist) == 0, "empty: quantile and mean are 0");
	index = 0;
	check(!hist_next(hist, &index), "empty: nothing to iterate over");
}

static void
test_one_value(struct hist *hist)
{
	static const uint64_t values[] = { 0, 1, 99, 1023, 1024, 2047, 2048, 123456789,
		100000000000ull, HIST_LIMIT, UINT64_MAX };
	bool exact;
	unsigned i;

	exact = true;
	for (i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		hist_clear(hist);
		hist_record(hist, values[i]);
		exact &= hist->min == values[i] && hist->max == values[i] &&
			 hist_quantile(hist, 0) == values[i] &&
			 hist_quantile(hist, .5) == values[i] &&
			 hist_quantile(hist, 1) == values[i];
	}
	check(exact, "one value: min, max and all quantiles are that value, whatever it is");
}

/* Buckets cover all values without gaps, and each is narrow enough for three significant digits. */
static void
test_buckets(void)
{
	bool inside, narrow, ordered;
	uint64_t high, low, value;
	size_t i;

	narrow = ordered = true;
	for (i = 0; i < HIST_BUCKETS; i++) {
		low = hist_bucket_low(i);
		high = hist_bucket_low(i + 1);
		ordered &= high > low && hist_index(low) == i && hist_index(high - 1) == i;
		narrow &= high - low == 1 || (high - low) * 1000 <= low;
	}
	check(ordered, "buckets: in order, without gaps, found again by hist_index");
	check(narrow, "buckets: at most a thousandth of their values wide");
	check(hist_bucket_low(HIST_BUCKETS) == HIST_LIMIT && HIST_LIMIT > 100000000000ull,
	    "buckets: reach beyond 100 s");

	inside = true;
	for (i = 0; i < VALUES; i++) {
		value = random_value(0, HIST_LIMIT_BITS);
		inside &= hist_bucket_low(hist_index(value)) <= value &&
			  value < hist_bucket_low(hist_index(value) + 1);
	}
	check(inside, "buckets: random values lie in their bucket");
	check(hist_index(HIST_LIMIT) == HIST_BUCKETS - 1 &&
		  hist_index(UINT64_MAX) == HIST_BUCKETS - 1,
	    "buckets: values beyond the limit share the last one");
	check(sizeof(struct hist) <= 256 * 1024, "memory: at most 256 KiB");
}

static int
compare_values(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a < b ? -1 : a > b);
}

/* Whether two values agree to three significant digits. */
static bool
close_enough(uint64_t a, uint64_t b)
{
	uint64_t difference;

	difference = a > b ? a - b : b - a;
	return (difference == 0 || difference * 1000 <= b);
}

static void
test_quantiles(struct hist *hist)
{
	static const double fractions[] = { 0, .003, .046, .25, .5, .9, .99, .999, .9999, 1 };
	uint64_t *values, rank;
	double sum;
	bool right;
	size_t i;

	values = malloc(VALUES * sizeof(*values));
	if (values == NULL)
		exit(1);
	hist_clear(hist);
	sum = 0;
	for (i = 0; i < VALUES; i++) {
		values[i] = random_value(6, 36);
		sum += (double)values[i];
		hist_record(hist, values[i]);
	}
	qsort(values, VALUES, sizeof(*values), compare_values);

	right = true;
	for (i = 0; i < sizeof(fractions) / sizeof(fractions[0]); i++) {
		rank = (uint64_t)(fractions[i] * VALUES);
		rank = rank > 0 ? rank - 1 : 0;
		if (!close_enough(hist_quantile(hist, fractions[i]), values[rank])) {
			printf("# quantile %g is %" PRIu64 ", should be %" PRIu64 "\n",
			    fractions[i], hist_quantile(hist, fractions[i]), values[rank]);
			right = false;
		}
	}
	check(right, "quantiles: three significant digits of those of the sorted values");
	check(hist->min == values[0] && hist->max == values[VALUES - 1], "min and max are exact");
	check(hist->count == VALUES && hist_mean(hist) > sum / VALUES * .999999 &&
		  hist_mean(hist) < sum / VALUES * 1.000001,
	    "count and mean are exact");
	free(values);
}

static void
test_small_counts(struct hist *hist)
{
	hist_clear(hist);
	hist_record(hist, 100);
	hist_record(hist, 200);
	check(hist_quantile(hist, .5) == 100 && hist_quantile(hist, .51) == 200,
	    "quantiles: the median of two values is the lower one");
	hist_clear(hist);
	hist_record(hist, 7);
	hist_record(hist, 7);
	hist_record(hist, 50000000000ull);
	check(
	    hist_quantile(hist, .66) == 7 && close_enough(hist_quantile(hist, .67), 50000000000ull),
	    "quantiles: rank 2 and rank 3 of three values");
}

static void
test_merge(struct hist *hist)
{
	struct hist *parts[2], *whole;
	uint64_t value;
	bool same;
	size_t i;

	parts[0] = hist_create();
	parts[1] = hist_create();
	whole = hist_create();
	if (parts[0] == NULL || parts[1] == NULL || whole == NULL)
		exit(1);
	for (i = 0; i < VALUES; i++) {
		value = random_value(0, 40);
		hist_record(parts[i % 2], value);
		hist_record(whole, value);
	}
	hist_clear(hist);
	hist_merge(hist, parts[0]);
	hist_merge(hist, parts[1]);

	same = hist->count == whole->count && hist->min == whole->min && hist->max == whole->max;
	for (i = 0; i < HIST_BUCKETS; i++)
		same &= hist->bucket[i] == whole->bucket[i];
	check(same, "merge: two halves make the whole");

	hist_clear(parts[0]);
	hist_merge(hist, parts[0]);
	check(hist->min == whole->min && hist->max == whole->max && hist->count == whole->count,
	    "merge: an empty one changes nothing");
	free(parts[0]);
	free(parts[1]);
	free(whole);
}

static void
test_iterate(struct hist *hist)
{
	uint64_t count;
	unsigned buckets;
	size_t index;

	hist_clear(hist);
	hist_record(hist, 5);
	hist_record(hist, 5);
	hist_record(hist, 1000000);
	hist_record(hist, UINT64_MAX);
	count = 0;
	buckets = 0;
	for (index = 0; hist_next(hist, &index); index++) {
		count += hist->bucket[index];
		buckets++;
	}
	check(buckets == 3 && count == 4, "iterate: every bucket with something in it, once");
}

int
main(void)
{
	struct hist *hist;

	hist = hist_create();
	if (hist == NULL)
		return (1);
	test_empty(hist);
	test_one_value(hist);
	test_buckets();
	test_quantiles(hist);
	test_small_counts(hist);
	test_merge(hist);
	test_iterate(hist);
	free(hist);
	printf("1..%u\n", tests);
	return (failures > 0 ? 1 : 0);
}
