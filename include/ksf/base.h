/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The few compiler extensions that ksf uses above its hosts, named once. <ksf/port.h> comes from
 * the host: it brings the fixed-width integers, size_t, bool, NULL, the memory and string functions
 * (memcpy, strlen, ...), va_list, vsnprintf and the errno values of the place ksf is built for.
 */
#ifndef KSF_BASE_H
#define KSF_BASE_H

#include <ksf/port.h>

#define KSF_CACHELINE 64

#define ksf_likely(e)    __builtin_expect(!!(e), 1)
#define ksf_unlikely(e)  __builtin_expect(!!(e), 0)
#define ksf_aligned(n)   __attribute__((__aligned__(n)))
#define ksf_printf(f, a) __attribute__((__format__(__printf__, f, a)))
#define ksf_must_check   __attribute__((__warn_unused_result__))
#define ksf_nelem(a)     (sizeof(a) / sizeof((a)[0]))
#define ksf_min(a, b)    ((a) < (b) ? (a) : (b))
#define ksf_max(a, b)    ((a) > (b) ? (a) : (b))

/* The structure of type `type` whose member `member` is at `ptr`. */
#define ksf_container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
