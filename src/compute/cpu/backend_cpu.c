/* The CPU behind seam 1: the table of operations, lanes and their memory. A lane is one thread's
 * scratch, because the encoder runs a lane on each thread; for a single text a lane may become a
 * team, and then its larger operations are shared. */
#include "compute/cpu/backend_cpu.h"

#include <string.h>

#include "base/cpu.h"
#include "base/limits.h"
#include "base/thread.h"
#include "base/topology.h"
#include "compute/cpu/half.h"

/* ---- lanes ------------------------------------------------------------------------------ */

enum { LANE_TENSORS = 256 };    /* each may lose up to 64 bytes to alignment */

static void cpu_lane_destroy(struct lane **lane)
{
    if (!*lane)
        return;
    arena_deinit(&(*lane)->tensors);
    for (int i = 0; (*lane)->members && i < thread_pool_size((*lane)->backend->pool); i++)
        memory_free((*lane)->members[i]);
    memory_free((*lane)->members);
    memory_free((*lane)->attend);
    memory_free((*lane)->row);
    memory_free((*lane)->narrow.values);
    memory_free((*lane)->narrow_wide.values);
    memory_free(*lane);
    *lane = NULL;
}

static enum akin_status cpu_lane_create(struct backend *backend, size_t float_count,
                                        struct lane **lane, struct akin_error *error)
{
    struct cpu_backend *cpu = (struct cpu_backend *)backend;
    struct lane *l = memory_alloc(1, sizeof *l);
    size_t bytes;
    if (!l)
        return error_memory(error);
    l->backend = cpu;
    l->row = memory_alloc_aligned(DIMENSION_MAX, sizeof *l->row);
    l->narrow.values = memory_alloc_aligned(NARROW_BYTES, 1);
    l->narrow_wide.values = memory_alloc_aligned(NARROW_BYTES, 1);
    l->attend = memory_alloc_aligned(1, sizeof *l->attend);
    if (!l->row || !l->narrow.values || !l->narrow_wide.values || !l->attend ||
        !size_mul(float_count, sizeof(float), &bytes) ||
        !size_add(bytes, (size_t)LANE_TENSORS * 64, &bytes) || !arena_init(&l->tensors, bytes)) {
        cpu_lane_destroy(&l);
        return error_memory(error);
    }
    *lane = l;
    return AKIN_OK;
}

/* Those that exist already, after memory ran out at an earlier attempt, stay. */
static bool make_members(struct lane *lane)
{
    int size = thread_pool_size(lane->backend->pool);
    if (!lane->members)
        lane->members = memory_alloc((size_t)size, sizeof *lane->members);
    if (!lane->members)
        return false;
    for (int i = 1; i < size; i++) {
        if (!lane->members[i])
            lane->members[i] = memory_alloc_aligned(1, sizeof **lane->members);
        if (!lane->members[i])
            return false;
    }
    return true;
}

static bool cpu_lane_team(struct lane *lane, bool together)
{
    struct thread_pool *pool = lane->backend->pool;
    int size = thread_pool_size(pool);
    lane->team = NULL;
    if (together && size > 1 && size <= TEAM_THREADS_MAX && make_members(lane))
        lane->team = pool;
    return lane->team != NULL;
}

/* More pieces than threads, handed out as threads get free: one that the system took away for a
 * while holds up one piece and not its whole share. */
enum { PIECES_PER_THREAD = 3 };

struct share {
    void (*fn)(void *context, size_t begin, size_t end, int worker);
    void *context;
    size_t count, pieces;
};

static void share_piece(void *context, size_t piece, int worker)
{
    const struct share *s = context;
    s->fn(s->context, s->count * piece / s->pieces, s->count * (piece + 1) / s->pieces, worker);
}

void lane_share(const struct lane *lane, size_t count,
                void (*fn)(void *context, size_t begin, size_t end, int worker), void *context)
{
    if (!lane->team) {
        fn(context, 0, count, 0);
        return;
    }
    struct share share = { .fn = fn, .context = context, .count = count,
                           .pieces = PIECES_PER_THREAD * (size_t)thread_pool_size(lane->team) };
    if (share.pieces > count)
        share.pieces = count;
    thread_pool_each(lane->team, share.pieces, share_piece, &share);
}

static void cpu_lane_reset(struct lane *lane)
{
    if (lane->backend->nodes > 1)
        lane->node = topology_node_here(lane->backend->topology);
    arena_reset(&lane->tensors);
}

static struct tensor cpu_tensor_take(struct lane *lane, size_t rows, size_t cols)
{
    struct tensor tensor = { .rows = rows, .cols = cols };
    size_t count;
    if (size_mul(rows, cols, &count))
        tensor.data = arena_alloc(&lane->tensors, count, sizeof *tensor.data);
    return tensor;
}

static void cpu_download(struct lane *lane, const struct tensor *from, float *to)
{
    (void)lane;
    memcpy(to, from->data, from->rows * from->cols * sizeof *to);
}

/* ---- weights, on every node ------------------------------------------------------------- */

static enum akin_status create_linear(struct backend *backend, const struct host_matrix *weight,
                                      const float *bias, const float *equalizer,
                                      enum compute_precision precision, struct linear **linear,
                                      struct akin_error *error)
{
    struct linear *l = NULL;
    TRY(cpu_linear_create(backend, weight, bias, equalizer, precision, &l, error));
    enum akin_status status = cpu_replicas_create((struct cpu_backend *)backend, l, error);
    if (status == AKIN_OK)
        *linear = l;
    else
        cpu_linear_destroy(&l);
    return status;
}

static void destroy_linear(struct linear **linear)
{
    if (*linear)
        cpu_replicas_destroy(*linear);
    cpu_linear_destroy(linear);
}

static size_t linear_bytes(const struct linear *linear)
{
    return cpu_linear_bytes(linear) + cpu_replicas_bytes(linear);
}

static void linear_here(struct lane *lane, struct tensor *out, const struct tensor *x,
                        const struct linear *weights, enum activation activation)
{
    cpu_linear(lane, out, x, cpu_replica(weights, lane->node), activation);
}

static void feed_forward_here(struct lane *lane, struct tensor *out, const struct tensor *x,
                              struct tensor *wide, const struct linear *up,
                              const struct linear *down, enum activation activation)
{
    cpu_feed_forward(lane, out, x, wide, cpu_replica(up, lane->node),
                     cpu_replica(down, lane->node), activation);
}

/* ---- the backend ------------------------------------------------------------------------ */

static bool cpu_supports(const struct backend *backend, enum compute_precision precision)
{
    unsigned flags = ((const struct cpu_backend *)backend)->flags;
    return precision == COMPUTE_FP32 || precision == COMPUTE_INT8 ||
           (precision == COMPUTE_BF16 && flags & CPU_AVX512 && flags & CPU_AVX512_BF16);
}

static const struct backend_ops cpu_ops = {
    .name = "cpu",
    .supports = cpu_supports,
    .linear_create = create_linear,
    .linear_destroy = destroy_linear,
    .linear_bytes = linear_bytes,
    .lane_create = cpu_lane_create,
    .lane_destroy = cpu_lane_destroy,
    .lane_reset = cpu_lane_reset,
    .lane_team = cpu_lane_team,
    .tensor_take = cpu_tensor_take,
    .download = cpu_download,
    .embed_rows = cpu_embed_rows,
    .linear = linear_here,
    .feed_forward = feed_forward_here,
    .residual_layernorm = cpu_residual_layernorm,
    .attention = cpu_attention,
    .pool = cpu_pool,
    .normalize = cpu_normalize,
};

enum akin_status cpu_backend_create(unsigned cpu_flags, struct thread_pool *pool,
                                    struct backend **backend, struct akin_error *error)
{
    struct cpu_backend *cpu = memory_alloc(1, sizeof *cpu);
    if (!cpu)
        return error_memory(error);
    cpu->base.ops = &cpu_ops;
    cpu->pool = pool;
    cpu->flags = cpu_flags;
    cpu->topology = thread_pool_topology(pool);
    cpu->nodes = cpu->topology && thread_pool_size(pool) > 1 ? topology_nodes(cpu->topology) : 1;
    kernels_select(&cpu->kernels, cpu_flags);
    *backend = &cpu->base;
    return AKIN_OK;
}

void cpu_backend_destroy(struct backend **backend)
{
    memory_free(*backend);
    *backend = NULL;
}

struct thread_pool *cpu_threads(const struct backend *backend)
{
    return ((const struct cpu_backend *)backend)->pool;
}

unsigned cpu_flags(const struct backend *backend)
{
    return ((const struct cpu_backend *)backend)->flags;
}

const struct kernels *cpu_kernels(const struct backend *backend)
{
    return &((const struct cpu_backend *)backend)->kernels;
}
