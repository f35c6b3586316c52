/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writing JSON, one value per line of output. Main thread only. Errors of the stream stay in the
 * stream (ferror(3)).
 */
#ifndef TOOLS_JSON_H
#define TOOLS_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
	FILE *out;
	bool first; /* the next member is the first of its object */
};

/* Begin and end the outermost object, which fills one line. */
void json_begin(struct json *json, FILE *out);
void json_end(struct json *json);

/* Begin and end an object that is a member of the current one. */
void json_open(struct json *json, const char *key);
void json_close(struct json *json);

/* Add one member to the current object. A number that is not finite is written as null. */
void json_string(struct json *json, const char *key, const char *value);
void json_integer(struct json *json, const char *key, uint64_t value);
void json_number(struct json *json, const char *key, double value, int decimals);
void json_null(struct json *json, const char *key);

#endif
