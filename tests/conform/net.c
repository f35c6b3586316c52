/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sockets with deadlines. Runs in any thread of a check's process. Never blocks in the kernel but
 * in poll(2), and there never longer than the run's time limit.
 */
#include <sys/types.h>
#include <sys/socket.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "net.h"

/*
 * The segment size of an Ethernet connection. Over loopback, with segments of up to 64 KiB, systems
 * would give even an unread connection MiBs of buffers, and the flow control under test would come
 * late or never.
 */
enum { SMALL_SEGMENT_BYTES = 1460 };

/* Between two tries to connect while all local ports are taken, e.g. by connections in TIME_WAIT.
 */
enum { LOCAL_PORT_RETRY_MS = 50 };

/*
 * Numeric first: that needs no name service, which a statically linked program on a bare system has
 * not.
 */
int
net_resolve(const char *host, union address *address, socklen_t *length)
{
	struct addrinfo hints = {
		.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST
	};
	struct addrinfo *list;
	int error = getaddrinfo(host, NULL, &hints, &list);

	if (error != 0) {
		hints.ai_flags = 0;
		error = getaddrinfo(host, NULL, &hints, &list);
	}
	if (error != 0)
		return (error);
	memset(address, 0, sizeof(*address));
	memcpy(address, list->ai_addr, list->ai_addrlen);
	*length = list->ai_addrlen;
	freeaddrinfo(list);
	return (0);
}

uint16_t
net_port(const union address *address)
{
	bool ipv6 = address->generic.sa_family == AF_INET6;

	return (ntohs(ipv6 ? address->ipv6.sin6_port : address->ipv4.sin_port));
}

void
net_set_port(union address *address, uint16_t port)
{
	if (address->generic.sa_family == AF_INET6)
		address->ipv6.sin6_port = htons(port);
	else
		address->ipv4.sin_port = htons(port);
}

bool
net_same(const union address *a, const union address *b)
{
	if (a->generic.sa_family != b->generic.sa_family || net_port(a) != net_port(b))
		return (false);
	if (a->generic.sa_family == AF_INET6)
		return (IN6_ARE_ADDR_EQUAL(&a->ipv6.sin6_addr, &b->ipv6.sin6_addr));
	return (a->ipv4.sin_addr.s_addr == b->ipv4.sin_addr.s_addr);
}

void
net_format(const union address *address, char text[NET_TEXT_SIZE])
{
	char host[INET6_ADDRSTRLEN] = "?";

	if (address->generic.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &address->ipv6.sin6_addr, host, sizeof(host));
		snprintf(text, NET_TEXT_SIZE, "[%s]:%u", host, net_port(address));
	} else {
		inet_ntop(AF_INET, &address->ipv4.sin_addr, host, sizeof(host));
		snprintf(text, NET_TEXT_SIZE, "%s:%u", host, net_port(address));
	}
}

bool
net_would_block(int error)
{
	/* Two comparisons of one value on systems where both names mean the same; POSIX allows two.
	 */
#if EAGAIN == EWOULDBLOCK
	return (error == EAGAIN || error == EINTR);
#else
	return (error == EAGAIN || error == EWOULDBLOCK || error == EINTR);
#endif
}

int
net_socket(const struct run *run, int type)
{
	int fd = socket(run->target->address.generic.sa_family, type, 0);

	if (fd < 0)
		run_fail(run, "cannot create a socket: %s", strerror(errno));
	if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
		run_fail(run, "cannot make a socket non-blocking: %s", strerror(errno));
	return (fd);
}

int
net_bind_port(const struct run *run, int fd, uint16_t port)
{
	union address address = run->target->address;

	if (address.generic.sa_family == AF_INET6)
		address.ipv6.sin6_addr = in6addr_any;
	else
		address.ipv4.sin_addr.s_addr = htonl(INADDR_ANY);
	net_set_port(&address, port);
	return (bind(fd, &address.generic, run->target->address_length) == 0 ? 0 : errno);
}

uint16_t
net_local_port(const struct run *run, int fd)
{
	union address address = { 0 };
	socklen_t length = sizeof(address);

	if (getsockname(fd, &address.generic, &length) != 0)
		run_fail(run, "cannot read the local address of a socket: %s", strerror(errno));
	return (net_port(&address));
}

void
net_set_option(const struct run *run, int fd, int level, int option, int value, const char *name)
{
	if (setsockopt(fd, level, option, &value, sizeof(value)) != 0)
		run_fail(run, "cannot set %s: %s", name, strerror(errno));
}

void
net_set_buffers(int fd, unsigned bytes)
{
	int value = (int)bytes;

	/* A wish: where the system's limit is lower, the default or the limit serves as well. */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, sizeof(value));
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &value, sizeof(value));
}

short
net_wait(const struct run *run, int fd, short events, uint64_t until_ns)
{
	struct pollfd poll_fd = { .fd = fd, .events = events };

	if (until_ns > run->deadline_ns)
		until_ns = run->deadline_ns;
	for (;;) {
		uint64_t now_ns = clock_now_ns();

		if (poll(&poll_fd, 1, now_ns < until_ns ? clock_poll_ms(until_ns - now_ns) : 0) > 0)
			return (poll_fd.revents);
		if (now_ns >= until_ns)
			return (0);
	}
}

static _Noreturn void
connect_failed(const struct run *run, int error)
{
	char text[NET_TEXT_SIZE];

	net_format(&run->target->address, text);
	run_fail(run, "cannot connect to %s: %s", text, strerror(error));
}

int
net_connect_start(const struct run *run, unsigned buffer_bytes)
{
	for (;;) {
		int fd = net_socket(run, SOCK_STREAM);

		if (buffer_bytes != 0) {
			int segment = SMALL_SEGMENT_BYTES;

			net_set_buffers(fd, buffer_bytes);
			/* A wish, too: systems differ in whether it can be set before connecting.
			 */
			(void)setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof(segment));
		}
		if (connect(fd, &run->target->address.generic, run->target->address_length) == 0 ||
		    errno == EINPROGRESS || errno == EINTR)
			return (fd);
		if (errno != EADDRNOTAVAIL && errno != EADDRINUSE && !net_would_block(errno))
			connect_failed(run, errno);
		close(fd);
		atomic_fetch_add(&run->counters->connects_repeated, 1);
		run_pause(run, LOCAL_PORT_RETRY_MS);
	}
}

void
net_connect_finish(const struct run *run, int fd)
{
	int error = 0;
	socklen_t length = sizeof(error);

	if (net_wait(run, fd, POLLOUT, UINT64_MAX) == 0)
		run_fail_timeout(run, "connecting");
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0)
		error = errno;
	if (error != 0)
		connect_failed(run, error);
}

int
net_connect(const struct run *run, unsigned buffer_bytes)
{
	int fd = net_connect_start(run, buffer_bytes);

	net_connect_finish(run, fd);
	return (fd);
}

void
net_reset(const struct run *run, int fd)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };

	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) != 0)
		run_fail(run, "cannot set SO_LINGER: %s", strerror(errno));
	close(fd);
}
