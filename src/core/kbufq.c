/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Chains of segments: every operation that services and the protocol layers use, in terms of the
 * few segment functions of <ksf/kbuf.h>, so that it is the same over our segments and over mbufs.
 * No lock, no sleep, any context.
 */
#include <ksf/kbuf.h>

void
kbufq_append(struct kbufq *q, struct kbuf *seg)
{
	kbuf_set_next(seg, NULL);
	if (q->head == NULL)
		q->head = seg;
	else
		kbuf_set_next(q->tail, seg);
	q->tail = seg;
	q->len += kbuf_len(seg);
}

void
kbufq_prepend(struct kbufq *q, struct kbuf *seg)
{
	kbuf_set_next(seg, q->head);
	if (q->head == NULL)
		q->tail = seg;
	q->head = seg;
	q->len += kbuf_len(seg);
}

void
kbufq_concat(struct kbufq *dst, struct kbufq *src)
{
	if (src->head == NULL)
		return;
	if (dst->head == NULL)
		dst->head = src->head;
	else
		kbuf_set_next(dst->tail, src->head);
	dst->tail = src->tail;
	dst->len += src->len;
	kbufq_init(src);
}

/* Unlink the first segment. */
static struct kbuf *
pop(struct kbufq *q)
{
	struct kbuf *seg = q->head;

	q->head = kbuf_next(seg);
	q->len -= kbuf_len(seg);
	kbuf_set_next(seg, NULL);
	return (seg);
}

void
kbufq_clear(struct kbufq *q)
{
	while (q->head != NULL)
		kbuf_free(pop(q));
	kbufq_init(q);
}

int
kbufq_split(struct kbufq *q, size_t n, struct kbufq *front)
{
	struct kbuf *seg, *view = NULL;
	size_t off = n;

	if (n > q->len)
		return (EMSGSIZE);
	if (n == q->len) {
		kbufq_concat(front, q);
		return (0);
	}

	/* Make the view onto the segment that straddles first: nothing has moved when memory is
	 * short. */
	for (seg = q->head; off >= kbuf_len(seg) && off != 0; seg = kbuf_next(seg))
		off -= kbuf_len(seg);
	if (off != 0 && (view = kbuf_share(seg, 0, off)) == NULL)
		return (ENOMEM);

	while (q->head != seg)
		kbufq_append(front, pop(q));
	if (view != NULL) {
		kbufq_append(front, view);
		kbuf_set_window(seg, kbuf_data(seg) + off, kbuf_len(seg) - off);
		q->len -= off;
	}
	return (0);
}

void
kbufq_trim_front(struct kbufq *q, size_t n)
{
	struct kbuf *seg;

	if (n >= q->len) {
		kbufq_clear(q);
		return;
	}
	while (n >= kbuf_len(seg = q->head)) {
		n -= kbuf_len(seg);
		kbuf_free(pop(q));
	}
	kbuf_set_window(seg, kbuf_data(seg) + n, kbuf_len(seg) - n);
	q->len -= n;
}

void
kbufq_trim_back(struct kbufq *q, size_t n)
{
	struct kbuf *seg, *rest;
	size_t keep;

	if (n >= q->len) {
		kbufq_clear(q);
		return;
	}
	keep = q->len - n;
	q->len = keep;
	for (seg = q->head; keep > kbuf_len(seg); seg = kbuf_next(seg))
		keep -= kbuf_len(seg);
	kbuf_set_window(seg, kbuf_data(seg), keep);
	q->tail = seg;
	rest = kbuf_next(seg);
	kbuf_set_next(seg, NULL);
	while ((seg = rest) != NULL) {
		rest = kbuf_next(seg);
		kbuf_free(seg);
	}
}

/* The segment that holds the byte at *off, which becomes the offset into it; NULL behind the end.
 */
static struct kbuf *
seek(const struct kbufq *q, size_t *off)
{
	struct kbuf *seg;

	KBUF_FOREACH(seg, q) {
		if (*off < kbuf_len(seg))
			break;
		*off -= kbuf_len(seg);
	}
	return (seg);
}

int
kbufq_copyout(const struct kbufq *q, size_t off, void *dst, size_t n)
{
	struct kbuf *seg;
	uint8_t *to = dst;
	size_t part;

	if (off > q->len || n > q->len - off)
		return (EMSGSIZE);
	for (seg = seek(q, &off); n > 0; seg = kbuf_next(seg)) {
		part = ksf_min(n, kbuf_len(seg) - off);
		memcpy(to, kbuf_data(seg) + off, part);
		to += part;
		n -= part;
		off = 0;
	}
	return (0);
}

const uint8_t *
kbufq_pullup(struct kbufq *q, size_t n)
{
	struct kbuf *seg;

	if (n > q->len || q->head == NULL)
		return (NULL);
	while (kbuf_len(q->head) == 0 && q->len != 0)
		kbuf_free(pop(q));
	if (n <= kbuf_len(q->head))
		return (kbuf_data(q->head));

	seg = kbuf_alloc(n);
	if (seg == NULL)
		return (NULL);
	if (kbufq_copyout(q, 0, kbuf_data(seg), n) != 0) {
		kbuf_free(seg);
		return (NULL);
	}
	kbuf_set_window(seg, kbuf_data(seg), n);
	kbufq_trim_front(q, n);
	kbufq_prepend(q, seg);
	return (kbuf_data(seg));
}

/* Grow the last segment by `n` bytes that have been written behind it. */
static void
extend(struct kbufq *q, size_t n)
{
	kbuf_set_window(q->tail, kbuf_data(q->tail), kbuf_len(q->tail) + n);
	q->len += n;
}

int
kbufq_write(struct kbufq *q, const void *src, size_t n)
{
	struct kbufq fresh = { 0 };
	const uint8_t *from = src;
	struct kbuf *seg;
	size_t room, part, rest;

	/* Allocate all that will be needed before the first byte moves. */
	room = q->head != NULL ? ksf_min(n, kbuf_tailroom(q->tail)) : 0;
	for (rest = n - room; rest > 0; rest -= part) {
		part = ksf_min(rest, (size_t)KBUF_SEG_MAX);
		seg = kbuf_alloc(part);
		if (seg == NULL) {
			kbufq_clear(&fresh);
			return (ENOMEM);
		}
		memcpy(kbuf_data(seg), from + (n - rest), part);
		kbuf_set_window(seg, kbuf_data(seg), part);
		kbufq_append(&fresh, seg);
	}
	if (room > 0) {
		memcpy(kbuf_data(q->tail) + kbuf_len(q->tail), from, room);
		extend(q, room);
	}
	kbufq_concat(q, &fresh);
	return (0);
}

uint8_t *
kbufq_reserve(struct kbufq *q, size_t n)
{
	struct kbuf *seg;

	if (q->head == NULL || kbuf_tailroom(q->tail) < n) {
		seg = kbuf_alloc(n);
		if (seg == NULL)
			return (NULL);
		kbufq_append(q, seg);
	}
	return (kbuf_data(q->tail) + kbuf_len(q->tail));
}

void
kbufq_commit(struct kbufq *q, size_t n)
{
	if (n > 0)
		extend(q, n);
}

uint8_t *
kbufq_prepend_space(struct kbufq *q, size_t n)
{
	struct kbuf *seg = q->head;

	if (seg != NULL && kbuf_headroom(seg) >= n) {
		kbuf_set_window(seg, kbuf_data(seg) - n, kbuf_len(seg) + n);
		q->len += n;
		return (kbuf_data(seg));
	}
	seg = kbuf_alloc(n);
	if (seg == NULL)
		return (NULL);
	kbuf_set_window(seg, kbuf_data(seg), n);
	kbufq_prepend(q, seg);
	return (kbuf_data(seg));
}

int
kbufq_share(struct kbufq *dst, const struct kbufq *src, size_t off, size_t n)
{
	struct kbufq views = { 0 };
	struct kbuf *seg, *view;
	size_t part;

	if (off > src->len || n > src->len - off)
		return (EMSGSIZE);
	for (seg = seek(src, &off); n > 0; seg = kbuf_next(seg)) {
		part = ksf_min(n, kbuf_len(seg) - off);
		if (part > 0) {
			view = kbuf_share(seg, off, part);
			if (view == NULL) {
				kbufq_clear(&views);
				return (ENOMEM);
			}
			kbufq_append(&views, view);
		}
		n -= part;
		off = 0;
	}
	kbufq_concat(dst, &views);
	return (0);
}

size_t
kbufq_truesize(const struct kbufq *q)
{
	struct kbuf *seg;
	size_t size = 0;

	KBUF_FOREACH(seg, q)
		size += kbuf_truesize(seg);
	return (size);
}

/* Memory that segments are copied into: it leaves little unused in the sizes that kbuf_alloc() has.
 */
#define COMPACT_PIECE ((size_t)3968)
/* Waste that is not worth a copy, in bytes. */
#define COMPACT_SLACK ((size_t)4096)

static bool
is_wasteful(size_t truesize, size_t len, size_t slack)
{
	return (truesize > len + len / 8 + slack);
}

/*
 * Copy a segment to the end of `tight` and free it; what there is no memory for is moved there as
 * it is. `left` is how many bytes will follow, this segment included.
 */
static void
copy_segment(struct kbufq *tight, struct kbuf *seg, size_t left)
{
	size_t part, piece;
	uint8_t *to;

	while (kbuf_len(seg) > 0) {
		piece = left >= KBUF_SEG_MAX ? (size_t)KBUF_SEG_MAX : ksf_min(left, COMPACT_PIECE);
		if (tight->head != NULL && kbuf_tailroom(tight->tail) > 0)
			piece = 1;
		to = kbufq_reserve(tight, piece);
		if (to == NULL) {
			kbufq_append(tight, seg);
			return;
		}
		part = ksf_min(kbuf_len(seg), kbuf_tailroom(tight->tail));
		memcpy(to, kbuf_data(seg), part);
		kbufq_commit(tight, part);
		kbuf_set_window(seg, kbuf_data(seg) + part, kbuf_len(seg) - part);
		left -= part;
	}
	kbuf_free(seg);
}

void
kbufq_compact(struct kbufq *q)
{
	struct kbufq tight = { 0 };
	struct kbuf *seg;
	size_t left;

	if (q->head == NULL || !is_wasteful(kbufq_truesize(q), q->len, COMPACT_SLACK))
		return;
	while (q->head != NULL) {
		left = q->len;
		seg = pop(q);
		if (is_wasteful(kbuf_truesize(seg), kbuf_len(seg), COMPACT_SLACK / 4))
			copy_segment(&tight, seg, left);
		else
			kbufq_append(&tight, seg);
	}
	kbufq_init(q);
	kbufq_concat(q, &tight);
}
