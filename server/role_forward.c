// SPDX-License-Identifier: MIT
/*
 * Role forward: each accepted connection is joined to a new one to the upstream. Both directions
 * are transfers until end of file, which becomes a shutdown of the other side's writing, so a
 * half-close arrives as one. A reset of either side resets the other.
 */
#include "server.h"

#include <netdb.h>
#include <stdlib.h>

enum {
	CLIENT,
	UPSTREAM
};

struct pair {
	struct sconn *end[2];	/* NULL: closed */
	struct xfer_dst dst[2]; /* of the transfer that reads end[i]: the other one */
	bool ended[2];		/* end[i] sent its end of file, and it was passed on */
	bool failed;
	struct progress seen[2];
};

static unsigned side_of(const struct sconn *sc)
{
	return ((struct pair *)sc->party)->end[UPSTREAM] == sc;
}

static void show(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		p->seen[i].client = &p->end[CLIENT]->c;
		p->seen[i].source = &p->end[i]->c;
		p->seen[i].total = UINT64_MAX;
		p->seen[i].receivers = 1;
		progress_add(sworker_of(p->end[i]->c.w), &p->seen[i]);
	}
}

static void opened(struct sconn *sc)
{
	struct pair *p = calloc(1, sizeof(*p));
	struct sconn *up = p ? conn_new(sc->c.w) : NULL;
	const struct addrinfo *to = sworker_of(sc->c.w)->srv->upstream;

	sc->phase = PHASE_CONNECT;
	sc->c.step = STEP_PARK;
	if (!up) {
		free(p);
		conn_end(sc, CLOSE_ABORT);
		return;
	}
	up->c.addr = to->ai_addr;
	up->c.addr_len = to->ai_addrlen;
	sc->owned = up->owned = true;
	sc->party = up->party = p;
	p->end[CLIENT] = sc;
	p->end[UPSTREAM] = up;
	show(p);
}

static void join(struct pair *p, unsigned i)
{
	struct sconn *sc = p->end[i];
	struct xfer *x = &sc->c.xfer;

	p->dst[i].c = &p->end[!i]->c;
	p->end[!i]->c.writer = &sc->c;
	x->src = SOURCE_SOCKET;
	x->len = XFER_TO_EOF;
	x->shut_dst = true;
	x->dst = &p->dst[i];
	x->nr_dst = 1;
	sc->phase = PHASE_RELAY;
	sc->c.step = STEP_XFER;
}

static void start(struct pair *p)
{
	struct sworker *sw = sworker_of(p->end[CLIENT]->c.w);

	progress_lock(sw);
	for (int i = 0; i < 2; i++) {
		p->seen[i].started_ns = atomic_load_explicit(&sw->w.now_ns, memory_order_relaxed);
		p->seen[i].receivers_here = 1;
	}
	progress_unlock(sw);
	join(p, CLIENT);
	join(p, UPSTREAM);
	conn_post(p->end[CLIENT]);
}

static void end_both(struct pair *p, enum close_how how)
{
	for (int i = 0; i < 2; i++) {
		if (!p->end[i] || p->end[i]->c.step == STEP_CLOSE)
			continue;
		conn_end(p->end[i], how);
		conn_post(p->end[i]);
	}
}

static void fail(struct pair *p)
{
	p->failed = true;
	end_both(p, CLOSE_ABORT);
}

static void done(struct sconn *sc, int res)
{
	struct pair *p = sc->party;
	unsigned i = side_of(sc);

	if (sc->c.step == STEP_CONNECT) {
		if (res)
			fail(p);
		else
			start(p);
		return;
	}
	if (p->end[!i])
		p->end[!i]->c.writer = NULL;
	if (res) {
		fail(p);
		return;
	}
	p->ended[i] = true;
	if (p->ended[!i])
		end_both(p, CLOSE_NOW);
	else
		sc->c.step = STEP_PARK;
}

/* End of file alone is for the transfer to find; a reset leaves nothing to join. */
static void hup(struct sconn *sc, enum hangup how)
{
	if (how == HUP_DEAD)
		fail(sc->party);
}

static void closing(struct sconn *sc)
{
	struct pair *p = sc->party;
	unsigned i = side_of(sc);
	struct sconn *other = p->end[!i];

	for (int k = 0; other && k < 2; k++) /* both are called after the client */
		progress_remove(sworker_of(sc->c.w), &p->seen[k]);
	p->end[i] = NULL;
	sc->owned = false;
	sc->party = NULL;
	sc->c.writer = NULL;
	if (other) {
		p->failed |= !p->ended[0] || !p->ended[1];
		p->dst[!i].c = NULL;
		other->c.writer = NULL;
		end_both(p, CLOSE_ABORT);
		return;
	}
	if (p->failed)
		count_one(sc->c.w->ctr, transfers_failed);
	else
		count_one(sc->c.w->ctr, transfers);
	free(p);
}

static void expired(struct sconn *sc)
{
	fail(sc->party);
}

const struct role role_forward = {
	.name = "forward",
	.needs = SOURCE_SOCKET,
	.relays = true,
	.opened = opened,
	.done = done,
	.hup = hup,
	.closing = closing,
	.expired = expired,
};
