/* Where the threads of a process run: the cores that it may use, and the NUMA nodes behind them.
 *
 * A pool's workers are pinned, a core each, only where the pool takes every core that the process
 * may use. With fewer threads there would be a choice of cores, every process of the machine would
 * make the same one, and all would meet on the first cores while the others idle; so the system
 * places them. Who wants a part of the machine says so with taskset or a cpuset, and that part is
 * then taken whole. With more threads than hardware threads, or under a quota of CPU time, nothing
 * is pinned either. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct topology;

/* One hardware thread. */
struct topology_place {
    int cpu;                    /* the system's number of it */
    int core, node;             /* from 0, among those that may be used */
};

/* What the calling thread may use of this machine: its affinity, the cpuset, the quota. `synthetic`
 * (NULL: none) is a made-up machine in hwloc's notation, such as "node:2 core:4 pu:1", on which
 * binding does nothing. NULL when memory is out or the description is wrong; a system that does not
 * tell is one node. */
struct topology *topology_create(const char *synthetic);
void topology_destroy(struct topology **topology);

/* Places: the first hardware thread of every core, node by node, then the second ones. */
int topology_cpus(const struct topology *topology);
int topology_cores(const struct topology *topology);
int topology_nodes(const struct topology *topology);
struct topology_place topology_place(const struct topology *topology, int i);

/* NULL when a pool of so many threads is to be pinned, otherwise a few words that say why not. */
const char *topology_refusal(const struct topology *topology, int threads);

/* Binds the calling thread to a place; false when the system refuses. */
bool topology_bind(const struct topology *topology, int place);
/* Moves the calling thread to a place if it may run there, and leaves its affinity as it was. */
void topology_nudge(const struct topology *topology, int place);
/* The CPU that the calling thread is on, by the system's number; -1 where unknown. */
int topology_cpu_here(void);
/* Its node; 0 where unknown. Costs some nanoseconds. */
int topology_node_here(const struct topology *topology);

/* A copy of `from` [bytes] on a node's memory, as far as the system allows it; NULL: no memory. */
void *topology_copy(const struct topology *topology, int node, const void *from, size_t bytes);
void topology_copy_free(const struct topology *topology, void *copy, size_t bytes);
