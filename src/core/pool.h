/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The pool of a service: for each core a group, which is a run queue and the worker threads that
 * empty it.
 *
 * Letters in the structures: a = atomic; c = constant while the pool runs; l = the group's lock; w
 * = its worker only (others read counters relaxed); p = the pool's lock.
 */
#ifndef KSF_POOL_H
#define KSF_POOL_H

#include <ksf/task.h>

#include "../host/host.h"
#include "kbuf_cache.h"
#include "list.h"
#include "timer.h"

/* In ksf_task.flags: a task that ksf_svc_stop() waits for. */
#define TASK_COUNTED 0x100u

struct ksf_pool;

/* One worker thread. */
struct ksf_worker {
	struct ksf_group *group;     /* (c) */
	struct host_events *events;  /* (w) what its last poll found */
	struct ksf_task *local;      /* (w) conns' tasks found by its own poll, oldest first */
	struct ksf_task *local_last; /* (w) valid while local is not NULL */
	bool harvesting;             /* (w) in host_poll_post() */
	struct kbuf_cache cache;     /* (w) recycled segments */
	uint64_t *stats;             /* (w) its share of the service's statistics */
	uint64_t spin_ns;            /* (w) how long to look before it sleeps, adapted */
	struct host_thread thread;
	struct ksf_worker *next; /* (l) list of the group */
	bool exited;             /* (l) ended itself; to be joined */
};

struct ksf_group {
	struct ksf_pool *pool;    /* (c) */
	unsigned index;           /* (c) */
	unsigned cpu;             /* (c) first cpu of the core */
	struct host_poll *poll;   /* (c) where idle workers sleep */
	struct timer_wheel wheel; /* timers of this group's conns; has its own lock */

	/* Producers push onto inbox, newest first, without a lock; consumers turn it over into
	 * ready. */
	char pad_producers[KSF_CACHELINE];
	struct ksf_task *inbox; /* (a) */
	unsigned awake;         /* (a) workers that will look at the queue before they sleep */
	unsigned waking;        /* (a) a wake-up is on its way */

	char pad_consumers[KSF_CACHELINE];
	struct host_lock lock;
	struct ksf_task *ready;      /* (l, read a) oldest first */
	struct ksf_task *ready_last; /* (l) valid while ready is not NULL */
	struct ksf_worker *workers;  /* (l) */
	unsigned nworkers;           /* (l, read a) not exited */
	unsigned blocked;            /* (l) workers in a task that may block */
	uint64_t taken;              /* (l) tasks taken so far, to see progress */
	uint64_t taken_seen;         /* (p) `taken` at the last tick of the maintenance thread */
	bool waited;                 /* (p) tasks waited at the last tick */
	char pad_end[KSF_CACHELINE];
};

struct ksf_pool_conf {
	unsigned tdmin, tdmax;   /* workers for each group */
	const uint32_t *spin_us; /* run-time parameter: longest spin before sleep */
	const char *name;        /* for threads */
	const char *backend;     /* event backend of the host */
	const unsigned *cpus;    /* one cpu for each group */
	unsigned ncpus;
	unsigned nstats; /* length of each worker's statistics */
	uint64_t *stats; /* (a) of workers that are gone and other contexts; nstats + 1 of them */
	void (*tick)(void *arg);      /* called by the maintenance thread every POOL_TICK_MS */
	void (*task_done)(void *arg); /* called after each task with TASK_COUNTED */
	void *arg;
};

#define POOL_TICK_MS 100u

struct ksf_pool {
	struct ksf_pool_conf conf; /* (c) */
	struct ksf_group *groups;  /* (c) */
	unsigned ngroups;          /* (c) */
	uint32_t ticks;            /* (a) coarse clock: POOL_TICK_MS each */
	bool stopping;             /* (a) workers end when they find nothing to do */

	struct host_lock lock;
	struct host_cond cond; /* (p) wakes the maintenance thread */
	bool kicked;           /* (p) a group is out of workers */
	bool quit;             /* (p) the maintenance thread ends */
	struct host_thread maintenance;
};

/* 0, or an errno with nothing left behind. Sleepable. */
int pool_start(struct ksf_pool *pool, const struct ksf_pool_conf *conf);

/* Ends all threads; no task may be queued or run any more. Sleepable. */
void pool_stop(struct ksf_pool *pool);

/* Enqueue, and wake a worker if none is awake. Any context. */
void pool_run(struct ksf_group *group, struct ksf_task *task);

/* The calling worker, or NULL on other threads. */
static inline struct ksf_worker *
pool_self(void)
{
	return (host_self());
}

/*
 * Add to a statistic of the calling worker: the only writer of its own counters, it needs no atomic
 * read-modify-write.
 */
static inline void
worker_stat_add(struct ksf_worker *self, unsigned index, uint64_t n)
{
	__atomic_store_n(&self->stats[index], self->stats[index] + n, __ATOMIC_RELAXED);
}

/* Add to a statistic on behalf of a worker (NULL: any other context). */
void pool_stat_add(struct ksf_pool *pool, struct ksf_worker *worker, unsigned index, uint64_t n);

/* The sum over all workers, present and past; index nstats is the number of segments allocated from
 * the system. */
uint64_t pool_stat(struct ksf_pool *pool, unsigned index);

/* Worker threads now. */
unsigned pool_workers(struct ksf_pool *pool);

/* The group of the cpu that the caller runs on, or the `hint`-th one (else the first) when that cpu
 * has none. */
struct ksf_group *pool_group_here(struct ksf_pool *pool, unsigned hint);

/* Coarse time in ticks since the pool started. */
static inline uint32_t
pool_ticks(const struct ksf_pool *pool)
{
	return (__atomic_load_n(&pool->ticks, __ATOMIC_RELAXED));
}

#endif
