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

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	NONE = UINT16_MAX,
	HELD_MAX = 16, /* received buffers a connection may hold before its receive is stopped */
};
#define ACCEPT_PAUSE_NS 100000000ull

/*
 * user_data: the connection's address, a multiple of 64 below 2^47 (user addresses go beyond only
 * where a mapping asks for it: Documentation/arch/x86/x86_64/5level-paging.rst); the operation in
 * its low bits; the index of a destination plus one in its high bits.
 */
enum {
	OP_RECV = RING_OPS,
	OP_CANCEL,
	OP_ACCEPT,
	OP_WAKE,
	OP_POLL,
	OP_CONNECT,
	OP_MASK = 63,
	DST_SHIFT = 48,
};
_Static_assert(OP_CONNECT <= OP_MASK, "operations no longer fit beside an address");

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
	uint16_t in_flight;  /* operations without their last completion, on or for this one */
	uint16_t nr_written; /* of those, operations of its writer on this socket */
	bool receiving;	     /* a receive is armed */
	bool moving;	     /* the mover has operations in flight */
	bool begun;	     /* the transfer has had its first start() */
	bool polling;	     /* for a hang-up */
	bool connecting;
	bool hup, gone;	 /* the peer closed its side; both sides, or it was reset */
	uint8_t told;	 /* conn_hup() was called: bit per enum hangup */
	bool cancelling; /* the multishot receive is being ended */
	bool cancelled;	 /* everything in flight was asked to end */
	bool stopping;	 /* a transfer without destinations was cancelled */
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
	u->cancelled = false; /* by what came before */
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

/* One receive at a time where sockets are sources: none may be armed while a transfer reads. */
static void arm_recv(struct conn *c)
{
	struct ur_conn *u = c->priv;
	struct io_uring_sqe *sqe = conn_sqe(c);

	io_uring_prep_recv(sqe, c->fd, NULL, 0, 0);
	if (!c->w->relays)
		sqe->ioprio |= IORING_RECV_MULTISHOT;
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = RING_BGID;
	tag(sqe, c, OP_RECV);
	u->receiving = true;
}

static struct io_uring_sqe *cancel_sqe(struct conn *c)
{
	struct ur_conn *u = c->priv;

	u->in_flight++;
	return ring_sqe(&ur_of(c->w)->ring);
}

/* Asynchronous: more buffers may arrive until the receive's last completion does. */
static void cancel_recv(struct conn *c)
{
	struct io_uring_sqe *sqe = cancel_sqe(c);

	io_uring_prep_cancel64(sqe, (uint64_t)(uintptr_t)c | OP_RECV, 0);
	tag(sqe, c, OP_CANCEL);
}

/* Every operation on fd, on behalf of c. */
static void cancel_fd(struct conn *c, int fd)
{
	struct io_uring_sqe *sqe = cancel_sqe(c);

	io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ALL);
	sqe->fd = fd;
	tag(sqe, c, OP_CANCEL);
}

void ring_stop_source(struct conn *c)
{
	cancel_fd(c, c->fd);
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
		cancel_recv(c);
	}
	advance(c);
}

static void give_up(struct conn *c)
{
	count_one(c->ctr, aborts);
	c->step = STEP_CLOSE;
	c->close_how = CLOSE_ABORT;
}

/* STEP_RECV. True when the step may have changed. */
static bool do_recv(struct conn *c)
{
	struct ur_conn *u = c->priv;
	struct ring *r = &ur_of(c->w)->ring;
	struct ring_held *h;
	size_t used;

	if (c->unfed_len) {
		used = conn_feed(c, c->unfed + c->unfed_off, c->unfed_len);
		c->unfed_off += (uint32_t)used;
		c->unfed_len -= (uint32_t)used;
		return true;
	}
	conn_trim_unfed(c);
	if (u->nr_held) {
		h = &r->held[u->first];
		used = h->len ? conn_feed(c, ring_buffer(r, u->first) + h->off, h->len) : 0;
		h->off += (uint32_t)used;
		h->len -= (uint32_t)used;
		if (h->len && c->w->relays) { /* the ring's buffers are not for those who wait */
			if (conn_keep_unfed(c, ring_buffer(r, u->first) + h->off, h->len))
				give_up(c);
			h->len = 0;
		}
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

struct io_uring_sqe *ring_dst_sqe(struct conn *c, uint16_t dst)
{
	struct ur_conn *to = c->xfer.dst[dst].c->priv;

	to->in_flight++;
	to->nr_written++;
	to->cancelled = false;
	return conn_sqe(c);
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
	if (!res)
		xfer_shut_dsts(c);
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

/* STEP_XFER. True when the transfer ended. */
static bool do_move(struct conn *c)
{
	struct ur_conn *u = c->priv;
	int res;

	if (u->moving) {
		stop_if_alone(c);
		return false;
	}
	if (!u->begun)
		xfer_take_unfed(c);
	u->moving = u->begun = true;
	res = ur_of(c->w)->mover->start(c);
	if (!res)
		return false;
	u->moving = false;
	end_transfer(c, res);
	return true;
}

/* The destination's share of an operation is over. */
static void settle_dst(struct conn *dst)
{
	struct ur_conn *to = dst->priv;

	to->in_flight--;
	to->nr_written--;
}

static void on_move(struct conn *c, unsigned op, uint16_t index, int res)
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
		advance(dst);
	if (res != RING_PENDING || c->step == STEP_CLOSE)
		advance(c);
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
	struct io_uring_sqe *sqe = conn_sqe(c);

	io_uring_prep_poll_multishot(sqe, c->fd, POLLRDHUP);
	tag(sqe, c, OP_POLL);
	u->polling = true;
}

/* STEP_PARK. True when a hang-up was reported. */
static bool do_park(struct conn *c)
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

static void on_poll(struct conn *c, const struct io_uring_cqe *cqe)
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
	advance(c);
}

static int prepare_socket(struct worker *w, int fd)
{
	const struct ring_mover *mover = ur_of(w)->mover;

	if (!mover->prepare_socket)
		return 0;
	count_one(w->ctr, sys_other);
	return mover->prepare_socket(fd);
}

/* STEP_CONNECT. True when there is nothing to wait for. */
static bool do_connect(struct conn *c)
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
	u->connecting = true;
	sqe = conn_sqe(c);
	io_uring_prep_connect(sqe, c->fd, c->addr, c->addr_len);
	tag(sqe, c, OP_CONNECT);
	count_one(c->ctr, sys_connect);
	return false;
}

static void on_connect(struct conn *c, int res)
{
	struct ur_conn *u = c->priv;

	u->in_flight--;
	if (!res)
		res = prepare_socket(c->w, c->fd);
	if (c->step == STEP_CONNECT)
		conn_done(c, res);
	advance(c);
}

/* STEP_MOVE: another thread's ring may have the connection when this one's is through with it. */
static void do_leave(struct conn *c)
{
	struct ur_conn *u = c->priv;

	if (!u->in_flight) {
		worker_post(c);
	} else if (!u->cancelled) {
		u->cancelled = true;
		cancel_fd(c, c->fd);
	}
}

/* ---------------------------------------------------------------- closing */

static void finish(struct conn *c)
{
	struct ur_conn *u = c->priv;

	unstarve(c);
	while (u->nr_held)
		drop_first(c);
	if (c->fd >= 0) {
		close(c->fd);
		count_one(c->ctr, sys_close);
	}
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

/* What keeps the connection: operations on its socket, and those of its transfer on others'. */
static void cancel_all(struct conn *c)
{
	struct ur_conn *u = c->priv;

	if (u->cancelled)
		return;
	u->cancelled = true;
	cancel_fd(c, c->fd);
	/* Who is closed in the middle of a transfer takes its destinations along. */
	for (unsigned i = 0; u->moving && i < c->xfer.nr_dst; i++)
		if (c->xfer.dst[i].c)
			cancel_fd(c, c->xfer.dst[i].c->fd);
}

/* Every operation must have completed before the connection's memory may go. */
static void do_close(struct conn *c)
{
	struct linger rst = {.l_onoff = 1, .l_linger = 0};
	struct ur_conn *u = c->priv;

	if (!u->moving && !u->nr_written && !c->closing)
		conn_closing(c);
	if (c->closing && c->close_how == CLOSE_LINGER && lingering(c))
		return;
	if (c->close_how == CLOSE_ABORT && c->fd >= 0)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &rst, sizeof(rst));
	if (!u->in_flight)
		finish(c);
	else
		cancel_all(c);
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
		case STEP_PARK:
			more = do_park(c);
			break;
		case STEP_ATTACH:
			c->mover = (char *)c->priv + RING_CONN_BYTES;
			conn_attached(c);
			break;
		case STEP_CONNECT:
			c->mover = (char *)c->priv + RING_CONN_BYTES;
			more = do_connect(c);
			break;
		case STEP_MOVE:
			do_leave(c);
			return;
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
	c->mover = (char *)c->priv + RING_CONN_BYTES;
	advance(c);
}

static void on_cancel(struct conn *c)
{
	struct ur_conn *u = c->priv;

	u->in_flight--;
	if (c->step == STEP_CLOSE || c->step == STEP_MOVE)
		advance(c);
}

static void on_cqe(struct worker *w, const struct io_uring_cqe *cqe)
{
	uint64_t data = io_uring_cqe_get_data64(cqe);
	uint64_t address = data & (((uint64_t)1 << DST_SHIFT) - 1) & ~(uint64_t)OP_MASK;
	struct conn *c = (struct conn *)(uintptr_t)address;
	uint16_t dst = (uint16_t)((data >> DST_SHIFT) - 1); /* 0 becomes RING_OWN */

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
	case OP_POLL:
		on_poll(c, cqe);
		break;
	case OP_CONNECT:
		on_connect(c, cqe->res);
		break;
	default:
		on_move(c, data & OP_MASK, dst, cqe->res);
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
	res = ring_init(&ur->ring, w->relays ? RING_BUFFERS_RELAY : RING_BUFFERS, w->ctr);
	if (!res && mover->nr_threads)
		res = ring_limit_threads(&ur->ring, mover->nr_threads);
	if (!res)
		res = prepare_socket(w, w->listen_fd);
	if (!res && mover->worker_init)
		res = mover->worker_init(w);
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
	if (ur->mover->worker_exit)
		ur->mover->worker_exit(w);
	ring_exit(&ur->ring);
	free(ur);
	w->priv = NULL;
}
