/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sockets with deadlines. All sockets are non-blocking; whatever waits, waits no longer than the
 * run's time limit, and fails the run then. Errors fail the run unless a function says otherwise.
 */
#ifndef CONFORM_NET_H
#define CONFORM_NET_H

#include <sys/socket.h>

#include <netinet/in.h>

#include "conform.h"

/* Room for net_format(). */
enum { NET_TEXT_SIZE = 80 };

/*
 * Find the address of a host: a numeric IPv4 or IPv6 address or, if it is neither, a name. Returns
 * 0 or an error code of getaddrinfo(3). The port is left 0.
 */
int net_resolve(const char *host, union address *address, socklen_t *length);

/* The port of an address, in host order, and its setter. */
uint16_t net_port(const union address *address);
void net_set_port(union address *address, uint16_t port);

/* Whether two addresses agree in family, address and port. */
bool net_same(const union address *a, const union address *b);

/* Write address and port as text: 127.0.0.1:60007 or [::1]:60007. */
void net_format(const union address *address, char text[NET_TEXT_SIZE]);

/* A non-blocking socket of the target's address family. */
int net_socket(const struct run *run, int type);

/* Bind to a source port (0: any) of the wildcard address. Returns 0 or an errno value. */
int net_bind_port(const struct run *run, int fd, uint16_t port);

/* The local port of a bound or connected socket, in host order. */
uint16_t net_local_port(const struct run *run, int fd);

/*
 * A new TCP connection to the target. `buffer_bytes`, if not 0, is asked for as the size of both
 * socket buffers, together with small segments; the system may give other sizes. Waits while no
 * local port is free, and counts that.
 */
int net_connect(const struct run *run, unsigned buffer_bytes);

/* Start a TCP connection to the target without waiting for it; net_connect_finish() waits. */
int net_connect_start(const struct run *run, unsigned buffer_bytes);
void net_connect_finish(const struct run *run, int fd);

/*
 * Wait for events on a socket until `until_ns` or the run's deadline, whichever is earlier. Returns
 * the events that poll(2) found, or 0 if the time passed: the caller tells the two ends apart, if
 * it must.
 */
short net_wait(const struct run *run, int fd, short events, uint64_t until_ns);

/* Set an integer socket option that every system has; `name` is for the message. */
void
net_set_option(const struct run *run, int fd, int level, int option, int value, const char *name);

/* Ask for a size of both socket buffers; the system may give less. */
void net_set_buffers(int fd, unsigned bytes);

/* Close a connection with a reset (RST) instead of an orderly end. */
void net_reset(const struct run *run, int fd);

/* Whether an error of a non-blocking call says only that it would have to wait. */
bool net_would_block(int error);

#endif
