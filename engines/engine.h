/* SPDX-License-Identifier: MIT */
/*
 * The contract between the skeleton (server/) and the engines (engines/).
 *
 * The engine drives, the skeleton decides. An engine owns its event loop and makes every system
 * call on a connection's socket; the skeleton parses, looks files up and answers each call with
 * the connection's next step. docs/engine-contract.md tells the story; this file and its parts are
 * the law; engines include this one.
 *
 * Threads: everything here is called on the worker's own thread, or, by an engine that runs a
 * thread per connection, under one mutex per worker. Functions marked "any time" need neither.
 */
#ifndef IOLAB_ENGINE_H
#define IOLAB_ENGINE_H

#include "engine_conn.h"
#include "engine_counters.h"
#include "engine_options.h"
#include "engine_shared.h"
#include "engine_xfer.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define ENGINE_API 2

/* ------------------------------------------------------------------------------ movers */

/* What a call of move() achieved; negative values are -errno. */
enum moved {
	MOVED_ALL,	 /* the transfer is complete: call conn_done(c, 0) */
	MOVED_WANT_DST,	 /* call again when the socket can take more */
	MOVED_WANT_ZC,	 /* call again when a zero-copy notification came (only with reap) */
	MOVED_TURN,	 /* a turn's worth was moved: let others have theirs, then call again */
	MOVED_WANT_SRC,	 /* call again when the connection's socket has input */
	MOVED_WANT_BOTH, /* either of SRC and DST */
	/*
	 * As SRC, but the mover has told the kernel to report input only once there is a batch of
	 * it (SO_RCVLOWAT, socket(7)). What comes may be the last of it: call again after
	 * BATCH_WAIT_MS at the latest, reported or not. Only of movers that say so, on driver
	 * epoll.
	 */
	MOVED_WANT_BATCH,
	/*
	 * Call again after BATCH_WAIT_MS: what is wanted (RLIMIT_MEMLOCK) is held by others, and
	 * nothing tells when they give it back. Only on driver epoll.
	 */
	MOVED_WANT_ROOM,
};

#define BATCH_WAIT_MS 1

/* A turn: bytes after which a mover yields to the other connections of its worker. */
#define TURN_BYTES (2u << 20)

/*
 * How bytes of one transfer are moved. move() advances c->xfer as far as it can; the code is the
 * same for blocking and non-blocking sockets. A signal that interrupts a blocking call is
 * MOVED_TURN. What it keeps between calls, it drops before it returns 0 or -errno, and in exit().
 * open/exit hold per-connection state at c->mover (exit also after a failed open, and before a
 * MOVE). What must not be lost by a MOVE, pack() puts on the heap at c->carried, and open() takes
 * it from there, on another thread. held() says how many kernel references are out on this socket,
 * reap() collects their notifications and returns how many came or -errno. All but move may be
 * NULL.
 */
struct mover {
	int (*worker_init)(struct worker *w);
	void (*worker_exit)(struct worker *w);
	int (*open)(struct conn *c);
	void (*exit)(struct conn *c);
	int (*move)(struct conn *c);
	int (*reap)(struct conn *c);
	unsigned (*held)(const struct conn *c);
	void (*pack)(struct conn *c);
};

/* ------------------------------------------------------------------------------ engines */

/* How the skeleton should offer response bodies; filled by engine->bodies() from the options. */
struct body_policy {
	unsigned source;	   /* the enum source to use for file bodies */
	size_t memory_limit_bytes; /* files up to this size are offered from memory */
	bool memory_as_file;   /* that memory is a memfd, offered with its head as SOURCE_FILE */
	size_t constant_bytes; /* SOURCE_CONSTANT: size of the one body */
};

#define REASON_MAX 256

struct engine {
	const char *name;
	const char *summary;
	const char *since;	       /* oldest kernel with the mechanism, for people */
	const char *driver;	       /* how it waits: "blocking", "epoll" or "completion" */
	int api;		       /* ENGINE_API it was written for */
	unsigned sources;	       /* enum source bits it can move */
	size_t conn_bytes;	       /* of private state per connection */
	const struct opt_def *options; /* ends with name == NULL */
	const struct mover *mover;     /* for the stock drivers */

	/*
	 * Whether the options go together, and with a role whose sources are sockets (relays). 0,
	 * or -EINVAL and a sentence that names the remedy. NULL: all do.
	 */
	int (*check)(const int64_t *opt, bool relays, char reason[REASON_MAX]);
	/*
	 * Whether this kernel can do what the name says, found by trying it, never by version.
	 * 0, or -errno with one sentence in reason. opt may be NULL: judge the defaults.
	 */
	int (*probe)(const int64_t *opt, char reason[REASON_MAX]);
	void (*bodies)(const int64_t *opt, struct body_policy *policy);
	int (*worker_init)(struct worker *w); /* 0 or -errno; on the worker's thread */
	int (*worker_run)(struct worker *w);  /* until worker_finished(); 0 or -errno */
	void (*worker_exit)(struct worker *w);
};

/* ---------------------------------------------------- calls the engine makes on the skeleton */

/*
 * A connection was accepted. Returns it with step RECV, or NULL when out of memory (the engine
 * closes fd). The engine owns fd until it has called conn_free().
 */
struct conn *conn_open(struct worker *w, int fd);

/* The connection of STEP_ATTACH has engine state and may be named as a destination. Sets step. */
void conn_attached(struct conn *c);

/*
 * The peer of a parked connection hung up: reported once per kind, not judged; a half-closed sender
 * is legitimate. May change c->step.
 */
void conn_hup(struct conn *c, enum hangup how);

/*
 * To be called when x->dst_failed is set, before the next move(): failed destinations leave the
 * transfer and get STEP_CLOSE, which worker_next() tells.
 */
void conn_drop_dsts(struct conn *c);

/* STEP_MOVE: c belongs to the worker of index c->move_to from here on. */
void worker_post(struct conn *c);

/*
 * Received bytes. buf is borrowed for the call; returns how many were used, the engine keeps the
 * rest until the step is RECV again. len 0 is end of file. Sets c->step; step RECV with 0 used
 * of a non-empty buffer cannot happen.
 */
size_t conn_feed(struct conn *c, const char *buf, size_t len);

/* The transfer ended: res is 0 or -errno. Memory in iov is dead afterwards. Sets c->step. */
void conn_done(struct conn *c, int res);

/* Called once, when the engine starts to honour STEP_CLOSE: the skeleton drops its references. */
void conn_closing(struct conn *c);

/* Every operation and lease of the connection is finished and its fd closed: c is gone. */
void conn_free(struct conn *c);

/* Once per wake-up, before the events are handled, with CLOCK_MONOTONIC: deadlines, drain, date. */
void worker_tick(struct worker *w, uint64_t now_ns);

/* How long the next wait may last, in ns; never more than a second. */
uint64_t worker_wait_ns(const struct worker *w);

/*
 * The next connection whose step changed from outside (deadline, drain), or NULL. To be called
 * after the events of a wake-up until it returns NULL.
 */
struct conn *worker_next(struct worker *w);

/* True when draining is over: no connection is left. */
bool worker_finished(const struct worker *w);

/* CLOCK_MONOTONIC in ns. Any time. */
uint64_t clock_now_ns(void);

/* One line on stderr: "iolab-server: " and the message. Any time. */
void complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* For drivers, in STEP_RECV: feeds what was kept before anything new is received. */
void conn_feed_unfed(struct conn *c);

/* Frees the unfed bytes' memory when all of them were fed, and no transfer has borrowed them. */
void conn_trim_unfed(struct conn *c);

/* Adds bytes behind the unfed ones. 0 or -ENOMEM. */
int conn_keep_unfed(struct conn *c, const char *buf, size_t len);

#endif
