/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The timer wheel. Turned by the maintenance thread, armed by conns' tasks; the lock is held for
 * short and is the innermost but for what the due function enqueues.
 */
#include "timer.h"

void
timer_wheel_init(struct timer_wheel *wheel)
{
	host_lock_init(&wheel->lock, "ksf timer wheel");
	wheel->now = 0;
	for (unsigned i = 0; i < TIMER_SLOTS; i++)
		ksf_list_init(&wheel->slots[i]);
}

void
timer_wheel_destroy(struct timer_wheel *wheel)
{
	host_lock_destroy(&wheel->lock);
}

/*
 * Link the timer into the slot of `when`, or, if that is more than a turn away, into the last slot
 * of this turn: it is asked again then. Wheel lock held.
 */
static void
link_timer(struct timer_wheel *wheel, struct timer *timer, uint32_t when)
{
	if (!tick_before(wheel->now, when))
		when = wheel->now + 1;
	else if (when - wheel->now >= TIMER_SLOTS)
		when = wheel->now + TIMER_SLOTS - 1;
	timer->when = when;
	ksf_list_append(&wheel->slots[when % TIMER_SLOTS], &timer->link);
}

void
timer_arm(struct timer_wheel *wheel, struct timer *timer, uint32_t when)
{
	host_lock_acquire(&wheel->lock);
	if (!ksf_list_linked(&timer->link) || tick_before(when, timer->when)) {
		ksf_list_remove(&timer->link);
		link_timer(wheel, timer, when);
	}
	host_lock_release(&wheel->lock);
}

void
timer_cancel(struct timer_wheel *wheel, struct timer *timer)
{
	host_lock_acquire(&wheel->lock);
	ksf_list_remove(&timer->link);
	host_lock_release(&wheel->lock);
}

void
timer_turn(struct timer_wheel *wheel, uint32_t now, timer_due_fn *due)
{
	struct ksf_list *slot, batch;
	struct timer *timer;
	uint32_t when;

	host_lock_acquire(&wheel->lock);
	while (tick_before(wheel->now, now)) {
		wheel->now++;
		slot = &wheel->slots[wheel->now % TIMER_SLOTS];

		/* What is linked again may land in this very slot, one turn later: take the slot
		 * over first. */
		ksf_list_init(&batch);
		while (!ksf_list_empty(slot)) {
			struct ksf_list *link = slot->next;

			ksf_list_remove(link);
			ksf_list_append(&batch, link);
		}
		while (!ksf_list_empty(&batch)) {
			timer = ksf_container_of(batch.next, struct timer, link);
			ksf_list_remove(&timer->link);
			when = due(timer, wheel->now);
			if (when != 0)
				link_timer(wheel, timer, when);
		}
	}
	host_lock_release(&wheel->lock);
}
