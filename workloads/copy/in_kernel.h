/* SPDX-License-Identifier: MIT */
/* What the techniques share whose one system call moves bytes from file to file in the kernel. */
#ifndef IOLAB_COPY_IN_KERNEL_H
#define IOLAB_COPY_IN_KERNEL_H

#include <sys/types.h>

#include "technique.h"

/* Their options: `chunk`, the bytes a call asks for. */
extern const struct option_def in_kernel_options[];

/*
 * One call: at most `bytes` of `src`, from *at on, to the same place of `dst`, which is where the
 * last call ended. How many it moved, and *at behind them; 0 at the end of `src`; -1 and errno.
 */
typedef ssize_t in_kernel_call(int src, int dst, off_t *at, size_t bytes);

/* As copy() of struct technique, by one call after another. */
int in_kernel_copy(const struct copier *c, int src, int dst, uint64_t size, in_kernel_call *call);

#endif
