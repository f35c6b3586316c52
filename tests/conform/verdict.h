/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The verdict on one check, as its process sends it through a pipe to the runner.
 */
#ifndef CONFORM_VERDICT_H
#define CONFORM_VERDICT_H

enum outcome { OUTCOME_PASSED, OUTCOME_FAILED, OUTCOME_SKIPPED };

/* Smaller than the least PIPE_BUF that POSIX allows (512), so that a write of it is never divided.
 */
struct verdict {
	enum outcome outcome;
	char reason[480]; /* empty if passed */
};

_Static_assert(sizeof(struct verdict) <= 512, "a verdict must fit into an atomic write to a pipe");

#endif
