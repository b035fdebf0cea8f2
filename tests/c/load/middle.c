/* SPDX-License-Identifier: MIT */
#include "middle.h"

#include <dirent.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "clocks.h"

void middle_send(int fd, const void *bytes, size_t len)
{
	const char *at = bytes;

	while (len) {
		ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
		if (n < 0)
			return;
		at += n;
		len -= (size_t)n;
	}
}

void middle_say(int fd, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	int len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	middle_send(fd, text, (size_t)len);
}

size_t middle_take(int fd, char *buf, size_t len)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = recv(fd, buf + have, len - have, 0);
		if (n <= 0)
			break;
		have += (size_t)n;
	}
	return have;
}

bool middle_head(int fd, char *buf, size_t room)
{
	size_t have = 0;

	while (have < 4 || memcmp(buf + have - 4, "\r\n\r\n", 4) != 0) {
		if (have == room - 1 || recv(fd, buf + have, 1, 0) != 1)
			return false;
		buf[++have] = '\0';
	}
	return true;
}

void middle_flush(int fd)
{
	struct tcp_info info = {.tcpi_state = TCP_ESTABLISHED};
	socklen_t len = sizeof(info);
	int left = 1;

	while (left && info.tcpi_state != TCP_CLOSE) {
		usleep(100);
		if (ioctl(fd, SIOCOUTQ, &left) < 0 ||
		    getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
			abort();
	}
}

void middle_await_end(int fd)
{
	char buf[65536];

	while (recv(fd, buf, sizeof(buf), 0) > 0)
		;
}

int middle_connect(const struct middle *m)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	if (fd < 0 || connect(fd, (const struct sockaddr *)&m->upstream, sizeof(m->upstream)) < 0)
		abort();
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

void middle_reset(int *fd)
{
	const struct linger abort_it = {.l_onoff = 1};

	setsockopt(*fd, SOL_SOCKET, SO_LINGER, &abort_it, sizeof(abort_it));
	close(*fd);
	*fd = -1;
}

static int take_connection(const struct middle *m)
{
	int fd, on = 1;

	while ((fd = accept(m->listen_fd, NULL, NULL)) < 0 && errno != EINVAL)
		;
	if (fd >= 0)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

static void close_if_open(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void serve_relay(struct middle *m, int first)
{
	char one[1024] = "", other[1024] = "";
	int second = take_connection(m);

	if (second >= 0 && middle_head(first, one, sizeof(one)) &&
	    middle_head(second, other, sizeof(other))) {
		bool swapped = strncmp(one, "GET", 3) == 0;

		m->nr_served++;
		m->script(m, swapped ? &second : &first, swapped ? &first : &second);
	}
	close_if_open(first);
	close_if_open(second);
}

static void serve_forward(struct middle *m, int client)
{
	int upstream = m->lazy ? -1 : middle_connect(m);

	m->nr_served++;
	m->script(m, &client, &upstream);
	close_if_open(client);
	close_if_open(upstream);
}

/* Ends when pairs_rig_stop() shuts the listening socket down. */
static void *middle_thread(void *arg)
{
	struct middle *m = arg;
	int fd;

	while ((fd = take_connection(m)) >= 0) {
		if (m->relay)
			serve_relay(m, fd);
		else
			serve_forward(m, fd);
	}
	return NULL;
}

/* A bound socket; with SO_REUSEADDR a second one may listen on its port, and nobody else gets it.
 */
static int bound_socket(struct sockaddr_in *addr)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
	socklen_t len = sizeof(*addr);

	*addr = (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	assert_return_code(fd, errno);
	assert_return_code(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), errno);
	assert_return_code(bind(fd, (struct sockaddr *)addr, sizeof(*addr)), errno);
	assert_return_code(getsockname(fd, (struct sockaddr *)addr, &len), errno);
	return fd;
}

static struct addrinfo address(struct sockaddr_in *addr)
{
	return (struct addrinfo){
		.ai_family = AF_INET,
		.ai_addr = (struct sockaddr *)addr,
		.ai_addrlen = sizeof(*addr),
	};
}

static unsigned int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int nr = 0;

	assert_non_null(dir);
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

void pairs_rig_start(struct pairs_rig *r, bool relay, middle_script *script)
{
	struct middle *m = &r->middle;

	memset(r, 0, sizeof(*r));
	r->nr_fds = count_fds();
	m->script = script;
	m->relay = relay;
	m->listen_fd = bound_socket(&m->addr);
	m->reserved_fd = bound_socket(&m->upstream);
	assert_return_code(listen(m->listen_fd, 100), errno);
	r->target = address(&m->addr);
	r->upstream = address(&m->upstream);
	r->cfg = (struct pairs_config){
		.forward = !relay,
		.host = "middle",
		.target = &r->target,
		.upstream = &r->upstream,
		.prefix = "test",
		.nr_pairs = 1,
		.size = (1u << 20) + 3,
		.check = CHECK_FULL,
		.timeout_ns = 30 * NS_PER_S,
		.seed = 3,
	};
}

void pairs_rig_run_middle(struct pairs_rig *r)
{
	assert_int_equal(pthread_create(&r->middle.thread, NULL, middle_thread, &r->middle), 0);
	r->middle.running = true;
}

/* The middle starts with the pairs, so that a test can change how it works before. */
static void open_pairs(struct pairs_rig *r)
{
	if (r->pairs)
		return;
	assert_int_equal(pairs_open(&r->cfg, &r->pairs), 0);
	pairs_rig_run_middle(r);
}

void pairs_rig_count(struct pairs_rig *r, uint64_t count)
{
	r->cfg.count = count;
	open_pairs(r);
	pairs_count(r->pairs, &r->res);
}

void pairs_rig_slice(struct pairs_rig *r, unsigned int duration_ms)
{
	open_pairs(r);
	pairs_slice(r->pairs, 0, duration_ms * NS_PER_MS, &r->res);
}

void pairs_rig_stop(struct pairs_rig *r)
{
	if (r->pairs)
		pairs_close(r->pairs);
	if (r->middle.running) {
		shutdown(r->middle.listen_fd, SHUT_RDWR);
		pthread_join(r->middle.thread, NULL);
	}
	close(r->middle.listen_fd);
	close(r->middle.reserved_fd);
	assert_int_equal(count_fds(), r->nr_fds);
}

void pairs_rig_expect(const struct pairs_rig *r, enum load_error kind, uint64_t nr)
{
	for (int i = 0; i < NR_LOAD_ERRORS; i++) {
		uint64_t want = i == (int)kind ? nr : 0;

		if (r->res.slice.total.errors[i] != want)
			fail_msg("%lu errors of kind %s, not %lu",
				 (unsigned long)r->res.slice.total.errors[i], load_error_names[i],
				 (unsigned long)want);
	}
}

void pairs_rig_expect_none(const struct pairs_rig *r)
{
	pairs_rig_expect(r, LOAD_ERR_CONNECT, 0);
}
