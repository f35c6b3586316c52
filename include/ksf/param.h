/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Parameters and statistics: declared once per service, in one table; each host shows the same
 * table in its own native face (command line and file, sysctl(8), /sys/module).
 */
#ifndef KSF_PARAM_H
#define KSF_PARAM_H

#include <ksf/base.h>

enum ksf_param_type {
	KSF_PARAM_BOOL,   /* uint32_t, 0 or 1 */
	KSF_PARAM_U32,    /* uint32_t */
	KSF_PARAM_U64,    /* uint64_t */
	KSF_PARAM_STRING, /* char[max + 1] */
};

/* A parameter that may change while the service runs; all others may change only while it is
 * stopped. */
#define KSF_PARAM_RUNTIME 0x1u

struct ksf_param {
	const char *name; /* what users write */
	const char *unit; /* "ms", "bytes", ... or "" */
	const char *help; /* one line, no full stop */
	enum ksf_param_type type;
	unsigned flags;    /* KSF_PARAM_RUNTIME */
	size_t offset;     /* of the value in the structure it lives in */
	uint64_t min, max; /* range of a number; longest string in bytes */
	uint64_t def;      /* default of a number */
	const char *sdef;  /* default of a string */
	/* Further check of a string; 0 or an errno with the reason in `why`. May be NULL. */
	int (*check)(const char *value, char *why, size_t whylen);
};

#define KSF_PARAM_NUMBER(type_, st, field, name_, unit_, flags_, def_, min_, max_, help_) \
	{                                                                                 \
		.name = (name_), .unit = (unit_), .help = (help_), .type = (type_),       \
		.flags = (flags_), .offset = offsetof(struct st, field), .min = (min_),   \
		.max = (max_), .def = (def_)                                              \
	}

/* A statistic: a counter only grows, a gauge is a level. */
enum ksf_stat_kind { KSF_STAT_COUNTER, KSF_STAT_GAUGE };

struct ksf_stat {
	const char *name; /* what users read */
	const char *help; /* one line, no full stop */
	enum ksf_stat_kind kind;
};

#endif
