/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A TCP connection whose peer returns what it gets. It sends the pattern of its own key and
 * compares every byte that comes back with it at once, so that streams of any length need no
 * memory. A stream belongs to one thread. All functions fail the run on an error, on a wrong,
 * missing or surplus byte and at the run's deadline.
 */
#ifndef CONFORM_STREAM_H
#define CONFORM_STREAM_H

#include "conform.h"

struct stream {
	int fd;
	uint16_t local_port; /* for messages */
	uint64_t key;        /* of the pattern */
	uint64_t sent;       /* bytes given to the kernel */
	uint64_t received;   /* bytes that came back and were right */
	bool half_closed;    /* we have sent our FIN */
	bool ended;          /* the peer's FIN has come, after ours and all data */
};

/* Connect. stream_open_small() asks for socket buffers of `buffer_bytes`. */
void stream_open(struct run *run, struct stream *stream);
void stream_open_small(struct run *run, struct stream *stream, unsigned buffer_bytes);

/* Make a stream of a connection that is already there. */
void stream_adopt(struct run *run, struct stream *stream, int fd);

/* Give up to `length` bytes to the kernel. Returns how many it took; 0 if it would have to wait. */
size_t stream_try_send(struct run *run, struct stream *stream, size_t length);

/*
 * Receive and check up to `length` bytes. Returns how many came; 0 if none is there or at the
 * peer's FIN.
 */
size_t stream_try_receive(struct run *run, struct stream *stream, size_t length);

/* Wait for events (poll(2)); `doing` is for the message if the time limit passes meanwhile. */
short stream_wait(struct run *run, struct stream *stream, short events, const char *doing);

/* Send `length` bytes, and receive only while the kernel takes no more. */
void stream_send(struct run *run, struct stream *stream, uint64_t length);

/* Receive until all but `left` of the bytes sent so far have come back. */
void stream_receive(struct run *run, struct stream *stream, uint64_t left);

/*
 * Send `length` bytes in pieces of random length up to `largest_piece`, and receive all at the same
 * time.
 */
void stream_echo(struct run *run, struct stream *stream, uint64_t length, uint32_t largest_piece);

/* Send our FIN; more may still be received. */
void stream_half_close(struct run *run, struct stream *stream);

/* Half-close if not yet done, receive all that is missing and then the peer's FIN, and close. */
void stream_finish(struct run *run, struct stream *stream);

/*
 * Close at once. What is still to come is lost; if something has come unread, the kernel sends a
 * reset.
 */
void stream_close(struct stream *stream);

/* Close with a reset. */
void stream_reset(struct run *run, struct stream *stream);

/*
 * Send on all streams, reading nothing, until none of them has taken a byte for a while: all are
 * blocked by the peer's flow control, or have sent `bound` bytes in this call. Returns how many
 * streams are blocked.
 */
unsigned streams_fill(struct run *run, struct stream *streams, unsigned count, uint64_t bound);

#endif
