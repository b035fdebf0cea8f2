/* SPDX-License-Identifier: MIT */
/* Targets and sockets. */
#ifndef IOLAB_LOAD_NET_H
#define IOLAB_LOAD_NET_H

#include <netdb.h>
#include <stddef.h>
#include <sys/socket.h>

/* A parsed HOST:PORT. */
struct target {
	char host[256]; /* without the brackets of an IPv6 address */
	char port[8];
};

/*
 * Splits "HOST:PORT" ("[::1]:80" for IPv6). Returns NULL, or a static sentence that says what is
 * wrong with it.
 */
const char *target_parse(const char *text, struct target *target);

/*
 * Resolves a target to stream addresses in the resolver's order; the caller frees *list with
 * freeaddrinfo(). Returns 0 or a getaddrinfo(3) code for gai_strerror().
 */
int target_resolve(const struct target *target, struct addrinfo **list);

/*
 * Opens a non-blocking TCP socket with TCP_NODELAY and begins to connect it. A receive buffer is
 * set only for rcvbuf_bytes > 0, else the kernel tunes it (tcp_moderate_rcvbuf). Returns the
 * socket, whose outcome shows as writability and net_socket_error(), or -errno.
 */
int net_connect(const struct addrinfo *addr, int rcvbuf_bytes);

/* Pending error of a socket as -errno, 0 if none: tells whether a connect succeeded. */
int net_socket_error(int fd);

/* Receive buffer the kernel granted to a socket (twice what was asked, if all went well). */
int net_rcvbuf_granted(int fd);

#endif
