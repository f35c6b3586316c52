/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Parameters: the table every service has, and setting and reading them by name. Sleepable; the
 * service's lock makes strings safe, numbers are written atomically and read without a lock.
 */
#include "core.h"

static int check_listen(const char *value, char *why, size_t whylen);
static int check_allow(const char *value, char *why, size_t whylen);
static int check_cpus(const char *value, char *why, size_t whylen);
static int check_backend(const char *value, char *why, size_t whylen);

#define NUMBER(type, field, name, unit, flags, def, min, max, help) \
	KSF_PARAM_NUMBER(type, svc_params, field, name, unit, flags, def, min, max, help)
#define U32(field, unit, flags, def, min, max, help) \
	NUMBER(KSF_PARAM_U32, field, #field, unit, flags, def, min, max, help)
#define BOOLEAN(field, flags, def, help) \
	NUMBER(KSF_PARAM_BOOL, field, #field, "", flags, def, 0, 1, help)
#define STRING(field, flags_, def_, check_, help_)                                     \
	{                                                                              \
		.name = #field, .unit = "", .help = (help_), .type = KSF_PARAM_STRING, \
		.flags = (flags_), .offset = offsetof(struct svc_params, field),       \
		.max = sizeof(((struct svc_params *)0)->field) - 1, .sdef = (def_),    \
		.check = (check_)                                                      \
	}

#define RUNTIME KSF_PARAM_RUNTIME
#define DAY_MS  86400000u
#define GIB     ((uint64_t)1 << 30)

const struct ksf_param svc_param_table[] = {
	BOOLEAN(enable, RUNTIME, 1, "the service runs; 0 stops it, 1 starts it again"),
	STRING(listen, 0, "127.0.0.1,::1", check_listen,
	    "addresses to listen at; * is all of IPv4 and IPv6"),
	U32(port, "", 0, 0, 0, 65535, "TCP and UDP port; 0 picks a free one"),
	BOOLEAN(tcp, 0, 1, "serve TCP"),
	BOOLEAN(udp, 0, 1, "serve UDP"),
	STRING(allow, RUNTIME, "", check_allow,
	    "prefixes (CIDR) that may talk to the service; empty is everybody"),
	STRING(cpus, 0, "", check_cpus, "cores to run on, such as 0,2-3; empty is all"),
	U32(tdmin, "threads", 0, 1, 1, 64, "least worker threads per core"),
	U32(tdmax, "threads", 0, 8, 1, 256, "most worker threads per core"),
	U32(spin_us, "us", RUNTIME, 0, 0, 100000,
	    "longest time an idle worker looks for work before it sleeps"),
	STRING(backend, 0, "auto", check_backend, "how the host waits for events"),
	U32(sosndbuf, "bytes", RUNTIME, 0, 0, GIB, "socket send buffer; 0 is the system's default"),
	U32(sorcvbuf, "bytes", RUNTIME, 0, 0, GIB,
	    "socket receive buffer; 0 is the system's default"),
	U32(backlog, "conns", 0, 4096, 1, 65535,
	    "connections that may wait to be accepted, per listening socket"),
	U32(maxconns, "conns", RUNTIME, 65536, 1, 16777216, "most TCP connections"),
	U32(maxconns_addr, "conns", RUNTIME, 0, 0, 16777216,
	    "most TCP connections of one source address; 0 is any number"),
	U32(txhiwat, "bytes", RUNTIME, 262144, 4096, GIB,
	    "memory of output queued on a connection at which reading stops"),
	U32(txlowat, "bytes", RUNTIME, 65536, 0, GIB, "output queued at which reading goes on"),
	U32(rxmax, "bytes", RUNTIME, 1114112, 4096, GIB,
	    "most input a connection may keep unconsumed"),
	U32(inflight, "requests", RUNTIME, 256, 1, 65536,
	    "requests in flight on a connection at which reading stops"),
	NUMBER(KSF_PARAM_U64, memmax, "memmax", "bytes", RUNTIME, GIB, 65536, UINT64_MAX,
	    "memory all connections may keep; reading slows above it"),
	U32(dgram_max, "bytes", RUNTIME, 65507, 1, 65507,
	    "longest UDP datagram taken; longer ones are dropped"),
	U32(sessions, "sessions", 0, 16384, 1, 1048576,
	    "most UDP sessions (peers) at each address, spread over the cores"),
	NUMBER(KSF_PARAM_U32, session_ms, "session_timeout_ms", "ms", RUNTIME, 60000, 100, DAY_MS,
	    "a UDP session idle for this long is closed"),
	NUMBER(KSF_PARAM_U32, idle_ms, "idle_timeout_ms", "ms", RUNTIME, 0, 0, DAY_MS,
	    "a TCP connection idle for this long is closed; 0 is never"),
	NUMBER(KSF_PARAM_U32, stall_ms, "stall_timeout_ms", "ms", RUNTIME, 60000, 0, DAY_MS,
	    "a peer that takes no output for this long is cut; 0 is never"),
	U32(linger_ms, "ms", RUNTIME, 500, 0, 60000,
	    "longest time to wait, at close, for a peer that is still sending"),
	U32(grace_ms, "ms", RUNTIME, 2000, 0, 600000,
	    "time that requests in flight have to finish when the service stops"),
	BOOLEAN(debug, RUNTIME, 0, "log debugging messages"),
};

const unsigned svc_nparams = ksf_nelem(svc_param_table);

void
why_format(char *why, size_t len, const char *fmt, ...)
{
	va_list args;

	if (why == NULL || len == 0)
		return;
	va_start(args, fmt);
	(void)vsnprintf(why, len, fmt, args);
	va_end(args);
}

/*
 * Checks of strings.
 */
static int
check_listen(const char *value, char *why, size_t whylen)
{
	struct cidr_list list;
	int error;

	error = cidr_parse(value, true, &list, why, whylen);
	if (error == 0 && list.count == 0) {
		why_format(why, whylen, "no address");
		error = EINVAL;
	}
	if (error == 0 && strchr(value, '/') != NULL) {
		why_format(why, whylen, "'%s': addresses have no prefix length here", value);
		error = EINVAL;
	}
	return (error);
}

static int
check_allow(const char *value, char *why, size_t whylen)
{
	struct cidr_list list;

	return (cidr_parse(value, false, &list, why, whylen));
}

static int
check_cpus(const char *value, char *why, size_t whylen)
{
	unsigned cpus[CPUS_MAX];

	if (*value != '\0' && cpus_parse(value, cpus, CPUS_MAX) == 0) {
		why_format(why, whylen, "'%s' is not a list of cores such as 0,2-3", value);
		return (EINVAL);
	}
	return (0);
}

static int
check_backend(const char *value, char *why, size_t whylen)
{
	if (host_backend_known(value))
		return (0);
	why_format(why, whylen, "this host has no backend '%s'", value);
	return (EINVAL);
}

/*
 * A decimal number at *text, which moves behind its digits. 0, EINVAL when there is none, ERANGE
 * when it is too large.
 */
static int
parse_decimal(const char **text, uint64_t *value)
{
	const char *p = *text;
	unsigned digit;
	int error = *p >= '0' && *p <= '9' ? 0 : EINVAL;

	*value = 0;
	for (; *p >= '0' && *p <= '9'; p++) {
		digit = (unsigned)(*p - '0');
		if (*value > (UINT64_MAX - digit) / 10)
			error = ERANGE;
		*value = *value * 10 + digit;
	}
	*text = p;
	return (error);
}

unsigned
cpus_parse(const char *text, unsigned *cpus, unsigned max)
{
	uint64_t first, last;
	unsigned count = 0;

	for (;;) {
		if (parse_decimal(&text, &first) != 0)
			return (0);
		last = first;
		if (*text == '-') {
			text++;
			if (parse_decimal(&text, &last) != 0)
				return (0);
		}
		if (last < first || last >= 65536)
			return (0);
		for (; first <= last; first++) {
			for (unsigned i = 0; i < count; i++) {
				if (cpus[i] == first)
					return (0);
			}
			if (count == max)
				return (0);
			cpus[count++] = (unsigned)first;
		}
		if (*text == '\0')
			return (count);
		if (*text++ != ',')
			return (0);
		while (*text == ' ')
			text++;
	}
}

/*
 * Values.
 */
static int
parse_number(const char *text, uint64_t *value)
{
	static const struct {
		char suffix;
		unsigned shift;
	} units[] = { { 'k', 10 }, { 'K', 10 }, { 'm', 20 }, { 'M', 20 }, { 'g', 30 },
		{ 'G', 30 } };
	int error = parse_decimal(&text, value);

	if (error == EINVAL || *text == '\0')
		return (error);
	for (unsigned i = 0; i < ksf_nelem(units); i++) {
		if (*text == units[i].suffix && text[1] == '\0') {
			if (error != 0 || *value > UINT64_MAX >> units[i].shift)
				return (ERANGE);
			*value <<= units[i].shift;
			return (0);
		}
	}
	return (EINVAL);
}

static int
parse_bool(const char *text, uint64_t *value)
{
	static const char *const words[][2] = { { "0", "1" }, { "no", "yes" }, { "off", "on" },
		{ "false", "true" } };

	for (unsigned i = 0; i < ksf_nelem(words); i++) {
		for (unsigned bit = 0; bit < 2; bit++) {
			if (strcmp(text, words[i][bit]) == 0) {
				*value = bit;
				return (0);
			}
		}
	}
	return (EINVAL);
}

/* The parameter of this name, its index, and where the structure that holds its value is. */
static const struct ksf_param *
find(struct ksf_svc *svc, const char *name, unsigned *index, void **base)
{
	const struct ksf_param *param;

	for (unsigned i = 0; (param = ksf_param_at(svc->desc, i)) != NULL; i++) {
		if (strcmp(param->name, name) == 0) {
			*index = i;
			*base = i < svc_nparams ? (void *)&svc->params : svc->conf;
			return (param);
		}
	}
	return (NULL);
}

const struct ksf_param *
ksf_param_at(const struct ksf_service *desc, unsigned i)
{
	if (i < svc_nparams)
		return (&svc_param_table[i]);
	return (i - svc_nparams < desc->nparams ? &desc->params[i - svc_nparams] : NULL);
}

static uint64_t
default_number(const struct ksf_service *desc, const struct ksf_param *param)
{
	if (param >= svc_param_table && param < svc_param_table + svc_nparams &&
	    strcmp(param->name, "port") == 0)
		return (desc->port);
	return (param->def);
}

void
ksf_param_default(
    const struct ksf_service *desc, const struct ksf_param *param, char *buf, size_t len)
{
	if (param->type == KSF_PARAM_STRING)
		why_format(buf, len, "%s", param->sdef);
	else
		why_format(buf, len, "%llu", (unsigned long long)default_number(desc, param));
}

static void
store_number(const struct ksf_param *param, void *base, uint64_t value)
{
	void *field = (char *)base + param->offset;

	if (param->type == KSF_PARAM_U64)
		ksf_store_relaxed((uint64_t *)field, value);
	else
		ksf_store_relaxed((uint32_t *)field, (uint32_t)value);
}

static void
store_string(const struct ksf_param *param, void *base, const char *value)
{
	char *field = (char *)base + param->offset;

	memset(field, 0, param->max + 1);
	memcpy(field, value, strlen(value) + 1);
}

void
params_init(struct ksf_svc *svc)
{
	const struct ksf_param *param;
	void *base;

	for (unsigned i = 0; (param = ksf_param_at(svc->desc, i)) != NULL; i++) {
		base = i < svc_nparams ? (void *)&svc->params : svc->conf;
		if (param->type == KSF_PARAM_STRING)
			store_string(param, base, param->sdef);
		else
			store_number(param, base, default_number(svc->desc, param));
	}
}

bool
params_is_set(struct ksf_svc *svc, const char *name)
{
	unsigned index;
	void *base;

	return (find(svc, name, &index, &base) != NULL && svc->set[index]);
}

/* The number that `value` stands for, in range. */
static int
check_number(struct ksf_svc *svc, const struct ksf_param *param, const char *value,
    uint64_t *number, char *why, size_t whylen)
{
	int error;

	error = param->type == KSF_PARAM_BOOL ? parse_bool(value, number)
					      : parse_number(value, number);
	if (error == EINVAL) {
		why_format(why, whylen, "%s: %s=%s: not a %s", svc->desc->name, param->name, value,
		    param->type == KSF_PARAM_BOOL ? "boolean (0 or 1)" : "number");
		return (error);
	}
	if (error != 0 || *number < param->min || *number > param->max) {
		why_format(why, whylen, "%s: %s=%s: out of range %llu to %llu", svc->desc->name,
		    param->name, value, (unsigned long long)param->min,
		    (unsigned long long)param->max);
		return (ERANGE);
	}
	return (0);
}

static int
check_string(
    struct ksf_svc *svc, const struct ksf_param *param, const char *value, char *why, size_t whylen)
{
	char reason[128] = "";
	int error;

	if (strlen(value) > param->max) {
		why_format(why, whylen, "%s: %s: longer than %llu characters", svc->desc->name,
		    param->name, (unsigned long long)param->max);
		return (ERANGE);
	}
	error = param->check != NULL ? param->check(value, reason, sizeof(reason)) : 0;
	if (error != 0)
		why_format(why, whylen, "%s: %s: %s", svc->desc->name, param->name, reason);
	return (error);
}

/* Service lock held. */
static void
set_string(struct ksf_svc *svc, const struct ksf_param *param, void *base, const char *value)
{
	store_string(param, base, value);
	if (base != (void *)&svc->params || strcmp(param->name, "allow") != 0)
		return;
	(void)cidr_parse(value, false, &svc->allow, NULL, 0);
	ksf_store_relaxed(&svc->allow_some, svc->allow.count);
}

int
ksf_param_set(struct ksf_svc *svc, const char *name, const char *value, char *why, size_t whylen)
{
	const struct ksf_param *param;
	uint64_t number = 0;
	unsigned index;
	void *base;
	int error;

	param = find(svc, name, &index, &base);
	if (param == NULL) {
		why_format(why, whylen, "%s: no parameter '%s'", svc->desc->name, name);
		return (ENOENT);
	}
	if (param->type == KSF_PARAM_STRING)
		error = check_string(svc, param, value, why, whylen);
	else
		error = check_number(svc, param, value, &number, why, whylen);
	if (error != 0)
		return (error);

	/* In one step with ksf_svc_start(), which sets `running` before it reads parameters. */
	host_lock_acquire(&svc->lock);
	if (svc->running && !(param->flags & KSF_PARAM_RUNTIME))
		error = EBUSY;
	else {
		if (param->type == KSF_PARAM_STRING)
			set_string(svc, param, base, value);
		else
			store_number(param, base, number);
		svc->set[index] = 1;
	}
	host_lock_release(&svc->lock);
	if (error != 0)
		why_format(why, whylen, "%s: %s cannot change while the service runs",
		    svc->desc->name, name);
	return (error);
}

int
ksf_param_get(struct ksf_svc *svc, const char *name, char *buf, size_t len)
{
	const struct ksf_param *param;
	const char *field;
	uint64_t number;
	unsigned index;
	void *base;
	int n;

	param = find(svc, name, &index, &base);
	if (param == NULL)
		return (ENOENT);
	field = (const char *)base + param->offset;
	if (param->type == KSF_PARAM_STRING) {
		host_lock_acquire(&svc->lock);
		n = snprintf(buf, len, "%s", field);
		host_lock_release(&svc->lock);
	} else {
		number = param->type == KSF_PARAM_U64 ? ksf_param_u64((const void *)field)
						      : ksf_param_u32((const void *)field);
		n = snprintf(buf, len, "%llu", (unsigned long long)number);
	}
	return (n < 0 || (size_t)n >= len ? ENOSPC : 0);
}
