/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Services: create, start, listen, stop, destroy, and the limits that all conns of a service share.
 * start and stop sleep; the limits are asked for by workers.
 */
#include "core.h"
#include "dgram.h"

#define PORT_TRIES     16u /* port 0: other ports to try when a picked one is taken for UDP, say */
#define STOP_LOOK_MS   50u /* between looks at what is left, while stopping */
#define LOG_PER_SECOND 10u

/*
 * Limits.
 */
struct addr_count {
	struct addr_count *next;
	struct ksf_addr addr;
	uint32_t conns;
};

void
svc_live_add(struct ksf_svc *svc)
{
	ksf_fetch_add(&svc->live, 1);
}

void
svc_live_drop(struct ksf_svc *svc)
{
	/*
	 * While the service stops, its stopper may free it as soon as it sees 0: it looks with the
	 * lock held. (A stopper that begins just now is not told; it looks again by itself.)
	 */
	if (!ksf_load(&svc->stopping)) {
		ksf_fetch_sub(&svc->live, 1);
		return;
	}
	host_lock_acquire(&svc->lock);
	if (ksf_fetch_sub(&svc->live, 1) == 1)
		host_cond_wake_all(&svc->cond);
	host_lock_release(&svc->lock);
}

bool
svc_allows(struct ksf_svc *svc, const struct ksf_addr *peer)
{
	bool allowed;

	if (ksf_load_relaxed(&svc->allow_some) == 0)
		return (true);
	host_lock_acquire(&svc->lock);
	allowed = svc->allow.count == 0 || cidr_match(&svc->allow, peer);
	host_lock_release(&svc->lock);
	return (allowed);
}

/* Where the entry of this address hangs, or would. Service lock held. */
static struct addr_count **
find_addr(struct ksf_svc *svc, const struct ksf_addr *addr)
{
	struct addr_count **link;

	link = &svc->by_addr[siphash(svc->hash_key, addr->ip, sizeof(addr->ip)) % ADDR_BUCKETS];
	while (*link != NULL && !ksf_addr_same_ip(&(*link)->addr, addr))
		link = &(*link)->next;
	return (link);
}

/* Count one more connection of this address: 0, EUSERS or ENOMEM. */
static int
count_addr(struct ksf_svc *svc, const struct ksf_addr *addr)
{
	uint32_t limit = ksf_param_u32(&svc->params.maxconns_addr);
	struct addr_count **link, *entry;
	int error = 0;

	host_lock_acquire(&svc->lock);
	link = find_addr(svc, addr);
	entry = *link;
	if (entry == NULL) {
		entry = host_alloc(sizeof(*entry));
		if (entry != NULL) {
			entry->next = NULL;
			entry->addr = *addr;
			entry->conns = 1;
			*link = entry;
		} else
			error = ENOMEM;
	} else if (limit != 0 && entry->conns >= limit)
		error = EUSERS;
	else
		entry->conns++;
	host_lock_release(&svc->lock);
	return (error);
}

bool
svc_admit(struct ksf_svc *svc, const struct ksf_addr *peer)
{
	char text[KSF_ADDR_STRLEN];
	int error;

	if (ksf_fetch_add(&svc->nconns, 1) >= ksf_param_u32(&svc->params.maxconns)) {
		ksf_fetch_sub(&svc->nconns, 1);
		svc_stat_add(svc, ST_REFUSED_MAXCONNS, 1);
		ksf_log(svc, KSF_WARN, "connection refused: maxconns reached");
		return (false);
	}
	error = count_addr(svc, peer);
	if (error == 0)
		return (true);
	ksf_fetch_sub(&svc->nconns, 1);
	if (error == ENOMEM)
		svc_stat_add(svc, ST_MEM_SHORT, 1);
	else {
		svc_stat_add(svc, ST_REFUSED_ADDR, 1);
		ksf_log(svc, KSF_WARN, "connection from %s refused: maxconns_addr reached",
		    ksf_addr_format(peer, text, sizeof(text)));
	}
	return (false);
}

void
svc_leave(struct ksf_svc *svc, const struct ksf_addr *peer)
{
	struct addr_count **link, *entry;

	ksf_fetch_sub(&svc->nconns, 1);
	host_lock_acquire(&svc->lock);
	link = find_addr(svc, peer);
	entry = *link;
	if (entry != NULL && --entry->conns == 0) {
		*link = entry->next;
		host_free(entry, sizeof(*entry));
	}
	host_lock_release(&svc->lock);
}

void
svc_charge(struct ksf_svc *svc, int64_t bytes)
{
	ksf_add_relaxed(&svc->mem_used, bytes);
}

bool
svc_over_budget(struct ksf_svc *svc)
{
	int64_t used = ksf_load_relaxed(&svc->mem_used);

	return (used > 0 && (uint64_t)used > ksf_param_u64(&svc->params.memmax));
}

/* From the maintenance thread: let conns that wait for memory try again, once a part of it has come
 * back. */
static void
svc_tick(void *arg)
{
	struct ksf_svc *svc = arg;
	int64_t used = ksf_load_relaxed(&svc->mem_used);
	uint64_t memmax = ksf_param_u64(&svc->params.memmax);

	if (ksf_load(&svc->mem_waiting) == 0 || (used > 0 && (uint64_t)used > memmax - memmax / 8))
		return;
	ksf_store(&svc->mem_waiting, 0);
	svc_post_all(svc, EV_RESUME, true);
}

void
svc_sockopts(struct ksf_svc *svc, struct host_sockopts *opts)
{
	opts->sndbuf = ksf_param_u32(&svc->params.sosndbuf);
	opts->rcvbuf = ksf_param_u32(&svc->params.sorcvbuf);
	opts->backlog = svc->params.backlog;
}

/*
 * Tasks of the service.
 */
static void
task_done(void *arg)
{
	svc_live_drop(arg);
}

void
ksf_task_run(struct ksf_svc *svc, struct ksf_task *task, int cpu)
{
	struct ksf_group *group = NULL;

	svc_live_add(svc);
	task->flags |= TASK_COUNTED;
	for (unsigned i = 0; cpu >= 0 && i < svc->pool.ngroups; i++) {
		if (svc->pool.groups[i].cpu == (unsigned)cpu)
			group = &svc->pool.groups[i];
	}
	if (group == NULL)
		group = pool_group_here(&svc->pool, cpu >= 0 ? (unsigned)cpu : 0);
	pool_run(group, task);
}

/*
 * Listening.
 */
static const char *
reason(int error)
{
	switch (error) {
	case EADDRINUSE:
		return ("address in use");
	case EADDRNOTAVAIL:
		return ("address not available");
	case EACCES:
	case EPERM:
		return ("permission denied");
	case EAFNOSUPPORT:
		return ("address family not supported");
	case EMFILE:
	case ENFILE:
		return ("out of file descriptors");
	case ENOMEM:
	case ENOBUFS:
		return ("out of memory");
	case EINVAL:
		return ("invalid argument");
	case EOPNOTSUPP:
		return ("not supported by this system");
	default:
		return ("system error");
	}
}

static void
listen_failed(struct ksf_svc *svc, enum ksf_proto proto, const struct ksf_addr *addr, int error)
{
	char text[KSF_ADDR_STRLEN];

	why_format(svc->why, svc->whylen, "%s: listen %s %s: %s", svc->desc->name,
	    proto == KSF_TCP ? "tcp" : "udp", ksf_addr_format(addr, text, sizeof(text)),
	    reason(error));
}

/* One socket on one group. */
static int
listen_one(struct ksf_svc *svc, struct ksf_group *group, enum ksf_proto proto,
    const struct ksf_addr *addr, const struct ksf_ops *ops, unsigned flags, unsigned share)
{
	struct host_sockopts opts;
	struct ksf_conn *conn;
	int error;

	conn = conn_new(svc, group, proto == KSF_TCP ? CONN_LISTENER : CONN_DGRAM, ops);
	if (conn == NULL)
		return (ENOMEM);
	conn->events = EV_SCHEDULED;
	conn->flags = (uint8_t)flags;
	conn->rx.local = *addr;
	conn_publish(conn);
	svc_sockopts(svc, &opts);
	error = host_sock_listen(&conn->sock, proto, addr, &opts, share);
	if (error == 0 && proto == KSF_UDP)
		error = dgram_create(conn);
	if (error == 0 && (flags & KSF_LISTEN_PLAIN))
		error = conn_open(conn);
	if (error == 0) {
		ksf_store(&conn->state, CONN_OPEN);
		error = host_sock_attach(&conn->sock, group->poll, conn);
	}
	if (error != 0)
		conn_finish(conn, error);
	conn_run_end(conn);
	return (error);
}

/* Is the address free, and which port is it? A socket of our own that shares the port would hide
 * another owner. */
static int
probe(struct ksf_svc *svc, enum ksf_proto proto, struct ksf_addr *addr)
{
	struct host_sockopts opts;
	struct host_sock sock;
	int error;

	memset(&sock, 0, sizeof(sock));
	svc_sockopts(svc, &opts);
	error = host_sock_listen(&sock, proto, addr, &opts, 0);
	if (error == 0)
		error = host_sock_local(&sock, addr);
	host_sock_close(&sock, false);
	return (error);
}

static int
listen_addr(struct ksf_svc *svc, enum ksf_proto proto, struct ksf_addr *addr,
    const struct ksf_ops *ops, unsigned flags)
{
	unsigned sockets = host_sock_can_share(proto) ? svc->pool.ngroups : 1;
	int error;

	if (svc->nendpoints == ENDPOINTS_MAX)
		return (E2BIG);
	addr->port = svc->port;
	error = probe(svc, proto, addr);
	for (unsigned i = 0; i < sockets && error == 0; i++)
		error = listen_one(svc,
		    &svc->pool.groups[(svc->nendpoints + i) % svc->pool.ngroups], proto, addr, ops,
		    flags, sockets > 1 ? HOST_SHARE : 0);
	if (error != 0)
		return (error);
	svc->port = addr->port;
	svc->endpoints[svc->nendpoints].addr = *addr;
	svc->endpoints[svc->nendpoints++].proto = proto;
	return (0);
}

int
ksf_svc_listen(struct ksf_svc *svc, enum ksf_proto proto, const struct ksf_ops *ops, unsigned flags)
{
	bool chosen = params_is_set(svc, "listen");
	struct cidr_list list;
	unsigned listening = 0;
	int error, skipped = 0;

	if (!(proto == KSF_TCP ? svc->params.tcp : svc->params.udp))
		return (0);
	error = cidr_parse(svc->params.listen, true, &list, svc->why, svc->whylen);
	for (unsigned i = 0; i < list.count && error == 0; i++) {
		error = listen_addr(svc, proto, &list.item[i].addr, ops, flags);
		if (error == 0) {
			listening++;
			continue;
		}
		listen_failed(svc, proto, &list.item[i].addr, error);

		/* A system without IPv6, say, still serves the rest of what nobody asked for by
		 * name. */
		if ((!chosen || list.item[i].bits == 0) &&
		    (error == EAFNOSUPPORT || error == EADDRNOTAVAIL)) {
			skipped = error;
			error = 0;
		}
	}
	return (error == 0 && listening == 0 ? skipped : error);
}

void
ksf_svc_endpoints(struct ksf_svc *svc,
    void (*fn)(void *arg, enum ksf_proto proto, const struct ksf_addr *addr), void *arg)
{
	for (unsigned i = 0; i < svc->nendpoints; i++)
		fn(arg, svc->endpoints[i].proto, &svc->endpoints[i].addr);
}

/*
 * Create and destroy.
 */
int
ksf_svc_create(const struct ksf_service *desc, struct ksf_svc **svcp)
{
	size_t stats = (ST_COUNT + desc->nstats + 1) * sizeof(uint64_t);
	struct ksf_svc *svc;

	svc = host_alloc(sizeof(*svc));
	if (svc == NULL)
		return (ENOMEM);
	memset(svc, 0, sizeof(*svc));
	svc->desc = desc;
	svc->conf = host_alloc(desc->confsz != 0 ? desc->confsz : 1);
	svc->set = host_alloc(svc_nparams + desc->nparams);
	svc->stats = host_alloc(stats);
	if (svc->conf == NULL || svc->set == NULL || svc->stats == NULL) {
		host_free(svc->stats, stats);
		host_free(svc->set, svc_nparams + desc->nparams);
		host_free(svc->conf, desc->confsz != 0 ? desc->confsz : 1);
		host_free(svc, sizeof(*svc));
		return (ENOMEM);
	}
	memset(svc->conf, 0, desc->confsz);
	memset(svc->set, 0, svc_nparams + desc->nparams);
	memset(svc->stats, 0, stats);
	host_lock_init(&svc->lock, "ksf service");
	host_cond_init(&svc->cond, "ksf service");
	host_random(svc->hash_key, sizeof(svc->hash_key));
	params_init(svc);
	*svcp = svc;
	return (0);
}

void
ksf_svc_destroy(struct ksf_svc *svc)
{
	const struct ksf_service *desc = svc->desc;

	host_cond_destroy(&svc->cond);
	host_lock_destroy(&svc->lock);
	host_free(svc->stats, (ST_COUNT + desc->nstats + 1) * sizeof(uint64_t));
	host_free(svc->set, svc_nparams + desc->nparams);
	host_free(svc->conf, desc->confsz != 0 ? desc->confsz : 1);
	host_free(svc, sizeof(*svc));
}

/*
 * Start and stop.
 */

/* Parameters that are each in range, but do not fit together. */
static int
check_params(struct ksf_svc *svc)
{
	const struct svc_params *p = &svc->params;

	if (p->tdmin > p->tdmax) {
		why_format(svc->why, svc->whylen, "%s: tdmin=%u is above tdmax=%u", svc->desc->name,
		    p->tdmin, p->tdmax);
		return (EINVAL);
	}
	if (p->txlowat >= p->txhiwat) {
		why_format(svc->why, svc->whylen, "%s: txlowat=%u is not below txhiwat=%u",
		    svc->desc->name, p->txlowat, p->txhiwat);
		return (EINVAL);
	}
	if (!p->tcp && !p->udp) {
		why_format(svc->why, svc->whylen, "%s: nothing to serve: tcp=0 and udp=0",
		    svc->desc->name);
		return (EINVAL);
	}
	return (0);
}

static int
start_pool(struct ksf_svc *svc)
{
	struct ksf_pool_conf conf = {
		.tdmin = svc->params.tdmin,
		.tdmax = svc->params.tdmax,
		.spin_us = &svc->params.spin_us,
		.name = svc->desc->name,
		.backend = svc->params.backend,
		.nstats = ST_COUNT + svc->desc->nstats,
		.stats = svc->stats,
		.tick = svc_tick,
		.task_done = task_done,
		.arg = svc,
	};
	unsigned cpus[CPUS_MAX];
	int error;

	conf.cpus = cpus;
	conf.ncpus = svc->params.cpus[0] != '\0' ? cpus_parse(svc->params.cpus, cpus, CPUS_MAX)
						 : host_cores(cpus, CPUS_MAX);
	svc->conns = host_alloc(conf.ncpus * sizeof(svc->conns[0]));
	if (svc->conns == NULL)
		return (ENOMEM);
	svc->nlists = conf.ncpus;
	for (unsigned i = 0; i < svc->nlists; i++) {
		host_lock_init(&svc->conns[i].lock, "ksf conns");
		ksf_list_init(&svc->conns[i].head);
	}
	error = pool_start(&svc->pool, &conf);
	if (error == 0)
		return (0);
	if (error == EINVAL)
		why_format(svc->why, svc->whylen, "%s: cpus=%s: not all of these are available",
		    svc->desc->name, svc->params.cpus);
	else
		why_format(svc->why, svc->whylen, "%s: cannot start threads: %s", svc->desc->name,
		    reason(error));
	for (unsigned i = 0; i < svc->nlists; i++)
		host_lock_destroy(&svc->conns[i].lock);
	host_free(svc->conns, svc->nlists * sizeof(svc->conns[0]));
	svc->nlists = 0;
	return (error);
}

/* Returns when nothing is alive, or, unless `forever`, when the time is over or somebody calls for
 * the cut. */
static void
wait_empty(struct ksf_svc *svc, unsigned ms, bool forever)
{
	uint64_t end = host_now_ns() + (uint64_t)ms * 1000000, now;

	host_lock_acquire(&svc->lock);
	while (ksf_load(&svc->live) != 0) {
		now = host_now_ns();
		if (!forever && (now >= end || ksf_load(&svc->cut)))
			break;
		host_cond_wait(&svc->cond, &svc->lock,
		    forever || end - now > (uint64_t)STOP_LOOK_MS * 1000000
			? STOP_LOOK_MS
			: (unsigned)((end - now) / 1000000) + 1);
	}
	host_lock_release(&svc->lock);
}

/* End all conns and threads of a service that has been started in part or whole. */
static void
shut_down(struct ksf_svc *svc, unsigned grace_ms)
{
	ksf_store(&svc->stopping, true);
	svc_post_all(svc, EV_STOP, false);
	wait_empty(svc, grace_ms, false);
	if (ksf_load(&svc->live) != 0) {
		ksf_store(&svc->cut, true);
		svc_post_all(svc, EV_CUT, false);
		wait_empty(svc, 0, true);
	}
}

static void
free_pool(struct ksf_svc *svc)
{
	host_lock_acquire(&svc->lock);
	svc->pool_valid = false;
	host_lock_release(&svc->lock);
	pool_stop(&svc->pool);
	for (unsigned i = 0; i < svc->nlists; i++)
		host_lock_destroy(&svc->conns[i].lock);
	host_free(svc->conns, svc->nlists * sizeof(svc->conns[0]));
	svc->nlists = 0;
	svc->nendpoints = 0;
}

static void
set_running(struct ksf_svc *svc, bool running)
{
	host_lock_acquire(&svc->lock);
	svc->running = running;
	host_lock_release(&svc->lock);
}

static int
start_once(struct ksf_svc *svc)
{
	int error;

	ksf_store(&svc->stopping, false);
	ksf_store(&svc->cut, false);
	svc->port = (uint16_t)svc->params.port;
	error = start_pool(svc);
	if (error != 0)
		return (error);
	host_lock_acquire(&svc->lock);
	svc->pool_valid = true;
	host_lock_release(&svc->lock);
	error = svc->desc->start(svc);
	if (error == 0 && svc->nendpoints == 0) {
		why_format(svc->why, svc->whylen, "%s: nothing to serve: tcp=%u and udp=%u",
		    svc->desc->name, svc->params.tcp, svc->params.udp);
		error = EINVAL;
	}
	if (error != 0) {
		shut_down(svc, 0);
		free_pool(svc);
	}
	return (error);
}

int
ksf_svc_start(struct ksf_svc *svc, char *why, size_t whylen)
{
	bool already;
	int error;

	host_lock_acquire(&svc->lock);
	already = svc->running;
	svc->running = true;
	host_lock_release(&svc->lock);
	if (already) {
		why_format(why, whylen, "%s: runs already", svc->desc->name);
		return (EALREADY);
	}
	svc->why = why;
	svc->whylen = whylen;
	why_format(why, whylen, "%s: cannot start", svc->desc->name);
	error = check_params(svc);
	if (error == 0)
		error = start_once(svc);
	for (unsigned n = 0; n < PORT_TRIES && error == EADDRINUSE && svc->params.port == 0; n++)
		error = start_once(svc);
	svc->why = NULL;
	svc->whylen = 0;
	if (error != 0)
		set_running(svc, false);
	return (error);
}

void
ksf_svc_stop(struct ksf_svc *svc, unsigned grace_ms)
{
	bool running;

	host_lock_acquire(&svc->lock);
	running = svc->running;
	host_lock_release(&svc->lock);
	if (!running)
		return;
	shut_down(svc, grace_ms);
	if (svc->desc->stop != NULL)
		svc->desc->stop(svc);
	free_pool(svc);
	set_running(svc, false);
}

void
ksf_svc_cut(struct ksf_svc *svc)
{
	ksf_store(&svc->cut, true);
}

/*
 * Accessors and the log.
 */
const char *
ksf_svc_name(const struct ksf_svc *svc)
{
	return (svc->desc->name);
}

void *
ksf_svc_conf(struct ksf_svc *svc)
{
	return (svc->conf);
}

void
ksf_log(struct ksf_svc *svc, enum ksf_level level, const char *fmt, ...)
{
	uint32_t second = (uint32_t)(host_now_ns() / 1000000000);
	char line[256];
	va_list args;
	int n;

	if (level == KSF_DEBUG && !ksf_param_u32(&svc->params.debug))
		return;
	if (ksf_exchange(&svc->log_second, second) != second)
		ksf_store(&svc->log_lines, 0);
	if (ksf_fetch_add(&svc->log_lines, 1) >= LOG_PER_SECOND) {
		svc_stat_add(svc, ST_LOG_SUPPRESSED, 1);
		return;
	}
	n = snprintf(line, sizeof(line), "%s: ", svc->desc->name);
	va_start(args, fmt);
	(void)vsnprintf(line + n, sizeof(line) - (size_t)n, fmt, args);
	va_end(args);
	host_log(level, line);
}
