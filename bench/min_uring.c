/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The least work an io_uring echo server can do: one thread, one ring, one system call per round,
 *in which all sends of the round and the next receives are submitted together. A yardstick for
 *ksfd. Everything runs in the main thread, which sleeps only in io_uring_submit_and_wait.
 *
 * A connection is in one of two states:
 *
 *	receiving	a receive is pending; it takes a buffer of the shared ring once data is
 *there sending		a send and, linked behind it, the next receive are pending
 *
 * The send from a shared buffer never waits for room. When it comes up short the link breaks, the
 * receive is cancelled, and the rest goes out from memory of its own by a send that waits. So a
 *peer that does not read costs at most one buffer, and never one of the shared ones. Multishot
 *receives save about 5 % at one request in flight, but drain the whole socket before the first send
 *starts, which costs more than that when requests are pipelined, and cannot hold a peer back.
 */
#include <errno.h>
#include <liburing.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "min.h"

#define COMPLETIONS_PER_ROUND 256
#define SUBMISSION_ENTRIES    (2 * COMPLETIONS_PER_ROUND) /* a completion starts at most two */
#define BUFFER_COUNT          32                          /* a power of two */
#define BUFFER_GROUP          0

enum operation { ACCEPT, RECEIVE, SEND, SEND_WAITING };

/* What a completion is about; travels in the 64 bits of user_data. */
struct about {
	int32_t fd;
	uint16_t buffer; /* SEND: which of the shared ones */
	uint16_t operation;
};

/* What a peer has not taken yet; data is NULL unless SEND_WAITING is pending. */
struct unsent {
	char *data;
	uint32_t length;
};

static struct io_uring ring;
static struct io_uring_buf_ring *buffer_ring;
static char *buffers;
static uint32_t buffer_length[BUFFER_COUNT]; /* bytes received into each */
static struct unsent *unsent_of;             /* by descriptor */
static unsigned sends_pending;               /* SENDs not yet completed */

static char *
buffer_address(uint16_t buffer)
{
	return (buffers + (size_t)buffer * MIN_BUFFER_BYTES);
}

/* Give a shared buffer to the kernel for a coming receive. */
static void
provide_buffer(uint16_t buffer)
{
	io_uring_buf_ring_add(buffer_ring, buffer_address(buffer), MIN_BUFFER_BYTES, buffer,
	    io_uring_buf_ring_mask(BUFFER_COUNT), 0);
	io_uring_buf_ring_advance(buffer_ring, 1);
}

/* There always is one, as a round starts no more than the submission queue holds. */
static struct io_uring_sqe *
next_entry(void)
{
	struct io_uring_sqe *entry = io_uring_get_sqe(&ring);

	if (entry == NULL)
		min_fail("submission queue", ENOSPC);
	return (entry);
}

static void
set_about(struct io_uring_sqe *entry, enum operation operation, int fd, uint16_t buffer)
{
	struct about about = { .fd = fd, .buffer = buffer, .operation = (uint16_t)operation };

	memcpy(&entry->user_data, &about, sizeof(about));
}

static void
start_accept(int listener)
{
	struct io_uring_sqe *entry = next_entry();

	io_uring_prep_multishot_accept(entry, listener, NULL, NULL, SOCK_CLOEXEC);
	set_about(entry, ACCEPT, listener, 0);
}

/* Waits for readiness before it tries, as there is seldom more input already. */
static void
start_receive(int fd)
{
	struct io_uring_sqe *entry = next_entry();

	io_uring_prep_recv(entry, fd, NULL, MIN_BUFFER_BYTES, 0);
	entry->ioprio |= IORING_RECVSEND_POLL_FIRST;
	entry->flags |= IOSQE_BUFFER_SELECT;
	entry->buf_group = BUFFER_GROUP;
	set_about(entry, RECEIVE, fd, 0);
}

/* Send, and receive again only when all is sent. */
static void
start_echo(enum operation operation, int fd, uint16_t buffer, const char *data, uint32_t length)
{
	int flags = MSG_NOSIGNAL | MSG_WAITALL | (operation == SEND ? MSG_DONTWAIT : 0);
	struct io_uring_sqe *entry = next_entry();

	io_uring_prep_send(entry, fd, data, length, flags);
	entry->flags |= IOSQE_IO_LINK;
	set_about(entry, operation, fd, buffer);
	start_receive(fd);
}

static void
accepted(const struct io_uring_cqe *completion, int listener)
{
	if (completion->res >= 0)
		start_receive(completion->res);
	else
		min_accept_failed(-completion->res);
	if ((completion->flags & IORING_CQE_F_MORE) == 0)
		start_accept(listener);
}

static void
received(const struct io_uring_cqe *completion, int fd)
{
	uint16_t buffer = (uint16_t)(completion->flags >> IORING_CQE_BUFFER_SHIFT);

	if (completion->res > 0) {
		buffer_length[buffer] = (uint32_t)completion->res;
		start_echo(SEND, fd, buffer, buffer_address(buffer), buffer_length[buffer]);
		sends_pending++;
		return;
	}
	if (completion->flags & IORING_CQE_F_BUFFER)
		provide_buffer(buffer);
	if (completion->res == -ENOBUFS || completion->res == -EINTR)
		start_receive(fd);
	else if (completion->res != -ECANCELED) /* the send before it decides what happens */
		close(fd);
}

/* Send the rest of a shared buffer from memory of its own, waiting for room. */
static void
keep_unsent(int fd, uint16_t buffer, uint32_t offset)
{
	struct unsent *unsent = &unsent_of[fd];

	unsent->length = buffer_length[buffer] - offset;
	unsent->data = malloc(unsent->length);
	if (unsent->data == NULL) {
		close(fd);
		return;
	}
	memcpy(unsent->data, buffer_address(buffer) + offset, unsent->length);
	start_echo(SEND_WAITING, fd, 0, unsent->data, unsent->length);
}

static void
sent(const struct io_uring_cqe *completion, int fd, uint16_t buffer)
{
	sends_pending--;
	if (completion->res == -EAGAIN || completion->res == -EINTR)
		keep_unsent(fd, buffer, 0);
	else if (completion->res < 0)
		close(fd);
	else if ((uint32_t)completion->res < buffer_length[buffer])
		keep_unsent(fd, buffer, (uint32_t)completion->res);
	provide_buffer(buffer);
}

/* With MSG_WAITALL less than everything means an error, which also cancelled the receive. */
static void
sent_waiting(const struct io_uring_cqe *completion, int fd)
{
	free(unsent_of[fd].data);
	unsent_of[fd].data = NULL;
	if (completion->res < 0 || (uint32_t)completion->res < unsent_of[fd].length)
		close(fd);
}

static void
complete(const struct io_uring_cqe *completion)
{
	struct about about;

	memcpy(&about, &completion->user_data, sizeof(about));
	switch ((enum operation)about.operation) {
	case ACCEPT:
		accepted(completion, about.fd);
		break;
	case RECEIVE:
		received(completion, about.fd);
		break;
	case SEND:
		sent(completion, about.fd, about.buffer);
		break;
	case SEND_WAITING:
		sent_waiting(completion, about.fd);
		break;
	}
}

/*
 * Each round waits for the sends it submits, which complete within the system call, and for one
 * completion more, which is the next input.
 */
static void
serve(void)
{
	struct io_uring_cqe *completion;
	unsigned head, count;
	int error;

	for (;;) {
		error = io_uring_submit_and_wait(&ring, sends_pending + 1);
		if (error < 0 && error != -EINTR)
			min_fail("io_uring_submit_and_wait", -error);
		count = 0;
		io_uring_for_each_cqe(&ring, head, completion)
		{
			complete(completion);
			if (++count == COMPLETIONS_PER_ROUND)
				break;
		}
		io_uring_cq_advance(&ring, count);
	}
}

/* The fastest kind of ring that the kernel has: 6.1 runs completions only when they are waited for.
 */
static void
create_ring(void)
{
	const unsigned single = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER;
	int error;

	error = io_uring_queue_init(SUBMISSION_ENTRIES, &ring, single | IORING_SETUP_DEFER_TASKRUN);
	if (error == -EINVAL)
		error = io_uring_queue_init(SUBMISSION_ENTRIES, &ring, 0);
	if (error != 0)
		min_fail("io_uring_queue_init", -error);
	error = io_uring_register_ring_fd(&ring);
	if (error < 0)
		min_fail("io_uring_register_ring_fd", -error);
}

static void *
allocate_pages(size_t length)
{
	void *pages;

	pages = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages == MAP_FAILED)
		min_fail("mmap", errno);
	return (pages);
}

static void
create_buffers(void)
{
	struct io_uring_buf_reg registration = {
		.ring_entries = BUFFER_COUNT,
		.bgid = BUFFER_GROUP,
	};
	int error;

	buffers = allocate_pages((size_t)BUFFER_COUNT * MIN_BUFFER_BYTES);
	buffer_ring = allocate_pages(BUFFER_COUNT * sizeof(struct io_uring_buf));
	registration.ring_addr = (uintptr_t)buffer_ring;
	error = io_uring_register_buf_ring(&ring, &registration, 0);
	if (error != 0)
		min_fail("io_uring_register_buf_ring", -error);
	io_uring_buf_ring_init(buffer_ring);
	for (uint16_t buffer = 0; buffer < BUFFER_COUNT; buffer++)
		provide_buffer(buffer);
}

int
main(int argc, char **argv)
{
	struct min_options options;
	struct rlimit limit;
	int listener, udp_fd;

	min_start(argc, argv, false, &options);
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		min_fail("getrlimit", errno);
	unsent_of = calloc(limit.rlim_cur, sizeof(*unsent_of));
	if (unsent_of == NULL)
		min_fail("calloc", errno);
	create_ring();
	create_buffers();
	min_listen(&options, false, &listener, &udp_fd);
	start_accept(listener);
	serve();
}
