/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a process on Linux or FreeBSD gives ksf's headers: the C library's names.
 */
#ifndef KSF_PORT_H
#define KSF_PORT_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#endif
