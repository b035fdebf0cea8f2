// SPDX-License-Identifier: MIT
#include "test.h"

#include "bench.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

TEST_COMPLAIN

void loopback_pair(int *tx, int *rx, int sndbuf_bytes)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	socklen_t len = sizeof(addr);

	assert_int_equal(bind(listener, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
	assert_int_equal(listen(listener, 1), 0);
	*rx = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(*rx, (struct sockaddr *)&addr, len), 0);
	*tx = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	assert_true(*tx >= 0);
	close(listener);
	setsockopt(*tx, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (sndbuf_bytes)
		setsockopt(*tx, SOL_SOCKET, SO_SNDBUF, &sndbuf_bytes, sizeof(sndbuf_bytes));
}

const struct engine *bench_engine(const char *name)
{
	for (unsigned i = 0; i < nr_engines; i++)
		if (!strcmp(engines[i]->name, name))
			return engines[i];
	fail_msg("no engine %s", name);
	return NULL;
}

static void kept(struct lease *lease)
{
}

void bench_begin(struct bench *b, const struct engine *e, const char *options)
{
	char spec[256];

	memset(b, 0, sizeof(*b));
	b->lease = (struct lease){.refs = 1, .release = kept};
	snprintf(spec, sizeof(spec), "%s,%s", e->name, options);
	assert_int_equal(engine_spec_parse(&b->cfg, spec), 0);
	e->bodies(b->cfg.opt, &b->cfg.bodies);
	b->w = (struct worker){.engine = e, .opt = b->cfg.opt, .ctr = &b->ctr};
	if (e->mover->worker_init)
		assert_int_equal(e->mover->worker_init(&b->w), 0);
}

void bench_open(struct bench *b)
{
	const struct engine *e = b->w.engine;

	memset(&b->c, 0, sizeof(b->c));
	b->c = (struct conn){.w = &b->w, .ctr = &b->ctr};
	b->c.priv = calloc(1, e->conn_bytes);
	b->c.mover = (char *)b->c.priv + DRIVE_EPOLL_BYTES;
	b->received = 0;
	loopback_pair(&b->c.fd, &b->rx, (int)b->cfg.opt[COPT_SNDBUF]);
	if (e->mover->open)
		assert_int_equal(e->mover->open(&b->c), 0);
}

void bench_close(struct bench *b)
{
	if (b->w.engine->mover->exit)
		b->w.engine->mover->exit(&b->c);
	close(b->c.fd);
	if (b->rx >= 0)
		close(b->rx);
	free(b->c.priv);
}

void bench_end(struct bench *b)
{
	if (b->w.engine->mover->worker_exit)
		b->w.engine->mover->worker_exit(&b->w);
	assert_int_equal(b->ctr.pipes, 0);
	assert_int_equal(b->ctr.zc_inflight_bytes, 0);
	assert_int_equal(b->lease.refs, 1);
}
