/* SPDX-License-Identifier: MIT */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define MAX_ARGS 32

static void become(const char *path, char *const *args, int in, int out, int err)
{
	dup2(in, 0);
	dup2(out, 1);
	dup2(err, 2);
	execv(path, args);
	_exit(127);
}

struct child child_start(const char *path, const char *line, struct placeholder p)
{
	char text[1024], *args[MAX_ARGS] = {(char *)(uintptr_t)path}, *save = NULL;
	int in[2], out[2], err[2], nr = 1;

	snprintf(text, sizeof(text), "%s", line);
	for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		assert_true(nr < MAX_ARGS - 1);
		args[nr++] = strcmp(word, p.word) ? word : p.meaning;
	}
	assert_return_code(pipe2(in, O_CLOEXEC), errno);
	assert_return_code(pipe2(out, O_CLOEXEC), errno);
	assert_return_code(pipe2(err, O_CLOEXEC), errno);
	struct child c = {.pid = fork()};
	assert_return_code(c.pid, errno);
	if (c.pid == 0)
		become(path, args, in[0], out[1], err[1]);
	close(in[0]);
	close(out[1]);
	close(err[1]);
	c.in = fdopen(in[1], "w");
	c.out = fdopen(out[0], "r");
	c.err = fdopen(err[0], "r");
	return c;
}

int child_finish(struct child *c)
{
	int status;

	fclose(c->in);
	fclose(c->out);
	fclose(c->err);
	assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

cJSON *child_document(struct child *c)
{
	char *line = NULL;
	size_t room = 0;

	if (getline(&line, &room, c->out) < 0) {
		char said[500] = "";
		said[fread(said, 1, sizeof(said) - 1, c->err)] = '\0';
		fail_msg("no output; on standard error: %s", said);
	}
	cJSON *doc = cJSON_Parse(line);
	assert_non_null(doc);
	free(line);
	return doc;
}
