/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The timer wheel (src/core/timer.h) against a model that knows every deadline: fires at its tick,
 * once, near or many turns away, moved to earlier or later, cancelled, across the wrap of tick
 * numbers. One thread, no clock.
 */
#include "../../src/core/core.h"

#include "tap.h"

#define TIMERS 300u

/* A timer and what its owner wants. */
struct owner {
	struct timer timer;
	uint32_t deadline; /* 0: none */
	uint32_t looks;    /* times the wheel asked */
	bool expected;     /* to fire during this turn */
};

static struct timer_wheel wheel;
static struct owner owners[TIMERS];
static unsigned fired, early, wrong;

static uint32_t
owner_due(struct timer *timer, uint32_t now)
{
	struct owner *owner = ksf_container_of(timer, struct owner, timer);

	owner->looks++;
	if (ksf_list_linked(&timer->link))
		wrong++;
	if (owner->deadline == 0)
		return (0);
	if (tick_before(now, owner->deadline)) {
		early++;
		return (owner->deadline);
	}

	/* Every tick is turned to, so it comes at its tick and no later. */
	if (now != owner->deadline || !owner->expected)
		wrong++;
	owner->expected = false;
	owner->deadline = 0;
	fired++;
	return (0);
}

/* Tick 0 stands for no deadline. */
static uint32_t
not_zero(uint32_t tick)
{
	return (tick != 0 ? tick : 1);
}

static uint32_t
some_distance(void)
{
	switch (random_below(4)) {
	case 0:
		return (1 + (uint32_t)random_below(4));
	case 1:
		return (TIMER_SLOTS - 2 + (uint32_t)random_below(4));
	case 2:
		return (1 + (uint32_t)random_below(10 * TIMER_SLOTS));
	default:
		return (1 + (uint32_t)random_below(100));
	}
}

static void
set_deadline(struct owner *owner, uint32_t deadline)
{
	/* As a conn does: a later deadline is only noted, an earlier one or a first one arms. */
	bool later = owner->deadline != 0 && tick_before(owner->deadline, deadline);

	owner->deadline = deadline;
	if (!later || random_below(2) == 0)
		timer_arm(&wheel, &owner->timer, deadline);
}

static void
turn(uint32_t ticks)
{
	uint32_t to = wheel.now + ticks;
	unsigned expected = 0, before = fired, late = 0;

	for (unsigned i = 0; i < TIMERS; i++) {
		owners[i].expected = owners[i].deadline != 0 &&
				     !tick_before(to, owners[i].deadline);
		expected += owners[i].expected;
	}
	timer_turn(&wheel, to, owner_due);
	for (unsigned i = 0; i < TIMERS; i++)
		late += owners[i].expected;
	if (fired - before != expected || late != 0)
		wrong++;
}

static void
test_random(const char *what, uint32_t start, unsigned steps)
{
	memset(owners, 0, sizeof(owners));
	timer_wheel_init(&wheel);
	wheel.now = start;
	fired = early = wrong = 0;
	for (unsigned step = 0; step < steps; step++) {
		struct owner *owner = &owners[random_below(TIMERS)];

		switch (random_below(8)) {
		case 0:
			timer_cancel(&wheel, &owner->timer);
			owner->deadline = 0;
			if (ksf_list_linked(&owner->timer.link))
				wrong++;
			break;
		case 1:
			turn((uint32_t)random_below(random_below(20) == 0 ? 3 * TIMER_SLOTS : 5));
			break;
		default:
			set_deadline(owner, not_zero(wheel.now + some_distance()));
			break;
		}
	}
	turn(12 * TIMER_SLOTS);
	ok(wrong == 0 && fired > steps / 10, "%s: %u deadlines, each at its tick", what, fired);
	for (unsigned i = 0; i < TIMERS; i++) {
		if (ksf_list_linked(&owners[i].timer.link) || owners[i].deadline != 0)
			wrong++;
	}
	ok(wrong == 0, "%s: nothing is left on the wheel", what);
	timer_wheel_destroy(&wheel);
}

static void
test_cases(void)
{
	struct owner *owner = &owners[0];

	memset(owners, 0, sizeof(owners));
	timer_wheel_init(&wheel);
	wheel.now = 1000;
	fired = early = wrong = 0;

	owner->deadline = 1001;
	owner->expected = true;
	timer_arm(&wheel, &owner->timer, 900);
	timer_turn(&wheel, 1001, owner_due);
	ok(fired == 1 && owner->looks == 1,
	    "a deadline that has passed comes up with the next tick");

	owner->deadline = 1001 + 5 * TIMER_SLOTS;
	owner->looks = 0;
	owner->expected = true;
	timer_arm(&wheel, &owner->timer, owner->deadline);
	timer_turn(&wheel, owner->deadline - 1, owner_due);
	ok(fired == 1 && owner->looks <= 6, "beyond one turn: asked once a turn, %u times",
	    owner->looks);
	timer_turn(&wheel, owner->deadline, owner_due);
	ok(fired == 2, "beyond one turn: fires at its tick");

	timer_arm(&wheel, &owner->timer, wheel.now + 10);
	timer_cancel(&wheel, &owner->timer);
	timer_cancel(&wheel, &owner->timer);
	owner->looks = 0;
	timer_turn(&wheel, wheel.now + 20, owner_due);
	ok(owner->looks == 0, "cancelled, twice: not asked");

	timer_arm(&wheel, &owner->timer, wheel.now + 10);
	timer_arm(&wheel, &owner->timer, wheel.now + 30);
	owner->deadline = wheel.now + 30;
	owner->expected = true;
	timer_turn(&wheel, wheel.now + 29, owner_due);
	ok(owner->looks == 1 && fired == 2,
	    "moved to later: stays in its slot, and is asked there");
	timer_turn(&wheel, wheel.now + 1, owner_due);
	ok(fired == 3, "moved to later: fires at the later tick");

	timer_arm(&wheel, &owner->timer, wheel.now + 30);
	owner->deadline = wheel.now + 3;
	owner->expected = true;
	timer_arm(&wheel, &owner->timer, owner->deadline);
	timer_turn(&wheel, wheel.now + 3, owner_due);
	ok(fired == 4, "moved to earlier: fires at the earlier tick");

	owner->looks = 0;
	timer_arm(&wheel, &owner->timer, wheel.now + 5);
	timer_turn(&wheel, wheel.now - 7, owner_due);
	ok(owner->looks == 0, "turning back does nothing");
	timer_cancel(&wheel, &owner->timer);
	ok(wrong == 0, "no deadline came late or uncalled");
	timer_wheel_destroy(&wheel);
}

int
main(void)
{
	random_seed();
	test_cases();
	test_random("from 0", 0, TAP_REPEAT(40000));
	test_random("across the wrap", UINT32_MAX - 4 * TIMER_SLOTS, TAP_REPEAT(40000));
	test_random("across the sign", (uint32_t)INT32_MAX - 4 * TIMER_SLOTS, TAP_REPEAT(40000));
	return (tap_end());
}
