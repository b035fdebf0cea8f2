// SPDX-License-Identifier: MIT
/*
 * Engine io_uring: completion. One multishot accept, one multishot receive a connection into a ring
 * of provided buffers, one send a response; a loop turn submits everything it has prepared and
 * collects what is complete in one io_uring_enter(2). Files are read into a buffer by the ring, the
 * send linked behind the read, or, with cache=memory, sent from a preformatted buffer.
 *
 * Linux 6.1 (SINGLE_ISSUER 6.0, multishot receive 6.0, DEFER_TASKRUN 6.1).
 */
#include "copy.h"
#include "ring.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	NONE = UINT16_MAX,
	HELD_MAX = 16, /* received buffers a connection may hold before its receive is stopped */
};
#define ACCEPT_PAUSE_NS 100000000ull

/* Low bits of user_data beside the connection's address, which is a multiple of 64. */
enum op {
	OP_RECV,
	OP_SEND,
	OP_READ,
	OP_CANCEL,
	OP_ACCEPT,
	OP_WAKE,
	OP_MASK = 7
};

struct ur_worker {
	struct ring ring;
	struct conn *starved; /* their receive ended for want of buffers */
	uint64_t accept_again_ns;
	uint64_t wake_value;
	bool accepting;
};

struct ur_conn {
	struct conn *next_starved;
	char *buf;	      /* of the file part in flight */
	size_t part;	      /* bytes of it */
	uint16_t first, last; /* received buffers, in order; NONE when there is none */
	uint16_t nr_held;
	uint16_t in_flight; /* operations without their last completion */
	bool receiving;	    /* the multishot receive is armed */
	bool moving;	    /* a read or send is in flight */
	bool cancelling;
	bool starving;
	bool eof;
	bool lingering;
	int error; /* of a read that its linked send has not followed yet */
	struct msghdr msg;
	struct iovec iov[XFER_IOV + 1];
};

static const struct opt_def options[] = {COMMON_OPTIONS, COPY_OPTIONS, {0}};

static void advance(struct conn *c);

static struct ur_worker *ur_of(const struct worker *w)
{
	return w->priv;
}

static void tag(struct io_uring_sqe *sqe, const void *ptr, enum op op)
{
	io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)ptr | op);
}

static struct io_uring_sqe *conn_sqe(struct conn *c)
{
	struct ur_conn *u = c->priv;

	u->in_flight++;
	return ring_sqe(&ur_of(c->w)->ring);
}

/* ---------------------------------------------------------------- receiving */

static void arm_accept(struct worker *w)
{
	struct io_uring_sqe *sqe = ring_sqe(&ur_of(w)->ring);

	io_uring_prep_multishot_accept(sqe, w->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	tag(sqe, NULL, OP_ACCEPT);
	ur_of(w)->accepting = true;
	ur_of(w)->accept_again_ns = 0;
}

static void arm_wake(struct worker *w)
{
	struct io_uring_sqe *sqe = ring_sqe(&ur_of(w)->ring);

	io_uring_prep_read(sqe, w->wake_fd, &ur_of(w)->wake_value, sizeof(uint64_t), 0);
	tag(sqe, NULL, OP_WAKE);
}

static void arm_recv(struct conn *c)
{
	struct ur_conn *u = c->priv;
	struct io_uring_sqe *sqe = conn_sqe(c);

	io_uring_prep_recv(sqe, c->fd, NULL, 0, 0);
	sqe->ioprio |= IORING_RECV_MULTISHOT;
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = RING_BGID;
	tag(sqe, c, OP_RECV);
	u->receiving = true;
}

/* Asynchronous: more buffers may arrive until the receive's last completion does. */
static void cancel(struct conn *c, uint64_t user_data, unsigned flags)
{
	struct io_uring_sqe *sqe = conn_sqe(c);

	io_uring_prep_cancel64(sqe, user_data, (int)flags);
	if (flags & IORING_ASYNC_CANCEL_FD)
		sqe->fd = c->fd;
	tag(sqe, c, OP_CANCEL);
}

static void hold(struct conn *c, unsigned bid, uint32_t len)
{
	struct ur_conn *u = c->priv;
	struct ring *r = &ur_of(c->w)->ring;

	r->nr_free--;
	r->held[bid] = (struct ring_held){.off = 0, .len = len, .next = NONE};
	if (u->nr_held++)
		r->held[u->last].next = (uint16_t)bid;
	else
		u->first = (uint16_t)bid;
	u->last = (uint16_t)bid;
}

static void drop_first(struct conn *c)
{
	struct ur_conn *u = c->priv;
	struct ring *r = &ur_of(c->w)->ring;
	unsigned bid = u->first;

	u->first = r->held[bid].next;
	u->nr_held--;
	ring_recycle(r, bid);
}

static void unstarve(struct conn *c)
{
	struct ur_conn *u = c->priv;
	struct conn **at = &ur_of(c->w)->starved;

	if (!u->starving)
		return;
	while (*at != c)
		at = &((struct ur_conn *)(*at)->priv)->next_starved;
	*at = u->next_starved;
	u->starving = false;
}

static void starve(struct conn *c)
{
	struct ur_worker *ur = ur_of(c->w);
	struct ur_conn *u = c->priv;

	u->next_starved = ur->starved;
	ur->starved = c;
	u->starving = true;
}

/* As many starved connections as there are buffers again; the rest waits on, nobody spins. */
static void feed_starved(struct ur_worker *ur)
{
	unsigned nr = ur->ring.nr_free;

	while (nr-- && ur->starved) {
		struct conn *c = ur->starved;
		struct ur_conn *u = c->priv;

		unstarve(c);
		if (!u->receiving)
			arm_recv(c);
	}
}

static void on_recv(struct conn *c, const struct io_uring_cqe *cqe)
{
	struct ur_conn *u = c->priv;

	if (!(cqe->flags & IORING_CQE_F_MORE)) {
		u->receiving = false;
		u->cancelling = false;
		u->in_flight--;
	}
	if (cqe->flags & IORING_CQE_F_BUFFER)
		hold(c, cqe->flags >> IORING_CQE_BUFFER_SHIFT,
		     cqe->res > 0 ? (uint32_t)cqe->res : 0);
	if (cqe->res == -ENOBUFS)
		starve(c);
	else if (cqe->res == 0 || (cqe->res < 0 && cqe->res != -ECANCELED))
		u->eof = true;
	if (u->nr_held > HELD_MAX && u->receiving && !u->cancelling) {
		u->cancelling = true;
		cancel(c, (uint64_t)(uintptr_t)c | OP_RECV, 0);
	}
	advance(c);
}

/* STEP_RECV. True when the step may have changed. */
static bool do_recv(struct conn *c)
{
	struct ur_conn *u = c->priv;
	struct ring *r = &ur_of(c->w)->ring;
	struct ring_held *h;
	size_t used;

	if (u->nr_held) {
		h = &r->held[u->first];
		used = h->len ? conn_feed(c, ring_buffer(r, u->first) + h->off, h->len) : 0;
		h->off += (uint32_t)used;
		h->len -= (uint32_t)used;
		if (!h->len)
			drop_first(c);
		return true;
	}
	if (u->eof) {
		conn_feed(c, NULL, 0);
		return true;
	}
	if (!u->receiving && !u->starving)
		arm_recv(c);
	return false;
}

/* ---------------------------------------------------------------- sending */

static void send_memory(struct conn *c)
{
	struct ur_conn *u = c->priv;
	struct xfer *x = &c->xfer;
	struct io_uring_sqe *sqe = conn_sqe(c);

	/* MSG_WAITALL: the ring goes on after a short send by itself (Linux 5.19) */
	if (x->iov_nr - x->iov_at == 1) {
		io_uring_prep_send(sqe, c->fd, x->iov[x->iov_at].iov_base,
				   x->iov[x->iov_at].iov_len, MSG_NOSIGNAL | MSG_WAITALL);
	} else {
		u->msg = (struct msghdr){.msg_iov = x->iov + x->iov_at,
					 .msg_iovlen = (size_t)(x->iov_nr - x->iov_at)};
		io_uring_prep_sendmsg(sqe, c->fd, &u->msg, MSG_NOSIGNAL | MSG_WAITALL);
	}
	tag(sqe, c, OP_SEND);
	u->moving = true;
}

/* A part of the file into the buffer, the send linked: a short read breaks the link. */
static int send_file(struct conn *c)
{
	struct ur_conn *u = c->priv;
	struct xfer *x = &c->xfer;
	size_t size = (size_t)c->w->opt[COPT_COPY_BUFFER];
	size_t nr = (size_t)(x->iov_nr - x->iov_at);
	struct io_uring_sqe *sqe;

	u->part = x->len < size ? (size_t)x->len : size;
	if (!u->buf)
		u->buf = malloc(u->part);
	if (!u->buf)
		return -ENOMEM;
	sqe = conn_sqe(c);
	io_uring_prep_read(sqe, x->file_fd, u->buf, (unsigned)u->part, x->off);
	sqe->flags |= IOSQE_IO_LINK;
	tag(sqe, c, OP_READ);
	memcpy(u->iov, x->iov + x->iov_at, nr * sizeof(*u->iov));
	u->iov[nr] = (struct iovec){.iov_base = u->buf, .iov_len = u->part};
	u->msg = (struct msghdr){.msg_iov = u->iov, .msg_iovlen = nr + 1};
	sqe = conn_sqe(c);
	io_uring_prep_sendmsg(sqe, c->fd, &u->msg,
			      MSG_NOSIGNAL | MSG_WAITALL | (x->len > u->part ? MSG_MORE : 0));
	tag(sqe, c, OP_SEND);
	u->error = 0;
	u->moving = true;
	return 0;
}

static void end_move(struct conn *c, int res)
{
	struct ur_conn *u = c->priv;

	free(u->buf);
	u->buf = NULL;
	if (c->step == STEP_XFER)
		conn_done(c, res);
}

/* STEP_XFER. True when the transfer ended. */
static bool do_move(struct conn *c)
{
	struct ur_conn *u = c->priv;
	int res = 0;

	if (u->moving)
		return false;
	if (c->xfer.src == SOURCE_FILE && c->xfer.len)
		res = send_file(c);
	else
		send_memory(c);
	if (!res)
		return false;
	end_move(c, res);
	return true;
}

static void on_read(struct conn *c, int res)
{
	struct ur_conn *u = c->priv;

	u->in_flight--;
	if (res < 0)
		u->error = res;
	else if ((size_t)res < u->part)
		u->error = -EPIPE; /* the file became shorter */
}

static void on_send(struct conn *c, int res)
{
	struct ur_conn *u = c->priv;
	struct xfer *x = &c->xfer;
	size_t head;

	u->in_flight--;
	u->moving = false;
	if (c->step != STEP_XFER) { /* the transfer was given up meanwhile */
		free(u->buf);
		u->buf = NULL;
	} else if (res < 0) {
		end_move(c, res == -ECANCELED && u->error ? u->error : res);
	} else {
		head = xfer_iov_bytes(x);
		xfer_touch(c);
		xfer_advance_iov(c, (size_t)res < head ? (size_t)res : head);
		if ((size_t)res > head)
			xfer_advance_body(c, (size_t)res - head);
		if (!xfer_has_iov(x) && !x->len)
			end_move(c, 0);
		else if (x->src != SOURCE_FILE || (size_t)res < head + u->part)
			count_one(c->ctr, short_moves);
	}
	advance(c);
}

/* ---------------------------------------------------------------- closing */

static void finish(struct conn *c)
{
	struct ur_conn *u = c->priv;

	unstarve(c);
	while (u->nr_held)
		drop_first(c);
	free(u->buf);
	close(c->fd);
	count_one(c->ctr, sys_close);
	conn_free(c);
}

/* True while the peer may still have something to say. */
static bool lingering(struct conn *c)
{
	struct ur_conn *u = c->priv;

	if (!u->lingering) {
		u->lingering = true;
		count_one(c->ctr, sys_other);
		if (shutdown(c->fd, SHUT_WR))
			u->eof = true;
	}
	while (u->nr_held)
		drop_first(c);
	if (!u->eof && !u->receiving && !u->starving)
		arm_recv(c);
	return !u->eof;
}

/* Every operation must have completed before the connection's memory may go. */
static void do_close(struct conn *c)
{
	struct linger rst = {.l_onoff = 1, .l_linger = 0};
	struct ur_conn *u = c->priv;

	if (!u->moving && !c->closing)
		conn_closing(c);
	if (c->close_how == CLOSE_LINGER && lingering(c))
		return;
	if (c->close_how == CLOSE_ABORT)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &rst, sizeof(rst));
	if (!u->in_flight) {
		finish(c);
	} else if (!u->cancelling) {
		u->cancelling = true;
		cancel(c, 0, IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ALL);
	}
}

/* ---------------------------------------------------------------- loop */

/* After this c may be gone. */
static void advance(struct conn *c)
{
	bool more = true;

	while (more) {
		switch (c->step) {
		case STEP_RECV:
			more = do_recv(c);
			break;
		case STEP_XFER:
			more = do_move(c);
			break;
		default:
			do_close(c);
			return;
		}
	}
}

static void on_accept(struct worker *w, const struct io_uring_cqe *cqe)
{
	struct ur_worker *ur = ur_of(w);
	struct conn *c;

	if (!(cqe->flags & IORING_CQE_F_MORE)) {
		ur->accepting = false;
		ur->accept_again_ns = w->now_ns + (cqe->res < 0 ? ACCEPT_PAUSE_NS : 0);
	}
	if (cqe->res < 0)
		return;
	c = conn_open(w, cqe->res);
	if (!c) {
		close(cqe->res);
		return;
	}
	((struct ur_conn *)c->priv)->first = NONE;
	arm_recv(c);
}

static void on_cancel(struct conn *c)
{
	struct ur_conn *u = c->priv;

	u->in_flight--;
	if (c->step == STEP_CLOSE) {
		if (!u->in_flight)
			u->cancelling = false;
		advance(c);
	}
}

static void on_cqe(struct worker *w, const struct io_uring_cqe *cqe)
{
	uint64_t data = io_uring_cqe_get_data64(cqe);
	struct conn *c = (struct conn *)(uintptr_t)(data & ~(uint64_t)OP_MASK);

	switch (data & OP_MASK) {
	case OP_RECV:
		on_recv(c, cqe);
		break;
	case OP_SEND:
		on_send(c, cqe->res);
		break;
	case OP_READ:
		on_read(c, cqe->res);
		break;
	case OP_CANCEL:
		if (c)
			on_cancel(c);
		break;
	case OP_ACCEPT:
		on_accept(w, cqe);
		break;
	default:
		arm_wake(w);
	}
}

static void handle_completions(struct worker *w)
{
	struct io_uring *uring = &ur_of(w)->ring.uring;
	struct io_uring_cqe *cqe;
	unsigned head, nr = 0;

	io_uring_for_each_cqe(uring, head, cqe)
	{
		nr++;
		on_cqe(w, cqe);
	}
	io_uring_cq_advance(uring, nr);
	count_add(w->ctr, cqes, nr);
}

/* The listener may only be closed when no accept is pending on it. */
static void manage_accept(struct worker *w)
{
	struct ur_worker *ur = ur_of(w);
	struct io_uring_sqe *sqe;

	if (atomic_load_explicit(&w->draining, memory_order_acquire)) {
		if (!ur->accepting)
			return;
		ur->accepting = false;
		sqe = ring_sqe(&ur->ring);
		io_uring_prep_cancel64(sqe, OP_ACCEPT, 0);
		tag(sqe, NULL, OP_CANCEL);
	} else if (!ur->accepting && w->now_ns >= ur->accept_again_ns) {
		arm_accept(w);
	}
}

static int ur_init(struct worker *w)
{
	struct ur_worker *ur = calloc(1, sizeof(*ur));
	int res;

	if (!ur)
		return -ENOMEM;
	w->priv = ur;
	res = ring_init(&ur->ring, w->ctr);
	if (res)
		return res;
	arm_wake(w);
	arm_accept(w);
	return 0;
}

static int ur_run(struct worker *w)
{
	struct ur_worker *ur = ur_of(w);
	struct conn *c;
	int res;

	while (!worker_finished(w)) {
		uint64_t wait_ns = worker_wait_ns(w);

		if (ur->accept_again_ns && wait_ns > ACCEPT_PAUSE_NS)
			wait_ns = ACCEPT_PAUSE_NS;
		res = ring_wait(&ur->ring, wait_ns);
		if (res)
			return res;
		worker_tick(w, clock_now_ns());
		handle_completions(w);
		while ((c = worker_next(w)))
			advance(c);
		ring_recycle_flush(&ur->ring);
		feed_starved(ur);
		manage_accept(w);
	}
	return 0;
}

static void ur_exit(struct worker *w)
{
	struct ur_worker *ur = ur_of(w);

	if (!ur)
		return;
	ring_exit(&ur->ring);
	free(ur);
	w->priv = NULL;
}

const struct engine engine_io_uring = {
	.name = "io_uring",
	.summary = "completion: multishot accept and receive, batched submission, linked read and "
		   "send",
	.since = "6.1",
	.driver = "completion",
	.api = ENGINE_API,
	.sources = SOURCE_MEMORY | SOURCE_FILE,
	.conn_bytes = sizeof(struct ur_conn),
	.options = options,
	.probe = ring_probe,
	.bodies = copy_bodies,
	.worker_init = ur_init,
	.worker_run = ur_run,
	.worker_exit = ur_exit,
};
