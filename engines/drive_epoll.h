/* SPDX-License-Identifier: MIT */
/*
 * Inside of the readiness driver: its state of a worker and of a connection, and what its files
 * call of each other. drive_epoll.c has the loop, drive_epoll_watch.c what is waited for,
 * drive_epoll_steps.c the steps of a connection.
 */
#ifndef IOLAB_DRIVE_EPOLL_H
#define IOLAB_DRIVE_EPOLL_H

#include "engine.h"

#include <sys/epoll.h>

enum {
	EP_EVENTS = 256,
	EP_RECV_BYTES = 32 << 10,
};

/* Of a worker, at w->priv. */
struct ep_worker {
	int epfd;
	bool listening;
	bool level; /* level-triggered */
	uint64_t busy_poll_ns;
	uint64_t accept_again_ns; /* 0: not paused */
	struct conn *again, **again_tail;
	struct conn *running; /* what is left of an `again` that is being worked through */
	struct conn *dead;
	struct conn *held; /* transfers that wait, or waited, for a batch or for room */
	uint64_t held_until_ns;
	char *buf;
	int at, nr; /* the batch: events[at..nr) are still to be handled */
	struct epoll_event events[EP_EVENTS];
};

/* Of a connection, at c->priv. */
struct ep_conn {
	struct conn *next; /* in `again` or, when finished, in `dead` */
	struct conn *next_held;
	bool readable; /* input may be waiting in the socket */
	bool hup;      /* the peer is known to have closed its side, or reset */
	bool gone;     /* both sides are closed, or it was reset */
	uint8_t told;  /* conn_hup() was called: bit per enum hangup */
	uint8_t want;  /* enum moved: what the transfer waits for */
	bool moving;   /* the transfer has had its first move() */
	bool queued;   /* in `again` */
	bool held;     /* in `held` */
	bool connecting;
	bool lingering;
	bool finished;	  /* fd closed, waits in `dead` for the end of the batch */
	uint32_t watched; /* level-triggered: events; 0: not registered */
};

_Static_assert(sizeof(struct ep_conn) <= DRIVE_EPOLL_BYTES, "enlarge DRIVE_EPOLL_BYTES");

static inline struct ep_worker *ep_of(const struct worker *w)
{
	return w->priv;
}

/* Does what the connection's step asks for, as far as it can. After this c may be gone. */
void ep_advance(struct conn *c);

/* Has the connection advanced again in this turn of the loop, behind the others. */
void ep_queue_again(struct conn *c);

/* From here on another thread may have the connection: nothing of the worker's may name it. */
void ep_forget(struct ep_worker *ep, struct conn *c);

/* ------------------------------------------------------------------------------ waiting */

/* epoll_ctl(2): 0 or -errno. */
int ep_watch(struct ep_worker *ep, int op, int fd, uint32_t events, void *ptr);

/* Level-triggered: watches for what is waited for now, if that is something else than before. */
void ep_rewatch(struct conn *c);

/* The same for the connection and those it writes to. */
void ep_rewatch_all(struct conn *c);

/* A transfer waits for a batch: it stays in the worker's list until the time is over. */
void ep_hold(struct conn *c);
void ep_unhold(struct conn *c);

/* Time is over: who still waits for a batch takes what there is. */
void ep_release_held(struct ep_worker *ep);

/* ------------------------------------------------------------------------------ steps */

/* One step. True to go on with the next at once. */
bool ep_step(struct conn *c);

/* 0, or -errno with nothing registered; the mover's exit() follows in any case. */
int ep_attach(struct conn *c);

/* The connection is of no use: it is to be closed by a reset. */
void ep_give_up(struct conn *c);

/* STEP_CLOSE: ends it, or goes on lingering. */
void ep_close(struct conn *c);

/* The outcome of a connect is there. */
void ep_connected(struct conn *c);

#endif
