/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs each check in a child process: a crash, a leak or a hang of one check ends with its process.
 * The child watches its time limit itself and says what it was waiting for; should it fail to, the
 * parent kills it a grace time later, and should even that not end it (stuck in the kernel), the
 * parent leaves it behind. The parent is single-threaded and must never wait without a time limit.
 */
#include <sys/wait.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "needs.h"
#include "runner.h"

enum {
	KILL_GRACE_S = 2,       /* from the time limit to the kill, scaled */
	REAP_GRACE_S = 3,       /* from the kill to giving up, scaled */
	PROBE_TIME_LIMIT_S = 5, /* scaled */
};

/*
 * A name's share in a check's seed, so that a check does the same whether or not others run before
 * it.
 */
static uint64_t
name_seed(const char *name)
{
	uint64_t seed = 0;

	for (; *name != '\0'; name++)
		seed = random_mix(seed + (unsigned char)*name);
	return (seed);
}

static uint64_t
scaled_seconds_ns(const struct run_options *options, unsigned seconds)
{
	return ((uint64_t)(seconds * 1e9 * options->time_scale));
}

static _Noreturn void
child_main(const struct check *check, void (*probe)(struct run *), const struct target *target,
    const struct run_options *options, int verdict_fd)
{
	struct run_counters counters = { 0 };
	struct run run = {
		.target = target,
		.counters = &counters,
		.limit_ns = scaled_seconds_ns(options, check->time_limit_s),
		.time_scale = options->time_scale,
		.phase = "",
		.quick = options->quick,
		.verbose = options->verbose,
	};
	uint64_t orphan_ns = run.limit_ns + scaled_seconds_ns(options, KILL_GRACE_S + REAP_GRACE_S);

	run_report_to(verdict_fd);
	run.deadline_ns = clock_now_ns() + run.limit_ns;
	random_seed(&run.random, options->seed ^ name_seed(check->name));
	/* Ends the process should the parent no longer be there to do it. */
	alarm((unsigned)(orphan_ns / CLOCK_NS_PER_S) + 1);
	needs_require(&run, check->needs);
	check->function(&run);
	if (probe != NULL) {
		run.phase = "after the check: ";
		probe(&run);
	}
	run_pass(&run);
}

/*
 * Read the verdict. Returns its size, 0 if the process ended without one, or -1 if `until_ns`
 * passed.
 */
static ssize_t
read_verdict(int fd, struct verdict *verdict, uint64_t until_ns)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	for (;;) {
		uint64_t now_ns = clock_now_ns();

		if (now_ns >= until_ns)
			return (-1);
		if (poll(&poll_fd, 1, clock_poll_ms(until_ns - now_ns)) > 0)
			return (read(fd, verdict, sizeof(*verdict)));
	}
}

/* Wait for the process's end. Returns false if `until_ns` passed. */
static bool
reap(pid_t pid, int *status, uint64_t until_ns)
{
	enum { INTERVAL_MS = 5 };

	while (waitpid(pid, status, WNOHANG) == 0) {
		if (clock_now_ns() >= until_ns)
			return (false);
		poll(NULL, 0, INTERVAL_MS);
	}
	return (true);
}

static void set_failed(struct verdict *verdict, const char *format, ...) CONFORM_PRINTF(2, 3);

static void
set_failed(struct verdict *verdict, const char *format, ...)
{
	va_list arguments;

	verdict->outcome = OUTCOME_FAILED;
	va_start(arguments, format);
	vsnprintf(verdict->reason, sizeof(verdict->reason), format, arguments);
	va_end(arguments);
}

static void
supervise(pid_t pid, int verdict_fd, const struct check *check, const struct run_options *options,
    struct verdict *verdict)
{
	uint64_t kill_ns = clock_now_ns() +
			   scaled_seconds_ns(options, check->time_limit_s + KILL_GRACE_S);
	uint64_t reap_ns = kill_ns + scaled_seconds_ns(options, REAP_GRACE_S);
	ssize_t size = read_verdict(verdict_fd, verdict, kill_ns);
	int status = 0;

	/*
	 * A process that gave its verdict is about to end; one that did not in time never will by
	 * itself.
	 */
	if (size < 0)
		kill(pid, SIGKILL);
	if (!reap(pid, &status, reap_ns)) {
		kill(pid, SIGKILL);
		set_failed(verdict, "process %ld of the check does not end: stuck in the kernel",
		    (long)pid);
	} else if (size < 0) {
		set_failed(verdict, "killed, as it did not end at its time limit");
	} else if (size != (ssize_t)sizeof(*verdict)) {
		if (WIFSIGNALED(status))
			set_failed(verdict, "the check died of signal %d", WTERMSIG(status));
		else
			set_failed(verdict, "the check ended without a verdict");
	}
}

void
runner_check(const struct check *check, void (*probe)(struct run *), const struct target *target,
    const struct run_options *options, struct verdict *verdict)
{
	int verdict_pipe[2];
	pid_t pid;

	*verdict = (struct verdict){ .outcome = OUTCOME_FAILED };
	if (pipe(verdict_pipe) != 0) {
		set_failed(verdict, "cannot start the check: pipe: %s", strerror(errno));
		return;
	}
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		close(verdict_pipe[0]);
		child_main(check, probe, target, options, verdict_pipe[1]);
	}
	close(verdict_pipe[1]);
	if (pid < 0)
		set_failed(verdict, "cannot start the check: fork: %s", strerror(errno));
	else
		supervise(pid, verdict_pipe[0], check, options, verdict);
	close(verdict_pipe[0]);
}

void
runner_probe(void (*probe)(struct run *), const struct target *target,
    const struct run_options *options, struct verdict *verdict)
{
	struct check check = {
		.name = "probe",
		.description = "the service answers",
		.function = probe,
		.time_limit_s = PROBE_TIME_LIMIT_S,
	};

	runner_check(&check, NULL, target, options, verdict);
}
