/* SPDX-License-Identifier: MIT */
/* --describe: techniques, options and the outcome of trying each of them, as JSON. */
#include "describe.h"

#include <stdio.h>
#include <sys/utsname.h>

#include "checks.h"
#include "json.h"

static const char *const type_names[] = {[OPTION_INT] = "int",
					 [OPTION_SIZE] = "size",
					 [OPTION_BOOL] = "bool",
					 [OPTION_ENUM] = "enum"};

static void add_number(cJSON *object, const struct option_def *def)
{
	char text[24];

	snprintf(text, sizeof(text), "%lld", (long long)def->def);
	cJSON_AddStringToObject(object, "default", text);
	json_add(object, "min", (uint64_t)def->min);
	json_add(object, "max", (uint64_t)def->max);
}

/* Tries the technique with one value of an option. Adds to `list` what it cannot do here. */
static void try_value(cJSON *list, const struct technique *t, const struct copy_dirs *dirs, int at,
		      int64_t value)
{
	const struct option_def *def = &t->options[at];
	char why[REASON_MAX];
	struct spec spec;
	cJSON *entry;

	spec_default(t, &spec);
	spec.opt[at] = value;
	if (check_probe(&spec, dirs, why) == 0)
		return;
	entry = cJSON_CreateObject();
	cJSON_AddStringToObject(entry, "value",
				def->type == OPTION_ENUM ? def->values[value]
				: value			 ? "on"
							 : "off");
	cJSON_AddStringToObject(entry, "reason", why);
	cJSON_AddItemToArray(list, entry);
}

static cJSON *option_json(const struct technique *t, const struct copy_dirs *dirs, int at,
			  bool usable)
{
	const struct option_def *def = &t->options[at];
	cJSON *object = cJSON_CreateObject(), *list;

	cJSON_AddStringToObject(object, "name", def->name);
	cJSON_AddStringToObject(object, "type", type_names[def->type]);
	if (def->type == OPTION_ENUM) {
		list = cJSON_AddArrayToObject(object, "values");
		for (int i = 0; def->values[i]; i++)
			cJSON_AddItemToArray(list, cJSON_CreateString(def->values[i]));
		cJSON_AddStringToObject(object, "default", def->values[def->def]);
	} else if (def->type == OPTION_BOOL) {
		cJSON_AddStringToObject(object, "default", def->def ? "on" : "off");
	} else {
		add_number(object, def);
	}
	list = cJSON_AddArrayToObject(object, "unsupported");
	/* Sizes and numbers are no features. */
	for (int64_t value = 0; usable && value <= def->max && def->type >= OPTION_BOOL; value++)
		if (value != def->def)
			try_value(list, t, dirs, at, value);
	cJSON_AddStringToObject(object, "help", def->help);
	return object;
}

static cJSON *technique_json(const struct technique *t, const struct copy_dirs *dirs)
{
	cJSON *object = cJSON_CreateObject(), *options;
	char why[REASON_MAX] = "";
	struct spec spec;
	bool usable;

	spec_default(t, &spec);
	usable = check_probe(&spec, dirs, why) == 0;
	cJSON_AddStringToObject(object, "name", t->name);
	cJSON_AddStringToObject(object, "summary", t->summary);
	cJSON_AddStringToObject(object, "since", t->since);
	cJSON_AddBoolToObject(object, "usable", usable);
	if (usable)
		cJSON_AddNullToObject(object, "reason");
	else
		cJSON_AddStringToObject(object, "reason", why);
	options = cJSON_AddArrayToObject(object, "options");
	for (int i = 0; t->options[i].name; i++)
		cJSON_AddItemToArray(options, option_json(t, dirs, i, usable));
	return object;
}

int describe(const struct copy_dirs *dirs)
{
	cJSON *doc = cJSON_CreateObject(), *list;
	struct utsname uts;

	uname(&uts);
	json_add(doc, "schema_version", 1);
	cJSON_AddStringToObject(doc, "program", "iolab-copy");
	cJSON_AddStringToObject(doc, "version", IOLAB_VERSION);
	cJSON_AddStringToObject(doc, "kernel", uts.release);
	cJSON_AddBoolToObject(doc, "may_clone", files_can_clone(dirs));
	list = cJSON_AddArrayToObject(doc, "techniques");
	for (unsigned i = 0; i < nr_techniques; i++)
		cJSON_AddItemToArray(list, technique_json(techniques[i], dirs));
	return json_print(stdout, doc);
}
