/* SPDX-License-Identifier: MIT */
/* Result documents: JSON, one line each. */
#ifndef IOLAB_LOAD_OUTPUT_H
#define IOLAB_LOAD_OUTPUT_H

#include <stdint.h>
#include <stdio.h>

#include "load.h"
#include "pairs.h"

/*
 * Writes the result document of a slice (README.md explains its fields) and flushes it. Returns 0
 * or -errno; -ENOMEM when it could not be built.
 */
int output_result(FILE *out, const struct load_config *cfg, const struct slice_result *res);

/* The same of a slice of pairs. */
int output_pairs(FILE *out, const struct pairs_config *cfg, const struct pairs_result *res);

/* Writes {"ready":true,"connections":N}. Returns 0 or -errno. */
int output_ready(FILE *out, uint32_t connections);

/* Writes {"error":"..."}. Returns 0 or -errno. */
int output_error(FILE *out, const char *why);

#endif
