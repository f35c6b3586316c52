/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Deterministic random numbers by a counter and a mixing function. Called by any thread on a
 * generator of its own; never sleeps, holds no shared state.
 */
#include "random.h"

/* 2^64 divided by the golden ratio: an odd step that visits all 64-bit numbers evenly. */
#define STEP UINT64_C(0x9e3779b97f4a7c15)

uint64_t
random_mix(uint64_t number)
{
	number = (number ^ (number >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	number = (number ^ (number >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (number ^ (number >> 31));
}

void
random_seed(struct random *random, uint64_t seed)
{
	random->state = random_mix(seed + STEP);
}

uint64_t
random_next(struct random *random)
{
	random->state += STEP;
	return (random_mix(random->state));
}

uint32_t
random_below(struct random *random, uint32_t bound)
{
	return ((uint32_t)(((random_next(random) >> 32) * bound) >> 32));
}

uint32_t
random_length(struct random *random, uint32_t largest)
{
	unsigned bits = 1;
	uint32_t limit;

	while (bits < 32 && (largest >> bits) != 0)
		bits++;
	limit = UINT32_MAX >> (31 - random_below(random, bits));
	if (limit > largest)
		limit = largest;
	return (1 + random_below(random, limit));
}
