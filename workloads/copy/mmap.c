/* SPDX-License-Identifier: MIT */
/*
 * mmap: the source's page cache is mapped, window by window, and either written from there with
 * write(2) (one copy, made by the kernel) or copied by the processor into a mapping of the
 * destination (one copy, made here; every page faults). Every kernel has it.
 *
 * A source that shrinks under its mapping: pages beyond the new end fault. In pwrite(2) that is
 * EFAULT or a short count; touched from here it is SIGBUS, which is caught for the length of the
 * copy. The rest of the last page reads as zeros (mmap(2)), so the size is looked at again after
 * each window.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "technique.h"

enum {
	OPT_TO,
	OPT_WINDOW,
	OPT_POPULATE
};

enum to {
	TO_WRITE,
	TO_MAPPING
};

static _Thread_local sigjmp_buf beyond_the_end;

static void on_sigbus(int sig)
{
	(void)sig;
	siglongjmp(beyond_the_end, 1);
}

/* Offsets of mappings are multiples of a page, which is 64 KiB at most. */
#define WINDOW_UNIT (64 << 10)

static int mmap_open(struct copier *c)
{
	if (c->opt[OPT_WINDOW] % WINDOW_UNIT)
		return refuse(c, -EINVAL, "a window that is no multiple of 64 KiB");
	return 0;
}

/* -ENODATA when `fd` does not reach `end` any more. */
static int check_size(int fd, uint64_t end)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	return (uint64_t)st.st_size < end ? -ENODATA : 0;
}

static int write_window(const char *from, int dst, uint64_t off, size_t len)
{
	while (len) {
		ssize_t n = pwrite(dst, from, len, (off_t)off);

		if (n < 0 && errno == EFAULT)
			return -ENODATA;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			from += n;
			off += (uint64_t)n;
			len -= (size_t)n;
		}
	}
	return 0;
}

/* memcpy(3) that survives a source that ends early. */
static int guarded_copy(char *to, const char *from, size_t len)
{
	if (sigsetjmp(beyond_the_end, 1))
		return -ENODATA;
	memcpy(to, from, len);
	return 0;
}

static int map_window(const char *from, int dst, uint64_t off, size_t len)
{
	char *to = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, dst, (off_t)off);
	int res;

	if (to == MAP_FAILED)
		return -errno;
	res = guarded_copy(to, from, len);
	munmap(to, len);
	return res;
}

static int copy_window(const struct copier *c, int src, int dst, uint64_t off, size_t len)
{
	int flags = MAP_SHARED | (c->opt[OPT_POPULATE] ? MAP_POPULATE : 0), res;
	char *from = mmap(NULL, len, PROT_READ, flags, src, (off_t)off);

	if (from == MAP_FAILED)
		return -errno;
	madvise(from, len, MADV_SEQUENTIAL); /* advice: nothing to do about a refusal */
	if (c->opt[OPT_TO] == TO_MAPPING)
		res = map_window(from, dst, off, len);
	else
		res = write_window(from, dst, off, len);
	munmap(from, len);
	if (res && res != -ENODATA)
		return res;
	/* SIGBUS has two causes: the source's page is gone, or the destination's got no room. */
	return check_size(src, off + len) < 0 ? -ENODATA : res ? -ENOSPC : 0;
}

static int copy_windows(const struct copier *c, int src, int dst, uint64_t size)
{
	uint64_t window = (uint64_t)c->opt[OPT_WINDOW];
	int res = 0;

	for (uint64_t off = 0; off < size && !res; off += window) {
		uint64_t left = size - off;

		res = copy_window(c, src, dst, off, (size_t)(left < window ? left : window));
	}
	return res;
}

static int mmap_copy(struct copier *c, int src, int dst, uint64_t size)
{
	struct sigaction ours = {.sa_handler = on_sigbus}, theirs;
	int res;

	if (c->opt[OPT_TO] != TO_MAPPING)
		return copy_windows(c, src, dst, size);
	/* A mapping does not make a file longer; posix_fallocate(3) would write zeros first. */
	if (check_size(dst, size) == -ENODATA && ftruncate(dst, (off_t)size) < 0)
		return -errno;
	if (sigaction(SIGBUS, &ours, &theirs) < 0)
		return -errno;
	res = copy_windows(c, src, dst, size);
	sigaction(SIGBUS, &theirs, NULL);
	return res;
}

static void mmap_close(struct copier *c)
{
	(void)c;
}

static const char *const to_names[] = {"write", "mapping", NULL};

static const struct option_def options[] = {
	[OPT_TO] = {.name = "to",
		    .type = OPTION_ENUM,
		    .values = to_names,
		    .max = TO_MAPPING,
		    .help = "write(2) from the source's mapping, or copy into the destination's"},
	[OPT_WINDOW] = {.name = "window",
			.type = OPTION_SIZE,
			.def = 4 << 20,
			.min = 64 << 10,
			.max = 1 << 30,
			.help = "bytes mapped at a time, a multiple of 64 KiB"},
	[OPT_POPULATE] = {.name = "populate",
			  .type = OPTION_BOOL,
			  .max = 1,
			  .help = "MAP_POPULATE: fault the source in by the mapping call"},
	{0}};

const struct technique technique_mmap = {
	.name = "mmap",
	.summary = "the source mapped, written from there or copied into a mapping",
	.since = "any",
	.options = options,
	.open = mmap_open,
	.copy = mmap_copy,
	.close = mmap_close,
};
