/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A service in this process and plain clients of it, for the unit tests. Main thread, but for the
 * clients, which any thread may use. What cannot be had (a socket, a start that should succeed)
 * ends the test by bail_out().
 */
#ifndef SERVICE_H
#define SERVICE_H

#include "../../src/core/core.h"

#include <sys/types.h>

/*
 * Poll `expr` until it is true or `ms` milliseconds are over; the test then looks at `expr` itself.
 * Time never decides about success, only about failure.
 */
#define WAIT_FOR(expr, ms)                                                     \
	for (uint64_t until_ = now_ms() + (ms); !(expr) && now_ms() < until_;) \
	nap(1)

uint64_t now_ms(void);
void nap(unsigned ms);

/* A service with "name=value" settings, separated by blanks, listening at 127.0.0.1 port 0. create
 * only creates. */
struct ksf_svc *service_create(const struct ksf_service *desc, const char *settings);
struct ksf_svc *service_start(const struct ksf_service *desc, const char *settings);

/* Set parameters that must be accepted. */
void service_set(struct ksf_svc *svc, const char *settings);

/* Stop with a second of grace, and destroy. Returns how long that took, in ms. */
uint64_t service_end(struct ksf_svc *svc);

uint16_t service_port(struct ksf_svc *svc);
uint64_t service_stat(struct ksf_svc *svc, const char *name);

/* True when 127.0.0.`host` can be used: everywhere on Linux, seldom on FreeBSD but for 1. */
bool loopback_has(unsigned host);

/*
 * Clients on 127.0.0.1, blocking. `rcvbuf` in bytes, 0: the system's. client_tcp_from() binds to
 * 127.0.0.`host` first; client_udp() sockets are connected.
 */
int client_tcp(struct ksf_svc *svc, int rcvbuf);
int client_tcp_from(struct ksf_svc *svc, unsigned host);
int client_udp(struct ksf_svc *svc);

/* All of it; false on an error, or when it takes longer than 10 s. */
bool client_send(int fd, const void *bytes, size_t len);

/* What comes until `len` bytes are there, the end (returns fewer), an error (-1), or `ms` are over
 * (-2). */
ssize_t client_recv(int fd, void *bytes, size_t len, unsigned ms);

/* True when the connection ends, in order or by a reset, within `ms`; what comes before is thrown
 * away. */
bool client_ends(int fd, unsigned ms);

/* Bytes with position-dependent values, to compare streams with. */
void pattern_fill(uint8_t *bytes, size_t len, uint64_t position);
bool pattern_good(const uint8_t *bytes, size_t len, uint64_t position);

#endif
