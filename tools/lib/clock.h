/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The measuring clock: monotonic nanoseconds. Any thread may call it; on the supported systems it
 * is a read of the CPU's time stamp counter without a system call. It must never be used for dates.
 */
#ifndef TOOLS_CLOCK_H
#define TOOLS_CLOCK_H

#include <stdint.h>
#include <time.h>

#define CLOCK_NS_PER_US 1000ull
#define CLOCK_NS_PER_MS 1000000ull
#define CLOCK_NS_PER_S  1000000000ull

/* Nanoseconds since some fixed point in the past; never 0, never decreasing. */
static inline uint64_t
clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return ((uint64_t)now.tv_sec * CLOCK_NS_PER_S + (uint64_t)now.tv_nsec);
}

/* CPU time used by the calling thread, user and system, in nanoseconds. */
static inline uint64_t
clock_thread_cpu_ns(void)
{
	struct timespec used;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
	return ((uint64_t)used.tv_sec * CLOCK_NS_PER_S + (uint64_t)used.tv_nsec);
}

#endif
