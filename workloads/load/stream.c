/* SPDX-License-Identifier: MIT */
/* The response side of one connection; stream.h holds the contract. */
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CARRY_MIN_BYTES 512

void stream_reset(struct stream *s)
{
	free(s->carry);
	*s = (struct stream){0};
}

static enum stream_verdict bad(struct stream *s, enum load_error error, const char *why)
{
	s->error = error;
	s->why = why;
	return STREAM_BAD;
}

/*
 * Bytes that cannot begin a head: surplus of the response before if there was one, since the
 * server has nothing else to say on a connection.
 */
static enum stream_verdict bad_start(struct stream *s)
{
	if (s->any_done)
		return bad(s, LOAD_ERR_LONG, "bytes after a complete response begin no new one");
	return bad(s, LOAD_ERR_HEAD, "the first line is not an HTTP/1.x status line");
}

/* Makes room for `bytes` carried ones. Returns 0 or -ENOMEM. */
static int carry_reserve(struct stream *s, size_t bytes)
{
	size_t room = s->carry_room ? s->carry_room : CARRY_MIN_BYTES;

	if (bytes <= s->carry_room)
		return 0;
	while (room < bytes)
		room *= 2;
	char *carry = realloc(s->carry, room);
	if (!carry)
		return -ENOMEM;
	s->carry = carry;
	s->carry_room = (uint32_t)room;
	return 0;
}

/* Appends input to the carried part of a head; a head that outgrows the limit is bad. */
static enum stream_verdict carry_append(struct stream *s, const char *buf, size_t len)
{
	if (s->carry_bytes + len > HEAD_MAX_BYTES)
		return bad(s, LOAD_ERR_HEAD, "the head is longer than 16384 bytes");
	if (carry_reserve(s, s->carry_bytes + len) < 0)
		return bad(s, LOAD_ERR_HEAD, "out of memory for a head in pieces");
	memcpy(s->carry + s->carry_bytes, buf, len);
	s->carry_bytes += (uint32_t)len;
	return STREAM_MORE;
}

/* Can the end of this response be known, and is the connection still HTTP after it? */
static enum stream_verdict judge_head(struct stream *s)
{
	const struct head *h = &s->head;

	if (h->status == 101)
		return bad(s, LOAD_ERR_HEAD, "the server switches protocols unasked");
	s->interim = h->status < 200;
	s->in_body = !s->interim;
	s->body_left = 0;
	if (s->interim || h->status == 204 || h->status == 304)
		return STREAM_DONE;
	if (!h->has_length)
		return bad(s, LOAD_ERR_HEAD, "no Content-Length: the body could not be checked");
	s->body_left = h->content_length;
	return STREAM_DONE;
}

static enum stream_verdict parse_whole(struct stream *s, struct head_cache *cache, const char *buf,
				       size_t len)
{
	const char *why = head_parse(buf, len, &s->head);

	if (why)
		return bad(s, LOAD_ERR_HEAD, why);
	enum stream_verdict v = judge_head(s);
	if (v == STREAM_DONE && s->head.status == 200 && len <= HEAD_CACHE_BYTES) {
		cache->head = s->head;
		memcpy(cache->raw, buf, len);
	}
	return v;
}

static enum stream_verdict head_from_input(struct stream *s, struct head_cache *cache,
					   const char *buf, size_t len, size_t *used)
{
	if (!head_plausible(buf, len))
		return bad_start(s);
	ssize_t end = head_find_end(buf, len, 0);
	if (end < 0)
		return bad(s, LOAD_ERR_HEAD, "a head line ends without CR");
	if (end > HEAD_MAX_BYTES)
		return bad(s, LOAD_ERR_HEAD, "the head is longer than 16384 bytes");
	*used = end ? (size_t)end : len;
	return end ? parse_whole(s, cache, buf, (size_t)end) : carry_append(s, buf, len);
}

static enum stream_verdict head_from_carry(struct stream *s, struct head_cache *cache,
					   const char *buf, size_t len, size_t *used)
{
	size_t before = s->carry_bytes;
	size_t room = HEAD_MAX_BYTES - before;
	bool cut = len > room;

	if (carry_append(s, buf, cut ? room : len) == STREAM_BAD)
		return STREAM_BAD;
	if (!head_plausible(s->carry, s->carry_bytes))
		return bad_start(s);
	ssize_t end = head_find_end(s->carry, s->carry_bytes, before);
	if (end < 0)
		return bad(s, LOAD_ERR_HEAD, "a head line ends without CR");
	if (!end && (cut || s->carry_bytes == HEAD_MAX_BYTES))
		return bad(s, LOAD_ERR_HEAD, "the head is longer than 16384 bytes");
	*used = end ? (size_t)end - before : len;
	if (!end)
		return STREAM_MORE;
	s->carry_bytes = 0;
	return parse_whole(s, cache, s->carry, (size_t)end);
}

/* Reads one head, interim or final: STREAM_DONE when it is there and good. */
static enum stream_verdict take_head(struct stream *s, struct head_cache *cache, const char *buf,
				     size_t len, size_t *used)
{
	size_t known = cache->head.len_bytes;

	if (!s->carry_bytes && known && len >= known && memcmp(buf, cache->raw, known) == 0) {
		s->head = cache->head;
		*used = known;
		return judge_head(s);
	}
	s->head = (struct head){0};
	if (s->carry_bytes)
		return head_from_carry(s, cache, buf, len, used);
	return head_from_input(s, cache, buf, len, used);
}

enum stream_verdict stream_skip(struct stream *s, uint64_t bytes)
{
	s->body_left -= bytes;
	if (s->body_left)
		return STREAM_MORE;
	s->in_body = false;
	s->any_done = true;
	return STREAM_DONE;
}

enum stream_verdict stream_feed(struct stream *s, struct head_cache *cache, const char *buf,
				size_t len, struct stream_taken *taken)
{
	size_t at = 0;

	*taken = (struct stream_taken){0};
	while (!s->in_body) {
		size_t used = 0;
		if (at == len)
			return STREAM_MORE;
		enum stream_verdict v = take_head(s, cache, buf + at, len - at, &used);
		at += used;
		taken->used_bytes = at;
		if (v != STREAM_DONE)
			return v;
	}
	uint64_t rest = len - at;
	taken->body = buf + at;
	taken->body_bytes = s->body_left < rest ? s->body_left : rest;
	taken->used_bytes = at + taken->body_bytes;
	return stream_skip(s, taken->body_bytes);
}
