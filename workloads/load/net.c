/* SPDX-License-Identifier: MIT */
#include "net.h"

#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *take_port(const char *text, struct target *target)
{
	size_t len = strlen(text);

	if (!len || len > 5 || strspn(text, "0123456789") != len)
		return "the port is not a decimal number";
	if (atoi(text) < 1 || atoi(text) > 65535)
		return "the port is outside 1 to 65535";
	memcpy(target->port, text, len + 1);
	return NULL;
}

const char *target_parse(const char *text, struct target *target)
{
	const char *colon = strrchr(text, ':');
	const char *host = text;

	if (!colon)
		return "the port is missing (HOST:PORT)";
	size_t len = (size_t)(colon - text);
	if (*host == '[') {
		if (len < 2 || colon[-1] != ']')
			return "an IPv6 address is written [ADDRESS]:PORT";
		host++;
		len -= 2;
	} else if (memchr(host, ':', len)) {
		return "an IPv6 address is written [ADDRESS]:PORT";
	}
	if (!len)
		return "the host is missing (HOST:PORT)";
	if (len >= sizeof(target->host))
		return "the host name is too long";
	for (size_t i = 0; i < len; i++) {
		if (!isgraph((unsigned char)host[i]))
			return "the host name holds a blank or a control character";
	}
	memcpy(target->host, host, len);
	target->host[len] = '\0';
	return take_port(colon + 1, target);
}

int target_resolve(const struct target *target, struct addrinfo **list)
{
	const struct addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICSERV,
	};

	return getaddrinfo(target->host, target->port, &hints, list);
}

static int set_options(int fd, int rcvbuf_bytes)
{
	int on = 1;

	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
		return -errno;
	/* Before connect(): the window scale is fixed by the handshake. */
	if (rcvbuf_bytes > 0 &&
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf_bytes, sizeof(rcvbuf_bytes)) < 0)
		return -errno;
	return 0;
}

static int begin_connect(int fd, const struct addrinfo *addr)
{
	if (connect(fd, addr->ai_addr, addr->ai_addrlen) < 0 && errno != EINPROGRESS)
		return -errno;
	return 0;
}

int net_connect(const struct addrinfo *addr, int rcvbuf_bytes)
{
	int fd = socket(addr->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);

	if (fd < 0)
		return -errno;
	int res = set_options(fd, rcvbuf_bytes);
	if (res == 0)
		res = begin_connect(fd, addr);
	if (res < 0) {
		close(fd);
		return res;
	}
	return fd;
}

int net_socket_error(int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return -errno;
	return -error;
}

int net_rcvbuf_granted(int fd)
{
	int bytes = 0;
	socklen_t len = sizeof(bytes);

	if (getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, &len) < 0)
		return -errno;
	return bytes;
}
