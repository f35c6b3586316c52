/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The user host's polls: slots, and the choice of a backend. Workers call host_poll_wait() and
 * host_poll_post(), any thread host_poll_wake().
 */
#include "user_poll.h"

#include <stdlib.h>

static const struct poll_backend *
find_backend(const char *name)
{
	if (strcmp(name, "auto") == 0)
		return (poll_backends[0]);
	for (unsigned i = 0; poll_backends[i] != NULL; i++) {
		if (strcmp(poll_backends[i]->name, name) == 0)
			return (poll_backends[i]);
	}
	return (NULL);
}

bool
host_backend_known(const char *name)
{
	return (find_backend(name) != NULL);
}

int
host_poll_create(struct host_poll **pollp, const char *backend)
{
	struct host_poll *poll;
	int error;

	poll = calloc(1, sizeof(*poll));
	if (poll == NULL)
		return (ENOMEM);
	poll->backend = find_backend(backend);
	poll->wake_fd = -1;
	poll->free = SLOT_NONE;
	error = pthread_mutex_init(&poll->lock, NULL);
	if (error != 0) {
		free(poll);
		return (error);
	}
	error = poll->backend != NULL ? poll->backend->create(poll) : ENOENT;
	if (error != 0) {
		pthread_mutex_destroy(&poll->lock);
		free(poll);
		return (error);
	}
	*pollp = poll;
	return (0);
}

void
host_poll_destroy(struct host_poll *poll)
{
	poll->backend->destroy(poll);
	pthread_mutex_destroy(&poll->lock);
	free(poll->slots);
	free(poll);
}

int
host_events_create(struct host_events **eventsp, struct host_poll *poll)
{
	return (poll->backend->events_create(eventsp, poll));
}

/* Events remember nothing of their poll: every backend's are one block of memory. */
void
host_events_destroy(struct host_events *events)
{
	free(events);
}

bool
host_poll_wait(struct host_poll *poll, struct host_events *events, unsigned timeout_ms)
{
	return (
	    poll->backend->wait(poll, events, timeout_ms == HOST_FOREVER ? -1 : (int)timeout_ms));
}

void
host_poll_post(struct host_poll *poll, struct host_events *events)
{
	poll->backend->post(poll, events);
}

void
host_poll_wake(struct host_poll *poll)
{
	poll->backend->wake(poll);
}

/*
 * Slots.
 */
static int
slot_take(struct host_poll *poll, struct ksf_conn *conn, uint32_t *index, uint64_t *key)
{
	struct slot *slots;
	uint32_t n;

	pthread_mutex_lock(&poll->lock);
	if (poll->free == SLOT_NONE) {
		n = poll->nslots != 0 ? poll->nslots * 2 : 64;
		slots = realloc(poll->slots, n * sizeof(slots[0]));
		if (slots == NULL) {
			pthread_mutex_unlock(&poll->lock);
			return (ENOMEM);
		}
		poll->slots = slots;
		for (uint32_t i = n; i-- > poll->nslots;) {
			slots[i].conn = NULL;
			slots[i].state = NULL;
			slots[i].generation = 0;
			slots[i].next_free = poll->free;
			poll->free = i;
		}
		poll->nslots = n;
	}
	*index = poll->free;
	poll->free = poll->slots[*index].next_free;
	poll->slots[*index].conn = conn;
	*key = slot_key(*index, poll->slots[*index].generation);
	pthread_mutex_unlock(&poll->lock);
	return (0);
}

static void
slot_release(struct host_poll *poll, uint32_t index)
{
	struct slot *slot;

	pthread_mutex_lock(&poll->lock);
	slot = &poll->slots[index];
	if (slot->state != NULL)
		poll->backend->detach(poll, slot, slot_key(index, slot->generation));
	slot->conn = NULL;
	slot->generation++;
	slot->next_free = poll->free;
	poll->free = index;
	pthread_mutex_unlock(&poll->lock);
}

struct slot *
slot_find(struct host_poll *poll, uint64_t key)
{
	uint32_t index = (uint32_t)key;
	struct slot *slot;

	if (index >= poll->nslots)
		return (NULL);
	slot = &poll->slots[index];
	return (slot->conn != NULL && slot->generation == key >> 32 ? slot : NULL);
}

void
slot_post(struct host_poll *poll, uint64_t key, unsigned events)
{
	struct slot *slot = slot_find(poll, key);

	if (slot != NULL)
		core_sock_event(slot->conn, events);
}

int
host_sock_attach(struct host_sock *sock, struct host_poll *poll, struct ksf_conn *conn)
{
	uint64_t key;
	int error;

	error = slot_take(poll, conn, &sock->slot, &key);
	if (error != 0)
		return (error);
	sock->poll = poll;
	error = poll->backend->attach(poll, sock, key, false);
	if (error != 0) {
		slot_release(poll, sock->slot);
		sock->poll = NULL;
	}
	return (error);
}

void
poll_detach(struct host_sock *sock)
{
	if (sock->poll == NULL)
		return;
	slot_release(sock->poll, sock->slot);
	sock->poll = NULL;
}

void
poll_again(struct host_sock *sock)
{
	struct host_poll *poll = sock->poll;
	uint64_t key;

	if (poll == NULL)
		return;
	pthread_mutex_lock(&poll->lock);
	key = slot_key(sock->slot, poll->slots[sock->slot].generation);
	pthread_mutex_unlock(&poll->lock);
	(void)poll->backend->attach(poll, sock, key, true);
}

int
poll_want(struct host_sock *sock, unsigned events)
{
	if (sock->poll != NULL && sock->poll->backend->want != NULL)
		sock->poll->backend->want(sock->poll, sock, events);
	return (EAGAIN);
}
