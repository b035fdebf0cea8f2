/* SPDX-License-Identifier: MIT */
/*
 * When requests are to be sent, in an open loop: a seeded series of times that no answer delays.
 *
 * Constant: equal gaps. Poisson: gaps are exponential and independent, as of many users who do not
 * know of each other. Both have the mean gap 1 / rate.
 *
 * The struct is a cursor and holds no list: a copy of it runs ahead, so that a backlog of any
 * length is counted without being stored.
 */
#ifndef IOLAB_LOAD_ARRIVALS_H
#define IOLAB_LOAD_ARRIVALS_H

#include <stdbool.h>
#include <stdint.h>

enum arrivals_kind {
	ARRIVALS_POISSON,
	ARRIVALS_CONSTANT,
};

/* Names as on the command line and in results, by enum arrivals_kind; ends with NULL. */
extern const char *const arrivals_names[];

/* Bounds of a rate in requests per second. */
#define RATE_MIN 0.001
#define RATE_MAX 1e7

struct arrivals {
	enum arrivals_kind kind;
	double gap_ns;	   /* mean */
	double offset_ns;  /* of the next arrival, from start_ns; exact to 2^-6 ns over a day */
	uint64_t start_ns; /* CLOCK_MONOTONIC */
	uint64_t next_ns;  /* the next arrival, CLOCK_MONOTONIC */
	uint64_t nr;	   /* arrivals before it */
	uint64_t random;   /* state of the generator; goes on from slice to slice */
};

/* Seeds the series; arrivals_begin() is due before anything else. */
void arrivals_init(struct arrivals *a, enum arrivals_kind kind, uint64_t seed);

/* Begins at a time, with `rate` arrivals per second (RATE_MIN to RATE_MAX). */
void arrivals_begin(struct arrivals *a, double rate, uint64_t start_ns);

/* Moves on to the arrival after next_ns. */
void arrivals_advance(struct arrivals *a);

/* How many arrivals there are from next_ns on and before `end_ns`; the cursor stays. */
uint64_t arrivals_before(const struct arrivals *a, uint64_t end_ns);

/*
 * Parses a decimal rate that ends at the end of the text or at one of the characters `ends`, and
 * moves *text there. False when there is none, or none within the bounds.
 */
bool rate_parse(const char **text, const char *ends, double *rate);

#endif
