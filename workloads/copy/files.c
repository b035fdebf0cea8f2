/* SPDX-License-Identifier: MIT */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

int refuse(struct copier *c, int err, const char *what)
{
	snprintf(c->why, REASON_MAX, "%s: %s", what, strerror(-err));
	return err;
}

int copier_open(struct copier *c, const struct spec *spec, const struct copy_dirs *dirs,
		uint64_t size, unsigned batch, char *why)
{
	int res;

	*c = (struct copier){
		.technique = spec->technique,
		.opt = spec->opt,
		.size = size,
		.batch = batch,
		.src_dir = dirs->src,
		.dst_dir = dirs->dst,
		.why = why,
	};
	why[0] = '\0';
	res = spec->technique->open(c);
	if (!res)
		return 0;
	copier_close(c);
	if (!why[0])
		refuse(c, res, spec->technique->name);
	return res;
}

void copier_close(struct copier *c)
{
	if (c->technique->close)
		c->technique->close(c);
}

/* O_TMPFILE would be shorter, but not every file system has it (overlayfs before Linux 6.3). */
int scratch_file(int dir)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), ".scratch-%d", (int)getpid());
	fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	unlinkat(dir, name, 0);
	return fd;
}

bool files_can_clone(const struct copy_dirs *dirs)
{
	int src = scratch_file(dirs->src), dst = scratch_file(dirs->dst);
	char block[4096] = "";
	bool can = src >= 0 && dst >= 0 && write(src, block, sizeof(block)) == sizeof(block) &&
		   ioctl(dst, FICLONE, src) == 0;

	if (src >= 0)
		close(src);
	if (dst >= 0)
		close(dst);
	return can;
}

/* Copies between open files, and sees to it that the copy is durable if it has to be. */
static int copy_open(struct copier *c, const struct file_batch *batch, int src, int dst)
{
	int res = c->technique->copy(c, src, dst, batch->size);

	if (!res && batch->durable && fdatasync(dst) < 0)
		res = -errno;
	return res;
}

static int copy_one(struct copier *c, const struct file_batch *batch, const char *name)
{
	int flags = c->open_flags | O_CLOEXEC, dst, res;
	int src = openat(batch->src_dir, name, O_RDONLY | flags);

	if (src < 0)
		return -errno;
	/* Read as well as written: a shared writable mapping wants both. */
	dst = openat(batch->dst_dir, name, O_RDWR | O_CREAT | flags, 0600);
	if (dst < 0) {
		res = -errno;
		close(src);
		return res;
	}
	res = copy_open(c, batch, src, dst);
	/* What a network file system could not write shows at the close. */
	if (close(dst) < 0 && !res)
		res = -errno;
	close(src);
	return res;
}

int files_copy(struct copier *c, const struct file_batch *batch)
{
	int res = -ENOTSUP;

	if (c->technique->copy_files)
		res = c->technique->copy_files(c, batch);
	if (res != -ENOTSUP)
		return res;
	res = 0;
	for (unsigned i = 0; i < batch->nr && !res; i++)
		res = copy_one(c, batch, batch->names[i]);
	return res;
}
