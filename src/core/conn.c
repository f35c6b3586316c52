/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Life and death of connections, and the functions a service calls on them. What is here is the
 * same for all kinds of conns; what their tasks do is in stream.c, listener.c and dgram.c.
 *
 * A conn is an actor: events are bits in one word; whoever turns EV_SCHEDULED on enqueues the task,
 * and only the task turns it off, when no other bit is set. So the task never runs twice at once
 * and no event is lost. The bit also keeps the memory: the last reference going while it is set
 * leaves the freeing to the task.
 */
#include "core.h"
#include "dgram.h"

struct ksf_conn *
conn_new(
    struct ksf_svc *svc, struct ksf_group *group, enum conn_kind kind, const struct ksf_ops *ops)
{
	static ksf_task_fn *const task_of[] = {
		[CONN_LISTENER] = listener_task,
		[CONN_STREAM] = stream_task,
		[CONN_DGRAM] = dgram_task,
		[CONN_SESSION] = NULL,
	};
	size_t size = sizeof(struct ksf_conn) + ops->privsz;
	struct ksf_conn *conn;

	conn = host_alloc(size);
	if (conn == NULL)
		return (NULL);
	memset(conn, 0, size);
	conn->refs = 1;
	conn->close_error = CLOSE_NONE;
	conn->svc = svc;
	conn->group = group;
	conn->ops = ops;
	conn->kind = (uint8_t)kind;
	conn->task.fn = task_of[kind];
	conn->id = ksf_fetch_add(&svc->next_id, 1) + 1;
	conn->active_at = conn_now(conn);
	host_lock_init(&conn->lock, "ksf conn");
	svc_live_add(svc);
	return (conn);
}

/* Forget all input and output. */
static void
drop_queues(struct ksf_conn *conn)
{
	if (conn->kind == CONN_SESSION)
		session_take_inbox(conn);
	else
		conn_take_inbox(conn);
	kbufq_clear(&conn->txq);
	kbufq_clear(&conn->rx.q);
	if (conn->mem != 0)
		svc_charge(conn->svc, -(int64_t)conn->mem);
	conn->mem = 0;
}

static void
conn_free(struct ksf_conn *conn)
{
	struct ksf_svc *svc = conn->svc;
	struct ksf_conn *parent = conn->parent;

	/* What a late sender has queued between close and its ksf_conn_rele(). */
	drop_queues(conn);
	dgram_destroy(conn);
	host_lock_destroy(&conn->lock);
	host_free(conn, sizeof(*conn) + conn->ops->privsz);
	if (parent != NULL)
		ksf_conn_rele(parent);
	svc_live_drop(svc);
}

void
conn_publish(struct ksf_conn *conn)
{
	struct conn_list *list = &conn->svc->conns[conn->group->index];

	host_lock_acquire(&list->lock);
	ksf_list_append(&list->head, &conn->link);
	host_lock_release(&list->lock);
}

void
svc_post_all(struct ksf_svc *svc, uint32_t events, bool mem_wait_only)
{
	struct ksf_list *link;
	struct ksf_conn *conn;

	for (unsigned i = 0; i < svc->nlists; i++) {
		struct conn_list *list = &svc->conns[i];

		host_lock_acquire(&list->lock);
		for (link = list->head.next; link != &list->head; link = link->next) {
			conn = ksf_container_of(link, struct ksf_conn, link);
			if (!mem_wait_only || ksf_load_relaxed(&conn->mem_wait))
				conn_post(conn, events);
		}
		host_lock_release(&list->lock);
	}
}

/*
 * The actor.
 */
static void
enqueue(struct ksf_conn *conn)
{
	struct ksf_task **pending, *first;

	if (conn->kind != CONN_SESSION) {
		pool_run(conn->group, &conn->task);
		return;
	}

	/* A session runs within its socket's task: hang it there. */
	pending = dgram_pending(conn->parent);
	first = ksf_load_relaxed(pending);
	do
		conn->task.next = first;
	while (!ksf_cas(pending, &first, &conn->task));
	conn_post(conn->parent, EV_SESSION);
}

void
conn_post(struct ksf_conn *conn, uint32_t events)
{
	if (!(ksf_fetch_or(&conn->events, events | EV_SCHEDULED) & EV_SCHEDULED))
		enqueue(conn);
}

void
core_sock_event(struct ksf_conn *conn, unsigned events)
{
	if ((events & EV_OUT) && !ksf_load(&conn->tx_want))
		events &= ~(unsigned)EV_OUT;
	if (events != 0)
		conn_post(conn, events);
}

uint32_t
conn_run_begin(struct ksf_conn *conn)
{
	uint32_t events;

	ksf_store_relaxed(&conn->runner, pool_self());
	conn_stat(conn, ST_RUNS, 1);
	events = ksf_exchange(&conn->events, EV_SCHEDULED);

	/* The last reference went while the task was queued: conn_run_end() has to know. */
	if (ksf_unlikely(events & (uint32_t)EV_DEAD))
		ksf_fetch_or(&conn->events, (uint32_t)EV_DEAD);
	return (events);
}

void
conn_run_end(struct ksf_conn *conn)
{
	uint32_t expected = EV_SCHEDULED;

	ksf_store_relaxed(&conn->runner, NULL);
	if (ksf_cas(&conn->events, &expected, 0))
		return;
	if (expected & (uint32_t)EV_DEAD)
		conn_free(conn);
	else
		enqueue(conn);
}

bool
conn_running_here(const struct ksf_conn *conn)
{
	struct ksf_worker *self = pool_self();

	return (self != NULL && ksf_load_relaxed(&conn->runner) == self);
}

void
ksf_conn_hold(struct ksf_conn *conn)
{
	ksf_fetch_add(&conn->refs, 1);
}

void
ksf_conn_rele(struct ksf_conn *conn)
{
	if (ksf_fetch_sub(&conn->refs, 1) != 1)
		return;
	if (!(ksf_fetch_or(&conn->events, (uint32_t)EV_DEAD) & EV_SCHEDULED))
		conn_free(conn);
}

/*
 * Open and finish.
 */
int
conn_open(struct ksf_conn *conn)
{
	int error = 0;

	/* The service may send, or close, from open() on. */
	ksf_store_relaxed(&conn->state, CONN_OPEN);
	ksf_store_relaxed(&conn->runner, pool_self());
	if (conn->ops->open != NULL)
		error = conn->ops->open(conn);
	conn->opened = error == 0;
	if (error != 0)
		conn_stat(conn, ST_REFUSED_OPEN, 1);
	return (error);
}

void
conn_finish(struct ksf_conn *conn, int error)
{
	struct ksf_svc *svc = conn->svc;
	struct conn_list *list;

	ksf_store(&conn->state, CONN_CLOSED);
	if (conn->kind != CONN_SESSION) {
		list = &svc->conns[conn->group->index];
		host_lock_acquire(&list->lock);
		ksf_list_remove(&conn->link);
		host_lock_release(&list->lock);
		timer_cancel(&conn->group->wheel, &conn->timer);
		/* An idle peer is told in good order; every other error must free the system's
		 * memory at once. */
		host_sock_close(
		    &conn->sock, error != 0 && (error != ETIMEDOUT || conn->txq.len != 0));
	}
	drop_queues(conn);
	if (conn->counted) {
		svc_leave(svc, &conn->rx.peer);
		conn_stat(conn, ST_CONNS, (uint64_t)-1);
	}
	if (error != 0 && error != ECANCELED)
		conn_stat(conn, ST_CLOSED_ERROR, 1);
	if (conn->opened && conn->ops->close != NULL)
		conn->ops->close(conn, error);
	ksf_conn_rele(conn);
}

/*
 * Output from other threads.
 */
void
conn_take_inbox(struct ksf_conn *conn)
{
	if (!ksf_load_acquire(&conn->inbox_any))
		return;
	host_lock_acquire(&conn->lock);
	kbufq_concat(&conn->txq, &conn->inbox);
	ksf_store_relaxed(&conn->inbox_any, 0);
	host_lock_release(&conn->lock);
}

/* A closing conn takes no more output: what a service's close(0) has cut off, or what is beyond
 * sending. */
static bool
takes_output(const struct ksf_conn *conn)
{
	return (ksf_load_relaxed(&conn->state) <= CONN_DRAINING &&
		ksf_load_relaxed(&conn->close_error) == CLOSE_NONE);
}

/*
 * A datagram as one chain behind one leading segment that carries the link to the next; an empty
 * datagram needs one as well.
 */
static struct kbuf *
seal_datagram(struct kbufq *q)
{
	struct kbuf *seg;

	if (q->head == NULL) {
		seg = kbuf_alloc(0);
		if (seg == NULL)
			return (NULL);
		kbufq_append(q, seg);
	}
	kbuf_set_nextpkt(q->head, NULL);
	return (q->head);
}

static int
send_remote(struct ksf_conn *conn, struct kbufq *q)
{
	struct kbuf *first = NULL;

	if (conn->kind == CONN_SESSION && (first = seal_datagram(q)) == NULL)
		return (ENOBUFS);
	host_lock_acquire(&conn->lock);
	if (conn->kind != CONN_SESSION)
		kbufq_concat(&conn->inbox, q);
	else if (conn->inbox.head == NULL) {
		conn->inbox.head = conn->inbox_last = first;
	} else {
		kbuf_set_nextpkt(conn->inbox_last, first);
		conn->inbox_last = first;
	}
	ksf_store_release(&conn->inbox_any, 1);
	host_lock_release(&conn->lock);
	kbufq_init(q);
	conn_post(conn, EV_SEND);
	return (0);
}

int
ksf_conn_send(struct ksf_conn *conn, struct kbufq *q)
{
	int error = 0;

	if (ksf_unlikely(!takes_output(conn))) {
		kbufq_clear(q);
		return (EPIPE);
	}
	if (!conn_running_here(conn)) {
		/* A plain datagram conn has a peer only in its own callbacks. */
		error = conn->kind == CONN_DGRAM ? EPIPE : send_remote(conn, q);
		if (error != 0)
			kbufq_clear(q);
		return (error);
	}
	switch (conn->kind) {
	case CONN_STREAM:
		conn_take_inbox(conn);
		kbufq_concat(&conn->txq, q);
		break;
	case CONN_SESSION:
		session_take_inbox(conn);
		error = dgram_queue(conn->parent, q, &conn->rx.peer, &conn->rx.local);
		break;
	default:
		error = dgram_queue(conn, q, &conn->rx.peer, &conn->rx.local);
		break;
	}
	return (error);
}

int
ksf_conn_sendto(struct ksf_conn *conn, struct kbufq *q, const struct ksf_addr *peer,
    const struct ksf_addr *local)
{
	if (!takes_output(conn) || conn->kind != CONN_DGRAM || !conn_running_here(conn)) {
		kbufq_clear(q);
		return (EPIPE);
	}
	return (dgram_queue(conn, q, peer, local));
}

void
ksf_conn_close(struct ksf_conn *conn, int error)
{
	int asked = CLOSE_NONE;

	/* The first call counts, but an error cuts short what a close in good order still has to
	 * send. */
	while (!ksf_cas(&conn->close_error, &asked, error)) {
		if (asked != 0 || error == 0)
			return;
	}
	conn_post(conn, EV_CLOSE);
}

/*
 * Requests in flight.
 */
void
ksf_conn_begin(struct ksf_conn *conn)
{
	ksf_conn_hold(conn);

	/* Should one of them end before input() returns, what input() left because of the limit
	 * must not be forgotten. */
	if (ksf_fetch_add(&conn->inflight, 1) + 1 >= ksf_param_u32(&conn->svc->params.inflight))
		conn->rx_held = true;
}

void
ksf_conn_end(struct ksf_conn *conn)
{
	uint32_t limit = ksf_param_u32(&conn->svc->params.inflight);
	uint32_t before = ksf_fetch_sub(&conn->inflight, 1);

	/* Wake the conn where somebody may wait: for the last request, or for the limit. */
	if (before == 1 || before >= limit) {
		if (before >= limit || ksf_load(&conn->state) != CONN_OPEN ||
		    ksf_load(&conn->svc->stopping))
			conn_post(conn, EV_RESUME);
	}
	ksf_conn_rele(conn);
}

bool
ksf_conn_full(struct ksf_conn *conn)
{
	if (conn->tx_above || conn->txq.len >= conn_txhiwat(conn) ||
	    ksf_load_relaxed(&conn->inflight) >= ksf_param_u32(&conn->svc->params.inflight)) {
		conn->told_full = true;
		return (true);
	}
	return (false);
}

/*
 * Deadlines. All times are ticks of the pool's coarse clock; a span is rounded up and gets one tick
 * more, since the present tick has partly gone.
 */
static uint32_t
span(uint32_t ms)
{
	return (ms / POOL_TICK_MS + (ms % POOL_TICK_MS != 0) + 1);
}

/* The earlier of two ticks, where 0 is none. */
static uint32_t
earlier(uint32_t a, uint32_t b)
{
	if (a == 0 || b == 0)
		return (a | b);
	return (tick_before(a, b) ? a : b);
}

/* `since` plus a parameter in ms, 0 when either is off. Tick 0 stands for none, so the sum avoids
 * it. */
static uint32_t
after(uint32_t since, const uint32_t *ms)
{
	uint32_t limit = ksf_param_u32(ms), when;

	if (limit == 0)
		return (0);
	when = since + span(limit);
	return (when != 0 ? when : 1);
}

static uint32_t
idle_deadline(const struct ksf_conn *conn)
{
	if (conn->kind != CONN_STREAM || ksf_load_relaxed(&conn->inflight) != 0)
		return (0);
	return (after(ksf_load_relaxed(&conn->active_at), &conn->svc->params.idle_ms));
}

static uint32_t
stall_deadline(const struct ksf_conn *conn)
{
	uint32_t since = ksf_load_relaxed(&conn->stalled_at);

	return (since != 0 ? after(since, &conn->svc->params.stall_ms) : 0);
}

static uint32_t
next_deadline(const struct ksf_conn *conn)
{
	return (earlier(ksf_load_relaxed(&conn->deadline_at),
	    earlier(idle_deadline(conn), stall_deadline(conn))));
}

/* How often a conn without any deadline is looked at: the parameters may change while it lives. */
#define LOOK_AGAIN_TICKS 20u

uint32_t core_timer_due(struct timer *timer, uint32_t now);

uint32_t
core_timer_due(struct timer *timer, uint32_t now)
{
	struct ksf_conn *conn = ksf_container_of(timer, struct ksf_conn, timer);
	uint32_t when;

	/*
	 * First not armed, then look: a task that sets an earlier deadline at this moment is seen
	 * here, or sees this and arms. Both sides store one and then load the other, sequentially
	 * consistent.
	 */
	ksf_store(&conn->timer_at, 0);
	when = next_deadline(conn);
	if (when != 0 && !tick_before(now, when)) {
		conn_post(conn, EV_TIMER);
		when = 0;
	}
	if (when == 0 || tick_before(now + LOOK_AGAIN_TICKS, when))
		when = now + LOOK_AGAIN_TICKS;
	ksf_store_relaxed(&conn->timer_at, when);
	return (when);
}

void
conn_arm(struct ksf_conn *conn)
{
	uint32_t when = next_deadline(conn), at = ksf_load(&conn->timer_at);

	if (when == 0)
		when = conn_now(conn) + LOOK_AGAIN_TICKS;
	if (at != 0 && !tick_before(when, at))
		return;
	ksf_store_relaxed(&conn->timer_at, when);
	timer_arm(&conn->group->wheel, &conn->timer, when);
}

int
conn_expired(struct ksf_conn *conn, enum svc_stat *stat)
{
	uint32_t now = conn_now(conn), when;

	when = ksf_load_relaxed(&conn->deadline_at);
	*stat = ST_CLOSED_DEADLINE;
	if (when != 0 && !tick_before(now, when))
		return (ETIMEDOUT);
	when = stall_deadline(conn);
	*stat = ST_CLOSED_STALLED;
	if (when != 0 && !tick_before(now, when))
		return (ETIMEDOUT);
	when = idle_deadline(conn);
	*stat = ST_CLOSED_IDLE;
	if (when != 0 && !tick_before(now, when))
		return (ETIMEDOUT);
	return (0);
}

void
ksf_conn_deadline(struct ksf_conn *conn, unsigned ms)
{
	uint32_t when = 0;

	if (ms != 0) {
		when = conn_now(conn) + span(ms);
		when = when != 0 ? when : 1;
	}
	ksf_store(&conn->deadline_at, when);
	/* In close() it is too late: nothing would take the timer off the wheel. */
	if (when != 0 && conn->kind == CONN_STREAM && conn->state != CONN_CLOSED)
		conn_arm(conn);
}

/*
 * Plain accessors.
 */
void *
ksf_conn_priv(struct ksf_conn *conn)
{
	return (conn->priv);
}

struct ksf_svc *
ksf_conn_svc(struct ksf_conn *conn)
{
	return (conn->svc);
}

const struct ksf_addr *
ksf_conn_peer(const struct ksf_conn *conn)
{
	return (&conn->rx.peer);
}

const struct ksf_addr *
ksf_conn_local(const struct ksf_conn *conn)
{
	return (&conn->rx.local);
}

uint64_t
ksf_conn_id(const struct ksf_conn *conn)
{
	return (conn->id);
}

bool
ksf_conn_is_stream(const struct ksf_conn *conn)
{
	return (conn->kind == CONN_STREAM);
}
