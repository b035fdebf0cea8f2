// SPDX-License-Identifier: MIT
/*
 * Driver: blocking. The worker's thread accepts and ticks; each connection has a thread of its own,
 * on the same core, that blocks in its system calls. One mutex per worker guards every call of the
 * skeleton and is never held during I/O, so the skeleton sees one caller at a time.
 *
 * A step that changes from outside (deadline, drain, a partner) reaches a blocked thread through a
 * signal that does nothing but end its system call with EINTR. shutdown(2) would do so as well, but
 * with a FIN, and a cut response could look whole. A signal that arrives just before the call
 * begins is lost, so it is repeated until the thread has taken the mutex and with it seen the step.
 * Any Linux (ppoll: 2.6.16).
 */
#include "engine.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	RECV_BYTES = 2 << 10, /* on the thread's stack, so that an idle connection stays small */
	ACCEPT_PAUSE_MS = 100,
	REPEAT_MS = 10, /* of signals */
	LINGER_TURNS = 64,
	STACK_BYTES = 64 << 10,
	STACK_BYTES_SANITIZED = 1 << 20,
};

struct bl_worker {
	pthread_mutex_t lock;
	pthread_cond_t settled; /* a transfer is out of its mover and has let destinations go */
	pthread_attr_t attr;
	struct conn *unseen;	     /* their threads were signalled and have not looked yet */
	_Atomic unsigned nr_threads; /* the last thing a thread touches */
};

/* A thread counts in ctr without the lock and adds to the worker's block under it. */
struct bl_conn {
	struct counters ctr;
	pthread_t thread;
	struct conn *next_unseen;
	bool started; /* there is a thread */
	bool unseen;  /* in bl_worker.unseen */
	bool moving;  /* its thread is inside the mover, without the lock */
	bool begun;   /* the transfer has had its first move() */
	uint8_t told; /* conn_hup() was called: bit per enum hangup */
};
_Static_assert(sizeof(struct bl_conn) + 63 <= DRIVE_BLOCKING_BYTES, "enlarge");

static struct bl_worker *bl_of(const struct worker *w)
{
	return w->priv;
}

/* Inside priv, on cache lines of its own. */
static struct bl_conn *conn_of(const struct conn *c)
{
	return (struct bl_conn *)(((uintptr_t)c->priv + 63) & ~(uintptr_t)63);
}

static size_t stack_bytes(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return STACK_BYTES_SANITIZED;
#else
	return STACK_BYTES;
#endif
}

static void nothing(int sig)
{
}

/* Without SA_RESTART, so that calls end. The same for every worker. */
static int install_signal(void)
{
	struct sigaction act = {.sa_handler = nothing};

	return sigaction(SIGRTMIN, &act, NULL) ? -errno : 0;
}

int drive_blocking_init(struct worker *w)
{
	struct bl_worker *bl = calloc(1, sizeof(*bl));

	if (!bl)
		return -ENOMEM;
	pthread_mutex_init(&bl->lock, NULL);
	pthread_cond_init(&bl->settled, NULL);
	pthread_attr_init(&bl->attr);
	pthread_attr_setdetachstate(&bl->attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&bl->attr, stack_bytes());
	w->priv = bl;
	return install_signal();
}

void drive_blocking_exit(struct worker *w)
{
	struct bl_worker *bl = bl_of(w);

	if (!bl)
		return;
	while (atomic_load(&bl->nr_threads)) /* out of the skeleton already, about to return */
		usleep(100);
	pthread_attr_destroy(&bl->attr);
	pthread_cond_destroy(&bl->settled);
	pthread_mutex_destroy(&bl->lock);
	free(bl);
	w->priv = NULL;
}

/* ---------------------------------------------------------------- other threads */

static void *serve(void *arg);

/* Without a thread, and with the lock held: the end of a connection that has none, or gets none. */
static void drop(struct conn *c)
{
	const struct mover *mover = c->w->engine->mover;

	c->ctr = c->w->ctr;
	conn_closing(c);
	if (c->mover && mover->exit)
		mover->exit(c);
	if (c->fd >= 0) {
		close(c->fd);
		count_one(c->w->ctr, sys_close);
	}
	conn_free(c);
}

/* With the lock held. The connection may be gone afterwards. */
static void start_thread(struct conn *c)
{
	struct bl_worker *bl = bl_of(c->w);
	struct bl_conn *b = conn_of(c);
	const struct mover *mover = c->w->engine->mover;
	int res;

	c->ctr = &b->ctr;
	c->mover = (char *)c->priv + DRIVE_BLOCKING_BYTES;
	res = mover->open ? -mover->open(c) : 0;
	if (!res) {
		atomic_fetch_add(&bl->nr_threads, 1);
		res = pthread_create(&b->thread, &bl->attr, serve, c);
		if (res)
			atomic_fetch_sub(&bl->nr_threads, 1);
	}
	b->started = !res;
	if (!res)
		return;
	complain("worker %d: no thread for a connection: %s", c->w->index, strerror(res));
	count_one(c->w->ctr, aborts);
	c->step = STEP_CLOSE;
	c->close_how = CLOSE_ABORT;
	drop(c);
}

static void forget_unseen(struct conn *c)
{
	struct conn **at = &bl_of(c->w)->unseen;

	while (*at != c)
		at = &conn_of(*at)->next_unseen;
	*at = conn_of(c)->next_unseen;
	conn_of(c)->unseen = false;
}

/* Ends the system call that the connection's thread may be in, now or when repeated. */
static void interrupt(struct conn *c)
{
	struct bl_worker *bl = bl_of(c->w);
	struct bl_conn *b = conn_of(c);

	pthread_kill(b->thread, SIGRTMIN);
	count_one(c->w->ctr, sys_other);
	if (b->unseen)
		return;
	b->unseen = true;
	b->next_unseen = bl->unseen;
	bl->unseen = c;
	eventfd_write(c->w->wake_fd, 1); /* for the accepting thread to repeat it */
}

static void kick(struct conn *c)
{
	if (conn_of(c)->started)
		interrupt(c);
	else if (c->step == STEP_CLOSE)
		drop(c);
	else
		start_thread(c);
}

/* Whoever has called the skeleton passes on what it changed for others. With the lock held. */
static void kick_others(struct worker *w, const struct conn *self)
{
	struct conn *c;

	while ((c = worker_next(w)))
		if (c != self)
			kick(c);
}

static void lock(struct conn *c)
{
	pthread_mutex_lock(&bl_of(c->w)->lock);
	counters_move(c->w->ctr, c->ctr);
	if (conn_of(c)->unseen)
		forget_unseen(c);
}

static void unlock(struct conn *c)
{
	kick_others(c->w, c);
	pthread_mutex_unlock(&bl_of(c->w)->lock);
}

/* ---------------------------------------------------------------- steps */

/* Received bytes and what of them the skeleton has not taken. Lives on the thread's stack. */
struct inbox {
	size_t off, len;
	char buf[RECV_BYTES];
};

/* What was not used, before the thread does something else than receiving. */
static void set_aside(struct conn *c, struct inbox *in)
{
	if (!in->len || !c->w->relays || c->step == STEP_RECV)
		return;
	if (conn_keep_unfed(c, in->buf + in->off, in->len)) {
		c->step = STEP_CLOSE;
		c->close_how = CLOSE_ABORT;
	}
	in->len = 0;
}

/* STEP_RECV, called and left with the lock held. */
static void do_recv(struct conn *c, struct inbox *in)
{
	size_t used;
	ssize_t n;

	if (c->unfed_len) {
		conn_feed_unfed(c);
		return;
	}
	conn_trim_unfed(c);
	if (!in->len) {
		unlock(c);
		n = recv(c->fd, in->buf, sizeof(in->buf), 0);
		count_one(c->ctr, sys_recv);
		if (n < 0 && errno == EINTR)
			n = -EINTR;
		lock(c);
		in->off = 0;
		in->len = n > 0 ? (size_t)n : 0;
		if (c->step != STEP_RECV || n == -EINTR) { /* woken from outside */
			set_aside(c, in);
			return;
		}
	}
	used = conn_feed(c, in->buf + in->off, in->len);
	in->off += used;
	in->len -= used;
	set_aside(c, in);
}

/* Destinations that are to be closed wait for their writer, which is the thread here. */
static void let_go(struct conn *c)
{
	struct xfer *x = &c->xfer;

	for (unsigned i = 0; i < x->nr_dst; i++)
		if (xfer_dst_lives(&x->dst[i]) && x->dst[i].c->step == STEP_CLOSE)
			xfer_fail_dst(x, i, -EPIPE);
	if (x->dst_failed)
		conn_drop_dsts(c);
	pthread_cond_broadcast(&bl_of(c->w)->settled);
}

/* STEP_XFER, likewise. */
static void do_move(struct conn *c)
{
	struct pollfd writable = {.fd = c->fd, .events = POLLOUT};
	struct bl_conn *b = conn_of(c);
	int res;

	if (!b->begun) {
		xfer_take_unfed(c);
		xfer_cork(c, true);
	}
	b->moving = b->begun = true;
	unlock(c);
	res = c->w->engine->mover->move(c);
	if (res == MOVED_WANT_DST && !c->xfer.nr_dst) { /* a signal cut a blocking send short */
		poll(&writable, 1, -1);
		count_one(c->ctr, sys_wait);
	}
	lock(c);
	b->moving = false;
	let_go(c);
	if (c->step != STEP_XFER || res > 0)
		return;
	b->begun = false;
	if (!res) {
		xfer_cork(c, false);
		xfer_shut_dsts(c);
	}
	conn_done(c, res);
}

static void set_signal(int how, sigset_t *old)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	pthread_sigmask(how, &set, old);
}

/*
 * STEP_PARK, likewise. The signal is let in by ppoll(2) alone, so none is lost between the look at
 * the step and the sleep.
 */
static void do_park(struct conn *c)
{
	struct bl_conn *b = conn_of(c);
	bool dead = b->told & 1u << HUP_DEAD;
	struct pollfd fd = {.fd = dead ? -1 : c->fd,
			    .events = b->told & 1u << HUP_READ ? 0 : POLLRDHUP};
	enum hangup how;
	sigset_t open;
	int nr;

	set_signal(SIG_BLOCK, &open);
	unlock(c);
	nr = ppoll(&fd, 1, NULL, &open);
	count_one(c->ctr, sys_wait);
	lock(c);
	pthread_sigmask(SIG_SETMASK, &open, NULL);
	if (nr <= 0 || c->step != STEP_PARK)
		return;
	how = fd.revents & (POLLHUP | POLLERR) ? HUP_DEAD : HUP_READ;
	b->told |= (uint8_t)(1u << how);
	conn_hup(c, how);
}

/* An interrupted connect(2) goes on by itself; its result is SO_ERROR's (connect(2)). */
static int finish_connect(struct conn *c)
{
	struct pollfd fd = {.fd = c->fd, .events = POLLOUT};
	socklen_t len = sizeof(int);
	int err = 0, nr = poll(&fd, 1, -1);

	count_one(c->ctr, sys_wait);
	if (nr < 0)
		return -EINTR;
	return getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len) ? -errno : -err;
}

/* STEP_CONNECT, likewise. */
static void do_connect(struct conn *c)
{
	int res;

	c->fd = outgoing_socket(c, 0);
	if (c->fd < 0) {
		conn_done(c, c->fd);
		return;
	}
	unlock(c);
	res = connect(c->fd, c->addr, c->addr_len) ? -errno : 0;
	count_one(c->ctr, sys_connect);
	lock(c);
	while (res == -EINTR && c->step == STEP_CONNECT) {
		unlock(c);
		res = finish_connect(c);
		lock(c);
	}
	if (c->step == STEP_CONNECT)
		conn_done(c, res);
}

/* Reads until the peer closes, or the skeleton has seen enough; called and left with the lock. */
static void linger(struct conn *c, struct inbox *in)
{
	ssize_t n = 1;
	int turns;

	shutdown(c->fd, SHUT_WR);
	count_one(c->ctr, sys_other);
	while (n > 0 && c->close_how == CLOSE_LINGER) {
		unlock(c);
		/* Who sends without pause never lets it block, so no signal would be seen either.
		 */
		for (turns = 0; n > 0 && turns < LINGER_TURNS; turns++) {
			n = recv(c->fd, in->buf, sizeof(in->buf), 0);
			count_one(c->ctr, sys_recv);
		}
		if (n < 0 && errno == EINTR)
			n = 1;
		lock(c);
	}
}

/* Until no other thread may be writing to the socket, with the lock held. */
static void await_writer(struct conn *c)
{
	struct bl_worker *bl = bl_of(c->w);
	struct timespec until;

	while (c->writer && conn_of(c->writer)->moving) {
		interrupt(c->writer);
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec++; /* the accepting thread repeats the signal much sooner */
		pthread_cond_timedwait(&bl->settled, &bl->lock, &until);
	}
}

/* STEP_CLOSE: called with the lock, returns without the connection. */
static void do_close(struct conn *c, struct inbox *in)
{
	const struct mover *mover = c->w->engine->mover;
	struct linger rst = {.l_onoff = 1, .l_linger = 0};

	await_writer(c);
	conn_closing(c);
	if (c->close_how == CLOSE_LINGER)
		linger(c, in);
	if (c->close_how == CLOSE_ABORT && c->fd >= 0)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &rst, sizeof(rst));
	if (mover->exit)
		mover->exit(c);
	counters_move(c->w->ctr, c->ctr);
	if (c->fd >= 0) {
		close(c->fd);
		count_one(c->w->ctr, sys_close);
	}
	if (conn_of(c)->unseen)
		forget_unseen(c);
	conn_free(c);
}

/* STEP_MOVE, likewise: a thread of the other worker takes over. */
static void do_leave(struct conn *c)
{
	const struct mover *mover = c->w->engine->mover;

	if (mover->exit)
		mover->exit(c);
	counters_move(c->w->ctr, c->ctr);
	if (conn_of(c)->unseen)
		forget_unseen(c);
	worker_post(c);
}

/* One step. False when the connection is gone. */
static bool do_step(struct conn *c, struct inbox *in)
{
	switch (c->step) {
	case STEP_RECV:
		do_recv(c, in);
		return true;
	case STEP_XFER:
		do_move(c);
		return true;
	case STEP_PARK:
		do_park(c);
		return true;
	case STEP_ATTACH:
		conn_attached(c);
		return true;
	case STEP_CONNECT:
		do_connect(c);
		return true;
	case STEP_MOVE:
		do_leave(c);
		return false;
	default:
		do_close(c, in);
		return false;
	}
}

static void *serve(void *arg)
{
	struct conn *c = arg;
	struct worker *w = c->w;
	struct bl_worker *bl = bl_of(w);
	struct inbox in;

	in.len = 0;
	lock(c);
	while (do_step(c, &in))
		;
	kick_others(w, NULL);
	pthread_mutex_unlock(&bl->lock);
	atomic_fetch_sub(&bl->nr_threads, 1);
	return NULL;
}

/* With the lock held. */
static void adopt(struct worker *w, int fd)
{
	struct conn *c = conn_open(w, fd);

	if (c)
		start_thread(c);
	else
		close(fd);
}

/* False when descriptors or memory ran out: the caller lets some be given back first. */
static bool accept_all(struct worker *w)
{
	int fd;

	for (;;) {
		fd = accept4(w->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		count_one(w->ctr, sys_accept);
		if (fd >= 0)
			adopt(w, fd);
		else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
			return false;
		else if (errno != ECONNABORTED && errno != EINTR)
			return true;
	}
}

/* Signals that came too early, once more. */
static void repeat_signals(struct bl_worker *bl)
{
	for (struct conn *c = bl->unseen; c; c = conn_of(c)->next_unseen)
		pthread_kill(conn_of(c)->thread, SIGRTMIN);
}

static int wait_ms(struct worker *w, bool stop)
{
	int ms = (int)(worker_wait_ns(w) / 1000000) + 1;

	if (stop && ms > 20)
		ms = 20; /* the last threads end without a word: look again soon */
	return bl_of(w)->unseen && ms > REPEAT_MS ? REPEAT_MS : ms;
}

int drive_blocking_run(struct worker *w)
{
	struct bl_worker *bl = bl_of(w);
	struct pollfd fds[2] = {{.fd = w->wake_fd, .events = POLLIN},
				{.fd = w->listen_fd, .events = POLLIN}};
	eventfd_t ignored;
	bool finished = false, short_of;
	int timeout_ms = 0;

	while (!finished) {
		bool stop = atomic_load_explicit(&w->draining, memory_order_acquire);
		int nr = poll(fds, stop ? 1 : 2, timeout_ms);

		if (nr < 0 && errno != EINTR)
			return -errno;
		if (nr > 0 && fds[0].revents)
			eventfd_read(w->wake_fd, &ignored);
		pthread_mutex_lock(&bl->lock);
		count_one(w->ctr, sys_wait);
		worker_tick(w, clock_now_ns());
		short_of = !stop && !accept_all(w);
		kick_others(w, NULL);
		repeat_signals(bl);
		finished = worker_finished(w);
		timeout_ms = wait_ms(w, stop);
		pthread_mutex_unlock(&bl->lock);
		if (short_of)
			usleep(ACCEPT_PAUSE_MS * 1000);
	}
	return 0;
}
