/* SPDX-License-Identifier: MIT */
#include "plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "random.h"

void plan_shuffle(struct plan *p)
{
	for (uint32_t i = p->nr_routes; i > 1; i--) {
		/* The bias of the remainder is below nr_routes / 2^64. */
		uint32_t j = (uint32_t)(random_next(&p->random) % i);
		uint32_t swap = p->order[i - 1];
		p->order[i - 1] = p->order[j];
		p->order[j] = swap;
	}
	p->at = 0;
}

static int route_init(struct route *r, const char *host, const char *path)
{
	int len = asprintf(&r->text, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host);

	r->text = len < 0 ? NULL : r->text;
	r->path = strdup(path);
	if (!r->text || !r->path)
		return -ENOMEM;
	r->text_bytes = (size_t)len;
	return 0;
}

static size_t longest_text(const struct plan *p)
{
	size_t longest = 0;

	for (uint32_t i = 0; i < p->nr_routes; i++) {
		if (p->routes[i].text_bytes > longest)
			longest = p->routes[i].text_bytes;
	}
	return longest;
}

void plan_choose(struct plan *p, uint32_t route)
{
	p->only = route;
	if (route == PLAN_ALL)
		return;
	const struct route *r = &p->routes[route];
	for (uint32_t i = 0; i < p->depth; i++)
		memcpy(p->batch + i * r->text_bytes, r->text, r->text_bytes);
}

uint32_t plan_find(const struct plan *p, const char *path)
{
	for (uint32_t i = 0; i < p->nr_routes; i++) {
		if (strcmp(p->routes[i].path, path) == 0)
			return i;
	}
	return PLAN_ALL;
}

int plan_init(struct plan *p, const char *host, const char *const *paths, uint32_t nr_paths,
	      uint32_t depth, uint64_t seed)
{
	p->random = seed;
	p->routes = calloc(nr_paths, sizeof(*p->routes));
	p->order = calloc(nr_paths, sizeof(*p->order));
	if (!p->routes || !p->order)
		return -ENOMEM;
	p->nr_routes = nr_paths;
	for (uint32_t i = 0; i < nr_paths; i++) {
		p->order[i] = i;
		if (route_init(&p->routes[i], host, paths[i]) < 0)
			return -ENOMEM;
	}
	p->at = nr_paths;
	p->depth = depth;
	p->batch = calloc(depth, longest_text(p));
	if (!p->batch)
		return -ENOMEM;
	plan_choose(p, nr_paths == 1 ? 0 : PLAN_ALL);
	return 0;
}

void plan_free(struct plan *p)
{
	for (uint32_t i = 0; i < p->nr_routes; i++) {
		free(p->routes[i].text);
		free(p->routes[i].path);
	}
	free(p->routes);
	free(p->order);
	free(p->batch);
	*p = (struct plan){0};
}
