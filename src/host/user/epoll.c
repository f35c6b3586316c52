/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Events by epoll(7), edge-triggered: a socket is added once and never touched again. Wake-ups are
 * an eventfd in the same set.
 */
#include "user_poll.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct host_events {
	int count;
	struct epoll_event list[POLL_EVENTS];
};

static int
epoll_create_poll(struct host_poll *poll)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.u64 = SLOT_NONE };
	int error;

	poll->fd = epoll_create1(EPOLL_CLOEXEC);
	if (poll->fd < 0)
		return (errno);
	poll->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (poll->wake_fd >= 0 && epoll_ctl(poll->fd, EPOLL_CTL_ADD, poll->wake_fd, &event) == 0)
		return (0);
	error = errno;
	if (poll->wake_fd >= 0)
		close(poll->wake_fd);
	close(poll->fd);
	return (error);
}

static void
epoll_destroy(struct host_poll *poll)
{
	close(poll->wake_fd);
	close(poll->fd);
}

static int
epoll_events_create(struct host_events **eventsp, struct host_poll *poll)
{
	(void)poll;
	*eventsp = malloc(sizeof(**eventsp));
	if (*eventsp == NULL)
		return (ENOMEM);
	(*eventsp)->count = 0;
	return (0);
}

static bool
epoll_wait_events(struct host_poll *poll, struct host_events *events, int timeout_ms)
{
	int n;

	do
		n = epoll_wait(poll->fd, events->list, POLL_EVENTS, timeout_ms);
	while (n < 0 && errno == EINTR);
	events->count = n > 0 ? n : 0;
	return (n > 0);
}

static unsigned
meaning(uint32_t epoll_events)
{
	unsigned events = 0;

	if (epoll_events & EPOLLIN)
		events |= HOST_EV_IN;
	if (epoll_events & EPOLLOUT)
		events |= HOST_EV_OUT;
	/* A receive call stops at an urgent mark: a short one then does not mean an empty socket.
	 */
	if (epoll_events & (EPOLLRDHUP | EPOLLHUP | EPOLLPRI))
		events |= HOST_EV_EOF;
	if (epoll_events & EPOLLERR)
		events |= HOST_EV_ERROR;
	return (events);
}

static void
epoll_post(struct host_poll *poll, struct host_events *events)
{
	if (events->count == 0)
		return;
	pthread_mutex_lock(&poll->lock);
	for (int i = 0; i < events->count; i++) {
		/* The eventfd counts on and is never read: every write is an edge. */
		if (events->list[i].data.u64 != SLOT_NONE)
			slot_post(poll, events->list[i].data.u64, meaning(events->list[i].events));
	}
	pthread_mutex_unlock(&poll->lock);
	events->count = 0;
}

static void
epoll_wake(struct host_poll *poll)
{
	uint64_t one = 1;

	/* It cannot fail before 2^64 wake-ups. */
	(void)!write(poll->wake_fd, &one, sizeof(one));
}

static int
epoll_attach(struct host_poll *poll, struct host_sock *sock, uint64_t key, bool again)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET,
		.data.u64 = key };

	return (epoll_ctl(poll->fd, again ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, sock->fd, &event) == 0
		    ? 0
		    : errno);
}

const struct poll_backend poll_epoll = {
	.name = "epoll",
	.create = epoll_create_poll,
	.destroy = epoll_destroy,
	.events_create = epoll_events_create,
	.wait = epoll_wait_events,
	.post = epoll_post,
	.wake = epoll_wake,
	.attach = epoll_attach,
};
