/* SPDX-License-Identifier: MIT */
#include "clocks.h"

#include <errno.h>

uint64_t cpu_self_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return timespec_ns(&ts);
}

int cpu_clock_open(pid_t pid, clockid_t *clock)
{
	/* Returns an error number instead of setting errno. */
	return -clock_getcpuclockid(pid, clock);
}

int cpu_clocks_read(const clockid_t *clocks, size_t nr, uint64_t *sum_ns)
{
	struct timespec ts;

	*sum_ns = 0;
	for (size_t i = 0; i < nr; i++) {
		if (clock_gettime(clocks[i], &ts) < 0)
			return -errno;
		*sum_ns += timespec_ns(&ts);
	}
	return 0;
}
