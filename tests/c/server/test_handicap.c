// SPDX-License-Identifier: MIT
/* handicap.c on clocks that the test makes up: reading the wall clock takes time, as it does. */
#include "test.h"

#include "server.h"

TEST_COMPLAIN

enum {
	READING_NS = 50
};

static uint64_t wall_now_ns, cpu_now_ns;

static uint64_t wall_ns(void)
{
	wall_now_ns += READING_NS;
	cpu_now_ns += READING_NS;
	return wall_now_ns;
}

static uint64_t cpu_ns(void)
{
	return cpu_now_ns;
}

static struct handicap begin(unsigned percent)
{
	struct handicap h = {.percent = percent, .clocks = {wall_ns, cpu_ns}};

	wall_now_ns = 1000000;
	cpu_now_ns = 1000;
	return h;
}

/* Serves `nr` responses that cost `own_ns` each; returns what the last half of them spun. */
static uint64_t serve(struct handicap *h, unsigned nr, uint64_t own_ns)
{
	uint64_t unspent = 0, spun = 0;

	for (unsigned i = 0; i < nr; i++) {
		uint64_t one;

		wall_now_ns += own_ns;
		cpu_now_ns += own_ns;
		one = handicap_spin(h, 1, &unspent);
		spun += i >= nr / 2 ? one : 0;
	}
	return spun;
}

static void check_share(unsigned percent, uint64_t own_ns)
{
	struct handicap h = begin(percent);
	uint64_t spun = serve(&h, 20000, own_ns), due = own_ns * 10000 * percent / 100;

	/* Within 2% of it, and the overhead of the clock reading where responses are this short. */
	assert_in_range(spun, due * 98 / 100, due * 104 / 100);
}

static void it_spins_for_its_share(void **state)
{
	check_share(2, 16000);
	check_share(10, 16000);
	check_share(20, 400000);
	check_share(100, 3000);
}

static void it_follows_when_responses_become_dearer(void **state)
{
	struct handicap h = begin(10);
	uint64_t cheap = serve(&h, 4000, 10000), dear = serve(&h, 4000, 40000);

	assert_in_range(dear, cheap * 39 / 10, cheap * 41 / 10);
}

static void short_spins_are_gathered(void **state)
{
	struct handicap h = begin(1);
	uint64_t unspent = 0;

	h.response_ns = 400;
	h.next_ns = UINT64_MAX;
	assert_int_equal(handicap_spin(&h, 1, &unspent), 0);
	assert_int_equal(handicap_spin(&h, 1, &unspent), 0);
	assert_int_equal(unspent, 800);
	assert_in_range(handicap_spin(&h, 1, &unspent), 1200, 1300);
	assert_int_equal(unspent, 0);
}

/* The CPU that others took while it spun is not the server's own, and no debt comes of it. */
static uint64_t stolen_ns;

static uint64_t stolen_wall_ns(void)
{
	wall_now_ns += stolen_ns;
	return wall_ns();
}

static void preemption_counts_little(void **state)
{
	struct handicap h = begin(1);
	uint64_t unspent = 0;

	h.clocks.wall_ns = stolen_wall_ns;
	h.response_ns = 2000;
	h.next_ns = UINT64_MAX;
	stolen_ns = 5000000;
	assert_int_equal(handicap_spin(&h, 1, &unspent), 4000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_spins_for_its_share),
		cmocka_unit_test(it_follows_when_responses_become_dearer),
		cmocka_unit_test(short_spins_are_gathered),
		cmocka_unit_test(preemption_counts_little),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
