/* SPDX-License-Identifier: MIT */
/*
 * The receiver's side of a pair: payload that is compared with the pattern or discarded inside the
 * kernel, and responses around it.
 */
#include "pair.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define SAMPLE_EVERY (1u << 20)
#define SAMPLE_BYTES 4096u
#define EDGE_BYTES   64u

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
	} else if (pos >= size) {
		return len; /* surplus */
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
	f->paid_got += n;
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
	bool compare;
	size_t want;
	ssize_t n;

	left = pair_paced(p, ps->cfg->rate_recv, f->paid_got, left);
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
		ps->count.non_2xx += e->reply->status >= 300;
		pair_fail(p, LOAD_ERR_STATUS, "a status other than 200", 0);
	} else {
		return true;
	}
	return false;
}

bool words_receive(struct pair *p, struct end *e)
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

/* No byte is due any more, or ever: a forwarder's end of file is. */
static bool receive_end(struct pair *p, struct end *e)
{
	char byte;
	ssize_t n = recv(e->fd, &byte, 1, 0);

	if (n <= 0)
		return no_more(p, e, n);
	pair_fail(p, LOAD_ERR_LONG, "more than was sent", 0);
	return false;
}

bool flow_receive(struct pair *p, struct flow *f)
{
	struct end *e = f->to;
	size_t got = 0;
	bool more;

	if (e->fd < 0 || !e->readable)
		return false;
	if (p->owner->cfg->forward) {
		if (!f->active || f->got == p->owner->cfg->size)
			return receive_end(p, e);
		return receive_payload(p, f, p->owner->cfg->size - f->got, &got);
	}
	if (!f->active)
		return false;
	if (e->reply->state == REPLY_DONE)
		return false;
	if (e->reply->state != REPLY_BODY)
		return receive_framing(p, e);
	more = receive_payload(p, f, e->reply->left, &got);
	if (more)
		reply_took(e->reply, got);
	return more;
}

bool end_is_quiet(struct end *e)
{
	char byte;
	ssize_t n;

	if (e->fd < 0 || e->eof)
		return true;
	n = recv(e->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN))
		e->eof = true;
	return n <= 0;
}
