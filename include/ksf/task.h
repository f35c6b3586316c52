/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tasks: short pieces of work that run once, on the worker threads of one core.
 */
#ifndef KSF_TASK_H
#define KSF_TASK_H

#include <ksf/base.h>

struct ksf_svc;
struct ksf_task;

typedef void ksf_task_fn(struct ksf_task *task);

/* Embed one in the object that the work is about. The caller owns its memory, which must live until
 * fn is called. */
struct ksf_task {
	struct ksf_task *next; /* private to the pool while queued */
	ksf_task_fn *fn;       /* called once for each ksf_task_run() */
	unsigned flags;        /* KSF_TASK_* */
};

/*
 * The task may sleep (disk, locks, another server): while it runs, other tasks of its core are
 * given to another worker, and one more is started if all are busy and the limit `tdmax` allows.
 */
#define KSF_TASK_MAY_BLOCK 0x1u

/* Any cpu: the group of the cpu that the caller runs on, or the least surprising one. */
#define KSF_CPU_ANY (-1)

/*
 * Run task->fn once on the group of `cpu` (KSF_CPU_ANY: the caller's). Never sleeps; may be called
 * from any context. The task must not be queued already. ksf_svc_stop() waits for all tasks of the
 * service.
 */
void ksf_task_run(struct ksf_svc *svc, struct ksf_task *task, int cpu);

#endif
