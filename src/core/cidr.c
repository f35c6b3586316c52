/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Lists of addresses and prefixes, and small functions on addresses. No state; any context.
 */
#include "cidr.h"
#include "core.h"

static const uint8_t mapped_prefix[12] = { [10] = 0xff, [11] = 0xff };

static bool
is_separator(char c)
{
	return (c == ',' || c == ' ' || c == '\t');
}

/* The decimal number that is all of `text`; false when it is not one, or above max. */
static bool
parse_bits(const char *text, unsigned max, unsigned *bits)
{
	unsigned value = 0;

	if (*text == '\0')
		return (false);
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9' || value > max)
			return (false);
		value = value * 10 + (unsigned)(*text - '0');
	}
	*bits = value;
	return (value <= max);
}

/* One item, without its separators. */
static int
parse_item(char *text, struct cidr *item, char *why, size_t whylen)
{
	char *slash = strchr(text, '/');
	unsigned max, partial;

	memset(item, 0, sizeof(*item));
	if (slash != NULL)
		*slash = '\0';
	if (!host_addr_parse(text, &item->addr)) {
		why_format(why, whylen, "'%s' is not an IP address", text);
		return (EINVAL);
	}
	max = item->addr.family == KSF_IP4 ? 32 : 128;
	item->bits = max;
	if (slash == NULL)
		return (0);
	if (!parse_bits(slash + 1, max, &item->bits)) {
		why_format(why, whylen, "'%s/%s': the prefix length must be 0 to %u", text,
		    slash + 1, max);
		return (EINVAL);
	}

	/* 10.0.0.1/8 is more likely a slip than a wish. */
	for (unsigned i = item->bits / 8; i < max / 8; i++) {
		partial = i == item->bits / 8 ? 0xffu >> item->bits % 8 : 0xffu;
		if ((item->addr.ip[i] & partial) != 0) {
			why_format(
			    why, whylen, "'%s/%s' has bits set behind its prefix", text, slash + 1);
			return (EINVAL);
		}
	}
	return (0);
}

int
cidr_parse(const char *text, bool star, struct cidr_list *list, char *why, size_t whylen)
{
	char item[64];
	size_t len;
	int error;

	memset(list, 0, sizeof(*list));
	for (;;) {
		while (is_separator(*text))
			text++;
		if (*text == '\0')
			return (0);
		for (len = 0; text[len] != '\0' && !is_separator(text[len]); len++)
			continue;
		if (len >= sizeof(item)) {
			why_format(why, whylen, "'%.60s...' is not an IP address", text);
			return (EINVAL);
		}
		memcpy(item, text, len);
		item[len] = '\0';
		text += len;

		if (list->count + 2 > CIDR_MAX) {
			why_format(why, whylen, "more than %u addresses", CIDR_MAX - 1);
			return (E2BIG);
		}
		if (star && strcmp(item, "*") == 0) {
			list->item[list->count++].addr.family = KSF_IP4;
			list->item[list->count++].addr.family = KSF_IP6;
			continue;
		}
		error = parse_item(item, &list->item[list->count], why, whylen);
		if (error != 0)
			return (error);
		list->count++;
	}
}

static bool
prefix_equal(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned rest = bits % 8;

	if (memcmp(a, b, bits / 8) != 0)
		return (false);
	return (rest == 0 || ((a[bits / 8] ^ b[bits / 8]) & (0xffu << (8 - rest) & 0xffu)) == 0);
}

bool
cidr_match(const struct cidr_list *list, const struct ksf_addr *addr)
{
	const uint8_t *ip = addr->ip;
	uint8_t family = addr->family;

	if (family == KSF_IP6 && memcmp(ip, mapped_prefix, sizeof(mapped_prefix)) == 0) {
		family = KSF_IP4;
		ip += sizeof(mapped_prefix);
	}
	for (unsigned i = 0; i < list->count; i++) {
		if (list->item[i].addr.family == family &&
		    prefix_equal(list->item[i].addr.ip, ip, list->item[i].bits))
			return (true);
	}
	return (false);
}

bool
ksf_addr_same_ip(const struct ksf_addr *a, const struct ksf_addr *b)
{
	return (a->family == b->family && memcmp(a->ip, b->ip, sizeof(a->ip)) == 0);
}

bool
ksf_addr_is_loopback(const struct ksf_addr *addr)
{
	static const uint8_t loopback6[16] = { [15] = 1 };

	if (addr->family == KSF_IP4)
		return (addr->ip[0] == 127);
	return (addr->family == KSF_IP6 && memcmp(addr->ip, loopback6, sizeof(loopback6)) == 0);
}

const char *
ksf_addr_format(const struct ksf_addr *addr, char *buf, size_t len)
{
	char ip[KSF_ADDR_STRLEN];

	host_addr_format(addr, ip, sizeof(ip));
	why_format(buf, len, addr->family == KSF_IP6 ? "[%s]:%u" : "%s:%u", ip, addr->port);
	return (buf);
}
