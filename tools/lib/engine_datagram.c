/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Messages over UDP, one per datagram, several per system call if batching is on. Runs in the
 * worker thread that owns the socket. Sending never sleeps. A wrong datagram is counted and
 * dropped; the socket goes on.
 */
#include "engine_internal.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of the buffers for one system call. */
#define BATCH_BYTES_MAX ((size_t)4 * 1024 * 1024)

struct datagram_batch {
	size_t size;       /* datagrams per call */
	size_t room;       /* bytes for each */
	unsigned char *tx; /* size * room bytes */
	unsigned char *rx; /* the same */
	struct iovec *tx_iov;
	struct iovec *rx_iov;
	struct mmsghdr *tx_header;
	struct mmsghdr *rx_header;
};

void
datagram_batch_destroy(struct datagram_batch *batch)
{
	if (batch == NULL)
		return;
	free(batch->tx);
	free(batch->rx);
	free(batch->tx_iov);
	free(batch->rx_iov);
	free(batch->tx_header);
	free(batch->rx_header);
	free(batch);
}

struct datagram_batch *
datagram_batch_create(const struct engine_config *config)
{
	struct datagram_batch *batch;
	size_t i;

	batch = calloc(1, sizeof(*batch));
	if (batch == NULL)
		return (NULL);
	batch->room = config->message_max + 1; /* one more, to notice datagrams that are too long */
	batch->size = config->batch;
	if (batch->size > BATCH_BYTES_MAX / batch->room)
		batch->size = BATCH_BYTES_MAX / batch->room;

	batch->tx = malloc(batch->size * batch->room);
	batch->rx = malloc(batch->size * batch->room);
	batch->tx_iov = calloc(batch->size, sizeof(*batch->tx_iov));
	batch->rx_iov = calloc(batch->size, sizeof(*batch->rx_iov));
	batch->tx_header = calloc(batch->size, sizeof(*batch->tx_header));
	batch->rx_header = calloc(batch->size, sizeof(*batch->rx_header));
	if (batch->tx == NULL || batch->rx == NULL || batch->tx_iov == NULL ||
	    batch->rx_iov == NULL || batch->tx_header == NULL || batch->rx_header == NULL) {
		datagram_batch_destroy(batch);
		return (NULL);
	}
	for (i = 0; i < batch->size; i++) {
		batch->rx_iov[i].iov_base = batch->rx + i * batch->room;
		batch->rx_iov[i].iov_len = batch->room;
		batch->rx_header[i].msg_hdr.msg_iov = &batch->rx_iov[i];
		batch->rx_header[i].msg_hdr.msg_iovlen = 1;
		batch->tx_header[i].msg_hdr.msg_iov = &batch->tx_iov[i];
		batch->tx_header[i].msg_hdr.msg_iovlen = 1;
	}
	return (batch);
}

/*
 * A datagram socket reports an ICMP error of an earlier datagram. Nobody listens: before the first
 * reply that is a failure to connect.
 */
static void
fail(struct conn *conn, enum engine_error error, int error_number)
{
	if (error_number == ECONNREFUSED && !conn->received)
		error = ENGINE_ERROR_CONNECT;
	conn_report(conn, error, "%s", strerror(error_number));
	conn_close(conn);
}

/* Note that the socket took `count` datagrams of `bytes` bytes in all at `now`. */
static void
start_messages(struct conn *conn, unsigned count, size_t bytes, uint64_t now)
{
	struct worker *worker = conn->worker;
	unsigned i;

	if (conn->window.in_flight == 0 && conn->progress_ns < worker->begin_ns)
		conn->progress_ns = now;
	for (i = 0; i < count; i++)
		window_start(&conn->window, worker_next_start(worker, now), now);
	worker->in_flight += count;
	worker->totals.tx_bytes += bytes;
}

/* Send one datagram. Returns 1, 0 when the socket was full, -1 with errno set. */
static int
send_one(struct conn *conn, uint64_t now)
{
	struct worker *worker = conn->worker;
	struct output output;
	ssize_t sent;

	worker->engine->config->protocol->output(
	    conn->protocol_state, conn->window.next, 1, worker->tx, &output);
	sent = send(conn->fd, output.data, output.length, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent == -1 && errno != ENOBUFS)
		return (-1);
	/* ENOBUFS: an interface dropped it, as the network may drop any datagram. */
	start_messages(conn, 1, output.length, now);
	return (1);
}

/* Send several datagrams in one system call. Returns like send_one(), with the number sent. */
static int
send_several(struct conn *conn, unsigned count, uint64_t now)
{
	struct worker *worker = conn->worker;
	struct datagram_batch *batch = worker->batch;
	struct output output;
	size_t bytes;
	int i, sent;
	unsigned n;

	if (count > batch->size)
		count = (unsigned)batch->size;
	for (n = 0; n < count; n++) {
		worker->engine->config->protocol->output(conn->protocol_state,
		    conn->window.next + n, 1, batch->tx + n * batch->room, &output);
		batch->tx_iov[n].iov_base = (void *)output.data;
		batch->tx_iov[n].iov_len = output.length;
	}
	sent = (int)sendmmsg(conn->fd, batch->tx_header, count, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent == -1 && errno != ENOBUFS)
		return (-1);
	if (sent <= 0)
		sent = 1; /* the first one met ENOBUFS */
	bytes = 0;
	for (i = 0; i < sent; i++)
		bytes += batch->tx_iov[i].iov_len;
	start_messages(conn, (unsigned)sent, bytes, now);
	return (sent);
}

bool
datagram_send(struct conn *conn, unsigned messages, uint64_t now)
{
	int sent;

	conn->tx_blocked = false;
	if (messages == 0)
		return (true);

	conn->worker->totals.sends++;
	if (messages == 1 || conn->worker->batch == NULL)
		sent = send_one(conn, now);
	else
		sent = send_several(conn, messages, now);
	if (sent == -1) {
		if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
			fail(conn, ENGINE_ERROR_SEND, errno);
			return (false);
		}
		conn->tx_blocked = errno != EINTR;
	}
	return (true);
}

/* Hand one datagram to the protocol. */
static void
take_datagram(struct conn *conn, const unsigned char *data, size_t length, uint64_t now)
{
	struct worker *worker = conn->worker;
	char reason[PROTOCOL_REASON_MAX];
	unsigned before;

	before = conn->window.in_flight;
	if (!worker->engine->config->protocol->input(
		conn->protocol_state, data, length, &conn->window, now, reason)) {
		conn_report(conn, ENGINE_ERROR_CORRUPT, "%s", reason);
		return;
	}
	if (conn->window.in_flight != before)
		worker->totals.rx_bytes += length;
	worker_note_input(worker, before, conn->window.in_flight, now);
}

int
datagram_receive(struct conn *conn, bool wait)
{
	struct worker *worker = conn->worker;
	struct datagram_batch *batch = worker->batch;
	uint64_t now;
	ssize_t got;
	int i;

	worker->totals.recvs++;
	if (batch == NULL)
		got = recv(conn->fd, worker->rx, worker->rx_size, wait ? 0 : MSG_DONTWAIT);
	else
		got = recvmmsg(conn->fd, batch->rx_header, (unsigned)batch->size,
		    wait ? MSG_WAITFORONE : MSG_DONTWAIT, NULL);
	if (got == -1) {
		if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
			return (0);
		fail(conn, ENGINE_ERROR_RECV, errno);
		return (-1);
	}

	now = clock_ns();
	conn->received = true;
	conn->silence = 0;
	conn->progress_ns = now;
	if (batch == NULL) {
		take_datagram(conn, worker->rx, (size_t)got, now);
		return (1);
	}
	for (i = 0; i < got; i++)
		take_datagram(conn, batch->rx_iov[i].iov_base, batch->rx_header[i].msg_len, now);
	return (1);
}
