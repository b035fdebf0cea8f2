// SPDX-License-Identifier: MIT
#include "queue.h"

#include <stdlib.h>
#include <sys/socket.h>

struct chunk {
	struct chunk *next;
	size_t len;
	char data[];
};

const char *const policy_values[] = {"stream", "buffered", "hybrid", NULL};

bool policy_buffers(const struct conn *c, int first)
{
	const int64_t *opt = &c->w->opt[first];

	return opt[0] == POLICY_BUFFERED ||
	       (opt[0] == POLICY_HYBRID && c->xfer.total < (uint64_t)opt[1]);
}

/* What one call of queue_move() has found out. */
struct pass {
	struct chunk *spare; /* an empty chunk, ready for the next receive */
	size_t moved;
	bool dry;  /* the source has nothing more now */
	bool full; /* a destination takes nothing more now */
};

static void pop(struct queue *q, struct pass *p)
{
	struct chunk *ch = q->first;

	q->bytes -= ch->len;
	q->first = ch->next;
	q->nr--;
	if (p && !p->spare)
		p->spare = ch;
	else
		free(ch);
}

void queue_drop(struct queue *q)
{
	while (q->first)
		pop(q, NULL);
	q->eof = false;
}

static void push(struct queue *q, struct chunk *ch)
{
	ch->next = NULL;
	if (q->first)
		*q->tail = ch;
	else
		q->first = ch;
	q->tail = &ch->next;
	q->nr++;
	q->bytes += ch->len;
}

/* 0, or -errno; p->dry when there was nothing, or not as much as asked for. */
static int receive(struct conn *c, struct queue *q, struct pass *p, size_t size)
{
	uint64_t left = c->xfer.len == XFER_TO_EOF ? size : c->xfer.len - q->bytes;
	size_t want = left < size ? (size_t)left : size;
	ssize_t n;

	if (!p->spare)
		p->spare = malloc(sizeof(*p->spare) + size);
	if (!p->spare)
		return -ENOMEM;
	n = recv(c->fd, p->spare->data, want, 0);
	count_one(c->ctr, sys_recv);
	if (n < 0) {
		count_add(c->ctr, eagain, errno == EAGAIN);
		p->dry = errno == EAGAIN || errno == EINTR;
		return p->dry ? 0 : -errno;
	}
	if (!n) {
		q->eof = true;
		return c->xfer.len == XFER_TO_EOF ? 0 : -EPIPE;
	}
	/* A receive that fills less than it was given has drained the socket (epoll(7)). */
	p->dry = (size_t)n < want;
	p->spare->len = (size_t)n;
	push(q, p->spare);
	p->spare = NULL;
	return 0;
}

/* The oldest chunk to every destination. 0, or -errno. */
static int deliver(struct conn *c, struct queue *q, struct pass *p)
{
	int res = send_round(c, q->first->data, q->first->len, 0);

	if (res < 0)
		return res;
	if (res != MOVED_ALL) {
		p->full = true;
		return 0;
	}
	p->moved += q->first->len;
	xfer_skip_body(c, q->first->len);
	pop(q, p);
	return 0;
}

static bool may_receive(const struct conn *c, const struct queue *q, unsigned nr_max)
{
	return !q->eof && q->nr < nr_max && (c->xfer.len == XFER_TO_EOF || c->xfer.len > q->bytes);
}

static int pump(struct conn *c, struct queue *q, struct pass *p, unsigned nr_max, size_t size)
{
	int res = 0;

	while (!res) {
		bool receiving = may_receive(c, q, nr_max);

		if (!q->first && !receiving)
			return MOVED_ALL;
		if (p->moved >= TURN_BYTES)
			return MOVED_TURN;
		if (p->dry && !q->first)
			return MOVED_WANT_SRC;
		if (p->full && (p->dry || !receiving))
			return receiving ? MOVED_WANT_BOTH : MOVED_WANT_DST;
		if (receiving && !p->dry)
			res = receive(c, q, p, size);
		if (!res && q->first && !p->full)
			res = deliver(c, q, p);
	}
	return res;
}

int queue_move(struct conn *c, struct queue *q, unsigned nr_max, size_t chunk_bytes)
{
	struct pass p = {0};
	int res = send_iov(c, 0);

	if (!res && !xfer_live(&c->xfer))
		res = -EPIPE;
	if (!res && c->xfer.len)
		res = pump(c, q, &p, nr_max, chunk_bytes);
	free(p.spare);
	if (res <= 0)
		queue_drop(q);
	return res;
}
