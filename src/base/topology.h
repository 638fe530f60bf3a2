/* Where the threads of a process run: the cores that it may use, and the NUMA nodes behind them.
 *
 * A pool's workers are pinned only where the pool takes every core that the process may use. With
 * fewer threads there would be a choice of cores, every process of the machine would make the same
 * one, and all would meet on the first cores while the others idle; so the system places them. Who
 * wants a part of the machine says so with taskset or a cpuset, and that part is then taken whole.
 * With more threads than hardware threads, or under a quota of CPU time, nothing is pinned either.
 *
 * By default a worker is pinned to the cores of a node, which is what its memory is about; where
 * there is one node, that means not at all. To a core of its own it is pinned on request: it then
 * cannot leave when another process takes that core (docs/decisions/010-threads.md has figures). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct topology;

enum topology_pin { PIN_OFF, PIN_NODES, PIN_CORES };

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
/* Takes all nodes for one, so that nothing is placed by them. */
void topology_flatten(struct topology *topology);

/* Places: the first hardware thread of every core, node by node, then the second ones. */
int topology_cpus(const struct topology *topology);
int topology_cores(const struct topology *topology);
int topology_nodes(const struct topology *topology);
/* CPUs' worth of time that a control group allows; 0: no limit. */
int topology_quota(const struct topology *topology);
struct topology_place topology_place(const struct topology *topology, int i);

/* NULL when a pool of so many threads is to be pinned, otherwise a few words that say why not. */
const char *topology_refusal(const struct topology *topology, int threads, enum topology_pin pin);

/* Binds the calling thread to a place or its node; false when the system refuses. */
bool topology_bind(const struct topology *topology, int place, enum topology_pin pin);
/* Moves the calling thread there if it is elsewhere and may, and leaves its affinity as it was. */
void topology_nudge(const struct topology *topology, int place, enum topology_pin pin);
/* Its node; 0 where unknown. Costs some nanoseconds. */
int topology_node_here(const struct topology *topology);

/* Which node the system numbers so, from 0; -1: it is none of ours, or there is but one. */
int topology_node_numbered(const struct topology *topology, int number);
/* Calls fn on the CPUs of a node, whatever the calling thread is bound to, and binds it as it was
 * when that returns. node -1: where it is. */
void topology_visit(const struct topology *topology, int node, void (*fn)(void *context),
                    void *context);

/* A copy of `from` [bytes] on a node's memory, as far as the system allows it; NULL: no memory. */
void *topology_copy(const struct topology *topology, int node, const void *from, size_t bytes);
void topology_copy_free(const struct topology *topology, void *copy, size_t bytes);
