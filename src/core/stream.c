/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the task of a stream connection does: read until the socket is empty or the budget is spent,
 * call input(), send everything that is ready in one call, and decide whether to go on reading.
 * Runs on a worker of the conn's group. Nothing here waits for a socket.
 */
#include "core.h"

/* Input of one run; then other conns of the core get their turn. */
#define RUN_BYTES ((size_t)512 * 1024)
/* Asked for in one receive call. */
#define READ_BYTES ((size_t)KBUF_SEG_MAX)
/* Output sent before more is read: it is still in the cache. */
#define FLUSH_BYTES ((size_t)128 * 1024)
/* Asked for while the service is over its memory budget. */
#define SCARCE_BYTES ((size_t)4096)

static void
fail(struct ksf_conn *conn, enum svc_stat stat, int error)
{
	if (stat != ST_COUNT)
		conn_stat(conn, stat, 1);
	conn_finish(conn, error);
}

/*
 * No more input: requests in flight and output leave. The deadline, and a wait for memory, were for
 * input.
 */
static void
drain(struct ksf_conn *conn)
{
	ksf_store_relaxed(&conn->deadline_at, 0);
	if (conn->txq.len == 0)
		ksf_store_relaxed(&conn->stalled_at, 0);
	ksf_store(&conn->state, CONN_DRAINING);
}

/* Neither input nor output gets on from now: `stall_timeout_ms` runs. */
static void
stalled(struct ksf_conn *conn)
{
	if (conn->stalled_at != 0)
		return;
	ksf_store(&conn->stalled_at, ksf_max(conn_now(conn), 1u));
	conn_arm(conn);
}

/* Reading waits until svc_tick() finds memory. */
static void
wait_for_memory(struct ksf_conn *conn)
{
	ksf_store(&conn->mem_wait, true);
	ksf_store(&conn->svc->mem_waiting, 1);
	conn_stat(conn, ST_MEM_SHORT, 1);
	stalled(conn);
}

/*
 * Output.
 */

/* One send of all that waits, unless the socket is known to be full. */
static void
flush(struct ksf_conn *conn)
{
	size_t before = conn->txq.len;
	int error;

	if (before == 0 || conn->tx_want)
		return;
	conn_stat(conn, ST_SENDS, 1);
	error = host_sock_send(&conn->sock, &conn->txq);
	if (error == EAGAIN) {
		/*
		 * From here on HOST_EV_OUT is wanted. It may have come just before: try once more,
		 * so that either the event or this call finds the room.
		 */
		conn_stat(conn, ST_SEND_FULL, 1);
		ksf_store(&conn->tx_want, 1);
		error = host_sock_send(&conn->sock, &conn->txq);
		if (error != EAGAIN)
			ksf_store_relaxed(&conn->tx_want, 0);
	}
	if (conn->txq.len != before) {
		conn_stat(conn, ST_BYTES_OUT, before - conn->txq.len);
		conn->moved = true;
		if (conn->stalled_at != 0)
			ksf_store_relaxed(&conn->stalled_at, 0);
	}
	if (error == 0)
		return;
	if (error != EAGAIN)
		fail(conn, ST_COUNT, error);
	else
		stalled(conn);
}

/* After input(): output may be above the high-water mark. */
static inline void
high_water(struct ksf_conn *conn)
{
	if (ksf_unlikely(conn->txq.len >= conn_txhiwat(conn)) && !conn->tx_above) {
		conn->tx_above = true;
		conn_stat(conn, ST_PAUSES, 1);
	}
}

/* After a send: output that was above the high-water mark may be below the low one; tell the
 * service. */
static inline void
low_water(struct ksf_conn *conn)
{
	const struct svc_params *params = &conn->svc->params;

	if (ksf_likely(!conn->tx_above))
		return;
	if (conn->txq.len > ksf_min(ksf_param_u32(&params->txlowat), conn_txhiwat(conn) - 1))
		return;
	conn->tx_above = false;
	if (conn->state == CONN_OPEN && conn->ops->drained != NULL) {
		conn->ops->drained(conn);
		high_water(conn);
	}
}

/*
 * Input.
 */

/* Show input() what waits, as long as that may lead anywhere. */
static void
deliver(struct ksf_conn *conn)
{
	struct ksf_rx *rx = &conn->rx;
	uint32_t rxmax = ksf_param_u32(&conn->svc->params.rxmax);

	conn->rx_held = false;
	if (ksf_load_relaxed(&conn->close_error) != CLOSE_NONE)
		return;
	if (rx->q.len < rx->need && !rx->eof)
		return;
	if (rx->q.len == 0 && !rx->eof)
		return;
	rx->need = 0;
	conn->told_full = false;
	conn->ops->input(conn, rx);
	high_water(conn);

	if (ksf_load_relaxed(&conn->close_error) != CLOSE_NONE)
		return;
	conn->rx_held = rx->q.len != 0 && (conn->rx_held || ksf_conn_full(conn));
	if (conn->rx_held)
		return;
	if (rx->eof) {
		kbufq_clear(&rx->q);
		drain(conn);
	} else if (rx->need > rxmax || (rx->q.len >= rxmax && rx->q.len >= rx->need)) {
		/* It asks for more than it may have, or does not take what fills the limit. */
		fail(conn, ST_CLOSED_OVERSIZE, EMSGSIZE);
	}
}

/* How much may be read now, if the socket is readable; 0 when reading has to wait. */
static size_t
read_room(struct ksf_conn *conn)
{
	uint32_t hiwat = conn_txhiwat(conn);
	uint32_t rxmax = ksf_param_u32(&conn->svc->params.rxmax);
	size_t room = READ_BYTES;

	if (conn->rx.eof || conn->state != CONN_OPEN || conn->mem_wait || conn->rx_held ||
	    ksf_load_relaxed(&conn->close_error) != CLOSE_NONE || ksf_conn_full(conn))
		return (0);
	room = ksf_min(room, hiwat - conn->txq.len);
	if (conn->rx.q.len < rxmax)
		room = ksf_min(room, rxmax - conn->rx.q.len);
	if (ksf_unlikely(svc_over_budget(conn->svc))) {
		/* Who holds nothing may go on in small steps; the others wait until memory comes
		 * back. */
		if (conn->mem != 0) {
			wait_for_memory(conn);
			return (0);
		}
		room = ksf_min(room, (size_t)SCARCE_BYTES);
	}
	return (room);
}

/* Read and deliver until there is no more, or `budget` is spent. */
static void
read_input(struct ksf_conn *conn, size_t *budget)
{
	size_t room, before, got;
	bool more;
	int error;

	while (conn->readable && *budget > 0 && (room = read_room(conn)) > 0) {
		before = conn->rx.q.len;
		conn_stat(conn, ST_RECEIVES, 1);
		error = host_sock_recv(&conn->sock, &conn->rx.q, room, &more);
		if (error == EAGAIN) {
			conn->readable = false;
			return;
		}
		if (error == ENOMEM || error == ENOBUFS) {
			wait_for_memory(conn);
			return;
		}
		if (error != 0) {
			fail(conn, ST_COUNT, error);
			return;
		}
		got = conn->rx.q.len - before;
		conn->rx.eof = got == 0;
		conn->readable = got != 0 && (more || conn->eof_seen);
		*budget -= ksf_min(*budget, got);
		conn_stat(conn, ST_BYTES_IN, got);
		conn->moved = true;
		if (ksf_unlikely(conn->stalled_at != 0) && conn->txq.len == 0)
			ksf_store_relaxed(&conn->stalled_at, 0);
		deliver(conn);
		if (conn->state == CONN_CLOSED)
			return;
		if (conn->txq.len >= FLUSH_BYTES) {
			flush(conn);
			if (conn->state == CONN_CLOSED)
				return;
			low_water(conn);
		}
	}
}

/*
 * Throw waiting input away, up to `budget` bytes. True when the input has ended, or the connection
 * has failed: nothing more can come.
 */
static bool
discard_input(struct ksf_conn *conn, size_t budget, size_t *discarded)
{
	struct kbufq waste = { 0 };
	bool more;
	int error;

	*discarded = 0;
	while (conn->readable && *discarded < budget) {
		error = host_sock_recv(&conn->sock, &waste, READ_BYTES, &more);
		if (error == EAGAIN || error == ENOMEM || error == ENOBUFS) {
			conn->readable = false;
			return (false);
		}
		if (error != 0 || waste.len == 0)
			return (true);
		*discarded += waste.len;
		kbufq_clear(&waste);
		conn->readable = more || conn->eof_seen;
	}
	return (false);
}

/*
 * State changes.
 */

/* One run of a lingering conn. */
static void
linger(struct ksf_conn *conn)
{
	size_t discarded;

	if (discard_input(conn, RUN_BYTES, &discarded))
		conn_finish(conn, 0);
	else if (conn->readable)
		conn_post(conn, EV_IN);
}

/* All has been said: close now, unless unread input would make the system send a reset that
 * overtakes our output. */
static void
finish_or_linger(struct ksf_conn *conn)
{
	uint32_t linger_ms = ksf_param_u32(&conn->svc->params.linger_ms);
	size_t discarded;

	/* Input may have come since the last look, and its event not yet. */
	conn->readable = true;
	if (conn->rx.eof || linger_ms == 0 || discard_input(conn, READ_BYTES, &discarded) ||
	    discarded == 0 || host_sock_shutdown_send(&conn->sock) != 0) {
		conn_finish(conn, 0);
		return;
	}
	ksf_store_relaxed(&conn->state, CONN_LINGERING);
	ksf_conn_deadline(conn, linger_ms);
	linger(conn);
}

/* What the events mean before any input or output is done. */
static void
take_events(struct ksf_conn *conn, uint32_t events)
{
	enum svc_stat stat;
	int error;

	if (events & EV_CUT) {
		fail(conn, ST_CLOSED_CUT, ECANCELED);
		return;
	}
	if ((events & EV_ERROR) && (error = host_sock_error(&conn->sock)) != 0) {
		fail(conn, ST_COUNT, error);
		return;
	}
	if (events & (EV_IN | EV_EOF | EV_ERROR))
		conn->readable = true;
	if (events & (EV_EOF | EV_ERROR))
		ksf_store_relaxed(&conn->eof_seen, true);
	if (events & EV_OUT)
		ksf_store_relaxed(&conn->tx_want, 0);
	if (events & EV_RESUME)
		ksf_store_relaxed(&conn->mem_wait, false);
	if ((events & EV_TIMER) && (error = conn_expired(conn, &stat)) != 0) {
		if (conn->state == CONN_LINGERING)
			conn_finish(conn, 0);
		else
			fail(conn, stat, error);
		return;
	}
	if ((events & EV_STOP) && conn->state == CONN_OPEN)
		drain(conn);
	conn_take_inbox(conn);
}

/* ksf_conn_close() may have been called, by any thread. */
static void
take_close(struct ksf_conn *conn)
{
	int error = ksf_load_relaxed(&conn->close_error);

	if (error == CLOSE_NONE || conn->state >= CONN_LINGERING)
		return;
	if (error != 0)
		conn_finish(conn, error);
	else if (conn->state == CONN_OPEN)
		drain(conn);
}

/* Output and input, until neither gets any further in this run. */
static void
pump(struct ksf_conn *conn)
{
	size_t budget = RUN_BYTES;

	for (;;) {
		if (conn->state == CONN_OPEN)
			read_input(conn, &budget);
		if (conn->state != CONN_CLOSED)
			take_close(conn);
		if (conn->state == CONN_CLOSED)
			return;
		high_water(conn);
		flush(conn);
		if (conn->state == CONN_CLOSED)
			return;
		low_water(conn);
		if (conn->txq.len != 0 && !conn->tx_want) {
			/* drained() has made more output; the other conns of the core get their
			 * turn first. */
			conn_post(conn, EV_SEND);
			return;
		}

		/* A full conn that is no longer: what input() had to leave can go on. */
		if (conn->state == CONN_OPEN && conn->rx_held && !ksf_conn_full(conn)) {
			deliver(conn);
			if (conn->state == CONN_CLOSED)
				return;
			if (conn->txq.len != 0)
				continue;
		}
		if (!conn->readable || read_room(conn) == 0)
			return;
		if (budget == 0) {
			conn_post(conn, EV_IN);
			return;
		}
	}
}

/* What is kept until the next run should be small, and is charged to the service's budget. */
static inline void
settle_memory(struct ksf_conn *conn)
{
	size_t mem = 0;

	if (ksf_likely(conn->rx.q.len == 0 && conn->txq.len == 0 && conn->mem == 0))
		return;
	if (conn->rx.q.len != 0) {
		kbufq_compact(&conn->rx.q);
		mem += kbufq_truesize(&conn->rx.q);
	}
	if (conn->txq.len != 0) {
		kbufq_compact(&conn->txq);
		mem += kbufq_truesize(&conn->txq);
	}
	if (mem != conn->mem) {
		svc_charge(conn->svc, (int64_t)mem - (int64_t)conn->mem);
		conn->mem = mem;
	}
}

static void
stream_run(struct ksf_conn *conn, uint32_t events)
{
	take_events(conn, events);
	if (conn->state == CONN_CLOSED)
		return;
	if (conn->state == CONN_LINGERING) {
		linger(conn);
		return;
	}
	take_close(conn);
	if (conn->state == CONN_CLOSED)
		return;
	pump(conn);
	if (conn->state == CONN_CLOSED)
		return;
	if (conn->state == CONN_DRAINING && conn->txq.len == 0 && ksf_load(&conn->inflight) == 0 &&
	    !ksf_load(&conn->inbox_any)) {
		finish_or_linger(conn);
		return;
	}
	settle_memory(conn);
	if (conn->moved) {
		conn->moved = false;
		ksf_store_relaxed(&conn->active_at, conn_now(conn));
	}
}

void
stream_task(struct ksf_task *task)
{
	struct ksf_conn *conn = ksf_container_of(task, struct ksf_conn, task);
	uint32_t events = conn_run_begin(conn);

	if (conn->state != CONN_CLOSED)
		stream_run(conn, events);
	conn_run_end(conn);
}
