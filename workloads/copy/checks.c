/* SPDX-License-Identifier: MIT */
#include "checks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "house.h"

#define COMPARE_BYTES (64u << 10)
#define MIB	      (1ull << 20)

/* Sizes at which buffers, pipes, pages, blocks and huge pages begin and end. */
static const uint64_t sizes[] = {
	0,     1,     511,	     512,	  4095,	   4096,	4097,	    65535,
	65536, 65537, 131072 + 4096, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 5 * MIB + 3};

/* Files of a batch: more than `depth` of io_uring's smallest rings, and no power of two. */
#define BATCH 11u

#define NAME_BYTES 48

/* ---------------------------------------------------------------- comparing */

/* Reads `len` bytes at `off`, or to the end of the file. How many, or -errno. */
static ssize_t read_piece(int fd, char *to, size_t len, uint64_t off)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = pread(fd, to + got, len - got, (off_t)(off + got));

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			break;
		got += n > 0 ? (size_t)n : 0;
	}
	return (ssize_t)got;
}

static int differ(char *why, const char *name, uint64_t at)
{
	snprintf(why, CHECK_WHY_MAX, "%s: source and copy differ at byte %llu", name,
		 (unsigned long long)at);
	return -EILSEQ;
}

/* Compares one piece. Its length (0 at the end of both), or -errno. */
static ssize_t compare_piece(const int fds[2], char *const bin[2], uint64_t off, const char *name,
			     char *why)
{
	ssize_t a = read_piece(fds[0], bin[0], COMPARE_BYTES, off);
	ssize_t b = read_piece(fds[1], bin[1], COMPARE_BYTES, off);
	ssize_t both = a < b ? a : b;

	if (both < 0)
		return a < 0 ? a : b;
	for (ssize_t i = 0; i < both && memcmp(bin[0], bin[1], (size_t)both); i++)
		if (bin[0][i] != bin[1][i])
			return differ(why, name, off + (uint64_t)i);
	return a == b ? a : differ(why, name, off + (uint64_t)both);
}

static int compare(const int fds[2], const char *name, char *why)
{
	char *bin[2] = {malloc(COMPARE_BYTES), malloc(COMPARE_BYTES)};
	uint64_t off = 0;
	ssize_t n = bin[0] && bin[1] ? 1 : -ENOMEM;

	while (n > 0) {
		n = compare_piece(fds, bin, off, name, why);
		off += n > 0 ? (uint64_t)n : 0;
	}
	free(bin[0]);
	free(bin[1]);
	return (int)n;
}

int check_same(const struct copy_dirs *dirs, const char *name, char *why)
{
	int fds[2] = {openat(dirs->src, name, O_RDONLY | O_CLOEXEC), -1}, res;

	why[0] = '\0';
	if (fds[0] >= 0)
		fds[1] = openat(dirs->dst, name, O_RDONLY | O_CLOEXEC);
	res = fds[1] < 0 ? -errno : compare(fds, name, why);
	if (res < 0 && !why[0])
		snprintf(why, CHECK_WHY_MAX, "%s: comparing source and copy: %s", name,
			 strerror(-res));
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return res;
}

/* ---------------------------------------------------------------- trial copies */

struct trial {
	const struct spec *spec;
	struct copy_dirs dirs;
	struct check_report *report;
};

static void fail(struct check_report *r, const char *what, uint64_t size, const char *why)
{
	if (!r->failures++)
		snprintf(r->why, sizeof(r->why), "%s of %llu bytes: %.300s", what,
			 (unsigned long long)size, why);
}

/* The directory of sources may be shared: names are this process's. */
static const char *trial_name(char text[NAME_BYTES], unsigned nr)
{
	snprintf(text, NAME_BYTES, "check-%d-%u", (int)getpid(), nr);
	return text;
}

/* Copies `nr` files, which exist, and compares them. */
static void copy_and_compare(const struct trial *t, struct copier *c, const char *what,
			     const char *const *names, unsigned nr)
{
	struct file_batch batch = {.src_dir = t->dirs.src,
				   .dst_dir = t->dirs.dst,
				   .names = names,
				   .nr = nr,
				   .size = c->size};
	int res = files_copy(c, &batch);
	char why[CHECK_WHY_MAX];

	if (res < 0)
		fail(t->report, what, c->size, strerror(-res));
	for (unsigned i = 0; i < nr && !res; i++) {
		t->report->checks++;
		if (check_same(&t->dirs, names[i], why) < 0)
			fail(t->report, what, c->size, why);
	}
}

/* A technique that takes some sizes only says so when it is opened. */
static bool open_for(const struct trial *t, struct copier *c, uint64_t size, unsigned nr, char *why)
{
	if (copier_open(c, t->spec, &t->dirs, size, nr, why) == 0)
		return true;
	t->report->refused++;
	return false;
}

static void check_size(const struct trial *t, uint64_t size)
{
	char text[NAME_BYTES], why[REASON_MAX];
	const char *const name = trial_name(text, 0);
	struct copier c;
	int res;

	if (!open_for(t, &c, size, 1, why))
		return;
	res = house_make_file(t->dirs.src, name, size, size + 1, false);
	if (!res) {
		copy_and_compare(t, &c, "a new file", &name, 1);
		/* Over a copy of the same length and other content. */
		res = house_make_file(t->dirs.dst, name, size, size + 2, false);
	}
	if (!res)
		copy_and_compare(t, &c, "a file written over", &name, 1);
	else
		fail(t->report, "making a file", size, strerror(-res));
	unlinkat(t->dirs.src, name, 0);
	unlinkat(t->dirs.dst, name, 0);
	copier_close(&c);
}

/* 4 MiB with a few bytes at 1 MiB and at the end: what lies between has no blocks. */
static int make_sparse(int dir, const char *name, uint64_t size)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), res = 0;

	if (fd < 0)
		return -errno;
	if (pwrite(fd, "middle", 6, (off_t)(size / 4)) != 6 ||
	    pwrite(fd, "end", 3, (off_t)size - 3) != 3)
		res = errno ? -errno : -EIO;
	close(fd);
	return res;
}

static void check_sparse(const struct trial *t)
{
	char text[NAME_BYTES], why[REASON_MAX];
	const char *const name = trial_name(text, 0);
	struct copier c;
	int res;

	if (!open_for(t, &c, 4 * MIB, 1, why))
		return;
	res = make_sparse(t->dirs.src, name, 4 * MIB);
	if (res)
		fail(t->report, "making a sparse file", 4 * MIB, strerror(-res));
	else
		copy_and_compare(t, &c, "a sparse file", &name, 1);
	unlinkat(t->dirs.src, name, 0);
	unlinkat(t->dirs.dst, name, 0);
	copier_close(&c);
}

static void check_batch(const struct trial *t, uint64_t size)
{
	char text[BATCH][NAME_BYTES], why[REASON_MAX];
	const char *names[BATCH];
	struct copier c;
	int res = 0;

	if (!open_for(t, &c, size, BATCH, why))
		return;
	for (unsigned i = 0; i < BATCH; i++) {
		names[i] = trial_name(text[i], i);
		if (!res)
			res = house_make_file(t->dirs.src, names[i], size, i + 1, false);
	}
	if (res)
		fail(t->report, "making a batch", size, strerror(-res));
	else
		copy_and_compare(t, &c, "a batch", names, BATCH);
	for (unsigned i = 0; i < BATCH; i++) {
		unlinkat(t->dirs.src, names[i], 0);
		unlinkat(t->dirs.dst, names[i], 0);
	}
	copier_close(&c);
}

int check_technique(const struct spec *spec, const struct copy_dirs *dirs,
		    struct check_report *report)
{
	struct trial t = {.spec = spec, .dirs = *dirs, .report = report};

	*report = (struct check_report){0};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		check_size(&t, sizes[i]);
	check_sparse(&t);
	check_batch(&t, 0);
	check_batch(&t, 4096);
	check_batch(&t, 10000);
	return report->checks || report->failures ? 0 : -ENOTSUP;
}

int check_probe(const struct spec *spec, const struct copy_dirs *dirs, char *why)
{
	struct check_report report = {0};
	struct trial t = {.spec = spec, .dirs = *dirs, .report = &report};
	struct copier c;
	int res = copier_open(&c, spec, dirs, 4096, 1, why);

	if (res < 0)
		return res;
	copier_close(&c);
	check_size(&t, 4096);
	if (!report.failures)
		return 0;
	snprintf(why, REASON_MAX, "a trial failed: %.200s", report.why);
	return -EIO;
}
