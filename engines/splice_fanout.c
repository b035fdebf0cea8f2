// SPDX-License-Identifier: MIT
/*
 * Engine splice, several destinations: rounds of what the source's pipe holds. Its pages go into a
 * pipe for each destination but one by tee(2), and from there to the sockets; the slowest one ends
 * the round. Linux 2.6.17.
 */
#include "splice.h"

#include <fcntl.h>
#include <stdlib.h>

static int tees_make(struct conn *c, struct splice_conn *s)
{
	if (s->tees)
		return 0;
	s->tees = calloc(1, sizeof(*s->tees) + c->xfer.nr_dst * sizeof(struct pipe_pair));
	if (!s->tees)
		return -ENOMEM;
	s->tees->nr = c->xfer.nr_dst;
	return 0;
}

static void tee_give(struct conn *c, struct splice_conn *s, unsigned i, bool empty)
{
	struct pipe_pair *p = &s->tees->pipe[i];

	if (p->rd)
		pipe_give(c, p, empty);
	p->rd = 0;
}

/*
 * Before a round: a pipe for each destination but the last that lives. None may hold less than the
 * source's, or a tee would be short; beyond pipe-user-pages-soft (pipe(7)) some do.
 */
static int take_tees(struct conn *c, struct splice_conn *s)
{
	uint32_t smallest = s->pipe.bytes;
	struct xfer *x = &c->xfer;
	int res = 0;

	for (unsigned i = 0; i < x->nr_dst; i++)
		if (xfer_dst_lives(&x->dst[i]))
			s->tees->last = (uint16_t)i;
	for (unsigned i = 0; !res && i < s->tees->last; i++) {
		struct pipe_pair *p = &s->tees->pipe[i];

		if (!xfer_dst_lives(&x->dst[i]))
			continue;
		res = p->rd ? 0 : pipe_take(c, p, splice_pipe_bytes(c->w));
		if (!res && p->bytes < smallest)
			smallest = p->bytes;
	}
	return res ? res : pipe_shrink(c, &s->pipe, smallest);
}

/* The same pages into the pipe of destination i, which is empty and holds all of them. */
static int tee_to(struct conn *c, struct splice_conn *s, unsigned i)
{
	ssize_t n = tee(s->pipe.rd, s->tees->pipe[i].wr, s->in_pipe, SPLICE_F_NONBLOCK);

	count_one(c->ctr, sys_tee);
	if (n < 0)
		return -errno;
	return (size_t)n == s->in_pipe ? 0 : -EIO;
}

/* Begins a round with what is in the source's pipe. 0 or -errno. */
static int tee_round(struct conn *c, struct splice_conn *s)
{
	struct xfer *x = &c->xfer;
	int res = 0;

	for (unsigned i = 0; !res && i < s->tees->last; i++)
		if (xfer_dst_lives(&x->dst[i]))
			res = tee_to(c, s, i);
	s->tees->round = (uint32_t)s->in_pipe;
	return res;
}

/* Destination i takes what its pipe has. MOVED_ALL, MOVED_WANT_DST. */
static int round_to(struct conn *c, struct splice_conn *s, unsigned i)
{
	struct xfer_dst *d = &c->xfer.dst[i];
	int from = i == s->tees->last ? s->pipe.rd : s->tees->pipe[i].rd;
	ssize_t n;

	while (d->at < s->tees->round) {
		n = splice(from, NULL, d->c->fd, NULL, s->tees->round - d->at, SPLICE_F_NONBLOCK);
		count_one(c->ctr, sys_splice);
		if (n < 0 && errno == EAGAIN) {
			count_one(c->ctr, eagain);
			return MOVED_WANT_DST;
		}
		if (n < 0) {
			xfer_fail_dst(&c->xfer, i, -errno);
			return MOVED_ALL;
		}
		d->at += (uint32_t)n;
		xfer_count(c, (size_t)n);
		xfer_touch(c);
	}
	return MOVED_ALL;
}

/* Every pipe is empty again: those of the dead, with the round's rest in them, are closed. */
static int end_round(struct conn *c, struct splice_conn *s)
{
	struct xfer *x = &c->xfer;

	for (unsigned i = 0; i < x->nr_dst; i++) {
		if (!xfer_dst_lives(&x->dst[i]))
			tee_give(c, s, i, false);
		x->dst[i].at = 0;
	}
	if (xfer_dst_lives(&x->dst[s->tees->last]))
		s->in_pipe = 0;
	else
		splice_give_back(c, s); /* the last one died with its rest in the source's pipe */
	xfer_skip_body(c, s->tees->round);
	s->tees->round = 0;
	return splice_borrow(c, s);
}

static int deliver_round(struct conn *c, struct splice_conn *s)
{
	struct xfer *x = &c->xfer;
	int res = MOVED_ALL;

	for (unsigned i = 0; i < x->nr_dst; i++)
		if (xfer_dst_lives(&x->dst[i]) && round_to(c, s, i) != MOVED_ALL)
			res = MOVED_WANT_DST;
	if (!xfer_live(x))
		return -EPIPE;
	return res == MOVED_ALL ? end_round(c, s) : res;
}

int splice_fan_out(struct conn *c, struct splice_conn *s)
{
	struct xfer *x = &c->xfer;
	size_t moved = 0;
	int res = tees_make(c, s);

	while (!res && x->len) {
		if (!s->tees->round) {
			res = take_tees(c, s);
			if (res)
				return res;
			res = splice_from_socket(c, s);
			if (res == FILLED_DRY)
				return MOVED_WANT_SRC;
			if (res)
				return res < 0 ? res : MOVED_ALL;
			res = tee_round(c, s);
			moved += s->in_pipe;
		}
		if (!res)
			res = deliver_round(c, s);
		if (!res && moved >= TURN_BYTES && x->len)
			return MOVED_TURN;
	}
	return res;
}

void splice_drop_tees(struct conn *c, struct splice_conn *s)
{
	for (unsigned i = 0; s->tees && i < s->tees->nr; i++)
		tee_give(c, s, i, !s->tees->round);
	free(s->tees);
	s->tees = NULL;
}
