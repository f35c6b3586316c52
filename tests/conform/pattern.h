/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Test data: an endless stream of bytes in which every byte depends on its position and on a key.
 * Lost, doubled, swapped, shifted and foreign bytes all differ from it. No state: any part can be
 * made anywhere.
 */
#ifndef CONFORM_PATTERN_H
#define CONFORM_PATTERN_H

#include <stddef.h>
#include <stdint.h>

/* Write the bytes [offset, offset + length) of the stream of `key`. */
void pattern_fill(uint64_t key, uint64_t offset, unsigned char *buffer, size_t length);

/*
 * Index of the first byte that differs from the stream's bytes [offset, offset + length); length if
 * none.
 */
size_t pattern_mismatch(uint64_t key, uint64_t offset, const unsigned char *buffer, size_t length);

#endif
