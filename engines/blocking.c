// SPDX-License-Identifier: MIT
/*
 * Engine blocking: a thread per connection in plain blocking calls: recv(2), pread(2), sendmsg(2).
 * What servers did before readiness notification, and the yardstick for it. Any Linux.
 */
#include "copy.h"

static const struct opt_def options[] = {COMMON_OPTIONS, COPY_OPTIONS, {0}};

const struct engine engine_blocking = {
	.name = "blocking",
	.summary = "a thread per connection; blocking recv, pread into a buffer, send",
	.since = "any",
	.driver = "blocking",
	.api = ENGINE_API,
	.sources = SOURCE_MEMORY | SOURCE_FILE | SOURCE_SOCKET | SOURCE_FANOUT,
	.conn_bytes = DRIVE_BLOCKING_BYTES + sizeof(struct copy_conn),
	.options = options,
	.mover = &move_copy,
	.bodies = copy_bodies,
	.worker_init = drive_blocking_init,
	.worker_run = drive_blocking_run,
	.worker_exit = drive_blocking_exit,
};
