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
        "items.weight", "wanted.weight", "positions.weight", "items.bias", "match.weight",
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
    if (!items || items > INT32_MAX / RERANKER_DIM_MAX || wanted > SITUATION_TERMS_MAX)
        return error_set(error, AKIN_LIMIT, "a reranker of %zu items and %zu wishes is too large",
                         items, wanted);
    const size_t shapes[RERANKER_TENSORS][2] = {
        { items + 1, dim }, { wanted + 1, dim }, { RERANKER_LENGTH, dim }, { items, 0 },
        { items, wanted },
        { 3 * dim, dim }, { 3 * dim, 0 }, { dim, dim }, { dim, 0 }, { dim, 0 }, { dim, 0 },
        { dim, dim }, { dim, 0 }, { dim, dim }, { dim, 0 }, { dim, 0 }, { dim, 0 }
    };
    *layout = (struct reranker_layout){ .items = items, .dim = dim, .wanted = wanted };
    for (int t = 0; t < RERANKER_TENSORS; t++) {
        size_t count = shapes[t][0] * (shapes[t][1] ? shapes[t][1] : 1);
        count = t == RERANKER_MATCH ? items * wanted : count;
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
    reranker->names = memory_alloc(layout->wanted + 1, sizeof *reranker->names);
    if (!reranker->values || !reranker->names)
        return error_memory(error);
    memset(reranker->values, 0, layout->values * sizeof(float));
    return AKIN_OK;
}

void reranker_deinit(struct reranker *reranker)
{
    void *blocks[] = { reranker->values, reranker->names, reranker->item_parts,
                       reranker->wanted_parts, reranker->position_parts, reranker->rows };
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

/* to [outputs]: the first of q, k and v */
static void project(const struct deriving *d, enum reranker_tensor from, size_t row,
                    size_t outputs, float *to)
{
    size_t dim = d->reranker->layout.dim;
    d->kernels->score_dot_f32(to, reranker_at(d->reranker, from) + row * dim, 1, d->rows, outputs,
                              dim);
}

static void project_items(void *context, size_t begin, size_t end, int worker)
{
    const struct deriving *d = context;
    (void)worker;
    size_t width = 3 * d->reranker->layout.dim;
    for (size_t row = begin; row < end; row++)
        project(d, RERANKER_ITEMS, row, width, d->reranker->item_parts + row * width);
}

static void derive_small(const struct deriving *d)
{
    const struct reranker *r = d->reranker;
    size_t width = 3 * r->layout.dim;
    for (size_t row = 0; row <= r->layout.wanted; row++)
        project(d, RERANKER_WANTED, row, r->layout.dim, r->wanted_parts + row * r->layout.dim);
    for (size_t row = 0; row < RERANKER_LENGTH; row++) {
        project(d, RERANKER_POSITIONS, row, width, r->position_parts + row * width);
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
        r->wanted_parts = memory_alloc_aligned((r->layout.wanted + 1) * dim, sizeof(float));
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

enum { ASKING_MAX = 2 };        /* with one past: without and with a situation */

enum akin_status reranker_scratch_init(const struct reranker *reranker,
                                       struct reranker_scratch *s, struct akin_error *error)
{
    size_t dim = reranker->layout.dim;
    *s = (struct reranker_scratch){ .block = memory_alloc_aligned(
        RERANKER_LENGTH * 3 * dim + 4 * ASKING_MAX * dim + RERANKER_LENGTH, sizeof(float)) };
    if (!s->block)
        return error_memory(error);
    s->parts = s->block;
    s->state = s->parts + RERANKER_LENGTH * 3 * dim;
    s->wide = s->state + ASKING_MAX * dim;
    s->sum = s->wide + ASKING_MAX * dim;
    s->query = s->sum + ASKING_MAX * dim;
    s->weights = s->query + ASKING_MAX * dim;
    return AKIN_OK;
}

void reranker_scratch_deinit(struct reranker_scratch *scratch)
{
    memory_free(scratch->block);
    *scratch = (struct reranker_scratch){ 0 };
}

/* One past, and who asks [asking], each with what is wanted or NULL. */
struct asking {
    const struct reranker *reranker;
    const struct kernels *kernels;
    const uint32_t *history;
    size_t count;               /* 1 to LENGTH */
    const float *wanted[ASKING_MAX];
    size_t asking;
    struct reranker_scratch *s;
};

/* to [dim] += rows of C, or of their q */
static void add_wanted(const struct asking *a, const float *wanted, const float *table, float *to)
{
    size_t dim = a->reranker->layout.dim;
    if (!wanted)
        a->kernels->add_f32(to, table, dim);
    for (size_t w = 0; wanted && w < a->reranker->layout.wanted; w++)
        if (wanted[w] != 0)
            a->kernels->add_scaled_f32(to, table + (w + 1) * dim, wanted[w], dim);
}

/* k and v of every event, to parts [count][3 dim]; of the newest q and the state of who asks: what
 * is wanted belongs to it alone. */
static void gather(const struct asking *a)
{
    const struct reranker *r = a->reranker;
    struct reranker_scratch *s = a->s;
    size_t dim = r->layout.dim, width = 3 * dim, newest = a->count - 1;
    for (size_t e = 0; e < a->count; e++) {
        size_t first = e < newest ? dim : 0;
        float *to = s->parts + e * width + first;
        memcpy(to, r->item_parts + a->history[e] * width + first, (width - first) * sizeof *to);
        a->kernels->add_f32(to, r->position_parts + e * width + first, width - first);
    }
    for (size_t i = 0; i < a->asking; i++) {
        float *query = s->query + i * dim, *state = s->state + i * dim;
        memcpy(query, s->parts + newest * width, dim * sizeof *query);
        add_wanted(a, a->wanted[i], r->wanted_parts, query);
        memcpy(state, reranker_at(r, RERANKER_ITEMS) + a->history[newest] * dim,
               dim * sizeof *state);
        a->kernels->add_f32(state, reranker_at(r, RERANKER_POSITIONS) + newest * dim, dim);
        add_wanted(a, a->wanted[i], reranker_at(r, RERANKER_WANTED), state);
    }
}

/* sum [asking][dim] = the heads' results */
static void attend(const struct asking *a)
{
    struct reranker_scratch *s = a->s;
    const struct kernels *k = a->kernels;
    size_t dim = a->reranker->layout.dim, head = dim / RERANKER_HEADS, width = 3 * dim;
    const float *keys[RERANKER_LENGTH];
    float scale = 1 / sqrtf((float)head);
    memset(s->sum, 0, a->asking * dim * sizeof *s->sum);
    for (size_t h = 0; h < RERANKER_HEADS; h++) {
        for (size_t e = 0; e < a->count; e++)
            keys[e] = s->parts + e * width + dim + h * head;
        for (size_t i = 0; i < a->asking; i++) {
            float top = -INFINITY, *sum = s->sum + i * dim + h * head;
            k->score_dot_f32(s->weights, s->query + i * dim + h * head, 1, keys, a->count, head);
            k->scale_f32(s->weights, scale, a->count);
            for (size_t e = 0; e < a->count; e++)
                top = s->weights[e] > top ? s->weights[e] : top;
            float total = k->exp_sum_f32(s->weights, top, a->count);
            for (size_t e = 0; e < a->count; e++)
                k->add_scaled_f32(sum, keys[e] + dim, s->weights[e] / total, head);
        }
    }
}

/* to [asking][dim] = matrix number m times x, and its bias */
static void multiply(const struct asking *a, size_t m, enum reranker_tensor bias, const float *x,
                     float *to)
{
    size_t dim = a->reranker->layout.dim;
    a->kernels->score_dot_f32(to, x, a->asking, a->reranker->rows + m * dim, dim, dim);
    for (size_t i = 0; i < a->asking; i++)
        a->kernels->add_f32(to + i * dim, reranker_at(a->reranker, bias), dim);
}

/* state = norm(state + x) */
static void add_and_norm(const struct asking *a, const float *x, enum reranker_tensor gain,
                         enum reranker_tensor offset)
{
    size_t dim = a->reranker->layout.dim;
    for (size_t i = 0; i < a->asking; i++)
        a->kernels->layernorm_f32(a->s->state + i * dim, a->s->state + i * dim, x + i * dim,
                                  reranker_at(a->reranker, gain),
                                  reranker_at(a->reranker, offset), norm_epsilon, dim);
}

/* NULL where nothing is wanted, as training has it. */
static const float *told(const struct reranker *r, const float *wanted)
{
    for (size_t w = 0; wanted && w < r->layout.wanted; w++)
        if (wanted[w] != 0)
            return wanted;
    return NULL;
}

static void encode(struct asking *a)
{
    struct reranker_scratch *s = a->s;
    ASSERT(a->count > 0);
    for (size_t i = 0; i < a->asking; i++)
        a->wanted[i] = told(a->reranker, a->wanted[i]);
    if (a->count > RERANKER_LENGTH) {
        a->history += a->count - RERANKER_LENGTH;
        a->count = RERANKER_LENGTH;
    }
    gather(a);
    attend(a);
    multiply(a, 0, RERANKER_OUT_BIAS, s->sum, s->wide);
    add_and_norm(a, s->wide, RERANKER_GAIN1, RERANKER_OFFSET1);
    multiply(a, 1, RERANKER_UP_BIAS, s->state, s->wide);
    for (size_t d = 0; d < a->asking * a->reranker->layout.dim; d++)
        s->wide[d] = s->wide[d] > 0 ? s->wide[d] : 0;
    multiply(a, 2, RERANKER_DOWN_BIAS, s->wide, s->sum);
    add_and_norm(a, s->sum, RERANKER_GAIN2, RERANKER_OFFSET2);
}

void reranker_encode(const struct reranker *r, const struct kernels *kernels,
                     const uint32_t *history, size_t count, const float *wanted,
                     struct reranker_scratch *s)
{
    struct asking a = { r, kernels, history, count, { wanted }, 1, s };
    encode(&a);
}

/* logits [count] += D wanted */
static void add_matches(const struct reranker *r, const float *wanted, const uint32_t *items,
                        size_t count, float *logits)
{
    const float *match = reranker_at(r, RERANKER_MATCH);
    size_t terms = r->layout.wanted;
    for (size_t w = 0; w < terms; w++)
        for (size_t i = 0; wanted[w] != 0 && i < count; i++)
            logits[i] += wanted[w] * match[(items ? items[i] : i) * terms + w];
}

/* For states [askers][dim], askers one or two: logits[a][count] but for D. */
static void score_items(const struct reranker *r, const struct kernels *kernels,
                        const float *states, size_t askers, const uint32_t *items, size_t count,
                        float *const logits[ASKING_MAX])
{
    enum { AT_ONCE = 32, LINE = 16 };
    size_t dim = r->layout.dim;
    const float **rows = r->rows + MATRICES * dim, *bias = reranker_at(r, RERANKER_BIAS);
    for (size_t i = 0; i < count; i += AT_ONCE) {
        const float *own[AT_ONCE];
        float products[ASKING_MAX * AT_ONCE];
        size_t live = count - i < AT_ONCE ? count - i : AT_ONCE;
        for (size_t j = 0; j < live; j++) {         /* rows are all over memory */
            own[j] = rows[items[i + j]];
            for (size_t at = 0; at < dim; at += LINE)
                __builtin_prefetch(own[j] + at);
        }
        kernels->score_dot_f32(products, states, askers, own, live, dim);
        for (size_t a = 0; a < askers; a++)
            for (size_t j = 0; j < live; j++)
                logits[a][i + j] = products[a * live + j] + bias[items[i + j]];
    }
}

void reranker_situate(const struct reranker *r, const struct kernels *kernels,
                      const uint32_t *history, size_t count, const float *wanted,
                      const uint32_t *items, size_t item_count, struct reranker_scratch *s,
                      float *plain, float *situated)
{
    struct asking a = { r, kernels, history, count, { NULL, wanted }, ASKING_MAX, s };
    encode(&a);
    score_items(r, kernels, s->state, ASKING_MAX, items, item_count,
                (float *const[ASKING_MAX]){ plain, situated });
    add_matches(r, wanted, items, item_count, situated);
}

void reranker_logits(const struct reranker *r, const struct kernels *kernels, const float *state,
                     const float *wanted, const uint32_t *items, size_t count, float *logits)
{
    size_t dim = r->layout.dim;
    if (items) {
        score_items(r, kernels, state, 1, items, count, (float *const[ASKING_MAX]){ logits, NULL });
    } else {
        kernels->score_dot_f32(logits, state, 1, r->rows + MATRICES * dim, count, dim);
        kernels->add_f32(logits, reranker_at(r, RERANKER_BIAS), count);
    }
    if (wanted)
        add_matches(r, wanted, items, count, logits);
}
