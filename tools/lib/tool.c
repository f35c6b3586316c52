/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The life of a measuring tool: options, addresses, iterations, results, exit status. Main thread
 * only; the signal handler does nothing but set flags.
 */
#include "tool.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "message.h"
#include "options.h"
#include "pattern.h"
#include "plot.h"
#include "progress.h"
#include "report.h"
#include "table.h"

/* For the signal handler. */
static struct engine *running_engine;
static volatile sig_atomic_t interrupted;

/* End the iteration, and the run with it. A second signal kills the process (SA_RESETHAND). */
static void
interrupt(int signal_number)
{
	(void)signal_number;
	interrupted = 1;
	engine_stop(running_engine);
}

/* Have SIGINT and SIGTERM end the run with its results, or do again what they do by default. */
static void
catch_signals(bool catch)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	sigemptyset(&action.sa_mask);
	action.sa_handler = catch ? interrupt : SIG_DFL;
	action.sa_flags = SA_RESETHAND;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

/* The process's exit status, from the totals of all iterations. */
struct outcome {
	bool unavailable; /* an iteration had no connection at all */
	bool corrupt;
	bool errors;
};

static void
judge(struct outcome *outcome, const struct options *options, const struct engine_result *result)
{
	const struct engine_totals *total = &result->total;
	unsigned i;

	for (i = 0; i < ENGINE_ERRORS; i++)
		outcome->errors |= total->errors[i] > 0;
	outcome->corrupt |= total->errors[ENGINE_ERROR_CORRUPT] > 0;

	/* A UDP socket is told that nobody listens only after it has sent something. */
	if (total->errors[ENGINE_ERROR_CONNECT] > 0)
		outcome->unavailable |= result->connected == 0 ||
					(options->engine.datagram &&
					    total->messages.completed == 0);
}

static int
exit_status(const struct outcome *outcome)
{
	if (outcome->corrupt)
		return (EX_PROTOCOL);
	if (outcome->unavailable)
		return (EX_UNAVAILABLE);
	return (outcome->errors ? 1 : EX_OK);
}

/* Show one iteration in all the ways that were asked for. False when a file could not be written.
 */
static bool
show(const struct tool *tool, const struct options *options, struct table *table,
    unsigned iteration, const struct engine_result *result)
{
	const struct engine_config *engine = &options->engine;
	char title[256];
	FILE *details;

	if (options->json)
		report_json(stdout, tool, options, iteration, result);
	else
		table_add(table, result);

	/* JSON has stdout to itself. */
	details = options->json ? stderr : stdout;
	if (options->verbosity > 0)
		report_histogram(details, result->latency);
	if (options->verbosity > 1)
		report_threads(details, result);
	report_problems(iteration, result);

	if (options->plot_directory == NULL)
		return (true);
	snprintf(title, sizeof(title), "%s %s -j%u -a%u --connections %u --batch %u, iteration %u",
	    tool->name, engine->datagram ? "UDP" : "TCP", engine->threads, engine->in_flight,
	    engine->connections, engine->batch, iteration);
	return (plot_write(
	    options->plot_directory, tool->name, iteration, options->svg, title, result));
}

/* Run all iterations. Returns the exit status. */
static int
run_iterations(const struct tool *tool, const struct options *options, struct engine *engine)
{
	struct engine_result result;
	struct outcome outcome;
	struct progress progress;
	struct table table;
	unsigned iteration;
	int status;
	bool wanted;

	memset(&outcome, 0, sizeof(outcome));
	memset(&progress, 0, sizeof(progress));
	table_init(&table, tool, options);
	wanted = message_status_wanted();
	progress.iterations = options->iterations;
	progress.duration_ns = options->engine.duration_ns;
	progress.messages = UINT64_MAX;
	if (options->engine.count < UINT64_MAX / options->engine.threads)
		progress.messages = options->engine.count * options->engine.threads;

	status = EX_OK;
	for (iteration = 1; !interrupted; iteration++) {
		progress.iteration = iteration;
		progress_begin(&progress);
		if (engine_run(engine, wanted ? progress_update : NULL, &progress, &result) != 0) {
			status = EX_OSERR;
			break;
		}
		if (wanted)
			progress_end();
		if (!show(tool, options, &table, iteration, &result)) {
			status = EX_CANTCREAT;
			break;
		}
		judge(&outcome, options, &result);
		if (outcome.unavailable || iteration == options->iterations || ferror(stdout))
			break;
	}
	table_destroy(&table);
	return (status != EX_OK ? status : exit_status(&outcome));
}

int
tool_main(int argc, char **argv, const struct tool *tool)
{
	static struct address_list addresses;
	static struct options options;
	const char *problem;
	int status;

	message_set_program(tool->name);
	switch (options_parse(argc, argv, tool, &options)) {
	case OPTIONS_DONE:
		return (EX_OK);
	case OPTIONS_WRONG:
		return (EX_USAGE);
	case OPTIONS_RUN:
		break;
	}

	problem = address_resolve(options.host, options.port, options.engine.datagram, &addresses);
	if (problem != NULL) {
		message("%s: %s", options.host, problem);
		return (EX_NOHOST);
	}
	options.engine.addresses = &addresses;

	pattern_init();
	if (engine_create(&options.engine, &running_engine) != 0)
		return (EX_OSERR);
	catch_signals(true);
	status = run_iterations(tool, &options, running_engine);
	catch_signals(false);
	engine_destroy(running_engine);
	if (fflush(stdout) != 0 || ferror(stdout) != 0) {
		message("cannot write the results");
		return (EX_IOERR);
	}
	return (status);
}
