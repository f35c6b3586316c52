/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What every fuzzer defines: libFuzzer, or replay.c, calls it with any bytes. It ends the program
 * when something is wrong, and returns 0. One thread.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

#endif
