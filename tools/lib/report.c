/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One iteration as JSON, as a terminal histogram, per thread, and its problems. Main thread only.
 */
#include "report.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "clock.h"
#include "json.h"
#include "message.h"

/* Rows of the terminal histogram up to the 99.9th percentile, and the longest bar. */
#define HISTOGRAM_ROWS 24u
#define HISTOGRAM_BAR  50u

static double
microseconds(double ns)
{
	return (ns / (double)CLOCK_NS_PER_US);
}

static double
seconds(uint64_t ns)
{
	return ((double)ns / (double)CLOCK_NS_PER_S);
}

static double
per_second(double events, uint64_t elapsed_ns)
{
	return (elapsed_ns > 0 ? events / seconds(elapsed_ns) : 0);
}

static void
json_config(
    struct json *json, const struct tool *tool, const struct options *options, const char *address)
{
	const struct engine_config *engine = &options->engine;

	json_open(json, "config");
	json_string(json, "host", options->host);
	json_integer(json, "port", options->port);
	json_string(json, "address", address);
	json_string(json, "proto", engine->datagram ? "udp" : "tcp");
	json_integer(json, "threads", engine->threads);
	json_integer(json, "connections", engine->connections);
	json_integer(json, "active", engine->active);
	json_integer(json, "inflight", engine->in_flight);
	json_integer(json, "batch", engine->batch);
	if (engine->count != UINT64_MAX)
		json_integer(json, "count", engine->count);
	else
		json_null(json, "count");
	if (engine->duration_ns != 0)
		json_number(json, "duration", seconds(engine->duration_ns), 3);
	else
		json_null(json, "duration");
	if (engine->rate > 0)
		json_number(json, "rate", engine->rate, 3);
	else
		json_null(json, "rate");
	tool->json_config(json);
	json_close(json);
}

static void
json_latency(struct json *json, const struct hist *latency)
{
	static const struct {
		const char *key;
		double fraction;
	} values[] = { { "p50", .5 }, { "p90", .9 }, { "p99", .99 }, { "p99.9", .999 },
		{ "max", 1 } };
	unsigned i;

	json_open(json, "latency_us");
	if (latency->count == 0) {
		json_null(json, "min");
		json_null(json, "mean");
	} else {
		json_number(json, "min", microseconds((double)latency->min), 3);
		json_number(json, "mean", microseconds(hist_mean(latency)), 3);
	}
	for (i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		if (latency->count == 0)
			json_null(json, values[i].key);
		else
			json_number(json, values[i].key,
			    microseconds((double)hist_quantile(latency, values[i].fraction)), 3);
	}
	json_close(json);
}

void
report_json(FILE *out, const struct tool *tool, const struct options *options, unsigned iteration,
    const struct engine_result *result)
{
	const struct engine_totals *total = &result->total;
	struct json json;
	unsigned i;

	json_begin(&json, out);
	json_string(&json, "tool", tool->name);
	json_string(&json, "version", KSF_VERSION);
	json_config(&json, tool, options, result->address);
	json_integer(&json, "iteration", iteration);
	json_number(&json, "elapsed_s", seconds(total->elapsed_ns), 6);
	json_integer(&json, "messages", total->messages.completed);
	json_number(
	    &json, "rate", per_second((double)total->messages.completed, total->elapsed_ns), 3);
	json_number(
	    &json, "bytes_per_s", per_second((double)total->rx_bytes, total->elapsed_ns), 0);
	json_latency(&json, result->latency);
	json_open(&json, "errors");
	for (i = 0; i < ENGINE_ERRORS; i++)
		json_integer(&json, engine_error_name(i), total->errors[i]);
	json_close(&json);
	json_integer(&json, "lost", total->messages.lost);
	json_integer(&json, "late", total->messages.late);
	json_integer(&json, "duplicate", total->messages.duplicate);
	json_integer(&json, "reordered", total->messages.reordered);
	json_integer(&json, "unsent", total->unsent);
	json_integer(&json, "connected", result->connected);
	if (total->messages.completed > 0)
		json_number(&json, "cpu_us_per_msg",
		    microseconds((double)total->cpu_ns) / (double)total->messages.completed, 4);
	else
		json_null(&json, "cpu_us_per_msg");
	json_end(&json);
	fflush(out);
}

/* Print one row of the histogram: values from `low` up to but without `high` ns. */
static void
print_bar(FILE *out, uint64_t low, uint64_t high, uint64_t hits, uint64_t most, uint64_t count)
{
	unsigned i, length;

	fprintf(out, "%10.2f - %10.2f us %12" PRIu64 " %6.2f%% ", microseconds((double)low),
	    microseconds((double)high), hits, (double)hits * 100 / (double)count);
	length = (unsigned)(((double)hits * HISTOGRAM_BAR + (double)most - 1) / (double)most);
	for (i = 0; i < length; i++)
		fputc('#', out);
	fputc('\n', out);
}

void
report_histogram(FILE *out, const struct hist *latency)
{
	uint64_t bound[HISTOGRAM_ROWS + 2], hits[HISTOGRAM_ROWS + 1], most;
	double first, last;
	unsigned row;
	size_t i;

	if (latency->count == 0) {
		fprintf(out, "no messages came back\n");
		return;
	}

	/* Rows of equal ratio up to the 99.9th percentile, and one for the rest. */
	first = latency->min > 0 ? (double)latency->min : 1;
	last = (double)hist_quantile(latency, .999) + 1;
	for (row = 0; row <= HISTOGRAM_ROWS; row++)
		bound[row] = (uint64_t)(first * pow(last / first, (double)row / HISTOGRAM_ROWS));
	bound[HISTOGRAM_ROWS + 1] = latency->max + 1;

	memset(hits, 0, sizeof(hits));
	row = 0;
	for (i = 0; hist_next(latency, &i); i++) {
		while (row < HISTOGRAM_ROWS && hist_bucket_low(i) >= bound[row + 1])
			row++;
		hits[row] += latency->bucket[i];
	}
	most = 1;
	for (row = 0; row <= HISTOGRAM_ROWS; row++) {
		if (hits[row] > most)
			most = hits[row];
	}
	for (row = 0; row <= HISTOGRAM_ROWS; row++) {
		if (bound[row] < bound[row + 1] || hits[row] > 0)
			print_bar(out, bound[row], bound[row + 1], hits[row], most, latency->count);
	}
	fflush(out);
}

void
report_threads(FILE *out, const struct engine_result *result)
{
	const struct engine_totals *thread;
	const struct hist *latency;
	unsigned i;

	fprintf(out, "%6s %12s %10s %10s %8s %8s %12s %12s %12s\n", "thread", "messages", "seconds",
	    "cpu_s", "p50_us", "p99_us", "sends", "recvs", "waits");
	for (i = 0; i < result->threads; i++) {
		thread = &result->thread[i].totals;
		latency = result->thread[i].latency;
		fprintf(out,
		    "%6u %12" PRIu64 " %10.3f %10.3f %8.2f %8.2f %12" PRIu64 " %12" PRIu64
		    " %12" PRIu64 "\n",
		    i, thread->messages.completed, seconds(thread->elapsed_ns),
		    seconds(thread->cpu_ns), microseconds((double)hist_quantile(latency, .5)),
		    microseconds((double)hist_quantile(latency, .99)), thread->sends, thread->recvs,
		    thread->waits);
	}
	fflush(out);
}

/* Append "<what> <count>" to a list under construction if the count is not 0. */
static void
append_count(char *text, size_t size, const char *what, uint64_t count)
{
	size_t length;

	if (count == 0)
		return;
	length = strlen(text);
	snprintf(
	    text + length, size - length, "%s%s %" PRIu64, length > 0 ? ", " : "", what, count);
}

void
report_problems(unsigned iteration, const struct engine_result *result)
{
	const struct window_counts *messages = &result->total.messages;
	char errors[256], others[256];
	unsigned i;

	others[0] = '\0';
	append_count(others, sizeof(others), "lost", messages->lost);
	append_count(others, sizeof(others), "late", messages->late);
	append_count(others, sizeof(others), "duplicate", messages->duplicate);
	append_count(others, sizeof(others), "reordered", messages->reordered);
	append_count(others, sizeof(others), "due but not sent", result->total.unsent);
	errors[0] = '\0';
	for (i = 0; i < ENGINE_ERRORS; i++)
		append_count(errors, sizeof(errors), engine_error_name(i), result->total.errors[i]);
	if (others[0] != '\0')
		message("iteration %u: %s", iteration, others);
	if (errors[0] != '\0')
		message("iteration %u: errors: %s", iteration, errors);
}
