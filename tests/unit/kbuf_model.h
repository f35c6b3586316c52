/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Chains of segments with a model, each chain's bytes in a flat array, and operations on both; for
 * the unit test and the fuzzer, which differ in who chooses. Everything on one thread, but for
 * memory_free() and the counters of the memory under test.
 */
#ifndef KBUF_MODEL_H
#define KBUF_MODEL_H

#include "../../src/core/core.h"

#define CHAINS    6u
#define CHAIN_MAX 60000u /* bytes of one chain in the model */

/*
 * The memory under test: what host_alloc() has given. The program is linked with --wrap=host_alloc
 * and --wrap=host_free.
 */
extern size_t blocks_live;             /* (a) */
extern size_t blocks_taken;            /* (a) calls of host_alloc() */
extern size_t size_errors;             /* (a) host_free() with another size than host_alloc() */
extern _Thread_local unsigned fail_at; /* the n-th call from now returns NULL; 0: none does */

/*
 * Foreign memory: must be given back exactly once, and never be written.
 */
struct memory {
	uint8_t *bytes;
	uint8_t *copy;
	size_t len;
	unsigned freed; /* (a) */
};

struct memory *memory_new(size_t len);
kbuf_free_fn memory_free;

/* Forget those of the last run; all are given back, once and unchanged. */
void memories_forget(void);
bool memories_all_freed(void);

/*
 * A chain and its model.
 */
struct chain {
	struct kbufq q;
	uint8_t *bytes; /* CHAIN_MAX of them */
	size_t len;
};

extern struct chain chains[CHAINS];

void chains_create(void);
void chains_destroy(void);

/* Chains are well formed, and hold the model's bytes. */
bool chain_good(const struct chain *chain);
bool chains_good(void);

/* Add to the model; the caller has made sure that there is room. */
void model_append(struct chain *chain, const void *bytes, size_t len);

/* `len` bytes, at most CHAIN_MAX; the same memory each time. */
const uint8_t *some_bytes(size_t len);

/* Who chooses: returns 0 to n - 1. */
extern uint64_t (*model_choose)(uint64_t n);

/*
 * One operation on one or two different chains, chosen by model_choose(). `*kept`: it did what it
 * promises. Returns its name.
 */
const char *model_step(bool *kept);

#endif
