/* SPDX-License-Identifier: MIT */
#include "fresh_dir.h"

#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEMPLATE "fresh-XXXXXX"

char fresh_dir[] = TEMPLATE;

int fresh_dir_make(void **state)
{
	(void)state;
	strcpy(fresh_dir, TEMPLATE);
	return mkdtemp(fresh_dir) ? 0 : -1;
}

int fresh_dir_remove(void **state)
{
	(void)state;
	if (!rmdir(fresh_dir))
		return 0;
	print_error("%s: %s\n", fresh_dir, strerror(errno));
	return -1;
}

unsigned fresh_dir_entries(void)
{
	DIR *dir = opendir(fresh_dir);
	unsigned nr = 0;

	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir));)
		nr += e->d_name[0] != '.';
	closedir(dir);
	return nr;
}
