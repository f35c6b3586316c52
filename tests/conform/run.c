/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The run of one check, seen from inside: verdicts, diagnostics, time, threads. Runs in the check's
 * own process, in any of its threads. A verdict ends that process at once, so nothing here frees
 * memory for the sake of a verdict.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "conform.h"
#include "verdict.h"

/*
 * Enough for the buffers of the stream and datagram functions, also where threads get little by
 * default.
 */
enum { WORKER_STACK_BYTES = 1024 * 1024 };

static int report_fd = -1;
static pthread_mutex_t verdict_lock = PTHREAD_MUTEX_INITIALIZER;

void
run_report_to(int verdict_fd)
{
	report_fd = verdict_fd;
}

/*
 * Report the verdict and end the process. Of several threads the first wins; the others end with
 * it.
 */
static _Noreturn void
report(const struct verdict *verdict)
{
	pthread_mutex_lock(&verdict_lock);
	/*
	 * One write of less than PIPE_BUF bytes: all or nothing. If it fails, the runner sees no
	 * verdict.
	 */
	_exit(write(report_fd, verdict, sizeof(*verdict)) == (ssize_t)sizeof(*verdict) ? 0 : 1);
}

void
run_fail(const struct run *run, const char *format, ...)
{
	struct verdict verdict = { .outcome = OUTCOME_FAILED };
	int used = snprintf(verdict.reason, sizeof(verdict.reason), "%s", run->phase);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(verdict.reason + used, sizeof(verdict.reason) - (size_t)used, format, arguments);
	va_end(arguments);
	report(&verdict);
}

void
run_skip(const struct run *run, const char *format, ...)
{
	struct verdict verdict = { .outcome = OUTCOME_SKIPPED };
	va_list arguments;

	(void)run;
	va_start(arguments, format);
	vsnprintf(verdict.reason, sizeof(verdict.reason), format, arguments);
	va_end(arguments);
	report(&verdict);
}

void
run_pass(const struct run *run)
{
	struct verdict verdict = { .outcome = OUTCOME_PASSED };
	unsigned resent = atomic_load(&run->counters->datagrams_resent);
	unsigned repeated = atomic_load(&run->counters->connects_repeated);

	if (resent > 0)
		run_note(run, "%u datagrams had to be sent again", resent);
	if (repeated > 0)
		run_note(run, "%u connects had to wait for a free local port", repeated);
	report(&verdict);
}

void
run_fail_timeout(const struct run *run, const char *doing)
{
	run_fail(run, "time limit of %.1f s reached while %s", (double)run->limit_ns / 1e9, doing);
}

static void print_diagnostic(const char *format, va_list arguments) CONFORM_PRINTF(1, 0);

static void
print_diagnostic(const char *format, va_list arguments)
{
	char line[512] = "# ";
	size_t length;

	vsnprintf(line + 2, sizeof(line) - 3, format, arguments);
	length = strlen(line);
	line[length++] = '\n';
	/*
	 * A single write, so that lines of several threads do not mix; nobody to tell when it
	 * fails.
	 */
	if (write(STDOUT_FILENO, line, length) < 0)
		return;
}

void
run_note(const struct run *run, const char *format, ...)
{
	va_list arguments;

	(void)run;
	va_start(arguments, format);
	print_diagnostic(format, arguments);
	va_end(arguments);
}

void
run_detail(const struct run *run, const char *format, ...)
{
	va_list arguments;

	if (!run->verbose)
		return;
	va_start(arguments, format);
	print_diagnostic(format, arguments);
	va_end(arguments);
}

uint64_t
run_scaled_ns(const struct run *run, unsigned milliseconds)
{
	return ((uint64_t)(milliseconds * 1e6 * run->time_scale));
}

void
run_pause(const struct run *run, unsigned milliseconds)
{
	uint64_t end_ns = clock_now_ns() + milliseconds * CLOCK_NS_PER_MS;

	if (end_ns > run->deadline_ns)
		run_fail_timeout(run, "pausing between two steps");
	for (uint64_t now_ns = clock_now_ns(); now_ns < end_ns; now_ns = clock_now_ns())
		poll(NULL, 0, clock_poll_ms(end_ns - now_ns));
}

struct worker {
	pthread_t thread;
	struct run run;
	unsigned index;
	worker_function *function;
	void *argument;
};

static void *
worker_main(void *context)
{
	struct worker *worker = context;

	worker->function(&worker->run, worker->index, worker->argument);
	return (NULL);
}

static void
worker_start(struct worker *worker, const pthread_attr_t *attributes)
{
	int error = pthread_create(&worker->thread, attributes, worker_main, worker);

	if (error != 0)
		run_fail(&worker->run, "cannot start a client thread: %s", strerror(error));
}

void
run_workers(struct run *run, unsigned count, worker_function *function, void *argument)
{
	struct worker *workers = calloc(count, sizeof(*workers));
	uint64_t seed = random_next(&run->random);
	pthread_attr_t attributes;

	if (workers == NULL)
		run_fail(run, "cannot start %u client threads: out of memory", count);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, WORKER_STACK_BYTES);
	for (unsigned i = 0; i < count; i++) {
		struct worker *worker = &workers[i];

		worker->run = *run;
		worker->index = i;
		worker->function = function;
		worker->argument = argument;
		random_seed(&worker->run.random, seed + i);
		worker_start(worker, &attributes);
	}
	for (unsigned i = 0; i < count; i++)
		pthread_join(workers[i].thread, NULL);
	pthread_attr_destroy(&attributes);
	free(workers);
}
