/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Log and randomness of the user host. Any thread.
 */
#include "../host.h"

#include <stdlib.h>
#include <sys/random.h>

#include <stdio.h>
#include <time.h>

void
host_log(enum ksf_level level, const char *line)
{
	static const char *const names[] = {
		[KSF_ERR] = "error: ",
		[KSF_WARN] = "warning: ",
		[KSF_INFO] = "",
		[KSF_DEBUG] = "debug: ",
	};

	/* One call, so that lines of several threads do not mix. */
	fprintf(stderr, "%s%s\n", names[level], line);
}

void
host_random(void *buf, size_t len)
{
	struct timespec now;

	if (getrandom(buf, len, 0) == (ssize_t)len)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	memset(buf, 0, len);
	memcpy(buf, &now, len < sizeof(now) ? len : sizeof(now));
}
