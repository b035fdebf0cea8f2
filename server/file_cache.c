// SPDX-License-Identifier: MIT
#include "file_cache.h"

#include "mime.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct file_cache {
	struct sworker *sw;
	const struct server_config *cfg;
	int root_fd;
	uint64_t valid_ns;
	char index[HTTP_URL_MAX + 16]; /* name of a directory's index */
	struct file_entry *entries;    /* uthash: iterates oldest first */
	struct file_entry *constant;
};

static void entry_release(struct lease *lease)
{
	struct file_entry *e = (struct file_entry *)lease;

	if (e->map)
		munmap((void *)(uintptr_t)e->map, e->size);
	if (e->fd >= 0)
		close(e->fd);
	if (e->mem)
		lease_put(&e->mem->lease);
	free(e);
}

static void memory_release(struct lease *lease)
{
	struct file_memory *mem = (struct file_memory *)lease;

	if (mem->fd >= 0)
		close(mem->fd);
	if (mem->from)
		mem->from->put(mem->w, mem, mem->bytes);
	else
		free(mem);
}

/* Space for head and body, from where the engine wants it. NULL when out of memory. */
static struct file_memory *memory_new(struct file_cache *fc, size_t bytes)
{
	struct worker *w = &fc->sw->w;
	size_t all = sizeof(struct file_memory) + bytes;
	struct file_memory *mem = w->memory ? w->memory->get(w, all) : malloc(all);

	if (mem) {
		mem->w = w;
		mem->from = w->memory;
		mem->bytes = all;
		mem->lease = (struct lease){.refs = 1, .release = memory_release};
		mem->fd = -1;
	}
	return mem;
}

/* Moves the bytes of mem into a memfd. NULL, and mem released, when that fails. */
static struct file_memory *memory_to_file(struct file_cache *fc, struct file_memory *mem,
					  size_t bytes)
{
	struct file_memory *out = memory_new(fc, 0);
	size_t done = 0;

	if (out)
		out->fd = memfd_create("iolab-response", MFD_CLOEXEC);
	while (out && out->fd >= 0 && done < bytes) {
		ssize_t n = write(out->fd, mem->data + done, bytes - done);

		if (n <= 0)
			break;
		done += (size_t)n;
	}
	lease_put(&mem->lease);
	if (done == bytes)
		return out;
	if (out)
		lease_put(&out->lease);
	return NULL;
}

static void drop(struct file_cache *fc, struct file_entry *e)
{
	HASH_DEL(fc->entries, e);
	lease_put(&e->lease);
}

/* ---------------------------------------------------------------- opening */

/* RESOLVE_BENEATH: no component, not even a symbolic link, leads out of the root (openat2(2)). */
static int open_beneath(struct file_cache *fc, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};
	long fd;
	int tries = 8;

	do { /* EAGAIN: something was renamed while ".." was being resolved */
		fd = syscall(SYS_openat2, fc->root_fd, path, &how, sizeof(how));
		count_one(fc->sw->w.ctr, sys_open);
	} while (fd < 0 && errno == EAGAIN && --tries);
	return fd < 0 ? -errno : (int)fd;
}

static int status_of(int err)
{
	switch (err) {
	case -ENOENT:
	case -ENOTDIR:
	case -ENAMETOOLONG:
		return 404;
	case -EACCES:
	case -EPERM:
	case -EXDEV:
	case -ELOOP:
	case -ENXIO:
		return 403;
	case -EMFILE:
	case -ENFILE:
	case -ENOMEM:
	case -EAGAIN:
		return 503;
	default:
		return 500;
	}
}

/* Opens a regular file, or a directory's index. A descriptor, or minus an HTTP status. */
static int open_file(struct file_cache *fc, const char *path, struct stat *st, bool *index)
{
	size_t len = strlen(path);
	int fd = open_beneath(fc, path);

	*index = false;
	if (fd < 0)
		return -status_of(fd);
	if (fstat(fd, st)) {
		close(fd);
		return -500;
	}
	if (S_ISREG(st->st_mode))
		return fd;
	close(fd);
	if (!S_ISDIR(st->st_mode))
		return -403;
	if (strcmp(path, ".") && path[len - 1] != '/')
		return -301;
	snprintf(fc->index, sizeof(fc->index), "%s/index.html", path);
	fd = open_beneath(fc, fc->index);
	if (fd < 0)
		return fd == -ENOENT ? -403 : -status_of(fd); /* directories are not listed */
	*index = true;
	if (!fstat(fd, st) && S_ISREG(st->st_mode))
		return fd;
	close(fd);
	return -403;
}

/* ---------------------------------------------------------------- entries */

static bool unchanged(const struct file_entry *e, const struct stat *st)
{
	return e->dev == st->st_dev && e->ino == st->st_ino && e->size == (uint64_t)st->st_size &&
	       e->mtime.tv_sec == st->st_mtim.tv_sec && e->mtime.tv_nsec == st->st_mtim.tv_nsec;
}

/* Writes the head of a plain 200; the date stands at date_at, to be replaced in place. */
static void format_head(struct sworker *sw, struct file_entry *e)
{
	int n = snprintf(e->head, sizeof(e->head),
			 "HTTP/1.1 200 OK\r\nServer: iolab\r\nDate: %s\r\nContent-Type: %s\r\n"
			 "Content-Length: %llu\r\nLast-Modified: %s\r\nETag: %s\r\n"
			 "Accept-Ranges: bytes\r\n\r\n",
			 sw->date, e->type, (unsigned long long)e->size, e->last_modified, e->etag);

	e->date_at = (uint16_t)(strstr(e->head, "Date: ") + 6 - e->head);
	e->head_len = (uint16_t)n;
	e->date_gen = sw->date_gen;
}

static bool read_whole(struct file_cache *fc, int fd, char *buf, size_t len)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = pread(fd, buf + got, len - got, (off_t)got);

		count_one(fc->sw->w.ctr, sys_pread);
		if (n <= 0)
			return false;
		got += (size_t)n;
	}
	return true;
}

/* The whole file behind its head, or NULL when it cannot be had (then the file itself serves). */
static struct file_memory *read_memory(struct file_cache *fc, const struct file_entry *e)
{
	struct file_memory *mem = memory_new(fc, e->head_len + e->size);

	if (!mem)
		return NULL;
	memcpy(mem->data, e->head, e->head_len);
	if (!read_whole(fc, e->fd, mem->data + e->head_len, e->size)) {
		lease_put(&mem->lease);
		return NULL;
	}
	return fc->cfg->bodies.memory_as_file ? memory_to_file(fc, mem, e->head_len + e->size)
					      : mem;
}

static void provide(struct file_cache *fc, struct file_entry *e)
{
	const struct body_policy *want = &fc->cfg->bodies;
	void *map;

	if (e->size <= want->memory_limit_bytes)
		e->mem = read_memory(fc, e);
	if (want->source != SOURCE_MAPPING || !e->size)
		return;
	map = mmap(NULL, e->size, PROT_READ, MAP_SHARED, e->fd, 0);
	if (map != MAP_FAILED)
		e->map = map;
}

static void describe_entry(struct file_entry *e, const struct stat *st)
{
	struct tm tm;

	e->size = (uint64_t)st->st_size;
	e->mtime = st->st_mtim;
	e->dev = st->st_dev;
	e->ino = st->st_ino;
	snprintf(e->etag, sizeof(e->etag), "\"%llx-%llx\"",
		 (unsigned long long)st->st_mtim.tv_sec * 1000000000u +
			 (unsigned long long)st->st_mtim.tv_nsec,
		 (unsigned long long)st->st_size);
	gmtime_r(&st->st_mtim.tv_sec, &tm);
	strftime(e->last_modified, sizeof(e->last_modified), "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

/* Drops the oldest entry that was not used since the last look (second chance). */
static void make_room(struct file_cache *fc)
{
	struct file_entry *e;

	while (HASH_COUNT(fc->entries) >= (unsigned)fc->cfg->cache_files) {
		e = fc->entries;
		if (!e->used) {
			drop(fc, e);
			continue;
		}
		e->used = false;
		HASH_DEL(fc->entries, e);
		HASH_ADD(hh, fc->entries, key, e->key_len, e);
	}
}

static struct file_entry *entry_new(const char *key, size_t len)
{
	struct file_entry *e = calloc(1, sizeof(*e) + len + 1);

	if (!e)
		return NULL;
	e->lease = (struct lease){.refs = 1, .release = entry_release};
	e->fd = -1;
	e->key_len = (uint16_t)len;
	memcpy(e->key, key, len);
	return e;
}

int file_cache_open(struct file_cache *fc, const char *key, size_t len, const char *path,
		    struct file_entry **entry)
{
	struct file_entry *e;
	struct stat st;
	bool index;
	int fd = open_file(fc, path, &st, &index);

	count_one(fc->sw->w.ctr, cache_misses);
	HASH_FIND(hh, fc->entries, key, len, e);
	if (e && fd >= 0 && unchanged(e, &st)) {
		close(fd);
		e->checked_ns = fc->sw->w.now_ns;
		*entry = e;
		return 0;
	}
	if (e)
		drop(fc, e);
	if (fd < 0)
		return -fd;
	make_room(fc);
	e = entry_new(key, len);
	if (!e) {
		close(fd);
		return 503;
	}
	e->fd = fd;
	e->checked_ns = fc->sw->w.now_ns;
	e->type = mime_type(index ? "index.html" : path);
	describe_entry(e, &st);
	format_head(fc->sw, e);
	provide(fc, e);
	if (fc->cfg->bodies.source == SOURCE_MAPPING && e->size && !e->map) {
		lease_put(&e->lease);
		return 503;
	}
	HASH_ADD(hh, fc->entries, key, e->key_len, e);
	*entry = e;
	return 0;
}

struct file_entry *file_cache_find(struct file_cache *fc, const char *key, size_t len)
{
	struct file_entry *e;

	if (fc->constant)
		return fc->constant;
	HASH_FIND(hh, fc->entries, key, len, e);
	if (!e || fc->sw->w.now_ns - e->checked_ns > fc->valid_ns)
		return NULL;
	e->used = true;
	count_one(fc->sw->w.ctr, cache_hits);
	return e;
}

/* ---------------------------------------------------------------- heads */

/*
 * Bytes that the kernel may still be reading must not change under it: what is in flight, and
 * always the pages of a memfd, is replaced by a copy with the new date, once a second at most.
 */
static bool renew_memory(struct file_cache *fc, struct file_entry *e)
{
	size_t bytes = e->head_len + e->size;
	struct file_memory *old = e->mem, *mem = memory_new(fc, bytes);

	if (!mem)
		return false;
	if (old->fd < 0) {
		memcpy(mem->data, old->data, bytes);
	} else if (!read_whole(fc, old->fd, mem->data, bytes)) {
		lease_put(&mem->lease);
		return false;
	}
	memcpy(mem->data + e->date_at, fc->sw->date, DATE_BYTES);
	if (old->fd >= 0 && !(mem = memory_to_file(fc, mem, bytes)))
		return false;
	lease_put(&old->lease);
	e->mem = mem;
	return true;
}

static bool refresh_memory(struct file_cache *fc, struct file_entry *e)
{
	if (e->date_gen == fc->sw->date_gen)
		return true;
	if (e->mem->fd < 0 && e->mem->lease.refs == 1)
		memcpy(e->mem->data + e->date_at, fc->sw->date, DATE_BYTES);
	else if (!renew_memory(fc, e))
		return false;
	e->date_gen = fc->sw->date_gen;
	return true;
}

const char *file_entry_head(struct file_cache *fc, struct file_entry *e, struct lease **lease)
{
	if (e->mem) {
		if (!refresh_memory(fc, e))
			return NULL;
		*lease = &e->mem->lease;
		lease_get(*lease);
		return e->mem->fd < 0 ? e->mem->data : "";
	}
	if (e->date_gen != fc->sw->date_gen) {
		if (e->lease.refs > 1)
			return NULL; /* in flight: the caller makes a head of its own */
		memcpy(e->head + e->date_at, fc->sw->date, DATE_BYTES);
		e->date_gen = fc->sw->date_gen;
	}
	*lease = &e->lease;
	lease_get(*lease);
	return e->head;
}

/* ---------------------------------------------------------------- cache */

static struct file_entry *constant_new(struct file_cache *fc, size_t bytes)
{
	struct file_entry *e = entry_new("", 0);

	if (!e)
		return NULL;
	describe_entry(e, &(struct stat){.st_size = (off_t)bytes});
	e->type = mime_type("");
	format_head(fc->sw, e);
	e->mem = memory_new(fc, e->head_len + bytes);
	if (!e->mem) {
		lease_put(&e->lease);
		return NULL;
	}
	memcpy(e->mem->data, e->head, e->head_len);
	for (size_t i = 0; i < bytes; i++)
		e->mem->data[e->head_len + i] = (char)('a' + i % 26);
	return e;
}

struct file_cache *file_cache_create(struct server *srv, struct worker *w)
{
	struct file_cache *fc = calloc(1, sizeof(*fc));

	if (!fc)
		return NULL;
	fc->sw = sworker_of(w);
	fc->cfg = &srv->cfg;
	fc->root_fd = srv->root_fd;
	fc->valid_ns = (uint64_t)srv->cfg.cache_valid_ms * 1000000u;
	if (srv->cfg.bodies.source == SOURCE_CONSTANT) {
		fc->constant = constant_new(fc, srv->cfg.bodies.constant_bytes);
		if (!fc->constant) {
			free(fc);
			return NULL;
		}
	}
	return fc;
}

void file_cache_destroy(struct file_cache *fc)
{
	struct file_entry *e, *next;

	HASH_ITER (hh, fc->entries, e, next)
		drop(fc, e);
	if (fc->constant)
		lease_put(&fc->constant->lease);
	free(fc);
}
