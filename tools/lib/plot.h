/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Latency histograms as files: the data, a gnuplot script, and the plot if gnuplot is installed.
 * Main thread only, while no other thread runs (it forks).
 */
#ifndef TOOLS_PLOT_H
#define TOOLS_PLOT_H

#include <stdbool.h>

#include "engine.h"

/*
 * Write NAME.ITERATION.data and .gnuplot to `directory` (made if it does not exist), and run
 * gnuplot to make .png or .svg of them. `title` describes the run. Returns false after a message
 * when a file could not be written; a missing gnuplot is only reported, once.
 */
bool plot_write(const char *directory, const char *name, unsigned iteration, bool svg,
    const char *title, const struct engine_result *result);

#endif
