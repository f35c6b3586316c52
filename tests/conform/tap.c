/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Prints TAP version 13. Runs in the main process only. Each line leaves at once, so that a log
 * from a machine that dies shows how far it came.
 */
#include <stdarg.h>
#include <stdio.h>

#include "tap.h"

void
tap_begin(struct tap *tap, unsigned planned)
{
	*tap = (struct tap){ 0 };
	printf("TAP version 13\n1..%u\n", planned);
	fflush(stdout);
}

void
tap_result(
    struct tap *tap, const char *service, const struct check *check, const struct verdict *verdict)
{
	unsigned number = tap->passed + tap->failed + tap->skipped + 1;
	bool failed = verdict->outcome == OUTCOME_FAILED;

	printf("%s %u - %s/%s: %s", failed ? "not ok" : "ok", number, service, check->name,
	    check->description);
	switch (verdict->outcome) {
	case OUTCOME_PASSED:
		tap->passed++;
		printf("\n");
		break;
	case OUTCOME_SKIPPED:
		tap->skipped++;
		printf(" # SKIP %s\n", verdict->reason);
		break;
	case OUTCOME_FAILED:
		tap->failed++;
		printf("\n# %s: %s\n", check->name, verdict->reason);
		break;
	}
	fflush(stdout);
}

void
tap_diagnostic(const char *format, ...)
{
	va_list arguments;

	printf("# ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	fflush(stdout);
}
