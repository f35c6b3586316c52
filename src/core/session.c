/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The sessions of a UDP socket: found by address in a table whose size is bounded, expired when
 * idle. Everything here runs in the task of the socket.
 *
 * Anybody can send a datagram with any source address, so the table can be flooded. A session is
 * `fresh` until its peer has sent a second datagram; when the table is full the oldest fresh
 * session makes room, or else the settled one that has been silent for longest. A peer that has
 * been heard within the last second keeps its session: if all have, newcomers are refused.
 */
#include "dgram.h"

#define KEEP_TICKS 10u /* a settled session used within this time is not evicted */

/* What a session is found by; no padding. */
struct session_key {
	uint8_t peer_ip[16], local_ip[16];
	uint32_t scope;
	uint16_t peer_port;
	uint16_t family;
};

static struct ksf_conn **
bucket_of(struct ksf_conn *sock, const struct ksf_addr *peer, const struct ksf_addr *local)
{
	struct session_key key;

	memset(&key, 0, sizeof(key));
	memcpy(key.peer_ip, peer->ip, sizeof(key.peer_ip));
	memcpy(key.local_ip, local->ip, sizeof(key.local_ip));
	key.scope = peer->scope;
	key.peer_port = peer->port;
	key.family = peer->family;
	return (&sock->dgram->buckets[siphash(sock->svc->hash_key, &key, sizeof(key)) &
				      (sock->dgram->nbuckets - 1)]);
}

static bool
is_peer(const struct ksf_conn *session, const struct host_dgram *dgram)
{
	const struct ksf_rx *rx = &session->rx;

	return (rx->peer.port == dgram->peer.port && rx->peer.scope == dgram->peer.scope &&
		ksf_addr_same_ip(&rx->peer, &dgram->peer) &&
		ksf_addr_same_ip(&rx->local, &dgram->local));
}

/* Take out of the table, close. The session may live on while somebody refers to it. */
static void
session_finish(struct ksf_conn *session, int error)
{
	struct ksf_conn *sock = session->parent, **link;

	for (link = bucket_of(sock, &session->rx.peer, &session->rx.local); *link != session;
	     link = &(*link)->hash_next)
		continue;
	*link = session->hash_next;
	if (sock->dgram->last == session)
		sock->dgram->last = NULL;
	ksf_list_remove(&session->link);
	sock->dgram->nsessions--;
	ksf_store_relaxed(&session->runner, sock->runner);
	conn_stat(session, ST_SESSIONS, (uint64_t)-1);
	conn_finish(session, error);
}

/* The session that has to go first when the table is full, or NULL. */
static struct ksf_conn *
find_victim(struct ksf_conn *sock)
{
	struct ksf_list *lists[] = { &sock->dgram->fresh, &sock->dgram->settled };
	struct ksf_conn *session;

	for (unsigned i = 0; i < ksf_nelem(lists); i++) {
		if (ksf_list_empty(lists[i]))
			continue;
		session = ksf_container_of(lists[i]->next, struct ksf_conn, link);
		if (ksf_load(&session->inflight) == 0 &&
		    (session->fresh || conn_now(sock) - session->active_at > KEEP_TICKS))
			return (session);
	}
	return (NULL);
}

/* Make room in a full table. */
static bool
evict(struct ksf_conn *sock)
{
	struct ksf_conn *victim = find_victim(sock);

	if (victim == NULL)
		return (false);
	conn_stat(sock, ST_SESSIONS_EVICTED, 1);
	session_finish(victim, ECANCELED);
	return (true);
}

static struct ksf_conn *
session_new(struct ksf_conn *sock, const struct host_dgram *dgram)
{
	struct ksf_svc *svc = sock->svc;
	struct ksf_conn *session, **bucket;

	if (!svc_allows(svc, &dgram->peer)) {
		conn_stat(sock, ST_REFUSED_ALLOW, 1);
		return (NULL);
	}
	if (sock->dgram->nsessions >= sock->dgram->limit && !evict(sock)) {
		conn_stat(sock, ST_SESSIONS_REFUSED, 1);
		return (NULL);
	}
	session = conn_new(svc, sock->group, CONN_SESSION, sock->ops);
	if (session == NULL) {
		conn_stat(sock, ST_MEM_SHORT, 1);
		return (NULL);
	}
	ksf_conn_hold(sock);
	session->parent = sock;
	session->fresh = true;
	session->rx.peer = dgram->peer;
	session->rx.local = dgram->local;
	bucket = bucket_of(sock, &dgram->peer, &dgram->local);
	session->hash_next = *bucket;
	*bucket = session;
	ksf_list_append(&sock->dgram->fresh, &session->link);
	sock->dgram->nsessions++;
	conn_stat(sock, ST_SESSIONS_OPENED, 1);
	conn_stat(sock, ST_SESSIONS, 1);

	if (conn_open(session) != 0) {
		session_finish(session, ECONNABORTED);
		return (NULL);
	}
	ksf_store_relaxed(&session->runner, NULL);
	return (session);
}

/* Used last, and known to be more than one stray datagram. */
static void
touch(struct ksf_conn *session)
{
	session->fresh = false;
	ksf_list_remove(&session->link);
	ksf_list_append(&session->parent->dgram->settled, &session->link);
}

struct ksf_conn *
session_find(struct ksf_conn *sock, const struct host_dgram *dgram)
{
	struct dgram_sock *table = sock->dgram;
	struct ksf_conn *session = table->last;

	if (session == NULL || !is_peer(session, dgram)) {
		session = *bucket_of(sock, &dgram->peer, &dgram->local);
		while (session != NULL && !is_peer(session, dgram))
			session = session->hash_next;
		if (session == NULL)
			session = session_new(sock, dgram);
		else
			touch(session);
		table->last = session;
	} else if (session->fresh)
		touch(session);
	return (session);
}

/* After a callback: the service may have closed the session. */
static void
take_close(struct ksf_conn *session)
{
	int error = ksf_load_relaxed(&session->close_error);

	if (error != CLOSE_NONE && session->state != CONN_CLOSED)
		session_finish(session, error);
}

void
session_input(struct ksf_conn *session, struct host_dgram *dgram)
{
	struct ksf_rx *rx = &session->rx;

	ksf_store_relaxed(&session->active_at, conn_now(session));
	if (ksf_load_relaxed(&session->close_error) != CLOSE_NONE)
		return;
	if (ksf_load_relaxed(&session->inflight) >= ksf_param_u32(&session->svc->params.inflight)) {
		/* A datagram cannot be pushed back; its sender will send it again. */
		conn_stat(session->parent, ST_DGRAMS_DROPPED, 1);
		return;
	}
	kbufq_concat(&rx->q, &dgram->q);
	ksf_store_relaxed(&session->runner, session->parent->runner);
	session->ops->input(session, rx);
	kbufq_clear(&rx->q);
	rx->need = 0;
	ksf_conn_hold(session);
	take_close(session);
	ksf_store_relaxed(&session->runner, NULL);
	ksf_conn_rele(session);
}

void
session_take_inbox(struct ksf_conn *session)
{
	struct kbuf *first, *next, *seg;
	struct kbufq q;

	if (!ksf_load_acquire(&session->inbox_any))
		return;
	host_lock_acquire(&session->lock);
	first = session->inbox.head;
	kbufq_init(&session->inbox);
	session->inbox_last = NULL;
	ksf_store_relaxed(&session->inbox_any, 0);
	host_lock_release(&session->lock);

	for (; first != NULL; first = next) {
		next = kbuf_nextpkt(first);
		kbufq_init(&q);
		while ((seg = first) != NULL) {
			first = kbuf_next(seg);
			kbufq_append(&q, seg);
		}
		if (session->state == CONN_CLOSED)
			kbufq_clear(&q);
		else
			(void)dgram_queue(
			    session->parent, &q, &session->rx.peer, &session->rx.local);
	}
}

/* One session that has events; as a task of its own would, within the socket's. */
static void
session_run(struct ksf_conn *session)
{
	(void)conn_run_begin(session);
	session_take_inbox(session);
	if (session->state == CONN_OPEN)
		take_close(session);
	conn_run_end(session);
}

void
session_run_pending(struct ksf_conn *sock)
{
	struct ksf_task *task, *next, *oldest = NULL;

	task = ksf_exchange(&sock->dgram->pending, NULL);
	for (; task != NULL; task = next) {
		next = task->next;
		task->next = oldest;
		oldest = task;
	}
	for (task = oldest; task != NULL; task = next) {
		next = task->next;
		session_run(ksf_container_of(task, struct ksf_conn, task));
	}
}

static void
expire_list(struct ksf_conn *sock, struct ksf_list *list, uint32_t limit)
{
	struct ksf_conn *session;
	struct ksf_list *link, *next;

	for (link = list->next; link != list; link = next) {
		next = link->next;
		session = ksf_container_of(link, struct ksf_conn, link);
		if (conn_now(sock) - session->active_at <= limit)
			return;
		if (ksf_load(&session->inflight) != 0)
			continue;
		conn_stat(sock, ST_CLOSED_IDLE, 1);
		session_finish(session, ETIMEDOUT);
	}
}

void
session_expire(struct ksf_conn *sock)
{
	uint32_t ms = ksf_param_u32(&sock->svc->params.session_ms);

	expire_list(sock, &sock->dgram->fresh, ms / POOL_TICK_MS);
	expire_list(sock, &sock->dgram->settled, ms / POOL_TICK_MS);
}

static void
close_list(struct ksf_list *list, bool idle_only)
{
	struct ksf_conn *session;
	struct ksf_list *link, *next;

	for (link = list->next; link != list; link = next) {
		next = link->next;
		session = ksf_container_of(link, struct ksf_conn, link);
		if (idle_only && ksf_load(&session->inflight) != 0)
			continue;
		session_finish(session, idle_only ? 0 : ECANCELED);
	}
}

void
session_close_all(struct ksf_conn *sock, bool idle_only)
{
	close_list(&sock->dgram->fresh, idle_only);
	close_list(&sock->dgram->settled, idle_only);
}
