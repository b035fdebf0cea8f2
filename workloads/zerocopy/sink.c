// SPDX-License-Identifier: MIT
/* The receiving end: accepts, and discards by MSG_TRUNC, which copies nothing to user space. */
#include "check.h"

#include <pthread.h>
#include <unistd.h>

#define DISCARD_BYTES (1 << 20)

static void *discard(void *arg)
{
	int fd = (int)(intptr_t)arg;

	while (recv(fd, NULL, DISCARD_BYTES, MSG_TRUNC) > 0)
		;
	close(fd);
	return NULL;
}

int sink_run(int listener)
{
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		pthread_t thread;

		if (fd < 0 && errno != EINTR && errno != ECONNABORTED)
			return -errno;
		if (fd < 0)
			continue;
		if (pthread_create(&thread, NULL, discard, (void *)(intptr_t)fd))
			close(fd);
		else
			pthread_detach(thread);
	}
}

static void *run(void *arg)
{
	sink_run((int)(intptr_t)arg);
	return NULL;
}

int sink_start(int listener)
{
	pthread_t thread;
	int res = pthread_create(&thread, NULL, run, (void *)(intptr_t)listener);

	if (!res)
		pthread_detach(thread);
	return -res;
}

int sink_listen(const struct sockaddr *addr, socklen_t len)
{
	int one = 1, fd = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int res;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (!bind(fd, addr, len) && !listen(fd, 16))
		return fd;
	res = -errno;
	close(fd);
	return res;
}
