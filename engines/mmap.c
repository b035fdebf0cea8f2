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

static const struct opt_def options[] = {COMMON_OPTIONS, {0}};

/* At most a turn of the mapping, behind what is left of iov[]. */
static int send_part(struct conn *c)
{
	struct xfer *x = &c->xfer;
	size_t part = x->len < TURN_BYTES ? (size_t)x->len : TURN_BYTES;
	int res = send_with_body(c, x->mem, part);

	return res == MOVED_ALL && x->len ? MOVED_TURN : res;
}

/* A short send met a full socket or a page that is gone: only the next tells, and arms the edge. */
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
