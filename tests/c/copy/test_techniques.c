/* SPDX-License-Identifier: MIT */
/*
 * Every technique of the build, with every value of its switches, on files that are not what they
 * were: shorter, longer, in the way of a limit, and while signals interrupt it.
 */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "shared_house.h"

#define SIZE	   (1u << 20)
#define FULL_SPECS 64

static int setup(void **state)
{
	(void)state;
	return shared_house_open(SIZE, 1);
}

/* The technique with its defaults, and with each switch and choice at each other value. */
static unsigned specs_of(const struct technique *t, struct spec *specs)
{
	unsigned nr = 0;

	spec_default(t, &specs[nr++]);
	for (int i = 0; t->options[i].name; i++) {
		const struct option_def *def = &t->options[i];

		for (int64_t v = 0; def->type >= OPTION_BOOL && v <= def->max; v++) {
			if (v == def->def)
				continue;
			assert_true(nr < FULL_SPECS);
			spec_default(t, &specs[nr]);
			specs[nr++].opt[i] = v;
		}
	}
	return nr;
}

typedef void (*try_fn)(struct copier *c);

/* Runs `try` on every specification that works in these directories; says which do not. */
static void for_each_spec(try_fn try)
{
	struct spec specs[FULL_SPECS];
	unsigned tried = 0;

	for (unsigned t = 0; t < nr_techniques; t++) {
		unsigned nr = specs_of(techniques[t], specs);

		for (unsigned i = 0; i < nr; i++) {
			char why[REASON_MAX];
			struct copier c;

			/* files=ring is for small files, and has no copy of its own for others. */
			if (copier_open(&c, &specs[i], &dirs, 4096, 1, why) < 0) {
				print_message("left out: %s: %s\n", specs[i].technique->name, why);
				continue;
			}
			try(&c);
			copier_close(&c);
			tried++;
		}
	}
	assert_true(tried >= nr_techniques);
}

static int open_file(const struct copier *c, int dir, const char *name, int flags)
{
	int fd = openat(dir, name, flags | c->open_flags | O_CLOEXEC, 0600);

	assert_return_code(fd, errno);
	return fd;
}

/* Copies `size` bytes of the house's file with a fresh destination; what copy() says. */
static int copy(struct copier *c, uint64_t size)
{
	int src = open_file(c, house.src_dir, house.names[0], O_RDONLY), dst, res;

	unlinkat(house.dst_dir, house.names[0], 0);
	dst = open_file(c, house.dst_dir, house.names[0], O_RDWR | O_CREAT);
	res = c->technique->copy(c, src, dst, size);
	close(src);
	close(dst);
	return res;
}

static char *contents(int dir, const char *name, size_t *len)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *bytes;

	assert_return_code(fd, errno);
	assert_return_code(fstat(fd, &st), errno);
	*len = (size_t)st.st_size;
	bytes = malloc(*len + 1);
	assert_non_null(bytes);
	assert_int_equal(read(fd, bytes, *len), (ssize_t)*len);
	close(fd);
	return bytes;
}

/* The copy is the first `size` bytes of the source, and nothing else. */
static void assert_copied(uint64_t size)
{
	size_t nr_src, nr_dst;
	char *src = contents(house.src_dir, house.names[0], &nr_src);
	char *dst = contents(house.dst_dir, house.names[0], &nr_dst);

	assert_int_equal(nr_dst, size);
	assert_true(nr_src >= size);
	assert_memory_equal(src, dst, size);
	free(src);
	free(dst);
}

/* The size was looked up, then the source became shorter: said, not padded. */
static void try_shrunk(struct copier *c)
{
	static const uint64_t beyond[] = {SIZE + 1, SIZE + 4096, 3 * SIZE, 2 * SIZE + 100};

	for (size_t i = 0; i < NR(beyond); i++)
		assert_int_equal(copy(c, beyond[i]), -ENODATA);
	/* What the failed copy left behind does not come out in the next. */
	assert_int_equal(copy(c, SIZE), 0);
	assert_copied(SIZE);
}

static void test_a_source_that_shrank_is_an_error(void **state)
{
	(void)state;
	for_each_spec(try_shrunk);
}

/* It became shorter within its last page: what is mapped beyond the end reads as zeros. */
static void try_shrunk_within_a_page(struct copier *c)
{
	char *whole = house.names[0];

	house.names[0] = "odd";
	assert_int_equal(house_make_file(house.src_dir, "odd", 5000, 7, false), 0);
	assert_int_equal(copy(c, 5001), -ENODATA);
	assert_int_equal(copy(c, 8192), -ENODATA);
	assert_int_equal(copy(c, 5000), 0);
	assert_copied(5000);
	unlinkat(house.src_dir, "odd", 0);
	unlinkat(house.dst_dir, "odd", 0);
	house.names[0] = whole;
}

static void test_a_source_that_shrank_within_a_page_is_an_error(void **state)
{
	(void)state;
	for_each_spec(try_shrunk_within_a_page);
}

/* The size was looked up, then the source became longer: the copy is of that size. */
static void try_grown(struct copier *c)
{
	static const uint64_t within[] = {0, 1, 4095, 4096, 65537, SIZE - 1};

	for (size_t i = 0; i < NR(within); i++) {
		assert_int_equal(copy(c, within[i]), 0);
		assert_copied(within[i]);
	}
}

static void test_a_source_that_grew_is_copied_as_far_as_asked(void **state)
{
	(void)state;
	for_each_spec(try_grown);
}

/* Copies with a limit of `bytes` on what may be written; what copy() says. */
static int copy_limited(struct copier *c, rlim_t bytes)
{
	struct rlimit all, some;
	int res;

	assert_return_code(getrlimit(RLIMIT_FSIZE, &all), errno);
	some = (struct rlimit){.rlim_cur = bytes, .rlim_max = all.rlim_max};
	assert_return_code(setrlimit(RLIMIT_FSIZE, &some), errno);
	res = copy(c, SIZE);
	assert_return_code(setrlimit(RLIMIT_FSIZE, &all), errno);
	return res;
}

/*
 * Limits within a block of every technique, the last one too, where nothing comes after a short
 * write; between pages, for O_DIRECT goes no other way.
 */
static void try_limited(struct copier *c)
{
	static const rlim_t limits[] = {SIZE / 2 + 4096, SIZE - 4096};

	for (size_t i = 0; i < NR(limits); i++) {
		int res = copy_limited(c, limits[i]);

		if (res != -EFBIG)
			fail_msg("%s: %d instead of -EFBIG", c->technique->name, res);
		assert_int_equal(copy(c, SIZE), 0);
		assert_copied(SIZE);
	}
}

/* Up to the limit writes are short, then they fail. */
static void test_a_copy_that_may_not_grow_is_an_error(void **state)
{
	(void)state;
	for_each_spec(try_limited);
}

static volatile sig_atomic_t nr_signals;

static void on_alarm(int sig)
{
	(void)sig;
	nr_signals++;
}

static void try_interrupted(struct copier *c)
{
	nr_signals = 0;
	/* Until it was interrupted in earnest, however fast the machine is. */
	while (nr_signals < 20) {
		assert_int_equal(copy(c, SIZE), 0);
		assert_copied(SIZE);
	}
}

static void test_interrupted_calls_are_gone_on_with(void **state)
{
	struct sigaction act = {.sa_handler = on_alarm}, old; /* without SA_RESTART */
	struct itimerval often = {{0, 100}, {0, 100}}, never = {0};

	(void)state;
	assert_return_code(sigaction(SIGALRM, &act, &old), errno);
	assert_return_code(setitimer(ITIMER_REAL, &often, NULL), errno);
	for_each_spec(try_interrupted);
	assert_return_code(setitimer(ITIMER_REAL, &never, NULL), errno);
	sigaction(SIGALRM, &old, NULL);
}

static void try_missing(struct copier *c)
{
	static const char *const names[] = {"nothing"};
	const struct file_batch batch = {
		.src_dir = house.src_dir, .dst_dir = house.dst_dir, .names = names, .nr = 1};

	assert_int_equal(files_copy(c, &batch), -ENOENT);
}

static void test_a_missing_source_is_an_error(void **state)
{
	(void)state;
	for_each_spec(try_missing);
}

/* A batch whose files are shorter than announced, also in chains on a ring. */
static void try_short_batch(struct copier *c)
{
	static const char *const names[] = {"a", "b"};
	struct file_batch batch = {.src_dir = house.src_dir,
				   .dst_dir = house.dst_dir,
				   .names = names,
				   .nr = 2,
				   .size = 4096};

	for (int i = 0; i < 2; i++)
		assert_int_equal(
			house_make_file(house.src_dir, names[i], i ? 4000 : 4096, 1, false), 0);
	assert_int_equal(files_copy(c, &batch), -ENODATA);
	assert_int_equal(house_make_file(house.src_dir, "b", 4096, 2, false), 0);
	assert_int_equal(files_copy(c, &batch), 0);
	for (int i = 0; i < 2; i++) {
		unlinkat(house.src_dir, names[i], 0);
		unlinkat(house.dst_dir, names[i], 0);
	}
}

static void test_a_short_file_in_a_batch_is_an_error(void **state)
{
	(void)state;
	for_each_spec(try_short_batch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_source_that_shrank_is_an_error),
		cmocka_unit_test(test_a_source_that_shrank_within_a_page_is_an_error),
		cmocka_unit_test(test_a_source_that_grew_is_copied_as_far_as_asked),
		cmocka_unit_test(test_a_copy_that_may_not_grow_is_an_error),
		cmocka_unit_test(test_interrupted_calls_are_gone_on_with),
		cmocka_unit_test(test_a_missing_source_is_an_error),
		cmocka_unit_test(test_a_short_file_in_a_batch_is_an_error),
	};

	signal(SIGXFSZ, SIG_IGN);
	return cmocka_run_group_tests(tests, setup, shared_house_close);
}
