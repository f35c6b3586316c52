/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Statistics: the table every service has, and reading them. Counting itself is in pool.c: each
 * worker has counters of its own, added up here. Sleepable.
 */
#include "core.h"

#define COUNTER(index, name_, help_) \
	[index] = { .name = (name_), .help = (help_), .kind = KSF_STAT_COUNTER }
#define GAUGE(index, name_, help_) \
	[index] = { .name = (name_), .help = (help_), .kind = KSF_STAT_GAUGE }

const struct ksf_stat svc_stat_table[ST_COUNT] = {
	COUNTER(ST_ACCEPTED, "accepted", "TCP connections accepted"),
	GAUGE(ST_CONNS, "conns", "TCP connections now"),
	GAUGE(ST_SESSIONS, "sessions_now", "UDP sessions now"),
	COUNTER(ST_SESSIONS_OPENED, "sessions_opened", "UDP sessions begun"),
	COUNTER(ST_BYTES_IN, "bytes_in", "bytes received"),
	COUNTER(ST_BYTES_OUT, "bytes_out", "bytes sent"),
	COUNTER(ST_DGRAMS_IN, "dgrams_in", "datagrams received"),
	COUNTER(ST_DGRAMS_OUT, "dgrams_out", "datagrams sent"),
	COUNTER(ST_RUNS, "runs", "times a connection's task ran"),
	COUNTER(ST_RECEIVES, "receives", "receive calls"),
	COUNTER(ST_SENDS, "sends", "send calls"),
	COUNTER(ST_SEND_FULL, "send_full", "send calls that found the socket full"),
	COUNTER(ST_PAUSES, "pauses",
	    "times reading stopped because output was above the high-water mark"),
	COUNTER(ST_REFUSED_MAXCONNS, "refused_maxconns", "connections refused: maxconns reached"),
	COUNTER(
	    ST_REFUSED_ADDR, "refused_maxconns_addr", "connections refused: maxconns_addr reached"),
	COUNTER(ST_REFUSED_ALLOW, "refused_allow",
	    "connections and datagrams of peers that allow does not list"),
	COUNTER(
	    ST_REFUSED_OPEN, "refused_service", "connections and sessions refused by the service"),
	COUNTER(ST_ACCEPT_ERRORS, "accept_errors", "accept calls that failed"),
	COUNTER(ST_CLOSED_IDLE, "closed_idle", "connections and sessions closed for being idle"),
	COUNTER(
	    ST_CLOSED_STALLED, "closed_stalled", "connections cut because the peer took no output"),
	COUNTER(ST_CLOSED_DEADLINE, "closed_deadline",
	    "connections cut because a record took too long"),
	COUNTER(
	    ST_CLOSED_OVERSIZE, "closed_oversize", "connections cut because input exceeded rxmax"),
	COUNTER(ST_CLOSED_ERROR, "closed_error",
	    "connections that ended with an error, those of the limits included"),
	COUNTER(ST_CLOSED_CUT, "closed_cut", "connections cut after the grace time"),
	COUNTER(
	    ST_DGRAMS_TRUNCATED, "dgrams_truncated", "datagrams dropped: longer than dgram_max"),
	COUNTER(ST_DGRAMS_DROPPED, "dgrams_dropped",
	    "datagrams dropped: socket full, no route, too many in flight"),
	COUNTER(
	    ST_DGRAMS_LOOP, "dgrams_loop", "datagrams dropped: sent from a port of this service"),
	COUNTER(
	    ST_DGRAMS_PRIVILEGED, "dgrams_privileged", "datagrams dropped: source port below 1024"),
	COUNTER(ST_SESSIONS_EVICTED, "sessions_evicted",
	    "UDP sessions closed to make room for new ones"),
	COUNTER(ST_SESSIONS_REFUSED, "sessions_refused",
	    "datagrams dropped: the session table is full"),
	COUNTER(ST_MEM_SHORT, "mem_short", "times work waited or was dropped for lack of memory"),
	GAUGE(ST_MEM_USED, "mem_used", "bytes of memory that connections keep between runs"),
	COUNTER(ST_KBUF_ALLOCATED, "kbuf_allocated",
	    "buffer segments allocated from the system rather than recycled"),
	GAUGE(ST_WORKERS, "workers", "worker threads now"),
	COUNTER(ST_LOG_SUPPRESSED, "log_suppressed",
	    "log lines not written because there were too many"),
};

static uint64_t
read_stat(struct ksf_svc *svc, unsigned i)
{
	unsigned nstats = ST_COUNT + svc->desc->nstats;
	uint64_t value;

	switch (i) {
	case ST_MEM_USED:
		return ((uint64_t)ksf_load_relaxed(&svc->mem_used));
	case ST_KBUF_ALLOCATED:
		i = nstats;
		break;
	default:
		break;
	}
	host_lock_acquire(&svc->lock);
	if (!svc->pool_valid)
		value = i == ST_WORKERS ? 0 : ksf_load_relaxed(&svc->stats[i]);
	else if (i == ST_WORKERS)
		value = pool_workers(&svc->pool);
	else
		value = pool_stat(&svc->pool, i);
	host_lock_release(&svc->lock);
	return (value);
}

const struct ksf_stat *
ksf_stat_at(struct ksf_svc *svc, unsigned i, uint64_t *value)
{
	if (i >= ST_COUNT + svc->desc->nstats)
		return (NULL);
	*value = read_stat(svc, i);
	return (i < ST_COUNT ? &svc_stat_table[i] : &svc->desc->stats[i - ST_COUNT]);
}

/* Any context: a worker of the service counts for itself, everybody else in the service's own
 * counters. */
static void
add(struct ksf_svc *svc, unsigned index, uint64_t n)
{
	struct ksf_worker *self = pool_self();

	if (self != NULL && self->group->pool == &svc->pool)
		pool_stat_add(&svc->pool, self, index, n);
	else
		ksf_add_relaxed(&svc->stats[index], n);
}

void
svc_stat_add(struct ksf_svc *svc, enum svc_stat stat, uint64_t n)
{
	add(svc, stat, n);
}

void
ksf_stat_add(struct ksf_svc *svc, unsigned index, uint64_t n)
{
	add(svc, ST_COUNT + index, n);
}
