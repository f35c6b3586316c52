/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs one check in a process of its own and returns the verdict, whatever the check or the service
 * does.
 */
#ifndef CONFORM_RUNNER_H
#define CONFORM_RUNNER_H

#include "conform.h"
#include "verdict.h"

/* What the user chose for all checks. */
struct run_options {
	double time_scale;
	uint64_t seed;
	bool quick;
	bool verbose;
};

/*
 * Run the check against the target and, if it passes, `probe` (may be NULL). Returns within the
 * scaled time limit and a few (scaled) seconds, even if the check's process crashes or is stuck in
 * the kernel.
 */
void runner_check(const struct check *check, void (*probe)(struct run *),
    const struct target *target, const struct run_options *options, struct verdict *verdict);

/* Run only `probe`, within a few scaled seconds. */
void runner_probe(void (*probe)(struct run *), const struct target *target,
    const struct run_options *options, struct verdict *verdict);

#endif
