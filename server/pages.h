/* SPDX-License-Identifier: MIT */
/* The relay's own pages: paths that nobody can send to. */
#ifndef IOLAB_PAGES_H
#define IOLAB_PAGES_H

#include <stdbool.h>
#include <stddef.h>

struct page {
	const char *path, *type; /* type NULL: no body */
	const char *body;
	size_t len;
	int status;
};

/* The fixed page of a path, or NULL: then it is /status, or no page at all. */
const struct page *page_find(const char *path, size_t len);

/* Whether the path is a page, /status included. */
bool page_reserved(const char *path, size_t len);

#endif
