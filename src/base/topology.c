/* Topology by hwloc. See topology.h for the rules. */
#include "base/topology.h"

#include <hwloc.h>
#include <sched.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "base/quota.h"
#include "base/status.h"

struct topology {
    hwloc_topology_t hwloc;
    struct topology_place *places;
    int cpus, cores, nodes, quota;
    hwloc_obj_t *node_objects;  /* [nodes] */
    int *node_of;               /* [cpu_end], by the system's number of the CPU; -1: none of ours */
    int cpu_end;
};

/* ---- reading the machine ---------------------------------------------------------------- */

static bool load(struct topology *t, const char *synthetic)
{
    if (hwloc_topology_init(&t->hwloc)) {
        t->hwloc = NULL;
        return false;
    }
    return !hwloc_topology_set_all_types_filter(t->hwloc, HWLOC_TYPE_FILTER_KEEP_NONE) &&
           !hwloc_topology_set_type_filter(t->hwloc, HWLOC_OBJ_CORE, HWLOC_TYPE_FILTER_KEEP_ALL) &&
           /* without groups a node would seem to have the CPUs of the whole machine */
           !hwloc_topology_set_type_filter(t->hwloc, HWLOC_OBJ_GROUP,
                                           HWLOC_TYPE_FILTER_KEEP_STRUCTURE) &&
           (!synthetic || !hwloc_topology_set_synthetic(t->hwloc, synthetic)) &&
           !hwloc_topology_load(t->hwloc);
}

/* The CPUs of the calling thread. */
static hwloc_bitmap_t usable_set(const struct topology *t, bool real)
{
    hwloc_bitmap_t set = hwloc_bitmap_dup(hwloc_topology_get_topology_cpuset(t->hwloc));
    hwloc_bitmap_t bound = hwloc_bitmap_alloc();
    if (set && bound && real && !hwloc_get_cpubind(t->hwloc, bound, HWLOC_CPUBIND_THREAD))
        hwloc_bitmap_and(set, set, bound);
    hwloc_bitmap_free(bound);
    return set;
}

/* A node with CPUs of ours that have no node yet (a tier of memory without any is none). */
static void add_node(struct topology *t, hwloc_obj_t object, hwloc_const_bitmap_t usable)
{
    bool used = false;
    unsigned cpu;
    hwloc_bitmap_foreach_begin(cpu, object->cpuset)
        if (hwloc_bitmap_isset(usable, cpu) && t->node_of[cpu] < 0) {
            t->node_of[cpu] = t->nodes;
            used = true;
        }
    hwloc_bitmap_foreach_end();
    if (used)
        t->node_objects[t->nodes++] = object;
}

/* The first, second, ... hardware threads of all cores, `rank` from 0; false: no core has so many.
 */
static bool add_places(struct topology *t, hwloc_const_bitmap_t usable, int rank)
{
    int cores = hwloc_get_nbobjs_by_type(t->hwloc, HWLOC_OBJ_CORE), before = t->cpus;
    for (int node = 0; node < t->nodes; node++)
        for (int c = 0, core = -1; c < cores; c++) {
            hwloc_obj_t object = hwloc_get_obj_by_type(t->hwloc, HWLOC_OBJ_CORE, (unsigned)c);
            int seen = 0;
            unsigned cpu;
            core += hwloc_bitmap_intersects(object->cpuset, usable) != 0;
            hwloc_bitmap_foreach_begin(cpu, object->cpuset)
                if (hwloc_bitmap_isset(usable, cpu) && seen++ == rank && t->node_of[cpu] == node)
                    t->places[t->cpus++] = (struct topology_place){ .cpu = (int)cpu, .core = core,
                                                                    .node = node };
            hwloc_bitmap_foreach_end();
        }
    return t->cpus > before;
}

static bool describe(struct topology *t, hwloc_const_bitmap_t usable)
{
    int weight = hwloc_bitmap_weight(usable), last = hwloc_bitmap_last(usable);
    int nodes = hwloc_get_nbobjs_by_type(t->hwloc, HWLOC_OBJ_NUMANODE);
    int cores = hwloc_get_nbobjs_by_type(t->hwloc, HWLOC_OBJ_CORE);
    if (weight < 1 || last < 0 || nodes < 1 || cores < 1)
        return false;
    t->cpu_end = last + 1;
    t->places = memory_alloc((size_t)weight, sizeof *t->places);
    t->node_of = memory_alloc((size_t)t->cpu_end, sizeof *t->node_of);
    t->node_objects = memory_alloc((size_t)nodes, sizeof *t->node_objects);
    if (!t->places || !t->node_of || !t->node_objects)
        return false;
    for (int i = 0; i < t->cpu_end; i++)
        t->node_of[i] = -1;
    for (int i = 0; i < nodes; i++)
        add_node(t, hwloc_get_obj_by_type(t->hwloc, HWLOC_OBJ_NUMANODE, (unsigned)i), usable);
    for (int rank = 0; add_places(t, usable, rank); rank++)
        if (rank == 0)
            t->cores = t->cpus;
    return t->cpus > 0;
}

/* Nothing is known: one node, and no place to bind to. */
static void forget(struct topology *t)
{
    memory_free(t->places);
    memory_free(t->node_of);
    memory_free(t->node_objects);
    *t = (struct topology){ .hwloc = t->hwloc, .nodes = 1 };
}

struct topology *topology_create(const char *synthetic)
{
    struct topology *t = memory_alloc(1, sizeof *t);
    if (!t)
        return NULL;
    hwloc_bitmap_t usable = NULL;
    bool known = load(t, synthetic) && (usable = usable_set(t, !synthetic)) && describe(t, usable);
    hwloc_bitmap_free(usable);
    if (!known && synthetic) {
        topology_destroy(&t);
        return NULL;
    }
    if (!known)
        forget(t);
    t->quota = synthetic ? 0 : quota_of_process();
    return t;
}

void topology_destroy(struct topology **topology)
{
    struct topology *t = *topology;
    if (!t)
        return;
    forget(t);
    if (t->hwloc)
        hwloc_topology_destroy(t->hwloc);
    memory_free(t);
    *topology = NULL;
}

void topology_flatten(struct topology *topology)
{
    for (int i = 0; i < topology->cpus; i++)
        topology->places[i].node = 0;
    for (int i = 0; i < topology->cpu_end; i++)
        topology->node_of[i] = topology->node_of[i] < 0 ? -1 : 0;
    topology->nodes = 1;
}

int topology_cpus(const struct topology *topology)
{
    return topology->cpus;
}

int topology_cores(const struct topology *topology)
{
    return topology->cores;
}

int topology_nodes(const struct topology *topology)
{
    return topology->nodes;
}

int topology_quota(const struct topology *topology)
{
    return topology->quota;
}

struct topology_place topology_place(const struct topology *topology, int i)
{
    ASSERT(i >= 0 && i < topology->cpus);
    return topology->places[i];
}

const char *topology_refusal(const struct topology *topology, int threads, enum topology_pin pin)
{
    if (pin == PIN_OFF)
        return "switched off";
    if (topology->cpus == 0)
        return "the system does not tell where its cores are";
    if (topology->quota && topology->quota < topology->cpus)
        return "a quota of CPU time is in force";
    if (threads == 1)
        return "one thread, which is the caller's";
    if (threads < topology->cores)
        return "fewer threads than cores";
    if (threads > topology->cpus)
        return "more threads than CPUs";
    return pin == PIN_NODES && topology->nodes == 1 ? "one node" : NULL;
}

/* ---- threads ---------------------------------------------------------------------------- */

/* The caller frees it; NULL: no memory. */
static hwloc_bitmap_t set_of(const struct topology *topology, int place, enum topology_pin pin)
{
    struct topology_place p = topology_place(topology, place);
    if (pin == PIN_NODES)
        return hwloc_bitmap_dup(topology->node_objects[p.node]->cpuset);
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    if (set && hwloc_bitmap_only(set, (unsigned)p.cpu)) {
        hwloc_bitmap_free(set);
        set = NULL;
    }
    return set;
}

/* Binds this thread to what it may have of `set`; `kept` (NULL: nowhere) receives what it had. */
static bool bind_to(const struct topology *topology, hwloc_const_bitmap_t set, hwloc_bitmap_t kept)
{
    hwloc_bitmap_t both = hwloc_bitmap_alloc();
    bool bound = both && !hwloc_get_cpubind(topology->hwloc, both, HWLOC_CPUBIND_THREAD) &&
                 (!kept || !hwloc_bitmap_copy(kept, both)) && !hwloc_bitmap_and(both, both, set) &&
                 !hwloc_bitmap_iszero(both) &&
                 !hwloc_set_cpubind(topology->hwloc, both, HWLOC_CPUBIND_THREAD);
    hwloc_bitmap_free(both);
    return bound;
}

/* Runs on some CPU of `set` from here on, until the system moves it; affinity as it was. `during`
 * (NULL: nothing) is called before the affinity is given back. */
static void visit(const struct topology *topology, hwloc_const_bitmap_t set,
                  void (*during)(void *context), void *context)
{
    hwloc_bitmap_t kept = hwloc_bitmap_alloc();
    bool moved = kept && bind_to(topology, set, kept);
    if (during)
        during(context);
    if (moved)
        hwloc_set_cpubind(topology->hwloc, kept, HWLOC_CPUBIND_THREAD);
    hwloc_bitmap_free(kept);
}

bool topology_bind(const struct topology *topology, int place, enum topology_pin pin)
{
    hwloc_bitmap_t set = set_of(topology, place, pin);
    bool bound = set && bind_to(topology, set, NULL);
    hwloc_bitmap_free(set);
    return bound;
}

void topology_nudge(const struct topology *topology, int place, enum topology_pin pin)
{
    struct topology_place p = topology_place(topology, place);
    if (pin == PIN_NODES ? topology_node_here(topology) == p.node : sched_getcpu() == p.cpu)
        return;
    hwloc_bitmap_t set = set_of(topology, place, pin);
    if (set)
        visit(topology, set, NULL, NULL);
    hwloc_bitmap_free(set);
}

int topology_node_here(const struct topology *topology)
{
    if (topology->nodes == 1)
        return 0;
    int cpu = sched_getcpu();
    return cpu >= 0 && cpu < topology->cpu_end && topology->node_of[cpu] > 0
               ? topology->node_of[cpu]
               : 0;
}

int topology_node_numbered(const struct topology *topology, int number)
{
    for (int i = 0; topology->nodes > 1 && i < topology->nodes; i++)
        if (number >= 0 && topology->node_objects[i]->os_index == (unsigned)number)
            return i;
    return -1;
}

/* CPUs of a node that we may use; the caller frees it. NULL: no memory, or nothing to choose. */
static hwloc_bitmap_t set_of_node(const struct topology *topology, int node)
{
    if (node < 0 || node >= topology->nodes || topology->nodes == 1)
        return NULL;
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    for (int cpu = 0; set && cpu < topology->cpu_end; cpu++)
        if (topology->node_of[cpu] == node && hwloc_bitmap_set(set, (unsigned)cpu)) {
            hwloc_bitmap_free(set);
            set = NULL;
        }
    return set;
}

void topology_visit(const struct topology *topology, int node, void (*fn)(void *context),
                    void *context)
{
    hwloc_bitmap_t set = set_of_node(topology, node), kept = set ? hwloc_bitmap_alloc() : NULL;
    bool moved = kept && !hwloc_get_cpubind(topology->hwloc, kept, HWLOC_CPUBIND_THREAD) &&
                 !hwloc_bitmap_isincluded(kept, set) &&
                 !hwloc_set_cpubind(topology->hwloc, set, HWLOC_CPUBIND_THREAD);
    fn(context);
    if (moved)
        hwloc_set_cpubind(topology->hwloc, kept, HWLOC_CPUBIND_THREAD);
    hwloc_bitmap_free(kept);
    hwloc_bitmap_free(set);
}

/* ---- memory ----------------------------------------------------------------------------- */

struct copying {
    void *to;
    const void *from;
    size_t bytes;
};

static void copy_now(void *context)
{
    const struct copying *copying = context;
    memcpy(copying->to, copying->from, copying->bytes);
}

/* Fresh pages with a policy, first touched from their node: where the system refuses the one (a
 * container without the right to bind memory), the other does it. */
void *topology_copy(const struct topology *topology, int node, const void *from, size_t bytes)
{
    ASSERT(node >= 0 && node < topology->nodes);
    if (!topology->node_objects) {
        void *copy = memory_alloc_aligned(bytes, 1);
        if (copy)
            memcpy(copy, from, bytes);
        return copy;
    }
    hwloc_obj_t object = topology->node_objects[node];
    void *copy = hwloc_alloc_membind(topology->hwloc, bytes, object->nodeset, HWLOC_MEMBIND_BIND,
                                     HWLOC_MEMBIND_BYNODESET);
    struct copying copying = { .to = copy, .from = from, .bytes = bytes };
    if (copy)
        visit(topology, object->cpuset, copy_now, &copying);
    return copy;
}

void topology_copy_free(const struct topology *topology, void *copy, size_t bytes)
{
    if (!copy)
        return;
    if (topology->node_objects)
        hwloc_free(topology->hwloc, copy, bytes);
    else
        memory_free(copy);
}
