/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Coarse timers: one wheel for each group, turned by the maintenance thread. A timer that is moved
 * to later costs nothing: it stays in its slot, and when that comes up its owner is asked for the
 * time that counts by then.
 */
#ifndef KSF_TIMER_H
#define KSF_TIMER_H

#include "../host/host.h"
#include "list.h"

#define TIMER_SLOTS 512u /* a power of two */

struct timer {
	struct ksf_list link; /* (wheel lock) slot it is in */
	uint32_t when; /* (wheel lock; owner may read) tick of that slot; meaningful while linked */
};

struct timer_wheel {
	struct host_lock lock;
	uint32_t now; /* (lock) last tick that was turned to */
	struct ksf_list slots[TIMER_SLOTS];
};

/*
 * Called with the wheel's lock held, for a timer whose slot has come: the tick at which it is to be
 * seen again, or 0 for never (it is removed). It may set bits and enqueue tasks.
 */
typedef uint32_t timer_due_fn(struct timer *timer, uint32_t now);

void timer_wheel_init(struct timer_wheel *wheel);
void timer_wheel_destroy(struct timer_wheel *wheel);

/* See that the timer is looked at no later than at tick `when`. Any context. */
void timer_arm(struct timer_wheel *wheel, struct timer *timer, uint32_t when);

/* When it returns, the timer is not linked and its due function does not run. */
void timer_cancel(struct timer_wheel *wheel, struct timer *timer);

/* Advance to tick `now`. */
void timer_turn(struct timer_wheel *wheel, uint32_t now, timer_due_fn *due);

/* a before b, for ticks that wrap. */
static inline bool
tick_before(uint32_t a, uint32_t b)
{
	return ((int32_t)(a - b) < 0);
}

#endif
