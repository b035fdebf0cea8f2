/* SPDX-License-Identifier: MIT */
/* Internal to the load generator: connections and the state they share. load.h is the interface. */
#ifndef IOLAB_LOAD_CONN_H
#define IOLAB_LOAD_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "load.h"
#include "open_loop.h"
#include "plan.h"
#include "stream.h"

enum conn_state {
	CONN_DOWN,	 /* no socket */
	CONN_CONNECTING, /* socket, handshake not finished */
	CONN_UP,
};

/* A request whose response is not complete. */
struct asked {
	uint64_t start_ns; /* its latency counts from here: the send, or in an open loop when due */
	uint64_t sent_ns;  /* its time-out counts from here */
	uint32_t route;
};

/*
 * One connection. Owned by the struct load for its whole life; sockets come and go in it. What the
 * hot path touches stands first.
 */
struct conn {
	int fd; /* -1 unless CONNECTING or UP */
	uint8_t state;
	bool hup;	    /* the peer sent FIN or RST: read to the end, send nothing more */
	bool queued;	    /* on load.again */
	bool was_up;	    /* a later open is a reconnect */
	bool waits_for_due; /* in the ring of the open loop */
	uint32_t nr_asked;  /* requests outstanding, unsent ones included */
	uint32_t first;	    /* place of the oldest in ring, modulo its size */
	struct asked *ring;
	struct stream stream;
	struct verify_hash *hash; /* NULL without comparison */
	char *unsent;		  /* tail of a request that the socket did not take; rare */
	size_t unsent_bytes;
	uint64_t opened_ns;	/* begin of the connect */
	uint64_t room_since_ns; /* open loop: when it was put into the ring */
	struct conn *next_again;
};

struct load {
	const struct load_config *cfg;
	const struct addrinfo *address; /* the one in use */
	int epfd;
	bool quiet;	      /* trying addresses: a failure is no news yet */
	bool issuing;	      /* completed responses are answered by new requests */
	uint32_t ring_mask;   /* size of the rings - 1; a power of two */
	uint64_t now_ns;      /* last clock reading */
	uint64_t nr_asked;    /* sum over the connections */
	struct hist *latency; /* where to record; NULL outside the window */
	struct conn *again;   /* connections that may have more to read, without a new event */
	char *scratch;	      /* what was received last */
	struct counters count;
	struct open_loop open;
	struct plan plan;
	struct conn *conns;
	uint32_t nr_conns;
	uint32_t nr_up;
	uint32_t nr_connecting;
	uint32_t nr_said; /* messages given in this slice */
	int connect_error;
	uint64_t idle_ns;
	uint64_t next_tick_ns;
};

/* Room at load.scratch. */
#define SCRATCH_BYTES (256 * 1024)

/* How much to receive for a first response, of which nothing is known yet. */
uint32_t conn_first_ask(const struct load *l);

/* Allocates what a connection keeps. Returns 0 or -ENOMEM; conn_exit() is due in both cases. */
int conn_init(struct load *l, struct conn *c);

/* Closes and frees. */
void conn_exit(struct load *l, struct conn *c);

/* Begins to connect a CONN_DOWN connection; an immediate failure is counted. */
void conn_open(struct load *l, struct conn *c);

/* True if one more request may be sent on it, while the run is issuing. */
bool conn_has_room(const struct load *l, const struct conn *c);

/* Sends `nr` requests; it has room for them. Their latencies count from `start_ns`. */
void conn_ask(struct load *l, struct conn *c, uint32_t nr, uint64_t start_ns);

/* Fills the pipeline; in an open loop hands the connection over to it. */
void conn_fill(struct load *l, struct conn *c);

/* Goes on sending what the socket did not take, then fills the pipeline. */
void conn_send_unsent(struct load *l, struct conn *c);

/* Handles the events epoll reported. */
void conn_ready(struct load *l, struct conn *c, uint32_t events);

/* Goes on reading where the turn's limit stopped it. */
void conn_continue(struct load *l, struct conn *c);

/* Deadlines, and another try for a connection that is down. Called at a coarse interval. */
void conn_tick(struct load *l, struct conn *c);

/* Counts an error, closes the connection, and opens it again if that looks promising. */
void conn_fail(struct load *l, struct conn *c, enum load_error error, const char *why);

/*
 * Looks at a connection on which nothing is outstanding: surplus bytes are an error, a close by
 * the server is not, and leaves the connection down.
 */
void conn_check_idle(struct load *l, struct conn *c);

#endif
