/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The services of this directory, for whoever runs them: main.c here, a kernel module's glue
 * elsewhere.
 */
#ifndef EXAMPLE_SERVICES_H
#define EXAMPLE_SERVICES_H

#include <ksf/ksf.h>

extern const struct ksf_service kupper;  /* upper.c */
extern const struct ksf_service kdigest; /* digest.c */

#endif
