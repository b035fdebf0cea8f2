// SPDX-License-Identifier: MIT
/*
 * A running transfer of the relay: framing, the steps of the sender's connection from chunk to
 * chunk, the first part of a form, and how it ends.
 */
#include "relay_meet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- the end of a transfer */

unsigned transfer_living(const struct meet *m)
{
	unsigned nr = 0;

	for (unsigned i = 0; i < m->n; i++)
		nr += m->dst[i].c != NULL;
	return nr;
}

static uint64_t moved(const struct party *p)
{
	return atomic_load_explicit(&p->sc->c.moved, memory_order_relaxed);
}

/* Every receiver leaves the meet. Those that live are released, or cut so that it shows. */
void transfer_dismiss(struct meet *m, bool whole)
{
	for (unsigned i = 0; i < m->n; i++) {
		struct party *p = m->receivers[i];
		struct sconn *sc;

		if (!p)
			continue;
		p->meet = NULL;
		sc = p->sc;
		if (!m->dst[i].c)
			continue; /* it is closing, and takes its party along */
		sc->c.writer = NULL;
		if (whole) {
			bool keep = p->keep;

			count_one(sc->c.w->ctr, requests);
			count_one(sc->c.w->ctr, responses_2xx);
			party_free(p);
			conn_release(sc, keep);
		} else {
			conn_end(sc, CLOSE_ABORT);
		}
		conn_post(sc);
	}
}

static void complete(struct party *p)
{
	struct meet *m = p->meet;
	struct counters *ctr = p->sc->c.w->ctr;
	unsigned left = m->n - transfer_living(m);
	bool ended = http_body(&p->sc->http, NULL, 0, &(size_t){0}) == BODY_END;
	char text[128];
	size_t at;

	count_one(ctr, transfers);
	count_add(ctr, body_bytes, moved(p));
	at = relay_line(text, sizeof(text), 0, "done: %llu byte%s delivered",
			(unsigned long long)moved(p), moved(p) == 1 ? "" : "s");
	if (left)
		at = relay_line(text, sizeof(text), at, "; %u of %u receivers left", left, m->n);
	relay_line(text, sizeof(text), at, "\n");
	transfer_dismiss(m, true);
	p->meet = NULL;
	meet_free(m, p);
	relay_bye(p, text, ended);
}

static void fail(struct party *p, const char *why)
{
	struct meet *m = p->meet;
	char text[160];

	count_one(p->sc->c.w->ctr, transfers_failed);
	snprintf(text, sizeof(text), "failed: %s after %llu byte%s\n", why,
		 (unsigned long long)moved(p), moved(p) == 1 ? "" : "s");
	transfer_dismiss(m, false);
	p->meet = NULL;
	meet_free(m, p);
	relay_bye(p, text, false);
}

void transfer_fail_as_it_is(struct party *p)
{
	if (transfer_living(p->meet))
		fail(p, "the upload broke off");
	else
		fail(p, p->meet->n == 1 ? "the receiver left" : "all receivers left");
}

/* ---------------------------------------------------------------- the transfer */

static void choose_framing(struct meet *m)
{
	bool old = false, keep = true;

	for (unsigned i = 0; i < m->n; i++) {
		old |= m->receivers[i]->old;
		keep &= m->receivers[i]->keep;
	}
	m->framing = m->sender->length != UINT64_MAX ? FRAMING_LENGTH
		     : old			     ? FRAMING_CLOSE
						     : FRAMING_CHUNKED;
	keep &= m->framing != FRAMING_CLOSE;
	for (unsigned i = 0; i < m->n; i++)
		m->receivers[i]->keep = keep;
}

/* The sender's next transfer goes to the receivers: what is in iov, then len bytes of its socket.
 */
static void to_receivers(struct party *p, enum stage stage, uint64_t len)
{
	struct conn *c = &p->sc->c;

	p->stage = stage;
	c->xfer.dst = p->meet->dst;
	c->xfer.nr_dst = p->meet->n;
	c->xfer.src = len ? SOURCE_SOCKET : SOURCE_NONE;
	c->xfer.len = len;
	c->xfer.total = p->length;
	c->step = STEP_XFER;
}

static void read_frame(struct party *p)
{
	p->stage = STAGE_FRAME;
	p->sc->c.step = STEP_RECV;
}

static bool set_dsts(struct meet *m)
{
	m->dst = calloc(m->n, sizeof(*m->dst));
	for (unsigned i = 0; m->dst && i < m->n; i++) {
		struct sconn *sc = m->receivers[i]->sc;

		m->dst[i].c = &sc->c;
		sc->c.writer = &m->sender->sc->c;
		sc->phase = PHASE_RELAY;
	}
	return m->dst;
}

void transfer_begin(struct meet *m)
{
	struct party *p = m->sender;

	if (!set_dsts(m)) {
		conn_end(p->sc, CLOSE_ABORT);
		return;
	}
	choose_framing(m);
	atomic_store_explicit(&p->sc->c.moved, 0, memory_order_relaxed);
	m->running = true;
	p->sc->phase = PHASE_RELAY;
	meet_show(m, p);
	if (p->multipart)
		read_frame(p); /* the first part's head is the receivers' */
	else if (relay_append_head(p))
		to_receivers(p, m->framing == FRAMING_LENGTH ? STAGE_BODY : STAGE_CHUNK,
			     m->framing == FRAMING_LENGTH ? p->length : 0);
}

/* "\r\nSIZE\r\n": the end of the chunk before and the beginning of this one. */
static bool append_frame(struct party *p, uint64_t len)
{
	bool first = !p->framed;

	if (p->meet->framing != FRAMING_CHUNKED)
		return true;
	p->framed = true;
	return relay_append(p, "%s%llx\r\n", first ? "" : "\r\n", (unsigned long long)len);
}

static void end_body(struct party *p)
{
	bool ok = p->meet->framing != FRAMING_CHUNKED ||
		  relay_append(p, "%s0\r\n\r\n", p->framed ? "\r\n" : "");

	if (ok && p->sc->c.xfer.iov_nr)
		to_receivers(p, STAGE_LAST, 0);
	else if (ok)
		complete(p);
}

/* ---------------------------------------------------------------- multipart */

static bool take_part_head(struct party *p)
{
	static const char *const names[] = {"Content-Type", "Content-Disposition"};
	char out[RELAY_FIELDS_MAX];
	const char *value;
	size_t at = 0, len;

	for (unsigned i = 0; i < 2; i++)
		if (multipart_field(p->multipart, names[i], &value, &len) &&
		    !relay_field(out, sizeof(out), &at, names[i], value, len))
			return false;
	len = strlen(p->fields);
	if (len >= sizeof(out) - at)
		return false;
	memcpy(out + at, p->fields, len);
	free(p->fields);
	p->fields = strndup(out, at + len);
	return p->fields && relay_append_head(p);
}

static void go_on_in_part(struct party *p)
{
	if (!p->sc->http.left && !p->sc->http.chunked)
		fail(p, "the upload ended inside its first part");
	else
		read_frame(p);
}

/* Bytes of the first part go by a copy: they must be looked at, and buf is only borrowed. */
static enum multipart_event scan(struct party *p, const char *buf, size_t len, size_t *held)
{
	enum multipart_event ev;
	const char *data;
	size_t used = 0, n = 0;

	for (;;) {
		ev = multipart_feed(p->multipart, buf, len, &used, &data, &n);
		buf += used;
		len -= used;
		if (ev == MULTIPART_HEAD && !take_part_head(p))
			return MULTIPART_BAD;
		if (ev == MULTIPART_DATA) {
			memcpy(p->held + *held, data, n);
			*held += n;
		}
		if (ev != MULTIPART_HEAD && ev != MULTIPART_DATA)
			return ev;
	}
}

/* One receive's worth of a multipart body. Sets the step. */
static void feed_part(struct party *p, const char *buf, size_t len)
{
	size_t held = 0;
	enum multipart_event ev;

	free(p->held);
	p->held = malloc(len + sizeof(*p->multipart)); /* more than it can have kept back */
	ev = p->held ? scan(p, buf, len, &held) : MULTIPART_BAD;
	if (ev == MULTIPART_BAD) {
		fail(p, "the upload is no sound multipart/form-data");
		return;
	}
	p->piece = held;
	if (held && append_frame(p, held))
		respond_memory(p->sc, p->held, held);
	if (ev == MULTIPART_END) {
		xfer_relayed(&p->sc->c, held);
		p->piece = 0;
		end_body(p);
	} else if (p->sc->c.xfer.iov_nr) {
		to_receivers(p, STAGE_CHUNK, 0);
	} else {
		go_on_in_part(p);
	}
}

/* ---------------------------------------------------------------- what the engine reports */

size_t meet_feed(struct party *p, const char *buf, size_t len)
{
	struct http_parser *http = &p->sc->http;
	size_t used = 0;

	if (!len) {
		transfer_fail_as_it_is(p);
		return 0;
	}
	switch (http_body(http, buf, len, &used)) {
	case BODY_MORE:
		return used;
	case BODY_DATA:
		if (p->multipart) {
			size_t n = len - used < http->left ? len - used : (size_t)http->left;

			http_body_took(http, n);
			feed_part(p, buf + used, n);
			return used + n;
		}
		p->piece = http->left;
		if (append_frame(p, p->piece))
			to_receivers(p, STAGE_CHUNK, p->piece);
		return used;
	case BODY_END:
		if (p->multipart)
			fail(p, "the upload ended inside its first part");
		else
			end_body(p);
		return used;
	default:
		fail(p, "the upload's chunks are malformed");
		return used;
	}
}

static void part_done(struct party *p)
{
	uint64_t piece = p->piece;

	p->piece = 0;
	if (!p->multipart) {
		http_body_took(&p->sc->http, piece);
		read_frame(p);
		return;
	}
	xfer_relayed(&p->sc->c, piece);
	free(p->held);
	p->held = NULL;
	go_on_in_part(p);
}

static void end_of_sender(struct party *p)
{
	struct sconn *sc = p->sc;
	bool keep = p->keep;

	party_free(p);
	conn_release(sc, keep);
}

void meet_done(struct party *p, int res)
{
	notes_free(p);
	if (p->stage == STAGE_TALK || p->stage == STAGE_BYE) {
		if (res)
			conn_end(p->sc, CLOSE_ABORT);
		else if (p->stage == STAGE_BYE)
			end_of_sender(p);
		else
			meet_talk(p);
		return;
	}
	if (res) {
		transfer_fail_as_it_is(p);
	} else if (p->stage == STAGE_CHUNK) {
		part_done(p);
	} else {
		if (p->stage == STAGE_BODY)
			http_body_took(&p->sc->http, p->sc->http.left);
		complete(p);
	}
}
