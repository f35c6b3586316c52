/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ends of TCP connections: half-close, reset, abandon. Data sent before a half-close comes back
 * whole; an unorderly end harms nobody else (the probe after each check shows that). Each function
 * is one check; runs in the check's process.
 */
#include <sys/socket.h>

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "echo.h"
#include "net.h"
#include "stream.h"

enum {
	KIB = 1024,
	MIB = 1024 * 1024,
	FILL_BYTES = 8 * MIB,         /* that block one of many connections */
	FILL_BYTES_SINGLE = 32 * MIB, /* that block the only one */
	SMALL_BUFFER = 64 * KIB,      /* socket buffers of such a connection */
};

static void
check_half_close(struct run *run)
{
	static const uint32_t sizes[] = { 0, 1, 1000, 64 * KIB, MIB, 16 * MIB };

	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		struct stream stream;

		stream_open(run, &stream);
		stream_send(run, &stream, run->quick && sizes[i] > 4 * MIB ? 4 * MIB : sizes[i]);
		stream_half_close(run, &stream);
		stream_finish(run, &stream);
	}
}

/* The FIN follows the data at once, mostly in the same segment; the server sees both together. */
static void
check_half_close_burst(struct run *run)
{
	for (unsigned left = run_size(run, 200, 30); left > 0; left--) {
		struct stream stream;

		stream_open(run, &stream);
		stream_send(run, &stream, random_length(&run->random, MIB));
		stream_finish(run, &stream);
	}
}

/*
 * The FIN waits behind data that the server has stopped reading; all comes back once the client
 * reads.
 */
static void
check_half_close_blocked(struct run *run)
{
	struct stream stream;

	stream_open_small(run, &stream, SMALL_BUFFER);
	if (streams_fill(run, &stream, 1, FILL_BYTES_SINGLE) == 0)
		run_note(run, "%d bytes did not block the server", FILL_BYTES_SINGLE);
	stream_half_close(run, &stream);
	while (stream.received < stream.sent) {
		if (stream_try_receive(run, &stream, random_length(&run->random, 64 * KIB)) == 0)
			stream_wait(run, &stream, POLLIN, "receiving after a half-close");
		if (random_below(&run->random, 16) == 0)
			run_pause(run, 1);
	}
	stream_finish(run, &stream);
}

/* Half-close long after the last byte came back: the FIN alone wakes the server. */
static void
check_half_close_idle(struct run *run)
{
	struct stream stream;

	stream_open(run, &stream);
	stream_echo(run, &stream, 1000, 1000);
	run_pause(run, 300);
	stream_finish(run, &stream);
}

/*
 * Clients half-close and read only much later. Among so many amounts of data are some that the
 * server has read to the end while part of it still waits in the server to be sent.
 */
static void
check_half_close_unread(struct run *run)
{
	enum { STREAMS = 100, STEP_BYTES = 12 * KIB };
	struct stream streams[STREAMS];

	for (unsigned i = 0; i < STREAMS; i++)
		stream_open_small(run, &streams[i], SMALL_BUFFER);
	for (unsigned i = 0; i < STREAMS; i++) {
		stream_send(
		    run, &streams[i], i * STEP_BYTES + random_below(&run->random, STEP_BYTES));
		stream_half_close(run, &streams[i]);
	}
	run_pause(run, 300);
	for (unsigned i = STREAMS; i > 0; i--)
		stream_finish(run, &streams[i - 1]);
}

static void
check_reset_random(struct run *run)
{
	for (unsigned left = run_size(run, 300, 60); left > 0; left--) {
		struct stream stream;

		stream_open(run, &stream);
		for (unsigned steps = random_below(&run->random, 8); steps > 0; steps--) {
			stream_try_send(run, &stream, random_length(&run->random, 64 * KIB));
			stream_try_receive(run, &stream, random_length(&run->random, 64 * KIB));
		}
		stream_reset(run, &stream);
	}
}

/* Resets before the server has accepted, or just then. */
static void
check_reset_at_once(struct run *run)
{
	for (unsigned left = run_size(run, 300, 60); left > 0; left--)
		net_reset(run, net_connect(run, 0));
}

static void
check_reset_half_closed(struct run *run)
{
	for (unsigned left = run_size(run, 200, 50); left > 0; left--) {
		struct stream stream;

		stream_open(run, &stream);
		stream_try_send(run, &stream, random_length(&run->random, 64 * KIB));
		stream_half_close(run, &stream);
		stream_reset(run, &stream);
	}
}

/* Connections full in both directions, with the server waiting for room to send, are reset. */
static void
check_reset_blocked(struct run *run)
{
	enum { STREAMS = 16 };
	struct stream streams[STREAMS];
	unsigned blocked;

	for (unsigned i = 0; i < STREAMS; i++)
		stream_open_small(run, &streams[i], SMALL_BUFFER);
	blocked = streams_fill(run, streams, STREAMS, FILL_BYTES);
	if (blocked < STREAMS)
		run_note(run, "%d bytes blocked only %u of %d connections", FILL_BYTES, blocked,
		    STREAMS);
	for (unsigned i = 0; i < STREAMS; i++)
		stream_reset(run, &streams[i]);
}

/* An ordinary close(2) with echoes unread: the kernel answers what still comes with resets. */
static void
check_close_unread(struct run *run)
{
	for (unsigned left = run_size(run, 200, 50); left > 0; left--) {
		struct stream stream;

		stream_open(run, &stream);
		stream_try_send(run, &stream, random_length(&run->random, 64 * KIB));
		if (left % 2 == 0)
			stream_wait(run, &stream, POLLIN, "waiting for an echo not to be read");
		stream_close(&stream);
	}
}

/*
 * A client that will not read still writes. Its system may drop the echoes, keep them, or answer
 * them with resets as soon as they come (POSIX leaves that open), so that only writes before any
 * echo can be sure to succeed.
 */
static void
check_shutdown_read(struct run *run)
{
	for (unsigned left = run_size(run, 50, 10); left > 0; left--) {
		struct stream stream;

		stream_open(run, &stream);
		if (shutdown(stream.fd, SHUT_RD) != 0)
			run_fail(run, "cannot shut down reading: %s", strerror(errno));
		for (unsigned writes = 0; writes < 8; writes++) {
			char bytes[1000] = { 0 };

			if (send(stream.fd, bytes, sizeof(bytes), MSG_NOSIGNAL) < 0 && writes == 0)
				run_fail(run, "cannot send after shutting down reading: %s",
				    strerror(errno));
			run_pause(run, 1);
		}
		stream_close(&stream);
	}
}

/* While connections that say nothing, or half of something, stay open, others are served as ever.
 */
static void
check_abandoned(struct run *run)
{
	enum { MOST = 200 };
	struct stream idle[MOST];
	struct stream active;
	unsigned count = run_size(run, MOST, 50);

	for (unsigned i = 0; i < count; i++) {
		stream_open(run, &idle[i]);
		if (i % 2 == 0)
			stream_try_send(run, &idle[i], random_length(&run->random, 1000));
	}
	stream_open(run, &active);
	for (unsigned round = run_size(run, 500, 100); round > 0; round--)
		stream_echo(run, &active, random_length(&run->random, 8 * KIB), 8 * KIB);
	stream_finish(run, &active);
	for (unsigned i = 0; i < count; i++) {
		if (i % 4 == 0)
			stream_finish(run, &idle[i]);
		else
			stream_close(&idle[i]);
	}
}

static const struct check checks[] = {
	{ "tcp-half-close", "after a half-close all data comes back, then the end",
	    check_half_close, 0, 30 },
	{ "tcp-half-close-burst", "bursts followed by FIN at once come back",
	    check_half_close_burst, 0, 30 },
	{ "tcp-half-close-blocked", "a half-close behind blocked data loses nothing",
	    check_half_close_blocked, 0, 30 },
	{ "tcp-half-close-idle", "an idle connection closes on FIN alone", check_half_close_idle, 0,
	    10 },
	{ "tcp-half-close-unread", "what clients read long after a half-close is whole",
	    check_half_close_unread, 0, 30 },
	{ "tcp-reset-random", "resets with data under way harm nobody else", check_reset_random, 0,
	    20 },
	{ "tcp-reset-at-once", "resets right after connecting harm nobody else",
	    check_reset_at_once, 0, 20 },
	{ "tcp-reset-half-closed", "resets right after a half-close harm nobody else",
	    check_reset_half_closed, 0, 20 },
	{ "tcp-reset-blocked", "resets of connections blocked in sending harm nobody else",
	    check_reset_blocked, 0, 20 },
	{ "tcp-close-unread", "closing with unread echoes harms nobody else", check_close_unread, 0,
	    20 },
	{ "tcp-shutdown-read", "clients that write after SHUT_RD harm nobody else",
	    check_shutdown_read, 0, 20 },
	{ "tcp-abandoned", "abandoned connections do not disturb a working one", check_abandoned, 0,
	    20 },
};

const struct check_table echo_close_checks = { checks, COUNT_OF(checks), echo_probe_tcp };
