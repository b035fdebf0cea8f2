/* SPDX-License-Identifier: MIT */
/*
 * The upstream of a forwarder: accepts its connections, and finds out by their first bytes which
 * pair each belongs to.
 */
#include "pair.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

int upstream_listen(struct pairs *ps)
{
	const struct addrinfo *ai = ps->cfg->upstream;
	/* Edge-triggered: a connection that cannot be accepted for want of descriptors stays. */
	struct epoll_event ev = {.events = EPOLLIN | EPOLLET};
	int one = 1, rcvbuf = PACED_RCVBUF;

	ps->listen_fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (ps->listen_fd < 0 ||
	    setsockopt(ps->listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    (ps->cfg->rate_recv && /* inherited by what is accepted */
	     setsockopt(ps->listen_fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf)) < 0) ||
	    bind(ps->listen_fd, ai->ai_addr, ai->ai_addrlen) < 0 ||
	    listen(ps->listen_fd, 1024) < 0 ||
	    epoll_ctl(ps->epfd, EPOLL_CTL_ADD, ps->listen_fd, &ev) < 0)
		return -errno;
	return 0;
}

static void set_nonblocking(int fd)
{
	int one = 1;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* The pair that waits for a connection with this hello; NULL: it is late, or of no pair. */
static struct pair *find_pair(struct pairs *ps, const uint64_t *hello)
{
	uint64_t index = hello[1] & UINT32_MAX;
	struct pair *p = &ps->pair[index < ps->cfg->nr_pairs ? index : 0];

	if (!p->running || p->b.fd >= 0 || hello[0] != HELLO_MAGIC || hello[1] != pair_hello(p))
		return NULL;
	return p;
}

/* True when the stranger is one no more. */
static bool meet(struct pairs *ps, int fd)
{
	uint64_t hello[2];
	ssize_t n = recv(fd, hello, sizeof(hello), MSG_PEEK | MSG_DONTWAIT);
	struct pair *p = NULL;

	if (n < 0 && errno == EAGAIN)
		return false;
	if (n > 0 && n < (ssize_t)sizeof(hello))
		return false;
	if (n == sizeof(hello))
		p = find_pair(ps, hello);
	if (!p || recv(fd, hello, sizeof(hello), 0) != sizeof(hello)) {
		close(fd);
		return true;
	}
	ps->greeting_bytes += sizeof(hello);
	set_nonblocking(fd);
	p->b.fd = fd;
	p->b.opened_turn = ps->nr_turns;
	p->b.writable = p->b.readable = true;
	p->b.eof = false;
	if (!end_watch(ps, &p->b))
		pair_fail(p, LOAD_ERR_CONNECT, "watching a socket", errno);
	else
		pair_pump(p);
	return true;
}

/* Parts with strangers that were met, or have said nothing since a time. */
static void look_at_strangers(struct pairs *ps, uint64_t since_ns)
{
	struct stranger **at = &ps->strangers;

	while (*at) {
		struct stranger *s = *at;
		bool met = meet(ps, s->fd);

		if (!met && s->accepted_ns < since_ns)
			close(s->fd);
		if (met || s->accepted_ns < since_ns) {
			*at = s->next;
			free(s);
		} else {
			at = &s->next;
		}
	}
}

void upstream_meet(struct pairs *ps)
{
	look_at_strangers(ps, 0);
}

void upstream_tick(struct pairs *ps)
{
	if (ps->listen_fd < 0)
		return;
	upstream_accept(ps);
	if (ps->now_ns > ps->cfg->timeout_ns)
		look_at_strangers(ps, ps->now_ns - ps->cfg->timeout_ns);
}

void upstream_accept(struct pairs *ps)
{
	for (;;) {
		int fd = accept4(ps->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		struct stranger *s;

		if (fd < 0 && errno == ECONNABORTED)
			continue;
		if (fd < 0)
			return;
		s = malloc(sizeof(*s));
		if (!s) {
			close(fd);
			return;
		}
		*s = (struct stranger){.fd = fd, .accepted_ns = ps->now_ns, .next = ps->strangers};
		ps->strangers = s;
	}
}

void upstream_close(struct pairs *ps)
{
	while (ps->strangers) {
		struct stranger *s = ps->strangers;

		ps->strangers = s->next;
		close(s->fd);
		free(s);
	}
	if (ps->listen_fd >= 0)
		close(ps->listen_fd);
}
