/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Deterministic random numbers: the same seed gives the same numbers on every system. A generator
 * belongs to one thread. Not for secrets.
 */
#ifndef CONFORM_RANDOM_H
#define CONFORM_RANDOM_H

#include <stddef.h>
#include <stdint.h>

struct random {
	uint64_t state;
};

/* Spread the bits of a number over 64 bits, so that close numbers give unrelated results. */
uint64_t random_mix(uint64_t number);

void random_seed(struct random *random, uint64_t seed);

uint64_t random_next(struct random *random);

/* A number in [0, bound); bound > 0. */
uint32_t random_below(struct random *random, uint32_t bound);

/* A length in [1, largest], every order of magnitude about equally likely; largest > 0. */
uint32_t random_length(struct random *random, uint32_t largest);

#endif
