/* SPDX-License-Identifier: MIT */
#include "output.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define SCHEMA_VERSION 1

/*
 * cJSON keeps numbers as double and prints some large ones as 1e+15. Integers go in as text, so
 * that they come out exact. A failed allocation inside shows as a NULL document or a missing key;
 * the cJSON_Add functions tolerate NULL, and print() checks the end result.
 */
static cJSON *number(uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	return cJSON_CreateRaw(text);
}

static void add(cJSON *object, const char *name, uint64_t value)
{
	cJSON_AddItemToObject(object, name, number(value));
}

/* `value`, or null where there is nothing to say. */
static void add_if(cJSON *object, const char *name, bool known, uint64_t value)
{
	if (known)
		add(object, name, value);
	else
		cJSON_AddNullToObject(object, name);
}

static int print(FILE *out, cJSON *doc)
{
	char *text = cJSON_PrintUnformatted(doc);
	int res = 0;

	cJSON_Delete(doc);
	if (!text)
		return -ENOMEM;
	if (fprintf(out, "%s\n", text) < 0 || fflush(out) == EOF)
		res = -errno;
	free(text);
	return res;
}

static void add_traffic(cJSON *object, const struct counters *c)
{
	add(object, "requests", c->requests);
	add(object, "bytes", c->bytes);
	add(object, "body_bytes", c->body_bytes);
}

static void add_window(cJSON *doc, const struct slice_result *res)
{
	cJSON *window = cJSON_AddObjectToObject(doc, "window");

	add(window, "start_ns", res->start_ns);
	add(window, "ns", res->window_ns);
	add_traffic(window, &res->window);
}

static void add_total(cJSON *doc, const struct slice_result *res)
{
	cJSON *total = cJSON_AddObjectToObject(doc, "total");

	add(total, "ns", res->total_ns);
	add_traffic(total, &res->total);
	add(total, "drain_ns", res->drain_ns);
}

static void add_errors(cJSON *doc, const struct counters *c)
{
	cJSON *errors = cJSON_AddObjectToObject(doc, "errors");

	for (int i = 0; i < NR_LOAD_ERRORS; i++)
		add(errors, load_error_names[i], c->errors[i]);
	add(doc, "non_2xx", c->non_2xx);
	add(doc, "reconnects", c->reconnects);
}

static void add_cpu(cJSON *doc, const struct slice_result *res)
{
	cJSON *cpu = cJSON_AddObjectToObject(doc, "cpu");
	char share[32];

	add(cpu, "client_ns", res->client_ns);
	add_if(cpu, "server_ns", res->have_server_ns, res->server_ns);
	snprintf(share, sizeof(share), "%.4f",
		 res->window_ns ? (double)res->client_ns / (double)res->window_ns : 0.0);
	cJSON_AddRawToObject(cpu, "client_share", share);
}

static void add_counts(cJSON *latency, const struct hist *h)
{
	cJSON *counts = cJSON_AddArrayToObject(latency, "counts");

	for (size_t i = 0; i < HIST_BUCKETS; i++) {
		if (!h->count[i])
			continue;
		cJSON *pair = cJSON_CreateArray();
		cJSON_AddItemToArray(pair, number(i));
		cJSON_AddItemToArray(pair, number(h->count[i]));
		cJSON_AddItemToArray(counts, pair);
	}
}

static void add_latency(cJSON *doc, const struct hist *h, const char *kind)
{
	static const struct {
		const char *name;
		double q;
	} quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};
	cJSON *latency = cJSON_AddObjectToObject(doc, "latency");
	bool any = h->nr > 0;

	cJSON_AddStringToObject(latency, "unit", "ns");
	cJSON_AddStringToObject(latency, "kind", kind);
	cJSON_AddStringToObject(latency, "scheme", "log-linear");
	add(latency, "sub_bucket_bits", HIST_SUB_BITS);
	add_counts(latency, h);
	add_if(latency, "min", any, h->min);
	for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++)
		add_if(latency, quantiles[i].name, any, hist_quantile(h, quantiles[i].q));
	add_if(latency, "max", any, h->max);
}

int output_result(FILE *out, const struct load_config *cfg, const struct slice_result *res)
{
	cJSON *doc = cJSON_CreateObject();

	add(doc, "schema_version", SCHEMA_VERSION);
	cJSON_AddStringToObject(doc, "tool", "iolab-load");
	add(doc, "connections", cfg->connections);
	add(doc, "pipeline", cfg->pipeline);
	cJSON_AddTrueToObject(doc, "closed_loop");
	add_window(doc, res);
	add_total(doc, res);
	add_errors(doc, &res->total);
	add_cpu(doc, res);
	add(doc, "idle_ns", res->idle_ns);
	add_latency(doc, &res->latency, "closed loop, service time");
	cJSON_AddBoolToObject(doc, "verified", cfg->wants != NULL);
	return print(out, doc);
}

static const char *const check_names[] = {
	[CHECK_NONE] = "none", [CHECK_SAMPLE] = "sample", [CHECK_FULL] = "full"};
static const char *const direction_names[] = {
	[DIRECTION_UP] = "up", [DIRECTION_DOWN] = "down", [DIRECTION_BOTH] = "both"};

static void add_pairs(cJSON *doc, const struct pairs_config *cfg)
{
	cJSON_AddStringToObject(doc, "mode", cfg->forward ? "forward" : "relay");
	add(doc, "pairs", cfg->nr_pairs);
	add_if(doc, "size_bytes", cfg->size != SIZE_ENDLESS, cfg->size);
	cJSON_AddBoolToObject(doc, "chunked", cfg->chunked);
	if (cfg->forward)
		cJSON_AddStringToObject(doc, "direction", direction_names[cfg->direction]);
	else
		cJSON_AddNullToObject(doc, "direction");
	cJSON_AddStringToObject(doc, "check", check_names[cfg->check]);
	add(doc, "rate_send_bytes_per_s", cfg->rate_send);
	add(doc, "rate_recv_bytes_per_s", cfg->rate_recv);
}

int output_pairs(FILE *out, const struct pairs_config *cfg, const struct pairs_result *res)
{
	cJSON *doc = cJSON_CreateObject(), *total;

	add(doc, "schema_version", SCHEMA_VERSION);
	cJSON_AddStringToObject(doc, "tool", "iolab-load");
	add_pairs(doc, cfg);
	add_window(doc, &res->slice);
	add_total(doc, &res->slice);
	total = cJSON_GetObjectItem(doc, "total");
	add(total, "sent_bytes", res->sent_bytes);
	add(total, "greeting_bytes", res->greeting_bytes);
	add_errors(doc, &res->slice.total);
	add_cpu(doc, &res->slice);
	add(doc, "idle_ns", res->slice.idle_ns);
	add_latency(doc, &res->slice.latency, "from the requests to the last byte received");
	return print(out, doc);
}

int output_ready(FILE *out, uint32_t connections)
{
	cJSON *doc = cJSON_CreateObject();

	cJSON_AddTrueToObject(doc, "ready");
	add(doc, "connections", connections);
	return print(out, doc);
}

int output_error(FILE *out, const char *why)
{
	cJSON *doc = cJSON_CreateObject();

	cJSON_AddStringToObject(doc, "error", why);
	return print(out, doc);
}
