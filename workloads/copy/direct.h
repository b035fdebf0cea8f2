/* SPDX-License-Identifier: MIT */
/* O_DIRECT: what alignment the file systems ask for, and how a file ends that is no multiple. */
#ifndef IOLAB_COPY_DIRECT_H
#define IOLAB_COPY_DIRECT_H

#include <stddef.h>
#include <stdint.h>

#include "technique.h"

/* Alignment of every buffer; no file system asks for more of memory than a page. */
#define DIRECT_MEMORY_ALIGN 4096u

/*
 * Sets c->open_flags to O_DIRECT and *align to the alignment of offsets and lengths that suits
 * both directories, as statx(2) says of a file made there (STATX_DIOALIGN, Linux 6.1). `block` is
 * what the technique will move at a time. 0, or -errno with words in c->why: a file system without
 * O_DIRECT, one that does not say its alignment, or one whose alignment `block` is no multiple of.
 */
int direct_enable(struct copier *c, uint64_t block, unsigned *align);

/* Memory for O_DIRECT, or any other use, to be freed with free(); NULL when there is none. */
void *direct_buffer(size_t bytes);

/* `len` rounded up to `align`, a power of two. */
static inline size_t direct_round(size_t len, unsigned align)
{
	return (len + align - 1) & ~((size_t)align - 1);
}

/* Cuts the padding off a last block that was written whole. 0 or -errno. */
int direct_trim(int dst, uint64_t size, unsigned align);

#endif
