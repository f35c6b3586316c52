/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The least work an epoll echo server can do: one thread, one edge-triggered epoll instance whose
 * registrations never change, one receive and one send per readable connection. A yardstick for
 * ksfd. Everything runs in the main thread, which sleeps only in epoll_wait.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "min.h"

#define EVENTS_PER_WAIT    256
#define DATAGRAMS_PER_CALL 64

/*
 * Bytes a connection's peer has not taken yet: at most one receive buffer, as nothing more is read
 * until they are gone. NULL data for all others, which is what keeps idle connections small.
 */
struct unsent {
	char *data;
	uint32_t length;
	uint32_t offset;
};

static char buffer[MIN_BUFFER_BYTES];
static struct unsent *unsent_of; /* by descriptor */
static int epoll_fd;

static char datagrams[DATAGRAMS_PER_CALL][MIN_BUFFER_BYTES];
static struct mmsghdr headers[DATAGRAMS_PER_CALL];
static struct iovec vectors[DATAGRAMS_PER_CALL];
static struct sockaddr_storage peers[DATAGRAMS_PER_CALL];

static void
watch(int fd, uint32_t events)
{
	struct epoll_event event = { .events = events | EPOLLET, .data.fd = fd };

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		min_fail("epoll_ctl", errno);
}

static void
close_connection(int fd)
{
	free(unsent_of[fd].data);
	unsent_of[fd].data = NULL;
	close(fd);
}

/* True if the failed call should be repeated when the socket is ready again. */
static bool
is_transient(int error)
{
	return (error == EAGAIN || error == EINTR);
}

static void
accept_all(int listener)
{
	int fd;

	for (;;) {
		fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			watch(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
			continue;
		}
		if (errno == EAGAIN)
			return;
		min_accept_failed(errno);
	}
}

/* Send from the receive buffer and keep what the socket does not take. False: read no further. */
static bool
echo(int fd, size_t length)
{
	struct unsent *unsent = &unsent_of[fd];
	ssize_t sent;

	sent = send(fd, buffer, length, MSG_NOSIGNAL);
	if (sent == (ssize_t)length)
		return (true);
	if (sent < 0 && !is_transient(errno)) {
		close_connection(fd);
		return (false);
	}
	if (sent < 0)
		sent = 0;
	unsent->length = (uint32_t)(length - (size_t)sent);
	unsent->offset = 0;
	unsent->data = malloc(unsent->length);
	if (unsent->data == NULL) {
		close_connection(fd);
		return (false);
	}
	memcpy(unsent->data, buffer + sent, unsent->length);
	return (false);
}

/*
 * Echo all input there is. A short read means that the socket was empty, so more input will be a
 * new edge; only an end of stream that was already there is not, hence until_end.
 */
static void
echo_input(int fd, bool until_end)
{
	ssize_t received;

	do {
		received = recv(fd, buffer, sizeof(buffer), 0);
		if (received <= 0) {
			if (received == 0 || !is_transient(errno))
				close_connection(fd);
			return;
		}
		if (!echo(fd, (size_t)received))
			return;
	} while (until_end || received == (ssize_t)sizeof(buffer));
}

/* Send what was kept. True when all is gone and the connection may be read again. */
static bool
send_unsent(int fd)
{
	struct unsent *unsent = &unsent_of[fd];
	ssize_t sent;

	do {
		sent = send(fd, unsent->data + unsent->offset, unsent->length - unsent->offset,
		    MSG_NOSIGNAL);
		if (sent < 0) {
			if (!is_transient(errno))
				close_connection(fd);
			return (false);
		}
		unsent->offset += (uint32_t)sent;
	} while (unsent->offset < unsent->length);
	free(unsent->data);
	unsent->data = NULL;
	return (true);
}

static void
serve_connection(int fd, uint32_t events)
{
	bool until_end = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;

	if (unsent_of[fd].data != NULL) {
		if (!send_unsent(fd))
			return;
		until_end = true; /* its edge may have come while nothing was read */
	}
	echo_input(fd, until_end);
}

static void
prepare_datagrams(void)
{
	for (int i = 0; i < DATAGRAMS_PER_CALL; i++) {
		vectors[i].iov_base = datagrams[i];
		headers[i].msg_hdr.msg_name = &peers[i];
		headers[i].msg_hdr.msg_iov = &vectors[i];
		headers[i].msg_hdr.msg_iovlen = 1;
	}
}

/*
 * Echo all datagrams there are, a batch at a time; an incomplete batch means that the socket was
 * empty. Those for which there is no room to send are lost, as UDP permits.
 */
static void
echo_datagrams(int fd)
{
	int count;

	do {
		for (int i = 0; i < DATAGRAMS_PER_CALL; i++) {
			vectors[i].iov_len = MIN_BUFFER_BYTES;
			headers[i].msg_hdr.msg_namelen = sizeof(peers[i]);
		}
		count = recvmmsg(fd, headers, DATAGRAMS_PER_CALL, 0, NULL);
		for (int i = 0; i < count; i++)
			vectors[i].iov_len = headers[i].msg_len;
		if (count > 0)
			sendmmsg(fd, headers, (unsigned)count, 0);
	} while (count == DATAGRAMS_PER_CALL);
}

static void
serve(int listener, int udp_fd)
{
	struct epoll_event events[EVENTS_PER_WAIT];
	int count;

	for (;;) {
		count = epoll_wait(epoll_fd, events, EVENTS_PER_WAIT, -1);
		for (int i = 0; i < count; i++) {
			int fd = events[i].data.fd;

			if (fd == listener)
				accept_all(listener);
			else if (fd == udp_fd)
				echo_datagrams(udp_fd);
			else
				serve_connection(fd, events[i].events);
		}
	}
}

int
main(int argc, char **argv)
{
	struct min_options options;
	struct rlimit limit;
	int listener, udp_fd;

	min_start(argc, argv, true, &options);
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		min_fail("getrlimit", errno);
	unsent_of = calloc(limit.rlim_cur, sizeof(*unsent_of));
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (unsent_of == NULL || epoll_fd < 0)
		min_fail("set up", errno);
	prepare_datagrams();
	min_listen(&options, true, &listener, &udp_fd);
	watch(listener, EPOLLIN);
	if (udp_fd >= 0)
		watch(udp_fd, EPOLLIN);
	serve(listener, udp_fd);
}
