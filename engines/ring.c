// SPDX-License-Identifier: MIT
#include "ring.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * DEFER_TASKRUN: completions run when this thread asks for them, in one batch, instead of
 * interrupting it (Linux 6.1). CQSIZE: a multishot operation completes more often than it is
 * submitted.
 */
static int create(struct io_uring *uring, unsigned entries)
{
	struct io_uring_params p = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			 IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
		.cq_entries = 4 * entries,
	};

	return io_uring_queue_init_params(entries, uring, &p);
}

static size_t buf_ring_bytes(const struct ring *r)
{
	return r->nr_buffers * sizeof(struct io_uring_buf);
}

static int add_buffers(struct ring *r)
{
	struct io_uring_buf_reg reg = {.ring_entries = r->nr_buffers, .bgid = RING_BGID};
	int res;

	r->br = mmap(NULL, buf_ring_bytes(r), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		     -1, 0);
	if (r->br == MAP_FAILED) {
		r->br = NULL;
		return -ENOMEM;
	}
	r->buffers = malloc((size_t)r->nr_buffers * RING_BUFFER_BYTES);
	if (!r->buffers)
		return -ENOMEM;
	reg.ring_addr = (uintptr_t)r->br;
	res = io_uring_register_buf_ring(&r->uring, &reg, 0);
	if (res)
		return res;
	io_uring_buf_ring_init(r->br);
	for (unsigned i = 0; i < r->nr_buffers; i++)
		ring_recycle(r, i);
	ring_recycle_flush(r);
	return 0;
}

int ring_init(struct ring *r, unsigned nr_buffers, struct counters *ctr)
{
	int res;

	r->ctr = ctr;
	r->nr_buffers = nr_buffers;
	r->uring.ring_fd = -1;
	res = create(&r->uring, RING_ENTRIES);
	if (res)
		return res;
	/* Saves looking the descriptor up in every call; not vital (Linux 5.18). */
	io_uring_register_ring_fd(&r->uring);
	return add_buffers(r);
}

void ring_exit(struct ring *r)
{
	if (r->uring.ring_fd >= 0)
		io_uring_queue_exit(&r->uring);
	if (r->br)
		munmap(r->br, buf_ring_bytes(r));
	free(r->buffers);
}

struct io_uring_sqe *ring_sqe(struct ring *r)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&r->uring);

	while (!sqe) {
		io_uring_submit(&r->uring);
		count_one(r->ctr, sys_enter);
		sqe = io_uring_get_sqe(&r->uring);
	}
	count_one(r->ctr, sqes);
	return sqe;
}

int ring_wait(struct ring *r, uint64_t timeout_ns)
{
	struct __kernel_timespec ts = {.tv_sec = (int64_t)(timeout_ns / 1000000000u),
				       .tv_nsec = (int64_t)(timeout_ns % 1000000000u)};
	struct io_uring_cqe *cqe;
	int res = io_uring_submit_and_wait_timeout(&r->uring, &cqe, 1, &ts, NULL);

	count_one(r->ctr, sys_enter);
	return res < 0 && res != -ETIME && res != -EINTR && res != -EBUSY && res != -EAGAIN ? res
											    : 0;
}

int ring_limit_threads(struct ring *r, unsigned nr)
{
	unsigned limits[2] = {0, nr}; /* those for files, which stay as they are; all others */

	return io_uring_register_iowq_max_workers(&r->uring, limits);
}

void ring_recycle(struct ring *r, unsigned bid)
{
	io_uring_buf_ring_add(r->br, ring_buffer(r, bid), RING_BUFFER_BYTES, (unsigned short)bid,
			      io_uring_buf_ring_mask(r->nr_buffers), (int)r->nr_recycled);
	r->nr_recycled++;
}

void ring_recycle_flush(struct ring *r)
{
	if (!r->nr_recycled)
		return;
	io_uring_buf_ring_advance(r->br, (int)r->nr_recycled);
	r->nr_free += r->nr_recycled;
	r->nr_recycled = 0;
}

static int probe_ring(struct ring *r, char reason[REASON_MAX])
{
	int res = create(&r->uring, 8);

	if (res) {
		snprintf(reason, REASON_MAX, "%s (%s)",
			 res == -EPERM ? "io_uring is switched off: see sysctl "
					 "kernel.io_uring_disabled and seccomp"
				       : "needs Linux 6.1: io_uring with SINGLE_ISSUER and "
					 "DEFER_TASKRUN",
			 strerror(-res));
		return res;
	}
	res = add_buffers(r);
	if (res)
		snprintf(reason, REASON_MAX,
			 "needs Linux 5.19: a ring of provided buffers is refused (%s)",
			 strerror(-res));
	return res;
}

int ring_probe(const int64_t *opt, char reason[REASON_MAX])
{
	struct counters ignored = {0};
	struct ring *r = calloc(1, sizeof(*r));
	int res;

	if (!r)
		return -ENOMEM;
	r->ctr = &ignored;
	r->nr_buffers = RING_BUFFERS;
	r->uring.ring_fd = -1;
	res = probe_ring(r, reason);
	if (res && !r->br)
		r->uring.ring_fd = -1;
	ring_exit(r);
	free(r);
	return res;
}
