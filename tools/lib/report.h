/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What can be said about one iteration beside the table: a JSON object, a histogram for the eye,
 * what went wrong. Main thread only.
 */
#ifndef TOOLS_REPORT_H
#define TOOLS_REPORT_H

#include <stdio.h>

#include "engine.h"
#include "tool.h"

/* Print the iteration as one line of JSON. */
void report_json(FILE *out, const struct tool *tool, const struct options *options,
    unsigned iteration, const struct engine_result *result);

/* Print the latencies as a histogram of bars. */
void report_histogram(FILE *out, const struct hist *latency);

/* Print one line for each thread: messages, times, system calls. */
void report_threads(FILE *out, const struct engine_result *result);

/* Print a message about lost messages and errors, if there are any. */
void report_problems(unsigned iteration, const struct engine_result *result);

#endif
