/* SPDX-License-Identifier: MIT */
/*
 * Sockets to sockets through user space: a queue of chunks between a source and its destinations.
 * With one chunk it is streaming: nothing more is received until every destination has the chunk.
 * With many it is the buffering relay that streaming replaces, kept as a baseline.
 */
#ifndef IOLAB_QUEUE_H
#define IOLAB_QUEUE_H

#include "engine.h"

#define QUEUE_CHUNK_BYTES (64u << 10)
#define QUEUE_CHUNKS	  1024u /* of a buffering transfer: 64 MiB */

struct chunk;

/* Zeroed is empty. Chunks are on the heap, and only while they hold bytes. */
struct queue {
	struct chunk *first, **tail;
	uint32_t nr;
	bool eof;
	uint64_t bytes; /* received and not yet delivered */
};

/*
 * move() of a socket source, memory pieces first: at most nr_max chunks of chunk_bytes are in the
 * queue. The queue is empty after 0 and -errno.
 */
int queue_move(struct conn *c, struct queue *q, unsigned nr_max, size_t chunk_bytes);

/* Drops what is in it. */
void queue_drop(struct queue *q);

/* Options of engines that offer buffering, to be placed at `first` and `first` + 1. */
enum policy {
	POLICY_STREAM,
	POLICY_BUFFERED,
	POLICY_HYBRID,
};
extern const char *const policy_values[];

#define POLICY_OPTIONS                                                                       \
	{.name = "policy",                                                                   \
	 .type = OPT_ENUM,                                                                   \
	 .max = 2,                                                                           \
	 .values = policy_values,                                                            \
	 .help = "sockets: stream holds one buffer at most; buffered queues up to 64 MiB a " \
		 "transfer; hybrid buffers uploads shorter than the threshold"},             \
	{                                                                                    \
		.name = "threshold", .type = OPT_SIZE, .def = 500 << 20, .min = 1,           \
		.max = 1ll << 40,                                                            \
		.help = "policy=hybrid: uploads of a known length below this are buffered"   \
	}

/* Whether the transfer of c is to be buffered; `first` is the position of the policy option. */
bool policy_buffers(const struct conn *c, int first);

#endif
