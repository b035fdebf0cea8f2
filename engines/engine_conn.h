/* SPDX-License-Identifier: MIT */
/* Part of engine.h: what passes between skeleton and engine: transfers, connections, workers. */
#ifndef IOLAB_ENGINE_CONN_H
#define IOLAB_ENGINE_CONN_H

#include "engine_counters.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* Responses that may be merged into one transfer (--merge), and the memory pieces they need. */
#define MERGE_MAX 16
#define XFER_IOV  (MERGE_MAX + 1)

struct conn;
struct engine;
struct worker;

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

#endif
