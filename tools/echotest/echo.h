/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The echo protocol (RFC 862) for the measurement engine: what is sent must come back, byte for
 * byte. Runs in the engine's worker threads; never sleeps.
 */
#ifndef ECHOTEST_ECHO_H
#define ECHOTEST_ECHO_H

#include "protocol.h"

struct echo_config {
	size_t message_length; /* bytes */
};

/* Messages are slices of one pattern per connection. Their configuration is a struct echo_config.
 */
extern const struct protocol echo_stream;

/* Every datagram starts with its message's number, as much of it as fits. */
extern const struct protocol echo_datagram;

#endif
