// SPDX-License-Identifier: MIT
/* Pieces that several movers need. */
#include "engine.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

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
	if (x->iov_nr - x->iov_at == 1) {
		n = send(c->fd, x->iov[x->iov_at].iov_base, want, flags | MSG_NOSIGNAL);
	} else {
		struct msghdr msg = {.msg_iov = x->iov + x->iov_at,
				     .msg_iovlen = (size_t)(x->iov_nr - x->iov_at)};

		n = sendmsg(c->fd, &msg, flags | MSG_NOSIGNAL);
	}
	count_one(c->ctr, sys_send);
	if (n < 0) {
		count_add(c->ctr, eagain, errno == EAGAIN);
		return errno == EAGAIN ? MOVED_WANT_DST : -errno;
	}
	xfer_touch(c);
	xfer_advance_iov(c, (size_t)n);
	if ((size_t)n == want)
		return MOVED_ALL;
	count_one(c->ctr, short_moves);
	return MOVED_WANT_DST;
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
