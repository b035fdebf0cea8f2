// SPDX-License-Identifier: MIT
/*
 * zc_errqueue.c: which sends a notification finishes, whatever range it names, and what is counted;
 * then the same by a real socket on loopback, where the kernel copies every send.
 */
#include "test.h"

#include "zc_buffer.h"
#include "zc_errqueue.h"

#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

TEST_COMPLAIN

#define SECOND 1000000000ull

struct bench {
	struct zc_sends sends;
	struct counters ctr;
	struct lease lease;
	unsigned released;
};

static struct bench *bench_now; /* release() is told the lease only */

static void released(struct lease *lease)
{
	bench_now->released++;
}

static void begin(struct bench *b, uint32_t first, unsigned nr)
{
	memset(b, 0, sizeof(*b));
	bench_now = b;
	b->lease = (struct lease){.refs = 1, .release = released};
	b->sends.next = first;
	for (unsigned i = 0; i < nr; i++) {
		assert_int_equal(zc_sends_reserve(&b->sends), 0);
		zc_sends_add(&b->sends, &b->ctr, 100 + i, &b->lease, NULL);
	}
}

/* All sends were made at one second, the notification comes after_ns later. */
static uint32_t finish(struct bench *b, uint32_t lo, uint32_t hi, bool copied, uint64_t after_ns)
{
	for (uint32_t i = 0; i < b->sends.nr; i++)
		b->sends.send[i].sent_ns = SECOND;
	return zc_sends_finish(&b->sends, &b->ctr, lo, hi, copied, SECOND + after_ns);
}

static void end(struct bench *b)
{
	zc_sends_drop(&b->sends, &b->ctr);
	assert_int_equal(b->ctr.zc_inflight_bytes, 0);
	assert_int_equal(b->lease.refs, 1);
	lease_put(&b->lease);
	assert_int_equal(b->released, 1);
}

static void one_message_covers_many_sends(void **state)
{
	struct bench b;

	begin(&b, 0, 20);
	assert_int_equal(b.lease.refs, 21);
	assert_int_equal(finish(&b, 0, 18, false, 5), 19);
	assert_int_equal(b.ctr.zc_notified, 19);
	assert_int_equal(b.ctr.zc_copied, 0);
	assert_int_equal(b.sends.nr, 1);
	assert_int_equal(b.sends.send[0].number, 19);
	assert_int_equal(b.lease.refs, 2);
	end(&b);
}

static void ranges_come_in_any_order(void **state)
{
	struct bench b;

	begin(&b, 0, 9);
	assert_int_equal(finish(&b, 6, 8, true, 1), 3);
	assert_int_equal(finish(&b, 0, 0, false, 1), 1);
	assert_int_equal(finish(&b, 3, 3, true, 1), 1);
	assert_int_equal(b.sends.nr, 4);
	assert_int_equal(b.sends.send[0].number, 1);
	assert_int_equal(b.sends.send[3].number, 5);
	assert_int_equal(finish(&b, 1, 5, false, 1), 4);
	assert_int_equal(b.ctr.zc_notified, 9);
	assert_int_equal(b.ctr.zc_copied, 4);
	end(&b);
}

static void numbers_wrap_around(void **state)
{
	struct bench b;

	begin(&b, UINT32_MAX - 2, 6); /* ..., 2^32 - 1, 0, 1, 2 */
	assert_int_equal(finish(&b, UINT32_MAX, 1, false, 1), 3);
	assert_int_equal(b.sends.nr, 3);
	assert_int_equal(b.sends.send[2].number, 2);
	assert_int_equal(finish(&b, UINT32_MAX - 2, 2, false, 1), 3);
	assert_int_equal(b.ctr.zc_notified, 6);
	end(&b);
}

static void what_is_not_outstanding_changes_nothing(void **state)
{
	struct bench b;

	begin(&b, 10, 2);
	assert_int_equal(finish(&b, 12, 40, true, 1), 0);
	assert_int_equal(finish(&b, 0, 9, true, 1), 0);
	assert_int_equal(finish(&b, 10, 10, true, 1), 1);
	assert_int_equal(finish(&b, 10, 10, true, 1), 0);
	assert_int_equal(b.ctr.zc_notified, 1);
	assert_int_equal(b.lease.refs, 2);
	end(&b);
}

static void bytes_and_delays_are_counted(void **state)
{
	struct bench b;

	begin(&b, 0, 3); /* 100, 101 and 102 bytes */
	assert_int_equal(b.ctr.zc_sends, 3);
	assert_int_equal(b.ctr.zc_bytes, 303);
	assert_int_equal(b.ctr.zc_inflight_bytes, 303);
	finish(&b, 0, 0, false, 7);
	assert_int_equal(b.ctr.zc_inflight_bytes, 203);
	finish(&b, 1, 2, false, 40);
	assert_int_equal(b.ctr.zc_inflight_bytes, 0);
	assert_int_equal(b.ctr.zc_inflight_peak_bytes, 303);
	assert_int_equal(b.ctr.zc_delay_ns, 87);
	assert_int_equal(b.ctr.zc_delay_max_ns, 40);
	end(&b);
}

static void another_worker_takes_the_account_over(void **state)
{
	struct counters other = {0};
	struct bench b;

	begin(&b, 0, 2);
	zc_sends_account(&b.sends, &b.ctr, &other);
	assert_int_equal(b.ctr.zc_inflight_bytes, 0);
	assert_int_equal(other.zc_inflight_bytes, 201);
	zc_sends_finish(&b.sends, &other, 0, 1, false, clock_now_ns());
	assert_int_equal(other.zc_inflight_bytes, 0);
	assert_int_equal(other.zc_notified, 2);
	end(&b);
}

static void a_buffer_lives_until_its_last_send(void **state)
{
	struct zc_pool *pool = zc_pool_new();
	struct zc_buffer *buf = zc_buffer_new(pool, 4096);
	struct zc_sends sends = {0};
	struct counters ctr = {0};

	assert_int_equal(zc_sends_reserve(&sends), 0);
	zc_sends_add(&sends, &ctr, 4096, NULL, buf);
	zc_buffer_put(buf); /* the transfer is through with it */
	assert_int_equal(zc_pool_buffers(pool), 1);
	zc_sends_finish(&sends, &ctr, 0, 0, false, clock_now_ns());
	assert_int_equal(zc_pool_buffers(pool), 0);
	zc_sends_drop(&sends, &ctr);
	zc_pool_put(pool);
}

/* ---------------------------------------------------------------- by a socket */

struct pair {
	int tx, rx;
};

static struct pair connected(void)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);
	int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
	struct pair p = {.tx = socket(AF_INET, SOCK_STREAM, 0)};

	assert_int_equal(bind(listener, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(connect(p.tx, (struct sockaddr *)&addr, len), 0);
	p.rx = accept(listener, NULL, NULL);
	assert_true(p.rx >= 0);
	close(listener);
	assert_int_equal(setsockopt(p.tx, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)), 0);
	return p;
}

static void read_away(int fd, size_t len)
{
	char buf[4096];

	while (len) {
		ssize_t n = recv(fd, buf, len < sizeof(buf) ? len : sizeof(buf), 0);

		assert_true(n > 0);
		len -= (size_t)n;
	}
}

static void loopback_says_that_it_copied(void **state)
{
	static char page[8192];
	struct pair p = connected();
	struct bench b;

	begin(&b, 0, 0);
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(zc_sends_reserve(&b.sends), 0);
		assert_int_equal(send(p.tx, page, sizeof(page), MSG_ZEROCOPY), sizeof(page));
		zc_sends_add(&b.sends, &b.ctr, sizeof(page), &b.lease, NULL);
		read_away(p.rx, sizeof(page));
	}
	while (b.sends.nr) {
		struct pollfd pfd = {.fd = p.tx};

		assert_int_equal(poll(&pfd, 1, 20000), 1);
		assert_true(zc_sends_reap(&b.sends, &b.ctr, p.tx) > 0);
	}
	assert_int_equal(b.ctr.zc_notified, 10);
	assert_int_equal(b.ctr.zc_copied, 10);
	assert_true(b.ctr.sys_recv <= 20);
	close(p.tx);
	close(p.rx);
	end(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_message_covers_many_sends),
		cmocka_unit_test(ranges_come_in_any_order),
		cmocka_unit_test(numbers_wrap_around),
		cmocka_unit_test(what_is_not_outstanding_changes_nothing),
		cmocka_unit_test(bytes_and_delays_are_counted),
		cmocka_unit_test(another_worker_takes_the_account_over),
		cmocka_unit_test(a_buffer_lives_until_its_last_send),
		cmocka_unit_test(loopback_says_that_it_copied),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
