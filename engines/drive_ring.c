// SPDX-License-Identifier: MIT
/*
 * Driver: completion by io_uring. One multishot accept, one multishot receive a connection into a
 * ring of provided buffers; a loop turn submits everything that was prepared and collects what is
 * complete in one io_uring_enter(2). How the bytes of a transfer move is the engine's, in struct
 * ring_mover.
 *
 * Linux 6.1 (SINGLE_ISSUER 6.0, multishot receive 6.0, DEFER_TASKRUN 6.1).
 */
#include "ring.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	NONE = UINT16_MAX,
	HELD_MAX = 16, /* received buffers a connection may hold before its receive is stopped */
};
#define ACCEPT_PAUSE_NS 100000000ull

/* Low bits of user_data beside the connection's address, which is a multiple of 64. */
enum {
	OP_RECV = RING_OPS,
	OP_CANCEL,
	OP_ACCEPT,
	OP_WAKE,
	OP_MASK = 7
};
_Static_assert(OP_WAKE <= OP_MASK, "operations no longer fit beside an address");

struct ur_worker {
	struct ring ring;
	const struct ring_mover *mover;
	struct conn *starved; /* their receive ended for want of buffers */
	uint64_t accept_again_ns;
	uint64_t wake_value;
	bool accepting;
};

struct ur_conn {
	struct conn *next_starved;
	uint16_t first, last; /* received buffers, in order; NONE when there is none */
	uint16_t nr_held;
	uint16_t in_flight; /* operations without their last completion */
	bool receiving;	    /* the multishot receive is armed */
	bool moving;	    /* the mover has operations in flight */
	bool cancelling;
	bool starving;
	bool eof;
	bool lingering;
};
_Static_assert(sizeof(struct ur_conn) <= RING_CONN_BYTES, "enlarge RING_CONN_BYTES");

static void advance(struct conn *c);

static struct ur_worker *ur_of(const struct worker *w)
{
	return w->priv;
}

static void tag(struct io_uring_sqe *sqe, const void *ptr, unsigned op)
{
	io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)ptr | op);
}

static struct io_uring_sqe *conn_sqe(struct conn *c)
{
	struct ur_conn *u = c->priv;

	u->in_flight++;
	return ring_sqe(&ur_of(c->w)->ring);
}

/* ---------------------------------------------------------------- receiving */

static void arm_accept(struct worker *w)
{
	struct io_uring_sqe *sqe = ring_sqe(&ur_of(w)->ring);

	io_uring_prep_multishot_accept(sqe, w->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	tag(sqe, NULL, OP_ACCEPT);
	ur_of(w)->accepting = true;
	ur_of(w)->accept_again_ns = 0;
}

static void arm_wake(struct worker *w)
{
	struct io_uring_sqe *sqe = ring_sqe(&ur_of(w)->ring);

	io_uring_prep_read(sqe, w->wake_fd, &ur_of(w)->wake_value, sizeof(uint64_t), 0);
	tag(sqe, NULL, OP_WAKE);
}

static void arm_recv(struct conn *c)
{
	struct ur_conn *u = c->priv;
	struct io_uring_sqe *sqe = conn_sqe(c);

	io_uring_prep_recv(sqe, c->fd, NULL, 0, 0);
	sqe->ioprio |= IORING_RECV_MULTISHOT;
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = RING_BGID;
	tag(sqe, c, OP_RECV);
	u->receiving = true;
}

/* Asynchronous: more buffers may arrive until the receive's last completion does. */
static void cancel(struct conn *c, uint64_t user_data, unsigned flags)
{
	struct io_uring_sqe *sqe = conn_sqe(c);

	io_uring_prep_cancel64(sqe, user_data, (int)flags);
	if (flags & IORING_ASYNC_CANCEL_FD)
		sqe->fd = c->fd;
	tag(sqe, c, OP_CANCEL);
}

static void hold(struct conn *c, unsigned bid, uint32_t len)
{
	struct ur_conn *u = c->priv;
	struct ring *r = &ur_of(c->w)->ring;

	r->nr_free--;
	r->held[bid] = (struct ring_held){.off = 0, .len = len, .next = NONE};
	if (u->nr_held++)
		r->held[u->last].next = (uint16_t)bid;
	else
		u->first = (uint16_t)bid;
	u->last = (uint16_t)bid;
}

static void drop_first(struct conn *c)
{
	struct ur_conn *u = c->priv;
	struct ring *r = &ur_of(c->w)->ring;
	unsigned bid = u->first;

	u->first = r->held[bid].next;
	u->nr_held--;
	ring_recycle(r, bid);
}

static void unstarve(struct conn *c)
{
	struct ur_conn *u = c->priv;
	struct conn **at = &ur_of(c->w)->starved;

	if (!u->starving)
		return;
	while (*at != c)
		at = &((struct ur_conn *)(*at)->priv)->next_starved;
	*at = u->next_starved;
	u->starving = false;
}

static void starve(struct conn *c)
{
	struct ur_worker *ur = ur_of(c->w);
	struct ur_conn *u = c->priv;

	u->next_starved = ur->starved;
	ur->starved = c;
	u->starving = true;
}

/* As many starved connections as there are buffers again; the rest waits on, nobody spins. */
static void feed_starved(struct ur_worker *ur)
{
	unsigned nr = ur->ring.nr_free;

	while (nr-- && ur->starved) {
		struct conn *c = ur->starved;
		struct ur_conn *u = c->priv;

		unstarve(c);
		if (!u->receiving)
			arm_recv(c);
	}
}

static void on_recv(struct conn *c, const struct io_uring_cqe *cqe)
{
	struct ur_conn *u = c->priv;

	if (!(cqe->flags & IORING_CQE_F_MORE)) {
		u->receiving = false;
		u->cancelling = false;
		u->in_flight--;
	}
	if (cqe->flags & IORING_CQE_F_BUFFER)
		hold(c, cqe->flags >> IORING_CQE_BUFFER_SHIFT,
		     cqe->res > 0 ? (uint32_t)cqe->res : 0);
	if (cqe->res == -ENOBUFS)
		starve(c);
	else if (cqe->res == 0 || (cqe->res < 0 && cqe->res != -ECANCELED))
		u->eof = true;
	if (u->nr_held > HELD_MAX && u->receiving && !u->cancelling) {
		u->cancelling = true;
		cancel(c, (uint64_t)(uintptr_t)c | OP_RECV, 0);
	}
	advance(c);
}

/* STEP_RECV. True when the step may have changed. */
static bool do_recv(struct conn *c)
{
	struct ur_conn *u = c->priv;
	struct ring *r = &ur_of(c->w)->ring;
	struct ring_held *h;
	size_t used;

	if (u->nr_held) {
		h = &r->held[u->first];
		used = h->len ? conn_feed(c, ring_buffer(r, u->first) + h->off, h->len) : 0;
		h->off += (uint32_t)used;
		h->len -= (uint32_t)used;
		if (!h->len)
			drop_first(c);
		return true;
	}
	if (u->eof) {
		conn_feed(c, NULL, 0);
		return true;
	}
	if (!u->receiving && !u->starving)
		arm_recv(c);
	return false;
}

/* ---------------------------------------------------------------- moving */

struct io_uring_sqe *ring_move_sqe(struct conn *c)
{
	return conn_sqe(c);
}

void ring_move_tag(struct conn *c, struct io_uring_sqe *sqe, unsigned op)
{
	tag(sqe, c, op);
}

/* STEP_XFER. True when the transfer ended. */
static bool do_move(struct conn *c)
{
	struct ur_conn *u = c->priv;
	int res;

	if (u->moving)
		return false;
	u->moving = true;
	res = ur_of(c->w)->mover->start(c);
	if (!res)
		return false;
	u->moving = false;
	if (ur_of(c->w)->mover->release)
		ur_of(c->w)->mover->release(c);
	conn_done(c, res);
	return true;
}

static void on_move(struct conn *c, unsigned op, int res)
{
	struct ur_conn *u = c->priv;
	const struct ring_mover *mover = ur_of(c->w)->mover;

	u->in_flight--;
	res = mover->completed(c, op, res);
	if (res == RING_PENDING)
		return;
	u->moving = false;
	if (mover->release && (res <= 0 || c->step != STEP_XFER))
		mover->release(c);
	if (res <= 0 && c->step == STEP_XFER)
		conn_done(c, res);
	advance(c);
}

/* ---------------------------------------------------------------- closing */

static void finish(struct conn *c)
{
	struct ur_conn *u = c->priv;

	unstarve(c);
	while (u->nr_held)
		drop_first(c);
	close(c->fd);
	count_one(c->ctr, sys_close);
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
		drop_first(c);
	if (!u->eof && !u->receiving && !u->starving)
		arm_recv(c);
	return !u->eof;
}

/* Every operation must have completed before the connection's memory may go. */
static void do_close(struct conn *c)
{
	struct linger rst = {.l_onoff = 1, .l_linger = 0};
	struct ur_conn *u = c->priv;

	if (!u->moving && !c->closing)
		conn_closing(c);
	if (c->close_how == CLOSE_LINGER && lingering(c))
		return;
	if (c->close_how == CLOSE_ABORT)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &rst, sizeof(rst));
	if (!u->in_flight) {
		finish(c);
	} else if (!u->cancelling) {
		u->cancelling = true;
		cancel(c, 0, IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ALL);
	}
}

/* ---------------------------------------------------------------- loop */

/* After this c may be gone. */
static void advance(struct conn *c)
{
	bool more = true;

	while (more) {
		switch (c->step) {
		case STEP_RECV:
			more = do_recv(c);
			break;
		case STEP_XFER:
			more = do_move(c);
			break;
		default:
			do_close(c);
			return;
		}
	}
}

static void on_accept(struct worker *w, const struct io_uring_cqe *cqe)
{
	struct ur_worker *ur = ur_of(w);
	struct conn *c;

	if (!(cqe->flags & IORING_CQE_F_MORE)) {
		ur->accepting = false;
		ur->accept_again_ns = w->now_ns + (cqe->res < 0 ? ACCEPT_PAUSE_NS : 0);
	}
	if (cqe->res < 0)
		return;
	c = conn_open(w, cqe->res);
	if (!c) {
		close(cqe->res);
		return;
	}
	((struct ur_conn *)c->priv)->first = NONE;
	arm_recv(c);
}

static void on_cancel(struct conn *c)
{
	struct ur_conn *u = c->priv;

	u->in_flight--;
	if (c->step == STEP_CLOSE) {
		if (!u->in_flight)
			u->cancelling = false;
		advance(c);
	}
}

static void on_cqe(struct worker *w, const struct io_uring_cqe *cqe)
{
	uint64_t data = io_uring_cqe_get_data64(cqe);
	struct conn *c = (struct conn *)(uintptr_t)(data & ~(uint64_t)OP_MASK);

	switch (data & OP_MASK) {
	case OP_RECV:
		on_recv(c, cqe);
		break;
	case OP_CANCEL:
		if (c)
			on_cancel(c);
		break;
	case OP_ACCEPT:
		on_accept(w, cqe);
		break;
	case OP_WAKE:
		arm_wake(w);
		break;
	default:
		on_move(c, data & OP_MASK, cqe->res);
	}
}

static void handle_completions(struct worker *w)
{
	struct io_uring *uring = &ur_of(w)->ring.uring;
	struct io_uring_cqe *cqe;
	unsigned head, nr = 0;

	io_uring_for_each_cqe(uring, head, cqe)
	{
		nr++;
		on_cqe(w, cqe);
	}
	io_uring_cq_advance(uring, nr);
	count_add(w->ctr, cqes, nr);
}

/* The listener may only be closed when no accept is pending on it. */
static void manage_accept(struct worker *w)
{
	struct ur_worker *ur = ur_of(w);
	struct io_uring_sqe *sqe;

	if (atomic_load_explicit(&w->draining, memory_order_acquire)) {
		if (!ur->accepting)
			return;
		ur->accepting = false;
		sqe = ring_sqe(&ur->ring);
		io_uring_prep_cancel64(sqe, OP_ACCEPT, 0);
		tag(sqe, NULL, OP_CANCEL);
	} else if (!ur->accepting && w->now_ns >= ur->accept_again_ns) {
		arm_accept(w);
	}
}

int drive_ring_init(struct worker *w, const struct ring_mover *mover)
{
	struct ur_worker *ur = calloc(1, sizeof(*ur));
	int res;

	if (!ur)
		return -ENOMEM;
	w->priv = ur;
	ur->mover = mover;
	res = ring_init(&ur->ring, w->ctr);
	if (res)
		return res;
	arm_wake(w);
	arm_accept(w);
	return 0;
}

int drive_ring_run(struct worker *w)
{
	struct ur_worker *ur = ur_of(w);
	struct conn *c;
	int res;

	while (!worker_finished(w)) {
		uint64_t wait_ns = worker_wait_ns(w);

		if (ur->accept_again_ns && wait_ns > ACCEPT_PAUSE_NS)
			wait_ns = ACCEPT_PAUSE_NS;
		res = ring_wait(&ur->ring, wait_ns);
		if (res)
			return res;
		worker_tick(w, clock_now_ns());
		handle_completions(w);
		while ((c = worker_next(w)))
			advance(c);
		ring_recycle_flush(&ur->ring);
		feed_starved(ur);
		manage_accept(w);
	}
	return 0;
}

void drive_ring_exit(struct worker *w)
{
	struct ur_worker *ur = ur_of(w);

	if (!ur)
		return;
	ring_exit(&ur->ring);
	free(ur);
	w->priv = NULL;
}
