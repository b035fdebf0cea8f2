/* SPDX-License-Identifier: MIT */
#include "pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES (256 << 10)

/* Pages asked for at a time, so that memory does not grow with the file. */
#define PAGES_AT_ONCE 65536u

int pages_warm(int fd)
{
	char *bin = malloc(READ_BYTES);
	off_t off = 0;
	ssize_t n = 1;

	if (!bin)
		return -ENOMEM;
	while (n > 0 || (n < 0 && errno == EINTR)) {
		n = pread(fd, bin, READ_BYTES, off);
		off += n > 0 ? n : 0;
	}
	free(bin);
	return n < 0 ? -errno : 0;
}

int pages_drop(int fd)
{
	/* Returns the error number. */
	return -posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

/* Adds up the pages of one mapping, which is not touched: that alone would bring them in. */
static int count(int fd, off_t off, size_t len, unsigned char *vec, uint64_t *resident)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *at = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, off);
	int res;

	if (at == MAP_FAILED)
		return -errno;
	res = mincore(at, len, vec) < 0 ? -errno : 0;
	munmap(at, len);
	for (size_t i = 0; !res && i < (len + page - 1) / page; i++)
		*resident += vec[i] & 1;
	return res;
}

int pages_resident(int fd, uint64_t *pages, uint64_t *resident)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), step = page * PAGES_AT_ONCE;
	unsigned char *vec;
	struct stat st;
	int res = 0;

	*pages = *resident = 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	vec = malloc(PAGES_AT_ONCE);
	if (!vec)
		return -ENOMEM;
	*pages = ((uint64_t)st.st_size + page - 1) / page;
	for (uint64_t off = 0; off < (uint64_t)st.st_size && !res; off += step) {
		uint64_t left = (uint64_t)st.st_size - off;

		res = count(fd, (off_t)off, (size_t)(left < step ? left : step), vec, resident);
	}
	free(vec);
	return res;
}
