/* SPDX-License-Identifier: MIT */
/*
 * Buffers of relays that send without copying: each lives until the last send from it is finished,
 * which may be after its transfer. Transfer and destinations may come to be on different workers,
 * so references are counted atomically.
 */
#ifndef IOLAB_ZC_BUFFER_H
#define IOLAB_ZC_BUFFER_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

/* The buffers of one transfer. */
struct zc_pool {
	_Atomic unsigned refs; /* the transfer's, and each buffer's */
};

struct zc_buffer {
	_Atomic unsigned refs;
	struct zc_pool *pool;
	size_t len; /* bytes received into it */
	char data[];
};

/* A pool with the reference of its transfer, or NULL. */
static inline struct zc_pool *zc_pool_new(void)
{
	struct zc_pool *pool = malloc(sizeof(*pool));

	if (pool)
		atomic_init(&pool->refs, 1);
	return pool;
}

static inline void zc_pool_put(struct zc_pool *pool)
{
	if (atomic_fetch_sub(&pool->refs, 1) == 1)
		free(pool);
}

/* Buffers that exist now. */
static inline unsigned zc_pool_buffers(struct zc_pool *pool)
{
	return atomic_load(&pool->refs) - 1;
}

/* A buffer of `size` bytes with one reference, the caller's, or NULL. */
static inline struct zc_buffer *zc_buffer_new(struct zc_pool *pool, size_t size)
{
	struct zc_buffer *buf = malloc(sizeof(*buf) + size);

	if (!buf)
		return NULL;
	atomic_init(&buf->refs, 1);
	buf->pool = pool;
	buf->len = 0;
	atomic_fetch_add(&pool->refs, 1);
	return buf;
}

static inline void zc_buffer_get(struct zc_buffer *buf)
{
	atomic_fetch_add(&buf->refs, 1);
}

static inline void zc_buffer_put(struct zc_buffer *buf)
{
	if (atomic_fetch_sub(&buf->refs, 1) != 1)
		return;
	zc_pool_put(buf->pool);
	free(buf);
}

#endif
