/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ksf-conform: judges running services over the network alone. This file reads the command line,
 * chooses the checks and runs them one after the other. Single-threaded; everything that may hang
 * happens in runner.c's child processes.
 */
#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <netdb.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "clock.h"
#include "conform.h"
#include "needs.h"
#include "net.h"
#include "runner.h"
#include "tap.h"

enum {
	MOST_TARGETS = 16,
	MOST_PATTERNS = 16,
};

#define TIME_SCALE_MIN 0.1
#define TIME_SCALE_MAX 1000.0

static const struct service *const services[] = { &kecho_service };

struct command_line {
	struct run_options options;
	const char *patterns[MOST_PATTERNS];
	unsigned pattern_count;
	struct target targets[MOST_TARGETS];
	unsigned target_count;
};

static void
print_usage(FILE *stream)
{
	fprintf(stream,
	    "usage: ksf-conform [-qv] [-k PATTERN]... [-s SEED] [-t SCALE] HOST SERVICE=PORT...\n"
	    "       ksf-conform -l [-k PATTERN]...\n"
	    "       ksf-conform -V | -h\n"
	    "  -k PATTERN  only checks SERVICE/NAME that contain PATTERN or match it as a shell pattern\n"
	    "  -l          list the checks\n"
	    "  -q          quick: smaller sizes\n"
	    "  -s SEED     seed of all random choices, to repeat a run\n"
	    "  -t SCALE    multiply all time limits by SCALE (%g to %g)\n"
	    "  -v          print details and times\n"
	    "services:",
	    TIME_SCALE_MIN, TIME_SCALE_MAX);
	for (size_t i = 0; i < COUNT_OF(services); i++)
		fprintf(stream, " %s", services[i]->name);
	fprintf(stream, "\n");
}

static void print_error(const char *format, ...) CONFORM_PRINTF(1, 2);

static void
print_error(const char *format, ...)
{
	va_list arguments;

	fprintf(stderr, "ksf-conform: ");
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, "\n");
}

static bool
matches(
    const struct command_line *command, const struct service *service, const struct check *check)
{
	char name[256];

	if (command->pattern_count == 0)
		return (true);
	snprintf(name, sizeof(name), "%s/%s", service->name, check->name);
	for (unsigned i = 0; i < command->pattern_count; i++) {
		const char *pattern = command->patterns[i];

		if (strstr(name, pattern) != NULL || fnmatch(pattern, name, 0) == 0 ||
		    fnmatch(pattern, check->name, 0) == 0)
			return (true);
	}
	return (false);
}

/* Called for each chosen check, with the service and the table it belongs to. */
typedef void visit_function(const struct service *service, const struct check_table *table,
    const struct check *check, void *argument);

/* Visit the chosen checks of the service in order, if `visit` is not NULL. Returns their number. */

static unsigned
for_each_check(const struct command_line *command, const struct service *service,
    visit_function *visit, void *argument)
{
	unsigned count = 0;

	for (const struct check_table *const *table = service->tables; *table != NULL; table++) {
		for (size_t i = 0; i < (*table)->count; i++) {
			const struct check *check = &(*table)->checks[i];

			if (!matches(command, service, check))
				continue;
			count++;
			if (visit != NULL)
				visit(service, *table, check, argument);
		}
	}
	return (count);
}

static void
list_check(const struct service *service, const struct check_table *table,
    const struct check *check, void *argument)
{
	char needs[64];

	(void)table;
	(void)argument;
	needs_describe(check->needs, needs, sizeof(needs));
	printf("%s/%-24s %s", service->name, check->name, check->description);
	if (needs[0] != '\0')
		printf(" (needs %s)", needs);
	printf("\n");
}

/* What goes on while the checks of one target are run. */
struct progress {
	const struct command_line *command;
	const struct target *target;
	struct tap *tap;
	const char *last_check; /* the last one that was run */
	bool answers;           /* the service answered when last asked */
};

/* Ask the service for a sign of life. If there is none, `verdict` fails and says after which check.
 */
static void
ask_service(struct progress *progress, const struct check_table *table, struct verdict *verdict)
{
	struct verdict probed;

	runner_probe(table->probe, progress->target, &progress->command->options, &probed);
	progress->answers = probed.outcome == OUTCOME_PASSED;
	if (progress->answers)
		return;
	verdict->outcome = OUTCOME_FAILED;
	if (progress->last_check == NULL)
		snprintf(verdict->reason, sizeof(verdict->reason),
		    "not run, the service does not answer: %.300s", probed.reason);
	else
		snprintf(verdict->reason, sizeof(verdict->reason),
		    "not run, the service does not answer since %s: %.300s", progress->last_check,
		    probed.reason);
}

/*
 * A check that passed has shown that the service still answers. After a failure that is not known:
 * the service is asked before each further check, until it answers again, so that a dead one costs
 * little time.
 */
static void
run_check(const struct service *service, const struct check_table *table, const struct check *check,
    void *argument)
{
	struct progress *progress = argument;
	const struct run_options *options = &progress->command->options;
	struct verdict verdict = { .outcome = OUTCOME_PASSED };
	uint64_t started_ns = clock_now_ns();

	if (!progress->answers)
		ask_service(progress, table, &verdict);
	if (progress->answers) {
		runner_check(check, table->probe, progress->target, options, &verdict);
		progress->last_check = check->name;
		progress->answers = verdict.outcome != OUTCOME_FAILED;
	}
	if (options->verbose)
		tap_diagnostic(
		    "%s took %.3f s", check->name, (double)(clock_now_ns() - started_ns) / 1e9);
	tap_result(progress->tap, service->name, check, &verdict);
}

static int
run_all(const struct command_line *command)
{
	uint64_t started_ns = clock_now_ns();
	unsigned planned = 0;
	struct tap tap;

	for (unsigned i = 0; i < command->target_count; i++)
		planned += for_each_check(command, command->targets[i].service, NULL, NULL);
	if (planned == 0) {
		print_error("no check matches; -l lists them");
		return (EX_USAGE);
	}
	tap_begin(&tap, planned);
	tap_diagnostic("ksf-conform %s, seed %ju (repeat with -s), time limits x %g%s", KSF_VERSION,
	    (uintmax_t)command->options.seed, command->options.time_scale,
	    command->options.quick ? ", quick" : "");
	for (unsigned i = 0; i < command->target_count; i++) {
		const struct target *target = &command->targets[i];
		struct progress progress = { .command = command, .target = target, .tap = &tap };
		char text[NET_TEXT_SIZE];

		net_format(&target->address, text);
		tap_diagnostic("%s at %s", target->service->name, text);
		for_each_check(command, target->service, run_check, &progress);
	}
	tap_diagnostic("%u passed, %u failed, %u skipped in %.1f s", tap.passed, tap.failed,
	    tap.skipped, (double)(clock_now_ns() - started_ns) / 1e9);
	return (tap.failed == 0 ? EX_OK : EXIT_FAILURE);
}

static bool
parse_number(const char *text, uintmax_t max, uintmax_t *number)
{
	char *end;

	errno = 0;
	*number = strtoumax(text, &end, 10);
	return (text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && *number <= max);
}

static bool
parse_scale(const char *text, double *scale)
{
	char *end;

	*scale = strtod(text, &end);
	return (
	    end != text && *end == '\0' && *scale >= TIME_SCALE_MIN && *scale <= TIME_SCALE_MAX);
}

/* Parse SERVICE=PORT into a target at the host's address. Returns an exit status. */
static int
parse_target(
    const char *text, const union address *address, socklen_t length, struct target *target)
{
	const char *equals = strchr(text, '=');
	size_t name_length = equals == NULL ? 0 : (size_t)(equals - text);
	uintmax_t port;

	if (equals == NULL || !parse_number(equals + 1, UINT16_MAX, &port) || port == 0) {
		print_error("\"%s\" is not of the form SERVICE=PORT", text);
		return (EX_USAGE);
	}
	*target = (struct target){ .address = *address, .address_length = length };
	net_set_port(&target->address, (uint16_t)port);
	for (size_t i = 0; i < COUNT_OF(services); i++)
		if (strncmp(text, services[i]->name, name_length) == 0 &&
		    services[i]->name[name_length] == '\0')
			target->service = services[i];
	if (target->service == NULL) {
		print_error("unknown service \"%.*s\"; -h names all", (int)name_length, text);
		return (EX_USAGE);
	}
	return (EX_OK);
}

static int
parse_targets(struct command_line *command, int count, char **arguments)
{
	union address address;
	socklen_t length;
	int error;

	if (count < 2) {
		print_usage(stderr);
		return (EX_USAGE);
	}
	if (count - 1 > MOST_TARGETS) {
		print_error("more than %u services", (unsigned)MOST_TARGETS);
		return (EX_USAGE);
	}
	error = net_resolve(arguments[0], &address, &length);
	if (error != 0) {
		print_error("host %s: %s", arguments[0], gai_strerror(error));
		return (EX_NOHOST);
	}
	for (int i = 1; i < count; i++) {
		int status = parse_target(
		    arguments[i], &address, length, &command->targets[command->target_count++]);

		if (status != EX_OK)
			return (status);
	}
	return (EX_OK);
}

static int
list_checks(const struct command_line *command)
{
	unsigned count = 0;

	for (size_t i = 0; i < COUNT_OF(services); i++)
		count += for_each_check(command, services[i], list_check, NULL);
	if (count == 0) {
		print_error("no check matches");
		return (EX_USAGE);
	}
	return (EX_OK);
}

int
main(int argc, char **argv)
{
	static struct command_line command = { .options = { .time_scale = 1 } };
	uintmax_t seed = clock_now_ns() ^ ((uintmax_t)getpid() << 32);
	bool list = false;
	int option, status;

	while ((option = getopt(argc, argv, "hk:lqs:t:vV")) != -1) {
		switch (option) {
		case 'h':
			print_usage(stdout);
			return (EX_OK);
		case 'k':
			if (command.pattern_count == MOST_PATTERNS) {
				print_error("more than %u patterns", (unsigned)MOST_PATTERNS);
				return (EX_USAGE);
			}
			command.patterns[command.pattern_count++] = optarg;
			break;
		case 'l':
			list = true;
			break;
		case 'q':
			command.options.quick = true;
			break;
		case 's':
			if (!parse_number(optarg, UINT64_MAX, &seed)) {
				print_error("-s %s: not a number of 0 to %ju", optarg,
				    (uintmax_t)UINT64_MAX);
				return (EX_USAGE);
			}
			break;
		case 't':
			if (!parse_scale(optarg, &command.options.time_scale)) {
				print_error("-t %s: not a number of %g to %g", optarg,
				    TIME_SCALE_MIN, TIME_SCALE_MAX);
				return (EX_USAGE);
			}
			break;
		case 'v':
			command.options.verbose = true;
			break;
		case 'V':
			printf("ksf-conform %s\n", KSF_VERSION);
			return (EX_OK);
		default:
			print_usage(stderr);
			return (EX_USAGE);
		}
	}
	if (list)
		return (list_checks(&command));
	command.options.seed = seed;
	status = parse_targets(&command, argc - optind, argv + optind);
	if (status != EX_OK)
		return (status);
	/* Checks meet closed connections all the time; they look at errno instead. */
	signal(SIGPIPE, SIG_IGN);
	return (run_all(&command));
}
