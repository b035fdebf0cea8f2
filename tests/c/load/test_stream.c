/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "guard.h"
#include "stream.h"

#define HELLO "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

static struct guard guard;

/* What a stream made of a whole input. */
struct outcome {
	unsigned int nr_done;
	uint64_t status_sum;
	uint64_t body_bytes;
	char body[256];
	enum stream_verdict last; /* of the last call */
	bool mid_response;
	enum load_error error;
};

/* Feeds one piece, response after response, from a buffer that ends at the guard. */
static enum stream_verdict feed_piece(struct stream *s, struct head_cache *cache, const char *bytes,
				      size_t len, struct outcome *o)
{
	const char *at = guard_put(&guard, bytes, len);
	enum stream_verdict v = STREAM_MORE;

	while (len && v != STREAM_BAD) {
		struct stream_taken taken;
		v = stream_feed(s, cache, at, len, &taken);
		assert_true(taken.used_bytes <= len);
		if (taken.body_bytes && o->body_bytes + taken.body_bytes < sizeof(o->body))
			memcpy(o->body + o->body_bytes, taken.body, taken.body_bytes);
		o->body_bytes += taken.body_bytes;
		if (v == STREAM_MORE)
			assert_int_equal(taken.used_bytes, len);
		if (v == STREAM_DONE) {
			o->nr_done++;
			o->status_sum += s->head.status;
		}
		at += taken.used_bytes;
		len -= taken.used_bytes;
	}
	return v;
}

/* Feeds an input cut after `first` bytes, then in pieces of `step`. */
static struct outcome feed(const char *bytes, size_t len, size_t first, size_t step)
{
	struct outcome o = {.last = STREAM_MORE};
	struct head_cache cache = {0};
	struct stream s = {0};

	for (size_t at = 0; at < len && o.last != STREAM_BAD;) {
		size_t n = at ? step : first;
		n = n < len - at ? n : len - at;
		o.last = feed_piece(&s, &cache, bytes + at, n, &o);
		at += n;
	}
	/* Means nothing once the stream is bad. */
	o.mid_response = o.last != STREAM_BAD && stream_is_mid_response(&s);
	o.error = s.error;
	stream_reset(&s);
	return o;
}

static void assert_same(const struct outcome *a, const struct outcome *b)
{
	assert_int_equal(a->nr_done, b->nr_done);
	assert_int_equal(a->status_sum, b->status_sum);
	assert_int_equal(a->body_bytes, b->body_bytes);
	assert_string_equal(a->body, b->body);
	assert_int_equal(a->last, b->last);
	assert_int_equal(a->mid_response, b->mid_response);
	assert_int_equal(a->error, b->error);
}

/* However an input is cut, the outcome is that of the whole. */
static struct outcome feed_every_way(const char *bytes, size_t len)
{
	struct outcome whole = feed(bytes, len, len, len);

	for (size_t cut = 1; cut < len; cut++) {
		struct outcome two = feed(bytes, len, cut, len);
		assert_same(&whole, &two);
	}
	for (size_t step = 1; step < 8; step++) {
		struct outcome many = feed(bytes, len, step, step);
		assert_same(&whole, &many);
	}
	return whole;
}

static struct outcome feed_text(const char *text)
{
	return feed_every_way(text, strlen(text));
}

static void test_one_response(void **state)
{
	struct outcome o = feed_text(HELLO);

	assert_int_equal(o.nr_done, 1);
	assert_int_equal(o.last, STREAM_DONE);
	assert_string_equal(o.body, "hello");
	assert_false(o.mid_response);
}

static void test_pipelined_responses(void **state)
{
	/* The second head is equal to the first (cached), the third one is not. */
	struct outcome o =
		feed_text(HELLO HELLO "HTTP/1.1 404 No\r\nContent-Length: 3\r\n\r\nabc"
				      "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" HELLO);

	assert_int_equal(o.nr_done, 5);
	assert_int_equal(o.status_sum, 4 * 200 + 404);
	assert_string_equal(o.body, "hellohelloabchello");
	assert_int_equal(o.last, STREAM_DONE);
}

static void test_interim_responses_are_skipped(void **state)
{
	struct outcome o = feed_text("HTTP/1.1 100 Continue\r\n\r\n"
				     "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" HELLO);

	assert_int_equal(o.nr_done, 1);
	assert_int_equal(o.status_sum, 200);
	assert_string_equal(o.body, "hello");
}

static void test_end_inside_a_response_is_seen(void **state)
{
	assert_true(feed_text("HTTP/1.1 100 Continue\r\n\r\n").mid_response);
	assert_true(feed_text("HTTP/1.1 200 OK\r\nCont").mid_response);
	assert_true(feed_text("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").mid_response);
	assert_true(feed_text("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell").mid_response);
	assert_true(feed_text(HELLO "H").mid_response);
	assert_false(feed_text(HELLO HELLO).mid_response);
}

static void test_some_statuses_have_no_body(void **state)
{
	struct outcome o =
		feed_text("HTTP/1.1 204 No Content\r\n\r\n"
			  "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n" HELLO);

	assert_int_equal(o.nr_done, 3);
	assert_string_equal(o.body, "hello");
}

static void test_bad_heads(void **state)
{
	static const char *const cases[] = {
		"garbage",
		"HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 404 Not Found\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\nhello",
		HELLO "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
	};

	for (size_t i = 0; i < NR(cases); i++) {
		struct outcome o = feed_text(cases[i]);
		assert_int_equal(o.last, STREAM_BAD);
		assert_int_equal(o.error, LOAD_ERR_HEAD);
	}
}

static void test_surplus_bytes_are_long(void **state)
{
	static const char *const cases[] = {HELLO "!", HELLO "\r\n" HELLO, HELLO "Hello"};

	for (size_t i = 0; i < NR(cases); i++) {
		struct outcome o = feed_text(cases[i]);
		assert_int_equal(o.nr_done, 1);
		assert_int_equal(o.last, STREAM_BAD);
		assert_int_equal(o.error, LOAD_ERR_LONG);
	}
}

/* A head of exactly `len` bytes, followed by no body. */
static char *long_head(size_t len)
{
	static const char start[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: ";
	char *head = malloc(len);

	assert_non_null(head);
	memset(head, 'x', len);
	memcpy(head, start, sizeof(start) - 1);
	memcpy(head + len - 4, "\r\n\r\n", 4);
	return head;
}

static void test_head_size_is_limited(void **state)
{
	static const size_t steps[] = {1, 7, 1000, HEAD_MAX_BYTES - 1, 2 * HEAD_MAX_BYTES};
	char *fits = long_head(HEAD_MAX_BYTES);
	char *too_long = long_head(HEAD_MAX_BYTES + 1);

	for (size_t i = 0; i < NR(steps); i++) {
		struct outcome o = feed(fits, HEAD_MAX_BYTES, steps[i], steps[i]);
		assert_int_equal(o.last, STREAM_DONE);
		o = feed(too_long, HEAD_MAX_BYTES + 1, steps[i], steps[i]);
		assert_int_equal(o.last, STREAM_BAD);
		assert_int_equal(o.error, LOAD_ERR_HEAD);
	}
	free(fits);
	free(too_long);
}

static void test_body_may_be_discarded(void **state)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n12345";
	struct head_cache cache = {0};
	struct stream s = {0};
	struct stream_taken taken;

	for (int i = 0; i < 3; i++) {
		assert_int_equal(stream_body_left(&s), 0);
		assert_int_equal(stream_feed(&s, &cache, head, sizeof(head) - 1, &taken),
				 STREAM_MORE);
		assert_int_equal(taken.body_bytes, 5);
		assert_int_equal(stream_body_left(&s), 99995);
		assert_int_equal(stream_skip(&s, 99994), STREAM_MORE);
		assert_true(stream_is_mid_response(&s));
		assert_int_equal(stream_skip(&s, 1), STREAM_DONE);
		assert_false(stream_is_mid_response(&s));
	}
	stream_reset(&s);
}

static void test_cache_keeps_only_equal_heads_apart(void **state)
{
	/* Same length, one byte different: the cached head must not answer for it. */
	static const char first[] = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na";
	static const char other[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab";
	struct head_cache cache = {0};
	struct stream s = {0};
	struct stream_taken taken;

	assert_int_equal(stream_feed(&s, &cache, first, sizeof(first) - 1, &taken), STREAM_DONE);
	assert_int_equal(cache.head.content_length, 1);
	assert_int_equal(stream_feed(&s, &cache, other, sizeof(other) - 1, &taken), STREAM_DONE);
	assert_int_equal(taken.body_bytes, 2);
	assert_int_equal(cache.head.content_length, 2);
	stream_reset(&s);
}

static void test_cache_does_not_keep_what_is_bad_or_not_200(void **state)
{
	static const char *const cases[] = {
		"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\n",
	};

	for (size_t i = 0; i < NR(cases); i++) {
		struct head_cache cache = {0};
		struct stream s = {0};
		struct stream_taken taken;
		stream_feed(&s, &cache, cases[i], strlen(cases[i]), &taken);
		assert_int_equal(cache.head.len_bytes, 0);
		stream_reset(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_response),
		cmocka_unit_test(test_pipelined_responses),
		cmocka_unit_test(test_interim_responses_are_skipped),
		cmocka_unit_test(test_end_inside_a_response_is_seen),
		cmocka_unit_test(test_some_statuses_have_no_body),
		cmocka_unit_test(test_bad_heads),
		cmocka_unit_test(test_surplus_bytes_are_long),
		cmocka_unit_test(test_head_size_is_limited),
		cmocka_unit_test(test_body_may_be_discarded),
		cmocka_unit_test(test_cache_keeps_only_equal_heads_apart),
		cmocka_unit_test(test_cache_does_not_keep_what_is_bad_or_not_200),
	};

	guard_open(&guard, 4 * HEAD_MAX_BYTES);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	guard_close(&guard);
	return failed;
}
