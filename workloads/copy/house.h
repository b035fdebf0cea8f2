/* SPDX-License-Identifier: MIT */
/* The files of a session: sources made once, copies that come and go, and their end. */
#ifndef IOLAB_COPY_HOUSE_H
#define IOLAB_COPY_HOUSE_H

#include <stdbool.h>
#include <stdint.h>

#define HOUSE_WHY_MAX 512

struct house_config {
	const char *dir;    /* an existing directory: of sources, and of copies without `to` */
	const char *to;	    /* an existing directory for the copies, or NULL */
	const char *source; /* an existing directory of sources shared by sessions, or NULL */
	uint64_t size;	    /* of each file, in bytes */
	unsigned files;
	uint64_t max_bytes; /* that sources and copies may take together */
};

/* Read by anybody; written by house_* only. */
struct house {
	int src_dir, dst_dir;
	char **names; /* of the files, the same in both directories */
	unsigned files;
	uint64_t size;
	char *src_path, *dst_path; /* to be removed; src_path is NULL when the sources are shared */
};

/*
 * Makes the sources (seeded content, on the disk when this returns) and an empty directory for the
 * copies. Shared sources are found, or made under a temporary name and renamed, so that sessions
 * may begin at the same time. 0, or -errno with one sentence in `why` (HOUSE_WHY_MAX bytes): no
 * room, or more bytes than max_bytes. house_close() follows a failure as well.
 */
int house_open(struct house *h, const struct house_config *cfg, char *why);

/* Removes the copies of files `first` to `first + nr - 1`, as far as there are any. */
void house_remove_copies(const struct house *h, unsigned first, unsigned nr);

/* Removes everything that house_open() made, except for shared sources. */
void house_close(struct house *h);

/*
 * Makes a file of `size` pseudo-random bytes, different for each `seed`. With `durable` it is on
 * the disk when this returns: only clean pages can be dropped from the page cache. 0 or -errno.
 */
int house_make_file(int dir, const char *name, uint64_t size, uint64_t seed, bool durable);

#endif
