/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The two loops that carry the messages of one iteration. They run in the worker thread. Neither
 * spins: they sleep in recv(2) or in the event queue whenever nothing can be sent or received.
 */
#include "engine_internal.h"

#include <poll.h>
#include <string.h>

/* A UDP socket that hears nothing for this many timeouts on end has no server. */
#define SILENT_TIMEOUTS 3u

static inline bool
send_messages(struct conn *conn, unsigned messages, uint64_t now)
{
	if (conn->worker->engine->config->datagram)
		return (datagram_send(conn, messages, now));
	return (stream_send(conn, messages, now));
}

static inline int
receive_messages(struct conn *conn, bool wait)
{
	if (conn->worker->engine->config->datagram)
		return (datagram_receive(conn, wait));
	return (stream_receive(conn, wait));
}

/* Whether part of a message is still to be sent. */
static inline bool
has_unsent(const struct conn *conn)
{
	return (conn->tx_left > 0 || conn->tx_more);
}

/* Whether the worker will start another message at some time. */
static inline bool
will_start(const struct worker *worker, uint64_t now)
{
	return (worker->totals.messages.started < worker->engine->config->count &&
		now < worker->end_ns);
}

/* How many messages the worker may start on a connection now: at most one batch. */
static inline unsigned
may_start(const struct conn *conn, uint64_t now)
{
	const struct worker *worker = conn->worker;
	const struct engine_config *config = worker->engine->config;
	unsigned allowed, due, room;
	uint64_t left;

	if (!will_start(worker, now))
		return (0);
	allowed = config->batch;
	room = window_room(&conn->window);
	if (allowed > room)
		allowed = room;
	if (allowed > worker->window - worker->in_flight)
		allowed = worker->window - worker->in_flight;
	left = config->count - worker->totals.messages.started;
	if (allowed > left)
		allowed = (unsigned)left;
	if (worker->interval_ns == 0)
		return (allowed);

	/* An open loop starts only what is due. */
	due = 0;
	while (due < allowed && worker_due(worker, worker->totals.messages.started + due) <= now)
		due++;
	return (due);
}

/* Give up what has waited too long on one connection. */
static void
check_timeout(struct conn *conn, uint64_t now)
{
	const struct engine_config *config = conn->worker->engine->config;
	unsigned expired;
	uint64_t limit;

	if (conn->state != CONN_OPEN || !conn->active || conn->window.in_flight == 0)
		return;
	limit = config->timeout_ns;
	if (config->datagram) {
		expired = now > limit ? window_expire(&conn->window, now - limit) : 0;
		conn->worker->in_flight -= expired;
		if (expired == 0 || ++conn->silence < SILENT_TIMEOUTS)
			return;
		limit *= SILENT_TIMEOUTS;
	}
	if (now - conn->progress_ns < limit)
		return;
	conn_report(conn, ENGINE_ERROR_TIMEOUT, "nothing came back for %.3g s",
	    (double)(now - conn->progress_ns) / (double)CLOCK_NS_PER_S);
	conn_close(conn);
}

/* Sleep until the socket can be read or written, for at most a tick. */
static void
wait_for_socket(const struct conn *conn)
{
	struct pollfd item;

	item.fd = conn->fd;
	item.events = POLLIN | POLLOUT;
	poll(&item, 1, (int)(ENGINE_TICK_NS / CLOCK_NS_PER_MS));
}

void
worker_run_blocking(struct worker *worker)
{
	struct conn *conn = &worker->conn[0];
	bool wait;
	unsigned messages;
	uint64_t now;
	int received;

	while (conn->state == CONN_OPEN && !engine_stopped(worker->engine)) {
		now = clock_ns();
		if (now >= worker->tick_ns) {
			worker->tick_ns = now + ENGINE_TICK_NS;
			check_timeout(conn, now);
			if (conn->state != CONN_OPEN)
				break;
		}

		messages = may_start(conn, now);
		if ((messages > 0 || has_unsent(conn)) && !send_messages(conn, messages, now))
			break;
		if (conn->window.in_flight == 0 && !has_unsent(conn)) {
			if (!will_start(worker, now))
				break;
			if (!conn->tx_blocked)
				continue;
		}

		/* Sleep in recv() only if there is nothing to send before a reply arrives. */
		wait = !has_unsent(conn) && !conn->tx_blocked && may_start(conn, now) == 0;
		received = receive_messages(conn, wait);
		if (received < 0)
			break;
		if (received == 0 && conn->tx_blocked)
			wait_for_socket(conn);
	}
}

/* Append a connection to the list of those that may start messages. */
static void
queue_sender(struct conn *conn)
{
	struct worker *worker = conn->worker;

	if (conn->queued || !conn->active || conn->state != CONN_OPEN || conn->tx_blocked ||
	    window_room(&conn->window) == 0)
		return;
	conn->queued = true;
	conn->next = NULL;
	*worker->ready_tail = conn;
	worker->ready_tail = &conn->next;
}

/* Take the first connection from the list of those that may start messages. */
static struct conn *
dequeue_sender(struct worker *worker)
{
	struct conn *conn;

	conn = worker->ready;
	worker->ready = conn->next;
	if (worker->ready == NULL)
		worker->ready_tail = &worker->ready;
	conn->queued = false;
	return (conn);
}

/*
 * Start up to `messages` messages and send until all is sent or the socket is full; then the event
 * queue tells when to go on. The worker's list holds only connections with nothing left to send.
 */
static void
send_all(struct conn *conn, unsigned messages, uint64_t now)
{
	int error;

	do {
		if (!send_messages(conn, messages, now))
			return;
		messages = 0;
	} while (has_unsent(conn) && !conn->tx_blocked);

	error = conn_wait_for(conn, conn->tx_blocked ? EVQUEUE_READ | EVQUEUE_WRITE : EVQUEUE_READ);
	if (error != 0) {
		conn_report(conn, ENGINE_ERROR_SEND, "event queue: %s", strerror(error));
		conn_close(conn);
		return;
	}
	queue_sender(conn);
}

/* Start messages on the listed connections in turn, as long as any may start. */
static void
send_ready(struct worker *worker, uint64_t now)
{
	struct conn *conn;
	unsigned messages;

	while (worker->ready != NULL) {
		conn = worker->ready;
		if (conn->state != CONN_OPEN) {
			dequeue_sender(worker);
			continue;
		}
		messages = may_start(conn, now);
		if (messages == 0)
			return;
		dequeue_sender(worker);
		send_all(conn, messages, now);
	}
}

/* Receive on a connection that has something, send what was left over if there is space now. */
static void
take_event(struct conn *conn, unsigned events)
{
	if (conn->state == CONN_OPEN && (events & EVQUEUE_READ) != 0)
		receive_messages(conn, false);
	if (conn->state == CONN_OPEN && (events & EVQUEUE_WRITE) != 0 && conn->tx_blocked) {
		conn->tx_blocked = false;
		send_all(conn, 0, clock_ns());
	}
	queue_sender(conn);
}

/* How long the worker may sleep: until the next tick or, in an open loop, the next message is due.
 */
static uint64_t
sleep_time(const struct worker *worker, uint64_t now)
{
	uint64_t until;

	until = worker->tick_ns;
	if (worker->interval_ns != 0 && worker->ready != NULL && will_start(worker, now) &&
	    worker->in_flight < worker->window && worker_next_start(worker, now) < until)
		until = worker_next_start(worker, now);
	if (worker->end_ns < until && now < worker->end_ns)
		until = worker->end_ns;
	return (until > now ? until - now : 0);
}

void
worker_run_events(struct worker *worker)
{
	struct evqueue_event events[EVQUEUE_BATCH];
	uint64_t now;
	int i, ready;
	unsigned n;

	worker->ready = NULL;
	worker->ready_tail = &worker->ready;
	for (n = 0; n < worker->connections; n++) {
		worker->conn[n].queued = false;
		queue_sender(&worker->conn[n]);
	}

	while (worker->active > 0 && !engine_stopped(worker->engine)) {
		now = clock_ns();
		if (now >= worker->tick_ns) {
			worker->tick_ns = now + ENGINE_TICK_NS;
			for (n = 0; n < worker->connections; n++) {
				check_timeout(&worker->conn[n], now);
				queue_sender(&worker->conn[n]);
			}
		}

		send_ready(worker, now);
		if (worker->in_flight == 0 && !will_start(worker, now))
			break;
		ready = evqueue_wait(worker->queue, events, EVQUEUE_BATCH, sleep_time(worker, now));
		worker->totals.waits++;
		for (i = 0; i < ready; i++)
			take_event(events[i].data, events[i].events);
	}
}
