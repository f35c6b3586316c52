/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The measurement engine: threads that keep messages in flight on their connections and record when
 * each comes back. The main thread creates an engine and runs it once per iteration; connections
 * stay open from one iteration to the next, those that failed are opened again. Network errors are
 * reported and counted, never fatal.
 */
#ifndef TOOLS_ENGINE_H
#define TOOLS_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"
#include "hist.h"
#include "protocol.h"
#include "window.h"

#define ENGINE_THREADS_MAX   1024u
#define ENGINE_IN_FLIGHT_MAX (1u << 20)
#define ENGINE_BATCH_MAX     1024u

struct engine_config {
	const struct protocol *protocol;
	const void *protocol_config;
	size_t message_max; /* largest datagram, request or reply, in bytes */

	const struct address_list *addresses;
	bool datagram; /* UDP rather than TCP */

	unsigned threads;
	unsigned connections; /* in total; at least one per thread */
	unsigned active;      /* how many of them carry messages */
	unsigned in_flight;   /* per thread; 0: strictly alternating send and receive */
	unsigned batch;       /* messages per send */
	uint64_t count;       /* messages per thread, UINT64_MAX without limit */
	uint64_t duration_ns; /* per iteration, 0 without limit */
	double rate; /* messages/s of all threads together in an open loop, 0: closed loop */
	uint64_t timeout_ns; /* without progress */
	uint64_t connect_timeout_ns;

	const unsigned *cpus; /* to pin the threads to, in turn; none when ncpus is 0 */
	unsigned ncpus;
};

enum engine_error {
	ENGINE_ERROR_CONNECT,
	ENGINE_ERROR_SEND,
	ENGINE_ERROR_RECV,
	ENGINE_ERROR_TIMEOUT,
	ENGINE_ERROR_CORRUPT,
	ENGINE_ERRORS
};

/* The name of an error: "connect", "send", ... */
const char *engine_error_name(enum engine_error error);

/* What one thread, or all of them together, did in one iteration. */
struct engine_totals {
	struct window_counts messages;
	uint64_t unsent; /* due in an open loop but not sent before its end */
	uint64_t errors[ENGINE_ERRORS];
	uint64_t tx_bytes;
	uint64_t rx_bytes; /* without datagrams that were dropped */
	uint64_t sends;    /* system calls */
	uint64_t recvs;
	uint64_t waits;
	uint64_t elapsed_ns; /* from the common start to the last reply */
	uint64_t cpu_ns;
};

struct engine_thread {
	struct engine_totals totals;
	const struct hist *latency;
};

struct engine_result {
	unsigned threads;
	const char *address; /* the server's, the one that worked last */
	unsigned connected;  /* connections that were open at the start */
	struct engine_totals total;
	struct hist *latency;               /* of all threads */
	const struct engine_thread *thread; /* what each of them did */
};

struct engine;

/*
 * Make an engine; `config` and what it points to must outlive it. pattern_init() must have been
 * called if the protocol uses the pattern. Returns 0 or an errno value after a message.
 */
int engine_create(const struct engine_config *config, struct engine **result);

void engine_destroy(struct engine *engine);

/*
 * Run one iteration. `progress` (which may be NULL) is called in the calling thread a few times per
 * second with the messages completed so far. *result is valid until the next call for this engine.
 * Returns 0, or an errno value after a message when no thread could be started.
 */
int engine_run(struct engine *engine, void (*progress)(void *arg, uint64_t completed), void *arg,
    struct engine_result *result);

/* End the iteration now, without waiting for replies. May be called from a signal handler. */
void engine_stop(struct engine *engine);

#endif
