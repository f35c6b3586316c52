/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Messages and the status line on stderr. Any thread; a mutex keeps lines whole. Never called from
 * a signal handler.
 */
#include "message.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *program = "tool"; /* set before there are threads */
static bool status_shown;            /* protected by lock */

void
message_set_program(const char *name)
{
	program = name;
}

/* Remove the status line; the lock is held. */
static void
erase_status(void)
{
	if (status_shown)
		fputs("\r\033[K", stderr);
	status_shown = false;
}

void
message(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	pthread_mutex_lock(&lock);
	erase_status();
	fprintf(stderr, "%s: ", program);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	pthread_mutex_unlock(&lock);
	va_end(arguments);
}

bool
message_status_wanted(void)
{
	return (isatty(STDERR_FILENO) != 0);
}

void
message_status(const char *text)
{
	pthread_mutex_lock(&lock);
	erase_status();
	if (text != NULL) {
		fputs(text, stderr);
		status_shown = true;
	}
	fflush(stderr);
	pthread_mutex_unlock(&lock);
}
