// SPDX-License-Identifier: MIT
/*
 * Driver: blocking. The worker's thread accepts and ticks; each connection has a thread of its own,
 * on the same core, that blocks in its system calls. One mutex per worker guards every call of the
 * skeleton and is never held during I/O, so the skeleton sees one caller at a time.
 *
 * A step that changes from outside (deadline, drain) reaches a blocked thread through shutdown(2):
 * reading ends with 0, and writing, if that is to end too, with EPIPE. Any Linux.
 */
#include "engine.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	RECV_BYTES = 2 << 10, /* on the thread's stack, so that an idle connection stays small */
	ACCEPT_PAUSE_MS = 100,
	STACK_BYTES = 64 << 10,
	STACK_BYTES_SANITIZED = 1 << 20,
};

struct bl_worker {
	pthread_mutex_t lock;
	pthread_attr_t attr;
	_Atomic unsigned nr_threads; /* the last thing a thread touches */
};

/* A thread counts here without the lock and adds to the worker's block under it. */
struct bl_conn {
	struct counters ctr;
};
_Static_assert(sizeof(struct bl_conn) + 63 <= DRIVE_BLOCKING_BYTES, "enlarge");

static struct bl_worker *bl_of(const struct worker *w)
{
	return w->priv;
}

static size_t stack_bytes(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return STACK_BYTES_SANITIZED;
#else
	return STACK_BYTES;
#endif
}

int drive_blocking_init(struct worker *w)
{
	struct bl_worker *bl = calloc(1, sizeof(*bl));

	if (!bl)
		return -ENOMEM;
	pthread_mutex_init(&bl->lock, NULL);
	pthread_attr_init(&bl->attr);
	pthread_attr_setdetachstate(&bl->attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&bl->attr, stack_bytes());
	w->priv = bl;
	return 0;
}

void drive_blocking_exit(struct worker *w)
{
	struct bl_worker *bl = bl_of(w);

	if (!bl)
		return;
	while (atomic_load(&bl->nr_threads)) /* out of the skeleton already, about to return */
		usleep(100);
	pthread_attr_destroy(&bl->attr);
	pthread_mutex_destroy(&bl->lock);
	free(bl);
	w->priv = NULL;
}

/* The counter block inside priv, on a cache line of its own. */
static struct counters *own_counters(const struct conn *c)
{
	return (struct counters *)(((uintptr_t)c->priv + 63) & ~(uintptr_t)63);
}

static void lock(struct conn *c)
{
	pthread_mutex_lock(&bl_of(c->w)->lock);
	counters_move(c->w->ctr, c->ctr);
}

static void unlock(struct conn *c)
{
	pthread_mutex_unlock(&bl_of(c->w)->lock);
}

/* Received bytes and what of them the skeleton has not taken. Lives on the thread's stack. */
struct inbox {
	size_t off, len;
	char buf[RECV_BYTES];
};

/* STEP_RECV, called and left with the lock held. */
static void do_recv(struct conn *c, struct inbox *in)
{
	size_t used;
	ssize_t n;

	if (!in->len) {
		unlock(c);
		n = recv(c->fd, in->buf, sizeof(in->buf), 0);
		count_one(c->ctr, sys_recv);
		lock(c);
		in->off = 0;
		in->len = n > 0 ? (size_t)n : 0;
		if (c->step != STEP_RECV) /* woken from outside */
			return;
		if (n < 0 && errno == EINTR)
			return;
	}
	used = conn_feed(c, in->buf + in->off, in->len);
	in->off += used;
	in->len -= used;
}

/* STEP_XFER, likewise. */
static void do_move(struct conn *c)
{
	struct pollfd writable = {.fd = c->fd, .events = POLLOUT};
	int res;

	unlock(c);
	res = c->w->engine->mover->move(c);
	if (res == MOVED_WANT_DST) { /* a signal cut a blocking send short */
		poll(&writable, 1, -1);
		count_one(c->ctr, sys_wait);
	}
	lock(c);
	if (c->step == STEP_XFER && res <= 0)
		conn_done(c, res);
}

/* Reads until the peer closes, or until do_kick() shuts the socket down. */
static void linger(struct conn *c, struct inbox *in)
{
	shutdown(c->fd, SHUT_WR);
	count_one(c->ctr, sys_other);
	do
		count_one(c->ctr, sys_recv);
	while (recv(c->fd, in->buf, sizeof(in->buf), 0) > 0);
}

/* STEP_CLOSE: called with the lock, returns without the connection. */
static void do_close(struct conn *c, struct inbox *in)
{
	const struct mover *mover = c->w->engine->mover;
	struct linger rst = {.l_onoff = 1, .l_linger = 0};

	conn_closing(c);
	if (c->close_how == CLOSE_LINGER) {
		unlock(c);
		linger(c, in);
		lock(c);
	}
	if (c->close_how == CLOSE_ABORT)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &rst, sizeof(rst));
	if (mover->exit)
		mover->exit(c);
	close(c->fd);
	count_one(c->w->ctr, sys_close);
	conn_free(c);
}

static void *serve(void *arg)
{
	struct conn *c = arg;
	struct bl_worker *bl = bl_of(c->w);
	struct inbox in = {0};

	lock(c);
	while (c->step != STEP_CLOSE) {
		if (c->step == STEP_RECV)
			do_recv(c, &in);
		else
			do_move(c);
	}
	do_close(c, &in);
	pthread_mutex_unlock(&bl->lock);
	atomic_fetch_sub(&bl->nr_threads, 1);
	return NULL;
}

/* With the lock held. */
static void adopt(struct worker *w, int fd)
{
	struct bl_worker *bl = bl_of(w);
	struct conn *c = conn_open(w, fd);
	pthread_t thread;
	int res;

	if (!c) {
		close(fd);
		return;
	}
	c->ctr = own_counters(c);
	c->mover = (char *)c->priv + DRIVE_BLOCKING_BYTES;
	if (w->engine->mover->open)
		w->engine->mover->open(c);
	atomic_fetch_add(&bl->nr_threads, 1);
	res = pthread_create(&thread, &bl->attr, serve, c);
	if (!res)
		return;
	complain("worker %d: no thread for a connection: %s", w->index, strerror(res));
	atomic_fetch_sub(&bl->nr_threads, 1);
	conn_done(c, -res);
	conn_closing(c);
	close(fd);
	conn_free(c);
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

/* Lets the threads of connections whose step changed from outside see it. With the lock held. */
static void kick(struct worker *w)
{
	struct conn *c;

	while ((c = worker_next(w))) {
		bool abort = c->step == STEP_CLOSE && c->close_how != CLOSE_LINGER;

		shutdown(c->fd, abort ? SHUT_RDWR : SHUT_RD);
		count_one(w->ctr, sys_other);
	}
}

int drive_blocking_run(struct worker *w)
{
	struct bl_worker *bl = bl_of(w);
	struct pollfd fds[2] = {{.fd = w->wake_fd, .events = POLLIN},
				{.fd = w->listen_fd, .events = POLLIN}};
	eventfd_t ignored;
	bool finished = false, short_of;

	while (!finished) {
		bool stop = atomic_load_explicit(&w->draining, memory_order_acquire);
		int timeout_ms = (int)(worker_wait_ns(w) / 1000000) + 1;
		/* The last threads end without a word: look again soon. */
		int nr = poll(fds, stop ? 1 : 2, stop && timeout_ms > 20 ? 20 : timeout_ms);

		if (nr < 0 && errno != EINTR)
			return -errno;
		if (nr > 0 && fds[0].revents)
			eventfd_read(w->wake_fd, &ignored);
		pthread_mutex_lock(&bl->lock);
		count_one(w->ctr, sys_wait);
		worker_tick(w, clock_now_ns());
		short_of = !stop && !accept_all(w);
		kick(w);
		finished = worker_finished(w);
		pthread_mutex_unlock(&bl->lock);
		if (short_of)
			usleep(ACCEPT_PAUSE_MS * 1000);
	}
	return 0;
}
