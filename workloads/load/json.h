/* SPDX-License-Identifier: MIT */
/* What result documents have in common: exact integers, histograms, one line each. */
#ifndef IOLAB_LOAD_JSON_H
#define IOLAB_LOAD_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "hist.h"

/*
 * Adds an integer, exactly. `object` may be NULL, as after a failed allocation: json_print() then
 * reports it.
 */
void json_add(cJSON *object, const char *name, uint64_t value);

/* The same when `known`, else null: there is nothing to say. */
void json_add_if(cJSON *object, const char *name, bool known, uint64_t value);

/* Adds as `name` a histogram of ns with its percentiles. `kind` says what was timed. */
void json_add_hist(cJSON *doc, const char *name, const struct hist *h, const char *kind);

/* Writes and flushes the document as one line, and frees it. 0 or -errno; -ENOMEM for NULL. */
int json_print(FILE *out, cJSON *doc);

#endif
