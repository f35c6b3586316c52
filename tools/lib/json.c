/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writing JSON (RFC 8259). Main thread only.
 */
#include "json.h"

#include <inttypes.h>
#include <math.h>

void
json_begin(struct json *json, FILE *out)
{
	json->out = out;
	json->first = true;
	fputc('{', out);
}

void
json_end(struct json *json)
{
	fputs("}\n", json->out);
}

/* Write a string with quotes and escapes. */
static void
write_string(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text != '\0'; text++) {
		if ((unsigned char)*text < ' ')
			fprintf(out, "\\u%04x", (unsigned)(unsigned char)*text);
		else if (*text == '"' || *text == '\\')
			fprintf(out, "\\%c", *text);
		else
			fputc(*text, out);
	}
	fputc('"', out);
}

/* Write what stands before a member's value. */
static void
write_key(struct json *json, const char *key)
{
	if (!json->first)
		fputc(',', json->out);
	json->first = false;
	write_string(json->out, key);
	fputc(':', json->out);
}

void
json_open(struct json *json, const char *key)
{
	write_key(json, key);
	fputc('{', json->out);
	json->first = true;
}

void
json_close(struct json *json)
{
	fputc('}', json->out);
	json->first = false;
}

void
json_string(struct json *json, const char *key, const char *value)
{
	write_key(json, key);
	write_string(json->out, value);
}

void
json_integer(struct json *json, const char *key, uint64_t value)
{
	write_key(json, key);
	fprintf(json->out, "%" PRIu64, value);
}

void
json_number(struct json *json, const char *key, double value, int decimals)
{
	if (!isfinite(value)) {
		json_null(json, key);
		return;
	}
	write_key(json, key);
	fprintf(json->out, "%.*f", decimals, value);
}

void
json_null(struct json *json, const char *key)
{
	write_key(json, key);
	fputs("null", json->out);
}
