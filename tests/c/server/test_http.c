// SPDX-License-Identifier: MIT
/* http.c: one request at a time, however the bytes arrive. */
#include "test.h"

#include "http.h"
#include "server.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

TEST_COMPLAIN

static const char plain[] =
	"GET /some/path?q=1 HTTP/1.1\r\nHost: iolab.test\r\nRange: bytes=3-9\r\n"
	"X-Other: ignored\r\nIf-None-Match: \"a\", \"b\"\r\n\r\n";

static void assert_span(const struct http_request *req, struct span s, const char *want)
{
	assert_int_equal(s.len, strlen(want));
	assert_memory_equal(span_at(req, s), want, s.len);
}

static void assert_plain(const struct http_request *req)
{
	assert_int_equal(req->error, 0);
	assert_int_equal(req->method, HTTP_GET);
	assert_true(req->keep_alive);
	assert_span(req, req->url, "/some/path?q=1");
	assert_span(req, req->field[FIELD_HOST], "iolab.test");
	assert_span(req, req->field[FIELD_RANGE], "bytes=3-9");
	assert_span(req, req->field[FIELD_IF_NONE_MATCH], "\"a\", \"b\"");
	assert_false(http_has(req, FIELD_IF_MATCH));
}

/* Feeds text that must be one request, in pieces of the given size. */
static int status_of(const char *text, size_t len, size_t piece, bool *keep_alive)
{
	struct http_parser p;
	size_t at = 0, used;
	int status = -1;

	http_init(&p, false);
	while (status < 0 && at < len) {
		size_t n = len - at < piece ? len - at : piece;

		if (http_parse(&p, text + at, n, &used) == REQ_READY)
			status = p.req.error;
		at += used;
	}
	if (keep_alive)
		*keep_alive = p.req.keep_alive;
	http_next(&p);
	http_free(&p);
	return status;
}

static void whole(void **state)
{
	struct http_parser p;
	size_t used;

	http_init(&p, false);
	assert_int_equal(http_parse(&p, plain, sizeof(plain) - 1, &used), REQ_READY);
	assert_int_equal(used, sizeof(plain) - 1);
	assert_plain(&p.req);
	assert_null(p.held);
	http_free(&p);
}

static void split_at_every_byte(void **state)
{
	for (size_t cut = 1; cut < sizeof(plain) - 1; cut++) {
		struct http_parser p;
		size_t used;

		http_init(&p, false);
		assert_int_equal(http_parse(&p, plain, cut, &used), REQ_MORE);
		assert_int_equal(used, cut);
		assert_int_equal(http_parse(&p, plain + cut, sizeof(plain) - 1 - cut, &used),
				 REQ_READY);
		assert_int_equal(used, sizeof(plain) - 1 - cut);
		assert_plain(&p.req);
		http_next(&p);
		assert_null(p.held);
		http_free(&p);
	}
}

static void byte_by_byte(void **state)
{
	assert_int_equal(status_of(plain, sizeof(plain) - 1, 1, NULL), 0);
}

/* Nothing behind the input may be read: it ends where the next page is forbidden. */
static void input_at_the_end_of_memory(void **state)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), len = sizeof(plain) - 1;
	char *map =
		mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	assert_int_equal(mprotect(map + page, page, PROT_NONE), 0);
	for (size_t n = 1; n <= len; n++) {
		struct http_parser p;
		size_t used;

		memcpy(map + page - n, plain, n);
		http_init(&p, false);
		assert_int_equal(http_parse(&p, map + page - n, n, &used),
				 n == len ? REQ_READY : REQ_MORE);
		http_next(&p);
		http_free(&p);
	}
	munmap(map, 2 * page);
}

static void pipelined(void **state)
{
	char two[2 * sizeof(plain)];
	struct http_parser p;
	size_t used, used2;

	snprintf(two, sizeof(two), "%s%s", plain, plain);
	http_init(&p, false);
	assert_int_equal(http_parse(&p, two, strlen(two), &used), REQ_READY);
	assert_int_equal(used, sizeof(plain) - 1);
	http_next(&p);
	assert_int_equal(http_parse(&p, two + used, strlen(two) - used, &used2), REQ_READY);
	assert_plain(&p.req);
	http_free(&p);
}

static void judgements(void **state)
{
	static const struct {
		const char *text;
		int status;
	} cases[] = {
		{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0},
		{"GET / HTTP/1.0\r\n\r\n", 0},
		{"GET / HTTP/1.1\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: "
		 "chunked\r\n\r\n",
		 400},
		{"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
		{"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		 501},
		{"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501},
		{"B(EW / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
		{"GET / HTTP/4.2\r\nHost: a\r\n\r\n", 505},
		{"GET / HTTP/x\r\nHost: a\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n", 413},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		bool keep_alive;
		int got = status_of(cases[i].text, strlen(cases[i].text), SIZE_MAX, &keep_alive);

		if (got != cases[i].status)
			print_error("%s", cases[i].text);
		assert_int_equal(got, cases[i].status);
		if (got)
			assert_false(keep_alive);
	}
}

static void limits(void **state)
{
	static char text[HTTP_HEAD_MAX * 2];
	int n = snprintf(text, sizeof(text), "GET /");

	memset(text + n, 'x', HTTP_URL_MAX + 1);
	assert_int_equal(status_of(text, (size_t)n + HTTP_URL_MAX + 1, SIZE_MAX, NULL), 414);
	assert_int_equal(status_of(text, (size_t)n + HTTP_URL_MAX + 1, 100, NULL), 414);
	n = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: a\r\nX: ");
	memset(text + n, 'y', HTTP_HEAD_MAX);
	assert_int_equal(status_of(text, (size_t)n + HTTP_HEAD_MAX, SIZE_MAX, NULL), 431);
	assert_int_equal(status_of(text, (size_t)n + HTTP_HEAD_MAX, 77, NULL), 431);
}

static void body_is_skipped(void **state)
{
	static const char text[] =
		"GET /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
		"5\r\nGET /\r\n0\r\nTrailer: x\r\n\r\n";

	for (size_t piece = 1; piece < sizeof(text); piece++)
		assert_int_equal(status_of(text, sizeof(text) - 1, piece, NULL), 0);
}

static void persistence(void **state)
{
	static const struct {
		const char *text;
		bool keep;
	} cases[] = {
		{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false},
		{"GET / HTTP/1.0\r\n\r\n", false},
		{"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", true},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		bool keep;

		assert_int_equal(status_of(cases[i].text, strlen(cases[i].text), SIZE_MAX, &keep),
				 0);
		assert_int_equal(keep, cases[i].keep);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole),	cmocka_unit_test(split_at_every_byte),
		cmocka_unit_test(byte_by_byte), cmocka_unit_test(input_at_the_end_of_memory),
		cmocka_unit_test(pipelined),	cmocka_unit_test(judgements),
		cmocka_unit_test(limits),	cmocka_unit_test(body_is_skipped),
		cmocka_unit_test(persistence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
