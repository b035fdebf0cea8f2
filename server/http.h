/* SPDX-License-Identifier: MIT */
/* HTTP/1.x requests: llhttp does the syntax, this room keeps what the roles ask for. No I/O. */
#ifndef IOLAB_HTTP_H
#define IOLAB_HTTP_H

#include <llhttp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEAD_MAX 16384 /* request line and fields; beyond: 431 */
#define HTTP_URL_MAX  8192  /* request target; beyond: 414 */
#define HTTP_BODY_MAX 65536 /* of a request to a role that wants none; beyond: 413 */

/* Fields that are kept. */
enum http_field {
	FIELD_HOST,
	FIELD_RANGE,
	FIELD_IF_RANGE,
	FIELD_IF_MATCH,
	FIELD_IF_NONE_MATCH,
	FIELD_IF_MODIFIED_SINCE,
	FIELD_IF_UNMODIFIED_SINCE,
	FIELD_EXPECT,
	FIELD_TRANSFER_ENCODING,
	FIELD_CONTENT_TYPE,
	FIELD_CONTENT_DISPOSITION,
	FIELD_CONTENT_RANGE,
	FIELD_SERVICE_WORKER,
	FIELD_X_PIPING,
	FIELD_NR,
	FIELD_OTHER = FIELD_NR,
};

/* Offsets into the bytes of the head, so that they survive its moving. len 0: absent or empty. */
struct span {
	uint16_t off, len;
};

#define HTTP_PIPING_MAX 8 /* X-Piping fields that are kept; beyond: 431 */

struct http_request {
	const char *head; /* base of the spans; valid while the request is answered */
	struct span url;
	struct span field[FIELD_NR];
	struct span piping[HTTP_PIPING_MAX];
	uint8_t nr_piping;
	uint32_t seen;	/* bit per http_field */
	uint8_t method; /* llhttp_method_t */
	uint8_t major, minor;
	bool keep_alive;
	bool twice; /* a field came twice that must not */
	int error;  /* a status (400..505) instead of the request, 0 if sound */
};

/*
 * A connection's parser. Bytes of an unfinished head are kept in `held` (heap, only while a head
 * spans receives); a head that arrives whole is parsed where it lies.
 */
struct http_parser {
	llhttp_t ll;
	struct http_request req;
	char *held;
	uint32_t held_len;
	uint32_t base_off; /* position of the bytes now parsed, from the start of the head */
	uint32_t head_len; /* once head_done */
	uint64_t body_len;
	struct span name;
	uint8_t field; /* enum http_field whose value is being parsed */
	bool head_done;
	bool done;
	bool begun;	/* a byte of a request was seen */
	bool uploads;	/* PUT and POST are ready at the end of their head; see http_body() */
	bool streaming; /* such a request is under way */
	bool chunked;	/* its body is */
	uint64_t left;	/* bytes of its body that lie ahead without framing */
	const char *base;
};

enum http_result {
	REQ_MORE,
	REQ_READY
};

void http_init(struct http_parser *p, bool uploads);
void http_free(struct http_parser *p);

/*
 * Parses buf up to the end of one request. *used says how far. REQ_READY: p->req is whole (or
 * its error is set) until http_next(). REQ_MORE: everything was used, the request is not complete.
 */
enum http_result http_parse(struct http_parser *p, const char *buf, size_t len, size_t *used);

/* What comes next in a streaming body. */
enum http_body {
	BODY_MORE, /* framing that is not complete yet: everything was used */
	BODY_DATA, /* p->left bytes of data, to be taken by http_body_took() */
	BODY_END,
	BODY_BAD, /* malformed framing */
};

/*
 * The body of a streaming request, after its head. Uses framing only; *used says how far. Data is
 * for others to take: from buf, or from the wire without this parser seeing it.
 */
enum http_body http_body(struct http_parser *p, const char *buf, size_t len, size_t *used);

/* n bytes of data, at most p->left, were taken. */
void http_body_took(struct http_parser *p, uint64_t n);

/* Content-Length of a streaming request whose head was just parsed; UINT64_MAX: chunked. */
static inline uint64_t http_body_length(const struct http_parser *p)
{
	return p->chunked ? UINT64_MAX : p->left;
}

/* Frees the memory of the head: nothing of p->req may be used any more. */
void http_head_over(struct http_parser *p);

/* Makes ready for the next request. */
void http_next(struct http_parser *p);

/* Whether ch may stand in a token (RFC 9110 5.6.2). */
bool http_tchar(char ch);

/* Reason phrase of a status. */
const char *http_reason(int status);

static inline const char *span_at(const struct http_request *req, struct span s)
{
	return req->head + s.off;
}

static inline bool http_has(const struct http_request *req, enum http_field f)
{
	return req->seen & (1u << f);
}

#endif
