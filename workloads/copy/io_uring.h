/* SPDX-License-Identifier: MIT */
/* What the two halves of the technique io_uring share: a ring, its blocks and its options. */
#ifndef IOLAB_COPY_IO_URING_H
#define IOLAB_COPY_IO_URING_H

#include "technique.h"
#include "uring_compat.h"

enum uring_option {
	URING_BUFFERS,
	URING_DIRECT,
	URING_BLOCK,
	URING_DEPTH,
	URING_FILES
};

enum uring_buffers {
	BUFFERS_PLAIN,
	BUFFERS_FIXED
};

enum uring_files {
	FILES_CALLS,
	FILES_RING
};

/* A block of a file on its way: read, then written. */
struct uring_block {
	char *buffer; /* `block` bytes */
	uint64_t off;
	uint32_t len;  /* of the block in the file */
	uint32_t done; /* of the half under way */
	bool writing;
};

struct uring_copy {
	struct io_uring ring;
	bool have_ring;
	bool broken;	/* io_uring_enter(2) fails for good: requests may be in flight for ever */
	unsigned depth; /* blocks, or files, at a time */
	uint32_t block; /* bytes */
	unsigned align; /* 1, or what O_DIRECT asks for */
	bool fixed;
	struct uring_block *blocks;
	struct uring_copy *next; /* of those that were broken */
};

/*
 * Submits what was queued and waits for nr completions. 0 when it is worth calling again; -errno
 * when the ring is of no use any more, and `broken`. What is then in flight may still be written
 * to.
 */
int uring_wait(struct uring_copy *u, unsigned nr);

/*
 * Batches of files on the ring (io_uring_files.c): each file is a chain of linked requests from
 * openat to close, on registered descriptors. Prepares them: 0, or -errno with words in c->why.
 */
int uring_files_open(struct copier *c);

/* See technique->copy_files. */
int uring_files_copy(struct copier *c, const struct file_batch *batch);

/* Requests that the chain of one file takes at most. */
#define URING_CHAIN_MAX 7

#endif
