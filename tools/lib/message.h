/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Everything a tool says on stderr: error messages, and one status line that is rewritten in place
 * on a terminal. Any thread may call these; messages of several threads do not mix.
 */
#ifndef TOOLS_MESSAGE_H
#define TOOLS_MESSAGE_H

#include <stdbool.h>

/* Set the name that stands in front of every message. The string must stay. */
void message_set_program(const char *name);

/* Print "program: text\n"; the format comes without a newline. */
void message(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Whether a status line makes sense: stderr is a terminal. */
bool message_status_wanted(void);

/* Show `text` (no newline) in the status line, or take the line away when it is NULL. */
void message_status(const char *text);

#endif
