/* SPDX-License-Identifier: MIT */
#ifndef IOLAB_COPY_DESCRIBE_H
#define IOLAB_COPY_DESCRIBE_H

#include "files.h"

/*
 * Prints what this binary holds, and what works between the two directories, as JSON on standard
 * output. 0 or -errno.
 */
int describe(const struct copy_dirs *dirs);

#endif
