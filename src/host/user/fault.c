/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Decides which calls fail in a build with fault injection. Any thread; the counters are shared by
 * all.
 */
#include "sys.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#ifdef KSF_FAULT

static unsigned every[FAULT_COUNT];
static unsigned skip_allocs; /* allocations that succeed first, so that the service can start */
static atomic_uint calls[FAULT_COUNT];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
read_environment(void)
{
	static const char *const names[FAULT_COUNT] = { "alloc=", "again=", "short=" };
	const char *text = getenv("KSF_FAULT"), *found;

	for (unsigned kind = 0; text != NULL && kind < FAULT_COUNT; kind++) {
		found = strstr(text, names[kind]);
		if (found != NULL)
			every[kind] = (unsigned)strtoul(found + strlen(names[kind]), NULL, 10);
	}
	found = text != NULL ? strstr(text, "skip=") : NULL;
	if (found != NULL)
		skip_allocs = (unsigned)strtoul(found + strlen("skip="), NULL, 10);
}

bool
fault_planned(enum fault kind)
{
	pthread_once(&once, read_environment);
	return (every[kind] != 0);
}

bool
fault_now(enum fault kind)
{
	unsigned call;

	if (!fault_planned(kind))
		return (false);
	call = atomic_fetch_add(&calls[kind], 1) + 1;
	if (kind == FAULT_ALLOC && call <= skip_allocs)
		return (false);
	return (call % every[kind] == 0);
}

#endif
