/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Segments for hosts that have none of their own (user and Linux): memory in three sizes, recycled
 * by the worker that frees it, so that a connection's steady state allocates nothing. Any context;
 * never sleeps.
 *
 * One block of memory holds the store (reference count), the first segment onto it, and the bytes.
 * Further segments onto the same store, and foreign memory, use a block of the smallest size for
 * their header.
 */
#include "kbuf_cache.h"
#include "atomic.h"

#include "../host/host.h"

#define KBUF_EMBEDDED 0x1u /* the segment lives in its store's block */

struct kbuf_store {
	uint32_t refs;         /* (a) segments that refer to this memory */
	uint8_t class;         /* (c) enum kbuf_class of the block */
	uint32_t size;         /* (c) bytes at base */
	uint8_t *base;         /* (c) */
	kbuf_free_fn *free_fn; /* (c) foreign memory: how to release it */
	void *arg;             /* (c) */
	struct kbuf first;     /* the embedded segment */
};

/* A block on a free list. */
struct kbuf_block {
	struct kbuf_block *next;
};

static const struct {
	size_t size;   /* bytes of a block */
	unsigned keep; /* blocks of this size that one cache keeps */
} classes[KBUF_CLASSES] = {
	[KBUF_HEADER] = { sizeof(struct kbuf_store), 512 },
	[KBUF_SMALL] = { 512, 512 },
	[KBUF_PAGE] = { 4096, 128 },
	[KBUF_LARGE] = { sizeof(struct kbuf_store) + KBUF_SEG_MAX, 80 },
};

void
kbuf_cache_init(struct kbuf_cache *cache)
{
	memset(cache, 0, sizeof(*cache));
}

void
kbuf_cache_drain(struct kbuf_cache *cache)
{
	struct kbuf_block *block;

	for (unsigned class = 0; class < KBUF_CLASSES; class ++) {
		while ((block = cache->free[class]) != NULL) {
			cache->free[class] = block->next;
			host_free(block, classes[class].size);
		}
		cache->count[class] = 0;
	}
}

static void *block_alloc(enum kbuf_class class)
{
	struct kbuf_cache *cache = host_kbuf_cache();
	struct kbuf_block *block;

	if (cache == NULL)
		return (host_alloc(classes[class].size));
	block = cache->free[class];
	if (ksf_likely(block != NULL)) {
		cache->free[class] = block->next;
		cache->count[class]--;
		return (block);
	}
	ksf_store_relaxed(&cache->allocated, cache->allocated + 1);
	return (host_alloc(classes[class].size));
}

static void
block_free(void *mem, enum kbuf_class class)
{
	struct kbuf_cache *cache = host_kbuf_cache();
	struct kbuf_block *block = mem;

	if (cache == NULL || cache->count[class] >= classes[class].keep) {
		host_free(mem, classes[class].size);
		return;
	}
	block->next = cache->free[class];
	cache->free[class] = block;
	cache->count[class]++;
}

static void
store_rele(struct kbuf_store *store)
{
	/* The only holder needs no atomic read-modify-write: nobody else can take a reference. */
	if (ksf_load_acquire(&store->refs) != 1 && ksf_fetch_sub(&store->refs, 1) != 1)
		return;
	if (store->free_fn != NULL)
		store->free_fn(store->base, store->size, store->arg);
	if (store->class == KBUF_OVERSIZE)
		host_free(store, sizeof(*store) + store->size);
	else
		block_free(store, store->class);
}

static void
segment_init(struct kbuf *seg, struct kbuf_store *store, uint8_t *data, size_t len, uint32_t flags)
{
	seg->next = NULL;
	seg->nextpkt = NULL;
	seg->data = data;
	seg->store = store;
	seg->len = (uint32_t)len;
	seg->flags = flags;
}

struct kbuf *
kbuf_alloc(size_t size)
{
	struct kbuf_store *store;
	size_t total = sizeof(*store) + size;
	enum kbuf_class class;

	if (size > UINT32_MAX)
		return (NULL);
	for (class = KBUF_SMALL; class < KBUF_CLASSES && total > classes[class].size; class ++)
		continue;
	if (class < KBUF_CLASSES) {
		store = block_alloc(class);
		total = classes[class].size;
	} else {
		class = KBUF_OVERSIZE;
		store = host_alloc(total);
	}
	if (store == NULL)
		return (NULL);

	store->refs = 1;
	store->class = (uint8_t) class;
	store->size = (uint32_t)(total - sizeof(*store));
	store->base = (uint8_t *)(store + 1);
	store->free_fn = NULL;
	store->arg = NULL;
	segment_init(&store->first, store, store->base, 0, KBUF_EMBEDDED);
	return (&store->first);
}

struct kbuf *
kbuf_attach(void *mem, size_t len, kbuf_free_fn *free_fn, void *arg)
{
	struct kbuf_store *store;

	if (len > UINT32_MAX)
		return (NULL);
	store = block_alloc(KBUF_HEADER);
	if (store == NULL)
		return (NULL);

	store->refs = 1;
	store->class = KBUF_HEADER;
	store->size = (uint32_t)len;
	store->base = mem;
	store->free_fn = free_fn;
	store->arg = arg;
	segment_init(&store->first, store, mem, len, KBUF_EMBEDDED);
	return (&store->first);
}

struct kbuf *
kbuf_share(struct kbuf *seg, size_t off, size_t len)
{
	struct kbuf *view = block_alloc(KBUF_HEADER);

	if (view == NULL)
		return (NULL);
	ksf_fetch_add(&seg->store->refs, 1);
	segment_init(view, seg->store, seg->data + off, len, 0);
	return (view);
}

void
kbuf_free(struct kbuf *seg)
{
	struct kbuf_store *store = seg->store;

	if (!(seg->flags & KBUF_EMBEDDED))
		block_free(seg, KBUF_HEADER);
	store_rele(store);
}

/* Only memory of our own that no other segment refers to may be written. */
static bool
writable(const struct kbuf *seg)
{
	return (seg->store->class != KBUF_HEADER && ksf_load_acquire(&seg->store->refs) == 1);
}

size_t
kbuf_tailroom(const struct kbuf *seg)
{
	const struct kbuf_store *store = seg->store;

	return (writable(seg) ? (size_t)(store->base + store->size - (seg->data + seg->len)) : 0);
}

size_t
kbuf_headroom(const struct kbuf *seg)
{
	return (writable(seg) ? (size_t)(seg->data - seg->store->base) : 0);
}

size_t
kbuf_truesize(const struct kbuf *seg)
{
	const struct kbuf_store *store = seg->store;
	size_t size = sizeof(*store) + store->size;

	return (seg->flags & KBUF_EMBEDDED ? size : size + classes[KBUF_HEADER].size);
}
