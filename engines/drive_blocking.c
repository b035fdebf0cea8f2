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
#include "drive_blocking.h"

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	ACCEPT_PAUSE_MS = 100,
	REPEAT_MS = 10, /* of signals */
	STACK_BYTES = 64 << 10,
	STACK_BYTES_SANITIZED = 1 << 20,
};

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

	return sigaction(BL_SIGNAL, &act, NULL) ? -errno : 0;
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
	struct bl_conn *b = bl_conn_of(c);
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

void bl_forget_unseen(struct conn *c)
{
	struct conn **at = &bl_of(c->w)->unseen;

	while (*at != c)
		at = &bl_conn_of(*at)->next_unseen;
	*at = bl_conn_of(c)->next_unseen;
	bl_conn_of(c)->unseen = false;
}

void bl_interrupt(struct conn *c)
{
	struct bl_worker *bl = bl_of(c->w);
	struct bl_conn *b = bl_conn_of(c);

	pthread_kill(b->thread, BL_SIGNAL);
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
	if (bl_conn_of(c)->started)
		bl_interrupt(c);
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

void bl_lock(struct conn *c)
{
	pthread_mutex_lock(&bl_of(c->w)->lock);
	counters_move(c->w->ctr, c->ctr);
	if (bl_conn_of(c)->unseen)
		bl_forget_unseen(c);
}

void bl_unlock(struct conn *c)
{
	kick_others(c->w, c);
	pthread_mutex_unlock(&bl_of(c->w)->lock);
}

static void *serve(void *arg)
{
	struct conn *c = arg;
	struct worker *w = c->w;
	struct bl_worker *bl = bl_of(w);
	struct bl_inbox in;

	in.len = 0;
	bl_lock(c);
	while (bl_step(c, &in))
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
	for (struct conn *c = bl->unseen; c; c = bl_conn_of(c)->next_unseen)
		pthread_kill(bl_conn_of(c)->thread, BL_SIGNAL);
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
