/* SPDX-License-Identifier: MIT */
/* Files of a session: what is made, shared, refused and removed. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fresh_dir.h"
#include "house.h"
#include "pages.h"

static void test_everything_made_is_removed(void **state)
{
	struct house_config cfg = {
		.dir = fresh_dir, .size = 5000, .files = 3, .max_bytes = 1 << 20};
	char why[HOUSE_WHY_MAX];
	struct house h;
	struct stat st;

	(void)state;
	assert_int_equal(house_open(&h, &cfg, why), 0);
	assert_int_equal(fresh_dir_entries(), 2);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(fstatat(h.src_dir, h.names[i], &st, 0), 0);
		assert_int_equal(st.st_size, 5000);
	}
	assert_int_equal(house_make_file(h.dst_dir, h.names[1], 10, 1, false), 0);
	house_close(&h);
	assert_int_equal(fresh_dir_entries(), 0);
}

static void test_sources_are_shared_and_stay(void **state)
{
	struct house_config cfg = {.dir = fresh_dir,
				   .source = fresh_dir,
				   .size = 100,
				   .files = 2,
				   .max_bytes = 1 << 20};
	char why[HOUSE_WHY_MAX], path[64];
	struct stat before, after;
	struct house a, b;

	(void)state;
	assert_int_equal(house_open(&a, &cfg, why), 0);
	assert_int_equal(fstatat(a.src_dir, a.names[0], &before, 0), 0);
	assert_int_equal(house_open(&b, &cfg, why), 0);
	assert_int_equal(fstatat(b.src_dir, b.names[0], &after, 0), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	house_close(&a);
	house_close(&b);
	assert_int_equal(fresh_dir_entries(), 1);
	for (unsigned i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/100x2/f%06u", fresh_dir, i);
		assert_return_code(unlink(path), errno);
	}
	snprintf(path, sizeof(path), "%s/100x2", fresh_dir);
	assert_return_code(rmdir(path), errno);
}

static void test_too_much_is_refused_before_anything_is_made(void **state)
{
	struct house_config cfg = {
		.dir = fresh_dir, .size = 1 << 20, .files = 4, .max_bytes = 7 << 20};
	char why[HOUSE_WHY_MAX];
	struct house h;

	(void)state;
	assert_int_equal(house_open(&h, &cfg, why), -EFBIG);
	assert_non_null(strstr(why, "--limit (7 MiB)"));
	house_close(&h);
	cfg.size = UINT64_MAX / 2;
	assert_int_equal(house_open(&h, &cfg, why), -EFBIG);
	house_close(&h);
	cfg = (struct house_config){
		.dir = fresh_dir, .size = 1ull << 60, .files = 1, .max_bytes = 1ull << 62};
	assert_int_equal(house_open(&h, &cfg, why), -ENOSPC);
	assert_non_null(strstr(why, "are free"));
	house_close(&h);
	cfg.dir = "no-such-directory";
	assert_int_equal(house_open(&h, &cfg, why), -ENOENT);
	house_close(&h);
	assert_int_equal(fresh_dir_entries(), 0);
}

static void test_content_differs_by_seed(void **state)
{
	int dir = open(fresh_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char bytes[2][64];

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(house_make_file(dir, "x", sizeof(bytes[i]), (uint64_t)i, false),
				 0);
		int fd = openat(dir, "x", O_RDONLY | O_CLOEXEC);
		assert_int_equal(read(fd, bytes[i], sizeof(bytes[i])), sizeof(bytes[i]));
		close(fd);
		unlinkat(dir, "x", 0);
	}
	close(dir);
	assert_memory_not_equal(bytes[0], bytes[1], sizeof(bytes[0]));
}

static void test_pages_come_and_go(void **state)
{
	int dir = open(fresh_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd;
	uint64_t pages, cached;

	(void)state;
	assert_int_equal(house_make_file(dir, "x", 1000001, 1, true), 0);
	fd = openat(dir, "x", O_RDONLY | O_CLOEXEC);
	unlinkat(dir, "x", 0);
	close(dir);
	assert_int_equal(pages_warm(fd), 0);
	assert_int_equal(pages_resident(fd, &pages, &cached), 0);
	assert_int_equal(pages, (1000001 + sysconf(_SC_PAGESIZE) - 1) / sysconf(_SC_PAGESIZE));
	assert_int_equal(cached, pages);
	assert_int_equal(pages_drop(fd), 0);
	assert_int_equal(pages_resident(fd, &pages, &cached), 0);
	close(fd);
	if (cached == pages)
		skip(); /* a file system in memory, as tmpfs, drops nothing */
	assert_int_equal(cached, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit_test_in_fresh_dir(test_everything_made_is_removed),
		unit_test_in_fresh_dir(test_sources_are_shared_and_stay),
		unit_test_in_fresh_dir(test_too_much_is_refused_before_anything_is_made),
		unit_test_in_fresh_dir(test_content_differs_by_seed),
		unit_test_in_fresh_dir(test_pages_come_and_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
