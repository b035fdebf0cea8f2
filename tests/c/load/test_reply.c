/* SPDX-License-Identifier: MIT */
/* Responses of relays, in every framing and cut anywhere; the stream's pattern. */
#include "check.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pattern.h"
#include "reply.h"

/* Feeds text in pieces; collects the body. Returns the state it ends in. */
static enum reply_state run(const char *text, size_t step, char *body)
{
	struct reply r;
	size_t len = strlen(text), out = 0;

	reply_init(&r);
	for (size_t at = 0; at < len;) {
		size_t part = step < len - at ? step : len - at;
		size_t used = reply_feed(&r, text + at, part);

		if (r.state == REPLY_BODY && used < part) {
			size_t n = part - used < r.left ? part - used : (size_t)r.left;

			memcpy(body + out, text + at + used, n);
			out += n;
			reply_took(&r, n);
			used += n;
		}
		if (!used)
			break;
		at += used;
	}
	body[out] = '\0';
	reply_eof(&r);
	return r.state;
}

static void framings(void **state)
{
	static const struct {
		const char *text, *body;
		enum reply_state end;
	} cases[] = {
		{"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "hello", REPLY_DONE},
		{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", REPLY_DONE},
		{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", "x",
		 REPLY_DONE},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: "
		 "chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789"
		 "\r\n0\r\nTrailer: t\r\n\r\n",
		 "abc0123456789", REPLY_DONE},
		{"HTTP/1.0 200 OK\r\n\r\nto the end", "to the end", REPLY_DONE},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", "hell", REPLY_BODY},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "abc",
		 REPLY_SIZE},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd", "abc",
		 REPLY_GAP},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcde", "abc",
		 REPLY_BAD},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "", REPLY_BAD},
		{"nonsense\r\n\r\n", "", REPLY_BAD},
		{"HTTP/1.1 200 OK\r\nContent-Length:  7 \r\n\r\nof them", "of them", REPLY_DONE},
		{"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "", REPLY_DONE},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0a \r\n0123456789"
		 "\r\n0\r\n\r\n",
		 "0123456789", REPLY_DONE},
	};
	char body[256];

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		for (size_t step = 1; step < 200; step += step < 8 ? 1 : 61) {
			assert_int_equal(run(cases[i].text, step, body), cases[i].end);
			assert_string_equal(body, cases[i].body);
		}
	}
}

static void what_can_be_read_in_two_ways_is_bad(void **state)
{
	static const char *const heads[] = {
		"HTTP/1.1 -20 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.9 200 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5 5\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551621\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunkedness\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n 5\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5 5\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000005\r\n",
	};
	char body[256];

	for (size_t i = 0; i < NR(heads); i++) {
		if (run(heads[i], 1, body) != REPLY_BAD)
			fail_msg("accepted: %s", heads[i]);
	}
}

static void a_head_without_end_is_bad(void **state)
{
	struct reply r;
	char junk[REPLY_HEAD_MAX + 10];

	memset(junk, 'a', sizeof(junk));
	reply_init(&r);
	reply_feed(&r, junk, sizeof(junk));
	assert_int_equal(r.state, REPLY_BAD);
}

static void the_stream_is_the_mapping(void **state)
{
	struct pattern p;
	char got[4096];
	int fds[2];
	uint64_t places[] = {0, 1, PATTERN_PERIOD - 5, PATTERN_PERIOD, 7ull * PATTERN_PERIOD + 99};

	assert_int_equal(pattern_init(&p, 7), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
		assert_int_equal(pattern_send(&p, fds[0], places[i], 4096), 4096);
		assert_int_equal(recv(fds[1], got, sizeof(got), MSG_WAITALL), 4096);
		assert_memory_equal(got, pattern_at(&p, places[i]), 4096);
	}
	assert_memory_not_equal(pattern_at(&p, 0), pattern_at(&p, 4096), 64);
	close(fds[0]);
	close(fds[1]);
	pattern_exit(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(framings),
		cmocka_unit_test(what_can_be_read_in_two_ways_is_bad),
		cmocka_unit_test(a_head_without_end_is_bad),
		cmocka_unit_test(the_stream_is_the_mapping),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
