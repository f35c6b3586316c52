/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Server addresses: from [user@]host[:port] on a command line to socket addresses to try in turn.
 * Runs in the main thread; resolving a name may block.
 */
#ifndef TOOLS_ADDRESS_H
#define TOOLS_ADDRESS_H

#include <sys/socket.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ADDRESS_HOST_MAX 256 /* longest host name and its NUL */
#define ADDRESS_TEXT_MAX 80  /* longest printed socket address and its NUL */
#define ADDRESS_LIST_MAX 16  /* addresses of one name that are tried */

struct address {
	struct sockaddr_storage storage;
	socklen_t length;
	char text[ADDRESS_TEXT_MAX]; /* numeric: 127.0.0.1:60007 or [::1]:60007 */
};

struct address_list {
	unsigned count;
	struct address address[ADDRESS_LIST_MAX];
};

/*
 * Split [user@]host[:port]. The host may be a name, an IPv4 literal, a bare IPv6 literal (which
 * then has no port) or [IPv6 literal]; an empty one leaves `host` as it is. *port is changed only
 * when a port is given. The user part is accepted and ignored. Returns NULL, or what is wrong with
 * the text.
 */
const char *address_parse(const char *text, char host[ADDRESS_HOST_MAX], uint16_t *port);

/*
 * Find the addresses of `host` for TCP or UDP, in the order of the system's preference.
 * Returns NULL with at least one address in the list, or the reason why there is none.
 */
const char *
address_resolve(const char *host, uint16_t port, bool datagram, struct address_list *list);

#endif
