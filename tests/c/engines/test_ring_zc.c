// SPDX-License-Identifier: MIT
/*
 * ring_zc.c, ring_zc_slots.c: who gets a registered buffer that comes back, however its send ended,
 * and what a send holds until its last completion. Completions are made up here; the driver is the
 * test.
 */
#include "test.h"

#include "drive_ring.h"
#include "ring_zc.h"

#include <string.h>

TEST_COMPLAIN

enum {
	NR_SLOTS = 2,
	NR_CONNS = 5,
	SLOT_BYTES = 4096,
};

/*
 * A connection that wants to send for ever, or, once it has given up, nothing more. Each send is a
 * transfer, unless the transfer goes on.
 */
struct sender {
	struct conn c;
	struct ring_zc_sock sock;
	struct ring_zc *z; /* its send in flight; the last one it began */
	unsigned nr_slots; /* that a transfer of it asks for; 0: one */
	bool goes_on;	   /* its transfer, after a send */
	bool moving;	   /* the result of z is to come */
	bool gave_up;
	int last_result;
};

static struct bench {
	struct worker w;
	struct ur_worker ur;
	struct counters ctr;
	struct sender s[NR_CONNS];
	struct sender *order[32]; /* who began a send, in order */
	unsigned nr_begun;
} b;

static struct sender *sender_of(const struct conn *c)
{
	return (struct sender *)(uintptr_t)c;
}

/* No test here probes the kernel. */
int ring_refuse(int res, char reason[REASON_MAX], const char *need)
{
	fail_msg("asked about %s: %d", need, res);
	return res;
}

/* As io_uring_zc does: a slot and a send, or waiting for one. */
void ur_advance(struct conn *c)
{
	struct sender *s = sender_of(c);
	unsigned nr = s->nr_slots ? s->nr_slots : 1;
	struct io_uring_sqe sqe = {0};
	struct ring_zc *z;

	if (s->moving || s->gave_up)
		return;
	z = ring_zc_new(c, RING_OWN, 3);
	assert_non_null(z);
	if (!ring_zc_take_slot(z, nr)) {
		ring_zc_free(z);
		ring_zc_wait(c, nr);
		return;
	}
	ring_zc_tag(z, &sqe, SLOT_BYTES);
	s->z = z;
	s->moving = true;
	b.order[b.nr_begun++] = s;
}

void ur_on_move(struct conn *c, unsigned op, uint16_t index, int res)
{
	struct sender *s = sender_of(c);

	assert_int_equal(op, 3);
	assert_int_equal(index, RING_OWN);
	s->moving = false;
	s->last_result = res;
	if (res < 0)
		s->gave_up = true;
	if (s->gave_up || !s->goes_on)
		ring_zc_end_turn(c);
	ur_advance(c);
}

static int begin(void **state)
{
	memset(&b, 0, sizeof(b));
	if (io_uring_queue_init(8, &b.ur.ring.uring, 0)) {
		print_message("io_uring is switched off here: slots cannot be registered\n");
		skip();
	}
	b.w = (struct worker){.priv = &b.ur, .ctr = &b.ctr};
	for (unsigned i = 0; i < NR_CONNS; i++)
		b.s[i].c = (struct conn){.w = &b.w, .ctr = &b.ctr, .mover = &b.s[i].sock};
	return ring_zc_init(&b.w, NR_SLOTS, SLOT_BYTES);
}

static int end(void **state)
{
	ring_zc_exit(&b.w);
	io_uring_queue_exit(&b.ur.ring.uring);
	return 0;
}

static void complete(struct ring_zc *z, int res, unsigned flags)
{
	struct io_uring_cqe cqe = {.res = res, .flags = flags};

	ring_zc_completed(&b.w, z, &cqe);
}

static void notify(struct ring_zc *z)
{
	complete(z, 0, IORING_CQE_F_NOTIF);
}

/* The first two of the senders have the slots, the others wait in order. */
static void all_ask(void)
{
	for (unsigned i = 0; i < NR_CONNS; i++)
		ur_advance(&b.s[i].c);
	assert_int_equal(b.nr_begun, NR_SLOTS);
}

static void the_slot_of_a_refused_send_goes_to_who_waits(void **state)
{
	struct ring_zc *z;

	all_ask();
	z = b.s[0].z;
	complete(z, -ECONNRESET, IORING_CQE_F_MORE);
	assert_int_equal(b.s[0].last_result, -ECONNRESET);
	assert_int_equal(b.nr_begun, 2); /* the kernel may still have the memory */
	notify(z);			 /* and the other slot's send is in flight */
	assert_int_equal(b.nr_begun, 3);
	assert_ptr_equal(b.order[2], &b.s[2]);
}

/* Two for each: the first takes both, again and again, and then the next has both. */
static void a_transfer_keeps_its_slots_until_its_end(void **state)
{
	struct ring_zc *z;

	for (unsigned i = 0; i < NR_CONNS; i++)
		b.s[i].nr_slots = NR_SLOTS;
	b.s[0].goes_on = b.s[1].goes_on = true;
	for (unsigned i = 0; i < NR_CONNS; i++)
		ur_advance(&b.s[i].c);
	assert_int_equal(b.nr_begun, 1);
	for (unsigned i = 0; i < 10; i++) {
		z = b.s[0].z;
		complete(z, SLOT_BYTES, IORING_CQE_F_MORE); /* the next one begins beside it */
		assert_int_equal(b.nr_begun, i + 2);
		assert_ptr_equal(b.order[i + 1], &b.s[0]);
		notify(z);
	}
	z = b.s[0].z;
	b.s[0].goes_on = false;
	b.s[0].gave_up = true;
	complete(z, SLOT_BYTES, IORING_CQE_F_MORE);
	assert_int_equal(b.nr_begun, 11); /* one slot is free, which is no use to the next */
	notify(z);
	assert_int_equal(b.nr_begun, 12);
	assert_ptr_equal(b.order[11], &b.s[1]);
	complete(b.s[1].z, SLOT_BYTES, IORING_CQE_F_MORE);
	assert_ptr_equal(b.order[12], &b.s[1]);
}

static void what_a_transfer_was_not_promised_goes_to_who_waits(void **state)
{
	struct ring_zc *promised, *beyond;

	b.s[0].goes_on = true;
	ur_advance(&b.s[0].c);
	promised = b.s[0].z;
	complete(promised, SLOT_BYTES, IORING_CQE_F_MORE); /* nobody waits: it has the other */
	beyond = b.s[0].z;
	assert_int_equal(b.nr_begun, NR_SLOTS);
	ur_advance(&b.s[1].c);
	complete(beyond, SLOT_BYTES, IORING_CQE_F_MORE);
	notify(beyond);
	assert_ptr_equal(b.order[2], &b.s[1]);
	notify(promised);
	assert_ptr_equal(b.order[3], &b.s[0]);
	assert_false(b.s[0].sock.waiting);
}

/* What was promised to a connection that is closed in the middle of its transfer. */
static void who_is_closed_keeps_nothing(void **state)
{
	b.s[0].goes_on = true;
	b.s[0].nr_slots = NR_SLOTS;
	ur_advance(&b.s[0].c);
	b.s[0].gave_up = b.s[1].goes_on = true;
	ring_zc_forget(&b.s[0].c);
	ur_advance(&b.s[1].c);
	assert_int_equal(b.nr_begun, 2);
	notify(b.s[0].z);
	complete(b.s[1].z, SLOT_BYTES, IORING_CQE_F_MORE);
	assert_int_equal(b.nr_begun, 3);
	assert_ptr_equal(b.order[2], &b.s[1]);
}

static void nobody_fails_while_refused_sends_hold_all_slots(void **state)
{
	struct ring_zc *z[NR_SLOTS];

	for (unsigned i = 0; i < NR_SLOTS; i++)
		ur_advance(&b.s[i].c);
	for (unsigned i = 0; i < NR_SLOTS; i++)
		complete(z[i] = b.s[i].z, -EPIPE, IORING_CQE_F_MORE);
	assert_int_equal(b.ctr.zc_inflight_bytes, 0);
	ur_advance(&b.s[2].c); /* nothing is in flight, and yet no slot is free */
	assert_false(b.s[2].moving);
	for (unsigned i = 0; i < NR_SLOTS; i++)
		notify(z[i]);
	assert_true(b.s[2].moving);
}

static void a_slot_goes_round(void **state)
{
	all_ask();
	for (unsigned i = 0; i < 10; i++) {
		struct ring_zc *z = b.order[i]->z;

		complete(z, SLOT_BYTES, IORING_CQE_F_MORE);
		notify(z);
		assert_ptr_equal(b.order[i + 2], &b.s[(i + 2) % NR_CONNS]);
	}
	assert_int_equal(b.ctr.zc_notified, 10);
}

/* Who waits for its own notifications, not for a slot, is no further ahead than who asks last. */
static void who_did_not_wait_gets_no_slot_first(void **state)
{
	struct ring_zc *z;

	all_ask();
	z = b.s[0].z;
	b.s[0].gave_up = true; /* enough is in flight */
	complete(z, SLOT_BYTES, IORING_CQE_F_MORE);
	b.s[0].gave_up = false;
	notify(z);
	assert_ptr_equal(b.order[2], &b.s[2]);
	assert_true(b.s[0].sock.waiting);
}

static void who_lost_interest_leaves_the_slot_to_the_next(void **state)
{
	struct ring_zc *z;

	all_ask();
	b.s[2].gave_up = true;
	z = b.s[0].z;
	b.s[0].gave_up = true;
	complete(z, SLOT_BYTES, IORING_CQE_F_MORE);
	notify(z);
	assert_ptr_equal(b.order[2], &b.s[3]);
}

static void who_is_closed_waits_no_more(void **state)
{
	struct ring_zc *z;

	all_ask();
	ring_zc_forget(&b.s[4].c); /* the last */
	ring_zc_forget(&b.s[2].c); /* and the first of those who wait */
	ur_advance(&b.s[4].c);	   /* behind the one that is left */
	for (unsigned i = 0; i < NR_SLOTS; i++) {
		z = b.s[i].z;
		b.s[i].gave_up = true;
		complete(z, SLOT_BYTES, IORING_CQE_F_MORE);
		notify(z);
	}
	assert_ptr_equal(b.order[2], &b.s[3]);
	assert_ptr_equal(b.order[3], &b.s[4]);
}

/* A send whose link was broken: cancelled without F_MORE, and notified all the same, or not. */
static void a_cancelled_send_gives_its_slot_back_once(void **state)
{
	struct ring_zc *z;

	all_ask();
	z = b.s[0].z;
	complete(z, -ECANCELED, 0);
	assert_int_equal(b.nr_begun, 3);
	assert_ptr_equal(b.order[2], &b.s[2]);
	notify(z);
	assert_int_equal(b.nr_begun, 3); /* the slot is s[2]'s now */
	assert_int_equal(b.ctr.zc_notified, 0);
	assert_int_equal(b.ctr.zc_inflight_bytes, 2 * SLOT_BYTES);
}

static void a_send_outlives_its_connection(void **state)
{
	struct ring_zc *z;

	ur_advance(&b.s[0].c);
	z = b.s[0].z;
	b.s[0].gave_up = true;
	complete(z, SLOT_BYTES / 2, IORING_CQE_F_MORE);
	assert_int_equal(ring_zc_held(&b.s[0].c), 1);
	assert_int_equal(b.ctr.zc_inflight_bytes, SLOT_BYTES / 2);
	ring_zc_forget(&b.s[0].c);
	memset(&b.s[0], 0xff, sizeof(b.s[0]));
	notify(z);
	assert_int_equal(b.ctr.zc_inflight_bytes, 0);
	assert_int_equal(b.ctr.zc_notified, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_slot_of_a_refused_send_goes_to_who_waits, begin,
						end),
		cmocka_unit_test_setup_teardown(nobody_fails_while_refused_sends_hold_all_slots,
						begin, end),
		cmocka_unit_test_setup_teardown(a_slot_goes_round, begin, end),
		cmocka_unit_test_setup_teardown(a_transfer_keeps_its_slots_until_its_end, begin,
						end),
		cmocka_unit_test_setup_teardown(what_a_transfer_was_not_promised_goes_to_who_waits,
						begin, end),
		cmocka_unit_test_setup_teardown(who_is_closed_keeps_nothing, begin, end),
		cmocka_unit_test_setup_teardown(who_did_not_wait_gets_no_slot_first, begin, end),
		cmocka_unit_test_setup_teardown(who_lost_interest_leaves_the_slot_to_the_next,
						begin, end),
		cmocka_unit_test_setup_teardown(who_is_closed_waits_no_more, begin, end),
		cmocka_unit_test_setup_teardown(a_cancelled_send_gives_its_slot_back_once, begin,
						end),
		cmocka_unit_test_setup_teardown(a_send_outlives_its_connection, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
