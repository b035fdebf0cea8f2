/* SPDX-License-Identifier: MIT */
#ifndef IOLAB_PLACEMENT_H
#define IOLAB_PLACEMENT_H

/* Where one worker runs. */
struct place {
	int cpu, node;
};

/*
 * Places for workers: the CPUs of list ("0,2-3"; NULL: one processing unit of each core this
 * process may use, as hwloc numbers them), each with its NUMA node. *places is malloc'd. Returns
 * how many, or -EINVAL for a bad list, -ENODEV when a CPU of it cannot be used.
 */
int placement_find(const char *list, struct place **places);

#endif
