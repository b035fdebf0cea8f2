// SPDX-License-Identifier: MIT
/* How the options of an engine on a ring come to the ring's configuration. Makes no ring. */
#include "test.h"

#include "ring.h"

#include <string.h>

TEST_COMPLAIN

enum {
	OPT_BUNDLE = COPT_NR,
	OPT_RING,
	OPT_NR = OPT_RING + ROPT_NR,
};

static void take_bundle(struct ring_config *cfg, const int64_t *opt)
{
	cfg->bundle = opt[OPT_BUNDLE];
}

static const struct ring_mover with_options = {.options_at = OPT_RING, .configure = take_bundle};
static const struct ring_mover without_options = {0};

/* The options as they are when nobody gives a value; those before the ring's are 0. */
static void set_defaults(int64_t opt[OPT_NR])
{
	static const struct opt_def ring[] = {RING_OPTIONS, {0}};

	memset(opt, 0, OPT_NR * sizeof(*opt));
	for (int i = 0; i < ROPT_NR; i++)
		opt[OPT_RING + i] = ring[i].def;
}

static void options_are_read_where_the_mover_says(void **state)
{
	int64_t opt[OPT_NR];
	struct ring_config cfg;

	set_defaults(opt);
	opt[OPT_RING + ROPT_ENTRIES] = 64;
	opt[OPT_RING + ROPT_SQPOLL] = 1;
	opt[OPT_RING + ROPT_NAPI] = 70;
	ring_mover_config(&cfg, &with_options, opt);
	assert_int_equal(cfg.entries, 64);
	assert_int_equal(cfg.napi_usec, 70);
	assert_true(cfg.sqpoll);
	assert_false(cfg.defer); /* auto gives way */
	assert_int_equal(cfg.sqpoll_cpu, -1);
	assert_false(cfg.bundle);
}

static void other_options_are_the_movers_to_read(void **state)
{
	int64_t opt[OPT_NR];
	struct ring_config cfg;

	set_defaults(opt);
	opt[OPT_BUNDLE] = 1;
	ring_mover_config(&cfg, &with_options, opt);
	assert_true(cfg.bundle);
	assert_int_equal(cfg.entries, 1024);
}

static void without_values_the_defaults_hold(void **state)
{
	struct ring_config cfg;

	ring_mover_config(&cfg, &with_options, NULL); /* and there is nothing for configure() */
	assert_int_equal(cfg.entries, 1024);
	assert_int_equal(cfg.sqpoll_cpu, -1);
	assert_true(cfg.defer);
	assert_false(cfg.bundle);
}

static void an_engine_without_ring_options_has_their_defaults(void **state)
{
	const int64_t common[COPT_NR] = {16384, 1, HOLD_CORK};
	struct ring_config cfg;

	ring_mover_config(&cfg, &without_options, common);
	assert_int_equal(cfg.entries, 1024);
	assert_true(cfg.defer);
	assert_int_equal(cfg.batch, 1);
}

static void what_excludes_each_other_is_named(void **state)
{
	char reason[REASON_MAX] = "";
	int64_t opt[OPT_NR];

	set_defaults(opt);
	opt[OPT_RING + ROPT_SQPOLL] = 1;
	assert_int_equal(ring_mover_check(&with_options, opt, reason), 0);
	opt[OPT_RING + ROPT_COOP] = 1;
	assert_int_equal(ring_mover_check(&with_options, opt, reason), -EINVAL);
	assert_non_null(strstr(reason, "sqpoll=on and coop_taskrun=on exclude each other"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_are_read_where_the_mover_says),
		cmocka_unit_test(other_options_are_the_movers_to_read),
		cmocka_unit_test(without_values_the_defaults_hold),
		cmocka_unit_test(an_engine_without_ring_options_has_their_defaults),
		cmocka_unit_test(what_excludes_each_other_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
