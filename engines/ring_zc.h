/* SPDX-License-Identifier: MIT */
/*
 * Zero-copy sends over a ring (IORING_OP_SEND_ZC, Linux 6.0; IORING_OP_SENDMSG_ZC, 6.1). Each has
 * two completions: its result, and, marked IORING_CQE_F_NOTIF, that the kernel is finished with the
 * memory. The second may come long after the transfer, so what was sent from is held by the send.
 * It says whether anything was copied on the way (IORING_SEND_ZC_REPORT_USAGE, Linux 6.2).
 */
#ifndef IOLAB_RING_ZC_H
#define IOLAB_RING_ZC_H

#include "ring.h"
#include "zc_buffer.h"

/*
 * One send. The completion driver names it by its address in user_data, hence the alignment. Freed
 * by ring_zc.c, with what it holds: lease and buffer by a reference of its own, head by free(),
 * slot (index of a registered buffer, -1 for none) by giving it back.
 */
struct ring_zc {
	struct conn *c;		     /* whose transfer it is a part of; until the result */
	struct conn *sock;	     /* whose socket it goes to; NULL when that is gone from here */
	struct ring_zc *next, *prev; /* of that socket */
	struct lease *lease;
	struct zc_buffer *buffer;
	char *head;
	uint64_t accepted_ns;
	uint32_t bytes; /* asked for, then accepted */
	int slot;
	uint16_t dst; /* index of the destination, or RING_OWN */
	uint8_t op;   /* what completed() is told */
	bool accepted;
	bool promised; /* its slot goes back to the transfer of sock */
} __attribute__((aligned(64)));

/* Of a socket, and the first member of what the mover has at c->mover. Zeroed is empty. */
struct ring_zc_sock {
	struct ring_zc *first;
	struct conn *next_waiting;
	uint64_t bytes;	      /* of its sends that the kernel is not finished with */
	unsigned nr;	      /* of those sends */
	unsigned nr_promised; /* free slots that are for its transfer */
	unsigned nr_wanted;   /* slots that it waits for */
	bool waiting;	      /* see ring_zc_wait() */
	bool admitted;	      /* its transfer was promised slots, see ring_zc_take_slot() */
};

/* What of zero-copy sends this kernel lacks. 0, or -errno and one sentence. */
int ring_zc_probe(char reason[REASON_MAX]);

/*
 * State of the calling worker. nr_slots buffers of slot_bytes are registered with the ring (none
 * for 0). 0 or -errno. ring_zc_exit() also after a failure.
 */
int ring_zc_init(struct worker *w, unsigned nr_slots, size_t slot_bytes);
void ring_zc_exit(struct worker *w);

/*
 * A send of c's transfer, to its own socket (dst RING_OWN) or to a destination; NULL when out of
 * memory. To be filled, and given to ring_zc_tag() after its entry was prepared, or back.
 */
struct ring_zc *ring_zc_new(struct conn *c, uint16_t dst, unsigned op);
void ring_zc_free(struct ring_zc *z);

/*
 * Gives z a registered buffer, and its memory. The first one of a transfer asks for nr of them, at
 * most as many as there are, all of which are promised to it until ring_zc_end_turn(): as often as
 * one comes back it may be taken again. Beyond those it gets what nobody else waits for. False when
 * there is none, or others have waited for it.
 */
bool ring_zc_take_slot(struct ring_zc *z, unsigned nr);
char *ring_zc_slot(const struct ring_zc *z);

/*
 * c's transfer got no registered buffer, of nr that it asked for. It is advanced again when there
 * are so many, in the order of asking, or, in the middle of the transfer, when one of its own comes
 * back; which is sure to come: each is held by a send, and every send has an end.
 */
void ring_zc_wait(struct conn *c, unsigned nr);

/* c's transfer is over: what was promised to it and is free, or comes back, is for all again. */
void ring_zc_end_turn(struct conn *c);

/* Names the prepared entry after z, asks it to report its usage, accounts `bytes` as in flight. */
void ring_zc_tag(struct ring_zc *z, struct io_uring_sqe *sqe, size_t bytes);

/* For struct ring_mover: sends outstanding on c's socket; c leaves them to themselves. */
unsigned ring_zc_held(const struct conn *c);
void ring_zc_forget(struct conn *c);

/* For the driver: a completion that names a send. */
void ring_zc_completed(struct worker *w, struct ring_zc *z, const struct io_uring_cqe *cqe);

#endif
