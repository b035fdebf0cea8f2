/* SPDX-License-Identifier: MIT */
/* A program of the laboratory as a child of its test, which sees it from outside. */
#ifndef IOLAB_TEST_CHILD_H
#define IOLAB_TEST_CHILD_H

#include <cjson/cJSON.h>
#include <stdio.h>
#include <sys/types.h>

/* The program at work: its standard input, output and error output. */
struct child {
	pid_t pid;
	FILE *in, *out, *err;
};

/* A word of command lines that stands for another one. */
struct placeholder {
	const char *word;
	char *meaning;
};

/* Starts the program at `path` with the words of a line as arguments. Failing fails the test. */
struct child child_start(const char *path, const char *line, struct placeholder p);

/* Lets go of its input and output, waits for its end, and returns its exit status. */
int child_finish(struct child *c);

/* Reads one line of its output and parses it. The caller deletes the document. */
cJSON *child_document(struct child *c);

#endif
