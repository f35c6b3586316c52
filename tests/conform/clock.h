/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The monotonic clock, in nanoseconds, and its conversion to the milliseconds of poll(2).
 */
#ifndef CONFORM_CLOCK_H
#define CONFORM_CLOCK_H

#include <limits.h>
#include <stdint.h>
#include <time.h>

#define CLOCK_NS_PER_S  UINT64_C(1000000000)
#define CLOCK_NS_PER_MS UINT64_C(1000000)

static inline uint64_t
clock_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return ((uint64_t)now.tv_sec * CLOCK_NS_PER_S + (uint64_t)now.tv_nsec);
}

/* A time span in milliseconds, rounded up so that a wait of that length does not end too early. */
static inline int
clock_poll_ms(uint64_t span_ns)
{
	uint64_t span_ms = (span_ns + CLOCK_NS_PER_MS - 1) / CLOCK_NS_PER_MS;

	return (span_ms > INT_MAX ? INT_MAX : (int)span_ms);
}

#endif
