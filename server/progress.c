// SPDX-License-Identifier: MIT
/*
 * Who moves what to whom, for people who watch. The bytes come from the results of the calls that
 * moved them (conn->moved), so a splice is seen as exactly as a copy, and moving them costs the
 * watching nothing.
 */
#include "server.h"

#include <cjson/cJSON.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define RATE_PERIOD_NS 1000000000ull

void progress_init(struct sworker *sw)
{
	pthread_mutex_init(&sw->progress_lock, NULL);
	sw->progress.prev = sw->progress.next = &sw->progress;
}

void progress_add(struct sworker *sw, struct progress *p)
{
	p->created_ns = atomic_load_explicit(&sw->w.now_ns, memory_order_relaxed);
	progress_lock(sw);
	p->prev = sw->progress.prev;
	p->next = &sw->progress;
	p->prev->next = p;
	sw->progress.prev = p;
	progress_unlock(sw);
}

void progress_remove(struct sworker *sw, struct progress *p)
{
	progress_lock(sw);
	p->prev->next = p->next;
	p->next->prev = p->prev;
	progress_unlock(sw);
}

static uint64_t bytes_of(const struct progress *p)
{
	return p->source ? atomic_load_explicit(&p->source->moved, memory_order_relaxed) : 0;
}

static uint64_t rate(uint64_t bytes, uint64_t ns)
{
	return ns ? (uint64_t)((double)bytes * 1e9 / (double)ns) : 0;
}

void progress_rates(struct sworker *sw, uint64_t now_ns)
{
	if (now_ns < sw->next_rates_ns)
		return;
	sw->next_rates_ns = now_ns + RATE_PERIOD_NS;
	progress_lock(sw);
	for (struct progress *p = sw->progress.next; p != &sw->progress; p = p->next) {
		uint64_t bytes = bytes_of(p);

		if (p->started_ns && p->seen_ns)
			p->rate_bytes_per_s = rate(bytes - p->seen_bytes, now_ns - p->seen_ns);
		p->seen_bytes = bytes;
		p->seen_ns = now_ns;
	}
	progress_unlock(sw);
}

/* Exact beyond 2^53, where a JSON library's double is not. */
static void add_u64(cJSON *obj, const char *name, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	cJSON_AddItemToObject(obj, name, cJSON_CreateRaw(text));
}

static void add_or_null(cJSON *obj, const char *name, bool known, uint64_t value)
{
	if (known)
		add_u64(obj, name, value);
	else
		cJSON_AddNullToObject(obj, name);
}

/*
 * The client's address is asked for only when somebody wants to see it. The socket is open: its
 * connection leaves the list, under the lock, before it is closed.
 */
static void add_name(cJSON *obj, const struct progress *p)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	char host[46] = "?", port[8] = "?", name[80];

	if (p->name) {
		cJSON_AddStringToObject(obj, "name", p->name);
		return;
	}
	if (!getpeername(p->client->fd, (struct sockaddr *)&addr, &len))
		getnameinfo((struct sockaddr *)&addr, len, host, sizeof(host), port, sizeof(port),
			    NI_NUMERICHOST | NI_NUMERICSERV);
	snprintf(name, sizeof(name), "client %s:%s %c", host, port,
		 p->source == p->client ? '>' : '<');
	cJSON_AddStringToObject(obj, "name", name);
}

static cJSON *one_json(const struct progress *p, uint64_t now_ns)
{
	cJSON *obj = cJSON_CreateObject();
	bool running = p->started_ns != 0;
	uint64_t bytes = bytes_of(p);
	const char *waits_for = running ? NULL : p->source ? "receiver" : "sender";

	add_name(obj, p);
	cJSON_AddStringToObject(obj, "state", running ? "running" : "waiting");
	if (waits_for)
		cJSON_AddStringToObject(obj, "waits_for", waits_for);
	else
		cJSON_AddNullToObject(obj, "waits_for");
	cJSON_AddNumberToObject(obj, "receivers", p->receivers);
	cJSON_AddNumberToObject(obj, "receivers_here", p->receivers_here);
	add_u64(obj, "bytes", running ? bytes : 0);
	add_or_null(obj, "total_bytes", p->source && p->total != UINT64_MAX, p->total);
	/* In the first second there is no sample yet: the average is as good. */
	add_u64(obj, "rate_bytes_per_s",
		!running	      ? 0
		: p->rate_bytes_per_s ? p->rate_bytes_per_s
				      : rate(bytes, now_ns - p->started_ns));
	add_u64(obj, "age_ns", now_ns - p->created_ns);
	add_or_null(obj, "running_ns", running, now_ns - p->started_ns);
	return obj;
}

char *progress_json(const struct server *srv)
{
	cJSON *doc = cJSON_CreateObject(), *list;
	uint64_t now_ns = clock_now_ns();
	char *text;

	cJSON_AddNumberToObject(doc, "schema_version", 1);
	cJSON_AddStringToObject(doc, "engine", srv->cfg.engine->name);
	add_u64(doc, "uptime_ns", now_ns - srv->start_ns);
	list = cJSON_AddArrayToObject(doc, "transfers");
	for (int i = 0; i < srv->nr_workers; i++) {
		struct sworker *sw = srv->workers[i];

		progress_lock(sw);
		for (struct progress *p = sw->progress.next; p != &sw->progress; p = p->next)
			cJSON_AddItemToArray(list, one_json(p, now_ns));
		progress_unlock(sw);
	}
	text = cJSON_PrintUnformatted(doc);
	cJSON_Delete(doc);
	return text;
}
