/* SPDX-License-Identifier: MIT */
/* Technique specifications and sizes. */
#include "check.h"

#include <errno.h>
#include <string.h>

#include "spec.h"

static void test_sizes(void **state)
{
	(void)state;
	assert_int_equal(spec_size("0"), 0);
	assert_int_equal(spec_size("4096"), 4096);
	assert_int_equal(spec_size("64k"), 64 << 10);
	assert_int_equal(spec_size("2MiB"), 2 << 20);
	assert_int_equal(spec_size("1G"), 1 << 30);
	for (const char *const *text =
		     (const char *const[]){"", "k", "-1", "+1", " 1", "1x", "1kk", "1kB", "1ki",
					   "99999999999g", "99999999999999999999", NULL};
	     *text; text++)
		assert_int_equal(spec_size(*text), -1);
}

static void test_every_technique_is_named_as_it_describes_itself(void **state)
{
	char why[SPEC_WHY_MAX];
	struct spec spec;

	(void)state;
	for (unsigned i = 0; i < nr_techniques; i++) {
		const struct option_def *def = techniques[i]->options;

		assert_int_equal(spec_parse(techniques[i]->name, &spec, why), 0);
		assert_ptr_equal(spec.technique, techniques[i]);
		for (int o = 0; def[o].name; o++) {
			assert_true(o < OPTIONS_MAX);
			assert_int_equal(spec.opt[o], def[o].def);
			assert_true(def[o].def >= def[o].min && def[o].def <= def[o].max);
			assert_non_null(def[o].help);
		}
	}
}

static void test_options_are_set(void **state)
{
	char why[SPEC_WHY_MAX];
	struct spec spec;

	(void)state;
	assert_int_equal(spec_parse("read-write,direct=on,buffer=1m", &spec, why), 0);
	assert_int_equal(spec.opt[0], 1 << 20);
	assert_int_equal(spec.opt[1], 1);
	assert_int_equal(spec_parse("read-write,direct", &spec, why), 0);
	assert_int_equal(spec.opt[1], 1);
	assert_int_equal(spec_parse("mmap,to=mapping", &spec, why), 0);
	assert_int_equal(spec.opt[0], 1);
}

static void test_mistakes_are_answered_with_what_is_allowed(void **state)
{
	static const struct {
		const char *text, *words;
	} wrong[] = {
		{"", "no technique ''; there are: read-write"},
		{"cp", "no technique 'cp'; there are: read-write sendfile"},
		{"mmap,too=write", "no option 'too'; there are: to window populate"},
		{"mmap,to=disk", "to=disk is not allowed; allowed: write mapping"},
		{"mmap,populate=perhaps", "allowed: on off"},
		{"read-write,buffer=1", "allowed: 4096 to 67108864"},
		{"read-write,buffer=much", "allowed: 4096 to"},
		{"read-write,", "no option ''"},
	};
	char why[SPEC_WHY_MAX];
	struct spec spec;

	(void)state;
	for (size_t i = 0; i < NR(wrong); i++) {
		assert_int_equal(spec_parse(wrong[i].text, &spec, why), -EINVAL);
		if (!strstr(why, wrong[i].words))
			fail_msg("'%s': %s", wrong[i].text, why);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_every_technique_is_named_as_it_describes_itself),
		cmocka_unit_test(test_options_are_set),
		cmocka_unit_test(test_mistakes_are_answered_with_what_is_allowed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
