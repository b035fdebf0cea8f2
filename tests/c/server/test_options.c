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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),
		cmocka_unit_test(every_engine),
		cmocka_unit_test(unknown_engine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
