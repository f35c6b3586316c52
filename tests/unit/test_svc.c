/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Services as a whole: starting and stopping under load a thousand times leaves nothing behind, a
 * start that fails at any point leaves nothing behind, stopping takes no longer than the grace
 * time. The C library's allocations, and the calls that make threads and sockets, are replaced by
 * the linker (--wrap), to count and to fail.
 */
#include "service.h"

#include <ksf/services.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tap.h"

/*
 * The calls that can fail, in one count.
 */
static uint32_t blocks_live; /* (a) allocations not freed */
static uint32_t fail_at;     /* (a) the n-th call from now fails; 0: none does */
static uint32_t log_lines;   /* (a) */

static bool
fails(void)
{
	uint32_t n = ksf_load(&fail_at);

	while (n != 0 && !ksf_cas(&fail_at, &n, n - 1))
		continue;
	return (n == 1);
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__real_realloc(void *mem, size_t size);
void *__wrap_realloc(void *mem, size_t size);
void __real_free(void *mem);
void __wrap_free(void *mem);
int __real_pthread_create(
    pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(
    pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int __real_socket(int domain, int type, int protocol);
int __wrap_socket(int domain, int type, int protocol);
int __real_bind(int fd, const struct sockaddr *addr, socklen_t len);
int __wrap_bind(int fd, const struct sockaddr *addr, socklen_t len);
void __wrap_host_log(enum ksf_level level, const char *line);

void *
__wrap_malloc(size_t size)
{
	void *mem = fails() ? NULL : __real_malloc(size);

	if (mem != NULL)
		ksf_fetch_add(&blocks_live, 1);
	return (mem);
}

void *
__wrap_calloc(size_t n, size_t size)
{
	void *mem = fails() ? NULL : __real_calloc(n, size);

	if (mem != NULL)
		ksf_fetch_add(&blocks_live, 1);
	return (mem);
}

void *
__wrap_realloc(void *mem, size_t size)
{
	void *fresh = fails() ? NULL : __real_realloc(mem, size);

	if (mem == NULL && fresh != NULL)
		ksf_fetch_add(&blocks_live, 1);
	return (fresh);
}

void
__wrap_free(void *mem)
{
	if (mem != NULL)
		ksf_fetch_sub(&blocks_live, 1);
	__real_free(mem);
}

int
__wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	return (fails() ? EAGAIN : __real_pthread_create(thread, attr, fn, arg));
}

int
__wrap_socket(int domain, int type, int protocol)
{
	if (fails()) {
		errno = EMFILE;
		return (-1);
	}
	return (__real_socket(domain, type, protocol));
}

int
__wrap_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	if (fails()) {
		errno = EACCES;
		return (-1);
	}
	return (__real_bind(fd, addr, len));
}

void
__wrap_host_log(enum ksf_level level, const char *line)
{
	(void)level;
	(void)line;
	ksf_fetch_add(&log_lines, 1);
}

static unsigned
open_descriptors(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 4096; fd++)
		n += fcntl(fd, F_GETFD) != -1;
	return (n);
}

/*
 * Start and stop, a thousand times, with clients at work and somebody reading the statistics.
 */
#define CLIENTS 2u

static struct ksf_svc *load_svc;
static uint16_t load_port;
static bool loading;          /* (a) */
static uint32_t load_answers; /* (a) */

static struct sockaddr_in
load_address(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(load_port) };

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return (in);
}

static void *
load_main(void *arg)
{
	int type = *(const int *)arg;
	struct sockaddr_in to = load_address();
	uint8_t bytes[3000] = { 0 };
	struct timeval limit = { .tv_usec = 20000 };
	int fd;

	while (ksf_load(&loading)) {
		fd = __real_socket(AF_INET, type | SOCK_CLOEXEC, 0);
		if (fd < 0)
			continue;
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
		if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0) {
			for (unsigned i = 0;
			     i < 20 && send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) > 0; i++) {
				if (recv(fd, bytes, sizeof(bytes), 0) <= 0)
					break;
				ksf_fetch_add(&load_answers, 1);
			}
		}
		close(fd);
	}
	return (NULL);
}

static void *
reader_main(void *arg)
{
	char text[600];
	uint64_t value;

	(void)arg;
	while (ksf_load(&loading)) {
		for (unsigned i = 0; ksf_stat_at(load_svc, i, &value) != NULL; i++)
			continue;
		(void)ksf_param_get(load_svc, "allow", text, sizeof(text));
		(void)ksf_param_set(
		    load_svc, "allow", value % 2 == 0 ? "127.0.0.0/8" : "", NULL, 0);
		(void)ksf_param_set(load_svc, "sosndbuf", value % 2 == 0 ? "0" : "1M", NULL, 0);
		nap(1);
	}
	return (NULL);
}

/*
 * Start at a port that is free, and that the system gives to no client: while the service is
 * stopped, one of its own clients could get it (and even be connected to itself).
 */
static void
choose_port(struct ksf_svc *svc)
{
	char why[200] = "", setting[32];

	for (unsigned i = 0; i < 100; i++) {
		snprintf(setting, sizeof(setting), "port=%u",
		    10000 + ((unsigned)getpid() + i * 97) % 20000);
		service_set(svc, setting);
		if (ksf_svc_start(svc, why, sizeof(why)) == 0)
			return;
	}
	bail_out("%s", why);
}

static void
test_cycles(void)
{
	static const int types[CLIENTS] = { SOCK_STREAM, SOCK_DGRAM };
	unsigned cycles = TAP_REPEAT(1000), i;
	unsigned descriptors = open_descriptors();
	uint32_t blocks = ksf_load(&blocks_live);
	pthread_t clients[CLIENTS], reader;
	uint64_t slowest = 0, start;
	char why[200] = "";
	int error = 0;

	load_svc = service_create(&ksf_kecho, "tdmin=2");
	choose_port(load_svc);
	load_port = service_port(load_svc);
	ksf_svc_stop(load_svc, 0);

	ksf_store(&loading, true);
	for (i = 0; i < CLIENTS; i++) {
		if (__real_pthread_create(
			&clients[i], NULL, load_main, (void *)(uintptr_t)&types[i]) != 0)
			bail_out("cannot start a thread");
	}
	if (__real_pthread_create(&reader, NULL, reader_main, NULL) != 0)
		bail_out("cannot start a thread");
	for (i = 0; i < cycles && error == 0; i++) {
		error = ksf_svc_start(load_svc, why, sizeof(why));
		if (error != 0)
			break;

		/* Mostly for a moment, sometimes long enough for some traffic. */
		if (i % 16 == 0)
			nap(10);
		start = now_ms();
		ksf_svc_stop(load_svc, i % 3 == 0 ? 0 : 100);
		start = now_ms() - start;
		slowest = ksf_max(slowest, start);
	}
	ksf_store(&loading, false);
	for (unsigned c = 0; c < CLIENTS; c++)
		pthread_join(clients[c], NULL);
	pthread_join(reader, NULL);
	if (!ok(error == 0 && ksf_load(&load_answers) > 0,
		"cycles: %u starts and stops, %u answers", i, ksf_load(&load_answers)))
		printf("# %s\n", why);
	ok(slowest < 1100, "cycles: the slowest stop took %u ms", (unsigned)slowest);
	ok(service_stat(load_svc, "conns") == 0 && service_stat(load_svc, "sessions_now") == 0 &&
		service_stat(load_svc, "mem_used") == 0 && service_stat(load_svc, "workers") == 0,
	    "cycles: levels are back at 0, counters stay (%u accepted)",
	    (unsigned)service_stat(load_svc, "accepted"));
	ksf_svc_destroy(load_svc);
	ok(open_descriptors() == descriptors, "cycles: no descriptor is left open");
	ok(ksf_load(&blocks_live) == blocks, "cycles: no memory is left allocated");
}

/*
 * A start that fails.
 */
static void
test_fails_at(void)
{
	struct ksf_svc *svc = service_create(
	    &ksf_kecho, loopback_has(2) ? "listen=127.0.0.1,127.0.0.2 tdmin=2" : "tdmin=2");
	unsigned descriptors = open_descriptors(), n;
	uint32_t blocks = ksf_load(&blocks_live);
	bool clean = true, told = true;
	char why[200];
	int error = 1;

	for (n = 1; error != 0 && clean && n < 1000; n++) {
		why[0] = '\0';
		ksf_store(&fail_at, n);
		error = ksf_svc_start(svc, why, sizeof(why));
		told = told &&
		       (error == 0 || (strncmp(why, "kecho: ", 7) == 0 && strlen(why) > 10));
		if (error == 0 && ksf_load(&fail_at) == 0) {
			/* The failure was met by a worker, or mastered. */
			ksf_svc_stop(svc, 0);
			error = 1;
		}
		ksf_store(&fail_at, 0);
		clean = error == 0 ||
			(open_descriptors() == descriptors && ksf_load(&blocks_live) == blocks);
	}
	if (!ok(clean && error == 0 && n > 20,
		"start: fails at each of %u calls, and leaves nothing behind", n - 2))
		printf("# call %u, why '%s', %u descriptors, %u blocks\n", n - 1, why,
		    open_descriptors() - descriptors, ksf_load(&blocks_live) - blocks);
	ok(told, "start: says each time what failed");
	ksf_svc_stop(svc, 0);
	ok(open_descriptors() == descriptors && ksf_load(&blocks_live) == blocks,
	    "stop: leaves nothing behind");
	ksf_svc_destroy(svc);
	n = 0;
	blocks = ksf_load(&blocks_live);
	do {
		ksf_store(&fail_at, ++n);
		error = ksf_svc_create(&ksf_kecho, &svc);
		ksf_store(&fail_at, 0);
		clean = error == 0 || (error == ENOMEM && ksf_load(&blocks_live) == blocks);
	} while (error != 0 && clean);
	ok(clean && n > 3, "create: fails at each of %u allocations, and leaves nothing behind",
	    n - 1);
	ksf_svc_destroy(svc);
	ok(ksf_load(&blocks_live) == blocks, "destroy: leaves nothing behind");
}

static int
bound(uint32_t address, uint16_t port)
{
	struct sockaddr_in in = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(address),
	};
	int fd = __real_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || __real_bind(fd, (const struct sockaddr *)&in, sizeof(in)) == 0)
		return (fd);
	close(fd);
	return (-1);
}

/* A socket that listens at 127.0.0.2, at a port that nobody uses at 127.0.0.1. */
static int
take_port(struct sockaddr_in *in)
{
	socklen_t len;
	int fd, other;

	for (unsigned i = 0; i < 100; i++) {
		len = sizeof(*in);
		fd = bound(0x7f000002u, 0);
		if (fd < 0 || listen(fd, 1) != 0 ||
		    getsockname(fd, (struct sockaddr *)in, &len) != 0)
			bail_out("cannot listen");
		other = bound(0x7f000001u, ntohs(in->sin_port));
		if (other >= 0) {
			close(other);
			return (fd);
		}
		close(fd);
	}
	bail_out("no port is free");
	return (-1);
}

static void
test_port_taken(void)
{
	unsigned descriptors = open_descriptors() + 1;
	char why[200] = "", expected[200];
	struct sockaddr_in in;
	struct ksf_svc *svc;
	int fd = take_port(&in);

	svc = service_create(&ksf_kecho, "listen=127.0.0.1,127.0.0.2");
	snprintf(expected, sizeof(expected), "port=%u", ntohs(in.sin_port));
	service_set(svc, expected);
	snprintf(expected, sizeof(expected), "kecho: listen tcp 127.0.0.2:%u: address in use",
	    ntohs(in.sin_port));
	ok(ksf_svc_start(svc, why, sizeof(why)) == EADDRINUSE, "port taken: the start fails");
	if (!ok(strcmp(why, expected) == 0, "port taken: the reason names the address"))
		printf("# '%s'\n", why);
	ok(open_descriptors() == descriptors, "port taken: nothing is left open");
	close(fd);
	ok(ksf_svc_start(svc, why, sizeof(why)) == 0, "port taken: free again, the start succeeds");
	ok(ksf_svc_start(svc, why, sizeof(why)) == EALREADY &&
		strcmp(why, "kecho: runs already") == 0,
	    "start: of what runs already");
	service_end(svc);

	svc = service_create(&ksf_kecho, "listen=192.0.2.1");
	ok(ksf_svc_start(svc, why, sizeof(why)) == EADDRNOTAVAIL &&
		strstr(why, "address not available") != NULL,
	    "start: at an address of somebody else");
	ksf_svc_stop(svc, 0);
	ksf_svc_destroy(svc);
}

/* Two services share no port; each finds its own. */
static void
test_port_picked(void)
{
	struct ksf_svc *svcs[8];
	bool good = true;

	for (unsigned i = 0; i < ksf_nelem(svcs); i++) {
		svcs[i] = service_start(&ksf_kecho, "cpus=0 listen=127.0.0.1,127.0.0.2");
		for (unsigned j = 0; j < i; j++)
			good = good && service_port(svcs[i]) != service_port(svcs[j]);
		good = good && svcs[i]->nendpoints == 4;
		for (unsigned j = 0; j < svcs[i]->nendpoints; j++)
			good = good && svcs[i]->endpoints[j].addr.port == service_port(svcs[i]);
	}
	ok(good, "port 0: picked once, the same for all addresses, TCP and UDP");
	for (unsigned i = 0; i < ksf_nelem(svcs); i++)
		service_end(svcs[i]);
}

/*
 * A service whose start() does as it is told.
 */
static int odd_error;
static bool odd_listens;
static unsigned odd_stops;

static void
odd_input(struct ksf_conn *conn, struct ksf_rx *rx)
{
	ksf_stat_add(ksf_conn_svc(conn), 0, rx->q.len);
	kbufq_clear(&rx->q);
}

static const struct ksf_ops odd_ops = { .input = odd_input };

static int
odd_start(struct ksf_svc *svc)
{
	int error = odd_listens ? ksf_svc_listen(svc, KSF_TCP, &odd_ops, 0) : 0;

	return (error != 0 ? error : odd_error);
}

static void
odd_stop(struct ksf_svc *svc)
{
	(void)svc;
	odd_stops++;
}

static const struct ksf_stat odd_stats[] = {
	{ .name = "odd_bytes", .help = "bytes thrown away", .kind = KSF_STAT_COUNTER },
};

static const struct ksf_service odd_service = {
	.name = "odd",
	.help = "does as it is told",
	.stats = odd_stats,
	.nstats = ksf_nelem(odd_stats),
	.start = odd_start,
	.stop = odd_stop,
};

static void
test_odd(void)
{
	struct ksf_svc *svc = service_create(&odd_service, "");
	unsigned descriptors = open_descriptors();
	const struct ksf_stat *stat;
	char why[200] = "";
	uint64_t value;
	int fd;

	odd_listens = true;
	odd_error = EPROTO;
	ok(ksf_svc_start(svc, why, sizeof(why)) == EPROTO && odd_stops == 0 &&
		open_descriptors() == descriptors,
	    "start() fails after it has listened: everything is undone, stop() is not called");
	odd_listens = false;
	odd_error = 0;
	ok(ksf_svc_start(svc, why, sizeof(why)) == EINVAL &&
		strstr(why, "nothing to serve") != NULL,
	    "start() that listens at nothing fails, and says so");
	service_set(svc, "tcp=0");
	odd_listens = true;
	ok(ksf_svc_start(svc, why, sizeof(why)) == EINVAL && strstr(why, "tcp=0") != NULL,
	    "so does one whose protocols are all switched off");
	service_set(svc, "tcp=1");
	ksf_svc_stop(svc, 0);
	ok(odd_stops == 0, "stop: of what does not run does nothing");
	ok(ksf_svc_start(svc, NULL, 0) == 0, "start: nobody need want to know why not");

	fd = client_tcp(svc, 0);
	(void)client_send(fd, "12345", 5);
	WAIT_FOR(service_stat(svc, "odd_bytes") == 5, 5000);
	ksf_stat_add(svc, 0, 2);
	ok(service_stat(svc, "odd_bytes") == 7,
	    "statistics of the service: from workers and others");
	close(fd);
	ksf_svc_stop(svc, 100);
	ok(odd_stops == 1 && service_stat(svc, "odd_bytes") == 7,
	    "stop() is called once, statistics stay");
	stat = ksf_stat_at(svc, ST_COUNT, &value);
	ok(stat == &odd_stats[0] && value == 7 && ksf_stat_at(svc, ST_COUNT + 1, &value) == NULL,
	    "statistics: the framework's, then the service's");
	ksf_svc_destroy(svc);
}

/*
 * How long stopping takes.
 */
#define NEVER_READING 20u

/* Connections whose output is stuck, and one that is just idle. */
static void
stick(struct ksf_svc *svc, int *fds)
{
	static const uint8_t zeros[8192];
	uint64_t last = now_ms();
	ssize_t n;

	for (unsigned i = 0; i < NEVER_READING; i++)
		fds[i] = client_tcp(svc, 16384);
	while (now_ms() - last < 200) {
		for (unsigned i = 1; i < NEVER_READING; i++) {
			n = send(fds[i], zeros, sizeof(zeros), MSG_NOSIGNAL | MSG_DONTWAIT);
			if (n > 0)
				last = now_ms();
		}
		nap(1);
	}
}

static void *
cut_main(void *arg)
{
	nap(300);
	ksf_svc_cut(arg);
	return (NULL);
}

static void
test_stop_time(void)
{
	static const char settings[] =
	    "txhiwat=65536 txlowat=1000 sosndbuf=16384 sorcvbuf=16384 stall_timeout_ms=0";
	struct ksf_svc *svc = service_start(&ksf_kecho, settings);
	int fds[NEVER_READING];
	pthread_t cutter;
	uint64_t start;

	stick(svc, fds);
	start = now_ms();
	ksf_svc_stop(svc, 500);
	start = now_ms() - start;
	ok(start >= 450 && start < 1500,
	    "stop: peers that do not read get the grace time and no more (%u ms)", (unsigned)start);
	ok(service_stat(svc, "closed_cut") == NEVER_READING - 1 &&
		service_stat(svc, "mem_used") == 0,
	    "stop: then they are cut, counted");
	for (unsigned i = 0; i < NEVER_READING; i++) {
		(void)client_ends(fds[i], 5000);
		close(fds[i]);
	}

	/* The same service again. */
	if (ksf_svc_start(svc, NULL, 0) != 0)
		bail_out("cannot start again");
	stick(svc, fds);
	if (__real_pthread_create(&cutter, NULL, cut_main, svc) != 0)
		bail_out("cannot start a thread");
	start = now_ms();
	ksf_svc_stop(svc, 60000);
	start = now_ms() - start;
	pthread_join(cutter, NULL);
	ok(start >= 250 && start < 1300, "stop: called off the wait by ksf_svc_cut() (%u ms)",
	    (unsigned)start);
	for (unsigned i = 0; i < NEVER_READING; i++)
		close(fds[i]);
	ksf_svc_destroy(svc);

	svc = service_start(&ksf_kecho, "");
	fds[0] = client_tcp(svc, 0);
	ok(service_end(svc) < 500 && client_ends(fds[0], 5000),
	    "stop: idle connections are closed at once");
	close(fds[0]);
}

/* Stopping while many clients send all they can. */
static void
test_stop_loaded(void)
{
	static const int types[CLIENTS] = { SOCK_STREAM, SOCK_DGRAM };
	pthread_t clients[2 * CLIENTS];
	uint64_t start;

	load_svc = service_start(&ksf_kecho, "");
	load_port = service_port(load_svc);
	ksf_store(&loading, true);
	ksf_store(&load_answers, 0);
	for (unsigned i = 0; i < ksf_nelem(clients); i++) {
		if (__real_pthread_create(
			&clients[i], NULL, load_main, (void *)(uintptr_t)&types[i % CLIENTS]) != 0)
			bail_out("cannot start a thread");
	}
	WAIT_FOR(ksf_load(&load_answers) > 1000, 10000);
	start = now_ms();
	ksf_svc_stop(load_svc, 200);
	start = now_ms() - start;
	ok(start < 1200, "stop: under load within the grace time and a second (%u ms)",
	    (unsigned)start);
	ksf_store(&loading, false);
	for (unsigned i = 0; i < ksf_nelem(clients); i++)
		pthread_join(clients[i], NULL);
	ksf_svc_destroy(load_svc);
}

/*
 * Too few descriptors to accept: tried again when there are some.
 */
static void
test_no_descriptors(void)
{
	struct ksf_svc *svc = service_start(&ksf_kecho, "cpus=0 udp=0");
	struct sockaddr_in to;
	struct rlimit limit, low;
	static int waste[256];
	unsigned n = 0;
	char answer[1];
	int fd = client_tcp(svc, 0), late;

	(void)client_send(fd, "x", 1);
	(void)client_recv(fd, answer, 1, 5000);
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		bail_out("getrlimit: %s", strerror(errno));
	low = limit;
	low.rlim_cur = ksf_nelem(waste);
	(void)setrlimit(RLIMIT_NOFILE, &low);

	/* The client's socket exists, then everything is used up, then it connects. */
	late = __real_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	while (n < ksf_nelem(waste) && (waste[n] = dup(fd)) >= 0)
		n++;
	load_port = service_port(svc);
	to = load_address();
	if (connect(late, (const struct sockaddr *)&to, sizeof(to)) != 0)
		bail_out("cannot connect");
	WAIT_FOR(service_stat(svc, "accept_errors") >= 1, 5000);
	ok(service_stat(svc, "accept_errors") >= 1, "accept: out of descriptors: counted");
	ok(client_send(fd, "y", 1) && client_recv(fd, answer, 1, 5000) == 1,
	    "accept: others are served meanwhile");
	while (n > 0)
		close(waste[--n]);
	ok(client_send(late, "z", 1) && client_recv(late, answer, 1, 5000) == 1,
	    "accept: the connection that waited is served when there are some again");
	(void)setrlimit(RLIMIT_NOFILE, &limit);
	close(late);
	close(fd);
	service_end(svc);
}

/*
 * The log.
 */
static void
test_log(void)
{
	struct ksf_svc *svc = service_create(&ksf_kecho, "");

	ksf_store(&log_lines, 0);
	ksf_log(svc, KSF_DEBUG, "not shown");
	ok(ksf_load(&log_lines) == 0, "log: debugging messages are off");
	service_set(svc, "debug=1");
	ksf_log(svc, KSF_DEBUG, "shown: %s %0300d", "a long line is cut", 1);
	ok(ksf_load(&log_lines) == 1, "log: and can be switched on");
	for (unsigned i = 0; i < 1000; i++)
		ksf_log(svc, KSF_ERR, "line %u", i);
	ok(ksf_load(&log_lines) <= 40 &&
		ksf_load(&log_lines) + service_stat(svc, "log_suppressed") == 1001,
	    "log: few lines a second, the others are counted");
	ksf_svc_destroy(svc);
}

int
main(void)
{
	test_odd();
	test_fails_at();
	if (loopback_has(2)) {
		test_port_taken();
		test_port_picked();
	} else
		ok(true, "ports of two addresses # SKIP there is no 127.0.0.2");
	test_no_descriptors();
	test_stop_time();
	test_stop_loaded();
	test_log();
	test_cycles();
	return (tap_end());
}
