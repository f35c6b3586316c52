/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Unit tests of the measuring library (tools/lib) beside the histogram: numbers and addresses on
 * the command line, the pattern, the window of messages in flight, JSON, threads, and the engine
 * with a protocol of its own against a server in this process. Only loopback; prints TAP.
 */
#include <sys/socket.h>

#include <netinet/in.h>

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "address.h"
#include "clock.h"
#include "cmdline.h"
#include "engine.h"
#include "evqueue.h"
#include "json.h"
#include "pattern.h"
#include "threads.h"
#include "window.h"

static unsigned tests, failures;

static void
check(bool passed, const char *description)
{
	tests++;
	failures += !passed;
	printf("%sok %u - %s\n", passed ? "" : "not ", tests, description);
}

/*
 * Keep messages about errors that are provoked off the terminal: returns a descriptor to give back
 * to restore_messages().
 */
static int
hide_messages(void)
{
	int null, saved;

	null = open("/dev/null", O_WRONLY);
	saved = dup(STDERR_FILENO);
	if (null == -1 || saved == -1 || dup2(null, STDERR_FILENO) == -1)
		exit(1);
	close(null);
	return (saved);
}

static void
restore_messages(int saved)
{
	if (dup2(saved, STDERR_FILENO) == -1)
		exit(1);
	close(saved);
}

static void
test_numbers(void)
{
	static const struct {
		const char *text;
		bool valid;
		uint64_t value;
	} cases[] = {
		{ "0", true, 0 },
		{ "1", true, 1 },
		{ "16k", true, 16384 },
		{ "16K", true, 16000 },
		{ "2m", true, 2097152 },
		{ "2M", true, 2000000 },
		{ "1g", true, 1073741824 },
		{ "3G", true, 3000000000 },
		{ "1.5k", true, 1536 },
		{ "1e6", true, 1000000 },
		{ "", false, 0 },
		{ "x", false, 0 },
		{ "1x", false, 0 },
		{ "1kk", false, 0 },
		{ "-1", false, 0 },
		{ " 1", false, 0 },
		{ "1.5", false, 0 },
		{ "nan", false, 0 },
		{ "inf", false, 0 },
		{ "1e30", false, 0 },
		{ "5G", false, 0 },
	};
	unsigned count, i, list[4];
	double reals[3];
	uint64_t value;
	bool right, valid;
	int saved;

	saved = hide_messages();
	right = true;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		value = 0;
		valid = cmdline_number("-n", cases[i].text, 0, 4000000000, &value);
		if (valid != cases[i].valid || value != cases[i].value) {
			printf("# wrong for '%s'\n", cases[i].text);
			right = false;
		}
	}
	check(right, "numbers: suffixes, fractions, nonsense and range");
	check(cmdline_seconds("-s", "0.25", &value) && value == 250000000 &&
		  !cmdline_seconds("-s", "0", &value) && !cmdline_seconds("-s", "-1", &value),
	    "seconds: fractions, more than nothing");
	check(cmdline_unsigned_list("-l", "3, 0,7", 0, 7, list, 4, &count) && count == 3 &&
		  list[0] == 3 && list[1] == 0 && list[2] == 7,
	    "lists: blanks are fine");
	check(!cmdline_unsigned_list("-l", "1,,2", 0, 7, list, 4, &count) &&
		  !cmdline_unsigned_list("-l", "", 0, 7, list, 4, &count) &&
		  !cmdline_unsigned_list("-l", "8", 0, 7, list, 4, &count) &&
		  !cmdline_unsigned_list("-l", "1,2,3,4,5", 0, 7, list, 4, &count),
	    "lists: empty elements, range, too many");
	check(cmdline_real_list("-q", ".3,50,99.9", 0, 100, reals, 3, &count) && count == 3 &&
		  !cmdline_real_list("-q", "101", 0, 100, reals, 3, &count),
	    "lists of real numbers");
	restore_messages(saved);
}

static void
test_addresses(void)
{
	static const struct {
		const char *text;
		const char *host; /* NULL: an error */
		uint16_t port;
	} cases[] = {
		{ "example", "example", 1 },
		{ "example:80", "example", 80 },
		{ "me@example:80", "example", 80 },
		{ "127.0.0.1:65535", "127.0.0.1", 65535 },
		{ "::1", "::1", 1 },
		{ "fe80::1%lo", "fe80::1%lo", 1 },
		{ "[::1]", "::1", 1 },
		{ "[::1]:99", "::1", 99 },
		{ "me@[::1]:99", "::1", 99 },
		{ ":99", "default", 99 },
		{ "", "default", 1 },
		{ "example:", NULL, 0 },
		{ "example:0", NULL, 0 },
		{ "example:65536", NULL, 0 },
		{ "example:80x", NULL, 0 },
		{ "example:-1", NULL, 0 },
		{ "[::1", NULL, 0 },
		{ "[]", NULL, 0 },
		{ "[::1]x", NULL, 0 },
		{ "[::1]:", NULL, 0 },
	};
	char host[ADDRESS_HOST_MAX], long_name[2 * ADDRESS_HOST_MAX];
	struct address_list list;
	uint16_t port;
	bool right;
	unsigned i;

	right = true;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(host, sizeof(host), "default");
		port = 1;
		if (address_parse(cases[i].text, host, &port) != NULL
			? cases[i].host != NULL
			: cases[i].host == NULL || strcmp(host, cases[i].host) != 0 ||
			      port != cases[i].port) {
			printf("# wrong for '%s'\n", cases[i].text);
			right = false;
		}
	}
	check(right, "addresses: user, host, port, IPv6 literals and errors");

	memset(long_name, 'a', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	check(address_parse(long_name, host, &port) != NULL, "addresses: a host name has an end");
	check(address_resolve("127.0.0.1", 7, false, &list) == NULL && list.count == 1 &&
		  strcmp(list.address[0].text, "127.0.0.1:7") == 0,
	    "addresses: an IPv4 literal resolves to itself");
	check(address_resolve("::1", 7, true, &list) == NULL && list.count == 1 &&
		  strcmp(list.address[0].text, "[::1]:7") == 0,
	    "addresses: an IPv6 literal resolves to itself");
}

static void
test_pattern(void)
{
	static unsigned char data[PATTERN_RUN + 1000];
	uint64_t offset;
	size_t i, shift;
	bool found;

	pattern_init();
	offset = 123456789012345ull;
	for (i = 0; i < sizeof(data); i++)
		data[i] = *pattern_at(offset + i);
	check(pattern_check(offset, data, sizeof(data)) == sizeof(data),
	    "pattern: right data is right, beyond one run as well");

	found = true;
	for (i = 0; i < sizeof(data); i += 4999) {
		data[i] ^= 1;
		found &= pattern_check(offset, data, sizeof(data)) == i;
		data[i] ^= 1;
	}
	data[sizeof(data) - 1] ^= 0x80;
	found &= pattern_check(offset, data, sizeof(data)) == sizeof(data) - 1;
	check(found, "pattern: a single wrong bit is found where it is");

	found = true;
	for (shift = 1; shift < PATTERN_PERIOD; shift++)
		found &= pattern_check(offset + shift, data, 64) < 64;
	check(found, "pattern: 64 bytes fit at no other place of the period");
}

static void
test_window(void)
{
	struct window_counts counts;
	struct window window;
	struct hist *latency;
	uint64_t id;
	unsigned i;

	memset(&counts, 0, sizeof(counts));
	latency = hist_create();
	if (latency == NULL || !window_init(&window, 4, 16, &counts, latency))
		exit(1);

	check(window_room(&window) == 4 && window_complete(&window, 0, 5) == WINDOW_UNKNOWN,
	    "window: empty, and nothing is expected");
	for (i = 0; i < 4; i++)
		window_start(&window, 100 + i, 100 + i);
	check(window_room(&window) == 0 && window.in_flight == 4, "window: full");

	check(window_complete(&window, 2, 202) == WINDOW_COMPLETED && latency->max == 100 &&
		  window_complete(&window, 2, 203) == WINDOW_DUPLICATE && counts.duplicate == 1,
	    "window: completes once, with its latency");
	check(window_complete(&window, 0, 210) == WINDOW_COMPLETED && counts.reordered == 1,
	    "window: an overtaken message is counted as reordered");
	check(window_find(&window, 3, 1, &id) && id == 3 && window_find(&window, 1, 8, &id) &&
		  id == 1,
	    "window: found by a part of its number, nearest to the highest that came back");

	check(window_expire(&window, 100) == 0 && window_expire(&window, 102) == 1 &&
		  counts.lost == 1 && window.in_flight == 1,
	    "window: only what was sent by then is given up");
	check(window_complete(&window, 1, 300) == WINDOW_TOO_LATE && counts.late == 1 &&
		  counts.lost == 0 && window_complete(&window, 1, 301) == WINDOW_DUPLICATE,
	    "window: too late once, then a duplicate");
	check(window_complete(&window, 3, 300) == WINDOW_COMPLETED && counts.completed == 3 &&
		  window.oldest == 4 && window_room(&window) == 4,
	    "window: empty again");

	/* One message stays: the others go on until its slot is needed. */
	window_start(&window, 1000, 1000);
	for (i = 0; window_room(&window) > 0; i++) {
		window_start(&window, 1001, 1001);
		window_complete(&window, window.next - 1, 1002);
	}
	check(i == 15 && window.in_flight == 1, "window: closes before it forgets a message");
	check(window_complete(&window, 4, 1003) == WINDOW_COMPLETED && window_room(&window) == 4,
	    "window: opens again");

	/* Of messages 0 to 7, 1 is lost on the way: two bits of each number tell the others. */
	window_destroy(&window);
	if (!window_init(&window, 8, 16, &counts, latency))
		exit(1);
	for (i = 0; i < 8; i++)
		window_start(&window, 2000, 2000);
	for (i = 0; i < 8; i++) {
		if (i != 1 && window_find(&window, i & 3, 2, &id) && id == i)
			window_complete(&window, id, 2001);
	}
	check(window.in_flight == 1 && window.oldest == 1 && window_find(&window, 1, 2, &id) &&
		  id == 1,
	    "window: a lost message does not mislead those after it");
	window_destroy(&window);
	free(latency);
}

static void
test_json(void)
{
	struct json json;
	size_t size;
	char *text;
	FILE *out;

	out = open_memstream(&text, &size);
	if (out == NULL)
		exit(1);
	json_begin(&json, out);
	json_string(&json, "s", "a\"b\\c\n");
	json_open(&json, "o");
	json_integer(&json, "i", UINT64_MAX);
	json_close(&json);
	json_open(&json, "e");
	json_close(&json);
	json_number(&json, "n", 1.25, 3);
	json_number(&json, "x", (double)INFINITY, 3);
	json_end(&json);
	fclose(out);
	check(strcmp(text,
		  "{\"s\":\"a\\\"b\\\\c\\u000a\",\"o\":{\"i\":18446744073709551615},\"e\":{},"
		  "\"n\":1.250,\"x\":null}\n") == 0,
	    "json: strings, numbers, objects");
	free(text);
}

/* What the threads of a crew saw. */
struct meeting {
	struct threads crew;
	atomic_uint before;
	atomic_bool early;
};

static void
meet(void *arg, unsigned index)
{
	struct meeting *meeting = arg;

	(void)index;
	atomic_fetch_add(&meeting->before, 1);
	if (!threads_barrier(&meeting->crew) || atomic_load(&meeting->before) != 4)
		atomic_store(&meeting->early, true);
}

static void
test_threads(void)
{
	static struct meeting meeting;

	if (threads_start(&meeting.crew, 4, NULL, 0, meet, &meeting) != 0)
		exit(1);
	check(threads_wait(&meeting.crew, 10 * CLOCK_NS_PER_S), "threads: finish");
	threads_join(&meeting.crew);
	check(!atomic_load(&meeting.early),
	    "threads: nobody passes the barrier before all are there");
}

static void
test_evqueue(void)
{
	struct evqueue_event events[8];
	struct evqueue *queue;
	int pair[2];
	char byte;

	queue = evqueue_create();
	if (queue == NULL || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
		exit(1);
	check(evqueue_change(queue, pair[0], 0, EVQUEUE_READ, &pair[0]) == 0 &&
		  evqueue_wait(queue, events, 8, CLOCK_NS_PER_MS) == 0,
	    "event queue: times out");
	byte = 1;
	check(write(pair[1], &byte, 1) == 1 &&
		  evqueue_wait(queue, events, 8, CLOCK_NS_PER_S) == 1 &&
		  events[0].data == &pair[0] && events[0].events == EVQUEUE_READ &&
		  evqueue_wait(queue, events, 8, CLOCK_NS_PER_S) == 1,
	    "event queue: readable, as long as it is not read");
	check(read(pair[0], &byte, 1) == 1 &&
		  evqueue_change(queue, pair[0], EVQUEUE_READ, EVQUEUE_WRITE, &pair[0]) == 0 &&
		  evqueue_wait(queue, events, 8, CLOCK_NS_PER_S) == 1 &&
		  events[0].events == EVQUEUE_WRITE,
	    "event queue: writable");
	check(evqueue_change(queue, pair[0], EVQUEUE_WRITE, 0, &pair[0]) == 0 &&
		  evqueue_wait(queue, events, 8, CLOCK_NS_PER_MS) == 0,
	    "event queue: nothing after removal");
	close(pair[0]);
	close(pair[1]);
	evqueue_destroy(queue);
}

/*
 * A protocol whose replies overtake each other: messages are 8-byte numbers, the server answers
 * every two of them in the opposite order.
 */
#define PAIR_MESSAGE 8u

struct pair_state {
	unsigned char partial[PAIR_MESSAGE];
	size_t length; /* bytes of it */
};

static int
pair_open(void *state, const void *config, unsigned number)
{
	(void)state;
	(void)config;
	(void)number;
	return (0);
}

static void
pair_output(void *state, uint64_t first, unsigned max, unsigned char *buffer, struct output *output)
{
	uint64_t id;
	unsigned i;

	(void)state;
	for (i = 0; i < max; i++) {
		id = first + i;
		memcpy(buffer + i * PAIR_MESSAGE, &id, PAIR_MESSAGE);
	}
	output->data = buffer;
	output->length = (size_t)max * PAIR_MESSAGE;
	output->messages = max;
	output->more = false;
}

static bool
pair_input(void *private, const unsigned char *data, size_t length, struct window *window,
    uint64_t now, char reason[PROTOCOL_REASON_MAX])
{
	struct pair_state *state = private;
	uint64_t id;
	size_t i;

	for (i = 0; i < length; i++) {
		state->partial[state->length++] = data[i];
		if (state->length < PAIR_MESSAGE)
			continue;
		state->length = 0;
		memcpy(&id, state->partial, PAIR_MESSAGE);
		if (window_complete(window, id, now) != WINDOW_COMPLETED) {
			snprintf(reason, PROTOCOL_REASON_MAX, "unexpected reply");
			return (false);
		}
	}
	return (true);
}

static const struct protocol pair_protocol = {
	.state_size = sizeof(struct pair_state),
	.open = pair_open,
	.output = pair_output,
	.input = pair_input,
};

/* Receive exactly `length` bytes; false at the end of the stream. */
static bool
receive_all(int fd, unsigned char *data, size_t length)
{
	ssize_t got;
	size_t have;

	for (have = 0; have < length; have += (size_t)got) {
		got = recv(fd, data + have, length - have, 0);
		if (got <= 0)
			return (false);
	}
	return (true);
}

struct pair_server {
	int listener;
	unsigned lies_after; /* pairs, then a reply is repeated; 0: never */
};

static void *
serve_connection(void *arg)
{
	unsigned char in[2 * PAIR_MESSAGE], out[2 * PAIR_MESSAGE];
	struct pair_server server = *(struct pair_server *)arg;
	unsigned pairs;
	int fd;

	fd = accept(server.listener, NULL, NULL);
	for (pairs = 1; receive_all(fd, in, sizeof(in)); pairs++) {
		memcpy(out, in + PAIR_MESSAGE, PAIR_MESSAGE);
		memcpy(out + PAIR_MESSAGE, in, PAIR_MESSAGE);
		if (pairs == server.lies_after)
			memcpy(out + PAIR_MESSAGE, out, PAIR_MESSAGE);
		if (send(fd, out, sizeof(out), MSG_NOSIGNAL) != (ssize_t)sizeof(out))
			break;
	}
	close(fd);
	return (NULL);
}

/* Make a listening socket on a free loopback port. */
static int
listen_somewhere(struct address_list *addresses)
{
	struct sockaddr_in name;
	socklen_t length;
	int fd;

	memset(&name, 0, sizeof(name));
	name.sin_family = AF_INET;
	name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	length = sizeof(name);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd == -1 || bind(fd, (struct sockaddr *)&name, sizeof(name)) != 0 ||
	    listen(fd, 16) != 0 || getsockname(fd, (struct sockaddr *)&name, &length) != 0 ||
	    address_resolve("127.0.0.1", ntohs(name.sin_port), false, addresses) != NULL)
		exit(1);
	return (fd);
}

/* Run two iterations against the server; the results of the second are in *result. */
static void
run_engine(unsigned threads, unsigned connections, unsigned batch, unsigned lies_after,
    struct engine_totals *totals)
{
	static struct address_list addresses;
	struct engine_config config;
	struct engine_result result;
	struct pair_server server;
	struct engine *engine;
	pthread_t thread[8];
	unsigned i;

	server.listener = listen_somewhere(&addresses);
	server.lies_after = lies_after;
	for (i = 0; i < connections; i++) {
		if (pthread_create(&thread[i], NULL, serve_connection, &server) != 0)
			exit(1);
	}

	memset(&config, 0, sizeof(config));
	config.protocol = &pair_protocol;
	config.message_max = PAIR_MESSAGE;
	config.addresses = &addresses;
	config.threads = threads;
	config.connections = connections;
	config.active = connections;
	config.in_flight = 2 * 8 * connections / threads;
	config.batch = batch;
	config.count = 4096;
	config.timeout_ns = config.connect_timeout_ns = 2 * CLOCK_NS_PER_S;
	if (engine_create(&config, &engine) != 0 || engine_run(engine, NULL, NULL, &result) != 0)
		exit(1);
	if (lies_after == 0 && engine_run(engine, NULL, NULL, &result) != 0)
		exit(1);
	*totals = result.total;
	engine_destroy(engine);
	for (i = 0; i < connections; i++)
		pthread_join(thread[i], NULL);
	close(server.listener);
}

static uint64_t
count_errors(const struct engine_totals *totals)
{
	uint64_t errors;
	unsigned i;

	errors = 0;
	for (i = 0; i < ENGINE_ERRORS; i++)
		errors += totals->errors[i];
	return (errors);
}

static void
test_engine(void)
{
	struct engine_totals totals;
	int saved;

	run_engine(1, 1, 1, 0, &totals);
	check(totals.messages.completed == 4096 && totals.messages.reordered == 2048 &&
		  count_errors(&totals) == 0,
	    "engine: one connection, replies in another order");
	run_engine(1, 4, 4, 0, &totals);
	check(totals.messages.completed == 4096 && totals.messages.reordered == 2048 &&
		  count_errors(&totals) == 0,
	    "engine: four connections of one thread, in batches");
	run_engine(2, 2, 16, 0, &totals);
	check(totals.messages.completed == 8192 && count_errors(&totals) == 0,
	    "engine: two threads, in batches");
	saved = hide_messages();
	run_engine(1, 1, 1, 100, &totals);
	restore_messages(saved);
	check(totals.errors[ENGINE_ERROR_CORRUPT] == 1 && count_errors(&totals) == 1 &&
		  totals.messages.completed >= 199,
	    "engine: a wrong reply ends its connection and is counted");
}

int
main(void)
{
	test_numbers();
	test_addresses();
	test_pattern();
	test_window();
	test_json();
	test_threads();
	test_evqueue();
	test_engine();
	printf("1..%u\n", tests);
	return (failures > 0 ? 1 : 0);
}
