/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs a fuzzer's function on files instead of a fuzzer: the arguments are files, and directories
 * of files. One thread; what the function finds ends the program. Prints TAP.
 */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX (1u << 20)

static unsigned tests;

static int
replay_file(const char *path)
{
	uint8_t *bytes = malloc(FILE_MAX), *exact;
	FILE *file = fopen(path, "rb");
	size_t len;

	if (bytes == NULL || file == NULL) {
		printf("Bail out! %s: %s\n", path, strerror(errno));
		return (1);
	}
	len = fread(bytes, 1, FILE_MAX, file);
	fclose(file);

	/* Memory of the exact size: reading behind it shows. */
	exact = malloc(len + (len == 0));
	if (exact == NULL)
		return (1);
	memcpy(exact, bytes, len);
	(void)LLVMFuzzerTestOneInput(exact, len);
	free(exact);
	free(bytes);
	printf("ok %u - %s\n", ++tests, path);
	fflush(stdout);
	return (0);
}

static int
replay(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	char name[1024];
	int status = 0;

	if (dir == NULL)
		return (replay_file(path));
	while (status == 0 && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		status = replay_file(name);
	}
	closedir(dir);
	return (status);
}

int
main(int argc, char **argv)
{
	int status = 0;

	for (int i = 1; i < argc && status == 0; i++)
		status = replay(argv[i]);
	printf("1..%u\n", tests);
	return (status);
}
