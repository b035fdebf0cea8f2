// SPDX-License-Identifier: MIT
/*
 * Engine io_uring: completion (drive_ring.c), one send a response. Files are read into a buffer by
 * the ring, the send linked behind the read; with cache=memory small ones are sent from a
 * preformatted buffer. Linux 6.1.
 */
#include "copy.h"
#include "ring.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
	OP_SEND,
	OP_READ
};

struct ur_move {
	char *buf;   /* of the file part in flight */
	size_t part; /* bytes of it */
	int error;   /* of a read that its linked send has not followed yet */
	struct msghdr msg;
	struct iovec iov[XFER_IOV + 1];
};

static const struct opt_def options[] = {COMMON_OPTIONS, COPY_OPTIONS, {0}};

static void send_memory(struct conn *c, struct ur_move *m)
{
	struct xfer *x = &c->xfer;
	struct io_uring_sqe *sqe = ring_move_sqe(c);

	/* MSG_WAITALL: the ring goes on after a short send by itself (Linux 5.19) */
	if (x->iov_nr - x->iov_at == 1) {
		io_uring_prep_send(sqe, c->fd, x->iov[x->iov_at].iov_base,
				   x->iov[x->iov_at].iov_len, MSG_NOSIGNAL | MSG_WAITALL);
	} else {
		m->msg = (struct msghdr){.msg_iov = x->iov + x->iov_at,
					 .msg_iovlen = (size_t)(x->iov_nr - x->iov_at)};
		io_uring_prep_sendmsg(sqe, c->fd, &m->msg, MSG_NOSIGNAL | MSG_WAITALL);
	}
	ring_move_tag(c, sqe, OP_SEND);
}

/* A part of the file into the buffer, the send linked: a short read breaks the link. */
static int send_file(struct conn *c, struct ur_move *m)
{
	struct xfer *x = &c->xfer;
	size_t size = (size_t)c->w->opt[COPT_COPY_BUFFER];
	size_t nr = (size_t)(x->iov_nr - x->iov_at);
	struct io_uring_sqe *sqe;

	m->part = x->len < size ? (size_t)x->len : size;
	if (!m->buf)
		m->buf = malloc(m->part);
	if (!m->buf)
		return -ENOMEM;
	m->error = 0;
	sqe = ring_move_sqe(c);
	io_uring_prep_read(sqe, x->file_fd, m->buf, (unsigned)m->part, x->off);
	sqe->flags |= IOSQE_IO_LINK;
	ring_move_tag(c, sqe, OP_READ);
	memcpy(m->iov, x->iov + x->iov_at, nr * sizeof(*m->iov));
	m->iov[nr] = (struct iovec){.iov_base = m->buf, .iov_len = m->part};
	m->msg = (struct msghdr){.msg_iov = m->iov, .msg_iovlen = nr + 1};
	sqe = ring_move_sqe(c);
	io_uring_prep_sendmsg(sqe, c->fd, &m->msg,
			      MSG_NOSIGNAL | MSG_WAITALL | (x->len > m->part ? MSG_MORE : 0));
	ring_move_tag(c, sqe, OP_SEND);
	return 0;
}

static int start(struct conn *c)
{
	struct ur_move *m = ring_mover_priv(c);

	if (c->xfer.src == SOURCE_FILE && c->xfer.len)
		return send_file(c, m);
	send_memory(c, m);
	return 0;
}

static int read_completed(struct ur_move *m, int res)
{
	if (res < 0)
		m->error = res;
	else if ((size_t)res < m->part)
		m->error = -EPIPE; /* the file became shorter */
	return RING_PENDING;
}

static int send_completed(struct conn *c, struct ur_move *m, int res)
{
	struct xfer *x = &c->xfer;
	size_t head = xfer_iov_bytes(x);

	if (res < 0)
		return res == -ECANCELED && m->error ? m->error : res;
	xfer_touch(c);
	xfer_advance_iov(c, (size_t)res < head ? (size_t)res : head);
	if ((size_t)res > head)
		xfer_advance_body(c, (size_t)res - head);
	if (!xfer_has_iov(x) && !x->len)
		return 0;
	if (x->src != SOURCE_FILE || (size_t)res < head + m->part)
		count_one(c->ctr, short_moves);
	return RING_PART;
}

static int completed(struct conn *c, unsigned op, int res)
{
	struct ur_move *m = ring_mover_priv(c);

	return op == OP_READ ? read_completed(m, res) : send_completed(c, m, res);
}

static void release(struct conn *c)
{
	struct ur_move *m = ring_mover_priv(c);

	free(m->buf);
	m->buf = NULL;
}

static const struct ring_mover move_ring = {
	.start = start,
	.completed = completed,
	.release = release,
};

static int ur_init(struct worker *w)
{
	return drive_ring_init(w, &move_ring);
}

const struct engine engine_io_uring = {
	.name = "io_uring",
	.summary = "completion: multishot accept and receive, batched submission, linked read and "
		   "send",
	.since = "6.1",
	.driver = "completion",
	.api = ENGINE_API,
	.sources = SOURCE_MEMORY | SOURCE_FILE,
	.conn_bytes = RING_CONN_BYTES + sizeof(struct ur_move),
	.options = options,
	.probe = ring_probe,
	.bodies = copy_bodies,
	.worker_init = ur_init,
	.worker_run = drive_ring_run,
	.worker_exit = drive_ring_exit,
};
