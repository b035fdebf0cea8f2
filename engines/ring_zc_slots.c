// SPDX-License-Identifier: MIT
#include "ring_zc_slots.h"

#include "drive_ring.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Of a worker, on its thread. nr_promised of the free slots are for transfers under way. */
static _Thread_local struct {
	char *memory;
	size_t bytes; /* of one slot */
	unsigned nr, nr_free, nr_promised;
	int *free;
	struct conn *waiting, **waiting_tail; /* for their turn; oldest first */
	const struct conn *turn;	      /* whose it is, although others wait */
} slots;

static struct ring_zc_sock *sock_of(const struct conn *c)
{
	return c->mover;
}

static int register_memory(struct worker *w)
{
	struct iovec iov = {.iov_len = slots.nr * slots.bytes};
	int res;

	iov.iov_base =
		mmap(NULL, iov.iov_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (iov.iov_base == MAP_FAILED)
		return -ENOMEM;
	slots.memory = iov.iov_base;
	res = io_uring_register_buffers(&ur_of(w)->ring.uring, &iov, 1);
	if (res)
		complain("registering %zu bytes of buffers: %s; see the limit of locked memory "
			 "(ulimit -l), or option registered",
			 iov.iov_len, strerror(-res));
	return res;
}

int ring_slots_init(struct worker *w, unsigned nr, size_t bytes)
{
	slots.waiting_tail = &slots.waiting;
	if (!nr)
		return 0;
	slots.free = calloc(nr, sizeof(*slots.free));
	if (!slots.free)
		return -ENOMEM;
	slots.nr = nr;
	slots.bytes = bytes;
	for (unsigned i = 0; i < nr; i++)
		slots.free[slots.nr_free++] = (int)i;
	return register_memory(w);
}

void ring_slots_exit(void)
{
	if (slots.memory)
		munmap(slots.memory, slots.nr * slots.bytes);
	free(slots.free);
	memset(&slots, 0, sizeof(slots));
}

char *ring_zc_slot(const struct ring_zc *z)
{
	return slots.memory + (size_t)z->slot * slots.bytes;
}

/* ---------------------------------------------------------------- taking, giving back */

/* Slots that are free, and nobody's. */
static unsigned nr_unpromised(void)
{
	return slots.nr_free - slots.nr_promised;
}

static void promise(struct ring_zc_sock *s, unsigned nr)
{
	s->nr_promised += nr;
	slots.nr_promised += nr;
}

/* The transfer begins, when it is its turn. */
static bool admit(struct conn *c, unsigned nr)
{
	if ((slots.waiting && slots.turn != c) || nr_unpromised() < nr)
		return false;
	sock_of(c)->admitted = true;
	promise(sock_of(c), nr);
	return true;
}

bool ring_zc_take_slot(struct ring_zc *z, unsigned nr)
{
	struct ring_zc_sock *s = sock_of(z->c);

	if (!s->admitted && !admit(z->c, nr))
		return false;
	if (s->nr_promised) {
		s->nr_promised--;
		slots.nr_promised--;
		z->promised = true;
	} else if (slots.waiting || !nr_unpromised()) {
		return false;
	}
	z->slot = slots.free[--slots.nr_free];
	return true;
}

void ring_slots_put(struct ring_zc *z)
{
	if (z->slot < 0)
		return;
	slots.free[slots.nr_free++] = z->slot;
	z->slot = -1;
	if (z->promised && z->sock)
		promise(sock_of(z->sock), 1);
	z->promised = false;
}

void ring_zc_end_turn(struct conn *c)
{
	struct ring_zc_sock *s = sock_of(c);

	s->admitted = false;
	slots.nr_promised -= s->nr_promised;
	s->nr_promised = 0;
	for (struct ring_zc *z = s->first; z; z = z->next)
		z->promised = false;
}

/* ---------------------------------------------------------------- waiting */

void ring_zc_wait(struct conn *c, unsigned nr)
{
	struct ring_zc_sock *s = sock_of(c);

	if (s->waiting || s->admitted)
		return;
	s->waiting = true;
	s->nr_wanted = nr;
	s->next_waiting = NULL;
	*slots.waiting_tail = c;
	slots.waiting_tail = &s->next_waiting;
}

static void stop_waiting(struct conn *c)
{
	struct conn **at = &slots.waiting;

	if (!sock_of(c)->waiting)
		return;
	while (*at != c)
		at = &sock_of(*at)->next_waiting;
	*at = sock_of(c)->next_waiting;
	if (slots.waiting_tail == &sock_of(c)->next_waiting)
		slots.waiting_tail = at;
	sock_of(c)->waiting = false;
}

/* Who has no use for slots any more leaves them to the next. */
void ring_slots_wake(void)
{
	while (slots.waiting && nr_unpromised() >= sock_of(slots.waiting)->nr_wanted) {
		struct conn *c = slots.waiting;

		slots.turn = c;
		stop_waiting(c);
		ur_advance(c);
	}
	slots.turn = NULL;
}

void ring_slots_forget(struct conn *c)
{
	stop_waiting(c);
	ring_zc_end_turn(c);
}
