// SPDX-License-Identifier: MIT
/*
 * Engine null: every request is answered with one constant body from memory; no file is touched.
 * It waits as the epoll engine does, so the difference between the two is the price of files, and
 * what remains is the price of the skeleton, the loop and the socket. Linux 2.6.
 */
#include "engine.h"

enum {
	OPT_CONSTANT_SIZE = COPT_NR
};

static const struct opt_def options[] = {COMMON_OPTIONS,
					 {.name = "size",
					  .type = OPT_SIZE,
					  .def = 1024,
					  .max = 64 << 20,
					  .help = "bytes of the constant body"},
					 {0}};

static void null_bodies(const int64_t *opt, struct body_policy *policy)
{
	policy->source = SOURCE_CONSTANT;
	policy->constant_bytes = (size_t)opt[OPT_CONSTANT_SIZE];
}

static int move(struct conn *c)
{
	return send_iov(c, 0);
}
static const struct mover move_constant = {.move = move};

const struct engine engine_null = {
	.name = "null",
	.summary = "answers from a constant, touches no file: the cost of the skeleton itself",
	.since = "2.6",
	.driver = "epoll",
	.api = ENGINE_API,
	.sources = SOURCE_CONSTANT,
	.conn_bytes = DRIVE_EPOLL_BYTES,
	.options = options,
	.mover = &move_constant,
	.bodies = null_bodies,
	.worker_init = drive_epoll_init,
	.worker_run = drive_epoll_run,
	.worker_exit = drive_epoll_exit,
};
