/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory of the user host: the C library's, and each worker's recycled segments. Any thread.
 */
#include "../host.h"
#include "../../core/pool.h"
#include "sys.h"

#include <stdlib.h>

void *
host_alloc(size_t size)
{
	if (fault_now(FAULT_ALLOC))
		return (NULL);
	return (malloc(size));
}

void
host_free(void *mem, size_t size)
{
	(void)size;
	free(mem);
}

struct kbuf_cache *
host_kbuf_cache(void)
{
	struct ksf_worker *worker = host_self();

	/* Recycled segments would hide most of the allocations that are to fail. */
	if (fault_planned(FAULT_ALLOC))
		return (NULL);
	return (worker != NULL ? &worker->cache : NULL);
}
