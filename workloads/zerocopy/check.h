/* SPDX-License-Identifier: MIT */
/*
 * iolab-zerocopy-check: sends over TCP by MSG_ZEROCOPY and by SEND_ZC, and reads from the kernel's
 * own notifications whether it copied. Functions that can fail return 0 or -errno.
 */
#ifndef IOLAB_ZEROCOPY_CHECK_H
#define IOLAB_ZEROCOPY_CHECK_H

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* What to send, and whereto. */
struct plan {
	struct sockaddr_storage to;
	socklen_t to_len;
	const char *interface; /* SO_BINDTODEVICE, or NULL */
	uint64_t nr_sends;
	size_t send_bytes;
	int timeout_ms; /* without any progress */
};

/* What became of the sends of one method. */
struct tally {
	uint64_t sent, notified, copied;
	uint64_t bytes;
	const char *failed_at; /* the call that failed, or NULL */
	int error;	       /* its -errno; -EOPNOTSUPP: the kernel lacks the method */
};

/* sink.c: accepts on listener and discards what comes, on threads of its own, until exit. */
int sink_start(int listener);
/* The same on the calling thread; returns -errno only. */
int sink_run(int listener);
/* A listening TCP socket, or -errno. */
int sink_listen(const struct sockaddr *addr, socklen_t len);

/* senders.c: both connect a socket of their own, fill `t` and close it. */
void send_msg_zerocopy(const struct plan *p, struct tally *t);
void send_ring_zc(const struct plan *p, struct tally *t);

/* device.c: what is known of the interface that packets for an address leave by. */
struct device {
	char name[16];	    /* empty when it could not be found */
	char driver[32];    /* as ethtool -i, "" when it says none */
	int scatter_gather; /* 1, 0; -1: unknown */
	int packet_sockets; /* open AF_PACKET sockets that see it; -1: unknown */
	bool loopback;
};
void device_of(const struct plan *p, struct device *d);

/* Why the kernel has to copy there, one sentence; NULL when nothing is known to force it. */
const char *device_copies(const struct device *d);

#endif
