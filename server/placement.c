// SPDX-License-Identifier: MIT
#include "placement.h"

#include <errno.h>
#include <hwloc.h>
#include <stdlib.h>

static int node_of(hwloc_topology_t topo, hwloc_const_cpuset_t cpu)
{
	int depth = HWLOC_TYPE_DEPTH_NUMANODE;
	hwloc_obj_t node = NULL;

	while ((node = hwloc_get_next_obj_by_depth(topo, depth, node)))
		if (hwloc_bitmap_isincluded(cpu, node->cpuset))
			return (int)node->os_index;
	return -1;
}

/* CPUs this process may run on: cgroup limits are in the topology, affinity is asked for. */
static hwloc_bitmap_t usable_cpus(hwloc_topology_t topo)
{
	hwloc_bitmap_t set = hwloc_bitmap_alloc();

	if (set && hwloc_get_cpubind(topo, set, HWLOC_CPUBIND_PROCESS))
		hwloc_bitmap_copy(set, hwloc_topology_get_allowed_cpuset(topo));
	return set;
}

/* Keeps one processing unit of each core: two workers on one core would share it. */
static void one_per_core(hwloc_topology_t topo, hwloc_bitmap_t set)
{
	hwloc_obj_t core = NULL;

	while ((core = hwloc_get_next_obj_by_type(topo, HWLOC_OBJ_CORE, core))) {
		hwloc_bitmap_t mine = hwloc_bitmap_dup(core->cpuset);
		int first;

		hwloc_bitmap_and(mine, mine, set);
		first = hwloc_bitmap_first(mine);
		if (first >= 0) {
			hwloc_bitmap_clr(mine, (unsigned)first);
			hwloc_bitmap_andnot(set, set, mine);
		}
		hwloc_bitmap_free(mine);
	}
}

static int choose(hwloc_topology_t topo, const char *list, hwloc_bitmap_t usable)
{
	hwloc_bitmap_t asked;
	int res = 0;

	if (!list) {
		one_per_core(topo, usable);
		return 0;
	}
	asked = hwloc_bitmap_alloc();
	if (!asked || hwloc_bitmap_list_sscanf(asked, list) || hwloc_bitmap_iszero(asked) ||
	    hwloc_bitmap_weight(asked) < 0)
		res = -EINVAL;
	else if (!hwloc_bitmap_isincluded(asked, usable))
		res = -ENODEV;
	else
		hwloc_bitmap_copy(usable, asked);
	hwloc_bitmap_free(asked);
	return res;
}

static int fill(hwloc_topology_t topo, hwloc_const_bitmap_t set, struct place **places)
{
	int nr = hwloc_bitmap_weight(set), i = 0;
	unsigned cpu;

	*places = calloc((size_t)(nr > 0 ? nr : 1), sizeof(**places));
	if (!*places)
		return -ENOMEM;
	hwloc_bitmap_foreach_begin(cpu, set)
	{
		hwloc_bitmap_t only = hwloc_bitmap_alloc();

		hwloc_bitmap_only(only, cpu);
		(*places)[i++] = (struct place){.cpu = (int)cpu, .node = node_of(topo, only)};
		hwloc_bitmap_free(only);
	}
	hwloc_bitmap_foreach_end();
	return nr;
}

int placement_find(const char *list, struct place **places)
{
	hwloc_topology_t topo;
	hwloc_bitmap_t set;
	int res;

	if (hwloc_topology_init(&topo))
		return -ENOMEM;
	/* Caches, buses and devices are not asked for, and cost memory. */
	hwloc_topology_set_all_types_filter(topo, HWLOC_TYPE_FILTER_KEEP_NONE);
	hwloc_topology_set_type_filter(topo, HWLOC_OBJ_CORE, HWLOC_TYPE_FILTER_KEEP_ALL);
	/* A node has the CPUs of the object above it: without these, of the whole machine. */
	hwloc_topology_set_type_filter(topo, HWLOC_OBJ_PACKAGE, HWLOC_TYPE_FILTER_KEEP_ALL);
	hwloc_topology_set_type_filter(topo, HWLOC_OBJ_GROUP, HWLOC_TYPE_FILTER_KEEP_STRUCTURE);
	if (hwloc_topology_load(topo)) {
		hwloc_topology_destroy(topo);
		return -ENODEV;
	}
	set = usable_cpus(topo);
	res = set ? choose(topo, list, set) : -ENOMEM;
	if (!res)
		res = fill(topo, set, places);
	hwloc_bitmap_free(set);
	hwloc_topology_destroy(topo);
	return res;
}
