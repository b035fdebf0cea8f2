/* SPDX-License-Identifier: MIT */
/*
 * The sending side of a connection: requests into the pipeline, and what a full socket left over.
 *
 * Requests are tiny, so a send takes all of them but in rare cases: then nothing more is asked on
 * the connection until EPOLLOUT says that the rest can follow.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "clocks.h"
#include "conn.h"

/* Keeps what the socket did not take, for EPOLLOUT. */
static void keep_unsent(struct load *l, struct conn *c, const char *text, size_t len)
{
	char *copy = malloc(len);

	if (!copy) {
		conn_fail(l, c, LOAD_ERR_RESET, "out of memory for an unsent request");
		return;
	}
	memcpy(copy, text, len);
	free(c->unsent);
	c->unsent = copy;
	c->unsent_bytes = len;
}

/* `text` is not the connection's own unsent buffer, or is not used after keep_unsent() freed it. */
static void send_text(struct load *l, struct conn *c, const char *text, size_t len)
{
	ssize_t n = send(c->fd, text, len, MSG_NOSIGNAL);

	if ((size_t)n == len) {
		c->unsent_bytes = 0;
		return;
	}
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		conn_fail(l, c, LOAD_ERR_RESET, strerror(errno));
		return;
	}
	size_t sent = n < 0 ? 0 : (size_t)n;
	keep_unsent(l, c, text + sent, len - sent);
}

/* Notes `nr` requests as outstanding and returns their text. */
static const char *note_asked(struct load *l, struct conn *c, uint32_t nr, uint64_t start_ns,
			      size_t *len)
{
	struct plan *p = &l->plan;

	*len = 0;
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t route = plan_next(p);
		const struct route *r = &p->routes[route];
		uint32_t place = (c->first + c->nr_asked + i) & l->ring_mask;

		c->ring[place] =
			(struct asked){.start_ns = start_ns, .sent_ns = l->now_ns, .route = route};
		if (p->only == PLAN_ALL)
			memcpy(p->batch + *len, r->text, r->text_bytes);
		*len += r->text_bytes;
	}
	c->nr_asked += nr;
	l->nr_asked += nr;
	return p->batch;
}

bool conn_has_room(const struct load *l, const struct conn *c)
{
	return l->issuing && c->nr_asked < l->cfg->pipeline && c->state == CONN_UP && !c->hup &&
	       !c->unsent_bytes;
}

void conn_ask(struct load *l, struct conn *c, uint32_t nr, uint64_t start_ns)
{
	size_t len;
	const char *text = note_asked(l, c, nr, start_ns, &len);

	send_text(l, c, text, len);
}

void conn_fill(struct load *l, struct conn *c)
{
	if (!conn_has_room(l, c))
		return;
	if (is_open_loop(&l->open))
		open_loop_room(l, c);
	else
		conn_ask(l, c, l->cfg->pipeline - c->nr_asked, l->now_ns);
}

void conn_send_unsent(struct load *l, struct conn *c)
{
	size_t len = c->unsent_bytes;

	send_text(l, c, c->unsent, len);
	if (c->state == CONN_UP && !c->unsent_bytes) {
		l->now_ns = mono_ns();
		conn_fill(l, c);
	}
}
