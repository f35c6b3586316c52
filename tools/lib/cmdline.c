/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Converting the arguments of command line options. Main thread only.
 */
#include "cmdline.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "message.h"

#define SECONDS_MAX (366.0 * 24 * 3600)

/* Longest argument that is a number. */
#define NUMBER_MAX 64

/* The factor of a suffix, 0 when there is no such suffix. */
static long double
suffix_factor(char suffix)
{
	switch (suffix) {
	case '\0':
		return (1);
	case 'k':
		return (1024);
	case 'K':
		return (1e3L);
	case 'm':
		return (1024 * 1024);
	case 'M':
		return (1e6L);
	case 'g':
		return (1024 * 1024 * 1024);
	case 'G':
		return (1e9L);
	default:
		return (0);
	}
}

/* Convert all of `text`, suffix included. */
static bool
convert(const char *option, const char *text, long double *value)
{
	long double factor;
	char *end;

	*value = strtold(text, &end);
	factor = suffix_factor(*end);
	if (end == text || isspace((unsigned char)*text) || factor == 0 ||
	    (*end != '\0' && end[1] != '\0') || !isfinite(*value)) {
		message("%s: '%s' is not a number", option, text);
		return (false);
	}
	*value *= factor;
	return (true);
}

bool
cmdline_number(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	long double converted;

	if (!convert(option, text, &converted))
		return (false);
	if (converted < (long double)min || converted > (long double)max) {
		message("%s: '%s' is not between %ju and %ju", option, text, (uintmax_t)min,
		    (uintmax_t)max);
		return (false);
	}
	if (converted != floorl(converted)) {
		message("%s: '%s' is not a whole number", option, text);
		return (false);
	}
	*value = (uint64_t)converted;
	return (true);
}

bool
cmdline_unsigned(const char *option, const char *text, unsigned min, unsigned max, unsigned *value)
{
	uint64_t number;

	if (!cmdline_number(option, text, min, max, &number))
		return (false);
	*value = (unsigned)number;
	return (true);
}

bool
cmdline_real(const char *option, const char *text, double min, double max, double *value)
{
	long double converted;

	if (!convert(option, text, &converted))
		return (false);
	if (converted < min || converted > max) {
		message("%s: '%s' is not between %g and %g", option, text, min, max);
		return (false);
	}
	*value = (double)converted;
	return (true);
}

bool
cmdline_seconds(const char *option, const char *text, uint64_t *nanoseconds)
{
	double seconds;

	if (!cmdline_real(option, text, 1e-3, SECONDS_MAX, &seconds))
		return (false);
	*nanoseconds = (uint64_t)(seconds * 1e9);
	return (true);
}

/* Copy the next element of a list, without surrounding blanks. Returns false at the end or on
 * error. */
static bool
next_element(const char *option, const char **text, char element[NUMBER_MAX], bool *valid)
{
	const char *start;
	size_t length;

	if (*text == NULL)
		return (false);
	start = *text + strspn(*text, " \t");
	length = strcspn(start, ",");
	*text = start[length] == ',' ? start + length + 1 : NULL;
	while (length > 0 && isblank((unsigned char)start[length - 1]))
		length--;
	if (length == 0 || length >= NUMBER_MAX) {
		message("%s: an element of the list is not a number", option);
		*valid = false;
		return (false);
	}
	memcpy(element, start, length);
	element[length] = '\0';
	return (true);
}

bool
cmdline_real_list(const char *option, const char *text, double min, double max, double *values,
    unsigned room, unsigned *count)
{
	char element[NUMBER_MAX];
	bool valid;

	*count = 0;
	valid = true;
	while (next_element(option, &text, element, &valid)) {
		if (*count == room) {
			message("%s: more than %u elements", option, room);
			return (false);
		}
		if (!cmdline_real(option, element, min, max, &values[*count]))
			return (false);
		++*count;
	}
	return (valid);
}

bool
cmdline_unsigned_list(const char *option, const char *text, unsigned min, unsigned max,
    unsigned *values, unsigned room, unsigned *count)
{
	char element[NUMBER_MAX];
	bool valid;

	*count = 0;
	valid = true;
	while (next_element(option, &text, element, &valid)) {
		if (*count == room) {
			message("%s: more than %u elements", option, room);
			return (false);
		}
		if (!cmdline_unsigned(option, element, min, max, &values[*count]))
			return (false);
		++*count;
	}
	return (valid);
}
