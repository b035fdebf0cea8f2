/* SPDX-License-Identifier: MIT */
#include "pairs.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clocks.h"
#include "net.h"
#include "pattern.h"
#include "reply.h"

#define SCRATCH_BYTES	(256u << 10)
#define SEND_BYTES	(256u << 10)
#define TURN_BYTES	(1u << 20) /* of a flow, before the other pairs have theirs */
#define CHUNK_BYTES	(256u << 10)
#define SMALL_BYTES	(4u << 20) /* transfers up to this are finished before a pause */
#define EVENTS_PER_WAIT 256
#define WAIT_MS		20
#define PACED_WAIT_MS	2
#define SAMPLE_EVERY	(1u << 20)
#define SAMPLE_BYTES	4096u
#define EDGE_BYTES	64u
#define HELLO_MAGIC	0x30414f4c424f4cull
#define PACED_RCVBUF	(64 << 10)
#define LOGS_PER_SLICE	5

/* One socket of a pair. */
struct end {
	struct pair *pair;
	int fd; /* -1: closed */
	bool connecting, writable, readable, eof;
	char out[768]; /* what is to be sent before, or between, the payload */
	uint32_t out_len, out_at;
	struct reply *reply; /* relay */
};

/* Payload from one end to the other. */
struct flow {
	struct end *from, *to;
	uint64_t sent, got; /* of the current transfer */
	uint64_t chunk_left;
	bool active;
	bool finished_sending;
};

struct pair {
	struct pairs *owner;
	uint32_t index;
	uint64_t seq, done;
	uint64_t begun_ns, progress_ns;
	uint64_t paid_sent, paid_got; /* since the pace began */
	struct end a, b;	      /* sender and receiver; client and upstream */
	struct flow flow[2];
	bool running, greeted; /* greeted: the upstream end is known (forward) */
	struct pair *next_again;
	bool queued;
};

/* An accepted connection that has not said yet whose it is. */
struct stranger {
	int fd;
	struct stranger *next;
};

struct pairs {
	const struct pairs_config *cfg;
	struct pattern pattern;
	struct pair *pair;
	struct pair *again;
	struct stranger *strangers;
	char *scratch;
	int epfd, listen_fd;
	bool sending, throttled;
	uint64_t now_ns, pace_ns, idle_ns;
	uint64_t sent_bytes;
	uint32_t nr_said;
	struct counters count;
	struct hist *latency;
};

static void pair_start(struct pair *p);

/* ---------------------------------------------------------------- failing */

static void end_close(struct end *e)
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

/* The pair begins anew, under another name. */
static void pair_fail(struct pair *p, enum load_error kind, const char *what, int err)
{
	struct pairs *ps = p->owner;

	ps->count.errors[kind]++;
	ps->count.reconnects++;
	say(ps, p, what, err);
	end_close(&p->a);
	end_close(&p->b);
	for (int i = 0; i < 2; i++) {
		ps->sent_bytes -= p->flow[i].sent - p->flow[i].got; /* it will never arrive */
		p->flow[i].sent = p->flow[i].got = 0;
	}
	p->running = false;
	p->seq++;
	p->done++;
	pair_start(p);
}

/* ---------------------------------------------------------------- beginning */

static bool watch(struct pairs *ps, struct end *e)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
				 .data.ptr = e};

	return epoll_ctl(ps->epfd, EPOLL_CTL_ADD, e->fd, &ev) == 0;
}

static void append(struct end *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void append(struct end *e, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (e->out_at == e->out_len)
		e->out_at = e->out_len = 0;
	va_start(ap, fmt);
	n = vsnprintf(e->out + e->out_len, sizeof(e->out) - e->out_len, fmt, ap);
	va_end(ap);
	if (n > 0 && (size_t)n < sizeof(e->out) - e->out_len)
		e->out_len += (uint32_t)n;
}

static int end_connect(struct pairs *ps, struct end *e, int rcvbuf)
{
	int fd = net_connect(ps->cfg->target, rcvbuf);

	if (fd < 0)
		return fd;
	e->fd = fd;
	e->connecting = true;
	e->eof = false;
	return watch(ps, e) ? 0 : -errno;
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
	append(&p->b, "GET /%s-%u-%llu HTTP/1.1\r\nHost: %s\r\n\r\n", cfg->prefix, p->index,
	       (unsigned long long)p->seq, cfg->host);
	append(&p->a, "PUT /%s-%u-%llu HTTP/1.1\r\nHost: %s\r\n", cfg->prefix, p->index,
	       (unsigned long long)p->seq, cfg->host);
	if (cfg->chunked)
		append(&p->a, "Transfer-Encoding: chunked\r\n\r\n");
	else
		append(&p->a, "Content-Length: %llu\r\n\r\n", (unsigned long long)cfg->size);
	return res;
}

/* A forwarder's transfer: a connection whose first bytes name the pair. */
static int dial(struct pair *p)
{
	uint64_t hello[2] = {HELLO_MAGIC, p->index};
	int res;

	end_close(&p->a);
	end_close(&p->b);
	p->greeted = false;
	res = end_connect(p->owner, &p->a, p->owner->cfg->rate_recv ? PACED_RCVBUF : 0);
	memcpy(p->a.out, hello, sizeof(hello));
	p->a.out_len = sizeof(hello);
	p->a.out_at = 0;
	return res;
}

static void pair_start(struct pair *p)
{
	struct pairs *ps = p->owner;
	const struct pairs_config *cfg = ps->cfg;
	int res;

	if (p->running || !ps->sending || (cfg->count && p->done >= cfg->count))
		return;
	for (int i = 0; i < 2; i++) {
		struct flow *f = &p->flow[i];

		f->sent = f->got = f->chunk_left = 0;
		f->finished_sending = false;
	}
	p->running = true;
	p->begun_ns = p->progress_ns = ps->now_ns;
	res = cfg->forward ? dial(p) : ask(p);
	if (res) {
		ps->count.errors[LOAD_ERR_CONNECT]++;
		say(ps, p, "cannot connect", -res);
		end_close(&p->a);
		end_close(&p->b);
		p->running = false;
		p->done++;
	}
}

/* ---------------------------------------------------------------- sending */

static uint64_t pace_left(const struct pairs *ps, uint64_t rate, uint64_t paid)
{
	uint64_t due;

	if (!rate)
		return UINT64_MAX;
	due = (uint64_t)((double)rate * (double)(ps->now_ns - ps->pace_ns) / 1e9);
	return due > paid ? due - paid : 0;
}

/* Sends what stands in out. False while it is not out, or the pair has failed. */
static bool flush(struct end *e)
{
	while (e->out_at < e->out_len) {
		ssize_t n = send(e->fd, e->out + e->out_at, e->out_len - e->out_at, MSG_NOSIGNAL);

		if (n < 0) {
			if (errno == EAGAIN)
				e->writable = false;
			else
				pair_fail(e->pair, LOAD_ERR_RESET, "sending a head", errno);
			return false;
		}
		e->out_at += (uint32_t)n;
	}
	return true;
}

static bool may_send(const struct pair *p, const struct flow *f)
{
	const struct pairs *ps = p->owner;

	return f->active && f->from->fd >= 0 && f->from->writable && !f->finished_sending &&
	       (ps->sending || (ps->cfg->size <= SMALL_BYTES && p->running));
}

/* The end of the payload: a last chunk, or a half-close. */
static void finish_sending(struct pair *p, struct flow *f)
{
	const struct pairs_config *cfg = p->owner->cfg;

	f->finished_sending = true;
	if (cfg->forward)
		shutdown(f->from->fd, SHUT_WR);
	else if (cfg->chunked)
		append(f->from, "%s0\r\n\r\n", f->sent ? "\r\n" : "");
	flush(f->from);
}

/* How much payload may go now; begins a chunk where one is due. */
static uint64_t send_room(struct pair *p, struct flow *f)
{
	struct pairs *ps = p->owner;
	uint64_t left = ps->cfg->size == SIZE_ENDLESS ? SEND_BYTES : ps->cfg->size - f->sent;
	uint64_t pace = pace_left(ps, ps->cfg->rate_send, p->paid_sent);

	if (left > pace) {
		ps->throttled = true;
		left = pace;
	}
	if (ps->cfg->chunked && left && !f->chunk_left) {
		uint64_t rest = ps->cfg->size - f->sent;

		f->chunk_left = rest < CHUNK_BYTES ? rest : CHUNK_BYTES;
		append(f->from, "%s%llx\r\n", f->sent ? "\r\n" : "",
		       (unsigned long long)f->chunk_left);
		if (!flush(f->from))
			return 0;
	}
	if (ps->cfg->chunked && left > f->chunk_left)
		left = f->chunk_left;
	return left < SEND_BYTES ? left : SEND_BYTES;
}

/* True when something went and more may go. */
static bool flow_send(struct pair *p, struct flow *f)
{
	struct pairs *ps = p->owner;
	uint64_t room;
	ssize_t n;

	if (!may_send(p, f) || !flush(f->from))
		return false;
	if (f->sent == ps->cfg->size) {
		finish_sending(p, f);
		return false;
	}
	room = send_room(p, f);
	if (!room || f->from->fd < 0)
		return false;
	n = pattern_send(&ps->pattern, f->from->fd, f->sent, (size_t)room);
	if (n <= 0) {
		if (n < 0 && errno != EAGAIN)
			pair_fail(p, LOAD_ERR_RESET, "sending", errno);
		else
			f->from->writable = false;
		return false;
	}
	f->sent += (uint64_t)n;
	f->chunk_left -= ps->cfg->chunked ? (uint64_t)n : 0;
	p->paid_sent += (uint64_t)n;
	ps->sent_bytes += (uint64_t)n;
	p->progress_ns = ps->now_ns;
	if (f->sent == ps->cfg->size)
		finish_sending(p, f);
	return true;
}

/* ---------------------------------------------------------------- receiving */

/*
 * Of the next `len` bytes at stream position pos: how many are to be treated alike, and whether
 * they are to be compared.
 */
static size_t next_zone(const struct pairs *ps, uint64_t pos, size_t len, bool *compare)
{
	uint64_t size = ps->cfg->size, block = pos / SAMPLE_EVERY;
	uint64_t from = block * SAMPLE_EVERY + (block * 0x9e3779b97f4a7c15ull ^ ps->cfg->seed) %
						       (SAMPLE_EVERY - SAMPLE_BYTES);
	uint64_t to = from + SAMPLE_BYTES, stop;

	*compare = ps->cfg->check == CHECK_FULL;
	if (ps->cfg->check != CHECK_SAMPLE)
		return len;
	*compare = true;
	if (pos < EDGE_BYTES) {
		stop = EDGE_BYTES;
	} else if (size != SIZE_ENDLESS && pos + EDGE_BYTES >= size) {
		stop = size;
	} else if (pos >= from && pos < to) {
		stop = to;
	} else {
		*compare = false;
		stop = pos < from ? from : (block + 1) * SAMPLE_EVERY;
		if (size != SIZE_ENDLESS && stop + EDGE_BYTES > size)
			stop = size - EDGE_BYTES;
	}
	return stop - pos < len ? (size_t)(stop - pos) : len;
}

/* Payload that was received into buf, or discarded (NULL). False when it is wrong. */
static bool account(struct pair *p, struct flow *f, const char *buf, size_t n)
{
	struct pairs *ps = p->owner;

	if (f->got + n > ps->cfg->size) {
		pair_fail(p, LOAD_ERR_LONG, "more than was sent", 0);
		return false;
	}
	if (buf && memcmp(buf, pattern_at(&ps->pattern, f->got), n) != 0) {
		pair_fail(p, LOAD_ERR_MISMATCH, "wrong bytes", 0);
		return false;
	}
	f->got += n;
	p->paid_got += n;
	p->progress_ns = ps->now_ns;
	ps->count.bytes += n;
	ps->count.body_bytes += n;
	return true;
}

/* A receive's error or end. Always false, for the caller to return. */
static bool no_more(struct pair *p, struct end *e, ssize_t n)
{
	if (n < 0 && errno == EAGAIN) {
		e->readable = false;
	} else if (n < 0) {
		pair_fail(p, LOAD_ERR_RESET, "receiving", errno);
	} else {
		e->eof = true;
		e->readable = false;
	}
	return false;
}

/* At most `left` bytes of payload. True when some came. */
static bool receive_payload(struct pair *p, struct flow *f, uint64_t left, size_t *got)
{
	struct pairs *ps = p->owner;
	uint64_t pace = pace_left(ps, ps->cfg->rate_recv, p->paid_got);
	bool compare;
	size_t want;
	ssize_t n;

	if (left > pace) {
		ps->throttled = true;
		left = pace;
	}
	if (!left)
		return false;
	want = next_zone(ps, f->got, left < (4u << 20) ? (size_t)left : 4u << 20, &compare);
	if (compare && want > SCRATCH_BYTES)
		want = SCRATCH_BYTES;
	n = recv(f->to->fd, ps->scratch, want, compare ? 0 : MSG_TRUNC);
	if (n <= 0)
		return no_more(p, f->to, n);
	*got = (size_t)n;
	return account(p, f, compare ? ps->scratch : NULL, (size_t)n);
}

/* The framing of a reply, up to body bytes. Peeks, so that none of them is taken with it. */
static bool receive_framing(struct pair *p, struct end *e)
{
	struct pairs *ps = p->owner;
	ssize_t n = recv(e->fd, ps->scratch, REPLY_HEAD_MAX, MSG_PEEK);
	size_t used;

	if (n <= 0)
		return no_more(p, e, n);
	used = reply_feed(e->reply, ps->scratch, (size_t)n);
	ps->count.bytes += used;
	if (recv(e->fd, ps->scratch, used, MSG_TRUNC) != (ssize_t)used)
		return no_more(p, e, 0);
	if (e->reply->state == REPLY_BAD)
		pair_fail(p, LOAD_ERR_HEAD, "malformed response", 0);
	else if (e->reply->status >= 200 && e->reply->status != 200) {
		ps->count.non_2xx++;
		pair_fail(p, LOAD_ERR_STATUS, "a status other than 200", 0);
	} else {
		return true;
	}
	return false;
}

/* The sender's response: words, of no interest. */
static bool receive_words(struct pair *p, struct end *e)
{
	struct pairs *ps = p->owner;
	struct reply *r = e->reply;
	ssize_t n;

	if (r->state == REPLY_DONE)
		return false;
	if (r->state != REPLY_BODY)
		return receive_framing(p, e);
	n = recv(e->fd, ps->scratch, r->left < SCRATCH_BYTES ? (size_t)r->left : SCRATCH_BYTES, 0);
	if (n <= 0)
		return no_more(p, e, n);
	ps->count.bytes += (uint64_t)n;
	reply_took(r, (uint64_t)n);
	return true;
}

/* True when something came and more may come. */
static bool flow_receive(struct pair *p, struct flow *f)
{
	struct end *e = f->to;
	size_t got = 0;
	bool more;

	if (!f->active || e->fd < 0 || !e->readable)
		return false;
	if (p->owner->cfg->forward) {
		if (f->got == p->owner->cfg->size) { /* its end of file is due */
			char byte;
			ssize_t n = recv(e->fd, &byte, 1, 0);

			if (n > 0)
				pair_fail(p, LOAD_ERR_LONG, "more than was sent", 0);
			return n > 0 ? false : no_more(p, e, n);
		}
		return receive_payload(p, f, p->owner->cfg->size - f->got, &got);
	}
	if (e->reply->state == REPLY_DONE)
		return false;
	if (e->reply->state != REPLY_BODY)
		return receive_framing(p, e);
	more = receive_payload(p, f, e->reply->left, &got);
	if (more)
		reply_took(e->reply, got);
	return more;
}

/* ---------------------------------------------------------------- a pair's progress */

static void complete(struct pair *p)
{
	struct pairs *ps = p->owner;

	ps->count.requests++;
	if (ps->latency)
		hist_add(ps->latency, ps->now_ns - p->begun_ns);
	p->running = false;
	p->seq++;
	p->done++;
	if (ps->cfg->forward || p->a.reply->close || p->a.eof)
		end_close(&p->a);
	if (ps->cfg->forward || p->b.reply->close || p->b.eof)
		end_close(&p->b);
	pair_start(p);
}

/* What the end of a connection means. False when the pair has failed. */
static bool check_eof(struct pair *p)
{
	for (int i = 0; i < 2 && p->running; i++) {
		struct flow *f = &p->flow[i];

		if (f->active && f->to->eof && f->got < p->owner->cfg->size) {
			pair_fail(p, f->got ? LOAD_ERR_SHORT : LOAD_ERR_RESET,
				  "the stream ended early", 0);
			return false;
		}
	}
	if (p->owner->cfg->forward || !p->running)
		return true;
	if ((p->a.eof && !reply_eof(p->a.reply)) || (p->b.eof && !reply_eof(p->b.reply))) {
		pair_fail(p, LOAD_ERR_SHORT, "a response was cut", 0);
		return false;
	}
	return true;
}

static bool is_complete(const struct pair *p)
{
	const struct pairs_config *cfg = p->owner->cfg;

	if (!p->running)
		return false;
	for (int i = 0; i < 2; i++)
		if (p->flow[i].active &&
		    (p->flow[i].got < cfg->size || (cfg->forward && !p->flow[i].to->eof)))
			return false;
	return cfg->forward || (p->a.reply->state == REPLY_DONE && p->b.reply->state == REPLY_DONE);
}

static void queue_again(struct pair *p)
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
		more |= receive_words(p, &p->a);
	return more;
}

static void pair_pump(struct pair *p)
{
	uint64_t seq = p->seq;
	int turns = 0;

	while (p->running && p->seq == seq && ++turns <= 8) {
		bool flushed = true;

		if (p->a.fd >= 0 && p->a.writable)
			flushed = flush(&p->a);
		if (flushed && p->running && p->b.fd >= 0 && p->b.writable)
			flush(&p->b);
		if (!p->running || p->seq != seq || !pump_once(p))
			break;
	}
	if (p->running && p->seq == seq && !check_eof(p))
		return;
	if (is_complete(p))
		complete(p);
	if (turns > 8 || (p->running && p->seq != seq))
		queue_again(p);
}

/* ---------------------------------------------------------------- strangers */

static void set_nonblocking(int fd)
{
	int one = 1;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* True when the stranger is one no more. */
static bool meet(struct pairs *ps, int fd)
{
	uint64_t hello[2];
	ssize_t n = recv(fd, hello, sizeof(hello), MSG_PEEK | MSG_DONTWAIT);
	struct pair *p;

	if (n < 0 && errno == EAGAIN)
		return false;
	if (n > 0 && n < (ssize_t)sizeof(hello))
		return false;
	if (n != sizeof(hello) || hello[0] != HELLO_MAGIC || hello[1] >= ps->cfg->nr_pairs ||
	    ps->pair[hello[1]].b.fd >= 0 || recv(fd, hello, sizeof(hello), 0) != sizeof(hello)) {
		close(fd);
		return true;
	}
	p = &ps->pair[hello[1]];
	set_nonblocking(fd);
	p->b.fd = fd;
	p->b.writable = p->b.readable = true;
	p->b.eof = false;
	if (!watch(ps, &p->b))
		pair_fail(p, LOAD_ERR_CONNECT, "watching a socket", errno);
	else
		pair_pump(p);
	return true;
}

static void look_at_strangers(struct pairs *ps)
{
	struct stranger **at = &ps->strangers;

	while (*at) {
		struct stranger *s = *at;

		if (meet(ps, s->fd)) {
			*at = s->next;
			free(s);
		} else {
			at = &s->next;
		}
	}
}

static void on_listener(struct pairs *ps)
{
	int fd;

	while ((fd = accept4(ps->listen_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		struct stranger *s = malloc(sizeof(*s));

		if (!s) {
			close(fd);
			return;
		}
		*s = (struct stranger){.fd = fd, .next = ps->strangers};
		ps->strangers = s;
	}
}

/* ---------------------------------------------------------------- the loop */

static void on_event(struct pairs *ps, struct end *e, uint32_t events)
{
	if (e->connecting && events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
		int err = net_socket_error(e->fd);

		e->connecting = false;
		if (err) {
			pair_fail(e->pair, LOAD_ERR_CONNECT, "connecting", -err);
			return;
		}
	}
	if (!e->pair->running && events & (EPOLLRDHUP | EPOLLHUP)) {
		end_close(e); /* an idle connection that the server has given up */
		return;
	}
	if (events & EPOLLOUT)
		e->writable = true;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		e->readable = true;
	pair_pump(e->pair);
}

static void turn(struct pairs *ps)
{
	struct epoll_event events[EVENTS_PER_WAIT];
	uint64_t before_ns = mono_ns();
	struct pair *again = ps->again;
	int wait_ms = again ? 0 : ps->throttled || ps->strangers ? PACED_WAIT_MS : WAIT_MS;
	int nr = epoll_wait(ps->epfd, events, EVENTS_PER_WAIT, wait_ms);

	ps->now_ns = mono_ns();
	ps->idle_ns += ps->now_ns - before_ns;
	ps->again = NULL;
	for (int i = 0; i < nr; i++) {
		if (events[i].data.ptr)
			on_event(ps, events[i].data.ptr, events[i].events);
		else
			on_listener(ps);
	}
	look_at_strangers(ps);
	while (again) {
		struct pair *next = again->next_again;

		again->queued = false;
		pair_pump(again);
		again = next;
	}
	if (!ps->throttled)
		return;
	ps->throttled = false;
	for (uint32_t i = 0; i < ps->cfg->nr_pairs; i++)
		pair_pump(&ps->pair[i]);
}

static bool on_its_way(const struct pairs *ps, const struct pair *p)
{
	bool small = ps->cfg->size <= SMALL_BYTES;

	if (!p->running)
		return false;
	return small || p->flow[0].got < p->flow[0].sent || p->flow[1].got < p->flow[1].sent ||
	       (p->flow[0].finished_sending && p->running);
}

static bool drained(const struct pairs *ps)
{
	for (uint32_t i = 0; i < ps->cfg->nr_pairs; i++)
		if (on_its_way(ps, &ps->pair[i]))
			return false;
	return true;
}

static void check_timeouts(struct pairs *ps)
{
	bool paced = ps->cfg->rate_send || ps->cfg->rate_recv;

	for (uint32_t i = 0; i < ps->cfg->nr_pairs; i++) {
		struct pair *p = &ps->pair[i];

		if (p->running && !paced && (ps->sending || on_its_way(ps, p)) &&
		    ps->now_ns - p->progress_ns > ps->cfg->timeout_ns)
			pair_fail(p, LOAD_ERR_TIMEOUT, "no progress", 0);
	}
}

static void run_until(struct pairs *ps, uint64_t until_ns)
{
	uint64_t next_ns = ps->now_ns + ps->cfg->timeout_ns / 8;

	while (mono_ns() < until_ns) {
		turn(ps);
		if (ps->now_ns < next_ns)
			continue;
		check_timeouts(ps);
		next_ns = ps->now_ns + ps->cfg->timeout_ns / 8;
	}
}

static void drain(struct pairs *ps)
{
	uint64_t until_ns = mono_ns() + ps->cfg->timeout_ns;

	while (!drained(ps) && mono_ns() < until_ns)
		turn(ps);
	for (uint32_t i = 0; i < ps->cfg->nr_pairs; i++)
		if (on_its_way(ps, &ps->pair[i]))
			pair_fail(&ps->pair[i], LOAD_ERR_TIMEOUT, "still under way after the drain",
				  0);
}

/* ---------------------------------------------------------------- measuring */

struct mark {
	uint64_t now_ns, idle_ns, client_ns, server_ns;
	bool have_server_ns;
	struct counters count;
};

static bool server_ns(const struct pairs_config *cfg, uint64_t *ns)
{
	if (cfg->cpu_usage)
		return cpu_usage_read(cfg->cpu_usage, ns) == 0;
	return cfg->nr_cpu_clocks && cpu_clocks_read(cfg->cpu_clocks, cfg->nr_cpu_clocks, ns) == 0;
}

static void take_mark(const struct pairs *ps, struct mark *m)
{
	m->count = ps->count;
	m->idle_ns = ps->idle_ns;
	m->have_server_ns = server_ns(ps->cfg, &m->server_ns);
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
	ps->nr_said = 0;
	ps->now_ns = ps->pace_ns = mono_ns();
	ps->sending = true;
	hist_reset(&res->slice.latency);
	for (uint32_t i = 0; i < ps->cfg->nr_pairs; i++) {
		struct pair *p = &ps->pair[i];

		p->paid_sent = p->paid_got = 0;
		p->progress_ns = ps->now_ns;
		pair_start(p);
		queue_again(p);
	}
}

static void finish(struct pairs *ps, struct pairs_result *res, uint64_t start_ns, uint64_t end_ns)
{
	ps->latency = NULL;
	ps->sending = false;
	drain(ps);
	res->slice.drain_ns = ps->now_ns > end_ns ? ps->now_ns - end_ns : 0;
	res->slice.total_ns = mono_ns() - start_ns;
	res->slice.total = ps->count;
	res->sent_bytes = ps->sent_bytes;
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

static bool all_done(const struct pairs *ps)
{
	for (uint32_t i = 0; i < ps->cfg->nr_pairs; i++)
		if (ps->pair[i].done < ps->cfg->count)
			return false;
	return true;
}

void pairs_count(struct pairs *ps, struct pairs_result *res)
{
	struct mark from, to;

	begin(ps, res);
	ps->latency = &res->slice.latency;
	take_mark(ps, &from);
	while (!all_done(ps))
		run_until(ps, mono_ns() + 20 * NS_PER_MS);
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

static int listen_on(struct pairs *ps)
{
	const struct addrinfo *ai = ps->cfg->upstream;
	struct epoll_event ev = {.events = EPOLLIN};
	int one = 1;

	ps->listen_fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (ps->listen_fd < 0 ||
	    setsockopt(ps->listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(ps->listen_fd, ai->ai_addr, ai->ai_addrlen) < 0 ||
	    listen(ps->listen_fd, 1024) < 0 ||
	    epoll_ctl(ps->epfd, EPOLL_CTL_ADD, ps->listen_fd, &ev) < 0)
		return -errno;
	return 0;
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
	return res < 0 || !ps->cfg->forward ? res : listen_on(ps);
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
	while (ps->strangers) {
		struct stranger *s = ps->strangers;

		ps->strangers = s->next;
		close(s->fd);
		free(s);
	}
	pattern_exit(&ps->pattern);
	if (ps->listen_fd >= 0)
		close(ps->listen_fd);
	if (ps->epfd >= 0)
		close(ps->epfd);
	free(ps->pair);
	free(ps->scratch);
	free(ps);
}
