// SPDX-License-Identifier: MIT
/*
 * Engine msg_zerocopy from socket to sockets: receive into a buffer, zero-copy send of it to each
 * destination, however small it is; the buffer lives until the last notification. A transfer has a
 * bounded number of them; beyond it sends go by copy, and are counted as such (zc_waived).
 */
#include "msg_zerocopy.h"

#include <sys/socket.h>

void zc_relay_end(struct zc_mover *m)
{
	if (m->current)
		zc_buffer_put(m->current);
	if (m->pool)
		zc_pool_put(m->pool);
	m->current = NULL;
	m->pool = NULL;
}

/* Collects what has come for any destination; notifications, or 0. */
static int reap_dsts(struct conn *c)
{
	int sum = 0, res;

	for (unsigned i = 0; i < c->xfer.nr_dst; i++) {
		if (!xfer_dst_lives(&c->xfer.dst[i]))
			continue;
		res = zc_reap(c->xfer.dst[i].c);
		if (res < 0)
			xfer_fail_dst(&c->xfer, i, res);
		else
			sum += res;
	}
	return sum;
}

static bool full(const struct conn *c, const struct zc_mover *m)
{
	return zc_pool_buffers(m->pool) >= (unsigned)c->w->opt[OPT_BUFFERS];
}

/* What receive_buffer() says beside -errno; MOVED_WANT_SRC is passed on. */
enum {
	RECEIVED = 0,
	RECEIVED_EOF = 100
};

static int receive_buffer(struct conn *c, struct zc_mover *m)
{
	struct xfer *x = &c->xfer;
	size_t size = (size_t)c->w->opt[OPT_BUFFER];
	struct zc_buffer *buf;
	ssize_t n;
	int res = RECEIVED;

	buf = zc_buffer_new(m->pool, size);
	if (!buf)
		return -ENOMEM;
	n = recv(c->fd, buf->data, x->len < size ? (size_t)x->len : size, 0);
	count_one(c->ctr, sys_recv);
	if (n > 0) {
		buf->len = (size_t)n;
		m->current = buf;
		return RECEIVED;
	}
	if (n == 0)
		res = x->len == XFER_TO_EOF ? RECEIVED_EOF : -EPIPE;
	else if (errno == EAGAIN)
		res = MOVED_WANT_SRC;
	else
		res = -errno;
	count_add(c->ctr, eagain, res == MOVED_WANT_SRC);
	zc_buffer_put(buf);
	return res;
}

/*
 * How the next send goes: by copy when the buffers of the transfer, or the kernel's room for
 * notifications, are used up. To wait instead could take for ever: received skbs are freed in
 * batches by the processor that allocated them, when it next receives anything
 * (skb_attempt_defer_free, net/core/skbuff.c), and on loopback that may be this very transfer.
 */
static ssize_t send_some(struct conn *c, const struct conn *to, const char *at, size_t len,
			 bool *zerocopy)
{
	ssize_t n = -1;

	*zerocopy = !full(c, c->mover) || reap_dsts(c);
	if (*zerocopy)
		n = send(to->fd, at, len, MSG_NOSIGNAL | MSG_ZEROCOPY);
	if (*zerocopy && n < 0 && errno == ENOBUFS)
		*zerocopy = false;
	else if (*zerocopy)
		return n;
	count_one(c->ctr, zc_waived);
	return send(to->fd, at, len, MSG_NOSIGNAL);
}

/* The rest of the current buffer to destination i. MOVED_ALL also when it is lost. */
static int send_zc_to(struct conn *c, struct zc_buffer *buf, unsigned i)
{
	struct xfer_dst *d = &c->xfer.dst[i];
	struct zc_sends *z = zc_of(d->c);
	bool zerocopy;
	ssize_t n;
	int res = zc_sends_reserve(z);

	if (res) {
		xfer_fail_dst(&c->xfer, i, res);
		return MOVED_ALL;
	}
	n = send_some(c, d->c, buf->data + d->at, buf->len - d->at, &zerocopy);
	count_one(c->ctr, sys_send);
	if (n < 0) {
		count_add(c->ctr, eagain, errno == EAGAIN);
		if (errno != EAGAIN)
			xfer_fail_dst(&c->xfer, i, -errno);
		return errno == EAGAIN ? MOVED_WANT_DST : MOVED_ALL;
	}
	if (zerocopy)
		zc_sends_add(z, c->ctr, (size_t)n, NULL, buf);
	d->at += (uint32_t)n;
	xfer_count(c, (size_t)n);
	xfer_touch(c);
	count_add(c->ctr, short_moves, d->at < buf->len);
	return d->at < buf->len ? MOVED_TURN : MOVED_ALL;
}

static int send_current(struct conn *c, struct zc_mover *m)
{
	struct xfer *x = &c->xfer;
	int res = MOVED_ALL, one;

	for (unsigned i = 0; i < x->nr_dst; i++) {
		if (!xfer_dst_lives(&x->dst[i]) || x->dst[i].at == m->current->len)
			continue;
		do
			one = send_zc_to(c, m->current, i);
		while (one == MOVED_TURN);
		if (one != MOVED_ALL)
			res = one;
	}
	if (!xfer_live(x))
		return -EPIPE;
	if (res != MOVED_ALL)
		return res;
	for (unsigned i = 0; i < x->nr_dst; i++)
		x->dst[i].at = 0;
	xfer_skip_body(c, m->current->len);
	zc_buffer_put(m->current);
	m->current = NULL;
	return MOVED_ALL;
}

static int relay_body(struct conn *c, struct zc_mover *m)
{
	size_t moved = 0;
	int res;

	if (!m->pool) {
		m->pool = zc_pool_new();
		if (!m->pool)
			return -ENOMEM;
	}
	while (c->xfer.len || m->current) {
		res = m->current ? RECEIVED : receive_buffer(c, m);
		if (res)
			return res == RECEIVED_EOF ? MOVED_ALL : res;
		moved += m->current->len;
		res = send_current(c, m);
		if (res)
			return res;
		if (moved >= TURN_BYTES && c->xfer.len)
			return MOVED_TURN;
	}
	return MOVED_ALL;
}

int zc_relay_move(struct conn *c)
{
	struct zc_mover *m = c->mover;
	int res = send_iov(c, 0);

	if (!res && !xfer_live(&c->xfer))
		res = -EPIPE;
	if (!res && c->xfer.len)
		res = relay_body(c, m);
	if (res <= 0)
		zc_relay_end(m);
	return res;
}
