// SPDX-License-Identifier: MIT
/*
 * Movers from one socket to several, called as a driver would, without one: the stream arrives
 * whole at everybody who stays. Every engine of the registry that has a mover and fans out.
 */
#include "test.h"

#include "bench.h"
#include "pipes.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	STREAM_BYTES = 700001,
	NR_TO = 3,
	SNDBUF_BYTES = 16384, /* less than a round: who leaves does so in the middle of one */
	PATIENCE_MS = 20000,
};

/* From the client b.rx to NR_TO others, of which those of `leaving` (bits) leave half-way. */
struct fan {
	struct bench b;
	struct conn to[NR_TO];
	struct xfer_dst dst[NR_TO];
	int rx[NR_TO]; /* -1: has left */
	size_t received[NR_TO];
	char *bytes; /* of the client */
	size_t sent;
	unsigned leaving;
};

static void add_destination(struct fan *f, int i)
{
	const struct engine *e = f->b.w.engine;
	struct conn *to = &f->to[i];

	*to = (struct conn){.w = &f->b.w, .ctr = &f->b.ctr, .writer = &f->b.c};
	to->priv = calloc(1, e->conn_bytes);
	to->mover = (char *)to->priv + DRIVE_EPOLL_BYTES;
	loopback_pair(&to->fd, &f->rx[i], SNDBUF_BYTES);
	if (e->mover->open)
		assert_int_equal(e->mover->open(to), 0);
	f->dst[i].c = to;
}

static void open_fan(struct fan *f, const struct engine *e)
{
	memset(f, 0, sizeof(*f));
	bench_begin(&f->b, e, "sndbuf=0");
	bench_open(&f->b);
	f->bytes = malloc(STREAM_BYTES);
	for (size_t i = 0; i < STREAM_BYTES; i++)
		f->bytes[i] = (char)(i * 2654435761u >> 13);
	for (int i = 0; i < NR_TO; i++)
		add_destination(f, i);
	f->b.w.relays = true;
	f->b.c.xfer = (struct xfer){.src = SOURCE_SOCKET,
				    .len = STREAM_BYTES,
				    .total = STREAM_BYTES,
				    .nr_dst = NR_TO,
				    .dst = f->dst};
}

static void close_fan(struct fan *f)
{
	bench_close(&f->b);
	for (int i = 0; i < NR_TO; i++) {
		if (f->b.w.engine->mover->exit)
			f->b.w.engine->mover->exit(&f->to[i]);
		close(f->to[i].fd);
		if (f->rx[i] >= 0)
			close(f->rx[i]);
		free(f->to[i].priv);
	}
	free(f->bytes);
	bench_end(&f->b);
}

static void leave(struct fan *f, int i)
{
	struct linger rst = {.l_onoff = 1, .l_linger = 0};

	setsockopt(f->rx[i], SOL_SOCKET, SO_LINGER, &rst, sizeof(rst));
	close(f->rx[i]);
	f->rx[i] = -1;
}

/* Takes and compares what is there. Who is to leave takes half, with more on its way. */
static void take(struct fan *f, int i)
{
	bool leaves = f->leaving & 1u << i;
	char buf[32768];
	ssize_t n;

	while (f->rx[i] >= 0 && (n = recv(f->rx[i], buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
		assert_memory_equal(buf, f->bytes + f->received[i], n);
		f->received[i] += (size_t)n;
		if (leaves && f->received[i] >= STREAM_BYTES / 2)
			leave(f, i);
	}
}

/* Who sends keeps some back until all have left who are to: they miss something for certain. */
static size_t may_be_sent(const struct fan *f)
{
	for (int i = 0; i < NR_TO; i++)
		if (f->leaving & 1u << i && f->rx[i] >= 0)
			return STREAM_BYTES * 3 / 4 - f->sent;
	return STREAM_BYTES - f->sent;
}

/* The clients' side: one sends what fits, the others take what is there. */
static void clients(struct fan *f)
{
	ssize_t n = send(f->b.rx, f->bytes + f->sent, may_be_sent(f), MSG_DONTWAIT);

	f->sent += n > 0 ? (size_t)n : 0;
	for (int i = 0; i < NR_TO; i++)
		take(f, i);
}

/* What a driver does between moves: the failed are named no more, notifications are read. */
static void between_moves(struct fan *f)
{
	const struct mover *m = f->b.w.engine->mover;

	for (int i = 0; i < NR_TO; i++) {
		if (f->dst[i].err)
			f->dst[i].c = NULL;
		else if (m->reap)
			assert_true(f->rx[i] < 0 || m->reap(&f->to[i]) >= 0);
	}
	f->b.c.xfer.dst_failed = false;
}

/* Until a client can take something, or has, for what the mover waits for may be anything. */
static void pause_for_clients(const struct fan *f)
{
	struct pollfd fds[NR_TO];

	for (int i = 0; i < NR_TO; i++)
		fds[i] = (struct pollfd){.fd = f->rx[i], .events = POLLIN};
	poll(fds, NR_TO, 1);
}

static int move_all(struct fan *f)
{
	uint64_t until_ns = clock_now_ns() + PATIENCE_MS * 1000000ull;
	int res;

	for (;;) {
		clients(f);
		res = f->b.w.engine->mover->move(&f->b.c);
		between_moves(f);
		if (res <= 0)
			return res;
		if (clock_now_ns() > until_ns)
			fail_msg("%s: stands still", f->b.w.engine->name);
		if (res != MOVED_TURN)
			pause_for_clients(f);
	}
}

static void await_all(struct fan *f)
{
	for (int i = 0; i < NR_TO; i++) {
		struct pollfd fd = {.fd = f->rx[i], .events = POLLIN};

		while (f->rx[i] >= 0 && f->received[i] < STREAM_BYTES) {
			assert_int_equal(poll(&fd, 1, PATIENCE_MS), 1);
			take(f, i);
		}
	}
}

static void for_each(void (*test)(const struct engine *e))
{
	unsigned nr = 0;

	for (unsigned i = 0; i < nr_engines; i++) {
		if (!engines[i]->mover || !(engines[i]->sources & SOURCE_FANOUT))
			continue;
		test(engines[i]);
		nr++;
	}
	assert_true(nr >= 4);
}

static void to_all(const struct engine *e)
{
	struct fan f;

	open_fan(&f, e);
	assert_int_equal(move_all(&f), 0);
	await_all(&f);
	assert_int_equal(f.b.ctr.relayed_bytes, STREAM_BYTES);
	assert_int_equal(f.b.ctr.bytes, NR_TO * STREAM_BYTES);
	close_fan(&f);
}

static void everybody_gets_the_stream(void **state)
{
	for_each(to_all);
}

/* The first, one in the middle, and the last, which splice serves out of the source's own pipe. */
static void to_those_who_stay(const struct engine *e)
{
	for (int i = 0; i < NR_TO; i++) {
		struct fan f;

		open_fan(&f, e);
		f.leaving = 1u << i;
		assert_int_equal(move_all(&f), 0);
		await_all(&f);
		assert_true(f.received[i] < STREAM_BYTES);
		assert_null(f.dst[i].c);
		assert_int_equal(f.b.ctr.relayed_bytes, STREAM_BYTES);
		close_fan(&f);
	}
}

static void who_leaves_takes_nothing_from_the_others(void **state)
{
	for_each(to_those_who_stay);
}

static void to_nobody(const struct engine *e)
{
	struct fan f;

	open_fan(&f, e);
	f.leaving = (1u << NR_TO) - 1;
	assert_int_equal(move_all(&f), -EPIPE);
	assert_true(f.b.ctr.relayed_bytes < STREAM_BYTES);
	close_fan(&f);
}

static void when_all_have_left_it_fails(void **state)
{
	for_each(to_nobody);
}

/* A pool whose first pipe is an ample one, and whose second one holds a page. */
static void unequal_pool(struct conn *c)
{
	struct pipe_pair small, ample;

	assert_int_equal(pipe_take(c, &small, 4096), 0);
	assert_int_equal(pipe_take(c, &ample, 65536), 0);
	assert_true(small.bytes < ample.bytes);
	pipe_give(c, &small, true);
	pipe_give(c, &ample, true);
}

static void pipes_of_a_fan_out_may_differ(void **state)
{
	struct fan f;

	open_fan(&f, bench_engine("splice"));
	unequal_pool(&f.b.c);
	assert_int_equal(move_all(&f), 0);
	await_all(&f);
	close_fan(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everybody_gets_the_stream),
		cmocka_unit_test(who_leaves_takes_nothing_from_the_others),
		cmocka_unit_test(when_all_have_left_it_fails),
		cmocka_unit_test(pipes_of_a_fan_out_may_differ),
	};

	signal(SIGPIPE, SIG_IGN); /* as the server does */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
