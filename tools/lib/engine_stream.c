/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Messages over a stream connection. Runs in the worker thread that owns the connection. Sending
 * never sleeps, so that replies are always drained: a peer that stops reading until it has written
 * cannot deadlock with us, however large the messages are.
 */
#include "engine_internal.h"

#include <sys/socket.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Keep output that the socket did not take; what lies in the shared buffer must be copied. */
static bool
keep_unsent(struct conn *conn)
{
	uintptr_t buffer, data;

	buffer = (uintptr_t)conn->worker->tx;
	data = (uintptr_t)conn->tx_data;
	if (data < buffer || data >= buffer + PROTOCOL_BUFFER)
		return (true);
	if (conn->tx_saved == NULL)
		conn->tx_saved = malloc(PROTOCOL_BUFFER);
	if (conn->tx_saved == NULL) {
		conn_report(conn, ENGINE_ERROR_SEND, "no memory for unsent output");
		conn_close(conn);
		return (false);
	}
	memcpy(conn->tx_saved, conn->tx_data, conn->tx_left);
	conn->tx_data = conn->tx_saved;
	return (true);
}

/* Have the protocol make the next piece of output and start the messages that begin in it. */
static void
next_piece(struct conn *conn, unsigned messages, uint64_t now)
{
	struct worker *worker = conn->worker;
	struct output output;
	unsigned i;

	worker->engine->config->protocol->output(conn->protocol_state, conn->window.next,
	    conn->tx_more ? 0 : messages, worker->tx, &output);
	if (conn->window.in_flight == 0)
		conn->progress_ns = now;
	for (i = 0; i < output.messages; i++)
		window_start(&conn->window, worker_next_start(worker, now), now);
	worker->in_flight += output.messages;
	conn->tx_data = output.data;
	conn->tx_left = output.length;
	conn->tx_more = output.more;
}

bool
stream_send(struct conn *conn, unsigned messages, uint64_t now)
{
	struct worker *worker = conn->worker;
	bool continued;
	ssize_t sent;

	continued = conn->tx_left > 0 || conn->tx_more;
	if (conn->tx_left == 0)
		next_piece(conn, messages, now);

	worker->totals.sends++;
	sent = send(conn->fd, conn->tx_data, conn->tx_left, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent == -1) {
		if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR && errno != ENOBUFS) {
			conn_report(conn, ENGINE_ERROR_SEND, "%s", strerror(errno));
			conn_close(conn);
			return (false);
		}
		conn->tx_blocked = errno != EINTR;
		return (keep_unsent(conn));
	}

	worker->totals.tx_bytes += (uint64_t)sent;
	if (continued)
		conn->progress_ns = now;
	conn->tx_data += sent;
	conn->tx_left -= (size_t)sent;
	conn->tx_blocked = conn->tx_left > 0;
	return (conn->tx_left == 0 || keep_unsent(conn));
}

int
stream_receive(struct conn *conn, bool wait)
{
	const struct engine_config *config = conn->worker->engine->config;
	char reason[PROTOCOL_REASON_MAX];
	struct worker *worker = conn->worker;
	unsigned before;
	size_t expected, size;
	uint64_t now;
	ssize_t got;
	int flags;

	/* One message per call if there is one per send; and then exactly its bytes if we may
	 * sleep. */
	expected = 0;
	if (config->batch == 1 && conn->active && config->protocol->expect != NULL)
		expected = config->protocol->expect(conn->protocol_state, 1);
	size = expected > 0 && expected < worker->rx_size ? expected : worker->rx_size;
	flags = !wait ? MSG_DONTWAIT : expected > 0 ? MSG_WAITALL : 0;

	worker->totals.recvs++;
	got = recv(conn->fd, worker->rx, size, flags);
	if (got <= 0) {
		if (got == -1 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
			return (0);
		conn_report(conn, ENGINE_ERROR_RECV, "%s",
		    got == 0 ? "closed by the server" : strerror(errno));
		conn_close(conn);
		return (-1);
	}

	now = clock_ns();
	before = conn->window.in_flight;
	worker->totals.rx_bytes += (uint64_t)got;
	conn->progress_ns = now;
	if (!config->protocol->input(
		conn->protocol_state, worker->rx, (size_t)got, &conn->window, now, reason)) {
		worker_note_input(worker, before, conn->window.in_flight, now);
		conn_report(conn, ENGINE_ERROR_CORRUPT, "%s", reason);
		conn_close(conn);
		return (-1);
	}
	worker_note_input(worker, before, conn->window.in_flight, now);
	return (1);
}
