/* SPDX-License-Identifier: MIT */
/*
 * copy_file_range: copy_file_range(2), which leaves the copy to the file system (Linux 4.5; between
 * two file systems of one kind 5.19). One with clones (Btrfs, XFS with reflink) then copies no byte
 * but shares the blocks; ext4 and tmpfs splice inside the kernel (fs/read_write.c). What it was on
 * this machine, the result's `may_clone` says.
 */
#include <errno.h>
#include <sys/types.h>
#include <unistd.h>

#include "files.h"
#include "in_kernel.h"

/* Copies a byte between two files without names, one in each directory. 0 or -errno. */
static int try_between(int src, int dst)
{
	loff_t in = 0, out = 0;
	ssize_t n = pwrite(src, "x", 1, 0);

	if (n == 1)
		n = copy_file_range(src, &in, dst, &out, 1, 0);
	if (n < 0)
		return -errno;
	return n == 1 ? 0 : -EIO;
}

static int copy_file_range_open(struct copier *c)
{
	int src = scratch_file(c->src_dir), dst = scratch_file(c->dst_dir);
	int res = src < 0 ? src : dst < 0 ? dst : try_between(src, dst);

	if (src >= 0)
		close(src);
	if (dst >= 0)
		close(dst);
	return res < 0 ? refuse(c, res, "copy_file_range between these file systems") : 0;
}

static ssize_t one_call(int src, int dst, off_t *at, size_t bytes)
{
	return copy_file_range(src, at, dst, NULL, bytes, 0); /* dst: at its file position */
}

static int copy_file_range_copy(struct copier *c, int src, int dst, uint64_t size)
{
	return in_kernel_copy(c, src, dst, size, one_call);
}

const struct technique technique_copy_file_range = {
	.name = "copy_file_range",
	.summary = "copy_file_range: left to the file system, which may share blocks instead",
	.since = "4.5",
	.options = in_kernel_options,
	.open = copy_file_range_open,
	.copy = copy_file_range_copy,
};
