// SPDX-License-Identifier: MIT
/* Counters as JSON and as Prometheus text (exposition format 0.0.4, ended as OpenMetrics does). */
#include "server.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t get(const _Atomic uint64_t *value)
{
	return atomic_load_explicit(value, memory_order_relaxed);
}

void counters_move(struct counters *to, struct counters *from)
{
#define X(name)                                                              \
	if (get(&from->name)) {                                              \
		count_add(to, name, get(&from->name));                       \
		atomic_store_explicit(&from->name, 0, memory_order_relaxed); \
	}
	PLAIN_COUNTERS(X)
#undef X
#define X(name)                                 \
	count_peak(to, name, get(&from->name)); \
	atomic_store_explicit(&from->name, 0, memory_order_relaxed);
	PEAK_COUNTERS(X)
#undef X
#define X(name)                                                                    \
	if (get(&from->sys_##name)) {                                              \
		count_add(to, sys_##name, get(&from->sys_##name));                 \
		atomic_store_explicit(&from->sys_##name, 0, memory_order_relaxed); \
	}
	SYSCALL_COUNTERS(X)
#undef X
}

void counters_add(struct counters *to, const struct counters *from)
{
#define X(name) count_add(to, name, get(&from->name));
	PLAIN_COUNTERS(X)
#undef X
#define X(name) count_peak(to, name, get(&from->name));
	PEAK_COUNTERS(X)
#undef X
#define X(name) count_add(to, sys_##name, get(&from->sys_##name));
	SYSCALL_COUNTERS(X)
#undef X
}

/* Exact beyond 2^53, where a JSON library's double is not. */
static void add_u64(cJSON *obj, const char *name, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	cJSON_AddItemToObject(obj, name, cJSON_CreateRaw(text));
}

cJSON *counters_json(const struct counters *ctr)
{
	cJSON *obj = cJSON_CreateObject(), *sys = cJSON_CreateObject();

#define X(name) add_u64(obj, #name, get(&ctr->name));
	PLAIN_COUNTERS(X)
	PEAK_COUNTERS(X)
#undef X
#define X(name) add_u64(sys, #name, get(&ctr->sys_##name));
	SYSCALL_COUNTERS(X)
#undef X
	cJSON_AddItemToObject(obj, "syscalls", sys);
	return obj;
}

/* What is a level, or the highest one; everything else only grows. */
static bool is_gauge(const char *name)
{
	static const char *const gauges[] = {
#define X(peak) #peak,
		PEAK_COUNTERS(X)
#undef X
			"connections",
		"pipes", "pipe_bytes", "zc_inflight_bytes"};

	for (unsigned i = 0; i < sizeof(gauges) / sizeof(*gauges); i++)
		if (!strcmp(name, gauges[i]))
			return true;
	return false;
}

static void print_metric(FILE *f, const struct server *srv, const char *name, size_t offset)
{
	bool gauge = is_gauge(name);

	fprintf(f, "# TYPE iolab_%s%s %s\n", name, gauge ? "" : "_total",
		gauge ? "gauge" : "counter");
	for (int i = 0; i < srv->nr_workers; i++) {
		const char *ctr = (const char *)srv->workers[i]->w.ctr;

		fprintf(f, "iolab_%s%s{engine=\"%s\",worker=\"%d\"} %llu\n", name,
			gauge ? "" : "_total", srv->cfg.engine->name, i,
			(unsigned long long)get((const _Atomic uint64_t *)(ctr + offset)));
	}
}

static void print_syscall(FILE *f, const struct server *srv, const char *name, size_t offset)
{
	for (int i = 0; i < srv->nr_workers; i++) {
		const char *ctr = (const char *)srv->workers[i]->w.ctr;

		fprintf(f, "iolab_syscalls_total{engine=\"%s\",worker=\"%d\",call=\"%s\"} %llu\n",
			srv->cfg.engine->name, i, name,
			(unsigned long long)get((const _Atomic uint64_t *)(ctr + offset)));
	}
}

char *counters_prometheus(const struct server *srv)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
#define X(name) print_metric(f, srv, #name, offsetof(struct counters, name));
	PLAIN_COUNTERS(X)
	PEAK_COUNTERS(X)
#undef X
	fputs("# TYPE iolab_syscalls_total counter\n", f);
#define X(name) print_syscall(f, srv, #name, offsetof(struct counters, sys_##name));
	SYSCALL_COUNTERS(X)
#undef X
	fputs("# EOF\n", f);
	return fclose(f) ? NULL : text;
}
