/* SPDX-License-Identifier: MIT */
/* Part of engine.h: options of engines, and those that all of them have. */
#ifndef IOLAB_ENGINE_OPTIONS_H
#define IOLAB_ENGINE_OPTIONS_H

#include <stdint.h>

enum opt_type {
	OPT_INT,
	OPT_SIZE,
	OPT_BOOL,
	OPT_ENUM
};

/*
 * One engine option. The value reaches the engine as int64_t: the number, bytes for OPT_SIZE
 * (suffixes k, m, g), 0/1 for OPT_BOOL, the index into `values` for OPT_ENUM.
 */
struct opt_def {
	const char *name;
	const char *help;
	const char *const *values; /* OPT_ENUM: NULL-terminated */
	int64_t def, min, max;
	enum opt_type type;
};

#define ENGINE_OPTS_MAX 24

/* Options every socket engine has; they must come first, in this order. */
enum common_opt {
	COPT_SNDBUF,
	COPT_NODELAY,
	COPT_HOLD,
	COPT_NR
};

/* What keeps the pieces of a response in full segments: values of COPT_HOLD. */
enum hold {
	HOLD_MORE,
	HOLD_CORK,
	HOLD_NONE
};
extern const char *const hold_values[];
#define COMMON_OPTIONS                                                                        \
	{.name = "sndbuf",                                                                    \
	 .type = OPT_SIZE,                                                                    \
	 .max = 1 << 30,                                                                      \
	 .help = "SO_SNDBUF of each connection in bytes, which also ends the kernel's send-"  \
		 "buffer autotuning; 0 leaves autotuning on (tcp(7))"},                       \
		{.name = "nodelay",                                                           \
		 .type = OPT_BOOL,                                                            \
		 .def = 1,                                                                    \
		 .max = 1,                                                                    \
		 .help = "TCP_NODELAY: send a partial segment at once (tcp(7))"},             \
	{                                                                                     \
		.name = "hold", .type = OPT_ENUM, .max = 2, .values = hold_values,            \
		.help = "what keeps a file's pieces in full segments: more: MSG_MORE on all " \
			"but the last; cork: TCP_CORK around them, two calls a response; "    \
			"none (send(2), tcp(7))"                                              \
	}

#endif
