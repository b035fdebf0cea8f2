/* SPDX-License-Identifier: MIT */
/*
 * The sender's side of a pair: heads and chunk framing from memory, payload from the pattern by
 * sendfile(2), as much as the rate allows.
 */
#include "pair.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

#define SEND_BYTES  (256u << 10)
#define CHUNK_BYTES (256u << 10)

void end_say(struct end *e, const char *fmt, ...)
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

bool end_flush(struct end *e)
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
		end_say(f->from, "%s0\r\n\r\n", f->sent ? "\r\n" : "");
	end_flush(f->from);
}

/* How much payload may go now; begins a chunk where one is due. */
static uint64_t send_room(struct pair *p, struct flow *f)
{
	struct pairs *ps = p->owner;
	uint64_t left = ps->cfg->size == SIZE_ENDLESS ? SEND_BYTES : ps->cfg->size - f->sent;

	left = pair_paced(p, ps->cfg->rate_send, f->paid_sent, left);
	if (ps->cfg->chunked && left && !f->chunk_left) {
		uint64_t rest = ps->cfg->size - f->sent;

		f->chunk_left = rest < CHUNK_BYTES ? rest : CHUNK_BYTES;
		end_say(f->from, "%s%llx\r\n", f->sent ? "\r\n" : "",
			(unsigned long long)f->chunk_left);
		if (!end_flush(f->from))
			return 0;
	}
	if (ps->cfg->chunked && left > f->chunk_left)
		left = f->chunk_left;
	return left < SEND_BYTES ? left : SEND_BYTES;
}

bool flow_send(struct pair *p, struct flow *f)
{
	struct pairs *ps = p->owner;
	uint64_t room;
	ssize_t n;

	if (!may_send(p, f) || !end_flush(f->from))
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
	f->paid_sent += (uint64_t)n;
	ps->sent_bytes += (uint64_t)n;
	p->progress_ns = ps->now_ns;
	if (f->sent == ps->cfg->size)
		finish_sending(p, f);
	return true;
}
