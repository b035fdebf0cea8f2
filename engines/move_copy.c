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

static int copy_file(struct conn *c, char *buf, size_t size)
{
	size_t moved = 0;

	while (c->xfer.len) {
		ssize_t n = fill(c, buf, size);
		int res = n < 0 ? (int)n : send_with_body(c, buf, (size_t)n);

		if (res)
			return res == SENT_SHORT ? MOVED_WANT_DST : res;
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
