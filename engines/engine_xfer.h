/* SPDX-License-Identifier: MIT */
/* Part of engine.h: how a transfer is advanced, and what can be asked of it. */
#ifndef IOLAB_ENGINE_XFER_H
#define IOLAB_ENGINE_XFER_H

#include "engine_conn.h"

/* The transfer has made progress now, as of the last worker_tick(): its deadline begins anew. */
static inline void xfer_touch(struct conn *c)
{
	atomic_store_explicit(&c->since_ns,
			      atomic_load_explicit(&c->w->now_ns, memory_order_relaxed),
			      memory_order_relaxed);
}

/* n bytes were handed to the kernel, for one destination. */
static inline void xfer_count(struct conn *c, size_t n)
{
	count_add(c->ctr, bytes, n);
	c->xfer.started = true;
}

/* n bytes of the memory pieces are delivered; n must not exceed what they hold. */
static inline void xfer_skip_iov(struct xfer *x, size_t n)
{
	while (x->iov_at < x->iov_nr && n >= x->iov[x->iov_at].iov_len)
		n -= x->iov[x->iov_at++].iov_len;
	if (n) {
		x->iov[x->iov_at].iov_base = (char *)x->iov[x->iov_at].iov_base + n;
		x->iov[x->iov_at].iov_len -= n;
	}
}

/* n bytes of the memory pieces were handed to the kernel, for the only destination. */
static inline void xfer_advance_iov(struct conn *c, size_t n)
{
	xfer_count(c, n);
	xfer_skip_iov(&c->xfer, n);
}

/* n bytes of a socket source are on their way to every living destination. */
static inline void xfer_relayed(struct conn *c, size_t n)
{
	count_add(c->ctr, relayed_bytes, n);
	atomic_store_explicit(&c->moved, atomic_load_explicit(&c->moved, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/* n bytes of the body source are delivered; who handed them to the kernel has counted them. */
static inline void xfer_skip_body(struct conn *c, size_t n)
{
	struct xfer *x = &c->xfer;

	x->off += n;
	if (x->len != XFER_TO_EOF)
		x->len -= n;
	if (x->src == SOURCE_MAPPING)
		x->mem += n;
	if (x->src == SOURCE_SOCKET)
		xfer_relayed(c, n);
}

/* n bytes of the body source were handed to the kernel, for the only destination. */
static inline void xfer_advance_body(struct conn *c, size_t n)
{
	xfer_count(c, n);
	xfer_skip_body(c, n);
}

/* The bytes the memory pieces hold. */
static inline size_t xfer_iov_bytes(const struct xfer *x)
{
	size_t sum = 0;

	for (unsigned i = x->iov_at; i < x->iov_nr; i++)
		sum += x->iov[i].iov_len;
	return sum;
}

/* n bytes of the memory pieces and of the body behind them, for the only destination. */
static inline void xfer_advance(struct conn *c, size_t n)
{
	size_t head = xfer_iov_bytes(&c->xfer);

	xfer_advance_iov(c, n < head ? n : head);
	if (n > head)
		xfer_advance_body(c, n - head);
}

/* The connection to write to when there is one destination. */
static inline struct conn *xfer_sink(struct conn *c)
{
	return c->xfer.nr_dst ? c->xfer.dst[0].c : c;
}

static inline bool xfer_dst_lives(const struct xfer_dst *d)
{
	return d->c && !d->err;
}

/* Destination i is to be passed over; err is -errno. */
static inline void xfer_fail_dst(struct xfer *x, unsigned i, int err)
{
	x->dst[i].err = err;
	x->dst_failed = true;
}

/* Destinations that live; 1 for a transfer to its own socket. */
static inline unsigned xfer_live(const struct xfer *x)
{
	unsigned nr = !x->nr_dst;

	for (unsigned i = 0; i < x->nr_dst; i++)
		nr += xfer_dst_lives(&x->dst[i]);
	return nr;
}

/* Before the first move of a socket source: the bytes already received are its first ones. */
static inline void xfer_take_unfed(struct conn *c)
{
	struct xfer *x = &c->xfer;
	size_t n = c->unfed_len < x->len ? c->unfed_len : (size_t)x->len;

	if (x->src != SOURCE_SOCKET || !n)
		return;
	x->iov[x->iov_nr++] = (struct iovec){.iov_base = c->unfed + c->unfed_off, .iov_len = n};
	c->unfed_off += (uint32_t)n;
	c->unfed_len -= (uint32_t)n;
	if (x->len != XFER_TO_EOF)
		x->len -= n;
	xfer_relayed(c, n);
}

/* True when memory pieces are left to be sent. */
static inline bool xfer_has_iov(const struct xfer *x)
{
	return x->iov_at < x->iov_nr;
}

#endif
