/* SPDX-License-Identifier: MIT */
/*
 * A worker's cache of open files. An entry has everything a response needs: the descriptor, size,
 * validators, a preformatted head for the plain 200, and, as the engine wishes, a copy of the whole
 * file behind that head or a mapping. Entries are looked at again after cache_valid_ms.
 */
#ifndef IOLAB_FILE_CACHE_H
#define IOLAB_FILE_CACHE_H

#include "server.h"

#include <time.h>
#include <uthash.h>

#define FILE_HEAD_BYTES 384
#define ETAG_BYTES	40

/*
 * Head and body in one piece, for SOURCE_MEMORY and SOURCE_CONSTANT: head_len bytes of head, then
 * the body, in data[], or in a memfd for an engine that moves pages of files.
 */
struct file_memory {
	struct lease lease;
	struct worker *w;
	const struct body_memory *from; /* NULL: the heap */
	size_t bytes;			/* of this structure and data[] */
	int fd;				/* memfd, or -1: data */
	char data[];
};

struct file_entry {
	struct lease lease; /* one reference is the cache's */
	UT_hash_handle hh;
	int fd; /* -1 for the constant */
	uint64_t size;
	struct timespec mtime;
	dev_t dev;
	ino_t ino;
	uint64_t checked_ns;
	uint32_t date_gen; /* of the date now in the head */
	uint16_t head_len, date_at;
	bool used; /* since the cache last looked for something to drop */
	const char *type;
	const char *map; /* whole file, or NULL */
	struct file_memory *mem;
	char etag[ETAG_BYTES];
	char last_modified[DATE_BYTES + 1];
	char head[FILE_HEAD_BYTES]; /* when there is no mem */
	uint16_t key_len;
	char key[]; /* request target up to the query, as received */
};

struct file_cache *file_cache_create(struct server *srv, struct worker *w);
void file_cache_destroy(struct file_cache *fc);

/* The entry for a request target, fresh, or NULL when it must be opened. The cache's reference. */
struct file_entry *file_cache_find(struct file_cache *fc, const char *key, size_t len);

/*
 * Opens path (relative to the root, decoded) and caches it under key. 0 with *entry set, or the
 * HTTP status that says why not; 301 for a directory named without its slash.
 */
int file_cache_open(struct file_cache *fc, const char *key, size_t len, const char *path,
		    struct file_entry **entry);

/*
 * The plain 200 with the present date: the head, and the body behind it if the entry has mem.
 * *lease is a reference that keeps it alive. NULL while it cannot be had (the old date is in
 * flight); the caller then makes a head of its own. For a memfd the result is an empty string.
 */
const char *file_entry_head(struct file_cache *fc, struct file_entry *e, struct lease **lease);

#endif
