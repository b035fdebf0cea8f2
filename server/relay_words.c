// SPDX-License-Identifier: MIT
/*
 * What a relay says: lines of text to the sender, and the head of the receivers' response. All of
 * it becomes memory pieces of the sender's next transfer.
 */
#include "relay_meet.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

bool relay_append(struct party *p, const char *fmt, ...)
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
	return relay_append(p,
			    "%sHTTP/1.1 200 OK\r\nServer: iolab\r\nDate: %s\r\n"
			    "Content-Type: text/plain; charset=utf-8\r\n"
			    "Access-Control-Allow-Origin: *\r\n%s\r\n",
			    p->expects ? "HTTP/1.1 100 Continue\r\n\r\n" : "",
			    sworker_of(p->sc->c.w)->date, framing);
}

/* Makes the sender's next transfer: text to its own socket. */
void relay_say(struct party *p, const char *text, bool last)
{
	struct sconn *sc = p->sc;
	bool ok = p->greeted || greet(p);

	if (ok && p->old)
		ok = relay_append(p, "%s", text);
	else if (ok)
		ok = relay_append(p, "%zx\r\n%s\r\n%s", strlen(text), text,
				  last ? "0\r\n\r\n" : "");
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

size_t relay_line(char *text, size_t size, size_t at, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text + at, size - at, fmt, ap);
	va_end(ap);
	return n > 0 && (size_t)n < size - at ? at + (size_t)n : at;
}

/* What the sender has not been told yet; empty when it knows everything. */
void relay_compose(struct party *p, char *text, size_t size)
{
	const struct meet *m = p->meet;
	size_t at = 0;

	text[0] = '\0';
	if (m->here < m->n && (!p->greeted || p->remind))
		at = relay_line(text, size, at, "waiting: for %u receiver%s\n", m->n - m->here,
				plural((unsigned)(m->n - m->here)));
	p->remind = false;
	while (p->told < m->here && at + 64 < size) {
		p->told++;
		at = relay_line(text, size, at, "receiver: %u of %u\n", p->told, m->n);
	}
	if (m->here == m->n && p->told == m->n && !p->announced) {
		p->announced = true;
		relay_line(text, size, at, "sending: to %u receiver%s\n", m->n, plural(m->n));
	}
}

/* The last words; then the connection serves another request, or closes. */
void relay_bye(struct party *p, const char *text, bool keep)
{
	p->stage = STAGE_BYE;
	p->keep &= keep;
	relay_say(p, text, true);
}

/* The receivers' head, the same for all. */
bool relay_append_head(struct party *p)
{
	const struct meet *m = p->meet;
	char framing[64] = "";

	if (m->framing == FRAMING_LENGTH)
		snprintf(framing, sizeof(framing), "Content-Length: %llu\r\n",
			 (unsigned long long)p->length);
	else if (m->framing == FRAMING_CHUNKED)
		snprintf(framing, sizeof(framing), "Transfer-Encoding: chunked\r\n");
	return relay_append(p,
			    "HTTP/1.1 200 OK\r\nServer: iolab\r\nDate: %s\r\n%s%s"
			    "Access-Control-Allow-Origin: *\r\nX-Content-Type-Options: nosniff\r\n"
			    "X-Robots-Tag: none\r\n%s\r\n",
			    sworker_of(p->sc->c.w)->date, p->fields, framing,
			    m->receivers[0]->keep ? "" : "Connection: close\r\n");
}
