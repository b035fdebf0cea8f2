/* SPDX-License-Identifier: MIT */
/*
 * Options of a ring, shared by the engines on one: how it is set up, what is registered with it,
 * how completions are waited for. docs/io_uring.md says what each is for.
 */
#ifndef IOLAB_RING_OPTIONS_H
#define IOLAB_RING_OPTIONS_H

#include "engine.h"

/* Positions of RING_OPTIONS, counted from the first of them. */
enum ring_opt {
	ROPT_ENTRIES,
	ROPT_DEFER,
	ROPT_COOP,
	ROPT_SQPOLL,
	ROPT_SQPOLL_IDLE,
	ROPT_SQPOLL_CPU,
	ROPT_FIXED_FILES,
	ROPT_BATCH,
	ROPT_BATCH_WAIT,
	ROPT_NAPI,
	ROPT_NR
};

extern const char *const ring_defer_values[];

#define RING_OPTIONS                                                                              \
	{.name = "ring_entries",                                                                  \
	 .type = OPT_INT,                                                                         \
	 .def = 1024,                                                                             \
	 .min = 4,                                                                                \
	 .max = 32768,                                                                            \
	 .help = "submission queue entries, rounded up to a power of two; the completion queue "  \
		 "has four times as many, 65536 at most"},                                        \
		{.name = "defer_taskrun",                                                         \
		 .type = OPT_ENUM,                                                                \
		 .max = 2,                                                                        \
		 .values = ring_defer_values,                                                     \
		 .help = "on: completions are worked off when the worker waits, in one batch, "   \
			 "instead of interrupting it (Linux 6.1); auto: on, unless sqpoll or "    \
			 "coop_taskrun takes its place"},                                         \
		{.name = "coop_taskrun",                                                          \
		 .type = OPT_BOOL,                                                                \
		 .max = 1,                                                                        \
		 .help = "completions wait for the worker's next system call, whichever it is, "  \
			 "instead of interrupting it (Linux 5.19)"},                              \
		{.name = "sqpoll",                                                                \
		 .type = OPT_BOOL,                                                                \
		 .max = 1,                                                                        \
		 .help = "a kernel thread beside each worker takes submissions without a system " \
			 "call; its CPU time counts, too (Linux 5.11)"},                          \
		{.name = "sqpoll_idle",                                                           \
		 .type = OPT_INT,                                                                 \
		 .def = 1000,                                                                     \
		 .min = 1,                                                                        \
		 .max = 60000,                                                                    \
		 .help = "sqpoll=on: milliseconds without submissions after which the thread "    \
			 "sleeps, and has to be woken by a system call"},                         \
		{.name = "sqpoll_cpu",                                                            \
		 .type = OPT_INT,                                                                 \
		 .def = -1,                                                                       \
		 .min = -1,                                                                       \
		 .max = 8191,                                                                     \
		 .help = "sqpoll=on: the CPU that the threads are bound to; -1 lets the "         \
			 "scheduler choose"},                                                     \
		{.name = "fixed_files",                                                           \
		 .type = OPT_BOOL,                                                                \
		 .max = 1,                                                                        \
		 .help = "sockets are registered with the ring after accept, and named by their " \
			 "slot: no look-up and no reference count an operation (Linux 5.19)"},    \
		{.name = "batch",                                                                 \
		 .type = OPT_INT,                                                                 \
		 .def = 1,                                                                        \
		 .min = 1,                                                                        \
		 .max = 4096,                                                                     \
		 .help = "completions to wait for while there is traffic, for batch_wait at "     \
			 "most; 1 takes what is there"},                                          \
		{.name = "batch_wait",                                                            \
		 .type = OPT_INT,                                                                 \
		 .def = 50,                                                                       \
		 .min = 1,                                                                        \
		 .max = 1000000,                                                                  \
		 .help = "batch above 1: microseconds to wait for it; what came until then is "   \
			 "worked off"},                                                           \
	{                                                                                         \
		.name = "napi", .type = OPT_INT, .max = 100000,                                   \
		.help = "microseconds to poll the network card's queue before sleeping (busy "    \
			"polling by IORING_REGISTER_NAPI, Linux 6.9; without effect where there " \
			"is no NAPI, as on loopback); 0: off"                                     \
	}

/* What the options come to. */
struct ring_config {
	unsigned entries;
	bool defer, coop, sqpoll;
	unsigned sqpoll_idle_ms;
	int sqpoll_cpu; /* -1: any */
	bool fixed_files;
	/* No options of every engine, so set by configure() of struct ring_mover: */
	bool bundle;	    /* of receives */
	bool fixed_buffers; /* there is a table of registered buffers */
	unsigned batch;
	unsigned batch_wait_usec;
	unsigned napi_usec;
};

/*
 * What a probe says when a call on a ring failed with res: `need` ("needs Linux ...") for EINVAL,
 * by which the kernel refuses what it does not know (io_uring_setup(2), io_uring_register(2)); for
 * other errors what is amiss here, with its remedy. Returns res.
 */
int ring_refuse(int res, char reason[REASON_MAX], const char *need);

/* Whether this kernel can do all of cfg, found by trying it. 0, or -errno and one sentence. */
int ring_config_probe(const struct ring_config *cfg, char reason[REASON_MAX]);

/* ------------------------------------------------------------------------------ of an engine */

struct ring_mover; /* ring.h */

/*
 * What the options of the mover's engine come to: RING_OPTIONS where the mover says that they are,
 * and what its configure() adds. opt: all values of the engine's options; NULL for the defaults.
 */
void ring_mover_config(struct ring_config *cfg, const struct ring_mover *mover, const int64_t *opt);

/*
 * For check() of the mover's engine, which has RING_OPTIONS: whether they go together. 0, or
 * -EINVAL and a sentence that names the remedy.
 */
int ring_mover_check(const struct ring_mover *mover, const int64_t *opt, char reason[REASON_MAX]);

/*
 * For probe() of the mover's engine: whether this kernel can do all that the engine's options ask
 * of a ring; opt may be NULL, as in ring_mover_config(). As ring_config_probe().
 */
int ring_mover_probe(const struct ring_mover *mover, const int64_t *opt, char reason[REASON_MAX]);

#endif
