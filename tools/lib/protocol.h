/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a tool adds to the measurement engine: how its messages look and how their replies are
 * recognised and verified. All calls for one connection come from the worker thread that owns it;
 * none may sleep.
 */
#ifndef TOOLS_PROTOCOL_H
#define TOOLS_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "window.h"

#define PROTOCOL_REASON_MAX 160

/* A piece of output, made by the protocol's output function. */
struct output {
	const unsigned char
	    *data;         /* in the given buffer, or anywhere that stays valid and unchanged */
	size_t length;     /* bytes, at least 1 on a stream */
	unsigned messages; /* how many messages begin in this piece */
	bool more;         /* the last message goes on in the next piece */
};

struct protocol {
	size_t state_size; /* zeroed private memory of each connection */

	/* A connection was opened; `number` differs for all connections of the run. `config` is the
	 * engine configuration's protocol_config. Returns 0 or an errno value. */
	int (*open)(void *state, const void *config, unsigned number);

	/* The connection is gone, or open failed: release what the state holds. May be NULL. */
	void (*close)(void *state);

	/*
	 * Stream: make the next piece of output, with up to `max` new messages, `first` being the
	 * first new one's id. `max` is 0 only to continue a message after a piece with `more` set.
	 * Every piece made is sent, in order.
	 *
	 * Datagram: make the whole datagram of message `first` (`max` is 1). It may be asked for
	 * again when the socket did not take it.
	 *
	 * `buffer` has room for engine_config.message_max bytes, and at least PROTOCOL_BUFFER on a
	 * stream.
	 */
	void (*output)(void *state, uint64_t first, unsigned max, unsigned char *buffer,
	    struct output *output);

	/*
	 * Stream: bytes still to come until `messages` more messages are complete, or 0 when that
	 * is not known. Lets the engine receive exactly that many. May be NULL.
	 */
	size_t (*expect)(const void *state, unsigned messages);

	/*
	 * Take all of the received bytes: part of a stream, or one whole datagram. Verify them and
	 * call window_complete(window, id, now) for every message that is complete, in the order of
	 * arrival. Returns true, or false with the reason stored when the bytes are wrong: the
	 * engine then gives up a stream, and drops a datagram.
	 */
	bool (*input)(void *state, const unsigned char *data, size_t length, struct window *window,
	    uint64_t now, char reason[PROTOCOL_REASON_MAX]);
};

#define PROTOCOL_BUFFER ((size_t)256 * 1024)

#endif
