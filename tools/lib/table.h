/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The results as a table: one row per iteration, with running medians or averages over all
 * iterations so far. Main thread only.
 */
#ifndef TOOLS_TABLE_H
#define TOOLS_TABLE_H

#include <stddef.h>

#include "engine.h"
#include "tool.h"

struct table {
	const struct tool *tool;
	const struct options *options;
	bool headed;     /* the headers were printed */
	size_t rows;     /* iterations that count for the running values */
	size_t room;     /* elements that the two arrays have */
	double *rates;   /* messages/s of every iteration, ascending */
	double *latency; /* median latency of every iteration in ns, ascending */
};

/* An empty table. */
void table_init(struct table *table, const struct tool *tool, const struct options *options);

void table_destroy(struct table *table);

/* Print the row of one iteration on stdout, after the headers if it is the first one. */
void table_add(struct table *table, const struct engine_result *result);

#endif
