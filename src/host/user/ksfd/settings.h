/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the command line and the configuration file ask for, before it reaches a service: lists of
 * name and value. Main thread only.
 */
#ifndef KSFD_SETTINGS_H
#define KSFD_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

struct setting {
	struct setting *next;
	char *name;
	char *value;
};

/* One service of the command line or the file. */
struct request {
	struct request *next;
	char *service;
	struct setting *settings; /* in the order given; a later one of the same name counts */
};

/*
 * Add the services of `text`, "SERVICE[:param=value,...]", to the list. A part without "=" belongs
 * to the value before it, so that lists can be written: "kecho:listen=127.0.0.1,::1,port=7". 0 or
 * EX_USAGE, with one line in `why`.
 */
int request_parse(const char *text, struct request **list, char *why, size_t whylen);

/*
 * Add the services of a configuration file: sections "[service]" with lines "param = value"; "#"
 * begins a comment. 0, EX_NOINPUT or EX_CONFIG, with one line in `why`.
 */
int request_read(const char *path, struct request **list, char *why, size_t whylen);

struct request *request_find(struct request *list, const char *service);

/* The value that counts, or NULL. */
const char *request_value(const struct request *request, const char *name);

void request_free(struct request **list);

#endif
