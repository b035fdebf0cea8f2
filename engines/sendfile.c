// SPDX-License-Identifier: MIT
/*
 * Engine sendfile: the head by send(2) with MSG_MORE, the body by sendfile(2), which hands
 * references to page-cache pages to the socket instead of copying them. Readiness by epoll.
 * With cache=memory a small file and its head stand together in a memfd, and one sendfile sends
 * both. Linux 2.2; through splice since 2.6.23, MSG_SPLICE_PAGES since 6.5 (net/ipv4/tcp.c).
 */
#include "sendfile.h"

#include <sys/sendfile.h>
#include <sys/socket.h>

static const struct opt_def options[] = {COMMON_OPTIONS, COPY_CACHE_OPTIONS, SENDFILE_OPTION, {0}};

static int sendfile_body(struct conn *c)
{
	struct xfer *x = &c->xfer;
	size_t moved = 0, chunk = (size_t)c->w->opt[OPT_CHUNK];

	while (x->len) {
		size_t want = x->len < chunk ? (size_t)x->len : chunk;
		off_t off = (off_t)x->off;
		ssize_t n = sendfile(c->fd, x->file_fd, &off, want);

		count_one(c->ctr, sys_sendfile);
		if (n < 0) {
			count_add(c->ctr, eagain, errno == EAGAIN);
			return errno == EAGAIN ? MOVED_WANT_DST : -errno;
		}
		if (n == 0)
			return -EPIPE; /* the file became shorter */
		count_add(c->ctr, short_moves, (size_t)n < want);
		xfer_touch(c);
		xfer_advance_body(c, (size_t)n);
		moved += (size_t)n;
		if (moved >= TURN_BYTES && x->len)
			return MOVED_TURN;
	}
	return MOVED_ALL;
}

int sendfile_move(struct conn *c)
{
	int res = send_iov(c, c->xfer.len ? hold_flag(c) : 0);

	return res ? res : sendfile_body(c);
}

static const struct mover move_sendfile = {.move = sendfile_move};

void sendfile_bodies(const int64_t *opt, struct body_policy *policy)
{
	copy_bodies(opt, policy);
	policy->memory_as_file = true;
}

const struct engine engine_sendfile = {
	.name = "sendfile",
	.summary = "epoll; head by send, body by sendfile: page references instead of copies",
	.since = "2.2",
	.driver = "epoll",
	.api = ENGINE_API,
	.sources = SOURCE_MEMORY | SOURCE_FILE,
	.conn_bytes = DRIVE_EPOLL_BYTES,
	.options = options,
	.mover = &move_sendfile,
	.bodies = sendfile_bodies,
	.worker_init = drive_epoll_init,
	.worker_run = drive_epoll_run,
	.worker_exit = drive_epoll_exit,
};
