/* SPDX-License-Identifier: MIT */
#include "pattern.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#define BYTES (2 * (size_t)PATTERN_PERIOD)

/* xorshift64* (Vigna 2016, "An experimental exploration of Marsaglia's xorshift generators"). */
static uint64_t next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull;
}

static void fill(char *bytes, uint64_t seed)
{
	uint64_t state = seed * 2 + 1;

	for (size_t at = 0; at < PATTERN_PERIOD; at += 8) {
		uint64_t word = next(&state);
		size_t left = PATTERN_PERIOD - at;

		memcpy(bytes + at, &word, left < 8 ? left : 8);
	}
	memcpy(bytes + PATTERN_PERIOD, bytes, PATTERN_PERIOD);
}

int pattern_init(struct pattern *p, uint64_t seed)
{
	char *bytes = MAP_FAILED;

	p->bytes = NULL;
	p->fd = memfd_create("iolab-load", MFD_CLOEXEC);
	if (p->fd >= 0 && ftruncate(p->fd, BYTES) == 0)
		bytes = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, 0);
	if (bytes == MAP_FAILED)
		return -errno;
	fill(bytes, seed);
	p->bytes = bytes;
	return 0;
}

void pattern_exit(struct pattern *p)
{
	if (p->bytes)
		munmap((void *)(uintptr_t)p->bytes, BYTES);
	if (p->fd >= 0)
		close(p->fd);
}

ssize_t pattern_send(const struct pattern *p, int fd, uint64_t pos, size_t len)
{
	off_t off = (off_t)(pos % PATTERN_PERIOD);

	return sendfile(fd, p->fd, &off, len < PATTERN_PERIOD ? len : PATTERN_PERIOD);
}
