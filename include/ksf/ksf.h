/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ksf: the kernel sockets framework's interface for services.
 *
 * A service is a constant table (struct ksf_service): its name, parameters, statistics and how to
 * start. A running service (struct ksf_svc) has listeners and connections (struct ksf_conn); what a
 * connection does is a table of callbacks (struct ksf_ops). Errors are positive errno values
 * everywhere.
 */
#ifndef KSF_H
#define KSF_H

#include <ksf/addr.h>
#include <ksf/base.h>
#include <ksf/kbuf.h>
#include <ksf/param.h>
#include <ksf/task.h>

struct ksf_svc;
struct ksf_conn;

/*
 * What waits on a connection, as input() sees it.
 */
struct ksf_rx {
	struct kbufq q; /* the bytes not yet consumed (stream), or exactly one datagram */
	size_t need;    /* set by input(): do not call again before this many bytes wait; 0: any */
	bool eof;       /* stream: the peer has finished sending, nothing will follow q */
	struct ksf_addr peer;  /* datagram: who sent it */
	struct ksf_addr local; /* datagram: the address it was sent to */
};

/*
 * The callbacks of one connection never overlap, and run in the context of a worker thread of its
 * core; they should not sleep (work that must is a task with KSF_TASK_MAY_BLOCK). Each but input
 * may be NULL.
 */
struct ksf_ops {
	/*
	 * A connection was accepted, or a new UDP session begins. Private memory is zeroed. A
	 * non-zero errno refuses it: the connection is closed, close() is not called.
	 */
	int (*open)(struct ksf_conn *conn);

	/*
	 * Bytes or a datagram wait in rx->q. Consume from its front what can be consumed, by kbufq
	 * functions; what is left is shown again with more behind it (stream) or dropped
	 * (datagram). If nothing more can be done before n bytes wait, set rx->need to n: n above
	 * `rxmax` closes the connection with EMSGSIZE. With rx->eof set this is the last call; what
	 * it leaves is dropped.
	 */
	void (*input)(struct ksf_conn *conn, struct ksf_rx *rx);

	/* Output has fallen below the low-water mark after it was above the high-water mark. */
	void (*drained)(struct ksf_conn *conn);

	/*
	 * The last call for this connection: release what its private memory refers to. `error`
	 * says why it ended: 0 in good order, else an errno (ECONNRESET, ETIMEDOUT, ...).
	 */
	void (*close)(struct ksf_conn *conn, int error);

	size_t privsz; /* bytes of zeroed private memory behind each connection, 16-byte aligned */
};

enum ksf_proto { KSF_TCP = 1, KSF_UDP = 2 };

/* ksf_svc_listen() of KSF_UDP: no sessions; input() gets each datagram on the conn of the socket
 * itself. */
#define KSF_LISTEN_PLAIN 0x1u

/*
 * ksf_svc_listen() of KSF_UDP: drop datagrams whose source port is below 1024 or is the service's
 * own, counted. For services that answer everything: two of them, or one and a forged source
 * address, would talk to each other for ever.
 */
#define KSF_LISTEN_NO_LOOPS 0x2u

/*
 * The constant description of a service.
 */
struct ksf_service {
	const char *name; /* module name: "kecho" */
	const char *help; /* one line */
	uint16_t port;    /* default of the parameter `port`, which every service has */
	size_t confsz;    /* size of the structure that `params` describe */
	const struct ksf_param *params; /* the service's own, besides those every service has */
	unsigned nparams;
	const struct ksf_stat *stats; /* the service's own, likewise */
	unsigned nstats;

	/* Called by ksf_svc_start(): listen. A non-zero errno makes it fail; everything is undone
	 * by the caller. */
	int (*start)(struct ksf_svc *svc);

	/* Called by ksf_svc_stop() after the last connection and task is gone, if start()
	 * succeeded. May be NULL. */
	void (*stop)(struct ksf_svc *svc);
};

/*
 * Services. These functions may sleep; calls for one service must not overlap, except for
 * parameters and statistics, which may be used at any time between create and destroy.
 */

/* A new service, stopped, all parameters at their defaults. 0 or ENOMEM. `desc` must outlive it. */
int ksf_svc_create(const struct ksf_service *desc, struct ksf_svc **svcp) ksf_must_check;

/* Destroy a stopped service. */
void ksf_svc_destroy(struct ksf_svc *svc);

/*
 * Start threads and listen. 0, or an errno, with one line in `why` that names the object and the
 * reason; nothing is left half-started then. EALREADY when it runs.
 */
int ksf_svc_start(struct ksf_svc *svc, char *why, size_t whylen) ksf_must_check;

/*
 * Close the listeners, let requests in flight finish for up to `grace_ms`, then cut. Returns when
 * the last connection, task and thread of the service is gone. A stopped service can be started
 * again.
 */
void ksf_svc_stop(struct ksf_svc *svc, unsigned grace_ms);

/* While another thread sleeps in ksf_svc_stop(): cut at once instead of waiting for the grace time.
 * Any context. */
void ksf_svc_cut(struct ksf_svc *svc);

/*
 * From start(): listen at every address of the parameter `listen` and the port of `port`, one
 * socket per core where the host can share a port. Accepted connections and sessions use `ops`,
 * which must outlive the service's run.
 */
int ksf_svc_listen(struct ksf_svc *svc, enum ksf_proto proto, const struct ksf_ops *ops,
    unsigned flags) ksf_must_check;

/* Call `fn` for each address listened at (the port is the real one); for messages and
 * registrations. */
void ksf_svc_endpoints(struct ksf_svc *svc,
    void (*fn)(void *arg, enum ksf_proto proto, const struct ksf_addr *addr), void *arg);

const char *ksf_svc_name(const struct ksf_svc *svc);

/* The structure that the service's own parameters live in. Run-time numbers in it are read with
 * ksf_param_u32/u64. */
void *ksf_svc_conf(struct ksf_svc *svc);

/* A number that may change while it is read. */
static inline uint32_t
ksf_param_u32(const uint32_t *value)
{
	return (__atomic_load_n(value, __ATOMIC_RELAXED));
}

static inline uint64_t
ksf_param_u64(const uint64_t *value)
{
	return (__atomic_load_n(value, __ATOMIC_RELAXED));
}

/*
 * Parameters by name. set: 0; ENOENT no such parameter; EINVAL malformed; ERANGE out of range;
 * EBUSY cannot change while the service runs; with one line in `why`. get: the value as text; 0,
 * ENOENT or ENOSPC.
 */
int
ksf_param_set(struct ksf_svc *svc, const char *name, const char *value, char *why, size_t whylen);
int ksf_param_get(struct ksf_svc *svc, const char *name, char *buf, size_t len);

/* The `i`-th parameter of a service (framework's first), NULL after the last. */
const struct ksf_param *ksf_param_at(const struct ksf_service *desc, unsigned i);
/* Its default as text. */
void ksf_param_default(
    const struct ksf_service *desc, const struct ksf_param *param, char *buf, size_t len);

/* Add to the service's own statistic `index` (into desc->stats), from any context. */
void ksf_stat_add(struct ksf_svc *svc, unsigned index, uint64_t n);
/* The `i`-th statistic (framework's first) and its value now; NULL after the last. */
const struct ksf_stat *ksf_stat_at(struct ksf_svc *svc, unsigned i, uint64_t *value);

/*
 * Connections. In a callback of a connection it is valid; anybody else needs a reference of
 * ksf_conn_hold(). The service cannot stop while references are held.
 */
void ksf_conn_hold(struct ksf_conn *conn);
void ksf_conn_rele(struct ksf_conn *conn);

/*
 * Queue all of `q` for output; `q` is empty afterwards in every case. Output leaves in the order of
 * the calls. Never sleeps; any thread, any context. From the connection's own callback the bytes
 * leave when the callback returns, together with all others of that run. On a session (or from
 * input() of a plain datagram conn) the chain is one datagram to the peer.
 *
 * Returns 0, or EPIPE when the connection is closing (the chain is freed), or ENOBUFS when a
 * datagram had to be dropped.
 */
int ksf_conn_send(struct ksf_conn *conn, struct kbufq *q);

/*
 * On a plain datagram conn, from input(): one datagram to `peer`, from `local` (as in
 * struct ksf_rx; port 0 or family 0: the system chooses).
 */
int ksf_conn_sendto(struct ksf_conn *conn, struct kbufq *q, const struct ksf_addr *peer,
    const struct ksf_addr *local);

/*
 * Close: with error 0 after all queued output has left; otherwise at once, dropping it. Any thread,
 * any context. No input() follows, close() does.
 */
void ksf_conn_close(struct ksf_conn *conn, int error);

/*
 * A request is in flight from ksf_conn_begin() (in a callback of the connection) to ksf_conn_end()
 * (any thread, any context): the connection is referenced, is not closed by a half-close of the
 * peer, does not read more when `inflight` requests are, and ksf_svc_stop() lets it finish.
 */
void ksf_conn_begin(struct ksf_conn *conn);
void ksf_conn_end(struct ksf_conn *conn);

/*
 * True while no further request should be begun: input() then leaves its bytes and is called again
 * later. From the connection's own callbacks.
 */
bool ksf_conn_full(struct ksf_conn *conn);

/*
 * A stream is closed with ETIMEDOUT unless this is called again within `ms` (0: no deadline); for
 * protocols that bound the time to finish a record. The deadline is about input: it ends with it.
 * From its own callbacks. Resolution: 100 ms. Nothing happens on datagram conns and sessions.
 */
void ksf_conn_deadline(struct ksf_conn *conn, unsigned ms);

void *ksf_conn_priv(struct ksf_conn *conn); /* private memory, ops->privsz bytes */
struct ksf_svc *ksf_conn_svc(struct ksf_conn *conn);
const struct ksf_addr *ksf_conn_peer(const struct ksf_conn *conn);
const struct ksf_addr *ksf_conn_local(const struct ksf_conn *conn);
uint64_t ksf_conn_id(const struct ksf_conn *conn); /* unique in the service's life */
bool ksf_conn_is_stream(const struct ksf_conn *conn);

/* Log levels; ksf_log() adds the service's name. At most a few lines a second per service leave,
 * others are counted. */
enum ksf_level { KSF_ERR, KSF_WARN, KSF_INFO, KSF_DEBUG };

void ksf_log(struct ksf_svc *svc, enum ksf_level level, const char *fmt, ...) ksf_printf(3, 4);

#endif
