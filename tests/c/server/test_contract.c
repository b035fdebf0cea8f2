// SPDX-License-Identifier: MIT
/*
 * The contract from the engine's side, driven by hand without a socket: what the skeleton answers
 * to conn_feed, conn_done and a clock that the test makes up.
 */
#include "test.h"

#include "file_cache.h"
#include "server.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

TEST_COMPLAIN

#define SECOND 1000000000ull

static void bodies(const int64_t *opt, struct body_policy *policy)
{
}

static const struct opt_def no_options[] = {{0}};
static const struct engine fake = {.name = "fake",
				   .api = ENGINE_API,
				   .conn_bytes = 16,
				   .options = no_options,
				   .bodies = bodies};

struct bench {
	struct server srv;
	struct sworker *sw;
	char root[64];
	uint64_t now_ns;
};

static void put(struct bench *b, const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", b->root, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static struct bench *bench_new(struct body_policy policy, int merge)
{
	struct bench *b = calloc(1, sizeof(*b));

	strcpy(b->root, "/tmp/iolab-contract-XXXXXX");
	assert_non_null(mkdtemp(b->root));
	put(b, "a", "alpha");
	put(b, "b", "beta-beta");
	b->srv.cfg = (struct server_config){
		.engine = &fake,
		.role = &role_file,
		.bodies = policy,
		.merge = merge,
		.header_timeout_ms = 10000,
		.idle_timeout_ms = 60000,
		.send_timeout_ms = 60000,
		.linger_timeout_ms = 5000,
		.drain_timeout_ms = 10000,
		.cache_files = 2,
		.cache_valid_ms = 1000,
	};
	b->srv.nr_workers = 1;
	b->srv.root_fd = open(b->root, O_PATH | O_DIRECTORY);
	b->now_ns = 100 * SECOND;
	b->sw = worker_create(&b->srv, 0, -1, -1);
	assert_non_null(b->sw);
	worker_tick(&b->sw->w, b->now_ns);
	b->sw->files = file_cache_create(&b->srv, &b->sw->w);
	return b;
}

static void bench_free(struct bench *b)
{
	static const char *const names[] = {"a", "b", "c", "d"};
	char path[128];

	assert_int_equal(b->sw->nr_conns, 0);
	file_cache_destroy(b->sw->files);
	worker_destroy(b->sw);
	close(b->srv.root_fd);
	for (unsigned i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "%s/%s", b->root, names[i]);
		unlink(path);
	}
	rmdir(b->root);
	free(b);
}

static void later(struct bench *b, uint64_t ns)
{
	b->now_ns += ns;
	worker_tick(&b->sw->w, b->now_ns);
}

static struct conn *open_conn(struct bench *b)
{
	struct conn *c = conn_open(&b->sw->w, -1);

	assert_non_null(c);
	assert_int_equal(c->step, STEP_RECV);
	return c;
}

static void close_conn(struct conn *c)
{
	conn_closing(c);
	conn_free(c);
}

static size_t feed(struct conn *c, const char *text)
{
	return conn_feed(c, text, strlen(text));
}

#define GET(path) "GET /" path " HTTP/1.1\r\nHost: t\r\n\r\n"

/* Everything the transfer would deliver, as text; then it is done. */
static char *deliver(struct conn *c, char *out, size_t size)
{
	struct xfer *x = &c->xfer;
	size_t at = 0;

	assert_int_equal(c->step, STEP_XFER);
	for (unsigned i = x->iov_at; i < x->iov_nr; i++) {
		assert_true(at + x->iov[i].iov_len < size);
		memcpy(out + at, x->iov[i].iov_base, x->iov[i].iov_len);
		at += x->iov[i].iov_len;
	}
	if (x->src == SOURCE_FILE) {
		ssize_t n = pread(x->file_fd, out + at, x->len, (off_t)x->off);

		assert_int_equal(n, x->len);
		at += x->len;
	} else if (x->src == SOURCE_MAPPING) {
		memcpy(out + at, x->mem, x->len);
		at += x->len;
	}
	out[at] = '\0';
	conn_done(c, 0);
	return out;
}

static unsigned occurrences(const char *text, const char *what)
{
	unsigned nr = 0;

	while ((text = strstr(text, what))) {
		nr++;
		text++;
	}
	return nr;
}

static const struct body_policy as_file = {.source = SOURCE_FILE};
static const struct body_policy as_mapping = {.source = SOURCE_MAPPING};
static const struct body_policy as_memory = {.source = SOURCE_FILE, .memory_limit_bytes = 4096};
static const struct body_policy as_memfd = {
	.source = SOURCE_FILE, .memory_limit_bytes = 4096, .memory_as_file = true};

static void every_policy_gives_the_same_bytes(void **state)
{
	const struct body_policy policies[] = {as_file, as_mapping, as_memory, as_memfd};
	char out[4096], want[4096] = "";

	for (unsigned i = 0; i < 4; i++) {
		struct bench *b = bench_new(policies[i], 16);
		struct conn *c = open_conn(b);
		char *tag;

		assert_int_equal(feed(c, GET("a")), strlen(GET("a")));
		deliver(c, out, sizeof(out));
		assert_int_equal(c->step, STEP_RECV);
		assert_string_equal(strstr(out, "\r\n\r\n"), "\r\n\r\nalpha");
		tag = strstr(out, "Date: ");
		memset(tag, 'x', 35); /* a second may have passed between policies */
		tag = strstr(out, "Last-Modified: ");
		*tag = '\0'; /* what follows names the file's time */
		if (i == 0)
			strcpy(want, out);
		assert_string_equal(out, want);
		close_conn(c);
		bench_free(b);
	}
}

static void merging_stops_at_its_limit(void **state)
{
	char many[40 * 64] = "", out[64 << 10];

	for (int i = 0; i < 40; i++)
		strcat(many, GET("a"));
	for (int merge = 1; merge <= 16; merge += 15) {
		struct bench *b = bench_new(as_memory, merge);
		struct conn *c = open_conn(b);
		size_t used = 0;
		unsigned got = 0;

		while (used < strlen(many)) {
			unsigned nr;

			used += feed(c, many + used);
			nr = occurrences(deliver(c, out, sizeof(out)), "alpha");
			assert_true(nr >= 1 && nr <= (unsigned)merge);
			got += nr;
		}
		assert_int_equal(got, 40);
		assert_int_equal(b->sw->w.ctr->requests, 40);
		close_conn(c);
		bench_free(b);
	}
}

static void a_file_ends_a_merged_transfer(void **state)
{
	struct bench *b = bench_new(as_file, 16);
	struct conn *c = open_conn(b);
	char out[8192];

	assert_int_equal(feed(c, GET("no") GET("a") GET("b")), strlen(GET("no") GET("a")));
	assert_int_equal(c->xfer.src, SOURCE_FILE);
	assert_int_equal(c->xfer.len, 5);
	deliver(c, out, sizeof(out));
	assert_non_null(strstr(out, "404 Not Found"));
	assert_non_null(strstr(out, "alpha"));
	close_conn(c);
	bench_free(b);
}

static void a_bad_request_is_the_last(void **state)
{
	struct bench *b = bench_new(as_memory, 16);
	struct conn *c = open_conn(b);
	const char *text = GET("a") "GET / HTTP/1.1\r\n\r\n" GET("b");
	char out[8192];

	assert_int_equal(feed(c, text), strlen(text)); /* what follows is not looked at */
	deliver(c, out, sizeof(out));
	assert_non_null(strstr(out, "alpha"));
	assert_non_null(strstr(out, "400 Bad Request"));
	assert_null(strstr(out, "beta"));
	assert_int_equal(c->step, STEP_CLOSE);
	assert_int_equal(c->close_how, CLOSE_LINGER);
	close_conn(c);
	bench_free(b);
}

static void failed_transfer_aborts(void **state)
{
	struct bench *b = bench_new(as_file, 16);
	struct conn *c = open_conn(b);

	feed(c, GET("a"));
	assert_int_equal(c->xfer.lease->refs, 2); /* the cache and the transfer */
	conn_done(c, -EPIPE);
	assert_int_equal(c->step, STEP_CLOSE);
	assert_int_equal(c->close_how, CLOSE_ABORT);
	assert_int_equal(b->sw->w.ctr->requests, 0);
	assert_int_equal(b->sw->w.ctr->aborts, 1);
	close_conn(c);
	bench_free(b);
}

static void end_of_file_closes(void **state)
{
	struct bench *b = bench_new(as_file, 16);
	struct conn *c = open_conn(b);

	conn_feed(c, NULL, 0);
	assert_int_equal(c->step, STEP_CLOSE);
	assert_int_equal(c->close_how, CLOSE_NOW);
	close_conn(c);
	bench_free(b);
}

static void unfinished_head_gets_408(void **state)
{
	struct bench *b = bench_new(as_file, 16);
	struct conn *c = open_conn(b);
	char out[2048];

	later(b, 30 * SECOND); /* longer than a head may take, but nothing has begun */
	assert_null(worker_next(&b->sw->w));
	feed(c, "GET /a HT");
	later(b, 9 * SECOND);
	assert_null(worker_next(&b->sw->w));
	feed(c, "TP/1.1\r\n"); /* another byte does not buy more time */
	later(b, 9 * SECOND);
	assert_ptr_equal(worker_next(&b->sw->w), c);
	assert_null(worker_next(&b->sw->w));
	assert_non_null(strstr(deliver(c, out, sizeof(out)), "408 Request Timeout"));
	assert_int_equal(c->step, STEP_CLOSE);
	close_conn(c);
	bench_free(b);
}

static void idle_and_stalled_connections_end(void **state)
{
	struct bench *b = bench_new(as_file, 16);
	struct conn *idle = open_conn(b), *stalled = open_conn(b);

	feed(stalled, GET("a"));
	later(b, 100 * SECOND);
	while (worker_next(&b->sw->w))
		;
	assert_int_equal(idle->step, STEP_CLOSE);
	assert_int_equal(idle->close_how, CLOSE_LINGER);
	assert_int_equal(stalled->close_how, CLOSE_ABORT);
	later(b, 10 * SECOND); /* nobody lingers for ever */
	assert_int_equal(idle->close_how, CLOSE_ABORT);
	close_conn(idle);
	close_conn(stalled); /* still in the queue: freeing takes it out */
	assert_null(worker_next(&b->sw->w));
	bench_free(b);
}

static void drain_lets_responses_finish(void **state)
{
	struct bench *b = bench_new(as_file, 16);
	struct conn *idle = open_conn(b), *busy = open_conn(b);
	char out[2048];

	feed(busy, GET("a"));
	worker_drain(b->sw);
	later(b, 1);
	assert_int_equal(idle->step, STEP_CLOSE);
	assert_int_equal(busy->step, STEP_XFER);
	assert_false(worker_finished(&b->sw->w));
	close_conn(idle);
	deliver(busy, out, sizeof(out));
	assert_int_equal(busy->step, STEP_CLOSE);
	close_conn(busy);
	assert_true(worker_finished(&b->sw->w));
	bench_free(b);
}

static void replaced_file_is_seen_after_a_while(void **state)
{
	struct bench *b = bench_new(as_memory, 16);
	struct conn *c = open_conn(b);
	char out[2048];

	feed(c, GET("a"));
	deliver(c, out, sizeof(out));
	put(b, "a", "omega-omega");
	later(b, SECOND / 2);
	feed(c, GET("a"));
	assert_non_null(strstr(deliver(c, out, sizeof(out)), "alpha"));
	later(b, SECOND);
	feed(c, GET("a"));
	assert_non_null(strstr(deliver(c, out, sizeof(out)), "omega-omega"));
	close_conn(c);
	bench_free(b);
}

static void full_cache_drops_the_unused(void **state)
{
	struct bench *b = bench_new(as_file, 16);
	struct conn *c = open_conn(b), *holder = open_conn(b);
	const char *const names[] = {GET("b"), GET("c"), GET("d"), GET("a")};
	char out[2048];

	put(b, "c", "gamma");
	put(b, "d", "delta");
	feed(holder, GET("a")); /* its entry is dropped while it is being sent */
	for (unsigned i = 0; i < 4; i++) {
		feed(c, names[i]);
		deliver(c, out, sizeof(out));
	}
	assert_non_null(strstr(deliver(holder, out, sizeof(out)), "alpha"));
	assert_int_equal(b->sw->w.ctr->cache_misses, 5);
	close_conn(c);
	close_conn(holder);
	bench_free(b);
}

/* The date in memory that is being sent stays as it was; the next response has the new one. */
static void date_in_flight_does_not_change(void **state)
{
	const struct body_policy policies[] = {as_file, as_memory, as_memfd};

	for (unsigned i = 0; i < 3; i++) {
		struct bench *b = bench_new(policies[i], 16);
		struct conn *first = open_conn(b), *second = open_conn(b);
		char before[2048], out[2048], date[DATE_BYTES + 1];

		strcpy(date, b->sw->date);
		feed(first, GET("a"));
		b->sw->date_gen++; /* as the tick of the next second does */
		memcpy(b->sw->date, "Thu, 01 Jan 1970", 16);
		feed(second, GET("a"));
		deliver(first, before, sizeof(before));
		deliver(second, out, sizeof(out));
		assert_non_null(strstr(before, date));
		assert_non_null(strstr(out, "Thu, 01 Jan 1970"));
		assert_non_null(strstr(out, "alpha"));
		close_conn(first);
		close_conn(second);
		bench_free(b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_policy_gives_the_same_bytes),
		cmocka_unit_test(merging_stops_at_its_limit),
		cmocka_unit_test(a_file_ends_a_merged_transfer),
		cmocka_unit_test(a_bad_request_is_the_last),
		cmocka_unit_test(failed_transfer_aborts),
		cmocka_unit_test(end_of_file_closes),
		cmocka_unit_test(unfinished_head_gets_408),
		cmocka_unit_test(idle_and_stalled_connections_end),
		cmocka_unit_test(drain_lets_responses_finish),
		cmocka_unit_test(replaced_file_is_seen_after_a_while),
		cmocka_unit_test(full_cache_drops_the_unused),
		cmocka_unit_test(date_in_flight_does_not_change),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
