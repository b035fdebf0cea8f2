/* SPDX-License-Identifier: MIT */
/*
 * Inside of the pairs. pair.c has the life of one pair, pair_send.c and pair_receive.c its two
 * sides, upstream.c a forwarder's other end; pairs.c runs all of them and measures.
 */
#ifndef IOLAB_LOAD_PAIR_H
#define IOLAB_LOAD_PAIR_H

#include "pairs.h"
#include "pattern.h"
#include "reply.h"

#define SCRATCH_BYTES (4u << 20) /* room for what is discarded; touched only as far as compared */
#define COMPARE_BYTES (256u << 10)
#define SMALL_BYTES   (4u << 20) /* transfers up to this are finished before a pause */
#define RETRY_NS      (10 * 1000 * 1000ull)
#define FAILURES_MAX  8u
#define PACED_RCVBUF  (64 << 10)
#define HELLO_MAGIC   0x30414f4c424f4cull

/* One socket of a pair. */
struct end {
	struct pair *pair;
	int fd; /* -1: closed */
	uint64_t opened_turn;
	bool connecting, writable, readable, eof;
	char out[768]; /* what is to be sent before, or between, the payload */
	uint32_t out_len, out_at;
	struct reply *reply; /* relay */
};

/* Payload from one end to the other. */
struct flow {
	struct end *from, *to;
	uint64_t sent, got;	      /* of the current transfer */
	uint64_t paid_sent, paid_got; /* since the pace began */
	uint64_t chunk_left;
	bool active;
	bool finished_sending;
};

struct pair {
	struct pairs *owner;
	uint32_t index;
	uint64_t seq, done;
	/* Both move on by the length of a pause between slices, during which nothing can happen. */
	uint64_t begun_ns, progress_ns;
	uint64_t retry_ns;  /* not begun again before */
	uint32_t nr_failed; /* in a row */
	struct end a, b;    /* sender and receiver; client and upstream */
	struct flow flow[2];
	bool running;
	struct pair *next_again;
	bool queued;
};

/* An accepted connection that has not said yet whose it is. */
struct stranger {
	int fd;
	uint64_t accepted_ns;
	struct stranger *next;
};

struct pairs {
	const struct pairs_config *cfg;
	struct pattern pattern;
	struct pair *pair;
	struct pair *again;
	struct stranger *strangers;
	char *scratch;
	int epfd, listen_fd;
	bool sending, throttled;
	bool retrying; /* pairs wait for their retry_ns */
	uint64_t now_ns, pace_ns, idle_ns;
	uint64_t next_tick_ns, paused_ns;
	uint64_t sent_bytes, greeting_bytes;
	uint64_t nr_turns;	   /* waits for events so far */
	uint32_t nr_said, nr_done; /* done: pairs that have made cfg->count transfers */
	struct counters count;
	struct hist *latency;
};

/* Closes a socket, if it is open, and forgets what was to be sent. */
void end_close(struct end *e);

/* Registers an end's socket, edge-triggered, once. False with errno set. */
bool end_watch(struct pairs *ps, struct end *e);

/* Begins the pair's next transfer, unless it runs, none is wanted, or it is too early. */
void pair_start(struct pair *p);

/*
 * Counts an error (err: errno or 0); the pair begins anew, under another name: at once, after
 * failures in a row RETRY_NS later. With cfg->count it gives up after FAILURES_MAX in a row.
 */
void pair_fail(struct pair *p, enum load_error kind, const char *what, int err);

/* Sends and receives what can be, completes the transfer, begins the next. */
void pair_pump(struct pair *p);

/* Handles epoll(7) events of a socket; none that are from before the socket was opened. */
void pair_event(struct end *e, uint32_t events);

/* The second word of what a forwarder's client says first: which pair, and which attempt of it. */
static inline uint64_t pair_hello(const struct pair *p)
{
	return p->seq << 32 | p->index;
}

/* Has the pair pumped again without waiting for an event. */
void pair_queue(struct pair *p);

/*
 * How many of `want` bytes a rate (bytes/s; 0: any) allows now, when `paid` of them went since the
 * pace began. A pair that waits for its own rate does not stall. The drain knows no rates.
 */
uint64_t pair_paced(struct pair *p, uint64_t rate, uint64_t paid, uint64_t want);

/*
 * Whether a pause has to wait for the pair: bytes or ends that were sent have not arrived, or the
 * transfer is small enough to be finished.
 */
bool pair_on_its_way(const struct pair *p);

/* Fails the pair if it has made no progress for the time-out. */
void pair_check_timeout(struct pair *p);

/* Appends to what is to be sent before the next payload; what does not fit is left out. */
void end_say(struct end *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Sends what end_say() left. False while it is not all out, or when the pair has failed by it. */
bool end_flush(struct end *e);

/* Sends payload once. True when some went and more may go. */
bool flow_send(struct pair *p, struct flow *f);

/* Receives once, payload or what frames it. True when something came and more may come. */
bool flow_receive(struct pair *p, struct flow *f);

/* The relay's response to the sender: words, of no interest. True as flow_receive(). */
bool words_receive(struct pair *p, struct end *e);

/*
 * Looks at a connection on which nothing is due. False when there are bytes all the same; sets eof
 * when the server has closed it, which it may.
 */
bool end_is_quiet(struct end *e);

/* Closes the connections of a pair that rests if they are to be used no more; counts surplus. */
void pair_check_idle(struct pair *p);

/* Listens where the forwarder is to connect to. 0 or -errno; upstream_close() undoes either. */
int upstream_listen(struct pairs *ps);

/* Takes the connections that wait at the listener. */
void upstream_accept(struct pairs *ps);

/* Gives accepted connections that have said whose they are to their pairs; closes wrong ones. */
void upstream_meet(struct pairs *ps);

/* Closes connections that have not said for the time-out whose they are; accepts what waits. */
void upstream_tick(struct pairs *ps);

/* Closes the listener and the connections that no pair has. */
void upstream_close(struct pairs *ps);

#endif
