// SPDX-License-Identifier: MIT
#include "http.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct {
	const char *name;
	uint8_t len;
} field_names[FIELD_NR] = {
#define F(f, s) [f] = {s, sizeof(s) - 1}
	F(FIELD_HOST, "host"),
	F(FIELD_RANGE, "range"),
	F(FIELD_IF_RANGE, "if-range"),
	F(FIELD_IF_MATCH, "if-match"),
	F(FIELD_IF_NONE_MATCH, "if-none-match"),
	F(FIELD_IF_MODIFIED_SINCE, "if-modified-since"),
	F(FIELD_IF_UNMODIFIED_SINCE, "if-unmodified-since"),
	F(FIELD_EXPECT, "expect"),
	F(FIELD_TRANSFER_ENCODING, "transfer-encoding"),
	F(FIELD_CONTENT_TYPE, "content-type"),
	F(FIELD_CONTENT_DISPOSITION, "content-disposition"),
	F(FIELD_CONTENT_RANGE, "content-range"),
	F(FIELD_SERVICE_WORKER, "service-worker"),
	F(FIELD_X_PIPING, "x-piping"),
#undef F
};

/* Lists in several lines are one list (RFC 9110 5.3); these are no lists, and smuggle if twice. */
#define FIELDS_ONCE (1u << FIELD_HOST | 1u << FIELD_TRANSFER_ENCODING | 1u << FIELD_RANGE)

static struct http_parser *parser_of(llhttp_t *ll)
{
	return ll->data;
}

/* Extends s by a fragment; fragments of one element follow each other in the head. */
static void extend(struct http_parser *p, struct span *s, const char *at, size_t len)
{
	size_t off = (size_t)(at - p->base) + p->base_off;

	if (!s->len)
		s->off = (uint16_t)off;
	s->len = (uint16_t)(off + len - s->off);
}

static int on_begin(llhttp_t *ll)
{
	parser_of(ll)->begun = true;
	return 0;
}

static int on_url(llhttp_t *ll, const char *at, size_t len)
{
	struct http_parser *p = parser_of(ll);

	if (p->req.url.len + len > HTTP_URL_MAX) {
		p->req.error = 414;
		return HPE_USER;
	}
	extend(p, &p->req.url, at, len);
	return 0;
}

static int on_field(llhttp_t *ll, const char *at, size_t len)
{
	struct http_parser *p = parser_of(ll);

	if (!p->head_done)
		extend(p, &p->name, at, len);
	return 0;
}

static enum http_field field_of(const char *name, size_t len)
{
	for (unsigned f = 0; f < FIELD_NR; f++)
		if (field_names[f].len == len && !strncasecmp(field_names[f].name, name, len))
			return f;
	return FIELD_OTHER;
}

static int on_field_complete(llhttp_t *ll)
{
	struct http_parser *p = parser_of(ll);
	const char *name = p->base - p->base_off + p->name.off;

	if (p->head_done)
		return 0;
	p->field = (uint8_t)field_of(name, p->name.len);
	p->name.len = 0;
	if (p->field == FIELD_OTHER)
		return 0;
	if (p->req.seen & FIELDS_ONCE & (1u << p->field))
		p->req.twice = true;
	p->req.seen |= 1u << p->field;
	p->req.field[p->field].len = 0; /* of several the last one counts */
	return 0;
}

static int on_value(llhttp_t *ll, const char *at, size_t len)
{
	struct http_parser *p = parser_of(ll);

	if (!p->head_done && p->field != FIELD_OTHER)
		extend(p, &p->req.field[p->field], at, len);
	return 0;
}

/* The one field of which every line counts, as a line. */
static int on_value_complete(llhttp_t *ll)
{
	struct http_parser *p = parser_of(ll);

	if (p->head_done || p->field != FIELD_X_PIPING)
		return 0;
	if (p->req.nr_piping == HTTP_PIPING_MAX) {
		p->req.error = 431;
		return HPE_USER;
	}
	p->req.piping[p->req.nr_piping++] = p->req.field[FIELD_X_PIPING];
	return 0;
}

static int on_headers_complete(llhttp_t *ll)
{
	struct http_parser *p = parser_of(ll);

	p->head_done = true;
	p->req.method = ll->method;
	p->req.major = ll->http_major;
	p->req.minor = ll->http_minor;
	ll->upgrade = 0; /* no role upgrades: the field is ignored (RFC 9110 7.8) */
	if (p->uploads && (ll->method == HTTP_PUT || ll->method == HTTP_POST)) {
		p->streaming = true;
		p->chunked = ll->flags & F_CHUNKED;
		p->left = ll->flags & F_CONTENT_LENGTH ? ll->content_length : 0;
		p->req.keep_alive = llhttp_should_keep_alive(ll);
		return HPE_PAUSED;
	}
	if ((ll->flags & F_CONTENT_LENGTH) && ll->content_length > HTTP_BODY_MAX) {
		p->req.error = 413;
		return HPE_USER;
	}
	return 0;
}

/* The data of a streamed chunk is for others; llhttp has its length (0: the last chunk). */
static int on_chunk_header(llhttp_t *ll)
{
	struct http_parser *p = parser_of(ll);

	if (!p->streaming || !ll->content_length)
		return 0;
	p->left = ll->content_length;
	return HPE_PAUSED;
}

static int on_body(llhttp_t *ll, const char *at, size_t len)
{
	struct http_parser *p = parser_of(ll);

	if (p->streaming)
		return 0;
	p->body_len += len;
	if (p->body_len <= HTTP_BODY_MAX)
		return 0;
	p->req.error = 413;
	return HPE_USER;
}

static int on_complete(llhttp_t *ll)
{
	struct http_parser *p = parser_of(ll);

	p->done = true;
	p->req.keep_alive = llhttp_should_keep_alive(ll);
	return HPE_PAUSED;
}

static llhttp_settings_t settings;

static __attribute__((constructor)) void settings_init(void)
{
	llhttp_settings_init(&settings);
	settings.on_message_begin = on_begin;
	settings.on_url = on_url;
	settings.on_header_field = on_field;
	settings.on_header_field_complete = on_field_complete;
	settings.on_header_value = on_value;
	settings.on_header_value_complete = on_value_complete;
	settings.on_headers_complete = on_headers_complete;
	settings.on_chunk_header = on_chunk_header;
	settings.on_body = on_body;
	settings.on_message_complete = on_complete;
}

static void forget(struct http_parser *p)
{
	memset(&p->req, 0, sizeof(p->req));
	p->held_len = 0;
	p->head_len = 0;
	p->body_len = 0;
	p->base_off = 0;
	p->name.len = 0;
	p->field = FIELD_OTHER;
	p->head_done = p->done = p->begun = p->streaming = p->chunked = false;
	p->left = 0;
}

static void init_llhttp(struct http_parser *p)
{
	llhttp_init(&p->ll, HTTP_REQUEST, &settings);
	p->ll.data = p;
}

void http_init(struct http_parser *p, bool uploads)
{
	init_llhttp(p);
	p->uploads = uploads;
	p->held = NULL;
	forget(p);
}

void http_free(struct http_parser *p)
{
	free(p->held);
	p->held = NULL;
}

void http_next(struct http_parser *p)
{
	if (p->held)
		http_free(p);
	if (p->streaming) /* llhttp stands before a body that it never saw */
		init_llhttp(p);
	forget(p);
}

void http_head_over(struct http_parser *p)
{
	http_free(p);
	p->held_len = 0;
	p->body_len = 0;
	memset(&p->req, 0, sizeof(p->req));
}

bool http_tchar(char ch)
{
	return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
	       (ch && strchr("!#$%&'*+-.^_`|~", ch));
}

/* A method is unknown (501) when it is a token all the same, up to a space or the end. */
static int judge_method(const char *head, size_t len)
{
	size_t i = 0;

	while (i < len && http_tchar(head[i]))
		i++;
	return i && (i == len || head[i] == ' ') ? 501 : 400;
}

/* A version is unsupported (505) when it has the form HTTP/DIGIT.DIGIT, else the line is bad. */
static int judge_version(const char *head, size_t len)
{
	const char *eol = memchr(head, '\n', len);
	const char *v = eol ? memmem(head, (size_t)(eol - head), " HTTP/", 6) : NULL;

	if (!eol) /* judged before the line was whole: the digits were what offended */
		return 505;
	if (!v || eol - v < 9)
		return 400;
	return v[6] >= '0' && v[6] <= '9' && v[7] == '.' && v[8] >= '0' && v[8] <= '9' ? 505 : 400;
}

static int status_of_error(struct http_parser *p, llhttp_errno_t err, const char *head, size_t len)
{
	if (err == HPE_INVALID_TRANSFER_ENCODING) /* llhttp 9 says so of both lengths as well */
		return p->ll.flags & F_CONTENT_LENGTH ? 400 : 501;
	if (p->head_done) /* something in the body; there is no line to judge */
		return 400;
	if (err == HPE_INVALID_METHOD)
		return judge_method(head, len);
	return err == HPE_INVALID_VERSION ? judge_version(head, len) : 400;
}

/* What llhttp accepts and HTTP/1.1 forbids, or this server does not do. */
static int judge(const struct http_request *req)
{
	struct span te = req->field[FIELD_TRANSFER_ENCODING];

	if (req->major != 1)
		return req->major ? 505 : 400;
	if (req->twice)
		return 400;
	if (req->minor >= 1 && !http_has(req, FIELD_HOST))
		return 400;
	if (http_has(req, FIELD_TRANSFER_ENCODING) &&
	    (te.len != 7 || strncasecmp(span_at(req, te), "chunked", 7)))
		return 501;
	return 0;
}

/* Keeps the head for a later call. False when out of memory. */
static bool hold(struct http_parser *p, const char *buf, size_t len)
{
	if (!p->held)
		p->held = malloc(HTTP_HEAD_MAX);
	if (!p->held)
		return false;
	memcpy(p->held + p->held_len, buf, len);
	p->held_len += (uint32_t)len;
	return true;
}

static enum http_result fail(struct http_parser *p, int status)
{
	if (!p->req.error)
		p->req.error = status;
	p->req.keep_alive = false;
	return REQ_READY;
}

/* Runs llhttp over [base, base + len). The head, as far as it is there, is at head. */
static enum http_result run(struct http_parser *p, const char *head, const char *base, size_t len,
			    size_t *used)
{
	llhttp_errno_t err;

	p->base = base;
	err = llhttp_execute(&p->ll, base, len);
	p->req.head = head;
	*used = len;
	if (err == HPE_OK)
		return REQ_MORE;
	if (err != HPE_PAUSED || (!p->done && !p->streaming))
		return fail(p, status_of_error(p, err, head, len + p->base_off));
	*used = (size_t)(llhttp_get_error_pos(&p->ll) - base);
	llhttp_resume(&p->ll);
	if (!p->req.error)
		p->req.error = judge(&p->req);
	if (p->req.error)
		p->req.keep_alive = false;
	return REQ_READY;
}

/*
 * A body that no role here wants: only counted, and limited with its chunk framing. Its bytes are
 * not the head's, which was held when the call that brought it ended.
 */
static enum http_result run_body(struct http_parser *p, const char *buf, size_t len, size_t *used)
{
	p->body_len += p->ll.flags & F_CHUNKED ? len / 2 : 0; /* a one-byte chunk costs six */
	p->base_off = 0;
	return run(p, p->held, buf, len, used);
}

/* The head began in an earlier call: its new bytes join the held ones, and are parsed there. */
static enum http_result run_held(struct http_parser *p, const char *buf, size_t len, size_t *used)
{
	size_t room = HTTP_HEAD_MAX - p->held_len, take = len < room ? len : room;
	enum http_result res;

	p->base_off = p->held_len;
	if (!hold(p, buf, take))
		return fail(p, 503);
	res = run(p, p->held, p->held + p->base_off, take, used);
	if (res == REQ_MORE && !p->head_done && p->held_len == HTTP_HEAD_MAX)
		return fail(p, 431);
	return res;
}

enum http_result http_parse(struct http_parser *p, const char *buf, size_t len, size_t *used)
{
	enum http_result res;

	if (p->head_done)
		return run_body(p, buf, len, used);
	if (p->held_len)
		return run_held(p, buf, len, used);
	p->base_off = 0;
	res = run(p, buf, buf, len < HTTP_HEAD_MAX ? len : HTTP_HEAD_MAX, used);
	if (res == REQ_READY || !p->begun)
		return res;
	if (!p->head_done && *used == HTTP_HEAD_MAX)
		return fail(p, 431);
	if (!hold(p, buf, *used))
		return fail(p, 503);
	p->req.head = p->held;
	return res;
}

const char *http_reason(int status)
{
	switch (status) {
#define R(code, text) \
	case code:    \
		return text
		R(200, "OK");
		R(204, "No Content");
		R(206, "Partial Content");
		R(301, "Moved Permanently");
		R(304, "Not Modified");
		R(400, "Bad Request");
		R(403, "Forbidden");
		R(404, "Not Found");
		R(405, "Method Not Allowed");
		R(408, "Request Timeout");
		R(412, "Precondition Failed");
		R(413, "Content Too Large");
		R(414, "URI Too Long");
		R(416, "Range Not Satisfiable");
		R(417, "Expectation Failed");
		R(431, "Request Header Fields Too Large");
		R(501, "Not Implemented");
		R(503, "Service Unavailable");
		R(505, "HTTP Version Not Supported");
#undef R
	default:
		return "Internal Server Error";
	}
}
