/* SPDX-License-Identifier: MIT */
#include "result.h"

#include "json.h"

#define SCHEMA_VERSION 1

static void add_counts(cJSON *object, const struct copy_counts *c)
{
	json_add(object, "operations", c->operations);
	json_add(object, "requests", c->files);
	json_add(object, "bytes", c->bytes);
	json_add(object, "body_bytes", c->bytes);
}

static void add_options(cJSON *doc, const struct spec *spec)
{
	cJSON *object = cJSON_AddObjectToObject(doc, "options");

	for (int i = 0; spec->technique->options[i].name; i++) {
		const struct option_def *def = &spec->technique->options[i];

		if (def->type == OPTION_ENUM)
			cJSON_AddStringToObject(object, def->name, def->values[spec->opt[i]]);
		else if (def->type == OPTION_BOOL)
			cJSON_AddBoolToObject(object, def->name, spec->opt[i] != 0);
		else
			json_add(object, def->name, (uint64_t)spec->opt[i]);
	}
}

static cJSON *begin(const struct spec *spec)
{
	cJSON *doc = cJSON_CreateObject();

	json_add(doc, "schema_version", SCHEMA_VERSION);
	cJSON_AddStringToObject(doc, "tool", "iolab-copy");
	cJSON_AddStringToObject(doc, "mode", "copy");
	cJSON_AddStringToObject(doc, "technique", spec->technique->name);
	add_options(doc, spec);
	return doc;
}

static void add_workload(cJSON *doc, const struct session_config *cfg)
{
	json_add(doc, "size_bytes", cfg->house.size);
	json_add(doc, "files", cfg->house.files);
	json_add(doc, "batch", cfg->batch);
	cJSON_AddStringToObject(doc, "cache", cfg->cold ? "cold" : "warm");
	cJSON_AddBoolToObject(doc, "fresh", cfg->fresh);
	cJSON_AddBoolToObject(doc, "durable", cfg->durable);
}

static void add_times(cJSON *doc, const struct copy_result *res)
{
	cJSON *window = cJSON_AddObjectToObject(doc, "window");
	cJSON *total = cJSON_AddObjectToObject(doc, "total");

	json_add(window, "start_ns", res->start_ns);
	json_add(window, "ns", res->window_ns);
	json_add(window, "wall_ns", res->wall_ns);
	add_counts(window, &res->window);
	json_add(total, "ns", res->total_ns);
	add_counts(total, &res->total);
}

/* The copier is the server; there is no client. */
static void add_cpu(cJSON *doc, const struct copy_result *res)
{
	cJSON *cpu = cJSON_AddObjectToObject(doc, "cpu");

	json_add(cpu, "server_ns", res->cpu_ns);
	json_add(cpu, "client_ns", 0);
	json_add(cpu, "client_share", 0);
}

static void add_errors(cJSON *doc, const struct copy_result *res)
{
	cJSON *errors = cJSON_AddObjectToObject(doc, "errors");
	cJSON *sources = cJSON_AddObjectToObject(doc, "sources");

	for (int i = 0; i < NR_COPY_ERRORS; i++)
		json_add(errors, copy_error_names[i], res->errors[i]);
	json_add(sources, "pages", res->pages);
	json_add(sources, "pages_cached", res->pages_cached);
}

int result_slice(FILE *out, const struct session *s, const struct copy_result *res)
{
	cJSON *doc = begin(s->cfg->spec);

	add_workload(doc, s->cfg);
	add_times(doc, res);
	add_errors(doc, res);
	add_cpu(doc, res);
	json_add_hist(doc, "latency", &res->latency,
		      "one operation, from opening to closing its files");
	cJSON_AddTrueToObject(doc, "verified");
	cJSON_AddBoolToObject(doc, "may_clone", s->may_clone);
	return json_print(out, doc);
}

static void add_report(cJSON *doc, const struct check_report *report)
{
	json_add(doc, "checks", report->checks);
	json_add(doc, "refused", report->refused);
	json_add(doc, "failures", report->failures);
	if (report->failures)
		cJSON_AddStringToObject(doc, "failure", report->why);
	else
		cJSON_AddNullToObject(doc, "failure");
}

int result_ready(FILE *out, const struct session *s)
{
	cJSON *doc = begin(s->cfg->spec);

	cJSON_AddTrueToObject(doc, "ready");
	cJSON_AddBoolToObject(doc, "may_clone", s->may_clone);
	add_report(doc, &s->checked);
	return json_print(out, doc);
}

int result_check(FILE *out, const struct spec *spec, const struct check_report *report)
{
	cJSON *doc = begin(spec);

	add_report(doc, report);
	return json_print(out, doc);
}
