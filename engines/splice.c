// SPDX-License-Identifier: MIT
/*
 * Engine splice: references to pages travel through a pipe by splice(2), from a file or a socket to
 * a socket; nothing is copied to user space. Several destinations: splice_fanout.c.
 * Readiness by epoll. Linux 2.6.17; from sockets 2.6.25.
 *
 * Between sockets, a stream at full speed may be read in batches (option batch): readiness is held
 * back by SO_RCVLOWAT. On one pair of loopback at 10 GiB/s this saved 10% of CPU time with pipes of
 * 128 KiB and 20% with 1 MiB; MORE on pieces, to fill segments, saved nothing.
 *
 * A pipe is drained before it is filled again: with bytes in it, EAGAIN from a splice into it would
 * not say which side blocks.
 *
 * SPLICE_F_MORE only while more of a file follows: a MORE on the last piece is held back by TCP for
 * the 200 ms of its timer, and what follows from a socket is not at hand.
 */
#include "splice.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct opt_def options[] = {
	COMMON_OPTIONS,
	{.name = "pipe",
	 .type = OPT_SIZE,
	 .def = 0,
	 .min = 0,
	 .max = 1 << 20,
	 .help = "bytes a pipe holds (F_SETPIPE_SZ; fcntl(2)); 0: 256 KiB, "
		 "128 KiB between sockets"},
	POLICY_OPTIONS,
	{.name = "batch",
	 .type = OPT_SIZE,
	 .def = 0,
	 .min = 0,
	 .max = 4 << 20,
	 .help = "a stream at full speed is read in batches of so many "
		 "bytes (SO_RCVLOWAT); its end may wait 1 ms"},
	{.name = "chunk",
	 .type = OPT_SIZE,
	 .def = TURN_BYTES,
	 .min = 4096,
	 .max = TURN_BYTES,
	 .help = "bytes asked of one splice(2) into the pipe"},
	{0}};

uint32_t splice_pipe_bytes(const struct worker *w)
{
	if (w->opt[OPT_PIPE])
		return (uint32_t)w->opt[OPT_PIPE];
	return w->relays ? 128 << 10 : 256 << 10;
}

int splice_borrow(struct conn *c, struct splice_conn *s)
{
	int res = s->have ? 0 : pipe_take(c, &s->pipe, splice_pipe_bytes(c->w));

	s->have = !res;
	return res;
}

void splice_give_back(struct conn *c, struct splice_conn *s)
{
	if (s->have)
		pipe_give(c, &s->pipe, !s->in_pipe);
	s->have = false;
	s->in_pipe = 0;
}

/* ---------------------------------------------------------------- file to socket */

static size_t chunk_bytes(const struct conn *c)
{
	return (size_t)c->w->opt[OPT_CHUNK];
}

/* File to pipe. 0, or -errno; -EPIPE when the file became shorter. */
static int fill_from_file(struct conn *c, struct splice_conn *s)
{
	struct xfer *x = &c->xfer;
	size_t want = x->len < chunk_bytes(c) ? (size_t)x->len : chunk_bytes(c);
	off_t off = (off_t)x->off;
	ssize_t n = splice(x->file_fd, &off, s->pipe.wr, NULL, want, SPLICE_F_NONBLOCK);

	count_one(c->ctr, sys_splice);
	if (n <= 0)
		return n ? -errno : -EPIPE;
	s->in_pipe = (size_t)n;
	return 0;
}

/* Pipe to the only destination. enum moved, or -errno. */
static int drain_pipe(struct conn *c, struct splice_conn *s)
{
	struct xfer *x = &c->xfer;
	bool file = x->src == SOURCE_FILE;

	while (s->in_pipe) {
		bool more = file && x->len > s->in_pipe && hold_part_flag(c);
		unsigned flags = more ? SPLICE_F_MORE : 0;
		ssize_t n = splice(s->pipe.rd, NULL, xfer_sink(c)->fd, NULL, s->in_pipe, flags);

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

static int file_body(struct conn *c, struct splice_conn *s)
{
	struct xfer *x = &c->xfer;
	size_t moved = 0;
	int res = 0;

	while (x->len) {
		if (!s->in_pipe)
			res = fill_from_file(c, s);
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

/* ---------------------------------------------------------------- socket to socket */

int splice_from_socket(struct conn *c, struct splice_conn *s)
{
	struct xfer *x = &c->xfer;
	size_t want = x->len < chunk_bytes(c) ? (size_t)x->len : chunk_bytes(c);
	ssize_t n = splice(c->fd, NULL, s->pipe.wr, NULL, want, SPLICE_F_NONBLOCK);

	count_one(c->ctr, sys_splice);
	if (n < 0) {
		count_add(c->ctr, eagain, errno == EAGAIN);
		return errno == EAGAIN ? FILLED_DRY : -errno;
	}
	if (!n)
		return x->len == XFER_TO_EOF ? FILLED_EOF : -EPIPE;
	s->in_pipe = (size_t)n;
	return FILLED;
}

static void set_lowat(struct conn *c, struct splice_conn *s, int bytes)
{
	setsockopt(c->fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes));
	count_one(c->ctr, sys_other);
	s->lowat = bytes > 1;
}

/*
 * The source is dry. One that gave a whole batch since it last was is a stream at full speed: then
 * it pays to let input pile up, for splices become fewer and larger, and the sockets' locks
 * quieter. One that gave less has ended its burst, and its next bytes are wanted at once.
 */
static int wait_for_source(struct conn *c, struct splice_conn *s)
{
	size_t batch = (size_t)c->w->opt[OPT_BATCH];
	bool stream = batch && s->run >= batch && c->xfer.len >= batch;

	s->run = 0;
	if (stream != s->lowat)
		set_lowat(c, s, stream ? (int)batch : 1);
	return stream ? MOVED_WANT_BATCH : MOVED_WANT_SRC;
}

static int socket_body(struct conn *c, struct splice_conn *s)
{
	struct xfer *x = &c->xfer;
	size_t moved = 0;
	int res;

	while (x->len) {
		res = s->in_pipe ? FILLED : splice_from_socket(c, s);
		if (res == FILLED_DRY)
			return wait_for_source(c, s);
		if (res)
			return res < 0 ? res : MOVED_ALL;
		moved += s->in_pipe;
		s->run += s->in_pipe;
		res = drain_pipe(c, s);
		if (res == MOVED_WANT_DST)
			return res;
		if (res) { /* the destination is gone */
			xfer_fail_dst(x, 0, res);
			return -EPIPE;
		}
		if (moved >= TURN_BYTES && x->len)
			return MOVED_TURN;
	}
	return MOVED_ALL;
}

/* ---------------------------------------------------------------- the mover */

static int move_body(struct conn *c, struct splice_conn *s)
{
	int res = splice_borrow(c, s);

	if (res)
		return res;
	if (c->xfer.src == SOURCE_FILE)
		return file_body(c, s);
	return c->xfer.nr_dst == 1 ? socket_body(c, s) : splice_fan_out(c, s);
}

static int splice_move(struct conn *c)
{
	struct splice_conn *s = c->mover;
	bool file = c->xfer.src == SOURCE_FILE;
	int res;

	if (c->xfer.src == SOURCE_SOCKET && policy_buffers(c, OPT_POLICY))
		return queue_move(c, &s->queue, QUEUE_CHUNKS, QUEUE_CHUNK_BYTES);
	res = send_iov(c, file && c->xfer.len ? hold_flag(c) : 0);
	if (!res && !xfer_live(&c->xfer))
		res = -EPIPE;
	if (!res && c->xfer.len)
		res = move_body(c, s);
	if (res <= 0 && s->lowat)
		set_lowat(c, s, 1); /* what comes next is a head */
	if (res <= 0 || res == MOVED_WANT_SRC || res == MOVED_WANT_BATCH) {
		/* who waits for his source holds no pipe */
		splice_drop_tees(c, s);
		splice_give_back(c, s);
	}
	return res;
}

static void splice_exit(struct conn *c)
{
	struct splice_conn *s = c->mover;

	splice_give_back(c, s);
	splice_drop_tees(c, s);
	queue_drop(&s->queue);
}

static const struct mover move_splice = {
	.worker_init = pipes_init,
	.worker_exit = pipes_exit,
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
	.sources = SOURCE_FILE | SOURCE_SOCKET | SOURCE_FANOUT,
	.conn_bytes = DRIVE_EPOLL_BYTES + sizeof(struct splice_conn),
	.options = options,
	.mover = &move_splice,
	.bodies = splice_bodies,
	.worker_init = drive_epoll_init,
	.worker_run = drive_epoll_run,
	.worker_exit = drive_epoll_exit,
};
