/* SPDX-License-Identifier: MIT */
#include "pair.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net.h"

#define SEND_BYTES     (256u << 10)
#define CHUNK_BYTES    (256u << 10)
#define SAMPLE_EVERY   (1u << 20)
#define SAMPLE_BYTES   4096u
#define EDGE_BYTES     64u
#define PACED_RCVBUF   (64 << 10)
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

/* The pair begins anew, under another name. */
void pair_fail(struct pair *p, enum load_error kind, const char *what, int err)
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

bool end_watch(struct pairs *ps, struct end *e)
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

void pair_start(struct pair *p)
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
	want = next_zone(ps, f->got, left < (SCRATCH_BYTES) ? (size_t)left : SCRATCH_BYTES,
			 &compare);
	if (compare && want > COMPARE_BYTES)
		want = COMPARE_BYTES;
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
		more |= receive_words(p, &p->a);
	return more;
}

void pair_pump(struct pair *p)
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
		pair_queue(p);
}
