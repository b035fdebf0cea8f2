// SPDX-License-Identifier: MIT
/* options.c: sizes and engine specifications; every engine of the registry. */
#include "test.h"

#include "server.h"

#include <string.h>

TEST_COMPLAIN

static void sizes(void **state)
{
	static const struct {
		const char *text;
		int64_t value;
	} cases[] = {
		{"0", 0},
		{"17", 17},
		{"4k", 4096},
		{"4K", 4096},
		{"4KiB", 4096},
		{"2m", 2 << 20},
		{"1g", 1 << 30},
		{"", -1},
		{"-1", -1},
		{"x", -1},
		{"1kk", -1},
		{"1t", -1},
		{"1k5", -1},
		{"1 k", -1},
		{"99999999999999999999", -1},
		{"9999999999g", -1},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_int_equal(parse_size(cases[i].text), cases[i].value);
}

static int parse(struct server_config *cfg, const char *name, const char *rest)
{
	char spec[256];

	snprintf(spec, sizeof(spec), "%s%s", name, rest);
	return engine_spec_parse(cfg, spec);
}

static void every_engine(void **state)
{
	assert_true(nr_engines >= 8);
	for (unsigned i = 0; i < nr_engines; i++) {
		const struct engine *e = engines[i];
		struct server_config cfg = {0};

		assert_int_equal(e->api, ENGINE_API);
		if (role_fits(&role_file, e))
			assert_non_null(e->bodies);
		assert_non_null(e->worker_run);
		assert_string_equal(e->options[COPT_SNDBUF].name, "sndbuf");
		assert_string_equal(e->options[COPT_NODELAY].name, "nodelay");
		assert_int_equal(parse(&cfg, e->name, ""), 0);
		assert_ptr_equal(cfg.engine, e);
		for (int o = 0; e->options[o].name; o++) {
			assert_true(o < ENGINE_OPTS_MAX);
			assert_int_equal(cfg.opt[o], e->options[o].def);
			assert_true(e->options[o].def >= e->options[o].min &&
				    e->options[o].def <= e->options[o].max);
		}
		assert_int_equal(parse(&cfg, e->name, ",sndbuf=64k,nodelay=off"), 0);
		assert_int_equal(cfg.opt[COPT_SNDBUF], 65536);
		assert_int_equal(cfg.opt[COPT_NODELAY], 0);
		assert_int_equal(parse(&cfg, e->name, ",sndbuf=2g"), -EINVAL);
		assert_int_equal(parse(&cfg, e->name, ",nodelay=2"), -EINVAL);
		assert_int_equal(parse(&cfg, e->name, ",nonsense"), -EINVAL);
	}
}

static void unknown_engine(void **state)
{
	struct server_config cfg = {0};

	assert_int_equal(parse(&cfg, "warp", ""), -EINVAL);
}

/* The position of an option of the first engine that has it; parses "engine,rest" into cfg. */
static int parse_option(struct server_config *cfg, const char *option, const char *rest, int *at)
{
	for (unsigned i = 0; i < nr_engines; i++)
		for (*at = 0; engines[i]->options[*at].name; ++*at)
			if (!strcmp(engines[i]->options[*at].name, option))
				return parse(cfg, engines[i]->name, rest);
	fail_msg("no engine has option %s", option);
	return 0;
}

static void numbers_below_zero(void **state)
{
	struct server_config cfg = {0};
	int at;

	assert_int_equal(parse_option(&cfg, "sqpoll_cpu", ",sqpoll_cpu=-1", &at), 0);
	assert_int_equal(cfg.opt[at], -1);
	assert_int_equal(parse_option(&cfg, "sqpoll_cpu", ",sqpoll_cpu=3", &at), 0);
	assert_int_equal(cfg.opt[at], 3);
	assert_int_equal(parse_option(&cfg, "sqpoll_cpu", ",sqpoll_cpu=-2", &at), -EINVAL);
	assert_int_equal(parse_option(&cfg, "sqpoll_cpu", ",sqpoll_cpu=x", &at), -EINVAL);
	assert_int_equal(parse_option(&cfg, "sqpoll_cpu", ",sqpoll_cpu=-", &at), -EINVAL);
	assert_int_equal(parse_option(&cfg, "sqpoll_cpu", ",sqpoll_cpu=-x", &at), -EINVAL);
	assert_int_equal(parse_option(&cfg, "ring_entries", ",ring_entries=-1", &at), -EINVAL);
}

static int check_options(const char *rest, char reason[REASON_MAX])
{
	struct server_config cfg = {0};
	int at;

	assert_int_equal(parse_option(&cfg, "sqpoll", rest, &at), 0);
	return cfg.engine->check(cfg.opt, false, reason);
}

static void options_that_exclude_each_other(void **state)
{
	static const char *const wrong[] = {
		",sqpoll=on,defer_taskrun=on",
		",sqpoll=on,coop_taskrun=on",
		",coop_taskrun=on,defer_taskrun=on",
	};
	static const char *const right[] = {
		"",
		",sqpoll=on",
		",coop_taskrun=on",
		",sqpoll=on,defer_taskrun=off",
		",defer_taskrun=on",
	};
	char reason[REASON_MAX];

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		*reason = '\0';
		assert_int_equal(check_options(wrong[i], reason), -EINVAL);
		assert_non_null(strstr(reason, "exclude each other"));
	}
	for (size_t i = 0; i < sizeof(right) / sizeof(*right); i++)
		assert_int_equal(check_options(right[i], reason), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),
		cmocka_unit_test(every_engine),
		cmocka_unit_test(unknown_engine),
		cmocka_unit_test(numbers_below_zero),
		cmocka_unit_test(options_that_exclude_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
