/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Parameters by name (parsing, ranges, run-time changes), address lists, lists of cores, texts of
 * addresses, and the hash. One thread; a service is started only to see what may change while it
 * runs.
 */
#include "service.h"
#include "tap.h"

struct test_conf {
	uint32_t flag, small;
	uint64_t large;
	char text[9];
};

static int
check_text(const char *value, char *why, size_t whylen)
{
	if (strchr(value, '!') == NULL)
		return (0);
	why_format(why, whylen, "no exclamation marks");
	return (EINVAL);
}

static const struct ksf_param test_params[] = {
	KSF_PARAM_NUMBER(
	    KSF_PARAM_BOOL, test_conf, flag, "flag", "", KSF_PARAM_RUNTIME, 1, 0, 1, "a boolean"),
	KSF_PARAM_NUMBER(
	    KSF_PARAM_U32, test_conf, small, "small", "ms", 0, 7, 5, 4000000000, "a small number"),
	KSF_PARAM_NUMBER(KSF_PARAM_U64, test_conf, large, "large", "bytes", KSF_PARAM_RUNTIME,
	    1ull << 40, 0, UINT64_MAX, "a large number"),
	{ .name = "text",
	    .unit = "",
	    .help = "a string",
	    .type = KSF_PARAM_STRING,
	    .flags = KSF_PARAM_RUNTIME,
	    .offset = offsetof(struct test_conf, text),
	    .max = 8,
	    .sdef = "plain",
	    .check = check_text },
};

static void
test_input(struct ksf_conn *conn, struct ksf_rx *rx)
{
	(void)conn;
	kbufq_clear(&rx->q);
}

static const struct ksf_ops test_ops = { .input = test_input };

static int
test_start(struct ksf_svc *svc)
{
	return (ksf_svc_listen(svc, KSF_TCP, &test_ops, 0));
}

static const struct ksf_service test_service = {
	.name = "test",
	.help = "a service with a parameter of each type",
	.port = 4711,
	.confsz = sizeof(struct test_conf),
	.params = test_params,
	.nparams = ksf_nelem(test_params),
	.start = test_start,
};

/*
 * Setting and reading.
 */
static const struct {
	const char *name, *value;
	int error;
	const char *reads; /* NULL: as it was set */
	const char *why;   /* part of the reason */
} settings[] = {
	{ "flag", "0", 0, NULL, NULL },
	{ "flag", "1", 0, NULL, NULL },
	{ "flag", "no", 0, "0", NULL },
	{ "flag", "yes", 0, "1", NULL },
	{ "flag", "off", 0, "0", NULL },
	{ "flag", "on", 0, "1", NULL },
	{ "flag", "false", 0, "0", NULL },
	{ "flag", "true", 0, "1", NULL },
	{ "flag", "2", EINVAL, NULL, "flag=2: not a boolean" },
	{ "flag", "", EINVAL, NULL, "boolean" },
	{ "flag", "Yes", EINVAL, NULL, "boolean" },
	{ "small", "5", 0, NULL, NULL },
	{ "small", "4000000000", 0, NULL, NULL },
	{ "small", "4", ERANGE, NULL, "small=4: out of range 5 to 4000000000" },
	{ "small", "4000000001", ERANGE, NULL, "out of range" },
	{ "small", "4294967301", ERANGE, NULL, "out of range" },
	{ "small", "1k", 0, "1024", NULL },
	{ "small", "2K", 0, "2048", NULL },
	{ "small", "3m", 0, "3145728", NULL },
	{ "small", "3M", 0, "3145728", NULL },
	{ "small", "1g", 0, "1073741824", NULL },
	{ "small", "2G", 0, "2147483648", NULL },
	{ "small", "4G", ERANGE, NULL, "out of range" },
	{ "small", "0010", 0, "10", NULL },
	{ "small", "1kk", EINVAL, NULL, "not a number" },
	{ "small", "1t", EINVAL, NULL, "not a number" },
	{ "small", "k", EINVAL, NULL, "not a number" },
	{ "small", "", EINVAL, NULL, "not a number" },
	{ "small", "-5", EINVAL, NULL, "not a number" },
	{ "small", "+5", EINVAL, NULL, "not a number" },
	{ "small", " 5", EINVAL, NULL, "not a number" },
	{ "small", "5 ", EINVAL, NULL, "not a number" },
	{ "small", "0x10", EINVAL, NULL, "not a number" },
	{ "small", "5.5", EINVAL, NULL, "not a number" },
	{ "large", "0", 0, NULL, NULL },
	{ "large", "17179869183G", 0, "18446744072635809792", NULL },
	{ "large", "17179869184G", ERANGE, NULL, "out of range" },
	{ "large", "18446744073709551615", 0, NULL, NULL },
	{ "large", "18446744073709551616", ERANGE, NULL, "out of range" },
	{ "large", "99999999999999999999999", ERANGE, NULL, "out of range" },
	{ "large", "99999999999999999999999x", EINVAL, NULL, "not a number" },
	{ "text", "", 0, NULL, NULL },
	{ "text", "12345678", 0, NULL, NULL },
	{ "text", "123456789", ERANGE, NULL, "text: longer than 8 characters" },
	{ "text", "a!", EINVAL, NULL, "text: no exclamation marks" },
	{ "text", "x", 0, NULL, NULL },
	{ "absent", "1", ENOENT, NULL, "test: no parameter 'absent'" },
	{ "", "1", ENOENT, NULL, "no parameter" },
	{ "Flag", "1", ENOENT, NULL, "no parameter" },
	{ "port", "65535", 0, NULL, NULL },
	{ "port", "65536", ERANGE, NULL, "out of range" },
	{ "listen", "127.0.0.1", 0, NULL, NULL },
	{ "listen", "*", 0, NULL, NULL },
	{ "listen", "", EINVAL, NULL, "no address" },
	{ "listen", " , ", EINVAL, NULL, "no address" },
	{ "listen", "127.0.0.1/8", EINVAL, NULL, "listen: " },
	{ "listen", "127.0.0.1/32", EINVAL, NULL, "no prefix length here" },
	{ "listen", "localhost", EINVAL, NULL, "not an IP address" },
	{ "allow", "", 0, NULL, NULL },
	{ "allow", "10.0.0.0/8 ::1,fe80::/10", 0, NULL, NULL },
	{ "allow", "*", EINVAL, NULL, "allow: '*' is not an IP address" },
	{ "cpus", "", 0, NULL, NULL },
	{ "cpus", "0,2-3", 0, NULL, NULL },
	{ "cpus", "0,0", EINVAL, NULL, "not a list of cores" },
	{ "backend", "auto", 0, NULL, NULL },
	{ "backend", "carrier-pigeon", EINVAL, NULL, "no backend" },
	{ "memmax", "1", ERANGE, NULL, "out of range" },
};

static void
test_settings(void)
{
	char before[600], after[600], why[200];
	struct ksf_svc *svc;
	int error;

	if (ksf_svc_create(&test_service, &svc) != 0)
		bail_out("cannot create a service");
	for (unsigned i = 0; i < ksf_nelem(settings); i++) {
		bool good;

		before[0] = after[0] = why[0] = '\0';
		(void)ksf_param_get(svc, settings[i].name, before, sizeof(before));
		error = ksf_param_set(svc, settings[i].name, settings[i].value, why, sizeof(why));
		(void)ksf_param_get(svc, settings[i].name, after, sizeof(after));
		if (settings[i].error == 0)
			good = strcmp(after, settings[i].reads != NULL ? settings[i].reads
								       : settings[i].value) == 0;
		else
			good = strcmp(after, before) == 0 && strstr(why, settings[i].why) != NULL &&
			       strchr(why, '\n') == NULL;
		if (!ok(error == settings[i].error && good, "set %s='%s': %s", settings[i].name,
			settings[i].value,
			settings[i].error == 0 ? "taken" : "refused, unchanged, with a reason"))
			printf("# error %d, reads '%s', why '%s'\n", error, after, why);
	}
	ok(ksf_param_set(svc, "small", "1", NULL, 0) == ERANGE &&
		ksf_param_set(svc, "small", "1", why, 1) == ERANGE && why[0] == '\0',
	    "set: nobody need want to know why");

	/* Values land in the structure of the service. */
	(void)ksf_param_set(svc, "small", "4321", why, sizeof(why));
	(void)ksf_param_set(svc, "large", "12345678901", why, sizeof(why));
	(void)ksf_param_set(svc, "text", "abc", why, sizeof(why));
	(void)ksf_param_set(svc, "flag", "no", why, sizeof(why));
	{
		const struct test_conf *conf = ksf_svc_conf(svc);

		ok(ksf_param_u32(&conf->small) == 4321 &&
			ksf_param_u64(&conf->large) == 12345678901 &&
			strcmp(conf->text, "abc") == 0 && ksf_param_u32(&conf->flag) == 0,
		    "values land in the service's structure");
	}

	ok(ksf_param_get(svc, "absent", after, sizeof(after)) == ENOENT, "get: no such parameter");
	ok(ksf_param_get(svc, "small", after, 4) == ENOSPC &&
		ksf_param_get(svc, "small", after, 5) == 0,
	    "get: a number needs room for its digits");
	ok(ksf_param_get(svc, "text", after, 3) == ENOSPC &&
		ksf_param_get(svc, "text", after, 4) == 0,
	    "get: a string needs room for itself");
	ok(strcmp(ksf_svc_name(svc), "test") == 0, "the service's name");
	ksf_svc_destroy(svc);
}

static void
test_table(void)
{
	const struct ksf_param *param, *other;
	char text[600], value[600], why[200];
	bool defaults = true, unique = true, helped = true, settable = true;
	struct ksf_svc *svc;
	unsigned n = 0;

	if (ksf_svc_create(&test_service, &svc) != 0)
		bail_out("cannot create a service");
	for (unsigned i = 0; (param = ksf_param_at(&test_service, i)) != NULL; i++, n++) {
		ksf_param_default(&test_service, param, text, sizeof(text));
		defaults = defaults && ksf_param_get(svc, param->name, value, sizeof(value)) == 0 &&
			   strcmp(text, value) == 0;

		/* Every default is a value that one may set. */
		settable = settable && ksf_param_set(svc, param->name, text, why, sizeof(why)) == 0;
		helped = helped && param->help[0] != '\0' &&
			 param->help[strlen(param->help) - 1] != '.' && param->unit != NULL;
		for (unsigned j = 0; j < i; j++) {
			other = ksf_param_at(&test_service, j);
			unique = unique && strcmp(param->name, other->name) != 0;
		}
	}
	ok(n == svc_nparams + ksf_nelem(test_params),
	    "table: the framework's %u parameters, then the service's", svc_nparams);
	ok(defaults, "table: every parameter begins at its default");
	ok(settable, "table: every default can be set");
	ok(unique, "table: names are unique");
	ok(helped, "table: one line of help each, without a full stop");
	ok(ksf_param_get(svc, "port", value, sizeof(value)) == 0 && strcmp(value, "4711") == 0,
	    "table: the default port is the service's");
	ksf_svc_destroy(svc);
}

static void
test_running(void)
{
	struct ksf_svc *svc = service_start(&test_service, "");
	const struct ksf_param *param;
	char text[600], why[200] = "";
	bool good = true;
	int error;

	for (unsigned i = 0; (param = ksf_param_at(&test_service, i)) != NULL; i++) {
		(void)ksf_param_get(svc, param->name, text, sizeof(text));
		error = ksf_param_set(svc, param->name, text, why, sizeof(why));
		if (error != (param->flags & KSF_PARAM_RUNTIME ? 0 : EBUSY)) {
			printf("# %s: error %d\n", param->name, error);
			good = false;
		}
	}
	ok(good, "running: run-time parameters change, the others are EBUSY");
	ok(ksf_param_set(svc, "small", "10", why, sizeof(why)) == EBUSY &&
		strcmp(why, "test: small cannot change while the service runs") == 0,
	    "running: the reason names the parameter");
	ksf_svc_stop(svc, 0);
	ok(ksf_param_set(svc, "small", "10", why, sizeof(why)) == 0,
	    "stopped again: everything may change");
	ksf_svc_destroy(svc);
}

/* Parameters that are each in range, but do not fit together. */
static void
test_start_checks(void)
{
	static const struct {
		const char *settings, *why;
	} cases[] = {
		{ "tdmin=9 tdmax=8", "test: tdmin=9 is above tdmax=8" },
		{ "txlowat=4096 txhiwat=4096", "test: txlowat=4096 is not below txhiwat=4096" },
		{ "tcp=0 udp=0", "test: nothing to serve: tcp=0 and udp=0" },
		{ "cpus=1020", "test: cpus=1020: not all of these are available" },
	};
	char why[200];

	for (unsigned i = 0; i < ksf_nelem(cases); i++) {
		struct ksf_svc *svc = service_create(&test_service, cases[i].settings);

		why[0] = '\0';
		if (!ok(ksf_svc_start(svc, why, sizeof(why)) == EINVAL &&
			    strcmp(why, cases[i].why) == 0,
			"start: %s", cases[i].settings))
			printf("# why '%s'\n", why);
		ksf_svc_stop(svc, 0);
		ksf_svc_destroy(svc);
	}
}

/*
 * Address lists.
 */
static const struct {
	const char *text;
	unsigned count; /* 0: malformed */
	int error;
	const char *why;
} lists[] = {
	{ "192.0.2.1", 1, 0, NULL },
	{ "192.0.2.0/24", 1, 0, NULL },
	{ "0.0.0.0/0", 1, 0, NULL },
	{ "::/0", 1, 0, NULL },
	{ "2001:db8::/32,10.0.0.0/8\t127.0.0.1", 3, 0, NULL },
	{ ",, 192.0.2.1 ,", 1, 0, NULL },
	{ "fe80::1%1", 1, 0, NULL },
	{ "192.0.2.128/25", 1, 0, NULL },
	{ "192.0.2.1/32", 1, 0, NULL },
	{ "::1/128", 1, 0, NULL },
	{ "2001:db8:8000::/33", 1, 0, NULL },
	{ "192.0.2", 0, EINVAL, "'192.0.2' is not an IP address" },
	{ "192.0.2.256", 0, EINVAL, "is not an IP address" },
	{ "example.org", 0, EINVAL, "is not an IP address" },
	{ "192.0.2.1/33", 0, EINVAL, "'192.0.2.1/33': the prefix length must be 0 to 32" },
	{ "::/129", 0, EINVAL, "must be 0 to 128" },
	{ "192.0.2.0/", 0, EINVAL, "must be 0 to 32" },
	{ "192.0.2.0/x", 0, EINVAL, "must be 0 to 32" },
	{ "192.0.2.0/-1", 0, EINVAL, "must be 0 to 32" },
	{ "192.0.2.0/24/8", 0, EINVAL, "must be 0 to 32" },
	{ "192.0.2.0/4294967297", 0, EINVAL, "must be 0 to 32" },
	{ "192.0.2.1/24", 0, EINVAL, "'192.0.2.1/24' has bits set behind its prefix" },
	{ "192.0.2.128/24", 0, EINVAL, "has bits set" },
	{ "0.0.0.1/0", 0, EINVAL, "has bits set" },
	{ "2001:db8::1/64", 0, EINVAL, "has bits set" },
	{ "2001:db8:c000::/33", 0, EINVAL, "has bits set" },
	{ "::1%nosuchif", 0, EINVAL, "is not an IP address" },
	{ "::1%0", 0, EINVAL, "is not an IP address" },
	{ "1::2::3", 0, EINVAL, "is not an IP address" },
	{ "/8", 0, EINVAL, "is not an IP address" },
	{ "1234567890123456789012345678901234567890123456789012345678901234567890", 0, EINVAL,
	    "...' is not an IP address" },
	{ "*", 0, EINVAL, "is not an IP address" },
};

static void
test_lists(void)
{
	static struct cidr_list list;
	char why[200], many[64 * 12];
	size_t len = 0;
	int error;

	for (unsigned i = 0; i < ksf_nelem(lists); i++) {
		why[0] = '\0';
		error = cidr_parse(lists[i].text, false, &list, why, sizeof(why));
		if (!ok(error == lists[i].error && (error != 0 || list.count == lists[i].count) &&
			    (error == 0 || strstr(why, lists[i].why) != NULL),
			"list '%s': %s", lists[i].text, lists[i].error == 0 ? "good" : "refused"))
			printf("# error %d, count %u, why '%s'\n", error, list.count, why);
	}
	ok(cidr_parse("", false, &list, NULL, 0) == 0 && list.count == 0, "list: empty");
	ok(cidr_parse("*", true, &list, NULL, 0) == 0 && list.count == 2 &&
		list.item[0].addr.family == KSF_IP4 && list.item[1].addr.family == KSF_IP6 &&
		list.item[0].bits == 0,
	    "list: * is all of IPv4 and IPv6");
	for (unsigned i = 0; i < CIDR_MAX - 1; i++)
		len += (size_t)snprintf(many + len, sizeof(many) - len, "192.0.2.%u ", i);
	ok(cidr_parse(many, false, &list, NULL, 0) == 0 && list.count == CIDR_MAX - 1,
	    "list: %u items", CIDR_MAX - 1);
	snprintf(many + len, sizeof(many) - len, "::1");
	ok(cidr_parse(many, false, &list, why, sizeof(why)) == E2BIG &&
		strstr(why, "more than") != NULL,
	    "list: one more is too many");
}

static bool
matches(const char *prefixes, const char *text)
{
	static struct cidr_list list;
	struct ksf_addr addr = { 0 };

	if (cidr_parse(prefixes, false, &list, NULL, 0) != 0 || !host_addr_parse(text, &addr))
		bail_out("malformed: %s, %s", prefixes, text);
	return (cidr_match(&list, &addr));
}

static void
test_match(void)
{
	ok(matches("10.0.0.0/8", "10.255.0.1") && !matches("10.0.0.0/8", "11.0.0.1"),
	    "match: IPv4 prefix");
	ok(matches("192.0.2.128/25", "192.0.2.200") && !matches("192.0.2.128/25", "192.0.2.127"),
	    "match: a prefix that ends within a byte");
	ok(matches("192.0.2.1", "192.0.2.1") && !matches("192.0.2.1", "192.0.2.2"),
	    "match: a whole IPv4 address");
	ok(matches("2001:db8::/33", "2001:db8:7fff::1") &&
		!matches("2001:db8::/33", "2001:db8:8000::1"),
	    "match: IPv6 prefix");
	ok(matches("::1", "::1") && !matches("::1", "::2"), "match: a whole IPv6 address");
	ok(matches("0.0.0.0/0", "203.0.113.9") && !matches("0.0.0.0/0", "2001:db8::1") &&
		matches("::/0", "2001:db8::1") && !matches("::/0", "203.0.113.9"),
	    "match: /0 is all of one family");
	ok(matches("10.0.0.0/8", "::ffff:10.1.2.3") && !matches("10.0.0.0/8", "::ffff:11.1.2.3"),
	    "match: an IPv4-mapped address counts as IPv4");
	ok(matches("10.0.0.0/8,2001:db8::/32", "2001:db8::5") && !matches("", "10.0.0.1"),
	    "match: any item will do, an empty list has none");
}

static void
test_addresses(void)
{
	struct ksf_addr a = { 0 }, b = { 0 };
	char text[KSF_ADDR_STRLEN];

	ok(host_addr_parse("192.0.2.7", &a) && a.family == KSF_IP4, "address: IPv4");
	a.port = 80;
	ok(strcmp(ksf_addr_format(&a, text, sizeof(text)), "192.0.2.7:80") == 0,
	    "address: IPv4 as text");
	b = a;
	b.port = 81;
	ok(ksf_addr_same_ip(&a, &b), "address: the port does not count");
	ok(host_addr_parse("fe80::7%3", &b) && b.scope == 3, "address: IPv6 with a scope");
	b.port = 443;
	ok(strcmp(ksf_addr_format(&b, text, sizeof(text)), "[fe80::7%3]:443") == 0,
	    "address: IPv6 as text");
	ok(!ksf_addr_same_ip(&a, &b), "address: families differ");
	memset(&a, 0, sizeof(a));
	ok(strcmp(ksf_addr_format(&a, text, sizeof(text)), "none:0") == 0, "address: none as text");
	ok(!ksf_addr_is_loopback(&a) && !ksf_addr_is_loopback(&b),
	    "loopback: neither none nor link-local");
	ok(host_addr_parse("127.9.9.9", &a) && ksf_addr_is_loopback(&a), "loopback: 127/8");
	ok(host_addr_parse("::1", &a) && ksf_addr_is_loopback(&a), "loopback: ::1");
	ok(host_addr_parse("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295", &a),
	    "address: the longest");
	a.port = 65535;
	ksf_addr_format(&a, text, sizeof(text));
	ok(strlen(text) < KSF_ADDR_STRLEN && strchr(text, ']') != NULL,
	    "address: the longest text fits");
	ok(!host_addr_parse("", &a) && !host_addr_parse("fe80::1%", &a) &&
		!host_addr_parse("fe80::1%4294967296", &a) && !host_addr_parse("fe80::1%1x", &a) &&
		!host_addr_parse("1.2.3.4%1", &a),
	    "address: malformed ones");
}

static void
test_cpus(void)
{
	static const char *const bad[] = { "", ",", "1,", ",1", "1-", "-1", "3-1", "1,1", "0-2,2",
		"a", "1;2", "1 2", "65536", "0-256", "99999999999999999999999" };
	unsigned cpus[CPUS_MAX];

	ok(cpus_parse("0", cpus, CPUS_MAX) == 1 && cpus[0] == 0, "cpus: one");
	ok(cpus_parse("7,0, 2-4", cpus, CPUS_MAX) == 5 && cpus[0] == 7 && cpus[1] == 0 &&
		cpus[2] == 2 && cpus[4] == 4,
	    "cpus: a list with a range, in its order");
	ok(cpus_parse("0-255", cpus, CPUS_MAX) == 256 && cpus[255] == 255,
	    "cpus: as many as there can be");
	ok(cpus_parse("65535", cpus, CPUS_MAX) == 1, "cpus: the highest number");
	ok(cpus_parse("1,2,3", cpus, 2) == 0, "cpus: more than there is room for");
	for (unsigned i = 0; i < ksf_nelem(bad); i++)
		ok(cpus_parse(bad[i], cpus, CPUS_MAX) == 0, "cpus: '%s' is refused", bad[i]);
}

/* Vectors of the SipHash paper's reference implementation: key 00..0f, input 00, 01, 02, ... of
 * each length. */
static void
test_siphash(void)
{
	static const struct {
		size_t len;
		uint64_t hash;
	} vectors[] = {
		{ 0, 0x726fdb47dd0e0e31 },
		{ 1, 0x74f839c593dc67fd },
		{ 2, 0x0d6c8009d9a94f5a },
		{ 7, 0xab0200f58b01d137 },
		{ 8, 0x93f5f5799a932462 },
		{ 15, 0xa129ca6149be45e5 },
		{ 16, 0x3f2acc7f57c29bdb },
		{ 63, 0x958a324ceb064572 },
	};
	const uint64_t key[2] = { 0x0706050403020100, 0x0f0e0d0c0b0a0908 };
	uint8_t input[64];

	for (unsigned i = 0; i < sizeof(input); i++)
		input[i] = (uint8_t)i;
	for (unsigned i = 0; i < ksf_nelem(vectors); i++)
		ok(siphash(key, input, vectors[i].len) == vectors[i].hash,
		    "siphash: reference vector of %zu bytes", vectors[i].len);
}

int
main(void)
{
	test_settings();
	test_table();
	test_running();
	test_start_checks();
	test_lists();
	test_match();
	test_addresses();
	test_cpus();
	test_siphash();
	return (tap_end());
}
