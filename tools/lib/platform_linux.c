/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Linux: the event queue on epoll (evqueue.h), CPU affinity and timer slack (affinity.h). The same
 * functions in the same order as platform_freebsd.c.
 */
#include <sys/epoll.h>
#include <sys/prctl.h>

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "affinity.h"
#include "clock.h"
#include "evqueue.h"

struct evqueue {
	int fd;
	struct epoll_event ready[EVQUEUE_BATCH];
};

struct evqueue *
evqueue_create(void)
{
	struct evqueue *queue;

	queue = calloc(1, sizeof(*queue));
	if (queue == NULL)
		return (NULL);
	queue->fd = epoll_create1(EPOLL_CLOEXEC);
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
	struct epoll_event event;
	int operation;

	if (was == is)
		return (0);
	operation = was == 0 ? EPOLL_CTL_ADD : is == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
	event.events = (is & EVQUEUE_READ ? EPOLLIN : 0u) | (is & EVQUEUE_WRITE ? EPOLLOUT : 0u);
	event.data.ptr = data;
	return (epoll_ctl(queue->fd, operation, fd, &event) == 0 ? 0 : errno);
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
	ready = epoll_pwait2(queue->fd, queue->ready, max, &timeout, NULL);

	for (i = 0; i < ready; i++) {
		events[i].data = queue->ready[i].data.ptr;
		events[i].events = 0;
		if (queue->ready[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP))
			events[i].events |= EVQUEUE_READ;
		if (queue->ready[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
			events[i].events |= EVQUEUE_WRITE;
	}
	return (ready > 0 ? ready : 0);
}

unsigned
affinity_get(unsigned *cpus, unsigned max)
{
	unsigned count, cpu;
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) != 0)
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
	cpu_set_t set;

	if (cpu >= CPU_SETSIZE)
		return (EINVAL);
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return (sched_setaffinity(0, sizeof(set), &set) == 0 ? 0 : errno);
}

void
affinity_precise_sleep(void)
{
	prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul);
}
