/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ksfd's command line and configuration file (src/host/user/ksfd/settings.h). The first byte
 * chooses; the command line's services are separated by newlines, the file is the rest as it is.
 */
#include "../../src/host/user/ksfd/settings.h"
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

static void
check(bool good)
{
	if (!good)
		abort();
}

/* The list is well formed, and finds what is in it. */
static void
check_list(struct request *list)
{
	for (struct request *r = list; r != NULL; r = r->next) {
		check(*r->service != '\0' && request_find(list, r->service) == r);
		for (struct setting *s = r->settings; s != NULL; s = s->next)
			check(s->name != NULL && s->value != NULL &&
			      request_value(r, s->name) != NULL);
	}
	check(request_value(NULL, "port") == NULL && request_find(list, "") == NULL);
}

static void
check_why(int status, const char *why)
{
	if (status != 0)
		check(*why != '\0' && strlen(why) < 256);
}

static void
fuzz_command_line(char *text)
{
	struct request *list = NULL;
	char why[256] = "", *part;
	int status = 0;

	while (status == 0 && (part = strsep(&text, "\n")) != NULL)
		status = request_parse(part, &list, why, sizeof(why));
	check(status == 0 || status == EX_USAGE);
	check_why(status, why);
	check_list(list);
	request_free(&list);
	check(list == NULL);
}

static void
fuzz_file(const uint8_t *bytes, size_t len)
{
	static char path[64];
	struct request *list = NULL;
	char why[256] = "";
	FILE *file;
	int status, fd;

	if (path[0] == '\0') {
		strcpy(path, "/tmp/fuzz_settings.XXXXXX");
		fd = mkstemp(path);
		check(fd >= 0);
		close(fd);
	}
	file = fopen(path, "wb");
	check(file != NULL && fwrite(bytes, 1, len, file) == len && fclose(file) == 0);
	status = request_read(path, &list, why, sizeof(why));
	(void)unlink(path);
	check(status == 0 || status == EX_CONFIG);
	check_why(status, why);
	check_list(list);
	request_free(&list);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	char *text;

	if (len == 0)
		return (0);
	if (bytes[0] % 2 == 1) {
		fuzz_file(bytes + 1, len - 1);
		return (0);
	}
	text = malloc(len);
	if (text == NULL)
		return (0);
	memcpy(text, bytes + 1, len - 1);
	text[len - 1] = '\0';
	fuzz_command_line(text);
	free(text);
	return (0);
}
