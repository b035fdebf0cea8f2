// SPDX-License-Identifier: MIT
#include "ring_zc.h"

#include "drive_ring.h"
#include "ring_zc_slots.h"
#include "zc_account.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	CHUNK_SENDS = 32
};

/* Sends are cut from chunks, which go when the worker does. */
struct chunk {
	struct chunk *next;
	struct ring_zc sends[CHUNK_SENDS];
};

/* Of a worker, on its thread. */
struct ring_zc_worker {
	struct chunk *chunks;
	struct ring_zc *free;
};
static _Thread_local struct ring_zc_worker *zc;

static struct ring_zc_sock *sock_of(const struct conn *c)
{
	return c->mover;
}

/* ---------------------------------------------------------------- the worker */

int ring_zc_init(struct worker *w, unsigned nr_slots, size_t slot_bytes)
{
	zc = calloc(1, sizeof(*zc));
	return zc ? ring_slots_init(w, nr_slots, slot_bytes) : -ENOMEM;
}

/* Lets go of what z was sent from. */
static void let_go(struct ring_zc *z)
{
	if (z->lease)
		lease_put(z->lease);
	if (z->buffer)
		zc_buffer_put(z->buffer);
	free(z->head);
	ring_slots_put(z);
	z->lease = NULL;
	z->buffer = NULL;
	z->head = NULL;
}

/* Sends that outlived their connection are let go: the kernel has references of its own. */
void ring_zc_exit(struct worker *w)
{
	struct chunk *ch;

	if (!zc)
		return;
	while ((ch = zc->chunks)) {
		zc->chunks = ch->next;
		for (unsigned i = 0; i < CHUNK_SENDS; i++) {
			ch->sends[i].sock = NULL;
			let_go(&ch->sends[i]);
		}
		free(ch);
	}
	ring_slots_exit();
	free(zc);
	zc = NULL;
}

/* ---------------------------------------------------------------- a send */

static bool more_sends(void)
{
	struct chunk *ch = aligned_alloc(_Alignof(struct chunk), sizeof(*ch));

	if (!ch)
		return false;
	memset(ch, 0, sizeof(*ch));
	ch->next = zc->chunks;
	zc->chunks = ch;
	for (unsigned i = 0; i < CHUNK_SENDS; i++) {
		ch->sends[i].slot = -1;
		ch->sends[i].next = zc->free;
		zc->free = &ch->sends[i];
	}
	return true;
}

struct ring_zc *ring_zc_new(struct conn *c, uint16_t dst, unsigned op)
{
	struct ring_zc *z;

	if (!zc->free && !more_sends())
		return NULL;
	z = zc->free;
	zc->free = z->next;
	*z = (struct ring_zc){.c = c,
			      .sock = dst == RING_OWN ? c : c->xfer.dst[dst].c,
			      .slot = -1,
			      .dst = dst,
			      .op = (uint8_t)op};
	return z;
}

void ring_zc_free(struct ring_zc *z)
{
	let_go(z);
	z->next = zc->free;
	zc->free = z;
}

/* Sets how much of z is in flight. */
static void account(struct ring_zc *z, struct counters *ctr, uint32_t bytes)
{
	int64_t more = (int64_t)bytes - (int64_t)z->bytes;

	zc_count_inflight(ctr, more);
	if (z->sock)
		sock_of(z->sock)->bytes += (uint64_t)more;
	z->bytes = bytes;
}

static void link_to(struct ring_zc *z, struct ring_zc_sock *s)
{
	z->prev = NULL;
	z->next = s->first;
	if (s->first)
		s->first->prev = z;
	s->first = z;
	s->nr++;
}

static void unlink_from(struct ring_zc *z, struct ring_zc_sock *s)
{
	if (z->prev)
		z->prev->next = z->next;
	else
		s->first = z->next;
	if (z->next)
		z->next->prev = z->prev;
	s->nr--;
}

void ring_zc_tag(struct ring_zc *z, struct io_uring_sqe *sqe, size_t bytes)
{
	sqe->ioprio |= IORING_SEND_ZC_REPORT_USAGE;
	ur_tag(sqe, z, OP_ZC);
	link_to(z, sock_of(z->sock));
	account(z, z->c->ctr, (uint32_t)bytes);
}

unsigned ring_zc_held(const struct conn *c)
{
	return c->mover ? sock_of(c)->nr : 0;
}

void ring_zc_forget(struct conn *c)
{
	struct ring_zc_sock *s = sock_of(c);

	if (!s)
		return;
	ring_slots_forget(c);
	for (struct ring_zc *z = s->first; z; z = z->next)
		z->sock = NULL;
	memset(s, 0, sizeof(*s));
}

/* ---------------------------------------------------------------- completions */

/* The kernel has nothing of z any more. */
static void settle(struct worker *w, struct ring_zc *z)
{
	account(z, w->ctr, 0);
	if (z->sock)
		unlink_from(z, sock_of(z->sock));
	let_go(z);
	z->sock = NULL;
}

static void notified(struct worker *w, struct ring_zc *z, uint32_t usage)
{
	struct conn *sock = z->sock;

	if (z->accepted)
		zc_count_notified(w->ctr, usage & IORING_NOTIF_USAGE_ZC_COPIED,
				  w->now_ns - z->accepted_ns);
	settle(w, z);
	ring_zc_free(z);
	if (sock && !sock_of(sock)->waiting)
		ur_advance(sock);
	ring_slots_wake();
}

void ring_zc_completed(struct worker *w, struct ring_zc *z, const struct io_uring_cqe *cqe)
{
	struct conn *c = z->c;
	uint16_t dst = z->dst;
	unsigned op = z->op;
	int res = cqe->res;

	if (cqe->flags & IORING_CQE_F_NOTIF) {
		notified(w, z, (uint32_t)res);
		return;
	}
	z->c = NULL;
	z->accepted = res > 0;
	z->accepted_ns = w->now_ns;
	account(z, w->ctr, res > 0 ? (uint32_t)res : 0);
	if (z->accepted)
		zc_count_sent(w->ctr, (size_t)res);
	if (cqe->flags & IORING_CQE_F_MORE) {
		ur_on_move(c, op, dst, res);
		ring_slots_wake(); /* its transfer may have ended */
		return;
	}
	/*
	 * It was never begun. A notification may come all the same, unannounced: the one of a send
	 * whose link was broken does (io_send_zc_cleanup(), io_uring/net.c). So z is not used
	 * again before that, and for the rest of the worker's life if there is none.
	 */
	settle(w, z);
	ur_on_move(c, op, dst, res);
	ring_slots_wake();
}

/* ---------------------------------------------------------------- probe */

/*
 * A send on a socket that is not connected: EPIPE when the kernel knows the operation and its
 * flags, EINVAL when it does not. Nothing leaves the process.
 */
static int try_send(struct io_uring *uring, int fd)
{
	static const char byte;
	struct io_uring_sqe *sqe = io_uring_get_sqe(uring);
	struct io_uring_cqe *cqe;
	int res;

	io_uring_prep_send_zc(sqe, fd, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT,
			      IORING_SEND_ZC_REPORT_USAGE);
	res = io_uring_submit_and_wait(uring, 1);
	if (res < 0)
		return res;
	res = io_uring_peek_cqe(uring, &cqe);
	return res ? res : cqe->res;
}

int ring_zc_probe(char reason[REASON_MAX])
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct io_uring uring;
	int res = fd < 0 ? -errno : io_uring_queue_init(4, &uring, 0);

	if (!res) {
		res = try_send(&uring, fd);
		io_uring_queue_exit(&uring);
	}
	if (fd >= 0)
		close(fd);
	if (res == -EPIPE)
		return 0;
	if (res == -EOPNOTSUPP) { /* io_send_zc(), io_uring/net.c: no SOCK_SUPPORT_ZC */
		snprintf(reason, REASON_MAX, "TCP sockets of this kernel refuse SEND_ZC (%s)",
			 strerror(-res));
		return res;
	}
	return ring_refuse(res < 0 ? res : -EIO, reason,
			   "needs Linux 6.2: SEND_ZC that reports whether it copied is refused");
}
