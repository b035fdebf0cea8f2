/* SPDX-License-Identifier: MIT */
/*
 * The load generator as a library: a set of persistent connections that is driven in slices.
 *
 * Closed loop: every connection keeps `pipeline` requests outstanding; a completed response is
 * answered by the next request at once. A slow server is therefore asked less often, and latency
 * is service time: from the send of a request to its complete response, never from the time it
 * should have been sent.
 *
 * Open loop (load_offer()): requests are due at a rate, over all connections together, and latency
 * is from the time they were due; open_loop.h has the whole of it.
 *
 * One thread, one epoll instance, no locks. None of the functions may be called from two threads
 * at a time for the same struct load; different ones are independent.
 */
#ifndef IOLAB_LOAD_LOAD_H
#define IOLAB_LOAD_LOAD_H

#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "counters.h"
#include "hist.h"
#include "open_loop.h"
#include "verify.h"

#define LOAD_MAX_CONNECTIONS 1000000u
#define LOAD_MAX_PIPELINE    1024u

/* What to do. All pointers are borrowed and must outlive the struct load. */
struct load_config {
	const char *host;		  /* value of the Host field */
	const struct addrinfo *addresses; /* tried in order; the first that connects is used */
	const char *const *paths;
	const struct verify_want *wants; /* one for each path: compare bodies; NULL: discard them */
	uint32_t nr_paths;		 /* at least 1 */
	uint32_t connections;		 /* 1 to LOAD_MAX_CONNECTIONS */
	uint32_t pipeline;   /* requests outstanding per connection, 1 to LOAD_MAX_PIPELINE */
	uint64_t timeout_ns; /* for a connect, a response and the drain */
	uint64_t seed;	     /* of the order of several paths, and of arrivals */
	enum arrivals_kind arrivals; /* of open loops */
	int rcvbuf_bytes;	     /* SO_RCVBUF; 0 leaves it to the kernel's tuning */
	const clockid_t *cpu_clocks; /* of the server's processes: cpu_clock_open() */
	size_t nr_cpu_clocks;
	const char *cpu_usage; /* file of the server's control group: cpu_usage_read(); or NULL */
	FILE *log;	       /* the first errors of each slice in words; NULL for silence */
};

/* What a slice measured. Times in ns; start_ns is CLOCK_MONOTONIC. */
struct slice_result {
	uint64_t start_ns;   /* of the window */
	uint64_t window_ns;  /* real length of the window, not the one asked for */
	uint64_t total_ns;   /* warm-up, window and drain */
	uint64_t drain_ns;   /* end of the window to the last outstanding response */
	uint64_t idle_ns;    /* time inside epoll_wait(2) in the window, its own cost included */
	uint64_t client_ns;  /* CPU time of this process in the window */
	uint64_t server_ns;  /* CPU time of the server's processes in the window */
	bool have_server_ns; /* false without clocks and usage, or when a process ended */
	struct counters window;
	struct counters total; /* errors count wherever in the slice they happened */
	/*
	 * Closed loop: of responses completed in the window. Open loop: of requests due in the
	 * window, completed whenever.
	 */
	struct hist latency;
	struct open_result open;
};

struct load;

/*
 * Connects everything. Returns 0 when at least one connection stands (see load_connected()),
 * -errno of the last failed attempt when none does, -ENOMEM, or -EMFILE-like limits. *out is the
 * caller's, to be given to load_close(); untouched on error.
 */
int load_open(const struct load_config *cfg, struct load **out);

/* Closes all connections and frees everything. */
void load_close(struct load *l);

/* Connections that stand at the moment. */
uint32_t load_connected(const struct load *l);

/*
 * What the next slices ask for: one of the paths, or with NULL all of them in turn. 0, or -ENOENT
 * when it is none of them; then nothing changes.
 */
int load_choose(struct load *l, const char *path);

/*
 * How the next slices ask: `rate` requests per second (RATE_MIN to RATE_MAX) in an open loop, or
 * with 0 in a closed one. 0, or -ENOSYS when the kernel lacks epoll_pwait2(2), Linux 5.11.
 */
int load_offer(struct load *l, double rate);

/*
 * Runs one slice: re-opens lost connections, fills every connection, warms up for warmup_ns,
 * measures for duration_ns, stops asking, and drains what is outstanding, for at most the
 * time-out; what is still missing then counts as timed out and loses its connection. In an open
 * loop the backlog is worked off first, for at most duration_ns. Between
 * slices nothing is outstanding. Failures of the server are results, not errors of this call.
 */
void load_slice(struct load *l, uint64_t warmup_ns, uint64_t duration_ns, struct slice_result *res);

#endif
