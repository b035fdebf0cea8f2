/* SPDX-License-Identifier: MIT */
/*
 * HTTP servers that do what a test tells them, on loopback and in threads of the test, and a rig
 * that drives the load generator against one.
 */
#ifndef IOLAB_TEST_FAKE_H
#define IOLAB_TEST_FAKE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "load.h"

#define FAKE_BUFFER_BYTES (64 * 1024)

struct fake;

/* One accepted connection, owned by its thread. */
struct fake_conn {
	struct fake *fake;
	int fd;
	unsigned int nr_taken; /* requests taken so far */
	size_t have;	       /* bytes of an unfinished request in buf */
	char buf[FAKE_BUFFER_BYTES];
};

/* Serves a connection until its end; the descriptor is closed after it returned. */
typedef void fake_serve(struct fake_conn *c);

struct fake {
	fake_serve *serve;
	int listen_fd;
	unsigned short port;
	pthread_t acceptor;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned int nr_live; /* connection threads; under lock */
	atomic_uint nr_accepted;
	atomic_uint_fast64_t nr_answered;   /* whole, correct responses sent */
	atomic_uint_fast64_t nr_body_bytes; /* in those */
};

/* Blocks until at least one whole request is there. Returns how many were taken, 0 at the end. */
unsigned int fake_take(struct fake_conn *c);

/* Sends everything. Returns false when the client is gone. */
bool fake_send(struct fake_conn *c, const void *bytes, size_t len);
bool fake_say(struct fake_conn *c, const char *text);

/* Makes a 200 response with `body_bytes` of body; the caller frees it. */
char *fake_response(size_t body_bytes, size_t *len);

/* The byte at place `at` of such a body. */
char fake_body_byte(size_t at);

/* Counts a response as answered; right before or after it is sent. */
void fake_count(struct fake_conn *c, size_t body_bytes);

/* A server, the load generator's configuration for it, and the last result. */
struct rig {
	struct fake fake;
	struct addrinfo *addresses;
	struct load_config cfg;
	struct load *load;
	struct slice_result res;
};

/* Starts the server and prepares the configuration: path "/", time-out 30 s, no log. */
void rig_start(struct rig *r, fake_serve *serve, uint32_t connections, uint32_t pipeline);

/* Opens the load generator if it is not open and runs a slice without warm-up. */
void rig_slice(struct rig *r, unsigned int duration_ms);

/* Closes the load generator, then ends the server and waits for its threads. */
void rig_stop(struct rig *r);

/* Sum of all errors of the last slice. */
uint64_t rig_errors(const struct rig *r);

/* Fails unless everything the server answered, and nothing else, was counted as a success. */
void rig_assert_clean(const struct rig *r);

#endif
