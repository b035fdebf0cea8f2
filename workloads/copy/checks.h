/* SPDX-License-Identifier: MIT */
/* Whether copies are right, byte for byte, before anything is timed. */
#ifndef IOLAB_COPY_CHECKS_H
#define IOLAB_COPY_CHECKS_H

#include <stdint.h>

#include "files.h"

#define CHECK_WHY_MAX 512

struct check_report {
	unsigned checks;	 /* copies that were compared */
	unsigned refused;	 /* sizes that the technique says it does not take */
	unsigned failures;	 /* wrong or failed copies */
	char why[CHECK_WHY_MAX]; /* the first failure in words */
};

/*
 * Compares the file `name` in two directories. 0: equal; -EILSEQ: they differ, and `why`
 * (CHECK_WHY_MAX bytes) says where; another -errno when they cannot be read.
 */
int check_same(const struct copy_dirs *dirs, const char *name, char *why);

/*
 * Copies files of sizes around pages, 64 KiB and 2 MiB, empty ones, sparse ones, ones that exist
 * already, and batches, and compares each. Its files are gone when it returns. 0, or -errno when
 * nothing could be checked; wrong copies are in the report.
 */
int check_technique(const struct spec *spec, const struct copy_dirs *dirs,
		    struct check_report *report);

/*
 * Whether the technique works between the directories, found by copying and comparing a small
 * file. 0, or -errno with one sentence in `why` (REASON_MAX bytes).
 */
int check_probe(const struct spec *spec, const struct copy_dirs *dirs, char *why);

#endif
