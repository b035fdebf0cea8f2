/* SPDX-License-Identifier: MIT */
/* cmocka with the headers it wants before it. */
#ifndef IOLAB_TEST_CHECK_H
#define IOLAB_TEST_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define NR(array) (sizeof(array) / sizeof((array)[0]))

#endif
