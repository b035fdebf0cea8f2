// SPDX-License-Identifier: MIT
/*
 * The completion driver with a mover whose read takes as long as the test wants: it is from a pipe.
 * Behind it a send is linked that the socket has no room for, as a file's is behind a read of the
 * disk.
 */
#include "test.h"

#include "ring.h"
#include "server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

TEST_COMPLAIN

enum {
	OP_READ,
	OP_SEND,
	NR_OPS,
	BODY_BYTES = 16 << 20, /* more than any socket's buffers hold */
	DEADLINE_MS = 20000,
};

static struct {
	int pipe[2];
	char byte;
	char *body;
	int nr_ops;
	_Atomic int result[NR_OPS];
} slow;

static int slow_start(struct conn *c)
{
	struct io_uring_sqe *sqe;

	ring_move_reserve(c, NR_OPS);
	sqe = ring_move_sqe(c);
	io_uring_prep_read(sqe, slow.pipe[0], &slow.byte, 1, 0);
	sqe->flags |= IOSQE_IO_LINK;
	ring_move_tag(c, sqe, OP_READ);
	sqe = ring_move_sqe(c);
	io_uring_prep_send(sqe, c->fd, slow.body, BODY_BYTES, MSG_NOSIGNAL | MSG_WAITALL);
	ring_move_tag(c, sqe, OP_SEND);
	slow.nr_ops = NR_OPS;
	return 0;
}

static int slow_completed(struct conn *c, unsigned op, uint16_t dst, int res)
{
	slow.result[op] = res;
	return --slow.nr_ops ? RING_PENDING : -EPIPE;
}

static const struct ring_mover move_slow = {.start = slow_start, .completed = slow_completed};

static int init(struct worker *w)
{
	return drive_ring_init(w, &move_slow);
}

static void bodies(const int64_t *opt, struct body_policy *policy)
{
}

static const struct opt_def options[] = {COMMON_OPTIONS, {0}};
static const struct engine slow_ring = {.name = "slow_ring",
					.api = ENGINE_API,
					.conn_bytes = RING_CONN_BYTES,
					.options = options,
					.bodies = bodies,
					.worker_init = init,
					.worker_run = drive_ring_run,
					.worker_exit = drive_ring_exit};

static struct server *server_new(void)
{
	struct server *srv = calloc(1, sizeof(*srv));

	assert_non_null(srv);
	srv->cfg = (struct server_config){.engine = &slow_ring,
					  .role = &role_file,
					  .bodies = {.source = SOURCE_FILE},
					  .merge = 1,
					  .header_timeout_ms = 60000,
					  .idle_timeout_ms = 60000,
					  .send_timeout_ms = 100,
					  .linger_timeout_ms = 60000,
					  .drain_timeout_ms = 10000,
					  .cache_files = 2,
					  .cache_valid_ms = 1000};
	srv->root_fd = open("/", O_PATH | O_DIRECTORY);
	srv->nr_workers = 1;
	srv->workers = calloc(1, sizeof(struct sworker *));
	assert_non_null(srv->workers);
	srv->workers[0] = worker_create(srv, 0, -1, -1);
	assert_non_null(srv->workers[0]);
	srv->workers[0]->w.listen_fd = listen_open("127.0.0.1:0", 16, &srv->cfg);
	assert_true(srv->workers[0]->w.listen_fd >= 0);
	return srv;
}

static void server_free(struct server *srv)
{
	worker_destroy(srv->workers[0]);
	free(srv->workers);
	close(srv->root_fd);
	free(srv);
}

/* A client that has asked, and reads nothing. */
static int client_new(const struct server *srv)
{
	static const char request[] = "GET /none HTTP/1.1\r\nHost: t\r\n\r\n";
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in to;
	socklen_t len = sizeof(to);

	assert_int_equal(getsockname(srv->workers[0]->w.listen_fd, (struct sockaddr *)&to, &len),
			 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)&to, len), 0);
	assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
	return fd;
}

/* A bound for what never comes; nothing depends on how long it takes. */
static void await(_Atomic uint64_t *counter, uint64_t value, const char *what)
{
	for (int ms = 0; atomic_load(counter) != value; ms++) {
		if (ms == DEADLINE_MS)
			fail_msg("never came: %s", what);
		usleep(1000);
	}
}

/*
 * The socket is cancelled while the read is pending: nothing is found that the send could be known
 * by, for it begins when the read is over.
 */
static void a_send_that_begins_after_the_abort_ends(void **state)
{
	struct server *srv = server_new();
	struct counters *ctr = srv->workers[0]->w.ctr;
	int nr, client;

	slow.result[OP_SEND] = 1;
	assert_int_equal(pipe2(slow.pipe, O_CLOEXEC), 0);
	assert_int_equal(workers_start(srv, &nr), 0);
	client = client_new(srv);
	await(&ctr->timeouts, 1, "the deadline of a response without progress");
	await(&ctr->cancelled, 1, "the end of the receive, which the cancellation finds");
	assert_int_equal(write(slow.pipe[1], "x", 1), 1);
	await(&ctr->closes, 1, "the end of the connection");
	assert_int_equal(slow.result[OP_READ], 1);
	assert_true(slow.result[OP_SEND] < 0);
	worker_drain(srv->workers[0]);
	assert_int_equal(workers_stop(srv, nr), 0);
	close(client);
	close(slow.pipe[0]);
	close(slow.pipe[1]);
	server_free(srv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_send_that_begins_after_the_abort_ends),
	};
	char reason[REASON_MAX];
	int failed;

	if (ring_mover_probe(&move_slow, NULL, reason)) {
		printf("skipped: %s\n", reason);
		return 77;
	}
	slow.body = calloc(1, BODY_BYTES);
	failed = slow.body ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
	free(slow.body);
	return failed;
}
