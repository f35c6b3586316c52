/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * echotest: measures the latency and throughput of an echo server (RFC 862) over TCP or UDP. What
 * is its own here is one option, the message length; the rest is tools/lib. Main thread only.
 */
#include <string.h>

#include "cmdline.h"
#include "echo.h"
#include "message.h"
#include "tool.h"

#define ECHO_PORT           60007
#define STREAM_LENGTH_MAX   (64ull * 1024 * 1024)
#define DATAGRAM_LENGTH_MAX 65507ull

static struct echo_config echo_config = { .message_length = 1 };

static const struct option long_options[] = {
	{ "length", required_argument, NULL, 'l' },
	{ NULL, 0, NULL, 0 },
};

static bool
take_option(int option, const char *argument)
{
	uint64_t length;

	(void)option; /* there is only -l */
	if (!cmdline_number("-l", argument, 0, STREAM_LENGTH_MAX, &length))
		return (false);
	echo_config.message_length = (size_t)length;
	return (true);
}

static bool
prepare(struct options *options)
{
	if (options->engine.datagram && echo_config.message_length > DATAGRAM_LENGTH_MAX) {
		message("-l: a UDP datagram holds at most %llu bytes", DATAGRAM_LENGTH_MAX);
		return (false);
	}
	if (!options->engine.datagram && echo_config.message_length == 0) {
		message("-l: a TCP message has at least 1 byte");
		return (false);
	}
	options->engine.protocol = options->engine.datagram ? &echo_datagram : &echo_stream;
	options->engine.protocol_config = &echo_config;
	options->engine.message_max = options->engine.datagram ? echo_config.message_length : 0;
	return (true);
}

static void
json_config(struct json *json)
{
	json_integer(json, "msglen", echo_config.message_length);
}

static const struct tool echotest = {
	.name = "echotest",
	.message_name = "Msg",
	.purpose = "Measures the latency and throughput of an echo server.",
	.port = ECHO_PORT,
	.short_options = "l:",
	.long_options = long_options,
	.help = "  -l N, --length N     message length in bytes (default 1)\n",
	.option = take_option,
	.prepare = prepare,
	.json_config = json_config,
};

int
main(int argc, char **argv)
{
	return (tool_main(argc, argv, &echotest));
}
