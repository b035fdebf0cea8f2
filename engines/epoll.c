// SPDX-License-Identifier: MIT
/*
 * Engine epoll: readiness by edge-triggered epoll(7), bytes by pread(2) and sendmsg(2), or one
 * send(2) from a preformatted buffer with cache=memory. Linux 2.6.
 */
#include "copy.h"

static const struct opt_def options[] = {COMMON_OPTIONS, COPY_OPTIONS, {0}};

const struct engine engine_epoll = {
	.name = "epoll",
	.summary = "edge-triggered epoll; pread into a buffer and send, or send from memory",
	.since = "2.6",
	.driver = "epoll",
	.api = ENGINE_API,
	.sources = SOURCE_MEMORY | SOURCE_FILE,
	.conn_bytes = DRIVE_EPOLL_BYTES,
	.options = options,
	.mover = &move_copy,
	.bodies = copy_bodies,
	.worker_init = drive_epoll_init,
	.worker_run = drive_epoll_run,
	.worker_exit = drive_epoll_exit,
};
