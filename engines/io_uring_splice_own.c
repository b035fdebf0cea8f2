// SPDX-License-Identifier: MIT
/*
 * Engine io_uring_splice, to the connection's own socket: memory by one send, then a file by
 * splices through a pipe. A response is send (head), poll, splice (file to pipe), splice (pipe to
 * socket), and the last three again until the file has gone.
 *
 * Linked, the send and the poll are one chain, and the two splices another: io-wq runs the next of
 * a chain on the thread that ran the one before (io_wq_free_work, io_uring/io_uring.c), so both
 * splices are one trip to a thread. One that is short breaks the chain (io_splice,
 * io_uring/splice.c): what follows is cancelled, and prepared anew. The poll stands between the
 * chains, since a chain names its pipe: who waits for a client has none.
 *
 * So a pipe is borrowed for the time of two splices, which is short: the socket has room, and the
 * file is on a disk. A few pipes then serve all connections, in the order of asking. What the
 * socket did not take after all goes with its pipe, and is read again.
 *
 * A poll by itself is over at once when the peer has closed its side, room or not (IO_POLL_UNMASK,
 * io_uring/poll.c). So after a splice that the socket refused all the same, the driver waits for an
 * edge instead; a thread would else stand in the socket tick by tick.
 *
 * Cancelling by the socket's descriptor ends a send or a poll that waits; a splice out of the file
 * ends with the disk, and holds a thread of io-wq until then.
 */
#include "io_uring_splice.h"

#include "drive_ring.h"

#include <poll.h>
#include <unistd.h>

/* Pipes that files of a worker have at once: as many splices as keep a disk busy, not each client.
 */
#define PIPES_LENT_MAX 8

/* Of a worker, on its thread. */
static _Thread_local struct {
	unsigned nr_lent;
	struct conn *waiting, *last_waiting; /* for a pipe; oldest first */
} lending;

static bool has_file(const struct conn *c)
{
	return c->xfer.src == SOURCE_FILE && c->xfer.len;
}

/* ---------------------------------------------------------------- pipes */

static struct ring_splice *splice_of(const struct conn *c)
{
	return c->mover;
}

static void wait_for_pipe(struct conn *c, struct ring_splice *s)
{
	if (s->waiting)
		return;
	s->waiting = true;
	s->next_waiting = NULL;
	if (lending.waiting)
		splice_of(lending.last_waiting)->next_waiting = c;
	else
		lending.waiting = c;
	lending.last_waiting = c;
}

static void stop_waiting(struct conn *c, struct ring_splice *s)
{
	struct conn **at = &lending.waiting, *before = NULL;

	if (!s->waiting)
		return;
	while (*at != c) {
		before = *at;
		at = &splice_of(before)->next_waiting;
	}
	*at = s->next_waiting;
	if (lending.last_waiting == c)
		lending.last_waiting = before;
	s->waiting = false;
}

/* 0, RING_WAIT or -errno. */
static int borrow(struct conn *c, struct ring_splice *s)
{
	int res;

	if (lending.nr_lent == PIPES_LENT_MAX) {
		wait_for_pipe(c, s);
		return RING_WAIT;
	}
	stop_waiting(c, s);
	res = pipe_take(c, &s->pipe, (uint32_t)c->w->opt[OPT_PIPE]);
	s->have = !res;
	lending.nr_lent += s->have;
	return res;
}

/* Those whose turn has come take a pipe, or have no use for one any more. */
static void give_back(struct conn *c, struct ring_splice *s)
{
	struct conn *next;

	pipe_give(c, &s->pipe, !s->in_pipe);
	s->have = false;
	s->in_pipe = 0;
	lending.nr_lent--;
	while (lending.nr_lent < PIPES_LENT_MAX && lending.waiting) {
		next = lending.waiting;
		stop_waiting(next, splice_of(next));
		ur_advance(next);
	}
}

void ring_splice_own_forget(struct conn *c)
{
	stop_waiting(c, c->mover);
}

/* ---------------------------------------------------------------- preparing */

static void prepare_send(struct conn *c, struct ring_splice *s, struct io_uring_sqe *sqe)
{
	struct xfer *x = &c->xfer;
	int more = has_file(c) ? hold_flag(c) : 0;

	s->msg = (struct msghdr){.msg_iov = x->iov + x->iov_at,
				 .msg_iovlen = (size_t)(x->iov_nr - x->iov_at)};
	io_uring_prep_sendmsg(sqe, c->fd, &s->msg, (unsigned)(MSG_NOSIGNAL | MSG_WAITALL | more));
	ring_use_socket(sqe, c);
}

/*
 * As much as an empty pipe takes, and a writable socket takes out of it at once. A buffer of the
 * pipe holds a part of one page, so there is less room where the first page is not taken from its
 * beginning; asking for more would make the splice short.
 */
static void prepare_in(struct conn *c, struct ring_splice *s, struct io_uring_sqe *sqe)
{
	struct xfer *x = &c->xfer;
	uint32_t room = s->pipe.bytes - (uint32_t)(x->off % (uint64_t)sysconf(_SC_PAGESIZE));
	uint32_t len = x->len < room ? (uint32_t)x->len : room;

	s->asked = ring_splice_fitting(c, c->fd, &s->fits, len);
	io_uring_prep_splice(sqe, x->file_fd, (int64_t)x->off, s->pipe.wr, -1, s->asked,
			     SPLICE_F_NONBLOCK);
}

/*
 * What is in the pipe, or will be by the link. MORE holds a partial segment back, and the poll that
 * follows does not push it: where the send buffer is not larger than a few of the largest segments,
 * it would fill with what is held, and wait for the 200 ms of TCP's timer.
 */
static void prepare_out(struct conn *c, struct ring_splice *s, struct io_uring_sqe *sqe)
{
	bool more;

	s->asked = s->in_pipe ? s->in_pipe : s->asked;
	more = c->xfer.len > s->asked && s->fits >= SEGMENT_MAX && hold_flag(c);
	io_uring_prep_splice(sqe, s->pipe.rd, -1, c->fd, -1, s->asked, more ? SPLICE_F_MORE : 0);
	ring_use_socket(sqe, c);
}

static void prepare(struct conn *c, struct ring_splice *s, unsigned op, bool link)
{
	struct io_uring_sqe *sqe = ring_move_sqe(c);

	switch (op) {
	case OP_IOV:
		prepare_send(c, s, sqe);
		break;
	case OP_POLL_OUT:
		io_uring_prep_poll_add(sqe, c->fd, POLLOUT);
		ring_use_socket(sqe, c);
		break;
	case OP_IN:
		prepare_in(c, s, sqe);
		break;
	default:
		prepare_out(c, s, sqe);
	}
	sqe->flags |= link ? IOSQE_IO_LINK : 0;
	ring_move_tag(c, sqe, op);
	s->nr_out++;
}

/* What is to be done first of what is left. */
static unsigned first_op(const struct conn *c, const struct ring_splice *s)
{
	if (xfer_has_iov(&c->xfer) || !has_file(c))
		return OP_IOV;
	if (!s->polled)
		return OP_POLL_OUT;
	return s->in_pipe ? OP_OUT : OP_IN;
}

int ring_splice_own_start(struct conn *c, struct ring_splice *s)
{
	unsigned op = first_op(c, s);
	bool chain = has_file(c) && c->w->opt[OPT_LINKED] && (op == OP_IOV || op == OP_IN);
	int res;

	if (s->refused) {
		s->refused = false;
		return RING_ROOM;
	}
	res = op == OP_IN ? borrow(c, s) : 0;
	if (res)
		return res;
	s->cut = false;
	ring_move_reserve(c, 2);
	prepare(c, s, op, chain);
	if (chain)
		prepare(c, s, op == OP_IOV ? OP_POLL_OUT : OP_OUT, false);
	return 0;
}

/* ---------------------------------------------------------------- completions */

/* The first failure counts; a break in the chain is none, nor what it cancels. */
static void fail(struct ring_splice *s, int res)
{
	if (!s->error && !(s->cut && res == -ECANCELED))
		s->error = res;
}

static void sent(struct conn *c, struct ring_splice *s, int res)
{
	if (res < 0) {
		fail(s, res);
		return;
	}
	xfer_touch(c);
	xfer_advance_iov(c, (size_t)res);
	s->cut = xfer_has_iov(&c->xfer);
	count_add(c->ctr, short_moves, s->cut);
}

static void came_in(struct conn *c, struct ring_splice *s, int res)
{
	if (res <= 0) { /* 0: the file became shorter */
		fail(s, res ? res : -EPIPE);
		return;
	}
	s->in_pipe = (uint32_t)res;
	s->cut = s->in_pipe < s->asked;
	count_add(c->ctr, short_moves, s->cut);
}

static void went_out(struct conn *c, struct ring_splice *s, int res)
{
	if (res == -ECANCELED && s->cut)
		return;
	s->polled = false;
	if (res == -EAGAIN) {
		count_one(c->ctr, eagain);
		s->refused = true;
	} else if (res <= 0) {
		fail(s, res ? res : -EPIPE);
	} else {
		count_add(c->ctr, short_moves, (uint32_t)res < s->asked);
		s->in_pipe -= (uint32_t)res;
		xfer_touch(c);
		xfer_advance_body(c, (size_t)res);
	}
}

/* The part is over. A pipe stays for a splice out of it that is the next to be prepared. */
static int end_part(struct conn *c, struct ring_splice *s)
{
	bool goes_on = s->in_pipe && s->polled && !s->error && c->step == STEP_XFER;

	if (s->have && !goes_on)
		give_back(c, s);
	if (s->error)
		return s->error;
	return xfer_has_iov(&c->xfer) || has_file(c) ? RING_PART : 0;
}

int ring_splice_own_completed(struct conn *c, struct ring_splice *s, unsigned op, int res)
{
	s->nr_out--;
	switch (op) {
	case OP_IOV:
		sent(c, s, res);
		break;
	case OP_POLL_OUT:
		s->polled = res >= 0;
		if (res < 0)
			fail(s, res);
		break;
	case OP_IN:
		came_in(c, s, res);
		break;
	default:
		went_out(c, s, res);
	}
	return s->nr_out ? RING_PENDING : end_part(c, s);
}
