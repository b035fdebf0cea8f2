// SPDX-License-Identifier: MIT
/*
 * Engine io_uring_zc from socket to sockets: a receive into one buffer is in flight while the other
 * is sent, without copying, to each destination. A buffer lives until the last of its
 * notifications; a transfer has a bounded number of them. Beyond it sends go by copy, and are
 * counted as such (zc_waived): to wait could take for ever, since the kernel frees received memory
 * in batches (skb_attempt_defer_free, net/core/skbuff.c).
 */
#include "io_uring_zc.h"

#include <stdlib.h>

void zc_relay_release(struct zc_relay *r)
{
	if (r->in)
		zc_buffer_put(r->in);
	if (r->out)
		zc_buffer_put(r->out);
	if (r->pool)
		zc_pool_put(r->pool);
	*r = (struct zc_relay){0};
}

/* ---------------------------------------------------------------- receiving */

static int new_buffer(struct conn *c, struct zc_relay *r)
{
	if (!r->pool)
		r->pool = zc_pool_new();
	if (r->pool && !r->in)
		r->in = zc_buffer_new(r->pool, (size_t)c->w->opt[OPT_CHUNK]);
	return r->in ? 0 : -ENOMEM;
}

static void receive_part(struct conn *c, struct zc_relay *r)
{
	struct xfer *x = &c->xfer;
	size_t size = (size_t)c->w->opt[OPT_CHUNK];
	uint64_t left = x->len == XFER_TO_EOF ? size : x->len - (r->out ? r->out->len : 0);
	struct io_uring_sqe *sqe;

	if (r->receiving || r->received || r->eof || r->error || !left || c->step != STEP_XFER)
		return;
	r->error = new_buffer(c, r);
	if (r->error)
		return;
	sqe = ring_move_sqe(c);
	io_uring_prep_recv(sqe, c->fd, r->in->data, left < size ? (size_t)left : size, 0);
	ring_use_socket(sqe, c);
	ring_move_tag(c, sqe, OP_RECV_PART);
	r->receiving = true;
}

/* ---------------------------------------------------------------- sending */

/* Whether buffers that wait for notifications are as many as may be; two are being worked on. */
static bool full(const struct conn *c, const struct zc_relay *r)
{
	uint64_t bound = (uint64_t)c->w->opt[OPT_INFLIGHT] / (uint64_t)c->w->opt[OPT_CHUNK];

	return zc_pool_buffers(r->pool) > (bound < 2 ? 2 : bound) + 2;
}

static void send_part_to(struct conn *c, struct zc_relay *r, uint16_t i)
{
	struct xfer_dst *d = &c->xfer.dst[i];
	const char *at = r->out->data + d->at;
	size_t len = r->out->len - d->at;
	struct ring_zc *z = full(c, r) || r->waive ? NULL : ring_zc_new(c, i, OP_SEND_PART);
	struct io_uring_sqe *sqe = ring_dst_sqe(c, i);

	r->nr_sends++;
	if (z) {
		zc_buffer_get(r->out);
		z->buffer = r->out;
		io_uring_prep_send_zc(sqe, d->c->fd, at, len, zc_send_flags(), 0);
		ring_use_socket(sqe, d->c);
		ring_zc_tag(z, sqe, len);
		return;
	}
	count_one(c->ctr, zc_waived);
	io_uring_prep_send(sqe, d->c->fd, at, len, MSG_NOSIGNAL | MSG_WAITALL);
	ring_use_socket(sqe, d->c);
	ring_dst_tag(c, sqe, OP_COPY_PART, i);
}

/* The received buffer goes out. */
static void send_part(struct conn *c, struct zc_relay *r)
{
	if (r->nr_sends || r->out || !r->received || r->error || c->step != STEP_XFER)
		return;
	r->out = r->in;
	r->in = NULL;
	r->received = false;
	for (uint16_t i = 0; i < c->xfer.nr_dst; i++)
		if (xfer_dst_lives(&c->xfer.dst[i]))
			send_part_to(c, r, i);
	if (!r->nr_sends)
		r->error = -EPIPE;
}

/* Keeps both directions busy. What completed() and start() return. */
static int pump(struct conn *c, struct zc_relay *r)
{
	send_part(c, r);
	receive_part(c, r);
	return ring_relay_stands(c, r->receiving, r->nr_sends, r->eof, r->error);
}

static int part_received(struct conn *c, struct zc_relay *r, int res)
{
	r->receiving = false;
	r->received = ring_relay_received(c, res, &r->eof, &r->error);
	if (r->received)
		r->in->len = (size_t)res;
	return pump(c, r);
}

/*
 * ENOMEM of a zero-copy send: its pages may not be locked (RLIMIT_MEMLOCK). It is sent again by
 * copy, as is the rest of the round; each destination may have had one on its way by then. ENOMEM
 * of a copying send fails its destination.
 */
static int part_sent(struct conn *c, struct zc_relay *r, unsigned op, uint16_t i, int res)
{
	r->nr_sends--;
	if (op == OP_SEND_PART && res == -ENOMEM && c->step == STEP_XFER) {
		r->waive = true;
		send_part_to(c, r, i);
	} else if (!ring_dst_served(c, i, res, r->out->len)) {
		send_part_to(c, r, i);
	}
	if (r->nr_sends)
		return RING_PENDING;
	if (c->step == STEP_XFER) {
		int dead = ring_end_round(c);

		r->error = r->error ? r->error : dead;
		xfer_skip_body(c, r->out->len);
		zc_buffer_put(r->out);
		r->out = NULL;
		r->waive = false;
	}
	return pump(c, r);
}

/* ---------------------------------------------------------------- what the engine calls */

int zc_relay_start(struct conn *c, struct zc_move *m)
{
	int res;

	if (!xfer_live(&c->xfer))
		return -EPIPE;
	if (xfer_has_iov(&c->xfer))
		/* By copy: the pieces are valid until conn_done() only. */
		return ring_send_iov(c, &m->msg, OP_SEND_IOV, &m->relay.nr_sends);
	res = pump(c, &m->relay);
	return res == RING_PENDING ? 0 : res;
}

int zc_relay_completed(struct conn *c, struct zc_move *m, unsigned op, uint16_t dst, int res)
{
	switch (op) {
	case OP_RECV_PART:
		return part_received(c, &m->relay, res);
	case OP_SEND_PART:
	case OP_COPY_PART:
		return part_sent(c, &m->relay, op, dst, res);
	default:
		return ring_iov_sent(c, dst, res, &m->relay.nr_sends);
	}
}
