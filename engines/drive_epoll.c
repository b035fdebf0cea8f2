// SPDX-License-Identifier: MIT
/*
 * Driver: readiness by epoll, edge-triggered. Each socket is registered once for input and output,
 * so a request costs no epoll_ctl; the price is that nothing may be left unread behind an edge:
 *
 * - a receive that fills less than its buffer has drained the socket (epoll(7), "Questions and
 *   answers"), unless a hang-up was reported, which then is still to be read as end of file;
 * - a mover goes on until the kernel refuses bytes, which arms the next EPOLLOUT edge
 *   (SOCK_NOSPACE, net/core/stream.c), or has had its turn and is queued to be called again.
 *
 * Linux 2.6 (EPOLLRDHUP: 2.6.17).
 */
#include "engine.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	NR_EVENTS = 256,
	RECV_BYTES = 32 << 10,
	ACCEPT_BATCH = 64,
};

/* When descriptors or memory run out, the listener is left alone this long. */
#define ACCEPT_PAUSE_NS 100000000ull

struct ep_worker {
	int epfd;
	bool listening;
	uint64_t accept_again_ns; /* 0: not paused */
	struct conn *again, **again_tail;
	struct conn *dead;
	char *buf;
	struct epoll_event events[NR_EVENTS];
};

struct ep_conn {
	struct conn *next; /* in `again` or, when finished, in `dead` */
	char *unfed;	   /* heap copy of received bytes the skeleton has not taken yet */
	uint32_t unfed_off, unfed_len;
	bool readable; /* input may be waiting in the socket */
	bool hup;      /* the peer is known to have closed or reset */
	bool queued;   /* in `again` */
	bool lingering;
	bool finished; /* fd closed, waits in `dead` for the end of the batch */
};
_Static_assert(sizeof(struct ep_conn) <= DRIVE_EPOLL_BYTES, "enlarge DRIVE_EPOLL_BYTES");

static void advance(struct conn *c);

static struct ep_worker *ep_of(const struct worker *w)
{
	return w->priv;
}

static int watch(struct ep_worker *ep, int op, int fd, uint32_t events, void *ptr)
{
	struct epoll_event ev = {.events = events, .data.ptr = ptr};

	return epoll_ctl(ep->epfd, op, fd, &ev) ? -errno : 0;
}

int drive_epoll_init(struct worker *w)
{
	struct ep_worker *ep = calloc(1, sizeof(*ep));
	int res;

	if (!ep)
		return -ENOMEM;
	w->priv = ep;
	ep->again_tail = &ep->again;
	ep->buf = malloc(RECV_BYTES);
	ep->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (!ep->buf || ep->epfd < 0)
		return ep->buf ? -errno : -ENOMEM;
	res = watch(ep, EPOLL_CTL_ADD, w->listen_fd, EPOLLIN, NULL);
	if (!res)
		res = watch(ep, EPOLL_CTL_ADD, w->wake_fd, EPOLLIN, w);
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

static void queue_again(struct conn *c)
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
	struct conn *c = ep->again;

	ep->again = NULL;
	ep->again_tail = &ep->again;
	while (c) {
		struct ep_conn *e = c->priv;
		struct conn *next = e->next;

		e->queued = false;
		advance(c);
		c = next;
	}
}

/*
 * Closes the socket; the memory lives on to the end of the batch, because a later event of the same
 * epoll_wait may still name it. A queued connection is finished when its turn in `again` comes.
 */
static void finish(struct conn *c)
{
	struct ep_worker *ep = ep_of(c->w);
	struct ep_conn *e = c->priv;

	if (e->finished || e->queued)
		return;
	if (c->w->engine->mover->exit)
		c->w->engine->mover->exit(c);
	close(c->fd);
	count_one(c->ctr, sys_close);
	free(e->unfed);
	e->unfed = NULL;
	e->finished = true;
	e->next = ep->dead;
	ep->dead = c;
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

/* Discards input until the peer closes. True when there is nothing more to wait for. */
static bool linger_over(struct conn *c)
{
	struct ep_worker *ep = ep_of(c->w);
	struct ep_conn *e = c->priv;
	ssize_t n;

	if (!e->lingering) {
		e->lingering = true;
		e->readable = true;
		if (shutdown(c->fd, SHUT_WR))
			return true;
		count_one(c->ctr, sys_other);
	}
	while (e->readable) {
		n = recv(c->fd, ep->buf, RECV_BYTES, 0);
		count_one(c->ctr, sys_recv);
		if (n < 0 && errno == EAGAIN)
			e->readable = false;
		else if (n <= 0)
			return true;
	}
	return false;
}

static void do_close(struct conn *c)
{
	const struct mover *mover = c->w->engine->mover;
	struct linger rst = {.l_onoff = 1, .l_linger = 0};

	if (!c->closing)
		conn_closing(c);
	if (c->close_how == CLOSE_ABORT)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &rst, sizeof(rst));
	else if (c->close_how == CLOSE_LINGER && !linger_over(c))
		return;
	else if (mover->held && mover->held(c))
		return; /* closing now would lose the notifications; the skeleton bounds the wait */
	finish(c);
}

/* Keeps what the skeleton did not take. Pipelining only, so a heap copy is good enough. */
static void keep_unfed(struct conn *c, const char *buf, size_t len)
{
	struct ep_conn *e = c->priv;

	e->unfed = malloc(len);
	if (!e->unfed) {
		conn_done(c, -ENOMEM);
		return;
	}
	memcpy(e->unfed, buf, len);
	e->unfed_off = 0;
	e->unfed_len = (uint32_t)len;
}

static void feed_unfed(struct conn *c)
{
	struct ep_conn *e = c->priv;
	size_t used = conn_feed(c, e->unfed + e->unfed_off, e->unfed_len);

	e->unfed_off += (uint32_t)used;
	e->unfed_len -= (uint32_t)used;
	if (!e->unfed_len) {
		free(e->unfed);
		e->unfed = NULL;
	}
}

/* STEP_RECV. True when the step may have changed, false to wait for input. */
static bool do_recv(struct conn *c)
{
	struct ep_worker *ep = ep_of(c->w);
	struct ep_conn *e = c->priv;
	size_t used;
	ssize_t n;

	if (e->unfed) {
		feed_unfed(c);
		return true;
	}
	if (!e->readable)
		return false;
	n = recv(c->fd, ep->buf, RECV_BYTES, 0);
	count_one(c->ctr, sys_recv);
	if (n < 0 && errno == EAGAIN) {
		count_one(c->ctr, eagain);
		e->readable = false;
		return false;
	}
	if (n <= 0) { /* a reset is the end of input as well: nothing can be answered */
		e->hup |= n < 0;
		conn_feed(c, NULL, 0);
		return true;
	}
	if (n < RECV_BYTES && !e->hup)
		e->readable = false;
	used = conn_feed(c, ep->buf, (size_t)n);
	if (used < (size_t)n)
		keep_unfed(c, ep->buf + used, (size_t)n - used);
	return true;
}

/* STEP_XFER. True when the transfer ended, false to wait. */
static bool do_move(struct conn *c)
{
	int res = c->w->engine->mover->move(c);

	if (res == MOVED_TURN)
		queue_again(c);
	if (res > 0)
		return false;
	conn_done(c, res);
	return true;
}

static void advance(struct conn *c)
{
	struct ep_conn *e = c->priv;
	bool more = !e->finished;

	while (more) {
		switch (c->step) {
		case STEP_RECV:
			more = do_recv(c);
			break;
		case STEP_XFER:
			more = do_move(c);
			break;
		default:
			do_close(c);
			more = false;
		}
	}
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
	if (events & EPOLLERR) { /* notifications of zero-copy sends arrive as an error, too */
		e->readable = true;
		if (mover->reap && mover->reap(c) < 0)
			e->hup = true;
	}
	if (c->step == STEP_XFER && !(events & ~(uint32_t)(EPOLLIN | EPOLLRDHUP)))
		return; /* input can wait until the response is out */
	advance(c);
}

static void adopt(struct worker *w, int fd)
{
	struct ep_worker *ep = ep_of(w);
	const struct mover *mover = w->engine->mover;
	struct conn *c = conn_open(w, fd);
	struct ep_conn *e;

	if (!c) {
		close(fd);
		return;
	}
	e = c->priv;
	if ((mover->open && mover->open(c)) ||
	    watch(ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, c)) {
		conn_done(c, -ENOMEM);
		c->close_how = CLOSE_ABORT;
		do_close(c);
		return;
	}
	count_one(c->ctr, sys_ctl);
	e->readable = false;
}

static void pause_accept(struct worker *w, bool pause)
{
	struct ep_worker *ep = ep_of(w);

	if (ep->listening)
		watch(ep, EPOLL_CTL_MOD, w->listen_fd, pause ? 0 : EPOLLIN, NULL);
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
	watch(ep, EPOLL_CTL_DEL, w->listen_fd, 0, NULL);
	ep->listening = false;
}

static void on_wake(struct worker *w)
{
	eventfd_t ignored;

	eventfd_read(w->wake_fd, &ignored);
}

static int wait_events(struct worker *w)
{
	struct ep_worker *ep = ep_of(w);
	uint64_t wait_ns = ep->again ? 0 : worker_wait_ns(w);
	int nr;

	if (ep->accept_again_ns && wait_ns > ACCEPT_PAUSE_NS)
		wait_ns = ACCEPT_PAUSE_NS;
	nr = epoll_wait(ep->epfd, ep->events, NR_EVENTS, (int)((wait_ns + 999999) / 1000000));
	count_one(w->ctr, sys_wait);
	return nr < 0 && errno != EINTR ? -errno : nr < 0 ? 0 : nr;
}

static void handle_events(struct worker *w, int nr)
{
	struct ep_worker *ep = ep_of(w);

	for (int i = 0; i < nr; i++) {
		struct epoll_event *ev = &ep->events[i];

		if (!ev->data.ptr)
			on_listener(w);
		else if (ev->data.ptr == w)
			on_wake(w);
		else
			on_event(ev->data.ptr, ev->events);
	}
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
		run_again(ep);
		if (ep->listening && atomic_load_explicit(&w->draining, memory_order_acquire))
			stop_listening(w);
		while ((c = worker_next(w)))
			advance(c);
		free_dead(ep);
	}
	return 0;
}
