/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The model of kbufs, and the memory under test. The functions of host_alloc() and host_free() are
 * replaced by the linker (--wrap).
 */
#include "kbuf_model.h"

#include <stdlib.h>

#define MEMORIES 4096u /* foreign memories of one run */

uint64_t (*model_choose)(uint64_t n);

/* A byte that is hard to foresee: contents need no say of model_choose(). */
static uint8_t
some_byte(void)
{
	static uint32_t state;

	state = state * 1664525 + 1013904223;
	return ((uint8_t)(state >> 24));
}

/*
 * The memory under test.
 */
struct block {
	size_t size;
	size_t guard; /* keeps the alignment of 16 */
};

size_t blocks_live;             /* (a) */
size_t blocks_taken;            /* (a) calls of host_alloc() */
size_t size_errors;             /* (a) host_free() with another size than host_alloc() */
_Thread_local unsigned fail_at; /* the n-th call from now returns NULL; 0: none does */

void *__wrap_host_alloc(size_t size);
void __wrap_host_free(void *mem, size_t size);

void *
__wrap_host_alloc(size_t size)
{
	struct block *block;

	if (fail_at != 0 && --fail_at == 0)
		return (NULL);
	block = malloc(sizeof(*block) + size);
	if (block == NULL)
		return (NULL);
	block->size = size;
	memset(block + 1, 0xa5, size < 256 ? size : 256);
	ksf_fetch_add(&blocks_live, 1);
	ksf_fetch_add(&blocks_taken, 1);
	return (block + 1);
}

void
__wrap_host_free(void *mem, size_t size)
{
	struct block *block = mem;

	if (mem == NULL)
		return;
	block--;
	if (block->size != size)
		ksf_fetch_add(&size_errors, 1);
	ksf_fetch_sub(&blocks_live, 1);
	free(block);
}

/*
 * Foreign memory: must be given back exactly once, and never be written.
 */
static struct memory memories[MEMORIES];
static unsigned nmemories;
static unsigned memory_errors; /* (a) */

void
memory_free(void *mem, size_t len, void *arg)
{
	struct memory *memory = arg;

	if (mem != memory->bytes || len != memory->len ||
	    memcmp(memory->bytes, memory->copy, len) != 0)
		ksf_fetch_add(&memory_errors, 1);
	if (ksf_fetch_add(&memory->freed, 1) == 0) {
		free(memory->bytes);
		free(memory->copy);
	}
}

struct memory *
memory_new(size_t len)
{
	struct memory *memory = &memories[nmemories++];

	memory->len = len;
	memory->freed = 0;
	memory->bytes = malloc(len + 1);
	memory->copy = malloc(len + 1);
	if (memory->bytes == NULL || memory->copy == NULL)
		abort();
	for (size_t i = 0; i < len; i++)
		memory->bytes[i] = some_byte();
	memcpy(memory->copy, memory->bytes, len);
	return (memory);
}

void
memories_forget(void)
{
	nmemories = 0;
}

bool
memories_all_freed(void)
{
	for (unsigned i = 0; i < nmemories; i++) {
		if (memories[i].freed != 1)
			return (false);
	}
	return (memory_errors == 0);
}

/*
 * A chain and its model.
 */
struct chain chains[CHAINS];

/* The chain is well formed and holds the model's bytes. */
bool
chain_good(const struct chain *chain)
{
	const struct kbuf *seg, *last = NULL;
	size_t off = 0;

	KBUF_FOREACH(seg, &chain->q) {
		if (off + kbuf_len(seg) > chain->len ||
		    memcmp(kbuf_data(seg), chain->bytes + off, kbuf_len(seg)) != 0)
			return (false);
		off += kbuf_len(seg);
		last = seg;
	}
	return (off == chain->len && chain->q.len == chain->len &&
		(last == NULL || last == chain->q.tail));
}

bool
chains_good(void)
{
	for (unsigned i = 0; i < CHAINS; i++) {
		if (!chain_good(&chains[i]))
			return (false);
	}
	return (true);
}

void
chains_create(void)
{
	for (unsigned i = 0; i < CHAINS; i++) {
		kbufq_init(&chains[i].q);
		chains[i].bytes = malloc(CHAIN_MAX);
		chains[i].len = 0;
		if (chains[i].bytes == NULL)
			abort();
	}
}

void
chains_destroy(void)
{
	for (unsigned i = 0; i < CHAINS; i++) {
		kbufq_clear(&chains[i].q);
		free(chains[i].bytes);
	}
}

/* Add to the model; the caller has made sure that there is room. */
void
model_append(struct chain *chain, const void *bytes, size_t len)
{
	memcpy(chain->bytes + chain->len, bytes, len);
	chain->len += len;
}

static void
model_prepend(struct chain *chain, const void *bytes, size_t len)
{
	memmove(chain->bytes + len, chain->bytes, chain->len);
	memcpy(chain->bytes, bytes, len);
	chain->len += len;
}

static void
model_trim_front(struct chain *chain, size_t len)
{
	chain->len -= len;
	memmove(chain->bytes, chain->bytes + len, chain->len);
}

/* Random bytes, the same memory each time. */
const uint8_t *
some_bytes(size_t len)
{
	static uint8_t bytes[CHAIN_MAX];
	static size_t filled;
	size_t start;

	while (filled < sizeof(bytes))
		bytes[filled++] = some_byte();
	start = model_choose(sizeof(bytes) - len + 1);
	bytes[start] ^= some_byte();
	return (bytes + start);
}

/* Mostly short, sometimes long, always fitting into what the chain may still take. */
static size_t
some_len(const struct chain *chain)
{
	static const unsigned scales[] = { 4, 100, 600, 5000, 30000 };
	size_t len = model_choose(scales[model_choose(ksf_nelem(scales))] + 1);

	return (ksf_min(len, CHAIN_MAX - chain->len));
}

/* An offset of the chain: often one of its ends. */
static size_t
some_offset(const struct chain *chain)
{
	switch (model_choose(6)) {
	case 0:
		return (0);
	case 1:
		return (chain->len);
	default:
		return (model_choose(chain->len + 1));
	}
}

/*
 * The operations. Each does one thing to a chain and its model; with an allocation failing
 * (fail_at) the model stays. False: the operation did not do what it promises.
 */
static bool
op_append(struct chain *chain, struct chain *other)
{
	size_t len = some_len(chain);
	const uint8_t *bytes = some_bytes(len);
	struct kbuf *seg = kbuf_alloc(len + model_choose(50));

	(void)other;
	if (seg == NULL)
		return (true);
	if (kbuf_tailroom(seg) < len || kbuf_len(seg) != 0)
		return (false);
	memcpy(kbuf_data(seg), bytes, len);
	kbuf_set_window(seg, kbuf_data(seg), len);
	if (model_choose(2) == 0) {
		kbufq_append(&chain->q, seg);
		model_append(chain, bytes, len);
	} else {
		kbufq_prepend(&chain->q, seg);
		model_prepend(chain, bytes, len);
	}
	return (true);
}

static bool
op_attach(struct chain *chain, struct chain *other)
{
	struct memory *memory;
	struct kbuf *seg;

	(void)other;
	if (nmemories == MEMORIES)
		return (true);
	memory = memory_new(some_len(chain));
	seg = kbuf_attach(memory->bytes, memory->len, memory_free, memory);
	if (seg == NULL) {
		/* Still ours. */
		memory_free(memory->bytes, memory->len, memory);
		return (memory->freed == 1);
	}
	if (kbuf_tailroom(seg) != 0 || kbuf_headroom(seg) != 0)
		return (false);
	kbufq_append(&chain->q, seg);
	model_append(chain, memory->copy, memory->len);
	return (true);
}

static bool
op_write(struct chain *chain, struct chain *other)
{
	size_t len = some_len(chain);
	const uint8_t *bytes = some_bytes(len);
	int error = kbufq_write(&chain->q, bytes, len);

	(void)other;
	if (error == 0)
		model_append(chain, bytes, len);
	return (error == 0 || error == ENOMEM);
}

static bool
op_reserve(struct chain *chain, struct chain *other)
{
	size_t len = some_len(chain), used = model_choose(len + 1);
	const uint8_t *bytes = some_bytes(used);
	uint8_t *to = kbufq_reserve(&chain->q, len);

	(void)other;
	if (to == NULL)
		return (true);
	memset(to, 0x5a, len);
	memcpy(to, bytes, used);
	kbufq_commit(&chain->q, used);
	model_append(chain, bytes, used);
	return (true);
}

static bool
op_prepend_space(struct chain *chain, struct chain *other)
{
	size_t len = some_len(chain);
	const uint8_t *bytes = some_bytes(len);
	uint8_t *to = kbufq_prepend_space(&chain->q, len);

	(void)other;
	if (to == NULL)
		return (true);
	memcpy(to, bytes, len);
	model_prepend(chain, bytes, len);
	return (true);
}

static bool
op_split(struct chain *chain, struct chain *other)
{
	size_t len = some_offset(chain);
	int error;

	if (kbufq_split(&chain->q, chain->len + 1, &other->q) != EMSGSIZE)
		return (false);
	if (len > CHAIN_MAX - other->len)
		return (true);
	error = kbufq_split(&chain->q, len, &other->q);
	if (error == 0) {
		model_append(other, chain->bytes, len);
		model_trim_front(chain, len);
	}
	return (error == 0 || error == ENOMEM);
}

static bool
op_trim(struct chain *chain, struct chain *other)
{
	size_t len = some_offset(chain);
	bool beyond = len == chain->len && model_choose(2) == 0;

	(void)other;
	if (model_choose(2) == 0) {
		kbufq_trim_front(&chain->q, beyond ? len + 1 : len);
		model_trim_front(chain, len);
	} else {
		kbufq_trim_back(&chain->q, beyond ? len + 1 : len);
		chain->len -= len;
	}
	return (true);
}

static bool
op_copyout(struct chain *chain, struct chain *other)
{
	static uint8_t bytes[CHAIN_MAX];
	size_t off = some_offset(chain), len = model_choose(chain->len - off + 1);

	(void)other;
	if (kbufq_copyout(&chain->q, off, bytes, chain->len - off + 1) != EMSGSIZE ||
	    kbufq_copyout(&chain->q, chain->len + 1, bytes, 0) != EMSGSIZE ||
	    kbufq_copyout(&chain->q, 1, bytes, SIZE_MAX) != EMSGSIZE)
		return (false);
	return (kbufq_copyout(&chain->q, off, bytes, len) == 0 &&
		memcmp(bytes, chain->bytes + off, len) == 0);
}

static bool
op_pullup(struct chain *chain, struct chain *other)
{
	size_t len = some_offset(chain);
	bool may_fail = fail_at != 0 || chain->q.head == NULL;
	const uint8_t *bytes;

	(void)other;
	if (kbufq_pullup(&chain->q, chain->len + 1) != NULL)
		return (false);
	bytes = kbufq_pullup(&chain->q, len);
	return (bytes != NULL ? memcmp(bytes, chain->bytes, len) == 0 : may_fail);
}

static bool
op_share(struct chain *chain, struct chain *other)
{
	size_t off = some_offset(chain), len = model_choose(chain->len - off + 1);
	int error;

	if (kbufq_share(&other->q, &chain->q, off, chain->len - off + 1) != EMSGSIZE)
		return (false);
	len = ksf_min(len, CHAIN_MAX - other->len);
	error = kbufq_share(&other->q, &chain->q, off, len);
	if (error == 0)
		model_append(other, chain->bytes + off, len);
	return (error == 0 || error == ENOMEM);
}

static bool
op_concat(struct chain *chain, struct chain *other)
{
	if (chain->len > CHAIN_MAX - other->len)
		return (true);
	kbufq_concat(&other->q, &chain->q);
	model_append(other, chain->bytes, chain->len);
	chain->len = 0;
	return (kbufq_len(&chain->q) == 0 && chain->q.head == NULL);
}

static bool
op_compact(struct chain *chain, struct chain *other)
{
	(void)other;
	kbufq_compact(&chain->q);
	return (true);
}

static bool
op_clear(struct chain *chain, struct chain *other)
{
	(void)other;
	kbufq_clear(&chain->q);
	chain->len = 0;
	return (chain->q.head == NULL);
}

static const struct {
	const char *name;
	bool (*fn)(struct chain *chain, struct chain *other);
	unsigned weight;
} operations[] = {
	{ "append", op_append, 10 },
	{ "attach", op_attach, 3 },
	{ "write", op_write, 20 },
	{ "reserve", op_reserve, 12 },
	{ "prepend_space", op_prepend_space, 12 },
	{ "split", op_split, 16 },
	{ "trim", op_trim, 8 },
	{ "copyout", op_copyout, 6 },
	{ "pullup", op_pullup, 8 },
	{ "share", op_share, 14 },
	{ "concat", op_concat, 6 },
	{ "compact", op_compact, 3 },
	{ "clear", op_clear, 2 },
};

const char *
model_step(bool *kept)
{
	unsigned a = (unsigned)model_choose(CHAINS),
		 b = (a + 1 + (unsigned)model_choose(CHAINS - 1)) % CHAINS;
	unsigned total = 0, i, pick;

	for (i = 0; i < ksf_nelem(operations); i++)
		total += operations[i].weight;
	pick = (unsigned)model_choose(total);
	for (i = 0; pick >= operations[i].weight; i++)
		pick -= operations[i].weight;
	*kept = operations[i].fn(&chains[a], &chains[b]);
	return (operations[i].name);
}
