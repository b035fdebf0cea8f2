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
	RECV_BYTES_RELAY = 4 << 10, /* what follows a head waits in the kernel, not on our heap */
	ACCEPT_BATCH = 64,
	STEPS_PER_TURN = 64,
};

/* When descriptors or memory run out, the listener is left alone this long. */
#define ACCEPT_PAUSE_NS 100000000ull

struct ep_worker {
	int epfd;
	bool listening;
	uint64_t accept_again_ns; /* 0: not paused */
	struct conn *again, **again_tail;
	struct conn *running; /* what is left of an `again` that is being worked through */
	struct conn *dead;
	struct conn *held; /* transfers that wait, or waited, for a batch */
	uint64_t held_until_ns;
	char *buf;
	int at, nr; /* the batch: events[at..nr) are still to be handled */
	struct epoll_event events[NR_EVENTS];
};

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
	ep->running = ep->again;
	ep->again = NULL;
	ep->again_tail = &ep->again;
	while (ep->running) {
		struct conn *c = ep->running;
		struct ep_conn *e = c->priv;

		ep->running = e->next;
		e->queued = false;
		advance(c);
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

/* ---------------------------------------------------------------- waiting for a batch */

/* A connection stays in the list until the time is over, whatever it waits for by then. */
static void hold(struct conn *c)
{
	struct ep_worker *ep = ep_of(c->w);
	struct ep_conn *e = c->priv;

	if (e->held)
		return;
	if (!ep->held)
		ep->held_until_ns = c->w->now_ns + BATCH_WAIT_MS * 1000000ull;
	e->held = true;
	e->next_held = ep->held;
	ep->held = c;
}

static void unhold(struct conn *c)
{
	struct ep_conn *e = c->priv;
	struct conn **at = &ep_of(c->w)->held;

	if (!e->held)
		return;
	while (*at != c)
		at = &((struct ep_conn *)(*at)->priv)->next_held;
	*at = e->next_held;
	e->held = false;
}

/* Time is over: who still waits for a batch takes what there is. */
static void release_held(struct ep_worker *ep)
{
	struct conn *c = ep->held;

	ep->held = NULL;
	while (c) {
		struct ep_conn *e = c->priv;
		struct conn *next = e->next_held;

		e->held = false;
		if (c->step == STEP_XFER && e->want == MOVED_WANT_BATCH)
			queue_again(c);
		c = next;
	}
}

/* ---------------------------------------------------------------- ending */

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
	if (c->carried) { /* closed before it could be attached */
		c->mover = (char *)c->priv + DRIVE_EPOLL_BYTES;
		c->w->engine->mover->open(c);
	}
	if (c->mover && c->w->engine->mover->exit)
		c->w->engine->mover->exit(c);
	if (c->fd >= 0) {
		close(c->fd);
		count_one(c->ctr, sys_close);
	}
	unhold(c);
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
	size_t discarded = 0;
	ssize_t n;

	if (!e->lingering) {
		e->lingering = true;
		e->readable = true;
		if (shutdown(c->fd, SHUT_WR))
			return true;
		count_one(c->ctr, sys_other);
	}
	while (e->readable && discarded < TURN_BYTES) {
		n = recv(c->fd, ep->buf, RECV_BYTES, 0);
		count_one(c->ctr, sys_recv);
		if (n < 0 && errno == EAGAIN)
			e->readable = false;
		else if (n <= 0)
			return true;
		else
			discarded += (size_t)n;
	}
	if (e->readable)
		queue_again(c);
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
	else if (c->mover && mover->held && mover->held(c))
		return; /* closing now would lose the notifications; the skeleton bounds the wait */
	finish(c);
}

/* STEP_RECV. True when the step may have changed, false to wait for input. */
static bool do_recv(struct conn *c)
{
	struct ep_worker *ep = ep_of(c->w);
	struct ep_conn *e = c->priv;
	size_t size = c->w->relays ? RECV_BYTES_RELAY : RECV_BYTES, used;
	ssize_t n;

	if (c->unfed_len) {
		used = conn_feed(c, c->unfed + c->unfed_off, c->unfed_len);
		c->unfed_off += (uint32_t)used;
		c->unfed_len -= (uint32_t)used;
		return true;
	}
	conn_trim_unfed(c);
	if (!e->readable)
		return false;
	n = recv(c->fd, ep->buf, size, 0);
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
	if ((size_t)n < size && !e->hup)
		e->readable = false;
	used = conn_feed(c, ep->buf, (size_t)n);
	if (used < (size_t)n && conn_keep_unfed(c, ep->buf + used, (size_t)n - used))
		conn_done(c, -ENOMEM);
	return true;
}

/* STEP_XFER. True when the transfer ended, or is to be tried again at once; false to wait. */
static bool do_move(struct conn *c)
{
	struct ep_conn *e = c->priv;
	int res;

	if (!e->moving)
		xfer_take_unfed(c);
	e->moving = true;
	res = c->w->engine->mover->move(c);
	if (c->xfer.dst_failed)
		conn_drop_dsts(c);
	e->want = res > 0 ? (uint8_t)res : 0;
	if (res == MOVED_TURN)
		queue_again(c);
	/* A short receive has drained the socket, but its end of file is still to be read. */
	if ((res == MOVED_WANT_SRC || res == MOVED_WANT_BATCH) && e->hup)
		return true;
	if (res == MOVED_WANT_BATCH)
		hold(c);
	if (res > 0)
		return false;
	if (!res)
		xfer_shut_dsts(c);
	e->moving = false;
	conn_done(c, res);
	return true;
}

/* STEP_PARK. True when a hang-up was reported. */
static bool do_park(struct conn *c)
{
	struct ep_conn *e = c->priv;
	enum hangup how = e->gone ? HUP_DEAD : HUP_READ;

	if (!e->hup || e->told & (1u << how))
		return false;
	e->told |= (uint8_t)(1u << how);
	conn_hup(c, how);
	return true;
}

/* ---------------------------------------------------------------- coming and going */

/* 0, or -errno with nothing registered; the mover's exit() follows in any case. */
static int attach(struct conn *c)
{
	const struct mover *mover = c->w->engine->mover;
	int res;

	c->mover = (char *)c->priv + DRIVE_EPOLL_BYTES;
	res = mover->open ? mover->open(c) : 0;
	if (!res)
		res = watch(ep_of(c->w), EPOLL_CTL_ADD, c->fd,
			    EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, c);
	count_one(c->ctr, sys_ctl);
	return res;
}

static void give_up(struct conn *c)
{
	count_one(c->ctr, aborts);
	c->step = STEP_CLOSE;
	c->close_how = CLOSE_ABORT;
}

/* STEP_ATTACH: from another worker. Edges start anew with the registration. */
static void do_attach(struct conn *c)
{
	if (attach(c))
		give_up(c);
	else
		conn_attached(c);
}

/* STEP_CONNECT. True when there is nothing to wait for. */
static bool do_connect(struct conn *c)
{
	struct ep_conn *e = c->priv;
	int res;

	if (e->connecting)
		return false;
	c->mover = (char *)c->priv + DRIVE_EPOLL_BYTES;
	c->fd = outgoing_socket(c, SOCK_NONBLOCK);
	res = c->fd < 0 ? c->fd : attach(c);
	if (!res) {
		res = connect(c->fd, c->addr, c->addr_len) ? -errno : 0;
		count_one(c->ctr, sys_connect);
	}
	if (res == -EINPROGRESS) {
		e->connecting = true;
		return false;
	}
	conn_done(c, res);
	return true;
}

static void on_connected(struct conn *c)
{
	struct ep_conn *e = c->priv;
	int err = 0;
	socklen_t len = sizeof(err);

	e->connecting = false;
	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len);
	count_one(c->ctr, sys_other);
	if (c->step == STEP_CONNECT)
		conn_done(c, -err);
	advance(c);
}

/* From here on another thread may have the connection: nothing of ours may name it. */
static void forget(struct ep_worker *ep, struct conn *c)
{
	struct ep_conn *e = c->priv;
	struct conn **at;

	for (int i = ep->at; i < ep->nr; i++)
		if (ep->events[i].data.ptr == c)
			ep->events[i].data.ptr = &ep->nr; /* see handle_events() */
	unhold(c);
	if (!e->queued)
		return;
	unlink_from(&ep->running, c);
	at = unlink_from(&ep->again, c);
	if (ep->again_tail == &e->next)
		ep->again_tail = at;
}

/*
 * STEP_MOVE. Notifications of zero-copy sends may be long in coming, since the kernel frees what
 * was received in batches (skb_attempt_defer_free, net/core/skbuff.c): so they are not waited for.
 */
static void do_leave(struct conn *c)
{
	struct ep_worker *ep = ep_of(c->w);
	const struct mover *mover = c->w->engine->mover;

	if (mover->pack)
		mover->pack(c);
	if (mover->exit)
		mover->exit(c);
	watch(ep, EPOLL_CTL_DEL, c->fd, 0, NULL);
	count_one(c->ctr, sys_ctl);
	forget(ep, c);
	worker_post(c);
}

/* One step. True to go on with the next at once. */
static bool do_step(struct conn *c)
{
	switch (c->step) {
	case STEP_RECV:
		return do_recv(c);
	case STEP_XFER:
		return do_move(c);
	case STEP_PARK:
		return do_park(c);
	case STEP_ATTACH:
		do_attach(c);
		return true;
	case STEP_CONNECT:
		return do_connect(c);
	case STEP_MOVE:
		do_leave(c);
		return false;
	default:
		do_close(c);
		return false;
	}
}

/* A chunked upload at full speed always has a next step: others must have their turn, too. */
static void advance(struct conn *c)
{
	struct ep_conn *e = c->priv;
	int steps = 0;

	if (e->finished)
		return;
	while (do_step(c)) {
		if (++steps == STEPS_PER_TURN) {
			queue_again(c);
			return;
		}
	}
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
		advance(writer);
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
			on_connected(c);
		return;
	}
	if (events & EPOLLERR) { /* notifications of zero-copy sends arrive as an error, too */
		e->readable = true;
		if (mover->reap && mover->reap(c) < 0)
			e->hup = true;
	}
	if (c->writer)
		wake_writer(c, events);
	if (e->finished || (c->step == STEP_XFER && !concerns_transfer(c, events)))
		return;
	advance(c);
}

static void adopt(struct worker *w, int fd)
{
	struct conn *c = conn_open(w, fd);

	if (!c) {
		close(fd);
		return;
	}
	if (attach(c))
		give_up(c);
	if (c->step == STEP_CLOSE)
		do_close(c);
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
	if (ep->held && wait_ns > BATCH_WAIT_MS * 1000000ull)
		wait_ns = BATCH_WAIT_MS * 1000000ull;
	nr = epoll_wait(ep->epfd, ep->events, NR_EVENTS, (int)((wait_ns + 999999) / 1000000));
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
			release_held(ep);
		run_again(ep);
		if (ep->listening && atomic_load_explicit(&w->draining, memory_order_acquire))
			stop_listening(w);
		while ((c = worker_next(w)))
			advance(c);
		free_dead(ep);
	}
	return 0;
}
