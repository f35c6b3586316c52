/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The messages in flight on one connection: which were started when, which came back, which are
 * lost. Belongs to the connection's worker thread; on the hot path, so the two calls per message
 * are inline and never allocate. Message ids count up from 0; slots are reused once a message is
 * over.
 */
#ifndef TOOLS_WINDOW_H
#define TOOLS_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hist.h"

/* What became of the messages of one worker's windows in one iteration. Disjoint but for reordered.
 */
struct window_counts {
	uint64_t started;   /* messages sent for the first and only time */
	uint64_t completed; /* came back in time */
	uint64_t lost;      /* not back within the timeout, nor later */
	uint64_t late;      /* came back after having been given up */
	uint64_t duplicate; /* replies to messages already over */
	uint64_t reordered; /* completed, but after a message sent later */
};

/* `start` of a slot whose message is over; a message in flight has its start time there. */
#define WINDOW_DONE 0ull
#define WINDOW_LOST 1ull

struct window_slot {
	uint64_t id;
	uint64_t start; /* ns: latency counts from here (the intended time in an open loop) */
	uint64_t sent;  /* ns: the timeout counts from here */
};

struct window {
	struct window_slot *slot; /* power of two, indexed by id & mask */
	uint64_t mask;
	uint64_t next;      /* id of the next message to start */
	uint64_t oldest;    /* no message before this one is in flight */
	uint64_t highest;   /* one more than the highest id that came back */
	unsigned in_flight; /* messages started and not over */
	unsigned limit;     /* largest value of in_flight */
	bool missing;       /* some message was given up in this window's life */
	struct window_counts *counts;
	struct hist *latency;
};

enum window_verdict {
	WINDOW_COMPLETED, /* was in flight; its latency is recorded */
	WINDOW_DUPLICATE, /* has come back before */
	WINDOW_TOO_LATE,  /* had been given up */
	WINDOW_UNKNOWN    /* was never sent */
};

/*
 * Make an empty window for up to `limit` messages in flight that remembers at least `history`
 * messages. Counts and latencies go to the given places. False when there is no memory.
 */
bool window_init(struct window *window, unsigned limit, unsigned history,
    struct window_counts *counts, struct hist *latency);

void window_destroy(struct window *window);

/* Give up every message sent at or before `cutoff` ns. Returns how many. */
unsigned window_expire(struct window *window, uint64_t cutoff);

/*
 * For messages too short to carry a whole id: which one comes back when the low `bits` bits (0 to
 * 63) of its id are those of `low`. Of such messages in flight the one nearest to the highest that
 * came back, or else the oldest; if there is none, the newest that was given up, or else the newest
 * of all. False when no such message was ever started.
 */
bool window_find(const struct window *window, uint64_t low, unsigned bits, uint64_t *id);

/* How many messages may be started now. */
static inline unsigned
window_room(const struct window *window)
{
	uint64_t slots;
	unsigned room;

	room = window->limit - window->in_flight;
	slots = window->mask + 1 - (window->next - window->oldest);
	return (room < slots ? room : (unsigned)slots);
}

/* Start the next message; the caller has checked that there is room. */
static inline void
window_start(struct window *window, uint64_t start, uint64_t sent)
{
	struct window_slot *slot;

	slot = &window->slot[window->next & window->mask];
	slot->id = window->next++;
	slot->start = start;
	slot->sent = sent;
	window->in_flight++;
	window->counts->started++;
}

/* Move `oldest` over the messages that are over. */
static inline void
window_advance(struct window *window)
{
	while (window->oldest < window->next &&
	       window->slot[window->oldest & window->mask].start <= WINDOW_LOST)
		window->oldest++;
}

/* Message `id` came back at `now` ns: record its latency if it was in flight, and count it. */
static inline enum window_verdict
window_complete(struct window *window, uint64_t id, uint64_t now)
{
	struct window_slot *slot;

	if (id >= window->next)
		return (WINDOW_UNKNOWN);
	slot = &window->slot[id & window->mask];
	if (slot->id != id || slot->start <= WINDOW_LOST) {
		if (slot->id != id ? !window->missing : slot->start == WINDOW_DONE) {
			window->counts->duplicate++;
			return (WINDOW_DUPLICATE);
		}
		if (slot->id == id)
			slot->start = WINDOW_DONE;
		if (window->counts->lost > 0)
			window->counts->lost--;
		window->counts->late++;
		return (WINDOW_TOO_LATE);
	}

	hist_record(window->latency, now > slot->start ? now - slot->start : 0);
	slot->start = WINDOW_DONE;
	window->in_flight--;
	window->counts->completed++;
	if (id < window->highest)
		window->counts->reordered++;
	else
		window->highest = id + 1;
	window_advance(window);
	return (WINDOW_COMPLETED);
}

#endif
