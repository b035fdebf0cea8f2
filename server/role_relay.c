// SPDX-License-Identifier: MIT
/*
 * Role relay: PUT or POST of a name sends, GET of it receives; whoever comes first waits. This file
 * turns requests into parties, and answers all the others.
 */
#include "relay.h"

#include "pages.h"
#include "target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* Compiled in: nothing is linked. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#define CORS  "Access-Control-Allow-Origin: *\r\n"
#define ALLOW "Allow: GET, POST, PUT, OPTIONS\r\n" CORS
#define CORS_ASKED                                                                           \
	CORS "Access-Control-Allow-Methods: GET, HEAD, POST, PUT, OPTIONS\r\n"               \
	     "Access-Control-Allow-Headers: Content-Type, Content-Disposition, X-Piping\r\n" \
	     "Access-Control-Max-Age: 86400\r\nContent-Length: 0\r\n"

/* The request's target, taken apart. */
struct relay_target {
	const char *path;
	size_t len;
	unsigned n; /* 0: not a number, or out of range */
};

/* A decimal from 1 to the limit; 0 when it is not. */
static unsigned parse_n(const char *text, size_t len)
{
	unsigned n = 0;

	if (!len || len > 5)
		return 0;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return 0;
		n = n * 10 + (unsigned)(text[i] - '0');
	}
	return n <= RELAY_RECEIVERS_MAX ? n : 0;
}

/* The value of n in a query; of several the last one counts. 1 without any. */
static unsigned query_n(const char *query, const char *end)
{
	unsigned n = 1;

	while (query < end) {
		const char *amp = memchr(query, '&', (size_t)(end - query));
		const char *stop = amp ? amp : end;

		if (stop - query >= 2 && query[0] == 'n' && query[1] == '=')
			n = parse_n(query + 2, (size_t)(stop - query) - 2);
		query = stop + 1;
	}
	return n;
}

static bool parse_target(const struct http_request *req, struct relay_target *t)
{
	const char *url = span_at(req, req->url), *end = url + req->url.len;
	const char *query;

	t->path = target_path(url, req->url.len, &t->len);
	if (!t->path)
		return false;
	query = t->path + t->len;
	/* target_path() gives "/" for a target that has no path of its own */
	t->n = t->path >= url && query < end && *query == '?' ? query_n(query + 1, end) : 1;
	return true;
}

/* ---------------------------------------------------------------- answers without a party */

static void refuse(struct sconn *sc, const struct http_request *req, int status, const char *text)
{
	respond_text(sc, req, status, status == 405 ? ALLOW : CORS, text);
}

static void answer_options(struct sconn *sc, const struct http_request *req)
{
	respond_head(sc, req, 200, CORS_ASKED);
	respond_end(sc, 200, 0);
}

/* Text that lives until it was sent. */
struct text_lease {
	struct lease lease;
	char *text;
};

static void release_text(struct lease *lease)
{
	struct text_lease *t = (struct text_lease *)lease;

	free(t->text);
	free(t);
}

static void answer_body(struct sconn *sc, const struct http_request *req, int status,
			const char *type, const char *body, size_t len)
{
	bool with_body = req->method != HTTP_HEAD && status != 204;
	char fields[256], length[48] = "";

	if (status != 204)
		snprintf(length, sizeof(length), "Content-Length: %zu\r\n", len);
	snprintf(fields, sizeof(fields), "%s%s%s%s%s" CORS, type ? "Content-Type: " : "",
		 type ? type : "", type ? "\r\n" : "", length,
		 type && !strcmp(type, "application/json") ? "Cache-Control: no-store\r\n" : "");
	if (respond_head(sc, req, status, fields) && with_body)
		respond_memory(sc, body, len);
	respond_end(sc, status, with_body ? len : 0);
}

static void answer_status(struct sconn *sc, const struct http_request *req)
{
	struct text_lease *t = malloc(sizeof(*t));
	char *text = progress_json(sworker_of(sc->c.w)->srv);

	if (!t || !text) {
		free(t);
		free(text);
		refuse(sc, req, 503, "no memory to tell");
		return;
	}
	*t = (struct text_lease){.lease = {.refs = 1, .release = release_text}, .text = text};
	respond_lease(sc, &t->lease);
	answer_body(sc, req, 200, "application/json", text, strlen(text));
}

static void answer_reserved(struct sconn *sc, const struct http_request *req,
			    const struct relay_target *t)
{
	const struct page *page = page_find(t->path, t->len);

	if (page)
		answer_body(sc, req, page->status, page->type, page->body, page->len);
	else
		answer_status(sc, req);
}

/* ---------------------------------------------------------------- parties */

void party_free(struct party *p)
{
	free(p->name);
	free(p->fields);
	free(p->held);
	free(p->multipart);
	notes_free(p);
	free(p);
}

void party_refuse(struct party *p, int status, const char *text)
{
	struct sconn *sc = p->sc;

	party_free(p);
	sc->owned = false;
	sc->party = NULL;
	sc->close_after = true;
	respond_text(sc, NULL, status, CORS, text);
	sc->c.step = STEP_XFER;
	sc->phase = PHASE_SEND;
	xfer_touch(&sc->c);
}

static bool add_known(char *out, size_t size, size_t *at, const struct http_request *req,
		      enum http_field f, const char *name)
{
	struct span v = req->field[f];

	return !http_has(req, f) || relay_field(out, size, at, name, span_at(req, v), v.len);
}

/* What receivers are told of the upload; of a multipart one, its first part says the rest. */
static bool set_fields(struct party *p, const struct http_request *req)
{
	char out[RELAY_FIELDS_MAX];
	size_t at = 0;
	bool fits = true;

	if (!p->multipart)
		fits = add_known(out, sizeof(out), &at, req, FIELD_CONTENT_TYPE, "Content-Type") &&
		       add_known(out, sizeof(out), &at, req, FIELD_CONTENT_DISPOSITION,
				 "Content-Disposition");
	for (unsigned i = 0; fits && i < req->nr_piping; i++)
		fits = relay_field(out, sizeof(out), &at, "X-Piping", span_at(req, req->piping[i]),
				   req->piping[i].len);
	if (fits && req->nr_piping)
		fits = relay_field(out, sizeof(out), &at, "Access-Control-Expose-Headers",
				   "X-Piping", 8);
	p->fields = fits ? strndup(out, at) : NULL;
	return p->fields;
}

static struct party *party_new(struct sconn *sc, const struct http_request *req,
			       const struct relay_target *t)
{
	struct party *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->sc = sc;
	p->name = strndup(t->path, t->len);
	p->name_len = (uint32_t)t->len;
	p->n = (uint16_t)t->n;
	p->old = req->minor == 0;
	p->keep = req->keep_alive && !p->old;
	if (!p->name) {
		party_free(p);
		return NULL;
	}
	return p;
}

/* The connection is the party's from here on, and goes to the home of its name. */
static void go_home(struct party *p)
{
	struct sconn *sc = p->sc;
	struct sworker *sw = sworker_of(sc->c.w);
	int home = (int)(XXH3_64bits(p->name, p->name_len) % (unsigned)sw->srv->nr_workers);

	sc->owned = true;
	sc->party = p;
	sc->phase = PHASE_WAIT;
	xfer_touch(&sc->c);
	http_head_over(&sc->http);
	if (home == sw->w.index)
		meet_join(p);
	else if (!conn_move(sc, home))
		party_refuse(p, 503, "the server is stopping");
}

/* NULL when it may send; else why not. */
static const char *why_not_send(const struct http_request *req, const struct relay_target *t)
{
	if (page_reserved(t->path, t->len))
		return "this path is reserved; send to another one";
	if (http_has(req, FIELD_CONTENT_RANGE))
		return "Content-Range: parts of an upload cannot be sent";
	if (!t->n)
		return "n= is a number of receivers from 1 to 256";
	return NULL;
}

static bool is_multipart(const struct http_request *req)
{
	struct span v = req->field[FIELD_CONTENT_TYPE];

	return http_has(req, FIELD_CONTENT_TYPE) && v.len >= 19 &&
	       !strncasecmp(span_at(req, v), "multipart/form-data", 19);
}

/* 0, or a status with *text. */
static int fill_sender(struct party *p, const struct http_request *req, const char **text)
{
	struct span type = req->field[FIELD_CONTENT_TYPE];
	struct span expect = req->field[FIELD_EXPECT];

	*text = "";
	p->sends = true;
	p->length = http_body_length(&p->sc->http);
	if (http_has(req, FIELD_EXPECT)) {
		if (expect.len != 12 || strncasecmp(span_at(req, expect), "100-continue", 12))
			return 417;
		p->expects = true;
	}
	if (is_multipart(req)) {
		p->length = UINT64_MAX; /* of the first part */
		p->multipart = malloc(sizeof(*p->multipart));
		if (!p->multipart)
			return 503;
		*text = "multipart/form-data without a usable boundary";
		if (multipart_init(p->multipart, span_at(req, type), type.len))
			return 400;
	}
	*text = "the fields for the receivers are too long";
	return set_fields(p, req) ? 0 : 431;
}

static void answer_send(struct sconn *sc, const struct http_request *req,
			const struct relay_target *t)
{
	const char *text = why_not_send(req, t);
	struct party *p = text ? NULL : party_new(sc, req, t);
	int status = text ? 400 : p ? fill_sender(p, req, &text) : 503;

	if (!status) {
		go_home(p);
		return;
	}
	if (p)
		party_free(p);
	sc->close_after = true;
	refuse(sc, req, status, text);
}

static void answer_receive(struct sconn *sc, const struct http_request *req,
			   const struct relay_target *t)
{
	struct span sw = req->field[FIELD_SERVICE_WORKER];
	const char *text = NULL;
	struct party *p;

	if (http_has(req, FIELD_SERVICE_WORKER) && sw.len == 6 &&
	    !strncasecmp(span_at(req, sw), "script", 6))
		text = "Service-Worker: a transfer cannot become a service worker";
	else if (!t->n)
		text = "n= is a number of receivers from 1 to 256";
	if (text) {
		sc->close_after = true;
		refuse(sc, req, 400, text);
		return;
	}
	p = party_new(sc, req, t);
	if (p)
		go_home(p);
	else
		refuse(sc, req, 503, "no memory to wait");
}

static void answer(struct sconn *sc, const struct http_request *req)
{
	struct relay_target t;
	bool reserved;

	if (req->method == HTTP_OPTIONS) {
		answer_options(sc, req);
		return;
	}
	if (!parse_target(req, &t)) {
		refuse(sc, req, 400, "the target has no path");
		return;
	}
	reserved = page_reserved(t.path, t.len);
	if (req->method == HTTP_PUT || req->method == HTTP_POST)
		answer_send(sc, req, &t);
	else if (reserved && (req->method == HTTP_GET || req->method == HTTP_HEAD))
		answer_reserved(sc, req, &t);
	else if (req->method == HTTP_GET)
		answer_receive(sc, req, &t);
	else
		refuse(sc, req, 405, "send with PUT or POST, receive with GET");
}

/* ---------------------------------------------------------------- of owned connections */

static size_t feed(struct sconn *sc, const char *buf, size_t len)
{
	return meet_feed(sc->party, buf, len);
}

static void done(struct sconn *sc, int res)
{
	meet_done(sc->party, res);
}

static void attached(struct sconn *sc)
{
	meet_join(sc->party);
}

static void hup(struct sconn *sc, enum hangup how)
{
	meet_hup(sc->party, how);
}

static void closing(struct sconn *sc)
{
	meet_leave(sc->party);
	sc->owned = false;
	sc->party = NULL;
}

static void expired(struct sconn *sc)
{
	if (sc->phase == PHASE_WAIT && sc->c.step == STEP_PARK)
		meet_give_up(sc->party, 408, "nobody came in time");
	else
		conn_end(sc, CLOSE_ABORT);
}

static void drain(struct sconn *sc)
{
	if (sc->c.step == STEP_PARK)
		meet_give_up(sc->party, 503, "the server is stopping");
}

const struct role role_relay = {
	.name = "relay",
	.needs = SOURCE_SOCKET,
	.relays = true,
	.bodies = true,
	.worker_init = meets_init,
	.worker_exit = meets_exit,
	.answer = answer,
	.feed = feed,
	.done = done,
	.attached = attached,
	.hup = hup,
	.closing = closing,
	.expired = expired,
	.drain = drain,
};
