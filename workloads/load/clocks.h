/* SPDX-License-Identifier: MIT */
/* Clocks: monotonic time, and the CPU time of this and of other processes. */
#ifndef IOLAB_LOAD_CLOCKS_H
#define IOLAB_LOAD_CLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define NS_PER_S  1000000000ull
#define NS_PER_MS 1000000ull

static inline uint64_t timespec_ns(const struct timespec *ts)
{
	return (uint64_t)ts->tv_sec * NS_PER_S + (uint64_t)ts->tv_nsec;
}

/* CLOCK_MONOTONIC in ns; answered by the vDSO, without a system call. */
static inline uint64_t mono_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return timespec_ns(&ts);
}

/* CPU time of this process, all threads, user and system, in ns. */
uint64_t cpu_self_ns(void);

/*
 * The clock that counts CPU time of all threads of another process (clock_getcpuclockid(3), ns
 * resolution, no privilege needed). Returns 0 or -errno (-ESRCH: no such process).
 */
int cpu_clock_open(pid_t pid, clockid_t *clock);

/* Sum of `nr` such clocks in ns. Returns 0 or -errno: a process that has ended has no clock. */
int cpu_clocks_read(const clockid_t *clocks, size_t nr, uint64_t *sum_ns);

/*
 * CPU time that a control group has used, in ns: for servers whose processes come and go. `path` is
 * its cpuacct.usage (cgroup v1) or cpu.stat (v2). Returns 0 or -errno; -EINVAL: neither of them.
 */
int cpu_usage_read(const char *path, uint64_t *ns);

/*
 * CPU time of a server in ns: the sum of `nr` clocks and of the control group whose file `usage` is
 * (NULL: none). False when there is nothing to read it from, or some of it cannot be read any more.
 */
bool cpu_server_read(const clockid_t *clocks, size_t nr, const char *usage, uint64_t *ns);

#endif
