/* SPDX-License-Identifier: MIT */
#include "in_kernel.h"

#include <errno.h>

enum {
	OPT_CHUNK
};

/* What one call moves at most: MAX_RW_COUNT of a page of 64 KiB, the smallest there is. */
#define CALL_MAX 0x7fff0000ull

const struct option_def in_kernel_options[] = {
	[OPT_CHUNK] = {.name = "chunk",
		       .type = OPTION_SIZE,
		       .max = 1 << 30,
		       .help = "bytes a call asks for; 0: as many as a call takes"},
	{0}};

int in_kernel_copy(const struct copier *c, int src, int dst, uint64_t size, in_kernel_call *call)
{
	uint64_t chunk = c->opt[OPT_CHUNK] ? (uint64_t)c->opt[OPT_CHUNK] : CALL_MAX;
	off_t at = 0;

	while ((uint64_t)at < size) {
		uint64_t left = size - (uint64_t)at;
		ssize_t n = call(src, dst, &at, left < chunk ? left : chunk);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ENODATA;
	}
	return 0;
}
