/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The services that come with ksf.
 */
#ifndef KSF_SERVICES_H
#define KSF_SERVICES_H

#include <ksf/ksf.h>

extern const struct ksf_service ksf_kecho; /* echo, kecho(4) */

#endif
