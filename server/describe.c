// SPDX-License-Identifier: MIT
/* --describe: what this binary holds and what this kernel can do of it, as JSON. */
#include "build_info.h"
#include "server.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>

static cJSON *sources_json(unsigned sources)
{
	static const struct {
		unsigned bit;
		const char *name;
	} names[] = {
		{SOURCE_CONSTANT, "constant"}, {SOURCE_MEMORY, "memory"},
		{SOURCE_MAPPING, "mapping"},   {SOURCE_FILE, "file"},
		{SOURCE_SOCKET, "socket"},     {SOURCE_FANOUT, "fanout"},
	};
	cJSON *list = cJSON_CreateArray();

	for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (sources & names[i].bit)
			cJSON_AddItemToArray(list, cJSON_CreateString(names[i].name));
	return list;
}

static const char *const type_names[] = {
	[OPT_INT] = "int", [OPT_SIZE] = "size", [OPT_BOOL] = "bool", [OPT_ENUM] = "enum"};

static cJSON *option_json(const struct opt_def *def)
{
	cJSON *obj = cJSON_CreateObject(), *values;
	char text[24];

	cJSON_AddStringToObject(obj, "name", def->name);
	cJSON_AddStringToObject(obj, "type", type_names[def->type]);
	if (def->type == OPT_ENUM) {
		values = cJSON_AddArrayToObject(obj, "values");
		for (int i = 0; def->values[i]; i++)
			cJSON_AddItemToArray(values, cJSON_CreateString(def->values[i]));
		cJSON_AddStringToObject(obj, "default", def->values[def->def]);
	} else if (def->type == OPT_BOOL) {
		cJSON_AddStringToObject(obj, "default", def->def ? "on" : "off");
	} else {
		snprintf(text, sizeof(text), "%lld", (long long)def->def);
		cJSON_AddStringToObject(obj, "default", text);
		cJSON_AddNumberToObject(obj, "min", (double)def->min);
		cJSON_AddNumberToObject(obj, "max", (double)def->max);
	}
	cJSON_AddStringToObject(obj, "help", def->help);
	return obj;
}

static cJSON *engine_json(const struct engine *engine)
{
	cJSON *obj = cJSON_CreateObject(), *options, *list;
	char reason[REASON_MAX] = "";
	bool usable = !engine->probe || !engine->probe(NULL, reason);

	cJSON_AddStringToObject(obj, "name", engine->name);
	cJSON_AddStringToObject(obj, "summary", engine->summary);
	cJSON_AddStringToObject(obj, "driver", engine->driver);
	cJSON_AddStringToObject(obj, "since", engine->since);
	cJSON_AddItemToObject(obj, "sources", sources_json(engine->sources));
	list = cJSON_AddArrayToObject(obj, "roles");
	for (int i = 0; roles[i]; i++)
		if (role_fits(roles[i], engine))
			cJSON_AddItemToArray(list, cJSON_CreateString(roles[i]->name));
	cJSON_AddBoolToObject(obj, "usable", usable);
	if (usable)
		cJSON_AddNullToObject(obj, "reason");
	else
		cJSON_AddStringToObject(obj, "reason", reason);
	options = cJSON_AddArrayToObject(obj, "options");
	for (const struct opt_def *def = engine->options; def->name; def++)
		cJSON_AddItemToArray(options, option_json(def));
	return obj;
}

static cJSON *skeleton_options(void)
{
	static const struct opt_def merge = {
		.name = "merge",
		.type = OPT_INT,
		.def = MERGE_MAX,
		.min = 1,
		.max = MERGE_MAX,
		.help = "pipelined responses merged into one transfer; 1 answers one by one",
	};
	cJSON *list = cJSON_CreateArray();

	cJSON_AddItemToArray(list, option_json(&merge));
	return list;
}

int describe(void)
{
	cJSON *doc = cJSON_CreateObject(), *list;
	struct utsname uts;
	char *text;

	uname(&uts);
	cJSON_AddNumberToObject(doc, "schema_version", 1);
	cJSON_AddStringToObject(doc, "program", SERVER_NAME);
	cJSON_AddStringToObject(doc, "version", SERVER_VERSION);
	cJSON_AddNumberToObject(doc, "engine_api", ENGINE_API);
	cJSON_AddStringToObject(doc, "compiler", BUILD_COMPILER);
	cJSON_AddStringToObject(doc, "cflags", BUILD_CFLAGS);
	cJSON_AddStringToObject(doc, "build_type", BUILD_TYPE);
	cJSON_AddStringToObject(doc, "sanitizers", BUILD_SANITIZERS);
	cJSON_AddStringToObject(doc, "kernel", uts.release);
	list = cJSON_AddArrayToObject(doc, "roles");
	for (int i = 0; roles[i]; i++)
		cJSON_AddItemToArray(list, cJSON_CreateString(roles[i]->name));
	cJSON_AddItemToObject(doc, "skeleton_options", skeleton_options());
	list = cJSON_AddArrayToObject(doc, "engines");
	for (unsigned i = 0; i < nr_engines; i++)
		cJSON_AddItemToArray(list, engine_json(engines[i]));
	text = cJSON_Print(doc);
	cJSON_Delete(doc);
	if (!text || puts(text) < 0)
		return 1;
	free(text);
	return 0;
}
