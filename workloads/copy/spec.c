/* SPDX-License-Identifier: MIT */
#include "spec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* log2 of the unit at *at, moving behind it; 0 when there is none. */
static int take_unit(const char **at)
{
	static const char units[] = "kmg";
	const char *found = **at ? strchr(units, **at | 0x20) : NULL;

	if (!found)
		return 0;
	*at += !strcmp(*at + 1, "iB") ? 3 : 1;
	return (int)(found - units + 1) * 10;
}

int64_t spec_size(const char *text)
{
	const char *at = text + strspn(text, "0123456789");
	long long value;
	int shift;

	if (at == text)
		return -1;
	errno = 0;
	value = strtoll(text, NULL, 10);
	shift = take_unit(&at);
	if (errno || *at || value > INT64_MAX >> shift)
		return -1;
	return value << shift;
}

static int64_t parse_bool(const char *text)
{
	if (!strcmp(text, "on") || !strcmp(text, "1") || !strcmp(text, "true"))
		return 1;
	if (!strcmp(text, "off") || !strcmp(text, "0") || !strcmp(text, "false"))
		return 0;
	return -1;
}

static int64_t parse_enum(const char *const *values, const char *text)
{
	for (int i = 0; values[i]; i++)
		if (!strcmp(values[i], text))
			return i;
	return -1;
}

/* Appends to `why` as far as there is room. */
static void append(char *why, const char *text)
{
	size_t used = strlen(why);

	snprintf(why + used, SPEC_WHY_MAX - used, "%s", text);
}

static int explain_value(const struct technique *t, const struct option_def *def, const char *text,
			 char *why)
{
	char range[64];

	snprintf(why, SPEC_WHY_MAX, "technique %s: %s=%s is not allowed; allowed:", t->name,
		 def->name, text);
	snprintf(range, sizeof(range), " %lld to %lld", (long long)def->min, (long long)def->max);
	for (int i = 0; def->type == OPTION_ENUM && def->values[i]; i++) {
		append(why, " ");
		append(why, def->values[i]);
	}
	if (def->type != OPTION_ENUM)
		append(why, def->type == OPTION_BOOL ? " on off" : range);
	return -EINVAL;
}

static int explain_option(const struct technique *t, const char *name, char *why)
{
	snprintf(why, SPEC_WHY_MAX, "technique %s: no option '%s'; there are:", t->name, name);
	for (const struct option_def *def = t->options; def->name; def++) {
		append(why, " ");
		append(why, def->name);
	}
	return -EINVAL;
}

static int set_option(struct spec *spec, char *item, char *why)
{
	const struct option_def *defs = spec->technique->options;
	char *value = strchr(item, '=');
	int at = 0;

	if (value)
		*value++ = '\0';
	else
		value = "on";
	while (defs[at].name && strcmp(defs[at].name, item))
		at++;
	if (!defs[at].name)
		return explain_option(spec->technique, item, why);
	spec->opt[at] = defs[at].type == OPTION_ENUM   ? parse_enum(defs[at].values, value)
			: defs[at].type == OPTION_BOOL ? parse_bool(value)
						       : spec_size(value);
	if (spec->opt[at] < defs[at].min || spec->opt[at] > defs[at].max)
		return explain_value(spec->technique, &defs[at], value, why);
	return 0;
}

static const struct technique *find(const char *name, char *why)
{
	for (unsigned i = 0; i < nr_techniques; i++)
		if (!strcmp(techniques[i]->name, name))
			return techniques[i];
	snprintf(why, SPEC_WHY_MAX, "no technique '%s'; there are:", name);
	for (unsigned i = 0; i < nr_techniques; i++) {
		append(why, " ");
		append(why, techniques[i]->name);
	}
	return NULL;
}

void spec_default(const struct technique *technique, struct spec *spec)
{
	*spec = (struct spec){.technique = technique};
	for (int i = 0; technique->options[i].name; i++)
		spec->opt[i] = technique->options[i].def;
}

int spec_parse(const char *text, struct spec *spec, char *why)
{
	char *copy = strdup(text), *rest = copy, *item;
	const struct technique *technique;
	int res = 0;

	if (!copy) {
		snprintf(why, SPEC_WHY_MAX, "out of memory");
		return -ENOMEM;
	}
	technique = find(strsep(&rest, ","), why);
	if (technique)
		spec_default(technique, spec);
	else
		res = -EINVAL;
	while (!res && (item = strsep(&rest, ",")))
		res = set_option(spec, item, why);
	free(copy);
	return res;
}
