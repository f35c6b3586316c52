/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the task of a listening socket does: accept connections, check limits, open them on its own
 * core. Runs on a worker of the listener's group.
 */
#include "core.h"

#define ACCEPT_BATCH 64u  /* connections accepted in one run */
#define RETRY_MS     100u /* after the system ran short of descriptors or memory */

/* Ready for its first event: let it go. The conn has been SCHEDULED so far, by us. */
static void
release_new(struct ksf_conn *conn)
{
	if (conn->txq.len != 0 || ksf_load_relaxed(&conn->close_error) != CLOSE_NONE)
		ksf_fetch_or(&conn->events, EV_SEND);
	conn_arm(conn);
	conn_run_end(conn);
}

/* Make a conn of an accepted socket; on any failure the socket is closed. */
static void
welcome(struct ksf_conn *listener, struct host_sock *sock, const struct ksf_addr *peer,
    const struct ksf_addr *local)
{
	struct ksf_svc *svc = listener->svc;
	struct ksf_conn *conn;
	int error;

	if (!svc_allows(svc, peer)) {
		conn_stat(listener, ST_REFUSED_ALLOW, 1);
		host_sock_close(sock, true);
		return;
	}
	if (!svc_admit(svc, peer)) {
		host_sock_close(sock, true);
		return;
	}
	conn = conn_new(svc, listener->group, CONN_STREAM, listener->ops);
	if (conn == NULL) {
		conn_stat(listener, ST_MEM_SHORT, 1);
		svc_leave(svc, peer);
		host_sock_close(sock, true);
		return;
	}
	conn->events = EV_SCHEDULED;
	conn->counted = true;
	conn->sock = *sock;
	conn->rx.peer = *peer;
	conn->rx.local = *local;
	conn_stat(listener, ST_ACCEPTED, 1);
	conn_stat(listener, ST_CONNS, 1);

	conn_publish(conn);
	error = conn_open(conn);
	if (error == 0)
		error = host_sock_attach(&conn->sock, conn->group->poll, conn);
	if (error != 0) {
		conn_finish(conn, error);
		conn_run_end(conn);
		return;
	}

	/* The service may have begun to stop after this listener was told, and before the conn was
	 * on the list. */
	if (ksf_load(&svc->stopping))
		ksf_fetch_or(&conn->events, ksf_load(&svc->cut) ? EV_CUT : EV_STOP);
	release_new(conn);
}

/*
 * The system is short of descriptors or memory. It may say so even while nobody waits, so the
 * retries go on quietly: one line of log is enough.
 */
static void
retry_later(struct ksf_conn *listener, int error)
{
	conn_stat(listener, ST_ACCEPT_ERRORS, 1);
	if (!listener->mem_wait)
		ksf_log(listener->svc, KSF_WARN, "cannot accept: %s",
		    error == EMFILE || error == ENFILE ? "out of file descriptors"
						       : "out of memory");
	ksf_store_relaxed(&listener->mem_wait, true);
	ksf_store(
	    &listener->deadline_at, ksf_max(conn_now(listener) + RETRY_MS / POOL_TICK_MS + 1, 1u));
	conn_arm(listener);
}

static void
accept_batch(struct ksf_conn *listener)
{
	struct host_sockopts opts;
	struct host_sock sock;
	struct ksf_addr peer, local;
	int error;

	svc_sockopts(listener->svc, &opts);
	for (unsigned n = 0; n < ACCEPT_BATCH; n++) {
		memset(&sock, 0, sizeof(sock));
		error = host_sock_accept(&listener->sock, &sock, &peer, &local, &opts);
		switch (error) {
		case 0:
			ksf_store_relaxed(&listener->mem_wait, false);
			welcome(listener, &sock, &peer, &local);
			break;
		case EAGAIN:
			ksf_store_relaxed(&listener->mem_wait, false);
			return;
		case EMFILE:
		case ENFILE:
		case ENOBUFS:
		case ENOMEM:
			retry_later(listener, error);
			return;
		default:
			/* That connection is gone; the next may be well. */
			conn_stat(listener, ST_ACCEPT_ERRORS, 1);
			break;
		}
	}
	conn_post(listener, EV_IN);
}

void
listener_task(struct ksf_task *task)
{
	struct ksf_conn *listener = ksf_container_of(task, struct ksf_conn, task);
	uint32_t events = conn_run_begin(listener);

	if (listener->state != CONN_CLOSED) {
		if (events & (EV_STOP | EV_CUT))
			conn_finish(listener, 0);
		else {
			if (events & EV_TIMER)
				ksf_store_relaxed(&listener->deadline_at, 0);
			accept_batch(listener);
		}
	}
	conn_run_end(listener);
}
