/* SPDX-License-Identifier: MIT */
/* Streams through relays and forwarders that change them: each fault has its counter. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "clocks.h"
#include "middle.h"
#include "pair.h"
#include "pattern.h"

#define SIZE ((1u << 20) + 3) /* of the rig's transfers */

/* What the scripts below do to a stream, which they hold as a whole before they pass it on. */
struct deed {
	const char *name;
	size_t flip, drop, cut;	 /* places (+ 1) */
	size_t surplus;		 /* bytes added to the payload */
	const char *behind;	 /* what follows the last chunk, ... */
	const char *words_after; /* or the sender's answer */
	bool reset;
	enum load_error error;
};

static struct deed deed;

/* Changes the payload in a buffer with room for surplus. Returns its new length. */
static size_t do_deed(char *bytes, size_t len)
{
	if (deed.flip)
		bytes[deed.flip - 1] ^= 1;
	if (deed.drop) {
		memmove(bytes + deed.drop - 1, bytes + deed.drop, len - deed.drop);
		len--;
	}
	if (deed.cut)
		len = deed.cut - 1;
	memset(bytes + len, 'x', deed.surplus);
	return len + deed.surplus;
}

/* Surplus goes with the last byte, so that nobody has the one without the other. */
static void send_stream(int fd, const char *bytes, size_t len)
{
	size_t last = deed.surplus ? deed.surplus + 1 : 0;

	middle_send(fd, bytes, len - last);
	if (last)
		middle_flush(fd);
	middle_send(fd, bytes + len - last, last);
}

static void forward_up(struct middle *m, int *from, int *to)
{
	static char bytes[HELLO_BYTES + SIZE + 64];
	size_t len = middle_take(*from, bytes, HELLO_BYTES + SIZE);

	if (len != HELLO_BYTES + SIZE)
		return;
	len = HELLO_BYTES + do_deed(bytes + HELLO_BYTES, SIZE);
	middle_send(*to, bytes, len);
	if (deed.reset)
		return middle_reset(to);
	shutdown(*to, SHUT_WR);
	middle_await_end(*from);
	middle_await_end(*to);
}

/* The sender's answer, then the receiver's with the payload. */
static void relay_with_length(struct middle *m, int *from, int *to)
{
	static char bytes[SIZE + 64];
	size_t len = middle_take(*from, bytes, SIZE);

	if (len != SIZE)
		return;
	len = do_deed(bytes, SIZE);
	middle_say(*from, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok%s",
		   deed.words_after ? deed.words_after : "");
	middle_say(*to, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %u\r\n\r\n", SIZE);
	send_stream(*to, bytes, len);
	if (deed.reset)
		return middle_reset(to);
	shutdown(*to, SHUT_WR);
	middle_await_end(*from);
	middle_await_end(*to);
}

/* As servers of HTTP/1.0 do: the body ends with the connection. */
static void relay_to_the_end(struct middle *m, int *from, int *to)
{
	static char bytes[SIZE + 64];
	size_t len = middle_take(*from, bytes, SIZE);

	if (len != SIZE)
		return;
	len = do_deed(bytes, SIZE);
	middle_say(*from, "HTTP/1.0 200 OK\r\n\r\nok");
	shutdown(*from, SHUT_WR);
	middle_say(*to, "HTTP/1.0 200 OK\r\n\r\n");
	send_stream(*to, bytes, len);
	shutdown(*to, SHUT_WR);
	middle_await_end(*from);
	middle_await_end(*to);
}

static void relay_in_chunks(struct middle *m, int *from, int *to)
{
	static char bytes[SIZE + 64];
	size_t len = middle_take(*from, bytes, SIZE);

	if (len != SIZE)
		return;
	len = do_deed(bytes, SIZE);
	middle_say(*from, "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: "
			  "chunked\r\n\r\n2\r\nok\r\n");
	middle_say(*to,
		   "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
	for (size_t at = 0, part; at < len; at += part) {
		part = len - at < 99999 ? len - at : 99999;
		middle_say(*to, "%zx\r\n", part);
		middle_send(*to, bytes + at, part);
		middle_say(*to, "\r\n");
	}
	middle_flush(*to);
	middle_say(*to, "0\r\n\r\n%s", deed.behind ? deed.behind : "");
	middle_say(*from, "0\r\n\r\n");
	if (deed.reset)
		return middle_reset(to);
	shutdown(*to, SHUT_WR);
	middle_await_end(*from);
	middle_await_end(*to);
}

static void check_deeds(bool relay, middle_script *script, uint8_t check, const struct deed *deeds,
			size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		struct pairs_rig r;

		deed = deeds[i];
		pairs_rig_start(&r, relay, script);
		r.cfg.check = check;
		pairs_rig_count(&r, 1);
		pairs_rig_expect(&r, deed.error, 1);
		assert_int_equal(r.res.slice.total.requests, 0);
		assert_int_equal(r.res.slice.latency.nr, 0);
		assert_int_equal(r.res.sent_bytes, r.res.slice.total.body_bytes);
		pairs_rig_stop(&r);
	}
}

static void check_right(bool relay, middle_script *script)
{
	for (uint8_t check = CHECK_NONE; check <= CHECK_FULL; check++) {
		struct pairs_rig r;

		deed = (struct deed){0};
		pairs_rig_start(&r, relay, script);
		r.cfg.check = check;
		pairs_rig_count(&r, 3);
		pairs_rig_expect_none(&r);
		assert_int_equal(r.res.slice.window.requests, 3);
		assert_int_equal(r.res.slice.latency.nr, 3);
		assert_int_equal(r.res.slice.window.body_bytes, 3 * SIZE);
		assert_int_equal(r.res.slice.total.body_bytes, 3 * SIZE);
		assert_int_equal(r.res.sent_bytes, 3 * SIZE);
		pairs_rig_stop(&r);
	}
}

static void test_right_streams(void **state)
{
	check_right(false, forward_up);
	check_right(true, relay_with_length);
	check_right(true, relay_in_chunks);
	check_right(true, relay_to_the_end);
}

static void test_wrong_bytes_are_found_by_the_full_check(void **state)
{
	static const struct deed deeds[] = {
		{.name = "first byte", .flip = 1, .error = LOAD_ERR_MISMATCH},
		{.name = "byte inside", .flip = 500000, .error = LOAD_ERR_MISMATCH},
		{.name = "last byte", .flip = SIZE, .error = LOAD_ERR_MISMATCH},
		{.name = "lost byte", .drop = 777777, .error = LOAD_ERR_MISMATCH},
	};

	check_deeds(false, forward_up, CHECK_FULL, deeds, NR(deeds));
	check_deeds(true, relay_with_length, CHECK_FULL, deeds, NR(deeds));
	check_deeds(true, relay_in_chunks, CHECK_FULL, deeds, NR(deeds));
}

/* The sample is both ends and 4 KiB of each MiB; what was lost in between shifts the end. */
static void test_wrong_bytes_that_the_sample_finds(void **state)
{
	static const struct deed deeds[] = {
		{.name = "first byte", .flip = 1, .error = LOAD_ERR_MISMATCH},
		{.name = "last byte", .flip = SIZE, .error = LOAD_ERR_MISMATCH},
		{.name = "lost byte", .drop = 777777, .surplus = 1, .error = LOAD_ERR_MISMATCH},
	};

	check_deeds(false, forward_up, CHECK_SAMPLE, deeds, NR(deeds));
	check_deeds(true, relay_with_length, CHECK_SAMPLE, deeds, NR(deeds));
	check_deeds(true, relay_in_chunks, CHECK_SAMPLE, deeds, NR(deeds));
}

static void test_short_streams(void **state)
{
	static const struct deed deeds[] = {
		{.name = "last byte missing", .cut = SIZE, .error = LOAD_ERR_SHORT},
		{.name = "half", .cut = SIZE / 2, .error = LOAD_ERR_SHORT},
		{.name = "one byte only", .cut = 2, .error = LOAD_ERR_SHORT},
	};

	for (uint8_t check = CHECK_NONE; check <= CHECK_FULL; check++) {
		check_deeds(false, forward_up, check, deeds, NR(deeds));
		check_deeds(true, relay_with_length, check, deeds, NR(deeds));
	}
}

static void test_reset_instead_of_an_end(void **state)
{
	/* All was sent, and the kernel may hand it over, but the end is missing. */
	static const struct deed deeds[] = {
		{.name = "reset", .cut = SIZE / 2, .reset = true, .error = LOAD_ERR_RESET},
	};

	check_deeds(false, forward_up, CHECK_FULL, deeds, NR(deeds));
	check_deeds(true, relay_with_length, CHECK_FULL, deeds, NR(deeds));
}

static void test_surplus_behind_a_forwarded_stream(void **state)
{
	static const struct deed deeds[] = {
		{.name = "a byte more", .surplus = 1, .error = LOAD_ERR_LONG},
		{.name = "more", .surplus = 64, .error = LOAD_ERR_LONG},
	};

	for (uint8_t check = CHECK_NONE; check <= CHECK_FULL; check++)
		check_deeds(false, forward_up, check, deeds, NR(deeds));
}

/* In each framing, and with each check: one more byte than was sent is no transfer. */
static void test_surplus_behind_a_relayed_stream(void **state)
{
	static const struct deed more = {
		.name = "a byte more", .surplus = 1, .error = LOAD_ERR_LONG};
	static const struct deed behind = {.name = "behind", .behind = "x", .error = LOAD_ERR_LONG};
	static const struct deed after = {.words_after = "x", .error = LOAD_ERR_LONG};

	for (uint8_t check = CHECK_NONE; check <= CHECK_FULL; check++) {
		check_deeds(true, relay_with_length, check, &more, 1);
		check_deeds(true, relay_with_length, check, &after, 1);
		check_deeds(true, relay_in_chunks, check, &more, 1);
		check_deeds(true, relay_in_chunks, check, &behind, 1);
		check_deeds(true, relay_to_the_end, check, &more, 1);
	}
}

static void test_short_streams_in_other_framings(void **state)
{
	static const struct deed deeds[] = {
		{.name = "last byte missing", .cut = SIZE, .error = LOAD_ERR_SHORT},
		{.name = "half", .cut = SIZE / 2, .error = LOAD_ERR_SHORT},
	};

	check_deeds(true, relay_in_chunks, CHECK_SAMPLE, deeds, NR(deeds));
	check_deeds(true, relay_to_the_end, CHECK_SAMPLE, deeds, NR(deeds));
}

/* The announced length is a byte short, and so is the stream; the connections stay open. */
static void relay_less_and_stay(struct middle *m, int *from, int *to)
{
	static char bytes[SIZE];

	middle_take(*from, bytes, SIZE);
	middle_say(*from, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	middle_say(*to, "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n", SIZE - 1);
	middle_send(*to, bytes, SIZE - 1);
	middle_await_end(*to);
}

static void close_at_once(struct middle *m, int *from, int *to)
{
	static char bytes[SIZE];

	middle_take(*from, bytes, SIZE); /* what is unread would make it a reset */
	shutdown(*to, SHUT_WR);
	middle_await_end(*to);
}

static void close_behind_a_head(struct middle *m, int *from, int *to)
{
	middle_say(*to, "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n", SIZE);
	close_at_once(m, from, to);
}

static void answer_otherwise(struct middle *m, int *from, int *to)
{
	middle_say(*to, "HTTP/1.1 204 No Content\r\n\r\n");
	middle_await_end(*to);
}

static void answer_busy(struct middle *m, int *from, int *to)
{
	middle_say(*from, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
	middle_await_end(*from);
}

static void test_other_ends_of_relayed_transfers(void **state)
{
	static const struct {
		middle_script *script;
		enum load_error error;
		uint64_t non_2xx;
	} cases[] = {
		{relay_less_and_stay, LOAD_ERR_SHORT, 0}, {close_at_once, LOAD_ERR_RESET, 0},
		{close_behind_a_head, LOAD_ERR_SHORT, 0}, {answer_otherwise, LOAD_ERR_STATUS, 0},
		{answer_busy, LOAD_ERR_STATUS, 1},
	};

	for (size_t i = 0; i < NR(cases); i++) {
		struct pairs_rig r;

		pairs_rig_start(&r, true, cases[i].script);
		pairs_rig_count(&r, 1);
		pairs_rig_expect(&r, cases[i].error, 1);
		assert_int_equal(r.res.slice.total.non_2xx, cases[i].non_2xx);
		pairs_rig_stop(&r);
	}
}

/* Knows what will be sent: the receiver has all of it, and the answers stand, before it was. */
static void relay_before_it_was_sent(struct middle *m, int *from, int *to)
{
	struct pattern p;

	if (pattern_init(&p, 3))
		abort();
	middle_say(*from, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	middle_say(*to, "HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n");
	for (uint64_t at = 0; at < 64u << 20; at += 1u << 20)
		middle_send(*to, pattern_at(&p, at), 1u << 20);
	pattern_exit(&p);
	middle_await_end(*to);
}

static void test_what_was_not_sent_is_not_complete(void **state)
{
	struct pairs_rig r;

	pairs_rig_start(&r, true, relay_before_it_was_sent);
	r.cfg.size = 64u << 20; /* more than socket buffers take */
	r.cfg.timeout_ns = 300 * NS_PER_MS;
	pairs_rig_count(&r, 1);
	pairs_rig_expect(&r, LOAD_ERR_TIMEOUT, 1);
	assert_int_equal(r.res.slice.total.requests, 0);
	pairs_rig_stop(&r);
}

/* Keeps the connections until the test has a slice behind it, then gives them up, idle. */
static void relay_until_told(struct middle *m, int *from, int *to)
{
	static char bytes[SIZE], head[1024];

	do {
		if (middle_take(*from, bytes, SIZE) != SIZE)
			return;
		middle_say(*from, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
		middle_say(*to, "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n", SIZE);
		middle_send(*to, bytes, SIZE);
		while (m->mark == 0 && recv(*from, head, 1, MSG_PEEK | MSG_DONTWAIT) < 0)
			usleep(100);
	} while (m->mark == 0 && middle_head(*from, head, sizeof(head)) &&
		 middle_head(*to, head, sizeof(head)));
	shutdown(*from, SHUT_WR);
	shutdown(*to, SHUT_WR);
	middle_flush(*from);
	middle_flush(*to);
	m->mark = 2;
	middle_await_end(*from);
	middle_await_end(*to);
	m->mark = 0;
}

static void test_connections_given_up_between_slices(void **state)
{
	struct pairs_rig r;

	pairs_rig_start(&r, true, relay_until_told);
	for (int i = 0; i < 3; i++) {
		pairs_rig_slice(&r, 5);
		pairs_rig_expect_none(&r);
		assert_true(r.res.slice.total.requests > 0);
		r.middle.mark = 1;
		while (r.middle.mark != 2)
			usleep(100);
	}
	pairs_rig_stop(&r);
	assert_int_equal(r.middle.nr_served, 3);
}

/* The last part of 100 GiB, as if the rest had gone through in slices before. */
static void check_far_end(uint8_t check, const struct deed *what)
{
	const uint64_t size = 100ull << 30;
	struct pairs_rig r;

	deed = *what;
	pairs_rig_start(&r, false, forward_up);
	r.cfg.size = size;
	r.cfg.check = check;
	r.cfg.count = 1;
	assert_int_equal(pairs_open(&r.cfg, &r.pairs), 0);
	struct pair *p = &r.pairs->pair[0];
	r.pairs->sending = true;
	r.pairs->now_ns = mono_ns();
	pair_start(p);
	p->flow[0].sent = p->flow[0].got = size - SIZE;
	pairs_rig_run_middle(&r);
	pairs_count(r.pairs, &r.res);
	pairs_rig_expect(&r, what->error, what->name ? 1 : 0);
	assert_int_equal(r.res.slice.total.requests, what->name ? 0 : 1);
	if (!what->name)
		assert_int_equal(r.res.slice.total.body_bytes, SIZE);
	pairs_rig_stop(&r);
}

static void test_the_end_of_100_GiB(void **state)
{
	static const struct deed deeds[] = {
		{0},
		{.name = "last byte", .flip = SIZE, .error = LOAD_ERR_MISMATCH},
		{.name = "last byte missing", .cut = SIZE, .error = LOAD_ERR_SHORT},
		{.name = "a byte more", .surplus = 1, .error = LOAD_ERR_LONG},
	};

	for (size_t i = 0; i < NR(deeds); i++) {
		check_far_end(CHECK_SAMPLE, &deeds[i]);
		check_far_end(CHECK_FULL, &deeds[i]);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_right_streams),
		cmocka_unit_test(test_wrong_bytes_are_found_by_the_full_check),
		cmocka_unit_test(test_wrong_bytes_that_the_sample_finds),
		cmocka_unit_test(test_short_streams),
		cmocka_unit_test(test_reset_instead_of_an_end),
		cmocka_unit_test(test_surplus_behind_a_forwarded_stream),
		cmocka_unit_test(test_surplus_behind_a_relayed_stream),
		cmocka_unit_test(test_short_streams_in_other_framings),
		cmocka_unit_test(test_other_ends_of_relayed_transfers),
		cmocka_unit_test(test_what_was_not_sent_is_not_complete),
		cmocka_unit_test(test_connections_given_up_between_slices),
		cmocka_unit_test(test_the_end_of_100_GiB),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
