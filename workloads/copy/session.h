/* SPDX-License-Identifier: MIT */
/*
 * One technique copying one set of files, in slices. Closed loop and alone: an operation copies a
 * batch of files, the next one begins when it is over.
 *
 * Only operations are timed. What lies between them (removing copies, dropping the sources from
 * the page cache and looking whether they are gone) is in no figure: a window's length is the sum
 * of its operations'.
 */
#ifndef IOLAB_COPY_SESSION_H
#define IOLAB_COPY_SESSION_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

#include "checks.h"
#include "files.h"
#include "hist.h"
#include "house.h"

/* Why something was no copy, or no copy of the kind asked for. */
enum copy_error {
	COPY_ERR_COPY,	   /* an operation failed */
	COPY_ERR_MISMATCH, /* a copy differs from its source */
	COPY_ERR_CACHE,	   /* sources were not in the page cache (warm), or were (cold) */
	NR_COPY_ERRORS
};

/* Names of the errors as they stand in the result document. */
extern const char *const copy_error_names[NR_COPY_ERRORS];

struct session_config {
	const struct spec *spec;
	struct house_config house;
	unsigned batch;	  /* files of an operation; divides house.files */
	bool cold;	  /* sources are dropped from the page cache before each operation */
	bool fresh;	  /* copies are removed before each operation, instead of written over */
	bool durable;	  /* an operation ends when its copies are on the disk */
	atomic_bool *end; /* set from another thread: end the slice early; or NULL */
	FILE *log;	  /* the first error of each slice in words; NULL for silence */
};

struct copy_counts {
	uint64_t operations, files, bytes;
};

/* What a slice measured. Times in ns; start_ns is CLOCK_MONOTONIC. */
struct copy_result {
	uint64_t start_ns;  /* of the first operation of the window */
	uint64_t window_ns; /* inside operations of the window */
	uint64_t wall_ns;   /* of the window, what lies between operations included */
	uint64_t total_ns;  /* of the slice */
	uint64_t cpu_ns;    /* of this process, all threads, inside operations of the window */
	struct copy_counts window, total;
	uint64_t errors[NR_COPY_ERRORS];
	uint64_t pages;	       /* of the sources of the window's operations, before they began */
	uint64_t pages_cached; /* those of them that were in the page cache */
	struct hist latency;   /* of the window's operations */
};

struct session {
	const struct session_config *cfg;
	struct house house;
	struct copier copier;
	struct check_report checked;
	bool may_clone;
	bool have_copier;
	unsigned next; /* first file of the next operation */
	char why[REASON_MAX];
};

/*
 * Makes the files, sets the technique up and checks its copies byte for byte. 0, or -errno with one
 * sentence in `why` (HOUSE_WHY_MAX bytes); *unsupported then says that it is the technique that
 * cannot do this here. session_close() follows a failure as well.
 */
int session_open(struct session *s, const struct session_config *cfg, bool *unsupported, char *why);

/*
 * Runs one slice: copies every file once, warms up for warmup_ns (one operation at least), measures
 * until operations have taken duration_ns or ten times that has passed (one operation at least),
 * compares the last operation's copies with their sources, and removes all copies. What fails is a
 * result, not an error of this call.
 */
void session_slice(struct session *s, uint64_t warmup_ns, uint64_t duration_ns,
		   struct copy_result *res);

/* Ends the technique and removes the files. */
void session_close(struct session *s);

#endif
