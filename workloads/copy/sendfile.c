/* SPDX-License-Identifier: MIT */
/*
 * sendfile: sendfile(2) from file to file (Linux 2.6.33). Inside, the kernel splices the source's
 * pages into a pipe that belongs to the task and from there into the destination, 64 KiB at a time
 * (splice_direct_to_actor, fs/splice.c): references up to the pipe, one copy into the
 * destination's pages, no user memory.
 */
#include <sys/sendfile.h>

#include "in_kernel.h"

static int sendfile_open(struct copier *c)
{
	(void)c;
	return 0;
}

static ssize_t one_call(int src, int dst, off_t *at, size_t bytes)
{
	return sendfile(dst, src, at, bytes);
}

static int sendfile_copy(struct copier *c, int src, int dst, uint64_t size)
{
	return in_kernel_copy(c, src, dst, size, one_call);
}

const struct technique technique_sendfile = {
	.name = "sendfile",
	.summary = "sendfile from file to file: one copy a byte, inside the kernel",
	.since = "2.6.33",
	.options = in_kernel_options,
	.open = sendfile_open,
	.copy = sendfile_copy,
};
