/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Verified UDP echo. Runs in any thread of a check's process, on peers of that thread. Waits only
 * in net_wait(), never without a deadline.
 */
#include <sys/socket.h>

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "datagram.h"
#include "net.h"
#include "pattern.h"

enum {
	EXCHANGE_TRIES = 6,
	FIRST_WAIT_MS = 200,    /* for a reply, scaled; doubles with each try */
	LONGEST_WAIT_MS = 1600, /* scaled */
	BUFFER_BYTES = 256 *
		       1024, /* also lets FreeBSD send datagrams beyond net.inet.udp.maxdgram */
};

static void
datagram_make(const struct peer *peer, uint32_t sequence, unsigned char *buffer, uint32_t length)
{
	uint64_t header = (((uint64_t)sequence << 32) | length) ^ peer->key;

	if (length < DATAGRAM_NUMBERED) {
		pattern_fill(peer->key + length, 0, buffer, length);
		return;
	}
	for (unsigned i = 0; i < DATAGRAM_NUMBERED; i++)
		buffer[i] = (unsigned char)(header >> (8 * i));
	pattern_fill(peer->key + sequence, DATAGRAM_NUMBERED, buffer + DATAGRAM_NUMBERED,
	    length - DATAGRAM_NUMBERED);
}

static void
datagram_check(struct run *run, const struct peer *peer, const unsigned char *buffer,
    uint32_t length, struct reply *reply)
{
	uint64_t header = peer->key;
	size_t wrong;

	*reply = (struct reply){ .length = length };
	if (length < DATAGRAM_NUMBERED) {
		if (pattern_mismatch(peer->key + length, 0, buffer, length) < length)
			run_fail(run,
			    "a datagram of %u bytes came back to port %u damaged or shortened",
			    length, peer->local_port);
		return;
	}
	for (unsigned i = 0; i < DATAGRAM_NUMBERED; i++)
		header ^= (uint64_t)buffer[i] << (8 * i);
	reply->sequence = (uint32_t)(header >> 32);
	if (reply->sequence == 0 || reply->sequence > peer->sequence)
		run_fail(run, "a datagram of %u bytes came to port %u that it never sent", length,
		    peer->local_port);
	if ((uint32_t)header != length)
		run_fail(run, "a datagram of %u bytes came back to port %u with %u",
		    (uint32_t)header, peer->local_port, length);
	wrong = pattern_mismatch(peer->key + reply->sequence, DATAGRAM_NUMBERED,
	    buffer + DATAGRAM_NUMBERED, length - DATAGRAM_NUMBERED);
	if (wrong < length - DATAGRAM_NUMBERED)
		run_fail(run, "a datagram of %u bytes came back to port %u with byte %zu wrong",
		    length, peer->local_port, wrong + DATAGRAM_NUMBERED);
}

int
peer_open_port(struct run *run, struct peer *peer, enum peer_mode mode, uint16_t port)
{
	int fd = net_socket(run, SOCK_DGRAM);
	int error = net_bind_port(run, fd, port);

	if (error != 0) {
		close(fd);
		return (error);
	}
	net_set_buffers(fd, BUFFER_BYTES);
	if (mode == PEER_CONNECTED &&
	    connect(fd, &run->target->address.generic, run->target->address_length) != 0)
		run_fail(run, "cannot connect a UDP socket: %s", strerror(errno));
	*peer = (struct peer){
		.fd = fd,
		.mode = mode,
		.local_port = net_local_port(run, fd),
		.key = random_next(&run->random),
	};
	return (0);
}

void
peer_open(struct run *run, struct peer *peer, enum peer_mode mode)
{
	int error = peer_open_port(run, peer, mode, 0);

	if (error != 0)
		run_fail(run, "cannot bind a UDP socket: %s", strerror(error));
}

void
peer_close(struct peer *peer)
{
	close(peer->fd);
	peer->fd = -1;
}

void
peer_send(struct run *run, struct peer *peer, uint32_t length)
{
	unsigned char buffer[DATAGRAM_MAX_IPV6];
	const struct target *target = run->target;

	peer->sequence++;
	datagram_make(peer, peer->sequence, buffer, length);
	for (;;) {
		ssize_t sent;

		if (peer->mode == PEER_CONNECTED)
			sent = send(peer->fd, buffer, length, MSG_NOSIGNAL);
		else
			sent = sendto(peer->fd, buffer, length, MSG_NOSIGNAL,
			    &target->address.generic, target->address_length);
		if (sent == (ssize_t)length)
			return;
		/* A full queue on the way (ENOBUFS) is a loss like any other. */
		if (sent < 0 && errno == ENOBUFS)
			return;
		if (sent >= 0 || !net_would_block(errno))
			run_fail(run, "cannot send a datagram of %u bytes from port %u: %s", length,
			    peer->local_port, sent < 0 ? strerror(errno) : "shortened");
		if (net_wait(run, peer->fd, POLLOUT, UINT64_MAX) == 0)
			run_fail_timeout(run, "sending a datagram");
	}
}

/* Take one reply if there is one. */
static bool
peer_try_receive(struct run *run, struct peer *peer, struct reply *reply)
{
	unsigned char buffer[DATAGRAM_MAX_IPV6 + 1];
	union address from = { 0 };
	socklen_t from_length = sizeof(from);
	ssize_t received = recvfrom(
	    peer->fd, buffer, sizeof(buffer), 0, &from.generic, &from_length);

	if (received < 0) {
		if (!net_would_block(errno))
			run_fail(run, "cannot receive on UDP port %u: %s", peer->local_port,
			    strerror(errno));
		return (false);
	}
	if (!net_same(&from, &run->target->address)) {
		char text[NET_TEXT_SIZE];

		net_format(&from, text);
		run_fail(run, "a reply came from %s", text);
	}
	datagram_check(run, peer, buffer, (uint32_t)received, reply);
	return (true);
}

bool
peer_receive(struct run *run, struct peer *peer, unsigned milliseconds, struct reply *reply)
{
	uint64_t until_ns = clock_now_ns() + run_scaled_ns(run, milliseconds);

	/* At least one look, even with no time to wait. */
	do {
		if (net_wait(run, peer->fd, POLLIN, until_ns) != 0 &&
		    peer_try_receive(run, peer, reply))
			return (true);
	} while (clock_now_ns() < until_ns && clock_now_ns() < run->deadline_ns);
	if (clock_now_ns() >= run->deadline_ns)
		run_fail_timeout(run, "waiting for a datagram");
	return (false);
}

bool
peer_try_exchange(struct run *run, struct peer *peer, uint32_t length, unsigned milliseconds)
{
	uint32_t sequence = length < DATAGRAM_NUMBERED ? 0 : peer->sequence + 1;
	struct reply reply;

	peer_send(run, peer, length);
	while (peer_receive(run, peer, milliseconds, &reply)) {
		if (reply.sequence == sequence && reply.length == length)
			return (true);
		if (!peer->late_replies)
			run_fail(run, "a second reply of %u bytes came to port %u", reply.length,
			    peer->local_port);
	}
	peer->late_replies = true;
	return (false);
}

void
peer_exchange(struct run *run, struct peer *peer, uint32_t length)
{
	unsigned wait_ms = FIRST_WAIT_MS;

	for (unsigned tries = 0; tries < EXCHANGE_TRIES; tries++) {
		if (tries > 0)
			atomic_fetch_add(&run->counters->datagrams_resent, 1);
		if (peer_try_exchange(run, peer, length, wait_ms))
			return;
		wait_ms = 2 * wait_ms < LONGEST_WAIT_MS ? 2 * wait_ms : LONGEST_WAIT_MS;
	}
	run_fail(run, "no reply to a datagram of %u bytes from port %u in %u tries", length,
	    peer->local_port, EXCHANGE_TRIES);
}
