// SPDX-License-Identifier: MIT
/*
 * Engine io_uring_sendfile: requests come in by completions (drive_ring.c: multishot receive, many
 * of them collected by one io_uring_enter(2)), bodies go out by sendfile(2) from the same loop. The
 * ring has no sendfile of its own: its splice always runs on a thread of io-wq (io_splice,
 * io_uring/splice.c), while sendfile(2) does its work here and now. So a response from the page
 * cache, or with its head from a memfd (cache=memory), is one system call, and no receive is.
 * A socket that is full is waited for by a poll of the ring. Linux 6.1.
 */
#include "ring.h"
#include "sendfile.h"

enum {
	OPT_RING = SENDFILE_OPTIONS_NR
};

static const struct opt_def options[] = {
	COMMON_OPTIONS, COPY_CACHE_OPTIONS, SENDFILE_OPTION, RING_OPTIONS, {0}};

static int start(struct conn *c)
{
	int res = sendfile_move(c);

	switch (res) {
	case MOVED_ALL:
		return RING_DONE;
	case MOVED_WANT_DST:
		return RING_ROOM;
	case MOVED_TURN:
		return RING_TURN;
	default:
		return res;
	}
}

static const struct ring_mover move_ring = {
	.nonblocking = true,
	.options_at = OPT_RING,
	.start = start,
};

static int sendfile_init(struct worker *w)
{
	return drive_ring_init(w, &move_ring);
}

static int check(const int64_t *opt, bool relays, char reason[REASON_MAX])
{
	return ring_mover_check(&move_ring, opt, reason);
}

static int probe(const int64_t *opt, char reason[REASON_MAX])
{
	return ring_mover_probe(&move_ring, opt, reason);
}

const struct engine engine_io_uring_sendfile = {
	.name = "io_uring_sendfile",
	.summary = "completion: multishot accept and receive; body by sendfile: page references "
		   "instead of copies",
	.since = "6.1",
	.driver = "completion",
	.api = ENGINE_API,
	.sources = SOURCE_MEMORY | SOURCE_FILE,
	.conn_bytes = RING_CONN_BYTES,
	.options = options,
	.check = check,
	.probe = probe,
	.bodies = sendfile_bodies,
	.worker_init = sendfile_init,
	.worker_run = drive_ring_run,
	.worker_exit = drive_ring_exit,
};
