// SPDX-License-Identifier: MIT
/* Readiness driver: the steps of a connection. */
#include "drive_epoll.h"

#include <unistd.h>

#define RECV_BYTES_RELAY (4u << 10) /* what follows a head waits in the kernel, not on our heap */

/*
 * Closes the socket; the memory lives on to the end of the batch, because a later event of the same
 * epoll_wait may still name it. A queued connection is finished when its turn in `again` comes.
 */
static void finish(struct conn *c)
{
	struct ep_worker *ep = ep_of(c->w);
	struct ep_conn *e = c->priv;

	if (e->finished || e->queued)
		return;
	if (c->carried) { /* closed before it could be attached */
		c->mover = (char *)c->priv + DRIVE_EPOLL_BYTES;
		c->w->engine->mover->open(c);
	}
	if (c->mover && c->w->engine->mover->exit)
		c->w->engine->mover->exit(c);
	if (c->fd >= 0) {
		close(c->fd);
		count_one(c->ctr, sys_close);
	}
	ep_unhold(c);
	e->finished = true;
	e->next = ep->dead;
	ep->dead = c;
}

/* Discards input until the peer closes. True when there is nothing more to wait for. */
static bool linger_over(struct conn *c)
{
	struct ep_worker *ep = ep_of(c->w);
	struct ep_conn *e = c->priv;
	size_t discarded = 0;
	ssize_t n;

	if (!e->lingering) {
		e->lingering = true;
		e->readable = true;
		if (shutdown(c->fd, SHUT_WR))
			return true;
		count_one(c->ctr, sys_other);
	}
	while (e->readable && discarded < TURN_BYTES) {
		n = recv(c->fd, ep->buf, EP_RECV_BYTES, 0);
		count_one(c->ctr, sys_recv);
		if (n < 0 && errno == EAGAIN)
			e->readable = false;
		else if (n <= 0)
			return true;
		else
			discarded += (size_t)n;
	}
	if (e->readable)
		ep_queue_again(c);
	return false;
}

void ep_close(struct conn *c)
{
	const struct mover *mover = c->w->engine->mover;
	struct linger rst = {.l_onoff = 1, .l_linger = 0};

	if (!c->closing)
		conn_closing(c);
	if (c->close_how == CLOSE_ABORT)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &rst, sizeof(rst));
	else if (c->close_how == CLOSE_LINGER && !linger_over(c))
		return;
	else if (c->mover && mover->held && mover->held(c))
		return; /* closing now would lose the notifications; the skeleton bounds the wait */
	finish(c);
}

/* STEP_RECV. True when the step may have changed, false to wait for input. */
static bool do_recv(struct conn *c)
{
	struct ep_worker *ep = ep_of(c->w);
	struct ep_conn *e = c->priv;
	size_t size = c->w->relays ? RECV_BYTES_RELAY : EP_RECV_BYTES, used;
	ssize_t n;

	if (c->unfed_len) {
		conn_feed_unfed(c);
		return true;
	}
	conn_trim_unfed(c);
	if (!e->readable)
		return false;
	n = recv(c->fd, ep->buf, size, 0);
	count_one(c->ctr, sys_recv);
	if (n < 0 && errno == EAGAIN) {
		count_one(c->ctr, eagain);
		e->readable = false;
		return false;
	}
	if (n <= 0) { /* a reset is the end of input as well: nothing can be answered */
		e->hup |= n < 0;
		conn_feed(c, NULL, 0);
		return true;
	}
	if ((size_t)n < size && !e->hup)
		e->readable = false;
	used = conn_feed(c, ep->buf, (size_t)n);
	if (used < (size_t)n && conn_keep_unfed(c, ep->buf + used, (size_t)n - used))
		conn_done(c, -ENOMEM);
	return true;
}

/* STEP_XFER. True when the transfer ended, or is to be tried again at once; false to wait. */
static bool do_move(struct conn *c)
{
	struct ep_conn *e = c->priv;
	int res;

	if (!e->moving) {
		xfer_take_unfed(c);
		xfer_cork(c, true);
	}
	e->moving = true;
	res = c->w->engine->mover->move(c);
	if (c->xfer.dst_failed)
		conn_drop_dsts(c);
	e->want = res > 0 ? (uint8_t)res : 0;
	if (res == MOVED_TURN)
		ep_queue_again(c);
	/* A short receive has drained the socket, but its end of file is still to be read. */
	if ((res == MOVED_WANT_SRC || res == MOVED_WANT_BATCH) && e->hup)
		return true;
	if (res == MOVED_WANT_BATCH || res == MOVED_WANT_ROOM)
		ep_hold(c);
	if (res > 0)
		return false;
	if (!res) {
		xfer_cork(c, false);
		xfer_shut_dsts(c);
	}
	e->moving = false;
	conn_done(c, res);
	return true;
}

/* STEP_PARK. True when a hang-up was reported. */
static bool do_park(struct conn *c)
{
	struct ep_conn *e = c->priv;
	enum hangup how = e->gone ? HUP_DEAD : HUP_READ;

	if (!e->hup || e->told & (1u << how))
		return false;
	e->told |= (uint8_t)(1u << how);
	conn_hup(c, how);
	return true;
}

/* ---------------------------------------------------------------- coming and going */

/* 0, or -errno with nothing registered; the mover's exit() follows in any case. */
int ep_attach(struct conn *c)
{
	const struct mover *mover = c->w->engine->mover;
	int res;

	c->mover = (char *)c->priv + DRIVE_EPOLL_BYTES;
	res = mover->open ? mover->open(c) : 0;
	if (res || ep_of(c->w)->level) /* level-triggered: once it is known what for */
		return res;
	count_one(c->ctr, sys_ctl);
	return ep_watch(ep_of(c->w), EPOLL_CTL_ADD, c->fd,
			EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, c);
}

void ep_give_up(struct conn *c)
{
	count_one(c->ctr, aborts);
	c->step = STEP_CLOSE;
	c->close_how = CLOSE_ABORT;
}

/* STEP_ATTACH: from another worker. Edges start anew with the registration. */
static void do_attach(struct conn *c)
{
	if (ep_attach(c))
		ep_give_up(c);
	else
		conn_attached(c);
}

/* STEP_CONNECT. True when there is nothing to wait for. */
static bool do_connect(struct conn *c)
{
	struct ep_conn *e = c->priv;
	int res;

	if (e->connecting)
		return false;
	c->mover = (char *)c->priv + DRIVE_EPOLL_BYTES;
	c->fd = outgoing_socket(c, SOCK_NONBLOCK);
	res = c->fd < 0 ? c->fd : ep_attach(c);
	if (!res) {
		res = connect(c->fd, c->addr, c->addr_len) ? -errno : 0;
		count_one(c->ctr, sys_connect);
	}
	if (res == -EINPROGRESS) {
		e->connecting = true;
		return false;
	}
	conn_done(c, res);
	return true;
}

void ep_connected(struct conn *c)
{
	struct ep_conn *e = c->priv;
	int err = 0;
	socklen_t len = sizeof(err);

	e->connecting = false;
	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len);
	count_one(c->ctr, sys_other);
	if (c->step == STEP_CONNECT)
		conn_done(c, -err);
	ep_advance(c);
}

/*
 * STEP_MOVE. Notifications of zero-copy sends may be long in coming, since the kernel frees what
 * was received in batches (skb_attempt_defer_free, net/core/skbuff.c): so they are not waited for.
 */
static void do_leave(struct conn *c)
{
	struct ep_worker *ep = ep_of(c->w);
	const struct mover *mover = c->w->engine->mover;

	if (mover->pack)
		mover->pack(c);
	if (mover->exit)
		mover->exit(c);
	if (!ep->level || ((struct ep_conn *)c->priv)->watched) {
		ep_watch(ep, EPOLL_CTL_DEL, c->fd, 0, NULL);
		count_one(c->ctr, sys_ctl);
	}
	ep_forget(ep, c);
	worker_post(c);
}

/* One step. True to go on with the next at once. */
bool ep_step(struct conn *c)
{
	switch (c->step) {
	case STEP_RECV:
		return do_recv(c);
	case STEP_XFER:
		return do_move(c);
	case STEP_PARK:
		return do_park(c);
	case STEP_ATTACH:
		do_attach(c);
		return true;
	case STEP_CONNECT:
		return do_connect(c);
	case STEP_MOVE:
		do_leave(c);
		return false;
	default:
		ep_close(c);
		return false;
	}
}
