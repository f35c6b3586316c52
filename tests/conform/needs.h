/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a check needs from the machine it runs on (enum check_needs).
 */
#ifndef CONFORM_NEEDS_H
#define CONFORM_NEEDS_H

#include <stddef.h>

#include "conform.h"

/* Provide all that `needs` names, or skip the run with the reason. */
void needs_require(struct run *run, unsigned needs);

/* Write the needs in words, e.g. "privileged ports, raw sockets"; an empty string for none. */
void needs_describe(unsigned needs, char *buffer, size_t size);

#endif
