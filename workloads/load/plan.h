/* SPDX-License-Identifier: MIT */
/* What to ask for next: request texts, and the seeded order in which several paths take turns. */
#ifndef IOLAB_LOAD_PLAN_H
#define IOLAB_LOAD_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "stream.h"
#include "verify.h"

/* One path, and what is remembered of its responses. */
struct route {
	char *path; /* as asked for */
	char *text; /* the request, terminated for convenience */
	size_t text_bytes;
	uint32_t ask_bytes;		/* how much to receive when a response to it is due */
	const struct verify_want *want; /* what its body must be; NULL without --verify; borrowed */
	struct head_cache cache;
};

/*
 * All routes of a run. Each round asks for every path once, in an order shuffled by the seed, so
 * that paths are asked for equally often and a run can be repeated. Zero-initialise.
 */
struct plan {
	struct route *routes;
	uint32_t nr_routes;
	uint32_t *order; /* the round: a permutation of route numbers */
	uint32_t at;	 /* next place in it */
	uint64_t random; /* state of the generator */
	uint32_t only;	 /* the one route that is asked for, PLAN_ALL for all in turn */
	uint32_t depth;
	char *batch; /* room for `depth` requests; with one route always full of them */
};

#define PLAN_ALL UINT32_MAX

/*
 * Builds the requests "GET path HTTP/1.1, Host: host". Returns 0 or -ENOMEM; plan_free() is due in
 * both cases. The strings are copied.
 */
int plan_init(struct plan *p, const char *host, const char *const *paths, uint32_t nr_paths,
	      uint32_t depth, uint64_t seed);
void plan_free(struct plan *p);

/* From now on asks for this route alone, or for PLAN_ALL. Nothing may be outstanding. */
void plan_choose(struct plan *p, uint32_t route);

/* The route of a path, as given to plan_init(), or PLAN_ALL when there is none. */
uint32_t plan_find(const struct plan *p, const char *path);

/* Shuffles the next round; called by plan_next() only. */
void plan_shuffle(struct plan *p);

/* Number of the route whose turn it is. */
static inline uint32_t plan_next(struct plan *p)
{
	if (p->only != PLAN_ALL)
		return p->only;
	if (p->at == p->nr_routes)
		plan_shuffle(p);
	return p->order[p->at++];
}

#endif
