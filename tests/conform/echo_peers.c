/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who is answered over UDP, and how many: peers do not mix, may come in thousands, may vanish;
 * privileged ports and the service's own address are never answered, as two echo services could
 * otherwise talk to each other for ever. Each function is one check; runs in the check's process.
 */
#include <sys/socket.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "datagram.h"
#include "echo.h"
#include "net.h"

enum {
	QUIET_MS = 300, /* without a reply for this time (scaled), none is expected any more */
	MESSAGE_BYTES = 100,
	/* The source ports of a flood begin in a random place in this range. */
	FIRST_FLOOD_PORT = 10000,
	FLOOD_PORT_SPREAD = 20000,
};

/*
 * Receive one reply on each socket. Waits for one missing reply at most: by then the others have
 * come, or are lost. Returns how many did not come.
 */
static unsigned
receive_each(struct run *run, struct peer *peers, unsigned count)
{
	unsigned lost = 0;

	for (unsigned i = 0; i < count; i++) {
		struct reply reply;

		if (!peer_receive(run, &peers[i], lost == 0 ? QUIET_MS : 0, &reply))
			lost++;
	}
	return (lost);
}

static void
check_peers_interleaved(struct run *run)
{
	enum { PEERS = 100 };
	struct peer peers[PEERS];
	unsigned lost = 0;

	for (unsigned i = 0; i < PEERS; i++)
		peer_open(run, &peers[i], i % 2 == 0 ? PEER_CONNECTED : PEER_UNCONNECTED);
	for (unsigned round = run_size(run, 20, 5); round > 0; round--) {
		for (unsigned i = 0; i < PEERS; i++)
			peer_send(run, &peers[i], MESSAGE_BYTES + i);
		lost += receive_each(run, peers, PEERS);
	}
	if (lost > 0)
		run_note(run, "%u datagrams did not come back in time", lost);
	for (unsigned i = 0; i < PEERS; i++) {
		peers[i].late_replies = lost > 0;
		peer_exchange(run, &peers[i], MESSAGE_BYTES);
		peer_close(&peers[i]);
	}
}

/* Open `count` peers on free ports from *port upwards, and leave *port behind the last one tried.
 */
static void
open_flood_peers(struct run *run, struct peer *peers, unsigned count, uint16_t *port)
{
	unsigned opened = 0;

	while (opened < count) {
		int error = peer_open_port(run, &peers[opened], PEER_CONNECTED, (*port)++);

		if (error == 0)
			opened++;
		else if (error != EADDRINUSE)
			run_fail(run, "cannot bind UDP port %u: %s", *port - 1U, strerror(error));
	}
}

/*
 * Send one datagram from each peer, receive what comes back and close. Returns the number of
 * replies.
 */
static unsigned
flood_batch(struct run *run, struct peer *peers, unsigned count)
{
	unsigned lost;

	for (unsigned i = 0; i < count; i++)
		peer_send(run, &peers[i], MESSAGE_BYTES);
	lost = receive_each(run, peers, count);
	for (unsigned i = 0; i < count; i++)
		peer_close(&peers[i]);
	return (count - lost);
}

static void
check_many_peers(struct run *run)
{
	enum { BATCH = 100 };
	unsigned count = run_size(run, 5000, 1000);
	uint16_t port = (uint16_t)(FIRST_FLOOD_PORT +
				   random_below(&run->random, FLOOD_PORT_SPREAD));
	struct peer batch[BATCH];
	struct peer old_peer, new_peer;
	unsigned answered = 0;

	peer_open(run, &old_peer, PEER_CONNECTED);
	peer_exchange(run, &old_peer, MESSAGE_BYTES);
	for (unsigned done = 0; done < count; done += BATCH) {
		open_flood_peers(run, batch, BATCH, &port);
		answered += flood_batch(run, batch, BATCH);
	}
	if (answered < count)
		run_note(run, "%u of %u new peers were answered at once", answered, count);
	peer_exchange(run, &old_peer, MESSAGE_BYTES);
	peer_open(run, &new_peer, PEER_CONNECTED);
	peer_exchange(run, &new_peer, MESSAGE_BYTES);
	peer_exchange(run, &old_peer, MESSAGE_BYTES);
	peer_close(&old_peer);
	peer_close(&new_peer);
}

/*
 * Replies to a closed socket come back to the server as ICMP errors. They concern neither other
 * peers nor the next user of that port, to whom late replies may still come.
 */
static void
check_vanished_peers(struct run *run)
{
	for (unsigned left = run_size(run, 200, 50); left > 0; left--) {
		struct peer vanished, next;

		peer_open(run, &vanished, PEER_CONNECTED);
		for (unsigned i = 0; i < 3; i++)
			peer_send(run, &vanished, MESSAGE_BYTES);
		peer_close(&vanished);
		if (left % 10 != 0 ||
		    peer_open_port(run, &next, PEER_CONNECTED, vanished.local_port) != 0)
			continue;
		next.key = vanished.key;
		next.sequence = vanished.sequence;
		next.late_replies = true;
		peer_exchange(run, &next, MESSAGE_BYTES);
		peer_close(&next);
	}
}

/* Fail if a reply comes to one of these peers within a while. */
static void
expect_silence(struct run *run, struct peer *peers, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct reply reply;

		if (peer_receive(run, &peers[i], i == 0 ? QUIET_MS : 0, &reply))
			run_fail(run, "a datagram from port %u was answered", peers[i].local_port);
	}
}

static void
check_privileged_ports(struct run *run)
{
	/* The old services that answer anything, some others, and the last privileged port. */
	static const uint16_t ports[] = { 7, 13, 17, 19, 37, 53, 69, 123, 161, 514, 600, 1022,
		1023 };
	struct peer peers[COUNT_OF(ports)];
	struct peer ordinary;
	unsigned opened = 0;

	peer_open(run, &ordinary, PEER_CONNECTED);
	for (size_t i = 0; i < COUNT_OF(ports); i++)
		if (peer_open_port(run, &peers[opened], PEER_CONNECTED, ports[i]) == 0)
			opened++;
	if (opened == 0)
		run_skip(run, "all privileged ports tried are in use");
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < opened; i++)
			peer_send(run, &peers[i], MESSAGE_BYTES);
		/* That others are answered shows that the silence has another reason. */
		peer_exchange(run, &ordinary, MESSAGE_BYTES);
	}
	expect_silence(run, peers, opened);
	run_detail(run, "no answer to %u privileged ports", opened);
	for (unsigned i = 0; i < opened; i++)
		peer_close(&peers[i]);
	peer_close(&ordinary);
	echo_probe_tcp(run);
}

/* The bound is exact: 1024 is an ordinary port. */
static void
check_first_ordinary_port(struct run *run)
{
	enum { FIRST_ORDINARY_PORT = 1024 };
	struct peer peer;
	int error = peer_open_port(run, &peer, PEER_CONNECTED, FIRST_ORDINARY_PORT);

	if (error != 0)
		run_skip(run, "cannot bind UDP port %u: %s", FIRST_ORDINARY_PORT, strerror(error));
	peer_exchange(run, &peer, MESSAGE_BYTES);
	peer_close(&peer);
}

/* A UDP datagram as a raw socket sends it: its header, all in network byte order, and a payload. */
struct raw_datagram {
	uint16_t source_port;
	uint16_t destination_port;
	uint16_t length;
	uint16_t checksum; /* 0: none (IPv4), or filled in by the kernel (IPv6) */
	unsigned char payload[32];
};

static int
open_raw(struct run *run)
{
	enum { BUFFER_BYTES = 1024 * 1024 };
	int family = run->target->address.generic.sa_family;
	int fd = socket(family, SOCK_RAW, IPPROTO_UDP);

	if (fd < 0)
		run_fail(run, "cannot open a raw socket: %s", strerror(errno));
	net_set_buffers(fd, BUFFER_BYTES);
	if (family == AF_INET6)
		net_set_option(run, fd, IPPROTO_IPV6, IPV6_CHECKSUM,
		    offsetof(struct raw_datagram, checksum), "IPV6_CHECKSUM");
	return (fd);
}

static void
make_raw(struct run *run, struct raw_datagram *datagram, uint16_t source_port)
{
	*datagram = (struct raw_datagram){
		.source_port = htons(source_port),
		.destination_port = htons(net_port(&run->target->address)),
		.length = htons(sizeof(*datagram)),
	};
	for (size_t i = 0; i < sizeof(datagram->payload); i++)
		datagram->payload[i] = (unsigned char)random_below(&run->random, 256);
}

static void
send_raw(struct run *run, int fd, const struct raw_datagram *datagram)
{
	union address address = run->target->address;

	/* Raw sockets have no ports. */
	net_set_port(&address, 0);
	if (sendto(fd, datagram, sizeof(*datagram), MSG_NOSIGNAL, &address.generic,
		run->target->address_length) != (ssize_t)sizeof(*datagram))
		run_fail(run, "cannot send a datagram through a raw socket: %s", strerror(errno));
}

/* Port 0 is no port: such a datagram cannot be answered, and trying must not hurt. */
static void
check_source_port_zero(struct run *run)
{
	struct raw_datagram datagram;
	int fd = open_raw(run);

	for (unsigned i = 0; i < 10; i++) {
		make_raw(run, &datagram, 0);
		send_raw(run, fd, &datagram);
	}
	close(fd);
}

/* Receive on the raw socket. Returns whether it was this very datagram. */
static bool
received_raw(struct run *run, int fd, const struct raw_datagram *expected)
{
	unsigned char buffer[2048];
	ssize_t length = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
	size_t header = 0;

	/*
	 * IPv4 raw sockets pass the IP header, too; its length is in units of 4 bytes. The checksum
	 * may differ.
	 */
	if (run->target->address.generic.sa_family == AF_INET && length > 0)
		header = (buffer[0] & (size_t)0x0f) * 4;
	if (length < 0 || (size_t)length != header + sizeof(*expected))
		return (false);
	return (memcmp(buffer + header, expected, offsetof(struct raw_datagram, checksum)) == 0 &&
		memcmp(buffer + header + offsetof(struct raw_datagram, payload), expected->payload,
		    sizeof(expected->payload)) == 0);
}

/*
 * A datagram that claims to come from the service itself. An answer to it would go to the service,
 * be answered, and so on. A raw socket sees each datagram that arrives on this machine, where the
 * system lets it.
 */
static void
check_own_address(struct run *run)
{
	union address address = run->target->address;
	struct raw_datagram datagram;
	unsigned copies = 0;
	uint64_t until_ns;
	int fd = open_raw(run);

	net_set_port(&address, 0);
	if (bind(fd, &address.generic, run->target->address_length) != 0)
		run_skip(run, "cannot send from the service's address: %s", strerror(errno));
	make_raw(run, &datagram, net_port(&run->target->address));
	send_raw(run, fd, &datagram);
	until_ns = clock_now_ns() + run_scaled_ns(run, QUIET_MS);
	while (net_wait(run, fd, POLLIN, until_ns) != 0) {
		if (received_raw(run, fd, &datagram))
			copies++;
		if (copies > 1)
			run_fail(run, "the service answers its own address");
	}
	if (copies == 0)
		run_skip(run, "raw sockets of this system do not see UDP");
	close(fd);
	echo_probe_tcp(run);
}

static const struct check checks[] = {
	{ "udp-peers-interleaved", "peers served in turn get their own datagrams",
	    check_peers_interleaved, 0, 30 },
	{ "udp-many-peers", "after thousands of new peers an old and a new one are served",
	    check_many_peers, 0, 60 },
	{ "udp-vanished-peers", "peers that close before the reply harm nobody",
	    check_vanished_peers, 0, 30 },
	{ "udp-privileged-ports", "datagrams from ports below 1024 are not answered",
	    check_privileged_ports, NEEDS_PRIVILEGED_PORT, 30 },
	{ "udp-first-ordinary-port", "datagrams from port 1024 are answered",
	    check_first_ordinary_port, 0, 20 },
	{ "udp-source-port-zero", "datagrams from port 0 harm nobody", check_source_port_zero,
	    NEEDS_RAW_SOCKET, 20 },
	{ "udp-own-address", "datagrams from the service's own address are not answered",
	    check_own_address, NEEDS_RAW_SOCKET, 20 },
};

const struct check_table echo_peers_checks = { checks, COUNT_OF(checks), echo_probe_udp };
