/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Events by kqueue(2): EV_CLEAR makes the read filter report changes, like edges. The write filter
 * would report every acknowledgement: it is added for one event, when a send has found no room.
 * Wake-ups are an EVFILT_USER event.
 */
#include "user_poll.h"

#include <stdlib.h>
#include <sys/event.h>
#include <sys/time.h>
#include <unistd.h>

#define WAKE_IDENT 1

_Static_assert(sizeof(void *) >= sizeof(uint64_t), "an event carries a slot's key in a pointer");

struct host_events {
	int count;
	struct kevent list[POLL_EVENTS];
};

static int
kqueue_create_poll(struct host_poll *poll)
{
	struct kevent event;
	int error;

	poll->fd = kqueue();
	if (poll->fd < 0)
		return (errno);
	EV_SET(&event, WAKE_IDENT, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, NULL);
	if (kevent(poll->fd, &event, 1, NULL, 0, NULL) == 0)
		return (0);
	error = errno;
	close(poll->fd);
	return (error);
}

static void
kqueue_destroy(struct host_poll *poll)
{
	close(poll->fd);
}

static int
kqueue_events_create(struct host_events **eventsp, struct host_poll *poll)
{
	(void)poll;
	*eventsp = malloc(sizeof(**eventsp));
	if (*eventsp == NULL)
		return (ENOMEM);
	(*eventsp)->count = 0;
	return (0);
}

static bool
kqueue_wait(struct host_poll *poll, struct host_events *events, int timeout_ms)
{
	struct timespec timeout = { .tv_sec = timeout_ms / 1000,
		.tv_nsec = (long)(timeout_ms % 1000) * 1000000 };
	int n;

	do
		n = kevent(poll->fd, NULL, 0, events->list, POLL_EVENTS,
		    timeout_ms >= 0 ? &timeout : NULL);
	while (n < 0 && errno == EINTR);
	events->count = n > 0 ? n : 0;
	return (n > 0);
}

static unsigned
meaning(const struct kevent *event)
{
	unsigned events = event->filter == EVFILT_WRITE ? HOST_EV_OUT : HOST_EV_IN;

	if (event->flags & EV_EOF) {
		/* On the write filter: the peer takes nothing any more. What is there to read is
		 * still read. */
		events |= event->filter == EVFILT_WRITE ? HOST_EV_IN : HOST_EV_EOF;
		if (event->fflags != 0)
			events |= HOST_EV_ERROR;
	}
	return (events);
}

static void
kqueue_post(struct host_poll *poll, struct host_events *events)
{
	if (events->count == 0)
		return;
	pthread_mutex_lock(&poll->lock);
	for (int i = 0; i < events->count; i++) {
		if (events->list[i].filter != EVFILT_USER)
			slot_post(poll, (uint64_t)(uintptr_t)events->list[i].udata,
			    meaning(&events->list[i]));
	}
	pthread_mutex_unlock(&poll->lock);
	events->count = 0;
}

static void
kqueue_wake(struct host_poll *poll)
{
	struct kevent event;

	EV_SET(&event, WAKE_IDENT, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
	(void)kevent(poll->fd, &event, 1, NULL, 0, NULL);
}

static int
add_filter(struct host_poll *poll, int fd, short filter, unsigned short flags, uint64_t key)
{
	struct kevent event;

	EV_SET(&event, (uintptr_t)fd, filter, EV_ADD | flags, 0, 0, (void *)(uintptr_t)key);
	return (kevent(poll->fd, &event, 1, NULL, 0, NULL) == 0 ? 0 : errno);
}

/* Adding a filter that is there already looks at the state of the socket anew. */
static int
kqueue_attach(struct host_poll *poll, struct host_sock *sock, uint64_t key, bool again)
{
	int error;

	error = add_filter(poll, sock->fd, EVFILT_READ, EV_CLEAR, key);
	if (error == 0 && again && !sock->listening)
		error = add_filter(poll, sock->fd, EVFILT_WRITE, EV_ONESHOT, key);
	return (error);
}

static void
kqueue_want(struct host_poll *poll, struct host_sock *sock, unsigned events)
{
	uint64_t key;

	if (!(events & HOST_EV_OUT))
		return;
	pthread_mutex_lock(&poll->lock);
	key = slot_key(sock->slot, poll->slots[sock->slot].generation);
	pthread_mutex_unlock(&poll->lock);

	/* Short of memory: `stall_timeout_ms` cuts a connection that this leaves waiting. */
	(void)add_filter(poll, sock->fd, EVFILT_WRITE, EV_ONESHOT, key);
}

const struct poll_backend poll_kqueue = {
	.name = "kqueue",
	.create = kqueue_create_poll,
	.destroy = kqueue_destroy,
	.events_create = kqueue_events_create,
	.wait = kqueue_wait,
	.post = kqueue_post,
	.wake = kqueue_wake,
	.attach = kqueue_attach,
	.want = kqueue_want,
};
