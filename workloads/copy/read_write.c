/* SPDX-License-Identifier: MIT */
/*
 * read-write: read(2) into a buffer, write(2) out of it. Two copies a byte between page cache and
 * buffer, two system calls a buffer. Every kernel has it; the baseline.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "direct.h"
#include "technique.h"

enum {
	OPT_BUFFER,
	OPT_DIRECT
};

struct state {
	char *buffer;
	size_t room;
	unsigned align; /* 1, or what O_DIRECT asks for */
};

static int read_write_open(struct copier *c)
{
	struct state *s = calloc(1, sizeof(*s));
	int res;

	if (!s)
		return refuse(c, -ENOMEM, "its state");
	c->priv = s;
	s->room = (size_t)c->opt[OPT_BUFFER];
	s->align = 1;
	if (c->opt[OPT_DIRECT]) {
		res = direct_enable(c, s->room, &s->align);
		if (res < 0)
			return res;
	}
	s->buffer = direct_buffer(s->room);
	return s->buffer ? 0 : refuse(c, -ENOMEM, "its buffer");
}

/* At least one byte, or -errno; 0 at the end of the file. */
static ssize_t read_at(int fd, char *buffer, size_t len, uint64_t off)
{
	ssize_t n;

	do
		n = pread(fd, buffer, len, (off_t)off);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static int write_at(int fd, const char *buffer, size_t len, uint64_t off)
{
	while (len) {
		ssize_t n = pwrite(fd, buffer, len, (off_t)off);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			buffer += n;
			off += (uint64_t)n;
			len -= (size_t)n;
		}
	}
	return 0;
}

static int read_write_copy(struct copier *c, int src, int dst, uint64_t size)
{
	struct state *s = c->priv;
	uint64_t off = 0;

	while (off < size) {
		uint64_t left = size - off;
		size_t want = left < s->room ? (size_t)left : s->room;
		ssize_t got = read_at(src, s->buffer, direct_round(want, s->align), off);
		int res;

		if (got <= 0)
			return got < 0 ? (int)got : -ENODATA;
		if ((size_t)got > want)
			got = (ssize_t)want;
		/* O_DIRECT cannot go on between blocks: a short read there is the end. */
		if ((size_t)got < want && (size_t)got % s->align)
			return -ENODATA;
		res = write_at(dst, s->buffer, direct_round((size_t)got, s->align), off);
		if (res < 0)
			return res;
		off += (uint64_t)got;
	}
	return direct_trim(dst, size, s->align);
}

static void read_write_close(struct copier *c)
{
	struct state *s = c->priv;

	if (s)
		free(s->buffer);
	free(s);
	c->priv = NULL;
}

static const struct option_def options[] = {
	[OPT_BUFFER] = {.name = "buffer",
			.type = OPTION_SIZE,
			.def = 128 << 10,
			.min = 4096,
			.max = 64 << 20,
			.help = "bytes a read(2) asks for"},
	[OPT_DIRECT] = {.name = "direct",
			.type = OPTION_BOOL,
			.max = 1,
			.help = "O_DIRECT on both files: past the page cache"},
	{0}};

const struct technique technique_read_write = {
	.name = "read-write",
	.summary = "pread and pwrite through a buffer: two copies a byte",
	.since = "any",
	.options = options,
	.open = read_write_open,
	.copy = read_write_copy,
	.close = read_write_close,
};
