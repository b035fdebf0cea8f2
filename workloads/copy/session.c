/* SPDX-License-Identifier: MIT */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "clocks.h"
#include "pages.h"

/* A window ends after so many times its length even if it is spent between operations. */
#define PATIENCE 10u

/* Share of pages that may be on the wrong side of the cache: 1 / CACHE_TOLERANCE. */
#define CACHE_TOLERANCE 100u

const char *const copy_error_names[NR_COPY_ERRORS] = {
	[COPY_ERR_COPY] = "copy", [COPY_ERR_MISMATCH] = "mismatch", [COPY_ERR_CACHE] = "cache"};

/* ---------------------------------------------------------------- open and close */

static int open_checked(struct session *s, char *why)
{
	struct copy_dirs dirs = {s->house.src_dir, s->house.dst_dir};
	int res = check_technique(s->cfg->spec, &dirs, &s->checked);

	if (!res && s->checked.failures) {
		snprintf(why, HOUSE_WHY_MAX, "%u wrong copies: %.400s", s->checked.failures,
			 s->checked.why);
		return -EILSEQ;
	}
	s->may_clone = files_can_clone(&dirs);
	return res;
}

/* Whether sources can leave the page cache at all, found by dropping one. 0 or -errno. */
static int try_dropping(const struct session *s, char *why)
{
	int fd = openat(s->house.src_dir, s->house.names[0], O_RDONLY | O_CLOEXEC), res;
	uint64_t pages = 0, cached = 0;

	if (fd < 0)
		return -errno;
	res = pages_drop(fd);
	if (!res)
		res = pages_resident(fd, &pages, &cached);
	close(fd);
	if (!res && cached * CACHE_TOLERANCE > pages)
		res = -ENOTSUP;
	if (res)
		snprintf(why, HOUSE_WHY_MAX,
			 "cache=cold: the sources cannot be dropped from the page cache: %s; tmpfs "
			 "keeps all it has",
			 strerror(-res));
	return res;
}

int session_open(struct session *s, const struct session_config *cfg, bool *unsupported, char *why)
{
	struct copy_dirs dirs;
	int res;

	*s = (struct session){.cfg = cfg};
	*unsupported = false;
	res = house_open(&s->house, &cfg->house, why);
	if (res)
		return res;
	dirs = (struct copy_dirs){s->house.src_dir, s->house.dst_dir};
	res = copier_open(&s->copier, cfg->spec, &dirs, cfg->house.size, cfg->batch, s->why);
	if (res) {
		*unsupported = true;
		snprintf(why, HOUSE_WHY_MAX, "%s", s->why);
		return res;
	}
	s->have_copier = true;
	res = cfg->cold ? try_dropping(s, why) : 0;
	*unsupported = res == -ENOTSUP;
	return res ? res : open_checked(s, why);
}

void session_close(struct session *s)
{
	if (s->have_copier)
		copier_close(&s->copier);
	house_close(&s->house);
}

/* ---------------------------------------------------------------- between operations */

/* A slice under way. */
struct slice {
	struct session *s;
	struct copy_result *res;
	bool failed; /* an operation did: there is no sense in going on */
};

static void raise_error(struct slice *sl, enum copy_error error, const char *why)
{
	const struct session_config *cfg = sl->s->cfg;
	bool first = true;

	for (int i = 0; i < NR_COPY_ERRORS; i++)
		first = first && !sl->res->errors[i];
	sl->res->errors[error]++;
	if (first && cfg->log)
		fprintf(cfg->log, "iolab-copy: %s: %s: %s\n", cfg->spec->technique->name,
			copy_error_names[error], why);
}

/* Brings one source to the side of the page cache that was asked for, and counts its pages. */
static int prepare_source(struct slice *sl, const char *name, uint64_t *pages, uint64_t *cached)
{
	int fd = openat(sl->s->house.src_dir, name, O_RDONLY | O_CLOEXEC), res;
	uint64_t nr, in;

	if (fd < 0)
		return -errno;
	res = sl->s->cfg->cold ? pages_drop(fd) : 0;
	if (!res)
		res = pages_resident(fd, &nr, &in);
	/* Reading it again would be no use when memory is short: once is enough to find out. */
	if (!res && !sl->s->cfg->cold && in < nr) {
		res = pages_warm(fd);
		if (!res)
			res = pages_resident(fd, &nr, &in);
	}
	close(fd);
	if (!res) {
		*pages += nr;
		*cached += in;
	}
	return res;
}

static void prepare_sources(struct slice *sl, unsigned first, bool timed)
{
	const struct session *s = sl->s;
	uint64_t pages = 0, cached = 0, wrong;
	int res = 0;

	for (unsigned i = first; i < first + s->cfg->batch && !res; i++)
		res = prepare_source(sl, s->house.names[i], &pages, &cached);
	if (res) {
		raise_error(sl, COPY_ERR_CACHE, strerror(-res));
		return;
	}
	if (timed) {
		sl->res->pages += pages;
		sl->res->pages_cached += cached;
	}
	wrong = s->cfg->cold ? cached : pages - cached;
	if (wrong * CACHE_TOLERANCE > pages)
		raise_error(sl, COPY_ERR_CACHE,
			    s->cfg->cold ? "the sources do not leave the page cache"
					 : "the sources do not stay in the page cache: too little "
					   "memory for them");
}

/* ---------------------------------------------------------------- operations */

static void count(struct copy_counts *counts, const struct file_batch *batch)
{
	counts->operations++;
	counts->files += batch->nr;
	counts->bytes += batch->nr * batch->size;
}

/* One operation; returns its time, 0 when it failed. With `timed` it counts into the window. */
static uint64_t operate(struct slice *sl, bool timed)
{
	struct session *s = sl->s;
	const struct file_batch batch = {.src_dir = s->house.src_dir,
					 .dst_dir = s->house.dst_dir,
					 .names = (const char *const *)s->house.names + s->next,
					 .nr = s->cfg->batch,
					 .size = s->house.size,
					 .durable = s->cfg->durable};
	uint64_t cpu_ns, start_ns, took_ns;
	int res;

	if (s->cfg->fresh)
		house_remove_copies(&s->house, s->next, s->cfg->batch);
	prepare_sources(sl, s->next, timed);
	cpu_ns = cpu_self_ns();
	start_ns = mono_ns();
	res = files_copy(&s->copier, &batch);
	took_ns = mono_ns() - start_ns;
	cpu_ns = cpu_self_ns() - cpu_ns;
	if (res < 0) {
		raise_error(sl, COPY_ERR_COPY, strerror(-res));
		sl->failed = true;
		return 0;
	}
	s->next = (s->next + s->cfg->batch) % s->cfg->house.files;
	count(&sl->res->total, &batch);
	if (timed) {
		count(&sl->res->window, &batch);
		sl->res->window_ns += took_ns;
		sl->res->cpu_ns += cpu_ns;
		hist_add(&sl->res->latency, took_ns);
	}
	return took_ns;
}

static bool over(const struct slice *sl)
{
	const atomic_bool *end = sl->s->cfg->end;

	return sl->failed || (end && atomic_load(end));
}

/* Operations until they have taken `ns`, or PATIENCE times that has passed; at least one. */
static void operate_for(struct slice *sl, uint64_t ns, bool timed)
{
	uint64_t spent_ns = 0, deadline_ns = mono_ns() + PATIENCE * ns;

	do
		spent_ns += operate(sl, timed);
	while (!over(sl) && spent_ns < ns && mono_ns() < deadline_ns);
}

/* Every copy exists before the clock starts, or the first pass would measure another thing. */
static void copy_all_once(struct slice *sl)
{
	sl->s->next = 0;
	for (unsigned i = 0; i < sl->s->cfg->house.files && !over(sl); i += sl->s->cfg->batch)
		operate(sl, false);
}

static void check_last(struct slice *sl)
{
	struct session *s = sl->s;
	struct copy_dirs dirs = {s->house.src_dir, s->house.dst_dir};
	unsigned files = s->cfg->house.files, first = (s->next + files - s->cfg->batch) % files;
	char why[CHECK_WHY_MAX];

	for (unsigned i = first; i < first + s->cfg->batch; i++)
		if (check_same(&dirs, s->house.names[i], why) < 0)
			raise_error(sl, COPY_ERR_MISMATCH, why);
}

void session_slice(struct session *s, uint64_t warmup_ns, uint64_t duration_ns,
		   struct copy_result *res)
{
	struct slice sl = {.s = s, .res = res};
	uint64_t begin_ns = mono_ns();

	memset(res, 0, sizeof(*res));
	hist_reset(&res->latency);
	copy_all_once(&sl);
	if (!over(&sl))
		operate_for(&sl, warmup_ns, false);
	res->start_ns = mono_ns();
	if (!over(&sl))
		operate_for(&sl, duration_ns, true);
	res->wall_ns = mono_ns() - res->start_ns;
	if (!over(&sl))
		check_last(&sl);
	house_remove_copies(&s->house, 0, s->cfg->house.files);
	res->total_ns = mono_ns() - begin_ns;
}
