/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A conn is an actor: whatever other threads do to it at the same time, its callbacks never
 * overlap, no wake-up is lost, what each thread sends stays in order, nobody starves, and it is
 * closed and freed once. Many threads post to conns of a service in this process; clients are on
 * the main thread.
 */
#include "service.h"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tap.h"

/*
 * The service: input is thrown away, or echoed in "echo" mode; each conn leaves a reference for the
 * threads.
 */
#define CONNS_MAX 64u

struct actor {
	uint32_t inside; /* (a) callbacks that run: 0 or 1 */
	bool closed;
};

static struct ksf_conn *conns[CONNS_MAX]; /* (a) held, in the order of open() */
static uint32_t nconns, closed, overlaps, after_close, drained; /* (a) */
static bool echo, keep;                                         /* (a) */

static struct actor *
enter(struct ksf_conn *conn)
{
	struct actor *actor = ksf_conn_priv(conn);

	if (ksf_fetch_add(&actor->inside, 1) != 0)
		ksf_fetch_add(&overlaps, 1);
	if (actor->closed)
		ksf_fetch_add(&after_close, 1);
	return (actor);
}

static void
leave(struct actor *actor)
{
	ksf_fetch_sub(&actor->inside, 1);
}

static int
actor_open(struct ksf_conn *conn)
{
	struct actor *actor = enter(conn);
	uint32_t index;

	if (ksf_load(&keep)) {
		ksf_conn_hold(conn);
		index = ksf_load(&nconns);
		ksf_store(&conns[index % CONNS_MAX], conn);
		ksf_store(&nconns, index + 1);
	}
	leave(actor);
	return (0);
}

static void
actor_input(struct ksf_conn *conn, struct ksf_rx *rx)
{
	struct actor *actor = enter(conn);

	if (ksf_load(&echo))
		(void)ksf_conn_send(conn, &rx->q);
	else
		kbufq_clear(&rx->q);
	leave(actor);
}

static void
actor_drained(struct ksf_conn *conn)
{
	struct actor *actor = enter(conn);

	ksf_fetch_add(&drained, 1);
	leave(actor);
}

static void
actor_close(struct ksf_conn *conn, int error)
{
	struct actor *actor = enter(conn);

	(void)error;
	actor->closed = true;
	ksf_fetch_add(&closed, 1);
	leave(actor);
}

static const struct ksf_ops actor_ops = {
	.open = actor_open,
	.input = actor_input,
	.drained = actor_drained,
	.close = actor_close,
	.privsz = sizeof(struct actor),
};

static int
actor_start(struct ksf_svc *svc)
{
	return (ksf_svc_listen(svc, KSF_TCP, &actor_ops, 0));
}

static const struct ksf_service actor_service = {
	.name = "actor",
	.help = "conns under fire",
	.start = actor_start,
};

/* One group, so that connections are opened one after another: `conns` needs no lock. */
static struct ksf_svc *
actor(bool keeps, bool echoes, const char *settings)
{
	struct ksf_svc *svc = service_create(&actor_service, "cpus=0");
	char why[200];

	ksf_store(&keep, keeps);
	ksf_store(&echo, echoes);
	ksf_store(&nconns, 0);
	ksf_store(&closed, 0);
	ksf_store(&drained, 0);
	service_set(svc, settings);
	if (ksf_svc_start(svc, why, sizeof(why)) != 0)
		bail_out("%s", why);
	return (svc);
}

/*
 * Many senders, one conn.
 */
#define THREADS 6u

struct sender {
	pthread_t thread;
	struct ksf_conn *conn;
	uint32_t number, count, refused;
};

static void *
sender_main(void *arg)
{
	struct sender *sender = arg;
	uint32_t word[2] = { sender->number, 0 };
	struct kbufq q = { 0 };

	for (; word[1] < sender->count; word[1]++) {
		ksf_conn_hold(sender->conn);
		if (word[1] % 3 == 0 && sender->number % 2 == 0)
			conn_post(sender->conn, EV_IN | EV_OUT | EV_TIMER | EV_RESUME);
		if (kbufq_write(&q, word, sizeof(word)) != 0 ||
		    ksf_conn_send(sender->conn, &q) != 0)
			sender->refused++;
		ksf_conn_rele(sender->conn);
	}
	return (NULL);
}

static void
test_senders(const char *what, const char *settings)
{
	uint32_t each = TAP_REPEAT(20000), next[THREADS] = { 0 }, got = 0, refused = 0, word[2];
	struct ksf_svc *svc = actor(true, false, settings);
	struct sender senders[THREADS];
	int fd = client_tcp(svc, 0);
	bool order = true;

	WAIT_FOR(ksf_load(&nconns) == 1, 5000);
	for (uint32_t i = 0; i < THREADS; i++) {
		senders[i] = (struct sender){
			.conn = ksf_load(&conns[0]), .number = i, .count = each
		};
		if (pthread_create(&senders[i].thread, NULL, sender_main, &senders[i]) != 0)
			bail_out("cannot start a thread");
	}
	while (got < THREADS * each && order &&
	       client_recv(fd, word, sizeof(word), 10000) == sizeof(word)) {
		order = word[0] < THREADS && word[1] == next[word[0]];
		next[word[0] % THREADS]++;
		if (++got % 1000 == 0)
			(void)client_send(fd, word, sizeof(word));
	}
	for (uint32_t i = 0; i < THREADS; i++) {
		pthread_join(senders[i].thread, NULL);
		refused += senders[i].refused;
	}
	ok(order, "%s: what each thread sends comes in its order", what);
	ok(got == THREADS * each && refused == 0, "%s: and nothing is lost (%u messages)", what,
	    got);
	ok(ksf_load(&overlaps) == 0, "%s: no callback overlaps another", what);
	ksf_conn_close(ksf_load(&conns[0]), 0);
	ksf_conn_rele(ksf_load(&conns[0]));
	ok(client_ends(fd, 5000), "%s: closed by another thread", what);
	close(fd);
	service_end(svc);
	ok(ksf_load(&closed) == 1 && ksf_load(&after_close) == 0, "%s: close() once, and last",
	    what);
}

/*
 * Wake-ups: one message at a time, from a thread that is no worker to a conn that sleeps.
 */
static void
test_wakeups(const char *what, const char *settings)
{
	unsigned rounds = TAP_REPEAT(10000), i;
	struct ksf_svc *svc = actor(true, true, settings);
	int fd = client_tcp(svc, 0);
	struct kbufq q = { 0 };
	uint32_t word;
	bool good = true;

	WAIT_FOR(ksf_load(&nconns) == 1, 5000);
	for (i = 0; i < rounds && good; i++) {
		good = kbufq_write(&q, &i, sizeof(i)) == 0 &&
		       ksf_conn_send(ksf_load(&conns[0]), &q) == 0;

		/* Every other time a socket event comes at the same moment. */
		if (i % 2 == 0)
			good = good && client_send(fd, &i, sizeof(i)) &&
			       client_recv(fd, &word, sizeof(word), 5000) == sizeof(word) &&
			       word == i;
		good = good && client_recv(fd, &word, sizeof(word), 5000) == sizeof(word) &&
		       word == i;
	}
	ok(good, "%s: %u messages, each wakes the conn", what, i);
	ksf_conn_rele(ksf_load(&conns[0]));
	close(fd);
	service_end(svc);
}

/*
 * Closing, holding, requests in flight: everything at once, on many conns.
 */
struct rioter {
	pthread_t thread;
	uint64_t state;
	uint32_t round;
};

static uint32_t round_now; /* (a) threads work on the conns of this round */
static uint32_t riot_left; /* (a) threads that have not finished it */
static bool riot_over;     /* (a) */

static void
riot(struct ksf_conn *conn, unsigned what)
{
	struct kbufq q = { 0 };

	ksf_conn_hold(conn);
	switch (what % 8) {
	case 0:
		ksf_conn_close(conn, 0);
		break;
	case 1:
		ksf_conn_close(conn, ECONNABORTED);
		break;
	case 2:
		/* begin() belongs to callbacks; what it does is this. */
		ksf_conn_hold(conn);
		ksf_fetch_add(&conn->inflight, 1);
		ksf_conn_end(conn);
		break;
	case 3:
		conn_post(conn, EV_TIMER | EV_RESUME);
		break;
	default:
		if (kbufq_write(&q, &what, sizeof(what)) == 0)
			(void)ksf_conn_send(conn, &q);
		break;
	}
	ksf_conn_rele(conn);
}

static void *
rioter_main(void *arg)
{
	struct rioter *rioter = arg;

	while (!ksf_load(&riot_over)) {
		if (ksf_load(&round_now) == rioter->round) {
			nap(1);
			continue;
		}
		rioter->round = ksf_load(&round_now);
		for (unsigned i = 0; i < 400; i++) {
			rioter->state = rioter->state * 6364136223846793005u + 1442695040888963407u;

			/* Rarely a close, so that most comes before, and the rest after it. */
			riot(ksf_load(&conns[(rioter->state >> 40) % CONNS_MAX]),
			    (rioter->state >> 50) % 64 == 0
				? (unsigned)(rioter->state >> 33) % 2
				: 2 + (unsigned)(rioter->state >> 33) % 6);
		}
		ksf_fetch_sub(&riot_left, 1);
	}
	return (NULL);
}

static void
test_riot(void)
{
	unsigned rounds = TAP_REPEAT(40);
	struct ksf_svc *svc = actor(true, true, "");
	struct rioter rioters[THREADS];
	int fds[CONNS_MAX];
	bool good = true;

	ksf_store(&riot_over, false);
	ksf_store(&round_now, 0);
	for (unsigned i = 0; i < THREADS; i++) {
		rioters[i] = (struct rioter){ .state = random_next() };
		if (pthread_create(&rioters[i].thread, NULL, rioter_main, &rioters[i]) != 0)
			bail_out("cannot start a thread");
	}
	for (unsigned round = 1; round <= rounds && good; round++) {
		for (unsigned i = 0; i < CONNS_MAX; i++)
			fds[i] = client_tcp(svc, 0);
		WAIT_FOR(ksf_load(&nconns) == round * CONNS_MAX, 10000);
		good = ksf_load(&nconns) == round * CONNS_MAX;
		ksf_store(&riot_left, THREADS);
		ksf_store(&round_now, round);

		/* The peers take part: some leave in order, some by a reset, some send. */
		for (unsigned i = 0; i < CONNS_MAX; i++) {
			if (i % 4 == 0)
				(void)setsockopt(fds[i], SOL_SOCKET, SO_LINGER,
				    &(struct linger){ .l_onoff = 1 }, sizeof(struct linger));
			else if (i % 4 == 1)
				(void)send(fds[i], "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
			if (i % 2 == 0)
				close(fds[i]);
		}
		WAIT_FOR(ksf_load(&riot_left) == 0, 20000);
		good = good && ksf_load(&riot_left) == 0;
		for (unsigned i = 0; i < CONNS_MAX; i++) {
			ksf_conn_rele(ksf_load(&conns[i]));
			if (i % 2 != 0)
				close(fds[i]);
		}
		WAIT_FOR(ksf_load(&closed) == round * CONNS_MAX, 10000);
		good = good && ksf_load(&closed) == round * CONNS_MAX;
	}
	ok(good, "riot: %u conns, each closed once", ksf_load(&closed));
	ok(ksf_load(&overlaps) == 0 && ksf_load(&after_close) == 0,
	    "riot: no callback overlaps, none after close()");
	ksf_store(&riot_over, true);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(rioters[i].thread, NULL);
	ok(service_end(svc) < 900 && ksf_load(&closed) == ksf_load(&nconns),
	    "riot: the service stops at once");
}

/* References outlive the conn, and the service's stop waits for them. */
static void *
holder_main(void *arg)
{
	struct ksf_conn *conn = arg;

	nap(200);
	ksf_conn_end(conn);
	return (NULL);
}

static void
test_late_end(void)
{
	bool good = true;

	for (unsigned i = 0; i < 3; i++) {
		struct ksf_svc *svc = actor(true, true, "");
		int fd = client_tcp(svc, 0);
		pthread_t thread;
		uint64_t start;

		WAIT_FOR(ksf_load(&nconns) == 1, 5000);

		/* The reference of open() becomes that of a request. */
		ksf_fetch_add(&conns[0]->inflight, 1);
		if (i == 0)
			ksf_conn_close(ksf_load(&conns[0]), ECONNABORTED);
		if (i == 1)
			close(fd);
		if (pthread_create(&thread, NULL, holder_main, ksf_load(&conns[0])) != 0)
			bail_out("cannot start a thread");
		start = now_ms();
		ksf_svc_stop(svc, 20);
		good = good && now_ms() - start >= 100 && ksf_load(&closed) == 1;
		pthread_join(thread, NULL);
		ksf_svc_destroy(svc);
		if (i != 1)
			close(fd);
	}
	ok(good, "a request that ends after its conn was closed, left or cut: stop waits for it");
}

/*
 * Fairness: a conn that never runs dry does not keep others of its core waiting.
 */
struct flooder {
	pthread_t thread;
	int fd;
	uint64_t bytes;
};

static bool flooding; /* (a) */

static void *
flooder_main(void *arg)
{
	static const uint8_t zeros[65536];
	struct flooder *flooder = arg;

	while (ksf_load(&flooding)) {
		if (!client_send(flooder->fd, zeros, sizeof(zeros)))
			break;
		flooder->bytes += sizeof(zeros);
	}
	return (NULL);
}

static void
test_fairness(void)
{
	struct ksf_svc *svc = actor(false, false, "tdmax=1 sorcvbuf=4M");
	struct flooder flooders[2];
	uint64_t worst = 0, start, runs, bytes;
	char answer[1];
	int fd;

	ksf_store(&flooding, true);
	for (unsigned i = 0; i < ksf_nelem(flooders); i++) {
		flooders[i] = (struct flooder){ .fd = client_tcp(svc, 0) };
		if (pthread_create(&flooders[i].thread, NULL, flooder_main, &flooders[i]) != 0)
			bail_out("cannot start a thread");
	}
	WAIT_FOR(service_stat(svc, "bytes_in") > 10 << 20, 10000);

	/* Connections are opened, served and closed beside the flood. */
	for (unsigned i = 0; i < 20; i++) {
		start = now_ms();
		fd = client_tcp(svc, 0);
		(void)client_send(fd, "x", 1);
		(void)shutdown(fd, SHUT_WR);
		if (client_recv(fd, answer, 1, 10000) != 0)
			worst = UINT64_MAX;
		start = now_ms() - start;
		worst = ksf_max(worst, start);
		close(fd);
	}
	bytes = service_stat(svc, "bytes_in");
	runs = service_stat(svc, "runs");
	ksf_store(&flooding, false);
	for (unsigned i = 0; i < ksf_nelem(flooders); i++) {
		pthread_join(flooders[i].thread, NULL);
		close(flooders[i].fd);
	}
	ok(worst < 2000, "fairness: others are served beside a flood (at worst after %u ms)",
	    (unsigned)worst);
	ok(bytes <= runs * (512 + 64) * 1024, "fairness: no run takes more than its budget");
	service_end(svc);
}

/* Plain facts about a conn. */
static void
test_accessors(void)
{
	struct ksf_svc *svc = actor(true, true, "");
	int a = client_tcp(svc, 0), b = client_tcp(svc, 0);
	const struct ksf_conn *conn;

	WAIT_FOR(ksf_load(&nconns) == 2, 5000);
	conn = ksf_load(&conns[0]);
	ok(ksf_conn_svc(conns[0]) == svc && ksf_conn_is_stream(conn) &&
		ksf_conn_local(conn)->port == service_port(svc) &&
		ksf_addr_is_loopback(ksf_conn_peer(conn)) && ksf_conn_peer(conn)->port != 0,
	    "accessors: service, kind, addresses");
	ok(ksf_conn_id(conn) != ksf_conn_id(conns[1]) &&
		((uintptr_t)ksf_conn_priv(conns[0]) & 15) == 0,
	    "accessors: ids differ, private memory is aligned");
	ksf_conn_rele(conns[0]);
	ksf_conn_rele(conns[1]);
	close(a);
	close(b);
	service_end(svc);
}

int
main(void)
{
	random_seed();
	test_accessors();
	test_senders("senders", "");
	test_senders("senders, low water marks", "txhiwat=8192 txlowat=100 sosndbuf=8192");
	test_wakeups("wake-ups", "");
	test_wakeups("wake-ups, spinning", "spin_us=50");
	test_wakeups("wake-ups, several workers", "tdmin=3 spin_us=20");
	test_riot();
	test_late_end();
	test_fairness();
	return (tap_end());
}
