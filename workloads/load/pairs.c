/* SPDX-License-Identifier: MIT */
#include "pair.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "clocks.h"

#define EVENTS_PER_WAIT 256
#define PACED_WAIT_NS	(2 * NS_PER_MS) /* between looks at what no event announces */

/* Bounds of the interval at which time-outs are looked at, an eighth of the time-out. */
#define TICK_MIN_NS (1 * NS_PER_MS)
#define TICK_MAX_NS (100 * NS_PER_MS)

/* ---------------------------------------------------------------- the loop */

static uint64_t tick_interval_ns(const struct pairs *ps)
{
	uint64_t interval = ps->cfg->timeout_ns / 8;

	if (interval < TICK_MIN_NS)
		return TICK_MIN_NS;
	return interval > TICK_MAX_NS ? TICK_MAX_NS : interval;
}

static void tick(struct pairs *ps)
{
	for (uint32_t i = 0; i < ps->cfg->nr_pairs; i++)
		if (ps->sending || pair_on_its_way(&ps->pair[i]))
			pair_check_timeout(&ps->pair[i]);
	upstream_tick(ps);
	ps->next_tick_ns = ps->now_ns + tick_interval_ns(ps);
}

/* Begins the pairs again that have waited long enough behind a failure. */
static void retry(struct pairs *ps)
{
	ps->retrying = false;
	for (uint32_t i = 0; i < ps->cfg->nr_pairs; i++)
		pair_start(&ps->pair[i]);
}

/* Time to wait in ms, rounded up: waking early would spin until the deadline. */
static int wait_ms(const struct pairs *ps, uint64_t now_ns, uint64_t until_ns)
{
	uint64_t next_ns = until_ns < ps->next_tick_ns ? until_ns : ps->next_tick_ns;

	if (ps->again)
		return 0;
	if ((ps->throttled || ps->strangers || ps->retrying) && next_ns > now_ns + PACED_WAIT_NS)
		next_ns = now_ns + PACED_WAIT_NS;
	return next_ns <= now_ns ? 0 : (int)((next_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS);
}

static void turn(struct pairs *ps, uint64_t until_ns)
{
	struct epoll_event events[EVENTS_PER_WAIT];
	uint64_t before_ns = mono_ns();
	struct pair *again = ps->again;
	int nr = epoll_wait(ps->epfd, events, EVENTS_PER_WAIT, wait_ms(ps, before_ns, until_ns));

	ps->nr_turns++;
	ps->now_ns = mono_ns();
	ps->idle_ns += ps->now_ns - before_ns;
	ps->again = NULL;
	for (int i = 0; i < nr; i++) {
		if (events[i].data.ptr)
			pair_event(events[i].data.ptr, events[i].events);
		else
			upstream_accept(ps);
	}
	upstream_meet(ps);
	while (again) {
		struct pair *next = again->next_again;

		again->queued = false;
		pair_pump(again);
		again = next;
	}
	if (ps->retrying)
		retry(ps);
	if (ps->now_ns >= ps->next_tick_ns)
		tick(ps);
	if (!ps->throttled)
		return;
	ps->throttled = false;
	for (uint32_t i = 0; i < ps->cfg->nr_pairs; i++)
		pair_pump(&ps->pair[i]);
}

static bool drained(const struct pairs *ps)
{
	for (uint32_t i = 0; i < ps->cfg->nr_pairs; i++)
		if (pair_on_its_way(&ps->pair[i]))
			return false;
	return true;
}

static void run_until(struct pairs *ps, uint64_t until_ns)
{
	while (mono_ns() < until_ns)
		turn(ps, until_ns);
}

static void drain(struct pairs *ps)
{
	uint64_t until_ns = mono_ns() + ps->cfg->timeout_ns;

	while (!drained(ps) && mono_ns() < until_ns)
		turn(ps, until_ns);
	for (uint32_t i = 0; i < ps->cfg->nr_pairs; i++)
		if (pair_on_its_way(&ps->pair[i]))
			pair_fail(&ps->pair[i], LOAD_ERR_TIMEOUT, "still under way after the drain",
				  0);
}

/* ---------------------------------------------------------------- measuring */

struct mark {
	uint64_t now_ns, idle_ns, client_ns, server_ns;
	bool have_server_ns;
	struct counters count;
};

static void take_mark(const struct pairs *ps, struct mark *m)
{
	m->count = ps->count;
	m->idle_ns = ps->idle_ns;
	m->have_server_ns = cpu_server_read(ps->cfg->cpu_clocks, ps->cfg->nr_cpu_clocks,
					    ps->cfg->cpu_usage, &m->server_ns);
	m->client_ns = cpu_self_ns();
	m->now_ns = mono_ns();
}

static void set_window(struct slice_result *res, const struct mark *from, const struct mark *to)
{
	res->start_ns = from->now_ns;
	res->window_ns = to->now_ns - from->now_ns;
	res->idle_ns = to->idle_ns - from->idle_ns;
	res->client_ns = to->client_ns - from->client_ns;
	res->have_server_ns = from->have_server_ns && to->have_server_ns;
	res->server_ns = res->have_server_ns ? to->server_ns - from->server_ns : 0;
	res->window = (struct counters){
		.requests = to->count.requests - from->count.requests,
		.bytes = to->count.bytes - from->count.bytes,
		.body_bytes = to->count.body_bytes - from->count.body_bytes,
	};
}

static void begin(struct pairs *ps, struct pairs_result *res)
{
	ps->count = (struct counters){0};
	ps->sent_bytes = 0;
	ps->greeting_bytes = 0;
	ps->nr_said = 0;
	ps->now_ns = ps->pace_ns = mono_ns();
	ps->next_tick_ns = ps->now_ns + tick_interval_ns(ps);
	ps->sending = true;
	hist_reset(&res->slice.latency);
	for (uint32_t i = 0; i < ps->cfg->nr_pairs; i++) {
		struct pair *p = &ps->pair[i];

		for (int j = 0; j < 2; j++)
			p->flow[j].paid_sent = p->flow[j].paid_got = 0;
		if (p->running && ps->paused_ns) {
			p->progress_ns += ps->now_ns - ps->paused_ns;
			p->begun_ns += ps->now_ns - ps->paused_ns;
		}
		pair_check_idle(p);
		pair_start(p);
		pair_queue(p);
	}
}

static void finish(struct pairs *ps, struct pairs_result *res, uint64_t start_ns, uint64_t end_ns)
{
	ps->latency = NULL;
	ps->sending = false;
	drain(ps);
	res->slice.drain_ns = ps->now_ns > end_ns ? ps->now_ns - end_ns : 0;
	ps->paused_ns = mono_ns();
	res->slice.total_ns = ps->paused_ns - start_ns;
	res->slice.total = ps->count;
	res->sent_bytes = ps->sent_bytes;
	res->greeting_bytes = ps->greeting_bytes;
}

void pairs_slice(struct pairs *ps, uint64_t warmup_ns, uint64_t duration_ns,
		 struct pairs_result *res)
{
	struct mark from, to;

	begin(ps, res);
	uint64_t start_ns = ps->now_ns;
	run_until(ps, start_ns + warmup_ns);
	ps->latency = &res->slice.latency;
	take_mark(ps, &from);
	run_until(ps, from.now_ns + duration_ns);
	take_mark(ps, &to);
	set_window(&res->slice, &from, &to);
	finish(ps, res, start_ns, to.now_ns);
}

void pairs_count(struct pairs *ps, struct pairs_result *res)
{
	struct mark from, to;

	begin(ps, res);
	ps->latency = &res->slice.latency;
	take_mark(ps, &from);
	while (ps->nr_done < ps->cfg->nr_pairs) /* not at a time: the window ends with the last */
		turn(ps, UINT64_MAX);
	take_mark(ps, &to);
	set_window(&res->slice, &from, &to);
	finish(ps, res, from.now_ns, to.now_ns);
}

/* ---------------------------------------------------------------- opening and closing */

static void flow_init(struct flow *f, struct end *from, struct end *to, bool active)
{
	f->from = from;
	f->to = to;
	f->active = active;
}

static int pair_init(struct pairs *ps, uint32_t index)
{
	const struct pairs_config *cfg = ps->cfg;
	struct pair *p = &ps->pair[index];

	p->owner = ps;
	p->index = index;
	p->a = (struct end){.pair = p, .fd = -1};
	p->b = (struct end){.pair = p, .fd = -1};
	flow_init(&p->flow[0], &p->a, &p->b, !cfg->forward || cfg->direction != DIRECTION_DOWN);
	flow_init(&p->flow[1], &p->b, &p->a, cfg->forward && cfg->direction != DIRECTION_UP);
	if (cfg->forward)
		return 0;
	p->a.reply = calloc(1, sizeof(*p->a.reply));
	p->b.reply = calloc(1, sizeof(*p->b.reply));
	return p->a.reply && p->b.reply ? 0 : -ENOMEM;
}

static int pairs_init(struct pairs *ps)
{
	int res;

	ps->epfd = epoll_create1(EPOLL_CLOEXEC);
	ps->scratch = malloc(SCRATCH_BYTES);
	ps->pair = calloc(ps->cfg->nr_pairs, sizeof(*ps->pair));
	if (ps->epfd < 0 || !ps->scratch || !ps->pair)
		return ps->epfd < 0 ? -errno : -ENOMEM;
	for (uint32_t i = 0; i < ps->cfg->nr_pairs; i++) {
		res = pair_init(ps, i);
		if (res < 0)
			return res;
	}
	res = pattern_init(&ps->pattern, ps->cfg->seed);
	return res < 0 || !ps->cfg->forward ? res : upstream_listen(ps);
}

int pairs_open(const struct pairs_config *cfg, struct pairs **out)
{
	struct pairs *ps = calloc(1, sizeof(*ps));
	int res;

	if (!ps)
		return -ENOMEM;
	ps->cfg = cfg;
	ps->epfd = ps->listen_fd = ps->pattern.fd = -1;
	res = pairs_init(ps);
	if (res < 0) {
		pairs_close(ps);
		return res;
	}
	*out = ps;
	return 0;
}

void pairs_close(struct pairs *ps)
{
	for (uint32_t i = 0; ps->pair && i < ps->cfg->nr_pairs; i++) {
		if (!ps->pair[i].owner)
			continue;
		end_close(&ps->pair[i].a);
		end_close(&ps->pair[i].b);
		free(ps->pair[i].a.reply);
		free(ps->pair[i].b.reply);
	}
	upstream_close(ps);
	pattern_exit(&ps->pattern);
	if (ps->epfd >= 0)
		close(ps->epfd);
	free(ps->pair);
	free(ps->scratch);
	free(ps);
}
