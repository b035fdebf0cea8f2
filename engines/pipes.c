// SPDX-License-Identifier: MIT
#include "pipes.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	POOL_MAX = 256
};

struct pipe_pool {
	int nr;
	struct pipe_pair free[POOL_MAX];
};
static _Thread_local struct pipe_pool *pool;

int pipes_init(struct worker *w)
{
	pool = calloc(1, sizeof(*pool));
	return pool ? 0 : -ENOMEM;
}

static void destroy(struct counters *ctr, struct pipe_pair *p)
{
	close(p->rd);
	close(p->wr);
	count_add(ctr, sys_close, 2);
	count_add(ctr, pipes, -1);
	count_add(ctr, pipe_bytes, -(int64_t)p->bytes);
}

void pipes_exit(struct worker *w)
{
	while (pool && pool->nr)
		destroy(w->ctr, &pool->free[--pool->nr]);
	free(pool);
	pool = NULL;
}

static int create(struct conn *c, struct pipe_pair *p, uint32_t bytes)
{
	int fds[2], granted;

	if (pipe2(fds, O_NONBLOCK | O_CLOEXEC))
		return -errno;
	/* Refused beyond pipe-user-pages-soft; the default size then serves as well. */
	granted = fcntl(fds[1], F_SETPIPE_SZ, (int)bytes);
	if (granted < 0)
		granted = fcntl(fds[1], F_GETPIPE_SZ);
	count_add(c->ctr, sys_other, 2);
	*p = (struct pipe_pair){.rd = fds[0], .wr = fds[1], .bytes = (uint32_t)granted};
	count_one(c->ctr, pipes);
	count_add(c->ctr, pipe_bytes, p->bytes);
	return 0;
}

int pipe_take(struct conn *c, struct pipe_pair *p, uint32_t bytes)
{
	if (!pool->nr)
		return create(c, p, bytes);
	*p = pool->free[--pool->nr];
	return 0;
}

int pipe_shrink(struct conn *c, struct pipe_pair *p, uint32_t bytes)
{
	int granted;

	if (p->bytes <= bytes)
		return 0;
	granted = fcntl(p->wr, F_SETPIPE_SZ, (int)bytes);
	count_one(c->ctr, sys_other);
	if (granted < 0)
		return -errno;
	count_add(c->ctr, pipe_bytes, (int64_t)granted - (int64_t)p->bytes);
	p->bytes = (uint32_t)granted;
	return 0;
}

void pipe_give(struct conn *c, struct pipe_pair *p, bool empty)
{
	if (empty && pool->nr < POOL_MAX)
		pool->free[pool->nr++] = *p;
	else
		destroy(c->ctr, p);
}
