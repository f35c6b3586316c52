/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Position-dependent test data. Everything but pattern_init() may run in any thread at any time.
 */
#include "pattern.h"

#include <string.h>

static unsigned char table[PATTERN_PERIOD + PATTERN_RUN];

/* The next value of a splitmix64 generator. */
static uint64_t
next_random(uint64_t *state)
{
	uint64_t mixed;

	mixed = *state += 0x9e3779b97f4a7c15ull;
	mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ull;
	mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebull;
	return (mixed ^ (mixed >> 31));
}

void
pattern_init(void)
{
	uint64_t state;
	size_t i;

	state = PATTERN_PERIOD;
	for (i = 0; i < PATTERN_PERIOD; i++)
		table[i] = (unsigned char)next_random(&state);
	for (; i < sizeof(table); i++)
		table[i] = table[i - PATTERN_PERIOD];
}

const unsigned char *
pattern_at(uint64_t offset)
{
	return (&table[offset % PATTERN_PERIOD]);
}

size_t
pattern_check(uint64_t offset, const unsigned char *data, size_t length)
{
	const unsigned char *expected;
	size_t checked, i, run;

	for (checked = 0; checked < length; checked += run) {
		run = length - checked;
		if (run > PATTERN_RUN)
			run = PATTERN_RUN;
		expected = pattern_at(offset + checked);
		if (memcmp(expected, data + checked, run) == 0)
			continue;
		i = 0;
		while (expected[i] == data[checked + i])
			i++;
		return (checked + i);
	}
	return (length);
}
