/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ksfd: runs ksf's services in a process. The main thread reads the command line, starts the
 * services, and then only waits for signals.
 */
#include "daemon.h"

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

static const char *config_path;
static bool print_stats_at_end;

static void
usage(FILE *to)
{
	fprintf(to,
	    "usage: ksfd [-s] [-f file] [service[:param=value,...] ...]\n"
	    "       ksfd --list | -V | -h\n"
	    "  -f, --config FILE  read services and parameters from a file; the command line counts more\n"
	    "  -s, --stats        print all statistics when stopping (and at any time on SIGUSR1)\n"
	    "  -l, --list         list the services and all their parameters\n"
	    "  -V, --version      print the version\n"
	    "  -h, --help         print this help\n"
	    "signals: SIGTERM, SIGINT stop (twice: at once), SIGHUP re-reads the file, SIGUSR1 prints statistics\n");
}

static void
fail(int status, const char *why)
{
	fprintf(stderr, "ksfd: %s\n", why);
	exit(status);
}

static void
read_sources(int argc, char **argv, struct sources *sources)
{
	char why[512];
	int status = 0;

	for (int i = 0; i < argc && status == 0; i++)
		status = request_parse(argv[i], &sources->command_line, why, sizeof(why));
	if (status == 0 && config_path != NULL)
		status = request_read(config_path, &sources->file, why, sizeof(why));
	if (status != 0)
		fail(status, why);
}

/* Options; exits for those that only print. Returns the index of the first argument. */
static int
read_options(int argc, char **argv)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'f' },
		{ "stats", no_argument, NULL, 's' },
		{ "list", no_argument, NULL, 'l' },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "f:slVh", options, NULL)) != -1) {
		switch (c) {
		case 'f':
			config_path = optarg;
			break;
		case 's':
			print_stats_at_end = true;
			break;
		case 'l':
			daemon_list();
			exit(EX_OK);
		case 'V':
			printf("ksfd %s\n", KSF_VERSION);
			exit(EX_OK);
		case 'h':
			usage(stdout);
			exit(EX_OK);
		default:
			usage(stderr);
			exit(EX_USAGE);
		}
	}
	return (optind);
}

/* Every connection is a descriptor: take all that the system gives. */
static void
raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static void
reload(struct sources *sources)
{
	struct request *fresh = NULL;
	char why[512];

	if (config_path == NULL) {
		fprintf(stderr, "ksfd: SIGHUP: there is no configuration file to read\n");
		return;
	}
	if (request_read(config_path, &fresh, why, sizeof(why)) != 0) {
		fprintf(stderr, "ksfd: %s; unchanged\n", why);
		request_free(&fresh);
		return;
	}
	request_free(&sources->file);
	sources->file = fresh;
	daemon_reload(sources);
}

/* Stops the services, then tells the main thread by a signal. */
static void *
stop_main(void *arg)
{
	(void)arg;
	daemon_stop();
	kill(getpid(), SIGUSR2);
	return (NULL);
}

static void
handle_signals(const sigset_t *signals, struct sources *sources)
{
	bool stopping = false, stopped = false;
	pthread_t stopper;
	int sig;

	while (!stopped) {
		if (sigwait(signals, &sig) != 0)
			continue;
		switch (sig) {
		case SIGTERM:
		case SIGINT:
			if (stopping)
				daemon_cut();
			else if (pthread_create(&stopper, NULL, stop_main, NULL) == 0)
				stopping = true;
			else {
				daemon_stop();
				return;
			}
			break;
		case SIGHUP:
			if (!stopping)
				reload(sources);
			break;
		case SIGUSR2:
			stopped = stopping;
			break;
		default:
			daemon_print_stats();
			break;
		}
	}
	pthread_join(stopper, NULL);
}

/* Never runs: the signals are blocked. But ignored ones, SIGINFO by default, might be discarded. */
static void
handler(int sig)
{
	(void)sig;
}

static void
choose_signals(sigset_t *signals)
{
	static const int list[] = {
		SIGTERM,
		SIGINT,
		SIGHUP,
		SIGUSR1,
		SIGUSR2,
#ifdef SIGINFO
		SIGINFO,
#endif
	};

	sigemptyset(signals);
	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
		sigaddset(signals, list[i]);
	/* All threads inherit the mask; only sigwait() takes them. */
	pthread_sigmask(SIG_BLOCK, signals, NULL);
	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
		signal(list[i], handler);
	signal(SIGPIPE, SIG_IGN);
}

int
main(int argc, char **argv)
{
	struct sources sources = { NULL, NULL };
	sigset_t signals;
	char why[512] = "cannot start";
	int first, status;

	first = read_options(argc, argv);
	read_sources(argc - first, argv + first, &sources);
	raise_descriptor_limit();
	choose_signals(&signals);
	status = daemon_start(&sources, why, sizeof(why));
	if (status != 0) {
		request_free(&sources.command_line);
		request_free(&sources.file);
		fail(status, why);
	}
	daemon_print_endpoints();
	printf("ready\n");
	fflush(stdout);

	handle_signals(&signals, &sources);
	if (print_stats_at_end)
		daemon_print_stats();
	daemon_destroy();
	request_free(&sources.command_line);
	request_free(&sources.file);
	return (EX_OK);
}
