/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The least work a thread-per-connection echo server can do: blocking receive, blocking send. A
 * yardstick for ksfd. The main thread accepts; each connection, and UDP, has a thread of its own.
 * The receive buffers lie on the threads' stacks, so that only the pages a connection has used
 * cost memory; an idle one costs its kernel stack and three pages.
 */
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "min.h"

#define STACK_BYTES 131072 /* the buffer, and as much again to call from */

static int *descriptors; /* each descriptor at its own index, for its thread to point to */

/* Send all of it, sleeping while the peer does not read. False when the connection is broken. */
static bool
send_all(int fd, const char *data, size_t length)
{
	ssize_t sent;

	while (length > 0) {
		sent = send(fd, data, length, MSG_NOSIGNAL);
		if (sent < 0) {
			if (errno == EINTR)
				continue;
			return (false);
		}
		data += sent;
		length -= (size_t)sent;
	}
	return (true);
}

static void *
echo_connection(void *argument)
{
	char buffer[MIN_BUFFER_BYTES];
	const int fd = *(const int *)argument;
	ssize_t received;

	for (;;) {
		received = recv(fd, buffer, sizeof(buffer), 0);
		if (received < 0 && errno == EINTR)
			continue;
		if (received <= 0 || !send_all(fd, buffer, (size_t)received))
			break;
	}
	close(fd);
	return (NULL);
}

static void *
echo_datagrams(void *argument)
{
	char buffer[MIN_BUFFER_BYTES];
	const int fd = *(const int *)argument;
	struct sockaddr_in peer;
	socklen_t length;
	ssize_t received;

	for (;;) {
		length = sizeof(peer);
		received = recvfrom(
		    fd, buffer, sizeof(buffer), 0, (struct sockaddr *)&peer, &length);
		if (received >= 0)
			sendto(fd, buffer, (size_t)received, 0, (struct sockaddr *)&peer, length);
	}
	return (NULL);
}

/* Start a detached thread that owns fd. Returns 0 or an errno value, fd then still the caller's. */
static int
start_thread(const pthread_attr_t *attributes, void *(*function)(void *), int fd)
{
	pthread_t thread;

	descriptors[fd] = fd;
	return (pthread_create(&thread, attributes, function, &descriptors[fd]));
}

int
main(int argc, char **argv)
{
	struct min_options options;
	struct rlimit limit;
	pthread_attr_t attributes;
	int error, fd, listener, udp_fd;

	min_start(argc, argv, true, &options);
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		min_fail("getrlimit", errno);
	descriptors = calloc(limit.rlim_cur, sizeof(*descriptors));
	if (descriptors == NULL)
		min_fail("calloc", errno);
	error = pthread_attr_init(&attributes);
	if (error == 0)
		error = pthread_attr_setstacksize(&attributes, STACK_BYTES);
	if (error == 0)
		error = pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	if (error != 0)
		min_fail("thread attributes", error);
	min_listen(&options, false, &listener, &udp_fd);
	if (udp_fd >= 0) {
		error = start_thread(&attributes, echo_datagrams, udp_fd);
		if (error != 0)
			min_fail("start UDP thread", error);
	}
	for (;;) {
		fd = accept(listener, NULL, NULL);
		if (fd < 0) {
			min_accept_failed(errno);
			continue;
		}
		if (start_thread(&attributes, echo_connection, fd) != 0)
			close(fd);
	}
}
