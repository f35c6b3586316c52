/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A crew of threads, each pinned to a CPU if asked, that start together: the main thread creates
 * and joins them, they meet at a barrier. The threads block every signal, so that signals reach the
 * main thread only.
 */
#ifndef TOOLS_THREADS_H
#define TOOLS_THREADS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct thread {
	struct threads *crew;
	pthread_t id;
	unsigned index;
	int cpu; /* where it is pinned, or -1 */
};

struct threads {
	unsigned count;
	unsigned running; /* (lock) not yet finished */
	unsigned arrived; /* (lock) waiting at the barrier */
	bool released;    /* (lock) the barrier is open */
	bool incomplete;  /* (lock) a thread could not be created */
	pthread_mutex_t lock;
	pthread_cond_t changed; /* running, released */
	void (*run)(void *arg, unsigned index);
	void *arg;
	struct thread *thread;
};

/*
 * Start `count` threads that run run(arg, index). Thread i runs on cpus[i % ncpus]; ncpus 0 leaves
 * all threads where the system puts them. A CPU that cannot be had is reported and the thread runs
 * unpinned. Returns 0 or an errno value, in which case no thread is left.
 */
int threads_start(struct threads *crew, unsigned count, const unsigned *cpus, unsigned ncpus,
    void (*run)(void *arg, unsigned index), void *arg);

/*
 * Called once by every thread: wait until all of them have called it. False when the crew is
 * incomplete because a thread could not be created: the caller must then return without working.
 */
bool threads_barrier(struct threads *crew);

/* Wait up to `timeout_ns` (UINT64_MAX: for ever) for all threads to finish. True when they have. */
bool threads_wait(struct threads *crew, uint64_t timeout_ns);

/* Join the threads and release what threads_start() took. */
void threads_join(struct threads *crew);

#endif
