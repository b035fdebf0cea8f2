/* SPDX-License-Identifier: MIT */
#include "clocks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NS_PER_US 1000ull

/* First line of cpu.stat since it exists (Linux 4.15). */
#define USAGE_USEC "usage_usec "

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

static int read_start(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len;
	int err;

	if (fd < 0)
		return -errno;
	len = read(fd, text, size - 1);
	err = errno;
	close(fd);
	if (len < 0)
		return -err;
	text[len] = '\0';
	return 0;
}

int cpu_usage_read(const char *path, uint64_t *ns)
{
	char text[64];
	uint64_t unit_ns = 1;
	char *number = text;
	char *end;
	int res = read_start(path, text, sizeof(text));

	if (res < 0)
		return res;
	if (strncmp(text, USAGE_USEC, strlen(USAGE_USEC)) == 0) {
		number += strlen(USAGE_USEC);
		unit_ns = NS_PER_US;
	}
	*ns = strtoull(number, &end, 10) * unit_ns;
	return end > number && *end == '\n' ? 0 : -EINVAL;
}

bool cpu_server_read(const clockid_t *clocks, size_t nr, const char *usage, uint64_t *ns)
{
	uint64_t usage_ns = 0;

	if (!nr && !usage)
		return false;
	if (usage && cpu_usage_read(usage, &usage_ns) < 0)
		return false;
	if (cpu_clocks_read(clocks, nr, ns) < 0)
		return false;
	*ns += usage_ns;
	return true;
}
