/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The echo service (RFC 862) over TCP and UDP: its probes and the list of its checks.
 */
#include "datagram.h"
#include "echo.h"
#include "stream.h"

enum { PROBE_BYTES = 100 };

void
echo_probe_tcp(struct run *run)
{
	struct stream stream;

	stream_open(run, &stream);
	stream_echo(run, &stream, PROBE_BYTES, PROBE_BYTES);
	stream_close(&stream);
}

void
echo_probe_udp(struct run *run)
{
	struct peer peer;

	peer_open(run, &peer, PEER_CONNECTED);
	peer_exchange(run, &peer, PROBE_BYTES);
	peer_close(&peer);
}

static const struct check_table *const echo_tables[] = {
	&echo_tcp_checks,
	&echo_close_checks,
	&echo_flow_checks,
	&echo_connections_checks,
	&echo_udp_checks,
	&echo_peers_checks,
	NULL,
};

const struct service kecho_service = {
	.name = "kecho",
	.tables = echo_tables,
};
