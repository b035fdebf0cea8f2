/* SPDX-License-Identifier: MIT */
/*
 * One HTTP/1.x response as it comes, framed in any way: for relays, which answer senders with text
 * and receivers with the stream. No I/O; body bytes may be taken by others, off the wire.
 */
#ifndef IOLAB_LOAD_REPLY_H
#define IOLAB_LOAD_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REPLY_HEAD_MAX 4096

enum reply_state {
	REPLY_HEAD,
	REPLY_BODY, /* `left` bytes of body come next */
	REPLY_SIZE, /* a chunk's size line */
	REPLY_GAP,  /* the line end behind a chunk */
	REPLY_TRAILER,
	REPLY_DONE,
	REPLY_BAD,
};

struct reply {
	uint8_t state;
	bool chunked;
	bool to_eof; /* the body ends with the connection */
	bool close;  /* the connection ends with the response */
	int status;
	uint32_t have; /* bytes in text */
	uint64_t left; /* UINT64_MAX: to_eof */
	char text[REPLY_HEAD_MAX];
};

void reply_init(struct reply *r);

/* Takes what is not body from buf; returns how much. Stops in front of body bytes. */
size_t reply_feed(struct reply *r, const char *buf, size_t len);

/* n bytes of body were taken. */
void reply_took(struct reply *r, uint64_t n);

/* The connection ended. False when the response is not complete then. */
bool reply_eof(struct reply *r);

#endif
