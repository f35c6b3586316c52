/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A UDP socket whose peer returns what it gets. Every datagram is made of the peer's key, a
 * sequence number and its length, so that a reply shows by itself which datagram it answers and
 * whether it is intact. Loss is legal: exchanges repeat a bounded number of times, and count it. A
 * peer belongs to one thread.
 */
#ifndef CONFORM_DATAGRAM_H
#define CONFORM_DATAGRAM_H

#include "conform.h"

enum {
	DATAGRAM_MAX_IPV4 = 65507, /* 65535 less the headers of IPv4 and UDP */
	DATAGRAM_MAX_IPV6 = 65527, /* 65535 less the header of UDP */
	DATAGRAM_MAX_ECHO = 65507, /* what the echo service promises, with either */
	DATAGRAM_NUMBERED = 8,     /* the shortest datagram that carries its sequence number */
};

enum peer_mode {
	PEER_CONNECTED,  /* the kernel passes only replies from the very address of the service */
	PEER_UNCONNECTED /* we compare the address of each reply ourselves */
};

struct peer {
	int fd;
	enum peer_mode mode;
	uint16_t local_port;
	uint64_t key;
	uint32_t sequence; /* of the last datagram sent; the first is 1 */
	bool late_replies; /* replies to datagrams given up may still come */
};

/* A reply that came back intact. */
struct reply {
	uint32_t sequence; /* of the datagram it answers; 0 if it is too short to say */
	uint32_t length;
};

/*
 * Open a socket on a free local port. peer_open_port() binds to a given one and returns 0 or an
 * errno value.
 */
void peer_open(struct run *run, struct peer *peer, enum peer_mode mode);
int peer_open_port(struct run *run, struct peer *peer, enum peer_mode mode, uint16_t port);
void peer_close(struct peer *peer);

/* Send a new datagram. */
void peer_send(struct run *run, struct peer *peer, uint32_t length);

/*
 * Wait up to `milliseconds` (scaled) for a reply. Returns false if none came. A reply that is not
 * intact, not ours or not from the service's very address fails the run.
 */
bool peer_receive(struct run *run, struct peer *peer, unsigned milliseconds, struct reply *reply);

/*
 * Send a datagram and receive its reply; repeats after a loss. peer_try_exchange() does not: true
 * if it came.
 */
void peer_exchange(struct run *run, struct peer *peer, uint32_t length);
bool peer_try_exchange(struct run *run, struct peer *peer, uint32_t length, unsigned milliseconds);

#endif
