// SPDX-License-Identifier: MIT
/*
 * Engine msg_zerocopy: the head by a copying send(2), the body by send(2) with MSG_ZEROCOPY from a
 * mapping of the file: the kernel pins the pages and tells through the socket's error queue when
 * it is finished with them, and whether it copied them after all
 * (Documentation/networking/msg_zerocopy.rst). Readiness by epoll. Linux 4.14.
 *
 * Each send takes a reference on the body's lease and gives it back at the notification
 * (zc_errqueue.h). ENOBUFS means that there is no room for another notification: the send waits for
 * one instead of copying. Between sockets see msg_zerocopy_relay.c.
 */
#include "msg_zerocopy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	PART_MIN = 4096 /* bytes of the smallest send that is tried when there is no room */
};

static const struct opt_def options[] = {
	COMMON_OPTIONS,
	{.name = "buffer",
	 .type = OPT_SIZE,
	 .def = 64 << 10,
	 .min = 4096,
	 .max = 4 << 20,
	 .help = "sockets: bytes received at a time"},
	{.name = "buffers",
	 .type = OPT_INT,
	 .def = 32,
	 .min = 1,
	 .max = 1024,
	 .help = "sockets: buffers of a transfer that may wait for their notifications"},
	{0}};

static int zc_open(struct conn *c)
{
	int one = 1;

	if (c->carried) {
		*zc_of(c) = *(struct zc_sends *)c->carried;
		zc_sends_account(zc_of(c), NULL, c->ctr);
		free(c->carried);
		c->carried = NULL;
	}
	count_one(c->ctr, sys_other);
	return setsockopt(c->fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)) ? -errno : 0;
}

static unsigned zc_held(const struct conn *c)
{
	return zc_of(c)->nr;
}

/*
 * What a refused send has to wait for. ENOBUFS: the notifications outstanding fill optmem
 * (net.core.optmem_max, a socket's), or their pages RLIMIT_MEMLOCK (a user's, without
 * CAP_IPC_LOCK). The first end with this socket's own notifications; the second may be held by
 * other connections, workers and processes, and is asked for by the send as a whole: so the next
 * one is smaller.
 */
static int refused(struct conn *c, size_t part, int err)
{
	struct zc_mover *m = c->mover;

	count_add(c->ctr, eagain, err == EAGAIN);
	if (err == EAGAIN)
		return MOVED_WANT_DST;
	if (err == EINTR)
		return MOVED_TURN;
	if (err != ENOBUFS)
		return -err;
	if (zc_of(c)->nr)
		return MOVED_WANT_ZC;
	m->part_max = part / 2 > PART_MIN ? part / 2 : PART_MIN;
	return MOVED_WANT_ROOM;
}

/* One zero-copy send. enum moved with MOVED_TURN for "part of it went", or -errno. */
static int send_zc(struct conn *c)
{
	struct xfer *x = &c->xfer;
	const struct zc_mover *m = c->mover;
	size_t max = m->part_max ? m->part_max : TURN_BYTES;
	size_t part = x->len < max ? (size_t)x->len : max;
	int flags = MSG_NOSIGNAL | MSG_ZEROCOPY | (x->len > part ? hold_part_flag(c) : 0);
	ssize_t n = send(c->fd, x->mem, part, flags);

	count_one(c->ctr, sys_send);
	if (n < 0)
		return refused(c, part, errno);
	zc_sends_add(zc_of(c), c->ctr, (size_t)n, x->lease, NULL);
	count_add(c->ctr, short_moves, (size_t)n < part);
	xfer_touch(c);
	xfer_advance_body(c, (size_t)n);
	return x->len ? MOVED_TURN : MOVED_ALL;
}

/* Notifications first. MOVED_TURN when some have come already. */
static int wait_for_room(struct conn *c, int res)
{
	int reaped = zc_reap(c);

	if (reaped)
		return reaped < 0 ? reaped : MOVED_TURN;
	count_one(c->ctr, zc_waits);
	return res;
}

static int zc_body(struct conn *c)
{
	struct zc_mover *m = c->mover;
	struct xfer *x = &c->xfer;
	uint64_t stop = x->len > TURN_BYTES ? x->len - TURN_BYTES : 0;
	int res;

	do {
		res = mapping_intact(c, x->off + x->len);
		if (!res)
			res = zc_sends_reserve(zc_of(c));
		if (!res)
			res = send_zc(c);
		if (res == MOVED_WANT_ZC || res == MOVED_WANT_ROOM)
			res = wait_for_room(c, res);
	} while (res == MOVED_TURN && x->len > stop);
	if (res <= 0)
		m->part_max = 0;
	return res;
}

/* ---------------------------------------------------------------- the mover */

static int zc_move(struct conn *c)
{
	int res;

	if (c->xfer.nr_dst)
		return zc_relay_move(c);
	res = send_iov(c, c->xfer.len ? hold_flag(c) : 0);
	return res || !c->xfer.len ? res : zc_body(c);
}

static void zc_exit(struct conn *c)
{
	zc_relay_end(c->mover);
	/* After an abort the kernel keeps its own references to the pages it still holds. */
	zc_sends_drop(zc_of(c), c->ctr);
}

/*
 * Numbers and buffers go along. Leases of files stay with their worker, but a role that moves
 * connections serves no files.
 */
static void zc_pack(struct conn *c)
{
	struct zc_sends *copy = malloc(sizeof(*copy));

	if (!copy)
		return; /* the numbers are lost: the next notification ends the connection */
	*copy = *zc_of(c);
	zc_sends_account(copy, c->ctr, NULL);
	c->carried = copy;
	memset(zc_of(c), 0, sizeof(*copy));
}

static const struct mover move_zerocopy = {
	.open = zc_open,
	.exit = zc_exit,
	.move = zc_move,
	.reap = zc_reap,
	.held = zc_held,
	.pack = zc_pack,
};

static int zc_probe(const int64_t *opt, char reason[REASON_MAX])
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1, res = 0;

	if (fd < 0) {
		res = -errno;
		snprintf(reason, REASON_MAX, "a TCP socket cannot be opened (%s)%s", strerror(-res),
			 res == -EMFILE || res == -ENFILE
				 ? ": raise the limit of open files (ulimit -n)"
				 : "");
		return res;
	}
	if (setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one))) {
		res = -errno;
		snprintf(reason, REASON_MAX,
			 "needs Linux 4.14: SO_ZEROCOPY is refused for TCP sockets (%s)",
			 strerror(-res));
	}
	close(fd);
	return res;
}

static void zc_bodies(const int64_t *opt, struct body_policy *policy)
{
	policy->source = SOURCE_MAPPING;
}

const struct engine engine_msg_zerocopy = {
	.name = "msg_zerocopy",
	.summary = "epoll; head by send, body by MSG_ZEROCOPY from a mapping of the file",
	.since = "4.14",
	.driver = "epoll",
	.api = ENGINE_API,
	.sources = SOURCE_MAPPING | SOURCE_SOCKET | SOURCE_FANOUT,
	.conn_bytes = DRIVE_EPOLL_BYTES + sizeof(struct zc_mover),
	.options = options,
	.mover = &move_zerocopy,
	.probe = zc_probe,
	.bodies = zc_bodies,
	.worker_init = drive_epoll_init,
	.worker_run = drive_epoll_run,
	.worker_exit = drive_epoll_exit,
};
