/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Verified TCP echo streams. Runs in any thread of a check's process, on streams of that thread.
 * Waits only in net_wait() and poll(2), never without a deadline.
 */
#include <sys/socket.h>

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "net.h"
#include "pattern.h"
#include "stream.h"

enum {
	SCRATCH_BYTES = 64 * 1024,
	/* A stream counts as blocked after it took no byte for this time (scaled). */
	BLOCKED_AFTER_MS = 250,
};

static _Noreturn void
stream_failed(const struct run *run, const struct stream *stream, const char *what)
{
	run_fail(run, "connection from port %u: %s (%" PRIu64 " bytes sent, %" PRIu64 " received)",
	    stream->local_port, what, stream->sent, stream->received);
}

static _Noreturn void
stream_mismatched(const struct run *run, const struct stream *stream, const unsigned char *buffer,
    size_t length, size_t index)
{
	unsigned char expected[1];

	pattern_fill(stream->key, stream->received + index, expected, sizeof(expected));
	run_fail(run,
	    "connection from port %u: byte %" PRIu64 " came back as 0x%02x, not 0x%02x"
	    " (byte %zu of %zu received at once, %" PRIu64 " sent)",
	    stream->local_port, stream->received + index, buffer[index], expected[0], index, length,
	    stream->sent);
}

void
stream_adopt(struct run *run, struct stream *stream, int fd)
{
	*stream = (struct stream){
		.fd = fd,
		.local_port = net_local_port(run, fd),
		.key = random_next(&run->random),
	};
}

void
stream_open(struct run *run, struct stream *stream)
{
	stream_adopt(run, stream, net_connect(run, 0));
}

void
stream_open_small(struct run *run, struct stream *stream, unsigned buffer_bytes)
{
	stream_adopt(run, stream, net_connect(run, buffer_bytes));
}

size_t
stream_try_send(struct run *run, struct stream *stream, size_t length)
{
	unsigned char scratch[SCRATCH_BYTES];
	ssize_t sent;

	if (length > sizeof(scratch))
		length = sizeof(scratch);
	pattern_fill(stream->key, stream->sent, scratch, length);
	sent = send(stream->fd, scratch, length, MSG_NOSIGNAL);
	if (sent < 0) {
		if (!net_would_block(errno))
			stream_failed(run, stream, strerror(errno));
		return (0);
	}
	stream->sent += (uint64_t)sent;
	return ((size_t)sent);
}

size_t
stream_try_receive(struct run *run, struct stream *stream, size_t length)
{
	unsigned char scratch[SCRATCH_BYTES];
	ssize_t received;
	size_t wrong;

	if (length > sizeof(scratch))
		length = sizeof(scratch);
	received = recv(stream->fd, scratch, length, 0);
	if (received < 0) {
		if (!net_would_block(errno))
			stream_failed(run, stream, strerror(errno));
		return (0);
	}
	if (received == 0) {
		if (!stream->half_closed)
			stream_failed(run, stream, "the server closed it before the client did");
		if (stream->received < stream->sent)
			stream_failed(
			    run, stream, "the server closed it before all bytes had come back");
		stream->ended = true;
		return (0);
	}
	wrong = pattern_mismatch(stream->key, stream->received, scratch, (size_t)received);
	if (wrong < (size_t)received)
		stream_mismatched(run, stream, scratch, (size_t)received, wrong);
	stream->received += (uint64_t)received;
	if (stream->received > stream->sent)
		stream_failed(run, stream, "more bytes came back than were sent");
	return ((size_t)received);
}

short
stream_wait(struct run *run, struct stream *stream, short events, const char *doing)
{
	short found = net_wait(run, stream->fd, events, UINT64_MAX);

	if (found == 0)
		run_fail(run,
		    "time limit of %.1f s reached while %s on the connection from port %u (%" PRIu64
		    " bytes sent, %" PRIu64 " received)",
		    (double)run->limit_ns / 1e9, doing, stream->local_port, stream->sent,
		    stream->received);
	return (found);
}

void
stream_send(struct run *run, struct stream *stream, uint64_t length)
{
	uint64_t goal = stream->sent + length;

	while (stream->sent < goal) {
		uint64_t left = goal - stream->sent;

		if (stream_try_send(run, stream, left < SCRATCH_BYTES ? left : SCRATCH_BYTES) > 0)
			continue;
		if ((stream_wait(run, stream, POLLIN | POLLOUT, "sending") & ~POLLOUT) != 0)
			stream_try_receive(run, stream, SCRATCH_BYTES);
	}
}

void
stream_receive(struct run *run, struct stream *stream, uint64_t left)
{
	while (stream->received + left < stream->sent)
		if (stream_try_receive(run, stream, SCRATCH_BYTES) == 0)
			stream_wait(run, stream, POLLIN, "receiving");
}

void
stream_echo(struct run *run, struct stream *stream, uint64_t length, uint32_t largest_piece)
{
	uint64_t goal = stream->sent + length;

	while (stream->received < goal) {
		uint64_t left = goal - stream->sent;
		uint32_t piece = random_length(&run->random, largest_piece);
		short found = stream_wait(
		    run, stream, left > 0 ? POLLIN | POLLOUT : POLLIN, "echoing");

		if ((found & POLLOUT) != 0 && left > 0)
			stream_try_send(run, stream, left < piece ? left : piece);
		if ((found & ~POLLOUT) != 0)
			stream_try_receive(run, stream, random_length(&run->random, SCRATCH_BYTES));
	}
}

void
stream_half_close(struct run *run, struct stream *stream)
{
	if (shutdown(stream->fd, SHUT_WR) != 0)
		stream_failed(run, stream, strerror(errno));
	stream->half_closed = true;
}

void
stream_finish(struct run *run, struct stream *stream)
{
	if (!stream->half_closed)
		stream_half_close(run, stream);
	stream_receive(run, stream, 0);
	while (!stream->ended) {
		stream_wait(run, stream, POLLIN, "waiting for the server to close");
		stream_try_receive(run, stream, SCRATCH_BYTES);
	}
	stream_close(stream);
}

void
stream_close(struct stream *stream)
{
	close(stream->fd);
	stream->fd = -1;
}

void
stream_reset(struct run *run, struct stream *stream)
{
	net_reset(run, stream->fd);
	stream->fd = -1;
}

/*
 * Send what the kernel takes on each stream found writable. Returns how many have reached their
 * goal.
 */
static unsigned
fill_once(struct run *run, struct stream *streams, struct pollfd *poll_fds, unsigned count,
    const uint64_t *goals)
{
	unsigned full = 0;

	for (unsigned i = 0; i < count; i++) {
		struct stream *stream = &streams[i];
		uint64_t left = goals[i] - stream->sent;

		if (left > 0 && poll_fds[i].revents != 0) {
			stream_try_send(run, stream, left < SCRATCH_BYTES ? left : SCRATCH_BYTES);
			left = goals[i] - stream->sent;
		}
		if (left == 0) {
			poll_fds[i].fd = -1;
			full++;
		}
	}
	return (full);
}

unsigned
streams_fill(struct run *run, struct stream *streams, unsigned count, uint64_t bound)
{
	uint64_t blocked_after_ns = run_scaled_ns(run, BLOCKED_AFTER_MS);
	struct pollfd *poll_fds = calloc(count, sizeof(*poll_fds));
	uint64_t *goals = calloc(count, sizeof(*goals));
	unsigned full = 0;

	if (poll_fds == NULL || goals == NULL)
		run_fail(run, "out of memory");
	for (unsigned i = 0; i < count; i++) {
		poll_fds[i] = (struct pollfd){ .fd = streams[i].fd, .events = POLLOUT };
		goals[i] = streams[i].sent + bound;
	}
	while (full < count && poll(poll_fds, count, clock_poll_ms(blocked_after_ns)) != 0) {
		if (clock_now_ns() >= run->deadline_ns)
			run_fail_timeout(run, "sending until the server takes no more");
		full = fill_once(run, streams, poll_fds, count, goals);
	}
	free(goals);
	free(poll_fds);
	return (count - full);
}
