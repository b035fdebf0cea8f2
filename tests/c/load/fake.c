/* SPDX-License-Identifier: MIT */
#include "fake.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "clocks.h"
#include "net.h"

static unsigned int take_whole_requests(struct fake_conn *c)
{
	static const char end[] = "\r\n\r\n";
	unsigned int nr = 0;
	char *at = c->buf;
	char *stop;

	while ((stop = memmem(at, c->have - (size_t)(at - c->buf), end, 4))) {
		at = stop + 4;
		nr++;
	}
	c->have -= (size_t)(at - c->buf);
	memmove(c->buf, at, c->have);
	return nr;
}

unsigned int fake_take(struct fake_conn *c)
{
	for (;;) {
		ssize_t n = recv(c->fd, c->buf + c->have, sizeof(c->buf) - c->have, 0);
		if (n <= 0)
			return 0;
		c->have += (size_t)n;
		unsigned int nr = take_whole_requests(c);
		c->nr_taken += nr;
		if (nr)
			return nr;
	}
}

bool fake_send(struct fake_conn *c, const void *bytes, size_t len)
{
	const char *at = bytes;

	while (len) {
		ssize_t n = send(c->fd, at, len, MSG_NOSIGNAL);
		if (n < 0)
			return false;
		at += n;
		len -= (size_t)n;
	}
	return true;
}

bool fake_say(struct fake_conn *c, const char *text)
{
	return fake_send(c, text, strlen(text));
}

char fake_body_byte(size_t at)
{
	return (char)(at * 7 + at / 251);
}

char *fake_response(size_t body_bytes, size_t *len)
{
	char *text = malloc(body_bytes + 100);

	if (!text)
		abort();
	int head = sprintf(text, "HTTP/1.1 200 OK\r\nServer: fake\r\nContent-Length: %zu\r\n\r\n",
			   body_bytes);
	for (size_t i = 0; i < body_bytes; i++)
		text[(size_t)head + i] = fake_body_byte(i);
	*len = (size_t)head + body_bytes;
	return text;
}

void fake_count(struct fake_conn *c, size_t body_bytes)
{
	c->fake->nr_answered++;
	c->fake->nr_body_bytes += body_bytes;
}

static void *serve_thread(void *arg)
{
	struct fake_conn *c = arg;
	struct fake *f = c->fake;
	int on = 1;

	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	f->serve(c);
	close(c->fd);
	free(c);
	pthread_mutex_lock(&f->lock);
	f->nr_live--;
	pthread_cond_signal(&f->changed);
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

static void start_conn(struct fake *f, int fd)
{
	struct fake_conn *c = calloc(1, sizeof(*c));
	pthread_t thread;

	if (!c)
		abort();
	c->fake = f;
	c->fd = fd;
	pthread_mutex_lock(&f->lock);
	f->nr_live++;
	pthread_mutex_unlock(&f->lock);
	f->nr_accepted++;
	if (pthread_create(&thread, NULL, serve_thread, c))
		abort();
	pthread_detach(thread);
}

/* Ends when fake_stop() shuts the listening socket down. */
static void *accept_thread(void *arg)
{
	struct fake *f = arg;

	for (;;) {
		int fd = accept(f->listen_fd, NULL, NULL);
		if (fd < 0 && errno == EINVAL)
			return NULL;
		if (fd >= 0)
			start_conn(f, fd);
	}
}

static void fake_start(struct fake *f, fake_serve *serve)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(addr);

	*f = (struct fake){.serve = serve};
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->changed, NULL);
	f->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_return_code(f->listen_fd, errno);
	assert_return_code(bind(f->listen_fd, (struct sockaddr *)&addr, sizeof(addr)), errno);
	assert_return_code(listen(f->listen_fd, 1024), errno);
	assert_return_code(getsockname(f->listen_fd, (struct sockaddr *)&addr, &len), errno);
	f->port = ntohs(addr.sin_port);
	assert_int_equal(pthread_create(&f->acceptor, NULL, accept_thread, f), 0);
}

static void fake_stop(struct fake *f)
{
	shutdown(f->listen_fd, SHUT_RDWR);
	pthread_join(f->acceptor, NULL);
	close(f->listen_fd);
	pthread_mutex_lock(&f->lock);
	while (f->nr_live)
		pthread_cond_wait(&f->changed, &f->lock);
	pthread_mutex_unlock(&f->lock);
	pthread_cond_destroy(&f->changed);
	pthread_mutex_destroy(&f->lock);
}

void rig_start(struct rig *r, fake_serve *serve, uint32_t connections, uint32_t pipeline)
{
	static const char *const paths[] = {"/"};
	struct target target = {.host = "127.0.0.1"};

	memset(r, 0, sizeof(*r));
	fake_start(&r->fake, serve);
	snprintf(target.port, sizeof(target.port), "%u", r->fake.port);
	assert_int_equal(target_resolve(&target, &r->addresses), 0);
	r->cfg = (struct load_config){
		.host = "fake",
		.addresses = r->addresses,
		.paths = paths,
		.nr_paths = 1,
		.connections = connections,
		.pipeline = pipeline,
		.timeout_ns = 30 * NS_PER_S,
	};
}

void rig_slice(struct rig *r, unsigned int duration_ms)
{
	if (!r->load)
		assert_int_equal(load_open(&r->cfg, &r->load), 0);
	load_slice(r->load, 0, duration_ms * NS_PER_MS, &r->res);
}

void rig_stop(struct rig *r)
{
	if (r->load)
		load_close(r->load);
	fake_stop(&r->fake);
	freeaddrinfo(r->addresses);
}

uint64_t rig_errors(const struct rig *r)
{
	uint64_t sum = 0;

	for (int i = 0; i < NR_LOAD_ERRORS; i++)
		sum += r->res.total.errors[i];
	return sum;
}

void rig_assert_clean(const struct rig *r)
{
	for (int i = 0; i < NR_LOAD_ERRORS; i++) {
		if (r->res.total.errors[i])
			fail_msg("%lu errors of kind %s", (unsigned long)r->res.total.errors[i],
				 load_error_names[i]);
	}
	assert_int_equal(r->res.total.non_2xx, 0);
	assert_true(r->res.total.requests > 0);
	assert_int_equal(r->res.total.requests, r->fake.nr_answered);
	assert_int_equal(r->res.total.body_bytes, r->fake.nr_body_bytes);
}
