/* SPDX-License-Identifier: MIT */
/* Whole files, by name: opened, copied and closed. */
#ifndef IOLAB_COPY_FILES_H
#define IOLAB_COPY_FILES_H

#include "spec.h"
#include "technique.h"

/* Two open directories; on the same file system or not. */
struct copy_dirs {
	int src, dst;
};

/*
 * Sets a technique up between two open directories, for files of `size` bytes and up to `batch` of
 * them at a time. `why` (REASON_MAX bytes) is used until copier_close() and says, after a failure,
 * what this kernel or these file systems lack. 0 or -errno; then there is nothing to close.
 */
int copier_open(struct copier *c, const struct spec *spec, const struct copy_dirs *dirs,
		uint64_t size, unsigned batch, char *why);
void copier_close(struct copier *c);

/*
 * Copies a batch: in the technique's own way where it has one, else file by file. Destinations that
 * exist are written over, not truncated first; others are made. 0 or -errno.
 */
int files_copy(struct copier *c, const struct file_batch *batch);

/* An open file of its own in `dir`, without a name, read and written. Descriptor or -errno. */
int scratch_file(int dir);

/*
 * Whether files in the two directories can share blocks (FICLONE, ioctl_ficlone(2)): then
 * copy_file_range need not copy anything. False as well when that cannot be found out.
 */
bool files_can_clone(const struct copy_dirs *dirs);

#endif
