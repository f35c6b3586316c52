/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Shared by the minimal echo servers: command line, listening sockets, announcing the address.
 * Runs once in the main thread before serving starts; never on the path of a message.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#ifdef __FreeBSD__
#include <pthread_np.h>
#include <sys/cpuset.h>
typedef cpuset_t cpu_set_t;
#else
#include <sched.h>
#endif

#include "min.h"

#define LISTEN_BACKLOG 4096

static _Noreturn void
usage(const char *program, bool has_udp)
{
	fprintf(stderr, "usage: %s [-p PORT] [-c CPU]%s\n", program, has_udp ? " [-u]" : "");
	exit(EX_USAGE);
}

static unsigned long
parse_number(const char *option, const char *text, unsigned long max)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value > max)
		errx(EX_USAGE, "%s %s: expected a number from 0 to %lu", option, text, max);
	return (value);
}

static void
pin_to_cpu(unsigned long cpu)
{
	cpu_set_t cpus;
	int error;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	error = pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
	if (error != 0)
		errx(EX_OSERR, "pin to cpu %lu: %s", cpu, strerror(error));
}

static void
raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
			warn("raise RLIMIT_NOFILE");
	}
}

void
min_start(int argc, char **argv, bool has_udp, struct min_options *options)
{
	int option;

	memset(options, 0, sizeof(*options));
	while ((option = getopt(argc, argv, has_udp ? "p:c:u" : "p:c:")) != -1) {
		switch (option) {
		case 'p':
			options->port = (unsigned short)parse_number("-p", optarg, 65535);
			break;
		case 'c':
			pin_to_cpu(parse_number("-c", optarg, CPU_SETSIZE - 1));
			break;
		case 'u':
			options->udp = true;
			break;
		default:
			usage(argv[0], has_udp);
		}
	}
	if (optind != argc)
		usage(argv[0], has_udp);
	raise_descriptor_limit();
	signal(SIGPIPE, SIG_IGN);
}

static void
set_option(int fd, int level, int name, const char *label)
{
	int on = 1;

	if (setsockopt(fd, level, name, &on, sizeof(on)) != 0)
		err(EX_UNAVAILABLE, "set %s", label);
}

/* A socket of the given type bound to *address, whose port is filled in when it was 0. */
static int
bound_socket(int type, bool nonblocking, struct sockaddr_in *address)
{
	socklen_t length = sizeof(*address);
	int fd;

	fd = socket(AF_INET, type | SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0), 0);
	if (fd < 0)
		err(EX_UNAVAILABLE, "socket");
	if (type == SOCK_STREAM)
		set_option(fd, SOL_SOCKET, SO_REUSEADDR, "SO_REUSEADDR");
	if (bind(fd, (struct sockaddr *)address, sizeof(*address)) != 0)
		err(EX_UNAVAILABLE, "bind 127.0.0.1:%u", ntohs(address->sin_port));
	if (getsockname(fd, (struct sockaddr *)address, &length) != 0)
		err(EX_UNAVAILABLE, "getsockname");
	return (fd);
}

void
min_listen(const struct min_options *options, bool nonblocking, int *tcp_fd, int *udp_fd)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(options->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	*tcp_fd = bound_socket(SOCK_STREAM, nonblocking, &address);
	set_option(*tcp_fd, IPPROTO_TCP, TCP_NODELAY, "TCP_NODELAY");
	if (listen(*tcp_fd, LISTEN_BACKLOG) != 0)
		err(EX_UNAVAILABLE, "listen");
	*udp_fd = options->udp ? bound_socket(SOCK_DGRAM, nonblocking, &address) : -1;
	printf("listening 127.0.0.1:%u\nready\n", ntohs(address.sin_port));
	fflush(stdout);
}

void
min_accept_failed(int error)
{
	if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM)
		min_fail("accept", error);
}

void
min_fail(const char *what, int error)
{
	errx(EX_OSERR, "%s: %s", what, strerror(error));
}
