/* SPDX-License-Identifier: MIT */
/*
 * The contract between the skeleton (server/) and the engines (engines/).
 *
 * The engine drives, the skeleton decides. An engine owns its event loop and makes every system
 * call on a connection's socket; the skeleton parses, looks files up and answers each call with
 * the connection's next step. docs/engine-contract.md tells the story; this file is the law.
 *
 * Threads: everything here is called on the worker's own thread, or, by an engine that runs a
 * thread per connection, under one mutex per worker. Functions marked "any time" need neither.
 */
#ifndef IOLAB_ENGINE_H
#define IOLAB_ENGINE_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#define ENGINE_API 2

/* Responses that may be merged into one transfer (--merge), and the memory pieces they need. */
#define MERGE_MAX 16
#define XFER_IOV  (MERGE_MAX + 1)

struct conn;
struct worker;

/* ------------------------------------------------------------------------------ counters */

/*
 * System calls are counted by kind where they are made. `name` is the key in the control socket's
 * JSON; `wait` is epoll_wait/poll, `ctl` is epoll_ctl, `enter` is io_uring_enter.
 */
#define SYSCALL_COUNTERS(X) \
	X(accept)           \
	X(recv)             \
	X(send)             \
	X(sendfile)         \
	X(splice)           \
	X(tee)              \
	X(connect)          \
	X(wait)             \
	X(ctl)              \
	X(pread)            \
	X(open)             \
	X(close)            \
	X(enter)            \
	X(other)

/*
 * accepts/closes: connections ever accepted and freed. connections: open now. requests: responses
 * whose last byte was handed to the kernel. bytes: bytes handed to the kernel on connections,
 * body_bytes: those of them that are response bodies. eagain: calls that found nothing to do.
 * short_moves: calls that moved less than asked. zc_sends/zc_notified/zc_copied: zero-copy sends
 * accepted, their completions, and those of them the kernel reports as copied after all. zc_bytes:
 * bytes of those sends. zc_inflight_bytes: bytes of sends whose completion is still to come, now.
 * zc_delay_ns: sum, over the zc_notified sends, of the time from a send's acceptance to its
 * completion being read. zc_waits: sends put off until a completion came, for want of room.
 * zc_waived: sends of a zero-copy engine that went by copy, because too many completions were
 * outstanding.
 * sqes/cqes: ring entries submitted and reaped. cq_overflows: waits that ended with completions
 * held back for want of room in the completion queue. no_buffers: receives that ended for want of
 * provided buffers. cancelled: operations that completed with ECANCELED.
 * relayed_bytes: bytes taken from a socket source and delivered to every living destination.
 * transfers/transfers_failed: relayed uploads, or forwarded connections, that ended well or not.
 * moves: connections handed to another worker. pipes/pipe_bytes: pipes that exist now, pooled ones
 * included, and the bytes they can hold: kernel memory that no process size shows.
 * handicap_ns: time spun for --handicap.
 */
#define PLAIN_COUNTERS(X)    \
	X(accepts)           \
	X(closes)            \
	X(connections)       \
	X(requests)          \
	X(responses_2xx)     \
	X(responses_3xx)     \
	X(responses_4xx)     \
	X(responses_5xx)     \
	X(bytes)             \
	X(body_bytes)        \
	X(eagain)            \
	X(short_moves)       \
	X(aborts)            \
	X(timeouts)          \
	X(handicap_ns)       \
	X(cache_hits)        \
	X(cache_misses)      \
	X(zc_sends)          \
	X(zc_notified)       \
	X(zc_copied)         \
	X(zc_bytes)          \
	X(zc_inflight_bytes) \
	X(zc_delay_ns)       \
	X(zc_waits)          \
	X(zc_waived)         \
	X(sqes)              \
	X(cqes)              \
	X(cq_overflows)      \
	X(no_buffers)        \
	X(cancelled)         \
	X(relayed_bytes)     \
	X(transfers)         \
	X(transfers_failed)  \
	X(moves)             \
	X(pipes)             \
	X(pipe_bytes)

/*
 * Highest values since the start, or the control command new-peaks, of one worker; the total is
 * that of the worker that had most. zc_inflight_peak_bytes: of zc_inflight_bytes. zc_delay_max_ns:
 * of one send's part of zc_delay_ns.
 */
#define PEAK_COUNTERS(X)          \
	X(zc_inflight_peak_bytes) \
	X(zc_delay_max_ns)

/*
 * One writer (the worker's thread) and any reader: a relaxed load and store compile to plain moves,
 * yet a reader never sees half a value. Each worker's block stands on its own cache lines.
 */
struct counters {
#define X(name) _Atomic uint64_t name;
	PLAIN_COUNTERS(X)
	PEAK_COUNTERS(X)
#undef X
#define X(name) _Atomic uint64_t sys_##name;
	SYSCALL_COUNTERS(X)
#undef X
} __attribute__((aligned(64)));

/* Adds n to one counter. Only its single writer may call this. */
#define count_add(ctr, name, n)                                                          \
	atomic_store_explicit(&(ctr)->name,                                              \
			      atomic_load_explicit(&(ctr)->name, memory_order_relaxed) + \
				      (uint64_t)(n),                                     \
			      memory_order_relaxed)
#define count_one(ctr, name) count_add(ctr, name, 1)

/* Raises a peak to value, unless it is higher. Only its single writer may call this. */
#define count_peak(ctr, name, value)                                                            \
	do {                                                                                    \
		uint64_t count_value = (value);                                                 \
		if (atomic_load_explicit(&(ctr)->name, memory_order_relaxed) < count_value)     \
			atomic_store_explicit(&(ctr)->name, count_value, memory_order_relaxed); \
	} while (0)

/* Adds every counter of from to to, peaks by maximum, and zeroes from. The caller is the single
 * writer of both. */
void counters_move(struct counters *to, struct counters *from);

/* ------------------------------------------------------------------------------ transfers */

/*
 * A lease keeps body memory (and the descriptor behind it) alive. The holder of a transfer has one
 * reference until conn_done(); an engine whose kernel operations outlive that takes its own with
 * lease_get() and drops it when the kernel says it is finished with the pages.
 */
struct lease {
	unsigned refs;
	void (*release)(struct lease *lease);
};

static inline void lease_get(struct lease *lease)
{
	lease->refs++;
}

static inline void lease_put(struct lease *lease)
{
	if (--lease->refs == 0)
		lease->release(lease);
}

/* What the body of a transfer comes from. Bits, so that engines can declare what they can move. */
enum source {
	SOURCE_NONE = 0,
	SOURCE_CONSTANT = 1, /* bytes made up by the skeleton, delivered in iov[]; no file behind */
	SOURCE_MEMORY = 2,   /* a copy of a small file behind its head: in iov[], or as a file */
	SOURCE_MAPPING = 4,  /* the file's page cache mapped into the process: mem + lease */
	SOURCE_FILE = 8,     /* an open file: file_fd + off */
	SOURCE_SOCKET = 16,  /* what the connection itself receives, for other connections */
	SOURCE_FANOUT = 32,  /* declared beside SOCKET: several destinations for one source */
};

/* Length of a socket source that goes on until end of file. */
#define XFER_TO_EOF UINT64_MAX

/*
 * A destination of a transfer. `at` is the engine's: how many bytes of the current round this
 * destination has. A mover sets err through xfer_fail_dst() and passes the destination over from
 * then on; the driver, out of the mover and under whatever lock it has, hands the failures to the
 * skeleton by conn_drop_dsts(), which sets c to NULL.
 */
struct xfer_dst {
	struct conn *c;
	uint32_t at;
	int err; /* 0, or the -errno that ended it */
};

/*
 * What a transfer step has to deliver: first iov[iov_at..iov_nr), in order, then `len` bytes of the
 * body source. It lives in the connection, is advanced in place by xfer_advance_iov() and
 * xfer_advance_body(), and never copied. Memory named here is valid until conn_done(); `mem` for as
 * long as the lease is held. `len` is exact: a source that ends early is -EPIPE.
 *
 * Without destinations (nr_dst 0) it goes to the connection's own socket. With destinations, to
 * each of them, in lockstep rounds: a round ends when every living destination has it, so the
 * slowest governs. The transfer fails, with -EPIPE, only when no destination lives. A transfer
 * reads only its own connection's socket, and a socket has at most one writing transfer, which
 * conn->writer names: that is what makes full duplex safe.
 */
struct xfer {
	uint8_t src; /* enum source: NONE, MAPPING, FILE or SOCKET (the others are in iov) */
	uint8_t iov_at;
	uint8_t iov_nr;
	bool started;	 /* some byte of it was handed to the kernel */
	bool shut_dst;	 /* TO_EOF: at end of file shut down writing to the destination */
	bool dst_failed; /* a destination has an err that conn_drop_dsts() has not seen */
	uint16_t nr_dst;
	struct xfer_dst *dst; /* the skeleton's, until conn_done() */
	int file_fd;
	uint64_t off;	/* next byte of the file, for MAPPING as well */
	uint64_t len;	/* body bytes still to be delivered, or XFER_TO_EOF */
	uint64_t total; /* SOCKET: of the whole upload that this is a part of; XFER_TO_EOF: unknown
			 */
	const char *mem;
	struct lease *lease; /* of mem or file_fd; NULL when src is NONE */
	struct iovec iov[XFER_IOV];
};

/* ------------------------------------------------------------------------------ connections */

/* What the skeleton asks of the engine next; read it in conn->step after every call. */
enum step {
	STEP_RECV,  /* feed the bytes still unfed; receive only when there are none */
	STEP_XFER,  /* perform conn->xfer, then conn_done() */
	STEP_PARK,  /* read nothing; conn_hup() when the peer hangs up. Others may write to it */
	STEP_CLOSE, /* end the connection as close_how says; honoured in the middle of anything */
	STEP_MOVE,  /* quiesce, forget all state, worker_post(); touch the connection no more */
	/*
	 * Only of connections that worker_next() brings and the engine has no state of yet. Such a
	 * one may come with STEP_CLOSE instead; its fd may be -1.
	 */
	STEP_ATTACH,  /* set up state for fd, which came from another worker; conn_attached() */
	STEP_CONNECT, /* fd is -1: make a socket, connect it to addr, conn_done() */
};

enum close_how {
	CLOSE_NOW,    /* the peer has closed: nothing is left to say */
	CLOSE_LINGER, /* shut down writing, discard input until EOF or the skeleton says ABORT */
	CLOSE_ABORT,  /* at once, with RST, so that a cut response cannot look whole */
};

/* What is known when a peer hangs up. */
enum hangup {
	HUP_READ, /* it will send no more (FIN); it may well still read */
	HUP_DEAD, /* reset, or closed in both directions */
};

/*
 * The part of a connection that engines see. Allocated and freed by the skeleton; the engine's own
 * engine->conn_bytes (zeroed at conn_open, and again before ATTACH) stand at `priv`, in the same
 * allocation.
 */
struct conn {
	struct worker *w;
	void *priv;
	void *mover;	      /* the mover's part of priv; set by the driver */
	struct counters *ctr; /* the block to count in: the worker's, or a thread's own */
	int fd;
	uint8_t step;		   /* enum step */
	uint8_t close_how;	   /* enum close_how, when step is CLOSE */
	bool closing;		   /* conn_closing() was called */
	bool pending;		   /* waits in the worker_next() queue */
	int16_t move_to;	   /* worker index, when step is MOVE */
	bool ends;		   /* STEP_XFER: conn_done() will ask for CLOSE */
	_Atomic uint64_t since_ns; /* last progress, for the skeleton's lazy deadlines */
	struct conn *writer;	   /* whose transfer has this socket as destination; NULL: nobody */
	/*
	 * Received bytes that were not fed yet, on the heap, the engine's: they travel with a MOVE.
	 * xfer_take_unfed() lends them to a transfer, so the memory goes only in conn_trim_unfed().
	 */
	char *unfed;
	uint32_t unfed_off, unfed_len;
	void *carried;		/* a mover's state on its way to another worker, see struct mover */
	_Atomic uint64_t moved; /* of socket sources: delivered bytes, for whoever watches */
	struct xfer xfer;
	const struct sockaddr *addr; /* when step is CONNECT */
	uint32_t addr_len;
};

/* ------------------------------------------------------------------------------ workers */

/*
 * Where the skeleton takes memory for responses that are sent again and again. get() returns at
 * least `bytes`, or NULL; put() gets the same `bytes`, and may come after worker_exit().
 */
struct body_memory {
	void *(*get)(struct worker *w, size_t bytes);
	void (*put)(struct worker *w, void *mem, size_t bytes);
};

/* The part of a worker that engines see. One thread, one core, one listener, nothing shared. */
struct worker {
	const struct engine *engine;
	const int64_t *opt; /* values of engine->options, same order */
	struct counters *ctr;
	void *priv;			  /* the engine's, set in worker_init */
	const struct body_memory *memory; /* set in worker_init; NULL: the heap */
	void *memory_priv;		  /* of those functions */
	int index;
	int cpu; /* -1: not pinned */
	int node;
	int listen_fd; /* non-blocking; inherited options are set; the skeleton closes it */
	int wake_fd;   /* eventfd, non-blocking: becomes readable when the worker must tick */
	_Atomic uint64_t now_ns; /* CLOCK_MONOTONIC at the last worker_tick() */
	_Atomic bool draining;	 /* stop accepting, let the responses in flight finish */
	bool relays; /* sockets are sources here: receive nothing that no step asked for */
};

/* ------------------------------------------------------------------------------ options */

enum opt_type {
	OPT_INT,
	OPT_SIZE,
	OPT_BOOL,
	OPT_ENUM
};

/*
 * One engine option. The value reaches the engine as int64_t: the number, bytes for OPT_SIZE
 * (suffixes k, m, g), 0/1 for OPT_BOOL, the index into `values` for OPT_ENUM.
 */
struct opt_def {
	const char *name;
	const char *help;
	const char *const *values; /* OPT_ENUM: NULL-terminated */
	int64_t def, min, max;
	enum opt_type type;
};

#define ENGINE_OPTS_MAX 24

/* Options every socket engine has; they must come first, in this order. */
enum common_opt {
	COPT_SNDBUF,
	COPT_NODELAY,
	COPT_HOLD,
	COPT_NR
};

/* What keeps the pieces of a response in full segments: values of COPT_HOLD. */
enum hold {
	HOLD_MORE,
	HOLD_CORK,
	HOLD_NONE
};
extern const char *const hold_values[];
#define COMMON_OPTIONS                                                                        \
	{.name = "sndbuf",                                                                    \
	 .type = OPT_SIZE,                                                                    \
	 .max = 1 << 30,                                                                      \
	 .help = "SO_SNDBUF of each connection in bytes, which also ends the kernel's send-"  \
		 "buffer autotuning; 0 leaves autotuning on (tcp(7))"},                       \
		{.name = "nodelay",                                                           \
		 .type = OPT_BOOL,                                                            \
		 .def = 1,                                                                    \
		 .max = 1,                                                                    \
		 .help = "TCP_NODELAY: send a partial segment at once (tcp(7))"},             \
	{                                                                                     \
		.name = "hold", .type = OPT_ENUM, .max = 2, .values = hold_values,            \
		.help = "what keeps a file's pieces in full segments: more: MSG_MORE on all " \
			"but the last; cork: TCP_CORK around them, two calls a response; "    \
			"none (send(2), tcp(7))"                                              \
	}

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

/* ------------------------------------------------------------------------------ helpers */

static inline void xfer_touch(struct conn *c)
{
	atomic_store_explicit(&c->since_ns,
			      atomic_load_explicit(&c->w->now_ns, memory_order_relaxed),
			      memory_order_relaxed);
}

/* n bytes were handed to the kernel, for one destination. */
static inline void xfer_count(struct conn *c, size_t n)
{
	count_add(c->ctr, bytes, n);
	c->xfer.started = true;
}

/* n bytes of the memory pieces are delivered; n must not exceed what they hold. */
static inline void xfer_skip_iov(struct xfer *x, size_t n)
{
	while (x->iov_at < x->iov_nr && n >= x->iov[x->iov_at].iov_len)
		n -= x->iov[x->iov_at++].iov_len;
	if (n) {
		x->iov[x->iov_at].iov_base = (char *)x->iov[x->iov_at].iov_base + n;
		x->iov[x->iov_at].iov_len -= n;
	}
}

/* n bytes of the memory pieces were handed to the kernel, for the only destination. */
static inline void xfer_advance_iov(struct conn *c, size_t n)
{
	xfer_count(c, n);
	xfer_skip_iov(&c->xfer, n);
}

/* n bytes of a socket source are on their way to every living destination. */
static inline void xfer_relayed(struct conn *c, size_t n)
{
	count_add(c->ctr, relayed_bytes, n);
	atomic_store_explicit(&c->moved, atomic_load_explicit(&c->moved, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/* n bytes of the body source are delivered; who handed them to the kernel has counted them. */
static inline void xfer_skip_body(struct conn *c, size_t n)
{
	struct xfer *x = &c->xfer;

	x->off += n;
	if (x->len != XFER_TO_EOF)
		x->len -= n;
	if (x->src == SOURCE_MAPPING)
		x->mem += n;
	if (x->src == SOURCE_SOCKET)
		xfer_relayed(c, n);
}

/* n bytes of the body source were handed to the kernel, for the only destination. */
static inline void xfer_advance_body(struct conn *c, size_t n)
{
	xfer_count(c, n);
	xfer_skip_body(c, n);
}

/* The connection to write to when there is one destination. */
static inline struct conn *xfer_sink(struct conn *c)
{
	return c->xfer.nr_dst ? c->xfer.dst[0].c : c;
}

static inline bool xfer_dst_lives(const struct xfer_dst *d)
{
	return d->c && !d->err;
}

/* Destination i is to be passed over; err is -errno. */
static inline void xfer_fail_dst(struct xfer *x, unsigned i, int err)
{
	x->dst[i].err = err;
	x->dst_failed = true;
}

/* Destinations that live; 1 for a transfer to its own socket. */
static inline unsigned xfer_live(const struct xfer *x)
{
	unsigned nr = !x->nr_dst;

	for (unsigned i = 0; i < x->nr_dst; i++)
		nr += xfer_dst_lives(&x->dst[i]);
	return nr;
}

/* Before the first move of a socket source: the bytes already received are its first ones. */
static inline void xfer_take_unfed(struct conn *c)
{
	struct xfer *x = &c->xfer;
	size_t n = c->unfed_len < x->len ? c->unfed_len : (size_t)x->len;

	if (x->src != SOURCE_SOCKET || !n)
		return;
	x->iov[x->iov_nr++] = (struct iovec){.iov_base = c->unfed + c->unfed_off, .iov_len = n};
	c->unfed_off += (uint32_t)n;
	c->unfed_len -= (uint32_t)n;
	if (x->len != XFER_TO_EOF)
		x->len -= n;
	xfer_relayed(c, n);
}

/* For drivers, in STEP_RECV: feeds what was kept before anything new is received. */
void conn_feed_unfed(struct conn *c);

/* Frees the unfed bytes' memory when all of them were fed, and no transfer has borrowed them. */
void conn_trim_unfed(struct conn *c);

/* Adds bytes behind the unfed ones. 0 or -ENOMEM. */
int conn_keep_unfed(struct conn *c, const char *buf, size_t len);

/* True when memory pieces are left to be sent. */
static inline bool xfer_has_iov(const struct xfer *x)
{
	return x->iov_at < x->iov_nr;
}

/* The bytes the memory pieces hold. */
static inline size_t xfer_iov_bytes(const struct xfer *x)
{
	size_t sum = 0;

	for (unsigned i = x->iov_at; i < x->iov_nr; i++)
		sum += x->iov[i].iov_len;
	return sum;
}

/* ------------------------------------------------------------------------------ stock drivers */

/*
 * Readiness: epoll, edge-triggered, each socket registered once. conn_bytes must be
 * DRIVE_EPOLL_BYTES plus the mover's.
 */
#define DRIVE_EPOLL_BYTES 64
int drive_epoll_init(struct worker *w);

/*
 * Between init and run. edge: sockets are watched edge-triggered, for all events and once; else
 * level-triggered, for what their step waits for, with an epoll_ctl when that changes.
 * busy_poll_ns: so long is looked for events before the thread sleeps for them.
 */
void drive_epoll_tune(struct worker *w, bool edge, uint64_t busy_poll_ns);
int drive_epoll_run(struct worker *w);
void drive_epoll_exit(struct worker *w);

/*
 * Blocking: a thread per connection, one mutex per worker around the skeleton, never around I/O.
 * conn_bytes must be DRIVE_BLOCKING_BYTES plus the mover's.
 */
#define DRIVE_BLOCKING_BYTES 576
int drive_blocking_init(struct worker *w);
int drive_blocking_run(struct worker *w);
void drive_blocking_exit(struct worker *w);

/* Movers that more than one engine uses. */
extern const struct mover move_copy;

/* For movers: MSG_MORE for a piece that others of the same transfer follow, 0 without hold=more. */
static inline int hold_flag(const struct conn *c)
{
	return c->w->opt[COPT_HOLD] == HOLD_MORE ? MSG_MORE : 0;
}

/* Bytes of a TCP segment at most: loopback's are so long. */
#define SEGMENT_MAX 65536

/*
 * For movers: the same for a part of a file that goes on in a later call. None in a send buffer
 * that no second segment fits in: what is held back fills it as one, and a receiver acknowledges
 * less than two only after 40 ms (__tcp_ack_snd_check, net/ipv4/tcp_input.c; TCP_DELACK_MIN), which
 * is every time when there is room again.
 */
static inline int hold_part_flag(const struct conn *c)
{
	int64_t sndbuf_bytes = c->w->opt[COPT_SNDBUF];

	return sndbuf_bytes && sndbuf_bytes < SEGMENT_MAX ? 0 : hold_flag(c);
}

/* For drivers: with hold=cork, before the first and after the last piece of a file's transfer. */
void xfer_cork(struct conn *c, bool on);

/*
 * For movers: sends the memory pieces to every living destination, flags as for sendmsg(2).
 * MOVED_ALL, MOVED_WANT_DST, MOVED_TURN (interrupted) or -errno.
 */
int send_iov(struct conn *c, int flags);

/*
 * For movers of sockets: one round, len bytes of buf to every living destination. MOVED_ALL when
 * each has all of it (`at` is 0 again), MOVED_WANT_DST, MOVED_TURN, or -EPIPE when none lives. The
 * same buf and len must come again until MOVED_ALL. Does not advance the transfer.
 */
int send_round(struct conn *c, const char *buf, size_t len, int flags);

/* For drivers, when a socket source has ended: shuts writing down if the transfer asks for it. */
void xfer_shut_dsts(struct conn *c);

/* For drivers: a socket for STEP_CONNECT with the common options set, or -errno. */
int outgoing_socket(struct conn *c, int flags);

/* For movers of mappings: 0 while the file still holds the bytes up to off, else -EPIPE. */
int mapping_intact(struct conn *c, uint64_t end_off);

#endif
