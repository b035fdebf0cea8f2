/* SPDX-License-Identifier: MIT */
/* Streams through relays and forwarders that change them: each fault has its counter. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "clocks.h"
#include "middle.h"
#include "pattern.h"

#define SIZE ((1u << 20) + 3) /* of the rig's transfers */

/* What the scripts below do to a stream, which they hold as a whole before they pass it on. */
struct deed {
	const char *name;
	size_t flip, drop, cut, surplus; /* places (+ 1) but for surplus: bytes added */
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
	middle_say(*from, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
	middle_say(*to, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %u\r\n\r\n", SIZE);
	middle_send(*to, bytes, len);
	if (deed.reset)
		return middle_reset(to);
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
	middle_say(*to, "0\r\n\r\n");
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_right_streams),
		cmocka_unit_test(test_wrong_bytes_are_found_by_the_full_check),
		cmocka_unit_test(test_wrong_bytes_that_the_sample_finds),
		cmocka_unit_test(test_short_streams),
		cmocka_unit_test(test_reset_instead_of_an_end),
		cmocka_unit_test(test_surplus_behind_a_forwarded_stream),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
