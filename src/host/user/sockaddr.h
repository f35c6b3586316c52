/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between struct ksf_addr and the system's sockaddr.
 */
#ifndef KSF_USER_SOCKADDR_H
#define KSF_USER_SOCKADDR_H

#include <ksf/addr.h>

#include <sys/socket.h>

union sockaddr_any {
	struct sockaddr sa;
	struct sockaddr_storage storage;
};

/* Returns the length of what was written. */
socklen_t sockaddr_of(const struct ksf_addr *addr, union sockaddr_any *any);
void sockaddr_to(const union sockaddr_any *any, struct ksf_addr *addr);

#endif
