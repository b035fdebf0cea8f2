// SPDX-License-Identifier: MIT
/*
 * Parties of one name meet here and become a transfer: the sender's connection reads its own socket
 * and writes to the receivers', which stand parked. Nothing of the body is held.
 *
 * The sender talks (lines of text about who is there), then relays, then says how it ended. While
 * it relays its own socket is written to by nobody, so the last words come after the transfer.
 */
#include "relay.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

/* How receivers know where the body ends. */
enum framing {
	FRAMING_LENGTH,
	FRAMING_CHUNKED,
	FRAMING_CLOSE, /* a receiver speaks HTTP/1.0: all get the same bytes, so all get this */
};

struct meet {
	UT_hash_handle hh;
	char *name;
	struct progress seen;
	struct party *sender;
	uint16_t n, here; /* receivers wanted, and there */
	bool running;
	uint8_t framing;
	struct party **receivers; /* n, while waiting the first `here` are set */
	struct xfer_dst *dst;	  /* n, of the transfer; dst[i] is receivers[i] */
};

/* Of a worker. */
struct relay {
	struct meet *meets; /* by name */
};

int meets_init(struct sworker *sw)
{
	sw->role = calloc(1, sizeof(struct relay));
	return sw->role ? 0 : -ENOMEM;
}

void meets_exit(struct sworker *sw)
{
	free(sw->role);
	sw->role = NULL;
}

static struct meet **meets(const struct party *p)
{
	return &((struct relay *)sworker_of(p->sc->c.w)->role)->meets;
}

/* ---------------------------------------------------------------- coming */

static struct meet *meet_new(const struct party *p)
{
	struct meet *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->n = p->n;
	m->name = strndup(p->name, p->name_len);
	m->receivers = calloc(p->n, sizeof(struct party *));
	if (!m->name || !m->receivers) {
		free(m->name);
		free(m->receivers);
		free(m);
		return NULL;
	}
	HASH_ADD_KEYPTR(hh, *meets(p), m->name, p->name_len, m);
	m->seen.name = m->name;
	m->seen.receivers = p->n;
	progress_add(sworker_of(p->sc->c.w), &m->seen);
	return m;
}

/* The name is free again. p is any party, for its worker. */
static void meet_free(struct meet *m, const struct party *p)
{
	progress_remove(sworker_of(p->sc->c.w), &m->seen);
	HASH_DELETE(hh, *meets(p), m);
	free(m->name);
	free(m->receivers);
	free(m->dst);
	free(m);
}

/* Tells who watches what changed. */
static void show(struct meet *m, const struct party *p)
{
	struct sworker *sw = sworker_of(p->sc->c.w);

	progress_lock(sw);
	m->seen.receivers_here = m->here;
	m->seen.source = m->sender ? &m->sender->sc->c : NULL;
	m->seen.total = m->sender ? m->sender->length : UINT64_MAX;
	if (m->running && !m->seen.started_ns) {
		m->seen.started_ns = atomic_load_explicit(&sw->w.now_ns, memory_order_relaxed);
		m->seen.seen_ns = m->seen.rate_bytes_per_s = 0;
	}
	progress_unlock(sw);
}

static void park(struct party *p)
{
	p->sc->c.step = STEP_PARK;
	if (p->sc->phase == PHASE_WAIT)
		return;
	p->sc->phase = PHASE_WAIT;
	xfer_touch(&p->sc->c);
}

static void talk(struct party *p);

/* The sender hears of it at once when it is parked, else when its words are out. */
static void nudge(struct meet *m)
{
	struct party *p = m->sender;

	if (!p || p->stage != STAGE_TALK || p->sc->c.step != STEP_PARK)
		return;
	talk(p);
	conn_post(p->sc);
}

static void refuse_n(struct party *p, const struct meet *m)
{
	char text[64];

	snprintf(text, sizeof(text), "this transfer expects n=%u", m->n);
	party_refuse(p, 400, text);
}

static void join_as_sender(struct party *p, struct meet *m)
{
	if (m->sender) {
		party_refuse(p, 400, "another sender waits here already");
		return;
	}
	m->sender = p;
	p->meet = m;
	p->stage = STAGE_TALK;
	show(m, p);
	talk(p);
}

static void join_as_receiver(struct party *p, struct meet *m)
{
	if (m->here == m->n) {
		party_refuse(p, 400, "no more receivers: all that the transfer wants are here");
		return;
	}
	m->receivers[m->here++] = p;
	p->meet = m;
	show(m, p);
	park(p);
	nudge(m);
}

void meet_join(struct party *p)
{
	struct meet *m;

	HASH_FIND(hh, *meets(p), p->name, p->name_len, m);
	if (m && m->running)
		party_refuse(p, 400, "this path is in use by a running transfer");
	else if (m && m->n != p->n)
		refuse_n(p, m);
	else if (!m && !(m = meet_new(p)))
		party_refuse(p, 503, "no memory to wait");
	else if (p->sends)
		join_as_sender(p, m);
	else
		join_as_receiver(p, m);
}

/* ---------------------------------------------------------------- the sender's text */

/* Of its own size: a thousand senders that wait for their words to go must not hold pages each. */
struct note {
	struct note *next;
	char text[];
};

void notes_free(struct party *p)
{
	while (p->notes) {
		struct note *note = p->notes;

		p->notes = note->next;
		free(note);
	}
}

/* Memory for the sender's next transfer, until it is done. NULL ends the connection. */
static char *scratch(struct party *p, size_t bytes)
{
	struct note *note = malloc(sizeof(*note) + bytes);

	if (!note) {
		conn_end(p->sc, CLOSE_ABORT);
		return NULL;
	}
	note->next = p->notes;
	p->notes = note;
	return note->text;
}

static bool append(struct party *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static bool append(struct party *p, const char *fmt, ...)
{
	va_list ap;
	char *at;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	at = scratch(p, (size_t)n + 1);
	if (!at)
		return false;
	va_start(ap, fmt);
	vsnprintf(at, (size_t)n + 1, fmt, ap);
	va_end(ap);
	respond_memory(p->sc, at, (size_t)n);
	return true;
}

static bool greet(struct party *p)
{
	const char *framing = p->old	? "Connection: close\r\n"
			      : p->keep ? "Transfer-Encoding: chunked\r\n"
					: "Transfer-Encoding: chunked\r\nConnection: close\r\n";

	p->greeted = true;
	count_one(p->sc->c.w->ctr, responses_2xx);
	return append(p,
		      "%sHTTP/1.1 200 OK\r\nServer: iolab\r\nDate: %s\r\n"
		      "Content-Type: text/plain; charset=utf-8\r\n"
		      "Access-Control-Allow-Origin: *\r\n%s\r\n",
		      p->expects ? "HTTP/1.1 100 Continue\r\n\r\n" : "",
		      sworker_of(p->sc->c.w)->date, framing);
}

/* Makes the sender's next transfer: text to its own socket. */
static void say(struct party *p, const char *text, bool last)
{
	struct sconn *sc = p->sc;
	bool ok = p->greeted || greet(p);

	if (ok && p->old)
		ok = append(p, "%s", text);
	else if (ok)
		ok = append(p, "%zx\r\n%s\r\n%s", strlen(text), text, last ? "0\r\n\r\n" : "");
	if (!ok)
		return;
	sc->c.step = STEP_XFER;
	sc->phase = PHASE_SEND;
	xfer_touch(&sc->c);
}

static const char *plural(unsigned n)
{
	return n == 1 ? "" : "s";
}

static size_t add_line(char *text, size_t size, size_t at, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

static size_t add_line(char *text, size_t size, size_t at, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text + at, size - at, fmt, ap);
	va_end(ap);
	return n > 0 && (size_t)n < size - at ? at + (size_t)n : at;
}

/* What the sender has not been told yet; empty when it knows everything. */
static void compose(struct party *p, char *text, size_t size)
{
	const struct meet *m = p->meet;
	size_t at = 0;

	text[0] = '\0';
	if (m->here < m->n && (!p->greeted || p->remind))
		at = add_line(text, size, at, "waiting: for %u receiver%s\n", m->n - m->here,
			      plural((unsigned)(m->n - m->here)));
	p->remind = false;
	while (p->told < m->here && at + 64 < size) {
		p->told++;
		at = add_line(text, size, at, "receiver: %u of %u\n", p->told, m->n);
	}
	if (m->here == m->n && p->told == m->n && !p->announced) {
		p->announced = true;
		add_line(text, size, at, "sending: to %u receiver%s\n", m->n, plural(m->n));
	}
}

static void begin(struct meet *m);

static void talk(struct party *p)
{
	char text[1024];

	compose(p, text, sizeof(text));
	if (text[0])
		say(p, text, false);
	else if (p->meet->here == p->meet->n)
		begin(p->meet);
	else
		park(p);
}

/* The last words; then the connection serves another request, or closes. */
static void bye(struct party *p, const char *text, bool keep)
{
	p->stage = STAGE_BYE;
	p->keep &= keep;
	say(p, text, true);
}

/* ---------------------------------------------------------------- the end of a transfer */

static unsigned living(const struct meet *m)
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
static void dismiss(struct meet *m, bool whole)
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
	unsigned left = m->n - living(m);
	bool ended = http_body(&p->sc->http, NULL, 0, &(size_t){0}) == BODY_END;
	char text[128];
	size_t at;

	count_one(ctr, transfers);
	count_add(ctr, body_bytes, moved(p));
	at = add_line(text, sizeof(text), 0, "done: %llu byte%s delivered",
		      (unsigned long long)moved(p), moved(p) == 1 ? "" : "s");
	if (left)
		at = add_line(text, sizeof(text), at, "; %u of %u receivers left", left, m->n);
	add_line(text, sizeof(text), at, "\n");
	dismiss(m, true);
	p->meet = NULL;
	meet_free(m, p);
	bye(p, text, ended);
}

static void fail(struct party *p, const char *why)
{
	struct meet *m = p->meet;
	char text[160];

	count_one(p->sc->c.w->ctr, transfers_failed);
	snprintf(text, sizeof(text), "failed: %s after %llu byte%s\n", why,
		 (unsigned long long)moved(p), moved(p) == 1 ? "" : "s");
	dismiss(m, false);
	p->meet = NULL;
	meet_free(m, p);
	bye(p, text, false);
}

static void fail_as_it_is(struct party *p)
{
	if (living(p->meet))
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

/* The receivers' head, the same for all. */
static bool append_head(struct party *p)
{
	const struct meet *m = p->meet;
	char framing[64] = "";

	if (m->framing == FRAMING_LENGTH)
		snprintf(framing, sizeof(framing), "Content-Length: %llu\r\n",
			 (unsigned long long)p->length);
	else if (m->framing == FRAMING_CHUNKED)
		snprintf(framing, sizeof(framing), "Transfer-Encoding: chunked\r\n");
	return append(p,
		      "HTTP/1.1 200 OK\r\nServer: iolab\r\nDate: %s\r\n%s%s"
		      "Access-Control-Allow-Origin: *\r\nX-Content-Type-Options: nosniff\r\n"
		      "X-Robots-Tag: none\r\n%s\r\n",
		      sworker_of(p->sc->c.w)->date, p->fields, framing,
		      m->receivers[0]->keep ? "" : "Connection: close\r\n");
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

static void begin(struct meet *m)
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
	show(m, p);
	if (p->multipart)
		read_frame(p); /* the first part's head is the receivers' */
	else if (append_head(p))
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
	return append(p, "%s%llx\r\n", first ? "" : "\r\n", (unsigned long long)len);
}

static void end_body(struct party *p)
{
	bool ok = p->meet->framing != FRAMING_CHUNKED ||
		  append(p, "%s0\r\n\r\n", p->framed ? "\r\n" : "");

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
	return p->fields && append_head(p);
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
		fail_as_it_is(p);
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
			talk(p);
		return;
	}
	if (res) {
		fail_as_it_is(p);
	} else if (p->stage == STAGE_CHUNK) {
		part_done(p);
	} else {
		if (p->stage == STAGE_BODY)
			http_body_took(&p->sc->http, p->sc->http.left);
		complete(p);
	}
}

void meet_hup(struct party *p, enum hangup how)
{
	if (p->sends && how == HUP_READ) {
		/* Half-closed, or gone: only an answer to something said can tell. */
		p->remind = true;
		talk(p);
		return;
	}
	conn_end(p->sc, p->meet && p->meet->running ? CLOSE_ABORT : CLOSE_NOW);
}

/* ---------------------------------------------------------------- leaving */

static unsigned index_of(const struct meet *m, const struct party *p)
{
	unsigned i = 0;

	while (m->receivers[i] != p)
		i++;
	return i;
}

/* A slot before the transfer. */
static void free_slot(struct meet *m, struct party *p)
{
	unsigned i = index_of(m, p);

	m->here--;
	memmove(&m->receivers[i], &m->receivers[i + 1], (m->here - i) * sizeof(*m->receivers));
	m->receivers[m->here] = NULL;
	if (m->sender) {
		if (m->sender->told > m->here)
			m->sender->told = m->here;
		m->sender->announced = false;
		m->sender->remind = true;
	}
}

/* One of a running transfer. The engine's mover, or the sender's next receive, finds out. */
static void leave_transfer(struct meet *m, struct party *p)
{
	unsigned i = index_of(m, p);
	struct party *s = m->sender;

	m->receivers[i] = NULL;
	if (m->dst[i].c) /* else it was dropped, and the sender's mover may be looking at the others
			  */
		m->dst[i].c = NULL;
	p->sc->c.writer = NULL;
	if (s->sc->c.step == STEP_RECV && !living(m))
		fail_as_it_is(s);
	conn_post(s->sc);
}

static void sender_leaves(struct meet *m, struct party *p)
{
	m->sender = NULL;
	if (m->running) {
		count_one(p->sc->c.w->ctr, transfers_failed);
		dismiss(m, false);
		meet_free(m, p);
	} else if (m->here) {
		show(m, p);
	} else {
		meet_free(m, p);
	}
}

/* The party is in the meet no more. */
static void leave(struct party *p)
{
	struct meet *m = p->meet;

	if (!m)
		return;
	p->meet = NULL;
	if (p->sends) {
		sender_leaves(m, p);
	} else if (m->running) {
		leave_transfer(m, p);
	} else {
		free_slot(m, p);
		show(m, p);
		if (m->sender)
			nudge(m);
		else if (!m->here)
			meet_free(m, p);
	}
}

void meet_leave(struct party *p)
{
	leave(p);
	party_free(p);
}

void meet_give_up(struct party *p, int status, const char *why)
{
	char text[128];

	leave(p);
	if (p->sends) {
		snprintf(text, sizeof(text), "failed: %s\n", why);
		bye(p, text, false);
		conn_post(p->sc);
	} else {
		struct sconn *sc = p->sc;

		party_refuse(p, status, why);
		conn_post(sc);
	}
}
