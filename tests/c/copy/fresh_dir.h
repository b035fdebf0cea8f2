/* SPDX-License-Identifier: MIT */
/* An empty directory for each test of a program, below the working directory. */
#ifndef IOLAB_TEST_FRESH_DIR_H
#define IOLAB_TEST_FRESH_DIR_H

/* Its name, from the set-up of a test to its tear-down. */
extern char fresh_dir[];

/* A set-up of cmocka: makes the directory. 0 or -1. */
int fresh_dir_make(void **state);

/* A tear-down of cmocka: removes it. 0, or -1 when the test has left something in it. */
int fresh_dir_remove(void **state);

/* The test of a cmocka list that has a directory of its own. */
#define unit_test_in_fresh_dir(test) \
	cmocka_unit_test_setup_teardown(test, fresh_dir_make, fresh_dir_remove)

/* How many files and directories are in it; those whose names begin with a dot do not count. */
unsigned fresh_dir_entries(void);

#endif
