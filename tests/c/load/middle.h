/* SPDX-License-Identifier: MIT */
/*
 * A relay or forwarder that does what a test tells it, one transfer at a time in a thread of the
 * test, and a rig that drives the pairs of the load generator through it.
 */
#ifndef IOLAB_TEST_MIDDLE_H
#define IOLAB_TEST_MIDDLE_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>

#include "pairs.h"

#define HELLO_BYTES 16u /* what a forwarder's client says first */

struct middle;

/*
 * Serves one transfer. Relay: the sockets of sender and receiver, whose heads were read. Forward:
 * the client's and one that is connected to the upstream; the client's hello is still to come. Both
 * are closed after it returned, unless it has closed them and set -1.
 */
typedef void middle_script(struct middle *m, int *from, int *to);

struct middle {
	middle_script *script;
	bool relay;
	bool lazy; /* forward: the script connects to the upstream itself; *to is -1 */
	int listen_fd, reserved_fd;
	struct sockaddr_in addr, upstream;
	pthread_t thread;
	bool running;
	atomic_uint nr_served; /* transfers that the script began */
	atomic_uint mark;      /* for scripts and tests to meet at */
};

/* Sends everything, or stops when the other side is gone. */
void middle_send(int fd, const void *bytes, size_t len);
void middle_say(int fd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Receives exactly `len` bytes, or as many as come before the end. Returns how many. */
size_t middle_take(int fd, char *buf, size_t len);

/* Reads a head with its empty line into buf of `room` bytes. False at the end. */
bool middle_head(int fd, char *buf, size_t room);

/* Waits until the other side's kernel has all that was sent: the next bytes come on their own. */
void middle_flush(int fd);

/* Discards what comes until the other side has closed. */
void middle_await_end(int fd);

/* A new connection to the upstream. */
int middle_connect(const struct middle *m);

/* Closes a socket with RST. */
void middle_reset(int *fd);

struct pairs_rig {
	unsigned int nr_fds; /* open before */
	struct middle middle;
	struct addrinfo target, upstream;
	struct pairs_config cfg;
	struct pairs *pairs;
	struct pairs_result res;
};

/*
 * Starts the middle and prepares the configuration: one pair, 1 MiB + 3 bytes, full check, time-out
 * 30 s, no log.
 */
void pairs_rig_start(struct pairs_rig *r, bool relay, middle_script *script);

/* Opens the pairs if they are not open, and runs `count` transfers of each, or one slice. */
void pairs_rig_count(struct pairs_rig *r, uint64_t count);
void pairs_rig_slice(struct pairs_rig *r, unsigned int duration_ms);

/* Starts the middle alone, for pairs that a test has opened itself. */
void pairs_rig_run_middle(struct pairs_rig *r);

/* Closes the pairs, then ends the middle. Fails if a descriptor is left. */
void pairs_rig_stop(struct pairs_rig *r);

/* Fails unless there were `nr` errors of one kind in the last result and none of any other. */
void pairs_rig_expect(const struct pairs_rig *r, enum load_error kind, uint64_t nr);

/* Fails if there was any error in the last result. */
void pairs_rig_expect_none(const struct pairs_rig *r);

#endif
