/* SPDX-License-Identifier: MIT */
/*
 * The first part of a multipart/form-data body (RFC 7578, RFC 2046 5.1.1), found in pieces as they
 * come. Pure: no I/O, no allocation.
 */
#ifndef IOLAB_MULTIPART_H
#define IOLAB_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MULTIPART_BOUNDARY_MAX 70 /* RFC 2046 5.1.1 */
#define MULTIPART_HEAD_MAX     4096

struct multipart {
	uint8_t state;
	uint8_t delim_len;
	uint8_t matched; /* bytes of the delimiter that the input ended with */
	uint8_t unreal;	 /* of those, how many only stand for a line end that was there before */
	uint8_t owed;	 /* of those, how many turned out to be data */
	uint16_t head_len;
	char delim[4 + MULTIPART_BOUNDARY_MAX + 1]; /* CR LF - - boundary */
	char owed_bytes[4 + MULTIPART_BOUNDARY_MAX];
	char head[MULTIPART_HEAD_MAX];
};

/* From the Content-Type of the request. 0, or -EINVAL when it has no usable boundary. */
int multipart_init(struct multipart *m, const char *content_type, size_t len);

enum multipart_event {
	MULTIPART_MORE, /* all was used */
	MULTIPART_HEAD, /* the first part's header fields are complete: multipart_field() */
	MULTIPART_DATA, /* *data, *data_len: bytes of its body, in buf or in m, until the next call
			 */
	MULTIPART_END,	/* its body is complete; what follows is not for us */
	MULTIPART_BAD,	/* no part, or its header fields do not fit or hold control characters */
};

/*
 * Consumes from buf; *used says how far. To be called again with the rest until MORE, END or BAD.
 */
enum multipart_event multipart_feed(struct multipart *m, const char *buf, size_t len, size_t *used,
				    const char **data, size_t *data_len);

/*
 * A header field of the first part, once HEAD was told; the last of several. The value is one line
 * without control characters other than tabs, however the upload had folded it.
 */
bool multipart_field(const struct multipart *m, const char *name, const char **value, size_t *len);

#endif
