// SPDX-License-Identifier: MIT
#include "ring.h"

#include <stdio.h>

enum {
	DEFER_AUTO,
	DEFER_ON,
	DEFER_OFF
};

const char *const ring_defer_values[] = {"auto", "on", "off", NULL};

static const struct opt_def defaults[] = {RING_OPTIONS, {0}};

/* opt: value of the first of RING_OPTIONS; NULL for their defaults. */
static void read_options(struct ring_config *cfg, const int64_t *opt)
{
	int64_t value[ROPT_NR];

	for (int i = 0; i < ROPT_NR; i++)
		value[i] = opt ? opt[i] : defaults[i].def;
	*cfg = (struct ring_config){
		.entries = (unsigned)value[ROPT_ENTRIES],
		.coop = value[ROPT_COOP],
		.sqpoll = value[ROPT_SQPOLL],
		.sqpoll_idle_ms = (unsigned)value[ROPT_SQPOLL_IDLE],
		.sqpoll_cpu = (int)value[ROPT_SQPOLL_CPU],
		.fixed_files = value[ROPT_FIXED_FILES],
		.batch = (unsigned)value[ROPT_BATCH],
		.batch_wait_usec = (unsigned)value[ROPT_BATCH_WAIT],
		.napi_usec = (unsigned)value[ROPT_NAPI],
	};
	cfg->defer = value[ROPT_DEFER] == DEFER_ON ||
		     (value[ROPT_DEFER] == DEFER_AUTO && !cfg->sqpoll && !cfg->coop);
}

void ring_mover_config(struct ring_config *cfg, const struct ring_mover *mover, const int64_t *opt)
{
	bool has_options = opt && mover->options_at;

	read_options(cfg, has_options ? &opt[mover->options_at] : NULL);
	if (opt && mover->configure)
		mover->configure(cfg, opt);
}

/* The kernel refuses the first two (io_uring_create, io_uring/io_uring.c); the last is no choice.
 */
int ring_mover_check(const struct ring_mover *mover, const int64_t *all, char reason[REASON_MAX])
{
	const int64_t *opt = &all[mover->options_at];
	const char *wrong = NULL;

	if (opt[ROPT_SQPOLL] && opt[ROPT_DEFER] == DEFER_ON)
		wrong = "sqpoll=on and defer_taskrun=on exclude each other: the kernel's thread, "
			"not the worker, submits and runs completions; leave defer_taskrun at auto";
	else if (opt[ROPT_SQPOLL] && opt[ROPT_COOP])
		wrong = "sqpoll=on and coop_taskrun=on exclude each other: with a thread of the "
			"kernel's there is nobody to interrupt; choose one";
	else if (opt[ROPT_COOP] && opt[ROPT_DEFER] == DEFER_ON)
		wrong = "coop_taskrun=on and defer_taskrun=on exclude each other: a ring runs its "
			"completions in one of the two ways; leave defer_taskrun at auto";
	if (!wrong)
		return 0;
	snprintf(reason, REASON_MAX, "%s", wrong);
	return -EINVAL;
}

int ring_mover_probe(const struct ring_mover *mover, const int64_t *opt, char reason[REASON_MAX])
{
	struct ring_config cfg;

	ring_mover_config(&cfg, mover, opt);
	return ring_config_probe(&cfg, reason);
}
