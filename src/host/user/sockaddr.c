/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Addresses: text and sockaddr to struct ksf_addr and back. No state.
 */
#include "../host.h"
#include "sockaddr.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>

socklen_t
sockaddr_of(const struct ksf_addr *addr, union sockaddr_any *any)
{
	struct sockaddr_in *in = (struct sockaddr_in *)(void *)any;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)any;

	if (addr->family == KSF_IP4) {
		memset(in, 0, sizeof(*in));
		in->sin_family = AF_INET;
		in->sin_port = htons(addr->port);
		memcpy(&in->sin_addr, addr->ip, sizeof(in->sin_addr));
		return (sizeof(*in));
	}
	memset(in6, 0, sizeof(*in6));
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(addr->port);
	in6->sin6_scope_id = addr->scope;
	memcpy(&in6->sin6_addr, addr->ip, sizeof(in6->sin6_addr));
	return (sizeof(*in6));
}

void
sockaddr_to(const union sockaddr_any *any, struct ksf_addr *addr)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)any;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)any;

	memset(addr, 0, sizeof(*addr));
	if (any->sa.sa_family == AF_INET) {
		addr->family = KSF_IP4;
		addr->port = ntohs(in->sin_port);
		memcpy(addr->ip, &in->sin_addr, sizeof(in->sin_addr));
	} else if (any->sa.sa_family == AF_INET6) {
		addr->family = KSF_IP6;
		addr->port = ntohs(in6->sin6_port);
		addr->scope = in6->sin6_scope_id;
		memcpy(addr->ip, &in6->sin6_addr, sizeof(in6->sin6_addr));
	}
}

/* An interface's name or number. */
static bool
parse_scope(const char *text, uint32_t *scope)
{
	char *end;
	unsigned long number;

	*scope = if_nametoindex(text);
	if (*scope != 0)
		return (true);
	number = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end != '\0' || number == 0 || number > UINT32_MAX)
		return (false);
	*scope = (uint32_t)number;
	return (true);
}

bool
host_addr_parse(const char *text, struct ksf_addr *addr)
{
	char ip[INET6_ADDRSTRLEN];
	const char *percent = strchr(text, '%');
	size_t len = percent != NULL ? (size_t)(percent - text) : strlen(text);

	memset(addr->ip, 0, sizeof(addr->ip));
	addr->scope = 0;
	if (len >= sizeof(ip))
		return (false);
	memcpy(ip, text, len);
	ip[len] = '\0';
	if (percent == NULL && inet_pton(AF_INET, ip, addr->ip) == 1) {
		addr->family = KSF_IP4;
		return (true);
	}
	if (inet_pton(AF_INET6, ip, addr->ip) != 1)
		return (false);
	addr->family = KSF_IP6;
	return (percent == NULL || parse_scope(percent + 1, &addr->scope));
}

const char *
host_addr_format(const struct ksf_addr *addr, char *buf, size_t len)
{
	char ip[INET6_ADDRSTRLEN] = "none";

	if (addr->family != 0)
		(void)inet_ntop(
		    addr->family == KSF_IP4 ? AF_INET : AF_INET6, addr->ip, ip, sizeof(ip));
	if (addr->scope != 0)
		snprintf(buf, len, "%s%%%u", ip, addr->scope);
	else
		snprintf(buf, len, "%s", ip);
	return (buf);
}
