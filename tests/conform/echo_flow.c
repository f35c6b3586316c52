/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Flow control: what a client does not read must stop the server from reading that client, must not
 * pile up in the server without bound, and must be nobody else's trouble. Each function is one
 * check; runs in the check's process.
 */
#include <inttypes.h>
#include <poll.h>

#include "echo.h"
#include "stream.h"

enum {
	KIB = 1024,
	MIB = 1024 * 1024,
	SMALL_BUFFER = 64 * KIB,
	/*
	 * What one connection may take unread: at most 64 MiB in the service, and as much in the
	 * socket buffers of both ends, whose limits are the systems' and may be tens of MiB.
	 */
	UNREAD_BOUND = 128 * MIB,
	FILL_BYTES = 4 * MIB,         /* that block one of many connections */
	FILL_BYTES_SINGLE = 32 * MIB, /* that block the only one */
	NEVER_READERS = 50,
};

static void
check_backpressure(struct run *run)
{
	struct stream stream;

	stream_open_small(run, &stream, 256 * KIB);
	for (unsigned rounds = run_size(run, 3, 2); rounds > 0; rounds--) {
		uint64_t before = stream.sent;

		if (streams_fill(run, &stream, 1, UNREAD_BOUND) == 0)
			run_fail(run,
			    "%" PRIu64 " bytes were taken from a client that reads nothing",
			    stream.sent - before);
		run_detail(run, "blocked after %" PRIu64 " bytes", stream.sent - before);
		/*
		 * Now read it all: the server must read again by itself, and nothing may be
		 * missing.
		 */
		stream_receive(run, &stream, 0);
		stream_echo(run, &stream, MIB, 64 * KIB);
	}
	stream_finish(run, &stream);
}

static void
round_trips(struct run *run, unsigned count)
{
	struct stream stream;

	stream_open(run, &stream);
	for (; count > 0; count--)
		stream_echo(run, &stream, random_length(&run->random, 16 * KIB), 16 * KIB);
	stream_finish(run, &stream);
}

/*
 * Reads a few KiB per 10 ms for a while and the rest at full speed, sending as much as it may all
 * the time.
 */
static void
slow_reader(struct run *run)
{
	enum { PIECE_BYTES = 64 * KIB };
	struct stream stream;

	stream_open_small(run, &stream, SMALL_BUFFER);
	for (unsigned left = run_size(run, 150, 40); left > 0; left--) {
		size_t taken = PIECE_BYTES;

		while (stream.sent < UNREAD_BOUND && taken > 0)
			taken = stream_try_send(run, &stream, PIECE_BYTES);
		stream_try_receive(run, &stream, 1 + random_below(&run->random, 8 * KIB));
		run_pause(run, 10);
	}
	stream_finish(run, &stream);
}

static void
slow_reader_worker(struct run *run, unsigned index, void *argument)
{
	(void)argument;
	if (index == 0)
		slow_reader(run);
	else
		round_trips(run, run_size(run, 2000, 300));
}

static void
check_slow_reader(struct run *run)
{
	run_workers(run, 4, slow_reader_worker, NULL);
}

/*
 * Some of the clients that never read go away in each way there is; the rest read in the end, and
 * miss nothing.
 */
static void
check_never_readers(struct run *run)
{
	struct stream streams[NEVER_READERS];
	unsigned blocked;

	for (unsigned i = 0; i < NEVER_READERS; i++)
		stream_open_small(run, &streams[i], SMALL_BUFFER);
	blocked = streams_fill(run, streams, NEVER_READERS, FILL_BYTES);
	if (blocked < NEVER_READERS)
		run_note(run, "%d bytes blocked only %u of %d connections", FILL_BYTES, blocked,
		    NEVER_READERS);
	round_trips(run, run_size(run, 1000, 200));
	for (unsigned i = 0; i < NEVER_READERS; i++) {
		if (i % 4 == 0)
			stream_reset(run, &streams[i]);
		else if (i % 4 == 1)
			stream_close(&streams[i]);
	}
	round_trips(run, run_size(run, 1000, 200));
	for (unsigned i = 0; i < NEVER_READERS; i++)
		if (i % 4 > 1)
			stream_finish(run, &streams[i]);
}

/* Windows that open a byte at a time, among them the first ones after the server was blocked. */
static void
check_crawling_reader(struct run *run)
{
	struct stream stream;

	stream_open_small(run, &stream, SMALL_BUFFER);
	if (streams_fill(run, &stream, 1, FILL_BYTES_SINGLE) == 0)
		run_note(run, "%d bytes did not block the server", FILL_BYTES_SINGLE);
	for (unsigned left = 500; left > 0 && stream.received < stream.sent; left--)
		if (stream_try_receive(run, &stream, 1 + left % 3) == 0)
			stream_wait(run, &stream, POLLIN, "reading a few bytes at a time");
	stream_finish(run, &stream);
}

static const struct check checks[] = {
	{ "tcp-backpressure", "a client that does not read is stopped, and misses nothing later",
	    check_backpressure, 0, 40 },
	{ "tcp-slow-reader", "a slow reader does not hold up other clients", check_slow_reader, 0,
	    40 },
	{ "tcp-never-readers", "clients that never read do not hold up another",
	    check_never_readers, 0, 40 },
	{ "tcp-crawling-reader", "a blocked connection goes on when a few bytes are read",
	    check_crawling_reader, 0, 20 },
};

const struct check_table echo_flow_checks = { checks, COUNT_OF(checks), echo_probe_tcp };
