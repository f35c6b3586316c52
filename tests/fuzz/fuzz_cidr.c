/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Texts that users write: lists of addresses and of cores, and parameters. The first byte chooses,
 * the rest is the text. What is taken must be what it says when it is written again; what is
 * refused must have a reason of one line.
 */
#include "../../src/core/core.h"
#include "fuzz.h"

#include <ksf/services.h>

#include <stdlib.h>

static void
check(bool good)
{
	if (!good)
		abort();
}

static void
check_why(int error, const char *why)
{
	if (error != 0)
		check(*why != '\0' && strlen(why) < 128);
}

/* A list written item by item is read as the same list. */
static void
fuzz_list(const char *text, bool star)
{
	static struct cidr_list list, again;
	char why[128] = "", ip[KSF_ADDR_STRLEN], copy[CIDR_MAX * 80];
	size_t len = 0;
	int error;

	error = cidr_parse(text, star, &list, why, sizeof(why));
	check_why(error, why);
	check(error == 0 || error == EINVAL || error == E2BIG);
	if (error != 0)
		return;
	check(list.count <= CIDR_MAX);
	for (unsigned i = 0; i < list.count; i++) {
		check(list.item[i].addr.family == KSF_IP4 || list.item[i].addr.family == KSF_IP6);
		check(list.item[i].bits <= (list.item[i].addr.family == KSF_IP4 ? 32 : 128));
		if (i < CIDR_MAX - 1)
			len += (size_t)snprintf(copy + len, sizeof(copy) - len, "%s%s/%u",
			    i != 0 ? "," : "", host_addr_format(&list.item[i].addr, ip, sizeof(ip)),
			    list.item[i].bits);

		/* Every prefix covers its own address; mapped addresses count as IPv4. */
		if (list.item[i].addr.family == KSF_IP4)
			check(cidr_match(&list, &list.item[i].addr));
	}
	if (list.count > CIDR_MAX - 1)
		return;
	copy[len] = '\0';
	check(cidr_parse(copy, false, &again, why, sizeof(why)) == 0 && again.count == list.count);
	for (unsigned i = 0; i < list.count; i++)
		check(memcmp(&again.item[i].addr, &list.item[i].addr, sizeof(again.item[i].addr)) ==
			  0 &&
		      again.item[i].bits == list.item[i].bits);
}

static void
fuzz_cpus(const char *text)
{
	unsigned cpus[CPUS_MAX], few[2], count = cpus_parse(text, cpus, CPUS_MAX);

	check(count <= CPUS_MAX && cpus_parse(text, few, 2) <= 2);
	for (unsigned i = 0; i < count; i++) {
		check(cpus[i] < 65536);
		for (unsigned j = 0; j < i; j++)
			check(cpus[i] != cpus[j]);
	}
}

/* A parameter that is taken reads back as a text that is taken, and reads the same. */
static void
fuzz_param(unsigned which, const char *value)
{
	static struct ksf_svc *svc;
	char why[128] = "", text[600], again[600];
	const struct ksf_param *param;
	unsigned count = 0;
	int error;

	if (svc == NULL && ksf_svc_create(&ksf_kecho, &svc) != 0)
		abort();
	while (ksf_param_at(&ksf_kecho, count) != NULL)
		count++;
	param = ksf_param_at(&ksf_kecho, which % count);
	error = ksf_param_set(svc, param->name, value, why, sizeof(why));
	if (error != 0)
		check(*why != '\0' && (error == EINVAL || error == ERANGE || error == E2BIG));
	check(ksf_param_get(svc, param->name, text, sizeof(text)) == 0);
	check(ksf_param_set(svc, param->name, text, why, sizeof(why)) == 0);
	check(
	    ksf_param_get(svc, param->name, again, sizeof(again)) == 0 && strcmp(text, again) == 0);
	if (error == 0 && param->type == KSF_PARAM_STRING)
		check(strcmp(text, value) == 0);
	check(ksf_param_set(svc, value, "1", NULL, 0) != EBUSY);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	char *text;

	if (len < 2)
		return (0);
	text = malloc(len);
	if (text == NULL)
		return (0);
	memcpy(text, bytes + 1, len - 1);
	text[len - 1] = '\0';
	switch (bytes[0] % 4) {
	case 0:
		fuzz_list(text, false);
		break;
	case 1:
		fuzz_list(text, true);
		break;
	case 2:
		fuzz_cpus(text);
		break;
	default:
		fuzz_param(bytes[0] / 4, text);
		break;
	}
	free(text);
	return (0);
}
