// SPDX-License-Identifier: MIT
#include "ring_memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
	CLASS_MIN = 9, /* 512 bytes */
	CLASS_NR = 48,
};
#define CHUNK_MIN    ((size_t)2 << 20)
#define REGION_BYTES ((size_t)64 << 30) /* of addresses, not of memory */

struct piece {
	struct piece *next;
};

/* Of a worker; it goes with the last piece that is put back after the ring has gone. */
struct ring_memory {
	struct ring *ring; /* NULL: gone */
	char *base;	   /* of the region: chunk i begins at i * chunk_bytes */
	size_t chunk_bytes;
	unsigned nr_chunks, nr_max;
	size_t used;   /* bytes of the last chunk */
	size_t nr_out; /* pieces given out */
	struct piece *free[CLASS_NR];
};

static unsigned class_of(size_t bytes)
{
	unsigned class = CLASS_MIN;

	while ((size_t)1 << class < bytes)
		class ++;
	return class;
}

/* 0 or -errno. */
static int add_chunk(struct ring_memory *m)
{
	char *at = m->base + m->nr_chunks * m->chunk_bytes;
	struct iovec iov = {.iov_base = at, .iov_len = m->chunk_bytes};
	__u64 tag = 0;
	int res;

	if (!m->ring || m->nr_chunks == m->nr_max)
		return -ENOMEM;
	if (mprotect(at, m->chunk_bytes, PROT_READ | PROT_WRITE))
		return -errno;
	res = io_uring_register_buffers_update_tag(&m->ring->uring, m->nr_chunks, &iov, &tag, 1);
	if (res < 0)
		return res;
	m->nr_chunks++;
	m->used = 0;
	return 0;
}

static void destroy(struct worker *w)
{
	struct ring_memory *m = w->memory_priv;

	munmap(m->base, m->nr_max * m->chunk_bytes);
	free(m);
	w->memory_priv = NULL;
	w->memory = NULL;
}

void *ring_memory_get(struct worker *w, size_t bytes)
{
	struct ring_memory *m = w->memory_priv;
	unsigned class = class_of(bytes);
	size_t size = (size_t)1 << class;
	struct piece *p = m->free[class];

	if (size > m->chunk_bytes)
		return NULL;
	if (p) {
		m->free[class] = p->next;
	} else {
		if (m->used + size > m->chunk_bytes && add_chunk(m))
			return NULL;
		p = (void *)(m->base + (m->nr_chunks - 1) * m->chunk_bytes + m->used);
		m->used += size;
	}
	m->nr_out++;
	return p;
}

void ring_memory_put(struct worker *w, void *mem, size_t bytes)
{
	struct ring_memory *m = w->memory_priv;
	struct piece *p = mem;
	unsigned class = class_of(bytes);

	p->next = m->free[class];
	m->free[class] = p;
	if (!--m->nr_out && !m->ring)
		destroy(w);
}

int ring_memory_index(const struct worker *w, const void *p)
{
	const struct ring_memory *m = w->memory_priv;
	size_t off = m ? (size_t)((const char *)p - m->base) : SIZE_MAX;

	return m && off < m->nr_chunks * m->chunk_bytes ? (int)(off / m->chunk_bytes) : -1;
}

static const struct body_memory registered = {.get = ring_memory_get, .put = ring_memory_put};

int ring_memory_open(struct worker *w, struct ring *r, size_t largest)
{
	struct ring_memory *m = calloc(1, sizeof(*m));
	int res;

	if (!m)
		return -ENOMEM;
	m->ring = r;
	m->chunk_bytes = (size_t)1 << class_of(largest > CHUNK_MIN ? largest : CHUNK_MIN);
	m->nr_max = (unsigned)(REGION_BYTES / m->chunk_bytes);
	if (m->nr_max > RING_MEMORY_CHUNKS)
		m->nr_max = RING_MEMORY_CHUNKS;
	m->base = mmap(NULL, m->nr_max * m->chunk_bytes, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m->base == MAP_FAILED) {
		free(m);
		return -ENOMEM;
	}
	w->memory_priv = m;
	w->memory = &registered;
	res = add_chunk(m);
	if (res)
		complain("fixed_buffers: %zu bytes cannot be registered: %s%s", m->chunk_bytes,
			 strerror(-res),
			 res == -ENOMEM ? "; raise RLIMIT_MEMLOCK (ulimit -l)" : "");
	return res;
}

void ring_memory_close(struct worker *w)
{
	struct ring_memory *m = w->memory_priv;

	if (!m)
		return;
	m->ring = NULL;
	if (!m->nr_out)
		destroy(w);
}
