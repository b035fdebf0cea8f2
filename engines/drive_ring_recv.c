// SPDX-License-Identifier: MIT
/*
 * Completion driver: what comes in. Receives fill buffers of the worker's ring; a connection holds
 * those that were not fed yet, in order, behind what it has on the heap. It starves when it wants
 * input and the ring has no buffer left. Clients that pipeline and do not read could hold every
 * buffer: when three in four are out, what has to wait is copied to the heap, so that buffers come
 * back with every batch of completions, whatever clients do.
 */
#include "drive_ring.h"

enum {
	NONE = UINT16_MAX,
	HELD_MAX = 16, /* received buffers a connection may hold before its receive is stopped */
};

/* One receive at a time where sockets are sources: none may be armed while a transfer reads. */
void ur_arm_recv(struct conn *c)
{
	struct ur_conn *u = c->priv;
	struct io_uring_sqe *sqe = ur_conn_sqe(c);

	io_uring_prep_recv(sqe, c->fd, NULL, 0, 0);
	if (!c->w->relays)
		sqe->ioprio |= ur_of(c->w)->ring.cfg.bundle
				       ? IORING_RECV_MULTISHOT | URING_RECVSEND_BUNDLE
				       : IORING_RECV_MULTISHOT;
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = RING_BGID;
	ring_use_socket(sqe, c);
	ur_tag(sqe, c, OP_RECV);
	u->receiving = true;
}

/* Asynchronous: more buffers may arrive until the receive's last completion does. */
static void cancel_recv(struct conn *c)
{
	struct io_uring_sqe *sqe = ur_cancel_sqe(c);

	io_uring_prep_cancel64(sqe, (uint64_t)(uintptr_t)c | OP_RECV, 0);
	ur_tag(sqe, c, OP_CANCEL);
}

static void hold(struct conn *c, unsigned bid, uint32_t len)
{
	struct ur_conn *u = c->priv;
	struct ring *r = &ur_of(c->w)->ring;

	r->nr_free--;
	r->held[bid].off = 0;
	r->held[bid].len = len;
	r->held[bid].next = NONE;
	if (u->nr_held++)
		r->held[u->last].next = (uint16_t)bid;
	else
		u->first = (uint16_t)bid;
	u->last = (uint16_t)bid;
}

/* What a completion brings: one buffer, or with bundle as many as `len` bytes fill. */
static void hold_all(struct conn *c, unsigned bid, uint32_t len)
{
	const struct ring *r = &ur_of(c->w)->ring;

	while (len > RING_BUFFER_BYTES) {
		hold(c, bid, RING_BUFFER_BYTES);
		len -= RING_BUFFER_BYTES;
		bid = ring_next_buffer(r, bid);
	}
	hold(c, bid, len);
}

void ur_drop_first(struct conn *c)
{
	struct ur_conn *u = c->priv;
	struct ring *r = &ur_of(c->w)->ring;
	unsigned bid = u->first;

	u->first = r->held[bid].next;
	u->nr_held--;
	ring_recycle(r, bid);
}

void ur_unstarve(struct conn *c)
{
	struct ur_worker *ur = ur_of(c->w);
	struct ur_conn *u = c->priv;
	struct conn **at = &ur->starved;

	if (!u->starving)
		return;
	while (*at != c)
		at = &((struct ur_conn *)(*at)->priv)->next_starved;
	*at = u->next_starved;
	if (ur->starved_tail == &u->next_starved)
		ur->starved_tail = at;
	u->starving = false;
}

/* To the end of the list: whoever waits longest is first to be armed. */
static void starve(struct conn *c)
{
	struct ur_worker *ur = ur_of(c->w);
	struct ur_conn *u = c->priv;

	u->next_starved = NULL;
	*ur->starved_tail = c;
	ur->starved_tail = &u->next_starved;
	u->starving = true;
}

/* As many starved connections as there are buffers again; the rest waits on, nobody spins. */
void ur_feed_starved(struct ur_worker *ur)
{
	unsigned nr = ur->ring.nr_free;

	while (nr-- && ur->starved) {
		struct conn *c = ur->starved;
		struct ur_conn *u = c->priv;

		ur_unstarve(c);
		if (!u->receiving)
			ur_arm_recv(c);
	}
}

/* Who has no use for input now, asks for a buffer when it has: ur_do_recv(). */
static void went_without(struct conn *c)
{
	count_one(c->ctr, no_buffers);
	if (c->step == STEP_RECV || c->step == STEP_CLOSE)
		starve(c);
}

static void give_up(struct conn *c)
{
	count_one(c->ctr, aborts);
	c->step = STEP_CLOSE;
	c->close_how = CLOSE_ABORT;
}

static bool scarce(const struct ring *r)
{
	return r->nr_free + r->nr_recycled < r->nr_buffers / 4;
}

/* The rest of the first buffer goes to the heap, the buffer back to the ring. */
static void spill_first(struct conn *c)
{
	struct ur_conn *u = c->priv;
	struct ring *r = &ur_of(c->w)->ring;
	struct ring_held *h = &r->held[u->first];

	if (h->len && conn_keep_unfed(c, ring_buffer(r, u->first) + h->off, h->len))
		give_up(c);
	h->len = 0;
	ur_drop_first(c);
}

static void spill(struct conn *c)
{
	struct ur_conn *u = c->priv;

	while (u->nr_held)
		spill_first(c);
}

static bool waits_for_too_much(const struct conn *c)
{
	const struct ur_conn *u = c->priv;

	return u->nr_held > HELD_MAX || c->unfed_len > HELD_MAX * RING_BUFFER_BYTES;
}

void ur_on_recv(struct conn *c, const struct io_uring_cqe *cqe)
{
	struct ur_conn *u = c->priv;

	if (!(cqe->flags & IORING_CQE_F_MORE)) {
		u->receiving = false;
		u->cancelling = false;
		u->in_flight--;
	}
	if (cqe->flags & IORING_CQE_F_BUFFER)
		hold_all(c, cqe->flags >> IORING_CQE_BUFFER_SHIFT,
			 cqe->res > 0 ? (uint32_t)cqe->res : 0);
	if (cqe->res == -ENOBUFS)
		went_without(c);
	else if (cqe->res == 0 || (cqe->res < 0 && cqe->res != -ECANCELED))
		u->eof = true;
	if (c->step != STEP_RECV && scarce(&ur_of(c->w)->ring))
		spill(c);
	if (waits_for_too_much(c) && u->receiving && !u->cancelling) {
		u->cancelling = true;
		cancel_recv(c);
	}
	ur_advance(c);
}

/* STEP_RECV. True when the step may have changed. */
bool ur_do_recv(struct conn *c)
{
	struct ur_conn *u = c->priv;
	struct ring *r = &ur_of(c->w)->ring;
	struct ring_held *h;
	size_t used;

	if (c->unfed_len) {
		conn_feed_unfed(c);
		return true;
	}
	conn_trim_unfed(c);
	if (u->nr_held) {
		h = &r->held[u->first];
		used = h->len ? conn_feed(c, ring_buffer(r, u->first) + h->off, h->len) : 0;
		h->off += (uint32_t)used;
		h->len -= (uint32_t)used;
		if (!h->len)
			ur_drop_first(c);
		else if (c->w->relays) /* the few buffers are not for those who wait */
			spill_first(c);
		else if (scarce(r))
			spill(c);
		return true;
	}
	if (u->eof) {
		conn_feed(c, NULL, 0);
		return true;
	}
	if (!u->receiving && !u->starving)
		ur_arm_recv(c);
	return false;
}
