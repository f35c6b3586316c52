/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Atomic operations, by the compiler's builtins: kernels have no <stdatomic.h> in common. Without a
 * suffix they are sequentially consistent; _relaxed orders nothing; _acquire and _release pair up.
 */
#ifndef KSF_ATOMIC_H
#define KSF_ATOMIC_H

#define ksf_load(p)             __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define ksf_load_acquire(p)     __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define ksf_load_relaxed(p)     __atomic_load_n((p), __ATOMIC_RELAXED)
#define ksf_store(p, v)         __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
#define ksf_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define ksf_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define ksf_exchange(p, v)      __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
#define ksf_fetch_or(p, v)      __atomic_fetch_or((p), (v), __ATOMIC_SEQ_CST)
#define ksf_fetch_and(p, v)     __atomic_fetch_and((p), (v), __ATOMIC_SEQ_CST)
#define ksf_fetch_add(p, v)     __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST)
#define ksf_fetch_sub(p, v)     __atomic_fetch_sub((p), (v), __ATOMIC_SEQ_CST)
#define ksf_add_relaxed(p, v)   ((void)__atomic_fetch_add((p), (v), __ATOMIC_RELAXED))

/* If *p is *expected, make it v and return true; otherwise put its value into *expected and return
 * false. */
#define ksf_cas(p, expected, v) \
	__atomic_compare_exchange_n((p), (expected), (v), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)

#endif
