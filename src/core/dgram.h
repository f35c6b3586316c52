/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * UDP sockets and their sessions. A session is a conn of its own for the service, one for each
 * peer, but has no socket and no place in a queue: it runs within the task of its socket, so the
 * session table needs no lock.
 */
#ifndef KSF_DGRAM_H
#define KSF_DGRAM_H

#include "core.h"

#define DGRAM_BATCH_MIN 2u  /* so that a receive call shows whether more wait */
#define DGRAM_BATCH     32u /* datagrams received or sent in one call */

struct dgram_sock {
	struct ksf_task *pending;          /* (a) sessions with events */
	struct ksf_addr bound;             /* (c) the socket's own address */
	struct host_dgram rx[DGRAM_BATCH]; /* (q) */
	struct host_dgram tx[DGRAM_BATCH]; /* (q) output, in order */
	unsigned batch;                    /* (q) datagrams asked for in the next receive call */
	unsigned ntx;                      /* (q) */
	struct ksf_conn **buckets;         /* (q) sessions by address; NULL on a plain socket */
	unsigned nbuckets;                 /* (c) a power of two */
	unsigned nsessions;                /* (q) */
	unsigned limit; /* (c) most of them: this core's share of the parameter `sessions` */
	struct ksf_conn
	    *last; /* (q) session of the last datagram: often that of the next one too */
	struct ksf_list fresh;   /* (q) sessions that have sent one datagram, oldest use first */
	struct ksf_list settled; /* (q) the others, oldest use first */
};

/* Allocate and free conn->dgram. */
int dgram_create(struct ksf_conn *conn);
void dgram_destroy(struct ksf_conn *conn);

/* Where sessions with events hang until the socket's task comes by. */
struct ksf_task **dgram_pending(struct ksf_conn *conn);

/*
 * Queue one datagram on the socket `conn`, in its task; takes q. 0, or ENOBUFS when the socket is
 * full and the datagram is dropped (counted).
 */
int dgram_queue(struct ksf_conn *conn, struct kbufq *q, const struct ksf_addr *peer,
    const struct ksf_addr *local);

/*
 * Sessions, all in the task of their socket.
 */
/* The session of this datagram's sender, a new one if need be; NULL when it is refused (counted).
 */
struct ksf_conn *session_find(struct ksf_conn *sock, const struct host_dgram *dgram);

/* Hand a datagram to its session. */
void session_input(struct ksf_conn *session, struct host_dgram *dgram);

/* Run the sessions that have events. */
void session_run_pending(struct ksf_conn *sock);

/* Close sessions that have been idle for longer than the parameter `session_ms`. */
void session_expire(struct ksf_conn *sock);

/* Close all sessions, or only those without requests in flight. */
void session_close_all(struct ksf_conn *sock, bool idle_only);

/* Hand what other threads have queued on a session to its socket. */
void session_take_inbox(struct ksf_conn *session);

#endif
