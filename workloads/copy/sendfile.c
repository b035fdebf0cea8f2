/* SPDX-License-Identifier: MIT */
/*
 * sendfile: sendfile(2) from file to file (Linux 2.6.33). Inside, the kernel splices the source's
 * pages into a pipe that belongs to the task and from there into the destination, 64 KiB at a time
 * (splice_direct_to_actor, fs/splice.c): references up to the pipe, one copy into the
 * destination's pages, no user memory.
 */
#include <errno.h>
#include <sys/sendfile.h>

#include "technique.h"

enum {
	OPT_CHUNK
};

/* What one call moves at most: MAX_RW_COUNT of a page of 64 KiB, the smallest there is. */
#define CALL_MAX 0x7fff0000ull

static int sendfile_open(struct copier *c)
{
	(void)c;
	return 0;
}

static int sendfile_copy(struct copier *c, int src, int dst, uint64_t size)
{
	uint64_t chunk = c->opt[OPT_CHUNK] ? (uint64_t)c->opt[OPT_CHUNK] : CALL_MAX;
	off_t off = 0;

	while ((uint64_t)off < size) {
		uint64_t left = size - (uint64_t)off;
		ssize_t n = sendfile(dst, src, &off, left < chunk ? left : chunk);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ENODATA;
	}
	return 0;
}

static const struct option_def options[] = {
	[OPT_CHUNK] = {.name = "chunk",
		       .type = OPTION_SIZE,
		       .max = 1 << 30,
		       .help = "bytes a call asks for; 0: as many as a call takes"},
	{0}};

const struct technique technique_sendfile = {
	.name = "sendfile",
	.summary = "sendfile from file to file: one copy a byte, inside the kernel",
	.since = "2.6.33",
	.options = options,
	.open = sendfile_open,
	.copy = sendfile_copy,
};
