/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host interface: all that core needs from the place it runs in. Its comments are its
 * specification; each host (user, linux, freebsd) implements the same functions in files of the
 * same names. A host is mechanism: it has no limits, timeouts or decisions of its own.
 *
 * <host_types.h> is the host's: it defines struct host_lock, host_cond, host_thread and host_sock
 * (embedded by core), and declares struct host_poll and host_events (opaque).
 *
 * Contexts. "sleepable": a thread that may sleep and holds no host_lock. "any": an upcall too
 * (interrupt-like; locks of the socket may be held). Errors are positive errno values.
 */
#ifndef KSF_HOST_H
#define KSF_HOST_H

#include <ksf/ksf.h>
#include <host_types.h>

/*
 * Memory. host_alloc() never sleeps and returns memory that is not zeroed, aligned for any object
 * up to 16 bytes, or NULL. host_free() takes the size that was asked for; NULL is allowed. Any
 * context.
 */
void *host_alloc(size_t size);
void host_free(void *mem, size_t size);

/*
 * Locks, held for short and never across a call that sleeps; they may be taken in any context.
 * host_cond_wait() releases the lock, sleeps, and holds it again on return; it may return early.
 * `ms` 0 waits without limit.
 */
void host_lock_init(struct host_lock *lock, const char *name);
void host_lock_destroy(struct host_lock *lock);
void host_lock_acquire(struct host_lock *lock);
void host_lock_release(struct host_lock *lock);

void host_cond_init(struct host_cond *cond, const char *name);
void host_cond_destroy(struct host_cond *cond);
void host_cond_wait(struct host_cond *cond, struct host_lock *lock, unsigned ms);
void host_cond_wake_all(struct host_cond *cond); /* with the lock held */

/*
 * Threads. `cpu` is a cpu number of host_cores(), or HOST_CPU_NONE. host_thread_join() returns
 * after fn has returned and the thread no longer runs any code of this module. Sleepable.
 */
#define HOST_CPU_NONE (~0u)
int host_thread_start(
    struct host_thread *thread, const char *name, unsigned cpu, void (*fn)(void *), void *arg);
void host_thread_join(struct host_thread *thread);

/* The pointer that the current thread has stored for itself, or NULL; in an upcall that borrows a
 * thread: NULL. */
void *host_self(void);
void host_self_set(void *self);

/*
 * The cores that threads may run on: writes one cpu number for each core (the first of its SMT
 * siblings) to cpus, and returns how many there are, at most `max`, at least 1. host_cpu() is the
 * cpu that the caller runs on, a hint.
 */
unsigned host_cores(unsigned *cpus, unsigned max);
unsigned host_cpu(void);

/* Monotonic time in nanoseconds. Any context. */
uint64_t host_now_ns(void);

/* Let another thread, or the other SMT sibling, go first: for loops that wait by spinning. */
void host_relax(void);

/* Unpredictable bytes, for hash keys. Sleepable. */
void host_random(void *buf, size_t len);

/* One line of log, without a newline. Any context. */
void host_log(enum ksf_level level, const char *line);

/*
 * The text of an IP address without a port. parse: true when all of `text` is one; a "%scope" is
 * allowed behind an IPv6 link-local address. The port is left alone. format: returns buf.
 */
bool host_addr_parse(const char *text, struct ksf_addr *addr);
const char *host_addr_format(const struct ksf_addr *addr, char *buf, size_t len);

/* The recycled segments of the calling worker, or NULL: then segments come from host_alloc(). */
struct kbuf_cache;
struct kbuf_cache *host_kbuf_cache(void);

/*
 * Events. Each group of workers has one poll, in which its idle workers sleep. Sockets attached to
 * it report HOST_EV_* through core_sock_event(), in the kernels from the socket's upcall, in a
 * process from host_poll_post().
 *
 * host_poll_wait() sleeps until an event comes, host_poll_wake() is called, or timeout_ms is over
 * (0: only looks; HOST_FOREVER: no limit), and keeps what it found in `events`, which belongs to
 * one worker. It returns true when something came. A wake-up is never lost: one that comes while
 * nobody waits ends the next wait. One wake-up or event wakes at least one waiter, and should wake
 * only one. host_poll_post() reports what `events` holds.
 */
#define HOST_FOREVER (~0u)

enum {
	HOST_EV_IN = 0x1,  /* bytes, a datagram, a connection to accept, or the end of input */
	HOST_EV_OUT = 0x2, /* room to send, after a send found none */
	/* The peer has finished sending, or receive calls may stop short for another reason: from
	 * now on a socket is empty only when a receive call says so. */
	HOST_EV_EOF = 0x4,   /* the peer has finished sending; reading will show it */
	HOST_EV_ERROR = 0x8, /* the socket failed; host_sock_error() tells why */
};

int host_poll_create(struct host_poll **pollp, const char *backend);
void host_poll_destroy(struct host_poll *poll);
int host_events_create(struct host_events **eventsp, struct host_poll *poll);
void host_events_destroy(struct host_events *events);
bool host_poll_wait(struct host_poll *poll, struct host_events *events, unsigned timeout_ms);
void host_poll_post(struct host_poll *poll, struct host_events *events);
void host_poll_wake(struct host_poll *poll); /* any context */

/* True when `name` is an event backend of this host ("auto" is always one). */
bool host_backend_known(const char *name);

/*
 * Called by the host, in any context: `events` (HOST_EV_*) happened on the socket attached with
 * `conn`. Sets bits and enqueues a task, no more. Never called after host_sock_close() has
 * returned.
 */
void core_sock_event(struct ksf_conn *conn, unsigned events);

/*
 * Sockets, all non-blocking. struct host_sock is embedded in struct ksf_conn, zeroed before the
 * first use. A socket is used by one thread at a time (its conn's task), so these functions need no
 * lock of their own. Sleepable, but none sleeps on the socket.
 */
struct host_sockopts {
	uint32_t sndbuf; /* bytes, 0: the system's default; more than the system allows is cut, not
			    an error */
	uint32_t rcvbuf;
	uint32_t backlog; /* listeners */
};

/*
 * A listening TCP socket, or a bound UDP socket, at addr. With HOST_SHARE the port can be bound
 * again by this service's other sockets, and the system spreads connections and datagrams among
 * them; without it a port in use is EADDRINUSE. Port 0 binds a free port; host_sock_local() tells
 * which. IPv6 sockets take IPv6 only. EADDRINUSE, EADDRNOTAVAIL, EACCES, EAFNOSUPPORT, ENOBUFS,
 * EMFILE, ...
 */
#define HOST_SHARE 0x1u
int host_sock_listen(struct host_sock *sock, enum ksf_proto proto, const struct ksf_addr *addr,
    const struct host_sockopts *opts, unsigned flags);

/* True when HOST_SHARE spreads the load here; otherwise one socket for each address is opened. */
bool host_sock_can_share(enum ksf_proto proto);

/*
 * A connection from the listener's queue: `sock` is ready for host_sock_attach(). EAGAIN: none
 * waits. ECONNABORTED and the like: that one went away, try the next. EMFILE, ENFILE, ENOBUFS,
 * ENOMEM: short of resources, try later (the connection stays queued, and no event will tell).
 */
int host_sock_accept(struct host_sock *listener, struct host_sock *sock, struct ksf_addr *peer,
    struct ksf_addr *local, const struct host_sockopts *opts);

/* Report events of the socket for `conn` to `poll` from now on, the present state of the socket
 * included. */
int host_sock_attach(struct host_sock *sock, struct host_poll *poll, struct ksf_conn *conn);

/*
 * Detach and close. When it returns no event of this socket is being or will be reported. With
 * `abort`, a stream's peer is sent a reset. Safe on a socket that was never opened.
 */
void host_sock_close(struct host_sock *sock, bool abort);

int host_sock_local(struct host_sock *sock, struct ksf_addr *addr);

/* The error that HOST_EV_ERROR was about (cleared by this), or 0. */
int host_sock_error(struct host_sock *sock);

/* Tell the peer of a stream that nothing more will be sent. */
int host_sock_shutdown_send(struct host_sock *sock);

/*
 * Append up to `max` bytes to `q`. 0 with something appended; 0 with nothing appended at the end of
 * input; EAGAIN when nothing waits; ENOMEM or ENOBUFS when memory is short (nothing was lost);
 * otherwise the connection's error.
 * `*more` tells whether more may wait: false is a promise that the next bytes will be reported as
 * HOST_EV_IN, and an end of input as HOST_EV_EOF.
 */
int host_sock_recv(struct host_sock *sock, struct kbufq *q, size_t max, bool *more);

/*
 * Send from the front of `q`, and remove from it what the system has taken. 0 when q is empty;
 * EAGAIN when there is no room (HOST_EV_OUT follows); otherwise the connection's error. Never
 * raises a signal.
 */
int host_sock_send(struct host_sock *sock, struct kbufq *q);

/*
 * Datagrams. recv: fills up to `n` of v, `*got` tells how many (also with an error); 0; EAGAIN: no
 * more wait; ENOMEM or ENOBUFS; or an error of the socket that belongs to some earlier datagram
 * (ECONNREFUSED, ...): continue. Datagrams longer than `max` bytes set `truncated`. send: `*sent`
 * are done with from the front (their chains freed); 0 when that is all, EAGAIN when there is no
 * room (HOST_EV_OUT follows); another error is about datagram v[*sent], which the caller drops.
 */
struct host_dgram {
	struct kbufq q;
	struct ksf_addr peer;
	struct ksf_addr local; /* recv: where it was sent to; send: family 0: the system chooses */
	bool truncated;
};

int host_sock_recv_dgrams(
    struct host_sock *sock, struct host_dgram *v, unsigned n, size_t max, unsigned *got);
int host_sock_send_dgrams(struct host_sock *sock, struct host_dgram *v, unsigned n, unsigned *sent);

#endif
