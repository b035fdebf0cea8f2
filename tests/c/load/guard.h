/* SPDX-License-Identifier: MIT */
/* Input that ends at an unreadable page: one byte read too many is a crash, in any build. */
#ifndef IOLAB_TEST_GUARD_H
#define IOLAB_TEST_GUARD_H

#include <stddef.h>

struct guard {
	char *base;
	size_t room_bytes; /* readable bytes before the unreadable page */
};

/* Maps a guard for inputs of up to `bytes`; fails the test if it cannot. */
void guard_open(struct guard *g, size_t bytes);
void guard_close(struct guard *g);

/* Copies an input to the end of the readable part and returns it; valid until the next call. */
const char *guard_put(struct guard *g, const char *bytes, size_t len);

#endif
