// SPDX-License-Identifier: MIT
/*
 * Engine io_uring_splice: socket to pipe and pipe to socket by splices over a ring (drive_ring.c),
 * both in flight at once while the pipe has room; several destinations by tee. Files go the same
 * way, in turns (io_uring_splice_own.c). Linux 6.1 (splice itself 5.7, tee 5.8).
 *
 * IORING_OP_SPLICE never runs in line: it is always punted to a thread of io-wq (io_splice_prep
 * sets REQ_F_FORCE_ASYNC, io_uring/splice.c), and there it may block, because the sockets of a ring
 * are blocking ones. So each splice is linked behind a poll of its socket, which is done in line
 * when the socket is ready, and else waits without a thread. With linked=off the splice is
 * submitted when the poll has completed: a round through the worker more, and no chain for the
 * kernel.
 *
 * Writable means that a third of the send buffer is free, which may be less than the pipe holds:
 * the splice would send what fits and wait for the rest, with the pipe locked, so that the splice
 * into it waits too (splice_to_socket, fs/splice.c). Receivers that stand still would keep two
 * threads each. So no splice is longer than what fits. Should one wait all the same (a send buffer
 * shrinks when memory is short), SO_SNDTIMEO ends it within ticks, with what it has sent;
 * O_NONBLOCK would end the ring's receives and sends with EAGAIN as well (REQ_F_NOWAIT,
 * io_uring/io_uring.c), while those never wait in the socket. And the number of threads is limited.
 */
#include "io_uring_splice.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>

/* Of a worker. A few suffice as long as none waits; the rest is for those that wait out a tick. */
#define NR_THREADS 64

static const struct opt_def options[] = {
	COMMON_OPTIONS,
	{.name = "pipe",
	 .type = OPT_SIZE,
	 .def = 128 << 10,
	 .min = 4096,
	 .max = 1 << 20,
	 .help = "bytes a pipe holds (F_SETPIPE_SZ; fcntl(2))"},
	{.name = "linked",
	 .type = OPT_BOOL,
	 .def = 1,
	 .max = 1,
	 .help = "on: each splice is linked behind the poll of its "
		 "socket and submitted with it; off: it is submitted "
		 "when the poll has completed"},
	RING_OPTIONS,
	{0}};

/* ---------------------------------------------------------------- source to pipe */

static uint64_t left_to_take(const struct conn *c, const struct ring_splice *s)
{
	return c->xfer.len == XFER_TO_EOF ? TURN_BYTES : c->xfer.len - s->in_pipe;
}

/* The splice that waits for nothing: the socket has been polled, or will be by the link. */
static void take_in(struct conn *c, struct ring_splice *s)
{
	uint64_t left = left_to_take(c, s);
	unsigned flags = SPLICE_F_NONBLOCK | (ring_has_slot(c) ? SPLICE_F_FD_IN_FIXED : 0);
	struct io_uring_sqe *sqe = ring_move_sqe(c);

	io_uring_prep_splice(sqe, c->fd, -1, s->pipe.wr, -1,
			     left < TURN_BYTES ? (unsigned)left : TURN_BYTES, flags);
	ring_move_tag(c, sqe, OP_IN);
}

static void splice_in(struct conn *c, struct ring_splice *s)
{
	bool linked = c->w->opt[OPT_LINKED];
	struct io_uring_sqe *sqe;

	if (s->in_busy || s->eof || s->error || s->maybe_full || !left_to_take(c, s) ||
	    c->step != STEP_XFER)
		return;
	if (s->in_pipe >= s->pipe.bytes || (fans_out(c) && s->in_pipe))
		return;
	ring_move_reserve(c, 2);
	sqe = ring_move_sqe(c);
	io_uring_prep_poll_add(sqe, c->fd, POLLIN | POLLRDHUP);
	ring_use_socket(sqe, c);
	sqe->flags |= linked ? IOSQE_IO_LINK : 0;
	ring_move_tag(c, sqe, OP_POLL_IN);
	if (linked)
		take_in(c, s);
	s->in_busy = true;
}

static void came_in(struct conn *c, struct ring_splice *s, int res)
{
	s->in_busy = false;
	if (res == -EAGAIN) {
		/* With bytes in the pipe it may be the pipe that was full: let it run empty. */
		count_one(c->ctr, eagain);
		s->maybe_full = s->in_pipe;
	} else if (ring_relay_received(c, res, &s->eof, &s->error)) {
		s->in_pipe += (uint32_t)res;
	}
}

/* ---------------------------------------------------------------- pipe to destination */

uint32_t ring_splice_fitting(struct conn *c, int fd, uint32_t *fits, uint32_t len)
{
	int sndbuf = 0;
	socklen_t size = sizeof(sndbuf);

	if (len <= *fits)
		return len;
	count_one(c->ctr, sys_other);
	if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &sndbuf, &size) || sndbuf < 4)
		return len;
	*fits = (uint32_t)sndbuf / 4;
	return len < *fits ? len : *fits;
}

/* The splice to destination i: the socket has been polled, or will be by the link. */
static void give_out(struct conn *c, struct ring_splice *s, uint16_t i)
{
	const struct branch *b = fans_out(c) ? &s->branch[i] : NULL;
	struct io_uring_sqe *sqe = ring_dst_sqe(c, i);

	io_uring_prep_splice(sqe, b ? b->from : s->pipe.rd, -1, c->xfer.dst[i].c->fd, -1,
			     b ? b->asked : s->asked, 0);
	ring_use_socket(sqe, c->xfer.dst[i].c);
	ring_dst_tag(c, sqe, OP_OUT, i);
}

void ring_splice_out(struct conn *c, struct ring_splice *s, uint16_t i, int from, uint32_t len)
{
	bool linked = c->w->opt[OPT_LINKED];
	uint32_t *fits = fans_out(c) ? &s->branch[i].fits : &s->fits;
	struct io_uring_sqe *sqe;

	len = ring_splice_fitting(c, c->xfer.dst[i].c->fd, fits, len);
	if (fans_out(c)) {
		s->branch[i].asked = len;
		s->branch[i].from = from;
	} else {
		s->asked = len;
	}
	ring_move_reserve(c, 2);
	sqe = ring_dst_sqe(c, i);
	io_uring_prep_poll_add(sqe, c->xfer.dst[i].c->fd, POLLOUT);
	ring_use_socket(sqe, c->xfer.dst[i].c);
	sqe->flags |= linked ? IOSQE_IO_LINK : 0;
	ring_dst_tag(c, sqe, OP_POLL_OUT, i);
	if (linked)
		give_out(c, s, i);
	s->nr_out++;
}

static void one_out(struct conn *c, struct ring_splice *s)
{
	if (s->nr_out || !s->in_pipe || s->error || c->step != STEP_XFER)
		return;
	if (xfer_dst_lives(&c->xfer.dst[0]))
		ring_splice_out(c, s, 0, s->pipe.rd, s->in_pipe);
	else
		s->error = -EPIPE;
}

static void one_went_out(struct conn *c, struct ring_splice *s, int res)
{
	s->nr_out--;
	if (res == -EAGAIN) {
		count_one(c->ctr, eagain);
	} else if (res <= 0) {
		xfer_fail_dst(&c->xfer, 0, res ? res : -EPIPE);
		conn_drop_dsts(c);
		s->error = -EPIPE;
	} else {
		count_add(c->ctr, short_moves, (uint32_t)res < s->asked);
		s->in_pipe -= (uint32_t)res;
		xfer_touch(c);
		if (c->step == STEP_XFER)
			xfer_advance_body(c, (size_t)res);
	}
	if (!s->in_pipe)
		s->maybe_full = false;
}

/* ---------------------------------------------------------------- the mover */

/* Keeps both sides busy. What completed() returns. */
static int pump(struct conn *c, struct ring_splice *s)
{
	if (fans_out(c))
		ring_splice_begin_round(c, s);
	else
		one_out(c, s);
	splice_in(c, s);
	return ring_relay_stands(c, s->in_busy, s->nr_out || s->nr_tees, s->eof, s->error);
}

int ring_splice_take_pipes(struct conn *c, struct ring_splice *s)
{
	int res = s->have ? 0 : pipe_take(c, &s->pipe, (uint32_t)c->w->opt[OPT_PIPE]);

	if (res)
		return res;
	s->have = true;
	if (!fans_out(c))
		return 0;
	if (!s->branch) {
		s->branch = calloc(c->xfer.nr_dst, sizeof(*s->branch));
		if (!s->branch)
			return -ENOMEM;
		s->nr_branches = c->xfer.nr_dst;
	}
	return ring_splice_take_branches(c, s);
}

static int start(struct conn *c)
{
	struct ring_splice *s = c->mover;
	int res;

	if (!c->xfer.nr_dst)
		return ring_splice_own_start(c, s);
	if (!xfer_live(&c->xfer))
		return -EPIPE;
	if (xfer_has_iov(&c->xfer))
		return ring_send_iov(c, &s->msg, OP_IOV, &s->nr_out);
	res = ring_splice_take_pipes(c, s);
	if (res)
		return res;
	res = pump(c, s);
	return res == RING_PENDING ? 0 : res;
}

static void went_out(struct conn *c, struct ring_splice *s, uint16_t i, int res)
{
	if (fans_out(c))
		ring_splice_went_out(c, s, i, res);
	else
		one_went_out(c, s, res);
}

/*
 * A poll has completed. Linked, its splice follows by itself, cancelled if the poll failed: true.
 * Else it is submitted now, unless the poll failed or nothing new may be: false, with the result
 * that the splice shall have had.
 */
static bool splice_follows(struct conn *c, struct ring_splice *s, unsigned op, uint16_t i, int *res)
{
	if (c->w->opt[OPT_LINKED])
		return true;
	if (*res < 0 || c->step != STEP_XFER) {
		*res = *res < 0 ? *res : -ECANCELED;
		return false;
	}
	if (op == OP_POLL_IN)
		take_in(c, s);
	else if (xfer_dst_lives(&c->xfer.dst[i]) && c->xfer.dst[i].c->step != STEP_CLOSE)
		give_out(c, s, i);
	else
		*res = -ECANCELED;
	return *res >= 0;
}

static int completed(struct conn *c, unsigned op, uint16_t dst, int res)
{
	struct ring_splice *s = c->mover;

	if (!c->xfer.nr_dst)
		return ring_splice_own_completed(c, s, op, res);
	switch (op) {
	case OP_POLL_IN:
		if (splice_follows(c, s, op, dst, &res))
			return RING_PENDING;
		came_in(c, s, res);
		break;
	case OP_POLL_OUT:
		if (splice_follows(c, s, op, dst, &res))
			return RING_PENDING;
		went_out(c, s, dst, res);
		break;
	case OP_IOV:
		return ring_iov_sent(c, dst, res, &s->nr_out);
	case OP_IN:
		came_in(c, s, res);
		break;
	case OP_TEE:
		ring_splice_teed(c, s, res);
		break;
	default:
		went_out(c, s, dst, res);
	}
	return pump(c, s);
}

/* How much the own socket takes is worth knowing for the next response, too. */
static void release(struct conn *c)
{
	struct ring_splice *s = c->mover;

	for (unsigned i = 0; i < s->nr_branches; i++)
		ring_splice_give_branch(c, &s->branch[i], !s->round);
	free(s->branch);
	if (s->have)
		pipe_give(c, &s->pipe, !s->in_pipe);
	*s = (struct ring_splice){.fits = c->xfer.nr_dst ? 0 : s->fits};
}

/* The shortest wait there is: the kernel counts in ticks. */
static int bound_sends(int fd)
{
	const struct timeval tick = {.tv_usec = 1};

	return setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tick, sizeof(tick)) ? -errno : 0;
}

static const struct ring_mover move_ring_splice = {
	.nr_threads = NR_THREADS,
	.options_at = OPT_RING,
	.prepare_socket = bound_sends,
	.worker_init = pipes_init,
	.worker_exit = pipes_exit,
	.start = start,
	.completed = completed,
	.release = release,
	.forget = ring_splice_own_forget,
};

static int init(struct worker *w)
{
	return drive_ring_init(w, &move_ring_splice);
}

static int check(const int64_t *opt, bool relays, char reason[REASON_MAX])
{
	return ring_mover_check(&move_ring_splice, opt, reason);
}

static int probe(const int64_t *opt, char reason[REASON_MAX])
{
	return ring_mover_probe(&move_ring_splice, opt, reason);
}

static void bodies(const int64_t *opt, struct body_policy *policy)
{
	policy->source = SOURCE_FILE;
}

const struct engine engine_io_uring_splice = {
	.name = "io_uring_splice",
	.summary = "completion: file or socket to pipe to socket by polls and splices, linked",
	.since = "6.1",
	.driver = "completion",
	.api = ENGINE_API,
	.sources = SOURCE_FILE | SOURCE_SOCKET | SOURCE_FANOUT,
	.conn_bytes = RING_CONN_BYTES + sizeof(struct ring_splice),
	.options = options,
	.check = check,
	.probe = probe,
	.bodies = bodies,
	.worker_init = init,
	.worker_run = drive_ring_run,
	.worker_exit = drive_ring_exit,
};
