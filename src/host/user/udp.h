/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Datagram sockets of the user host; what sock.c and thread.c need of udp.c.
 */
#ifndef KSF_USER_UDP_H
#define KSF_USER_UDP_H

#include "../host.h"

/* Ask to be told the address that each datagram was sent to; a socket bound to no particular
 * address needs it. */
int udp_want_local(struct host_sock *sock);

/* Free what the calling thread keeps for batches. */
void udp_scratch_release(void);

#endif
