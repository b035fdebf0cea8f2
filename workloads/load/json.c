/* SPDX-License-Identifier: MIT */
#include "json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/*
 * cJSON keeps numbers as double and prints some large ones as 1e+15. Integers go in as text, so
 * that they come out exact. A failed allocation inside shows as a NULL document or a missing key;
 * the cJSON_Add functions tolerate NULL, and json_print() checks the end result.
 */
static cJSON *number(uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	return cJSON_CreateRaw(text);
}

void json_add(cJSON *object, const char *name, uint64_t value)
{
	cJSON_AddItemToObject(object, name, number(value));
}

void json_add_if(cJSON *object, const char *name, bool known, uint64_t value)
{
	if (known)
		json_add(object, name, value);
	else
		cJSON_AddNullToObject(object, name);
}

int json_print(FILE *out, cJSON *doc)
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

void json_add_hist(cJSON *doc, const char *name, const struct hist *h, const char *kind)
{
	static const struct {
		const char *name;
		double q;
	} quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};
	cJSON *latency = cJSON_AddObjectToObject(doc, name);
	bool any = h->nr > 0;

	cJSON_AddStringToObject(latency, "unit", "ns");
	cJSON_AddStringToObject(latency, "kind", kind);
	cJSON_AddStringToObject(latency, "scheme", "log-linear");
	json_add(latency, "sub_bucket_bits", HIST_SUB_BITS);
	add_counts(latency, h);
	json_add_if(latency, "min", any, h->min);
	for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++)
		json_add_if(latency, quantiles[i].name, any, hist_quantile(h, quantiles[i].q));
	json_add_if(latency, "max", any, h->max);
}
