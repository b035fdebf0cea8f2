// SPDX-License-Identifier: MIT
/*
 * Engine splice: file to pipe to socket by splice(2): references to page-cache pages travel through
 * a pipe, nothing is copied to user space. Readiness by epoll. Linux 2.6.17.
 *
 * Pipes are kernel memory and descriptors, so a connection borrows one only while it sends; an
 * empty pipe goes back to the worker's pool.
 *
 * SPLICE_F_MORE only while more of the file follows: a MORE on the last piece is held back by TCP
 * for the 200 ms of its timer.
 */
#include "engine.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	OPT_PIPE = COPT_NR
};
enum {
	POOL_MAX = 256
};

static const struct opt_def options[] = {COMMON_OPTIONS,
					 {.name = "pipe",
					  .type = OPT_SIZE,
					  .def = 256 << 10,
					  .min = 4096,
					  .max = 1 << 20,
					  .help = "bytes a pipe holds (F_SETPIPE_SZ; fcntl(2))"},
					 {0}};

struct pipe_pair {
	int rd, wr;
};

/* The worker's empty pipes. One worker, one thread: the pool hangs on the thread. */
struct pipe_pool {
	int nr;
	struct pipe_pair free[POOL_MAX];
};
static _Thread_local struct pipe_pool *pool;

struct splice_conn {
	struct pipe_pair pipe;
	bool have;	/* a pipe is borrowed */
	size_t in_pipe; /* bytes of the file in it, not yet in the socket */
};

static void pipe_close(struct conn *c, struct pipe_pair *p)
{
	close(p->rd);
	close(p->wr);
	count_add(c->ctr, sys_close, 2);
}

static int pipe_borrow(struct conn *c, struct splice_conn *s)
{
	int fds[2];

	if (pool->nr) {
		s->pipe = pool->free[--pool->nr];
		s->have = true;
		return 0;
	}
	if (pipe2(fds, O_NONBLOCK | O_CLOEXEC))
		return -errno;
	/* Refused beyond pipe-user-pages-soft; the default size then serves as well. */
	fcntl(fds[1], F_SETPIPE_SZ, (int)c->w->opt[OPT_PIPE]);
	count_add(c->ctr, sys_other, 2);
	s->pipe = (struct pipe_pair){.rd = fds[0], .wr = fds[1]};
	s->have = true;
	return 0;
}

static void pipe_return(struct conn *c, struct splice_conn *s)
{
	if (!s->have)
		return;
	if (s->in_pipe || pool->nr == POOL_MAX)
		pipe_close(c, &s->pipe);
	else
		pool->free[pool->nr++] = s->pipe;
	s->have = false;
	s->in_pipe = 0;
}

/* File to pipe. 0, or -errno; -EPIPE when the file became shorter. */
static int fill_pipe(struct conn *c, struct splice_conn *s)
{
	struct xfer *x = &c->xfer;
	off_t off = (off_t)x->off;
	ssize_t n = splice(x->file_fd, &off, s->pipe.wr, NULL, (size_t)x->len, SPLICE_F_NONBLOCK);

	count_one(c->ctr, sys_splice);
	if (n <= 0)
		return n ? -errno : -EPIPE;
	s->in_pipe = (size_t)n;
	return 0;
}

/* Pipe to socket. enum moved, or -errno. */
static int drain_pipe(struct conn *c, struct splice_conn *s)
{
	struct xfer *x = &c->xfer;

	while (s->in_pipe) {
		unsigned flags = x->len > s->in_pipe ? SPLICE_F_MORE : 0;
		ssize_t n = splice(s->pipe.rd, NULL, c->fd, NULL, s->in_pipe, flags);

		count_one(c->ctr, sys_splice);
		if (n < 0) {
			count_add(c->ctr, eagain, errno == EAGAIN);
			return errno == EAGAIN ? MOVED_WANT_DST : -errno;
		}
		count_add(c->ctr, short_moves, (size_t)n < s->in_pipe);
		s->in_pipe -= (size_t)n;
		xfer_touch(c);
		xfer_advance_body(c, (size_t)n);
	}
	return MOVED_ALL;
}

static int splice_body(struct conn *c, struct splice_conn *s)
{
	struct xfer *x = &c->xfer;
	size_t moved = 0;
	int res = 0;

	while (x->len) {
		if (!s->in_pipe)
			res = fill_pipe(c, s);
		moved += s->in_pipe;
		if (!res)
			res = drain_pipe(c, s);
		if (res)
			return res;
		if (moved >= TURN_BYTES && x->len)
			return MOVED_TURN;
	}
	return MOVED_ALL;
}

static int splice_move(struct conn *c)
{
	struct splice_conn *s = c->mover;
	int res = send_iov(c, c->xfer.len ? MSG_MORE : 0);

	if (res || !c->xfer.len)
		return res;
	res = s->have ? 0 : pipe_borrow(c, s);
	if (!res)
		res = splice_body(c, s);
	if (res <= 0)
		pipe_return(c, s);
	return res;
}

static void splice_exit(struct conn *c)
{
	pipe_return(c, c->mover);
}

static int splice_worker_init(struct worker *w)
{
	pool = calloc(1, sizeof(*pool));
	return pool ? 0 : -ENOMEM;
}

static void splice_worker_exit(struct worker *w)
{
	while (pool && pool->nr) {
		struct pipe_pair *p = &pool->free[--pool->nr];

		close(p->rd);
		close(p->wr);
	}
	free(pool);
	pool = NULL;
}

static const struct mover move_splice = {
	.worker_init = splice_worker_init,
	.worker_exit = splice_worker_exit,
	.exit = splice_exit,
	.move = splice_move,
};

static void splice_bodies(const int64_t *opt, struct body_policy *policy)
{
	policy->source = SOURCE_FILE;
}

const struct engine engine_splice = {
	.name = "splice",
	.summary = "epoll; head by send, body by splice through a pipe from the worker's pool",
	.since = "2.6.17",
	.driver = "epoll",
	.api = ENGINE_API,
	.sources = SOURCE_FILE,
	.conn_bytes = DRIVE_EPOLL_BYTES + sizeof(struct splice_conn),
	.options = options,
	.mover = &move_splice,
	.bodies = splice_bodies,
	.worker_init = drive_epoll_init,
	.worker_run = drive_epoll_run,
	.worker_exit = drive_epoll_exit,
};
