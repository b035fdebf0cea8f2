/* SPDX-License-Identifier: MIT */
/* The life of a pair: begun, moved on by both sides, judged, completed or failed, begun anew. */
#include "pair.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net.h"

#define LOGS_PER_SLICE 5

/* ---------------------------------------------------------------- failing */

void end_close(struct end *e)
{
	if (e->fd >= 0)
		close(e->fd);
	e->fd = -1;
	e->connecting = e->writable = e->readable = e->eof = false;
	e->out_len = e->out_at = 0;
}

static void say(struct pairs *ps, const struct pair *p, const char *what, int err)
{
	if (!ps->cfg->log || ps->nr_said++ >= LOGS_PER_SLICE)
		return;
	fprintf(ps->cfg->log, "iolab-load: pair %u, transfer %llu: %s%s%s\n", p->index,
		(unsigned long long)p->seq, what, err ? ": " : "", err ? strerror(err) : "");
}

/* The transfer is over, well or not. */
static void count_done(struct pair *p)
{
	struct pairs *ps = p->owner;

	p->running = false;
	p->seq++;
	p->done++;
	if (ps->cfg->count && p->done == ps->cfg->count)
		ps->nr_done++;
}

static void note_failure(struct pair *p, enum load_error kind, const char *what, int err)
{
	struct pairs *ps = p->owner;

	ps->count.errors[kind]++;
	say(ps, p, what, err);
	end_close(&p->a);
	end_close(&p->b);
	for (int i = 0; i < 2; i++) {
		ps->sent_bytes -= p->flow[i].sent - p->flow[i].got; /* it will never arrive */
		p->flow[i].sent = p->flow[i].got = 0;
	}
	p->retry_ns = ++p->nr_failed > 1 ? ps->now_ns + RETRY_NS : 0;
	ps->retrying = true;
	if (ps->cfg->count && p->nr_failed >= FAILURES_MAX) {
		say(ps, p, "given up", 0);
		p->done = ps->cfg->count - 1;
	}
	count_done(p);
}

void pair_fail(struct pair *p, enum load_error kind, const char *what, int err)
{
	p->owner->count.reconnects++;
	note_failure(p, kind, what, err);
	pair_start(p);
}

void pair_check_timeout(struct pair *p)
{
	const struct pairs *ps = p->owner;

	if (!p->running || ps->now_ns - p->progress_ns <= ps->cfg->timeout_ns)
		return;
	if (p->a.connecting || p->b.connecting)
		pair_fail(p, LOAD_ERR_CONNECT, "connecting", ETIMEDOUT);
	else
		pair_fail(p, LOAD_ERR_TIMEOUT, "no progress", 0);
}

/* ---------------------------------------------------------------- beginning */

bool end_watch(struct pairs *ps, struct end *e)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
				 .data.ptr = e};

	return epoll_ctl(ps->epfd, EPOLL_CTL_ADD, e->fd, &ev) == 0;
}

static int end_connect(struct pairs *ps, struct end *e, int rcvbuf)
{
	int fd = net_connect(ps->cfg->target, rcvbuf);

	if (fd < 0)
		return fd;
	e->fd = fd;
	e->opened_turn = ps->nr_turns;
	e->connecting = true;
	e->eof = false;
	return end_watch(ps, e) ? 0 : -errno;
}

/* Both requests of a relay's transfer. Connections that the server left open are used again. */
static int ask(struct pair *p)
{
	struct pairs *ps = p->owner;
	const struct pairs_config *cfg = ps->cfg;
	int res = 0;

	if (p->a.fd < 0)
		res = end_connect(ps, &p->a, 0);
	if (!res && p->b.fd < 0)
		res = end_connect(ps, &p->b, cfg->rate_recv ? PACED_RCVBUF : 0);
	reply_init(p->a.reply);
	reply_init(p->b.reply);
	end_say(&p->b, "GET /%s-%u-%llu HTTP/1.1\r\nHost: %s\r\n\r\n", cfg->prefix, p->index,
		(unsigned long long)p->seq, cfg->host);
	end_say(&p->a, "PUT /%s-%u-%llu HTTP/1.1\r\nHost: %s\r\n", cfg->prefix, p->index,
		(unsigned long long)p->seq, cfg->host);
	if (cfg->chunked)
		end_say(&p->a, "Transfer-Encoding: chunked\r\n\r\n");
	else
		end_say(&p->a, "Content-Length: %llu\r\n\r\n", (unsigned long long)cfg->size);
	return res;
}

/* A forwarder's transfer: a connection whose first bytes name the pair. */
static int dial(struct pair *p)
{
	uint64_t hello[2] = {HELLO_MAGIC, pair_hello(p)};
	int res;

	end_close(&p->a);
	end_close(&p->b);
	res = end_connect(p->owner, &p->a, p->owner->cfg->rate_recv ? PACED_RCVBUF : 0);
	memcpy(p->a.out, hello, sizeof(hello));
	p->a.out_len = sizeof(hello);
	p->a.out_at = 0;
	return res;
}

void pair_start(struct pair *p)
{
	struct pairs *ps = p->owner;
	const struct pairs_config *cfg = ps->cfg;
	int res;

	if (p->running || !ps->sending || (cfg->count && p->done >= cfg->count))
		return;
	if (ps->now_ns < p->retry_ns) {
		ps->retrying = true;
		return;
	}
	for (int i = 0; i < 2; i++) {
		struct flow *f = &p->flow[i];

		f->sent = f->got = f->chunk_left = 0;
		f->finished_sending = false;
	}
	p->running = true;
	p->begun_ns = p->progress_ns = ps->now_ns;
	res = cfg->forward ? dial(p) : ask(p);
	if (res)
		note_failure(p, LOAD_ERR_CONNECT, "cannot connect", -res);
}

uint64_t pair_paced(struct pair *p, uint64_t rate, uint64_t paid, uint64_t want)
{
	struct pairs *ps = p->owner;
	uint64_t due;

	if (!rate || !ps->sending)
		return want;
	due = (uint64_t)((double)rate * (double)(ps->now_ns - ps->pace_ns) / 1e9);
	due = due > paid ? due - paid : 0;
	if (want <= due)
		return want;
	ps->throttled = true;
	if (!due)
		p->progress_ns = ps->now_ns;
	return due;
}

/* ---------------------------------------------------------------- a pair's progress */

static void complete(struct pair *p)
{
	struct pairs *ps = p->owner;

	if (!ps->cfg->forward && (!end_is_quiet(&p->a) || !end_is_quiet(&p->b))) {
		pair_fail(p, LOAD_ERR_LONG, "bytes behind a response", 0);
		return;
	}
	ps->count.requests++;
	if (ps->latency)
		hist_add(ps->latency, ps->now_ns - p->begun_ns);
	p->nr_failed = 0;
	count_done(p);
	if (ps->cfg->forward || p->a.reply->close || p->a.eof)
		end_close(&p->a);
	if (ps->cfg->forward || p->b.reply->close || p->b.eof)
		end_close(&p->b);
	pair_start(p);
}

void pair_check_idle(struct pair *p)
{
	struct end *ends[] = {&p->a, &p->b};

	if (p->running)
		return;
	for (int i = 0; i < 2; i++) {
		bool quiet = end_is_quiet(ends[i]);

		if (!quiet) {
			p->owner->count.errors[LOAD_ERR_LONG]++;
			say(p->owner, p, "bytes behind a response", 0);
		}
		if (!quiet || ends[i]->eof)
			end_close(ends[i]);
	}
}

/* A relay's response that will not become complete any more. */
static bool is_cut(struct end *e)
{
	return e->eof && !reply_eof(e->reply);
}

/* Nothing came of the response before its connection ended. */
static bool is_unanswered(const struct end *e)
{
	return e->reply->state == REPLY_HEAD && !e->reply->have && !e->reply->status;
}

/* What the ends of connections and responses mean. False when the pair has failed. */
static bool check_relay_ends(struct pair *p)
{
	bool a_cut = is_cut(&p->a), b_cut = is_cut(&p->b);

	if (a_cut || b_cut)
		pair_fail(p, is_unanswered(a_cut ? &p->a : &p->b) ? LOAD_ERR_RESET : LOAD_ERR_SHORT,
			  "a response was cut", 0);
	else if (p->b.reply->state == REPLY_DONE && p->flow[0].got < p->owner->cfg->size)
		pair_fail(p, LOAD_ERR_SHORT, "less than was sent", 0);
	else
		return true;
	return false;
}

static bool check_ends(struct pair *p)
{
	if (!p->owner->cfg->forward)
		return check_relay_ends(p);
	for (int i = 0; i < 2; i++) {
		struct flow *f = &p->flow[i];

		if (f->active && f->to->eof && f->got < p->owner->cfg->size) {
			pair_fail(p, f->got ? LOAD_ERR_SHORT : LOAD_ERR_RESET,
				  "the stream ended early", 0);
			return false;
		}
	}
	return true;
}

static bool flow_on_its_way(const struct pair *p, const struct flow *f)
{
	if (!f->active)
		return false;
	if (f->got < f->sent)
		return true;
	return f->finished_sending && !(p->owner->cfg->forward && f->to->eof);
}

bool pair_on_its_way(const struct pair *p)
{
	if (!p->running)
		return false;
	if (p->owner->cfg->forward && p->b.fd < 0)
		return true; /* the greeting is */
	return p->owner->cfg->size <= SMALL_BYTES || flow_on_its_way(p, &p->flow[0]) ||
	       flow_on_its_way(p, &p->flow[1]);
}

static bool is_complete(const struct pair *p)
{
	const struct pairs_config *cfg = p->owner->cfg;

	if (!p->running)
		return false;
	for (int i = 0; i < 2; i++)
		if (p->flow[i].active &&
		    (p->flow[i].got < cfg->size || !p->flow[i].finished_sending ||
		     (cfg->forward && !p->flow[i].to->eof)))
			return false;
	return cfg->forward || (p->a.out_at == p->a.out_len && p->a.reply->state == REPLY_DONE &&
				p->b.reply->state == REPLY_DONE);
}

void pair_queue(struct pair *p)
{
	struct pairs *ps = p->owner;

	if (p->queued)
		return;
	p->queued = true;
	p->next_again = ps->again;
	ps->again = p;
}

static bool pump_once(struct pair *p)
{
	bool more = false;

	for (int i = 0; i < 2; i++) {
		more |= flow_send(p, &p->flow[i]);
		if (p->running)
			more |= flow_receive(p, &p->flow[i]);
	}
	if (p->running && !p->owner->cfg->forward && p->a.fd >= 0 && p->a.readable)
		more |= words_receive(p, &p->a);
	return more;
}

void pair_pump(struct pair *p)
{
	uint64_t seq = p->seq;
	int turns = 0;

	while (p->running && p->seq == seq && ++turns <= 8) {
		if (p->a.fd >= 0 && p->a.writable)
			end_flush(&p->a);
		if (p->running && p->seq == seq && p->b.fd >= 0 && p->b.writable)
			end_flush(&p->b);
		if (!p->running || p->seq != seq || !pump_once(p))
			break;
	}
	if (p->running && p->seq == seq && !check_ends(p))
		return;
	if (is_complete(p))
		complete(p);
	if (turns > 8 || (p->running && p->seq != seq))
		pair_queue(p);
}

/*
 * One wait may bring events of both ends. The first may fail the pair, which opens both anew; what
 * the second says is about a socket that is closed then.
 */
void pair_event(struct end *e, uint32_t events)
{
	if (e->fd < 0 || e->opened_turn == e->pair->owner->nr_turns)
		return;
	if (e->connecting && events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
		int err = net_socket_error(e->fd);

		e->connecting = false;
		if (err) {
			pair_fail(e->pair, LOAD_ERR_CONNECT, "connecting", -err);
			return;
		}
	}
	if (events & EPOLLOUT)
		e->writable = true;
	if (!e->pair->running) {
		pair_check_idle(e->pair);
		return;
	}
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		e->readable = true;
	pair_pump(e->pair);
}
