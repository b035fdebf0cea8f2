// SPDX-License-Identifier: MIT
/*
 * Engine io_uring_splice, several destinations: rounds of what the source's pipe holds. Its pages
 * go into a pipe for each destination but one by tee(2), and from there to the sockets; the slowest
 * one ends the round.
 */
#include "io_uring_splice.h"

static int pipe_of(const struct ring_splice *s, uint16_t i)
{
	return i == s->last ? s->pipe.rd : s->branch[i].pipe.rd;
}

void ring_splice_give_branch(struct conn *c, struct branch *b, bool empty)
{
	if (b->have)
		pipe_give(c, &b->pipe, empty);
	b->have = false;
}

int ring_splice_take_branches(struct conn *c, struct ring_splice *s)
{
	uint32_t smallest = s->pipe.bytes;
	int res = 0;

	for (uint16_t i = 0; !res && i + 1 < s->nr_branches; i++) {
		struct branch *b = &s->branch[i];

		if (!b->have && !xfer_dst_lives(&c->xfer.dst[i]))
			continue;
		res = b->have ? 0 : pipe_take(c, &b->pipe, (uint32_t)c->w->opt[OPT_PIPE]);
		b->have = !res;
		if (!res && b->pipe.bytes < smallest)
			smallest = b->pipe.bytes;
	}
	return res ? res : pipe_shrink(c, &s->pipe, smallest);
}

/* The round's pages into the pipe of destination i. */
static void tee_to(struct conn *c, struct ring_splice *s, uint16_t i)
{
	struct io_uring_sqe *sqe = ring_move_sqe(c);

	io_uring_prep_tee(sqe, s->pipe.rd, s->branch[i].pipe.wr, s->round, SPLICE_F_NONBLOCK);
	ring_move_tag(c, sqe, OP_TEE);
	s->nr_tees++;
}

static void end_round(struct conn *c, struct ring_splice *s);

static void all_out(struct conn *c, struct ring_splice *s)
{
	for (uint16_t i = 0; i < c->xfer.nr_dst; i++)
		if (xfer_dst_lives(&c->xfer.dst[i]) && c->xfer.dst[i].at < s->round)
			ring_splice_out(c, s, i, pipe_of(s, i), s->round - c->xfer.dst[i].at);
	if (!s->nr_out) /* all have left since the round began */
		end_round(c, s);
}

void ring_splice_begin_round(struct conn *c, struct ring_splice *s)
{
	struct xfer *x = &c->xfer;

	if (s->round || !s->in_pipe || s->in_busy || s->error || c->step != STEP_XFER)
		return;
	if (!xfer_live(x)) {
		s->error = -EPIPE;
		return;
	}
	s->round = s->in_pipe;
	for (uint16_t i = 0; i < x->nr_dst; i++)
		if (xfer_dst_lives(&x->dst[i]))
			s->last = i;
	for (uint16_t i = 0; i < s->last; i++)
		if (xfer_dst_lives(&x->dst[i]))
			tee_to(c, s, i);
	if (!s->nr_tees)
		all_out(c, s);
}

/* Empty pipes, none of which holds less than the source's: all of it fits, or something is wrong.
 */
void ring_splice_teed(struct conn *c, struct ring_splice *s, int res)
{
	s->nr_tees--;
	if (res != (int)s->round && !s->error)
		s->error = res < 0 ? res : -EIO;
	if (!s->nr_tees && !s->error && c->step == STEP_XFER)
		all_out(c, s);
}

/* Pipes of the dead have a rest in them and go. */
static void end_round(struct conn *c, struct ring_splice *s)
{
	struct xfer *x = &c->xfer;

	if (x->dst_failed)
		conn_drop_dsts(c);
	for (uint16_t i = 0; i < x->nr_dst; i++) {
		if (i != s->last && !xfer_dst_lives(&x->dst[i]))
			ring_splice_give_branch(c, &s->branch[i], false);
		x->dst[i].at = 0;
	}
	if (!xfer_dst_lives(&x->dst[s->last])) {
		pipe_give(c, &s->pipe, false);
		s->have = false;
		s->in_pipe = 0;
		s->error = ring_splice_take_pipes(c, s);
	}
	xfer_skip_body(c, s->round);
	s->in_pipe = s->round = 0;
	if (!xfer_live(x))
		s->error = -EPIPE;
}

void ring_splice_went_out(struct conn *c, struct ring_splice *s, uint16_t i, int res)
{
	struct xfer_dst *d = &c->xfer.dst[i];

	s->nr_out--;
	if (res <= 0 && res != -EAGAIN) {
		xfer_fail_dst(&c->xfer, i, res ? res : -EPIPE);
	} else if (res > 0) {
		d->at += (uint32_t)res;
		xfer_count(c, (size_t)res);
		xfer_touch(c);
	}
	if (c->step != STEP_XFER)
		return;
	if (xfer_dst_lives(d) && d->at < s->round)
		ring_splice_out(c, s, i, pipe_of(s, i), s->round - d->at);
	else if (!s->nr_out)
		end_round(c, s);
}
