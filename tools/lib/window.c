/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The messages in flight on one connection: setting up, giving up, looking up. Runs in the worker
 * thread that owns the connection.
 */
#include "window.h"

#include <stdlib.h>
#include <string.h>

bool
window_init(struct window *window, unsigned limit, unsigned history, struct window_counts *counts,
    struct hist *latency)
{
	uint64_t slots;

	memset(window, 0, sizeof(*window));
	slots = 1;
	while (slots < limit || slots < history)
		slots *= 2;

	window->slot = calloc(slots, sizeof(*window->slot));
	if (window->slot == NULL)
		return (false);
	window->mask = slots - 1;
	window->limit = limit;
	window->counts = counts;
	window->latency = latency;
	return (true);
}

void
window_destroy(struct window *window)
{
	free(window->slot);
	memset(window, 0, sizeof(*window));
}

/* The slot of a message that is not older than the window's history. */
static struct window_slot *
slot_of(const struct window *window, uint64_t id)
{
	return (&window->slot[id & window->mask]);
}

unsigned
window_expire(struct window *window, uint64_t cutoff)
{
	struct window_slot *slot;
	unsigned expired;
	uint64_t id;

	/* Messages are started in the order of their ids, so the first young one ends the search.
	 */
	expired = 0;
	for (id = window->oldest; id < window->next; id++) {
		slot = slot_of(window, id);
		if (slot->start <= WINDOW_LOST)
			continue;
		if (slot->sent > cutoff)
			break;
		slot->start = WINDOW_LOST;
		expired++;
	}

	if (expired > 0) {
		window->in_flight -= expired;
		window->counts->lost += expired;
		window->missing = true;
		window_advance(window);
	}
	return (expired);
}

/* Whether a message is in flight; any id will do. */
static bool
in_flight(const struct window *window, uint64_t id)
{
	return (
	    id >= window->oldest && id < window->next && slot_of(window, id)->start > WINDOW_LOST);
}

/* The oldest message in flight at or after `id`, in steps of `step`. False when there is none. */
static bool
find_in_flight(const struct window *window, uint64_t id, uint64_t step, uint64_t *found)
{
	for (; id < window->next; id += step) {
		if (in_flight(window, id)) {
			*found = id;
			return (true);
		}
	}
	return (false);
}

bool
window_find(const struct window *window, uint64_t low, unsigned bits, uint64_t *id)
{
	uint64_t ahead, candidate, forgotten, step;

	/* Most likely it is the one nearest to the highest that came back so far. */
	step = 1ull << bits;
	ahead = (low - window->highest) & (step - 1);
	candidate = window->highest + ahead;
	if (ahead > step / 2 && candidate >= step && in_flight(window, candidate - step))
		candidate -= step;
	if (in_flight(window, candidate)) {
		*id = candidate;
		return (true);
	}
	candidate = window->oldest + ((low - window->oldest) & (step - 1));
	if (find_in_flight(window, candidate, step, id))
		return (true);

	/* None is in flight: go back from the newest one. */
	candidate = window->next - 1 - ((window->next - 1 - low) & (step - 1));
	if (candidate >= window->next)
		return (false);
	*id = candidate;
	forgotten = window->next > window->mask ? window->next - window->mask - 1 : 0;
	while (window->missing && candidate >= forgotten) {
		if (slot_of(window, candidate)->start == WINDOW_LOST) {
			*id = candidate;
			break;
		}
		if (candidate < step)
			break;
		candidate -= step;
	}
	return (true);
}
