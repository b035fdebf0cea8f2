// SPDX-License-Identifier: MIT
/* Listening sockets: one a worker, on the same address (SO_REUSEPORT, Linux 3.9). */
#include "server.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int resolve(const char *hostport, int flags, struct addrinfo **out)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC,
				 .ai_socktype = SOCK_STREAM,
				 .ai_flags = flags | AI_NUMERICSERV};
	char host[256];
	const char *colon = strrchr(hostport, ':');
	size_t len = colon ? (size_t)(colon - hostport) : 0;

	if (!colon || len >= sizeof(host))
		return -EINVAL;
	if (len > 1 && hostport[0] == '[' && colon[-1] == ']') {
		hostport++;
		len -= 2;
	}
	memcpy(host, hostport, len);
	host[len] = '\0';
	return getaddrinfo(len ? host : NULL, colon + 1, &hints, out) ? -EADDRNOTAVAIL : 0;
}

int upstream_resolve(const char *hostport, struct addrinfo **out)
{
	return resolve(hostport, 0, out);
}

/*
 * Options that accepted sockets inherit from their listener (sk_clone_lock, net/core/sock.c): set
 * here once instead of with a system call a connection.
 */
static int set_options(int fd, const struct server_config *cfg)
{
	int one = 1, nodelay = (int)cfg->opt[COPT_NODELAY], sndbuf = (int)cfg->opt[COPT_SNDBUF];

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, sizeof(nodelay)))
		return -errno;
	/* A party may wait for hours: its host's end is noticed all the same (tcp_keepalive_time).
	 */
	if (cfg->role->relays && setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one)))
		return -errno;
	if (sndbuf && setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof(sndbuf)))
		return -errno;
	return 0;
}

/* cfg NULL: without SO_REUSEPORT, so that a port in use is refused. */
static int open_bound(const char *hostport, const struct server_config *cfg)
{
	struct addrinfo *ai = NULL;
	int fd, one = 1, res = resolve(hostport, AI_PASSIVE, &ai);

	if (res)
		return res;
	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		res = -errno;
	else if (cfg)
		res = set_options(fd, cfg);
	else if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)))
		res = -errno;
	if (!res && bind(fd, ai->ai_addr, ai->ai_addrlen))
		res = -errno;
	freeaddrinfo(ai);
	if (res && fd >= 0)
		close(fd);
	return res ? res : fd;
}

int listen_probe(const char *hostport)
{
	return open_bound(hostport, NULL);
}

int listen_open(const char *hostport, int backlog, const struct server_config *cfg)
{
	int fd = open_bound(hostport, cfg), res;

	if (fd < 0 || !listen(fd, backlog))
		return fd;
	res = -errno;
	close(fd);
	return res;
}

int listen_name(int fd, char *buf, size_t size)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	char host[64], port[16];

	if (getsockname(fd, (struct sockaddr *)&addr, &len) ||
	    getnameinfo((struct sockaddr *)&addr, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV))
		return -EINVAL;
	snprintf(buf, size, addr.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
	return 0;
}
