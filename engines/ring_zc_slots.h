/* SPDX-License-Identifier: MIT */
/*
 * Inside of ring_zc.c: registered buffers ("slots") that zero-copy sends are made from, and which
 * transfer gets them. A send holds its slot until the receiver has acknowledged the last of its
 * bytes, and a receiver may delay that by 40 ms while less than two segments are not acknowledged
 * (__tcp_ack_snd_check(), net/ipv4/tcp_input.c). What ends that wait early is the next send on the
 * same connection. So slots are promised to a transfer as a whole: one that begins has as many as
 * keep it going until its end, and the others wait for their turn. Were they handed out one by one,
 * each connection would have one, and nothing to end its wait with (docs/zero-copy.md).
 *
 * All of it belongs to the calling worker's thread.
 */
#ifndef IOLAB_RING_ZC_SLOTS_H
#define IOLAB_RING_ZC_SLOTS_H

#include "ring_zc.h"

/*
 * Registers nr slots of `bytes` each with the worker's ring; none for 0. 0 or -errno, after a
 * message. ring_slots_exit() also after a failure.
 */
int ring_slots_init(struct worker *w, unsigned nr, size_t bytes);
void ring_slots_exit(void);

/* Gives z's slot back, if it has one: to the transfer that it was promised to, or to all. */
void ring_slots_put(struct ring_zc *z);

/* Advances who waits, in the order of asking, as far as slots came back or are promised no more. */
void ring_slots_wake(void);

/* c waits no more, and nothing is promised to it. */
void ring_slots_forget(struct conn *c);

#endif
