/* SPDX-License-Identifier: MIT */
/* Comparing bodies with files by length and 64-bit XXH3 hash. */
#ifndef IOLAB_LOAD_VERIFY_H
#define IOLAB_LOAD_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a body has to be. */
struct verify_want {
	uint64_t hash;
	uint64_t length_bytes;
};

/* A running hash of one body. */
struct verify_hash;

/* Reads a file and fills *want. Returns 0 or -errno. */
int verify_read_file(const char *path, struct verify_want *want);

/* A hash, ready for a body; NULL when memory is out. The caller frees it with verify_hash_free().
 */
struct verify_hash *verify_hash_new(void);
void verify_hash_free(struct verify_hash *h);

/* Forgets what was added: the next byte is the first of a body. */
void verify_hash_reset(struct verify_hash *h);

/* Adds the next bytes of the body. */
void verify_hash_add(struct verify_hash *h, const void *bytes, size_t len);

/* Are the bytes added since the reset those of the file? */
bool verify_hash_matches(const struct verify_hash *h, const struct verify_want *want);

#endif
