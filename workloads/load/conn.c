/* SPDX-License-Identifier: MIT */
/*
 * One connection of the load generator: its life, receiving, judging. conn_send.c sends.
 *
 * Cost per request, one outstanding: one send and one receive for responses up to SMALL_BYTES, a
 * second receive with MSG_TRUNC (tcp(7): the kernel drops the bytes without copying them) for
 * longer ones, one clock reading. There is no receive that only meets EAGAIN.
 *
 * Why that loses no wake-up under EPOLLET: epoll takes an item off its ready list before it polls
 * the socket (fs/eventpoll.c, ep_send_events), so whatever arrives after that moment puts it back.
 * What arrived before can be left unread in two cases only:
 *  - the receive returned less than it asked for: the queue was empty when it ended;
 *  - the last response due is complete: the server owes nothing until the next request, and the
 *    answer to that is a new arrival. Surplus bytes stay in the queue and are found in front of
 *    that answer, or by conn_check_idle().
 * A FIN carries no bytes and may have arrived together with them, in the same event; it shows as
 * EPOLLRDHUP there, and such a connection is read until it ends.
 */
#include "conn.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "clocks.h"
#include "net.h"

/* Up to this size a copy is cheaper than a second system call. */
#define SMALL_BYTES 4096

/* Receive size for small responses in a pipeline: many of them per call, and it stays in L2. */
#define PIPELINE_BYTES (64 * 1024)

/* Slack for a head that is a little longer than the last one (a digit more in a field). */
#define HEAD_SLACK_BYTES 64

/* Bound of one MSG_TRUNC receive; the kernel caps a transfer just below INT_MAX. */
#define DISCARD_MAX_BYTES (1u << 30)

/* Receives on one connection before the others get their turn. */
#define RECEIVES_PER_TURN 32

/* Messages per slice; counters tell the rest. */
#define MESSAGES_PER_SLICE 5

#define WATCHED (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
#define HUNG_UP (EPOLLRDHUP | EPOLLHUP | EPOLLERR)

static void say(struct load *l, enum load_error error, const char *why)
{
	if (!l->cfg->log || l->quiet || l->nr_said > MESSAGES_PER_SLICE)
		return;
	if (l->nr_said++ == MESSAGES_PER_SLICE)
		fprintf(l->cfg->log, "iolab-load: further errors of this slice are only counted\n");
	else
		fprintf(l->cfg->log, "iolab-load: %s error: %s\n", load_error_names[error], why);
}

static void count_error(struct load *l, enum load_error error, const char *why)
{
	l->count.errors[error]++;
	say(l, error, why);
}

uint32_t conn_first_ask(const struct load *l)
{
	if (l->cfg->wants)
		return SCRATCH_BYTES;
	return l->cfg->pipeline > 1 ? PIPELINE_BYTES : SMALL_BYTES;
}

/*
 * How much to receive when the next response to this path is due. Responses to one path are alike:
 * a small one comes whole, of a long one only the head should be copied.
 */
static uint32_t next_ask(const struct load *l, const struct head *h)
{
	if (l->cfg->wants || h->content_length + h->len_bytes <= SMALL_BYTES)
		return conn_first_ask(l);
	uint32_t ask = h->len_bytes + HEAD_SLACK_BYTES;
	return ask < SMALL_BYTES ? ask : SMALL_BYTES;
}

int conn_init(struct load *l, struct conn *c)
{
	c->fd = -1;
	c->ring = calloc(l->ring_mask + 1, sizeof(*c->ring));
	if (!c->ring)
		return -ENOMEM;
	if (l->cfg->wants)
		c->hash = verify_hash_new();
	return l->cfg->wants && !c->hash ? -ENOMEM : 0;
}

/* Closes the socket and forgets what was outstanding. Closing ends its epoll registration. */
static void drop(struct load *l, struct conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	l->nr_up -= c->state == CONN_UP;
	l->nr_connecting -= c->state == CONN_CONNECTING;
	c->state = CONN_DOWN;
	c->hup = false;
	l->nr_asked -= c->nr_asked;
	c->nr_asked = 0;
	free(c->unsent);
	c->unsent = NULL;
	c->unsent_bytes = 0;
	stream_reset(&c->stream);
	if (c->hash)
		verify_hash_reset(c->hash);
}

void conn_exit(struct load *l, struct conn *c)
{
	drop(l, c);
	free(c->ring);
	verify_hash_free(c->hash);
}

/*
 * Replaces a connection. One that never completed a response waits for the next tick instead, so
 * that a server which closes at once is not besieged.
 */
static void replace(struct load *l, struct conn *c)
{
	bool promising = c->stream.any_done && l->issuing;

	drop(l, c);
	if (promising)
		conn_open(l, c);
}

void conn_fail(struct load *l, struct conn *c, enum load_error error, const char *why)
{
	count_error(l, error, why);
	replace(l, c);
}

static void connect_failed(struct load *l, struct conn *c, int res)
{
	l->connect_error = res;
	conn_fail(l, c, LOAD_ERR_CONNECT, strerror(-res));
}

void conn_open(struct load *l, struct conn *c)
{
	struct epoll_event ev = {.events = WATCHED, .data.ptr = c};
	int fd = net_connect(l->address, l->cfg->rcvbuf_bytes);

	l->count.reconnects += c->was_up;
	if (fd < 0) {
		connect_failed(l, c, fd);
		return;
	}
	c->fd = fd;
	c->state = CONN_CONNECTING;
	c->opened_ns = mono_ns();
	l->nr_connecting++;
	/* Registered once and for good; reports a handshake that is already over. */
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
		connect_failed(l, c, -errno);
}

static void connected(struct load *l, struct conn *c)
{
	c->state = CONN_UP;
	c->was_up = true;
	l->nr_connecting--;
	l->nr_up++;
	l->now_ns = mono_ns();
	c->room_since_ns = l->now_ns;
	conn_fill(l, c);
}

static void wrong_status(struct load *l, unsigned int status)
{
	char why[64];

	snprintf(why, sizeof(why), "status %u instead of 200", status);
	l->count.non_2xx += status / 100 != 2;
	count_error(l, LOAD_ERR_STATUS, why);
}

/* The oldest outstanding request has its response: judges it. */
static void complete(struct load *l, struct conn *c)
{
	const struct asked *asked = &c->ring[c->first++ & l->ring_mask];
	struct route *r = &l->plan.routes[asked->route];
	const struct head *h = &c->stream.head;

	c->nr_asked--;
	l->nr_asked--;
	r->ask_bytes = next_ask(l, h);
	if (h->status != 200) {
		wrong_status(l, h->status);
	} else if (c->hash && !verify_hash_matches(c->hash, r->want)) {
		count_error(l, LOAD_ERR_MISMATCH, "a body differs from its file");
	} else {
		l->count.requests++;
		if (l->latency && asked->start_ns >= l->open.window_ns)
			hist_add(l->latency, l->now_ns - asked->start_ns);
	}
	if (c->hash)
		verify_hash_reset(c->hash);
}

/* The stream found a fault. A status that could still be read is counted with it. */
static void bad_response(struct load *l, struct conn *c)
{
	const struct head *h = &c->stream.head;

	if (c->stream.error == LOAD_ERR_HEAD && h->status && h->status / 100 != 2)
		l->count.non_2xx++;
	conn_fail(l, c, c->stream.error, c->stream.why);
}

/*
 * A response is complete and `rest` bytes follow it. Returns false if the connection ended: the
 * server announced that it would close, and requests still outstanding on it were not accepted
 * (RFC 9112 9.6), so they are asked again elsewhere and nothing is counted.
 */
static bool after_response(struct load *l, struct conn *c, size_t rest)
{
	bool keep_alive = c->stream.head.keep_alive;

	if (rest && (!keep_alive || c->nr_asked == 1)) {
		conn_fail(l, c, LOAD_ERR_LONG, "bytes follow the last response that was due");
		return false;
	}
	complete(l, c);
	if (!keep_alive) {
		open_loop_ask_again(l, c);
		replace(l, c);
	}
	return keep_alive;
}

/* Takes received bytes through the stream. Returns false if the connection ended. */
static bool take_bytes(struct load *l, struct conn *c, const char *buf, size_t len)
{
	bool stamped = false;

	while (len) {
		struct stream_taken taken;
		uint32_t route = c->ring[c->first & l->ring_mask].route;
		struct head_cache *cache = &l->plan.routes[route].cache;

		if (!c->nr_asked) {
			conn_fail(l, c, LOAD_ERR_LONG, "bytes arrived although nothing was due");
			return false;
		}
		enum stream_verdict v = stream_feed(&c->stream, cache, buf, len, &taken);
		l->count.body_bytes += taken.body_bytes;
		if (c->hash)
			verify_hash_add(c->hash, taken.body, taken.body_bytes);
		buf += taken.used_bytes;
		len -= taken.used_bytes;
		if (v == STREAM_BAD) {
			bad_response(l, c);
			return false;
		}
		if (v == STREAM_MORE)
			return true;
		/* What one receive brought was complete at one time: when it returned. */
		if (!stamped)
			l->now_ns = mono_ns();
		stamped = true;
		if (!after_response(l, c, len))
			return false;
	}
	return true;
}

/* Takes discarded body bytes. Returns false if the connection ended. */
static bool take_discarded(struct load *l, struct conn *c, size_t len)
{
	l->count.body_bytes += len;
	if (stream_skip(&c->stream, len) == STREAM_MORE)
		return true;
	l->now_ns = mono_ns();
	return after_response(l, c, 0);
}

/*
 * Receives, or discards when only body is due. Returns the number of bytes or -errno, and in *want
 * how many were asked for. The system call is made directly for discarding: no memory is written,
 * which the sanitizers' wrapper of recv() does not know.
 */
static ssize_t receive(struct load *l, struct conn *c, bool discard, size_t *want)
{
	uint64_t left = stream_body_left(&c->stream);
	ssize_t n;

	if (discard) {
		*want = left < DISCARD_MAX_BYTES ? left : DISCARD_MAX_BYTES;
		n = syscall(SYS_recvfrom, c->fd, NULL, *want, MSG_TRUNC, NULL, NULL);
	} else {
		*want = l->plan.routes[c->ring[c->first & l->ring_mask].route].ask_bytes;
		n = recv(c->fd, l->scratch, *want, 0);
	}
	return n < 0 ? -errno : n;
}

/* The server closed its side. Between responses, with none due, it has every right to. */
static void end_of_input(struct load *l, struct conn *c)
{
	if (stream_is_mid_response(&c->stream))
		conn_fail(l, c, LOAD_ERR_SHORT, "connection closed in the middle of a response");
	else if (c->nr_asked)
		conn_fail(l, c, LOAD_ERR_RESET, "connection closed unannounced, responses are due");
	else
		replace(l, c);
}

/* Nothing was received: 0 is the end of input, else -errno. */
static void no_bytes(struct load *l, struct conn *c, ssize_t res)
{
	if (res == 0)
		end_of_input(l, c);
	else if (res != -EAGAIN && res != -EINTR)
		conn_fail(l, c, LOAD_ERR_RESET, strerror((int)-res));
}

static void queue_again(struct load *l, struct conn *c)
{
	if (c->queued)
		return;
	c->queued = true;
	c->next_again = l->again;
	l->again = c;
}

/* Reads what is there, as far as the comment at the top asks for it. */
static void read_turn(struct load *l, struct conn *c)
{
	for (int i = 0; i < RECEIVES_PER_TURN; i++) {
		bool discard = stream_body_left(&c->stream) && !c->hash;
		size_t want;
		ssize_t n = receive(l, c, discard, &want);

		if (n <= 0) {
			no_bytes(l, c, n);
			if (n == -EINTR)
				queue_again(l, c);
			return;
		}
		l->count.bytes += (size_t)n;
		if (!(discard ? take_discarded(l, c, (size_t)n)
			      : take_bytes(l, c, l->scratch, (size_t)n)))
			return;
		bool nothing_due = c->nr_asked == 0;
		conn_fill(l, c);
		if (c->state != CONN_UP)
			return;
		if (!c->hup && (nothing_due || (size_t)n < want))
			return;
	}
	queue_again(l, c);
}

static void finish_connect(struct load *l, struct conn *c, uint32_t events)
{
	int res = net_socket_error(c->fd);

	if (res < 0)
		connect_failed(l, c, res);
	else if (events & EPOLLOUT)
		connected(l, c);
}

void conn_ready(struct load *l, struct conn *c, uint32_t events)
{
	if (c->state == CONN_CONNECTING)
		finish_connect(l, c, events);
	if (c->state != CONN_UP)
		return;
	c->hup |= (events & HUNG_UP) != 0;
	if (c->unsent_bytes && (events & EPOLLOUT) && !c->hup)
		conn_send_unsent(l, c);
	if (c->state == CONN_UP && (events & (EPOLLIN | HUNG_UP)))
		read_turn(l, c);
}

void conn_continue(struct load *l, struct conn *c)
{
	c->queued = false;
	if (c->state == CONN_UP)
		read_turn(l, c);
}

void conn_tick(struct load *l, struct conn *c)
{
	uint64_t limit = l->cfg->timeout_ns;
	uint64_t oldest = c->ring[c->first & l->ring_mask].sent_ns;

	if (c->state == CONN_DOWN && l->issuing)
		conn_open(l, c);
	else if (c->state == CONN_CONNECTING && l->now_ns > c->opened_ns + limit)
		connect_failed(l, c, -ETIMEDOUT);
	else if (c->nr_asked && l->now_ns > oldest + limit)
		conn_fail(l, c, LOAD_ERR_TIMEOUT, "a response is not complete in time");
}

void conn_check_idle(struct load *l, struct conn *c)
{
	char byte;

	if (c->state != CONN_UP || c->nr_asked)
		return;
	ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		conn_fail(l, c, LOAD_ERR_LONG, "bytes follow the last response that was due");
	else
		drop(l, c);
}
