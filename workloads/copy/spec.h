/* SPDX-License-Identifier: MIT */
/* Technique specifications, "name,option=value,...". */
#ifndef IOLAB_COPY_SPEC_H
#define IOLAB_COPY_SPEC_H

#include <stdio.h>

#include "technique.h"

/* A technique with a value for each of its options. */
struct spec {
	const struct technique *technique;
	int64_t opt[OPTIONS_MAX];
};

/*
 * Parses `text`. 0, or -EINVAL with one sentence in `why` (SPEC_WHY_MAX bytes) that names what is
 * wrong and what is allowed.
 */
#define SPEC_WHY_MAX 512
int spec_parse(const char *text, struct spec *spec, char *why);

/* `technique` with the default of every option. */
void spec_default(const struct technique *technique, struct spec *spec);

/* A number of bytes with the suffix k, m or g, also as KiB, MiB, GiB; -1 when it is none. */
int64_t spec_size(const char *text);

#endif
