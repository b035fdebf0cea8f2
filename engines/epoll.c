// SPDX-License-Identifier: MIT
/*
 * Engine epoll: readiness by epoll(7), bytes by pread(2) and sendmsg(2), or one
 * send(2) from a preformatted buffer with cache=memory. Sockets to sockets by recv(2) and send(2).
 * Linux 2.6.
 */
#include "copy.h"

enum {
	OPT_POLICY = COPT_COPY_NR,
	OPT_THRESHOLD,
	OPT_EDGE,
	OPT_BUSY_POLL
};

static const struct opt_def options[] = {
	COMMON_OPTIONS,
	COPY_OPTIONS,
	POLICY_OPTIONS,
	{.name = "edge",
	 .type = OPT_BOOL,
	 .def = 1,
	 .max = 1,
	 .help = "edge-triggered, each socket registered once; off: level-triggered (epoll(7))"},
	{.name = "busy_poll",
	 .type = OPT_INT,
	 .max = 1000000,
	 .help = "microseconds to look for events again and again before sleeping; uses the CPU "
		 "up, saves wake-ups"},
	{0}};

static int epoll_move(struct conn *c)
{
	struct copy_conn *cc = c->mover;

	if (c->xfer.src == SOURCE_SOCKET && policy_buffers(c, OPT_POLICY))
		return queue_move(c, &cc->queue, QUEUE_CHUNKS, QUEUE_CHUNK_BYTES);
	return move_copy.move(c);
}

static void epoll_exit(struct conn *c)
{
	move_copy.exit(c);
}

static const struct mover mover = {.move = epoll_move, .exit = epoll_exit};

static int epoll_init(struct worker *w)
{
	int res = drive_epoll_init(w);

	if (!res)
		drive_epoll_tune(w, w->opt[OPT_EDGE], (uint64_t)w->opt[OPT_BUSY_POLL] * 1000);
	return res;
}

const struct engine engine_epoll = {
	.name = "epoll",
	.summary = "epoll; pread into a buffer and send, or send from memory",
	.since = "2.6",
	.driver = "epoll",
	.api = ENGINE_API,
	.sources = SOURCE_MEMORY | SOURCE_FILE | SOURCE_SOCKET | SOURCE_FANOUT,
	.conn_bytes = DRIVE_EPOLL_BYTES + sizeof(struct copy_conn),
	.options = options,
	.mover = &mover,
	.bodies = copy_bodies,
	.worker_init = epoll_init,
	.worker_run = drive_epoll_run,
	.worker_exit = drive_epoll_exit,
};
