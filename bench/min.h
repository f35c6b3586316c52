/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the minimal echo servers share: command line, listening sockets, announcing the address.
 * Called from a server's main thread before it serves; nothing here runs once messages flow.
 */
#ifndef BENCH_MIN_H
#define BENCH_MIN_H

#include <stdbool.h>

/* Most bytes taken by one receive call; also the largest UDP datagram there can be, rounded up. */
#define MIN_BUFFER_BYTES 65536

struct min_options {
	unsigned short port; /* host order; 0 picks a free one */
	bool udp;            /* echo datagrams on the same port as well */
};

/*
 * Set up the process from `[-p PORT] [-c CPU] [-u]`: pins it to CPU when one is given, raises the
 * descriptor limit to its maximum and ignores SIGPIPE. A wrong command line, or -u where the server
 * has no UDP, ends the process with EX_USAGE.
 */
void min_start(int argc, char **argv, bool has_udp, struct min_options *options);

/*
 * Listen on 127.0.0.1 (and bind a UDP socket to the same port if options->udp), then print
 * `listening 127.0.0.1:PORT` and `ready`. Accepted sockets inherit TCP_NODELAY. *udp_fd is -1
 * without UDP. Both descriptors are close-on-exec, and non-blocking when asked for. Failures end
 * the process with EX_UNAVAILABLE.
 */
void min_listen(const struct min_options *options, bool nonblocking, int *tcp_fd, int *udp_fd);

/*
 * Judge the errno value of a failed accept. Returns when only that one connection failed or none
 * was waiting; ends the process when descriptors or memory ran out, as no figure of it counts then.
 */
void min_accept_failed(int error);

/* Print `PROGRAM: what: strerror(error)` and end the process with EX_OSERR. */
_Noreturn void min_fail(const char *what, int error);

#endif
