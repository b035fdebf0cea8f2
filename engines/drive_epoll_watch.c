// SPDX-License-Identifier: MIT
/* Readiness driver: what sockets are watched for, and transfers that wait for a batch. */
#include "drive_epoll.h"

/* Beside what is asked for, always reported (epoll_ctl(2)); stands for nothing but those. */
#define ALWAYS_REPORTED ((uint32_t)EPOLLHUP)

int ep_watch(struct ep_worker *ep, int op, int fd, uint32_t events, void *ptr)
{
	struct epoll_event ev = {.events = events, .data.ptr = ptr};

	return epoll_ctl(ep->epfd, op, fd, &ev) ? -errno : 0;
}

/* Level-triggered: what the connection's step, and that of its writer, wait for on its socket. */
static uint32_t wanted(const struct conn *c)
{
	const struct ep_conn *e = c->priv, *writer = c->writer ? c->writer->priv : NULL;
	bool source = e->want == MOVED_WANT_SRC || e->want == MOVED_WANT_BOTH ||
		      e->want == MOVED_WANT_BATCH;
	uint32_t events = 0;

	if (e->connecting)
		return EPOLLOUT;
	if (c->step == STEP_RECV || c->step == STEP_CLOSE || (c->step == STEP_XFER && source))
		events |= EPOLLIN | EPOLLRDHUP;
	else if (c->step == STEP_XFER && !c->xfer.nr_dst)
		events |= EPOLLOUT;
	else if (c->step == STEP_PARK && !(e->told & 1u << HUP_READ))
		events |= EPOLLRDHUP;
	if (writer && c->writer->step == STEP_XFER &&
	    (writer->want == MOVED_WANT_DST || writer->want == MOVED_WANT_BOTH))
		events |= EPOLLOUT;
	if (!events && !e->gone)
		events = ALWAYS_REPORTED;
	return events;
}

/* Watches for what is waited for now, if that is something else than before. */
void ep_rewatch(struct conn *c)
{
	struct ep_worker *ep = ep_of(c->w);
	struct ep_conn *e = c->priv;
	uint32_t events;
	int op;

	if (!ep->level || e->finished || c->fd < 0 || !c->mover)
		return;
	events = wanted(c);
	if (events == e->watched)
		return;
	op = !events ? EPOLL_CTL_DEL : e->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	count_one(c->ctr, sys_ctl);
	if (!ep_watch(ep, op, c->fd, events, c))
		e->watched = events;
}

/* The connection, and those it writes to. */
void ep_rewatch_all(struct conn *c)
{
	struct xfer *x = &c->xfer;

	if (!ep_of(c->w)->level)
		return;
	ep_rewatch(c);
	for (unsigned i = 0; c->step == STEP_XFER && i < x->nr_dst; i++)
		if (xfer_dst_lives(&x->dst[i]))
			ep_rewatch(x->dst[i].c);
}

/* ---------------------------------------------------------------- waiting for a batch */

/* A connection stays in the list until the time is over, whatever it waits for by then. */
void ep_hold(struct conn *c)
{
	struct ep_worker *ep = ep_of(c->w);
	struct ep_conn *e = c->priv;

	if (e->held)
		return;
	if (!ep->held)
		ep->held_until_ns = c->w->now_ns + BATCH_WAIT_MS * 1000000ull;
	e->held = true;
	e->next_held = ep->held;
	ep->held = c;
}

void ep_unhold(struct conn *c)
{
	struct ep_conn *e = c->priv;
	struct conn **at = &ep_of(c->w)->held;

	if (!e->held)
		return;
	while (*at != c)
		at = &((struct ep_conn *)(*at)->priv)->next_held;
	*at = e->next_held;
	e->held = false;
}

/* Time is over: who still waits for a batch takes what there is. */
void ep_release_held(struct ep_worker *ep)
{
	struct conn *c = ep->held;

	ep->held = NULL;
	while (c) {
		struct ep_conn *e = c->priv;
		struct conn *next = e->next_held;

		e->held = false;
		if (c->step == STEP_XFER &&
		    (e->want == MOVED_WANT_BATCH || e->want == MOVED_WANT_ROOM))
			ep_queue_again(c);
		c = next;
	}
}
