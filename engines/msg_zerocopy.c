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
 *
 * From socket to sockets: receive into a buffer, zero-copy send of it to each destination, however
 * small it is; the buffer lives until the last notification. A transfer has a bounded number of
 * them; beyond it sends go by copy, and are counted as such.
 */
#include "engine.h"

#include <linux/errqueue.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	OPT_BUFFER = COPT_NR,
	OPT_BUFFERS
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

/*
 * A buffer of a relay. Its transfer and its destinations may come to be on different workers, so
 * references are counted atomically.
 */
struct zc_buffer {
	_Atomic unsigned refs;
	struct zc_pool *pool;
	size_t len;
	char data[];
};

/* The buffers of one transfer, which may outlive it. */
struct zc_pool {
	_Atomic unsigned refs; /* the transfer's, and each buffer's */
};

/* Consecutive sends of one lease, or of one buffer. */
struct zc_range {
	uint32_t lo;  /* number of the first send */
	uint32_t nr;  /* sends in it */
	uint32_t out; /* of them, not yet notified */
	struct lease *lease;
	struct zc_buffer *buffer;
};

struct zc_conn {
	struct zc_range *range;
	uint32_t nr, cap;
	uint32_t next; /* number the kernel gives the next zero-copy send */
	uint32_t held; /* sends not yet notified */
};

struct zc_mover {
	struct zc_conn zc;	   /* of this socket as a destination */
	struct zc_pool *pool;	   /* of this socket as a source */
	struct zc_buffer *current; /* received, and not yet sent to everybody */
};

static struct zc_conn *zc_of(const struct conn *c)
{
	return &((struct zc_mover *)c->mover)->zc;
}

static int zc_open(struct conn *c)
{
	int one = 1;

	if (c->carried) {
		*zc_of(c) = *(struct zc_conn *)c->carried;
		free(c->carried);
		c->carried = NULL;
	}
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

static void pool_put(struct zc_pool *pool)
{
	if (atomic_fetch_sub(&pool->refs, 1) == 1)
		free(pool);
}

static void buffer_put(struct zc_buffer *buf)
{
	if (atomic_fetch_sub(&buf->refs, 1) != 1)
		return;
	pool_put(buf->pool);
	free(buf);
}

static void range_put(const struct zc_range *r)
{
	if (r->lease)
		lease_put(r->lease);
	else
		buffer_put(r->buffer);
}

/* Remembers a send; one of the two is NULL. */
static void hold(struct zc_conn *z, struct lease *lease, struct zc_buffer *buf)
{
	struct zc_range *last = z->nr ? &z->range[z->nr - 1] : NULL;

	if (last && last->lease == lease && last->buffer == buf && last->lo + last->nr == z->next) {
		last->nr++;
		last->out++;
	} else {
		if (lease)
			lease_get(lease);
		else
			atomic_fetch_add(&buf->refs, 1);
		z->range[z->nr++] = (struct zc_range){
			.lo = z->next, .nr = 1, .out = 1, .lease = lease, .buffer = buf};
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
			range_put(r);
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
	hold(z, x->lease, NULL);
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

/* ---------------------------------------------------------------- socket to sockets */

static void end_relay(struct zc_mover *m)
{
	if (m->current)
		buffer_put(m->current);
	if (m->pool)
		pool_put(m->pool);
	m->current = NULL;
	m->pool = NULL;
}

/* Collects what has come for any destination; notifications, or 0. */
static int reap_dsts(struct conn *c)
{
	int sum = 0, res;

	for (unsigned i = 0; i < c->xfer.nr_dst; i++) {
		if (!xfer_dst_lives(&c->xfer.dst[i]))
			continue;
		res = zc_reap(c->xfer.dst[i].c);
		if (res < 0)
			xfer_fail_dst(&c->xfer, i, res);
		else
			sum += res;
	}
	return sum;
}

static struct zc_buffer *new_buffer(struct conn *c, struct zc_mover *m)
{
	struct zc_buffer *buf = malloc(sizeof(*buf) + (size_t)c->w->opt[OPT_BUFFER]);

	if (!buf)
		return NULL;
	atomic_init(&buf->refs, 1);
	buf->pool = m->pool;
	atomic_fetch_add(&m->pool->refs, 1);
	return buf;
}

static bool full(const struct conn *c, const struct zc_mover *m)
{
	return atomic_load(&m->pool->refs) > (unsigned)c->w->opt[OPT_BUFFERS];
}

/* What receive_buffer() says beside -errno; MOVED_WANT_SRC is passed on. */
enum {
	RECEIVED = 0,
	RECEIVED_EOF = 100
};

static int receive_buffer(struct conn *c, struct zc_mover *m)
{
	struct xfer *x = &c->xfer;
	size_t size = (size_t)c->w->opt[OPT_BUFFER];
	struct zc_buffer *buf;
	ssize_t n;
	int res = RECEIVED;

	buf = new_buffer(c, m);
	if (!buf)
		return -ENOMEM;
	n = recv(c->fd, buf->data, x->len < size ? (size_t)x->len : size, 0);
	count_one(c->ctr, sys_recv);
	if (n > 0) {
		buf->len = (size_t)n;
		m->current = buf;
		return RECEIVED;
	}
	if (n == 0)
		res = x->len == XFER_TO_EOF ? RECEIVED_EOF : -EPIPE;
	else if (errno == EAGAIN)
		res = MOVED_WANT_SRC;
	else
		res = -errno;
	count_add(c->ctr, eagain, res == MOVED_WANT_SRC);
	buffer_put(buf);
	return res;
}

/*
 * How the next send goes: by copy when the buffers of the transfer, or the kernel's room for
 * notifications, are used up. To wait instead could take for ever: received skbs are freed in
 * batches by the processor that allocated them, when it next receives anything
 * (skb_attempt_defer_free, net/core/skbuff.c), and on loopback that may be this very transfer.
 */
static ssize_t send_some(struct conn *c, const struct conn *to, const char *at, size_t len,
			 bool *zerocopy)
{
	ssize_t n = -1;

	*zerocopy = !full(c, c->mover) || reap_dsts(c);
	if (*zerocopy)
		n = send(to->fd, at, len, MSG_NOSIGNAL | MSG_ZEROCOPY);
	if (*zerocopy && n < 0 && errno == ENOBUFS)
		*zerocopy = false;
	else if (*zerocopy)
		return n;
	count_one(c->ctr, zc_waived);
	return send(to->fd, at, len, MSG_NOSIGNAL);
}

/* The rest of the current buffer to destination i. MOVED_ALL also when it is lost. */
static int send_zc_to(struct conn *c, struct zc_buffer *buf, unsigned i)
{
	struct xfer_dst *d = &c->xfer.dst[i];
	struct zc_conn *z = zc_of(d->c);
	bool zerocopy;
	ssize_t n;
	int res = reserve(z);

	if (res) {
		xfer_fail_dst(&c->xfer, i, res);
		return MOVED_ALL;
	}
	n = send_some(c, d->c, buf->data + d->at, buf->len - d->at, &zerocopy);
	count_one(c->ctr, sys_send);
	if (n < 0) {
		count_add(c->ctr, eagain, errno == EAGAIN);
		if (errno != EAGAIN)
			xfer_fail_dst(&c->xfer, i, -errno);
		return errno == EAGAIN ? MOVED_WANT_DST : MOVED_ALL;
	}
	if (zerocopy) {
		hold(z, NULL, buf);
		count_one(c->ctr, zc_sends);
	}
	d->at += (uint32_t)n;
	xfer_count(c, (size_t)n);
	xfer_touch(c);
	count_add(c->ctr, short_moves, d->at < buf->len);
	return d->at < buf->len ? MOVED_TURN : MOVED_ALL;
}

static int send_current(struct conn *c, struct zc_mover *m)
{
	struct xfer *x = &c->xfer;
	int res = MOVED_ALL, one;

	for (unsigned i = 0; i < x->nr_dst; i++) {
		if (!xfer_dst_lives(&x->dst[i]) || x->dst[i].at == m->current->len)
			continue;
		do
			one = send_zc_to(c, m->current, i);
		while (one == MOVED_TURN);
		if (one != MOVED_ALL)
			res = one;
	}
	if (!xfer_live(x))
		return -EPIPE;
	if (res != MOVED_ALL)
		return res;
	for (unsigned i = 0; i < x->nr_dst; i++)
		x->dst[i].at = 0;
	xfer_skip_body(c, m->current->len);
	buffer_put(m->current);
	m->current = NULL;
	return MOVED_ALL;
}

static int relay_body(struct conn *c, struct zc_mover *m)
{
	size_t moved = 0;
	int res;

	if (!m->pool) {
		m->pool = malloc(sizeof(*m->pool));
		if (!m->pool)
			return -ENOMEM;
		atomic_init(&m->pool->refs, 1);
	}
	while (c->xfer.len || m->current) {
		res = m->current ? RECEIVED : receive_buffer(c, m);
		if (res)
			return res == RECEIVED_EOF ? MOVED_ALL : res;
		moved += m->current->len;
		res = send_current(c, m);
		if (res)
			return res;
		if (moved >= TURN_BYTES && c->xfer.len)
			return MOVED_TURN;
	}
	return MOVED_ALL;
}

static int relay_move(struct conn *c)
{
	struct zc_mover *m = c->mover;
	int res = send_iov(c, 0);

	if (!res && !xfer_live(&c->xfer))
		res = -EPIPE;
	if (!res && c->xfer.len)
		res = relay_body(c, m);
	if (res <= 0)
		end_relay(m);
	return res;
}

/* ---------------------------------------------------------------- the mover */

static int zc_move(struct conn *c)
{
	int res;

	if (c->xfer.nr_dst)
		return relay_move(c);
	res = send_iov(c, c->xfer.len ? MSG_MORE : 0);
	return res || !c->xfer.len ? res : zc_body(c);
}

static void zc_exit(struct conn *c)
{
	struct zc_conn *z = zc_of(c);

	end_relay(c->mover);
	/* After an abort the kernel keeps its own references to the pages it still holds. */
	for (uint32_t i = 0; i < z->nr; i++)
		range_put(&z->range[i]);
	free(z->range);
	memset(z, 0, sizeof(*z));
}

/*
 * Numbers and buffers go along. Leases of files stay with their worker, but a role that moves
 * connections serves no files.
 */
static void zc_pack(struct conn *c)
{
	struct zc_conn *copy = malloc(sizeof(*copy));

	if (!copy)
		return; /* the numbers are lost: the next notification ends the connection */
	*copy = *zc_of(c);
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
