/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * FreeBSD: the event queue on kqueue (evqueue.h) and CPU affinity (affinity.h). The same functions
 * in the same order as platform_linux.c.
 */
#include <sys/param.h>
#include <sys/cpuset.h>
#include <sys/event.h>

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "affinity.h"
#include "clock.h"
#include "evqueue.h"

struct evqueue {
	int fd;
	struct kevent ready[EVQUEUE_BATCH];
};

struct evqueue *
evqueue_create(void)
{
	struct evqueue *queue;

	queue = calloc(1, sizeof(*queue));
	if (queue == NULL)
		return (NULL);
	queue->fd = kqueue();
	if (queue->fd == -1) {
		free(queue);
		return (NULL);
	}
	return (queue);
}

void
evqueue_destroy(struct evqueue *queue)
{
	if (queue == NULL)
		return;
	close(queue->fd);
	free(queue);
}

int
evqueue_change(struct evqueue *queue, int fd, unsigned was, unsigned is, void *data)
{
	struct kevent changes[2];
	int count;

	count = 0;
	if ((was ^ is) & EVQUEUE_READ)
		EV_SET(&changes[count++], (uintptr_t)fd, EVFILT_READ,
		    is & EVQUEUE_READ ? EV_ADD : EV_DELETE, 0, 0, data);
	if ((was ^ is) & EVQUEUE_WRITE)
		EV_SET(&changes[count++], (uintptr_t)fd, EVFILT_WRITE,
		    is & EVQUEUE_WRITE ? EV_ADD : EV_DELETE, 0, 0, data);
	if (count == 0)
		return (0);
	return (kevent(queue->fd, changes, count, NULL, 0, NULL) == 0 ? 0 : errno);
}

int
evqueue_wait(struct evqueue *queue, struct evqueue_event *events, int max, uint64_t timeout_ns)
{
	struct timespec timeout;
	int i, ready;

	if (max > EVQUEUE_BATCH)
		max = EVQUEUE_BATCH;
	timeout.tv_sec = (time_t)(timeout_ns / CLOCK_NS_PER_S);
	timeout.tv_nsec = (long)(timeout_ns % CLOCK_NS_PER_S);
	ready = kevent(queue->fd, NULL, 0, queue->ready, max, &timeout);

	for (i = 0; i < ready; i++) {
		events[i].data = queue->ready[i].udata;
		events[i].events = queue->ready[i].filter == EVFILT_READ ? EVQUEUE_READ
									 : EVQUEUE_WRITE;
	}
	return (ready > 0 ? ready : 0);
}

unsigned
affinity_get(unsigned *cpus, unsigned max)
{
	unsigned count, cpu;
	cpuset_t set;

	if (cpuset_getaffinity(CPU_LEVEL_WHICH, CPU_WHICH_TID, -1, sizeof(set), &set) != 0)
		return (0);
	count = 0;
	for (cpu = 0; cpu < CPU_SETSIZE && count < max; cpu++) {
		if (CPU_ISSET(cpu, &set))
			cpus[count++] = cpu;
	}
	return (count);
}

int
affinity_pin(unsigned cpu)
{
	cpuset_t set;

	if (cpu >= CPU_SETSIZE)
		return (EINVAL);
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (cpuset_setaffinity(CPU_LEVEL_WHICH, CPU_WHICH_TID, -1, sizeof(set), &set) != 0)
		return (errno);
	return (0);
}

void
affinity_precise_sleep(void)
{
	/* FreeBSD bounds the slack of a sleep by kern.timecounter.alloweddeviation only. */
}
