/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What every unit test needs: TAP output, a seeded generator of random numbers, and how much slower
 * the build is under a sanitizer. ok() and the generator are for the main thread; others count what
 * they see in atomics.
 */
#ifndef TAP_H
#define TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define TAP_SLOW 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define TAP_SLOW 1
#endif
#endif

/* A repeat count for this build: a quarter where every access is checked. */
#ifdef TAP_SLOW
#define TAP_REPEAT(n) ((n) / 4 + 1)
#else
#define TAP_REPEAT(n) (n)
#endif

static unsigned tap_tests, tap_failures;
static uint64_t tap_state;

/* One result. Returns `passed`. */
__attribute__((__format__(__printf__, 2, 3))) static inline bool
ok(bool passed, const char *fmt, ...)
{
	va_list args;

	tap_failures += !passed;
	printf("%sok %u - ", passed ? "" : "not ", ++tap_tests);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	return (passed);
}

/* The plan; returns the exit status of the program. */
static inline int
tap_end(void)
{
	printf("1..%u\n", tap_tests);
	return (tap_failures != 0);
}

/* Nothing further can be tested. */
__attribute__((__format__(__printf__, 1, 2), __noreturn__)) static inline void
bail_out(const char *fmt, ...)
{
	va_list args;

	printf("Bail out! ");
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	exit(1);
}

/* Seed the generator: from the environment variable TEST_SEED, or the clock; the seed is printed.
 */
static inline void
random_seed(void)
{
	const char *text = getenv("TEST_SEED");
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	tap_state = text != NULL ? strtoull(text, NULL, 10)
				 : (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	printf("# TEST_SEED=%llu\n", (unsigned long long)tap_state);
	tap_state |= 1;
}

/* xorshift64* */
static inline uint64_t
random_next(void)
{
	tap_state ^= tap_state >> 12;
	tap_state ^= tap_state << 25;
	tap_state ^= tap_state >> 27;
	return (tap_state * 2685821657736338717u);
}

/* 0 to n - 1. */
static inline uint64_t
random_below(uint64_t n)
{
	return ((random_next() >> 8) % n);
}

#endif
