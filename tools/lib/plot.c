/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Latency histograms as data files, gnuplot scripts and plots. Main thread only, between
 * iterations.
 */
#include "plot.h"

#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "message.h"

/* Exit status of the child when gnuplot could not be started. */
#define NO_GNUPLOT 127

/* Columns of a plot into which the range of latencies is cut. */
#define PLOT_BINS 400

#define PLOT_NAME_MAX 128

/* Close a file that was written; report any error with it. */
static bool
finish_file(FILE *file, const char *path)
{
	bool failed;

	failed = ferror(file) != 0;
	failed |= fclose(file) != 0;
	if (failed)
		message("%s: %s", path, strerror(errno));
	return (!failed);
}

/* One line per bucket: its lowest latency in ns, the hits of each thread, the hits of all. */
static bool
write_data(const char *path, const struct engine_result *result)
{
	FILE *file;
	unsigned thread;
	size_t i;

	file = fopen(path, "w");
	if (file == NULL) {
		message("%s: %s", path, strerror(errno));
		return (false);
	}
	fprintf(file, "#%11s", "NSECS");
	for (thread = 0; thread < result->threads; thread++)
		fprintf(file, " %6s%04u", "JOB", thread);
	fprintf(file, " %10s\n", "TOTAL");
	for (i = 0; hist_next(result->latency, &i); i++) {
		fprintf(file, "%12" PRIu64, hist_bucket_low(i));
		for (thread = 0; thread < result->threads; thread++)
			fprintf(file, " %10" PRIu64, result->thread[thread].latency->bucket[i]);
		fprintf(file, " %10" PRIu64 "\n", result->latency->bucket[i]);
	}
	return (finish_file(file, path));
}

/* Write `text` as a double-quoted gnuplot string. */
static void
write_quoted(FILE *file, const char *text)
{
	fputc('"', file);
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', file);
		fputc(*text, file);
	}
	fputc('"', file);
}

/* The script names its files without their directory: gnuplot runs there. */
static bool
write_script(const char *path, const char *base, bool svg, const char *title,
    const struct engine_result *result)
{
	double bin, max, min;
	FILE *file;

	file = fopen(path, "w");
	if (file == NULL) {
		message("%s: %s", path, strerror(errno));
		return (false);
	}

	/* From the fastest message to the 99.9th percentile: the last few would flatten the rest.
	 */
	min = (double)result->latency->min / (double)CLOCK_NS_PER_US;
	max = (double)hist_quantile(result->latency, .999) / (double)CLOCK_NS_PER_US;
	bin = (max - min) / PLOT_BINS;
	if (bin < 1e-3)
		bin = 1e-3;

	fprintf(file, "set terminal %s size 1600,600\n", svg ? "svg" : "png");
	fprintf(file, "set output \"%s.%s\"\n", base, svg ? "svg" : "png");
	fputs("set title ", file);
	write_quoted(file, title);
	fputs(" noenhanced\n", file);
	fprintf(file, "set xlabel \"latency (microseconds, up to the 99.9th percentile)\"\n"
		      "set ylabel \"messages\"\n"
		      "set grid\n"
		      "set tics front\n"
		      "set yrange [0:*]\n");
	fprintf(file, "set xrange [%.3f:%.3f]\n", min, max + bin);
	fprintf(file, "bin(us) = %.6f * floor(us / %.6f)\n", bin, bin);
	fprintf(file,
	    "plot \"%s.data\" using (bin($1 / 1000.0)):%u smooth frequency with fillsteps "
	    "fill solid linecolor rgb \"#3465a4\" title \"all threads\"\n",
	    base, result->threads + 2);
	return (finish_file(file, path));
}

/* Run gnuplot in `directory`. */
static void
run_gnuplot(const char *directory, const char *script)
{
	static bool missing;
	pid_t child;
	int status;

	if (missing)
		return;
	child = fork();
	if (child == 0) {
		if (chdir(directory) == 0)
			execlp("gnuplot", "gnuplot", script, (char *)NULL);
		_exit(NO_GNUPLOT);
	}
	if (child == -1 || waitpid(child, &status, 0) == -1) {
		message("gnuplot: %s", strerror(errno));
		return;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == NO_GNUPLOT) {
		missing = true;
		message(
		    "gnuplot is not installed: no plots, only data and scripts in %s", directory);
	} else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		message("gnuplot could not plot %s/%s", directory, script);
	}
}

bool
plot_write(const char *directory, const char *name, unsigned iteration, bool svg, const char *title,
    const struct engine_result *result)
{
	char base[PLOT_NAME_MAX], path[PATH_MAX], script[PLOT_NAME_MAX + 16];

	if (mkdir(directory, 0777) != 0 && errno != EEXIST) {
		message("%s: %s", directory, strerror(errno));
		return (false);
	}
	if (strlen(directory) + PLOT_NAME_MAX >= PATH_MAX) {
		message("%s: %s", directory, strerror(ENAMETOOLONG));
		return (false);
	}
	if (result->latency->count == 0) {
		message("no messages came back: nothing to plot");
		return (true);
	}

	snprintf(base, sizeof(base), "%s.%u", name, iteration);
	snprintf(path, sizeof(path), "%s/%s.data", directory, base);
	if (!write_data(path, result))
		return (false);
	snprintf(script, sizeof(script), "%s.gnuplot", base);
	snprintf(path, sizeof(path), "%s/%s", directory, script);
	if (!write_script(path, base, svg, title, result))
		return (false);
	run_gnuplot(directory, script);
	return (true);
}
