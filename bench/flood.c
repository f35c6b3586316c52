/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Opens many connections to an echo server on 127.0.0.1 and holds them until SIGTERM: by default it
 * writes as much as the server takes and never reads; with -i BYTES each connection echoes so many
 * bytes once and is idle from then on. One thread, which sleeps in ppoll. It sends little at a
 * time, through small buffers, so that it is the server's memory that fills and not the kernel's.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_LIMIT_BYTES  4194304
#define MAX_CONNECTIONS      100000
#define MAX_IDLE_BYTES       65536
#define FLOOD_BLOCK_BYTES    4096
#define SEND_BUFFER_BYTES    4096
#define RECEIVE_BUFFER_BYTES 8192
#define SEGMENT_BYTES        1448  /* Ethernet's; the server's kernel sizes its buffers by it */
#define QUIET_MS             300   /* nothing taken for so long: the server takes no more */
#define SETTLE_MAX_MS        30000 /* then it is taken as settled anyway */
#define IO_TIMEOUT_SECONDS   10

struct flow {
	long long accepted; /* bytes the server's side took from us */
	bool closed;        /* by the server */
};

static struct pollfd *sockets; /* fd is -1 once nothing more is to be written */
static struct flow *flows;     /* same index */
static unsigned connection_count;
static long long limit_bytes; /* per connection */
static char block[MAX_IDLE_BYTES];
static volatile sig_atomic_t stopping;

static _Noreturn void
usage(void)
{
	fprintf(stderr, "usage: flood -p PORT [-n CONNECTIONS] [-i BYTES | -m MAX_BYTES]\n"
			"  -n  connections to open and hold (default 1000)\n"
			"  -i  echo so many bytes once per connection, then be idle\n"
			"  -m  most bytes to write per connection (default 4194304)\n");
	exit(EX_USAGE);
}

static long
parse_number(const char *option, const char *text, long min, long max)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value < min || value > max)
		errx(EX_USAGE, "%s %s: expected a number from %ld to %ld", option, text, min, max);
	return (value);
}

static void
stop(int signal_number)
{
	(void)signal_number;
	stopping = 1;
}

/*
 * SIGTERM and SIGINT are delivered only inside ppoll, with *wait_mask, so that none is missed
 * between looking at `stopping` and going to sleep.
 */
static void
catch_signals(sigset_t *wait_mask)
{
	struct sigaction action = { .sa_handler = stop };
	sigset_t blocked;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	sigaddset(&blocked, SIGINT);
	sigprocmask(SIG_BLOCK, &blocked, wait_mask);
	sigdelset(wait_mask, SIGTERM);
	sigdelset(wait_mask, SIGINT);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static void
raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		err(EX_OSERR, "getrlimit");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		warn("raise RLIMIT_NOFILE");
}

static int
open_connection(const struct sockaddr_in *server)
{
	const int send_bytes = SEND_BUFFER_BYTES, receive_bytes = RECEIVE_BUFFER_BYTES;
	const int segment_bytes = SEGMENT_BYTES;
	const struct timeval timeout = { .tv_sec = IO_TIMEOUT_SECONDS };
	int fd;

	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		err(EX_OSERR, "socket");
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof(send_bytes)) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes)) != 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment_bytes, sizeof(segment_bytes)) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) != 0)
		err(EX_OSERR, "setsockopt");
	if (connect(fd, (const struct sockaddr *)server, sizeof(*server)) != 0)
		err(EX_UNAVAILABLE, "connect 127.0.0.1:%u", ntohs(server->sin_port));
	return (fd);
}

static void
open_connections(unsigned port)
{
	const struct sockaddr_in server = {
		.sin_family = AF_INET,
		.sin_port = htons((unsigned short)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	sockets = calloc(connection_count, sizeof(*sockets));
	flows = calloc(connection_count, sizeof(*flows));
	if (sockets == NULL || flows == NULL)
		err(EX_OSERR, "calloc");
	for (unsigned i = 0; i < connection_count; i++)
		sockets[i].fd = open_connection(&server);
}

/* One message there and back. */
static void
echo_once(unsigned index, size_t length)
{
	static char reply[MAX_IDLE_BYTES];
	const int fd = sockets[index].fd;

	if (send(fd, block, length, MSG_NOSIGNAL) != (ssize_t)length)
		err(EX_PROTOCOL, "connection %u: send", index);
	flows[index].accepted = (long long)length;
	if (recv(fd, reply, length, MSG_WAITALL) != (ssize_t)length)
		err(EX_PROTOCOL, "connection %u: receive", index);
}

/* Write one block if there is room, and give the connection up when it has had its share. */
static void
write_block(unsigned index)
{
	struct flow *flow = &flows[index];
	ssize_t sent;

	sent = send(sockets[index].fd, block, FLOOD_BLOCK_BYTES, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent > 0)
		flow->accepted += sent;
	else if (errno != EAGAIN && errno != EINTR)
		flow->closed = true;
	if (flow->closed || flow->accepted >= limit_bytes)
		sockets[index].fd = -1; /* still open, but no longer polled */
}

/* Wait for room on any connection and write to those that have it. Returns false when there was
 * none in time. */
static bool
flood(const struct timespec *timeout, const sigset_t *wait_mask)
{
	int ready;

	ready = ppoll(sockets, connection_count, timeout, wait_mask);
	if (ready < 0 && errno != EINTR)
		err(EX_OSERR, "ppoll");
	for (unsigned i = 0; ready > 0 && i < connection_count; i++) {
		if (sockets[i].revents != 0)
			write_block(i);
	}
	return (ready != 0);
}

static long long
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec * 1000LL + now.tv_nsec / 1000000);
}

static void
settle(const sigset_t *wait_mask)
{
	const struct timespec quiet = { .tv_nsec = QUIET_MS * 1000000L };
	const long long deadline = now_ms() + SETTLE_MAX_MS;

	for (unsigned i = 0; i < connection_count; i++)
		sockets[i].events = POLLOUT;
	while (!stopping && now_ms() < deadline && flood(&quiet, wait_mask))
		;
}

/* One JSON object on a line: what the server took, in bytes. */
static void
report(void)
{
	long long total = 0, least = flows[0].accepted, most = 0;
	unsigned closed = 0, at_limit = 0;

	for (unsigned i = 0; i < connection_count; i++) {
		const struct flow *flow = &flows[i];

		total += flow->accepted;
		least = flow->accepted < least ? flow->accepted : least;
		most = flow->accepted > most ? flow->accepted : most;
		closed += flow->closed;
		at_limit += flow->accepted >= limit_bytes;
	}
	printf("{\"connections\": %u, \"accepted\": %lld, \"accepted_min\": %lld, "
	       "\"accepted_max\": %lld, \"closed\": %u, \"at_limit\": %u}\n",
	    connection_count, total, least, most, closed, at_limit);
}

int
main(int argc, char **argv)
{
	unsigned port = 0;
	long idle_bytes = -1;
	sigset_t wait_mask;
	int option;

	connection_count = 1000;
	limit_bytes = DEFAULT_LIMIT_BYTES;
	while ((option = getopt(argc, argv, "p:n:i:m:")) != -1) {
		switch (option) {
		case 'p':
			port = (unsigned)parse_number("-p", optarg, 1, 65535);
			break;
		case 'n':
			connection_count = (unsigned)parse_number("-n", optarg, 1, MAX_CONNECTIONS);
			break;
		case 'i':
			idle_bytes = parse_number("-i", optarg, 0, MAX_IDLE_BYTES);
			break;
		case 'm':
			limit_bytes = parse_number("-m", optarg, 1, 1L << 30);
			break;
		default:
			usage();
		}
	}
	if (optind != argc || port == 0)
		usage();
	catch_signals(&wait_mask);
	raise_descriptor_limit();
	open_connections(port);
	if (idle_bytes >= 0) {
		for (unsigned i = 0; i < connection_count && idle_bytes > 0; i++)
			echo_once(i, (size_t)idle_bytes);
	} else
		settle(&wait_mask);
	report();
	printf("ready\n");
	fflush(stdout);
	while (!stopping)
		flood(NULL, &wait_mask);
	report();
	return (0);
}
