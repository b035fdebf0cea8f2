// SPDX-License-Identifier: MIT
/* The framing of a streamed request body: what of its bytes is data. */
#include "http.h"

/* Framing between two pieces of data: a chunk's size and extensions, or the trailer section. */
#define FRAMING_MAX 16384

enum http_body http_body(struct http_parser *p, const char *buf, size_t len, size_t *used)
{
	llhttp_errno_t err;

	*used = 0;
	if (p->left)
		return BODY_DATA;
	if (p->done || !p->chunked)
		return BODY_END;
	if (!len)
		return BODY_MORE;
	p->base = buf;
	err = llhttp_execute(&p->ll, buf, len);
	*used = err == HPE_PAUSED ? (size_t)(llhttp_get_error_pos(&p->ll) - buf) : len;
	p->body_len += *used;
	if (p->body_len > FRAMING_MAX)
		return BODY_BAD;
	if (err == HPE_OK)
		return BODY_MORE;
	if (err != HPE_PAUSED)
		return BODY_BAD;
	llhttp_resume(&p->ll);
	p->body_len = 0;
	return p->done ? BODY_END : BODY_DATA;
}

/*
 * llhttp counts a chunk's data down without looking at it, so any memory of the same length will do
 * for it: a few nanoseconds for each 64 KiB.
 */
void http_body_took(struct http_parser *p, uint64_t n)
{
	static const char any[65536];

	p->left -= n;
	while (p->chunked && n) {
		size_t part = n < sizeof(any) ? (size_t)n : sizeof(any);

		llhttp_execute(&p->ll, any, part);
		n -= part;
	}
}
