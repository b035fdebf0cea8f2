// SPDX-License-Identifier: MIT
/*
 * Engine io_uring_zc: completion (drive_ring.c); the head by an ordinary send, linked before a
 * SEND_ZC of the body, or both by one SENDMSG_ZC. The body comes from a mapping of the file, whose
 * pages are pinned for the send, or is read into a buffer registered with the ring, whose pages are
 * pinned once. What the kernel did is counted from its notifications (ring_zc.h).
 *
 * What a connection has in flight is bounded: without that a fast sender fills the receiver's
 * buffer with copies that are larger than their bytes (docs/zero-copy.md). Linux 6.2.
 */
#include "io_uring_zc.h"

#include <stdlib.h>
#include <string.h>

enum {
	FROM_MAPPING,
	FROM_BUFFERS
};
enum {
	HEAD_SEND,
	HEAD_SENDMSG
};

enum {
	PART_MIN = 4096,  /* bytes of the smallest send that is tried when there is no room */
	STREAM_PARTS = 2, /* of a connection in flight, see part_limit() */
};

static const char *const source_values[] = {"mapping", "buffers", NULL};
static const char *const head_values[] = {"send", "sendmsg", NULL};

static const struct opt_def options[] = {
	COMMON_OPTIONS,
	{.name = "source",
	 .type = OPT_ENUM,
	 .max = 1,
	 .values = source_values,
	 .help = "files: mapping sends from the page cache, pinned for each send; buffers reads "
		 "into "
		 "registered buffers, pinned once, and sends from those"},
	{.name = "head",
	 .type = OPT_ENUM,
	 .max = 1,
	 .values = head_values,
	 .help = "source=mapping: send puts the head before the body by an ordinary send; sendmsg "
		 "copies it into memory of its own and sends it with a body of one chunk by one "
		 "SENDMSG_ZC"},
	{.name = "chunk",
	 .type = OPT_SIZE,
	 .def = 128 << 10,
	 .min = 4096,
	 .max = 1 << 20,
	 .help = "bytes of one zero-copy send, at most half of inflight; between sockets, bytes "
		 "received at a time"},
	{.name = "inflight",
	 .type = OPT_SIZE,
	 .def = 512 << 10,
	 .min = 256 << 10,
	 .max = 1 << 30,
	 .help = "bytes of a connection that may wait for their notification; the next send waits "
		 "(between sockets it goes by copy, see zc_waived)"},
	{.name = "registered",
	 .type = OPT_SIZE,
	 .def = 4 << 20,
	 .min = STREAM_PARTS * PART_MIN,
	 .max = 1 << 30,
	 .help = "source=buffers: bytes of buffers that a worker registers, counted against "
		 "RLIMIT_MEMLOCK; one is a chunk long, or half of this"},
	RING_OPTIONS,
	{0}};

/*
 * Bytes of the longest send of a file. The receiver may delay the acknowledgement of the last
 * segment, and with it the notification, until more arrives or 40 ms are over. So while one send
 * waits for that, the next must be on its way: two of them fit under the bound, and into
 * registered memory.
 */
static size_t part_limit(const int64_t *opt)
{
	int64_t most = opt[OPT_CHUNK];

	if (most > opt[OPT_INFLIGHT] / STREAM_PARTS)
		most = opt[OPT_INFLIGHT] / STREAM_PARTS;
	if (opt[OPT_SOURCE] == FROM_BUFFERS && most > opt[OPT_REGISTERED] / STREAM_PARTS)
		most = opt[OPT_REGISTERED] / STREAM_PARTS;
	return (size_t)most;
}

static struct io_uring_sqe *next_op(struct conn *c, struct zc_move *m)
{
	m->nr_ops++;
	return ring_move_sqe(c);
}

/* The memory pieces by an ordinary send; the ring goes on after a short one by itself. */
static void send_memory(struct conn *c, struct zc_move *m, bool body_follows)
{
	struct xfer *x = &c->xfer;
	struct io_uring_sqe *sqe = next_op(c, m);

	m->msg = (struct msghdr){.msg_iov = x->iov + x->iov_at,
				 .msg_iovlen = (size_t)(x->iov_nr - x->iov_at)};
	io_uring_prep_sendmsg(sqe, c->fd, &m->msg,
			      MSG_NOSIGNAL | MSG_WAITALL | (body_follows ? hold_flag(c) : 0));
	ring_use_socket(sqe, c);
	if (body_follows)
		sqe->flags |= IOSQE_IO_LINK;
	ring_move_tag(c, sqe, OP_MEMORY);
}

/* ---------------------------------------------------------------- from a mapping */

/*
 * Head and body by one SENDMSG_ZC. Not before a longer body: it would shift the whole body against
 * its pages, so that segments take two of them, which a small receive buffer has no room for
 * (docs/zero-copy.md).
 *
 * Heads are the skeleton's only until conn_done(), so this send gets its own. 0 or -ENOMEM.
 */
static int copy_head(const struct xfer *x, struct ring_zc *z)
{
	size_t at = 0;

	z->head = malloc(xfer_iov_bytes(x));
	if (!z->head)
		return -ENOMEM;
	for (unsigned i = x->iov_at; i < x->iov_nr; i++) {
		memcpy(z->head + at, x->iov[i].iov_base, x->iov[i].iov_len);
		at += x->iov[i].iov_len;
	}
	return 0;
}

static void send_mapping(struct conn *c, struct zc_move *m, struct ring_zc *z)
{
	struct xfer *x = &c->xfer;
	size_t head = z->head ? xfer_iov_bytes(x) : 0;
	struct io_uring_sqe *sqe;

	lease_get(x->lease);
	z->lease = x->lease;
	sqe = next_op(c, m);
	if (head) {
		m->iov[0] = (struct iovec){.iov_base = z->head, .iov_len = head};
		m->iov[1] = (struct iovec){.iov_base = (char *)x->mem, .iov_len = m->part};
		m->msg = (struct msghdr){.msg_iov = m->iov, .msg_iovlen = 2};
		io_uring_prep_sendmsg_zc(sqe, c->fd, &m->msg, (unsigned)zc_send_flags());
	} else {
		io_uring_prep_send_zc(sqe, c->fd, x->mem, m->part, zc_send_flags(), 0);
	}
	ring_use_socket(sqe, c);
	ring_zc_tag(z, sqe, head + m->part);
}

static int start_mapping(struct conn *c, struct zc_move *m)
{
	struct xfer *x = &c->xfer;
	int res = mapping_intact(c, x->off + m->part);
	struct ring_zc *z;

	if (res)
		return res;
	z = ring_zc_new(c, RING_OWN, OP_BODY);
	if (!z)
		return -ENOMEM;
	ring_move_reserve(c, 2);
	if (xfer_has_iov(x)) {
		if (c->w->opt[OPT_HEAD] == HEAD_SENDMSG && x->len == m->part)
			res = copy_head(x, z);
		else
			send_memory(c, m, true);
	}
	if (res)
		ring_zc_free(z);
	else
		send_mapping(c, m, z);
	return res;
}

/* ---------------------------------------------------------------- from registered buffers */

/* The slots that keep the transfer going, see ring_zc_slots.h; of a short one, the one it needs. */
static unsigned nr_slots(const struct conn *c, const struct zc_move *m)
{
	return c->xfer.len > m->part ? STREAM_PARTS : 1;
}

static void send_slot(struct conn *c, struct zc_move *m, struct ring_zc *z)
{
	struct xfer *x = &c->xfer;
	char *slot = ring_zc_slot(z);
	struct io_uring_sqe *sqe;

	ring_move_reserve(c, 3);
	sqe = next_op(c, m);
	io_uring_prep_read_fixed(sqe, x->file_fd, slot, (unsigned)m->part, x->off, 0);
	sqe->flags |= IOSQE_IO_LINK;
	ring_move_tag(c, sqe, OP_READ);
	if (xfer_has_iov(x))
		send_memory(c, m, true);
	sqe = next_op(c, m);
	io_uring_prep_send_zc_fixed(sqe, c->fd, slot, m->part, zc_send_flags(), 0, 0);
	ring_use_socket(sqe, c);
	ring_zc_tag(z, sqe, m->part);
}

static int start_buffers(struct conn *c, struct zc_move *m)
{
	struct ring_zc *z = ring_zc_new(c, RING_OWN, OP_BODY);

	if (!z)
		return -ENOMEM;
	if (ring_zc_take_slot(z, nr_slots(c, m))) {
		send_slot(c, m, z);
		return 0;
	}
	ring_zc_free(z);
	count_one(c->ctr, zc_waits);
	ring_zc_wait(c, nr_slots(c, m));
	return RING_WAIT;
}

/* ---------------------------------------------------------------- a part */

/* Whether notifications of this connection have to come before the next part. */
static bool at_bound(const struct conn *c, const struct zc_move *m)
{
	return m->sock.bytes && m->sock.bytes + m->part > (uint64_t)c->w->opt[OPT_INFLIGHT];
}

/*
 * Locked memory is a user's: other workers and processes may hold it as well, and nothing tells
 * when they give it back. So the send is tried again after a millisecond.
 */
static void pause_part(struct conn *c, struct zc_move *m)
{
	struct io_uring_sqe *sqe = next_op(c, m);

	count_one(c->ctr, zc_waits);
	m->pause = (struct __kernel_timespec){.tv_nsec = 1000000};
	io_uring_prep_timeout(sqe, &m->pause, 0, 0);
	ring_move_tag(c, sqe, OP_PAUSE);
}

static size_t part_bytes(const struct conn *c, const struct zc_move *m)
{
	size_t max = m->part_max ? m->part_max : part_limit(c->w->opt);

	return c->xfer.len < max ? (size_t)c->xfer.len : max;
}

static int start_file(struct conn *c, struct zc_move *m)
{
	m->part = part_bytes(c, m);
	if (at_bound(c, m)) {
		count_one(c->ctr, zc_waits);
		return RING_WAIT;
	}
	if (m->refused) {
		m->refused = false;
		pause_part(c, m);
		return 0;
	}
	return c->xfer.src == SOURCE_FILE ? start_buffers(c, m) : start_mapping(c, m);
}

static int start(struct conn *c)
{
	struct zc_move *m = c->mover;

	if (c->xfer.nr_dst)
		return zc_relay_start(c, m);
	m->error = 0;
	if (c->xfer.len)
		return start_file(c, m);
	m->part = 0;
	send_memory(c, m, false);
	return 0;
}

/*
 * Every operation of the part is over. ENOMEM of a send that pins pages means RLIMIT_MEMLOCK
 * (io_notif_account_mem(), io_uring/notif.h): a smaller one is tried, when there may be room again.
 */
static int end_part(struct conn *c, struct zc_move *m)
{
	const struct xfer *x = &c->xfer;

	if (m->error == -ENOMEM && x->src == SOURCE_MAPPING) {
		m->refused = true;
		m->part_max = m->part / 2 > PART_MIN ? m->part / 2 : PART_MIN;
		return RING_PART;
	}
	if (m->error)
		return m->error;
	return xfer_has_iov(x) || x->len ? RING_PART : 0;
}

static int part_completed(struct conn *c, struct zc_move *m, unsigned op, int res)
{
	size_t want = op == OP_MEMORY ? xfer_iov_bytes(&c->xfer)
		      : op == OP_READ ? m->part
				      : xfer_iov_bytes(&c->xfer) + m->part;

	m->nr_ops--;
	if (op == OP_PAUSE)
		return end_part(c, m);
	if (res > 0 && op != OP_READ) {
		xfer_touch(c);
		xfer_advance(c, (size_t)res);
	}
	count_add(c->ctr, short_moves, res > 0 && (size_t)res < want);
	/* The others of a broken link are cancelled, those before as well if it fails to begin. */
	if (res < 0 && (!m->error || m->error == -ECANCELED))
		m->error = res;
	else if (res >= 0 && (size_t)res < want && op != OP_BODY && !m->error)
		m->error = -EPIPE; /* the file became shorter; of a send only errors leave a rest */
	return m->nr_ops ? RING_PENDING : end_part(c, m);
}

static int completed(struct conn *c, unsigned op, uint16_t dst, int res)
{
	struct zc_move *m = c->mover;

	return op <= OP_BODY ? part_completed(c, m, op, res)
			     : zc_relay_completed(c, m, op, dst, res);
}

static void release(struct conn *c)
{
	struct zc_move *m = c->mover;

	m->refused = false;
	m->part_max = 0;
	ring_zc_end_turn(c);
	zc_relay_release(&m->relay);
}

/* ---------------------------------------------------------------- the engine */

static const struct ring_mover move_ring_zc = {
	.options_at = OPT_RING,
	.worker_exit = ring_zc_exit,
	.start = start,
	.completed = completed,
	.release = release,
	.held = ring_zc_held,
	.forget = ring_zc_forget,
};

static int zc_init(struct worker *w)
{
	size_t slot = part_limit(w->opt);
	int res = drive_ring_init(w, &move_ring_zc);

	if (w->relays || w->opt[OPT_SOURCE] != FROM_BUFFERS)
		return res ? res : ring_zc_init(w, 0, 0);
	return res ? res : ring_zc_init(w, (unsigned)((size_t)w->opt[OPT_REGISTERED] / slot), slot);
}

static int zc_check(const int64_t *opt, bool relays, char reason[REASON_MAX])
{
	return ring_mover_check(&move_ring_zc, opt, reason);
}

static int zc_probe(const int64_t *opt, char reason[REASON_MAX])
{
	int res = ring_mover_probe(&move_ring_zc, opt, reason);

	return res ? res : ring_zc_probe(reason);
}

static void zc_bodies(const int64_t *opt, struct body_policy *policy)
{
	policy->source = opt[OPT_SOURCE] == FROM_BUFFERS ? SOURCE_FILE : SOURCE_MAPPING;
}

const struct engine engine_io_uring_zc = {
	.name = "io_uring_zc",
	.summary = "completion; head by send, body by SEND_ZC from a mapping of the file or from "
		   "registered buffers",
	.since = "6.2",
	.driver = "completion",
	.api = ENGINE_API,
	.sources = SOURCE_MAPPING | SOURCE_FILE | SOURCE_SOCKET | SOURCE_FANOUT,
	.conn_bytes = RING_CONN_BYTES + sizeof(struct zc_move),
	.options = options,
	.check = zc_check,
	.probe = zc_probe,
	.bodies = zc_bodies,
	.worker_init = zc_init,
	.worker_run = drive_ring_run,
	.worker_exit = drive_ring_exit,
};
