/* SPDX-License-Identifier: MIT */
/* One house for all tests of a program: set-up and tear-down of a cmocka group. */
#ifndef IOLAB_TEST_SHARED_HOUSE_H
#define IOLAB_TEST_SHARED_HOUSE_H

#include <stdint.h>

#include "files.h"
#include "house.h"

/* The house, and its directories as copiers want them; open from set-up to tear-down. */
extern struct house house;
extern struct copy_dirs dirs;

/*
 * Opens the house below the working directory, with `files` sources of `size` bytes. 0, or -1 after
 * saying why on standard error.
 */
int shared_house_open(uint64_t size, unsigned files);

/* Removes what shared_house_open() made; a tear-down of cmocka as it stands. Returns 0. */
int shared_house_close(void **state);

#endif
