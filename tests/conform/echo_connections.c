/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Many connections: at once, in quick succession, and with all kinds of clients together. Each
 * function is one check; runs in the check's process.
 */
#include <stdlib.h>

#include "conform.h"
#include "datagram.h"
#include "echo.h"
#include "net.h"
#include "stream.h"

enum {
	KIB = 1024,
	THREADS = 8,
	CONNECTIONS = 1000,
	CONNECTIONS_QUICK = 100,
};

static struct stream *
allocate_streams(struct run *run, unsigned count)
{
	struct stream *streams = calloc(count, sizeof(*streams));

	if (streams == NULL)
		run_fail(run, "no memory for %u connections", count);
	return (streams);
}

/* Bring the streams into a random order. */
static void
shuffle(struct run *run, struct stream *streams, unsigned count)
{
	for (unsigned i = count; i > 1; i--) {
		unsigned other = random_below(&run->random, i);
		struct stream swapped = streams[i - 1];

		streams[i - 1] = streams[other];
		streams[other] = swapped;
	}
}

static void
check_many_connections(struct run *run)
{
	unsigned count = run_size(run, CONNECTIONS, CONNECTIONS_QUICK);
	struct stream *streams = allocate_streams(run, count);

	for (unsigned i = 0; i < count; i++)
		stream_open(run, &streams[i]);
	for (unsigned round = 0; round < 5; round++) {
		shuffle(run, streams, count);
		for (unsigned i = 0; i < count; i++)
			stream_send(run, &streams[i], random_length(&run->random, 4 * KIB));
		shuffle(run, streams, count);
		for (unsigned i = 0; i < count; i++)
			stream_receive(run, &streams[i], 0);
	}
	for (unsigned i = 0; i < count; i++)
		stream_half_close(run, &streams[i]);
	for (unsigned i = 0; i < count; i++)
		stream_finish(run, &streams[i]);
	free(streams);
}

/* All connect before any of them waits for its connection. */
static void
check_connect_storm(struct run *run)
{
	unsigned count = run_size(run, 400, CONNECTIONS_QUICK);
	struct stream *streams = allocate_streams(run, count);

	for (unsigned i = 0; i < count; i++)
		streams[i].fd = net_connect_start(run, 0);
	for (unsigned i = 0; i < count; i++) {
		net_connect_finish(run, streams[i].fd);
		stream_adopt(run, &streams[i], streams[i].fd);
		stream_send(run, &streams[i], 100);
	}
	for (unsigned i = 0; i < count; i++)
		stream_finish(run, &streams[i]);
	free(streams);
}

static void
churn(struct run *run, unsigned connections)
{
	for (; connections > 0; connections--) {
		struct stream stream;

		stream_open(run, &stream);
		stream_echo(run, &stream, random_length(&run->random, 1000), 1000);
		stream_finish(run, &stream);
	}
}

static void
check_churn(struct run *run)
{
	churn(run, run_size(run, 2000, 200));
}

static void
churn_worker(struct run *run, unsigned index, void *argument)
{
	(void)index;
	(void)argument;
	churn(run, run_size(run, 2000, 200) / THREADS);
}

static void
check_churn_threads(struct run *run)
{
	run_workers(run, THREADS, churn_worker, NULL);
}

/* What one client of the random mix has. */
struct client {
	struct stream stream;
	struct peer peer;
};

static void
reopen(struct run *run, struct client *client)
{
	if (random_below(&run->random, 2) == 0)
		stream_open(run, &client->stream);
	else
		stream_open_small(run, &client->stream, 16 * KIB);
}

static void
step_echo(struct run *run, struct client *client)
{
	stream_echo(run, &client->stream, random_length(&run->random, 512 * KIB), 64 * KIB);
}

static void
step_tiny(struct run *run, struct client *client)
{
	stream_echo(run, &client->stream, random_length(&run->random, 200), 2);
}

static void
step_pipeline(struct run *run, struct client *client)
{
	stream_send(run, &client->stream, random_length(&run->random, 256 * KIB));
	stream_receive(run, &client->stream, random_length(&run->random, 64 * KIB));
}

static void
step_pause(struct run *run, struct client *client)
{
	stream_send(run, &client->stream, random_length(&run->random, 64 * KIB));
	run_pause(run, 1 + random_below(&run->random, 10));
}

static void
step_finish(struct run *run, struct client *client)
{
	stream_send(run, &client->stream, random_length(&run->random, 256 * KIB));
	stream_finish(run, &client->stream);
	reopen(run, client);
}

static void
step_reset(struct run *run, struct client *client)
{
	stream_try_send(run, &client->stream, random_length(&run->random, 64 * KIB));
	stream_reset(run, &client->stream);
	reopen(run, client);
}

static void
step_close(struct run *run, struct client *client)
{
	stream_try_send(run, &client->stream, random_length(&run->random, 64 * KIB));
	stream_close(&client->stream);
	reopen(run, client);
}

static void
step_datagram(struct run *run, struct client *client)
{
	peer_exchange(run, &client->peer, random_length(&run->random, DATAGRAM_MAX_ECHO));
}

static void
step_new_peer(struct run *run, struct client *client)
{
	peer_close(&client->peer);
	peer_open(run, &client->peer, PEER_UNCONNECTED);
	peer_exchange(run, &client->peer, random_length(&run->random, 1000));
}

static void
mix_worker(struct run *run, unsigned index, void *argument)
{
	static void (*const steps[])(struct run *, struct client *) = {
		step_echo,
		step_tiny,
		step_pipeline,
		step_pause,
		step_finish,
		step_reset,
		step_close,
		step_datagram,
		step_new_peer,
	};
	struct client client;

	(void)index;
	(void)argument;
	peer_open(run, &client.peer, PEER_CONNECTED);
	reopen(run, &client);
	for (unsigned left = run_size(run, 2000, 100); left > 0; left--)
		steps[random_below(&run->random, COUNT_OF(steps))](run, &client);
	stream_finish(run, &client.stream);
	peer_close(&client.peer);
}

static void
check_random_mix(struct run *run)
{
	run_workers(run, THREADS, mix_worker, NULL);
}

static const struct check checks[] = {
	{ "tcp-many-connections", "many connections at once echo interleaved",
	    check_many_connections, NEEDS_MANY_FILES, 40 },
	{ "tcp-connect-storm", "connections that all start at once are all served",
	    check_connect_storm, NEEDS_MANY_FILES, 30 },
	{ "tcp-churn", "connect, echo, close, one after the other", check_churn, 0, 30 },
	{ "tcp-churn-threads", "connect, echo, close, by several threads", check_churn_threads, 0,
	    30 },
	{ "random-mix", "clients doing everything at random all get their data", check_random_mix,
	    0, 60 },
};

const struct check_table echo_connections_checks = { checks, COUNT_OF(checks), echo_probe_tcp };
