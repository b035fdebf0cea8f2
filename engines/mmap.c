// SPDX-License-Identifier: MIT
/*
 * Engine mmap: head and body in one sendmsg(2) straight from a mapping of the file, which the
 * skeleton keeps with the cached file. One copy a byte: mapping to socket. Readiness by epoll.
 *
 * A file that shrinks cannot kill the server: the pages are touched only inside sendmsg, where a
 * fault beyond the end is EFAULT, not SIGBUS (arch/x86/mm/fault.c: kernel mode takes the fixup).
 * Linux 2.6.
 */
#include "engine.h"

#include <string.h>
#include <sys/socket.h>

static const struct opt_def options[] = {COMMON_OPTIONS, {0}};

/* What a call of send_part may say besides enum moved: part of it went, try the rest at once. */
enum {
	SENT_SHORT = 100
};

/* One sendmsg of what is left of iov[] and at most a turn of the mapping. */
static int send_part(struct conn *c)
{
	struct xfer *x = &c->xfer;
	struct iovec iov[XFER_IOV + 1];
	size_t nr = (size_t)(x->iov_nr - x->iov_at), head = xfer_iov_bytes(x);
	size_t part = x->len < TURN_BYTES ? (size_t)x->len : TURN_BYTES;
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = nr + 1};
	ssize_t n;

	memcpy(iov, x->iov + x->iov_at, nr * sizeof(*iov));
	iov[nr] = (struct iovec){.iov_base = (char *)(uintptr_t)x->mem, .iov_len = part};
	n = sendmsg(c->fd, &msg, MSG_NOSIGNAL | (x->len > part ? hold_part_flag(c) : 0));
	count_one(c->ctr, sys_send);
	if (n < 0) {
		count_add(c->ctr, eagain, errno == EAGAIN);
		return errno == EAGAIN ? MOVED_WANT_DST : -errno;
	}
	xfer_touch(c);
	xfer_advance_iov(c, (size_t)n < head ? (size_t)n : head);
	if ((size_t)n > head)
		xfer_advance_body(c, (size_t)n - head);
	if ((size_t)n == head + part)
		return x->len ? MOVED_TURN : MOVED_ALL;
	/* A full socket or a page that is gone: only the next call can tell, and arms the edge. */
	count_one(c->ctr, short_moves);
	return SENT_SHORT;
}

static int mmap_move(struct conn *c)
{
	struct xfer *x = &c->xfer;
	int res;

	if (x->src != SOURCE_MAPPING)
		return send_iov(c, 0);
	do {
		res = mapping_intact(c, x->off + x->len);
		if (!res)
			res = send_part(c);
	} while (res == SENT_SHORT);
	return res;
}

static const struct mover move_mmap = {.move = mmap_move};

static void mmap_bodies(const int64_t *opt, struct body_policy *policy)
{
	policy->source = SOURCE_MAPPING;
}

const struct engine engine_mmap = {
	.name = "mmap",
	.summary = "epoll; head and body in one send from a mapping of the file",
	.since = "2.6",
	.driver = "epoll",
	.api = ENGINE_API,
	.sources = SOURCE_MAPPING,
	.conn_bytes = DRIVE_EPOLL_BYTES,
	.options = options,
	.mover = &move_mmap,
	.bodies = mmap_bodies,
	.worker_init = drive_epoll_init,
	.worker_run = drive_epoll_run,
	.worker_exit = drive_epoll_exit,
};
