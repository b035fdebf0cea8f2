/* SPDX-License-Identifier: MIT */
/*
 * io_uring: up to `depth` blocks at a time, each read into a buffer and written out of it. Reads of
 * what is in the page cache complete while they are submitted; what would block goes to threads of
 * io-wq, as buffered writes do on file systems without IOCB_NOWAIT for them, or is truly
 * asynchronous (direct=on). buffers=fixed registers the buffers, so that their pages are pinned
 * once instead of at each direct request. files=ring also opens and closes on the ring
 * (io_uring_files.c). Linux 6.1 (IORING_SETUP_DEFER_TASKRUN); the ring belongs to one thread.
 */
#include "io_uring.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "direct.h"

/* A copy under way. */
struct progress {
	struct uring_copy *u;
	int src, dst;
	uint64_t size, next; /* next: first byte that no block has yet */
	unsigned in_flight;
	int err; /* 0, or the first -errno: then nothing new is begun */
};

/* ---------------------------------------------------------------- set-up */

/* Threads of io-wq run where this one may (Linux 5.14): by themselves they would go anywhere. */
static int bind_threads(struct copier *c, struct uring_copy *u)
{
	cpu_set_t set;
	int res = sched_getaffinity(0, sizeof(set), &set) < 0 ? -errno : 0;

	if (!res)
		res = io_uring_register_iowq_aff(&u->ring, sizeof(set), &set);
	return res < 0 ? refuse(c, res, "binding the threads of io-wq to this one's CPUs") : 0;
}

static int make_ring(struct copier *c, struct uring_copy *u, unsigned entries)
{
	struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER |
						  IORING_SETUP_DEFER_TASKRUN};
	int res = io_uring_queue_init_params(entries, &u->ring, &params);

	if (res == -EPERM)
		return refuse(c, res,
			      "io_uring is forbidden here (kernel.io_uring_disabled, or a "
			      "seccomp filter)");
	if (res == -EINVAL)
		return refuse(c, res, "a ring with IORING_SETUP_DEFER_TASKRUN");
	if (res < 0)
		return refuse(c, res, "a ring");
	u->have_ring = true;
	return bind_threads(c, u);
}

static int make_blocks(struct copier *c, struct uring_copy *u)
{
	u->blocks = calloc(u->depth, sizeof(*u->blocks));
	if (!u->blocks)
		return refuse(c, -ENOMEM, "its blocks");
	for (unsigned i = 0; i < u->depth; i++) {
		u->blocks[i].buffer = direct_buffer(u->block);
		if (!u->blocks[i].buffer)
			return refuse(c, -ENOMEM, "its buffers");
	}
	return 0;
}

static int register_blocks(struct copier *c, struct uring_copy *u)
{
	struct iovec *vecs = calloc(u->depth, sizeof(*vecs));
	int res = -ENOMEM;

	for (unsigned i = 0; vecs && i < u->depth; i++)
		vecs[i] = (struct iovec){.iov_base = u->blocks[i].buffer, .iov_len = u->block};
	if (vecs)
		res = io_uring_register_buffers(&u->ring, vecs, u->depth);
	free(vecs);
	if (res < 0)
		refuse(c, res, "registering buffers (RLIMIT_MEMLOCK bounds them)");
	return res;
}

static int uring_open(struct copier *c)
{
	struct uring_copy *u = calloc(1, sizeof(*u));
	bool ring_files = c->opt[URING_FILES] == FILES_RING;
	int res;

	if (!u)
		return refuse(c, -ENOMEM, "its state");
	c->priv = u;
	u->depth = (unsigned)c->opt[URING_DEPTH];
	u->block = (uint32_t)c->opt[URING_BLOCK];
	u->fixed = c->opt[URING_BUFFERS] == BUFFERS_FIXED;
	u->align = 1;
	res = c->opt[URING_DIRECT] ? direct_enable(c, u->block, &u->align) : 0;
	if (!res)
		res = make_ring(c, u, u->depth * (ring_files ? URING_CHAIN_MAX : 1));
	if (!res)
		res = make_blocks(c, u);
	if (!res && u->fixed)
		res = register_blocks(c, u);
	if (!res && ring_files)
		res = uring_files_open(c);
	return res;
}

/* The kernel may still write into their buffers, so those stay until the process ends. */
static struct uring_copy *broken_ones;

static void uring_close(struct copier *c)
{
	struct uring_copy *u = c->priv;

	if (!u)
		return;
	if (u->have_ring)
		io_uring_queue_exit(&u->ring);
	c->priv = NULL;
	if (u->broken) {
		u->next = broken_ones;
		broken_ones = u;
		return;
	}
	for (unsigned i = 0; u->blocks && i < u->depth; i++)
		free(u->blocks[i].buffer);
	free(u->blocks);
	free(u);
}

/* ---------------------------------------------------------------- one file */

/* Queues the rest of the half that a block is in. The queue has an entry for each block. */
static void submit_block(struct progress *p, unsigned at)
{
	struct uring_copy *u = p->u;
	struct uring_block *b = &u->blocks[at];
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
	char *from = b->buffer + b->done;
	unsigned len = (unsigned)direct_round(b->len - b->done, u->align);
	uint64_t off = b->off + b->done;

	if (b->writing && u->fixed)
		io_uring_prep_write_fixed(sqe, p->dst, from, len, off, (int)at);
	else if (b->writing)
		io_uring_prep_write(sqe, p->dst, from, len, off);
	else if (u->fixed)
		io_uring_prep_read_fixed(sqe, p->src, from, len, off, (int)at);
	else
		io_uring_prep_read(sqe, p->src, from, len, off);
	sqe->user_data = at;
	p->in_flight++;
}

/* Gives a free block the next piece of the file, if there is one. */
static void begin_block(struct progress *p, unsigned at)
{
	struct uring_block *b = &p->u->blocks[at];
	uint64_t left = p->size - p->next;

	if (p->err || !left)
		return;
	b->off = p->next;
	b->len = left < p->u->block ? (uint32_t)left : p->u->block;
	b->done = 0;
	b->writing = false;
	p->next += b->len;
	submit_block(p, at);
}

/* What a completion says of its block: 0 to go on with it, or -errno. */
static int account(const struct uring_copy *u, struct uring_block *b, int res)
{
	uint32_t left = b->len - b->done;

	if (res == -EINTR || res == -EAGAIN)
		return 0;
	if (res < 0)
		return res;
	if (res == 0)
		return b->writing ? -EIO : -ENODATA;
	/* A direct request moves whole blocks: the last one goes beyond the end of the file. */
	b->done += (uint32_t)res < left ? (uint32_t)res : left;
	if (b->done < b->len && b->done % u->align)
		return b->writing ? -EIO : -ENODATA;
	return 0;
}

static void completed(struct progress *p, unsigned at, int res)
{
	struct uring_block *b = &p->u->blocks[at];
	int err = account(p->u, b, res);

	p->in_flight--;
	if (err && !p->err)
		p->err = err;
	if (p->err)
		return;
	if (b->done < b->len) {
		submit_block(p, at);
	} else if (!b->writing) {
		b->writing = true;
		b->done = 0;
		submit_block(p, at);
	} else {
		begin_block(p, at);
	}
}

/*
 * A signal, no memory for requests and a full completion queue pass (io_uring_enter(2)); any other
 * error comes again at the next call.
 */
int uring_wait(struct uring_copy *u, unsigned nr)
{
	int res = io_uring_submit_and_wait(&u->ring, nr);

	if (res >= 0 || res == -EINTR || res == -EAGAIN || res == -EBUSY)
		return 0;
	u->broken = true;
	return res;
}

/* Submits, waits for a completion and handles all that are there. 0 or -errno. */
static int turn(struct progress *p)
{
	struct io_uring *ring = &p->u->ring;
	struct io_uring_cqe *cqe;
	int res = uring_wait(p->u, 1);

	if (res < 0)
		return res;
	while (!io_uring_peek_cqe(ring, &cqe)) {
		unsigned at = (unsigned)cqe->user_data;
		int got = cqe->res;

		io_uring_cqe_seen(ring, cqe);
		completed(p, at, got);
	}
	return 0;
}

static int uring_copy(struct copier *c, int src, int dst, uint64_t size)
{
	struct uring_copy *u = c->priv;
	struct progress p = {.u = u, .src = src, .dst = dst, .size = size};

	if (u->broken)
		return -EIO;
	for (unsigned i = 0; i < u->depth; i++)
		begin_block(&p, i);
	/* After an error, too: the kernel may still write into the buffers. */
	while (p.in_flight) {
		int res = turn(&p);

		if (res < 0)
			return res;
	}
	return p.err ? p.err : direct_trim(dst, size, u->align);
}

static const char *const buffers_names[] = {"plain", "fixed", NULL};
static const char *const files_names[] = {"calls", "ring", NULL};

static const struct option_def options[] = {
	[URING_BUFFERS] = {.name = "buffers",
			   .type = OPTION_ENUM,
			   .values = buffers_names,
			   .max = BUFFERS_FIXED,
			   .help = "fixed: registered with the ring once"},
	[URING_DIRECT] = {.name = "direct",
			  .type = OPTION_BOOL,
			  .max = 1,
			  .help = "O_DIRECT on both files: past the page cache"},
	[URING_BLOCK] = {.name = "block",
			 .type = OPTION_SIZE,
			 .def = 128 << 10,
			 .min = 4096,
			 .max = 16 << 20,
			 .help = "bytes of a request"},
	[URING_DEPTH] = {.name = "depth",
			 .type = OPTION_INT,
			 .def = 8,
			 .min = 1,
			 .max = 256,
			 .help = "blocks, with files=ring files, at a time"},
	[URING_FILES] = {.name = "files",
			 .type = OPTION_ENUM,
			 .values = files_names,
			 .max = FILES_RING,
			 .help = "ring: files of up to a block are opened, copied and closed by "
				 "linked requests, `depth` files at a time"},
	{0}};

const struct technique technique_io_uring = {
	.name = "io_uring",
	.summary = "blocks read and written on a ring, several at a time",
	.since = "6.1",
	.options = options,
	.open = uring_open,
	.copy = uring_copy,
	.copy_files = uring_files_copy,
	.close = uring_close,
};
