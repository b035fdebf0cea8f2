/* SPDX-License-Identifier: MIT */
#include "house.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define BLOCK_WORDS 8192u

/* What must stay free beside our own files: a full file system disturbs more than us. */
#define SPARE_BYTES (64ull << 20)

/* splitmix64: a full-period generator of which neighbouring seeds share nothing. */
static uint64_t next_word(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static int write_all(int fd, const char *from, size_t len)
{
	while (len) {
		ssize_t n = write(fd, from, len);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			from += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

static int fill(int fd, uint64_t size, uint64_t seed)
{
	uint64_t *block = malloc(BLOCK_WORDS * sizeof(*block)), room = BLOCK_WORDS * sizeof(*block);
	int res = block ? 0 : -ENOMEM;

	while (size && !res) {
		uint64_t len = size < room ? size : room;

		for (unsigned i = 0; i < BLOCK_WORDS; i++)
			block[i] = next_word(&seed);
		res = write_all(fd, (const char *)block, (size_t)len);
		size -= len;
	}
	free(block);
	return res;
}

int house_make_file(int dir, const char *name, uint64_t size, uint64_t seed, bool durable)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int res;

	if (fd < 0)
		return -errno;
	res = fill(fd, size, seed << 32);
	if (!res && durable && fdatasync(fd) < 0)
		res = -errno;
	if (close(fd) < 0 && !res)
		res = -errno;
	return res;
}

/* ---------------------------------------------------------------- names and directories */

static char *join(const char *dir, const char *name)
{
	char *path = NULL;

	return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

/* A new directory below `dir`; *path is the caller's to free. Its descriptor, or -errno. */
static int make_dir(const char *dir, char **path)
{
	int fd;

	*path = join(dir, "iolab-copy-XXXXXX");
	if (!*path)
		return -ENOMEM;
	if (!mkdtemp(*path)) {
		int err = -errno;

		free(*path);
		*path = NULL;
		return err;
	}
	fd = open(*path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int make_names(struct house *h)
{
	h->names = calloc(h->files, sizeof(*h->names));
	for (unsigned i = 0; h->names && i < h->files; i++)
		if (asprintf(&h->names[i], "f%06u", i) < 0) {
			h->names[i] = NULL;
			return -ENOMEM;
		}
	return h->names ? 0 : -ENOMEM;
}

static int make_sources(const struct house *h, int dir)
{
	int res = 0;

	for (unsigned i = 0; i < h->files && !res; i++)
		res = house_make_file(dir, h->names[i], h->size, i + 1, true);
	return res;
}

static void remove_files(const struct house *h, int dir, unsigned first, unsigned nr)
{
	for (unsigned i = first; h->names && i < first + nr; i++)
		if (h->names[i])
			unlinkat(dir, h->names[i], 0);
}

static void remove_dir(const struct house *h, int dir, const char *path)
{
	if (dir >= 0)
		remove_files(h, dir, 0, h->files);
	if (path)
		rmdir(path);
}

/* ---------------------------------------------------------------- sources */

/*
 * Makes the sources under another name first: who finds the right name finds all of them. When two
 * sessions do it at a time, the second rename fails (rename(2): the directory is not empty) and
 * the first one's files serve both.
 */
static int make_shared(const struct house *h, const char *dir, const char *path)
{
	char *made;
	int fd = make_dir(dir, &made), res = fd < 0 ? fd : make_sources(h, fd);

	if (!res && rename(made, path) < 0)
		res = -errno;
	if (res)
		remove_dir(h, fd, made);
	if (fd >= 0)
		close(fd);
	free(made);
	return res == -ENOTEMPTY || res == -EEXIST ? 0 : res;
}

static int open_shared(struct house *h, const char *dir)
{
	char name[64], *path;
	int res = 0;

	snprintf(name, sizeof(name), "%llux%u", (unsigned long long)h->size, h->files);
	path = join(dir, name);
	if (!path)
		return -ENOMEM;
	h->src_dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (h->src_dir < 0 && errno == ENOENT) {
		res = make_shared(h, dir, path);
		if (!res)
			h->src_dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (!res && h->src_dir < 0)
		res = -errno;
	free(path);
	return res;
}

static int open_sources(struct house *h, const struct house_config *cfg)
{
	if (cfg->source)
		return open_shared(h, cfg->source);
	h->src_dir = make_dir(cfg->dir, &h->src_path);
	return h->src_dir < 0 ? h->src_dir : make_sources(h, h->src_dir);
}

/* ---------------------------------------------------------------- the whole */

/* Whether `bytes` more fit into the file system of `path`, leaving a margin. */
static int check_room(const char *path, uint64_t bytes, char *why)
{
	struct statvfs st;
	uint64_t room;

	if (statvfs(path, &st) < 0) {
		int err = -errno;

		snprintf(why, HOUSE_WHY_MAX, "%s: %s", path, strerror(-err));
		return err;
	}
	room = (uint64_t)st.f_bavail * st.f_frsize;
	if (bytes + SPARE_BYTES <= room)
		return 0;
	snprintf(why, HOUSE_WHY_MAX,
		 "%s: %llu MiB are free, %llu MiB are needed; ask for fewer or smaller files", path,
		 (unsigned long long)(room >> 20),
		 (unsigned long long)((bytes + SPARE_BYTES) >> 20));
	return -ENOSPC;
}

static int check_footprint(const struct house_config *cfg, char *why)
{
	uint64_t one = cfg->size * cfg->files;
	const char *to = cfg->to ? cfg->to : cfg->dir;
	int res;

	if (cfg->size && (one / cfg->size != cfg->files || one > cfg->max_bytes / 2)) {
		snprintf(why, HOUSE_WHY_MAX,
			 "%u files of %llu bytes and their copies are more than --limit (%llu MiB)",
			 cfg->files, (unsigned long long)cfg->size,
			 (unsigned long long)(cfg->max_bytes >> 20));
		return -EFBIG;
	}
	res = check_room(cfg->source ? cfg->source : cfg->dir, one, why);
	return res ? res : check_room(to, cfg->to ? one : 2 * one, why);
}

int house_open(struct house *h, const struct house_config *cfg, char *why)
{
	int res;

	*h = (struct house){.src_dir = -1, .dst_dir = -1, .files = cfg->files, .size = cfg->size};
	why[0] = '\0';
	res = check_footprint(cfg, why);
	if (!res)
		res = make_names(h);
	if (!res)
		res = open_sources(h, cfg);
	if (!res) {
		h->dst_dir = make_dir(cfg->to ? cfg->to : cfg->dir, &h->dst_path);
		res = h->dst_dir < 0 ? h->dst_dir : 0;
	}
	if (res && !why[0])
		snprintf(why, HOUSE_WHY_MAX, "making the files in %s: %s", cfg->dir,
			 strerror(-res));
	return res;
}

void house_remove_copies(const struct house *h, unsigned first, unsigned nr)
{
	remove_files(h, h->dst_dir, first, nr);
}

void house_close(struct house *h)
{
	if (h->src_path)
		remove_dir(h, h->src_dir, h->src_path);
	remove_dir(h, h->dst_dir, h->dst_path);
	if (h->src_dir >= 0)
		close(h->src_dir);
	if (h->dst_dir >= 0)
		close(h->dst_dir);
	for (unsigned i = 0; h->names && i < h->files; i++)
		free(h->names[i]);
	free(h->names);
	free(h->src_path);
	free(h->dst_path);
	*h = (struct house){.src_dir = -1, .dst_dir = -1};
}
