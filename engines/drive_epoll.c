// SPDX-License-Identifier: MIT
/*
 * Driver: readiness by epoll, edge-triggered by default: each socket is registered once for all,
 * so a request costs no epoll_ctl; the price is that nothing may be left unread behind an edge:
 *
 * - a receive that fills less than its buffer has drained the socket (epoll(7), "Questions and
 *   answers"), unless a hang-up was reported, which then is still to be read as end of file;
 * - a mover goes on until the kernel refuses bytes, which arms the next EPOLLOUT edge
 *   (SOCK_NOSPACE, net/core/stream.c), or has had its turn and is queued to be called again.
 *
 * Level-triggered, a socket is watched for what its step waits for. One that the peer has left
 * stays reported whatever it is watched for, so it is not watched at all while nobody wants its
 * bytes.
 *
 * Linux 2.6 (EPOLLRDHUP: 2.6.17).
 */
#include "drive_epoll.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
	ACCEPT_BATCH = 64,
	STEPS_PER_TURN = 64,
};

/* When descriptors or memory run out, the listener is left alone this long. */
#define ACCEPT_PAUSE_NS 100000000ull

void drive_epoll_tune(struct worker *w, bool edge, uint64_t busy_poll_ns)
{
	ep_of(w)->level = !edge;
	ep_of(w)->busy_poll_ns = busy_poll_ns;
}

int drive_epoll_init(struct worker *w)
{
	struct ep_worker *ep = calloc(1, sizeof(*ep));
	int res;

	if (!ep)
		return -ENOMEM;
	w->priv = ep;
	ep->again_tail = &ep->again;
	ep->buf = malloc(EP_RECV_BYTES);
	ep->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (!ep->buf || ep->epfd < 0)
		return ep->buf ? -errno : -ENOMEM;
	res = ep_watch(ep, EPOLL_CTL_ADD, w->listen_fd, EPOLLIN, NULL);
	if (!res)
		res = ep_watch(ep, EPOLL_CTL_ADD, w->wake_fd, EPOLLIN, w);
	ep->listening = true;
	if (!res && w->engine->mover->worker_init)
		res = w->engine->mover->worker_init(w);
	return res;
}

void drive_epoll_exit(struct worker *w)
{
	struct ep_worker *ep = ep_of(w);

	if (!ep)
		return;
	if (w->engine->mover->worker_exit)
		w->engine->mover->worker_exit(w);
	if (ep->epfd >= 0)
		close(ep->epfd);
	free(ep->buf);
	free(ep);
	w->priv = NULL;
}

void ep_queue_again(struct conn *c)
{
	struct ep_worker *ep = ep_of(c->w);
	struct ep_conn *e = c->priv;

	if (e->queued)
		return;
	e->queued = true;
	e->next = NULL;
	*ep->again_tail = c;
	ep->again_tail = &e->next;
}

/* Takes the queue as it stands, so that what is queued meanwhile waits for the next wake-up. */
static void run_again(struct ep_worker *ep)
{
	ep->running = ep->again;
	ep->again = NULL;
	ep->again_tail = &ep->again;
	while (ep->running) {
		struct conn *c = ep->running;
		struct ep_conn *e = c->priv;

		ep->running = e->next;
		e->queued = false;
		ep_advance(c);
	}
}

/* Takes c out of the list at *at; returns where the pointer to its successor stands now. */
static struct conn **unlink_from(struct conn **at, const struct conn *c)
{
	while (*at && *at != c)
		at = &((struct ep_conn *)(*at)->priv)->next;
	if (*at)
		*at = ((struct ep_conn *)c->priv)->next;
	return at;
}

/* From here on another thread may have the connection: nothing of ours may name it. */
void ep_forget(struct ep_worker *ep, struct conn *c)
{
	struct ep_conn *e = c->priv;
	struct conn **at;

	for (int i = ep->at; i < ep->nr; i++)
		if (ep->events[i].data.ptr == c)
			ep->events[i].data.ptr = &ep->nr; /* see handle_events() */
	ep_unhold(c);
	if (!e->queued)
		return;
	unlink_from(&ep->running, c);
	at = unlink_from(&ep->again, c);
	if (ep->again_tail == &e->next)
		ep->again_tail = at;
}

static void free_dead(struct ep_worker *ep)
{
	while (ep->dead) {
		struct conn *c = ep->dead;
		struct ep_conn *e = c->priv;

		ep->dead = e->next;
		conn_free(c);
	}
}

/* A chunked upload at full speed always has a next step: others must have their turn, too. */
void ep_advance(struct conn *c)
{
	struct ep_conn *e = c->priv;
	int steps = 0;

	if (e->finished)
		return;
	for (;;) {
		bool leaves = c->step == STEP_MOVE;

		if (!ep_step(c)) {
			if (leaves)
				return;
			break;
		}
		if (++steps == STEPS_PER_TURN) {
			ep_queue_again(c);
			break;
		}
	}
	ep_rewatch_all(c);
}

/* The socket of a destination can take more, or has given notifications: its writer goes on. */
static void wake_writer(struct conn *c, uint32_t events)
{
	struct conn *writer = c->writer;
	struct ep_conn *e = writer->priv;
	uint8_t want = e->want;

	if (writer->step != STEP_XFER)
		return;
	if ((events & EPOLLOUT && (want == MOVED_WANT_DST || want == MOVED_WANT_BOTH)) ||
	    (events & EPOLLERR && want == MOVED_WANT_ZC))
		ep_advance(writer);
}

/* Whether a connection in STEP_XFER has something to do after these events of its own socket. */
static bool concerns_transfer(const struct conn *c, uint32_t events)
{
	const struct ep_conn *e = c->priv;

	if (!c->xfer.nr_dst) /* input can wait until the response is out */
		return events & ~(uint32_t)(EPOLLIN | EPOLLRDHUP);
	return events & ~(uint32_t)EPOLLOUT &&
	       (e->want == MOVED_WANT_SRC || e->want == MOVED_WANT_BOTH ||
		e->want == MOVED_WANT_BATCH);
}

static void on_event(struct conn *c, uint32_t events)
{
	struct ep_conn *e = c->priv;
	const struct mover *mover = c->w->engine->mover;

	if (e->finished)
		return;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP))
		e->readable = true;
	if (events & (EPOLLRDHUP | EPOLLHUP))
		e->hup = true;
	if (events & EPOLLHUP)
		e->gone = true;
	if (e->connecting) { /* the peer may have sent, and closed, in the same breath */
		if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
			ep_connected(c);
		return;
	}
	if (events & EPOLLERR) { /* notifications of zero-copy sends arrive as an error, too */
		e->readable = true;
		if (mover->reap && mover->reap(c) < 0)
			e->hup = true;
	}
	if (c->writer)
		wake_writer(c, events);
	if (e->finished)
		return;
	if (c->step == STEP_XFER && !concerns_transfer(c, events))
		ep_rewatch(c);
	else
		ep_advance(c);
}

static void adopt(struct worker *w, int fd)
{
	struct conn *c = conn_open(w, fd);

	if (!c) {
		close(fd);
		return;
	}
	if (ep_attach(c))
		ep_give_up(c);
	if (c->step == STEP_CLOSE)
		ep_close(c);
	ep_rewatch(c);
}

static void pause_accept(struct worker *w, bool pause)
{
	struct ep_worker *ep = ep_of(w);

	if (ep->listening)
		ep_watch(ep, EPOLL_CTL_MOD, w->listen_fd, pause ? 0 : EPOLLIN, NULL);
	ep->accept_again_ns = pause ? w->now_ns + ACCEPT_PAUSE_NS : 0;
}

static void on_listener(struct worker *w)
{
	for (int i = 0; i < ACCEPT_BATCH; i++) {
		int fd = accept4(w->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		count_one(w->ctr, sys_accept);
		if (fd >= 0) {
			adopt(w, fd);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			pause_accept(w, true);
		if (errno != ECONNABORTED && errno != EINTR)
			return;
	}
}

static void stop_listening(struct worker *w)
{
	struct ep_worker *ep = ep_of(w);

	on_listener(w); /* who is in the backlog already has been promised an answer */
	ep_watch(ep, EPOLL_CTL_DEL, w->listen_fd, 0, NULL);
	ep->listening = false;
}

static void on_wake(struct worker *w)
{
	eventfd_t ignored;

	eventfd_read(w->wake_fd, &ignored);
}

/* Looks for events without sleeping, as long as was asked for; 0 when none came. */
static int busy_poll(struct worker *w, uint64_t wait_ns)
{
	struct ep_worker *ep = ep_of(w);
	uint64_t until_ns;
	int nr = 0;

	if (!ep->busy_poll_ns || !wait_ns)
		return 0;
	until_ns = clock_now_ns() + (wait_ns < ep->busy_poll_ns ? wait_ns : ep->busy_poll_ns);
	do {
		nr = epoll_wait(ep->epfd, ep->events, EP_EVENTS, 0);
		count_one(w->ctr, sys_wait);
	} while (!nr && clock_now_ns() < until_ns);
	return nr > 0 ? nr : 0;
}

static int wait_events(struct worker *w)
{
	struct ep_worker *ep = ep_of(w);
	uint64_t wait_ns = ep->again ? 0 : worker_wait_ns(w);
	int nr;

	if (ep->accept_again_ns && wait_ns > ACCEPT_PAUSE_NS)
		wait_ns = ACCEPT_PAUSE_NS;
	if (ep->held && wait_ns > BATCH_WAIT_MS * 1000000ull)
		wait_ns = BATCH_WAIT_MS * 1000000ull;
	nr = busy_poll(w, wait_ns);
	if (nr)
		return nr;
	nr = epoll_wait(ep->epfd, ep->events, EP_EVENTS, (int)((wait_ns + 999999) / 1000000));
	count_one(w->ctr, sys_wait);
	return nr < 0 && errno != EINTR ? -errno : nr < 0 ? 0 : nr;
}

static void handle_events(struct worker *w, int nr)
{
	struct ep_worker *ep = ep_of(w);

	ep->nr = nr;
	for (ep->at = 0; ep->at < nr;) {
		struct epoll_event *ev = &ep->events[ep->at++];

		if (!ev->data.ptr)
			on_listener(w);
		else if (ev->data.ptr == w)
			on_wake(w);
		else if (ev->data.ptr != &ep->nr) /* a connection that has left */
			on_event(ev->data.ptr, ev->events);
	}
	ep->nr = 0;
}

int drive_epoll_run(struct worker *w)
{
	struct ep_worker *ep = ep_of(w);
	struct conn *c;

	while (!worker_finished(w)) {
		int nr = wait_events(w);

		if (nr < 0)
			return nr;
		worker_tick(w, clock_now_ns());
		if (ep->accept_again_ns && w->now_ns >= ep->accept_again_ns)
			pause_accept(w, false);
		handle_events(w, nr);
		if (ep->held && w->now_ns >= ep->held_until_ns)
			ep_release_held(ep);
		run_again(ep);
		if (ep->listening && atomic_load_explicit(&w->draining, memory_order_acquire))
			stop_listening(w);
		while ((c = worker_next(w)))
			ep_advance(c);
		free_dead(ep);
	}
	return 0;
}
