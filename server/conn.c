// SPDX-License-Identifier: MIT
/*
 * The life of a connection as the skeleton decides it: bytes in, steps out. Everything here is
 * called by the engine (engine.h says how); nothing here touches a socket.
 */
#include "response.h"
#include "server.h"

#include <stdlib.h>
#include <string.h>

static void stamp(struct sconn *sc)
{
	xfer_touch(&sc->c);
}

static void end(struct sconn *sc, enum close_how how)
{
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
		role_file_answer(sc, req);
	http_next(&sc->http);
}

/* Whether one more response may join the transfer. */
static bool room_for_more(const struct sconn *sc)
{
	return !sc->close_after && !sc->c.xfer.len &&
	       sc->nr_responses < sworker_of(sc->c.w)->srv->cfg.merge && response_fits(sc);
}

size_t conn_feed(struct conn *c, const char *buf, size_t len)
{
	struct sconn *sc = sconn_of(c);
	size_t used = 0, n;

	if (!len) {
		end(sc, CLOSE_NOW);
		return 0;
	}
	do {
		enum http_result res = http_parse(&sc->http, buf + used, len - used, &n);

		used += n;
		if (res == REQ_READY)
			answer(sc);
	} while (used < len && room_for_more(sc));
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
	sc->c.xfer.started = false;
}

void conn_done(struct conn *c, int res)
{
	struct sconn *sc = sconn_of(c);

	if (!res) {
		count_add(c->w->ctr, requests, sc->nr_responses);
		count_add(c->w->ctr, body_bytes, sc->body_bytes);
	}
	forget_transfer(sc);
	if (res) {
		count_one(c->w->ctr, aborts);
		end(sc, CLOSE_ABORT);
	} else if (sc->close_after || atomic_load_explicit(&c->w->draining, memory_order_relaxed)) {
		end(sc, CLOSE_LINGER);
	} else {
		c->step = STEP_RECV;
		sc->phase = PHASE_IDLE;
		stamp(sc);
	}
}

struct conn *conn_open(struct worker *w, int fd)
{
	struct sworker *sw = sworker_of(w);
	struct sconn *sc = worker_conn_get(sw);

	if (!sc)
		return NULL;
	sc->c.w = w;
	sc->c.ctr = w->ctr;
	sc->c.fd = fd;
	sc->c.step = STEP_RECV;
	http_init(&sc->http);
	stamp(sc);
	count_one(w->ctr, accepts);
	count_one(w->ctr, connections);
	return &sc->c;
}

void conn_closing(struct conn *c)
{
	c->closing = true;
	forget_transfer(sconn_of(c));
}

void conn_free(struct conn *c)
{
	struct sconn *sc = sconn_of(c);

	count_one(c->w->ctr, closes);
	count_add(c->w->ctr, connections, -1);
	http_free(&sc->http);
	worker_conn_put(sworker_of(c->w), sc);
}

/* ------------------------------------------------------------- called by the worker's deadlines */

/* The engine learns of a step that it did not ask for. */
static void post(struct sconn *sc)
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
	switch (sc->phase) {
	case PHASE_REQUEST:
		sc->close_after = true;
		respond_error(sc, NULL, 408, NULL);
		settle(sc);
		break;
	case PHASE_IDLE:
		end(sc, CLOSE_LINGER);
		break;
	default:
		end(sc, CLOSE_ABORT);
	}
	post(sc);
}

void conn_drain(struct sconn *sc, bool now)
{
	if (now)
		end(sc, CLOSE_ABORT);
	else if (sc->phase == PHASE_IDLE)
		end(sc, CLOSE_LINGER);
	else
		return;
	post(sc);
}
