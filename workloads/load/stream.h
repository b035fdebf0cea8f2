/* SPDX-License-Identifier: MIT */
/*
 * The response side of one connection, without I/O: bytes go in, verdicts come out.
 *
 * A caller feeds what it received and may instead discard body bytes in the kernel, as long as it
 * tells stream_skip() how many; stream_body_left() bounds that so that it never eats into the next
 * response.
 */
#ifndef IOLAB_LOAD_STREAM_H
#define IOLAB_LOAD_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "counters.h"
#include "head.h"

/* Longest head that a cache keeps. */
#define HEAD_CACHE_BYTES 1024

/*
 * The last good head of a path, verbatim, with what it says. Responses of one server to one path
 * repeat it byte for byte (until the clock in Date ticks), and equal bytes parse equally: one
 * comparison replaces the parse. Zero-initialise; shared by all connections of a thread.
 */
struct head_cache {
	struct head head; /* head.len_bytes is 0 while empty */
	char raw[HEAD_CACHE_BYTES];
};

enum stream_verdict {
	STREAM_MORE, /* everything was taken, the response is not complete */
	STREAM_DONE, /* a response is complete: stream.head describes it */
	STREAM_BAD,  /* what was sent cannot be right: see stream.error, stream.why */
};

/* State of a connection's response bytes. Zero-initialise; stream_reset() frees what it owns. */
struct stream {
	uint64_t body_left; /* body bytes due before the response is complete */
	struct head head;   /* of the response being read, or of the last complete one */
	bool in_body;
	bool any_done;	      /* at least one response was complete */
	bool interim;	      /* a 1xx head was read, its final response is due */
	uint32_t carry_bytes; /* part of a head kept from earlier input */
	uint32_t carry_room;  /* allocated size of carry */
	char *carry;
	enum load_error error; /* after STREAM_BAD: LOAD_ERR_HEAD or LOAD_ERR_LONG */
	const char *why;       /* after STREAM_BAD: static sentence */
};

/* What one call of stream_feed() took. */
struct stream_taken {
	size_t used_bytes; /* bytes taken from the front of the input */
	const char *body;  /* those of them that are body, within the input */
	size_t body_bytes;
};

/* Frees the carried bytes and makes the stream that of a new connection. */
void stream_reset(struct stream *s);

/*
 * Takes bytes up to the end of at most one response; the input is borrowed for the call. With
 * STREAM_MORE all of it was taken. `cache` is the cache of the path whose response is due.
 */
enum stream_verdict stream_feed(struct stream *s, struct head_cache *cache, const char *buf,
				size_t len, struct stream_taken *taken);

/* Body bytes that may be discarded unseen; 0 while a head is due. */
static inline uint64_t stream_body_left(const struct stream *s)
{
	return s->body_left;
}

/* `bytes` body bytes, at most stream_body_left(), were discarded. Never STREAM_BAD. */
enum stream_verdict stream_skip(struct stream *s, uint64_t bytes);

/* Has part of a response been read? An end of input is then LOAD_ERR_SHORT. */
static inline bool stream_is_mid_response(const struct stream *s)
{
	return s->in_body || s->interim || s->carry_bytes;
}

#endif
