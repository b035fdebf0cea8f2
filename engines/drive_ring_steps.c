// SPDX-License-Identifier: MIT
/*
 * Completion driver: the steps of a connection other than receiving. A transfer's operations are
 * the mover's; here they are counted, since no connection may go before their last completion.
 */
#include "drive_ring.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

struct io_uring_sqe *ur_cancel_sqe(struct conn *c)
{
	struct ur_conn *u = c->priv;

	u->in_flight++;
	return ring_sqe(&ur_of(c->w)->ring);
}

/* Every operation on fd, on behalf of c. */
void ur_cancel_fd(struct conn *c, int fd)
{
	struct io_uring_sqe *sqe = ur_cancel_sqe(c);

	io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ALL);
	sqe->fd = fd;
	ur_tag(sqe, c, OP_CANCEL);
}

void ring_stop_source(struct conn *c)
{
	ur_cancel_fd(c, c->fd);
}

/* ---------------------------------------------------------------- moving */

struct io_uring_sqe *ring_move_sqe(struct conn *c)
{
	return ur_conn_sqe(c);
}

void ring_move_tag(struct conn *c, struct io_uring_sqe *sqe, unsigned op)
{
	ur_tag(sqe, c, op);
}

struct io_uring_sqe *ring_dst_sqe(struct conn *c, uint16_t dst)
{
	struct ur_conn *to = c->xfer.dst[dst].c->priv;

	to->in_flight++;
	to->nr_written++;
	to->cancelled = false;
	return ur_conn_sqe(c);
}

void ring_dst_tag(struct conn *c, struct io_uring_sqe *sqe, unsigned op, uint16_t dst)
{
	io_uring_sqe_set_data64(sqe,
				(uint64_t)(uintptr_t)c | op | (uint64_t)(dst + 1) << DST_SHIFT);
}

static void end_transfer(struct conn *c, int res)
{
	struct ur_conn *u = c->priv;
	const struct ring_mover *mover = ur_of(c->w)->mover;

	u->begun = u->stopping = false;
	if (mover->release)
		mover->release(c);
	if (!res) {
		xfer_cork(c, false);
		xfer_shut_dsts(c);
	}
	conn_done(c, res);
}

/* A transfer in flight is looked at from outside: without destinations it has nobody to move for.
 */
static void stop_if_alone(struct conn *c)
{
	struct ur_conn *u = c->priv;

	if (u->stopping || !c->xfer.nr_dst || xfer_live(&c->xfer))
		return;
	u->stopping = true;
	ring_stop_source(c);
}

/* An operation that does nothing is complete in the next turn, behind what else is by then. */
static void wait_for_turn(struct conn *c)
{
	struct ur_conn *u = c->priv;
	struct io_uring_sqe *sqe = ur_conn_sqe(c);

	u->waiting = true;
	io_uring_prep_nop(sqe);
	ur_tag(sqe, c, OP_TURN);
}

void ur_on_turn(struct conn *c)
{
	struct ur_conn *u = c->priv;

	u->in_flight--;
	u->waiting = false;
	ur_advance(c);
}

/*
 * Multishot for its edges, as arm_poll(): a single poll would end at once, again and again, after
 * the peer's FIN. Armed once, it lasts as long as the connection: it wakes when a refused write has
 * asked for it (SOCK_NOSPACE, sk_stream_write_space, net/core/stream.c), and seldom else.
 */
static void watch_room(struct conn *c)
{
	struct ur_conn *u = c->priv;
	struct io_uring_sqe *sqe;

	u->waiting = true;
	if (u->watching)
		return;
	u->watching = true;
	sqe = ur_conn_sqe(c);
	io_uring_prep_poll_multishot(sqe, c->fd, POLLOUT);
	ring_use_socket(sqe, c);
	ur_tag(sqe, c, OP_ROOM);
}

/* Room that came between a refusal on another thread and its completion is no edge any more. */
static void wait_for_room(struct conn *c)
{
	struct ur_conn *u = c->priv;

	if (u->room)
		wait_for_turn(c);
	else
		watch_room(c);
	u->room = false;
}

void ur_on_room(struct conn *c, const struct io_uring_cqe *cqe)
{
	struct ur_conn *u = c->priv;

	if (!(cqe->flags & IORING_CQE_F_MORE)) {
		u->in_flight--;
		u->watching = false;
	}
	u->room = !u->waiting;
	u->waiting = false;
	ur_advance(c);
}

/* What start() said. True when the transfer ended. */
static bool started(struct conn *c, int res)
{
	struct ur_conn *u = c->priv;

	if (!res)
		return false;
	u->moving = false;
	switch (res) {
	case RING_WAIT:
		return false;
	case RING_ROOM:
		wait_for_room(c);
		return false;
	case RING_TURN:
		wait_for_turn(c);
		return false;
	default:
		end_transfer(c, res == RING_DONE ? 0 : res);
		return true;
	}
}

/* STEP_XFER. True when the transfer ended. */
bool ur_do_move(struct conn *c)
{
	struct ur_conn *u = c->priv;

	if (u->moving || u->waiting) {
		stop_if_alone(c);
		return false;
	}
	if (!u->begun) {
		xfer_take_unfed(c);
		xfer_cork(c, true);
	}
	u->moving = u->begun = true;
	return started(c, ur_of(c->w)->mover->start(c));
}

/* The destination's share of an operation is over. */
static void settle_dst(struct conn *dst)
{
	struct ur_conn *to = dst->priv;

	to->in_flight--;
	to->nr_written--;
}

void ur_on_move(struct conn *c, unsigned op, uint16_t index, int res)
{
	struct ur_conn *u = c->priv;
	const struct ring_mover *mover = ur_of(c->w)->mover;
	struct conn *dst = index == RING_OWN ? NULL : c->xfer.dst[index].c;

	u->in_flight--;
	if (dst)
		settle_dst(dst);
	res = mover->completed(c, op, index, res);
	if (res != RING_PENDING) {
		u->moving = false;
		if (res <= 0 && c->step == STEP_XFER)
			end_transfer(c, res);
		else if (c->step != STEP_XFER && mover->release)
			mover->release(c);
	}
	if (dst && dst->step == STEP_CLOSE)
		ur_advance(dst);
	if (res != RING_PENDING || c->step == STEP_CLOSE)
		ur_advance(c);
}

/* ---------------------------------------------------------------- parking, coming, leaving */

/*
 * Multishot, because it is edge-triggered (Linux 5.13): a poll of its own for POLLHUP would end at
 * once after the peer's FIN, POLLRDHUP being always among what io_uring polls for (IO_POLL_UNMASK,
 * io_uring/poll.c).
 */
static void arm_poll(struct conn *c)
{
	struct ur_conn *u = c->priv;
	struct io_uring_sqe *sqe = ur_conn_sqe(c);

	io_uring_prep_poll_multishot(sqe, c->fd, POLLRDHUP);
	ring_use_socket(sqe, c);
	ur_tag(sqe, c, OP_POLL);
	u->polling = true;
}

/* STEP_PARK. True when a hang-up was reported. */
bool ur_do_park(struct conn *c)
{
	struct ur_conn *u = c->priv;
	enum hangup how = u->gone ? HUP_DEAD : HUP_READ;

	if (u->hup && !(u->told & (1u << how))) {
		u->told |= (uint8_t)(1u << how);
		conn_hup(c, how);
		return true;
	}
	if (!u->polling && !u->gone)
		arm_poll(c);
	return false;
}

void ur_on_poll(struct conn *c, const struct io_uring_cqe *cqe)
{
	struct ur_conn *u = c->priv;

	if (!(cqe->flags & IORING_CQE_F_MORE)) {
		u->in_flight--;
		u->polling = false;
	}
	if (cqe->res > 0) {
		u->hup = true;
		u->gone |= (cqe->res & (POLLHUP | POLLERR)) != 0;
	}
	ur_advance(c);
}

int ur_prepare_socket(struct worker *w, int fd)
{
	const struct ring_mover *mover = ur_of(w)->mover;

	if (!mover->prepare_socket)
		return 0;
	count_one(w->ctr, sys_other);
	return mover->prepare_socket(fd);
}

/* STEP_CONNECT. True when there is nothing to wait for. */
bool ur_do_connect(struct conn *c)
{
	struct ur_conn *u = c->priv;
	struct io_uring_sqe *sqe;

	if (u->connecting)
		return false;
	c->fd = outgoing_socket(c, 0);
	if (c->fd < 0) {
		conn_done(c, c->fd);
		return true;
	}
	if (!ur_take_slot(c)) {
		conn_done(c, -EMFILE);
		return true;
	}
	u->connecting = true;
	sqe = ur_conn_sqe(c);
	io_uring_prep_connect(sqe, c->fd, c->addr, c->addr_len);
	ring_use_socket(sqe, c);
	ur_tag(sqe, c, OP_CONNECT);
	return false;
}

void ur_on_connect(struct conn *c, int res)
{
	struct ur_conn *u = c->priv;

	u->in_flight--;
	if (!res)
		res = ur_prepare_socket(c->w, c->fd);
	if (c->step == STEP_CONNECT)
		conn_done(c, res);
	ur_advance(c);
}

static void forget(struct conn *c)
{
	const struct ring_mover *mover = ur_of(c->w)->mover;

	if (mover->forget && c->mover)
		mover->forget(c);
}

/* STEP_MOVE: another thread's ring may have the connection when this one's is through with it. */
void ur_do_leave(struct conn *c)
{
	struct ur_conn *u = c->priv;

	if (!u->in_flight) {
		ur_leave_slot(c);
		forget(c);
		worker_post(c);
	} else if (!u->cancelled) {
		u->cancelled = true;
		ur_cancel_fd(c, c->fd);
	}
}

/* ---------------------------------------------------------------- closing */

static void finish(struct conn *c)
{
	struct ur_conn *u = c->priv;

	ur_unstarve(c);
	while (u->nr_held)
		ur_drop_first(c);
	if (c->fd >= 0) {
		ur_leave_slot(c);
		close(c->fd);
		count_one(c->ctr, sys_close);
	}
	forget(c);
	conn_free(c);
}

/* True while the peer may still have something to say. */
static bool lingering(struct conn *c)
{
	struct ur_conn *u = c->priv;

	if (!u->lingering) {
		u->lingering = true;
		count_one(c->ctr, sys_other);
		if (shutdown(c->fd, SHUT_WR))
			u->eof = true;
	}
	while (u->nr_held)
		ur_drop_first(c);
	if (!u->eof && !u->receiving && !u->starving)
		ur_arm_recv(c);
	return !u->eof;
}

/* What keeps the connection: operations on its socket, and those of its transfer on others'. */
static void cancel_all(struct conn *c)
{
	struct ur_conn *u = c->priv;

	u->cancelled = true;
	ur_cancel_fd(c, c->fd);
	/* Who is closed in the middle of a transfer takes its destinations along. */
	for (unsigned i = 0; u->moving && i < c->xfer.nr_dst; i++)
		if (c->xfer.dst[i].c)
			ur_cancel_fd(c, c->xfer.dst[i].c->fd);
}

/*
 * Cancelling finds what has begun. A send linked behind a read that is still under way begins when
 * that is over, or one turn later (io_queue_next, io_uring/io_uring.c), and would wait for a reader
 * for ever. So what close(2) does with SO_LINGER of 0 is done before it (tcp_disconnect,
 * net/ipv4/tcp.c): RST, and every operation on the socket ends, or fails when it begins. Refused
 * with EBUSY while a thread waits in the socket (Linux 6.4 to 6.6); then again at the next chance.
 */
static void reset(struct conn *c)
{
	static const struct sockaddr nobody = {.sa_family = AF_UNSPEC};
	struct ur_conn *u = c->priv;

	u->reset = !connect(c->fd, &nobody, sizeof(nobody));
	count_one(c->ctr, sys_other);
}

/* Operations are in flight. Called again when the cancellation has completed. */
static void end_operations(struct conn *c)
{
	const struct ur_conn *u = c->priv;

	if (!u->cancelled)
		cancel_all(c);
	else if (c->close_how == CLOSE_ABORT && c->fd >= 0 && !u->reset)
		reset(c);
}

/*
 * What was sent without copying, and not acknowledged, ends with the socket: who waits for it waits
 * with the socket open, as long as the deadline for closing allows.
 */
static bool notifications_out(const struct conn *c)
{
	const struct ring_mover *mover = ur_of(c->w)->mover;

	return mover->held && mover->held(c);
}

/* Every operation must have completed before the connection's memory may go. */
void ur_do_close(struct conn *c)
{
	struct linger rst = {.l_onoff = 1, .l_linger = 0};
	struct ur_conn *u = c->priv;

	if (!u->moving && !u->nr_written && !c->closing)
		conn_closing(c);
	if (c->closing && c->close_how == CLOSE_LINGER && lingering(c))
		return;
	if (c->close_how == CLOSE_ABORT && c->fd >= 0)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &rst, sizeof(rst));
	if (u->in_flight)
		end_operations(c);
	else if (c->close_how == CLOSE_ABORT || !notifications_out(c))
		finish(c);
}

void ur_on_cancel(struct conn *c)
{
	struct ur_conn *u = c->priv;

	u->in_flight--;
	if (c->step == STEP_CLOSE || c->step == STEP_MOVE)
		ur_advance(c);
}
