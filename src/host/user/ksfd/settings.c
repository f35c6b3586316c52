/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Parsing of the command line's services and of the configuration file. Memory that cannot be had
 * ends the program: it is small, and nothing runs yet or what runs goes on.
 */
#include "settings.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define LINE_MAX_LEN 1024

static void *
need(void *mem)
{
	if (mem == NULL) {
		fprintf(stderr, "ksfd: out of memory\n");
		exit(EX_OSERR);
	}
	return (mem);
}

struct request *
request_find(struct request *list, const char *service)
{
	for (; list != NULL; list = list->next) {
		if (strcmp(list->service, service) == 0)
			return (list);
	}
	return (NULL);
}

static struct request *
request_add(struct request **list, const char *service)
{
	struct request *request = need(calloc(1, sizeof(*request)));

	request->service = need(strdup(service));
	while (*list != NULL)
		list = &(*list)->next;
	*list = request;
	return (request);
}

static void
setting_add(struct request *request, const char *name, const char *value)
{
	struct setting **link = &request->settings, *setting = need(calloc(1, sizeof(*setting)));

	setting->name = need(strdup(name));
	setting->value = need(strdup(value));
	while (*link != NULL)
		link = &(*link)->next;
	*link = setting;
}

/* "value" and "more" become "value,more". */
static void
setting_extend(struct setting *setting, const char *more)
{
	size_t len = strlen(setting->value), more_len = strlen(more);

	setting->value = need(realloc(setting->value, len + more_len + 2));
	setting->value[len] = ',';
	memcpy(setting->value + len + 1, more, more_len + 1);
}

const char *
request_value(const struct request *request, const char *name)
{
	const char *value = NULL;

	for (const struct setting *s = request != NULL ? request->settings : NULL; s != NULL;
	     s = s->next) {
		if (strcmp(s->name, name) == 0)
			value = s->value;
	}
	return (value);
}

void
request_free(struct request **list)
{
	struct request *request;
	struct setting *setting;

	while ((request = *list) != NULL) {
		*list = request->next;
		while ((setting = request->settings) != NULL) {
			request->settings = setting->next;
			free(setting->name);
			free(setting->value);
			free(setting);
		}
		free(request->service);
		free(request);
	}
}

static struct setting *
last_setting(struct request *request)
{
	struct setting *setting = request->settings;

	while (setting != NULL && setting->next != NULL)
		setting = setting->next;
	return (setting);
}

/* "name=value,more,name=value". Writes into text. */
static int
parse_settings(struct request *request, char *text, char *why, size_t whylen)
{
	char *part, *equals;

	while ((part = strsep(&text, ",")) != NULL) {
		equals = strchr(part, '=');
		if (equals == NULL && request->settings != NULL) {
			setting_extend(last_setting(request), part);
			continue;
		}
		if (equals == NULL || equals == part) {
			snprintf(
			    why, whylen, "%s: '%s' is not param=value", request->service, part);
			return (EX_USAGE);
		}
		*equals = '\0';
		setting_add(request, part, equals + 1);
	}
	return (0);
}

int
request_parse(const char *text, struct request **list, char *why, size_t whylen)
{
	char *copy = need(strdup(text)), *colon = strchr(copy, ':');
	struct request *request;
	int status = 0;

	if (colon != NULL)
		*colon = '\0';
	if (*copy == '\0') {
		snprintf(why, whylen, "'%s' names no service", text);
		status = EX_USAGE;
	} else if (request_find(*list, copy) != NULL) {
		snprintf(why, whylen, "%s: given twice", copy);
		status = EX_USAGE;
	} else {
		request = request_add(list, copy);
		if (colon != NULL && colon[1] != '\0')
			status = parse_settings(request, colon + 1, why, whylen);
	}
	free(copy);
	return (status);
}

/* Without blanks around; writes into text. */
static char *
trim(char *text)
{
	size_t len;

	while (isspace((unsigned char)*text))
		text++;
	for (len = strlen(text); len > 0 && isspace((unsigned char)text[len - 1]); len--)
		text[len - 1] = '\0';
	return (text);
}

/* One line, without its comment. `section` is the service it belongs to. */
static int
parse_line(char *line, struct request **list, struct request **section, char *why, size_t whylen)
{
	char *text = trim(line), *equals, *name;
	size_t len = strlen(text);

	if (len == 0)
		return (0);
	if (text[0] == '[') {
		name = text;
		if (text[len - 1] == ']') {
			text[len - 1] = '\0';
			name = trim(text + 1);
		}
		if (*name == '[' || *name == '\0') {
			snprintf(why, whylen, "'%.60s' is not [service]", text);
			return (EX_CONFIG);
		}
		if (request_find(*list, name) != NULL) {
			snprintf(why, whylen, "%.60s: given twice", name);
			return (EX_CONFIG);
		}
		*section = request_add(list, name);
		return (0);
	}
	equals = strchr(text, '=');
	if (equals == NULL || equals == text) {
		snprintf(why, whylen, "'%.60s' is not param = value", text);
		return (EX_CONFIG);
	}
	if (*section == NULL) {
		snprintf(why, whylen, "'%.60s' stands before the first [service]", text);
		return (EX_CONFIG);
	}
	*equals = '\0';
	setting_add(*section, trim(text), trim(equals + 1));
	return (0);
}

int
request_read(const char *path, struct request **list, char *why, size_t whylen)
{
	char line[LINE_MAX_LEN], reason[200];
	struct request *section = NULL;
	unsigned number = 0;
	int status = 0;
	FILE *file;

	file = fopen(path, "r");
	if (file == NULL) {
		snprintf(why, whylen, "%s: %s", path, strerror(errno));
		return (EX_NOINPUT);
	}
	while (status == 0 && fgets(line, sizeof(line), file) != NULL) {
		number++;
		if (strchr(line, '\n') == NULL && !feof(file)) {
			snprintf(
			    reason, sizeof(reason), "longer than %d characters", LINE_MAX_LEN - 2);
			status = EX_CONFIG;
			break;
		}
		line[strcspn(line, "#\n")] = '\0';
		status = parse_line(line, list, &section, reason, sizeof(reason));
	}
	if (status != 0)
		snprintf(why, whylen, "%s:%u: %s", path, number, reason);
	else if (ferror(file)) {
		snprintf(why, whylen, "%s: cannot be read", path);
		status = EX_NOINPUT;
	}
	fclose(file);
	return (status);
}
