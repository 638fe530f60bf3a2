/* The CPU device of training: memory, errors, and the table of its parts. */
#include "compute/cpu/train_cpu.h"

#include <string.h>

#include "base/cpu.h"
#include "base/system.h"
#include "base/thread.h"

/* Everything is done when an op returns; what failed meanwhile is told here. */
static enum akin_status cpu_finish(struct train_device *device, struct akin_error *error)
{
    struct cpu_train *t = cpu_train_of(device);
    enum akin_status status = t->failed.status;
    if (status != AKIN_OK)
        error_set(error, status, "%s", t->failed.message);
    t->failed = (struct akin_error){ .status = AKIN_OK };
    return status;
}

/* bfloat16 needs no instruction for it: without AVX-512 BF16 the same bits come of float32 products
 * of rounded numbers, at a third of the speed of float32. */
static bool cpu_supports(const struct train_device *device, enum train_precision precision)
{
    (void)device;
    return precision == TRAIN_FP32 || precision == TRAIN_BF16;
}

static enum akin_status no_memory(size_t bytes, struct akin_error *error)
{
    struct akin_machine machine;
    system_describe(&machine);
    return error_set(error, AKIN_MEMORY,
                     "memory: %zu bytes were asked for, %llu are free: a smaller batch or model "
                     "needs less",
                     bytes, (unsigned long long)machine.memory_available_bytes);
}

static enum akin_status cpu_allocate(struct train_device *device, size_t bytes, void **memory,
                                     struct akin_error *error)
{
    (void)device;
    void *block = memory_alloc_aligned(bytes ? bytes : 1, 1);
    if (!block)
        return no_memory(bytes, error);
    memset(block, 0, bytes);
    *memory = block;
    return AKIN_OK;
}

static void cpu_release(struct train_device *device, void *memory)
{
    (void)device;
    memory_free(memory);
}

static void cpu_copy(struct train_device *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    memcpy(to, from, bytes);
}

static void cpu_clear(struct train_device *device, void *memory, size_t bytes)
{
    (void)device;
    memset(memory, 0, bytes);
}

static bool make_room(struct arena *arena, size_t bytes)
{
    if (arena->capacity < bytes) {
        arena_deinit(arena);
        if (!arena_init(arena, bytes)) {
            *arena = (struct arena){ 0 };
            return false;
        }
    }
    arena_reset(arena);
    return true;
}

bool train_reserve(struct cpu_train *train, size_t worker_bytes, size_t shared_bytes)
{
    size_t asked = shared_bytes;
    bool done = make_room(&train->shared, shared_bytes);
    for (int w = 0; w < train->worker_count && done; w++) {
        asked = worker_bytes;
        done = make_room(&train->workers[w].scratch, worker_bytes);
    }
    if (!done && train->failed.status == AKIN_OK)
        no_memory(asked, &train->failed);
    return done;
}

static void cpu_destroy(struct train_device **device)
{
    struct cpu_train *t = *device ? cpu_train_of(*device) : NULL;
    if (t) {
        for (int w = 0; t->workers && w < t->worker_count; w++)
            arena_deinit(&t->workers[w].scratch);
        arena_deinit(&t->shared);
        memory_free(t->workers);
        memory_free(t);
    }
    *device = NULL;
}

static const struct train_ops cpu_ops = {
    .name = "cpu",
    .slice_samples = 8,
    .supports = cpu_supports,
    .allocate = cpu_allocate,
    .release = cpu_release,
    .upload = cpu_copy,
    .download = cpu_copy,
    .clear = cpu_clear,
    .add = cpu_train_add,
    .finish = cpu_finish,
    .linear_prepare = cpu_linear_prepare,
    .linear_forget = cpu_linear_forget,
    .embed_forward = cpu_embed_forward,
    .embed_backward = cpu_embed_backward,
    .attention_saved_bytes = cpu_attention_saved_bytes,
    .attention_forward = cpu_attention_forward,
    .attention_backward = cpu_attention_backward,
    .feed_forward_saved_bytes = cpu_feed_forward_saved_bytes,
    .feed_forward_forward = cpu_feed_forward_forward,
    .feed_forward_backward = cpu_feed_forward_backward,
    .norm_forward = cpu_norm_forward,
    .norm_backward = cpu_norm_backward,
    .cross_entropy = cpu_cross_entropy,
    .check_finite = cpu_check_finite,
    .update = cpu_update,
    .destroy = cpu_destroy,
};

enum akin_status cpu_train_create(unsigned cpu_flags, struct thread_pool *pool,
                                  enum train_precision precision, struct train_device **device,
                                  struct akin_error *error)
{
    if (!cpu_supports(NULL, precision))
        return error_set(error, AKIN_UNSUPPORTED,
                         "precision: the CPU trains in fp32 and bf16, not in fp16");
    struct cpu_train *t = memory_alloc(1, sizeof *t);
    int count = thread_pool_size(pool);
    struct train_worker *workers = memory_alloc((size_t)count, sizeof *workers);
    if (!t || !workers) {
        memory_free(workers);
        memory_free(t);
        return error_memory(error);
    }
    t->base.ops = &cpu_ops;
    t->pool = pool;
    t->precision = precision;
    t->flags = cpu_flags;
    t->workers = workers;
    t->worker_count = count;
    for (int w = 0; w < count; w++)
        workers[w].train = t;
    kernels_select(&t->kernels, cpu_flags);
    train_kernels_select(&t->products, cpu_flags);
    train_rows_select(&t->rows, cpu_flags);
    *device = &t->base;
    return AKIN_OK;
}
