// SPDX-License-Identifier: MIT
/* Workers: one core, one listener, memory of its own node; deadlines, hand-over, draining. */
#include "response.h"

#include <numa.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
	CONNS_PER_SLAB = 32
};
#define MAX_WAIT_NS 1000000000ull

uint64_t clock_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---------------------------------------------------------------- memory for connections */

struct slab {
	struct slab *next;
	char conns[] __attribute__((aligned(64)));
};

static size_t conn_stride(const struct sworker *sw)
{
	size_t bytes = sizeof(struct sconn) + sw->w.engine->conn_bytes;

	return (bytes + 63) & ~(size_t)63;
}

/* First touched by the worker's pinned thread, so the pages come from its node. */
static bool add_slab(struct sworker *sw)
{
	size_t stride = conn_stride(sw);
	struct slab *slab = aligned_alloc(64, sizeof(*slab) + CONNS_PER_SLAB * stride);

	if (!slab)
		return false;
	slab->next = sw->slabs;
	sw->slabs = slab;
	for (int i = CONNS_PER_SLAB - 1; i >= 0; i--) {
		struct sconn *sc = (void *)(slab->conns + (size_t)i * stride);

		sc->next = sw->free_conns;
		sw->free_conns = sc;
	}
	return true;
}

static void unpend(struct sworker *sw, struct sconn *sc)
{
	struct sconn **at = &sw->pending;

	while (*at && *at != sc)
		at = &(*at)->next_pending;
	if (!*at)
		return;
	*at = sc->next_pending;
	if (sw->pending_tail == &sc->next_pending)
		sw->pending_tail = at;
}

static void enlist(struct sworker *sw, struct sconn *sc)
{
	sc->prev = &sw->conns;
	sc->next = sw->conns.next;
	sc->next->prev = sc;
	sw->conns.next = sc;
	sw->nr_conns++;
}

static void delist(struct sworker *sw, struct sconn *sc)
{
	if (sc->c.pending)
		unpend(sw, sc);
	sc->c.pending = false;
	sc->prev->next = sc->next;
	sc->next->prev = sc->prev;
	sw->nr_conns--;
}

struct sconn *worker_conn_get(struct sworker *sw)
{
	struct sconn *sc;

	if (!sw->free_conns && !add_slab(sw))
		return NULL;
	sc = sw->free_conns;
	sw->free_conns = sc->next;
	memset(sc, 0, conn_stride(sw));
	sc->c.priv = sc + 1;
	enlist(sw, sc);
	return sc;
}

void worker_conn_put(struct sworker *sw, struct sconn *sc)
{
	delist(sw, sc);
	sc->next = sw->free_conns;
	sw->free_conns = sc;
}

struct arena *arena_get(struct sworker *sw)
{
	struct arena *a = sw->free_arenas;

	if (a)
		sw->free_arenas = a->next;
	else
		a = malloc(sizeof(*a));
	if (a)
		a->used = 0;
	return a;
}

/* ---------------------------------------------------------------- time */

static void refresh_date(struct sworker *sw)
{
	struct timespec ts;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME_COARSE, &ts);
	if (ts.tv_sec == sw->date_s)
		return;
	sw->date_s = ts.tv_sec;
	sw->date_gen++;
	gmtime_r(&ts.tv_sec, &tm);
	strftime(sw->date, sizeof(sw->date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

static uint64_t limit_ns(const struct server_config *cfg, const struct sconn *sc)
{
	switch (sc->phase) {
	case PHASE_WAIT:
		return cfg->wait_timeout_ms ? (uint64_t)cfg->wait_timeout_ms * 1000000u
					    : UINT64_MAX;
	case PHASE_RELAY:
		return UINT64_MAX;
	case PHASE_IDLE:
		return (uint64_t)cfg->idle_timeout_ms * 1000000u;
	case PHASE_REQUEST:
	case PHASE_CONNECT:
		return (uint64_t)cfg->header_timeout_ms * 1000000u;
	case PHASE_SEND:
		return (uint64_t)cfg->send_timeout_ms * 1000000u;
	default:
		return (uint64_t)cfg->linger_timeout_ms * 1000000u;
	}
}

/* Deadlines are kept lazily: one look at every connection now and then, nothing per request. */
static void sweep(struct sworker *sw, uint64_t now_ns)
{
	struct sconn *next;

	for (struct sconn *sc = sw->conns.next; sc != &sw->conns; sc = next) {
		uint64_t since = atomic_load_explicit(&sc->c.since_ns, memory_order_relaxed);

		next = sc->next;
		if (now_ns > since && now_ns - since > limit_ns(&sw->srv->cfg, sc))
			conn_expire(sc);
	}
}

static void drain_conns(struct sworker *sw, bool now)
{
	struct sconn *next;

	for (struct sconn *sc = sw->conns.next; sc != &sw->conns; sc = next) {
		next = sc->next;
		conn_drain(sc, now);
	}
}

static void drain_tick(struct sworker *sw, uint64_t now_ns)
{
	if (!sw->drain_seen) {
		sw->drain_seen = true; /* conn_move() says no from here on */
		atomic_fetch_add(&sw->srv->nr_draining, 1);
	}
	if (!sw->drain_until_ns) {
		sw->drain_until_ns = now_ns + (uint64_t)sw->srv->cfg.drain_timeout_ms * 1000000u;
		drain_conns(sw, false);
	} else if (now_ns >= sw->drain_until_ns) {
		drain_conns(sw, true);
	} else {
		drain_conns(sw, false); /* who was accepted, or became idle, since */
	}
}

/* ---------------------------------------------------------------- hand-over */

/*
 * A stack that is always taken whole (Treiber 1986), so it knows no ABA problem. Not Concurrency
 * Kit's: its push writes the link once more after the node is public (ck_pr_cas_ptr_value in
 * ck_stack.h), and who has taken the node may have linked it elsewhere by then.
 */
static void send_mail(struct sworker *to, struct sconn *sc)
{
	struct sconn *head = atomic_load_explicit(&to->mailbox, memory_order_relaxed);

	do
		sc->next_mail = head;
	while (!atomic_compare_exchange_weak_explicit(&to->mailbox, &head, sc, memory_order_release,
						      memory_order_relaxed));
}

void worker_post(struct conn *c)
{
	struct sconn *sc = sconn_of(c);
	struct sworker *from = sworker_of(c->w), *to = from->srv->workers[c->move_to];

	delist(from, sc);
	count_add(from->w.ctr, connections, -1);
	count_one(from->w.ctr, moves);
	memset(c->priv, 0, from->w.engine->conn_bytes);
	c->mover = NULL;
	c->w = &to->w;
	c->ctr = to->w.ctr;
	c->step = STEP_ATTACH;
	send_mail(to, sc);
	eventfd_write(to->w.wake_fd, 1);
}

/* In the order in which they were posted. */
static void open_mail(struct sworker *sw)
{
	struct sconn *sc = atomic_exchange_explicit(&sw->mailbox, NULL, memory_order_acquire);
	struct sconn *in_order = NULL, *next;

	for (; sc; sc = next) {
		next = sc->next_mail;
		sc->next_mail = in_order;
		in_order = sc;
	}
	for (; in_order; in_order = next) {
		next = in_order->next_mail;
		enlist(sw, in_order);
		count_one(sw->w.ctr, connections);
		conn_post(in_order);
		atomic_fetch_sub(&sw->srv->nr_moving, 1);
	}
}

/* ---------------------------------------------------------------- ticking */

/* Only the worker writes its counters, so whoever wants peaks to begin anew asks it to. */
static void begin_peaks(struct sworker *sw)
{
	unsigned wanted = atomic_load_explicit(&sw->srv->peak_round, memory_order_relaxed);
	struct counters *ctr = sw->w.ctr;

	if (sw->peak_round == wanted)
		return;
	sw->peak_round = wanted;
#define X(name) atomic_store_explicit(&ctr->name, 0, memory_order_relaxed);
	PEAK_COUNTERS(X)
#undef X
	count_peak(ctr, zc_inflight_peak_bytes,
		   atomic_load_explicit(&ctr->zc_inflight_bytes, memory_order_relaxed));
}

void worker_tick(struct worker *w, uint64_t now_ns)
{
	struct sworker *sw = sworker_of(w);

	atomic_store_explicit(&w->now_ns, now_ns, memory_order_relaxed);
	refresh_date(sw);
	begin_peaks(sw);
	if (atomic_load_explicit(&sw->mailbox, memory_order_relaxed))
		open_mail(sw);
	if (w->relays)
		progress_rates(sw, now_ns);
	if (now_ns >= sw->next_sweep_ns) {
		sw->next_sweep_ns = now_ns + sw->sweep_every_ns;
		sweep(sw, now_ns);
	}
	if (atomic_load_explicit(&w->draining, memory_order_acquire))
		drain_tick(sw, now_ns);
}

uint64_t worker_wait_ns(const struct worker *w)
{
	const struct sworker *sw = sworker_of(w);
	uint64_t now = atomic_load_explicit(&w->now_ns, memory_order_relaxed);
	uint64_t until = sw->next_sweep_ns;

	if (sw->drain_until_ns && !sw->nr_conns)
		return 1000000; /* for the other workers to be done as well */
	if (sw->drain_until_ns && sw->drain_until_ns < until)
		until = sw->drain_until_ns;
	if (until <= now)
		return sw->drain_until_ns ? 1000000 : 0;
	return until - now < MAX_WAIT_NS ? until - now : MAX_WAIT_NS;
}

struct conn *worker_next(struct worker *w)
{
	struct sworker *sw = sworker_of(w);
	struct sconn *sc = sw->pending;

	if (!sc)
		return NULL;
	sw->pending = sc->next_pending;
	if (!sw->pending)
		sw->pending_tail = &sw->pending;
	sc->c.pending = false;
	return &sc->c;
}

bool worker_finished(const struct worker *w)
{
	const struct sworker *sw = sworker_of(w);

	if (!sw->drain_until_ns || sw->nr_conns)
		return false;
	if (atomic_load(&sw->srv->worker_lost))
		return true; /* it will never drain, nor take in what is on its way to it */
	return atomic_load(&sw->srv->nr_draining) == sw->srv->nr_workers &&
	       !atomic_load(&sw->srv->nr_moving);
}

void worker_drain(struct sworker *sw)
{
	atomic_store_explicit(&sw->w.draining, true, memory_order_release);
	eventfd_write(sw->w.wake_fd, 1);
}

/* ---------------------------------------------------------------- creating */

/* Half the shortest limit keeps every deadline within T to 1.5 T. */
static uint64_t sweep_period_ns(const struct server_config *cfg)
{
	int ms = cfg->header_timeout_ms;

	if (cfg->idle_timeout_ms < ms)
		ms = cfg->idle_timeout_ms;
	if (cfg->send_timeout_ms < ms)
		ms = cfg->send_timeout_ms;
	if (cfg->linger_timeout_ms < ms)
		ms = cfg->linger_timeout_ms;
	if (cfg->wait_timeout_ms && cfg->wait_timeout_ms < ms)
		ms = cfg->wait_timeout_ms;
	return (uint64_t)(ms > 20 ? ms : 20) * 500000u;
}

static struct counters *counters_create(int node)
{
	struct counters *ctr = numa_available() >= 0 && node >= 0
				       ? numa_alloc_onnode(sizeof(*ctr), node)
				       : numa_alloc_local(sizeof(*ctr));

	if (ctr)
		memset(ctr, 0, sizeof(*ctr));
	return ctr;
}

struct sworker *worker_create(struct server *srv, int index, int cpu, int node)
{
	struct sworker *sw = aligned_alloc(64, (sizeof(*sw) + 63) & ~(size_t)63);

	if (!sw)
		return NULL;
	memset(sw, 0, sizeof(*sw));
	sw->srv = srv;
	sw->w.engine = srv->cfg.engine;
	sw->w.opt = srv->cfg.opt;
	sw->w.index = index;
	sw->w.cpu = cpu;
	sw->w.node = node;
	sw->w.listen_fd = -1;
	sw->w.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	sw->w.ctr = counters_create(node);
	sw->conns.prev = sw->conns.next = &sw->conns;
	sw->pending_tail = &sw->pending;
	sw->sweep_every_ns = sweep_period_ns(&srv->cfg);
	sw->w.relays = srv->cfg.role->relays;
	progress_init(sw);
	if (sw->w.wake_fd < 0 || !sw->w.ctr) {
		worker_destroy(sw);
		return NULL;
	}
	return sw;
}

void worker_destroy(struct sworker *sw)
{
	while (sw->slabs) {
		struct slab *slab = sw->slabs;

		sw->slabs = slab->next;
		free(slab);
	}
	while (sw->free_arenas) {
		struct arena *a = sw->free_arenas;

		sw->free_arenas = a->next;
		free(a);
	}
	if (sw->w.listen_fd >= 0)
		close(sw->w.listen_fd);
	if (sw->w.wake_fd >= 0)
		close(sw->w.wake_fd);
	if (sw->w.ctr)
		numa_free(sw->w.ctr, sizeof(*sw->w.ctr));
	free(sw);
}
