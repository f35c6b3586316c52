/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files of core share: the service, the connection, and who may touch which field.
 *
 * Letters: a = atomic; c = constant after creation; q = the conn's own task only (it never runs
 * twice at once); t = the conn's lock; g = the group's conn list lock; s = the service's lock.
 *
 * Lock order: service, then group list, then wheel, then conn, then pool queue. No lock is held
 * across a callback of the service or a call that may sleep.
 */
#ifndef KSF_CORE_H
#define KSF_CORE_H

#include <ksf/ksf.h>

#include "../host/host.h"
#include "atomic.h"
#include "cidr.h"
#include "list.h"
#include "pool.h"
#include "timer.h"

/*
 * Events of a conn, one atomic word. The first four are the host's.
 */
enum {
	EV_IN = HOST_EV_IN,
	EV_OUT = HOST_EV_OUT,
	EV_EOF = HOST_EV_EOF,
	EV_ERROR = HOST_EV_ERROR,
	EV_SEND = 0x10,            /* another thread has queued output */
	EV_CLOSE = 0x20,           /* ksf_conn_close() was called */
	EV_TIMER = 0x40,           /* a deadline may have passed */
	EV_STOP = 0x80,            /* the service stops: finish what is in flight */
	EV_CUT = 0x100,            /* the grace time is over */
	EV_RESUME = 0x200,         /* what reading waited for may have changed */
	EV_SESSION = 0x400,        /* datagram socket: sessions have events */
	EV_SCHEDULED = 0x40000000, /* the task is queued or runs; it alone clears this */
	EV_DEAD = (int)0x80000000, /* the last reference is gone: whoever holds SCHEDULED frees */
};

enum conn_kind {
	CONN_LISTENER, /* accepts streams */
	CONN_STREAM,
	CONN_DGRAM,   /* a UDP socket */
	CONN_SESSION, /* one peer of a UDP socket; runs within the task of its parent */
};

/*
 *            +--------------------- error, cut ---------------------+
 *            |                                                      v
 *  NEW ---> OPEN ---> DRAINING ---> LINGERING ------------------> CLOSED
 *   |        close(0), end of input,   |    peer's end or time       ^
 *   |        stop      |               +-----------------------------+
 *   |                  +---- all output gone, nothing unread --------+
 *   +-------------------- refused by open() -------------------------+
 */
enum conn_state {
	CONN_NEW,       /* open() has not been called yet */
	CONN_OPEN,      /* input() is called */
	CONN_DRAINING,  /* no more input(); requests in flight and output leave */
	CONN_LINGERING, /* sending is shut; input is thrown away so that a reset cannot overtake the
			   last output */
	CONN_CLOSED,    /* close() was called */
};

#define CLOSE_NONE (-1) /* conn.close_error: nobody has asked */

struct dgram_sock;

struct ksf_conn {
	/* Written by upcalls and other threads. */
	uint32_t events;           /* (a) EV_* */
	uint32_t refs;             /* (a) one for the open conn, one for each holder */
	uint32_t tx_want;          /* (a) output waits for space: HOST_EV_OUT matters */
	uint32_t inflight;         /* (a) requests between begin and end */
	int close_error;           /* (a) what ksf_conn_close() asked for first, or CLOSE_NONE */
	uint32_t inbox_any;        /* (a) inbox is not empty; written under the lock */
	struct ksf_worker *runner; /* (a) worker in this conn's task, or NULL */
	struct host_lock lock;
	struct kbufq
	    inbox; /* (t) output queued by other threads; datagrams are linked by nextpkt */
	struct kbuf *inbox_last; /* (t) session: the last datagram */

	/* Fixed. */
	struct ksf_task task;      /* (c) but for its link */
	struct ksf_svc *svc;       /* (c) */
	struct ksf_group *group;   /* (c) */
	const struct ksf_ops *ops; /* (c) */
	uint64_t id;               /* (c) */
	uint8_t kind;              /* (c) enum conn_kind */
	uint8_t flags;             /* (c) KSF_LISTEN_* */

	/* The task's. */
	uint8_t state;  /* (q) enum conn_state; others may read it (a) */
	bool readable;  /* (q) the socket may have input */
	bool eof_seen;  /* (q) the end of input was reported: read on until it comes */
	bool tx_above;  /* (q) output went above the high-water mark, not yet below the low one */
	bool told_full; /* (q) input() was told that the conn is full */
	bool rx_held;   /* (q) input() left bytes because the conn was full, if only for a moment */
	bool opened;    /* (q) open() succeeded: close() is owed */
	bool moved;     /* (q) stream: bytes came or went in this run */
	bool fresh;     /* (q) session: one datagram seen so far */
	bool counted;   /* (q) counted in svc->nconns and by address */
	bool mem_wait;  /* (a) reading waits for memory */
	struct host_sock sock; /* (q) */
	struct ksf_rx rx;      /* (q) and the addresses, (c) but on plain datagram conns */
	struct kbufq txq;      /* (q) output, oldest first */
	size_t mem;            /* (q) bytes charged to svc->mem_used */

	/* Deadlines, in ticks; written by the task, read by the maintenance thread. */
	struct timer timer;
	uint32_t timer_at;   /* (a) tick at which the wheel will look at the latest; 0: not armed */
	uint32_t active_at;  /* (a) last input or output */
	uint32_t stalled_at; /* (a) output has been waiting since, or 0 */
	uint32_t deadline_at; /* (a) ksf_conn_deadline(), or the end of lingering, or 0 */

	struct ksf_list link;    /* (g) group's conns; session: (q of parent) order of last use */
	struct ksf_conn *parent; /* (c) session: its socket */
	struct ksf_conn *hash_next; /* (q of parent) */
	struct dgram_sock *dgram;   /* (c) datagram socket */

	uint8_t priv[] ksf_aligned(16);
};

/*
 * Parameters every service has. Numbers marked KSF_PARAM_RUNTIME in the table (params.c) are read
 * with ksf_param_u32/u64.
 */
#define LISTEN_STRLEN 511u

struct svc_params {
	uint32_t enable, port, tcp, udp, tdmin, tdmax, spin_us, sosndbuf, sorcvbuf, backlog;
	uint32_t maxconns, maxconns_addr, txhiwat, txlowat, rxmax, inflight, dgram_max;
	uint32_t idle_ms, stall_ms, linger_ms, grace_ms, sessions, session_ms, debug;
	uint64_t memmax;
	char listen[LISTEN_STRLEN + 1];
	char allow[LISTEN_STRLEN + 1];
	char cpus[128];
	char backend[16];
};

/* Statistics every service has, in the order of the table in stats.c. */
enum svc_stat {
	ST_ACCEPTED,
	ST_CONNS,
	ST_SESSIONS,
	ST_SESSIONS_OPENED,
	ST_BYTES_IN,
	ST_BYTES_OUT,
	ST_DGRAMS_IN,
	ST_DGRAMS_OUT,
	ST_RUNS,
	ST_RECEIVES,
	ST_SENDS,
	ST_SEND_FULL,
	ST_PAUSES,
	ST_REFUSED_MAXCONNS,
	ST_REFUSED_ADDR,
	ST_REFUSED_ALLOW,
	ST_REFUSED_OPEN,
	ST_ACCEPT_ERRORS,
	ST_CLOSED_IDLE,
	ST_CLOSED_STALLED,
	ST_CLOSED_DEADLINE,
	ST_CLOSED_OVERSIZE,
	ST_CLOSED_ERROR,
	ST_CLOSED_CUT,
	ST_DGRAMS_TRUNCATED,
	ST_DGRAMS_DROPPED,
	ST_DGRAMS_LOOP,
	ST_DGRAMS_PRIVILEGED,
	ST_SESSIONS_EVICTED,
	ST_SESSIONS_REFUSED,
	ST_MEM_SHORT,
	ST_MEM_USED,
	ST_KBUF_ALLOCATED,
	ST_WORKERS,
	ST_LOG_SUPPRESSED,
	ST_COUNT,
};

struct addr_count;

/* Connections by source address, for the limit `maxconns_addr`. */
#define ADDR_BUCKETS 1024u

struct endpoint {
	struct ksf_addr addr;
	enum ksf_proto proto;
};

#define ENDPOINTS_MAX 64u

struct ksf_svc {
	const struct ksf_service *desc; /* (c) */
	struct svc_params params;
	void *conf;           /* the service's own parameters, desc->confsz bytes */
	uint8_t *set;         /* (s) for each parameter: set by the user */
	struct ksf_pool pool; /* valid while `running` */
	uint64_t *stats;      /* (a) statistics outside of workers */
	uint64_t hash_key[2]; /* (c) */

	struct host_lock lock;
	struct host_cond cond; /* (s) the last object is gone, or cut */
	bool running;          /* (s) start has begun, stop has not ended */
	bool pool_valid;       /* (s) the pool's statistics may be read */
	bool stopping;         /* (a) */
	bool cut;              /* (a) do not wait for the grace time */
	char *why;             /* (c during start) where the reason of a failure goes */
	size_t whylen;         /* (c during start) */

	uint32_t live;        /* (a) conns not yet freed, and counted tasks */
	uint32_t nconns;      /* (a) stream conns, for the limit */
	int64_t mem_used;     /* (a) bytes that conns keep between runs */
	uint32_t mem_waiting; /* (a) some conn waits for memory */
	uint64_t next_id;     /* (a) */

	uint32_t allow_some;                      /* (a) the list is not empty */
	struct cidr_list allow;                   /* (s) who may talk to us; empty: everybody */
	struct addr_count *by_addr[ADDR_BUCKETS]; /* (s) */
	struct endpoint endpoints[ENDPOINTS_MAX]; /* (c while running) */
	unsigned nendpoints;
	uint16_t port; /* (c while running) the real port */

	struct conn_list *conns; /* (c while running) one for each group */
	unsigned nlists;

	uint32_t log_second; /* (a) log budget: the second it is for, */
	uint32_t log_lines;  /* (a) and lines used in it */
};

/* The conns of a group, but for sessions. */
struct conn_list {
	struct host_lock lock;
	struct ksf_list head; /* (g) */
	char pad[KSF_CACHELINE];
};

/*
 * conn.c: life and death of conns, in all kinds.
 */
struct ksf_conn *conn_new(
    struct ksf_svc *svc, struct ksf_group *group, enum conn_kind kind, const struct ksf_ops *ops);
/* Put on its group's list, so that stop and memory wake-ups reach it. */
void conn_publish(struct ksf_conn *conn);
/* Set bits, and see that the task runs. The caller holds a reference or knows that the conn is
 * attached. */
void conn_post(struct ksf_conn *conn, uint32_t events);
/* As conn_post, for all conns on the lists that have waited for memory, or for all. */
void svc_post_all(struct ksf_svc *svc, uint32_t events, bool mem_wait_only);
/* Call open(); 0 or what it said. The caller has SCHEDULED. */
int conn_open(struct ksf_conn *conn);
/* From its task: close the socket, call close(), drop the first reference. */
void conn_finish(struct ksf_conn *conn, int error);
/* Begin or end the task's run. end frees, or queues again when events came meanwhile. */
uint32_t conn_run_begin(struct ksf_conn *conn);
void conn_run_end(struct ksf_conn *conn);
/* Move what other threads have queued behind txq. */
void conn_take_inbox(struct ksf_conn *conn);
/* Arm the wheel for the conn's earliest deadline; needed when one becomes earlier, not when it
 * moves to later. */
void conn_arm(struct ksf_conn *conn);
/* The statistic that belongs to an expired deadline and the error to close with, or 0. */
int conn_expired(struct ksf_conn *conn, enum svc_stat *stat);
/* True when the calling thread is in a callback of this conn. */
bool conn_running_here(const struct ksf_conn *conn);

static inline uint32_t
conn_now(const struct ksf_conn *conn)
{
	return (pool_ticks(conn->group->pool));
}

static inline void
conn_stat(struct ksf_conn *conn, enum svc_stat stat, uint64_t n)
{
	if (ksf_likely(conn->runner != NULL))
		worker_stat_add(conn->runner, stat, n);
	else
		pool_stat_add(conn->group->pool, NULL, stat, n);
}

/*
 * Bytes of output at which reading stops. The parameter is about memory: an eighth of it is for
 * headers and the unused ends of segments, which kbufq_compact() keeps below that (and a page).
 */
static inline uint32_t
conn_txhiwat(const struct ksf_conn *conn)
{
	uint32_t memory = ksf_param_u32(&conn->svc->params.txhiwat);

	return (memory - memory / 8);
}

/*
 * stream.c, listener.c, dgram.c, session.c: what a conn's task does.
 */
void stream_task(struct ksf_task *task);
void listener_task(struct ksf_task *task);
void dgram_task(struct ksf_task *task);

/*
 * svc.c: limits and bookkeeping of the service.
 */
void svc_live_add(struct ksf_svc *svc);
void svc_live_drop(struct ksf_svc *svc);
/* May this peer talk to us? Takes the service's lock. */
bool svc_allows(struct ksf_svc *svc, const struct ksf_addr *peer);
/* Count a stream conn of this address; false when a limit is reached (counted). */
bool svc_admit(struct ksf_svc *svc, const struct ksf_addr *peer);
void svc_leave(struct ksf_svc *svc, const struct ksf_addr *peer);
void svc_charge(struct ksf_svc *svc, int64_t bytes);
bool svc_over_budget(struct ksf_svc *svc);
void svc_sockopts(struct ksf_svc *svc, struct host_sockopts *opts);
void svc_stat_add(struct ksf_svc *svc, enum svc_stat stat, uint64_t n);

/* params.c: tables, defaults. */
extern const struct ksf_param svc_param_table[];
extern const unsigned svc_nparams;
void params_init(struct ksf_svc *svc);
bool params_is_set(struct ksf_svc *svc, const char *name);
/* The cores named by text such as "0,2-3"; how many, or 0 when it is malformed or names one twice.
 */
#define CPUS_MAX 256u
unsigned cpus_parse(const char *text, unsigned *cpus, unsigned max);
/* Write one line to buf, cut to fit. */
void why_format(char *why, size_t len, const char *fmt, ...) ksf_printf(3, 4);

/* stats.c */
extern const struct ksf_stat svc_stat_table[ST_COUNT];

/* hash.c: SipHash-2-4 of `len` bytes. */
uint64_t siphash(const uint64_t key[2], const void *data, size_t len);

#endif
