// SPDX-License-Identifier: MIT
/*
 * Transfers from socket to sockets over a ring: rounds of sends, the same bytes to every living
 * destination, and how such a transfer stands.
 */
#include "ring.h"

#include <sys/socket.h>

bool ring_dst_served(struct conn *c, uint16_t i, int res, size_t total)
{
	struct xfer_dst *d = &c->xfer.dst[i];

	if (res < 0) {
		xfer_fail_dst(&c->xfer, i, res);
		return true;
	}
	xfer_touch(c);
	xfer_count(c, (size_t)res);
	d->at += (uint32_t)res;
	count_add(c->ctr, short_moves, d->at < total);
	return d->at == total || c->step != STEP_XFER;
}

int ring_end_round(struct conn *c)
{
	struct xfer *x = &c->xfer;

	if (x->dst_failed)
		conn_drop_dsts(c);
	for (unsigned i = 0; i < x->nr_dst; i++)
		x->dst[i].at = 0;
	return xfer_live(x) ? 0 : -EPIPE;
}

int ring_send_iov(struct conn *c, struct msghdr *msg, unsigned op, uint16_t *nr_sends)
{
	struct xfer *x = &c->xfer;

	*msg = (struct msghdr){.msg_iov = x->iov + x->iov_at,
			       .msg_iovlen = (size_t)(x->iov_nr - x->iov_at)};
	for (uint16_t i = 0; i < x->nr_dst; i++) {
		struct io_uring_sqe *sqe;

		if (!xfer_dst_lives(&x->dst[i]))
			continue;
		sqe = ring_dst_sqe(c, i);
		io_uring_prep_sendmsg(sqe, x->dst[i].c->fd, msg, MSG_NOSIGNAL | MSG_WAITALL);
		ring_use_socket(sqe, x->dst[i].c);
		ring_dst_tag(c, sqe, op, i);
		++*nr_sends;
	}
	return *nr_sends ? 0 : -EPIPE;
}

int ring_iov_sent(struct conn *c, uint16_t i, int res, uint16_t *nr_sends)
{
	struct xfer *x = &c->xfer;
	size_t total = xfer_iov_bytes(x);
	int dead;

	--*nr_sends;
	if (!ring_dst_served(c, i, res, total))
		xfer_fail_dst(x, i, -EPIPE);
	if (*nr_sends)
		return RING_PENDING;
	if (c->step != STEP_XFER)
		return -ECANCELED;
	dead = ring_end_round(c);
	if (dead)
		return dead;
	xfer_skip_iov(x, total);
	return x->len ? RING_PART : 0;
}

bool ring_relay_received(const struct conn *c, int res, bool *eof, int *error)
{
	if (res > 0)
		return true;
	if (res == 0 && c->xfer.len == XFER_TO_EOF)
		*eof = true;
	else if (!*error)
		*error = res ? res : -EPIPE;
	return false;
}

int ring_relay_stands(struct conn *c, bool receiving, bool sending, bool eof, int error)
{
	if (receiving || sending) {
		if (error && receiving)
			ring_stop_source(c);
		return RING_PENDING;
	}
	if (error)
		return error;
	if (c->step != STEP_XFER)
		return -ECANCELED;
	return eof || !c->xfer.len ? 0 : -EPIPE;
}
