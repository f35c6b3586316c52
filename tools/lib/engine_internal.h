/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Inside the engine: workers and their connections. A worker and everything it owns belong to its
 * thread while an iteration runs, and to the main thread between iterations; what both touch is
 * atomic.
 */
#ifndef TOOLS_ENGINE_INTERNAL_H
#define TOOLS_ENGINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "clock.h"
#include "engine.h"
#include "evqueue.h"
#include "threads.h"

/* How long a worker sleeps at most before it looks at timeouts and the stop flag. */
#define ENGINE_TICK_NS (100 * CLOCK_NS_PER_MS)

/* A connection's life: CLOSED -> CONNECTING -> OPEN -> CLOSED, from anywhere -> CLOSED on an error.
 */
enum conn_state { CONN_CLOSED, CONN_CONNECTING, CONN_OPEN };

struct conn {
	struct worker *worker;
	unsigned number; /* of the run, from 0 */
	bool active;     /* carries messages */
	enum conn_state state;
	int fd;            /* -1 while closed */
	unsigned address;  /* index of the address in use or being tried */
	unsigned tried;    /* addresses that failed since the connection was last open */
	unsigned interest; /* EVQUEUE_* set in the worker's queue */

	struct window window;
	void *protocol_state;

	const unsigned char *tx_data; /* accepted by nobody yet */
	size_t tx_left;               /* bytes at tx_data */
	unsigned char *tx_saved;      /* holds tx_data when the protocol's buffer does not stay */
	bool tx_more;                 /* the last message has further pieces */
	bool tx_blocked;              /* the socket takes nothing at the moment */

	uint64_t progress_ns; /* last time that bytes moved, or connecting began */
	unsigned silence;     /* UDP: times that messages were given up since something came back */
	bool received;        /* anything, ever */

	bool queued;       /* in the worker's list of connections that may send */
	struct conn *next; /* in that list */
};

struct worker {
	struct engine *engine;
	unsigned index;
	struct conn *conn;
	unsigned connections;
	unsigned carriers;  /* connections that carry messages when open */
	unsigned active;    /* open connections that carry messages */
	unsigned open;      /* open connections */
	unsigned connected; /* value of open when the iteration began */
	unsigned in_flight; /* messages, over all connections */
	unsigned window;    /* limit of in_flight */
	unsigned preferred; /* address that worked last */
	struct conn *ready; /* list of connections that may send, oldest first */
	struct conn **ready_tail;

	struct evqueue *queue;
	unsigned char *rx;
	size_t rx_size;
	unsigned char *tx;
	struct datagram_batch *batch; /* for several datagrams per system call, or NULL */

	uint64_t begin_ns;     /* of the iteration */
	uint64_t end_ns;       /* no message starts from then on */
	uint64_t last_ns;      /* last reply */
	uint64_t tick_ns;      /* next look at the timeouts */
	uint64_t first_due_ns; /* open loop: intended time of the first message */
	double interval_ns;    /* open loop: between intended times; 0 in a closed loop */

	struct engine_totals totals;
	struct hist *latency;
	_Atomic uint64_t completed; /* for the progress display */
};

struct engine {
	const struct engine_config *config;
	struct worker *worker;
	struct engine_thread *thread; /* results of each worker */
	struct hist *latency;         /* of all workers */
	struct threads crew;
	bool events; /* workers wait with an event queue rather than in recv(2) */
	atomic_bool stop;
	_Atomic unsigned reported[ENGINE_ERRORS]; /* messages printed in this iteration */
};

/* --- engine_conn.c: connections ------------------------------------------------------------- */

/* Open all closed connections of the worker, a bounded number at a time, and prepare them to carry
 * messages. Failures are reported and counted. */
void worker_connect(struct worker *worker);

/* Report and count an error of a connection. */
void conn_report(struct conn *conn, enum engine_error error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Change what the worker's event queue waits for on a connection, to a set of EVQUEUE_*. Returns 0
 * or an errno value. */
int conn_wait_for(struct conn *conn, unsigned interest);

/* Close a connection; its messages in flight are over. */
void conn_close(struct conn *conn);

/* --- engine_stream.c, engine_datagram.c: transports ------------------------------------------ */

/*
 * Send what is left over, or else start up to `messages` new messages with the worker's next start
 * times. Never sleeps: sets tx_blocked when the socket is full. False when the connection failed
 * (it is then reported and closed).
 */
bool stream_send(struct conn *conn, unsigned messages, uint64_t now);
bool datagram_send(struct conn *conn, unsigned messages, uint64_t now);

/*
 * Receive once and hand the bytes to the protocol; `wait` sleeps for at most ENGINE_TICK_NS until
 * there are some. Returns 1 when something came, 0 when nothing did, -1 when the connection failed
 * (it is then reported and closed).
 */
int stream_receive(struct conn *conn, bool wait);
int datagram_receive(struct conn *conn, bool wait);

/* Memory for sending and receiving several datagrams per system call; NULL when there is none. */
struct datagram_batch *datagram_batch_create(const struct engine_config *config);
void datagram_batch_destroy(struct datagram_batch *batch);

/* --- engine_loop.c: the two loops ------------------------------------------------------------ */

/* Carry the iteration's messages on the worker's only connection, sleeping in recv(2). */
void worker_run_blocking(struct worker *worker);

/* Carry the iteration's messages on any number of connections, sleeping in the event queue. */
void worker_run_events(struct worker *worker);

/* --- shared small parts ---------------------------------------------------------------------- */

static inline bool
engine_stopped(struct engine *engine)
{
	return (atomic_load_explicit(&engine->stop, memory_order_relaxed));
}

/* Open loop: when the worker's message number `n` of the iteration is to be sent. */
static inline uint64_t
worker_due(const struct worker *worker, uint64_t n)
{
	return (worker->first_due_ns + (uint64_t)((double)n * worker->interval_ns));
}

/* When latency of the next message starts to count: now, or its intended time in an open loop. */
static inline uint64_t
worker_next_start(const struct worker *worker, uint64_t now)
{
	if (worker->interval_ns == 0)
		return (now);
	return (worker_due(worker, worker->totals.messages.started));
}

/* Note that replies may have been completed at `now`: `before` is in_flight of the window before.
 */
static inline void
worker_note_input(struct worker *worker, unsigned before, unsigned after, uint64_t now)
{
	if (after == before)
		return;
	worker->in_flight -= before - after;
	worker->last_ns = now;
	atomic_store_explicit(
	    &worker->completed, worker->totals.messages.completed, memory_order_relaxed);
}

#endif
