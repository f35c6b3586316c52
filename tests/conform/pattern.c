/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The test data stream: word i is a mix of the key and i, least significant byte first on every
 * machine. Called by any thread; never sleeps, never allocates.
 */
#include "pattern.h"

#include <string.h>

#include "random.h"

enum { WORD = sizeof(uint64_t), BLOCK = 4096 };

static uint64_t
pattern_word(uint64_t key, uint64_t index)
{
	return (random_mix(key + index * UINT64_C(0x9e3779b97f4a7c15)));
}

static unsigned char
pattern_byte(uint64_t key, uint64_t offset)
{
	return ((unsigned char)(pattern_word(key, offset / WORD) >> (8 * (offset % WORD))));
}

static void
store_word(unsigned char *buffer, uint64_t word)
{
	for (unsigned i = 0; i < WORD; i++)
		buffer[i] = (unsigned char)(word >> (8 * i));
}

void
pattern_fill(uint64_t key, uint64_t offset, unsigned char *buffer, size_t length)
{
	size_t done = 0;

	for (; done < length && (offset + done) % WORD != 0; done++)
		buffer[done] = pattern_byte(key, offset + done);
	for (; length - done >= WORD; done += WORD)
		store_word(buffer + done, pattern_word(key, (offset + done) / WORD));
	for (; done < length; done++)
		buffer[done] = pattern_byte(key, offset + done);
}

static size_t
first_difference(const unsigned char *a, const unsigned char *b, size_t length)
{
	size_t i = 0;

	while (i < length && a[i] == b[i])
		i++;
	return (i);
}

size_t
pattern_mismatch(uint64_t key, uint64_t offset, const unsigned char *buffer, size_t length)
{
	unsigned char expected[BLOCK];
	size_t done = 0;

	while (done < length) {
		size_t part = length - done < BLOCK ? length - done : BLOCK;

		pattern_fill(key, offset + done, expected, part);
		if (memcmp(buffer + done, expected, part) != 0)
			return (done + first_difference(buffer + done, expected, part));
		done += part;
	}
	return (length);
}
