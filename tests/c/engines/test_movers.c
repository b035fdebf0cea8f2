// SPDX-License-Identifier: MIT
/*
 * The movers of the readiness engines on real sockets, called as a driver would, without one: files
 * through send buffers of all sizes, files that end early, readers that leave. Every engine of the
 * registry that has a mover and serves files.
 */
#include "test.h"

#include "bench.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	FILE_BYTES = 700001,
	PART_BYTES = 4096,
	NR_PARTS = FILE_BYTES / PART_BYTES,
	PATIENCE_MS = 20000,
};

static const char head[] = "the head, which goes first";
#define HEAD_BYTES (sizeof(head) - 1)

static char byte_at(size_t i)
{
	return i < HEAD_BYTES ? head[i] : (char)((i - HEAD_BYTES) * 2654435761u >> 13);
}

/* A file of FILE_BYTES, of which `len` are there. */
static int make_file(size_t len)
{
	int fd = memfd_create("body", MFD_CLOEXEC);
	char *bytes = malloc(len);

	assert_true(fd >= 0);
	for (size_t i = 0; i < len; i++)
		bytes[i] = byte_at(HEAD_BYTES + i);
	assert_int_equal(write(fd, bytes, len), len);
	free(bytes);
	return fd;
}

/* A response: head and file, as the engine wants its bodies. */
static void offer(struct bench *b, int fd)
{
	struct xfer *x = &b->c.xfer;

	*x = (struct xfer){.src = (uint8_t)b->cfg.bodies.source,
			   .iov_nr = 1,
			   .iov = {{.iov_base = (char *)(uintptr_t)head, .iov_len = HEAD_BYTES}},
			   .file_fd = fd,
			   .len = FILE_BYTES,
			   .lease = &b->lease};
	if (x->src == SOURCE_MAPPING) {
		x->mem = mmap(NULL, FILE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
		assert_true(x->mem != MAP_FAILED);
	}
}

/* Takes and compares what is there. */
static void drain(struct bench *b)
{
	char buf[32768];
	ssize_t n;

	while ((n = recv(b->rx, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		for (ssize_t i = 0; i < n; i++)
			if (buf[i] != byte_at(b->received++))
				fail_msg("byte %zu is wrong", b->received - 1);
}

static void wait_for(struct bench *b, int moved)
{
	struct pollfd fds[] = {{.fd = b->rx, .events = POLLIN},
			       {.fd = b->c.fd, .events = moved == MOVED_WANT_ZC ? 0 : POLLOUT}};

	assert_true(poll(fds, 2, PATIENCE_MS) > 0);
	if (fds[1].revents & POLLERR && b->w.engine->mover->reap)
		assert_true(b->w.engine->mover->reap(&b->c) >= 0);
}

/* To the end of the transfer, with a reader that keeps up. Its result. */
static int move_all(struct bench *b)
{
	for (;;) {
		int res = b->w.engine->mover->move(&b->c);

		if (b->rx >= 0)
			drain(b);
		if (res <= 0)
			return res;
		if (res != MOVED_TURN)
			wait_for(b, res);
	}
}

static void await_all(struct bench *b)
{
	struct pollfd fd = {.fd = b->rx, .events = POLLIN};

	while (b->received < HEAD_BYTES + FILE_BYTES) {
		assert_int_equal(poll(&fd, 1, PATIENCE_MS), 1);
		drain(b);
	}
}

/* Until the kernel is through with what was sent without copying. */
static void await_notifications(struct bench *b)
{
	const struct mover *m = b->w.engine->mover;

	while (m->held && m->held(&b->c))
		wait_for(b, MOVED_WANT_ZC);
}

static bool serves_files(const struct engine *e)
{
	return e->mover && role_fits(&role_file, e) &&
	       e->sources & (unsigned)(SOURCE_FILE | SOURCE_MAPPING);
}

static void for_each(void (*test)(const struct engine *e))
{
	unsigned nr = 0;

	for (unsigned i = 0; i < nr_engines; i++) {
		if (!serves_files(engines[i]))
			continue;
		test(engines[i]);
		nr++;
	}
	assert_true(nr >= 5);
}

static void deliver(struct bench *b, int fd)
{
	bench_open(b);
	offer(b, fd);
	assert_int_equal(move_all(b), 0);
	await_all(b);
	await_notifications(b);
	bench_close(b);
}

static void through(const struct engine *e, const char *options)
{
	int fd = make_file(FILE_BYTES);
	struct bench b;

	bench_begin(&b, e, options);
	deliver(&b, fd);
	assert_int_equal(b.ctr.bytes, HEAD_BYTES + FILE_BYTES);
	close(fd);
	bench_end(&b);
}

static void one_through_any_buffer(const struct engine *e)
{
	through(e, "sndbuf=0");
	through(e, "sndbuf=4096");
	through(e, "sndbuf=65536");
}

static void a_file_arrives_whole(void **state)
{
	for_each(one_through_any_buffer);
}

/* Segments that a file took in parts of PART_BYTES. */
static unsigned segments_of(const char *name, const char *options)
{
	struct tcp_info info = {0};
	int fd = make_file(FILE_BYTES);
	socklen_t len = sizeof(info);
	struct bench b;

	bench_begin(&b, bench_engine(name), options);
	bench_open(&b);
	offer(&b, fd);
	assert_int_equal(move_all(&b), 0);
	await_all(&b);
	assert_int_equal(getsockopt(b.c.fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
	bench_close(&b);
	close(fd);
	bench_end(&b);
	return info.tcpi_data_segs_out;
}

/*
 * A send buffer of less than a segment with held parts in it is one segment, whose receiver delays
 * its acknowledgement by 40 ms; with parts that go as they come it is two, and he does not.
 */
static void parts_are_held_back_in_ample_send_buffers_only(void **state)
{
	static const char *const parts[][2] = {
		{"epoll", "buffer=4096"}, {"blocking", "buffer=4096"}, {"splice", "pipe=4096"}};
	char options[64];

	for (unsigned i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		snprintf(options, sizeof(options), "%s,sndbuf=4096", parts[i][1]);
		assert_true(segments_of(parts[i][0], options) > NR_PARTS * 3 / 4);
		assert_true(segments_of(parts[i][0], parts[i][1]) < NR_PARTS / 2);
	}
}

static void one_that_ends_early(const struct engine *e)
{
	int fd = make_file(FILE_BYTES / 2);
	struct bench b;

	bench_begin(&b, e, "sndbuf=16384");
	bench_open(&b);
	offer(&b, fd);
	assert_int_equal(move_all(&b), -EPIPE);
	assert_true(b.ctr.bytes <= HEAD_BYTES + FILE_BYTES / 2);
	bench_close(&b);
	close(fd);
	bench_end(&b);
}

static void a_file_that_ends_early_is_an_error(void **state)
{
	for_each(one_that_ends_early);
}

static void reset(struct bench *b)
{
	struct linger rst = {.l_onoff = 1, .l_linger = 0};

	setsockopt(b->rx, SOL_SOCKET, SO_LINGER, &rst, sizeof(rst));
	close(b->rx);
	b->rx = -1;
}

/* The reader leaves in the middle; the next one gets nothing of what was on its way. */
static void one_whose_reader_leaves(const struct engine *e)
{
	int fd = make_file(FILE_BYTES), res;
	struct bench b;

	bench_begin(&b, e, "sndbuf=16384");
	bench_open(&b);
	offer(&b, fd);
	assert_true(b.w.engine->mover->move(&b.c) > 0);
	reset(&b);
	res = move_all(&b);
	if (res != -ECONNRESET && res != -EPIPE)
		fail_msg("%s: %d", e->name, res);
	bench_close(&b);
	deliver(&b, fd);
	close(fd);
	bench_end(&b);
}

static void a_reader_that_leaves_leaves_nothing_behind(void **state)
{
	for_each(one_whose_reader_leaves);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_arrives_whole),
		cmocka_unit_test(parts_are_held_back_in_ample_send_buffers_only),
		cmocka_unit_test(a_file_that_ends_early_is_an_error),
		cmocka_unit_test(a_reader_that_leaves_leaves_nothing_behind),
	};

	signal(SIGPIPE, SIG_IGN); /* as the server does: sendfile(2) has no MSG_NOSIGNAL */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
