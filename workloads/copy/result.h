/* SPDX-License-Identifier: MIT */
/* Result documents of iolab-copy: JSON, one line each; README.md explains the fields. */
#ifndef IOLAB_COPY_RESULT_H
#define IOLAB_COPY_RESULT_H

#include <stdio.h>

#include "session.h"

/* What a slice measured. 0 or -errno; -ENOMEM when it could not be built. */
int result_slice(FILE *out, const struct session *s, const struct copy_result *res);

/* That a session stands: what was checked, and whether copies may be clones. 0 or -errno. */
int result_ready(FILE *out, const struct session *s);

/* What a check found. 0 or -errno. */
int result_check(FILE *out, const struct spec *spec, const struct check_report *report);

#endif
