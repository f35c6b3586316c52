/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Groups, workers and the maintenance thread. pool_run() may be called in any context and neither
 * sleeps nor takes a lock; everything else runs on the pool's own threads or in ksf_svc_start() and
 * ksf_svc_stop().
 *
 * No wake-up is lost: a producer pushes and then looks at `awake`; a worker that goes to sleep
 * lowers `awake` and then looks at the queue. Both steps are sequentially consistent, so at least
 * one of the two sees the other.
 */
#include "pool.h"
#include "atomic.h"

#define RUN_BATCH    64u    /* tasks run before the poll is looked at again */
#define IDLE_EXIT_MS 30000u /* a worker above tdmin ends after this long without work */

static void worker_main(void *arg);

/*
 * The queue.
 */
/*
 * Asked by workers that have lowered `awake`. A worker that is just moving the inbox to `ready` may
 * make both look empty, but it is awake, and looks for itself before it sleeps or blocks.
 */
static bool
queue_empty(struct ksf_group *group)
{
	return (ksf_load(&group->inbox) == NULL && ksf_load(&group->ready) == NULL);
}

static void
wake_one(struct ksf_group *group)
{
	if (ksf_exchange(&group->waking, 1) == 0)
		host_poll_wake(group->poll);
}

void
pool_run(struct ksf_group *group, struct ksf_task *task)
{
	struct ksf_worker *self = pool_self();
	struct ksf_task *first;

	/*
	 * What a worker's own poll has found it runs next, before it sleeps or blocks: these are
	 * conns' tasks, which do neither. No other worker needs to see them.
	 */
	if (self != NULL && self->harvesting && self->group == group) {
		task->next = NULL;
		if (self->local == NULL)
			self->local = task;
		else
			self->local_last->next = task;
		self->local_last = task;
		return;
	}

	first = ksf_load_relaxed(&group->inbox);
	do
		task->next = first;
	while (!ksf_cas(&group->inbox, &first, task));

	if (ksf_load(&group->awake) == 0)
		wake_one(group);
}

/* Turn the inbox over and put it behind `ready`. Group lock held. */
static void
collect(struct ksf_group *group)
{
	struct ksf_task *task, *next, *oldest = NULL, *newest;

	newest = task = ksf_exchange(&group->inbox, NULL);
	for (; task != NULL; task = next) {
		next = task->next;
		task->next = oldest;
		oldest = task;
	}
	if (oldest == NULL)
		return;
	if (group->ready == NULL)
		ksf_store(&group->ready, oldest);
	else
		group->ready_last->next = oldest;
	group->ready_last = newest;
}

static struct ksf_task *
take(struct ksf_group *group)
{
	struct ksf_task *task;

	if (ksf_load_relaxed(&group->ready) == NULL && ksf_load_relaxed(&group->inbox) == NULL)
		return (NULL);
	host_lock_acquire(&group->lock);
	if (group->ready == NULL)
		collect(group);
	task = group->ready;
	if (task != NULL) {
		ksf_store_release(&group->ready, task->next);
		group->taken++;
	}
	host_lock_release(&group->lock);
	return (task);
}

/*
 * Workers.
 */
static void
kick_maintenance(struct ksf_pool *pool)
{
	host_lock_acquire(&pool->lock);
	pool->kicked = true;
	host_cond_wake_all(&pool->cond);
	host_lock_release(&pool->lock);
}

/* A task that may sleep: see that somebody else looks at the queue meanwhile. */
static void
run_blocking(struct ksf_group *group, struct ksf_task *task)
{
	bool alone;

	host_lock_acquire(&group->lock);
	alone = ++group->blocked == group->nworkers;
	host_lock_release(&group->lock);
	if (ksf_fetch_sub(&group->awake, 1) == 1) {
		if (alone)
			kick_maintenance(group->pool);
		else if (!queue_empty(group))
			wake_one(group);
	}

	task->fn(task);

	ksf_fetch_add(&group->awake, 1);
	host_lock_acquire(&group->lock);
	group->blocked--;
	host_lock_release(&group->lock);
}

static void
run_task(struct ksf_group *group, struct ksf_task *task)
{
	bool counted = task->flags & TASK_COUNTED;

	if (ksf_unlikely(task->flags & KSF_TASK_MAY_BLOCK))
		run_blocking(group, task);
	else
		task->fn(task);

	/* The task's memory may be gone by now. */
	if (counted)
		group->pool->conf.task_done(group->pool->conf.arg);
}

/* Returns true when the budget was spent and tasks are left. */
static bool
run_tasks(struct ksf_worker *worker)
{
	struct ksf_task *task;

	while ((task = worker->local) != NULL) {
		worker->local = task->next;
		run_task(worker->group, task);
	}
	for (unsigned n = 0; n < RUN_BATCH; n++) {
		task = take(worker->group);
		if (task == NULL)
			return (false);
		run_task(worker->group, task);
	}
	return (true);
}

/* Take what the poll has found; the queue is looked at next. */
static void
harvest(struct ksf_worker *worker)
{
	struct ksf_group *group = worker->group;

	/* The wake-up may be among it. A producer that still sees the flag has pushed before it is
	 * cleared here. */
	if (ksf_load_relaxed(&group->waking) != 0)
		ksf_exchange(&group->waking, 0);
	worker->harvesting = true;
	host_poll_post(group->poll, worker->events);
	worker->harvesting = false;
}

/*
 * Look for events for a while before sleeping. The time adapts: it doubles, up to the parameter,
 * when looking found something, and halves when it did not, so that an idle service soon costs
 * nothing.
 */
static bool
spin(struct ksf_worker *worker)
{
	struct ksf_group *group = worker->group;
	uint64_t limit = (uint64_t)ksf_load_relaxed(group->pool->conf.spin_us) * 1000, start;

	if (limit == 0)
		return (false);
	worker->spin_ns = ksf_max(ksf_min(worker->spin_ns, limit), limit / 16);
	start = host_now_ns();
	do {
		if (host_poll_wait(group->poll, worker->events, 0) ||
		    ksf_load_relaxed(&group->inbox) != NULL) {
			worker->spin_ns = ksf_min(worker->spin_ns * 2, limit);
			return (true);
		}
		host_relax();
	} while (host_now_ns() - start < worker->spin_ns);
	worker->spin_ns /= 2;
	return (false);
}

/* Sleep until there is something to do. Returns false when nothing came for so long that the worker
 * may end. */
static bool
sleep_worker(struct ksf_worker *worker)
{
	struct ksf_group *group = worker->group;
	bool spare = ksf_load_relaxed(&group->nworkers) > group->pool->conf.tdmin, found = true;

	ksf_fetch_sub(&group->awake, 1);
	if (queue_empty(group) && !ksf_load(&group->pool->stopping))
		found = host_poll_wait(
		    group->poll, worker->events, spare ? IDLE_EXIT_MS : HOST_FOREVER);
	ksf_fetch_add(&group->awake, 1);
	return (found || !spare);
}

/* End this worker if the group has more than it needs. */
static bool
may_exit(struct ksf_worker *worker)
{
	struct ksf_group *group = worker->group;
	bool exits;

	host_lock_acquire(&group->lock);
	exits = group->nworkers > group->pool->conf.tdmin;
	if (exits) {
		ksf_store_relaxed(&group->nworkers, group->nworkers - 1);
		worker->exited = true;
	}
	host_lock_release(&group->lock);
	return (exits);
}

static void
worker_main(void *arg)
{
	struct ksf_worker *worker = arg;
	struct ksf_group *group = worker->group;
	struct ksf_pool *pool = group->pool;
	bool more;

	host_self_set(worker);
	for (;;) {
		more = run_tasks(worker);
		if (more)
			(void)host_poll_wait(group->poll, worker->events, 0);
		else if (ksf_load(&pool->stopping))
			break;
		else if (!spin(worker) && !sleep_worker(worker) && may_exit(worker))
			break;
		harvest(worker);
	}

	/*
	 * A wake-up that this worker received on its last way out must not be lost to the others:
	 * pass it on. (At stop that wakes them one after another.)
	 */
	ksf_fetch_sub(&group->awake, 1);
	host_poll_wake(group->poll);
	kbuf_cache_drain(&worker->cache);
	host_self_set(NULL);
}

static void
worker_free(struct ksf_worker *worker)
{
	struct ksf_pool *pool = worker->group->pool;

	if (worker->events != NULL)
		host_events_destroy(worker->events);
	host_free(worker->stats, pool->conf.nstats * sizeof(worker->stats[0]));
	host_free(worker, sizeof(*worker));
}

static int
worker_start(struct ksf_group *group)
{
	struct ksf_pool *pool = group->pool;
	struct ksf_worker *worker;
	int error;

	worker = host_alloc(sizeof(*worker));
	if (worker == NULL)
		return (ENOMEM);
	memset(worker, 0, sizeof(*worker));
	worker->group = group;
	kbuf_cache_init(&worker->cache);
	worker->stats = host_alloc(pool->conf.nstats * sizeof(worker->stats[0]));
	if (worker->stats == NULL) {
		error = ENOMEM;
		goto fail;
	}
	memset(worker->stats, 0, pool->conf.nstats * sizeof(worker->stats[0]));
	error = host_events_create(&worker->events, group->poll);
	if (error != 0)
		goto fail;

	/* Counted as awake before it runs: producers need not wake anybody for it. */
	ksf_fetch_add(&group->awake, 1);
	host_lock_acquire(&group->lock);
	worker->next = group->workers;
	group->workers = worker;
	ksf_store_relaxed(&group->nworkers, group->nworkers + 1);
	host_lock_release(&group->lock);
	error = host_thread_start(
	    &worker->thread, pool->conf.name, group->cpu, worker_main, worker);
	if (error == 0)
		return (0);

	host_lock_acquire(&group->lock);
	for (struct ksf_worker **link = &group->workers; *link != NULL; link = &(*link)->next) {
		if (*link == worker) {
			*link = worker->next;
			break;
		}
	}
	ksf_store_relaxed(&group->nworkers, group->nworkers - 1);
	host_lock_release(&group->lock);
	ksf_fetch_sub(&group->awake, 1);
fail:
	worker_free(worker);
	return (error);
}

/* Join a worker that has ended or is about to, unlink it, and keep its statistics: in one step for
 * who adds them up. */
static void
worker_join(struct ksf_worker *worker)
{
	struct ksf_group *group = worker->group;
	struct ksf_pool *pool = group->pool;
	struct ksf_worker **link;

	host_thread_join(&worker->thread);
	host_lock_acquire(&pool->lock);
	host_lock_acquire(&group->lock);
	for (link = &group->workers; *link != worker; link = &(*link)->next)
		continue;
	*link = worker->next;
	host_lock_release(&group->lock);
	for (unsigned i = 0; i < pool->conf.nstats; i++)
		ksf_add_relaxed(&pool->conf.stats[i], worker->stats[i]);
	ksf_add_relaxed(&pool->conf.stats[pool->conf.nstats], worker->cache.allocated);
	host_lock_release(&pool->lock);
	worker_free(worker);
}

/*
 * The maintenance thread: grows groups, joins workers that ended, turns the timer wheels.
 */

/* A worker to join: any, or only one that has exited. Nobody else unlinks it. */
static struct ksf_worker *
find_worker(struct ksf_group *group, bool exited_only)
{
	struct ksf_worker *worker;

	host_lock_acquire(&group->lock);
	worker = group->workers;
	while (worker != NULL && exited_only && !worker->exited)
		worker = worker->next;
	host_lock_release(&group->lock);
	return (worker);
}

/* One more worker when all are blocked, or tasks have waited since the last tick and nobody took
 * one. */
static void
maybe_grow(struct ksf_group *group)
{
	bool waits = !queue_empty(group), stuck, room;

	host_lock_acquire(&group->lock);
	stuck = group->blocked == group->nworkers ||
		(waits && group->waited && group->taken == group->taken_seen &&
		    ksf_load(&group->awake) + group->blocked >= group->nworkers);
	room = group->nworkers < group->pool->conf.tdmax;
	group->taken_seen = group->taken;
	group->waited = waits;
	host_lock_release(&group->lock);

	/* Short of memory or threads: the next tick tries again. */
	if (stuck && room)
		(void)worker_start(group);
}

uint32_t core_timer_due(struct timer *timer, uint32_t now);

static void
maintenance_main(void *arg)
{
	struct ksf_pool *pool = arg;
	uint64_t next = host_now_ns(), now;
	struct ksf_worker *worker;
	uint32_t ticks = 0;
	bool quit;

	host_lock_acquire(&pool->lock);
	while (!pool->quit) {
		now = host_now_ns();
		if (!pool->kicked && now < next)
			host_cond_wait(
			    &pool->cond, &pool->lock, (unsigned)((next - now) / 1000000) + 1);
		pool->kicked = false;
		quit = pool->quit;
		host_lock_release(&pool->lock);

		now = host_now_ns();
		while (now >= next) {
			next += (uint64_t)POOL_TICK_MS * 1000000;
			ticks++;
		}
		ksf_store_relaxed(&pool->ticks, ticks);
		for (unsigned i = 0; i < pool->ngroups && !quit; i++) {
			while ((worker = find_worker(&pool->groups[i], true)) != NULL)
				worker_join(worker);
			maybe_grow(&pool->groups[i]);
			timer_turn(&pool->groups[i].wheel, ticks, core_timer_due);
		}
		pool->conf.tick(pool->conf.arg);
		host_lock_acquire(&pool->lock);
	}
	host_lock_release(&pool->lock);
}

/*
 * Start and stop.
 */
static int
group_init(struct ksf_group *group, struct ksf_pool *pool, unsigned index)
{
	int error;

	memset(group, 0, sizeof(*group));
	group->pool = pool;
	group->index = index;
	group->cpu = pool->conf.cpus[index];
	error = host_poll_create(&group->poll, pool->conf.backend);
	if (error != 0)
		return (error);
	host_lock_init(&group->lock, "ksf group");
	timer_wheel_init(&group->wheel);
	return (0);
}

static void
group_destroy(struct ksf_group *group)
{
	timer_wheel_destroy(&group->wheel);
	host_lock_destroy(&group->lock);
	host_poll_destroy(group->poll);
}

/* End the workers of all groups, then the groups. The maintenance thread does not run. */
static void
stop_groups(struct ksf_pool *pool)
{
	struct ksf_worker *worker;

	ksf_store(&pool->stopping, true);
	for (unsigned i = 0; i < pool->ngroups; i++)
		host_poll_wake(pool->groups[i].poll);
	for (unsigned i = 0; i < pool->ngroups; i++) {
		while ((worker = find_worker(&pool->groups[i], false)) != NULL)
			worker_join(worker);
		group_destroy(&pool->groups[i]);
	}
}

int
pool_start(struct ksf_pool *pool, const struct ksf_pool_conf *conf)
{
	size_t groups_size = conf->ncpus * sizeof(struct ksf_group);
	int error;

	memset(pool, 0, sizeof(*pool));
	pool->conf = *conf;
	pool->groups = host_alloc(groups_size);
	if (pool->groups == NULL)
		return (ENOMEM);
	host_lock_init(&pool->lock, "ksf pool");
	host_cond_init(&pool->cond, "ksf pool");

	for (; pool->ngroups < conf->ncpus; pool->ngroups++) {
		error = group_init(&pool->groups[pool->ngroups], pool, pool->ngroups);
		if (error != 0)
			goto fail_groups;
	}
	for (unsigned i = 0; i < pool->ngroups; i++) {
		for (unsigned n = 0; n < conf->tdmin; n++) {
			error = worker_start(&pool->groups[i]);
			if (error != 0)
				goto fail_groups;
		}
	}
	error = host_thread_start(
	    &pool->maintenance, conf->name, HOST_CPU_NONE, maintenance_main, pool);
	if (error != 0)
		goto fail_groups;
	return (0);

fail_groups:
	stop_groups(pool);
	host_cond_destroy(&pool->cond);
	host_lock_destroy(&pool->lock);
	host_free(pool->groups, groups_size);
	pool->ngroups = 0;
	return (error);
}

void
pool_stop(struct ksf_pool *pool)
{
	host_lock_acquire(&pool->lock);
	pool->quit = true;
	host_cond_wake_all(&pool->cond);
	host_lock_release(&pool->lock);
	host_thread_join(&pool->maintenance);

	stop_groups(pool);
	host_cond_destroy(&pool->cond);
	host_lock_destroy(&pool->lock);
	host_free(pool->groups, pool->ngroups * sizeof(struct ksf_group));
	pool->ngroups = 0;
}

/*
 * Statistics.
 */
void
pool_stat_add(struct ksf_pool *pool, struct ksf_worker *worker, unsigned index, uint64_t n)
{
	if (worker != NULL && worker->group->pool == pool)
		worker_stat_add(worker, index, n);
	else
		ksf_add_relaxed(&pool->conf.stats[index], n);
}

uint64_t
pool_stat(struct ksf_pool *pool, unsigned index)
{
	struct ksf_worker *worker;
	uint64_t sum;

	host_lock_acquire(&pool->lock);
	sum = ksf_load_relaxed(&pool->conf.stats[index]);
	for (unsigned i = 0; i < pool->ngroups; i++) {
		host_lock_acquire(&pool->groups[i].lock);
		for (worker = pool->groups[i].workers; worker != NULL; worker = worker->next)
			sum += index < pool->conf.nstats
				   ? ksf_load_relaxed(&worker->stats[index])
				   : ksf_load_relaxed(&worker->cache.allocated);
		host_lock_release(&pool->groups[i].lock);
	}
	host_lock_release(&pool->lock);
	return (sum);
}

unsigned
pool_workers(struct ksf_pool *pool)
{
	unsigned sum = 0;

	for (unsigned i = 0; i < pool->ngroups; i++) {
		host_lock_acquire(&pool->groups[i].lock);
		sum += pool->groups[i].nworkers;
		host_lock_release(&pool->groups[i].lock);
	}
	return (sum);
}

struct ksf_group *
pool_group_here(struct ksf_pool *pool, unsigned hint)
{
	struct ksf_worker *worker = pool_self();
	unsigned cpu;

	if (worker != NULL && worker->group->pool == pool)
		return (worker->group);
	cpu = host_cpu();
	for (unsigned i = 0; i < pool->ngroups; i++) {
		if (pool->groups[i].cpu == cpu)
			return (&pool->groups[i]);
	}
	return (&pool->groups[hint < pool->ngroups ? hint : 0]);
}
