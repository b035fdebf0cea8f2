/* SPDX-License-Identifier: MIT */
/* cmocka with what it wants included first, and what the skeleton wants of a program. */
#ifndef IOLAB_TEST_H
#define IOLAB_TEST_H

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdio.h>

/* The skeleton leaves messages to its program; tests stay silent. */
#define TEST_COMPLAIN                       \
	void complain(const char *fmt, ...) \
	{                                   \
	}

#endif
