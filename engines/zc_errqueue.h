/* SPDX-License-Identifier: MIT */
/*
 * The MSG_ZEROCOPY sends of one socket that the kernel has not finished with
 * (Documentation/networking/msg_zerocopy.rst). It numbers them per socket from 0, modulo 2^32, and
 * tells through the socket's error queue when it is finished with a range of them. One message may
 * cover many sends (notifications that wait in the queue are coalesced), and ranges may come out of
 * order: retransmitted, or split over routes with and without scatter-gather.
 */
#ifndef IOLAB_ZC_ERRQUEUE_H
#define IOLAB_ZC_ERRQUEUE_H

#include "engine.h"

struct zc_buffer;

/* One send. It has a reference on what it was sent from: one of lease and buffer is not NULL. */
struct zc_send {
	struct lease *lease;
	struct zc_buffer *buffer;
	uint64_t sent_ns; /* when it was accepted */
	uint32_t number;  /* the kernel's */
	uint32_t bytes;
};

/* Of a socket. Zeroed is empty; the array is on the heap. */
struct zc_sends {
	struct zc_send *send; /* in the order of their numbers */
	uint32_t nr, cap;
	uint32_t next; /* number the kernel gives the next one */
};

/* Room for one more, before the send, so that none is ever without its reference. 0 or -ENOMEM. */
int zc_sends_reserve(struct zc_sends *z);

/*
 * A send of `bytes` bytes was accepted: counts it and takes its reference on one of the two, the
 * other is NULL. After zc_sends_reserve().
 */
void zc_sends_add(struct zc_sends *z, struct counters *ctr, size_t bytes, struct lease *lease,
		  struct zc_buffer *buffer);

/*
 * The kernel is finished with sends lo to hi, both included; numbers that are not outstanding are
 * passed over. Counts them and drops their references. Returns how many there were.
 */
uint32_t zc_sends_finish(struct zc_sends *z, struct counters *ctr, uint32_t lo, uint32_t hi,
			 bool copied, uint64_t now_ns);

/* Reads the error queue of fd until it is empty. Sends finished, or -errno. */
int zc_sends_reap(struct zc_sends *z, struct counters *ctr, int fd);

/* What is outstanding is from now on in the account of `to`, and no longer in that of `from`. */
void zc_sends_account(const struct zc_sends *z, struct counters *from, struct counters *to);

/* Drops all references; the kernel keeps its own to pages it still holds. Zeroes z. */
void zc_sends_drop(struct zc_sends *z, struct counters *ctr);

#endif
