/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads, locks, time and cores of the user host, by POSIX threads.
 */
#include "../host.h"
#include "udp.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#ifdef __FreeBSD__
#include <sys/param.h>
#include <sys/cpuset.h>
#include <sys/sysctl.h>
#include <pthread_np.h>

typedef cpuset_t cpu_set_t;
#endif

/*
 * Locks and conditions. FreeBSD allocates them, which can fail: then they are made when they are
 * first used.
 */
void
host_lock_init(struct host_lock *lock, const char *name)
{
	static const pthread_mutex_t unmade = PTHREAD_MUTEX_INITIALIZER;

	(void)name;
	if (pthread_mutex_init(&lock->mutex, NULL) != 0)
		lock->mutex = unmade;
}

void
host_lock_destroy(struct host_lock *lock)
{
	pthread_mutex_destroy(&lock->mutex);
}

void
host_lock_acquire(struct host_lock *lock)
{
	/* Fails only where it is still to be made, and memory is short. */
	while (pthread_mutex_lock(&lock->mutex) != 0)
		sched_yield();
}

void
host_lock_release(struct host_lock *lock)
{
	pthread_mutex_unlock(&lock->mutex);
}

void
host_cond_init(struct host_cond *cond, const char *name)
{
	static const pthread_cond_t unmade = PTHREAD_COND_INITIALIZER;
	pthread_condattr_t attr;
	int error;

	(void)name;
	cond->clock = CLOCK_MONOTONIC;
	error = pthread_condattr_init(&attr);
	if (error == 0) {
		pthread_condattr_setclock(&attr, cond->clock);
		error = pthread_cond_init(&cond->cond, &attr);
		pthread_condattr_destroy(&attr);
	}
	if (error != 0) {
		cond->cond = unmade;
		cond->clock = CLOCK_REALTIME;
	}
}

void
host_cond_destroy(struct host_cond *cond)
{
	pthread_cond_destroy(&cond->cond);
}

void
host_cond_wait(struct host_cond *cond, struct host_lock *lock, unsigned ms)
{
	struct timespec until;

	if (ms == 0) {
		pthread_cond_wait(&cond->cond, &lock->mutex);
		return;
	}
	clock_gettime(cond->clock, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_cond_timedwait(&cond->cond, &lock->mutex, &until);
}

void
host_cond_wake_all(struct host_cond *cond)
{
	pthread_cond_broadcast(&cond->cond);
}

/*
 * Threads.
 */
struct thread_start {
	void (*fn)(void *);
	void *arg;
};

static void *
thread_main(void *arg)
{
	struct thread_start start = *(struct thread_start *)arg;

	/* Nobody cancels these threads; saying so spares the C library two atomic operations at
	 * each system call. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	free(arg);
	start.fn(start.arg);
	return (NULL);
}

static void
name_thread(pthread_t id, const char *name)
{
#ifdef __FreeBSD__
	pthread_set_name_np(id, name);
#else
	char cut[16];

	/* Linux takes at most 15 characters. */
	snprintf(cut, sizeof(cut), "%s", name);
	pthread_setname_np(id, cut);
#endif
}

int
host_thread_start(
    struct host_thread *thread, const char *name, unsigned cpu, void (*fn)(void *), void *arg)
{
	struct thread_start *start;
	pthread_attr_t attr;
	cpu_set_t set;
	int error;

	if (cpu != HOST_CPU_NONE && cpu >= CPU_SETSIZE)
		return (EINVAL);
	start = malloc(sizeof(*start));
	if (start == NULL)
		return (ENOMEM);
	start->fn = fn;
	start->arg = arg;
	error = pthread_attr_init(&attr);
	if (error == 0) {
		if (cpu != HOST_CPU_NONE) {
			CPU_ZERO(&set);
			CPU_SET(cpu, &set);
			error = pthread_attr_setaffinity_np(&attr, sizeof(set), &set);
		}
		if (error == 0)
			error = pthread_create(&thread->id, &attr, thread_main, start);
		pthread_attr_destroy(&attr);
	}
	if (error != 0) {
		free(start);
		return (error);
	}
	name_thread(thread->id, name);
	return (0);
}

void
host_thread_join(struct host_thread *thread)
{
	pthread_join(thread->id, NULL);
}

_Thread_local void *host_thread_self;

void
host_self_set(void *self)
{
	host_thread_self = self;

	/* After the thread has lost its cache of segments: that has been drained, and would only
	 * swallow these. */
	if (self == NULL)
		udp_scratch_release();
}

/*
 * Cores.
 */
#ifdef __FreeBSD__
/* SMT siblings have adjacent numbers. */
static bool
first_of_core(unsigned cpu)
{
	int threads = 1;
	size_t len = sizeof(threads);

	if (sysctlbyname("kern.smp.threads_per_core", &threads, &len, NULL, 0) != 0 || threads < 1)
		return (true);
	return (cpu % (unsigned)threads == 0);
}

static int
own_cpus(cpu_set_t *set)
{
	return (cpuset_getaffinity(CPU_LEVEL_WHICH, CPU_WHICH_PID, -1, sizeof(*set), set));
}

/* Before 13.1 the system did not tell. */
unsigned
host_cpu(void)
{
#if __FreeBSD_version >= 1301000
	int cpu = sched_getcpu();

	return (cpu >= 0 ? (unsigned)cpu : HOST_CPU_NONE);
#else
	return (HOST_CPU_NONE);
#endif
}
#else
static bool
first_of_core(unsigned cpu)
{
	char path[96];
	unsigned first;
	FILE *file;
	int n;

	snprintf(
	    path, sizeof(path), "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list", cpu);
	file = fopen(path, "re");
	if (file == NULL)
		return (true);
	n = fscanf(file, "%u", &first);
	fclose(file);
	return (n != 1 || first == cpu);
}

static int
own_cpus(cpu_set_t *set)
{
	return (sched_getaffinity(0, sizeof(*set), set));
}

unsigned
host_cpu(void)
{
	int cpu = sched_getcpu();

	return (cpu >= 0 ? (unsigned)cpu : 0);
}
#endif

unsigned
host_cores(unsigned *cpus, unsigned max)
{
	unsigned count = 0, any = 0;
	cpu_set_t set;

	CPU_ZERO(&set);
	if (own_cpus(&set) != 0)
		CPU_SET(0, &set);
	for (unsigned cpu = 0; cpu < CPU_SETSIZE && count < max; cpu++) {
		if (!CPU_ISSET(cpu, &set))
			continue;
		any = cpu;
		if (first_of_core(cpu))
			cpus[count++] = cpu;
	}

	/* Confined to second siblings. */
	if (count == 0)
		cpus[count++] = any;
	return (count);
}

uint64_t
host_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return ((uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec);
}

void
host_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}
