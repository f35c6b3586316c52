/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The subjects of the echo service's checks, one file each.
 */
#ifndef CONFORM_ECHO_H
#define CONFORM_ECHO_H

#include "conform.h"

extern const struct check_table echo_tcp_checks;   /* echo_tcp.c: bytes come back, in order */
extern const struct check_table echo_close_checks; /* echo_close.c: half-close, reset, abandon */
extern const struct check_table echo_flow_checks;  /* echo_flow.c: clients that do not read */
extern const struct check_table echo_connections_checks; /* echo_connections.c: many connections */
extern const struct check_table echo_udp_checks;         /* echo_udp.c: datagrams come back */
extern const struct check_table echo_peers_checks; /* echo_peers.c: who is answered, and how many */

/* Fail the run unless a few bytes come back over a new connection, or in a datagram. */
void echo_probe_tcp(struct run *run);
void echo_probe_udp(struct run *run);

#endif
