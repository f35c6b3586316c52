/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sockets of the user host: listening, accepting, streams. Called by conns' tasks, each socket by
 * one thread at a time; nothing here waits for a socket.
 */
#include "user_poll.h"
#include "sockaddr.h"
#include "sys.h"
#include "udp.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/uio.h>
#include <unistd.h>

#define SEND_SEGMENTS 64    /* of a chain in one send call */
#define DGRAM_BUFFER  66560 /* bytes: the longest datagram, and what the system keeps beside it */

#ifdef SO_REUSEPORT_LB
#define SHARE_PORT SO_REUSEPORT_LB /* FreeBSD: SO_REUSEPORT alone does not spread the load */
#else
#define SHARE_PORT SO_REUSEPORT
#endif

static int
set_option(int fd, int level, int name, int value)
{
	return (setsockopt(fd, level, name, &value, sizeof(value)) == 0 ? 0 : errno);
}

/* Buffer sizes are wishes: a limit of the system (ENOBUFS on FreeBSD, silent on Linux) is no reason
 * to fail. */
static void
set_buffers(int fd, const struct host_sockopts *opts)
{
	if (opts->sndbuf != 0)
		(void)set_option(fd, SOL_SOCKET, SO_SNDBUF, (int)opts->sndbuf);
	if (opts->rcvbuf != 0)
		(void)set_option(fd, SOL_SOCKET, SO_RCVBUF, (int)opts->rcvbuf);
}

/*
 * Whatever was asked for, a UDP socket has room for the longest datagram. FreeBSD takes none that
 * is longer than the buffer, whose default is less: net.inet.udp.maxdgram, net.inet.udp.recvspace.
 */
static void
widen_dgram_buffer(int fd, int name)
{
	socklen_t len = sizeof(int);
	int size = 0;

	if (getsockopt(fd, SOL_SOCKET, name, &size, &len) == 0 && size < DGRAM_BUFFER)
		(void)set_option(fd, SOL_SOCKET, name, DGRAM_BUFFER);
}

static int
sock_create(struct host_sock *sock, enum ksf_proto proto, uint8_t family)
{
	int type = proto == KSF_TCP ? SOCK_STREAM : SOCK_DGRAM;

	sock->fd = socket(
	    family == KSF_IP4 ? AF_INET : AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (sock->fd < 0)
		return (errno);
	sock->open = true;
	sock->family = family;
	return (0);
}

static int
listen_options(struct host_sock *sock, enum ksf_proto proto, unsigned flags)
{
	int error = 0;

	if (sock->family == KSF_IP6)
		error = set_option(sock->fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	if (error == 0 && (flags & HOST_SHARE))
		error = set_option(sock->fd, SOL_SOCKET, SHARE_PORT, 1);
	if (error == 0 && proto == KSF_TCP)
		error = set_option(sock->fd, SOL_SOCKET, SO_REUSEADDR, 1);

	/* Accepted sockets inherit it. Replies leave when the run that made them ends, not when the
	 * peer has acked. */
	if (error == 0 && proto == KSF_TCP)
		error = set_option(sock->fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (error == 0 && proto == KSF_UDP && sock->wildcard)
		error = udp_want_local(sock);
	return (error);
}

static bool
is_wildcard(const struct ksf_addr *addr)
{
	static const uint8_t any[16];

	return (memcmp(addr->ip, any, sizeof(any)) == 0);
}

int
host_sock_listen(struct host_sock *sock, enum ksf_proto proto, const struct ksf_addr *addr,
    const struct host_sockopts *opts, unsigned flags)
{
	union sockaddr_any any;
	socklen_t len = sockaddr_of(addr, &any);
	int error;

	error = sock_create(sock, proto, addr->family);
	if (error != 0)
		return (error);
	sock->listening = proto == KSF_TCP;
	sock->wildcard = is_wildcard(addr);
	error = listen_options(sock, proto, flags);
	if (error == 0) {
		set_buffers(sock->fd, opts);
		if (proto == KSF_UDP) {
			widen_dgram_buffer(sock->fd, SO_SNDBUF);
			widen_dgram_buffer(sock->fd, SO_RCVBUF);
		}
		if (bind(sock->fd, &any.sa, len) != 0 ||
		    (proto == KSF_TCP && listen(sock->fd, (int)opts->backlog) != 0))
			error = errno;
	}
	if (error != 0)
		host_sock_close(sock, false);
	return (error);
}

bool
host_sock_can_share(enum ksf_proto proto)
{
	(void)proto;
	return (true);
}

int
host_sock_local(struct host_sock *sock, struct ksf_addr *addr)
{
	union sockaddr_any any;
	socklen_t len = sizeof(any);

	if (getsockname(sock->fd, &any.sa, &len) != 0)
		return (errno);
	sockaddr_to(&any, addr);
	return (0);
}

int
host_sock_accept(struct host_sock *listener, struct host_sock *sock, struct ksf_addr *peer,
    struct ksf_addr *local, const struct host_sockopts *opts)
{
	union sockaddr_any any;
	socklen_t len = sizeof(any);
	int error;

	sock->fd = accept4(listener->fd, &any.sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (sock->fd < 0)
		return (errno == EWOULDBLOCK ? poll_want(listener, HOST_EV_IN) : errno);
	sock->open = true;
	sock->stream = true;
	sock->family = listener->family;
	sockaddr_to(&any, peer);
	error = host_sock_local(sock, local);
	if (error != 0) {
		host_sock_close(sock, true);
		return (ECONNABORTED);
	}
	set_buffers(sock->fd, opts);
	return (0);
}

void
host_sock_close(struct host_sock *sock, bool abort)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };

	if (!sock->open)
		return;
	poll_detach(sock);
	if (abort)
		(void)setsockopt(sock->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(sock->fd);
	sock->open = false;
}

int
host_sock_error(struct host_sock *sock)
{
	struct host_poll *poll = sock->poll;
	socklen_t len = sizeof(int);
	int error = 0;

	if (poll != NULL && poll->backend->error != NULL)
		error = poll->backend->error(poll, sock);
	if (error != 0)
		return (error);
	if (getsockopt(sock->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		return (errno);
	return (error);
}

int
host_sock_shutdown_send(struct host_sock *sock)
{
	return (shutdown(sock->fd, SHUT_WR) == 0 ? 0 : errno);
}

/*
 * Streams.
 */
int
sock_recv_now(struct host_sock *sock, struct kbufq *q, size_t max, bool *more)
{
	struct kbuf *seg = NULL;
	uint8_t *to;
	ssize_t n;
	int error;

	if (q->head != NULL && kbuf_tailroom(q->tail) >= max)
		to = kbuf_data(q->tail) + kbuf_len(q->tail);
	else {
		max = ksf_min(max, (size_t)KBUF_SEG_MAX);
		seg = kbuf_alloc(max);
		if (seg == NULL)
			return (ENOMEM);
		to = kbuf_data(seg);
	}

	do
		n = recv(sock->fd, to, max, 0);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		if (seg != NULL) {
			kbuf_set_window(seg, to, (size_t)n);
			kbufq_append(q, seg);
		} else
			kbufq_commit(q, (size_t)n);
		*more = (size_t)n == max;
		return (0);
	}
	error = n < 0 ? errno : 0;
	if (seg != NULL)
		kbuf_free(seg);
	return (error == EWOULDBLOCK ? EAGAIN : error);
}

int
host_sock_recv(struct host_sock *sock, struct kbufq *q, size_t max, bool *more)
{
	struct host_poll *poll = sock->poll;

	*more = false;
	if (fault_now(FAULT_AGAIN)) {
		poll_again(sock);
		return (EAGAIN);
	}
	if (fault_now(FAULT_SHORT))
		max = 1;
	if (poll != NULL && poll->backend->recv != NULL)
		return (poll->backend->recv(poll, sock, q, max, more));
	return (sock_recv_now(sock, q, max, more));
}

/* The first segments of the chain as a vector; returns how many. */
static int
gather(const struct kbufq *q, struct iovec *iov)
{
	struct kbuf *seg;
	int n = 0;

	KBUF_FOREACH(seg, q) {
		if (n == SEND_SEGMENTS)
			break;
		if (kbuf_len(seg) == 0)
			continue;
		iov[n].iov_base = kbuf_data(seg);
		iov[n++].iov_len = kbuf_len(seg);
	}
	return (n);
}

int
host_sock_send(struct host_sock *sock, struct kbufq *q)
{
	struct iovec iov[SEND_SEGMENTS];
	struct msghdr msg = { .msg_iov = iov };
	ssize_t n;

	while (q->len != 0) {
		if (fault_now(FAULT_AGAIN)) {
			poll_again(sock);
			return (EAGAIN);
		}
		msg.msg_iovlen = 0;
		msg.msg_iovlen += gather(q, iov);
		if (fault_now(FAULT_SHORT))
			iov[0].iov_len = msg.msg_iovlen = 1;
		if (msg.msg_iovlen == 1)
			n = send(sock->fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL);
		else
			n = sendmsg(sock->fd, &msg, MSG_NOSIGNAL);
		if (n >= 0)
			kbufq_trim_front(q, (size_t)n);
		else if (errno != EINTR)
			return (errno == EWOULDBLOCK ? poll_want(sock, HOST_EV_OUT) : errno);
	}
	kbufq_clear(q);
	return (0);
}
