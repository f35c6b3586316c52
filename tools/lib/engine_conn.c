/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Opening and closing the engine's connections, and reporting their errors. Runs in the worker
 * thread that owns the connections. Connecting never blocks on a single server address: a bounded
 * number of connections is tried at a time, each with its own timeout and every address in turn.
 */
#include "engine_internal.h"

#include <sys/socket.h>
#include <sys/time.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "message.h"

/* Connections of one worker that are being opened at the same time. */
#define CONNECTING_MAX 64u

/* Messages per kind of error that are printed in one iteration; the rest is only counted. */
#define REPORTS_MAX 5u

/* Bytes that a queued datagram costs in a socket buffer beside its payload. */
#define DATAGRAM_OVERHEAD 1024u

static const char *const error_names[ENGINE_ERRORS] = {
	[ENGINE_ERROR_CONNECT] = "connect",
	[ENGINE_ERROR_SEND] = "send",
	[ENGINE_ERROR_RECV] = "recv",
	[ENGINE_ERROR_TIMEOUT] = "timeout",
	[ENGINE_ERROR_CORRUPT] = "corrupt",
};

const char *
engine_error_name(enum engine_error error)
{
	return (error_names[error]);
}

void
conn_report(struct conn *conn, enum engine_error error, const char *format, ...)
{
	struct engine *engine = conn->worker->engine;
	char text[PROTOCOL_REASON_MAX + 64];
	va_list arguments;
	unsigned before;

	conn->worker->totals.errors[error]++;
	before = atomic_fetch_add(&engine->reported[error], 1);
	if (before > REPORTS_MAX)
		return;
	if (before == REPORTS_MAX) {
		message("further %s errors are counted only", error_names[error]);
		return;
	}

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	message("connection %u to %s: %s: %s", conn->number,
	    engine->config->addresses->address[conn->address].text, error_names[error], text);
}

/* Change what the worker's event queue waits for on a connection, if there is a queue. */
int
conn_wait_for(struct conn *conn, unsigned interest)
{
	struct worker *worker = conn->worker;
	int error;

	if (worker->queue == NULL || conn->interest == interest)
		return (0);
	error = evqueue_change(worker->queue, conn->fd, conn->interest, interest, conn);
	if (error == 0)
		conn->interest = interest;
	return (error);
}

void
conn_close(struct conn *conn)
{
	struct worker *worker = conn->worker;
	const struct protocol *protocol = worker->engine->config->protocol;

	if (conn->state == CONN_OPEN) {
		worker->open--;
		if (conn->active)
			worker->active--;
		if (protocol->close != NULL)
			protocol->close(conn->protocol_state);
		worker->in_flight -= conn->window.in_flight;
		window_destroy(&conn->window);
	}
	if (conn->fd != -1) {
		conn_wait_for(conn, 0);
		close(conn->fd);
	}
	free(conn->tx_saved);
	conn->tx_saved = NULL;
	conn->tx_left = 0;
	conn->tx_more = false;
	conn->tx_blocked = false;
	conn->received = false;
	conn->silence = 0;
	conn->fd = -1;
	conn->interest = 0;
	conn->state = CONN_CLOSED;
}

/* Give a connection its window and the protocol's state. Returns 0 or an errno value. */
static int
prepare_messages(struct conn *conn)
{
	struct worker *worker = conn->worker;
	const struct engine_config *config = worker->engine->config;
	unsigned history, limit;

	memset(conn->protocol_state, 0, config->protocol->state_size);
	if (conn->active) {
		/* Replies may overtake each other within the history without closing the window. */
		limit = (worker->window + worker->carriers - 1) / worker->carriers;
		history = limit < 64 ? 256 : limit * 4;
		if (!window_init(
			&conn->window, limit, history, &worker->totals.messages, worker->latency))
			return (ENOMEM);
	}
	return (
	    config->protocol->open(conn->protocol_state, config->protocol_config, conn->number));
}

/* Let a UDP socket hold a whole window, as far as the system allows. */
static void
enlarge_buffers(const struct conn *conn)
{
	const struct engine_config *config = conn->worker->engine->config;
	socklen_t length;
	uint64_t wanted;
	int current, size;

	wanted = (uint64_t)conn->window.limit * (config->message_max + DATAGRAM_OVERHEAD);
	size = wanted < INT32_MAX / 2 ? (int)wanted : INT32_MAX / 2;

	length = sizeof(current);
	if (getsockopt(conn->fd, SOL_SOCKET, SO_RCVBUF, &current, &length) == 0 && current < size)
		setsockopt(conn->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	length = sizeof(current);
	if (getsockopt(conn->fd, SOL_SOCKET, SO_SNDBUF, &current, &length) == 0 && current < size)
		setsockopt(conn->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

/* Set the options of a connected socket. Returns 0 or an errno value. */
static int
set_socket_options(const struct conn *conn)
{
	const struct engine *engine = conn->worker->engine;
	struct timeval tick;
	int flags, on;

	if (engine->config->datagram) {
		enlarge_buffers(conn);
	} else {
		on = 1;
		if (setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0)
			return (errno);
	}
	if (engine->events)
		return (0);

	/* The blocking loop sleeps in recv(2), but wakes up to look at timeouts. */
	tick.tv_sec = 0;
	tick.tv_usec = ENGINE_TICK_NS / CLOCK_NS_PER_US;
	if (setsockopt(conn->fd, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof(tick)) != 0)
		return (errno);
	flags = fcntl(conn->fd, F_GETFL);
	if (flags == -1 || fcntl(conn->fd, F_SETFL, flags & ~O_NONBLOCK) == -1)
		return (errno);
	return (0);
}

/* The socket is connected: make the connection ready for messages. Returns 0 or an errno value. */
static int
finish_connecting(struct conn *conn)
{
	struct worker *worker = conn->worker;
	int error;

	error = conn_wait_for(conn, worker->engine->events ? EVQUEUE_READ : 0);
	if (error != 0)
		return (error);
	conn->state = CONN_OPEN;
	conn->tried = 0;
	worker->open++;
	if (conn->active)
		worker->active++;
	worker->preferred = conn->address;
	error = prepare_messages(conn);
	return (error != 0 ? error : set_socket_options(conn));
}

/* Start connecting to the connection's current address. Returns 0 or an errno value. */
static int
begin_connecting(struct conn *conn)
{
	const struct engine_config *config = conn->worker->engine->config;
	const struct address *address;
	int flags;

	address = &config->addresses->address[conn->address];
	conn->progress_ns = clock_ns();
	conn->fd = socket(
	    address->storage.ss_family, config->datagram ? SOCK_DGRAM : SOCK_STREAM, 0);
	if (conn->fd == -1)
		return (errno);
	flags = fcntl(conn->fd, F_GETFL);
	if (flags == -1 || fcntl(conn->fd, F_SETFL, flags | O_NONBLOCK) == -1 ||
	    fcntl(conn->fd, F_SETFD, FD_CLOEXEC) == -1)
		return (errno);

	if (connect(conn->fd, (const struct sockaddr *)&address->storage, address->length) == 0)
		return (finish_connecting(conn));
	if (errno != EINPROGRESS && errno != EINTR)
		return (errno);
	conn->state = CONN_CONNECTING;
	return (conn_wait_for(conn, EVQUEUE_WRITE));
}

/*
 * Connecting failed with `error`: try the next address, and after the last one report the error. A
 * lack of local resources is no reason to try another address.
 */
static void
try_next_address(struct conn *conn, int error)
{
	const struct address_list *addresses = conn->worker->engine->config->addresses;
	bool local;

	do {
		local = error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
		if (local || conn->tried + 1 >= addresses->count) {
			conn_report(conn, ENGINE_ERROR_CONNECT, "%s", strerror(error));
			conn_close(conn);
			conn->tried = 0;
			return;
		}
		conn_close(conn);
		conn->tried++;
		conn->address = (conn->address + 1) % addresses->count;
		error = begin_connecting(conn);
	} while (error != 0);
}

/* Start to open a closed connection, first with the address that worked last. */
static void
open_connection(struct conn *conn)
{
	int error;

	conn->address = conn->worker->preferred;
	conn->tried = 0;
	error = begin_connecting(conn);
	if (error != 0)
		try_next_address(conn, error);
}

/* The event queue says that connecting has come to an end. */
static void
check_connecting(struct conn *conn)
{
	socklen_t length;
	int error;

	length = sizeof(error);
	if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0)
		error = errno;
	if (error == 0)
		error = finish_connecting(conn);
	if (error != 0)
		try_next_address(conn, error);
}

/* How many of the worker's first `end` connections are connecting; those for too long move on. */
static unsigned
count_connecting(struct worker *worker, unsigned end)
{
	uint64_t now, timeout;
	unsigned connecting, i;
	struct conn *conn;

	now = clock_ns();
	timeout = worker->engine->config->connect_timeout_ns;
	connecting = 0;
	for (i = 0; i < end; i++) {
		conn = &worker->conn[i];
		if (conn->state == CONN_CONNECTING && now - conn->progress_ns >= timeout)
			try_next_address(conn, ETIMEDOUT);
		connecting += conn->state == CONN_CONNECTING;
	}
	return (connecting);
}

void
worker_connect(struct worker *worker)
{
	struct evqueue_event events[EVQUEUE_BATCH];
	struct conn *conn;
	unsigned connecting, next;
	uint64_t check_ns;
	int i, ready;

	connecting = 0;
	next = 0;
	check_ns = clock_ns();
	while (!engine_stopped(worker->engine)) {
		while (connecting < CONNECTING_MAX && next < worker->connections) {
			conn = &worker->conn[next++];
			if (conn->state != CONN_CLOSED)
				continue;
			open_connection(conn);
			connecting += conn->state == CONN_CONNECTING;
		}
		if (connecting == 0)
			return;

		ready = evqueue_wait(worker->queue, events, EVQUEUE_BATCH, ENGINE_TICK_NS);
		for (i = 0; i < ready; i++) {
			conn = events[i].data;
			if (conn->state != CONN_CONNECTING)
				continue;
			check_connecting(conn);
			connecting -= conn->state != CONN_CONNECTING;
		}
		if (clock_ns() - check_ns >= ENGINE_TICK_NS) {
			connecting = count_connecting(worker, next);
			check_ns = clock_ns();
		}
	}
}
