// SPDX-License-Identifier: MIT
/*
 * Engine io_uring_splice, to the connection's own socket: memory by one send, then a file by
 * splices through a pipe. A response is send (head), poll, splice (file to pipe), splice (pipe to
 * socket), and the last three again until the file has gone.
 *
 * Linked, the four are one chain, submitted at once. The poll comes before the file's splice, not
 * between the two: io-wq runs the next of a chain on the thread that ran the one before
 * (io_wq_free_work, io_uring/io_uring.c), so both splices are one trip to a thread, and a client
 * that stands still keeps no pages in a pipe. A splice or a send that is short breaks the chain
 * (io_splice, io_uring/splice.c): what follows is cancelled, and prepared anew.
 *
 * A pipe is drained before it is filled again, and goes back to the pool whenever it is empty.
 * Cancelling by the socket's descriptor ends a send or a poll that waits; a splice out of the file
 * waits for the disk at most, and holds a thread of io-wq meanwhile.
 */
#include "io_uring_splice.h"

#include <poll.h>
#include <unistd.h>

/* Entries of the longest chain. */
#define CHAIN_MAX 4

static bool has_file(const struct conn *c)
{
	return c->xfer.src == SOURCE_FILE && c->xfer.len;
}

/*
 * Bytes that an empty pipe takes of the file: a buffer of the pipe holds a part of one page, so
 * where the first page is not taken from its beginning there is less room. Asking for more would
 * make the splice short.
 */
static uint32_t file_room(const struct conn *c, const struct ring_splice *s)
{
	uint32_t page = (uint32_t)sysconf(_SC_PAGESIZE);
	uint32_t room = s->pipe.bytes - (uint32_t)(c->xfer.off % page);

	return c->xfer.len < room ? (uint32_t)c->xfer.len : room;
}

static int borrow(struct conn *c, struct ring_splice *s)
{
	int res = s->have ? 0 : pipe_take(c, &s->pipe, (uint32_t)c->w->opt[OPT_PIPE]);

	s->have = !res;
	return res;
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

/* What is in the pipe, or will be by the link; no longer than a writable socket takes at once. */
static void prepare_out(struct conn *c, struct ring_splice *s, struct io_uring_sqe *sqe)
{
	uint32_t len = s->in_pipe ? s->in_pipe : file_room(c, s);
	bool more;

	s->asked = ring_splice_fitting(c, c->fd, &s->fits, len);
	more = c->xfer.len > s->asked && hold_flag(c);
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
		io_uring_prep_splice(sqe, c->xfer.file_fd, (int64_t)c->xfer.off, s->pipe.wr, -1,
				     file_room(c, s), SPLICE_F_NONBLOCK);
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

static unsigned op_after(unsigned op, const struct ring_splice *s)
{
	if (op == OP_IOV)
		return OP_POLL_OUT;
	return op == OP_POLL_OUT && !s->in_pipe ? OP_IN : OP_OUT;
}

/* Unlinked, each operation is a part of its own; linked, those up to a splice to the socket are. */
int ring_splice_own_start(struct conn *c, struct ring_splice *s)
{
	bool chain = has_file(c) && c->w->opt[OPT_LINKED];
	unsigned op = first_op(c, s);
	int res = chain || op == OP_IN ? borrow(c, s) : 0;

	if (res)
		return res;
	s->cut = false;
	ring_move_reserve(c, CHAIN_MAX);
	while (chain && op != OP_OUT) {
		prepare(c, s, op, true);
		op = op_after(op, s);
	}
	prepare(c, s, op, false);
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
	count_add(c->ctr, sys_splice, res != -ECANCELED);
	if (res <= 0) { /* 0: the file became shorter */
		fail(s, res ? res : -EPIPE);
		return;
	}
	s->in_pipe = (uint32_t)res;
	s->cut = s->in_pipe < file_room(c, s);
	count_add(c->ctr, short_moves, s->cut);
}

static void went_out(struct conn *c, struct ring_splice *s, int res)
{
	count_add(c->ctr, sys_splice, res != -ECANCELED);
	if (res == -ECANCELED && s->cut)
		return;
	s->polled = false;
	if (res == -EAGAIN) {
		count_one(c->ctr, eagain);
	} else if (res <= 0) {
		fail(s, res ? res : -EPIPE);
	} else {
		count_add(c->ctr, short_moves, (uint32_t)res < s->asked);
		s->in_pipe -= (uint32_t)res;
		xfer_touch(c);
		xfer_advance_body(c, (size_t)res);
	}
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
	if (s->nr_out)
		return RING_PENDING;
	if (s->error)
		return s->error;
	if (s->have && !s->in_pipe) {
		pipe_give(c, &s->pipe, true);
		s->have = false;
	}
	return xfer_has_iov(&c->xfer) || has_file(c) ? RING_PART : 0;
}
