/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A worker's free lists of segment memory. Used by one thread at a time, without a lock.
 */
#ifndef KSF_KBUF_CACHE_H
#define KSF_KBUF_CACHE_H

#include <ksf/kbuf.h>

enum kbuf_class {
	KBUF_HEADER, /* no bytes: a view onto another segment's memory, or foreign memory */
	KBUF_SMALL,  /* headers, short replies */
	KBUF_PAGE,
	KBUF_LARGE, /* KBUF_SEG_MAX bytes: what a receive call fills */
	KBUF_CLASSES,
	KBUF_OVERSIZE = KBUF_CLASSES, /* larger; never recycled */
};

struct kbuf_block;

struct kbuf_cache {
	struct kbuf_block *free[KBUF_CLASSES];
	unsigned count[KBUF_CLASSES]; /* blocks in each list */
	uint64_t allocated;           /* (a) blocks that had to come from the system */
};

void kbuf_cache_init(struct kbuf_cache *cache);

/* Give all memory back to the system. */
void kbuf_cache_drain(struct kbuf_cache *cache);

#endif
