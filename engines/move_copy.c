// SPDX-License-Identifier: MIT
/*
 * Mover: copy. A file body is read into a buffer with pread(2) and sent from there, its head in the
 * same sendmsg(2); memory bodies are sent as they are. Two copies a byte: page cache to buffer,
 * buffer to socket. What the socket refuses is read again later, so that a waiting connection
 * holds no buffer. From socket to socket it goes through a queue of one chunk (queue.c), which is
 * kept while a destination refuses part of it, because the source cannot be read again.
 */
#include "copy.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Reads the next part of the body; bytes read, -EPIPE when the file became shorter. */
static ssize_t fill(struct conn *c, char *buf, size_t size)
{
	struct xfer *x = &c->xfer;
	size_t want = x->len < size ? (size_t)x->len : size;
	ssize_t n = pread(x->file_fd, buf, want, (off_t)x->off);

	count_one(c->ctr, sys_pread);
	if (n < 0)
		return -errno;
	return n ? n : -EPIPE;
}

/* Sends what is left of iov[] and n bytes of buf behind it; enum moved as move() or -errno. */
static int send_both(struct conn *c, char *buf, size_t n)
{
	struct xfer *x = &c->xfer;
	struct iovec iov[XFER_IOV + 1];
	size_t nr = (size_t)(x->iov_nr - x->iov_at), head = xfer_iov_bytes(x);
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = nr + 1};
	ssize_t sent;

	memcpy(iov, x->iov + x->iov_at, nr * sizeof(*iov));
	iov[nr] = (struct iovec){.iov_base = buf, .iov_len = n};
	sent = sendmsg(c->fd, &msg, MSG_NOSIGNAL | (x->len > n ? hold_part_flag(c) : 0));
	count_one(c->ctr, sys_send);
	if (sent < 0) {
		count_add(c->ctr, eagain, errno == EAGAIN);
		return errno == EAGAIN ? MOVED_WANT_DST : errno == EINTR ? MOVED_TURN : -errno;
	}
	xfer_touch(c);
	xfer_advance_iov(c, (size_t)sent < head ? (size_t)sent : head);
	if ((size_t)sent > head)
		xfer_advance_body(c, (size_t)sent - head);
	if ((size_t)sent < head + n) {
		count_one(c->ctr, short_moves);
		return MOVED_WANT_DST;
	}
	return MOVED_ALL;
}

static int copy_file(struct conn *c, char *buf, size_t size)
{
	size_t moved = 0;

	while (c->xfer.len) {
		ssize_t n = fill(c, buf, size);
		int res = n < 0 ? (int)n : send_both(c, buf, (size_t)n);

		if (res)
			return res;
		moved += (size_t)n;
		if (moved >= TURN_BYTES && c->xfer.len)
			return MOVED_TURN;
	}
	return MOVED_ALL;
}

static int copy_move(struct conn *c)
{
	size_t size = (size_t)c->w->opt[COPT_COPY_BUFFER];
	struct copy_conn *cc = c->mover;
	char *buf;
	int res;

	if (c->xfer.src == SOURCE_SOCKET)
		return queue_move(c, &cc->queue, 1, size);
	if (c->xfer.src != SOURCE_FILE)
		return send_iov(c, 0);
	/* From the heap, not per connection: an idle connection keeps nothing. */
	buf = malloc(size);
	if (!buf)
		return -ENOMEM;
	res = copy_file(c, buf, size);
	free(buf);
	return res;
}

static void copy_exit(struct conn *c)
{
	struct copy_conn *cc = c->mover;

	queue_drop(&cc->queue);
}

const struct mover move_copy = {.move = copy_move, .exit = copy_exit};

void copy_bodies(const int64_t *opt, struct body_policy *policy)
{
	policy->source = SOURCE_FILE;
	policy->memory_limit_bytes = opt[COPT_COPY_CACHE] ? (size_t)opt[COPT_COPY_LIMIT] : 0;
}

const char *const copy_cache_values[] = {"none", "memory", NULL};
