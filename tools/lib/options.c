/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The command line that all measuring tools share, merged with a tool's own options. Main thread
 * only.
 */
#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "affinity.h"
#include "clock.h"
#include "cmdline.h"
#include "message.h"

#define DEFAULT_QUANTILES ".3,4.6,31.7,50,68.3,95.4,99.7"
#define DEFAULT_COUNT     1000000u
#define DEFAULT_TIMEOUT   (5 * CLOCK_NS_PER_S)

/* Messages in flight per thread in an open loop, which must not wait for replies. */
#define OPEN_LOOP_IN_FLIGHT 65536u

#define CONNECTIONS_MAX 1000000u
#define RATE_MAX        1e9
#define OPTIONS_MAX     64

#define SHORT_OPTIONS "a:c:d:Hhi:j:mp:q:uVvx"

enum {
	OPTION_ACTIVE = 256,
	OPTION_BATCH,
	OPTION_CONNECT_TIMEOUT,
	OPTION_CONNECTIONS,
	OPTION_CPUS,
	OPTION_DURATION,
	OPTION_JSON,
	OPTION_NO_AFFINITY,
	OPTION_RATE,
	OPTION_SVG,
	OPTION_TIMEOUT,
};

static const struct option long_options[] = {
	{ "active", required_argument, NULL, OPTION_ACTIVE },
	{ "batch", required_argument, NULL, OPTION_BATCH },
	{ "connect-timeout", required_argument, NULL, OPTION_CONNECT_TIMEOUT },
	{ "connections", required_argument, NULL, OPTION_CONNECTIONS },
	{ "cpus", required_argument, NULL, OPTION_CPUS },
	{ "duration", required_argument, NULL, OPTION_DURATION },
	{ "help", no_argument, NULL, 'h' },
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "no-affinity", no_argument, NULL, OPTION_NO_AFFINITY },
	{ "rate", required_argument, NULL, OPTION_RATE },
	{ "svg", no_argument, NULL, OPTION_SVG },
	{ "timeout", required_argument, NULL, OPTION_TIMEOUT },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

/* What was given, as opposed to what has its default. */
struct given {
	bool active, affinity, connections, count, in_flight;
};

static void
print_help(const struct tool *tool)
{
	printf("usage: %s [options] [[user@]host[:port]]\n%s\n\n", tool->name, tool->purpose);
	printf(
	    "  -a N  messages in flight per thread (default 1)\n"
	    "  -c N  messages per thread (default %u)\n"
	    "  -d DIR  write histogram data and a plot of each iteration to DIR\n"
	    "  -H    suppress headers\n"
	    "  -h    print this help\n"
	    "  -i N  iterations (default: until interrupted)\n"
	    "  -j N  threads, with one connection each unless --connections is given (default 1)\n"
	    "  -m    running average instead of running median\n"
	    "  -p PORT  port of the server (default %u)\n"
	    "  -q LIST  quantiles to print, in percent (default %s)\n"
	    "  -u    use UDP\n"
	    "  -V    print the version\n"
	    "  -v    print a histogram; -vv: and what each thread did\n"
	    "  -x    extended statistics\n"
	    "  --active N           only the first N connections carry messages\n"
	    "  --batch N            messages per system call (default 1)\n"
	    "  --connect-timeout S  seconds until an address is given up (default 5)\n"
	    "  --connections N      connections, spread over the threads\n"
	    "  --cpus LIST          pin the threads to these CPUs in turn\n"
	    "  --duration S         stop each iteration after S seconds\n"
	    "  --json               print one JSON object per iteration\n"
	    "  --no-affinity        do not pin the threads\n"
	    "  --rate R             open loop: R messages per second in total\n"
	    "  --svg                plot SVG instead of PNG\n"
	    "  --timeout S          seconds without progress (default 5)\n",
	    DEFAULT_COUNT, (unsigned)tool->port, DEFAULT_QUANTILES);
	fputs(tool->help, stdout);
	printf("\nSizes and counts take suffixes: k, m, g for powers of 1024, K, M, G of 1000.\n");
}

/* Take one option that all tools have. False after a message when its argument is wrong. */
static bool
take_option(int option, const char *argument, struct options *options, struct given *given)
{
	struct engine_config *engine = &options->engine;
	uint64_t port;

	switch (option) {
	case 'a':
		given->in_flight = true;
		return (
		    cmdline_unsigned("-a", argument, 0, ENGINE_IN_FLIGHT_MAX, &engine->in_flight));
	case 'c':
		given->count = true;
		return (cmdline_number("-c", argument, 1, UINT64_MAX / 2, &engine->count));
	case 'd':
		options->plot_directory = argument;
		return (true);
	case 'H':
		options->headers = false;
		return (true);
	case 'i':
		return (cmdline_unsigned("-i", argument, 1, UINT32_MAX, &options->iterations));
	case 'j':
		return (cmdline_unsigned("-j", argument, 1, ENGINE_THREADS_MAX, &engine->threads));
	case 'm':
		options->running_average = true;
		return (true);
	case 'p':
		if (!cmdline_number("-p", argument, 1, UINT16_MAX, &port))
			return (false);
		options->port = (uint16_t)port;
		return (true);
	case 'q':
		return (cmdline_real_list("-q", argument, 0, 100, options->quantiles,
		    TOOL_QUANTILES_MAX, &options->nquantiles));
	case 'u':
		engine->datagram = true;
		return (true);
	case 'v':
		options->verbosity++;
		return (true);
	case 'x':
		options->extended = true;
		return (true);
	case OPTION_ACTIVE:
		given->active = true;
		return (
		    cmdline_unsigned("--active", argument, 1, CONNECTIONS_MAX, &engine->active));
	case OPTION_BATCH:
		return (cmdline_unsigned("--batch", argument, 1, ENGINE_BATCH_MAX, &engine->batch));
	case OPTION_CONNECT_TIMEOUT:
		return (
		    cmdline_seconds("--connect-timeout", argument, &engine->connect_timeout_ns));
	case OPTION_CONNECTIONS:
		given->connections = true;
		return (cmdline_unsigned(
		    "--connections", argument, 1, CONNECTIONS_MAX, &engine->connections));
	case OPTION_CPUS:
		given->affinity = true;
		return (cmdline_unsigned_list("--cpus", argument, 0, TOOL_CPUS_MAX - 1,
		    options->cpus, TOOL_CPUS_MAX, &engine->ncpus));
	case OPTION_DURATION:
		return (cmdline_seconds("--duration", argument, &engine->duration_ns));
	case OPTION_JSON:
		options->json = true;
		return (true);
	case OPTION_NO_AFFINITY:
		given->affinity = true;
		engine->ncpus = 0;
		return (true);
	case OPTION_RATE:
		return (cmdline_real("--rate", argument, 1e-3, RATE_MAX, &engine->rate));
	case OPTION_SVG:
		options->svg = true;
		return (true);
	case OPTION_TIMEOUT:
		return (cmdline_seconds("--timeout", argument, &engine->timeout_ns));
	default:
		return (false);
	}
}

static int
compare_reals(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return (a < b ? -1 : a > b);
}

/* Set the options that follow from others, and check that all fit together. */
static bool
complete(struct options *options, const struct given *given)
{
	struct engine_config *engine = &options->engine;

	if (!given->connections)
		engine->connections = engine->threads;
	if (engine->connections < engine->threads) {
		message("--connections: %u connections cannot be spread over %u threads",
		    engine->connections, engine->threads);
		return (false);
	}
	if (!given->active)
		engine->active = engine->connections;
	if (engine->active > engine->connections) {
		message("--active: %u is more than the %u connections", engine->active,
		    engine->connections);
		return (false);
	}
	if (engine->rate > 0 && !given->in_flight)
		engine->in_flight = OPEN_LOOP_IN_FLIGHT;
	if (engine->duration_ns != 0 && !given->count)
		engine->count = UINT64_MAX;
	if (!given->affinity) {
		engine->ncpus = affinity_get(options->cpus, TOOL_CPUS_MAX);
		if (engine->ncpus == 0)
			message("the threads are not pinned: %s", strerror(errno));
	}
	engine->cpus = options->cpus;
	qsort(
	    options->quantiles, options->nquantiles, sizeof(options->quantiles[0]), compare_reals);
	return (true);
}

static void
set_defaults(const struct tool *tool, struct options *options)
{
	memset(options, 0, sizeof(*options));
	snprintf(options->host, sizeof(options->host), "localhost");
	options->port = tool->port;
	options->headers = true;
	options->engine.threads = 1;
	options->engine.in_flight = 1;
	options->engine.batch = 1;
	options->engine.count = DEFAULT_COUNT;
	options->engine.timeout_ns = DEFAULT_TIMEOUT;
	options->engine.connect_timeout_ns = DEFAULT_TIMEOUT;
	cmdline_real_list("-q", DEFAULT_QUANTILES, 0, 100, options->quantiles, TOOL_QUANTILES_MAX,
	    &options->nquantiles);
}

/* Append a tool's own long options to those that all tools have. */
static void
merge_options(const struct tool *tool, struct option merged[OPTIONS_MAX])
{
	const struct option *from;
	size_t n;

	n = 0;
	for (from = long_options; from->name != NULL; from++)
		merged[n++] = *from;
	for (from = tool->long_options; from->name != NULL && n < OPTIONS_MAX - 1; from++)
		merged[n++] = *from;
	memset(&merged[n], 0, sizeof(merged[n]));
}

/* Take the [user@]host[:port] argument, if there is one. */
static bool
take_operands(int argc, char **argv, struct options *options)
{
	const char *problem;

	if (optind == argc)
		return (true);
	if (optind + 1 < argc) {
		message("more than one host given: '%s'", argv[optind + 1]);
		return (false);
	}
	problem = address_parse(argv[optind], options->host, &options->port);
	if (problem != NULL) {
		message("'%s': %s", argv[optind], problem);
		return (false);
	}
	return (true);
}

enum options_verdict
options_parse(int argc, char **argv, const struct tool *tool, struct options *options)
{
	struct option merged[OPTIONS_MAX];
	char short_options[128];
	struct given given;
	int option;

	set_defaults(tool, options);
	memset(&given, 0, sizeof(given));
	merge_options(tool, merged);
	snprintf(short_options, sizeof(short_options), "%s%s", SHORT_OPTIONS, tool->short_options);

	while ((option = getopt_long(argc, argv, short_options, merged, NULL)) != -1) {
		if (option == 'h') {
			print_help(tool);
			return (OPTIONS_DONE);
		}
		if (option == 'V') {
			printf("%s\n", KSF_VERSION);
			return (OPTIONS_DONE);
		}
		if (option == '?') {
			message("try -h for help");
			return (OPTIONS_WRONG);
		}
		if (option >= TOOL_OPTION_OWN ||
		    (option < OPTION_ACTIVE && strchr(SHORT_OPTIONS, option) == NULL)) {
			if (!tool->option(option, optarg))
				return (OPTIONS_WRONG);
		} else if (!take_option(option, optarg, options, &given)) {
			return (OPTIONS_WRONG);
		}
	}
	if (!take_operands(argc, argv, options) || !complete(options, &given) ||
	    !tool->prepare(options))
		return (OPTIONS_WRONG);
	return (OPTIONS_RUN);
}
