// SPDX-License-Identifier: MIT
/*
 * Engine splice: references to pages travel through a pipe by splice(2), from a file or a socket to
 * a socket; nothing is copied to user space. Several destinations get the same pages by tee(2).
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
#include "pipes.h"
#include "queue.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	OPT_PIPE = COPT_NR,
	OPT_POLICY,
	OPT_THRESHOLD,
	OPT_BATCH,
	OPT_CHUNK
};

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

/* Pipes of a transfer to several destinations: one each, but for the last that lives. */
struct tees {
	uint16_t nr;
	uint16_t last;		 /* takes the round from the source's pipe itself */
	uint32_t round;		 /* bytes of the round, 0 between rounds */
	struct pipe_pair pipe[]; /* by destination; rd 0: none */
};

struct splice_conn {
	struct pipe_pair pipe;
	bool have;	/* a pipe is borrowed */
	size_t in_pipe; /* bytes in it, not yet in the (last) socket */
	size_t run;	/* bytes since the source was last dry */
	bool lowat;	/* SO_RCVLOWAT of the source is a batch */
	struct tees *tees;
	struct queue queue; /* of policies that buffer */
};

/* The same for all of a worker, so that any pipe of its pool will do. */
static uint32_t pipe_bytes(const struct worker *w)
{
	if (w->opt[OPT_PIPE])
		return (uint32_t)w->opt[OPT_PIPE];
	return w->relays ? 128 << 10 : 256 << 10;
}

static int borrow(struct conn *c, struct splice_conn *s)
{
	int res = s->have ? 0 : pipe_take(c, &s->pipe, pipe_bytes(c->w));

	s->have = !res;
	return res;
}

static void give_back(struct conn *c, struct splice_conn *s)
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

/* What comes of the source when the pipe is empty. */
enum filled {
	FILLED,
	FILLED_EOF,
	FILLED_DRY
};

/* Socket to pipe: enum filled, or -errno. */
static int fill_from_socket(struct conn *c, struct splice_conn *s)
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
		res = s->in_pipe ? FILLED : fill_from_socket(c, s);
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

/* ---------------------------------------------------------------- socket to several sockets */

static int tees_make(struct conn *c, struct splice_conn *s)
{
	if (s->tees)
		return 0;
	s->tees = calloc(1, sizeof(*s->tees) + c->xfer.nr_dst * sizeof(struct pipe_pair));
	if (!s->tees)
		return -ENOMEM;
	s->tees->nr = c->xfer.nr_dst;
	return 0;
}

static void tee_give(struct conn *c, struct splice_conn *s, unsigned i, bool empty)
{
	struct pipe_pair *p = &s->tees->pipe[i];

	if (p->rd)
		pipe_give(c, p, empty);
	p->rd = 0;
}

/*
 * Before a round: a pipe for each destination but the last that lives. None may hold less than the
 * source's, or a tee would be short; beyond pipe-user-pages-soft (pipe(7)) some do.
 */
static int take_tees(struct conn *c, struct splice_conn *s)
{
	uint32_t smallest = s->pipe.bytes;
	struct xfer *x = &c->xfer;
	int res = 0;

	for (unsigned i = 0; i < x->nr_dst; i++)
		if (xfer_dst_lives(&x->dst[i]))
			s->tees->last = (uint16_t)i;
	for (unsigned i = 0; !res && i < s->tees->last; i++) {
		struct pipe_pair *p = &s->tees->pipe[i];

		if (!xfer_dst_lives(&x->dst[i]))
			continue;
		res = p->rd ? 0 : pipe_take(c, p, pipe_bytes(c->w));
		if (!res && p->bytes < smallest)
			smallest = p->bytes;
	}
	return res ? res : pipe_shrink(c, &s->pipe, smallest);
}

/* The same pages into the pipe of destination i, which is empty and holds all of them. */
static int tee_to(struct conn *c, struct splice_conn *s, unsigned i)
{
	ssize_t n = tee(s->pipe.rd, s->tees->pipe[i].wr, s->in_pipe, SPLICE_F_NONBLOCK);

	count_one(c->ctr, sys_tee);
	if (n < 0)
		return -errno;
	return (size_t)n == s->in_pipe ? 0 : -EIO;
}

/* Begins a round with what is in the source's pipe. 0 or -errno. */
static int tee_round(struct conn *c, struct splice_conn *s)
{
	struct xfer *x = &c->xfer;
	int res = 0;

	for (unsigned i = 0; !res && i < s->tees->last; i++)
		if (xfer_dst_lives(&x->dst[i]))
			res = tee_to(c, s, i);
	s->tees->round = (uint32_t)s->in_pipe;
	return res;
}

/* Destination i takes what its pipe has. MOVED_ALL, MOVED_WANT_DST. */
static int round_to(struct conn *c, struct splice_conn *s, unsigned i)
{
	struct xfer_dst *d = &c->xfer.dst[i];
	int from = i == s->tees->last ? s->pipe.rd : s->tees->pipe[i].rd;
	ssize_t n;

	while (d->at < s->tees->round) {
		n = splice(from, NULL, d->c->fd, NULL, s->tees->round - d->at, SPLICE_F_NONBLOCK);
		count_one(c->ctr, sys_splice);
		if (n < 0 && errno == EAGAIN) {
			count_one(c->ctr, eagain);
			return MOVED_WANT_DST;
		}
		if (n < 0) {
			xfer_fail_dst(&c->xfer, i, -errno);
			return MOVED_ALL;
		}
		d->at += (uint32_t)n;
		xfer_count(c, (size_t)n);
		xfer_touch(c);
	}
	return MOVED_ALL;
}

/* Every pipe is empty again: those of the dead, with the round's rest in them, are closed. */
static int end_round(struct conn *c, struct splice_conn *s)
{
	struct xfer *x = &c->xfer;

	for (unsigned i = 0; i < x->nr_dst; i++) {
		if (!xfer_dst_lives(&x->dst[i]))
			tee_give(c, s, i, false);
		x->dst[i].at = 0;
	}
	if (xfer_dst_lives(&x->dst[s->tees->last]))
		s->in_pipe = 0;
	else
		give_back(c, s); /* the last one died with its rest in the source's pipe */
	xfer_skip_body(c, s->tees->round);
	s->tees->round = 0;
	return borrow(c, s);
}

static int deliver_round(struct conn *c, struct splice_conn *s)
{
	struct xfer *x = &c->xfer;
	int res = MOVED_ALL;

	for (unsigned i = 0; i < x->nr_dst; i++)
		if (xfer_dst_lives(&x->dst[i]) && round_to(c, s, i) != MOVED_ALL)
			res = MOVED_WANT_DST;
	if (!xfer_live(x))
		return -EPIPE;
	return res == MOVED_ALL ? end_round(c, s) : res;
}

static int fan_out(struct conn *c, struct splice_conn *s)
{
	struct xfer *x = &c->xfer;
	size_t moved = 0;
	int res = tees_make(c, s);

	while (!res && x->len) {
		if (!s->tees->round) {
			res = take_tees(c, s);
			if (res)
				return res;
			res = fill_from_socket(c, s);
			if (res == FILLED_DRY)
				return MOVED_WANT_SRC;
			if (res)
				return res < 0 ? res : MOVED_ALL;
			res = tee_round(c, s);
			moved += s->in_pipe;
		}
		if (!res)
			res = deliver_round(c, s);
		if (!res && moved >= TURN_BYTES && x->len)
			return MOVED_TURN;
	}
	return res;
}

/* ---------------------------------------------------------------- the mover */

static void drop_tees(struct conn *c, struct splice_conn *s)
{
	for (unsigned i = 0; s->tees && i < s->tees->nr; i++)
		tee_give(c, s, i, !s->tees->round);
	free(s->tees);
	s->tees = NULL;
}

static int move_body(struct conn *c, struct splice_conn *s)
{
	int res = borrow(c, s);

	if (res)
		return res;
	if (c->xfer.src == SOURCE_FILE)
		return file_body(c, s);
	return c->xfer.nr_dst == 1 ? socket_body(c, s) : fan_out(c, s);
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
		drop_tees(c, s);
		give_back(c, s);
	}
	return res;
}

static void splice_exit(struct conn *c)
{
	struct splice_conn *s = c->mover;

	give_back(c, s);
	drop_tees(c, s);
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
