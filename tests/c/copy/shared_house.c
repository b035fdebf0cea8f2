/* SPDX-License-Identifier: MIT */
#include "shared_house.h"

#include "check.h"

/* Far more than these tests make; that the bound is kept is what test_house.c tests. */
#define MAX_BYTES (1u << 30)

struct house house;
struct copy_dirs dirs;

int shared_house_open(uint64_t size, unsigned files)
{
	struct house_config cfg = {
		.dir = ".", .size = size, .files = files, .max_bytes = MAX_BYTES};
	char why[HOUSE_WHY_MAX];

	if (house_open(&house, &cfg, why) < 0) {
		print_error("%s\n", why);
		return -1;
	}
	dirs = (struct copy_dirs){house.src_dir, house.dst_dir};
	return 0;
}

int shared_house_close(void **state)
{
	(void)state;
	house_close(&house);
	return 0;
}
