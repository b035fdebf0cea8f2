/* SPDX-License-Identifier: MIT */
/*
 * Pairs of a sender and a receiver, joined by a relay (HTTP, one path a transfer) or a forwarder
 * (TCP; this process is its client and its upstream). Receivers check position and content.
 *
 * One thread, one epoll instance. Between slices senders pause, large transfers where they stand;
 * nothing is on its way then.
 */
#ifndef IOLAB_LOAD_PAIRS_H
#define IOLAB_LOAD_PAIRS_H

#include "load.h"

#define PAIRS_MAX    10000u
#define SIZE_ENDLESS UINT64_MAX

enum pairs_check {
	CHECK_NONE,   /* bytes are only counted */
	CHECK_SAMPLE, /* 4 KiB of each MiB are compared, and both ends of each transfer */
	CHECK_FULL,
};

enum pairs_direction {
	DIRECTION_UP, /* client to upstream */
	DIRECTION_DOWN,
	DIRECTION_BOTH,
};

/* All pointers are borrowed. */
struct pairs_config {
	bool forward;			 /* else relay */
	const char *host;		 /* value of the Host field */
	const struct addrinfo *target;	 /* the server; the first address is used */
	const struct addrinfo *upstream; /* forward: where to listen */
	const char *prefix;		 /* relay: of the paths */
	uint32_t nr_pairs;		 /* 1 to PAIRS_MAX */
	uint64_t size;			 /* of a transfer; SIZE_ENDLESS: forward only */
	bool chunked;			 /* relay: uploads without Content-Length */
	uint8_t direction;		 /* enum pairs_direction; forward */
	uint8_t check;			 /* enum pairs_check */
	uint64_t count;			 /* transfers of each pair; 0: slices decide */
	uint64_t rate_send, rate_recv;	 /* bytes/s of each sender, receiver; 0: as it goes */
	uint64_t timeout_ns;		 /* of a pair without progress, and of the drain */
	uint64_t seed;
	const clockid_t *cpu_clocks;
	size_t nr_cpu_clocks;
	const char *cpu_usage;
	FILE *log;
};

/* What a slice measured beside the common part, whose requests are transfers. */
struct pairs_result {
	struct slice_result slice;
	uint64_t sent_bytes;	 /* payload handed to the kernel over the whole slice */
	uint64_t greeting_bytes; /* what a forwarder moved beside: first bytes of connections */
};

struct pairs;

/* 0, or -errno with nothing kept: forward cannot listen, or memory or descriptors are short. */
int pairs_open(const struct pairs_config *cfg, struct pairs **out);
void pairs_close(struct pairs *ps);

/*
 * A slice as load_slice(): warm up, measure, pause, drain, for at most the time-out. Rates hold
 * until the window ends; time-outs and latencies leave the pauses between slices out.
 */
void pairs_slice(struct pairs *ps, uint64_t warmup_ns, uint64_t duration_ns,
		 struct pairs_result *res);

/*
 * Every pair makes cfg->count transfers, failed ones included, or gives up after several failures
 * in a row; the window is all of it. To be called once.
 */
void pairs_count(struct pairs *ps, struct pairs_result *res);

#endif
