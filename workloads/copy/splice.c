/* SPDX-License-Identifier: MIT */
/*
 * splice: splice(2) from the source into a pipe and from the pipe into the destination (Linux
 * 2.6.17). The pipe holds references to the source's pages; the destination's file system copies
 * them into its own. SPLICE_F_MOVE is not asked for: the kernel has ignored it since 2.6.21
 * (splice(2)).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "technique.h"

enum {
	OPT_PIPE
};

struct state {
	int in, out;
	size_t room; /* of the pipe, in bytes */
};

static int splice_open(struct copier *c)
{
	struct state *s = calloc(1, sizeof(*s));
	int ends[2], room;

	if (!s)
		return refuse(c, -ENOMEM, "its state");
	c->priv = s;
	s->in = s->out = -1;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return refuse(c, -errno, "a pipe");
	s->out = ends[0];
	s->in = ends[1];
	room = fcntl(s->in, F_SETPIPE_SZ, (int)c->opt[OPT_PIPE]);
	if (room < 0) {
		int err = -errno;

		snprintf(c->why, REASON_MAX,
			 "a pipe of %lld bytes: %s; fs.pipe-max-size and fs.pipe-user-pages-soft "
			 "are the limits",
			 (long long)c->opt[OPT_PIPE], strerror(-err));
		return err;
	}
	s->room = (size_t)room;
	return 0;
}

/* Moves exactly `len` bytes from the pipe to `dst`, at *off. 0 or -errno. */
static int drain(const struct state *s, int dst, loff_t *off, size_t len)
{
	while (len) {
		ssize_t n = splice(s->out, NULL, dst, off, len, 0);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			len -= (size_t)n;
	}
	return 0;
}

/* What a failed copy left in the pipe would come first in the next one. */
static void empty(const struct state *s, size_t len)
{
	char bin[4096];

	while (len) {
		ssize_t n = read(s->out, bin, len < sizeof(bin) ? len : sizeof(bin));

		if (n > 0)
			len -= (size_t)n;
		else if (n == 0 || errno != EINTR)
			return;
	}
}

static int splice_copy(struct copier *c, int src, int dst, uint64_t size)
{
	const struct state *s = c->priv;
	loff_t in = 0, out = 0;

	while ((uint64_t)in < size) {
		uint64_t left = size - (uint64_t)in;
		ssize_t n = splice(src, &in, s->in, NULL, left < s->room ? left : s->room, 0);
		int res;

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ENODATA;
		res = n > 0 ? drain(s, dst, &out, (size_t)n) : 0;
		if (res < 0) {
			empty(s, (size_t)(in - out));
			return res;
		}
	}
	return 0;
}

static void splice_close(struct copier *c)
{
	struct state *s = c->priv;

	if (s && s->in >= 0)
		close(s->in);
	if (s && s->out >= 0)
		close(s->out);
	free(s);
	c->priv = NULL;
}

static const struct option_def options[] = {
	[OPT_PIPE] = {.name = "pipe",
		      .type = OPTION_SIZE,
		      .def = 256 << 10,
		      .min = 4096,
		      .max = 1 << 20,
		      .help = "bytes the pipe holds, and a splice moves at most"},
	{0}};

const struct technique technique_splice = {
	.name = "splice",
	.summary = "splice through a pipe: page references in, one copy out",
	.since = "2.6.17",
	.options = options,
	.open = splice_open,
	.copy = splice_copy,
	.close = splice_close,
};
