/* SPDX-License-Identifier: MIT */
/*
 * Inside of the blocking driver: its state of a worker and of a connection, and what its files call
 * of each other. drive_blocking.c has the threads, drive_blocking_steps.c what a thread does for
 * its connection.
 */
#ifndef IOLAB_DRIVE_BLOCKING_H
#define IOLAB_DRIVE_BLOCKING_H

#include "engine.h"

#include <pthread.h>

/* Bytes of a receive: on the thread's stack, so that an idle connection stays small. */
#define BL_RECV_BYTES (2u << 10)

/* Of a worker, at w->priv. */
struct bl_worker {
	pthread_mutex_t lock;
	pthread_cond_t settled; /* a transfer is out of its mover and has let destinations go */
	pthread_attr_t attr;
	struct conn *unseen;	     /* their threads were signalled and have not looked yet */
	_Atomic unsigned nr_threads; /* the last thing a thread touches */
};

/*
 * Of a connection, at bl_conn_of(). A thread counts in ctr without the lock and adds to the
 * worker's block under it.
 */
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

static inline struct bl_worker *bl_of(const struct worker *w)
{
	return w->priv;
}

/* Inside priv, on cache lines of its own. */
static inline struct bl_conn *bl_conn_of(const struct conn *c)
{
	return (struct bl_conn *)(((uintptr_t)c->priv + 63) & ~(uintptr_t)63);
}

/* Received bytes and what of them the skeleton has not taken. Lives on the thread's stack. */
struct bl_inbox {
	size_t off, len;
	char buf[BL_RECV_BYTES];
};

/* The signal that ends a thread's system call with EINTR. */
#define BL_SIGNAL SIGRTMIN

/* Takes the worker's lock on c's thread: its counters are added, and it has seen every signal. */
void bl_lock(struct conn *c);

/* Tells other threads what changed for their connections, and lets the lock go. */
void bl_unlock(struct conn *c);

/*
 * Ends the system call that the connection's thread may be in, now or when repeated. With the lock
 * held; there must be a thread.
 */
void bl_interrupt(struct conn *c);

/* With the lock held: no signal is to be repeated for c any more. */
void bl_forget_unseen(struct conn *c);

/*
 * One step of the connection, on its thread; called and left with the lock held, which is let go
 * during I/O. False when the connection is gone: freed, or another worker's.
 */
bool bl_step(struct conn *c, struct bl_inbox *in);

#endif
