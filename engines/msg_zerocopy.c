// SPDX-License-Identifier: MIT
/*
 * Engine msg_zerocopy: the head by a copying send(2), the body by send(2) with MSG_ZEROCOPY from a
 * mapping of the file: the kernel pins the pages and tells through the socket's error queue when
 * it is finished with them, and whether it copied them after all
 * (Documentation/networking/msg_zerocopy.rst). Readiness by epoll. Linux 4.14.
 *
 * Each send takes a reference on the body's lease and gives it back at the notification. Numbers of
 * sends are counted by the kernel per socket from 0; one notification covers a range of them, and
 * ranges may come out of order. ENOBUFS means that the notifications outstanding fill optmem: the
 * send waits for one of them instead of copying.
 */
#include "engine.h"

#include <linux/errqueue.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct opt_def options[] = {COMMON_OPTIONS, {0}};

/* Consecutive sends of one lease. */
struct zc_range {
	uint32_t lo;  /* number of the first send */
	uint32_t nr;  /* sends in it */
	uint32_t out; /* of them, not yet notified */
	struct lease *lease;
};

struct zc_conn {
	struct zc_range *range;
	uint32_t nr, cap;
	uint32_t next; /* number the kernel gives the next zero-copy send */
	uint32_t held; /* sends not yet notified */
};

static struct zc_conn *zc_of(const struct conn *c)
{
	return c->mover;
}

static int zc_open(struct conn *c)
{
	int one = 1;

	count_one(c->ctr, sys_other);
	return setsockopt(c->fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)) ? -errno : 0;
}

/* Makes room for one more range before the send, so that a send is never without its lease. */
static int reserve(struct zc_conn *z)
{
	uint32_t cap = z->cap ? z->cap * 2 : 8;
	struct zc_range *more;

	if (z->nr < z->cap)
		return 0;
	more = realloc(z->range, cap * sizeof(*more));
	if (!more)
		return -ENOMEM;
	z->range = more;
	z->cap = cap;
	return 0;
}

static void hold(struct zc_conn *z, struct lease *lease)
{
	struct zc_range *last = z->nr ? &z->range[z->nr - 1] : NULL;

	if (last && last->lease == lease && last->lo + last->nr == z->next) {
		last->nr++;
		last->out++;
	} else {
		lease_get(lease);
		z->range[z->nr++] =
			(struct zc_range){.lo = z->next, .nr = 1, .out = 1, .lease = lease};
	}
	z->next++;
	z->held++;
}

/* The kernel is finished with sends lo..hi, both included; numbers wrap around. */
static void release(struct zc_conn *z, uint32_t lo, uint32_t hi)
{
	uint32_t keep = 0;

	for (uint32_t i = 0; i < z->nr; i++) {
		struct zc_range *r = &z->range[i];
		uint32_t last = r->lo + r->nr - 1;
		uint32_t from = (int32_t)(lo - r->lo) > 0 ? lo : r->lo;
		uint32_t to = (int32_t)(hi - last) < 0 ? hi : last;

		if ((int32_t)(to - from) >= 0) {
			r->out -= to - from + 1;
			z->held -= to - from + 1;
		}
		if (r->out)
			z->range[keep++] = *r;
		else
			lease_put(r->lease);
	}
	z->nr = keep;
}

/* One message of the error queue. Sends notified, 0 when it is empty, or -errno. */
static int reap_one(struct conn *c)
{
	char control[CMSG_SPACE(sizeof(struct sock_extended_err) + sizeof(struct sockaddr_in6))];
	struct msghdr msg = {.msg_control = control, .msg_controllen = sizeof(control)};
	struct sock_extended_err err;
	struct cmsghdr *cm;
	uint32_t nr;

	count_one(c->ctr, sys_recv);
	if (recvmsg(c->fd, &msg, MSG_ERRQUEUE) < 0)
		return errno == EAGAIN ? 0 : -errno;
	cm = CMSG_FIRSTHDR(&msg);
	if (!cm)
		return -EPROTO;
	memcpy(&err, CMSG_DATA(cm), sizeof(err));
	if (err.ee_origin != SO_EE_ORIGIN_ZEROCOPY)
		return err.ee_errno ? -(int)err.ee_errno : -EPROTO;
	nr = err.ee_data - err.ee_info + 1;
	count_add(c->ctr, zc_notified, nr);
	if (err.ee_code & SO_EE_CODE_ZEROCOPY_COPIED)
		count_add(c->ctr, zc_copied, nr);
	release(zc_of(c), err.ee_info, err.ee_data);
	return (int)nr;
}

static int zc_reap(struct conn *c)
{
	int sum = 0, res;

	while (zc_of(c)->held && (res = reap_one(c)) != 0) {
		if (res < 0)
			return res;
		sum += res;
	}
	return sum;
}

static unsigned zc_held(const struct conn *c)
{
	return zc_of(c)->held;
}

/* One zero-copy send. enum moved with MOVED_TURN for "part of it went", or -errno. */
static int send_zc(struct conn *c)
{
	struct xfer *x = &c->xfer;
	struct zc_conn *z = zc_of(c);
	size_t part = x->len < TURN_BYTES ? (size_t)x->len : TURN_BYTES;
	int flags = MSG_NOSIGNAL | MSG_ZEROCOPY | (x->len > part ? MSG_MORE : 0);
	ssize_t n = send(c->fd, x->mem, part, flags);

	count_one(c->ctr, sys_send);
	if (n < 0 && errno == EAGAIN) {
		count_one(c->ctr, eagain);
		return MOVED_WANT_DST;
	}
	if (n < 0)
		return errno == ENOBUFS && z->held ? MOVED_WANT_ZC : -errno;
	hold(z, x->lease);
	count_one(c->ctr, zc_sends);
	count_add(c->ctr, short_moves, (size_t)n < part);
	xfer_touch(c);
	xfer_advance_body(c, (size_t)n);
	return x->len ? MOVED_TURN : MOVED_ALL;
}

static int zc_body(struct conn *c)
{
	struct xfer *x = &c->xfer;
	uint64_t stop = x->len > TURN_BYTES ? x->len - TURN_BYTES : 0;
	int res;

	do {
		res = mapping_intact(c, x->off + x->len);
		if (!res)
			res = reserve(zc_of(c));
		if (!res)
			res = send_zc(c);
		if (res == MOVED_WANT_ZC && zc_reap(c) > 0)
			res = MOVED_TURN;
	} while (res == MOVED_TURN && x->len > stop);
	return res;
}

static int zc_move(struct conn *c)
{
	int res = send_iov(c, c->xfer.len ? MSG_MORE : 0);

	return res || !c->xfer.len ? res : zc_body(c);
}

static void zc_exit(struct conn *c)
{
	struct zc_conn *z = zc_of(c);

	/* After an abort the kernel keeps its own references to the pages it still holds. */
	for (uint32_t i = 0; i < z->nr; i++)
		lease_put(z->range[i].lease);
	free(z->range);
	memset(z, 0, sizeof(*z));
}

static const struct mover move_zerocopy = {
	.open = zc_open,
	.exit = zc_exit,
	.move = zc_move,
	.reap = zc_reap,
	.held = zc_held,
};

static int zc_probe(const int64_t *opt, char reason[REASON_MAX])
{
	int one = 1, res = 0;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one))) {
		res = -errno;
		strcpy(reason, "needs Linux 4.14: SO_ZEROCOPY is refused for TCP sockets");
	}
	if (fd >= 0)
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
	.sources = SOURCE_MAPPING,
	.conn_bytes = DRIVE_EPOLL_BYTES + sizeof(struct zc_conn),
	.options = options,
	.mover = &move_zerocopy,
	.probe = zc_probe,
	.bodies = zc_bodies,
	.worker_init = drive_epoll_init,
	.worker_run = drive_epoll_run,
	.worker_exit = drive_epoll_exit,
};
