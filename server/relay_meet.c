// SPDX-License-Identifier: MIT
/*
 * Parties of one name meet here and become a transfer: the sender's connection reads its own socket
 * and writes to the receivers', which stand parked. Nothing of the body is held.
 *
 * The sender talks (lines of text about who is there), then relays, then says how it ended. While
 * it relays its own socket is written to by nobody, so the last words come after the transfer.
 */
#include "relay_meet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
void meet_free(struct meet *m, const struct party *p)
{
	progress_remove(sworker_of(p->sc->c.w), &m->seen);
	HASH_DELETE(hh, *meets(p), m);
	free(m->name);
	free(m->receivers);
	free(m->dst);
	free(m);
}

/* Tells who watches what changed. */
void meet_show(struct meet *m, const struct party *p)
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

void meet_talk(struct party *p)
{
	char text[1024];

	relay_compose(p, text, sizeof(text));
	if (text[0])
		relay_say(p, text, false);
	else if (p->meet->here == p->meet->n)
		transfer_begin(p->meet);
	else
		park(p);
}

/* The sender hears of it at once when it is parked, else when its words are out. */
static void nudge(struct meet *m)
{
	struct party *p = m->sender;

	if (!p || p->stage != STAGE_TALK || p->sc->c.step != STEP_PARK)
		return;
	meet_talk(p);
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
	meet_show(m, p);
	meet_talk(p);
}

static void join_as_receiver(struct party *p, struct meet *m)
{
	if (m->here == m->n) {
		party_refuse(p, 400, "no more receivers: all that the transfer wants are here");
		return;
	}
	m->receivers[m->here++] = p;
	p->meet = m;
	meet_show(m, p);
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
	if (s->sc->c.step == STEP_RECV && !transfer_living(m))
		transfer_fail_as_it_is(s);
	conn_post(s->sc);
}

static void sender_leaves(struct meet *m, struct party *p)
{
	m->sender = NULL;
	if (m->running) {
		count_one(p->sc->c.w->ctr, transfers_failed);
		transfer_dismiss(m, false);
		meet_free(m, p);
	} else if (m->here) {
		meet_show(m, p);
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
		meet_show(m, p);
		if (m->sender)
			nudge(m);
		else if (!m->here)
			meet_free(m, p);
	}
}

void meet_hup(struct party *p, enum hangup how)
{
	if (p->sends && how == HUP_READ) {
		/* Half-closed, or gone: only an answer to something said can tell. */
		p->remind = true;
		meet_talk(p);
		return;
	}
	conn_end(p->sc, p->meet && p->meet->running ? CLOSE_ABORT : CLOSE_NOW);
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
		relay_bye(p, text, false);
		conn_post(p->sc);
	} else {
		struct sconn *sc = p->sc;

		party_refuse(p, status, why);
		conn_post(sc);
	}
}
