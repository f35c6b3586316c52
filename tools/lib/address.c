/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Parsing and resolving server addresses. Main thread only, before the measurement starts.
 */
#include "address.h"

#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Read a port number that fills the whole of `text`. */
static const char *
parse_port(const char *text, uint16_t *port)
{
	unsigned long value;
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return ("the port is not a number");
	errno = 0;
	value = strtoul(text, &end, 10);
	if (*end != '\0')
		return ("the port is not a number");
	if (errno != 0 || value < 1 || value > UINT16_MAX)
		return ("the port is not between 1 and 65535");
	*port = (uint16_t)value;
	return (NULL);
}

const char *
address_parse(const char *text, char host[ADDRESS_HOST_MAX], uint16_t *port)
{
	const char *at, *colon, *end;

	at = strrchr(text, '@');
	if (at != NULL)
		text = at + 1;

	if (text[0] == '[') {
		text++;
		end = strchr(text, ']');
		if (end == NULL)
			return ("']' is missing");
		if (end == text)
			return ("there is no address between '[' and ']'");
		if (end[1] != '\0' && end[1] != ':')
			return ("only :port may follow ']'");
		colon = end[1] == ':' ? end + 1 : NULL;
	} else {
		colon = strchr(text, ':');
		if (colon != NULL && strchr(colon + 1, ':') != NULL)
			colon = NULL; /* two colons: an IPv6 literal without a port */
		end = colon != NULL ? colon : text + strlen(text);
	}

	if (end - text >= ADDRESS_HOST_MAX)
		return ("the host name is too long");
	if (end > text) {
		memcpy(host, text, (size_t)(end - text));
		host[end - text] = '\0';
	}
	return (colon != NULL ? parse_port(colon + 1, port) : NULL);
}

/* Fill in the printed form of an address. */
static void
print_address(struct address *address)
{
	char host[64], service[8];

	if (getnameinfo((const struct sockaddr *)&address->storage, address->length, host,
		sizeof(host), service, sizeof(service), NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
		snprintf(address->text, sizeof(address->text), "(unprintable address)");
		return;
	}
	snprintf(address->text, sizeof(address->text),
	    strchr(host, ':') != NULL ? "[%s]:%s" : "%s:%s", host, service);
}

const char *
address_resolve(const char *host, uint16_t port, bool datagram, struct address_list *list)
{
	struct addrinfo *found, hints, *info;
	struct address *address;
	char service[8];
	int error;

	memset(&hints, 0, sizeof(hints));
	hints.ai_family = AF_UNSPEC;
	hints.ai_socktype = datagram ? SOCK_DGRAM : SOCK_STREAM;
	hints.ai_flags = AI_NUMERICSERV;
	snprintf(service, sizeof(service), "%u", (unsigned)port);

	list->count = 0;
	error = getaddrinfo(host, service, &hints, &found);
	if (error != 0)
		return (error == EAI_SYSTEM ? strerror(errno) : gai_strerror(error));
	for (info = found; info != NULL && list->count < ADDRESS_LIST_MAX; info = info->ai_next) {
		if (info->ai_addrlen > sizeof(address->storage))
			continue;
		address = &list->address[list->count++];
		memset(address, 0, sizeof(*address));
		memcpy(&address->storage, info->ai_addr, info->ai_addrlen);
		address->length = info->ai_addrlen;
		print_address(address);
	}
	freeaddrinfo(found);
	return (list->count > 0 ? NULL : "no usable address");
}
