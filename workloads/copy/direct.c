/* SPDX-License-Identifier: MIT */
#include "direct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"

/* What statx(2) says of a file without a name in `dir`; -errno, -ENOTSUP when it says nothing. */
static int alignment_of(int dir, unsigned *align)
{
	struct statx st;
	int fd = scratch_file(dir);
	int res;

	if (fd < 0)
		return fd;
	res = statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) < 0 ? -errno : 0;
	close(fd);
	if (res < 0)
		return res;
	if (!(st.stx_mask & STATX_DIOALIGN) || !st.stx_dio_offset_align)
		return -ENOTSUP;
	*align = st.stx_dio_offset_align;
	return st.stx_dio_mem_align <= DIRECT_MEMORY_ALIGN ? 0 : -EINVAL;
}

static int say(struct copier *c, int err, const char *side)
{
	if (err == -ENOTSUP)
		snprintf(c->why, REASON_MAX,
			 "O_DIRECT: the file system of the %s names no alignment (statx, "
			 "STATX_DIOALIGN); choose another directory or direct=off",
			 side);
	else
		snprintf(c->why, REASON_MAX, "O_DIRECT: alignment in the directory of the %s: %s",
			 side, strerror(-err));
	return err;
}

int direct_enable(struct copier *c, uint64_t block, unsigned *align)
{
	unsigned src, dst;
	int res = alignment_of(c->src_dir, &src);

	if (res < 0)
		return say(c, res, "source");
	res = alignment_of(c->dst_dir, &dst);
	if (res < 0)
		return say(c, res, "destination");
	*align = src > dst ? src : dst;
	if (block % *align) {
		snprintf(c->why, REASON_MAX,
			 "O_DIRECT: blocks of %llu bytes are no multiple of the %u that the file "
			 "systems ask for",
			 (unsigned long long)block, *align);
		return -EINVAL;
	}
	c->open_flags = O_DIRECT;
	return 0;
}

void *direct_buffer(size_t bytes)
{
	void *memory = NULL;

	if (posix_memalign(&memory, DIRECT_MEMORY_ALIGN, direct_round(bytes, DIRECT_MEMORY_ALIGN)))
		return NULL;
	/* Touched here: a page fault is no part of a copy, and the padding holds no secrets. */
	memset(memory, 0, direct_round(bytes, DIRECT_MEMORY_ALIGN));
	return memory;
}

int direct_trim(int dst, uint64_t size, unsigned align)
{
	if (size % align == 0)
		return 0;
	return ftruncate(dst, (off_t)size) < 0 ? -errno : 0;
}
