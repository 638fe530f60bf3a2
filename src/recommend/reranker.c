/* Where the parameters lie, and what a request does. */
#include "recommend/reranker.h"

#include <math.h>
#include <string.h>

#include "base/thread.h"
#include "compute/cpu/kernels.h"

enum { ALIGN = 16, MATRICES = 3 };

static const float norm_epsilon = 1e-5f;

const char *reranker_tensor_name(enum reranker_tensor tensor)
{
    static const char *const names[RERANKER_TENSORS] = {
        "items.weight", "wanted.weight", "positions.weight", "items.bias",
        "attention.in_proj_weight", "attention.in_proj_bias", "attention.out_proj.weight",
        "attention.out_proj.bias", "norm1.weight", "norm1.bias", "linear1.weight", "linear1.bias",
        "linear2.weight", "linear2.bias", "norm2.weight", "norm2.bias"
    };
    return names[tensor];
}

enum akin_status reranker_lay_out(size_t items, size_t dim, size_t wanted,
                                  struct reranker_layout *layout, struct akin_error *error)
{
    if (!dim || dim % RERANKER_HEADS || dim > RERANKER_DIM_MAX)
        return error_set(error, AKIN_ARGUMENT,
                         "vectors of %zu numbers; a reranker has %d heads and up to %d numbers",
                         dim, RERANKER_HEADS, RERANKER_DIM_MAX);
    if (!items || items > INT32_MAX / RERANKER_DIM_MAX || wanted > RERANKER_WANTED_MAX)
        return error_set(error, AKIN_LIMIT, "a reranker of %zu items and %zu wishes is too large",
                         items, wanted);
    const size_t shapes[RERANKER_TENSORS][2] = {
        { items + 1, dim }, { wanted + 1, dim }, { RERANKER_LENGTH, dim }, { items, 0 },
        { 3 * dim, dim }, { 3 * dim, 0 }, { dim, dim }, { dim, 0 }, { dim, 0 }, { dim, 0 },
        { dim, dim }, { dim, 0 }, { dim, dim }, { dim, 0 }, { dim, 0 }, { dim, 0 }
    };
    *layout = (struct reranker_layout){ .items = items, .dim = dim, .wanted = wanted };
    for (int t = 0; t < RERANKER_TENSORS; t++) {
        size_t count = shapes[t][0] * (shapes[t][1] ? shapes[t][1] : 1);
        layout->at[t] = (struct reranker_place){ layout->values, shapes[t][0], shapes[t][1] };
        layout->values += (count + ALIGN - 1) / ALIGN * ALIGN;
    }
    return AKIN_OK;
}

enum akin_status reranker_init(const struct reranker_layout *layout, struct reranker *reranker,
                               struct akin_error *error)
{
    *reranker = (struct reranker){ .layout = *layout };
    reranker->values = memory_alloc_aligned(layout->values, sizeof(float));
    if (!reranker->values)
        return error_memory(error);
    memset(reranker->values, 0, layout->values * sizeof(float));
    return AKIN_OK;
}

void reranker_deinit(struct reranker *reranker)
{
    void *blocks[] = { reranker->values, reranker->item_parts, reranker->wanted_parts,
                       reranker->position_parts, reranker->rows };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        memory_free(blocks[i]);
    *reranker = (struct reranker){ 0 };
}

/* ---- made ahead ------------------------------------------------------------------------- */

struct deriving {
    const struct reranker *reranker;
    const struct kernels *kernels;
    const float **rows;         /* of IN [3 dim] */
};

static void project(const struct deriving *d, enum reranker_tensor from, size_t row, float *to)
{
    size_t dim = d->reranker->layout.dim;
    d->kernels->score_dot_f32(to, reranker_at(d->reranker, from) + row * dim, 1, d->rows, 3 * dim,
                              dim);
}

static void project_items(void *context, size_t begin, size_t end, int worker)
{
    const struct deriving *d = context;
    (void)worker;
    for (size_t row = begin; row < end; row++)
        project(d, RERANKER_ITEMS, row,
                d->reranker->item_parts + row * 3 * d->reranker->layout.dim);
}

static void derive_small(const struct deriving *d)
{
    const struct reranker *r = d->reranker;
    size_t width = 3 * r->layout.dim;
    for (size_t row = 0; row <= r->layout.wanted; row++)
        project(d, RERANKER_WANTED, row, r->wanted_parts + row * width);
    for (size_t row = 0; row < RERANKER_LENGTH; row++) {
        project(d, RERANKER_POSITIONS, row, r->position_parts + row * width);
        d->kernels->add_f32(r->position_parts + row * width, reranker_at(r, RERANKER_IN_BIAS),
                            width);
    }
}

enum akin_status reranker_derive(const struct kernels *kernels, struct thread_pool *pool,
                                 struct reranker *r, struct akin_error *error)
{
    static const enum reranker_tensor matrices[MATRICES] = { RERANKER_OUT, RERANKER_UP,
                                                             RERANKER_DOWN };
    size_t dim = r->layout.dim, items = r->layout.items, width = 3 * dim;
    struct deriving d = { r, kernels, memory_alloc(width, sizeof *d.rows) };
    if (!r->rows) {
        r->item_parts = memory_alloc_aligned((items + 1) * width, sizeof(float));
        r->wanted_parts = memory_alloc_aligned((r->layout.wanted + 1) * width, sizeof(float));
        r->position_parts = memory_alloc_aligned(RERANKER_LENGTH * width, sizeof(float));
        r->rows = memory_alloc(width + items, sizeof *r->rows);
    }
    if (!d.rows || !r->item_parts || !r->wanted_parts || !r->position_parts || !r->rows) {
        memory_free(d.rows);
        return error_memory(error);
    }
    for (size_t m = 0; m < MATRICES; m++)
        for (size_t row = 0; row < dim; row++)
            r->rows[m * dim + row] = reranker_at(r, matrices[m]) + row * dim;
    for (size_t i = 0; i < items; i++)
        r->rows[width + i] = reranker_at(r, RERANKER_ITEMS) + i * dim;
    for (size_t row = 0; row < width; row++)
        d.rows[row] = reranker_at(r, RERANKER_IN) + row * dim;
    derive_small(&d);
    if (pool)
        thread_pool_run(pool, items + 1, project_items, &d);
    else
        project_items(&d, 0, items + 1, 0);
    memory_free(d.rows);
    return AKIN_OK;
}

/* ---- a request -------------------------------------------------------------------------- */

enum akin_status reranker_scratch_init(const struct reranker *reranker,
                                       struct reranker_scratch *s, struct akin_error *error)
{
    size_t dim = reranker->layout.dim;
    *s = (struct reranker_scratch){ .block = memory_alloc_aligned(
        RERANKER_LENGTH * 3 * dim + 3 * dim + RERANKER_LENGTH, sizeof(float)) };
    if (!s->block)
        return error_memory(error);
    s->parts = s->block;
    s->state = s->parts + RERANKER_LENGTH * 3 * dim;
    s->wide = s->state + dim;
    s->sum = s->wide + dim;
    s->weights = s->sum + dim;
    return AKIN_OK;
}

void reranker_scratch_deinit(struct reranker_scratch *scratch)
{
    memory_free(scratch->block);
    *scratch = (struct reranker_scratch){ 0 };
}

static void add_wanted(const struct reranker *r, const struct kernels *kernels,
                       const float *wanted, const float *table, size_t width, float *to)
{
    if (!wanted)
        kernels->add_f32(to, table, width);
    for (size_t w = 0; wanted && w < r->layout.wanted; w++)
        if (wanted[w] != 0)
            kernels->add_scaled_f32(to, table + (w + 1) * width, wanted[w], width);
}

/* q, k and v of every event; what is wanted belongs to the newest, nothing to those before. */
static void gather(const struct reranker *r, const struct kernels *kernels,
                   const uint32_t *history, size_t count, const float *wanted,
                   struct reranker_scratch *s)
{
    size_t dim = r->layout.dim, width = 3 * dim;
    for (size_t e = 0; e < count; e++) {
        float *to = s->parts + e * width;
        memcpy(to, r->item_parts + history[e] * width, width * sizeof *to);
        kernels->add_f32(to, r->position_parts + e * width, width);
        add_wanted(r, kernels, e + 1 < count ? NULL : wanted, r->wanted_parts, width, to);
    }
    memcpy(s->state, reranker_at(r, RERANKER_ITEMS) + history[count - 1] * dim,
           dim * sizeof(float));
    kernels->add_f32(s->state, reranker_at(r, RERANKER_POSITIONS) + (count - 1) * dim, dim);
    add_wanted(r, kernels, wanted, reranker_at(r, RERANKER_WANTED), dim, s->state);
}

/* sum [dim] = the heads' results */
static void attend(const struct reranker *r, const struct kernels *kernels, size_t count,
                   struct reranker_scratch *s)
{
    size_t dim = r->layout.dim, head = dim / RERANKER_HEADS, width = 3 * dim;
    const float *keys[RERANKER_LENGTH], *query = s->parts + (count - 1) * width;
    float scale = 1 / sqrtf((float)head);
    memset(s->sum, 0, dim * sizeof *s->sum);
    for (size_t h = 0; h < RERANKER_HEADS; h++) {
        float top = -INFINITY;
        for (size_t e = 0; e < count; e++)
            keys[e] = s->parts + e * width + dim + h * head;
        kernels->score_dot_f32(s->weights, query + h * head, 1, keys, count, head);
        kernels->scale_f32(s->weights, scale, count);
        for (size_t e = 0; e < count; e++)
            top = s->weights[e] > top ? s->weights[e] : top;
        float total = kernels->exp_sum_f32(s->weights, top, count);
        for (size_t e = 0; e < count; e++)
            kernels->add_scaled_f32(s->sum + h * head, keys[e] + dim, s->weights[e] / total, head);
    }
}

/* to [dim] = matrix number m times x, and its bias */
static void multiply(const struct reranker *r, const struct kernels *kernels, size_t m,
                     enum reranker_tensor bias, const float *x, float *to)
{
    size_t dim = r->layout.dim;
    kernels->score_dot_f32(to, x, 1, r->rows + m * dim, dim, dim);
    kernels->add_f32(to, reranker_at(r, bias), dim);
}

void reranker_encode(const struct reranker *r, const struct kernels *kernels,
                     const uint32_t *history, size_t count, const float *wanted,
                     struct reranker_scratch *s)
{
    size_t dim = r->layout.dim, used = count < RERANKER_LENGTH ? count : RERANKER_LENGTH;
    ASSERT(count > 0);
    gather(r, kernels, history + (count - used), used, wanted, s);
    attend(r, kernels, used, s);
    multiply(r, kernels, 0, RERANKER_OUT_BIAS, s->sum, s->wide);
    kernels->layernorm_f32(s->state, s->state, s->wide, reranker_at(r, RERANKER_GAIN1),
                           reranker_at(r, RERANKER_OFFSET1), norm_epsilon, dim);
    multiply(r, kernels, 1, RERANKER_UP_BIAS, s->state, s->wide);
    for (size_t d = 0; d < dim; d++)
        s->wide[d] = s->wide[d] > 0 ? s->wide[d] : 0;
    multiply(r, kernels, 2, RERANKER_DOWN_BIAS, s->wide, s->sum);
    kernels->layernorm_f32(s->state, s->state, s->sum, reranker_at(r, RERANKER_GAIN2),
                           reranker_at(r, RERANKER_OFFSET2), norm_epsilon, dim);
}

void reranker_logits(const struct reranker *r, const struct kernels *kernels, const float *state,
                     const uint32_t *items, size_t count, float *logits)
{
    size_t dim = r->layout.dim;
    const float **rows = r->rows + MATRICES * dim, *bias = reranker_at(r, RERANKER_BIAS);
    if (!items) {
        kernels->score_dot_f32(logits, state, 1, rows, count, dim);
        kernels->add_f32(logits, bias, count);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        kernels->score_dot_f32(logits + i, state, 1, rows + items[i], 1, dim);
        logits[i] += bias[items[i]];
    }
}
