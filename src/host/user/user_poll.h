/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the event backends of the user host share: slots, by which an event finds its conn.
 *
 * A worker may hold events in its hand while another worker closes the socket they are about. So
 * events do not carry a pointer but a slot's index and generation; closing changes the generation
 * under the lock, and posting looks at it under the same lock. After host_sock_close() no event of
 * the socket can be reported.
 */
#ifndef KSF_USER_POLL_H
#define KSF_USER_POLL_H

#include "../host.h"

#define POLL_EVENTS 128        /* taken from the system in one call */
#define SLOT_NONE   UINT32_MAX /* the wake-up's index, and the end of the list of free slots */

struct slot {
	struct ksf_conn *conn; /* NULL while free */
	void *state;           /* the backend's own, or NULL */
	uint32_t generation;
	uint32_t next_free;
};

struct host_poll {
	const struct poll_backend *backend; /* (c) */
	int fd;                             /* (c) the system's event queue */
	int wake_fd;                        /* (c) eventfd; -1 where the queue has its own way */
	pthread_mutex_t lock;
	struct slot *slots; /* (lock) */
	uint32_t nslots;    /* (lock) */
	uint32_t free;      /* (lock) first free slot */
	void *state;        /* (c) the backend's own */
};

/* One backend. All but detach are called with the poll's lock not held. */
struct poll_backend {
	const char *name;
	int (*create)(struct host_poll *poll);
	void (*destroy)(struct host_poll *poll);
	int (*events_create)(struct host_events **eventsp, struct host_poll *poll);
	bool (*wait)(struct host_poll *poll, struct host_events *events, int timeout_ms);
	void (*post)(struct host_poll *poll, struct host_events *events);
	void (*wake)(struct host_poll *poll);
	int (*attach)(struct host_poll *poll, struct host_sock *sock, uint64_t key, bool again);

	/*
	 * NULL in a backend that watches descriptors only. detach: the slot is about to be
	 * released; want: as poll_want(); recv: host_sock_recv() of streams; error: what the
	 * backend has learnt in the system's place, asked before SO_ERROR.
	 */
	void (*detach)(struct host_poll *poll, struct slot *slot, uint64_t key);
	void (*want)(struct host_poll *poll, struct host_sock *sock, unsigned events);
	int (*recv)(struct host_poll *poll, struct host_sock *sock, struct kbufq *q, size_t max,
	    bool *more);
	int (*error)(struct host_poll *poll, struct host_sock *sock);
};

extern const struct poll_backend *const poll_backends[]; /* the default first; NULL ends */

/* The value that an event of this slot carries. */
static inline uint64_t
slot_key(uint32_t index, uint32_t generation)
{
	return ((uint64_t)generation << 32 | index);
}

/* The slot that this key means, or NULL when the socket has been closed. Poll lock held. */
struct slot *slot_find(struct host_poll *poll, uint64_t key);

/* Report HOST_EV_* for the conn behind key, if it is still there. Poll lock held. */
void slot_post(struct host_poll *poll, uint64_t key, unsigned events);

/* No event of the socket is reported from now on. */
void poll_detach(struct host_sock *sock);

/* See that the present state of the socket is reported again, after a fault that the system knows
 * nothing of. */
void poll_again(struct host_sock *sock);

/*
 * A call has found no input (HOST_EV_IN) or no room (HOST_EV_OUT): see that it will be reported.
 * Returns EAGAIN.
 */
int poll_want(struct host_sock *sock, unsigned events);

/* Streams: host_sock_recv() by a system call. */
int sock_recv_now(struct host_sock *sock, struct kbufq *q, size_t max, bool *more);

#endif
