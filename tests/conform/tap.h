/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The report on standard output: TAP version 13, one line per check.
 */
#ifndef CONFORM_TAP_H
#define CONFORM_TAP_H

#include "conform.h"
#include "verdict.h"

struct tap {
	unsigned passed;
	unsigned failed;
	unsigned skipped;
};

/* Print the version and the plan. */
void tap_begin(struct tap *tap, unsigned planned);

/* Print the result of the next check, and count it. */
void tap_result(
    struct tap *tap, const char *service, const struct check *check, const struct verdict *verdict);

/* Print one diagnostic line. */
void tap_diagnostic(const char *format, ...) CONFORM_PRINTF(1, 2);

#endif
