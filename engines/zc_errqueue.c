// SPDX-License-Identifier: MIT
#include "zc_errqueue.h"

#include "zc_account.h"
#include "zc_buffer.h"
#include "zc_notification.h"

#include <stdlib.h>
#include <string.h>

int zc_sends_reserve(struct zc_sends *z)
{
	uint32_t cap = z->cap ? z->cap * 2 : 8;
	struct zc_send *more;

	if (z->nr < z->cap)
		return 0;
	more = realloc(z->send, cap * sizeof(*more));
	if (!more)
		return -ENOMEM;
	z->send = more;
	z->cap = cap;
	return 0;
}

void zc_sends_add(struct zc_sends *z, struct counters *ctr, size_t bytes, struct lease *lease,
		  struct zc_buffer *buffer)
{
	if (lease)
		lease_get(lease);
	else
		zc_buffer_get(buffer);
	z->send[z->nr++] = (struct zc_send){.lease = lease,
					    .buffer = buffer,
					    .sent_ns = clock_now_ns(),
					    .number = z->next++,
					    .bytes = (uint32_t)bytes};
	zc_count_sent(ctr, bytes);
	zc_count_inflight(ctr, (int64_t)bytes);
}

static void send_put(const struct zc_send *s, struct counters *ctr)
{
	zc_count_inflight(ctr, -(int64_t)s->bytes);
	if (s->lease)
		lease_put(s->lease);
	else
		zc_buffer_put(s->buffer);
}

uint32_t zc_sends_finish(struct zc_sends *z, struct counters *ctr, uint32_t lo, uint32_t hi,
			 bool copied, uint64_t now_ns)
{
	uint32_t keep = 0, nr = z->nr;

	for (uint32_t i = 0; i < nr; i++) {
		const struct zc_send *s = &z->send[i];

		if (s->number - lo > hi - lo) { /* modulo 2^32, like the numbers */
			z->send[keep++] = *s;
			continue;
		}
		zc_count_notified(ctr, copied, now_ns - s->sent_ns);
		send_put(s, ctr);
	}
	z->nr = keep;
	return nr - keep;
}

/* One message of the error queue. Sends finished, 0 when it is empty, or -errno. */
static int reap_one(struct zc_sends *z, struct counters *ctr, int fd)
{
	struct zc_notification n;
	uint32_t nr;
	int res;

	count_one(ctr, sys_recv);
	res = zc_notification_read(fd, &n);
	if (res <= 0)
		return res;
	nr = zc_sends_finish(z, ctr, n.lo, n.hi, n.copied, clock_now_ns());
	return nr ? (int)nr : -EPROTO; /* notified of what was never sent */
}

int zc_sends_reap(struct zc_sends *z, struct counters *ctr, int fd)
{
	int sum = 0, res;

	while (z->nr && (res = reap_one(z, ctr, fd)) != 0) {
		if (res < 0)
			return res;
		sum += res;
	}
	return sum;
}

void zc_sends_account(const struct zc_sends *z, struct counters *from, struct counters *to)
{
	int64_t bytes = 0;

	for (uint32_t i = 0; i < z->nr; i++)
		bytes += z->send[i].bytes;
	if (from)
		zc_count_inflight(from, -bytes);
	if (to)
		zc_count_inflight(to, bytes);
}

void zc_sends_drop(struct zc_sends *z, struct counters *ctr)
{
	for (uint32_t i = 0; i < z->nr; i++)
		send_put(&z->send[i], ctr);
	free(z->send);
	memset(z, 0, sizeof(*z));
}
