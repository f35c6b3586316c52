/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The results as a table on stdout. Main thread only, between iterations.
 */
#include "table.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "message.h"

void
table_init(struct table *table, const struct tool *tool, const struct options *options)
{
	memset(table, 0, sizeof(*table));
	table->tool = tool;
	table->options = options;
}

void
table_destroy(struct table *table)
{
	free(table->rates);
	free(table->latency);
}

/* Insert a value into an ascending array that has room for it. */
static void
insert_sorted(double *values, size_t count, double value)
{
	size_t i;

	for (i = count; i > 0 && values[i - 1] > value; i--)
		values[i] = values[i - 1];
	values[i] = value;
}

/* Remember an iteration for the running values; without memory it stays out of them. */
static void
remember(struct table *table, double rate, double latency)
{
	double *latencies, *rates;
	size_t room;

	if (table->rows == table->room) {
		room = table->room > 0 ? table->room * 2 : 64;
		rates = realloc(table->rates, room * sizeof(*rates));
		if (rates != NULL)
			table->rates = rates;
		latencies = realloc(table->latency, room * sizeof(*latencies));
		if (latencies != NULL)
			table->latency = latencies;
		if (rates == NULL || latencies == NULL) {
			message("no memory for the running values");
			return;
		}
		table->room = room;
	}
	insert_sorted(table->rates, table->rows, rate);
	insert_sorted(table->latency, table->rows, latency);
	table->rows++;
}

/* The running value over ascending ones: their median, or their average if asked for. */
static double
running_value(const struct table *table, const double *values)
{
	double sum;
	size_t i;

	if (table->rows == 0)
		return (0);
	if (!table->options->running_average)
		return ((values[(table->rows - 1) / 2] + values[table->rows / 2]) / 2);
	sum = 0;
	for (i = 0; i < table->rows; i++)
		sum += values[i];
	return (sum / (double)table->rows);
}

/* Print nanoseconds as microseconds, with as many decimals as the column has room for. */
static void
print_latency(int width, double ns)
{
	double us;

	us = ns / (double)CLOCK_NS_PER_US;
	printf(" %*.*f", width, us < 1000 ? 2 : us < 100000 ? 1 : 0, us);
}

/* Print `prefix` and the name of the messages, right-aligned. */
static void
print_heading(const struct table *table, int width, const char *prefix)
{
	char heading[32];

	snprintf(heading, sizeof(heading), "%s%s", prefix, table->tool->message_name);
	printf(" %*s", width, heading);
}

static void
print_headers(const struct table *table)
{
	const struct options *options = table->options;
	const char *running;
	unsigned i;

	running = options->running_average ? "Avg" : "Med";
	printf("%10s %3s %4s", "Date", "TD", "INF");
	print_heading(table, 8, running);
	printf(" %4sLat %8s %7s", running, "Mbps", "MinLat");
	for (i = 0; i < options->nquantiles; i++)
		printf(" %7.*f", options->quantiles[i] == floor(options->quantiles[i]) ? 0 : 1,
		    options->quantiles[i]);
	printf(" %8s", "MaxLat");
	if (options->extended) {
		print_heading(table, 10, "Total");
		printf(" %8s %8s %8s", "MinTime", "MedTime", "MaxTime");
		print_heading(table, 8, "Min");
		print_heading(table, 8, "Med");
		print_heading(table, 8, "Max");
		printf(" %7s %6s %6s %6s %6s", "CPU/msg", "Lost", "Late", "Dup", "Reord");
		printf(" %6s", "Errors");
	}
	putchar('\n');
}

static int
compare_times(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a < b ? -1 : a > b);
}

/* Events per second, 0 when no time has passed. */
static double
per_second(double events, uint64_t elapsed_ns)
{
	return (elapsed_ns > 0 ? events * (double)CLOCK_NS_PER_S / (double)elapsed_ns : 0);
}

/* Print the columns that -x adds. */
static void
print_extended(const struct engine_result *result)
{
	const struct engine_totals *total = &result->total;
	uint64_t errors, max, median, min, times[ENGINE_THREADS_MAX] = { 0 };
	double completed;
	unsigned i;

	for (i = 0; i < result->threads; i++)
		times[i] = result->thread[i].totals.elapsed_ns;
	qsort(times, result->threads, sizeof(times[0]), compare_times);
	min = times[0];
	median = times[result->threads / 2];
	max = times[result->threads - 1];
	errors = 0;
	for (i = 0; i < ENGINE_ERRORS; i++)
		errors += total->errors[i];

	completed = (double)total->messages.completed;
	printf(" %10" PRIu64 " %8.3f %8.3f %8.3f %8.0f %8.0f %8.0f", total->messages.completed,
	    (double)min / (double)CLOCK_NS_PER_S, (double)median / (double)CLOCK_NS_PER_S,
	    (double)max / (double)CLOCK_NS_PER_S, per_second(completed, max),
	    per_second(completed, median), per_second(completed, min));
	printf(" %7.3f %6" PRIu64 " %6" PRIu64 " %6" PRIu64 " %6" PRIu64 " %6" PRIu64,
	    completed > 0 ? (double)total->cpu_ns / (double)CLOCK_NS_PER_US / completed : 0,
	    total->messages.lost, total->messages.late, total->messages.duplicate,
	    total->messages.reordered, errors);
}

void
table_add(struct table *table, const struct engine_result *result)
{
	const struct options *options = table->options;
	const struct hist *latency = result->latency;
	uint64_t bytes;
	unsigned i;

	if (options->headers && !table->headed)
		print_headers(table);
	table->headed = true;

	if (result->total.messages.completed > 0)
		remember(table,
		    per_second((double)result->total.messages.completed, result->total.elapsed_ns),
		    (double)hist_quantile(latency, 0.5));
	bytes = result->total.rx_bytes;
	if (table->tool->both_directions)
		bytes += result->total.tx_bytes;

	printf("%10jd %3u %4u %8.0f", (intmax_t)time(NULL), options->engine.threads,
	    options->engine.in_flight, running_value(table, table->rates));
	print_latency(7, running_value(table, table->latency));
	printf(" %8.1f", per_second((double)bytes * 8 / 1e6, result->total.elapsed_ns));
	print_latency(7, latency->count > 0 ? (double)latency->min : 0);
	for (i = 0; i < options->nquantiles; i++)
		print_latency(7, (double)hist_quantile(latency, options->quantiles[i] / 100));
	print_latency(8, (double)latency->max);
	if (options->extended)
		print_extended(result);
	putchar('\n');
	fflush(stdout);
}
