/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The command line that all measuring tools share. Main thread only.
 */
#ifndef TOOLS_OPTIONS_H
#define TOOLS_OPTIONS_H

#include "tool.h"

enum options_verdict {
	OPTIONS_RUN,   /* go on */
	OPTIONS_DONE,  /* help or version was printed */
	OPTIONS_WRONG, /* a message was printed */
};

/* Set all options from the command line of `tool`, with defaults for what is not given. */
enum options_verdict
options_parse(int argc, char **argv, const struct tool *tool, struct options *options);

#endif
