/* SPDX-License-Identifier: MIT */
/*
 * Body comparison. XXH3 is compiled in from its header, so that the compiler can specialise it for
 * this machine's build flags and no library has to be there at run time.
 */
#include "verify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define READ_BYTES (256 * 1024)

struct verify_hash {
	XXH3_state_t *state; /* needs more alignment than malloc gives: XXH3_createState() */
	uint64_t length_bytes;
};

void verify_hash_reset(struct verify_hash *h)
{
	XXH3_64bits_reset(h->state);
	h->length_bytes = 0;
}

struct verify_hash *verify_hash_new(void)
{
	struct verify_hash *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->state = XXH3_createState();
	if (!h->state) {
		free(h);
		return NULL;
	}
	verify_hash_reset(h);
	return h;
}

void verify_hash_free(struct verify_hash *h)
{
	if (!h)
		return;
	XXH3_freeState(h->state);
	free(h);
}

void verify_hash_add(struct verify_hash *h, const void *bytes, size_t len)
{
	XXH3_64bits_update(h->state, bytes, len);
	h->length_bytes += len;
}

bool verify_hash_matches(const struct verify_hash *h, const struct verify_want *want)
{
	return h->length_bytes == want->length_bytes && XXH3_64bits_digest(h->state) == want->hash;
}

/* Hashes an open file to its end. Returns 0 or -errno. */
static int hash_fd(int fd, struct verify_hash *h, char *buf)
{
	for (;;) {
		ssize_t n = read(fd, buf, READ_BYTES);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		verify_hash_add(h, buf, (size_t)n);
	}
}

int verify_read_file(const char *path, struct verify_want *want)
{
	int res = -ENOMEM;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	struct verify_hash *h = verify_hash_new();
	char *buf = malloc(READ_BYTES);
	if (h && buf)
		res = hash_fd(fd, h, buf);
	if (res == 0) {
		want->hash = XXH3_64bits_digest(h->state);
		want->length_bytes = h->length_bytes;
	}
	free(buf);
	verify_hash_free(h);
	close(fd);
	return res;
}
