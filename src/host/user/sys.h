/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The system calls that faults can be injected into. Built with KSF_FAULT, every n-th call fails or
 * is cut short, as the environment variable KSF_FAULT asks ("alloc=7,again=5,short=3";
 * "skip=100" lets the first 100 allocations succeed); otherwise
 * these are the calls themselves.
 */
#ifndef KSF_USER_SYS_H
#define KSF_USER_SYS_H

#include <sys/types.h>
#include <sys/socket.h>

#include <stdbool.h>

enum fault {
	FAULT_ALLOC, /* memory: NULL */
	FAULT_AGAIN, /* receive, send: EAGAIN although there is data or room */
	FAULT_SHORT, /* receive, send: a part only */
	FAULT_COUNT,
};

#ifdef KSF_FAULT
/* Is it this kind's turn? */
bool fault_now(enum fault kind);

/* Will it ever be? */
bool fault_planned(enum fault kind);
#else
static inline bool
fault_planned(enum fault kind)
{
	(void)kind;
	return (false);
}

static inline bool
fault_now(enum fault kind)
{
	(void)kind;
	return (false);
}
#endif

#endif
