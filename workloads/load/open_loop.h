/* SPDX-License-Identifier: MIT */
/*
 * Open loop: requests are due at times of their own (arrivals.h), whatever the server does.
 *
 * A request that is due takes the connection that has had room for longest. When none has room it
 * waits, in order, and its wait counts: latency is from the time it was due to its complete
 * response. That a slow server is asked no less often is the whole point: a closed loop leaves out
 * those requests that would have suffered from a stall ("coordinated omission").
 *
 * Lateness is what the generator itself adds to that wait: from the later one of the time due and
 * the time the connection was seen to have room, to the send. It is included in the latency. Where
 * it is not small beside the latency, the client is what is being measured.
 *
 * Precision: the wait is epoll_pwait2(2) (Linux 5.11), a high-resolution timer and no spinning.
 * Its slack is the larger one of PR_SET_TIMERSLACK, set to 1 ns here, and 0.1% of the wait
 * (fs/select.c, select_estimate_accuracy()); so a wait of more than NEAR_NS is made in two, which
 * costs one more wake-up below 1,000 requests per second and leaves a slack of 1 us. What remains
 * is the kernel's wake-up of this thread.
 */
#ifndef IOLAB_LOAD_OPEN_LOOP_H
#define IOLAB_LOAD_OPEN_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "arrivals.h"
#include "hist.h"

struct conn;
struct epoll_event;
struct load;

/* A wait for longer than this ends this much too early, to be followed by an exact one. */
#define NEAR_NS 1000000ull

/*
 * What an open loop did in a slice, beside what any slice counts. Zero in a closed loop. Abandoned
 * are requests that were never sent, for the backlog was too long to work off, and such as a server
 * left unanswered when it closed, having announced that, too late for them to be asked again. In a
 * slice without errors nr_due is what the latencies count and nr_abandoned, together.
 */
struct open_result {
	double rate;		 /* asked for, per second; 0: closed loop */
	uint64_t nr_due;	 /* requests due in the window */
	uint64_t nr_unsent;	 /* due, not sent when the window ended */
	uint64_t nr_outstanding; /* sent, not answered when the window ended */
	uint64_t nr_abandoned;	 /* of nr_due, those never answered, nor an error: see below */
	/* Requests due and not answered at the window's begin, halfway, and at its end. */
	uint64_t nr_backlog[3];
	struct hist lateness; /* of requests due in the window, in ns */
};

/* State of a struct load; the fields are open_loop.c's. */
struct open_loop {
	double rate; /* of the next slice; 0: closed loop */
	struct arrivals next;
	uint64_t window_ns;	 /* its start: requests due before it are not recorded */
	uint64_t stop_ns;	 /* what is due from here on is not sent */
	uint64_t nr_due;	 /* before the window */
	uint64_t nr_left;	 /* after the window: due in time, and still not sent */
	struct open_result *res; /* of the slice, from its begin to its end; else NULL */
	struct hist *lateness;
	uint64_t *again; /* when requests were due that have to be asked again; oldest first */
	size_t nr_again;
	size_t room_again;  /* entries allocated */
	struct conn **ring; /* connections that had room when they were put in, oldest first */
	uint32_t first;
	uint32_t nr;
};

/*
 * Overload: at least 1% fewer were answered in the window (`nr_answered`) than were due in it, and
 * either requests were waiting unsent when it ended, or the backlog grew in both halves of the
 * window, in all by more than chance has Poisson arrivals do: two standard deviations of `nr_due`.
 * With many connections a server can fall behind for a whole window and leave nothing unsent.
 * A backlog alone may be one stall near the end.
 */
bool open_loop_is_overload(const struct open_result *res, uint64_t nr_answered);

/* Allocates. Returns 0 or -ENOMEM; open_loop_exit() is due in both cases. */
int open_loop_init(struct load *l);
void open_loop_exit(struct load *l);

/* Sets the rate of the next slices, 0 for a closed loop. 0, or -ENOSYS without epoll_pwait2(2). */
int open_loop_offer(struct load *l, double rate);

static inline bool is_open_loop(const struct open_loop *o)
{
	return o->rate > 0;
}

/* The phases of a slice; start and end of the window are given in CLOCK_MONOTONIC ns. */
void open_loop_begin(struct load *l, uint64_t start_ns, struct open_result *res);
void open_loop_window(struct load *l, uint64_t start_ns, struct open_result *res);
/* Halfway through the window, near enough: `now_ns` is the present. */
void open_loop_halfway(struct load *l, uint64_t now_ns, struct open_result *res);
void open_loop_window_end(struct load *l, uint64_t end_ns, struct open_result *res);
/* From here on nothing is sent, and what is not is abandoned. */
void open_loop_stop_sending(struct load *l);
void open_loop_end(struct load *l);

/*
 * The server closed and left requests of `c` unanswered, the first of which is `c->first`; it
 * announced that, so that they are asked again before all others, and their latencies still count
 * from when they were due. Nothing happens in a closed loop.
 */
void open_loop_ask_again(struct load *l, const struct conn *c);

/* A connection has room: it is given the oldest due request, or waits for one to become due. */
void open_loop_room(struct load *l, struct conn *c);

/* Sends what is due, as long as connections have room; a limited number at a time. */
void open_loop_send(struct load *l);

/* As epoll_wait(2), until a time or until a request becomes due that could be sent. */
int open_loop_wait(struct load *l, struct epoll_event *events, int room, uint64_t now_ns,
		   uint64_t until_ns);

#endif
