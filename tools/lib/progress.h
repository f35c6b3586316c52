/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The progress display: one line on stderr, rewritten a few times per second while an iteration
 * runs. Main thread only; nothing is shown unless stderr is a terminal.
 */
#ifndef TOOLS_PROGRESS_H
#define TOOLS_PROGRESS_H

#include <stdint.h>

struct progress {
	unsigned iteration;   /* from 1 */
	unsigned iterations;  /* 0: without end */
	uint64_t messages;    /* that the iteration will have, UINT64_MAX: unknown */
	uint64_t duration_ns; /* of the iteration, 0: unknown */
	uint64_t begin_ns;    /* the display began */
	uint64_t last_ns;     /* last update */
	uint64_t last_completed;
};

/* An iteration begins: reset what is measured here. The first four fields are the caller's. */
void progress_begin(struct progress *progress);

/* Show that so many messages of the iteration have completed; `arg` is the struct progress. */
void progress_update(void *arg, uint64_t completed);

/* Take the display away. */
void progress_end(void);

#endif
