/* SPDX-License-Identifier: MIT */
#include "output.h"

#include <stdio.h>

#include "json.h"

#define SCHEMA_VERSION 1

static void add_traffic(cJSON *object, const struct counters *c)
{
	json_add(object, "requests", c->requests);
	json_add(object, "bytes", c->bytes);
	json_add(object, "body_bytes", c->body_bytes);
}

static void add_window(cJSON *doc, const struct slice_result *res)
{
	cJSON *window = cJSON_AddObjectToObject(doc, "window");

	json_add(window, "start_ns", res->start_ns);
	json_add(window, "ns", res->window_ns);
	add_traffic(window, &res->window);
}

static void add_total(cJSON *doc, const struct slice_result *res)
{
	cJSON *total = cJSON_AddObjectToObject(doc, "total");

	json_add(total, "ns", res->total_ns);
	add_traffic(total, &res->total);
	json_add(total, "drain_ns", res->drain_ns);
}

static void add_errors(cJSON *doc, const struct counters *c)
{
	cJSON *errors = cJSON_AddObjectToObject(doc, "errors");

	for (int i = 0; i < NR_LOAD_ERRORS; i++)
		json_add(errors, load_error_names[i], c->errors[i]);
	json_add(doc, "non_2xx", c->non_2xx);
	json_add(doc, "reconnects", c->reconnects);
}

static void add_cpu(cJSON *doc, const struct slice_result *res)
{
	cJSON *cpu = cJSON_AddObjectToObject(doc, "cpu");
	char share[32];

	json_add(cpu, "client_ns", res->client_ns);
	json_add_if(cpu, "server_ns", res->have_server_ns, res->server_ns);
	snprintf(share, sizeof(share), "%.4f",
		 res->window_ns ? (double)res->client_ns / (double)res->window_ns : 0.0);
	cJSON_AddRawToObject(cpu, "client_share", share);
}

static void add_open_loop(cJSON *doc, const struct load_config *cfg, const struct slice_result *res)
{
	const struct open_result *o = &res->open;

	if (!(o->rate > 0)) {
		cJSON_AddNullToObject(doc, "open_loop");
		return;
	}
	cJSON *open = cJSON_AddObjectToObject(doc, "open_loop");
	cJSON_AddNumberToObject(open, "rate_per_s", o->rate);
	cJSON_AddStringToObject(open, "arrivals", arrivals_names[cfg->arrivals]);
	json_add(open, "due", o->nr_due);
	json_add(open, "unsent", o->nr_unsent);
	json_add(open, "outstanding", o->nr_outstanding);
	json_add(open, "abandoned", o->nr_abandoned);
	json_add(open, "backlog_begin", o->nr_backlog[0]);
	json_add(open, "backlog_halfway", o->nr_backlog[1]);
	json_add(open, "backlog_end", o->nr_backlog[2]);
	cJSON_AddBoolToObject(open, "overload", open_loop_is_overload(o, res->window.requests));
	json_add_hist(open, "lateness", &o->lateness,
		      "from when a request could be sent to its send");
}

int output_result(FILE *out, const struct load_config *cfg, const struct slice_result *res)
{
	cJSON *doc = cJSON_CreateObject();
	bool open = res->open.rate > 0;

	json_add(doc, "schema_version", SCHEMA_VERSION);
	cJSON_AddStringToObject(doc, "tool", "iolab-load");
	json_add(doc, "connections", cfg->connections);
	json_add(doc, "pipeline", cfg->pipeline);
	cJSON_AddBoolToObject(doc, "closed_loop", !open);
	add_window(doc, res);
	add_total(doc, res);
	add_errors(doc, &res->total);
	add_cpu(doc, res);
	json_add(doc, "idle_ns", res->idle_ns);
	add_open_loop(doc, cfg, res);
	json_add_hist(doc, "latency", &res->latency,
		      open ? "open loop, from the intended send time"
			   : "closed loop, service time");
	cJSON_AddBoolToObject(doc, "verified", cfg->wants != NULL);
	return json_print(out, doc);
}

static const char *const check_names[] = {
	[CHECK_NONE] = "none", [CHECK_SAMPLE] = "sample", [CHECK_FULL] = "full"};
static const char *const direction_names[] = {
	[DIRECTION_UP] = "up", [DIRECTION_DOWN] = "down", [DIRECTION_BOTH] = "both"};

static void add_pairs(cJSON *doc, const struct pairs_config *cfg)
{
	cJSON_AddStringToObject(doc, "mode", cfg->forward ? "forward" : "relay");
	json_add(doc, "pairs", cfg->nr_pairs);
	json_add_if(doc, "size_bytes", cfg->size != SIZE_ENDLESS, cfg->size);
	cJSON_AddBoolToObject(doc, "chunked", cfg->chunked);
	if (cfg->forward)
		cJSON_AddStringToObject(doc, "direction", direction_names[cfg->direction]);
	else
		cJSON_AddNullToObject(doc, "direction");
	cJSON_AddStringToObject(doc, "check", check_names[cfg->check]);
	json_add(doc, "rate_send_bytes_per_s", cfg->rate_send);
	json_add(doc, "rate_recv_bytes_per_s", cfg->rate_recv);
}

int output_pairs(FILE *out, const struct pairs_config *cfg, const struct pairs_result *res)
{
	cJSON *doc = cJSON_CreateObject(), *total;

	json_add(doc, "schema_version", SCHEMA_VERSION);
	cJSON_AddStringToObject(doc, "tool", "iolab-load");
	add_pairs(doc, cfg);
	add_window(doc, &res->slice);
	add_total(doc, &res->slice);
	total = cJSON_GetObjectItem(doc, "total");
	json_add(total, "sent_bytes", res->sent_bytes);
	json_add(total, "greeting_bytes", res->greeting_bytes);
	add_errors(doc, &res->slice.total);
	add_cpu(doc, &res->slice);
	json_add(doc, "idle_ns", res->slice.idle_ns);
	json_add_hist(doc, "latency", &res->slice.latency,
		      "from the requests to the last byte received");
	return json_print(out, doc);
}

int output_ready(FILE *out, uint32_t connections)
{
	cJSON *doc = cJSON_CreateObject();

	cJSON_AddTrueToObject(doc, "ready");
	json_add(doc, "connections", connections);
	return json_print(out, doc);
}

int output_error(FILE *out, const char *why)
{
	cJSON *doc = cJSON_CreateObject();

	cJSON_AddStringToObject(doc, "error", why);
	return json_print(out, doc);
}
