/* SPDX-License-Identifier: MIT */
/* The line protocol of --slices. */
#ifndef IOLAB_LOAD_COMMANDS_H
#define IOLAB_LOAD_COMMANDS_H

#include <stdint.h>
#include <stdio.h>

#include "load.h"

enum command_kind {
	COMMAND_SLICE,
	COMMAND_QUIT,
	COMMAND_WRONG
};

struct command {
	enum command_kind kind;
	uint64_t warmup_ns;
	uint64_t duration_ns;
	const char *path; /* what to ask for alone, in the parsed line; NULL: all */
	double rate;	  /* of an open loop, requests per second; 0: as the command line says */
};

/* Longest slice that a command may ask for. */
#define COMMAND_MAX_MS 86400000u

/*
 * Parses "slice WARMUP_MS DURATION_MS [/PATH] [rate=R]" or "quit", with or without a line end. The
 * line is cut at the end of the path.
 */
struct command command_parse(char *line);

/* Runs one slice and writes its result document. Returns 0, or -errno when it could not. */
typedef int (*slice_fn)(void *arg, FILE *out, const struct command *command);

/*
 * Answers commands from `in` with one line each on `out` until "quit" or the end of input. A line
 * that is no command is answered with an error and otherwise ignored. Returns 0, or -errno when an
 * answer could not be written.
 */
int commands_serve(FILE *in, FILE *out, slice_fn slice, void *arg);

#endif
