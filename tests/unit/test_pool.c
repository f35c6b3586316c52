/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The pool (src/core/pool.h): tasks run once and on the core they were meant for, tasks that block
 * make the group grow and starve nobody, idle workers end, no wake-up is lost, stopping runs what
 * is queued. The pools are started by the test itself, but for what needs a service. Threads that
 * cannot be started, and the 30 s after which an idle worker ends, are made by the linker (--wrap).
 */
#include "service.h"

#include <pthread.h>

#include "tap.h"

/*
 * The host's functions that are replaced.
 */
#define IDLE_EXIT_MS 30000u /* of pool.c */

static uint32_t idle_exit_ms = IDLE_EXIT_MS; /* (a) what it is for this test */
static uint32_t idle_waits;                  /* (a) waits with that limit */
static uint32_t threads_fail;                /* (a) so many starts of a thread fail, */
static uint32_t threads_good;                /* (a) after so many that do not */

bool __real_host_poll_wait(struct host_poll *poll, struct host_events *events, unsigned timeout_ms);
bool __wrap_host_poll_wait(struct host_poll *poll, struct host_events *events, unsigned timeout_ms);
int __real_host_thread_start(
    struct host_thread *thread, const char *name, unsigned cpu, void (*fn)(void *), void *arg);
int __wrap_host_thread_start(
    struct host_thread *thread, const char *name, unsigned cpu, void (*fn)(void *), void *arg);

bool
__wrap_host_poll_wait(struct host_poll *poll, struct host_events *events, unsigned timeout_ms)
{
	if (timeout_ms == IDLE_EXIT_MS) {
		ksf_fetch_add(&idle_waits, 1);
		timeout_ms = ksf_load(&idle_exit_ms);
	}
	return (__real_host_poll_wait(poll, events, timeout_ms));
}

int
__wrap_host_thread_start(
    struct host_thread *thread, const char *name, unsigned cpu, void (*fn)(void *), void *arg)
{
	if (ksf_load(&threads_good) != 0)
		ksf_fetch_sub(&threads_good, 1);
	else if (ksf_load(&threads_fail) != 0) {
		ksf_fetch_sub(&threads_fail, 1);
		return (EAGAIN);
	}
	return (__real_host_thread_start(thread, name, cpu, fn, arg));
}

/*
 * A pool of the test's own.
 */
#define STATS 4u

static struct ksf_pool pool;
static uint64_t stats[STATS + 1];
static uint32_t spin_us, pool_tick_calls, tasks_done; /* (a) */
static unsigned cpus[CPUS_MAX], ncpus;

static void
pool_tick(void *arg)
{
	(void)arg;
	ksf_fetch_add(&pool_tick_calls, 1);
}

static void
pool_task_done(void *arg)
{
	(void)arg;
	ksf_fetch_add(&tasks_done, 1);
}

static int
try_begin(unsigned tdmin, unsigned tdmax)
{
	struct ksf_pool_conf conf = {
		.tdmin = tdmin,
		.tdmax = tdmax,
		.spin_us = &spin_us,
		.name = "test pool",
		.backend = "auto",
		.cpus = cpus,
		.ncpus = ncpus,
		.nstats = STATS,
		.stats = stats,
		.tick = pool_tick,
		.task_done = pool_task_done,
	};

	memset(stats, 0, sizeof(stats));
	ksf_store(&tasks_done, 0);
	return (pool_start(&pool, &conf));
}

static void
begin(unsigned tdmin, unsigned tdmax)
{
	if (try_begin(tdmin, tdmax) != 0)
		bail_out("cannot start a pool");
}

/*
 * Tasks.
 */

/* On that cpu, as far as the system tells. */
static bool
runs_on(unsigned cpu)
{
	unsigned now = host_cpu();

	return (now == cpu || now == HOST_CPU_NONE);
}

struct work {
	struct ksf_task task;
	uint32_t ran; /* (a) */
	unsigned cpu; /* where it is meant to run */
};

static uint32_t ran, misplaced; /* (a) */

static void
work_fn(struct ksf_task *task)
{
	struct work *work = ksf_container_of(task, struct work, task);

	if (!runs_on(work->cpu))
		ksf_fetch_add(&misplaced, 1);
	worker_stat_add(pool_self(), 1, 1);
	ksf_fetch_add(&work->ran, 1);
	ksf_fetch_add(&ran, 1);
}

/* Tasks that wait until the test lets them go. */
static pthread_mutex_t gate_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_cond = PTHREAD_COND_INITIALIZER;
static unsigned gate_passes; /* (gate_lock) tasks that may still go */
static uint32_t waiting;     /* (a) tasks at the gate */

static void
gate_fn(struct ksf_task *task)
{
	ksf_fetch_add(&waiting, 1);
	pthread_mutex_lock(&gate_lock);
	while (gate_passes == 0)
		pthread_cond_wait(&gate_cond, &gate_lock);
	gate_passes--;
	pthread_mutex_unlock(&gate_lock);
	ksf_fetch_sub(&waiting, 1);
	work_fn(task);
}

static void
gate_let(unsigned n)
{
	pthread_mutex_lock(&gate_lock);
	gate_passes += n;
	pthread_cond_broadcast(&gate_cond);
	pthread_mutex_unlock(&gate_lock);
}

static void
run(struct work *work, ksf_task_fn *fn, unsigned flags, unsigned group)
{
	work->task.fn = fn;
	work->task.flags = flags;
	work->cpu = pool.groups[group].cpu;
	pool_run(&pool.groups[group], &work->task);
}

/*
 * Many producers.
 */
#define PRODUCERS 4u

struct producer {
	pthread_t thread;
	struct work *work;
	unsigned count;
};

static void *
producer_main(void *arg)
{
	struct producer *producer = arg;

	for (unsigned i = 0; i < producer->count; i++)
		run(&producer->work[i], work_fn, i % 5 == 0 ? TASK_COUNTED : 0, i % pool.ngroups);
	return (NULL);
}

static void
test_producers(const char *what, unsigned tdmin, unsigned spin)
{
	unsigned each = TAP_REPEAT(50000), once = 0, counted;
	struct producer producers[PRODUCERS];

	ksf_store(&spin_us, spin);
	ksf_store(&ran, 0);
	ksf_store(&misplaced, 0);
	begin(tdmin, 4);
	for (unsigned i = 0; i < PRODUCERS; i++) {
		producers[i].count = each;
		producers[i].work = calloc(each, sizeof(struct work));
		if (producers[i].work == NULL ||
		    pthread_create(&producers[i].thread, NULL, producer_main, &producers[i]) != 0)
			bail_out("cannot start a thread");
	}
	for (unsigned i = 0; i < PRODUCERS; i++)
		pthread_join(producers[i].thread, NULL);
	WAIT_FOR(ksf_load(&ran) == PRODUCERS * each, 20000);
	for (unsigned i = 0; i < PRODUCERS; i++) {
		for (unsigned n = 0; n < each; n++)
			once += ksf_load(&producers[i].work[n].ran) == 1;
	}
	ok(once == PRODUCERS * each && ksf_load(&ran) == once,
	    "%s: %u tasks of %u threads, each runs once", what, once, PRODUCERS);
	ok(ksf_load(&misplaced) == 0, "%s: each on its own core", what);
	counted = PRODUCERS * ((each + 4) / 5);
	WAIT_FOR(ksf_load(&tasks_done) == counted, 5000);
	ok(ksf_load(&tasks_done) == counted, "%s: the end of counted tasks is told", what);
	ok(pool_stat(&pool, 1) == once, "%s: statistics of all workers add up", what);
	pool_stop(&pool);
	ok(stats[1] == once, "%s: and stay when the workers are gone", what);
	for (unsigned i = 0; i < PRODUCERS; i++)
		free(producers[i].work);
	ksf_store(&spin_us, 0);
}

/* One task at a time, from outside: each has to wake a worker that sleeps, or spins, or is about to
 * sleep. */
static void
test_wakeups(const char *what, unsigned tdmin, unsigned spin)
{
	unsigned rounds = TAP_REPEAT(10000), i;
	static struct work work;

	memset(&work, 0, sizeof(work));
	ksf_store(&spin_us, spin);
	begin(tdmin, tdmin);
	for (i = 0; i < rounds; i++) {
		run(&work, work_fn, 0, i % pool.ngroups);
		for (uint64_t until = now_ms() + 5000;
		     ksf_load(&work.ran) != i + 1 && now_ms() < until;)
			host_relax();
		if (ksf_load(&work.ran) != i + 1)
			break;
	}
	ok(i == rounds, "%s: %u tasks, each wakes somebody", what, i);
	pool_stop(&pool);
	ksf_store(&spin_us, 0);
}

/*
 * A wake-up that is swallowed by a look at the poll without sleep. The producer that sent it had
 * seen the workers asleep, but was slow: the worker is up already. Here the test is that slow
 * producer, and the worker is kept awake by spinning.
 */
static void
test_swallowed(void)
{
	static struct work work;
	struct ksf_group *group;
	bool good = true;

	memset(&work, 0, sizeof(work));
	ksf_store(&spin_us, 100000);
	begin(1, 1);
	group = &pool.groups[0];
	for (unsigned i = 0; i < 20 && good; i++) {
		run(&work, work_fn, 0, 0);
		WAIT_FOR(ksf_load(&work.ran) == 2 * i + 1, 5000);
		if (ksf_exchange(&group->waking, 1) == 0)
			host_poll_wake(group->poll);
		WAIT_FOR(ksf_load(&group->awake) == 0, 5000);
		run(&work, work_fn, 0, 0);
		WAIT_FOR(ksf_load(&work.ran) == 2 * i + 2, 3000);
		good = ksf_load(&work.ran) == 2 * i + 2;
	}
	ok(good, "wake-ups: one that a spinning worker swallows does not hide the next");
	ksf_store(&spin_us, 0);
	pool_stop(&pool);
}

/*
 * Tasks that may block.
 */
static void
test_blocking(void)
{
	static struct work blocking[12], quick;
	bool served = true;

	memset(blocking, 0, sizeof(blocking));
	ksf_store(&misplaced, 0);
	begin(1, 4);
	for (unsigned i = 0; i < 3; i++) {
		run(&blocking[i], gate_fn, KSF_TASK_MAY_BLOCK, 0);
		WAIT_FOR(ksf_load(&waiting) == i + 1, 5000);

		/* Others are served, however many are blocked below tdmax. */
		memset(&quick, 0, sizeof(quick));
		run(&quick, work_fn, 0, 0);
		WAIT_FOR(ksf_load(&quick.ran) == 1, 5000);
		served = served && ksf_load(&waiting) == i + 1 && ksf_load(&quick.ran) == 1;
	}
	ok(served, "blocking: other tasks of the core are served");
	ok(pool_workers(&pool) >= 4 + (ncpus - 1) && pool_workers(&pool) <= 4 * ncpus,
	    "blocking: by workers that were started for it (%u)", pool_workers(&pool));

	for (unsigned i = 3; i < ksf_nelem(blocking); i++)
		run(&blocking[i], gate_fn, KSF_TASK_MAY_BLOCK, 0);
	WAIT_FOR(ksf_load(&waiting) == 4, 5000);
	memset(&quick, 0, sizeof(quick));
	run(&quick, work_fn, 0, 0);
	nap(300);
	ok(ksf_load(&waiting) == 4 && pool_workers(&pool) <= 4 + (ncpus - 1) * 4,
	    "blocking: never more workers than tdmax");
	ok(ksf_load(&quick.ran) == 0, "blocking: then tasks wait");
	gate_let(ksf_nelem(blocking));
	WAIT_FOR(ksf_load(&quick.ran) == 1 && ksf_load(&waiting) == 0, 5000);
	served = ksf_load(&quick.ran) == 1;
	for (unsigned i = 0; i < ksf_nelem(blocking); i++) {
		WAIT_FOR(ksf_load(&blocking[i].ran) == 1, 5000);
		served = served && ksf_load(&blocking[i].ran) == 1;
	}
	ok(served && ksf_load(&misplaced) == 0, "blocking: and run as the others end");
	pool_stop(&pool);
}

/* A task that sleeps although it did not say so: the group grows when it sees no progress. */
static void
test_stuck(void)
{
	static struct work stuck, quick;

	memset(&stuck, 0, sizeof(stuck));
	memset(&quick, 0, sizeof(quick));
	begin(1, 2);
	run(&stuck, gate_fn, 0, 0);
	WAIT_FOR(ksf_load(&waiting) == 1, 5000);
	run(&quick, work_fn, 0, 0);
	WAIT_FOR(ksf_load(&quick.ran) == 1, 5000);
	ok(ksf_load(&quick.ran) == 1 && ksf_load(&waiting) == 1,
	    "stuck: a worker is started when tasks make no progress");
	gate_let(1);
	WAIT_FOR(ksf_load(&stuck.ran) == 1, 5000);
	pool_stop(&pool);
}

/* No thread can be had when one is needed: the maintenance thread tries again. */
static void
test_no_thread(void)
{
	static struct work blocking, quick;

	memset(&blocking, 0, sizeof(blocking));
	memset(&quick, 0, sizeof(quick));
	begin(1, 2);
	ksf_store(&threads_fail, 2);
	run(&blocking, gate_fn, KSF_TASK_MAY_BLOCK, 0);
	WAIT_FOR(ksf_load(&waiting) == 1, 5000);
	run(&quick, work_fn, 0, 0);
	WAIT_FOR(ksf_load(&quick.ran) == 1, 5000);
	ok(ksf_load(&quick.ran) == 1 && ksf_load(&threads_fail) == 0, "no thread: tried again");
	gate_let(1);
	WAIT_FOR(ksf_load(&blocking.ran) == 1, 5000);
	pool_stop(&pool);
}

/*
 * Idle workers above tdmin end.
 */
static void
test_shrink(void)
{
	static struct work blocking[3], quick;
	unsigned most;

	memset(blocking, 0, sizeof(blocking));
	memset(&quick, 0, sizeof(quick));
	ksf_store(&idle_exit_ms, 300);
	ksf_store(&idle_waits, 0);
	begin(1, 4);
	for (unsigned i = 0; i < ksf_nelem(blocking); i++) {
		run(&blocking[i], gate_fn, KSF_TASK_MAY_BLOCK, 0);
		WAIT_FOR(ksf_load(&waiting) == i + 1, 5000);
	}
	most = pool_workers(&pool);
	gate_let(ksf_nelem(blocking));
	WAIT_FOR(pool_workers(&pool) == ncpus, 10000);
	ok(most > ncpus && pool_workers(&pool) == ncpus && ksf_load(&idle_waits) > 0,
	    "shrink: from %u workers to tdmin after the idle time", most);
	run(&quick, work_fn, 0, 0);
	WAIT_FOR(ksf_load(&quick.ran) == 1, 5000);
	ok(ksf_load(&quick.ran) == 1, "shrink: who is left works on");
	for (unsigned i = 0; i < ksf_nelem(blocking); i++)
		WAIT_FOR(ksf_load(&blocking[i].ran) == 1, 5000);

	/* Workers that have ended are joined, and what they counted is kept. */
	WAIT_FOR(ksf_load_relaxed(&stats[1]) != 0, 5000);
	ok(pool_stat(&pool, 1) == 4, "shrink: statistics keep what ended workers have counted");
	pool_stop(&pool);
	ksf_store(&idle_exit_ms, IDLE_EXIT_MS);
}

/* An idle pool keeps its workers and its clock. */
static void
test_idle(void)
{
	uint32_t ticks;

	begin(2, 2);
	ticks = pool_ticks(&pool);
	ksf_store(&pool_tick_calls, 0);
	WAIT_FOR(pool_ticks(&pool) >= ticks + 5, 5000);
	ok(pool_ticks(&pool) >= ticks + 5 && ksf_load(&pool_tick_calls) >= 3,
	    "idle: the clock ticks");
	ok(pool_workers(&pool) == 2 * ncpus, "idle: tdmin workers for each core");
	pool_stop(&pool);
}

/* Starting fails at each thread. */
static void
test_start_fails(void)
{
	unsigned n = 0;
	bool good = true;

	for (; n < 2 * ncpus + 1 && good; n++) {
		ksf_store(&threads_good, n);
		ksf_store(&threads_fail, 1);
		good = try_begin(2, 2) == EAGAIN && ksf_load(&threads_fail) == 0;
	}
	ok(good, "start: fails at any of %u threads", n);
	begin(2, 2);
	ok(pool_workers(&pool) == 2 * ncpus, "start: and succeeds afterwards");
	pool_stop(&pool);
}

/*
 * By way of a service.
 */
static void
idle_input(struct ksf_conn *conn, struct ksf_rx *rx)
{
	(void)conn;
	kbufq_clear(&rx->q);
}

static const struct ksf_ops idle_ops = { .input = idle_input };

static int
idle_start(struct ksf_svc *svc)
{
	return (ksf_svc_listen(svc, KSF_TCP, &idle_ops, 0));
}

static const struct ksf_service idle_service = {
	.name = "idle", .help = "only runs tasks", .start = idle_start
};

/* A task that queues itself again, elsewhere. */
struct traveller {
	struct ksf_task task;
	struct ksf_svc *svc;
	uint32_t left;
	uint32_t misplaced;
	unsigned next;
};

static void
traveller_fn(struct ksf_task *task)
{
	struct traveller *traveller = ksf_container_of(task, struct traveller, task);

	if (!runs_on(cpus[traveller->next]))
		traveller->misplaced++;
	traveller->next = (traveller->next + 1) % ncpus;
	if (--traveller->left != 0)
		ksf_task_run(traveller->svc, task, (int)cpus[traveller->next]);
}

static void
sleeper_fn(struct ksf_task *task)
{
	struct work *work = ksf_container_of(task, struct work, task);

	nap(10);
	ksf_fetch_add(&work->ran, 1);
}

static void
test_service(void)
{
	struct ksf_svc *svc = service_start(&idle_service, "tdmax=4");
	struct traveller traveller = { .task.fn = traveller_fn, .svc = svc, .left = 1000 };
	static struct work queued[200];
	static struct work any = { .task.fn = work_fn };
	unsigned once = 0;

	memset(queued, 0, sizeof(queued));
	ksf_store(&any.ran, 0);
	ksf_task_run(svc, &any.task, KSF_CPU_ANY);
	WAIT_FOR(ksf_load(&any.ran) == 1, 5000);
	ok(ksf_load(&any.ran) == 1, "service: a task for any core runs");
	ksf_task_run(svc, &traveller.task, (int)cpus[0]);
	for (unsigned i = 0; i < ksf_nelem(queued); i++) {
		queued[i].task.fn = sleeper_fn;
		queued[i].task.flags = i % 2 == 0 ? KSF_TASK_MAY_BLOCK : 0;

		/* A core that the service does not run on is as good as any. */
		ksf_task_run(svc, &queued[i].task, i % 3 == 0 ? 60000 : (int)cpus[i % ncpus]);
	}
	ksf_svc_stop(svc, 0);
	for (unsigned i = 0; i < ksf_nelem(queued); i++)
		once += ksf_load(&queued[i].ran) == 1;
	ok(once == ksf_nelem(queued),
	    "service: stop returns after all queued tasks have run, even without grace");
	ok(traveller.left == 0 && traveller.misplaced == 0,
	    "service: a task may queue itself again, on another core");
	ksf_svc_destroy(svc);
}

int
main(void)
{
	ncpus = host_cores(cpus, CPUS_MAX);
	test_idle();
	test_producers("one worker", 1, 0);
	test_producers("four workers", 4, 0);
	test_producers("four spinning workers", 4, 100);
	test_wakeups("wake-ups", 1, 0);
	test_wakeups("wake-ups, four workers", 4, 0);
	test_wakeups("wake-ups, spinning", 1, 20);
	test_swallowed();
	test_blocking();
	test_stuck();
	test_no_thread();
	test_shrink();
	test_start_fails();
	test_service();
	return (tap_end());
}
