/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Segments and chains (<ksf/kbuf.h>) against a model. Long random sequences of all operations on
 * chains that share segments, with every allocation failing in turn; sizes, compaction, a worker's
 * cache, threads. The main thread, but for the last.
 */
#include "../../src/core/kbuf_cache.h"
#include "kbuf_model.h"

#include <pthread.h>

#include "tap.h"

static struct ksf_worker worker; /* only its cache is used */

/* From here on this thread recycles segments as a worker does. */
static void
cache_begin(void)
{
	kbuf_cache_init(&worker.cache);
	host_self_set(&worker);
}

static void
cache_end(void)
{
	kbuf_cache_drain(&worker.cache);
	host_self_set(NULL);
}

/* A run of random operations; every `failing`-th has an allocation fail, 0: none. */
static void
test_random(const char *what, unsigned steps, unsigned failing, bool cached)
{
	size_t before = blocks_live;
	bool good = true;
	const char *op = "";
	unsigned i;

	memories_forget();
	if (cached)
		cache_begin();
	chains_create();
	for (i = 0; i < steps && good; i++) {
		if (failing != 0 && i % failing == 0)
			fail_at = 1 + (unsigned)random_below(3);
		op = model_step(&good);
		fail_at = 0;
		good = good && chains_good();
	}
	ok(good, "%s: %u random operations%s%s", what, i, good ? "" : ", failed at ",
	    good ? "" : op);
	chains_destroy();
	if (cached)
		cache_end();
	ok(memories_all_freed(), "%s: foreign memory given back once, never written", what);
	ok(blocks_live == before && size_errors == 0, "%s: all memory given back, with its size",
	    what);
}

/*
 * Every allocation of one operation fails in turn: an error, nothing changed, nothing lost.
 */
static void
build_chain(struct chain *chain, unsigned pieces)
{
	const uint8_t *bytes;
	struct kbuf *seg;

	for (unsigned i = 0; i < pieces; i++) {
		bytes = some_bytes(500);
		seg = kbuf_alloc(500);
		if (seg == NULL)
			bail_out("out of memory");
		memcpy(kbuf_data(seg), bytes, 500);
		kbuf_set_window(seg, kbuf_data(seg), 500);
		kbufq_append(&chain->q, seg);
		model_append(chain, bytes, 500);
	}
}

enum failing {
	FAIL_SPLIT,
	FAIL_PULLUP,
	FAIL_WRITE,
	FAIL_RESERVE,
	FAIL_PREPEND,
	FAIL_SHARE,
	FAIL_COMPACT,
	FAIL_COUNT
};

static const char *const failing_names[] = { "split", "pullup", "write", "reserve", "prepend_space",
	"share", "compact" };

/* True when the operation succeeded. */
static bool
failing_operation(enum failing which, struct kbufq *q, struct kbufq *other)
{
	static const uint8_t zeros[3 * KBUF_SEG_MAX];

	switch (which) {
	case FAIL_SPLIT:
		return (kbufq_split(q, 1250, other) == 0);
	case FAIL_PULLUP:
		return (kbufq_pullup(q, 1250) != NULL);
	case FAIL_WRITE:
		return (kbufq_write(q, zeros, sizeof(zeros)) == 0);
	case FAIL_RESERVE:
		return (kbufq_reserve(q, KBUF_SEG_MAX) != NULL);
	case FAIL_PREPEND:
		return (kbufq_prepend_space(q, 1000) != NULL);
	case FAIL_SHARE:
		return (kbufq_share(other, q, 250, 1500) == 0);
	default:
		/* It never fails: what there is no memory for stays wasteful. */
		kbufq_compact(q);
		return (fail_at != 0);
	}
}

static void
test_failing(enum failing which)
{
	size_t before = blocks_live, live;
	bool good = true, done = false;
	unsigned n;

	for (n = 1; !done && good && n < 100; n++) {
		chains_create();
		build_chain(&chains[0], 8);
		build_chain(&chains[1], 2);
		if (which == FAIL_COMPACT) {
			/* Waste: a byte of each segment. */
			for (unsigned i = 0; i < 20; i++) {
				struct kbuf *seg = kbuf_alloc(KBUF_SEG_MAX);

				if (seg == NULL)
					bail_out("out of memory");
				memset(kbuf_data(seg), (int)i, 1);
				kbuf_set_window(seg, kbuf_data(seg), 1);
				kbufq_append(&chains[0].q, seg);
				model_append(&chains[0], kbuf_data(seg), 1);
			}
		}
		live = blocks_live;
		fail_at = n;
		done = failing_operation(which, &chains[0].q, &chains[1].q);
		fail_at = 0;
		if (!done)
			good = chains_good() && (which == FAIL_COMPACT || blocks_live == live);
		chains_destroy();
		good = good && blocks_live == before;
	}
	ok(good && done && n > 2, "%s: unchanged by any of %u failing allocations",
	    failing_names[which], n - 2);
}

/*
 * Sizes.
 */
static void
test_sizes(void)
{
	static const size_t sizes[] = { 0, 1, 15, 16, 431, 432, 433, 511, 512, 513, 3968, 4015,
		4016, 4017, 4095, 4096, 4097, 65535, 65536, 65537, 100000, 1u << 20 };
	size_t before = blocks_live;
	bool room = true, truesize = true, shared = true;

	for (unsigned i = 0; i < ksf_nelem(sizes); i++) {
		struct kbuf *seg = kbuf_alloc(sizes[i]), *view;
		size_t all = seg != NULL ? kbuf_tailroom(seg) : 0;

		if (seg == NULL)
			bail_out("out of memory");
		room = room && all >= sizes[i] && kbuf_headroom(seg) == 0 && kbuf_len(seg) == 0 &&
		       kbuf_next(seg) == NULL && kbuf_nextpkt(seg) == NULL;
		memset(kbuf_data(seg), 1, all);
		kbuf_set_window(seg, kbuf_data(seg), all);
		room = room && kbuf_tailroom(seg) == 0;
		truesize = truesize && kbuf_truesize(seg) > all && kbuf_truesize(seg) <= all + 256;
		kbuf_set_window(seg, kbuf_data(seg) + all, 0);
		room = room && kbuf_headroom(seg) == all;
		kbuf_set_window(seg, kbuf_data(seg) - all, all);

		/* While another segment sees the memory it cannot be written by either; afterwards
		 * it can again. */
		view = kbuf_share(seg, all / 2, all - all / 2);
		if (view == NULL)
			bail_out("out of memory");
		kbuf_set_window(seg, kbuf_data(seg), all / 2);
		shared = shared && kbuf_tailroom(seg) == 0 && kbuf_tailroom(view) == 0 &&
			 kbuf_headroom(view) == 0 && kbuf_data(view) == kbuf_data(seg) + all / 2 &&
			 kbuf_truesize(view) > kbuf_truesize(seg);
		kbuf_free(seg);
		shared = shared && kbuf_headroom(view) == all / 2;
		kbuf_free(view);
	}
	ok(room, "alloc: room for what was asked, at every size class border");
	ok(truesize, "truesize: the bytes and at most 256 for headers");
	ok(shared, "shared memory has no room to write; the last holder may write again");
	ok(kbuf_alloc((size_t)UINT32_MAX + 1) == NULL, "alloc: more than 4 GiB is refused");
	ok(kbuf_attach(&before, (size_t)UINT32_MAX + 1, NULL, NULL) == NULL,
	    "attach: more than 4 GiB is refused");
	ok(blocks_live == before && size_errors == 0, "sizes: all memory given back");
}

static void
test_edges(void)
{
	struct kbufq q = { 0 }, other = { 0 };
	struct kbuf *seg;
	uint8_t byte;

	ok(kbufq_pullup(&q, 1) == NULL && kbufq_copyout(&q, 0, &byte, 0) == 0 &&
		kbufq_split(&q, 0, &other) == 0 && kbufq_split(&q, 1, &other) == EMSGSIZE &&
		kbufq_truesize(&q) == 0,
	    "empty chain: every operation has an answer");
	kbufq_trim_front(&q, 5);
	kbufq_trim_back(&q, 5);
	kbufq_compact(&q);
	kbufq_concat(&other, &q);
	ok(q.head == NULL && other.head == NULL, "empty chain: stays empty");

	ok(kbufq_write(&q, "abc", 3) == 0 && kbufq_split(&q, 3, &other) == 0 && q.head == NULL &&
		other.len == 3,
	    "split: the whole chain moves");
	seg = kbuf_attach(&byte, 0, NULL, NULL);
	if (seg != NULL)
		kbufq_prepend(&other, seg);
	ok(kbufq_pullup(&other, 3) != NULL && memcmp(kbufq_pullup(&other, 3), "abc", 3) == 0,
	    "pullup: segments of length 0 are passed over; attach without a free function");
	kbufq_clear(&other);

	/* Headroom that comes from trimming is used again. */
	if (kbufq_write(&q, "0123456789", 10) != 0)
		bail_out("out of memory");
	seg = q.head;
	kbufq_trim_front(&q, 8);
	ok(kbufq_prepend_space(&q, 8) == kbuf_data(seg) && q.head == seg,
	    "prepend_space: uses the headroom there is");
	kbufq_clear(&q);
}

/*
 * Compaction.
 */
static void
test_compact(void)
{
	static const unsigned lens[] = { 1, 100, 432, 433, 2000, 2048, 3968, 3969, 5000, 40000,
		65536, 70000, 200000 };
	bool bytes = true, tight = true, left_alone = true;
	size_t before = blocks_live;

	for (unsigned i = 0; i < ksf_nelem(lens); i++) {
		struct kbufq q = { 0 };
		uint8_t *model = malloc(lens[i]), *out = malloc(lens[i]);
		struct kbuf *seg, *head;
		size_t piece, size;

		if (model == NULL || out == NULL)
			bail_out("out of memory");
		for (size_t off = 0; off < lens[i]; off += piece) {
			piece = 1 + random_below(2000);
			piece = ksf_min(piece, lens[i] - off);
			seg = kbuf_alloc(KBUF_SEG_MAX);
			if (seg == NULL)
				bail_out("out of memory");
			memset(kbuf_data(seg), (int)random_next(), piece);
			memcpy(model + off, kbuf_data(seg), piece);
			kbuf_set_window(seg, kbuf_data(seg), piece);
			kbufq_append(&q, seg);
		}
		kbufq_compact(&q);
		size = kbufq_truesize(&q);
		bytes = bytes && q.len == lens[i] && kbufq_copyout(&q, 0, out, lens[i]) == 0 &&
			memcmp(out, model, lens[i]) == 0;
		tight = tight && size <= lens[i] + lens[i] / 16 + 4096;

		/* What is tight is not copied again. */
		head = q.head;
		kbufq_compact(&q);
		left_alone = left_alone && q.head == head;
		kbufq_clear(&q);
		free(model);
		free(out);
	}
	ok(bytes, "compact: the bytes stay");
	ok(tight, "compact: at most 1/16 and a page more memory than bytes");
	ok(left_alone, "compact: a tight chain is left alone");
	ok(blocks_live == before, "compact: all memory given back");
}

/*
 * A worker's cache.
 */

/* What an echo of one message does with segments: receive, split off a record, answer, send a part,
 * send the rest. */
static bool
echo_once(size_t len)
{
	struct kbufq rx = { 0 }, tx = { 0 };
	bool good;

	good = kbufq_reserve(&rx, KBUF_SEG_MAX) != NULL;
	kbufq_commit(&rx, len);
	good = good && kbufq_split(&rx, len / 2, &tx) == 0 && kbufq_prepend_space(&tx, 4) != NULL;
	kbufq_concat(&tx, &rx);
	kbufq_trim_front(&tx, len / 3);
	kbufq_clear(&tx);
	return (good);
}

static void
test_cache(void)
{
	struct kbuf *segs[600];
	size_t before = blocks_live, start = blocks_taken, taken;
	bool good;

	cache_begin();
	good = echo_once(3000);
	taken = blocks_taken;
	ok(worker.cache.allocated == taken - start, "cache: counts what comes from the system");
	for (unsigned i = 0; i < 1000; i++)
		good = good && echo_once(1 + random_below(KBUF_SEG_MAX - 1));
	ok(good && blocks_taken == taken, "cache: no allocation in the steady state");

	/* More than it keeps goes back to the system. */
	for (unsigned i = 0; i < ksf_nelem(segs); i++) {
		segs[i] = kbuf_alloc(i % 2 == 0 ? 100 : 30000);
		good = good && segs[i] != NULL;
	}
	for (unsigned i = 0; i < ksf_nelem(segs) && good; i++)
		kbuf_free(segs[i]);
	ok(good && blocks_live - before < ksf_nelem(segs) - 200,
	    "cache: keeps a bounded number of blocks");
	taken = blocks_live;
	kbuf_free(kbuf_alloc(KBUF_SEG_MAX + 1));
	ok(blocks_live == taken, "cache: what is larger than KBUF_SEG_MAX is not kept");
	cache_end();
	ok(blocks_live == before, "cache: draining gives everything back");
}

/*
 * Threads: segments of one memory freed and shared on several at once.
 */
struct sharer {
	pthread_t thread;
	struct kbufq q;
	unsigned errors;
};

static void *
sharer_main(void *arg)
{
	struct sharer *sharer = arg;
	struct kbufq copy = { 0 }, front = { 0 };
	uint8_t byte;

	for (unsigned i = 0; i < 2000; i++) {
		if (kbufq_share(&copy, &sharer->q, i % 100, 300) != 0 ||
		    kbufq_split(&copy, 150, &front) != 0 ||
		    kbufq_copyout(&front, 5, &byte, 1) != 0 || byte != (uint8_t)(i % 100 + 5))
			sharer->errors++;
		kbufq_clear(&copy);
		kbufq_clear(&front);
	}
	kbufq_clear(&sharer->q);
	return (NULL);
}

static void
test_threads(void)
{
	struct sharer sharers[4] = { 0 };
	struct kbufq q = { 0 };
	struct memory *memory;
	struct kbuf *seg;
	size_t before = blocks_live;
	unsigned errors = 0;

	memories_forget();
	memory = memory_new(500);
	for (unsigned i = 0; i < 500; i++)
		memory->bytes[i] = memory->copy[i] = (uint8_t)i;
	seg = kbuf_attach(memory->bytes, memory->len, memory_free, memory);
	if (seg == NULL)
		bail_out("out of memory");
	kbufq_append(&q, seg);
	for (unsigned i = 0; i < ksf_nelem(sharers); i++) {
		if (kbufq_share(&sharers[i].q, &q, 0, 500) != 0)
			bail_out("out of memory");
	}
	kbufq_clear(&q);
	ok(memory->freed == 0, "threads: memory stays while it is shared");
	for (unsigned i = 0; i < ksf_nelem(sharers); i++) {
		if (pthread_create(&sharers[i].thread, NULL, sharer_main, &sharers[i]) != 0)
			bail_out("cannot start a thread");
	}
	for (unsigned i = 0; i < ksf_nelem(sharers); i++) {
		pthread_join(sharers[i].thread, NULL);
		errors += sharers[i].errors;
	}
	ok(errors == 0 && memories_all_freed() && blocks_live == before,
	    "threads: given back once, by whoever is last");
}

int
main(void)
{
	random_seed();
	model_choose = random_below;
	test_edges();
	test_sizes();
	test_random("plain", TAP_REPEAT(30000), 0, false);
	test_random("cached", TAP_REPEAT(30000), 0, true);
	test_random("failing allocations", TAP_REPEAT(30000), 3, false);
	test_random("cached, failing allocations", TAP_REPEAT(30000), 3, true);
	for (enum failing which = 0; which < FAIL_COUNT; which++)
		test_failing(which);
	test_compact();
	test_cache();
	test_threads();
	return (tap_end());
}
