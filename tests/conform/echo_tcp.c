/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Echo over TCP: every byte comes back, in order, however it was cut into pieces on its way. Each
 * function is one check; runs in the check's process.
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "echo.h"
#include "net.h"
#include "pattern.h"
#include "stream.h"

enum {
	KIB = 1024,
	MIB = 1024 * 1024,
};

static void
check_connect_close(struct run *run)
{
	for (unsigned left = run_size(run, 200, 50); left > 0; left--) {
		struct stream stream;

		stream_open(run, &stream);
		if (left % 2 == 0)
			stream_finish(run, &stream);
		else
			stream_close(&stream);
	}
}

static void
check_one_byte(struct run *run)
{
	struct stream stream;

	stream_open(run, &stream);
	stream_echo(run, &stream, 1, 1);
	stream_finish(run, &stream);
}

/* One message of each size there and back before the next is sent, all on one connection. */
static void
check_small_sizes(struct run *run)
{
	struct stream stream;

	stream_open(run, &stream);
	for (uint32_t size = 1; size <= 2048; size++) {
		stream_send(run, &stream, size);
		stream_receive(run, &stream, 0);
	}
	stream_finish(run, &stream);
}

static void
check_power_sizes(struct run *run)
{
	for (uint32_t power = 4 * KIB; power <= MIB; power *= 2) {
		for (uint32_t size = power - 1; size <= power + 1; size++) {
			struct stream stream;

			stream_open(run, &stream);
			stream_send(run, &stream, size);
			stream_receive(run, &stream, 0);
			stream_finish(run, &stream);
		}
	}
}

static void
check_stream(struct run *run)
{
	struct stream stream;

	stream_open(run, &stream);
	stream_echo(run, &stream, run_size(run, 64, 8) * (uint64_t)MIB, 256 * KIB);
	stream_finish(run, &stream);
}

static void
set_no_delay(struct run *run, struct stream *stream)
{
	net_set_option(run, stream->fd, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
}

static void
check_tiny_writes(struct run *run)
{
	struct stream stream;

	stream_open(run, &stream);
	set_no_delay(run, &stream);
	stream_echo(run, &stream, run_size(run, 20000, 2000), 1);
	stream_finish(run, &stream);
}

static void
check_tiny_reads(struct run *run)
{
	struct stream stream;

	stream_open(run, &stream);
	stream_send(run, &stream, run_size(run, 50000, 5000));
	while (stream.received < stream.sent)
		if (stream_try_receive(run, &stream, 1) == 0)
			stream_wait(run, &stream, POLLIN, "reading byte by byte");
	stream_finish(run, &stream);
}

/* Every byte waits until the one before has come back. */
static void
check_byte_by_byte(struct run *run)
{
	struct stream stream;

	stream_open(run, &stream);
	set_no_delay(run, &stream);
	for (unsigned left = run_size(run, 5000, 500); left > 0; left--)
		stream_echo(run, &stream, 1, 1);
	stream_finish(run, &stream);
}

/* Send one system call's worth of tiny segments, or what the kernel takes of them. */
static void
send_segments(struct run *run, struct stream *stream, unsigned count)
{
	enum { LARGEST_SEGMENT = 7, MOST_SEGMENTS = 256 };
	unsigned char bytes[MOST_SEGMENTS * LARGEST_SEGMENT];
	struct iovec segments[MOST_SEGMENTS];
	struct msghdr message = { .msg_iov = segments };
	size_t length = 0;
	ssize_t sent;

	if (count > MOST_SEGMENTS)
		count = MOST_SEGMENTS;
	for (unsigned i = 0; i < count; i++) {
		segments[i].iov_base = bytes + length;
		segments[i].iov_len = random_below(&run->random, LARGEST_SEGMENT + 1);
		length += segments[i].iov_len;
	}
	pattern_fill(stream->key, stream->sent, bytes, length);
	message.msg_iovlen = count;
	sent = sendmsg(stream->fd, &message, MSG_NOSIGNAL);
	if (sent >= 0)
		stream->sent += (uint64_t)sent;
	else if (!net_would_block(errno))
		run_fail(run, "sendmsg of %u segments: %s", count, strerror(errno));
}

static void
check_segments(struct run *run)
{
	struct stream stream;

	stream_open(run, &stream);
	for (unsigned left = run_size(run, 2000, 200); left > 0; left--) {
		send_segments(run, &stream, random_length(&run->random, 256));
		if (left % 16 == 0)
			stream_receive(run, &stream, 0);
	}
	stream_finish(run, &stream);
}

/* Many requests are under way at any time; the answers overtake nothing. */
static void
check_pipeline(struct run *run)
{
	enum { WINDOW_BYTES = 32 * KIB, MESSAGE_BYTES = 64 };
	struct stream stream;

	stream_open(run, &stream);
	set_no_delay(run, &stream);
	for (unsigned left = run_size(run, 50000, 5000); left > 0; left--) {
		stream_send(run, &stream, MESSAGE_BYTES);
		if (stream.sent - stream.received > WINDOW_BYTES)
			stream_receive(run, &stream, WINDOW_BYTES / 2);
	}
	stream_finish(run, &stream);
}

/* Pauses between pieces: every wake-up of the server counts, none may be lost. */
static void
check_pauses(struct run *run)
{
	struct stream stream;

	stream_open(run, &stream);
	for (unsigned left = run_size(run, 150, 40); left > 0; left--) {
		stream_send(run, &stream, random_length(&run->random, 8 * KIB));
		run_pause(run, random_below(&run->random, 8));
		stream_receive(run, &stream, random_below(&run->random, 2) == 0 ? 0 : 100);
	}
	stream_finish(run, &stream);
}

/* Small socket buffers: the server's sends are taken in part only, again and again. */
static void
check_small_window(struct run *run)
{
	struct stream stream;

	stream_open_small(run, &stream, 8 * KIB);
	stream_echo(run, &stream, run_size(run, 4, 1) * (uint64_t)MIB, 16 * KIB);
	stream_finish(run, &stream);
}

static void
check_several_streams(struct run *run)
{
	enum { STREAMS = 8 };
	struct stream streams[STREAMS];

	for (unsigned i = 0; i < STREAMS; i++)
		stream_open(run, &streams[i]);
	for (unsigned left = run_size(run, 400, 100); left > 0; left--) {
		struct stream *stream = &streams[random_below(&run->random, STREAMS)];

		stream_send(run, stream, random_length(&run->random, 64 * KIB));
		stream = &streams[random_below(&run->random, STREAMS)];
		stream_receive(run, stream, (stream->sent - stream->received) / 2);
	}
	for (unsigned i = 0; i < STREAMS; i++)
		stream_finish(run, &streams[i]);
}

/*
 * Whether and where urgent bytes come back is the receiver's choice of socket options, and TCP
 * implementations differ on which byte is the urgent one; all other bytes are ordinary and must
 * come back.
 */
static void
check_urgent(struct run *run)
{
	enum { ROUNDS = 20, URGENT_BYTE = '!' };
	static const char word[] = "ordinary";
	int fd = net_connect(run, 0);
	unsigned ordinary = 0;
	unsigned urgent = 0;
	ssize_t received;

	for (unsigned i = 0; i < ROUNDS; i++) {
		static const char mark[] = { URGENT_BYTE };

		if (send(fd, word, strlen(word), MSG_NOSIGNAL) != (ssize_t)strlen(word))
			run_fail(run, "cannot send ordinary data: %s", strerror(errno));
		if (send(fd, mark, sizeof(mark), MSG_OOB | MSG_NOSIGNAL) != sizeof(mark))
			run_fail(run, "cannot send urgent data: %s", strerror(errno));
	}
	if (shutdown(fd, SHUT_WR) != 0)
		run_fail(run, "cannot half-close after urgent data: %s", strerror(errno));
	do {
		char buffer[256];

		if (net_wait(run, fd, POLLIN, UINT64_MAX) == 0)
			run_fail_timeout(run, "receiving what was sent around urgent data");
		received = recv(fd, buffer, sizeof(buffer), 0);
		if (received < 0)
			run_fail(run, "cannot receive around urgent data: %s", strerror(errno));
		for (ssize_t i = 0; i < received; i++) {
			if (buffer[i] == URGENT_BYTE)
				urgent++;
			else if (buffer[i] != word[ordinary++ % strlen(word)])
				run_fail(run, "ordinary byte %u came back wrong", ordinary - 1);
		}
	} while (received > 0);
	if (ordinary != ROUNDS * strlen(word) || urgent > ROUNDS)
		run_fail(run, "%u of %zu ordinary and %u of %u urgent bytes came back", ordinary,
		    ROUNDS * strlen(word), urgent, (unsigned)ROUNDS);
	run_detail(run, "%u of %u urgent bytes came back", urgent, (unsigned)ROUNDS);
	close(fd);
}

static const struct check checks[] = {
	{ "tcp-connect-close", "connections that carry no data open and close", check_connect_close,
	    0, 20 },
	{ "tcp-one-byte", "one byte comes back", check_one_byte, 0, 10 },
	{ "tcp-small-sizes", "messages of every size from 1 to 2048 bytes come back",
	    check_small_sizes, 0, 20 },
	{ "tcp-power-sizes", "messages around powers of two up to 1 MiB come back",
	    check_power_sizes, 0, 20 },
	{ "tcp-stream", "a long stream in random pieces comes back while it is sent", check_stream,
	    0, 60 },
	{ "tcp-tiny-writes", "a stream of 1-byte writes comes back", check_tiny_writes, 0, 20 },
	{ "tcp-tiny-reads", "a client may read byte by byte", check_tiny_reads, 0, 20 },
	{ "tcp-byte-by-byte", "each byte comes back before the next is sent", check_byte_by_byte, 0,
	    20 },
	{ "tcp-segments", "vectored writes of many tiny segments come back", check_segments, 0,
	    20 },
	{ "tcp-pipeline", "many small messages under way at once come back in order",
	    check_pipeline, 0, 20 },
	{ "tcp-pauses", "pieces with pauses between them come back", check_pauses, 0, 20 },
	{ "tcp-small-window", "a stream comes back through small socket buffers",
	    check_small_window, 0, 30 },
	{ "tcp-several-streams", "streams of one client do not mix", check_several_streams, 0, 20 },
	{ "tcp-urgent", "urgent data harms neither server nor ordinary data", check_urgent, 0, 10 },
};

const struct check_table echo_tcp_checks = { checks, COUNT_OF(checks), echo_probe_tcp };
