/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The user host's types behind src/host/host.h: pthreads and file descriptors.
 */
#ifndef KSF_HOST_TYPES_H
#define KSF_HOST_TYPES_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct host_lock {
	pthread_mutex_t mutex;
};

struct host_cond {
	pthread_cond_t cond;
	clockid_t clock; /* (c) that timed waits are measured by */
};

struct host_thread {
	pthread_t id;
};

/* What host_self() is about; inline, since every allocation and every send asks. */
extern _Thread_local void *host_thread_self;

static inline void *
host_self(void)
{
	return (host_thread_self);
}

struct host_poll;
struct host_events;

struct host_sock {
	int fd;                 /* (q) valid while `open` */
	uint32_t slot;          /* (q) index into the poll's slots while attached */
	struct host_poll *poll; /* (q) NULL while not attached */
	bool open;              /* (q) */
	bool listening;         /* (c) a listener */
	bool stream;            /* (c) an accepted connection */
	bool wildcard;          /* (c) bound to no particular address */
	uint8_t family;         /* (c) enum ksf_family */
};

#endif
