// SPDX-License-Identifier: MIT
/*
 * Engine io_uring: completion (drive_ring.c), one send a response. Files are read into a buffer by
 * the ring, the send linked behind the read; with cache=memory small ones are sent from a
 * preformatted buffer. From socket to sockets a receive into one buffer is in flight while the
 * other buffer is being sent. Linux 6.1.
 */
#include "copy.h"
#include "ring_memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
	OP_SEND,
	OP_READ,
	OP_RECV_PART,
	OP_SEND_PART,
	OP_SEND_IOV
};

/* A transfer from a socket. Buffers are on the heap, and only while it runs. */
struct ur_relay {
	char *in, *out;	     /* being received into, or received; being sent */
	size_t got, sending; /* bytes of in, and of out */
	uint16_t nr_sends;   /* in flight */
	bool receiving;
	bool eof;
	int error;
};

struct ur_move {
	struct ur_relay relay;
	char *buf;	  /* of the file part in flight */
	size_t buf_bytes; /* it has */
	size_t part;	  /* bytes of the part */
	int error;	  /* of a read that its linked send has not followed yet */
	bool waits;	  /* the socket was full: the send in flight waits for room */
	struct msghdr msg;
	struct iovec iov[XFER_IOV + 1];
};

/* Positions of the options below, behind those that engines share. */
enum {
	OPT_BUNDLE = COPT_COPY_NR,
	OPT_QUIET,
	OPT_FIXED_BUFFERS,
	OPT_RING
};

static const struct opt_def options[] = {
	COMMON_OPTIONS,
	COPY_OPTIONS,
	{.name = "bundle",
	 .type = OPT_BOOL,
	 .max = 1,
	 .help = "files: one completion for as many receive buffers as a receive fills (Linux "
		 "6.10)"},
	{.name = "quiet_sends",
	 .type = OPT_BOOL,
	 .max = 1,
	 .help = "sends from memory that find room in the socket post no completion "
		 "(IOSQE_CQE_SKIP_SUCCESS, Linux 5.17), unless more is to be done for the "
		 "connection; without effect with sqpoll"},
	{.name = "fixed_buffers",
	 .type = OPT_BOOL,
	 .max = 1,
	 .help = "files are read into, and cache=memory is sent from, memory registered with the "
		 "ring, by READ_FIXED and WRITE_FIXED (Linux 5.19); responses merged or made up "
		 "for one request are sent as ever. Pinned memory: see RLIMIT_MEMLOCK"},
	RING_OPTIONS,
	{0}};

/*
 * One piece of registered memory. A plain SEND takes none (SENDMSG_FLAGS, io_uring/net.c), but a
 * write to a socket does; it may be short, and always completes.
 */
static void write_fixed(struct conn *c, struct ur_move *m, const struct iovec *v, int index)
{
	struct io_uring_sqe *sqe = ring_move_sqe(c);

	io_uring_prep_write_fixed(sqe, c->fd, v->iov_base, (unsigned)v->iov_len, 0, index);
	ring_use_socket(sqe, c);
	ring_move_tag(c, sqe, OP_SEND);
	m->waits = true;
}

/*
 * MSG_WAITALL: the ring goes on after a short send by itself (Linux 5.19). A quiet send does not
 * wait, so that it is decided at submission; what did not find room is sent again by one that does.
 */
static void send_memory(struct conn *c, struct ur_move *m)
{
	bool quiet = c->w->opt[OPT_QUIET] && !m->waits && ring_may_be_quiet(c);
	int flags = MSG_NOSIGNAL | MSG_WAITALL | (quiet ? MSG_DONTWAIT : 0);
	struct xfer *x = &c->xfer;
	bool one = x->iov_nr - x->iov_at == 1;
	int index = one ? ring_memory_index(c->w, x->iov[x->iov_at].iov_base) : -1;
	struct io_uring_sqe *sqe;

	if (index >= 0) {
		write_fixed(c, m, &x->iov[x->iov_at], index);
		return;
	}
	sqe = ring_move_sqe(c);
	if (one) {
		io_uring_prep_send(sqe, c->fd, x->iov[x->iov_at].iov_base,
				   x->iov[x->iov_at].iov_len, flags);
	} else {
		m->msg = (struct msghdr){.msg_iov = x->iov + x->iov_at,
					 .msg_iovlen = (size_t)(x->iov_nr - x->iov_at)};
		io_uring_prep_sendmsg(sqe, c->fd, &m->msg, (unsigned)flags);
	}
	ring_use_socket(sqe, c);
	m->waits = true; /* whatever comes after this one */
	if (quiet)
		ring_move_tag_quiet(c, sqe, OP_SEND, (uint32_t)xfer_iov_bytes(x));
	else
		ring_move_tag(c, sqe, OP_SEND);
}

/* For parts as long as the first one. 0 or -ENOMEM. */
static int get_buffer(struct conn *c, struct ur_move *m)
{
	m->buf_bytes = m->part;
	m->buf = c->w->memory_priv ? ring_memory_get(c->w, m->part) : malloc(m->part);
	return m->buf ? 0 : -ENOMEM;
}

static void put_buffer(struct conn *c, struct ur_move *m)
{
	if (c->w->memory_priv)
		ring_memory_put(c->w, m->buf, m->buf_bytes);
	else
		free(m->buf);
	m->buf = NULL;
}

/* A part of the file into the buffer, the send linked: a short read breaks the link. */
static int send_file(struct conn *c, struct ur_move *m)
{
	struct xfer *x = &c->xfer;
	size_t size = (size_t)c->w->opt[COPT_COPY_BUFFER];
	size_t nr = (size_t)(x->iov_nr - x->iov_at);
	struct io_uring_sqe *sqe;

	m->part = x->len < size ? (size_t)x->len : size;
	if (!m->buf && get_buffer(c, m))
		return -ENOMEM;
	m->error = 0;
	ring_move_reserve(c, 2);
	sqe = ring_move_sqe(c);
	if (c->w->memory_priv)
		io_uring_prep_read_fixed(sqe, x->file_fd, m->buf, (unsigned)m->part, x->off,
					 ring_memory_index(c->w, m->buf));
	else
		io_uring_prep_read(sqe, x->file_fd, m->buf, (unsigned)m->part, x->off);
	sqe->flags |= IOSQE_IO_LINK;
	ring_move_tag(c, sqe, OP_READ);
	memcpy(m->iov, x->iov + x->iov_at, nr * sizeof(*m->iov));
	m->iov[nr] = (struct iovec){.iov_base = m->buf, .iov_len = m->part};
	m->msg = (struct msghdr){.msg_iov = m->iov, .msg_iovlen = nr + 1};
	sqe = ring_move_sqe(c);
	io_uring_prep_sendmsg(sqe, c->fd, &m->msg,
			      MSG_NOSIGNAL | MSG_WAITALL |
				      (x->len > m->part ? hold_part_flag(c) : 0));
	ring_use_socket(sqe, c);
	ring_move_tag(c, sqe, OP_SEND);
	return 0;
}

/* ---------------------------------------------------------------- socket to sockets */

static void receive_part(struct conn *c, struct ur_relay *r)
{
	struct xfer *x = &c->xfer;
	size_t size = (size_t)c->w->opt[COPT_COPY_BUFFER];
	uint64_t left = x->len == XFER_TO_EOF ? size : x->len - r->sending - r->got;
	struct io_uring_sqe *sqe;

	if (r->receiving || r->got || r->eof || r->error || !left || c->step != STEP_XFER)
		return;
	if (!r->in)
		r->in = malloc(size);
	if (!r->in) {
		r->error = -ENOMEM;
		return;
	}
	sqe = ring_move_sqe(c);
	io_uring_prep_recv(sqe, c->fd, r->in, left < size ? (size_t)left : size, 0);
	ring_use_socket(sqe, c);
	ring_move_tag(c, sqe, OP_RECV_PART);
	r->receiving = true;
}

static void send_part_to(struct conn *c, struct ur_relay *r, uint16_t i)
{
	struct xfer_dst *d = &c->xfer.dst[i];
	struct io_uring_sqe *sqe = ring_dst_sqe(c, i);

	io_uring_prep_send(sqe, d->c->fd, r->out + d->at, r->sending - d->at,
			   MSG_NOSIGNAL | MSG_WAITALL);
	ring_use_socket(sqe, d->c);
	ring_dst_tag(c, sqe, OP_SEND_PART, i);
	r->nr_sends++;
}

/* The received buffer goes out, the other one becomes free to receive into. */
static void send_part(struct conn *c, struct ur_relay *r)
{
	char *free_one = r->out;

	if (r->nr_sends || r->sending || !r->got || r->error || c->step != STEP_XFER)
		return;
	r->out = r->in;
	r->in = free_one;
	r->sending = r->got;
	r->got = 0;
	for (uint16_t i = 0; i < c->xfer.nr_dst; i++)
		if (xfer_dst_lives(&c->xfer.dst[i]))
			send_part_to(c, r, i);
	if (!r->nr_sends)
		r->error = -EPIPE;
}

/* Keeps both directions busy. What completed() and start() return. */
static int pump(struct conn *c, struct ur_relay *r)
{
	send_part(c, r);
	receive_part(c, r);
	return ring_relay_stands(c, r->receiving, r->nr_sends, r->eof, r->error);
}

static int part_received(struct conn *c, struct ur_relay *r, int res)
{
	r->receiving = false;
	if (ring_relay_received(c, res, &r->eof, &r->error))
		r->got = (size_t)res;
	return pump(c, r);
}

static int part_sent(struct conn *c, struct ur_relay *r, uint16_t i, int res)
{
	r->nr_sends--;
	if (!ring_dst_served(c, i, res, r->sending))
		send_part_to(c, r, i);
	if (r->nr_sends)
		return RING_PENDING;
	if (c->step == STEP_XFER) {
		int dead = ring_end_round(c);

		r->error = r->error ? r->error : dead;
		xfer_skip_body(c, r->sending);
		r->sending = 0;
	}
	return pump(c, r);
}

static int start_relay(struct conn *c, struct ur_move *m)
{
	int res;

	if (!xfer_live(&c->xfer))
		return -EPIPE;
	if (xfer_has_iov(&c->xfer))
		return ring_send_iov(c, &m->msg, OP_SEND_IOV, &m->relay.nr_sends);
	res = pump(c, &m->relay);
	return res == RING_PENDING ? 0 : res;
}

static int start(struct conn *c)
{
	struct ur_move *m = c->mover;

	if (c->xfer.nr_dst)
		return start_relay(c, m);
	if (c->xfer.src == SOURCE_FILE && c->xfer.len)
		return send_file(c, m);
	send_memory(c, m);
	return 0;
}

/* ---------------------------------------------------------------- completions */

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

	if (res == -EAGAIN && m->waits) {
		count_one(c->ctr, eagain);
		return RING_PART;
	}
	if (res < 0)
		return res == -ECANCELED && m->error ? m->error : res;
	xfer_touch(c);
	xfer_advance(c, (size_t)res);
	if (!xfer_has_iov(x) && !x->len)
		return 0;
	if (x->src != SOURCE_FILE || (size_t)res < head + m->part)
		count_one(c->ctr, short_moves);
	return RING_PART;
}

static int completed(struct conn *c, unsigned op, uint16_t dst, int res)
{
	struct ur_move *m = c->mover;

	switch (op) {
	case OP_READ:
		return read_completed(m, res);
	case OP_SEND:
		return send_completed(c, m, res);
	case OP_RECV_PART:
		return part_received(c, &m->relay, res);
	case OP_SEND_PART:
		return part_sent(c, &m->relay, dst, res);
	default:
		return ring_iov_sent(c, dst, res, &m->relay.nr_sends);
	}
}

static void release(struct conn *c)
{
	struct ur_move *m = c->mover;

	m->waits = false;
	if (m->buf)
		put_buffer(c, m);
	if (m->relay.in || m->relay.out) {
		free(m->relay.in);
		free(m->relay.out);
	}
	m->relay = (struct ur_relay){0};
}

static void configure(struct ring_config *cfg, const int64_t *opt)
{
	cfg->bundle = opt[OPT_BUNDLE];
	cfg->fixed_buffers = opt[OPT_FIXED_BUFFERS];
}

/* Room for a cached file with its head and what the cache notes of it. */
#define CACHED_EXTRA_BYTES 4096

static int open_memory(struct worker *w)
{
	size_t cached = (size_t)w->opt[COPT_COPY_LIMIT] + CACHED_EXTRA_BYTES;
	size_t buffer = (size_t)w->opt[COPT_COPY_BUFFER];

	if (!w->opt[OPT_FIXED_BUFFERS])
		return 0;
	return ring_memory_open(w, drive_ring_of(w), cached > buffer ? cached : buffer);
}

static const struct ring_mover move_ring = {
	.options_at = OPT_RING,
	.configure = configure,
	.worker_init = open_memory,
	.worker_exit = ring_memory_close,
	.start = start,
	.completed = completed,
	.release = release,
};

static int ur_init(struct worker *w)
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

const struct engine engine_io_uring = {
	.name = "io_uring",
	.summary = "completion: multishot accept and receive, batched submission, linked read and "
		   "send",
	.since = "6.1",
	.driver = "completion",
	.api = ENGINE_API,
	.sources = SOURCE_MEMORY | SOURCE_FILE | SOURCE_SOCKET | SOURCE_FANOUT,
	.conn_bytes = RING_CONN_BYTES + sizeof(struct ur_move),
	.options = options,
	.check = check,
	.probe = probe,
	.bodies = copy_bodies,
	.worker_init = ur_init,
	.worker_run = drive_ring_run,
	.worker_exit = drive_ring_exit,
};
