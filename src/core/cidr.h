/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Lists of addresses and of address prefixes (CIDR, RFC 4632), as in the parameters `listen` and
 * `allow`. Items are separated by commas or blanks.
 */
#ifndef KSF_CIDR_H
#define KSF_CIDR_H

#include <ksf/addr.h>

struct cidr {
	struct ksf_addr addr;
	unsigned bits; /* length of the prefix */
};

#define CIDR_MAX 64u

struct cidr_list {
	struct cidr item[CIDR_MAX];
	unsigned count;
};

/*
 * Parse a list into `list`. An address without "/bits" is the whole address. With `star`, "*"
 * stands for all IPv4 and all IPv6 addresses. 0; EINVAL or E2BIG with the reason in `why`.
 */
int cidr_parse(const char *text, bool star, struct cidr_list *list, char *why, size_t whylen);

/* True when one of the prefixes covers addr. An IPv4-mapped IPv6 address counts as IPv4. */
bool cidr_match(const struct cidr_list *list, const struct ksf_addr *addr);

#endif
