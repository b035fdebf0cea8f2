/* SPDX-License-Identifier: MIT */
/*
 * Batches of small files on the ring: each file is one chain of linked requests (openat, openat,
 * read, write, fsync, close, close), `depth` chains at a time, so a batch costs a system call or
 * two instead of five or six a file. The descriptors are registered ones (openat_direct, Linux
 * 5.15): a number is known before its file is open, which is what lets the chain be submitted
 * whole. A request of a chain that fails, or moves less than asked, cancels the rest of it
 * (io_uring_enter(2), IOSQE_IO_LINK).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "direct.h"
#include "io_uring.h"

enum step {
	STEP_OPEN_SRC,
	STEP_OPEN_DST,
	STEP_READ,
	STEP_WRITE,
	STEP_SYNC,
	STEP_CLOSE_SRC,
	STEP_CLOSE_DST,
	NR_STEPS
};

_Static_assert(NR_STEPS == URING_CHAIN_MAX, "the ring has room for all chains");

/* Files that come later are unlike the trial's: only a batch can find their size too large. */
static bool fits(const struct uring_copy *u, uint64_t size)
{
	return size <= u->block && size % u->align == 0;
}

int uring_files_open(struct copier *c)
{
	struct uring_copy *u = c->priv;
	int res = io_uring_register_files_sparse(&u->ring, 2 * u->depth);

	if (res < 0)
		return refuse(c, res, "files=ring: registered descriptors (Linux 5.19)");
	if (fits(u, c->size))
		return 0;
	snprintf(c->why, REASON_MAX,
		 "files=ring takes files of up to a block (%u bytes)%s, not of %llu", u->block,
		 u->align > 1 ? " and of whole O_DIRECT blocks" : "", (unsigned long long)c->size);
	return -EINVAL;
}

/* Marks an entry as a step of file `at`; every one but the last is linked to the next. */
static void link_as(struct io_uring_sqe *sqe, unsigned at, enum step step)
{
	sqe->user_data = (uint64_t)at * NR_STEPS + step;
	if (step != STEP_CLOSE_DST)
		sqe->flags |= IOSQE_IO_LINK;
}

static void chain_opens(struct copier *c, const struct file_batch *b, unsigned at, const char *name)
{
	struct uring_copy *u = c->priv;
	int flags = c->open_flags;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	io_uring_prep_openat_direct(sqe, b->src_dir, name, O_RDONLY | flags, 0, 2 * at);
	link_as(sqe, at, STEP_OPEN_SRC);
	sqe = io_uring_get_sqe(&u->ring);
	io_uring_prep_openat_direct(sqe, b->dst_dir, name, O_RDWR | O_CREAT | flags, 0600,
				    2 * at + 1);
	link_as(sqe, at, STEP_OPEN_DST);
}

static void chain_move(struct uring_copy *u, const struct file_batch *b, unsigned at)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
	char *buffer = u->blocks[at].buffer;
	unsigned len = (unsigned)b->size;

	if (u->fixed)
		io_uring_prep_read_fixed(sqe, (int)(2 * at), buffer, len, 0, (int)at);
	else
		io_uring_prep_read(sqe, (int)(2 * at), buffer, len, 0);
	sqe->flags |= IOSQE_FIXED_FILE;
	link_as(sqe, at, STEP_READ);
	sqe = io_uring_get_sqe(&u->ring);
	if (u->fixed)
		io_uring_prep_write_fixed(sqe, (int)(2 * at + 1), buffer, len, 0, (int)at);
	else
		io_uring_prep_write(sqe, (int)(2 * at + 1), buffer, len, 0);
	sqe->flags |= IOSQE_FIXED_FILE;
	link_as(sqe, at, STEP_WRITE);
}

/* Queues the chain of one file; returns how many requests that are. */
static unsigned chain_file(struct copier *c, const struct file_batch *b, unsigned at,
			   const char *name)
{
	struct uring_copy *u = c->priv;
	unsigned nr = 4;
	struct io_uring_sqe *sqe;

	chain_opens(c, b, at, name);
	if (b->size) {
		chain_move(u, b, at);
		nr += 2;
	}
	if (b->durable) {
		sqe = io_uring_get_sqe(&u->ring);
		io_uring_prep_fsync(sqe, (int)(2 * at + 1), IORING_FSYNC_DATASYNC);
		sqe->flags |= IOSQE_FIXED_FILE;
		link_as(sqe, at, STEP_SYNC);
		nr++;
	}
	sqe = io_uring_get_sqe(&u->ring);
	io_uring_prep_close_direct(sqe, 2 * at);
	link_as(sqe, at, STEP_CLOSE_SRC);
	sqe = io_uring_get_sqe(&u->ring);
	io_uring_prep_close_direct(sqe, 2 * at + 1);
	link_as(sqe, at, STEP_CLOSE_DST);
	return nr;
}

/* What a completion means for the batch: 0, or the -errno that began the end of its chain. */
static int judge(const struct file_batch *b, enum step step, int res)
{
	if (res == -ECANCELED)
		return 0; /* the cause is in another completion */
	if (res < 0)
		return res;
	if (step == STEP_READ && (uint64_t)res < b->size)
		return -ENODATA;
	if (step == STEP_WRITE && (uint64_t)res < b->size)
		return -ENOSPC;
	return 0;
}

/* Waits for `left` completions. 0, or the first -errno; that of the ring at once. */
static int reap(struct uring_copy *u, const struct file_batch *b, unsigned left)
{
	struct io_uring_cqe *cqe;
	int err = 0;

	while (left) {
		int res = uring_wait(u, left);

		if (res < 0)
			return res;
		while (left && !io_uring_peek_cqe(&u->ring, &cqe)) {
			res = judge(b, (enum step)(cqe->user_data % NR_STEPS), cqe->res);
			if (res && !err)
				err = res;
			io_uring_cqe_seen(&u->ring, cqe);
			left--;
		}
	}
	return err;
}

int uring_files_copy(struct copier *c, const struct file_batch *batch)
{
	struct uring_copy *u = c->priv;
	int err = 0;

	if (c->opt[URING_FILES] != FILES_RING)
		return -ENOTSUP;
	if (!fits(u, batch->size))
		return -EFBIG;
	if (u->broken)
		return -EIO;
	for (unsigned first = 0; first < batch->nr && !err; first += u->depth) {
		unsigned nr = batch->nr - first < u->depth ? batch->nr - first : u->depth;
		unsigned requests = 0;

		for (unsigned i = 0; i < nr; i++)
			requests += chain_file(c, batch, i, batch->names[first + i]);
		err = reap(u, batch, requests);
	}
	return err;
}
