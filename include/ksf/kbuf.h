/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kbuf: everything received and sent, as chains of reference-counted byte segments.
 *
 * A `struct kbuf` is one segment: a window (data, len) onto memory that other segments may share. A
 * `struct kbufq` is a chain of segments with its length, and is what services work with. Bytes are
 * written only through kbufq_write(), kbufq_reserve() and kbufq_prepend_space(), which never touch
 * memory that another segment can see.
 *
 * Context: every function may be called anywhere, an upcall included; none sleeps. A kbufq has no
 * lock: its owner serializes. Segments may be freed on another thread than the one that allocated
 * them.
 *
 * On FreeBSD a segment is a struct mbuf: that host's <ksf/port.h> defines KSF_PORT_KBUF and
 * declares the accessors below in terms of mbuf(9); everything else is the same.
 */
#ifndef KSF_KBUF_H
#define KSF_KBUF_H

#include <ksf/base.h>

/* Releases memory given to kbuf_attach(), once, when the last segment that refers to it is freed;
 * any context. */
typedef void kbuf_free_fn(void *mem, size_t len, void *arg);

#ifndef KSF_PORT_KBUF

struct kbuf_store;

struct kbuf {
	struct kbuf *next;        /* next segment of this chain */
	struct kbuf *nextpkt;     /* next datagram, on the first segment of each */
	uint8_t *data;            /* first byte of this segment */
	struct kbuf_store *store; /* the memory behind it */
	uint32_t len;             /* bytes at data */
	uint32_t flags;           /* private to kbuf.c */
};

static inline uint8_t *
kbuf_data(const struct kbuf *seg)
{
	return (seg->data);
}

static inline size_t
kbuf_len(const struct kbuf *seg)
{
	return (seg->len);
}

static inline struct kbuf *
kbuf_next(const struct kbuf *seg)
{
	return (seg->next);
}

static inline struct kbuf *
kbuf_nextpkt(const struct kbuf *seg)
{
	return (seg->nextpkt);
}

/* The setters are for hosts and for kbufq.c; a service has no use for them. */
static inline void
kbuf_set_next(struct kbuf *seg, struct kbuf *next)
{
	seg->next = next;
}

static inline void
kbuf_set_nextpkt(struct kbuf *seg, struct kbuf *next)
{
	seg->nextpkt = next;
}

static inline void
kbuf_set_window(struct kbuf *seg, uint8_t *data, size_t len)
{
	seg->data = data;
	seg->len = (uint32_t)len;
}

#endif /* KSF_PORT_KBUF */

/* The largest segment that kbuf_alloc() recycles, in bytes; larger ones come from and return to the
 * system. */
#define KBUF_SEG_MAX 65536u

/*
 * A new segment of length 0 with room for at least `size` bytes after data, owned by the caller.
 * NULL when memory is short.
 */
struct kbuf *kbuf_alloc(size_t size);

/* Free one segment; the rest of its chain is not touched. */
void kbuf_free(struct kbuf *seg);

/* A new segment that shares `len` bytes at `off` of `seg`; nothing is copied. NULL when memory is
 * short. */
struct kbuf *kbuf_share(struct kbuf *seg, size_t off, size_t len);

/*
 * A segment over foreign memory, read-only through kbufs. `free_fn` (may be NULL) is called with
 * `arg` when the last reference goes. NULL when memory is short: the memory then still belongs to
 * the caller. len is at most 4 GiB - 1.
 */
struct kbuf *kbuf_attach(void *mem, size_t len, kbuf_free_fn *free_fn, void *arg);

/* Bytes that can be written after the segment's last byte, or before its first; 0 when the memory
 * is shared. */
size_t kbuf_tailroom(const struct kbuf *seg);
size_t kbuf_headroom(const struct kbuf *seg);

/* Bytes of memory that this segment keeps from being freed, its own headers included. */
size_t kbuf_truesize(const struct kbuf *seg);

/*
 * A chain with its length. All-zero bytes are an empty chain; a kbufq must not be copied by
 * assignment while it holds segments (use kbufq_concat()).
 */
struct kbufq {
	struct kbuf *head; /* first segment, or NULL */
	struct kbuf *tail; /* last segment, valid when head is not NULL */
	size_t len;        /* bytes in the chain */
};

#define KBUF_FOREACH(seg, q) for ((seg) = (q)->head; (seg) != NULL; (seg) = kbuf_next(seg))

static inline void
kbufq_init(struct kbufq *q)
{
	q->head = q->tail = NULL;
	q->len = 0;
}

static inline size_t
kbufq_len(const struct kbufq *q)
{
	return (q->len);
}

/* Append, or prepend, one segment; the chain owns it from now on. Segments of length 0 are allowed.
 */
void kbufq_append(struct kbufq *q, struct kbuf *seg);
void kbufq_prepend(struct kbufq *q, struct kbuf *seg);

/* Move all segments of `src` to the end of `dst`; `src` is empty afterwards. */
void kbufq_concat(struct kbufq *dst, struct kbufq *src);

/* Free all segments. */
void kbufq_clear(struct kbufq *q);

/*
 * Move the first `n` bytes of `q` to the end of `front`; a segment that straddles is shared, not
 * copied. 0, or EMSGSIZE when q is shorter than n, or ENOMEM; on an error neither chain has
 * changed.
 */
int kbufq_split(struct kbufq *q, size_t n, struct kbufq *front) ksf_must_check;

/* Drop `n` bytes (at most all of them) from the front, or from the back. */
void kbufq_trim_front(struct kbufq *q, size_t n);
void kbufq_trim_back(struct kbufq *q, size_t n);

/* Copy `n` bytes at offset `off` out to `dst`. 0, or EMSGSIZE when the chain ends before off + n.
 */
int kbufq_copyout(const struct kbufq *q, size_t off, void *dst, size_t n) ksf_must_check;

/*
 * The first `n` bytes as contiguous memory, valid until the chain changes; they are copied together
 * only when they straddle segments. NULL when the chain is shorter than n, or memory is short (the
 * chain has not changed).
 */
const uint8_t *kbufq_pullup(struct kbufq *q, size_t n);

/*
 * Append `n` bytes of `src` by copying, into the last segment where it has room. 0, or ENOMEM (the
 * chain has not changed).
 */
int kbufq_write(struct kbufq *q, const void *src, size_t n) ksf_must_check;

/*
 * `n` contiguous writable bytes at the end of the chain (n <= KBUF_SEG_MAX); kbufq_commit() makes
 * the first of them part of it. Nothing else may be done to the chain in between. NULL when memory
 * is short.
 */
uint8_t *kbufq_reserve(struct kbufq *q, size_t n);
void kbufq_commit(struct kbufq *q, size_t n);

/* `n` writable bytes in front of the chain, part of it at once. NULL when memory is short. */
uint8_t *kbufq_prepend_space(struct kbufq *q, size_t n);

/*
 * Append references to `n` bytes at offset `off` of `src` to `dst`. 0, EMSGSIZE or ENOMEM; on an
 * error `dst` has not changed.
 */
int kbufq_share(struct kbufq *dst, const struct kbufq *src, size_t off, size_t n) ksf_must_check;

/* Bytes of memory that the chain keeps from being freed. */
size_t kbufq_truesize(const struct kbufq *q);

/*
 * Copy the segments that waste memory into tight ones, if the chain keeps more than an eighth above
 * its length (and some slack); what lives longer than one run of a connection should not pin large
 * receive segments for a few bytes. Segments for which memory is short stay as they are.
 */
void kbufq_compact(struct kbufq *q);

#endif
