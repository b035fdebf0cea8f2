// SPDX-License-Identifier: MIT
/*
 * Completion driver: operations that complete quietly. A send that finds room is over when the
 * submission is, so its completion tells nothing new, but is enough to end a wait that was for the
 * next request: at few connections every second io_uring_enter(2) would collect nothing else. So
 * such a send asks for none if it succeeds (IOSQE_CQE_SKIP_SUCCESS, Linux 5.17), and may not wait
 * for room (MSG_DONTWAIT); with MSG_WAITALL what is short fails, and a failure has a completion
 * (io_uring_enter(2); io_sendrecv_fail, io_uring/net.c). What has none once everything was
 * submitted and the completions were looked at, has succeeded.
 *
 * Nothing ends the wait for such a send, so it is for transfers that nothing follows, and the wait
 * is bounded as long as one is undecided.
 */
#include "drive_ring.h"

bool ring_may_be_quiet(const struct conn *c)
{
	const struct ur_conn *u = c->priv;

	return !c->ends && !u->nr_held && !c->unfed_len && !u->eof && !c->w->relays &&
	       !ur_of(c->w)->ring.cfg.sqpoll;
}

void ring_move_tag_quiet(struct conn *c, struct io_uring_sqe *sqe, unsigned op, uint32_t bytes)
{
	struct ur_worker *ur = ur_of(c->w);
	struct ur_conn *u = c->priv;

	ring_move_tag(c, sqe, op);
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	u->quiet = true;
	u->quiet_op = (uint8_t)op;
	u->quiet_bytes = bytes;
	u->next_quiet = NULL;
	*ur->quiet_tail = c;
	ur->quiet_tail = &u->next_quiet;
}

void ur_settle(struct ur_worker *ur)
{
	/* Nothing is left in `settling`: ur_finish_settled() has been called since. */
	if (!ur->quiet || !ring_settled(&ur->ring))
		return;
	ur->settling = ur->quiet;
	ur->quiet = NULL;
	ur->quiet_tail = &ur->quiet;
}

void ur_finish_settled(struct ur_worker *ur)
{
	while (ur->settling) {
		struct conn *c = ur->settling;
		struct ur_conn *u = c->priv;

		ur->settling = u->next_quiet;
		u->quiet = false;
		ur_on_move(c, u->quiet_op, RING_OWN, (int)u->quiet_bytes);
	}
}

/* Takes c out of the list that begins at *at. False when it is not in it. */
static bool take_out(struct conn **at, const struct conn *c)
{
	while (*at && *at != c)
		at = &((struct ur_conn *)(*at)->priv)->next_quiet;
	if (!*at)
		return false;
	*at = ((const struct ur_conn *)c->priv)->next_quiet;
	return true;
}

void ur_forget_quiet(struct conn *c)
{
	struct ur_worker *ur = ur_of(c->w);
	struct ur_conn *u = c->priv;

	u->quiet = false;
	if (take_out(&ur->settling, c))
		return;
	take_out(&ur->quiet, c);
	ur->quiet_tail = &ur->quiet;
	while (*ur->quiet_tail)
		ur->quiet_tail = &((struct ur_conn *)(*ur->quiet_tail)->priv)->next_quiet;
}
