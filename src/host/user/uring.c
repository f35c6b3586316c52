/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Events, and the input of streams, by io_uring(7): one ring for each group. Workers submit, wait
 * and reap; any thread may wake. Nothing here sleeps but uring_wait() and uring_destroy().
 *
 * What is in flight refers to no memory of a socket: a receive takes its buffer from a ring of
 * buffers when bytes are there, and completions carry the slot's key. So closing is cancelling and
 * forgetting; completions that come later find no slot, and only give their buffer back.
 *
 * Output is sent by ordinary calls. A send in flight would hide from core how much the socket has
 * taken, and with it stalled peers and the memory they hold; it would save no more than the entry
 * into the kernel, a few hundredths of what sending costs.
 *
 * How a socket waits for input is its state; it changes when core has found the socket empty, and
 * when the operation in flight has ended, which is reported as HOST_EV_IN so that core looks again:
 *
 *	state          in flight          ends
 *	INPUT_NONE     nothing            when the socket is found empty; then one of the others
 *	INPUT_RECEIVE  multishot receive  when as much as a buffer holds is unread, or none is left
 *	INPUT_POLL     multishot poll     streams: after many small bursts in a row
 *
 * Listeners, UDP sockets and streams whose bursts are larger than a buffer poll; other streams
 * receive. An operation also ends when the worker that submitted it does, since the kernel
 * completes it in that thread (interrupting it where necessary, unless it sleeps uninterruptibly).
 */
#include "user_poll.h"
#include "../../core/atomic.h"

#include <liburing.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

#define SUBMISSIONS 4u    /* one is submitted at a time */
#define COMPLETIONS 4096u /* more wait in the kernel */

/*
 * Buffers in the ring: for as many connections as should become readable between two looks of the
 * group at it; more of them are read by ordinary calls. The buffers are small because a connection
 * that core does not read may hold some of them.
 */
#define BUFFERS      256u
#define BUFFER_BYTES 3968u /* fills a segment of a page */
#define BUFFER_GROUP 0
#define SMALL_BURSTS 16u /* in a row that end polling */

/* What an operation is, in the two upper bits of a slot's index; they fit below 2^30 sockets. */
enum operation {
	OP_NONE,     /* a wake-up, or a cancellation */
	OP_RECEIVE,  /* multishot receive */
	OP_POLL_IN,  /* multishot poll */
	OP_POLL_OUT, /* poll for room to send, multishot for streams */
};
#define OP_SHIFT 30
#define OP_MASK  (3ull << OP_SHIFT)

enum input { INPUT_NONE, INPUT_RECEIVE, INPUT_POLL };

/* An attached socket. All fields: poll's lock. */
struct watch {
	struct kbufq unread; /* received by the ring, not yet taken by core */
	int error;           /* that ended receiving, until core has been told */
	bool eof;            /* after `unread` */
	bool cancelled;      /* the input operation is about to end */
	bool polls_out;      /* OP_POLL_OUT is in flight */
	bool stream;         /* (c) */
	uint8_t input;       /* enum input: what is in flight */
	uint8_t next;        /* enum input: what follows INPUT_NONE */
	uint8_t small;       /* small bursts in a row while polling */
};

struct ring {
	struct io_uring uring;           /* completions: poll's lock */
	pthread_mutex_t submit_lock;     /* submissions; taken within poll's lock, or alone */
	unsigned in_flight;              /* (poll's lock) operations on sockets */
	struct io_uring_buf_ring *ready; /* (poll's lock) buffers given to the kernel */
	struct kbuf *buffer[BUFFERS];    /* (poll's lock) by number; NULL: memory was short */
	unsigned missing;                /* (poll's lock) how many are NULL */
};

/*
 * Submitting.
 */

/* A free entry, the submission lock held until submit(). There always is one. */
static struct io_uring_sqe *
submission(struct ring *ring)
{
	pthread_mutex_lock(&ring->submit_lock);
	return (io_uring_get_sqe(&ring->uring));
}

/* Into the kernel with it: it refuses only while it is short of memory. */
static void
submit(struct ring *ring)
{
	while (io_uring_submit(&ring->uring) < 0)
		sched_yield();
	pthread_mutex_unlock(&ring->submit_lock);
}

static void
receive(struct ring *ring, int fd, uint64_t key)
{
	struct io_uring_sqe *sqe = submission(ring);

	/* Core has just found the socket empty. */
	io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
	sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = BUFFER_GROUP;
	sqe->user_data = key | (uint64_t)OP_RECEIVE << OP_SHIFT;
	ring->in_flight++;
	submit(ring);
}

static void
poll_in(struct ring *ring, int fd, uint64_t key)
{
	struct io_uring_sqe *sqe = submission(ring);

	io_uring_prep_poll_multishot(sqe, fd, POLLIN | POLLPRI | POLLRDHUP);
	sqe->user_data = key | (uint64_t)OP_POLL_IN << OP_SHIFT;
	ring->in_flight++;
	submit(ring);
}

/*
 * For room to send; the kernel always adds the end of input and errors. A datagram socket reports
 * room for every datagram, so it is asked once; a stream only after a send has found none, so it is
 * asked for the connection's life. That also covers ends of input that a multishot receive misses
 * (behind urgent data; in some kernels, where it comes together with data).
 */
static void
poll_out(struct ring *ring, int fd, bool stream, uint64_t key)
{
	struct io_uring_sqe *sqe = submission(ring);

	io_uring_prep_poll_add(sqe, fd, POLLOUT);
	if (stream)
		sqe->len = IORING_POLL_ADD_MULTI;
	sqe->user_data = key | (uint64_t)OP_POLL_OUT << OP_SHIFT;
	ring->in_flight++;
	submit(ring);
}

static void
cancel(struct ring *ring, uint64_t key, enum operation op)
{
	struct io_uring_sqe *sqe = submission(ring);

	io_uring_prep_cancel64(sqe, key | (uint64_t)op << OP_SHIFT, 0);
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	sqe->user_data = OP_NONE;
	submit(ring);
}

static void
cancel_input(struct ring *ring, struct watch *watch, uint64_t key)
{
	if (watch->input == INPUT_NONE || watch->cancelled)
		return;
	watch->cancelled = true;
	cancel(ring, key, watch->input == INPUT_RECEIVE ? OP_RECEIVE : OP_POLL_IN);
}

/*
 * Buffers.
 */

/* Let the kernel fill buffer number `id`. */
static void
give(struct ring *ring, unsigned id)
{
	io_uring_buf_ring_add(ring->ready, kbuf_data(ring->buffer[id]), BUFFER_BYTES, (uint16_t)id,
	    io_uring_buf_ring_mask(BUFFERS), 0);
	io_uring_buf_ring_advance(ring->ready, 1);
}

/* New memory for buffer number `id`. */
static bool
replace(struct ring *ring, unsigned id)
{
	ring->buffer[id] = kbuf_alloc(BUFFER_BYTES);
	if (ring->buffer[id] == NULL)
		return (false);
	give(ring, id);
	return (true);
}

/* Memory was short; it may no longer be. */
static void
replace_missing(struct ring *ring)
{
	for (unsigned id = 0; id < BUFFERS && ring->missing != 0; id++) {
		if (ring->buffer[id] != NULL)
			continue;
		if (!replace(ring, id))
			return;
		ring->missing--;
	}
}

/* `len` bytes have come in buffer number `id`. What piles up is packed, as it may have to wait. */
static void
keep(struct ring *ring, struct watch *watch, unsigned id, size_t len)
{
	struct kbuf *seg = ring->buffer[id];

	if (watch->unread.head != NULL && kbuf_tailroom(watch->unread.tail) >= len &&
	    kbufq_write(&watch->unread, kbuf_data(seg), len) == 0) {
		give(ring, id);
		return;
	}
	kbuf_set_window(seg, kbuf_data(seg), len);
	kbufq_append(&watch->unread, seg);
	if (!replace(ring, id))
		ring->missing++;
}

/*
 * Completions.
 */

/* Did it end for a reason that is not the socket's? */
static bool
interrupted(int error)
{
	return (error == ENOBUFS || error == ECANCELED || error == ENOMEM || error == EINTR ||
		error == EAGAIN);
}

/* Returns the events to report. */
static unsigned
received(struct ring *ring, struct watch *watch, const struct io_uring_cqe *cqe, uint64_t key)
{
	unsigned events = HOST_EV_IN;

	if (cqe->flags & IORING_CQE_F_BUFFER) {
		unsigned id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;

		if (watch != NULL && cqe->res > 0)
			keep(ring, watch, id, (size_t)cqe->res);
		else
			give(ring, id);
	}
	if (watch == NULL)
		return (0);
	if (cqe->res == 0) {
		watch->eof = true;
		events |= HOST_EV_EOF;
	} else if (cqe->res < 0 && !interrupted(-cqe->res)) {
		watch->error = -cqe->res;
		events |= HOST_EV_ERROR;
	}
	if (!(cqe->flags & IORING_CQE_F_MORE)) {
		watch->input = INPUT_NONE;
		watch->cancelled = false;
	} else if (watch->unread.len >= BUFFER_BYTES) {
		watch->next = INPUT_POLL;
		cancel_input(ring, watch, key);
	}
	return (events);
}

static unsigned
meaning(int res)
{
	unsigned events = 0;

	if (res < 0)
		return (0);
	if (res & POLLIN)
		events |= HOST_EV_IN;
	if (res & POLLOUT)
		events |= HOST_EV_OUT;
	if (res & (POLLRDHUP | POLLHUP | POLLPRI))
		events |= HOST_EV_EOF;
	if (res & POLLERR)
		events |= HOST_EV_ERROR;
	return (events);
}

/* One completion. Poll lock held. */
static void
complete(struct host_poll *poll, const struct io_uring_cqe *cqe)
{
	enum operation op = (enum operation)((cqe->user_data & OP_MASK) >> OP_SHIFT);
	uint64_t key = cqe->user_data & ~OP_MASK;
	struct slot *slot = slot_find(poll, key);
	struct watch *watch = slot != NULL ? slot->state : NULL;
	struct ring *ring = poll->state;
	bool ended = !(cqe->flags & IORING_CQE_F_MORE);
	unsigned events = 0;

	if (op == OP_NONE)
		return;
	if (ended)
		ring->in_flight--;
	if (op == OP_RECEIVE)
		events = received(ring, watch, cqe, key);
	else if (watch != NULL) {
		events = meaning(cqe->res);
		if (op == OP_POLL_OUT) {
			watch->polls_out = !ended;
			events |= ended ? HOST_EV_OUT : 0;
			if ((events & HOST_EV_EOF) && watch->input == INPUT_RECEIVE)
				cancel_input(ring, watch, key);
		} else if (ended) {
			watch->input = INPUT_NONE;
			watch->cancelled = false;
			events |= HOST_EV_IN;
		}
	}
	if (events != 0)
		slot_post(poll, key, events);
}

/* All completions that are there. Poll lock held; that keeps a stream's bytes in order. */
static void
reap(struct host_poll *poll)
{
	struct ring *ring = poll->state;
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;

	io_uring_for_each_cqe(&ring->uring, head, cqe)
	{
		complete(poll, cqe);
		n++;
	}
	io_uring_cq_advance(&ring->uring, n);
	if (ring->missing != 0)
		replace_missing(ring);
}

/* Let the kernel show completions that it has put off, and wait for `least` of them. */
static int
enter(struct ring *ring, unsigned least, struct __kernel_timespec *timeout)
{
	struct io_uring_getevents_arg arg = { .ts = (uint64_t)(uintptr_t)timeout };

	return (io_uring_enter2((unsigned)ring->uring.ring_fd, 0, least,
	    IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, (void *)&arg, sizeof(arg)));
}

static bool
uring_wait(struct host_poll *poll, struct host_events *events, int timeout_ms)
{
	struct ring *ring = poll->state;
	struct io_uring_cq *cq = &ring->uring.cq;
	struct __kernel_timespec timeout = { .tv_sec = timeout_ms / 1000,
		.tv_nsec = (long long)(timeout_ms % 1000) * 1000000 };
	int n;

	(void)events;
	if (ksf_load_acquire(cq->ktail) != ksf_load_relaxed(cq->khead))
		return (true);
	if (timeout_ms == 0) {
		if (!(ksf_load_relaxed(ring->uring.sq.kflags) &
			(IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)))
			return (false);
		(void)enter(ring, 0, NULL);
		return (ksf_load_acquire(cq->ktail) != ksf_load_relaxed(cq->khead));
	}
	do
		n = enter(ring, 1, timeout_ms > 0 ? &timeout : NULL);
	while (n == -EINTR);
	return (n >= 0);
}

static void
uring_post(struct host_poll *poll, struct host_events *events)
{
	struct ring *ring = poll->state;

	(void)events;
	if (ksf_load_acquire(ring->uring.cq.ktail) == ksf_load_relaxed(ring->uring.cq.khead))
		return;
	pthread_mutex_lock(&poll->lock);
	reap(poll);
	pthread_mutex_unlock(&poll->lock);
}

/* An operation that completes at once, in whatever thread this is. */
static void
uring_wake(struct host_poll *poll)
{
	struct ring *ring = poll->state;
	struct io_uring_sqe *sqe = submission(ring);

	io_uring_prep_nop(sqe);
	sqe->user_data = OP_NONE;
	submit(ring);
}

/*
 * Sockets.
 */
static int
uring_attach(struct host_poll *poll, struct host_sock *sock, uint64_t key, bool again)
{
	struct watch *watch = NULL;

	if (!again) {
		watch = host_alloc(sizeof(*watch));
		if (watch == NULL)
			return (ENOMEM);
		memset(watch, 0, sizeof(*watch));
		watch->stream = sock->stream;
		watch->next = watch->stream ? INPUT_RECEIVE : INPUT_POLL;
	}
	pthread_mutex_lock(&poll->lock);
	if (!again)
		poll->slots[sock->slot].state = watch;
	slot_post(poll, key, HOST_EV_IN | HOST_EV_OUT);
	pthread_mutex_unlock(&poll->lock);
	return (0);
}

static void
uring_detach(struct host_poll *poll, struct slot *slot, uint64_t key)
{
	struct ring *ring = poll->state;
	struct watch *watch = slot->state;

	slot->state = NULL;
	cancel_input(ring, watch, key);
	if (watch->polls_out)
		cancel(ring, key, OP_POLL_OUT);
	kbufq_clear(&watch->unread);
	host_free(watch, sizeof(*watch));
}

/* The state of an attached socket, and the key that its events carry. Poll lock held. */
static struct watch *
watch_of(struct host_poll *poll, const struct host_sock *sock, uint64_t *key)
{
	const struct slot *slot = &poll->slots[sock->slot];

	*key = slot_key(sock->slot, slot->generation);
	return (slot->state);
}

/* See that room to send is reported. */
static void
want_room(struct ring *ring, struct watch *watch, int fd, uint64_t key)
{
	if (watch->polls_out)
		return;
	watch->polls_out = true;
	poll_out(ring, fd, watch->stream, key);
}

/* Nothing waits in the socket: put the operation into flight that tells when something does. */
static void
want_input(struct ring *ring, struct watch *watch, int fd, uint64_t key)
{
	if (watch->stream)
		want_room(ring, watch, fd, key);
	if (watch->input != INPUT_NONE)
		return;
	watch->input = watch->next;
	watch->small = 0;
	if (watch->input == INPUT_RECEIVE)
		receive(ring, fd, key);
	else
		poll_in(ring, fd, key);
}

static void
uring_want(struct host_poll *poll, struct host_sock *sock, unsigned events)
{
	struct ring *ring = poll->state;
	struct watch *watch;
	uint64_t key;

	pthread_mutex_lock(&poll->lock);
	watch = watch_of(poll, sock, &key);
	if (events & HOST_EV_IN)
		want_input(ring, watch, sock->fd, key);
	if (events & HOST_EV_OUT)
		want_room(ring, watch, sock->fd, key);
	pthread_mutex_unlock(&poll->lock);
}

static int
uring_error(struct host_poll *poll, struct host_sock *sock)
{
	struct watch *watch;
	int error;

	pthread_mutex_lock(&poll->lock);
	watch = poll->slots[sock->slot].state;
	error = watch->error;
	watch->error = 0;
	pthread_mutex_unlock(&poll->lock);
	return (error);
}

/* What the ring has received. EINPROGRESS: the ring receives nothing, so the socket may be read. */
static int
take_unread(struct host_poll *poll, struct watch *watch, struct kbufq *q, size_t max, bool *more)
{
	int error = 0;

	/* Core believes that input is there, or wants to be sure that there is none. */
	if (watch->unread.len == 0 && watch->input == INPUT_RECEIVE)
		reap(poll);
	if (watch->unread.len != 0) {
		if (watch->unread.len <= max)
			kbufq_concat(q, &watch->unread);
		else
			error = kbufq_split(&watch->unread, max, q);
		*more = watch->unread.len != 0 || watch->input != INPUT_RECEIVE;
		return (error);
	}
	if (watch->error != 0) {
		error = watch->error;
		watch->error = 0;
		return (error);
	}
	if (watch->eof)
		return (0);
	return (watch->input == INPUT_RECEIVE ? EAGAIN : EINPROGRESS);
}

/* An ordinary call has emptied the socket, by its last `len` bytes or by finding none. */
static void
emptied(struct host_poll *poll, struct host_sock *sock, size_t len)
{
	struct ring *ring = poll->state;
	struct watch *watch;
	uint64_t key;

	pthread_mutex_lock(&poll->lock);
	watch = watch_of(poll, sock, &key);
	if (len >= BUFFER_BYTES) {
		watch->next = INPUT_POLL;
		watch->small = 0;
	} else if (len != 0 && watch->input == INPUT_POLL && ++watch->small == SMALL_BURSTS) {
		watch->next = INPUT_RECEIVE;
		cancel_input(ring, watch, key);
	}
	want_input(ring, watch, sock->fd, key);
	pthread_mutex_unlock(&poll->lock);
}

static int
uring_recv(struct host_poll *poll, struct host_sock *sock, struct kbufq *q, size_t max, bool *more)
{
	size_t before = q->len;
	int error;

	pthread_mutex_lock(&poll->lock);
	error = take_unread(poll, poll->slots[sock->slot].state, q, max, more);
	pthread_mutex_unlock(&poll->lock);
	if (error != EINPROGRESS)
		return (error);
	error = sock_recv_now(sock, q, max, more);
	if (error == EAGAIN || (error == 0 && q->len != before && !*more))
		emptied(poll, sock, q->len - before);
	return (error);
}

/*
 * The ring.
 */

/* Kernels before 6.0 have no multishot receive; that came together with this operation. */
static bool
kernel_has_all(struct ring *ring)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(&ring->uring);
	bool has;

	has = probe != NULL && io_uring_opcode_supported(probe, IORING_OP_SEND_ZC);
	io_uring_free_probe(probe);
	return (has);
}

static int
create_buffers(struct ring *ring)
{
	size_t size = BUFFERS * sizeof(struct io_uring_buf);
	struct io_uring_buf_reg reg = { .ring_entries = BUFFERS, .bgid = BUFFER_GROUP };
	void *mem;
	int error;

	mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
	if (mem == MAP_FAILED)
		return (errno);
	reg.ring_addr = (uint64_t)(uintptr_t)mem;
	error = -io_uring_register_buf_ring(&ring->uring, &reg, 0);
	if (error != 0) {
		munmap(mem, size);
		return (error);
	}
	ring->ready = mem;
	io_uring_buf_ring_init(ring->ready);
	ring->missing = BUFFERS;
	replace_missing(ring);
	return (0);
}

static void
destroy_buffers(struct ring *ring)
{
	io_uring_unregister_buf_ring(&ring->uring, BUFFER_GROUP);
	munmap(ring->ready, BUFFERS * sizeof(struct io_uring_buf));
	for (unsigned id = 0; id < BUFFERS; id++) {
		if (ring->buffer[id] != NULL)
			kbuf_free(ring->buffer[id]);
	}
}

/*
 * COOP_TASKRUN: a busy worker is not interrupted for every arrival; that would cost more than all
 * the rest. DEFER_TASKRUN, cheaper still, would tie the ring to one thread, and a group's events
 * must not wait while that one is in a task that blocks.
 */
static int
uring_create(struct host_poll *poll)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_CQSIZE | IORING_SETUP_COOP_TASKRUN |
			 IORING_SETUP_TASKRUN_FLAG,
		.cq_entries = COMPLETIONS,
	};
	struct ring *ring;
	int error;

	ring = calloc(1, sizeof(*ring));
	if (ring == NULL)
		return (ENOMEM);
	error = -io_uring_queue_init_params(SUBMISSIONS, &ring->uring, &params);
	if (error != 0)
		goto fail;
	error = kernel_has_all(ring) ? create_buffers(ring) : ENOSYS;
	if (error != 0) {
		io_uring_queue_exit(&ring->uring);
		goto fail;
	}
	pthread_mutex_init(&ring->submit_lock, NULL);
	poll->state = ring;
	return (0);

fail:
	free(ring);
	return (error == ENOSYS || error == EINVAL ? EOPNOTSUPP : error);
}

/* No socket is attached any more, but what was cancelled may not have ended yet. */
static void
uring_destroy(struct host_poll *poll)
{
	struct ring *ring = poll->state;

	pthread_mutex_lock(&poll->lock);
	reap(poll);
	while (ring->in_flight != 0) {
		(void)enter(ring, 1, NULL);
		reap(poll);
	}
	pthread_mutex_unlock(&poll->lock);
	destroy_buffers(ring);
	io_uring_queue_exit(&ring->uring);
	pthread_mutex_destroy(&ring->submit_lock);
	free(ring);
}

/* A worker has nothing of its own: completions stay in the ring until they are posted. */
static int
uring_events_create(struct host_events **eventsp, struct host_poll *poll)
{
	(void)poll;
	*eventsp = NULL;
	return (0);
}

const struct poll_backend poll_uring = {
	.name = "uring",
	.create = uring_create,
	.destroy = uring_destroy,
	.events_create = uring_events_create,
	.wait = uring_wait,
	.post = uring_post,
	.wake = uring_wake,
	.attach = uring_attach,
	.detach = uring_detach,
	.want = uring_want,
	.recv = uring_recv,
	.error = uring_error,
};
