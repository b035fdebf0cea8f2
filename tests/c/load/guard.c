/* SPDX-License-Identifier: MIT */
#include "guard.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

void guard_open(struct guard *g, size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	g->room_bytes = (bytes + page - 1) / page * page;
	g->base = mmap(NULL, g->room_bytes + page, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(g->base, MAP_FAILED);
	assert_return_code(mprotect(g->base + g->room_bytes, page, PROT_NONE), 0);
}

void guard_close(struct guard *g)
{
	munmap(g->base, g->room_bytes + (size_t)sysconf(_SC_PAGESIZE));
}

const char *guard_put(struct guard *g, const char *bytes, size_t len)
{
	assert_true(len <= g->room_bytes);
	return memcpy(g->base + g->room_bytes - len, bytes, len);
}
