// SPDX-License-Identifier: MIT
/*
 * Driver: completion by io_uring. One multishot accept, one multishot receive a connection into a
 * ring of provided buffers; a loop turn submits everything that was prepared and collects what is
 * complete in one io_uring_enter(2). How the bytes of a transfer move is the engine's, in struct
 * ring_mover. This file has the loop; drive_ring_recv.c and drive_ring_steps.c have what it does
 * for a connection.
 *
 * Linux 6.1 (SINGLE_ISSUER 6.0, multishot receive 6.0, DEFER_TASKRUN 6.1).
 */
#include "drive_ring.h"

#include "ring_zc.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPT_PAUSE_NS 100000000ull

/* Until quiet operations are counted, at the latest. No shorter, or each wait has a timer. */
#define QUIET_WAIT_NS 20000000ull

struct io_uring_sqe *ur_conn_sqe(struct conn *c)
{
	struct ur_conn *u = c->priv;

	u->in_flight++;
	u->cancelled = false; /* by what came before */
	return ring_sqe(&ur_of(c->w)->ring);
}

void ring_move_reserve(struct conn *c, unsigned nr)
{
	ring_reserve(&ur_of(c->w)->ring, nr);
}

/* ---------------------------------------------------------------- slots */

bool ring_has_slot(const struct conn *c)
{
	return ((const struct ur_conn *)c->priv)->slot_flag;
}

void ring_use_socket(struct io_uring_sqe *sqe, const struct conn *c)
{
	sqe->flags |= ((const struct ur_conn *)c->priv)->slot_flag;
}

bool ur_take_slot(struct conn *c)
{
	struct ring *r = &ur_of(c->w)->ring;
	struct ur_conn *u = c->priv;

	if (!r->cfg.fixed_files)
		return true;
	if ((unsigned)c->fd >= r->nr_files)
		return false;
	ring_register_socket(r, &c->fd);
	u->slot_flag = IOSQE_FIXED_FILE;
	return true;
}

void ur_leave_slot(struct conn *c)
{
	struct ur_conn *u = c->priv;

	if (u->slot_flag)
		ring_unregister_socket(&ur_of(c->w)->ring, c->fd);
	u->slot_flag = 0;
}

/* ---------------------------------------------------------------- accepting */

static void arm_accept(struct worker *w)
{
	struct io_uring_sqe *sqe = ring_sqe(&ur_of(w)->ring);

	io_uring_prep_multishot_accept(sqe, w->listen_fd, NULL, NULL,
				       SOCK_CLOEXEC |
					       (ur_of(w)->mover->nonblocking ? SOCK_NONBLOCK : 0));
	ur_tag(sqe, NULL, OP_ACCEPT);
	ur_of(w)->accepting = true;
	ur_of(w)->accept_again_ns = 0;
}

static void arm_wake(struct worker *w)
{
	struct io_uring_sqe *sqe = ring_sqe(&ur_of(w)->ring);

	io_uring_prep_read(sqe, w->wake_fd, &ur_of(w)->wake_value, sizeof(uint64_t), 0);
	ur_tag(sqe, NULL, OP_WAKE);
}

/* ---------------------------------------------------------------- loop */

/* A socket that no slot is left for is reset: its connection cannot be told why. */
static void no_slot(struct conn *c)
{
	count_one(c->ctr, aborts);
	c->step = STEP_CLOSE;
	c->close_how = CLOSE_ABORT;
}

static void attach(struct conn *c)
{
	bool ok = ur_take_slot(c);

	c->mover = (char *)c->priv + RING_CONN_BYTES;
	conn_attached(c);
	if (!ok)
		no_slot(c);
}

void ur_advance(struct conn *c)
{
	bool more = true;

	while (more) {
		switch (c->step) {
		case STEP_RECV:
			more = ur_do_recv(c);
			break;
		case STEP_XFER:
			more = ur_do_move(c);
			break;
		case STEP_PARK:
			more = ur_do_park(c);
			break;
		case STEP_ATTACH:
			attach(c);
			break;
		case STEP_CONNECT:
			c->mover = (char *)c->priv + RING_CONN_BYTES;
			more = ur_do_connect(c);
			break;
		case STEP_MOVE:
			ur_do_leave(c);
			return;
		default:
			ur_do_close(c);
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
	if (!ur_take_slot(c))
		no_slot(c);
	ur_advance(c);
}

static void on_cqe(struct worker *w, const struct io_uring_cqe *cqe)
{
	uint64_t data = io_uring_cqe_get_data64(cqe);
	uint64_t address = data & (((uint64_t)1 << DST_SHIFT) - 1) & ~(uint64_t)OP_MASK;
	struct conn *c = (struct conn *)(uintptr_t)address;
	uint16_t dst = (uint16_t)((data >> DST_SHIFT) - 1); /* 0 becomes RING_OWN */

	if (cqe->res == -ECANCELED)
		count_one(w->ctr, cancelled);
	switch (data & OP_MASK) {
	case OP_IGNORE:
		break;
	case OP_RECV:
		ur_on_recv(c, cqe);
		break;
	case OP_CANCEL:
		if (c)
			ur_on_cancel(c);
		break;
	case OP_ACCEPT:
		on_accept(w, cqe);
		break;
	case OP_WAKE:
		arm_wake(w);
		break;
	case OP_POLL:
		ur_on_poll(c, cqe);
		break;
	case OP_CONNECT:
		ur_on_connect(c, cqe->res);
		break;
	case OP_ROOM:
		ur_on_room(c, cqe);
		break;
	case OP_TURN:
		ur_on_turn(c);
		break;
	case OP_ZC:
		ring_zc_completed(w, (struct ring_zc *)(uintptr_t)address, cqe);
		break;
	default:
		if (((struct ur_conn *)c->priv)->quiet)
			ur_forget_quiet(c);
		ur_on_move(c, data & OP_MASK, dst, cqe->res);
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
		ur_tag(sqe, NULL, OP_CANCEL);
	} else if (!ur->accepting && w->now_ns >= ur->accept_again_ns) {
		arm_accept(w);
	}
}

struct ring *drive_ring_of(const struct worker *w)
{
	return &ur_of(w)->ring;
}

int drive_ring_init(struct worker *w, const struct ring_mover *mover)
{
	struct ur_worker *ur = calloc(1, sizeof(*ur));
	struct ring_config cfg;
	int res;

	if (!ur)
		return -ENOMEM;
	w->priv = ur;
	ur->mover = mover;
	ur->quiet_tail = &ur->quiet;
	ur->starved_tail = &ur->starved;
	ring_mover_config(&cfg, mover, w->opt);
	res = ring_init(&ur->ring, &cfg, w->relays ? RING_BUFFERS_RELAY : RING_BUFFERS, w->ctr);
	if (!res && mover->nr_threads)
		res = ring_limit_threads(&ur->ring, mover->nr_threads);
	if (!res)
		res = ur_prepare_socket(w, w->listen_fd);
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
		if (ur->quiet && wait_ns > QUIET_WAIT_NS)
			wait_ns = QUIET_WAIT_NS;
		res = ring_wait(&ur->ring, w->now_ns, wait_ns);
		if (res)
			return res;
		worker_tick(w, clock_now_ns());
		ur_settle(ur);
		handle_completions(w);
		ur_finish_settled(ur);
		while ((c = worker_next(w)))
			ur_advance(c);
		ring_recycle_flush(&ur->ring);
		ur_feed_starved(ur);
		manage_accept(w);
	}
	ring_submit(&ur->ring); /* sockets that are to leave their slots */
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
