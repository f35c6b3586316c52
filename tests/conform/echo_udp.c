/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Echo over UDP: datagrams of every size come back whole and unchanged, from the address they were
 * sent to. Each function is one check; runs in the check's process.
 */
#include <sys/socket.h>

#include <errno.h>
#include <string.h>

#include "datagram.h"
#include "echo.h"

static void
check_sizes(struct run *run, enum peer_mode mode)
{
	static const uint32_t large[] = {
		4095,
		4096,
		4097,
		8191,
		8192,
		8193,
		9215,
		9216,
		9217,
		16383,
		16384,
		16385,
		32767,
		32768,
		32769,
		49152,
		65000,
		65506,
		DATAGRAM_MAX_ECHO,
	};
	struct peer peer;

	peer_open(run, &peer, mode);
	/*
	 * Every size up to beyond the MTU of Ethernet, where IPv4 begins to fragment at 1473 and
	 * IPv6 at 1453.
	 */
	for (uint32_t size = 0; size <= 2050; size++)
		peer_exchange(run, &peer, size);
	for (size_t i = 0; i < COUNT_OF(large); i++)
		peer_exchange(run, &peer, large[i]);
	peer_close(&peer);
}

static void
check_sizes_connected(struct run *run)
{
	check_sizes(run, PEER_CONNECTED);
}

static void
check_sizes_unconnected(struct run *run)
{
	check_sizes(run, PEER_UNCONNECTED);
}

/* Large and small alternate: no datagram may leave its length or its rest behind in the next. */
static void
check_alternating(struct run *run)
{
	struct peer peer;

	peer_open(run, &peer, PEER_CONNECTED);
	for (unsigned left = run_size(run, 300, 60); left > 0; left--) {
		peer_exchange(run, &peer, DATAGRAM_MAX_ECHO - random_below(&run->random, 1000));
		peer_exchange(run, &peer, random_below(&run->random, 64));
	}
	peer_close(&peer);
}

static int
send_error(const struct peer *peer, uint32_t length)
{
	static const unsigned char zeros[DATAGRAM_MAX_IPV6 + 1];

	return (send(peer->fd, zeros, length, MSG_NOSIGNAL) < 0 ? errno : 0);
}

/*
 * No system sends more than a datagram can hold; if this one did, the sizes above would prove
 * nothing.
 */
static void
check_too_large(struct run *run)
{
	bool ipv6 = run->target->address.generic.sa_family == AF_INET6;
	uint32_t length = (ipv6 ? DATAGRAM_MAX_IPV6 : DATAGRAM_MAX_IPV4) + 1;
	struct peer peer;
	int error;

	peer_open(run, &peer, PEER_CONNECTED);
	error = send_error(&peer, length);
	if (error != EMSGSIZE)
		run_fail(run, "sending %u bytes gave \"%s\", not \"%s\"", length,
		    error == 0 ? "success" : strerror(error), strerror(EMSGSIZE));
	peer_exchange(run, &peer, 100);
	peer_close(&peer);
}

/*
 * IPv6 carries 20 bytes more than the service promises to return: such a datagram comes back
 * unchanged or not at all.
 */
static void
check_beyond_promise(struct run *run)
{
	struct peer peer;

	if (run->target->address.generic.sa_family != AF_INET6)
		run_skip(run, "IPv4 has no datagrams of more than %u bytes", DATAGRAM_MAX_IPV4);
	peer_open(run, &peer, PEER_CONNECTED);
	for (uint32_t length = DATAGRAM_MAX_ECHO + 1; length <= DATAGRAM_MAX_IPV6; length++)
		peer_try_exchange(run, &peer, length, 50);
	peer_exchange(run, &peer, 100);
	peer_close(&peer);
}

/* Receive the replies to the datagrams after `first`, each at most once, until none comes any more.
 */
static unsigned
receive_burst(struct run *run, struct peer *peer, uint32_t first, unsigned count)
{
	enum { MOST = 64, QUIET_MS = 200 };
	bool seen[MOST] = { false };
	struct reply reply;
	unsigned received = 0;

	while (received < count && peer_receive(run, peer, QUIET_MS, &reply)) {
		uint32_t index = reply.sequence - first - 1;

		if (reply.sequence <= first)
			continue;
		if (seen[index])
			run_fail(run, "datagram %u of a burst came back twice", index);
		seen[index] = true;
		received++;
	}
	return (received);
}

static void
check_bursts(struct run *run)
{
	enum { BURST = 64, TRIES = 5 };
	unsigned bursts = run_size(run, 100, 20);
	unsigned lost = 0;
	struct peer peer;

	peer_open(run, &peer, PEER_CONNECTED);
	for (unsigned burst = 0; burst < bursts; burst++) {
		unsigned received = 0;

		for (unsigned tries = 0; received == 0; tries++) {
			uint32_t first = peer.sequence;

			if (tries == TRIES)
				run_fail(run,
				    "none of %u datagrams sent at once came back, %u times", BURST,
				    TRIES);
			for (unsigned i = 0; i < BURST; i++)
				peer_send(run, &peer,
				    DATAGRAM_NUMBERED + random_length(&run->random, 1400));
			received = receive_burst(run, &peer, first, BURST);
			lost += BURST - received;
		}
	}
	if (lost > 0)
		run_note(run, "%u datagrams of %u bursts of %u did not come back", lost, bursts,
		    (unsigned)BURST);
	peer_close(&peer);
}

static const struct check checks[] = {
	{ "udp-sizes-connected", "datagrams of 0 to 65507 bytes come back to a connected socket",
	    check_sizes_connected, 0, 40 },
	{ "udp-sizes-unconnected", "datagrams come back from the address and port they went to",
	    check_sizes_unconnected, 0, 40 },
	{ "udp-alternating", "large and small datagrams in turn keep their lengths",
	    check_alternating, 0, 30 },
	{ "udp-too-large", "sending more than a datagram holds fails locally", check_too_large, 0,
	    20 },
	{ "udp-beyond-promise", "longer datagrams come back unchanged or not at all",
	    check_beyond_promise, 0, 20 },
	{ "udp-bursts", "bursts of datagrams come back intact, each at most once", check_bursts, 0,
	    60 },
};

const struct check_table echo_udp_checks = { checks, COUNT_OF(checks), echo_probe_udp };
