// SPDX-License-Identifier: MIT
/* Blocking driver: the steps of a connection, on its thread. */
#include "drive_blocking.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

enum {
	LINGER_TURNS = 64 /* receives before it is seen whether the skeleton has had enough */
};

/* What was not used, before the thread does something else than receiving. */
static void set_aside(struct conn *c, struct bl_inbox *in)
{
	if (!in->len || !c->w->relays || c->step == STEP_RECV)
		return;
	if (conn_keep_unfed(c, in->buf + in->off, in->len)) {
		c->step = STEP_CLOSE;
		c->close_how = CLOSE_ABORT;
	}
	in->len = 0;
}

/* STEP_RECV, called and left with the lock held. */
static void do_recv(struct conn *c, struct bl_inbox *in)
{
	size_t used;
	ssize_t n;

	if (c->unfed_len) {
		conn_feed_unfed(c);
		return;
	}
	conn_trim_unfed(c);
	if (!in->len) {
		bl_unlock(c);
		n = recv(c->fd, in->buf, sizeof(in->buf), 0);
		count_one(c->ctr, sys_recv);
		if (n < 0 && errno == EINTR)
			n = -EINTR;
		bl_lock(c);
		in->off = 0;
		in->len = n > 0 ? (size_t)n : 0;
		if (c->step != STEP_RECV || n == -EINTR) { /* woken from outside */
			set_aside(c, in);
			return;
		}
	}
	used = conn_feed(c, in->buf + in->off, in->len);
	in->off += used;
	in->len -= used;
	set_aside(c, in);
}

/* Destinations that are to be closed wait for their writer, which is the thread here. */
static void let_go(struct conn *c)
{
	struct xfer *x = &c->xfer;

	for (unsigned i = 0; i < x->nr_dst; i++)
		if (xfer_dst_lives(&x->dst[i]) && x->dst[i].c->step == STEP_CLOSE)
			xfer_fail_dst(x, i, -EPIPE);
	if (x->dst_failed)
		conn_drop_dsts(c);
	pthread_cond_broadcast(&bl_of(c->w)->settled);
}

/* STEP_XFER, likewise. */
static void do_move(struct conn *c)
{
	struct pollfd writable = {.fd = c->fd, .events = POLLOUT};
	struct bl_conn *b = bl_conn_of(c);
	int res;

	if (!b->begun) {
		xfer_take_unfed(c);
		xfer_cork(c, true);
	}
	b->moving = b->begun = true;
	bl_unlock(c);
	res = c->w->engine->mover->move(c);
	if (res == MOVED_WANT_DST && !c->xfer.nr_dst) { /* a signal cut a blocking send short */
		poll(&writable, 1, -1);
		count_one(c->ctr, sys_wait);
	}
	bl_lock(c);
	b->moving = false;
	let_go(c);
	if (c->step != STEP_XFER || res > 0)
		return;
	b->begun = false;
	if (!res) {
		xfer_cork(c, false);
		xfer_shut_dsts(c);
	}
	conn_done(c, res);
}

static void set_signal(int how, sigset_t *old)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, BL_SIGNAL);
	pthread_sigmask(how, &set, old);
}

/*
 * STEP_PARK, likewise. The signal is let in by ppoll(2) alone, so none is lost between the look at
 * the step and the sleep.
 */
static void do_park(struct conn *c)
{
	struct bl_conn *b = bl_conn_of(c);
	bool dead = b->told & 1u << HUP_DEAD;
	struct pollfd fd = {.fd = dead ? -1 : c->fd,
			    .events = b->told & 1u << HUP_READ ? 0 : POLLRDHUP};
	enum hangup how;
	sigset_t open;
	int nr;

	set_signal(SIG_BLOCK, &open);
	bl_unlock(c);
	nr = ppoll(&fd, 1, NULL, &open);
	count_one(c->ctr, sys_wait);
	bl_lock(c);
	pthread_sigmask(SIG_SETMASK, &open, NULL);
	if (nr <= 0 || c->step != STEP_PARK)
		return;
	how = fd.revents & (POLLHUP | POLLERR) ? HUP_DEAD : HUP_READ;
	b->told |= (uint8_t)(1u << how);
	conn_hup(c, how);
}

/* An interrupted connect(2) goes on by itself; its result is SO_ERROR's (connect(2)). */
static int finish_connect(struct conn *c)
{
	struct pollfd fd = {.fd = c->fd, .events = POLLOUT};
	socklen_t len = sizeof(int);
	int err = 0, nr = poll(&fd, 1, -1);

	count_one(c->ctr, sys_wait);
	if (nr < 0)
		return -EINTR;
	return getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len) ? -errno : -err;
}

/* STEP_CONNECT, likewise. */
static void do_connect(struct conn *c)
{
	int res;

	c->fd = outgoing_socket(c, 0);
	if (c->fd < 0) {
		conn_done(c, c->fd);
		return;
	}
	bl_unlock(c);
	res = connect(c->fd, c->addr, c->addr_len) ? -errno : 0;
	count_one(c->ctr, sys_connect);
	bl_lock(c);
	while (res == -EINTR && c->step == STEP_CONNECT) {
		bl_unlock(c);
		res = finish_connect(c);
		bl_lock(c);
	}
	if (c->step == STEP_CONNECT)
		conn_done(c, res);
}

/* Reads until the peer closes, or the skeleton has seen enough; called and left with the lock. */
static void linger(struct conn *c, struct bl_inbox *in)
{
	ssize_t n = 1;
	int turns;

	shutdown(c->fd, SHUT_WR);
	count_one(c->ctr, sys_other);
	while (n > 0 && c->close_how == CLOSE_LINGER) {
		bl_unlock(c);
		/* Who sends without pause never lets it block, so no signal would be seen either.
		 */
		for (turns = 0; n > 0 && turns < LINGER_TURNS; turns++) {
			n = recv(c->fd, in->buf, sizeof(in->buf), 0);
			count_one(c->ctr, sys_recv);
		}
		if (n < 0 && errno == EINTR)
			n = 1;
		bl_lock(c);
	}
}

/* Until no other thread may be writing to the socket, with the lock held. */
static void await_writer(struct conn *c)
{
	struct bl_worker *bl = bl_of(c->w);
	struct timespec until;

	while (c->writer && bl_conn_of(c->writer)->moving) {
		bl_interrupt(c->writer);
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec++; /* the accepting thread repeats the signal much sooner */
		pthread_cond_timedwait(&bl->settled, &bl->lock, &until);
	}
}

/* STEP_CLOSE: called with the lock, returns without the connection. */
static void do_close(struct conn *c, struct bl_inbox *in)
{
	const struct mover *mover = c->w->engine->mover;
	struct linger rst = {.l_onoff = 1, .l_linger = 0};

	await_writer(c);
	conn_closing(c);
	if (c->close_how == CLOSE_LINGER)
		linger(c, in);
	if (c->close_how == CLOSE_ABORT && c->fd >= 0)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &rst, sizeof(rst));
	if (mover->exit)
		mover->exit(c);
	counters_move(c->w->ctr, c->ctr);
	if (c->fd >= 0) {
		close(c->fd);
		count_one(c->w->ctr, sys_close);
	}
	if (bl_conn_of(c)->unseen)
		bl_forget_unseen(c);
	conn_free(c);
}

/* STEP_MOVE, likewise: a thread of the other worker takes over. */
static void do_leave(struct conn *c)
{
	const struct mover *mover = c->w->engine->mover;

	if (mover->exit)
		mover->exit(c);
	counters_move(c->w->ctr, c->ctr);
	if (bl_conn_of(c)->unseen)
		bl_forget_unseen(c);
	worker_post(c);
}

bool bl_step(struct conn *c, struct bl_inbox *in)
{
	switch (c->step) {
	case STEP_RECV:
		do_recv(c, in);
		return true;
	case STEP_XFER:
		do_move(c);
		return true;
	case STEP_PARK:
		do_park(c);
		return true;
	case STEP_ATTACH:
		conn_attached(c);
		return true;
	case STEP_CONNECT:
		do_connect(c);
		return true;
	case STEP_MOVE:
		do_leave(c);
		return false;
	default:
		do_close(c, in);
		return false;
	}
}
