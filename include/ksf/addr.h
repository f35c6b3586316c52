/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Network addresses as ksf hands them to services: no sockaddr, no byte-order surprises.
 */
#ifndef KSF_ADDR_H
#define KSF_ADDR_H

#include <ksf/base.h>

enum ksf_family { KSF_IP4 = 4, KSF_IP6 = 6 };

struct ksf_addr {
	uint8_t family; /* KSF_IP4, KSF_IP6, or 0 for none */
	uint16_t port;  /* host byte order */
	uint32_t scope; /* IPv6 scope (interface index), or 0 */
	uint8_t ip[16]; /* network byte order; IPv4 uses the first four bytes, the others are 0 */
};

/* Longest text of an address with its port, "[v6%scope]:65535" and the NUL included. */
#define KSF_ADDR_STRLEN 72

/* "192.0.2.1:80", "[2001:db8::1]:80"; returns buf. `len` should be KSF_ADDR_STRLEN. */
const char *ksf_addr_format(const struct ksf_addr *addr, char *buf, size_t len);

/* Same family and same IP address (the port and scope do not count). */
bool ksf_addr_same_ip(const struct ksf_addr *a, const struct ksf_addr *b);

/* 127.0.0.0/8 or ::1. */
bool ksf_addr_is_loopback(const struct ksf_addr *addr);

#endif
