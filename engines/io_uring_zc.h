/* SPDX-License-Identifier: MIT */
/*
 * Inside of engine io_uring_zc: the state of a connection. io_uring_zc.c sends files,
 * io_uring_zc_relay.c moves from socket to sockets.
 */
#ifndef IOLAB_IO_URING_ZC_H
#define IOLAB_IO_URING_ZC_H

#include "ring_zc.h"

#include <sys/socket.h>

enum {
	OPT_SOURCE = COPT_NR,
	OPT_HEAD,
	OPT_CHUNK,
	OPT_INFLIGHT,
	OPT_REGISTERED,
	OPT_RING
};

/* What the mover tells its operations by. */
enum {
	OP_READ,      /* file to registered buffer */
	OP_MEMORY,    /* memory pieces, by an ordinary send */
	OP_PAUSE,     /* a timeout, before a send is tried again */
	OP_BODY,      /* zero-copy send, of the head as well with head=sendmsg */
	OP_RECV_PART, /* from the source of a relay */
	OP_SEND_PART, /* to one of its destinations, without copying */
	OP_COPY_PART, /* the same, by an ordinary send */
	OP_SEND_IOV,
};

/* A transfer from a socket: the next buffer is received while the last one is sent. */
struct zc_relay {
	struct zc_pool *pool;
	struct zc_buffer *in, *out;
	uint16_t nr_sends; /* in flight */
	bool receiving, received;
	bool eof;
	bool waive; /* the rest of this round goes by copy */
	int error;
};

struct zc_move {
	struct ring_zc_sock sock; /* first, see ring_zc.h */
	struct zc_relay relay;
	size_t part;	 /* bytes of the file in this part */
	uint8_t nr_ops;	 /* of this part, in flight */
	bool refused;	 /* for want of memory that may be locked */
	size_t part_max; /* bytes of a send that there was room for; 0: a chunk */
	struct __kernel_timespec pause;
	int error;
	struct msghdr msg;
	struct iovec iov[2];
};

/*
 * MSG_EOR: the next send begins an skb of its own. Else its notification would be joined to this
 * one's (io_link_skb(), io_uring/notif.c, Linux 6.10), and both would come when the last byte of
 * the whole stream is acknowledged: who waits for the first would wait for a delayed ACK, 40 ms.
 * And MSG_MORE would hold the end of this one back while the next waits for its turn.
 */
static inline int zc_send_flags(void)
{
	return MSG_NOSIGNAL | MSG_WAITALL | MSG_EOR;
}

/* start() and completed() of a transfer with destinations; what it holds is dropped. */
int zc_relay_start(struct conn *c, struct zc_move *m);
int zc_relay_completed(struct conn *c, struct zc_move *m, unsigned op, uint16_t dst, int res);
void zc_relay_release(struct zc_relay *r);

#endif
