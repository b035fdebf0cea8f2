/* SPDX-License-Identifier: MIT */
#include "commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clocks.h"
#include "output.h"

/* Reads a number of ms and moves *at behind it. Returns false if there is none in range. */
static bool take_ms(char **at, uint64_t *ns)
{
	char *end;
	size_t blanks = strspn(*at, " \t");

	*at += blanks;
	if (!blanks || strspn(*at, "0123456789") == 0)
		return false;
	errno = 0;
	unsigned long long ms = strtoull(*at, &end, 10);
	if (errno || ms > COMMAND_MAX_MS)
		return false;
	*ns = ms * NS_PER_MS;
	*at = end;
	return true;
}

static bool at_line_end(const char *at)
{
	while (*at && strchr(" \t\r\n", *at))
		at++;
	return !*at;
}

/* The words behind the numbers: a path, a rate, both in this order, or nothing. */
static bool take_words(char *at, struct command *command)
{
	static const char rate[] = "rate=";
	char *save = NULL;

	if (*at && !strchr(" \t", *at))
		return false;
	char *word = strtok_r(at, " \t", &save);
	if (word && *word == '/') {
		command->path = word;
		word = strtok_r(NULL, " \t", &save);
	}
	if (!word)
		return true;
	const char *number = word + strlen(rate);
	return strncmp(word, rate, strlen(rate)) == 0 && rate_parse(&number, "", &command->rate) &&
	       !strtok_r(NULL, " \t", &save);
}

struct command command_parse(char *line)
{
	struct command command = {.kind = COMMAND_WRONG};

	line[strcspn(line, "\r\n")] = '\0';
	if (strncmp(line, "quit", 4) == 0 && at_line_end(line + 4)) {
		command.kind = COMMAND_QUIT;
	} else if (strncmp(line, "slice", 5) == 0) {
		char *at = line + 5;
		if (take_ms(&at, &command.warmup_ns) && take_ms(&at, &command.duration_ns) &&
		    command.duration_ns && take_words(at, &command))
			command.kind = COMMAND_SLICE;
	}
	return command;
}

static int answer(FILE *out, slice_fn slice, void *arg, struct command command)
{
	if (command.kind == COMMAND_WRONG)
		return output_error(out, "expected 'slice WARMUP_MS DURATION_MS [/PATH] [rate=R]' "
					 "(whole ms, a window of at least 1, at most a day; a rate "
					 "from 0.001 to 10000000 per second) or 'quit'");
	return slice(arg, out, &command);
}

int commands_serve(FILE *in, FILE *out, slice_fn slice, void *arg)
{
	char *line = NULL;
	size_t room = 0;
	int res = 0;

	while (res == 0 && getline(&line, &room, in) > 0) {
		struct command command = command_parse(line);
		if (command.kind == COMMAND_QUIT)
			break;
		res = answer(out, slice, arg, command);
	}
	free(line);
	return res;
}
