/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The measurement engine: making the workers, running them for one iteration, adding up what they
 * did. Runs in the main thread but for worker_main(), which is the body of every worker thread.
 */
#include "engine_internal.h"

#include <sys/resource.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "affinity.h"
#include "message.h"

/* Descriptors for everything but connections: standard ones, event queues, files of plots. */
#define OTHER_DESCRIPTORS 16u

/* How often the progress function is called. */
#define PROGRESS_INTERVAL_NS (250 * CLOCK_NS_PER_MS)

/* Make room for the descriptors that the engine needs. Returns 0 or an errno value after a message.
 */
static int
raise_descriptor_limit(const struct engine_config *config)
{
	struct rlimit limit;
	rlim_t needed;

	needed = (rlim_t)config->connections + config->threads + OTHER_DESCRIPTORS;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
		message("limit of open files: %s", strerror(errno));
		return (errno);
	}
	if (limit.rlim_cur >= needed)
		return (0);
	if (limit.rlim_max < needed) {
		message("%u connections need %ju open files, but this process may have only %ju "
			"(hard limit RLIMIT_NOFILE)",
		    config->connections, (uintmax_t)needed, (uintmax_t)limit.rlim_max);
		return (EMFILE);
	}
	limit.rlim_cur = needed;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
		message("limit of open files: %s", strerror(errno));
		return (errno);
	}
	return (0);
}

/* How many of `total` things the worker with this index gets when they are dealt out evenly. */
static unsigned
share(unsigned total, unsigned workers, unsigned index)
{
	return (total / workers + (index < total % workers ? 1 : 0));
}

/* Make the connections of a worker, still closed. Returns false without memory. */
static bool
create_connections(struct worker *worker, unsigned first)
{
	const struct engine_config *config = worker->engine->config;
	struct conn *conn;
	unsigned i;

	worker->conn = calloc(worker->connections, sizeof(*worker->conn));
	if (worker->conn == NULL)
		return (false);
	for (i = 0; i < worker->connections; i++)
		worker->conn[i].fd = -1;
	for (i = 0; i < worker->connections; i++) {
		conn = &worker->conn[i];
		conn->worker = worker;
		conn->number = first + i;
		conn->active = i < worker->carriers;
		conn->protocol_state = calloc(1, config->protocol->state_size);
		if (conn->protocol_state == NULL)
			return (false);
	}
	return (true);
}

/* Make what a worker needs beside its connections. Returns false without memory. */
static bool
create_worker(struct worker *worker)
{
	const struct engine_config *config = worker->engine->config;
	size_t size;

	size = config->message_max + 1;
	if (size < PROTOCOL_BUFFER)
		size = PROTOCOL_BUFFER;
	worker->rx_size = size;
	worker->rx = malloc(size);
	worker->tx = malloc(size);
	worker->latency = hist_create();
	worker->queue = evqueue_create();
	worker->window = config->in_flight > 0 ? config->in_flight : 1;
	if (config->datagram && config->batch > 1) {
		worker->batch = datagram_batch_create(config);
		if (worker->batch == NULL)
			return (false);
	}
	return (worker->rx != NULL && worker->tx != NULL && worker->latency != NULL &&
		worker->queue != NULL);
}

static void
destroy_worker(struct worker *worker)
{
	unsigned i;

	for (i = 0; worker->conn != NULL && i < worker->connections; i++) {
		if (worker->conn[i].state != CONN_CLOSED)
			conn_close(&worker->conn[i]);
		free(worker->conn[i].protocol_state);
	}
	free(worker->conn);
	free(worker->rx);
	free(worker->tx);
	free(worker->latency);
	datagram_batch_destroy(worker->batch);
	evqueue_destroy(worker->queue);
}

int
engine_create(const struct engine_config *config, struct engine **result)
{
	struct engine *engine;
	struct worker *worker;
	unsigned first, i;
	int error;

	error = raise_descriptor_limit(config);
	if (error != 0)
		return (error);

	engine = calloc(1, sizeof(*engine));
	if (engine == NULL)
		goto no_memory;
	engine->config = config;
	engine->events = config->connections > config->threads || config->rate > 0;
	engine->worker = calloc(config->threads, sizeof(*engine->worker));
	engine->thread = calloc(config->threads, sizeof(*engine->thread));
	engine->latency = hist_create();
	if (engine->worker == NULL || engine->thread == NULL || engine->latency == NULL)
		goto no_memory;

	first = 0;
	for (i = 0; i < config->threads; i++) {
		worker = &engine->worker[i];
		worker->engine = engine;
		worker->index = i;
		worker->connections = share(config->connections, config->threads, i);
		worker->carriers = share(config->active, config->threads, i);
		if (!create_worker(worker) || !create_connections(worker, first))
			goto no_memory;
		first += worker->connections;
	}
	*result = engine;
	return (0);

no_memory:
	message("not enough memory for %u connections", config->connections);
	engine_destroy(engine);
	return (ENOMEM);
}

void
engine_destroy(struct engine *engine)
{
	unsigned i;

	if (engine == NULL)
		return;
	for (i = 0; engine->worker != NULL && i < engine->config->threads; i++) {
		if (engine->worker[i].engine != NULL)
			destroy_worker(&engine->worker[i]);
	}
	free(engine->worker);
	free(engine->thread);
	free(engine->latency);
	free(engine);
}

void
engine_stop(struct engine *engine)
{
	atomic_store(&engine->stop, true);
}

/* Set the times of an iteration that begins now. */
static void
begin_iteration(struct worker *worker)
{
	const struct engine_config *config = worker->engine->config;
	double interval_ns;
	unsigned turns;

	worker->begin_ns = clock_ns();
	worker->last_ns = worker->begin_ns;
	worker->tick_ns = worker->begin_ns + ENGINE_TICK_NS;
	worker->end_ns = config->duration_ns != 0 ? worker->begin_ns + config->duration_ns
						  : UINT64_MAX;
	worker->interval_ns = 0;
	if (config->rate > 0) {
		/* The threads that send take turns, so that their messages together are evenly
		 * spaced. */
		interval_ns = (double)CLOCK_NS_PER_S / config->rate;
		turns = config->active < config->threads ? config->active : config->threads;
		worker->interval_ns = interval_ns * turns;
		worker->first_due_ns = worker->begin_ns + (uint64_t)(interval_ns * worker->index);
	}
}

/* Messages that were due in an open loop before its end but were never sent. */
static uint64_t
count_unsent(const struct worker *worker)
{
	const struct engine_config *config = worker->engine->config;
	uint64_t due;

	if (worker->interval_ns == 0 || worker->end_ns == UINT64_MAX ||
	    worker->first_due_ns >= worker->end_ns || engine_stopped(worker->engine))
		return (0);
	due = (uint64_t)((double)(worker->end_ns - worker->first_due_ns - 1) /
			 worker->interval_ns) +
	      1;
	if (due > config->count)
		due = config->count;
	return (due > worker->totals.messages.started ? due - worker->totals.messages.started : 0);
}

/* The body of a worker thread: connect, wait for the others, carry messages. */
static void
worker_main(void *arg, unsigned index)
{
	struct engine *engine = arg;
	struct worker *worker;
	uint64_t cpu_ns;

	worker = &engine->worker[index];
	memset(&worker->totals, 0, sizeof(worker->totals));
	hist_clear(worker->latency);
	atomic_store(&worker->completed, 0);
	worker_connect(worker);
	if (!threads_barrier(&engine->crew))
		return;

	if (engine->config->rate > 0)
		affinity_precise_sleep();
	cpu_ns = clock_thread_cpu_ns();
	worker->connected = worker->open;
	begin_iteration(worker);
	if (worker->active > 0) {
		if (engine->events)
			worker_run_events(worker);
		else
			worker_run_blocking(worker);
	}
	worker->totals.unsent = count_unsent(worker);
	worker->totals.elapsed_ns = worker->last_ns - worker->begin_ns;
	worker->totals.cpu_ns = clock_thread_cpu_ns() - cpu_ns;
}

/* Add what one worker did to the sum of all. */
static void
add_totals(struct engine_totals *sum, const struct engine_totals *part)
{
	unsigned i;

	sum->messages.started += part->messages.started;
	sum->messages.completed += part->messages.completed;
	sum->messages.lost += part->messages.lost;
	sum->messages.late += part->messages.late;
	sum->messages.duplicate += part->messages.duplicate;
	sum->messages.reordered += part->messages.reordered;
	sum->unsent += part->unsent;
	for (i = 0; i < ENGINE_ERRORS; i++)
		sum->errors[i] += part->errors[i];
	sum->tx_bytes += part->tx_bytes;
	sum->rx_bytes += part->rx_bytes;
	sum->sends += part->sends;
	sum->recvs += part->recvs;
	sum->waits += part->waits;
	sum->cpu_ns += part->cpu_ns;
	if (part->elapsed_ns > sum->elapsed_ns)
		sum->elapsed_ns = part->elapsed_ns;
}

/* Collect the results of all workers once they have finished. */
static void
collect(struct engine *engine, struct engine_result *result)
{
	struct worker *worker;
	unsigned i;

	memset(result, 0, sizeof(*result));
	result->threads = engine->config->threads;
	result->address = engine->config->addresses->address[engine->worker[0].preferred].text;
	result->latency = engine->latency;
	result->thread = engine->thread;
	hist_clear(engine->latency);
	for (i = 0; i < engine->config->threads; i++) {
		worker = &engine->worker[i];
		engine->thread[i].totals = worker->totals;
		engine->thread[i].latency = worker->latency;
		add_totals(&result->total, &worker->totals);
		hist_merge(engine->latency, worker->latency);
		result->connected += worker->connected;
	}
}

int
engine_run(struct engine *engine, void (*progress)(void *arg, uint64_t completed), void *arg,
    struct engine_result *result)
{
	const struct engine_config *config = engine->config;
	uint64_t completed;
	unsigned i;
	int error;

	for (i = 0; i < ENGINE_ERRORS; i++)
		atomic_store(&engine->reported[i], 0);
	error = threads_start(
	    &engine->crew, config->threads, config->cpus, config->ncpus, worker_main, engine);
	if (error != 0) {
		message("cannot start %u threads: %s", config->threads, strerror(error));
		return (error);
	}

	while (!threads_wait(&engine->crew, progress != NULL ? PROGRESS_INTERVAL_NS : UINT64_MAX)) {
		completed = 0;
		for (i = 0; i < config->threads; i++)
			completed += atomic_load_explicit(
			    &engine->worker[i].completed, memory_order_relaxed);
		progress(arg, completed);
	}
	threads_join(&engine->crew);
	collect(engine, result);
	return (0);
}
