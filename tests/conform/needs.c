/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tries whether the machine gives a check what it needs, and raises limits where it may. Runs at
 * the start of a check's process, before any thread of its own; leaves nothing open.
 */
#include <sys/resource.h>

#include <netinet/in.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "needs.h"
#include "net.h"

/* Any privileged port that is free shows the permission; EADDRINUSE says nothing of it. */
static void
require_privileged_port(struct run *run)
{
	int error = EADDRINUSE;

	for (uint16_t port = 1023; port >= 600 && error == EADDRINUSE; port--) {
		int fd = net_socket(run, SOCK_DGRAM);

		error = net_bind_port(run, fd, port);
		close(fd);
	}
	if (error != 0)
		run_skip(run, "cannot bind a source port below 1024: %s", strerror(error));
}

static void
require_raw_socket(struct run *run)
{
	int fd = socket(run->target->address.generic.sa_family, SOCK_RAW, IPPROTO_UDP);

	if (fd < 0)
		run_skip(run, "cannot open a raw socket: %s", strerror(errno));
	close(fd);
}

static void
require_files(struct run *run, rlim_t files)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		run_skip(run, "cannot read the limit of open files: %s", strerror(errno));
	if (limit.rlim_cur >= files)
		return;
	limit.rlim_cur = files;
	if (limit.rlim_max < files)
		limit.rlim_max = files;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		run_skip(run, "cannot raise the limit of open files to %ju: %s", (uintmax_t)files,
		    strerror(errno));
}

void
needs_require(struct run *run, unsigned needs)
{
	if ((needs & NEEDS_PRIVILEGED_PORT) != 0)
		require_privileged_port(run);
	if ((needs & NEEDS_RAW_SOCKET) != 0)
		require_raw_socket(run);
	if ((needs & NEEDS_MANY_FILES) != 0)
		require_files(run, run_size(run, MANY_FILES, MANY_FILES_QUICK));
}

void
needs_describe(unsigned needs, char *buffer, size_t size)
{
	static const struct {
		unsigned need;
		const char *words;
	} names[] = {
		{ NEEDS_PRIVILEGED_PORT, "privileged ports" },
		{ NEEDS_RAW_SOCKET, "raw sockets" },
		{ NEEDS_MANY_FILES, "many open files" },
	};

	buffer[0] = '\0';
	for (size_t i = 0; i < COUNT_OF(names); i++) {
		size_t used = strlen(buffer);

		if ((needs & names[i].need) != 0)
			snprintf(buffer + used, size - used, "%s%s", used > 0 ? ", " : "",
			    names[i].words);
	}
}
