/* Weights on every NUMA node: a thread that streams panels from another node's memory waits for the
 * link between them. Only the panels are copied; scales and biases are small and stay in the
 * caches. What a lane reads is a matter of where its thread is, never of what it computes: the
 * copies are equal. The embedding tables are not copied, because a token reads one row of them. */
#include "base/limits.h"
#include "base/topology.h"
#include "compute/cpu/backend_cpu.h"

struct replicas {
    const struct topology *topology;
    size_t panel_bytes;
    int nodes;
    struct linear at[];         /* [nodes]: as the linear, but for the panels */
};

static size_t panel_bytes(const struct linear *l)
{
    size_t each = l->precision == COMPUTE_FP32 ? 4 : l->precision == COMPUTE_BF16 ? 2 : 1;
    return l->padded * l->depth * each;
}

enum akin_status cpu_replicas_create(const struct cpu_backend *backend, struct linear *linear,
                                     struct akin_error *error)
{
    if (backend->nodes <= 1)
        return AKIN_OK;
    size_t nodes = (size_t)backend->nodes;
    struct replicas *r = memory_alloc(1, sizeof *r + nodes * sizeof *r->at);
    if (!r)
        return error_memory(error);
    *r = (struct replicas){ .topology = backend->topology, .panel_bytes = panel_bytes(linear) };
    enum akin_status status = AKIN_OK;
    for (; status == AKIN_OK && r->nodes < backend->nodes; r->nodes += status == AKIN_OK) {
        struct linear *copy = &r->at[r->nodes];
        *copy = *linear;
        copy->panels = topology_copy(r->topology, r->nodes, linear->panels, r->panel_bytes);
        if (!copy->panels)
            status = error_memory(error);
    }
    linear->replicas = r;
    if (status != AKIN_OK) {
        cpu_replicas_destroy(linear);
        return status;
    }
    memory_free(linear->panels);        /* on whichever node it was packed */
    linear->panels = NULL;
    return AKIN_OK;
}

void cpu_replicas_destroy(struct linear *linear)
{
    struct replicas *r = linear->replicas;
    for (int i = 0; r && i < r->nodes; i++)
        topology_copy_free(r->topology, r->at[i].panels, r->panel_bytes);
    memory_free(r);
    linear->replicas = NULL;
}

const struct linear *cpu_replica(const struct linear *linear, int node)
{
    return linear->replicas ? &linear->replicas->at[node] : linear;
}

size_t cpu_replicas_bytes(const struct linear *linear)
{
    const struct replicas *r = linear->replicas;
    return r ? ((size_t)r->nodes - 1) * r->panel_bytes + (size_t)r->nodes * sizeof *linear : 0;
}
