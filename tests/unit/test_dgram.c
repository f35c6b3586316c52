/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * UDP: sessions and their table (bounded, evicting, expiring), plain sockets, datagrams that must
 * not be answered or are too long, and sending on a session from another thread. Services run in
 * this process; the clients are sockets of the main thread.
 */
#include "service.h"

#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tap.h"

/*
 * The service: echo, with the callbacks counted. "hold" keeps a reference to the session for
 * another thread, "begin" begins a request, "close" ends the session, "local" answers with the
 * address that the datagram was sent to.
 */
static unsigned listen_flags;
static uint32_t opened, closed, refuse; /* (a) */
static int last_error;                  /* (a) */
static struct ksf_conn *held;           /* (a) */

struct session {
	uint32_t seen; /* datagrams so far */
	bool open;
};

static bool
says(const struct ksf_rx *rx, const char *word)
{
	char text[8] = "";

	return (rx->q.len == strlen(word) && kbufq_copyout(&rx->q, 0, text, rx->q.len) == 0 &&
		strcmp(text, word) == 0);
}

static int
dgram_open(struct ksf_conn *conn)
{
	struct session *session = ksf_conn_priv(conn);

	ksf_fetch_add(&opened, 1);
	session->open = true;
	return (ksf_load(&refuse) ? EACCES : 0);
}

static void
dgram_close(struct ksf_conn *conn, int error)
{
	struct session *session = ksf_conn_priv(conn);

	if (!session->open)
		abort();
	session->open = false;
	ksf_store(&last_error, error);
	ksf_fetch_add(&closed, 1);
}

static void
dgram_input(struct ksf_conn *conn, struct ksf_rx *rx)
{
	struct session *session = ksf_conn_priv(conn);
	char text[KSF_ADDR_STRLEN];

	session->seen++;
	if (says(rx, "hold")) {
		ksf_conn_hold(conn);
		ksf_store(&held, conn);
	} else if (says(rx, "begin")) {
		ksf_conn_begin(conn);
		ksf_store(&held, conn);
	} else if (says(rx, "close"))
		ksf_conn_close(conn, ECONNRESET);
	else if (says(rx, "local")) {
		kbufq_clear(&rx->q);
		ksf_addr_format(&rx->local, text, sizeof(text));
		if (kbufq_write(&rx->q, text, strlen(text)) != 0)
			abort();
	} else if (says(rx, "count")) {
		kbufq_clear(&rx->q);
		if (kbufq_write(&rx->q, &session->seen, sizeof(session->seen)) != 0)
			abort();
	}
	(void)ksf_conn_send(conn, &rx->q);
}

static const struct ksf_ops dgram_ops = {
	.open = dgram_open,
	.input = dgram_input,
	.close = dgram_close,
	.privsz = sizeof(struct session),
};

static int
dgram_start(struct ksf_svc *svc)
{
	return (ksf_svc_listen(svc, KSF_UDP, &dgram_ops, listen_flags));
}

static const struct ksf_service dgram_service = {
	.name = "dgram",
	.help = "datagrams under test",
	.start = dgram_start,
};

static struct ksf_svc *
dgram(unsigned flags, const char *settings)
{
	listen_flags = flags;
	ksf_store(&opened, 0);
	ksf_store(&closed, 0);
	ksf_store(&refuse, 0);
	ksf_store(&held, NULL);
	ksf_store(&last_error, -1);
	return (service_start(&dgram_service, settings));
}

/* The next datagram within `ms`: its length, or -1. */
static ssize_t
take(int fd, void *bytes, size_t len, unsigned ms)
{
	struct timeval limit = { .tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000 };

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return (recv(fd, bytes, len, 0));
}

/* Send a word, and get it back. */
static bool
echoes(int fd, const char *word)
{
	char answer[64] = "";

	return (send(fd, word, strlen(word), 0) == (ssize_t)strlen(word) &&
		take(fd, answer, sizeof(answer) - 1, 5000) == (ssize_t)strlen(word) &&
		strcmp(answer, word) == 0);
}

/* How many datagrams the session of this socket has seen; 0 when there is no answer. */
static uint32_t
count(int fd)
{
	uint32_t seen = 0;

	if (send(fd, "count", 5, 0) != 5 || take(fd, &seen, sizeof(seen), 5000) != sizeof(seen))
		return (0);
	return (seen);
}

/* One that is not answered. */
static bool
ignored(struct ksf_svc *svc, int fd, const void *bytes, size_t len, const char *stat)
{
	uint64_t before = service_stat(svc, stat);

	if (send(fd, bytes, len, 0) != (ssize_t)len)
		return (false);
	WAIT_FOR(service_stat(svc, stat) == before + 1, 5000);
	return (service_stat(svc, stat) == before + 1);
}

static void
test_sessions(void)
{
	struct ksf_svc *svc = dgram(0, "");
	int a = client_udp(svc), b = client_udp(svc), c;
	char answer[8];

	ok(count(a) == 1 && count(a) == 2 && count(b) == 1 && count(a) == 3 && count(b) == 2,
	    "session: one for each peer, with its own memory");
	ok(ksf_load(&opened) == 2 && service_stat(svc, "sessions_now") == 2 &&
		service_stat(svc, "sessions_opened") == 2,
	    "session: open() once for each, counted");
	WAIT_FOR(service_stat(svc, "dgrams_out") == 5, 5000);
	ok(service_stat(svc, "dgrams_in") == 5 && service_stat(svc, "dgrams_out") == 5,
	    "session: datagrams counted");
	ok(send(a, "", 0, 0) == 0 && take(a, answer, sizeof(answer), 5000) == 0,
	    "session: empty datagrams are datagrams");
	(void)send(a, "close", 5, 0);
	WAIT_FOR(ksf_load(&closed) == 1, 5000);
	ok(ksf_load(&last_error) == ECONNRESET && service_stat(svc, "sessions_now") == 1,
	    "session: closed by the service, close() is told why");
	(void)take(a, answer, sizeof(answer), 100);
	ok(count(a) == 1 && ksf_load(&opened) == 3, "session: the next datagram begins a new one");

	ksf_store(&refuse, 1);
	c = client_udp(svc);
	ok(ignored(svc, c, "x", 1, "refused_service"), "session: refused by open(), counted");
	ok(service_stat(svc, "sessions_now") == 2 && ksf_load(&closed) == 1,
	    "session: refused: close() is not called");
	close(a);
	close(b);
	close(c);
	service_end(svc);
	ok(ksf_load(&closed) == 3, "session: all are closed when the service stops");
}

static void
test_local(unsigned flags, const char *what)
{
	struct ksf_svc *svc = dgram(flags, "");
	char answer[KSF_ADDR_STRLEN] = "", expected[KSF_ADDR_STRLEN];
	int fd = client_udp(svc);

	snprintf(expected, sizeof(expected), "127.0.0.1:%u", service_port(svc));
	(void)send(fd, "local", 5, 0);
	(void)take(fd, answer, sizeof(answer) - 1, 5000);
	if (!ok(strcmp(answer, expected) == 0, "%s: the address that a datagram was sent to", what))
		printf("# '%s', not '%s'\n", answer, expected);
	close(fd);
	service_end(svc);

	svc = service_create(&dgram_service, "listen=0.0.0.0");
	if (ksf_svc_start(svc, answer, sizeof(answer)) != 0)
		bail_out("%s", answer);
	fd = client_udp(svc);
	snprintf(expected, sizeof(expected), "127.0.0.1:%u", service_port(svc));
	memset(answer, 0, sizeof(answer));
	(void)send(fd, "local", 5, 0);
	(void)take(fd, answer, sizeof(answer) - 1, 5000);
	if (!ok(strcmp(answer, expected) == 0, "%s: and on a socket bound to none", what))
		printf("# '%s', not '%s'\n", answer, expected);
	close(fd);
	service_end(svc);
}

/*
 * The table.
 */
static void
test_table(void)
{
	struct ksf_svc *svc = dgram(0, "sessions=4 cpus=0");
	int settled[2], fresh[3], fd;
	char answer[8];

	for (unsigned i = 0; i < 2; i++) {
		settled[i] = client_udp(svc);
		ok(count(settled[i]) == 1 && count(settled[i]) == 2,
		    "table: session %u, two datagrams", i);
	}
	for (unsigned i = 0; i < 2; i++) {
		fresh[i] = client_udp(svc);
		ok(count(fresh[i]) == 1, "table: session %u, one datagram", i + 2);
	}
	fresh[2] = client_udp(svc);
	ok(count(fresh[2]) == 1 && service_stat(svc, "sessions_evicted") == 1 &&
		service_stat(svc, "sessions_now") == 4,
	    "table: full: a newcomer takes the place of a fresh session, counted");
	ok(ksf_load(&closed) == 1 && ksf_load(&last_error) == ECANCELED,
	    "table: the evicted session is closed");
	ok(count(settled[0]) == 3 && count(settled[1]) == 3, "table: settled sessions stay");
	ok(count(fresh[1]) == 2, "table: the younger fresh session has stayed");
	ok(count(fresh[2]) == 2, "table: the newcomer settles");

	/* Now all four are settled. */
	fd = client_udp(svc);
	ok(ignored(svc, fd, "x", 1, "sessions_refused"),
	    "table: full of settled sessions: newcomers are refused, counted");
	ok(service_stat(svc, "sessions_now") == 4 && ksf_load(&opened) == 5,
	    "table: a refused one is not opened");
	(void)send(settled[0], "close", 5, 0);
	(void)take(settled[0], answer, sizeof(answer), 100);
	WAIT_FOR(service_stat(svc, "sessions_now") == 3, 5000);
	ok(count(fd) == 1, "table: room again when one has ended");

	/* That one is fresh, but has a request in flight: it is not evicted. */
	close(fd);
	service_end(svc);
	for (unsigned i = 0; i < 2; i++)
		close(settled[i]);
	for (unsigned i = 0; i < 3; i++)
		close(fresh[i]);

	svc = dgram(0, "sessions=1 cpus=0");
	fd = client_udp(svc);
	ok(echoes(fd, "begin"), "table: one session, with a request in flight");
	fresh[0] = client_udp(svc);
	ok(ignored(svc, fresh[0], "x", 1, "sessions_refused"),
	    "table: it is not evicted while the request is in flight");
	ksf_conn_end(ksf_load(&held));
	ok(count(fresh[0]) == 1, "table: afterwards it is");
	close(fd);
	close(fresh[0]);
	service_end(svc);
}

static void
test_expiry(void)
{
	struct ksf_svc *svc = dgram(0, "session_timeout_ms=500");
	int idle = client_udp(svc), busy = client_udp(svc), lively = client_udp(svc);

	ok(count(idle) == 1 && echoes(busy, "begin"),
	    "expiry: two sessions, one with a request in flight");
	for (unsigned i = 0; i < 20 || (service_stat(svc, "sessions_now") > 2 && i < 50); i++) {
		(void)count(lively);
		nap(100);
	}
	ok(service_stat(svc, "sessions_now") == 2 && service_stat(svc, "closed_idle") == 1 &&
		ksf_load(&last_error) == ETIMEDOUT,
	    "expiry: the idle one is closed with ETIMEDOUT, counted");
	ok(count(lively) >= 20, "expiry: one that is used stays");
	ksf_conn_end(ksf_load(&held));
	WAIT_FOR(service_stat(svc, "sessions_now") == 0, 5000);
	ok(service_stat(svc, "sessions_now") == 0 && service_stat(svc, "closed_idle") == 3,
	    "expiry: in the end all are");
	ok(count(idle) == 1, "expiry: a new session afterwards");
	close(idle);
	close(busy);
	close(lively);
	service_end(svc);
}

/*
 * Datagrams that are not taken.
 */
static void
test_dropped(unsigned flags, const char *what)
{
	struct ksf_svc *svc = dgram(flags, "dgram_max=1000 allow=127.0.0.1");
	static uint8_t bytes[65507], answer[65507];
	int fd = client_udp(svc);

	pattern_fill(bytes, sizeof(bytes), 0);
	ok(send(fd, bytes, 1000, 0) == 1000 && take(fd, answer, sizeof(answer), 5000) == 1000 &&
		memcmp(bytes, answer, 1000) == 0,
	    "%s: a datagram of dgram_max bytes", what);
	ok(ignored(svc, fd, bytes, 1001, "dgrams_truncated"),
	    "%s: a longer one is dropped, counted", what);
	ok(ignored(svc, fd, bytes, sizeof(bytes), "dgrams_truncated"), "%s: so is the longest",
	    what);
	service_set(svc, "dgram_max=65507");
	(void)echoes(fd, "x"); /* segments of the old size may be waiting for the next datagrams */
	ok(send(fd, bytes, sizeof(bytes), 0) == (ssize_t)sizeof(bytes) &&
		take(fd, answer, sizeof(answer), 5000) == (ssize_t)sizeof(bytes) &&
		memcmp(bytes, answer, sizeof(bytes)) == 0,
	    "%s: dgram_max raised while the service runs", what);
	close(fd);
	service_set(svc, "allow=10.0.0.0/8");
	fd = client_udp(svc);
	ok(ignored(svc, fd, "x", 1, "refused_allow"),
	    "%s: a peer that is not allowed is ignored, counted", what);
	service_set(svc, "allow=");
	ok(echoes(fd, "x"), "%s: and allowed later", what);
	close(fd);
	service_end(svc);
}

/* From a port of our choice. */
static int
client_from_port(struct ksf_svc *svc, unsigned host, uint16_t port)
{
	struct sockaddr_in from = { .sin_family = AF_INET, .sin_port = htons(port) }, to = from;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	from.sin_addr.s_addr = htonl(0x7f000000u | host);
	to.sin_addr.s_addr = htonl(0x7f000001u);
	to.sin_port = htons(service_port(svc));
	if (fd < 0)
		bail_out("socket: %s", strerror(errno));
	if (bind(fd, (const struct sockaddr *)&from, sizeof(from)) != 0 ||
	    connect(fd, (const struct sockaddr *)&to, sizeof(to)) != 0) {
		close(fd);
		return (-1);
	}
	return (fd);
}

static void
test_loops(void)
{
	struct ksf_svc *svc = dgram(KSF_LISTEN_NO_LOOPS, "");
	int fd = client_from_port(svc, 2, service_port(svc));

	if (fd < 0)
		bail_out("cannot bind to 127.0.0.2");
	ok(ignored(svc, fd, "x", 1, "dgrams_loop"),
	    "no loops: from the service's own port: dropped, counted");
	close(fd);
	fd = client_from_port(svc, 1, 1023);
	if (fd >= 0)
		ok(ignored(svc, fd, "x", 1, "dgrams_privileged"),
		    "no loops: from a reserved port: dropped, counted");
	else
		ok(true, "no loops: from a reserved port # SKIP not permitted to use one");
	close(fd);
	service_end(svc);

	svc = dgram(0, "");
	fd = client_from_port(svc, 2, service_port(svc));
	ok(fd >= 0 && echoes(fd, "x"), "no loops: is a service's choice");
	close(fd);
	service_end(svc);
}

/*
 * Sending from another thread, or by somebody who outlives the session.
 */
#define SENDERS     4u
#define SENDER_EACH 500u

struct sender {
	pthread_t thread;
	struct ksf_conn *conn;
	uint32_t number;
	uint32_t refused;
};

static void *
sender_main(void *arg)
{
	struct sender *sender = arg;
	struct kbufq q = { 0 };
	uint32_t word[2] = { sender->number, 0 };

	for (; word[1] < SENDER_EACH; word[1]++) {
		if (kbufq_write(&q, word, sizeof(word)) != 0 ||
		    ksf_conn_send(sender->conn, &q) != 0)
			sender->refused++;
		if (word[1] % 8 == 0)
			nap(1);
	}
	return (NULL);
}

static void
test_senders(void)
{
	struct ksf_svc *svc = dgram(0, "sosndbuf=1M");
	struct sender senders[SENDERS];
	uint32_t word[2], next[SENDERS] = { 0 }, got = 0, refused = 0;
	int fd = client_udp(svc), size = 4 << 20;
	bool order = true;

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	ok(echoes(fd, "hold"), "senders: a session that other threads refer to");
	for (uint32_t i = 0; i < SENDERS; i++) {
		senders[i] = (struct sender){ .conn = ksf_load(&held), .number = i };
		if (pthread_create(&senders[i].thread, NULL, sender_main, &senders[i]) != 0)
			bail_out("cannot start a thread");
	}
	while (got < SENDERS * SENDER_EACH && take(fd, word, sizeof(word), 2000) == sizeof(word)) {
		order = order && word[0] < SENDERS && word[1] >= next[word[0]];
		next[word[0] % SENDERS] = word[1] + 1;
		got++;
	}
	for (uint32_t i = 0; i < SENDERS; i++) {
		pthread_join(senders[i].thread, NULL);
		refused += senders[i].refused;
	}
	ok(order, "senders: each thread's datagrams come in their order");
	ok(got + service_stat(svc, "dgrams_dropped") == SENDERS * SENDER_EACH && refused == 0,
	    "senders: none is lost that is not counted (%u came)", got);

	/* The session ends, the reference stays. */
	(void)send(fd, "close", 5, 0);
	WAIT_FOR(ksf_load(&closed) == 1, 5000);
	{
		struct kbufq q = { 0 };

		ok(kbufq_write(&q, "x", 1) == 0 && ksf_conn_send(ksf_load(&held), &q) == EPIPE &&
			q.head == NULL,
		    "senders: a closed session takes nothing");
	}
	ksf_conn_close(ksf_load(&held), 0);
	ksf_conn_rele(ksf_load(&held));
	close(fd);
	service_end(svc);
}

/*
 * Plain sockets.
 */
static void
test_plain(void)
{
	struct ksf_svc *svc = dgram(KSF_LISTEN_PLAIN, "cpus=0");
	int a = client_udp(svc), b = client_udp(svc);
	struct kbufq q = { 0 };

	ok(ksf_load(&opened) == 1, "plain: open() once, when the service starts");
	ok(count(a) == 1 && count(b) == 2 && count(a) == 3, "plain: one memory for all peers");
	ok(service_stat(svc, "sessions_opened") == 0, "plain: no sessions");
	ok(echoes(a, "hold"), "plain: a reference for another thread");
	ok(kbufq_write(&q, "x", 1) == 0 && ksf_conn_send(ksf_load(&held), &q) == EPIPE &&
		q.head == NULL,
	    "plain: no peer, no sending from another thread");
	ok(kbufq_write(&q, "x", 1) == 0 &&
		ksf_conn_sendto(ksf_load(&held), &q, ksf_conn_peer(ksf_load(&held)), NULL) ==
		    EPIPE &&
		q.head == NULL,
	    "plain: nor by ksf_conn_sendto()");
	ksf_conn_rele(ksf_load(&held));
	close(a);
	close(b);
	service_end(svc);
	ok(ksf_load(&closed) == 1 && ksf_load(&last_error) == 0,
	    "plain: close() when the service stops");
}

/* sendto: each datagram goes to the peer of the one before. */
static struct ksf_addr previous;

static void
relay_input(struct ksf_conn *conn, struct ksf_rx *rx)
{
	if (previous.family != 0)
		(void)ksf_conn_sendto(conn, &rx->q, &previous, &rx->local);
	previous = rx->peer;
}

static const struct ksf_ops relay_ops = { .input = relay_input };

static int
relay_start(struct ksf_svc *svc)
{
	return (ksf_svc_listen(svc, KSF_UDP, &relay_ops, KSF_LISTEN_PLAIN));
}

static void
test_sendto(void)
{
	static const struct ksf_service relay = {
		.name = "relay", .help = "sends to somebody else", .start = relay_start
	};
	struct ksf_svc *svc = service_start(&relay, "listen=0.0.0.0 cpus=0");
	int a = client_udp(svc), b = client_udp(svc);
	char answer[8];

	(void)send(a, "one", 3, 0);
	WAIT_FOR(service_stat(svc, "dgrams_in") == 1, 5000);
	(void)send(b, "two", 3, 0);
	ok(take(a, answer, sizeof(answer), 5000) == 3 && memcmp(answer, "two", 3) == 0,
	    "sendto: to another peer");
	close(a);
	close(b);
	service_end(svc);
}

/* Many segments, more than one send call takes as they are. */
static void
pieces_input(struct ksf_conn *conn, struct ksf_rx *rx)
{
	struct kbufq q = { 0 };

	while (rx->q.len > 0 && kbufq_share(&q, &rx->q, 0, 1) == 0)
		kbufq_trim_front(&rx->q, 1);
	(void)ksf_conn_send(conn, &q);
}

static const struct ksf_ops pieces_ops = { .input = pieces_input };

static int
pieces_start(struct ksf_svc *svc)
{
	return (ksf_svc_listen(svc, KSF_UDP, &pieces_ops, 0));
}

static void
test_pieces(void)
{
	static const struct ksf_service pieces = {
		.name = "pieces", .help = "answers in pieces", .start = pieces_start
	};
	struct ksf_svc *svc = service_start(&pieces, "");
	int fd = client_udp(svc);

	ok(echoes(fd, "1234567"), "pieces: a datagram of seven segments");
	ok(echoes(fd, "123456789012345678901234567890"), "pieces: a datagram of thirty segments");
	close(fd);
	service_end(svc);
}

/*
 * Too many requests in flight, and stopping.
 */
static void
test_inflight(void)
{
	struct ksf_svc *svc = dgram(0, "inflight=1");
	int fd = client_udp(svc);

	ok(echoes(fd, "begin"), "inflight: a request is begun");
	ok(ignored(svc, fd, "x", 1, "dgrams_dropped"),
	    "inflight: at the limit datagrams are dropped, counted");
	ksf_conn_end(ksf_load(&held));
	ok(echoes(fd, "x"), "inflight: below it they are taken again");
	close(fd);
	service_end(svc);
}

static void *
end_main(void *arg)
{
	struct kbufq q = { 0 };

	(void)arg;
	nap(200);
	if (kbufq_write(&q, "late", 4) == 0)
		(void)ksf_conn_send(ksf_load(&held), &q);
	ksf_conn_end(ksf_load(&held));
	return (NULL);
}

static void
test_stop(void)
{
	struct ksf_svc *svc = dgram(0, "");
	char answer[8];
	pthread_t thread;
	uint64_t took;
	int fd[20];

	for (unsigned i = 0; i < ksf_nelem(fd); i++) {
		fd[i] = client_udp(svc);
		(void)echoes(fd[i], "x");
	}
	(void)echoes(fd[0], "begin");
	if (pthread_create(&thread, NULL, end_main, NULL) != 0)
		bail_out("cannot start a thread");
	took = service_end(svc);
	pthread_join(thread, NULL);
	ok(took >= 150 && took < 1900, "stop: waits for the request in flight (%u ms)",
	    (unsigned)took);
	ok(take(fd[0], answer, sizeof(answer), 5000) == 4, "stop: its reply leaves");
	ok(ksf_load(&opened) == 20 && ksf_load(&closed) == 20, "stop: every session is closed");
	for (unsigned i = 0; i < ksf_nelem(fd); i++)
		close(fd[i]);

	/* A request that does not end: cut after the grace time, but its holder may take longer. */
	svc = dgram(0, "");
	fd[0] = client_udp(svc);
	(void)echoes(fd[0], "begin");
	if (pthread_create(&thread, NULL, end_main, NULL) != 0)
		bail_out("cannot start a thread");
	ksf_svc_stop(svc, 10);
	pthread_join(thread, NULL);
	ok(ksf_load(&closed) == 1 && ksf_load(&last_error) == ECANCELED,
	    "stop: cut after the grace time");
	ksf_svc_destroy(svc);
	close(fd[0]);
}

int
main(void)
{
	test_sessions();
	test_local(0, "session");
	test_local(KSF_LISTEN_PLAIN, "plain");
	test_table();
	test_expiry();
	test_dropped(0, "session");
	test_dropped(KSF_LISTEN_PLAIN, "plain");
	if (loopback_has(2))
		test_loops();
	else
		ok(true, "no loops # SKIP there is no 127.0.0.2");
	test_senders();
	test_plain();
	test_sendto();
	test_pieces();
	test_inflight();
	test_stop();
	return (tap_end());
}
