/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Test data whose every byte depends on its position: an endless sequence of pseudo-random bytes
 * that repeats after a prime number of bytes, so that no block size of a network stack (all of them
 * multiples of small numbers) can lose, repeat or move data without changing it. It lives in one
 * table shared by all threads and read only: data is sent from there without a copy and checked
 * with memcmp.
 */
#ifndef TOOLS_PATTERN_H
#define TOOLS_PATTERN_H

#include <stddef.h>
#include <stdint.h>

#define PATTERN_PERIOD 65521u               /* the largest prime below 2^16 */
#define PATTERN_RUN    ((size_t)256 * 1024) /* bytes that pattern_at() gives at a time */

/* Fill the table. Call it once, before any thread uses the pattern. */
void pattern_init(void);

/* The PATTERN_RUN bytes of the pattern from position `offset` on. */
const unsigned char *pattern_at(uint64_t offset);

/*
 * Compare `length` bytes with the pattern from `offset` on. Returns the index of the first wrong
 * byte, or `length` when all are right.
 */
size_t pattern_check(uint64_t offset, const unsigned char *data, size_t length);

#endif
