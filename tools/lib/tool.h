/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the measuring tools have in common: the command line, the iterations, the ways to show
 * results. A tool is a table of what is its own; its main() only calls tool_main(). Main thread
 * only.
 */
#ifndef TOOLS_TOOL_H
#define TOOLS_TOOL_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>

#include "address.h"
#include "engine.h"
#include "json.h"

#define TOOL_QUANTILES_MAX 16u
#define TOOL_CPUS_MAX      1024u

/* Values of a tool's own long options start here. */
#define TOOL_OPTION_OWN 1024

struct options {
	char host[ADDRESS_HOST_MAX];
	uint16_t port;
	struct engine_config engine; /* without protocol and addresses */
	unsigned cpus[TOOL_CPUS_MAX];
	unsigned iterations;                  /* 0: until interrupted */
	double quantiles[TOOL_QUANTILES_MAX]; /* percent, ascending */
	unsigned nquantiles;
	const char *plot_directory; /* or NULL */
	bool svg;
	bool headers;
	bool running_average;
	bool extended;
	bool json;
	unsigned verbosity;
};

struct tool {
	const char *name;
	const char *message_name; /* in the headings of the table: "Msg", "RPC" */
	const char *purpose;      /* one line for the help text */
	uint16_t port;            /* default */
	bool both_directions;     /* Mbps counts what is sent as well as what is received */

	/* The tool's own options, for getopt_long(3), and their lines of the help text. */
	const char *short_options;
	const struct option *long_options; /* ends with a zeroed element */
	const char *help;

	/* Take one of the tool's own options. False after a message when the argument is wrong. */
	bool (*option)(int option, const char *argument);

	/*
	 * All options are known: check the tool's own against them and set protocol,
	 * protocol_config and message_max of options->engine. False after a message when they do
	 * not fit together.
	 */
	bool (*prepare)(struct options *options);

	/* Add the tool's own settings to the "config" object. */
	void (*json_config)(struct json *json);
};

/* Run the tool. Returns the exit status of the process. */
int tool_main(int argc, char **argv, const struct tool *tool);

#endif
