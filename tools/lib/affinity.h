/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which CPUs a thread runs on, and how exactly its sleeps end. Each call concerns the calling
 * thread and changes neither its priority nor its scheduling class.
 */
#ifndef TOOLS_AFFINITY_H
#define TOOLS_AFFINITY_H

/*
 * Store the numbers of the CPUs that the calling thread may run on, in ascending order, at most
 * `max`. Returns how many there are, or 0 with errno set.
 */
unsigned affinity_get(unsigned *cpus, unsigned max);

/* Run the calling thread on `cpu` only. Returns 0 or an errno value. */
int affinity_pin(unsigned cpu);

/* Let timed sleeps of the calling thread end as precisely as the system can, where it offers that.
 */
void affinity_precise_sleep(void);

#endif
