/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Echo messages. On a stream, byte n of a connection is byte seed + n of the pattern, sent from the
 * pattern's own memory. A datagram is the message's number, mixed with the connection's seed so
 * that another connection's datagram is not taken for ours, followed by a piece of the pattern that
 * depends on both. Runs in the worker thread that owns the connection; never sleeps.
 */
#include "echo.h"

#include <stdio.h>
#include <string.h>

#include "pattern.h"

/* The number that begins a datagram, little-endian. */
#define NUMBER_BYTES 8u

/* Odd multipliers that spread connection numbers over all bits of the seed. */
#define SEED_FACTOR 0x9e3779b97f4a7c15ull

struct echo_state {
	size_t length;      /* of a message */
	uint64_t seed;      /* differs for all connections */
	uint64_t tx_offset; /* bytes handed out for sending */
	size_t tx_left;     /* of these, still missing from the last message */
	uint64_t rx_offset; /* bytes verified */
	size_t rx_left;     /* still missing from the message that is arriving */
	uint64_t rx_id;     /* the message that is arriving */
};

static int
echo_open(void *private, const void *config, unsigned number)
{
	const struct echo_config *echo = config;
	struct echo_state *state = private;

	state->length = echo->message_length;
	state->seed = (number + 1) * SEED_FACTOR;
	state->rx_left = echo->message_length;
	return (0);
}

static void
stream_output(
    void *private, uint64_t first, unsigned max, unsigned char *buffer, struct output *output)
{
	struct echo_state *state = private;

	(void)first;
	(void)buffer;
	output->data = pattern_at(state->seed + state->tx_offset);
	if (max > 0 && state->length <= PATTERN_RUN) {
		output->messages = max;
		if (output->messages > PATTERN_RUN / state->length)
			output->messages = (unsigned)(PATTERN_RUN / state->length);
		output->length = output->messages * state->length;
		state->tx_left = 0;
	} else {
		/* A message longer than the pattern's run goes out in pieces. */
		output->messages = max > 0 ? 1 : 0;
		if (max > 0)
			state->tx_left = state->length;
		output->length = state->tx_left < PATTERN_RUN ? state->tx_left : PATTERN_RUN;
		state->tx_left -= output->length;
	}
	output->more = state->tx_left > 0;
	state->tx_offset += output->length;
}

static size_t
stream_expect(const void *private, unsigned messages)
{
	const struct echo_state *state = private;

	return (state->rx_left + (messages - 1) * state->length);
}

/* Describe a wrong byte. */
static void
describe_byte(
    char reason[PROTOCOL_REASON_MAX], uint64_t position, unsigned char is, unsigned char should)
{
	snprintf(reason, PROTOCOL_REASON_MAX, "byte %ju is 0x%02x and should be 0x%02x",
	    (uintmax_t)position, is, should);
}

static bool
stream_input(void *private, const unsigned char *data, size_t length, struct window *window,
    uint64_t now, char reason[PROTOCOL_REASON_MAX])
{
	struct echo_state *state = private;
	size_t good, left;

	if (state->rx_offset + length > state->tx_offset) {
		snprintf(reason, PROTOCOL_REASON_MAX, "more bytes came back than were sent");
		return (false);
	}
	good = pattern_check(state->seed + state->rx_offset, data, length);
	left = good;
	while (left >= state->rx_left) {
		left -= state->rx_left;
		state->rx_left = state->length;
		window_complete(window, state->rx_id++, now);
	}
	state->rx_left -= left;
	if (good < length) {
		describe_byte(reason, state->rx_offset + good, data[good],
		    *pattern_at(state->seed + state->rx_offset + good));
		return (false);
	}
	state->rx_offset += length;
	return (true);
}

/* How many bytes of a datagram are its number. */
static size_t
number_bytes(const struct echo_state *state)
{
	return (state->length < NUMBER_BYTES ? state->length : NUMBER_BYTES);
}

/* Where in the pattern a datagram's payload begins. */
static uint64_t
payload_offset(const struct echo_state *state, uint64_t id)
{
	return (state->seed + id * state->length);
}

static void
datagram_output(
    void *private, uint64_t first, unsigned max, unsigned char *buffer, struct output *output)
{
	struct echo_state *state = private;
	uint64_t number;
	size_t i;

	(void)max;
	number = first ^ state->seed;
	for (i = 0; i < number_bytes(state); i++)
		buffer[i] = (unsigned char)(number >> (8 * i));
	memcpy(buffer + i, pattern_at(payload_offset(state, first)), state->length - i);
	output->data = buffer;
	output->length = state->length;
	output->messages = 1;
	output->more = false;
}

/* Find out which message a datagram belongs to. False when it was never sent. */
static bool
datagram_number(const struct echo_state *state, const unsigned char *data,
    const struct window *window, uint64_t *id)
{
	uint64_t number;
	size_t i;

	number = 0;
	for (i = 0; i < number_bytes(state); i++)
		number |= (uint64_t)data[i] << (8 * i);
	number ^= state->seed;
	if (i < NUMBER_BYTES)
		return (window_find(window, number, (unsigned)(8 * i), id));
	*id = number;
	return (number < window->next);
}

static bool
datagram_input(void *private, const unsigned char *data, size_t length, struct window *window,
    uint64_t now, char reason[PROTOCOL_REASON_MAX])
{
	struct echo_state *state = private;
	size_t good, start;
	uint64_t id;

	if (length != state->length) {
		snprintf(reason, PROTOCOL_REASON_MAX, "a datagram of %zu bytes came back with %zu",
		    state->length, length);
		return (false);
	}
	if (!datagram_number(state, data, window, &id)) {
		snprintf(reason, PROTOCOL_REASON_MAX, "a datagram came back that was never sent");
		return (false);
	}
	start = number_bytes(state);
	good = pattern_check(payload_offset(state, id), data + start, length - start);
	if (good < length - start) {
		describe_byte(reason, start + good, data[start + good],
		    *pattern_at(payload_offset(state, id) + good));
		return (false);
	}
	window_complete(window, id, now);
	return (true);
}

const struct protocol echo_stream = {
	.state_size = sizeof(struct echo_state),
	.open = echo_open,
	.output = stream_output,
	.expect = stream_expect,
	.input = stream_input,
};

const struct protocol echo_datagram = {
	.state_size = sizeof(struct echo_state),
	.open = echo_open,
	.output = datagram_output,
	.input = datagram_input,
};
