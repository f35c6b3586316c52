/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Waiting for many sockets at once: epoll on Linux, kqueue on FreeBSD, both level-triggered. A
 * queue belongs to one thread. Nothing but evqueue_wait() sleeps.
 */
#ifndef TOOLS_EVQUEUE_H
#define TOOLS_EVQUEUE_H

#include <stdint.h>

#define EVQUEUE_READ  1u
#define EVQUEUE_WRITE 2u

struct evqueue;

struct evqueue_event {
	void *data; /* as given to evqueue_change() */
	unsigned
	    events; /* EVQUEUE_READ, EVQUEUE_WRITE or both; an error or hang-up sets both or READ */
};

/* A new queue, or NULL with errno set. */
struct evqueue *evqueue_create(void);

void evqueue_destroy(struct evqueue *queue);

/*
 * Change what the queue waits for on `fd` from `was` to `is` (sets of EVQUEUE_READ and
 * EVQUEUE_WRITE, 0 for not in the queue). `was` must be what the last call for this open descriptor
 * set. Returns 0 or an errno value.
 */
int evqueue_change(struct evqueue *queue, int fd, unsigned was, unsigned is, void *data);

/*
 * Wait up to `timeout_ns` for events and store at most `max` of them (at most EVQUEUE_BATCH).
 * Returns how many, 0 after the timeout or a signal. One descriptor may be reported twice in one
 * call, once for each of READ and WRITE.
 */
#define EVQUEUE_BATCH 256
int evqueue_wait(struct evqueue *queue, struct evqueue_event *events, int max, uint64_t timeout_ns);

#endif
