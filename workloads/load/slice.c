/* SPDX-License-Identifier: MIT */
/*
 * The loop of the load generator, and slices: fill, warm up, measure, drain.
 *
 * Phases change only between two wake-ups, at a clock reading taken right before a wait, so every
 * byte and every response belongs to exactly one phase, and the recorded length of the window is
 * the time between the two readings rather than the time asked for. A window can overshoot by one
 * batch of events. Two clock readings per wake-up (before and after the wait, for idle_ns) and one
 * per receive that completed a response; CLOCK_MONOTONIC comes from the vDSO with the resolution
 * of the machine's cycle counter. A latency therefore ends when the receive that completed the
 * response returned, and begins when the one that made room for the request did, so the request's
 * own send is inside it.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "clocks.h"
#include "conn.h"
#include "net.h"

/* Events per wait: few enough that a phase does not overshoot by more than a fraction of a ms. */
#define EVENTS_PER_WAIT 64

/* In an open loop fewer: requests that become due meanwhile wait for the end of the batch. */
#define EVENTS_PER_WAIT_OPEN 8

/* Handshakes at a time; below any sensible listen backlog (net.core.somaxconn is 4096). */
#define CONNECTS_AT_ONCE 128

/* Bounds of the interval at which deadlines are looked at, an eighth of the time-out. */
#define TICK_MIN_NS (1 * NS_PER_MS)
#define TICK_MAX_NS (100 * NS_PER_MS)

/* Readings at one end of the window. */
struct mark {
	uint64_t now_ns;
	uint64_t idle_ns;
	uint64_t client_ns;
	uint64_t server_ns;
	bool have_server_ns;
	struct counters count;
};

static uint64_t tick_interval_ns(const struct load *l)
{
	uint64_t interval = l->cfg->timeout_ns / 8;

	if (interval < TICK_MIN_NS)
		return TICK_MIN_NS;
	return interval > TICK_MAX_NS ? TICK_MAX_NS : interval;
}

/* One pass over all connections instead of a timer each: accurate to an interval. */
static void tick(struct load *l)
{
	for (uint32_t i = 0; i < l->nr_conns; i++)
		conn_tick(l, &l->conns[i]);
	l->next_tick_ns = l->now_ns + tick_interval_ns(l);
}

/* Time to wait in ms, rounded up: waking early would spin until the deadline. */
static int wait_ms(const struct load *l, uint64_t now_ns, uint64_t until_ns)
{
	uint64_t next = until_ns < l->next_tick_ns ? until_ns : l->next_tick_ns;

	return next <= now_ns ? 0 : (int)((next - now_ns + NS_PER_MS - 1) / NS_PER_MS);
}

/* Waits, at most until a time or the next look at the deadlines, and returns the events' number. */
static int wait_for(struct load *l, struct epoll_event *events, uint64_t now_ns, uint64_t until_ns)
{
	if (is_open_loop(&l->open))
		return open_loop_wait(l, events, EVENTS_PER_WAIT_OPEN, now_ns,
				      until_ns < l->next_tick_ns ? until_ns : l->next_tick_ns);
	return epoll_wait(l->epfd, events, EVENTS_PER_WAIT, wait_ms(l, now_ns, until_ns));
}

/* Waits once and handles what came. */
static void turn(struct load *l, uint64_t now_ns, uint64_t until_ns)
{
	struct epoll_event events[EVENTS_PER_WAIT];
	struct conn *again = l->again;

	l->again = NULL;
	int nr = wait_for(l, events, now_ns, again ? now_ns : until_ns);
	l->now_ns = mono_ns();
	l->idle_ns += l->now_ns - now_ns;
	/* -EINTR is the only failure left, and no reason to stop. */
	for (int i = 0; i < nr; i++)
		conn_ready(l, events[i].data.ptr, events[i].events);
	while (again) {
		struct conn *next = again->next_again;
		conn_continue(l, again);
		again = next;
	}
	if (is_open_loop(&l->open))
		open_loop_send(l);
	if (l->now_ns >= l->next_tick_ns)
		tick(l);
}

/* Runs until a time, or until `*left` is 0 if given. Returns the time at which it ended. */
static uint64_t run(struct load *l, uint64_t until_ns, const uint64_t *left)
{
	for (;;) {
		uint64_t now_ns = mono_ns();
		if (now_ns >= until_ns || (left && !*left))
			return now_ns;
		turn(l, now_ns, until_ns);
	}
}

/* Opens every connection that is down, a few at a time, and waits for the outcome. */
static void connect_all(struct load *l, uint32_t nr)
{
	uint32_t next = 0;

	for (;;) {
		while (next < nr && l->nr_connecting < CONNECTS_AT_ONCE) {
			if (l->conns[next].state == CONN_DOWN)
				conn_open(l, &l->conns[next]);
			next++;
		}
		if (next == nr && !l->nr_connecting)
			return;
		/* A tick gives up those that take too long. */
		turn(l, mono_ns(), UINT64_MAX);
	}
}

/* The kernel caps SO_RCVBUF silently; a run that asked for one should hear of it. */
static void check_rcvbuf(const struct load *l)
{
	int asked = l->cfg->rcvbuf_bytes;
	/* Twice the request: the kernel adds as much again for its bookkeeping (socket(7)). */
	int granted = net_rcvbuf_granted(l->conns[0].fd) / 2;

	if (asked > 0 && granted < asked && l->cfg->log)
		fprintf(l->cfg->log,
			"iolab-load: receive buffer of %d bytes asked for, %d granted; "
			"net.core.rmem_max is the limit\n",
			asked, granted);
}

/* Finds the first address that answers, with the first connection. */
static int choose_address(struct load *l)
{
	l->connect_error = -EADDRNOTAVAIL;
	l->quiet = true;
	for (l->address = l->cfg->addresses; l->address; l->address = l->address->ai_next) {
		connect_all(l, 1);
		if (l->nr_up) {
			l->quiet = false;
			check_rcvbuf(l);
			return 0;
		}
	}
	return l->connect_error;
}

static int load_init(struct load *l)
{
	const struct load_config *cfg = l->cfg;
	uint32_t ring_size = 1;

	while (ring_size < cfg->pipeline)
		ring_size *= 2;
	l->ring_mask = ring_size - 1;
	if (plan_init(&l->plan, cfg->host, cfg->paths, cfg->nr_paths, cfg->pipeline, cfg->seed) < 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < cfg->nr_paths; i++) {
		l->plan.routes[i].ask_bytes = conn_first_ask(l);
		l->plan.routes[i].want = cfg->wants ? &cfg->wants[i] : NULL;
	}
	l->scratch = malloc(SCRATCH_BYTES);
	l->conns = calloc(cfg->connections, sizeof(*l->conns));
	if (!l->scratch || !l->conns)
		return -ENOMEM;
	for (l->nr_conns = 0; l->nr_conns < cfg->connections;) {
		if (conn_init(l, &l->conns[l->nr_conns++]) < 0)
			return -ENOMEM;
	}
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	return l->epfd < 0 ? -errno : open_loop_init(l);
}

int load_open(const struct load_config *cfg, struct load **out)
{
	struct load *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->cfg = cfg;
	l->epfd = -1;
	int res = load_init(l);
	if (res == 0)
		res = choose_address(l);
	if (res < 0) {
		load_close(l);
		return res;
	}
	connect_all(l, l->nr_conns);
	*out = l;
	return 0;
}

void load_close(struct load *l)
{
	for (uint32_t i = 0; i < l->nr_conns; i++)
		conn_exit(l, &l->conns[i]);
	free(l->conns);
	free(l->scratch);
	open_loop_exit(l);
	plan_free(&l->plan);
	if (l->epfd >= 0)
		close(l->epfd);
	free(l);
}

uint32_t load_connected(const struct load *l)
{
	return l->nr_up;
}

int load_choose(struct load *l, const char *path)
{
	uint32_t route = path ? plan_find(&l->plan, path) : PLAN_ALL;

	if (path && route == PLAN_ALL)
		return -ENOENT;
	if (!path && l->plan.nr_routes == 1)
		route = 0;
	if (route != l->plan.only)
		plan_choose(&l->plan, route);
	return 0;
}

int load_offer(struct load *l, double rate)
{
	return open_loop_offer(l, rate);
}

static void check_idle(struct load *l)
{
	for (uint32_t i = 0; i < l->nr_conns; i++)
		conn_check_idle(l, &l->conns[i]);
}

static void fill_all(struct load *l)
{
	for (uint32_t i = 0; i < l->nr_conns; i++) {
		l->now_ns = mono_ns();
		conn_fill(l, &l->conns[i]);
	}
}

/* What is still outstanding after the drain has timed out. */
static void give_up(struct load *l)
{
	for (uint32_t i = 0; i < l->nr_conns; i++) {
		if (l->conns[i].nr_asked)
			conn_fail(l, &l->conns[i], LOAD_ERR_TIMEOUT,
				  "a response is not complete at the end of the drain");
	}
}

static void take_mark(const struct load *l, struct mark *m)
{
	m->count = l->count;
	m->idle_ns = l->idle_ns;
	m->have_server_ns = cpu_server_read(l->cfg->cpu_clocks, l->cfg->nr_cpu_clocks,
					    l->cfg->cpu_usage, &m->server_ns);
	m->client_ns = cpu_self_ns();
	m->now_ns = mono_ns();
}

static struct counters counters_between(const struct counters *from, const struct counters *to)
{
	struct counters diff = {
		.requests = to->requests - from->requests,
		.bytes = to->bytes - from->bytes,
		.body_bytes = to->body_bytes - from->body_bytes,
		.non_2xx = to->non_2xx - from->non_2xx,
		.reconnects = to->reconnects - from->reconnects,
	};

	for (int i = 0; i < NR_LOAD_ERRORS; i++)
		diff.errors[i] = to->errors[i] - from->errors[i];
	return diff;
}

static void set_window(struct slice_result *res, const struct mark *from, const struct mark *to)
{
	res->start_ns = from->now_ns;
	res->window_ns = to->now_ns - from->now_ns;
	res->idle_ns = to->idle_ns - from->idle_ns;
	res->client_ns = to->client_ns - from->client_ns;
	res->have_server_ns = from->have_server_ns && to->have_server_ns;
	res->server_ns = res->have_server_ns ? to->server_ns - from->server_ns : 0;
	res->window = counters_between(&from->count, &to->count);
}

/* Warm-up and window; on return nothing new is being asked, but for an open loop's backlog. */
static void measure(struct load *l, uint64_t warmup_ns, uint64_t duration_ns,
		    struct slice_result *res)
{
	struct mark from, to;

	run(l, mono_ns() + warmup_ns, NULL);
	l->latency = &res->latency;
	take_mark(l, &from);
	open_loop_window(l, from.now_ns, &res->open);
	uint64_t half_ns = run(l, from.now_ns + duration_ns / 2, NULL);
	open_loop_halfway(l, half_ns, &res->open);
	run(l, from.now_ns + duration_ns, NULL);
	take_mark(l, &to);
	open_loop_window_end(l, to.now_ns, &res->open);
	if (!is_open_loop(&l->open))
		l->latency = NULL;
	set_window(res, &from, &to);
}

/* Open loop: until everything due is sent and answered, for what is unanswered may be due again. */
static uint64_t work_off(struct load *l, uint64_t until_ns)
{
	uint64_t now_ns = mono_ns();

	while (is_open_loop(&l->open) && (l->open.nr_left || l->nr_asked) && now_ns < until_ns)
		now_ns = run(l, until_ns, l->open.nr_left ? &l->open.nr_left : &l->nr_asked);
	return now_ns;
}

/* Works the backlog off and drains what is outstanding. Returns the time at which it ended. */
static uint64_t drain(struct load *l, uint64_t window_end_ns, uint64_t duration_ns)
{
	uint64_t from_ns = work_off(l, window_end_ns + duration_ns);

	l->issuing = false;
	open_loop_stop_sending(l);
	uint64_t end_ns = run(l, from_ns + l->cfg->timeout_ns, &l->nr_asked);
	l->latency = NULL;
	return end_ns;
}

void load_slice(struct load *l, uint64_t warmup_ns, uint64_t duration_ns, struct slice_result *res)
{
	l->count = (struct counters){0};
	l->nr_said = 0;
	hist_reset(&res->latency);
	res->open = (struct open_result){0};
	hist_reset(&res->open.lateness);
	check_idle(l);
	connect_all(l, l->nr_conns);
	uint64_t start_ns = mono_ns();
	l->issuing = true;
	open_loop_begin(l, start_ns, &res->open);
	fill_all(l);
	measure(l, warmup_ns, duration_ns, res);
	uint64_t window_end_ns = res->start_ns + res->window_ns;
	uint64_t end_ns = drain(l, window_end_ns, duration_ns);
	give_up(l);
	check_idle(l);
	res->drain_ns = end_ns - window_end_ns;
	res->total_ns = end_ns - start_ns;
	open_loop_end(l);
	res->total = l->count;
}
