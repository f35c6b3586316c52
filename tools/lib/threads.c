/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A crew of pinned threads and their barrier. threads_barrier() runs in the crew, the rest in the
 * main thread. The barrier sleeps; it never spins.
 */
#include "threads.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "affinity.h"
#include "clock.h"
#include "message.h"

static void *
thread_main(void *arg)
{
	struct thread *thread = arg;
	struct threads *crew = thread->crew;
	int error;

	if (thread->cpu >= 0) {
		error = affinity_pin((unsigned)thread->cpu);
		if (error != 0)
			message("thread %u: cannot be pinned to cpu %d: %s", thread->index,
			    thread->cpu, strerror(error));
	}

	crew->run(crew->arg, thread->index);

	pthread_mutex_lock(&crew->lock);
	crew->running--;
	pthread_cond_broadcast(&crew->changed);
	pthread_mutex_unlock(&crew->lock);
	return (NULL);
}

/* Create a condition variable that measures timeouts with the monotonic clock. */
static int
create_condition(pthread_cond_t *condition)
{
	pthread_condattr_t attributes;
	int error;

	error = pthread_condattr_init(&attributes);
	if (error != 0)
		return (error);
	error = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	if (error == 0)
		error = pthread_cond_init(condition, &attributes);
	pthread_condattr_destroy(&attributes);
	return (error);
}

/* Open the barrier if everybody who will ever come is there; the lock is held. */
static void
open_barrier_if_complete(struct threads *crew)
{
	if (crew->arrived < crew->count)
		return;
	crew->released = true;
	pthread_cond_broadcast(&crew->changed);
}

int
threads_start(struct threads *crew, unsigned count, const unsigned *cpus, unsigned ncpus,
    void (*run)(void *arg, unsigned index), void *arg)
{
	sigset_t all, saved;
	struct thread *thread;
	unsigned i;
	int error;

	memset(crew, 0, sizeof(*crew));
	crew->run = run;
	crew->arg = arg;
	crew->thread = calloc(count, sizeof(*crew->thread));
	if (crew->thread == NULL)
		return (ENOMEM);
	error = create_condition(&crew->changed);
	if (error != 0) {
		free(crew->thread);
		return (error);
	}
	pthread_mutex_init(&crew->lock, NULL);

	/* Threads inherit the mask: only the main thread handles signals. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	crew->count = count;
	crew->running = count;
	for (i = 0; i < count; i++) {
		thread = &crew->thread[i];
		thread->crew = crew;
		thread->index = i;
		thread->cpu = ncpus > 0 ? (int)cpus[i % ncpus] : -1;
		error = pthread_create(&thread->id, NULL, thread_main, thread);
		if (error != 0)
			break;
	}
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	if (error == 0)
		return (0);

	/* The threads that exist must not wait for those that do not. */
	pthread_mutex_lock(&crew->lock);
	crew->running -= count - i;
	crew->count = i;
	crew->incomplete = true;
	open_barrier_if_complete(crew);
	pthread_mutex_unlock(&crew->lock);
	threads_join(crew);
	return (error);
}

bool
threads_barrier(struct threads *crew)
{
	bool complete;

	pthread_mutex_lock(&crew->lock);
	crew->arrived++;
	open_barrier_if_complete(crew);
	while (!crew->released)
		pthread_cond_wait(&crew->changed, &crew->lock);
	complete = !crew->incomplete;
	pthread_mutex_unlock(&crew->lock);
	return (complete);
}

bool
threads_wait(struct threads *crew, uint64_t timeout_ns)
{
	struct timespec until;
	uint64_t deadline;
	bool finished;
	int error;

	deadline = clock_ns();
	deadline = timeout_ns < UINT64_MAX - deadline ? deadline + timeout_ns : UINT64_MAX;
	until.tv_sec = (time_t)(deadline / CLOCK_NS_PER_S);
	until.tv_nsec = (long)(deadline % CLOCK_NS_PER_S);

	error = 0;
	pthread_mutex_lock(&crew->lock);
	while (crew->running > 0 && error == 0) {
		if (deadline == UINT64_MAX)
			error = pthread_cond_wait(&crew->changed, &crew->lock);
		else
			error = pthread_cond_timedwait(&crew->changed, &crew->lock, &until);
	}
	finished = crew->running == 0;
	pthread_mutex_unlock(&crew->lock);
	return (finished);
}

void
threads_join(struct threads *crew)
{
	unsigned i;

	for (i = 0; i < crew->count; i++)
		pthread_join(crew->thread[i].id, NULL);
	pthread_cond_destroy(&crew->changed);
	pthread_mutex_destroy(&crew->lock);
	free(crew->thread);
	crew->thread = NULL;
}
