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
	struct epoll_event ev = {.events = EPOLLIN};
	int one = 1;

	ps->listen_fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (ps->listen_fd < 0 ||
	    setsockopt(ps->listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
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

/* True when the stranger is one no more. */
static bool meet(struct pairs *ps, int fd)
{
	uint64_t hello[2];
	ssize_t n = recv(fd, hello, sizeof(hello), MSG_PEEK | MSG_DONTWAIT);
	struct pair *p;

	if (n < 0 && errno == EAGAIN)
		return false;
	if (n > 0 && n < (ssize_t)sizeof(hello))
		return false;
	if (n != sizeof(hello) || hello[0] != HELLO_MAGIC || hello[1] >= ps->cfg->nr_pairs ||
	    ps->pair[hello[1]].b.fd >= 0 || recv(fd, hello, sizeof(hello), 0) != sizeof(hello)) {
		close(fd);
		return true;
	}
	p = &ps->pair[hello[1]];
	ps->greeting_bytes += sizeof(hello);
	set_nonblocking(fd);
	p->b.fd = fd;
	p->b.writable = p->b.readable = true;
	p->b.eof = false;
	if (!end_watch(ps, &p->b))
		pair_fail(p, LOAD_ERR_CONNECT, "watching a socket", errno);
	else
		pair_pump(p);
	return true;
}

void upstream_meet(struct pairs *ps)
{
	struct stranger **at = &ps->strangers;

	while (*at) {
		struct stranger *s = *at;

		if (meet(ps, s->fd)) {
			*at = s->next;
			free(s);
		} else {
			at = &s->next;
		}
	}
}

void upstream_accept(struct pairs *ps)
{
	int fd;

	while ((fd = accept4(ps->listen_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		struct stranger *s = malloc(sizeof(*s));

		if (!s) {
			close(fd);
			return;
		}
		*s = (struct stranger){.fd = fd, .next = ps->strangers};
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
