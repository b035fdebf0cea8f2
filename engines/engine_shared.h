/* SPDX-License-Identifier: MIT */
/* Part of engine.h: the stock drivers, and what movers and drivers share. */
#ifndef IOLAB_ENGINE_SHARED_H
#define IOLAB_ENGINE_SHARED_H

#include "engine_conn.h"
#include "engine_options.h"

#include <sys/socket.h>

struct mover;

/*
 * Readiness: epoll, edge-triggered, each socket registered once. conn_bytes must be
 * DRIVE_EPOLL_BYTES plus the mover's.
 */
#define DRIVE_EPOLL_BYTES 64
int drive_epoll_init(struct worker *w);

/*
 * Between init and run. edge: sockets are watched edge-triggered, for all events and once; else
 * level-triggered, for what their step waits for, with an epoll_ctl when that changes.
 * busy_poll_ns: so long is looked for events before the thread sleeps for them.
 */
void drive_epoll_tune(struct worker *w, bool edge, uint64_t busy_poll_ns);
int drive_epoll_run(struct worker *w);
void drive_epoll_exit(struct worker *w);

/*
 * Blocking: a thread per connection, one mutex per worker around the skeleton, never around I/O.
 * conn_bytes must be DRIVE_BLOCKING_BYTES plus the mover's.
 */
#define DRIVE_BLOCKING_BYTES 576
int drive_blocking_init(struct worker *w);
int drive_blocking_run(struct worker *w);
void drive_blocking_exit(struct worker *w);

/* Movers that more than one engine uses. */
extern const struct mover move_copy;

/* For movers: MSG_MORE for a piece that others of the same transfer follow, 0 without hold=more. */
static inline int hold_flag(const struct conn *c)
{
	return c->w->opt[COPT_HOLD] == HOLD_MORE ? MSG_MORE : 0;
}

/* Bytes of a TCP segment at most: loopback's are so long. */
#define SEGMENT_MAX 65536

/*
 * For movers: the same for a part of a file that goes on in a later call. None in a send buffer
 * that no second segment fits in: what is held back fills it as one, and a receiver acknowledges
 * less than two only after 40 ms (__tcp_ack_snd_check, net/ipv4/tcp_input.c; TCP_DELACK_MIN), which
 * is every time when there is room again.
 */
static inline int hold_part_flag(const struct conn *c)
{
	int64_t sndbuf_bytes = c->w->opt[COPT_SNDBUF];

	return sndbuf_bytes && sndbuf_bytes < SEGMENT_MAX ? 0 : hold_flag(c);
}

/* For drivers: with hold=cork, before the first and after the last piece of a file's transfer. */
void xfer_cork(struct conn *c, bool on);

/*
 * For movers: sends the memory pieces to every living destination, flags as for sendmsg(2).
 * MOVED_ALL, MOVED_WANT_DST, MOVED_TURN (interrupted) or -errno.
 */
int send_iov(struct conn *c, int flags);

/* What send_with_body() says besides: part of it went; only another call can tell why no more. */
enum {
	SENT_SHORT = 100
};

/*
 * For movers of files: one sendmsg(2) of the memory pieces and, behind them, `len` bytes at `body`,
 * the next ones of the body, to the connection's own socket. Advances the transfer by what went.
 * MOVED_ALL, SENT_SHORT, MOVED_WANT_DST, MOVED_TURN (interrupted) or -errno.
 */
int send_with_body(struct conn *c, const void *body, size_t len);

/*
 * For movers of sockets: one round, len bytes of buf to every living destination. MOVED_ALL when
 * each has all of it (`at` is 0 again), MOVED_WANT_DST, MOVED_TURN, or -EPIPE when none lives. The
 * same buf and len must come again until MOVED_ALL. Does not advance the transfer.
 */
int send_round(struct conn *c, const char *buf, size_t len, int flags);

/* For drivers, when a socket source has ended: shuts writing down if the transfer asks for it. */
void xfer_shut_dsts(struct conn *c);

/* For drivers: a socket for STEP_CONNECT with the common options set, or -errno. */
int outgoing_socket(struct conn *c, int flags);

/* For movers of mappings: 0 while the file still holds the bytes up to off, else -EPIPE. */
int mapping_intact(struct conn *c, uint64_t end_off);

#endif
