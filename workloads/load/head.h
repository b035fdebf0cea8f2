/* SPDX-License-Identifier: MIT */
/*
 * Strict parser of an HTTP/1.x response head (RFC 9112), without I/O and without allocation.
 *
 * It is deliberately not the parser the server uses: a fault in one of them then shows up as an
 * error instead of cancelling out. It is strict where a general client is lenient (bare LF, folded
 * lines, repeated Content-Length), because a server under test has no excuse.
 */
#ifndef IOLAB_LOAD_HEAD_H
#define IOLAB_LOAD_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Largest head accepted, the empty line included. */
#define HEAD_MAX_BYTES 16384

/* The few facts a load generator needs from a head. */
struct head {
	uint32_t len_bytes;	 /* length of the head, the empty line included */
	uint16_t status;	 /* 100 to 599 */
	bool keep_alive;	 /* the server will answer further requests on this connection */
	bool has_length;	 /* a Content-Length was given */
	uint64_t content_length; /* in bytes; 0 without has_length */
};

/*
 * Could these be the first bytes of a response? False as soon as they differ from "HTTP/1.", so
 * that garbage is noticed at its first byte and not at a time-out.
 */
bool head_plausible(const char *buf, size_t len);

/*
 * Looks for the empty line that ends a head. `from` bytes were searched before without success.
 * Returns the length of the head with its empty line, 0 if it is not there yet, -EBADMSG at a line
 * that ends without CR.
 */
ssize_t head_find_end(const char *buf, size_t len, size_t from);

/*
 * Parses a head of exactly `len` bytes as head_find_end() delimited it. Returns NULL and fills
 * *head, or a static sentence that says what is wrong; head->status is set as far as it was read,
 * else 0.
 */
const char *head_parse(const char *buf, size_t len, struct head *head);

#endif
