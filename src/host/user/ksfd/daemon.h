/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The services that this process runs.
 */
#ifndef KSFD_DAEMON_H
#define KSFD_DAEMON_H

#include <stdbool.h>
#include <stddef.h>

#include "settings.h"

/* Where settings came from: the command line counts more than the file. */
struct sources {
	struct request *command_line;
	struct request *file;
};

/*
 * Create every service of the sources, set their parameters, and start those with enable=1. 0, or
 * an exit status of sysexits(3) with one line in `why` and nothing running.
 */
int daemon_start(const struct sources *sources, char *why, size_t whylen);

/* Apply what has changed in `sources`; what cannot be applied is logged, and stays as it is. */
void daemon_reload(const struct sources *sources);

/* Stop all services, each with its grace time, all at once. */
void daemon_stop(void);

/* While daemon_stop() waits in another thread: do not wait any longer. */
void daemon_cut(void);

/* Free everything after daemon_stop(). */
void daemon_destroy(void);

/* One line for each listening address, or for each statistic, on stdout. */
void daemon_print_endpoints(void);
void daemon_print_stats(void);

/* All services and their parameters, on stdout. */
void daemon_list(void);

#endif
