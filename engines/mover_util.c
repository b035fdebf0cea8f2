// SPDX-License-Identifier: MIT
/* Pieces that several movers need. */
#include "engine.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* One sendmsg(2) of what lies behind the first `skip` bytes of iov; result as sendmsg. */
static ssize_t send_from(struct conn *c, const struct conn *to, size_t skip, int flags)
{
	struct xfer *x = &c->xfer;
	struct iovec iov[XFER_IOV];
	struct msghdr msg = {.msg_iov = iov};
	ssize_t n;

	for (unsigned i = x->iov_at; i < x->iov_nr; i++) {
		struct iovec v = x->iov[i];
		size_t cut = skip < v.iov_len ? skip : v.iov_len;

		skip -= cut;
		v.iov_base = (char *)v.iov_base + cut;
		v.iov_len -= cut;
		if (v.iov_len)
			iov[msg.msg_iovlen++] = v;
	}
	n = sendmsg(to->fd, &msg, flags | MSG_NOSIGNAL);
	count_one(c->ctr, sys_send);
	return n;
}

/* What a failed send means to its destination. */
static enum moved dst_refused(struct conn *c, unsigned i, int err)
{
	if (err == EAGAIN) {
		count_one(c->ctr, eagain);
		return MOVED_WANT_DST;
	}
	if (err == EINTR)
		return MOVED_TURN;
	xfer_fail_dst(&c->xfer, i, -err);
	return MOVED_ALL;
}

/*
 * A round: `total` bytes to each destination that lives, by `send`, from where it stands. Another
 * call goes on with those that did not get all of it.
 */
static int round_to_all(struct conn *c, size_t total, int flags, const void *arg,
			ssize_t (*send_part)(struct conn *c, const struct conn *to, size_t skip,
					     size_t total, int flags, const void *arg))
{
	struct xfer *x = &c->xfer;
	int res = MOVED_ALL;

	for (unsigned i = 0; i < x->nr_dst; i++) {
		struct xfer_dst *d = &x->dst[i];
		ssize_t n;
		int one;

		if (!xfer_dst_lives(d) || d->at == total)
			continue;
		n = send_part(c, d->c, d->at, total, flags, arg);
		if (n < 0) {
			one = dst_refused(c, i, errno);
		} else {
			d->at += (uint32_t)n;
			xfer_count(c, (size_t)n);
			xfer_touch(c);
			one = d->at == total ? MOVED_ALL : MOVED_WANT_DST;
			count_add(c->ctr, short_moves, one != MOVED_ALL);
		}
		if (one != MOVED_ALL && res != MOVED_TURN)
			res = one;
	}
	if (!xfer_live(x))
		return -EPIPE;
	for (unsigned i = 0; res == MOVED_ALL && i < x->nr_dst; i++)
		x->dst[i].at = 0;
	return res;
}

static ssize_t send_iov_part(struct conn *c, const struct conn *to, size_t skip, size_t total,
			     int flags, const void *arg)
{
	return send_from(c, to, skip, flags);
}

static ssize_t send_buf_part(struct conn *c, const struct conn *to, size_t skip, size_t total,
			     int flags, const void *arg)
{
	ssize_t n = send(to->fd, (const char *)arg + skip, total - skip, flags | MSG_NOSIGNAL);

	count_one(c->ctr, sys_send);
	return n;
}

int send_round(struct conn *c, const char *buf, size_t len, int flags)
{
	return round_to_all(c, len, flags, buf, send_buf_part);
}

/* What a failed send to the connection's own socket means. enum moved, or -errno. */
static int own_refused(struct conn *c, int err)
{
	count_add(c->ctr, eagain, err == EAGAIN);
	return err == EAGAIN ? MOVED_WANT_DST : err == EINTR ? MOVED_TURN : -err;
}

/*
 * A short send on a non-blocking TCP socket has met a full buffer and armed SOCK_NOSPACE, so an
 * EPOLLOUT edge will follow without another try (tcp_sendmsg_locked, net/ipv4/tcp.c).
 */
int send_iov(struct conn *c, int flags)
{
	struct xfer *x = &c->xfer;
	size_t want;
	ssize_t n;

	if (!xfer_has_iov(x))
		return MOVED_ALL;
	want = xfer_iov_bytes(x);
	if (x->nr_dst) {
		int res = round_to_all(c, want, flags, NULL, send_iov_part);

		if (res == MOVED_ALL)
			xfer_skip_iov(x, want);
		return res;
	}
	if (x->iov_nr - x->iov_at == 1) {
		n = send(c->fd, x->iov[x->iov_at].iov_base, want, flags | MSG_NOSIGNAL);
		count_one(c->ctr, sys_send);
	} else {
		n = send_from(c, c, 0, flags);
	}
	if (n < 0)
		return own_refused(c, errno);
	xfer_touch(c);
	xfer_advance_iov(c, (size_t)n);
	if ((size_t)n == want)
		return MOVED_ALL;
	count_one(c->ctr, short_moves);
	return MOVED_WANT_DST;
}

int send_with_body(struct conn *c, const void *body, size_t len)
{
	struct xfer *x = &c->xfer;
	struct iovec iov[XFER_IOV + 1];
	size_t nr = (size_t)(x->iov_nr - x->iov_at), want = xfer_iov_bytes(x) + len;
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = nr + 1};
	ssize_t n;

	memcpy(iov, x->iov + x->iov_at, nr * sizeof(*iov));
	iov[nr] = (struct iovec){.iov_base = (char *)(uintptr_t)body, .iov_len = len};
	n = sendmsg(c->fd, &msg, MSG_NOSIGNAL | (x->len > len ? hold_part_flag(c) : 0));
	count_one(c->ctr, sys_send);
	if (n < 0)
		return own_refused(c, errno);
	xfer_touch(c);
	xfer_advance(c, (size_t)n);
	if ((size_t)n == want)
		return MOVED_ALL;
	count_one(c->ctr, short_moves);
	return SENT_SHORT;
}

const char *const hold_values[] = {"more", "cork", "none", NULL};

void xfer_cork(struct conn *c, bool on)
{
	int value = on;

	if (c->w->opt[COPT_HOLD] != HOLD_CORK || c->xfer.nr_dst || c->xfer.src == SOURCE_NONE)
		return;
	setsockopt(c->fd, IPPROTO_TCP, TCP_CORK, &value, sizeof(value));
	count_one(c->ctr, sys_other);
}

void xfer_shut_dsts(struct conn *c)
{
	struct xfer *x = &c->xfer;

	for (unsigned i = 0; x->shut_dst && i < x->nr_dst; i++) {
		if (!xfer_dst_lives(&x->dst[i]))
			continue;
		shutdown(x->dst[i].c->fd, SHUT_WR);
		count_one(c->ctr, sys_other);
	}
}

int outgoing_socket(struct conn *c, int flags)
{
	int one = 1, nodelay = (int)c->w->opt[COPT_NODELAY], sndbuf = (int)c->w->opt[COPT_SNDBUF];
	int fd = socket(c->addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	count_one(c->ctr, sys_other);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, sizeof(nodelay)) ||
	    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one)) ||
	    (sndbuf && setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof(sndbuf)))) {
		int err = errno;

		close(fd);
		return -err;
	}
	count_add(c->ctr, sys_other, 2 + (sndbuf != 0));
	return fd;
}

/*
 * Pages of a mapping beyond the end of a file that became shorter fail with EFAULT when the kernel
 * reads them, but the rest of its last page reads as zeros (mmap(2)): without this check a cut
 * file would be delivered with zeros and look whole.
 */
int mapping_intact(struct conn *c, uint64_t end_off)
{
	struct stat st;

	count_one(c->ctr, sys_other);
	if (fstat(c->xfer.file_fd, &st))
		return -errno;
	return (uint64_t)st.st_size >= end_off ? 0 : -EPIPE;
}
