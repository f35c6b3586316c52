/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The progress display. Main thread only.
 */
#include "progress.h"

#include <inttypes.h>
#include <stdio.h>

#include "clock.h"
#include "message.h"

void
progress_begin(struct progress *progress)
{
	progress->begin_ns = clock_ns();
	progress->last_ns = progress->begin_ns;
	progress->last_completed = 0;
}

/* How much of the iteration is over, 0 to 1: what is nearer to its end, messages or time. */
static double
fraction_done(const struct progress *progress, uint64_t completed, uint64_t now)
{
	double by_count, by_time, done;

	by_count = progress->messages != UINT64_MAX ? (double)completed / (double)progress->messages
						    : 0;
	by_time = progress->duration_ns != 0
		      ? (double)(now - progress->begin_ns) / (double)progress->duration_ns
		      : 0;
	done = by_count > by_time ? by_count : by_time;
	return (done < 1 ? done : 1);
}

void
progress_update(void *arg, uint64_t completed)
{
	struct progress *progress = arg;
	char of[16], text[128];
	double rate;
	uint64_t now;

	now = clock_ns();
	rate = (double)(completed - progress->last_completed) * (double)CLOCK_NS_PER_S /
	       (double)(now - progress->last_ns + 1);
	progress->last_ns = now;
	progress->last_completed = completed;

	of[0] = '\0';
	if (progress->iterations > 0)
		snprintf(of, sizeof(of), "/%u", progress->iterations);
	snprintf(text, sizeof(text), "iteration %u%s: %3.0f%% %" PRIu64 " messages, %.0f/s",
	    progress->iteration, of, fraction_done(progress, completed, now) * 100, completed,
	    rate);
	message_status(text);
}

void
progress_end(void)
{
	message_status(NULL);
}
