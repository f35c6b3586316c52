/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Services and clients for the unit tests.
 */
#include "service.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tap.h"

uint64_t
now_ms(void)
{
	return (host_now_ns() / 1000000);
}

void
nap(unsigned ms)
{
	struct timespec span = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	nanosleep(&span, NULL);
}

void
service_set(struct ksf_svc *svc, const char *settings)
{
	char copy[512], why[256] = "", *rest = copy, *part, *equals;

	if (strlen(settings) >= sizeof(copy))
		bail_out("settings too long");
	memcpy(copy, settings, strlen(settings) + 1);
	while ((part = strsep(&rest, " ")) != NULL) {
		equals = strchr(part, '=');
		if (equals == NULL)
			continue;
		*equals = '\0';
		if (ksf_param_set(svc, part, equals + 1, why, sizeof(why)) != 0)
			bail_out("%s", why);
	}
}

struct ksf_svc *
service_create(const struct ksf_service *desc, const char *settings)
{
	struct ksf_svc *svc;

	if (ksf_svc_create(desc, &svc) != 0)
		bail_out("cannot create a service");
	service_set(svc, "listen=127.0.0.1 port=0");
	service_set(svc, settings);
	return (svc);
}

struct ksf_svc *
service_start(const struct ksf_service *desc, const char *settings)
{
	struct ksf_svc *svc = service_create(desc, settings);
	char why[256] = "";

	if (ksf_svc_start(svc, why, sizeof(why)) != 0)
		bail_out("%s", why);
	return (svc);
}

uint64_t
service_end(struct ksf_svc *svc)
{
	uint64_t start = now_ms();

	ksf_svc_stop(svc, 1000);
	start = now_ms() - start;
	ksf_svc_destroy(svc);
	return (start);
}

static void
take_port(void *arg, enum ksf_proto proto, const struct ksf_addr *addr)
{
	uint16_t *port = arg;

	(void)proto;
	*port = addr->port;
}

uint16_t
service_port(struct ksf_svc *svc)
{
	uint16_t port = 0;

	ksf_svc_endpoints(svc, take_port, &port);
	if (port == 0)
		bail_out("the service does not listen");
	return (port);
}

uint64_t
service_stat(struct ksf_svc *svc, const char *name)
{
	const struct ksf_stat *stat;
	uint64_t value;

	for (unsigned i = 0; (stat = ksf_stat_at(svc, i, &value)) != NULL; i++) {
		if (strcmp(stat->name, name) == 0)
			return (value);
	}
	bail_out("no statistic '%s'", name);
}

static struct sockaddr_in
loopback(unsigned host, uint16_t port)
{
	struct sockaddr_in in;

	memset(&in, 0, sizeof(in));
	in.sin_family = AF_INET;
	in.sin_port = htons(port);
	in.sin_addr.s_addr = htonl(0x7f000000u | host);
	return (in);
}

bool
loopback_has(unsigned host)
{
	struct sockaddr_in in = loopback(host, 0);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool has = fd >= 0 && bind(fd, (const struct sockaddr *)&in, sizeof(in)) == 0;

	if (fd >= 0)
		close(fd);
	return (has);
}

static int
client_connect(struct ksf_svc *svc, int type, unsigned host, int rcvbuf)
{
	struct sockaddr_in from = loopback(host, 0), to = loopback(1, service_port(svc));
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		bail_out("socket: %s", strerror(errno));
	if (rcvbuf != 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf));
	if (bind(fd, (const struct sockaddr *)&from, sizeof(from)) != 0 ||
	    connect(fd, (const struct sockaddr *)&to, sizeof(to)) != 0)
		bail_out("connect: %s", strerror(errno));
	return (fd);
}

int
client_tcp(struct ksf_svc *svc, int rcvbuf)
{
	return (client_connect(svc, SOCK_STREAM, 1, rcvbuf));
}

int
client_tcp_from(struct ksf_svc *svc, unsigned host)
{
	return (client_connect(svc, SOCK_STREAM, host, 0));
}

int
client_udp(struct ksf_svc *svc)
{
	int fd = client_connect(svc, SOCK_DGRAM, 1, 0), room = 128 * 1024;

	/* For the longest datagram; FreeBSD's default is less. */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	return (fd);
}

static bool
poll_until(int fd, short events, uint64_t until)
{
	struct pollfd pfd = { .fd = fd, .events = events };
	uint64_t now = now_ms();

	return (poll(&pfd, 1, now < until ? (int)(until - now) : 0) > 0);
}

bool
client_send(int fd, const void *bytes, size_t len)
{
	uint64_t until = now_ms() + 10000;
	const uint8_t *from = bytes;
	ssize_t n;

	while (len > 0) {
		if (!poll_until(fd, POLLOUT, until))
			return (false);
		n = send(fd, from, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN)
			return (false);
		if (n > 0) {
			from += n;
			len -= (size_t)n;
		}
	}
	return (true);
}

ssize_t
client_recv(int fd, void *bytes, size_t len, unsigned ms)
{
	uint64_t until = now_ms() + ms;
	uint8_t *to = bytes;
	size_t got = 0;
	ssize_t n;

	while (got < len) {
		if (!poll_until(fd, POLLIN, until))
			return (-2);
		n = recv(fd, to + got, len - got, MSG_DONTWAIT);
		if (n == 0)
			break;
		if (n < 0 && errno != EAGAIN)
			return (-1);
		if (n > 0)
			got += (size_t)n;
	}
	return ((ssize_t)got);
}

bool
client_ends(int fd, unsigned ms)
{
	uint64_t until = now_ms() + ms;
	char waste[4096];

	while (poll_until(fd, POLLIN, until)) {
		ssize_t n = recv(fd, waste, sizeof(waste), MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno != EAGAIN))
			return (true);
	}
	return (false);
}

static uint8_t
pattern_byte(uint64_t position)
{
	return ((uint8_t)((position * 0x9e3779b97f4a7c15u) >> 56));
}

void
pattern_fill(uint8_t *bytes, size_t len, uint64_t position)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = pattern_byte(position + i);
}

bool
pattern_good(const uint8_t *bytes, size_t len, uint64_t position)
{
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] != pattern_byte(position + i))
			return (false);
	}
	return (true);
}
