/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What every check of ksf-conform sees: the tables of checks and services, and the run it is part
 * of. Each check runs in a process of its own (see runner.c), so a check may leave at any point,
 * from any of its threads, through run_fail() or run_skip(): the kernel then releases what it held.
 */
#ifndef CONFORM_H
#define CONFORM_H

#include <sys/types.h>
#include <sys/socket.h>

#include <netinet/in.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "random.h"

/*
 * The one compiler extension of this program: the compiler checks the arguments of our printf
 * family.
 */
#define CONFORM_PRINTF(format, first) __attribute__((__format__(__printf__, format, first)))

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

struct run;

/*
 * Conditions outside the service that a check cannot do without; a check is skipped where one is
 * missing.
 */
enum check_needs {
	NEEDS_PRIVILEGED_PORT = 1 << 0, /* may bind source ports below 1024 */
	NEEDS_RAW_SOCKET = 1 << 1,      /* may open raw sockets */
	NEEDS_MANY_FILES = 1 << 2       /* may have MANY_FILES descriptors open at once */
};

enum { MANY_FILES = 1100, MANY_FILES_QUICK = 200 };

struct check {
	const char *name;        /* unique within the service: lower case, words joined by '-' */
	const char *description; /* what holds if the check passes; no '#', which TAP reserves */
	void (*function)(struct run *);
	unsigned needs;        /* NEEDS_* or 0 */
	unsigned time_limit_s; /* for the whole check, in seconds, before scaling */
};

/*
 * The checks of one subject, as one file defines them. The probe fails the run unless the service
 * still does what these checks build on; it is quick, needs nothing else, and follows each of them.
 */
struct check_table {
	const struct check *checks;
	size_t count;
	void (*probe)(struct run *);
};

/* A service that this program can judge. */
struct service {
	const char *name;                        /* as on the command line */
	const struct check_table *const *tables; /* in the order to run them, ended by NULL */
};

extern const struct service kecho_service;

/* An IPv4 or IPv6 socket address; generic.sa_family says which. */
union address {
	struct sockaddr generic;
	struct sockaddr_in ipv4;
	struct sockaddr_in6 ipv6;
};

/* Where the service under test listens. */
struct target {
	const struct service *service;
	union address address; /* port included */
	socklen_t address_length;
};

/* What all threads of a run count together. */
struct run_counters {
	atomic_uint datagrams_resent;
	atomic_uint connects_repeated;
};

/* One run of one check. Each thread of a check has a copy of its own (see run_workers()). */
struct run {
	const struct target *target;
	struct run_counters *counters;
	struct random random; /* this thread's own */
	uint64_t limit_ns;    /* the scaled time limit */
	uint64_t deadline_ns; /* the time limit's end on the monotonic clock */
	double time_scale;    /* factor of all time limits */
	const char *phase; /* put before the reason of a failure; "" while the check itself runs */
	bool quick;        /* smaller sizes were asked for */
	bool verbose;
};

/* End the whole run from any thread: as failed or skipped for the reason given. */
_Noreturn void run_fail(const struct run *run, const char *format, ...) CONFORM_PRINTF(2, 3);
_Noreturn void run_skip(const struct run *run, const char *format, ...) CONFORM_PRINTF(2, 3);

/* End the whole run as passed. */
_Noreturn void run_pass(const struct run *run);

/* Fail the run because its time limit is over; `doing` says what it was waiting for. */
_Noreturn void run_fail_timeout(const struct run *run, const char *doing);

/* Print one diagnostic line; run_detail() only when the user asked for more (-v). */
void run_note(const struct run *run, const char *format, ...) CONFORM_PRINTF(2, 3);
void run_detail(const struct run *run, const char *format, ...) CONFORM_PRINTF(2, 3);

/*
 * The descriptor on which run_fail() and its like report the verdict; set once, before the check
 * starts.
 */
void run_report_to(int verdict_fd);

/* `full`, or `quick` when the user asked for smaller sizes (-q). */
static inline uint32_t
run_size(const struct run *run, uint32_t full, uint32_t quick)
{
	return (run->quick ? quick : full);
}

/* A time of `milliseconds` after scaling, in nanoseconds. */
uint64_t run_scaled_ns(const struct run *run, unsigned milliseconds);

/*
 * Sleep for `milliseconds`, unscaled: the pace of a client, not a time limit. Fails the run if its
 * time limit would pass meanwhile.
 */
void run_pause(const struct run *run, unsigned milliseconds);

/*
 * Run `function` in `count` threads at once and return when all have returned. Each gets a run of
 * its own, whose random numbers follow from the run's seed and the thread's index alone.
 */
typedef void worker_function(struct run *run, unsigned index, void *argument);
void run_workers(struct run *run, unsigned count, worker_function *function, void *argument);

#endif
