// SPDX-License-Identifier: MIT
/*
 * The movers of the readiness engines on real sockets, called as a driver would, without one: files
 * through send buffers of all sizes, files that end early, readers that leave. Every engine of the
 * registry that has a mover and serves files. Then one socket to two others.
 */
#include "test.h"

#include "pipes.h"
#include "server.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

TEST_COMPLAIN

enum {
	FILE_BYTES = 700001,
	PART_BYTES = 4096,
	NR_PARTS = FILE_BYTES / PART_BYTES,
	PATIENCE_MS = 20000,
};

static const char head[] = "the head, which goes first";
#define HEAD_BYTES (sizeof(head) - 1)

struct bench {
	struct server_config cfg;
	struct worker w;
	struct counters ctr;
	struct lease lease;
	struct conn c;
	int rx;
	size_t received;
};

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

/* A connection over loopback: the server's end, non-blocking, and the client's. */
static void connect_both(int *tx, int *rx, int sndbuf)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	socklen_t len = sizeof(addr);

	assert_int_equal(bind(listener, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
	assert_int_equal(listen(listener, 1), 0);
	*rx = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(*rx, (struct sockaddr *)&addr, len), 0);
	*tx = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	assert_true(*tx >= 0);
	close(listener);
	setsockopt(*tx, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (sndbuf)
		setsockopt(*tx, SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof(sndbuf));
}

static void kept(struct lease *lease)
{
}

/* A response: head and file, as the engine wants its bodies. */
static void offer(struct bench *b, int fd)
{
	struct xfer *x = &b->c.xfer;

	b->lease = (struct lease){.refs = 1, .release = kept};
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

static void begin(struct bench *b, const struct engine *e, const char *options)
{
	char spec[256];

	memset(b, 0, sizeof(*b));
	snprintf(spec, sizeof(spec), "%s,%s", e->name, options);
	assert_int_equal(engine_spec_parse(&b->cfg, spec), 0);
	e->bodies(b->cfg.opt, &b->cfg.bodies);
	b->w = (struct worker){.engine = e, .opt = b->cfg.opt, .ctr = &b->ctr};
	if (e->mover->worker_init)
		assert_int_equal(e->mover->worker_init(&b->w), 0);
}

static void open_conn(struct bench *b)
{
	const struct engine *e = b->w.engine;

	memset(&b->c, 0, sizeof(b->c));
	b->c = (struct conn){.w = &b->w, .ctr = &b->ctr};
	b->c.priv = calloc(1, e->conn_bytes);
	b->c.mover = (char *)b->c.priv + DRIVE_EPOLL_BYTES;
	b->received = 0;
	connect_both(&b->c.fd, &b->rx, (int)b->cfg.opt[COPT_SNDBUF]);
	if (e->mover->open)
		assert_int_equal(e->mover->open(&b->c), 0);
}

static void close_conn(struct bench *b)
{
	if (b->w.engine->mover->exit)
		b->w.engine->mover->exit(&b->c);
	close(b->c.fd);
	if (b->rx >= 0)
		close(b->rx);
	free(b->c.priv);
}

static void end(struct bench *b)
{
	if (b->w.engine->mover->worker_exit)
		b->w.engine->mover->worker_exit(&b->w);
	assert_int_equal(b->ctr.pipes, 0);
	assert_int_equal(b->ctr.zc_inflight_bytes, 0);
	assert_int_equal(b->lease.refs, 1);
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

static const struct engine *engine_named(const char *name)
{
	for (unsigned i = 0; i < nr_engines; i++)
		if (!strcmp(engines[i]->name, name))
			return engines[i];
	fail_msg("no engine %s", name);
	return NULL;
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
	open_conn(b);
	offer(b, fd);
	assert_int_equal(move_all(b), 0);
	await_all(b);
	await_notifications(b);
	close_conn(b);
}

static void through(const struct engine *e, const char *options)
{
	int fd = make_file(FILE_BYTES);
	struct bench b;

	begin(&b, e, options);
	deliver(&b, fd);
	assert_int_equal(b.ctr.bytes, HEAD_BYTES + FILE_BYTES);
	close(fd);
	end(&b);
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

	begin(&b, engine_named(name), options);
	open_conn(&b);
	offer(&b, fd);
	assert_int_equal(move_all(&b), 0);
	await_all(&b);
	assert_int_equal(getsockopt(b.c.fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
	close_conn(&b);
	close(fd);
	end(&b);
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

	begin(&b, e, "sndbuf=16384");
	open_conn(&b);
	offer(&b, fd);
	assert_int_equal(move_all(&b), -EPIPE);
	assert_true(b.ctr.bytes <= HEAD_BYTES + FILE_BYTES / 2);
	close_conn(&b);
	close(fd);
	end(&b);
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

	begin(&b, e, "sndbuf=16384");
	open_conn(&b);
	offer(&b, fd);
	assert_true(b.w.engine->mover->move(&b.c) > 0);
	reset(&b);
	res = move_all(&b);
	if (res != -ECONNRESET && res != -EPIPE)
		fail_msg("%s: %d", e->name, res);
	close_conn(&b);
	deliver(&b, fd);
	close(fd);
	end(&b);
}

static void a_reader_that_leaves_leaves_nothing_behind(void **state)
{
	for_each(one_whose_reader_leaves);
}

/* ---------------------------------------------------------------- socket to sockets */

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

/* What fan_out() moves: FILE_BYTES from the client b->rx to two others. */
struct fan {
	struct conn to[2];
	struct xfer_dst dst[2];
	int rx[2];
	size_t received[2];
	char *bytes; /* of the client */
	size_t sent;
};

static void open_fan(struct bench *b, struct fan *f)
{
	memset(f, 0, sizeof(*f));
	f->bytes = malloc(FILE_BYTES);
	for (size_t i = 0; i < FILE_BYTES; i++)
		f->bytes[i] = byte_at(i);
	for (int i = 0; i < 2; i++) {
		f->to[i] = (struct conn){.w = &b->w, .ctr = &b->ctr, .writer = &b->c};
		f->dst[i].c = &f->to[i];
		connect_both(&f->to[i].fd, &f->rx[i], 0);
	}
	b->w.relays = true;
	b->c.xfer = (struct xfer){.src = SOURCE_SOCKET,
				  .len = FILE_BYTES,
				  .total = FILE_BYTES,
				  .nr_dst = 2,
				  .dst = f->dst};
}

static void close_fan(struct fan *f)
{
	for (int i = 0; i < 2; i++) {
		close(f->to[i].fd);
		close(f->rx[i]);
	}
	free(f->bytes);
}

/* The clients' side: one sends what fits, the others take and compare what is there. */
static void clients(struct bench *b, struct fan *f)
{
	char buf[32768];
	ssize_t n = send(b->rx, f->bytes + f->sent, FILE_BYTES - f->sent, MSG_DONTWAIT);

	f->sent += n > 0 ? (size_t)n : 0;
	for (int i = 0; i < 2; i++) {
		while ((n = recv(f->rx[i], buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
			assert_memory_equal(buf, f->bytes + f->received[i], n);
			f->received[i] += (size_t)n;
		}
	}
}

static void await_any(const struct bench *b, const struct fan *f)
{
	struct pollfd fds[] = {{.fd = b->c.fd, .events = POLLIN},
			       {.fd = f->rx[0], .events = POLLIN},
			       {.fd = f->rx[1], .events = POLLIN}};

	assert_true(poll(fds, 3, PATIENCE_MS) > 0);
}

static void pipes_of_a_fan_out_may_differ(void **state)
{
	struct bench b;
	struct fan f;
	int res;

	begin(&b, engine_named("splice"), "sndbuf=0");
	open_conn(&b);
	unequal_pool(&b.c);
	open_fan(&b, &f);
	do {
		clients(&b, &f);
		res = b.w.engine->mover->move(&b.c);
	} while (res > 0);
	assert_int_equal(res, 0);
	while (f.received[0] < FILE_BYTES || f.received[1] < FILE_BYTES) {
		await_any(&b, &f);
		clients(&b, &f);
	}
	assert_int_equal(b.ctr.relayed_bytes, FILE_BYTES);
	close_conn(&b);
	close_fan(&f);
	b.lease.refs = 1; /* this transfer had none */
	end(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_arrives_whole),
		cmocka_unit_test(parts_are_held_back_in_ample_send_buffers_only),
		cmocka_unit_test(a_file_that_ends_early_is_an_error),
		cmocka_unit_test(a_reader_that_leaves_leaves_nothing_behind),
		cmocka_unit_test(pipes_of_a_fan_out_may_differ),
	};

	signal(SIGPIPE, SIG_IGN); /* as the server does: sendfile(2) has no MSG_NOSIGNAL */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
