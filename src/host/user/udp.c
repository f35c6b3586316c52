/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Datagrams of the user host, by recvmmsg(2) and sendmmsg(2): many in one system call. Called by
 * the tasks of UDP sockets. Each thread keeps its vectors, and the segments that the next datagrams
 * will be received into.
 */
#include "udp.h"
#include "user_poll.h"
#include "sockaddr.h"
#include "sys.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <sys/uio.h>

#define BATCH          32u
#define DGRAM_SEGMENTS 8u /* of one datagram; longer chains are copied together */

#if defined(IP_PKTINFO)
#define IP4_LOCAL_SPACE CMSG_SPACE(sizeof(struct in_pktinfo))
#else
#define IP4_LOCAL_SPACE CMSG_SPACE(sizeof(struct in_addr))
#endif
#define CONTROL_SPACE 64u

struct scratch {
	struct mmsghdr msg[BATCH];
	struct iovec iov[BATCH * DGRAM_SEGMENTS];
	union sockaddr_any name[BATCH];
	union {
		char bytes[CONTROL_SPACE];
		struct cmsghdr align;
	} control[BATCH];
	struct kbuf *seg[BATCH]; /* receive: ready for the next datagrams */
	size_t size;             /* bytes that each of them has room for */
};

_Static_assert(
    CONTROL_SPACE >= CMSG_SPACE(sizeof(struct in6_pktinfo)), "room for an IPv6 local address");

static _Thread_local struct scratch *thread_scratch;

static struct scratch *
get_scratch(void)
{
	if (thread_scratch == NULL)
		thread_scratch = calloc(1, sizeof(*thread_scratch));
	return (thread_scratch);
}

static void
free_segments(struct scratch *scratch)
{
	for (unsigned i = 0; i < BATCH; i++) {
		if (scratch->seg[i] != NULL)
			kbuf_free(scratch->seg[i]);
		scratch->seg[i] = NULL;
	}
}

void
udp_scratch_release(void)
{
	if (thread_scratch == NULL)
		return;
	free_segments(thread_scratch);
	free(thread_scratch);
	thread_scratch = NULL;
}

/*
 * The local address of a datagram: the one that it was sent to is the one that the answer must come
 * from.
 */
int
udp_want_local(struct host_sock *sock)
{
	int one = 1, error;

	if (sock->family == KSF_IP6)
		error = setsockopt(sock->fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof(one));
	else
#if defined(IP_PKTINFO)
		error = setsockopt(sock->fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof(one));
#else
		error = setsockopt(sock->fd, IPPROTO_IP, IP_RECVDSTADDR, &one, sizeof(one));
#endif
	return (error == 0 ? 0 : errno);
}

/* What recvmsg(2) said about the address that the datagram was sent to. */
static void
read_local(struct msghdr *msg, struct ksf_addr *local)
{
	struct in6_pktinfo info6;
	struct cmsghdr *cmsg;

	for (cmsg = CMSG_FIRSTHDR(msg); cmsg != NULL; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		if (cmsg->cmsg_level == IPPROTO_IPV6 && cmsg->cmsg_type == IPV6_PKTINFO) {
			memcpy(&info6, CMSG_DATA(cmsg), sizeof(info6));
			local->family = KSF_IP6;
			/* Others have none: the routes choose the way of the answer. */
			if (IN6_IS_ADDR_LINKLOCAL(&info6.ipi6_addr))
				local->scope = info6.ipi6_ifindex;
			memcpy(local->ip, &info6.ipi6_addr, sizeof(info6.ipi6_addr));
		}
#if defined(IP_PKTINFO)
		if (cmsg->cmsg_level == IPPROTO_IP && cmsg->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;

			memcpy(&info, CMSG_DATA(cmsg), sizeof(info));
			local->family = KSF_IP4;
			memcpy(local->ip, &info.ipi_addr, sizeof(info.ipi_addr));
		}
#else
		if (cmsg->cmsg_level == IPPROTO_IP && cmsg->cmsg_type == IP_RECVDSTADDR) {
			local->family = KSF_IP4;
			memcpy(local->ip, CMSG_DATA(cmsg), sizeof(struct in_addr));
		}
#endif
	}
}

/* Ask sendmsg(2) to send from this address; the socket is bound to none. */
static void
write_local(struct msghdr *msg, void *control, const struct ksf_addr *local)
{
	struct cmsghdr *cmsg;

	msg->msg_control = control;
	msg->msg_controllen = CONTROL_SPACE;
	memset(control, 0, CONTROL_SPACE);
	cmsg = CMSG_FIRSTHDR(msg);
	if (local->family == KSF_IP6) {
		struct in6_pktinfo info6 = { .ipi6_ifindex = local->scope };

		memcpy(&info6.ipi6_addr, local->ip, sizeof(info6.ipi6_addr));
		cmsg->cmsg_level = IPPROTO_IPV6;
		cmsg->cmsg_type = IPV6_PKTINFO;
		cmsg->cmsg_len = CMSG_LEN(sizeof(info6));
		memcpy(CMSG_DATA(cmsg), &info6, sizeof(info6));
		msg->msg_controllen = CMSG_SPACE(sizeof(info6));
		return;
	}
	cmsg->cmsg_level = IPPROTO_IP;
	msg->msg_controllen = IP4_LOCAL_SPACE;
#if defined(IP_PKTINFO)
	{
		struct in_pktinfo info = { 0 };

		memcpy(&info.ipi_spec_dst, local->ip, sizeof(info.ipi_spec_dst));
		cmsg->cmsg_type = IP_PKTINFO;
		cmsg->cmsg_len = CMSG_LEN(sizeof(info));
		memcpy(CMSG_DATA(cmsg), &info, sizeof(info));
	}
#else
	cmsg->cmsg_type = IP_SENDSRCADDR;
	cmsg->cmsg_len = CMSG_LEN(sizeof(struct in_addr));
	memcpy(CMSG_DATA(cmsg), local->ip, sizeof(struct in_addr));
#endif
}

/*
 * Receive.
 */

/* Segments for up to `n` datagrams of `max` bytes and one more, by which longer ones are told; how
 * many there are. */
static unsigned
fill_segments(struct scratch *scratch, unsigned n, size_t max)
{
	if (scratch->size != max + 1) {
		free_segments(scratch);
		scratch->size = max + 1;
	}
	for (unsigned i = 0; i < n; i++) {
		if (scratch->seg[i] == NULL)
			scratch->seg[i] = kbuf_alloc(scratch->size);
		if (scratch->seg[i] == NULL)
			return (i);
	}
	return (n);
}

static void
prepare_receive(struct scratch *scratch, unsigned i, bool wildcard)
{
	struct msghdr *msg = &scratch->msg[i].msg_hdr;

	scratch->iov[i].iov_base = kbuf_data(scratch->seg[i]);
	scratch->iov[i].iov_len = scratch->size;
	memset(msg, 0, sizeof(*msg));
	msg->msg_name = &scratch->name[i];
	msg->msg_namelen = sizeof(scratch->name[i]);
	msg->msg_iov = &scratch->iov[i];
	msg->msg_iovlen = 1;
	if (wildcard) {
		msg->msg_control = &scratch->control[i];
		msg->msg_controllen = sizeof(scratch->control[i]);
	}
}

/* Hand the i-th received datagram over. */
static void
take_received(struct scratch *scratch, unsigned i, struct host_dgram *dgram, size_t max)
{
	struct msghdr *msg = &scratch->msg[i].msg_hdr;
	size_t len = scratch->msg[i].msg_len;
	struct kbuf *seg = scratch->seg[i];

	scratch->seg[i] = NULL;
	memset(dgram, 0, sizeof(*dgram));
	sockaddr_to(&scratch->name[i], &dgram->peer);
	read_local(msg, &dgram->local);
	dgram->truncated = len > max || (msg->msg_flags & MSG_TRUNC) != 0;
	kbuf_set_window(seg, kbuf_data(seg), ksf_min(len, max));
	kbufq_append(&dgram->q, seg);
}

int
host_sock_recv_dgrams(
    struct host_sock *sock, struct host_dgram *v, unsigned n, size_t max, unsigned *got)
{
	struct scratch *scratch = get_scratch();
	int received;

	*got = 0;
	if (fault_now(FAULT_AGAIN)) {
		poll_again(sock);
		return (EAGAIN);
	}
	n = ksf_min(n, BATCH);
	if (scratch == NULL || (n = fill_segments(scratch, n, max)) == 0)
		return (ENOMEM);
	for (unsigned i = 0; i < n; i++)
		prepare_receive(scratch, i, sock->wildcard);
	do
		received = (int)recvmmsg(sock->fd, scratch->msg, n, MSG_DONTWAIT, NULL);
	while (received < 0 && errno == EINTR);
	if (received < 0)
		return (errno == EWOULDBLOCK ? poll_want(sock, HOST_EV_IN) : errno);
	for (int i = 0; i < received; i++)
		take_received(scratch, (unsigned)i, &v[i], max);
	*got = (unsigned)received;
	return (*got < n ? poll_want(sock, HOST_EV_IN) : 0);
}

/*
 * Send.
 */

/* The chain as a vector of at most DGRAM_SEGMENTS; 0, or ENOBUFS when it cannot be copied together.
 */
static int
gather(struct kbufq *q, struct iovec *iov, struct msghdr *msg)
{
	struct kbuf *seg;
	unsigned n = 0;

	KBUF_FOREACH(seg, q) {
		if (kbuf_len(seg) == 0)
			continue;
		if (n == DGRAM_SEGMENTS) {
			if (kbufq_pullup(q, q->len) == NULL)
				return (ENOBUFS);
			iov[0].iov_base = kbuf_data(q->head);
			iov[0].iov_len = q->len;
			n = 1;
			break;
		}
		iov[n].iov_base = kbuf_data(seg);
		iov[n++].iov_len = kbuf_len(seg);
	}
	msg->msg_iov = iov;
	msg->msg_iovlen = 0;
	msg->msg_iovlen += n;
	return (0);
}

static int
prepare_send(struct scratch *scratch, unsigned i, struct host_dgram *dgram, bool wildcard)
{
	struct msghdr *msg = &scratch->msg[i].msg_hdr;

	memset(msg, 0, sizeof(*msg));
	msg->msg_name = &scratch->name[i];
	msg->msg_namelen = sockaddr_of(&dgram->peer, &scratch->name[i]);
	if (wildcard && dgram->local.family != 0)
		write_local(msg, &scratch->control[i], &dgram->local);
	return (gather(&dgram->q, &scratch->iov[(size_t)i * DGRAM_SEGMENTS], msg));
}

int
host_sock_send_dgrams(struct host_sock *sock, struct host_dgram *v, unsigned n, unsigned *sent)
{
	struct scratch *scratch = get_scratch();
	unsigned ready;
	int done, error = 0;

	*sent = 0;
	if (scratch == NULL)
		return (ENOBUFS);
	while (*sent < n) {
		if (fault_now(FAULT_AGAIN)) {
			poll_again(sock);
			return (EAGAIN);
		}
		for (ready = 0; ready < ksf_min(n - *sent, BATCH); ready++) {
			error = prepare_send(scratch, ready, &v[*sent + ready], sock->wildcard);
			if (error != 0)
				break;
		}
		if (ready == 0)
			return (error);
		if (ready == 1)
			done = sendmsg(sock->fd, &scratch->msg[0].msg_hdr,
				   MSG_NOSIGNAL | MSG_DONTWAIT) < 0
				   ? -1
				   : 1;
		else
			done = (int)sendmmsg(
			    sock->fd, scratch->msg, ready, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return (errno == EWOULDBLOCK ? poll_want(sock, HOST_EV_OUT) : errno);
		for (int i = 0; i < done; i++)
			kbufq_clear(&v[*sent + (unsigned)i].q);
		*sent += (unsigned)done;
	}
	return (0);
}
