/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Converting the arguments of command line options. Main thread only. Every function prints one
 * line that names the option and what is wrong with its argument before it returns false.
 */
#ifndef TOOLS_CMDLINE_H
#define TOOLS_CMDLINE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * A whole number from `min` to `max`. A suffix k, m or g multiplies by a power of 1024, K, M or G
 * by a power of 1000; fractions and exponents are fine as long as the result is whole (1.5k, 1e6).
 */
bool
cmdline_number(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *value);

/* The same for a variable of type unsigned. */
bool
cmdline_unsigned(const char *option, const char *text, unsigned min, unsigned max, unsigned *value);

/* A real number from `min` to `max`, with the same suffixes. */
bool cmdline_real(const char *option, const char *text, double min, double max, double *value);

/* Seconds, fractions allowed, more than 0 and at most a year, as nanoseconds. */
bool cmdline_seconds(const char *option, const char *text, uint64_t *nanoseconds);

/* A comma-separated list of real numbers from `min` to `max`, at most `room` of them. */
bool cmdline_real_list(const char *option, const char *text, double min, double max, double *values,
    unsigned room, unsigned *count);

/* A comma-separated list of whole numbers from `min` to `max`, at most `room` of them. */
bool cmdline_unsigned_list(const char *option, const char *text, unsigned min, unsigned max,
    unsigned *values, unsigned room, unsigned *count);

#endif
