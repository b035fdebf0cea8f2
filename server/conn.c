// SPDX-License-Identifier: MIT
/*
 * The life of a connection as the skeleton decides it: bytes in, steps out. Everything here is
 * called by the engine (engine.h says how); nothing here touches a socket.
 */
#include "response.h"
#include "server.h"

#include <stdlib.h>
#include <string.h>

static const struct role *role_of(const struct sconn *sc)
{
	return sworker_of(sc->c.w)->srv->cfg.role;
}

static void stamp(struct sconn *sc)
{
	xfer_touch(&sc->c);
}

void conn_end(struct sconn *sc, enum close_how how)
{
	if (sc->c.step == STEP_MOVE)
		atomic_fetch_sub(&sworker_of(sc->c.w)->srv->nr_moving, 1);
	sc->c.step = STEP_CLOSE;
	sc->c.close_how = (uint8_t)how;
	sc->phase = PHASE_LINGER;
	stamp(sc);
}

/* Turns what answers were gathered into a transfer, or asks for more input. */
static void settle(struct sconn *sc)
{
	if (sc->nr_responses) {
		sc->c.step = STEP_XFER;
		sc->phase = PHASE_SEND;
		stamp(sc);
		return;
	}
	sc->c.step = STEP_RECV;
	if (sc->phase == PHASE_IDLE && sc->http.begun) {
		sc->phase = PHASE_REQUEST; /* its deadline runs from the first byte */
		stamp(sc);
	}
}

static void answer(struct sconn *sc)
{
	const struct http_request *req = &sc->http.req;

	sc->close_after |= !req->keep_alive;
	if (req->error)
		respond_error(sc, req, req->error, NULL);
	else
		role_of(sc)->answer(sc, req);
	if (sc->owned)
		return;			       /* and what it needs of the request, it has */
	sc->close_after |= sc->http.streaming; /* with a body that nobody will read */
	http_next(&sc->http);
}

/* Whether one more response may join the transfer. */
static bool room_for_more(const struct sconn *sc)
{
	return !sc->close_after && !sc->owned && !sc->c.xfer.len &&
	       sc->nr_responses < sworker_of(sc->c.w)->srv->cfg.merge && response_fits(sc);
}

size_t conn_feed(struct conn *c, const char *buf, size_t len)
{
	struct sconn *sc = sconn_of(c);
	size_t used = 0, n;

	if (sc->owned)
		return role_of(sc)->feed(sc, buf, len);
	if (!len) {
		conn_end(sc, CLOSE_NOW);
		return 0;
	}
	do {
		enum http_result res = http_parse(&sc->http, buf + used, len - used, &n);

		used += n;
		if (res == REQ_READY)
			answer(sc);
	} while (used < len && room_for_more(sc));
	if (sc->owned)
		return used;
	sc->c.ends = sc->close_after;
	settle(sc);
	return sc->close_after ? len : used; /* what follows a last request is not answered */
}

/* Drops what the transfer held. */
static void forget_transfer(struct sconn *sc)
{
	struct sworker *sw = sworker_of(sc->c.w);

	while (sc->nr_leases)
		lease_put(sc->leases[--sc->nr_leases]);
	if (sc->arena) {
		sc->arena->next = sw->free_arenas;
		sw->free_arenas = sc->arena;
		sc->arena = NULL;
	}
	sc->nr_responses = 0;
	sc->body_bytes = 0;
	sc->c.xfer.src = SOURCE_NONE;
	sc->c.xfer.lease = NULL;
	sc->c.xfer.iov_at = sc->c.xfer.iov_nr = 0;
	sc->c.xfer.len = 0;
	sc->c.xfer.started = sc->c.xfer.shut_dst = sc->c.xfer.dst_failed = false;
	sc->c.xfer.dst = NULL;
	sc->c.xfer.nr_dst = 0;
}

static void spin_for(struct sconn *sc)
{
	struct sworker *sw = sworker_of(sc->c.w);
	uint64_t spun =
		handicap_spin(&sw->srv->handicap, sc->nr_responses, &sw->handicap_unspent_ns);

	count_add(sc->c.w->ctr, handicap_ns, spun);
}

void conn_done(struct conn *c, int res)
{
	struct sconn *sc = sconn_of(c);

	if (!res) {
		count_add(c->w->ctr, requests, sc->nr_responses);
		count_add(c->w->ctr, body_bytes, sc->body_bytes);
		if (sworker_of(c->w)->srv->cfg.handicap_percent)
			spin_for(sc);
	}
	forget_transfer(sc);
	if (sc->owned) {
		role_of(sc)->done(sc, res);
		return;
	}
	if (res) {
		count_one(c->w->ctr, aborts);
		conn_end(sc, CLOSE_ABORT);
	} else if (sc->close_after || atomic_load_explicit(&c->w->draining, memory_order_relaxed)) {
		conn_end(sc, CLOSE_LINGER);
	} else {
		c->step = STEP_RECV;
		sc->phase = PHASE_IDLE;
		stamp(sc);
	}
}

static struct sconn *make(struct worker *w, int fd)
{
	struct sworker *sw = sworker_of(w);
	struct sconn *sc = worker_conn_get(sw);

	if (!sc)
		return NULL;
	sc->c.w = w;
	sc->c.ctr = w->ctr;
	sc->c.fd = fd;
	http_init(&sc->http, sw->srv->cfg.role->bodies);
	stamp(sc);
	count_one(w->ctr, connections);
	return sc;
}

struct conn *conn_open(struct worker *w, int fd)
{
	struct sconn *sc = make(w, fd);

	if (!sc)
		return NULL;
	sc->c.step = STEP_RECV;
	count_one(w->ctr, accepts);
	if (role_of(sc)->opened)
		role_of(sc)->opened(sc);
	return &sc->c;
}

struct sconn *conn_new(struct worker *w)
{
	struct sconn *sc = make(w, -1);

	if (!sc)
		return NULL;
	sc->c.step = STEP_CONNECT;
	sc->phase = PHASE_CONNECT;
	conn_post(sc);
	return sc;
}

void conn_closing(struct conn *c)
{
	struct sconn *sc = sconn_of(c);

	c->closing = true;
	if (sc->owned)
		role_of(sc)->closing(sc);
	forget_transfer(sc);
}

void conn_attached(struct conn *c)
{
	role_of(sconn_of(c))->attached(sconn_of(c));
}

void conn_hup(struct conn *c, enum hangup how)
{
	if (sconn_of(c)->owned && c->step == STEP_PARK)
		role_of(sconn_of(c))->hup(sconn_of(c), how);
}

void conn_drop_dsts(struct conn *c)
{
	struct xfer *x = &c->xfer;

	x->dst_failed = false;
	for (unsigned i = 0; i < x->nr_dst; i++) {
		struct conn *lost = x->dst[i].c;

		if (!lost || !x->dst[i].err)
			continue;
		x->dst[i].c = NULL;
		lost->writer = NULL;
		if (lost->step == STEP_CLOSE)
			continue;
		conn_end(sconn_of(lost), CLOSE_ABORT);
		conn_post(sconn_of(lost));
	}
}

bool conn_move(struct sconn *sc, int to)
{
	struct sworker *sw = sworker_of(sc->c.w);

	if (sw->drain_seen)
		return false;
	atomic_fetch_add(&sw->srv->nr_moving, 1);
	sc->c.move_to = (int16_t)to;
	sc->c.step = STEP_MOVE;
	return true;
}

void conn_release(struct sconn *sc, bool keep)
{
	sc->owned = false;
	sc->party = NULL;
	http_next(&sc->http);
	if (!keep || atomic_load_explicit(&sc->c.w->draining, memory_order_relaxed)) {
		conn_end(sc, CLOSE_LINGER);
		return;
	}
	sc->c.step = STEP_RECV;
	sc->phase = PHASE_IDLE;
	stamp(sc);
}

void conn_feed_unfed(struct conn *c)
{
	size_t used = conn_feed(c, c->unfed + c->unfed_off, c->unfed_len);

	c->unfed_off += (uint32_t)used;
	c->unfed_len -= (uint32_t)used;
}

void conn_trim_unfed(struct conn *c)
{
	if (!c->unfed || c->unfed_len)
		return;
	free(c->unfed);
	c->unfed = NULL;
	c->unfed_off = 0;
}

int conn_keep_unfed(struct conn *c, const char *buf, size_t len)
{
	char *all = malloc(c->unfed_len + len);

	if (!all)
		return -ENOMEM;
	if (c->unfed_len)
		memcpy(all, c->unfed + c->unfed_off, c->unfed_len);
	memcpy(all + c->unfed_len, buf, len);
	free(c->unfed);
	c->unfed = all;
	c->unfed_off = 0;
	c->unfed_len += (uint32_t)len;
	return 0;
}

void conn_free(struct conn *c)
{
	struct sconn *sc = sconn_of(c);

	count_one(c->w->ctr, closes);
	count_add(c->w->ctr, connections, -1);
	http_free(&sc->http);
	free(c->unfed);
	worker_conn_put(sworker_of(c->w), sc);
}

/* ------------------------------------------------------------- called by the worker's deadlines */

/* The engine learns of a step that it did not ask for. */
void conn_post(struct sconn *sc)
{
	struct sworker *sw = sworker_of(sc->c.w);

	if (sc->c.pending)
		return;
	sc->c.pending = true;
	sc->next_pending = NULL;
	*sw->pending_tail = sc;
	sw->pending_tail = &sc->next_pending;
}

void conn_expire(struct sconn *sc)
{
	count_one(sc->c.w->ctr, timeouts);
	if (sc->owned && sc->phase != PHASE_LINGER) {
		role_of(sc)->expired(sc);
		conn_post(sc);
		return;
	}
	switch (sc->phase) {
	case PHASE_REQUEST:
		sc->close_after = true;
		respond_error(sc, NULL, 408, NULL);
		settle(sc);
		break;
	case PHASE_IDLE:
		conn_end(sc, CLOSE_LINGER);
		break;
	default:
		conn_end(sc, CLOSE_ABORT);
	}
	conn_post(sc);
}

void conn_drain(struct sconn *sc, bool now)
{
	if (now && sc->c.step != STEP_CLOSE)
		conn_end(sc, CLOSE_ABORT);
	else if (now)
		sc->c.close_how = CLOSE_ABORT;
	else if (sc->phase == PHASE_WAIT)
		role_of(sc)->drain(sc);
	else if (sc->phase == PHASE_IDLE)
		conn_end(sc, CLOSE_LINGER);
	else
		return;
	conn_post(sc);
}
