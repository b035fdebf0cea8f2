// SPDX-License-Identifier: MIT
/* Engine specifications, "name,option=value,...": found in the registry, checked against options.
 */
#include "server.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int64_t parse_size(const char *s)
{
	char *end;
	long long value;

	errno = 0;
	value = strtoll(s, &end, 10);
	if (end == s || errno || value < 0)
		return -1;
	for (const char *unit = "kmg", *u; *end && (u = strchr(unit, *end | 0x20)); end++) {
		int shift = (int)(u - unit + 1) * 10;

		if (value > INT64_MAX >> shift)
			return -1;
		value <<= shift;
		if (end[1] == 'i' && end[2] == 'B')
			end += 2;
		if (end[1])
			return -1;
	}
	return *end ? -1 : value;
}

static const struct engine *find_engine(const char *name)
{
	for (unsigned i = 0; i < nr_engines; i++)
		if (!strcmp(engines[i]->name, name))
			return engines[i];
	fprintf(stderr, "iolab-server: --engine: no engine '%s'; there are:", name);
	for (unsigned i = 0; i < nr_engines; i++)
		fprintf(stderr, " %s", engines[i]->name);
	fputc('\n', stderr);
	return NULL;
}

static int parse_enum(const struct opt_def *def, const char *text)
{
	for (int i = 0; def->values[i]; i++)
		if (!strcmp(def->values[i], text))
			return i;
	return -1;
}

static int parse_bool(const char *text)
{
	if (!strcmp(text, "1") || !strcmp(text, "on") || !strcmp(text, "true"))
		return 1;
	if (!strcmp(text, "0") || !strcmp(text, "off") || !strcmp(text, "false"))
		return 0;
	return -1;
}

static void explain(const struct engine *engine, const struct opt_def *def, const char *text)
{
	fprintf(stderr, "iolab-server: --engine %s: option %s: '%s' is not allowed; ", engine->name,
		def->name, text);
	if (def->type == OPT_ENUM) {
		fputs("allowed:", stderr);
		for (int i = 0; def->values[i]; i++)
			fprintf(stderr, " %s", def->values[i]);
	} else if (def->type == OPT_BOOL) {
		fputs("allowed: on off", stderr);
	} else {
		fprintf(stderr, "allowed: %lld to %lld", (long long)def->min, (long long)def->max);
	}
	fputc('\n', stderr);
}

/* A number below 0 of an option that allows it; 0 when it is none. */
static int64_t parse_negative(const struct opt_def *def, const char *text)
{
	int64_t value = def->min < 0 && *text == '-' ? parse_size(text + 1) : 0;

	return value > 0 ? -value : 0;
}

static int parse_value(const struct engine *engine, const struct opt_def *def, const char *text,
		       int64_t *value)
{
	bool malformed = false;

	switch (def->type) {
	case OPT_ENUM:
		*value = parse_enum(def, text);
		malformed = *value < 0;
		break;
	case OPT_BOOL:
		*value = parse_bool(text);
		malformed = *value < 0;
		break;
	default:
		*value = parse_size(text);
		malformed = *value < 0 && (*value = parse_negative(def, text)) == 0;
	}
	if (!malformed && *value >= def->min && *value <= def->max)
		return 0;
	explain(engine, def, text);
	return -EINVAL;
}

static int set_option(struct server_config *cfg, char *item)
{
	const struct opt_def *defs = cfg->engine->options;
	char *eq = strchr(item, '=');

	if (eq)
		*eq = '\0';
	for (int i = 0; defs[i].name; i++)
		if (!strcmp(defs[i].name, item))
			return parse_value(cfg->engine, &defs[i], eq ? eq + 1 : "on", &cfg->opt[i]);
	fprintf(stderr, "iolab-server: --engine %s: no option '%s'; there are:", cfg->engine->name,
		item);
	for (int i = 0; defs[i].name; i++)
		fprintf(stderr, " %s", defs[i].name);
	fputc('\n', stderr);
	return -EINVAL;
}

int engine_spec_parse(struct server_config *cfg, char *spec)
{
	char *rest = spec, *name = strsep(&rest, ","), *item;

	cfg->engine = find_engine(name);
	if (!cfg->engine)
		return -EINVAL;
	for (int i = 0; cfg->engine->options[i].name; i++)
		cfg->opt[i] = cfg->engine->options[i].def;
	while ((item = strsep(&rest, ",")))
		if (set_option(cfg, item))
			return -EINVAL;
	memset(&cfg->bodies, 0, sizeof(cfg->bodies));
	if (cfg->engine->bodies)
		cfg->engine->bodies(cfg->opt, &cfg->bodies);
	return 0;
}

cJSON *engine_options_json(const struct engine *engine, const int64_t *opt)
{
	cJSON *obj = cJSON_CreateObject();

	for (int i = 0; engine->options[i].name; i++) {
		const struct opt_def *def = &engine->options[i];

		if (def->type == OPT_ENUM)
			cJSON_AddStringToObject(obj, def->name, def->values[opt[i]]);
		else if (def->type == OPT_BOOL)
			cJSON_AddBoolToObject(obj, def->name, opt[i] != 0);
		else
			cJSON_AddNumberToObject(obj, def->name, (double)opt[i]);
	}
	return obj;
}

const struct role *const roles[] = {&role_file, &role_relay, &role_forward, NULL};

bool role_fits(const struct role *role, const struct engine *engine)
{
	unsigned has = engine->sources & role->needs;

	return role->any_source ? has != 0 : has == role->needs;
}
