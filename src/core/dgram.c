/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the task of a UDP socket does: receive datagrams in batches, hand each to its session or to
 * the plain service, send all answers in batches. Runs on a worker of the socket's group. A full
 * socket drops output, as UDP may: waiting would let one slow path hold up all peers.
 */
#include "dgram.h"

#define RUN_BATCHES  8u  /* receive calls in one run */
#define EXPIRE_TICKS 10u /* between looks for idle sessions */
#define PORT_RESERVED                                                              \
	1024u /* ports below belong to services: an answer to one may start a loop \
	       */

int
dgram_create(struct ksf_conn *conn)
{
	unsigned cores = conn->group->pool->ngroups;
	struct dgram_sock *dgram;

	dgram = host_alloc(sizeof(*dgram));
	if (dgram == NULL)
		return (ENOMEM);
	memset(dgram, 0, sizeof(*dgram));
	dgram->bound = conn->rx.local;
	dgram->batch = DGRAM_BATCH_MIN;
	ksf_list_init(&dgram->fresh);
	ksf_list_init(&dgram->settled);
	if (!(conn->flags & KSF_LISTEN_PLAIN)) {
		dgram->limit = (conn->svc->params.sessions + cores - 1) / cores;
		for (dgram->nbuckets = 64; dgram->nbuckets < dgram->limit; dgram->nbuckets *= 2)
			continue;
		dgram->buckets = host_alloc(dgram->nbuckets * sizeof(dgram->buckets[0]));
		if (dgram->buckets == NULL) {
			host_free(dgram, sizeof(*dgram));
			return (ENOMEM);
		}
		memset(dgram->buckets, 0, dgram->nbuckets * sizeof(dgram->buckets[0]));
	}
	conn->dgram = dgram;
	return (0);
}

void
dgram_destroy(struct ksf_conn *conn)
{
	struct dgram_sock *dgram = conn->dgram;

	if (dgram == NULL)
		return;
	for (unsigned i = 0; i < dgram->ntx; i++)
		kbufq_clear(&dgram->tx[i].q);
	host_free(dgram->buckets, dgram->nbuckets * sizeof(dgram->buckets[0]));
	host_free(dgram, sizeof(*dgram));
	conn->dgram = NULL;
}

struct ksf_task **
dgram_pending(struct ksf_conn *conn)
{
	return (&conn->dgram->pending);
}

/*
 * Output.
 */

/* Drop the first `n` datagrams of the output queue; their chains are empty or are freed here. */
static void
remove_tx(struct dgram_sock *dgram, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		kbufq_clear(&dgram->tx[i].q);
	dgram->ntx -= n;
	memmove(&dgram->tx[0], &dgram->tx[n], dgram->ntx * sizeof(dgram->tx[0]));
}

static int
send_batch(struct ksf_conn *conn)
{
	struct dgram_sock *dgram = conn->dgram;
	unsigned sent;
	size_t bytes = 0;
	int error;

	conn_stat(conn, ST_SENDS, 1);
	for (unsigned i = 0; i < dgram->ntx; i++)
		bytes += dgram->tx[i].q.len;
	error = host_sock_send_dgrams(&conn->sock, dgram->tx, dgram->ntx, &sent);
	for (unsigned i = sent; i < dgram->ntx; i++)
		bytes -= dgram->tx[i].q.len;
	conn_stat(conn, ST_DGRAMS_OUT, sent);
	conn_stat(conn, ST_BYTES_OUT, bytes);
	remove_tx(dgram, sent);
	if (error != 0 && error != EAGAIN) {
		/* This one cannot be sent (no route, too long, refused earlier): UDP drops it. */
		conn_stat(conn, ST_DGRAMS_DROPPED, 1);
		remove_tx(dgram, 1);
		error = 0;
	}
	return (error);
}

static void
flush(struct ksf_conn *conn)
{
	struct dgram_sock *dgram = conn->dgram;

	while (dgram->ntx > 0 && !conn->tx_want) {
		if (send_batch(conn) != EAGAIN)
			continue;

		/* From here on HOST_EV_OUT is wanted; it may have come just before. */
		conn_stat(conn, ST_SEND_FULL, 1);
		ksf_store(&conn->tx_want, 1);
		if (send_batch(conn) != EAGAIN)
			ksf_store_relaxed(&conn->tx_want, 0);
	}
}

int
dgram_queue(struct ksf_conn *conn, struct kbufq *q, const struct ksf_addr *peer,
    const struct ksf_addr *local)
{
	struct dgram_sock *dgram = conn->dgram;
	struct host_dgram *slot;

	if (dgram->ntx == DGRAM_BATCH)
		flush(conn);
	if (dgram->ntx == DGRAM_BATCH) {
		conn_stat(conn, ST_DGRAMS_DROPPED, 1);
		kbufq_clear(q);
		return (ENOBUFS);
	}
	slot = &dgram->tx[dgram->ntx++];
	kbufq_init(&slot->q);
	kbufq_concat(&slot->q, q);
	slot->peer = *peer;
	slot->local = *local;
	return (0);
}

/*
 * Input.
 */

/* A datagram that must not be answered: answering could loop between two services for ever. */
static bool
is_loop(struct ksf_conn *conn, const struct host_dgram *dgram)
{
	if (!(conn->flags & KSF_LISTEN_NO_LOOPS))
		return (false);
	if (dgram->peer.port == conn->dgram->bound.port) {
		conn_stat(conn, ST_DGRAMS_LOOP, 1);
		return (true);
	}
	if (dgram->peer.port < PORT_RESERVED) {
		conn_stat(conn, ST_DGRAMS_PRIVILEGED, 1);
		return (true);
	}
	return (false);
}

static void
plain_input(struct ksf_conn *conn, struct host_dgram *dgram)
{
	struct ksf_rx *rx = &conn->rx;

	if (!svc_allows(conn->svc, &dgram->peer)) {
		conn_stat(conn, ST_REFUSED_ALLOW, 1);
		return;
	}
	rx->peer = dgram->peer;
	rx->local = dgram->local;
	kbufq_concat(&rx->q, &dgram->q);
	conn->ops->input(conn, rx);
	kbufq_clear(&rx->q);
	rx->need = 0;
}

static void
one_datagram(struct ksf_conn *conn, struct host_dgram *dgram)
{
	struct ksf_conn *session;

	/* The system tells the address only where the socket is bound to none, and never the port.
	 */
	if (dgram->local.family == 0)
		dgram->local = conn->dgram->bound;
	dgram->local.port = conn->dgram->bound.port;

	conn_stat(conn, ST_DGRAMS_IN, 1);
	conn_stat(conn, ST_BYTES_IN, dgram->q.len);
	if (dgram->truncated)
		conn_stat(conn, ST_DGRAMS_TRUNCATED, 1);
	else if (is_loop(conn, dgram))
		;
	else if (conn->flags & KSF_LISTEN_PLAIN)
		plain_input(conn, dgram);
	else if ((session = session_find(conn, dgram)) != NULL)
		session_input(session, dgram);
	kbufq_clear(&dgram->q);
}

static void
receive(struct ksf_conn *conn)
{
	struct dgram_sock *dgram = conn->dgram;
	uint32_t max;
	unsigned got;
	int error;

	for (unsigned batch = 0; conn->readable && batch < RUN_BATCHES; batch++) {
		max = ksf_param_u32(&conn->svc->params.dgram_max);
		conn_stat(conn, ST_RECEIVES, 1);
		got = 0;
		error = host_sock_recv_dgrams(&conn->sock, dgram->rx, dgram->batch, max, &got);
		for (unsigned i = 0; i < got; i++)
			one_datagram(conn, &dgram->rx[i]);

		/* Asking for many costs time when there are few: follow what comes. */
		if (got == dgram->batch)
			dgram->batch = ksf_min(dgram->batch * 2, DGRAM_BATCH);
		else if (got < dgram->batch / 4)
			dgram->batch = ksf_max(dgram->batch / 2, DGRAM_BATCH_MIN);
		if (error == EAGAIN)
			conn->readable = false;
		else if (error == ENOMEM || error == ENOBUFS) {
			ksf_store(&conn->mem_wait, true);
			ksf_store(&conn->svc->mem_waiting, 1);
			conn_stat(conn, ST_MEM_SHORT, 1);
			return;
		}
	}
	if (conn->readable)
		conn_post(conn, EV_IN);
}

/* Idle sessions are looked for as long as there are any. */
static void
arm_expiry(struct ksf_conn *conn)
{
	if (conn->dgram->nsessions != 0 && conn->deadline_at == 0) {
		ksf_store_relaxed(&conn->deadline_at, ksf_max(conn_now(conn) + EXPIRE_TICKS, 1u));
		conn_arm(conn);
	}
}

static void
dgram_run(struct ksf_conn *conn, uint32_t events)
{
	if (events & EV_OUT)
		ksf_store_relaxed(&conn->tx_want, 0);
	if (events & EV_ERROR)
		(void)host_sock_error(&conn->sock);
	if (events & (EV_IN | EV_ERROR | EV_EOF))
		conn->readable = true;
	if (events & EV_RESUME)
		ksf_store_relaxed(&conn->mem_wait, false);
	if ((events & EV_STOP) || ksf_load_relaxed(&conn->close_error) != CLOSE_NONE)
		ksf_store(&conn->state, CONN_DRAINING);
	flush(conn);
	session_run_pending(conn);
	if (events & EV_TIMER) {
		ksf_store_relaxed(&conn->deadline_at, 0);
		session_expire(conn);
	}
	if (conn->state == CONN_OPEN)
		receive(conn);
	flush(conn);

	if (events & EV_CUT)
		session_close_all(conn, false);
	else if (conn->state == CONN_DRAINING)
		session_close_all(conn, true);
	if (conn->state == CONN_DRAINING && conn->dgram->nsessions == 0 &&
	    (events & EV_CUT || (conn->dgram->ntx == 0 && ksf_load(&conn->inflight) == 0))) {
		conn_finish(conn, 0);
		return;
	}
	arm_expiry(conn);
}

void
dgram_task(struct ksf_task *task)
{
	struct ksf_conn *conn = ksf_container_of(task, struct ksf_conn, task);
	uint32_t events = conn_run_begin(conn);

	if (conn->state != CONN_CLOSED)
		dgram_run(conn, events);
	else
		session_run_pending(conn);
	conn_run_end(conn);
}
