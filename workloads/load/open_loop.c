/* SPDX-License-Identifier: MIT */
/* The queue of an open loop is a cursor into its arrivals; what is kept are connections with room.
 */
#include "open_loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>

#include "clocks.h"
#include "conn.h"

/* Requests sent between two looks at what has arrived. */
#define SENDS_PER_TURN 64

/* The variance of a Poisson count is its mean, so that growth squared is compared with 4 means. */
static bool backlog_grew(const struct open_result *res)
{
	const uint64_t *nr = res->nr_backlog;

	if (nr[1] <= nr[0] || nr[2] <= nr[1])
		return false;
	double growth = (double)(nr[2] - nr[0]);
	return growth * growth > 4.0 * (double)res->nr_due;
}

bool open_loop_is_overload(const struct open_result *res, uint64_t nr_answered)
{
	if ((double)nr_answered > 0.99 * (double)res->nr_due)
		return false;
	return res->nr_unsent || backlog_grew(res);
}

int open_loop_init(struct load *l)
{
	struct open_loop *o = &l->open;

	arrivals_init(&o->next, l->cfg->arrivals, l->cfg->seed);
	o->ring = calloc(l->cfg->connections, sizeof(struct conn *));
	return o->ring ? 0 : -ENOMEM;
}

void open_loop_exit(struct load *l)
{
	free(l->open.ring);
	free(l->open.again);
}

int open_loop_offer(struct load *l, double rate)
{
	struct epoll_event event;
	const struct timespec none = {0};

	if (rate > 0) {
		if (epoll_pwait2(l->epfd, &event, 0, &none, NULL) < 0 && errno == ENOSYS)
			return -ENOSYS;
		/* Fails for no value above 0 (prctl(2)). */
		prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
	}
	l->open.rate = rate;
	return 0;
}

void open_loop_begin(struct load *l, uint64_t start_ns, struct open_result *res)
{
	struct open_loop *o = &l->open;

	o->window_ns = 0;
	if (!is_open_loop(o))
		return;
	for (uint32_t i = 0; i < l->nr_conns; i++)
		l->conns[i].waits_for_due = false;
	o->first = o->nr = 0;
	o->stop_ns = UINT64_MAX;
	o->nr_left = 0;
	o->nr_again = 0;
	o->res = res;
	o->lateness = NULL;
	arrivals_begin(&o->next, o->rate, start_ns);
}

static uint64_t backlog(const struct load *l, uint64_t now_ns)
{
	return l->nr_asked + l->open.nr_again + arrivals_before(&l->open.next, now_ns);
}

void open_loop_window(struct load *l, uint64_t start_ns, struct open_result *res)
{
	struct open_loop *o = &l->open;

	if (!is_open_loop(o))
		return;
	o->window_ns = start_ns;
	o->nr_due = o->next.nr + arrivals_before(&o->next, start_ns);
	o->lateness = &res->lateness;
	res->nr_backlog[0] = backlog(l, start_ns);
}

void open_loop_halfway(struct load *l, uint64_t now_ns, struct open_result *res)
{
	if (is_open_loop(&l->open))
		res->nr_backlog[1] = backlog(l, now_ns);
}

void open_loop_window_end(struct load *l, uint64_t end_ns, struct open_result *res)
{
	struct open_loop *o = &l->open;

	if (!is_open_loop(o))
		return;
	o->stop_ns = end_ns;
	o->nr_left = arrivals_before(&o->next, end_ns);
	res->rate = o->rate;
	res->nr_due = o->next.nr + o->nr_left - o->nr_due;
	o->nr_left += o->nr_again;
	res->nr_unsent = o->nr_left;
	res->nr_outstanding = l->nr_asked;
	res->nr_backlog[2] = backlog(l, end_ns);
}

/* A request is given up. What was due before the window counts nowhere. */
static void abandon(struct open_loop *o, uint64_t due_ns)
{
	o->res->nr_abandoned += due_ns >= o->window_ns;
}

void open_loop_stop_sending(struct load *l)
{
	struct open_loop *o = &l->open;

	if (!is_open_loop(o))
		return;
	/* Of arrivals the latest are left: those due before the window only after all due in it. */
	uint64_t nr = o->nr_left - o->nr_again;
	o->res->nr_abandoned += nr < o->res->nr_due ? nr : o->res->nr_due;
	for (size_t i = 0; i < o->nr_again; i++)
		abandon(o, o->again[i]);
	o->nr_again = 0;
	o->nr_left = 0;
	o->lateness = NULL;
}

void open_loop_end(struct load *l)
{
	l->open.res = NULL;
}

/* Room for `nr` more requests to be asked again. False without memory. */
static bool grow_again(struct open_loop *o, size_t nr)
{
	if (o->nr_again + nr <= o->room_again)
		return true;
	size_t room = 2 * (o->nr_again + nr);
	uint64_t *grown = realloc(o->again, room * sizeof(*grown));
	if (!grown)
		return false;
	o->again = grown;
	o->room_again = room;
	return true;
}

/* Keeps the order: those of one connection are in order, and few of them meet those of another. */
static void insert_again(struct open_loop *o, uint64_t due_ns)
{
	size_t at = o->nr_again++;

	for (; at && o->again[at - 1] > due_ns; at--)
		o->again[at] = o->again[at - 1];
	o->again[at] = due_ns;
}

void open_loop_ask_again(struct load *l, const struct conn *c)
{
	struct open_loop *o = &l->open;

	if (!is_open_loop(o) || !o->res)
		return;
	bool can = l->issuing && grow_again(o, c->nr_asked);
	for (uint32_t i = 0; i < c->nr_asked; i++) {
		uint64_t due_ns = c->ring[(c->first + i) & l->ring_mask].start_ns;
		if (can)
			insert_again(o, due_ns);
		else
			abandon(o, due_ns);
	}
	/* Until the window has ended, nr_left is not counted. */
	if (can && o->stop_ns != UINT64_MAX)
		o->nr_left += c->nr_asked;
}

static void push(struct open_loop *o, struct load *l, struct conn *c)
{
	o->ring[(o->first + o->nr++) % l->nr_conns] = c;
	c->waits_for_due = true;
}

static struct conn *pop(struct open_loop *o, const struct load *l)
{
	struct conn *c = o->ring[o->first];

	o->first = (o->first + 1) % l->nr_conns;
	o->nr--;
	c->waits_for_due = false;
	return c;
}

static bool is_due(const struct open_loop *o, uint64_t now_ns)
{
	return o->nr_again || (o->next.next_ns <= now_ns && o->next.next_ns < o->stop_ns);
}

static uint64_t pop_again(struct open_loop *o)
{
	uint64_t due_ns = o->again[0];

	memmove(o->again, o->again + 1, --o->nr_again * sizeof(*o->again));
	return due_ns;
}

/* The oldest arrival that has not been sent; its lateness is noted. */
static uint64_t pop_arrival(struct load *l, const struct conn *c)
{
	struct open_loop *o = &l->open;
	uint64_t due_ns = o->next.next_ns;
	uint64_t possible_ns = due_ns > c->room_since_ns ? due_ns : c->room_since_ns;

	if (o->lateness && due_ns >= o->window_ns)
		hist_add(o->lateness, l->now_ns - possible_ns);
	arrivals_advance(&o->next);
	return due_ns;
}

/* Sends the oldest due request on a connection that has room. */
static void send_due(struct load *l, struct conn *c)
{
	struct open_loop *o = &l->open;
	uint64_t due_ns = o->nr_again ? pop_again(o) : pop_arrival(l, c);

	o->nr_left -= o->nr_left > 0;
	conn_ask(l, c, 1, due_ns);
}

void open_loop_room(struct load *l, struct conn *c)
{
	struct open_loop *o = &l->open;

	if (c->waits_for_due)
		return;
	c->room_since_ns = l->now_ns;
	/* With others waiting, it is not its turn; the requests follow when this turn's events are
	 * handled. */
	while (!o->nr && is_due(o, l->now_ns) && conn_has_room(l, c))
		send_due(l, c);
	if (conn_has_room(l, c))
		push(o, l, c);
}

void open_loop_send(struct load *l)
{
	struct open_loop *o = &l->open;

	for (int i = 0; o->nr && i < SENDS_PER_TURN; i++) {
		l->now_ns = mono_ns();
		if (!is_due(o, l->now_ns))
			return;
		struct conn *c = pop(o, l);
		/* It may have been lost since it was put in. */
		if (!conn_has_room(l, c))
			continue;
		send_due(l, c);
		if (conn_has_room(l, c) && !c->waits_for_due)
			push(o, l, c);
	}
}

static uint64_t wait_ns(const struct open_loop *o, uint64_t now_ns, uint64_t until_ns)
{
	bool could_send = o->nr && o->next.next_ns < o->stop_ns;

	if (o->nr && o->nr_again)
		return 0;
	if (could_send && o->next.next_ns < until_ns)
		until_ns = o->next.next_ns;
	if (until_ns <= now_ns)
		return 0;
	uint64_t wait = until_ns - now_ns;
	/* Early by more than its own slack, and not beyond NEAR_NS by a hair only. */
	return could_send && wait > NEAR_NS ? wait - NEAR_NS / 2 - wait / 128 : wait;
}

int open_loop_wait(struct load *l, struct epoll_event *events, int room, uint64_t now_ns,
		   uint64_t until_ns)
{
	uint64_t wait = wait_ns(&l->open, now_ns, until_ns);
	const struct timespec timeout = {
		.tv_sec = (time_t)(wait / NS_PER_S),
		.tv_nsec = (long)(wait % NS_PER_S),
	};

	return epoll_pwait2(l->epfd, events, room, &timeout, NULL);
}
