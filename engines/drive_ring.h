/* SPDX-License-Identifier: MIT */
/*
 * Inside of the completion driver: its state of a worker and of a connection, and what its files
 * call of each other. drive_ring.c has the loop, drive_ring_recv.c what comes in,
 * drive_ring_steps.c the other steps of a connection.
 */
#ifndef IOLAB_DRIVE_RING_H
#define IOLAB_DRIVE_RING_H

#include "ring.h"

/*
 * user_data: the connection's address, a multiple of 64 below 2^47 (user addresses go beyond only
 * where a mapping asks for it: Documentation/arch/x86/x86_64/5level-paging.rst); the operation in
 * its low bits; the index of a destination plus one in its high bits.
 */
enum {
	OP_RECV = RING_OPS,
	OP_CANCEL,
	OP_ACCEPT,
	OP_WAKE,
	OP_POLL,
	OP_CONNECT,
	OP_ROOM,
	OP_TURN,
	OP_ZC, /* beside the address of a struct ring_zc */
	OP_IGNORE = RING_IGNORE,
	OP_MASK = 63,
	DST_SHIFT = 48,
};
_Static_assert(OP_ZC < OP_MASK, "operations no longer fit beside an address");

/* Of a worker, at w->priv. */
struct ur_worker {
	struct ring ring;
	const struct ring_mover *mover;
	struct conn *starved,
		**starved_tail; /* want input, and there was no buffer; oldest first */
	/* Operations that complete quietly, see ring_move_tag_quiet(); oldest first. */
	struct conn *quiet, **quiet_tail; /* prepared since the last wait, or not settled by it */
	struct conn *settling;		  /* settled, unless a completion says otherwise */
	uint64_t accept_again_ns;
	uint64_t wake_value;
	bool accepting;
};

/* Of a connection, at c->priv. */
struct ur_conn {
	struct conn *next_starved;
	struct conn *next_quiet;
	uint32_t quiet_bytes; /* of the quiet operation, if it succeeds */
	uint8_t quiet_op;
	bool quiet;	      /* such an operation is in flight */
	uint8_t slot_flag;    /* IOSQE_FIXED_FILE: the socket is in the slot of its number; or 0 */
	uint16_t first, last; /* received buffers, in order; valid while nr_held */
	uint16_t nr_held;
	uint16_t in_flight;  /* operations without their last completion, on or for this one */
	uint16_t nr_written; /* of those, operations of its writer on this socket */
	bool receiving;	     /* a receive is armed */
	bool moving;	     /* the mover has operations in flight */
	bool begun;	     /* the transfer has had its first start() */
	bool polling;	     /* for a hang-up */
	bool watching;	     /* a poll for room in the socket is armed */
	bool waiting;	     /* the transfer goes on with such room, or with the next turn */
	bool room;	     /* there was room while nothing waited for it */
	bool connecting;
	bool hup, gone;	 /* the peer closed its side; both sides, or it was reset */
	uint8_t told;	 /* conn_hup() was called: bit per enum hangup */
	bool cancelling; /* the multishot receive is being ended */
	bool cancelled;	 /* everything in flight was asked to end */
	bool reset;	 /* RST was sent: what begins on the socket from now on fails */
	bool stopping;	 /* a transfer without destinations was cancelled */
	bool starving;
	bool eof;
	bool lingering;
};
_Static_assert(sizeof(struct ur_conn) <= RING_CONN_BYTES, "enlarge RING_CONN_BYTES");

static inline struct ur_worker *ur_of(const struct worker *w)
{
	return w->priv;
}

/* Says whose operation sqe is, and which; after it was prepared. */
static inline void ur_tag(struct io_uring_sqe *sqe, const void *ptr, unsigned op)
{
	io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)ptr | op);
}

/* Does what the connection's step asks for, as far as it can. After this c may be gone. */
void ur_advance(struct conn *c);

/* An entry for an operation of c, counted as in flight until its last completion. */
struct io_uring_sqe *ur_conn_sqe(struct conn *c);

/* The same for a cancellation: what was asked to end before stays asked. */
struct io_uring_sqe *ur_cancel_sqe(struct conn *c);

/* Ends every operation on fd, on behalf of c. Asynchronous: their completions are to come. */
void ur_cancel_fd(struct conn *c, int fd);

/* The connection's socket gets a slot, if the ring has slots. False when it has none for it. */
bool ur_take_slot(struct conn *c);

/* The socket leaves its slot, if it has one. Nothing may be in flight on it. */
void ur_leave_slot(struct conn *c);

/* ------------------------------------------------------------------------------ quiet operations
 */

/* After a wait, before its completions are looked at: which quiet operations are decided by now. */
void ur_settle(struct ur_worker *ur);

/* After those completions: the decided operations without one have succeeded. */
void ur_finish_settled(struct ur_worker *ur);

/* The operation has a completion of its own: it failed, or was short. */
void ur_forget_quiet(struct conn *c);

/* ------------------------------------------------------------------------------ what comes in */

/* Receives once, or again and again where sockets are no sources; into buffers of the ring. */
void ur_arm_recv(struct conn *c);

/* A completion of that receive. */
void ur_on_recv(struct conn *c, const struct io_uring_cqe *cqe);

/* STEP_RECV. True when the step may have changed. */
bool ur_do_recv(struct conn *c);

/* Gives the first received buffer back to the ring; there must be one. */
void ur_drop_first(struct conn *c);

/* The connection waits for a buffer no more. */
void ur_unstarve(struct conn *c);

/* Arms the receives of as many starved connections as there are buffers again. */
void ur_feed_starved(struct ur_worker *ur);

/* ------------------------------------------------------------------------------ other steps */

/* STEP_XFER. True when the transfer ended. */
bool ur_do_move(struct conn *c);

/* A completion for the mover; index is the destination's, or RING_OWN. */
void ur_on_move(struct conn *c, unsigned op, uint16_t index, int res);

/* The socket has room, or was hung up; or the next turn has come. A transfer may go on. */
void ur_on_room(struct conn *c, const struct io_uring_cqe *cqe);
void ur_on_turn(struct conn *c);

/* STEP_PARK. True when a hang-up was reported. */
bool ur_do_park(struct conn *c);

/* A completion of the poll for a hang-up. */
void ur_on_poll(struct conn *c, const struct io_uring_cqe *cqe);

/* Lets the mover set options of a socket. 0 or -errno. */
int ur_prepare_socket(struct worker *w, int fd);

/* STEP_CONNECT. True when there is nothing to wait for. */
bool ur_do_connect(struct conn *c);

/* The completion of a connect. */
void ur_on_connect(struct conn *c, int res);

/* STEP_MOVE: posts the connection to its other worker, once nothing of it is in flight here. */
void ur_do_leave(struct conn *c);

/* STEP_CLOSE, again and again until nothing of it is in flight; then the connection is freed. */
void ur_do_close(struct conn *c);

/* The completion of a cancellation. */
void ur_on_cancel(struct conn *c);

#endif
