/* SPDX-License-Identifier: MIT */
/*
 * The stream that senders send and receivers check: random bytes, repeated with a period that no
 * buffer or page size divides. Byte and position are one: a byte lost, repeated or swapped shows,
 * unless the stream is shifted by a multiple of the period, which its total length gives away.
 */
#ifndef IOLAB_LOAD_PATTERN_H
#define IOLAB_LOAD_PATTERN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PATTERN_PERIOD ((1u << 20) + 4104u)

struct pattern {
	int fd;		   /* memory that sendfile(2) sends from without a copy */
	const char *bytes; /* two periods of it, mapped */
};

/* 0 or -errno; the memory is pattern_exit()'s. */
int pattern_init(struct pattern *p, uint64_t seed);
void pattern_exit(struct pattern *p);

/* Sends stream bytes from position pos, at most len. As sendfile(2): bytes, or -1 and errno. */
ssize_t pattern_send(const struct pattern *p, int fd, uint64_t pos, size_t len);

/* The bytes at pos; PATTERN_PERIOD of them may be read. */
static inline const char *pattern_at(const struct pattern *p, uint64_t pos)
{
	return p->bytes + pos % PATTERN_PERIOD;
}

#endif
