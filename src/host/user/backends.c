/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The event backends that this system has, the default first.
 */
#include "user_poll.h"

#ifdef __linux__
extern const struct poll_backend poll_epoll;
#ifdef KSF_URING
extern const struct poll_backend poll_uring;
#endif
#else
extern const struct poll_backend poll_kqueue;
#endif

const struct poll_backend *const poll_backends[] = {
#ifdef __linux__
	&poll_epoll,
#ifdef KSF_URING
	&poll_uring,
#endif
#else
	&poll_kqueue,
#endif
	NULL,
};
