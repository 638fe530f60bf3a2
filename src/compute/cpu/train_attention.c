/* The attention sublayer of the CPU device of training, self and cross, in phases on the pool:
 * blocks of rows for what is done row by row, (sample, head) for attention itself; or, where there
 * are samples enough for the threads, all phases of one sample after the other, whose tensors then
 * stay in the second-level cache. What is saved:
 * q | k | v, the heads' results and the softmax's moments, and the sum that the norm is taken of;
 * q, k, v and the results in the numbers that products take. */
#include "base/thread.h"
#include "compute/cpu/train_cpu.h"

struct attention_work {
    struct cpu_train *train;
    const struct train_attention *layer;
    const struct train_shape *shape;
    struct dropout weights, sum;        /* of the two sites */
    size_t first_sample;
    size_t dim, head_dim, queries, keys;
    size_t rows, memory_rows;           /* memory_rows: 0 for self-attention */
    const float *x, *memory;
    /* Saved: tensors of operand_stride columns. Self-attention: kv is q. */
    unsigned char *q, *kv, *result;
    float *top, *inverse;               /* [sample][head][query] */
    float *s;                           /* [row][dim] x + drop(out(result)) */
    size_t q_cols, kv_cols, k_at, v_at; /* columns of q and kv, and where k and v begin */
    /* Only forwards, or only backwards */
    float *y, *heads;                   /* heads [row][dim]: results in float32 */
    float *gradient, *memory_gradient;
    unsigned char *sum_gradient;        /* of what is dropped from: an operand [row][dim] */
    float *result_gradient;             /* [row][dim] */
    unsigned char *q_gradient, *kv_gradient;    /* as q and kv */
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t align(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static size_t number_bytes(const struct cpu_train *train)
{
    return train->precision == TRAIN_FP32 ? 4 : 2;
}

/* Some of what a phase goes over: rows of x, or of memory, or pairs of sample and head. */
struct range {
    size_t begin, end;
};

typedef void phase_fn(struct attention_work *w, struct train_worker *worker, struct range range);

/* Sizes, and where in `saved` the parts lie; returns its bytes. */
static size_t lay_out(struct attention_work *w, struct cpu_train *train,
                      const struct train_attention *layer, const struct train_shape *shape,
                      unsigned char *saved)
{
    bool cross = layer->memory.outputs > 0;
    w->train = train;
    w->layer = layer;
    w->shape = shape;
    w->dim = layer->norm.dim;
    w->head_dim = w->dim / layer->heads;
    w->queries = shape->queries;
    w->keys = cross ? shape->keys : shape->queries;
    w->rows = shape->samples * shape->queries;
    w->memory_rows = cross ? shape->samples * shape->keys : 0;
    w->q_cols = cross ? w->dim : 3 * w->dim;
    w->kv_cols = cross ? 2 * w->dim : w->q_cols;
    w->k_at = cross ? 0 : w->dim;
    w->v_at = w->k_at + w->dim;
    size_t parts[] = { operand_bytes(train, w->rows, w->q_cols),
                       operand_bytes(train, w->memory_rows, w->kv_cols),
                       operand_bytes(train, w->rows, w->dim),
                       w->rows * layer->heads * sizeof(float),
                       w->rows * layer->heads * sizeof(float),
                       w->rows * w->dim * sizeof(float) };
    size_t at[7] = { 0 };
    for (size_t i = 0; i < 6; i++)
        at[i + 1] = at[i] + align(parts[i]);
    if (saved) {
        w->q = saved;
        w->kv = cross ? saved + at[1] : w->q;
        w->result = saved + at[2];
        w->top = (float *)(saved + at[3]);
        w->inverse = (float *)(saved + at[4]);
        w->s = (float *)(saved + at[5]);
    }
    return at[6];
}

size_t cpu_attention_saved_bytes(const struct train_device *device,
                                 const struct train_attention *layer,
                                 const struct train_shape *shape)
{
    struct attention_work work = { 0 };
    /* only read */
    return lay_out(&work, cpu_train_of((struct train_device *)device), layer, shape, NULL);
}

static void begin_pass(struct attention_work *w, const struct train_pass *pass)
{
    w->weights = dropout_of(pass, w->layer->site);
    w->sum = dropout_of(pass, w->layer->site + 1);
    w->first_sample = pass->first_sample;
}

/* Scratch of a worker: a number of rows of a product beside what the product takes, or a head. */
static size_t worker_bytes(const struct attention_work *w)
{
    const struct train_attention *l = w->layer;
    const struct train_linear *linears[] = { &l->query, &l->out, &l->memory };
    size_t most = 0, wide = 3 * w->dim, longest = w->queries > w->keys ? w->queries : w->keys;
    for (size_t i = 0; i < (w->memory_rows ? 3 : 2); i++) {
        size_t bytes = product_scratch_bytes(w->train, linears[i]);
        most = bytes > most ? bytes : most;
    }
    most += align(TRAIN_ROWS * wide * sizeof(float));
    size_t head = align(attend_train_scratch_bytes(w->queries, w->keys, w->head_dim)) +
                  3 * align(longest * w->head_dim * sizeof(float));
    return align(TRAIN_ROWS * dropout_blocks(w->dim)) + (head > most ? head : most) + 256;
}

/* ---- forwards --------------------------------------------------------------------------- */

/* to = x weight^T + bias, rounded to what products take */
static void project(struct train_worker *worker, const struct train_linear *linear, const float *x,
                    unsigned char *to, struct range range)
{
    const struct cpu_train *train = worker->train;
    size_t cols = linear->outputs, stride = operand_stride(cols), used = worker->scratch.used;
    float *wide = NULL;
    if (train->precision != TRAIN_FP32)
        wide = arena_alloc(&worker->scratch, TRAIN_ROWS * cols, sizeof *wide);
    for (size_t first = range.begin; first < range.end; first += TRAIN_ROWS) {
        size_t rows = smaller(TRAIN_ROWS, range.end - first);
        struct operand in = { x + first * linear->inputs, linear->inputs, false };
        unsigned char *at = to + first * stride * number_bytes(train);
        product_forward(worker, linear, in, rows, wide ? wide : (float *)at, wide ? cols : stride);
        if (wide)
            operand_store(train, at, wide, cols, rows, cols);
    }
    worker->scratch.used = used;
}

static void project_rows(struct attention_work *w, struct train_worker *worker, struct range range)
{
    project(worker, &w->layer->query, w->x, w->q, range);
}

static void project_memory(struct attention_work *w, struct train_worker *worker,
                           struct range range)
{
    project(worker, &w->layer->memory, w->memory, w->kv, range);
}

/* Column `col` of row `row` of a tensor of `cols` columns. */
static unsigned char *number_at(const struct attention_work *w, unsigned char *tensor, size_t cols,
                                size_t row, size_t col)
{
    return tensor + (row * operand_stride(cols) + col) * number_bytes(w->train);
}

static struct attend_head head_of(const struct attention_work *w, size_t sample, size_t head,
                                  void *scratch)
{
    size_t queries = w->queries, keys = w->keys, col = head * w->head_dim,
           number = sample * w->layer->heads + head,
           whole = w->first_sample * w->layer->heads + number;
    return (struct attend_head){
        .q = number_at(w, w->q, w->q_cols, sample * queries, col),
        .k = number_at(w, w->kv, w->kv_cols, sample * keys, w->k_at + col),
        .v = number_at(w, w->kv, w->kv_cols, sample * keys, w->v_at + col),
        .q_stride = operand_stride(w->q_cols), .kv_stride = operand_stride(w->kv_cols),
        .queries = queries, .keys = keys, .dim = w->head_dim, .causal = w->layer->causal,
        .half = w->train->precision != TRAIN_FP32, .dropout = &w->weights,
        .block = (uint64_t)whole * queries * dropout_blocks(keys),
        .top = w->top + number * queries, .inverse = w->inverse + number * queries,
        .scratch = scratch
    };
}

static void *head_scratch(struct attention_work *w, struct train_worker *worker)
{
    return arena_alloc(&worker->scratch,
                       attend_train_scratch_bytes(w->queries, w->keys, w->head_dim), 1);
}

static void attend_heads(struct attention_work *w, struct train_worker *worker, struct range range)
{
    size_t used = worker->scratch.used, stride = w->heads ? w->dim : operand_stride(w->dim);
    float *out = w->heads ? w->heads : (float *)w->result;
    void *scratch = head_scratch(w, worker);
    for (size_t item = range.begin; item < range.end; item++) {
        size_t sample = item / w->layer->heads, head = item % w->layer->heads;
        struct attend_head h = head_of(w, sample, head, scratch);
        w->train->rows.attend_forward(&h, out + sample * h.queries * stride + head * w->head_dim,
                                      stride);
    }
    worker->scratch.used = used;
}

/* The bits of some rows of the sum, one behind the other. */
static void sum_bits(const struct attention_work *w, uint8_t *keep, size_t first, size_t rows)
{
    size_t blocks = dropout_blocks(w->dim);
    uint64_t row = (uint64_t)w->first_sample * w->queries + first;
    w->train->rows.dropout_bits(keep, &w->sum, row * blocks, rows * blocks);
}

/* s = x + drop(s) for some rows */
static void add_dropped(const struct attention_work *w, uint8_t *keep, size_t first, size_t rows)
{
    size_t dim = w->dim, blocks = dropout_blocks(dim);
    sum_bits(w, keep, first, rows);
    for (size_t r = 0; r < rows; r++) {
        float *s = w->s + (first + r) * dim;
        w->train->rows.dropout_add(s, w->x + (first + r) * dim, s, keep + r * blocks, w->sum.scale,
                                   dim);
    }
}

/* s = x + drop(out(result)), y = norm(s) */
static void sum_rows(struct attention_work *w, struct train_worker *worker, struct range range)
{
    const struct cpu_train *train = w->train;
    size_t dim = w->dim, used = worker->scratch.used;
    uint8_t *keep = arena_alloc(&worker->scratch, TRAIN_ROWS, dropout_blocks(dim));
    for (size_t first = range.begin; first < range.end; first += TRAIN_ROWS) {
        size_t rows = smaller(TRAIN_ROWS, range.end - first);
        float *s = w->s + first * dim;
        if (w->heads)
            operand_store(train, number_at(w, w->result, dim, first, 0), w->heads + first * dim,
                          dim, rows, dim);
        product_forward(worker, &w->layer->out, operand_at(train, w->result, dim, first), rows, s,
                        dim);
        if (w->sum.threshold)
            add_dropped(w, keep, first, rows);
        else
            train->kernels.add_f32(s, w->x + first * dim, rows * dim);
        norm_rows(worker, &w->layer->norm, s, rows, w->y + first * dim);
    }
    worker->scratch.used = used;
}

/* ---- phases ----------------------------------------------------------------------------- */

enum { PHASES = 4 };

/* What there is of it in each sample, and whether it comes in blocks of rows. */
struct phase {
    phase_fn *fn;
    size_t per_sample;
    bool rows;
};

struct phases {
    struct attention_work *work;
    struct phase phases[PHASES];
    size_t count, now;
};

static void run_samples(void *context, size_t begin, size_t end, int number)
{
    const struct phases *p = context;
    for (size_t sample = begin; sample < end; sample++)
        for (size_t i = 0; i < p->count; i++) {
            size_t each = p->phases[i].per_sample;
            p->phases[i].fn(p->work, &p->work->train->workers[number],
                            (struct range){ sample * each, (sample + 1) * each });
        }
}

static void run_blocks(void *context, size_t begin, size_t end, int number)
{
    const struct phases *p = context;
    const struct phase *phase = &p->phases[p->now];
    size_t block = phase->rows ? TRAIN_ROWS : 1,
           all = phase->per_sample * p->work->shape->samples;
    phase->fn(p->work, &p->work->train->workers[number],
              (struct range){ begin * block, smaller(end * block, all) });
}

/* No result depends on which way: rows are independent of each other, and so are heads. */
static void run_phases(struct phases *p)
{
    struct thread_pool *pool = p->work->train->pool;
    size_t samples = p->work->shape->samples, threads = (size_t)thread_pool_size(pool);
    if (samples % threads == 0 || samples >= 4 * threads) {
        thread_pool_run(pool, samples, run_samples, p);
        return;
    }
    for (p->now = 0; p->now < p->count; p->now++) {
        const struct phase *phase = &p->phases[p->now];
        size_t all = phase->per_sample * samples;
        thread_pool_run(pool, phase->rows ? (all + TRAIN_ROWS - 1) / TRAIN_ROWS : all, run_blocks,
                        p);
    }
}

void cpu_attention_forward(struct train_device *device, const struct train_pass *pass,
                           const struct train_attention *layer, const struct train_shape *shape,
                           const float *x, const float *memory, float *y, void *saved)
{
    struct cpu_train *train = cpu_train_of(device);
    struct attention_work w = { .x = x, .memory = memory, .y = y };
    lay_out(&w, train, layer, shape, saved);
    begin_pass(&w, pass);
    bool narrow = train->precision != TRAIN_FP32;
    if (!train_reserve(train, worker_bytes(&w), narrow ? w.rows * w.dim * sizeof(float) : 0))
        return;
    if (narrow)
        w.heads = arena_alloc(&train->shared, w.rows * w.dim, sizeof *w.heads);
    struct phases phases = { .work = &w, .count = 3, .phases = {
        { project_rows, w.queries, true }, { attend_heads, layer->heads, false },
        { sum_rows, w.queries, true }, { project_memory, w.keys, true } } };
    if (w.memory_rows) {        /* before it is attended to */
        struct phase memory_phase = phases.phases[3];
        phases.phases[3] = phases.phases[2];
        phases.phases[2] = phases.phases[1];
        phases.phases[1] = memory_phase;
        phases.count = 4;
    }
    run_phases(&phases);
}

/* ---- backwards -------------------------------------------------------------------------- */

static void drop_rows(const struct attention_work *w, float *dropped, uint8_t *keep, size_t first,
                      size_t rows)
{
    size_t dim = w->dim, blocks = dropout_blocks(dim);
    sum_bits(w, keep, first, rows);
    for (size_t r = 0; r < rows; r++)
        w->train->rows.dropout_scale(dropped + r * dim, w->gradient + (first + r) * dim,
                                     keep + r * blocks, w->sum.scale, dim);
}

/* Through norm, dropout and the product behind the heads. */
static void sum_rows_back(struct attention_work *w, struct train_worker *worker,
                          struct range range)
{
    const struct cpu_train *train = w->train;
    size_t dim = w->dim, used = worker->scratch.used;
    uint8_t *keep = arena_alloc(&worker->scratch, TRAIN_ROWS, dropout_blocks(dim));
    float *dropped = arena_alloc(&worker->scratch, TRAIN_ROWS * dim, sizeof *dropped);
    for (size_t first = range.begin; first < range.end; first += TRAIN_ROWS) {
        size_t rows = smaller(TRAIN_ROWS, range.end - first);
        float *gradient = w->gradient + first * dim;
        norm_rows_backward(worker, &w->layer->norm, w->s + first * dim, rows, gradient);
        if (w->sum.threshold)
            drop_rows(w, dropped, keep, first, rows);
        operand_store(train, number_at(w, w->sum_gradient, dim, first, 0),
                      w->sum.threshold ? dropped : gradient, dim, rows, dim);
        product_backward(worker, &w->layer->out, operand_at(train, w->sum_gradient, dim, first),
                         rows, w->result_gradient + first * dim, dim, false);
    }
    worker->scratch.used = used;
}

/* x [rows][head_dim] to columns [col, col + head_dim) of a tensor, with the zero behind its end. */
static void store_columns(const struct attention_work *w, unsigned char *tensor, size_t cols,
                          size_t row, size_t col, const float *x, size_t rows)
{
    size_t end = col + w->head_dim, padded = w->head_dim + (end == cols ? cols & 1 : 0);
    for (size_t r = 0; r < rows; r++)
        w->train->kernels.narrow_bf16((uint16_t *)number_at(w, tensor, cols, row + r, col),
                                      x + r * w->head_dim, w->head_dim, padded);
}

static void head_back(struct attention_work *w, size_t sample, size_t head, void *scratch,
                      float *parts[3])
{
    struct attend_head h = head_of(w, sample, head, scratch);
    size_t col = head * w->head_dim, row = sample * h.queries, key = sample * h.keys;
    struct attend_gradients g = {
        .out_gradient = w->result_gradient + row * w->dim + col, .stride = w->dim,
        .out = number_at(w, w->result, w->dim, row, col), .out_stride = operand_stride(w->dim),
        .q = parts[0], .k = parts[1], .v = parts[2], .q_stride = w->head_dim,
        .kv_stride = w->head_dim
    };
    if (!h.half) {
        g.q = (float *)number_at(w, w->q_gradient, w->q_cols, row, col);
        g.k = (float *)number_at(w, w->kv_gradient, w->kv_cols, key, w->k_at + col);
        g.v = (float *)number_at(w, w->kv_gradient, w->kv_cols, key, w->v_at + col);
        g.q_stride = h.q_stride;
        g.kv_stride = h.kv_stride;
    }
    w->train->rows.attend_backward(&h, &g);
    if (h.half) {
        store_columns(w, w->q_gradient, w->q_cols, row, col, g.q, h.queries);
        store_columns(w, w->kv_gradient, w->kv_cols, key, w->k_at + col, g.k, h.keys);
        store_columns(w, w->kv_gradient, w->kv_cols, key, w->v_at + col, g.v, h.keys);
    }
}

static void heads_back(struct attention_work *w, struct train_worker *worker, struct range range)
{
    size_t used = worker->scratch.used, longest = w->queries > w->keys ? w->queries : w->keys;
    void *scratch = head_scratch(w, worker);
    float *parts[3];
    for (size_t i = 0; i < 3; i++)
        parts[i] = arena_alloc(&worker->scratch, longest * w->head_dim, sizeof *parts[i]);
    for (size_t item = range.begin; item < range.end; item++)
        head_back(w, item / w->layer->heads, item % w->layer->heads, scratch, parts);
    worker->scratch.used = used;
}

static void project_back(struct train_worker *worker, const struct train_linear *linear,
                         const unsigned char *from, float *to, struct range range)
{
    for (size_t first = range.begin; to && first < range.end; first += TRAIN_ROWS)
        product_backward(worker, linear, operand_at(worker->train, from, linear->outputs, first),
                         smaller(TRAIN_ROWS, range.end - first), to + first * linear->inputs,
                         linear->inputs, true);
}

static void project_rows_back(struct attention_work *w, struct train_worker *worker,
                              struct range range)
{
    project_back(worker, &w->layer->query, w->q_gradient, w->gradient, range);
}

static void project_memory_back(struct attention_work *w, struct train_worker *worker,
                                struct range range)
{
    project_back(worker, &w->layer->memory, w->kv_gradient, w->memory_gradient, range);
}

/* Bytes of the shared scratch of the way back, and its parts when it is there. */
static size_t share(struct attention_work *w, struct arena *arena)
{
    size_t sizes[] = { operand_bytes(w->train, w->rows, w->dim),
                       w->rows * w->dim * sizeof(float),
                       operand_bytes(w->train, w->rows, w->q_cols),
                       operand_bytes(w->train, w->memory_rows, w->kv_cols) };
    size_t total = 0;
    void *parts[4] = { NULL };
    for (size_t i = 0; i < 4; i++) {
        total += align(sizes[i]);
        if (arena)
            parts[i] = arena_alloc(arena, align(sizes[i]), 1);
    }
    w->sum_gradient = parts[0];
    w->result_gradient = parts[1];
    w->q_gradient = parts[2];
    w->kv_gradient = w->memory_rows ? parts[3] : w->q_gradient;
    return total;
}

static size_t gradient_bytes(const struct attention_work *w)
{
    const struct train_attention *l = w->layer;
    size_t bytes[] = { gradient_scratch_bytes(w->train, &l->out, w->rows),
                       gradient_scratch_bytes(w->train, &l->query, w->rows),
                       w->memory_rows
                           ? gradient_scratch_bytes(w->train, &l->memory, w->memory_rows) : 0 };
    size_t most = w->rows * 2 * sizeof(float);      /* the norm's moments */
    for (size_t i = 0; i < 3; i++)
        most = bytes[i] > most ? bytes[i] : most;
    return align(most);
}

void cpu_attention_backward(struct train_device *device, const struct train_pass *pass,
                            const struct train_attention *layer, const struct train_shape *shape,
                            const float *x, const float *memory, const void *saved,
                            float *gradient, float *memory_gradient)
{
    struct cpu_train *train = cpu_train_of(device);
    struct attention_work w = { .x = x, .memory = memory, .gradient = gradient,
                                .memory_gradient = memory_gradient };
    lay_out(&w, train, layer, shape, (unsigned char *)saved);   /* read only, here */
    begin_pass(&w, pass);
    if (!train_reserve(train, worker_bytes(&w), share(&w, NULL) + gradient_bytes(&w)))
        return;
    share(&w, &train->shared);
    size_t used = train->shared.used;
    norm_gradients(train, &layer->norm, w.s, gradient, w.rows,
                   arena_alloc(&train->shared, w.rows, 2 * sizeof(float)));
    train->shared.used = used;
    run_phases(&(struct phases){ .work = &w, .count = w.memory_rows ? 4 : 3, .phases = {
        { sum_rows_back, w.queries, true }, { heads_back, layer->heads, false },
        { project_rows_back, w.queries, true }, { project_memory_back, w.keys, true } } });
    product_gradient(train, &layer->out, operand_at(train, w.sum_gradient, w.dim, 0),
                     operand_at(train, w.result, w.dim, 0), w.rows);
    struct operand rows = { x, layer->query.inputs, false };
    product_gradient(train, &layer->query, operand_at(train, w.q_gradient, w.q_cols, 0), rows,
                     w.rows);
    if (w.memory_rows) {
        struct operand memory_rows = { memory, layer->memory.inputs, false };
        product_gradient(train, &layer->memory, operand_at(train, w.kv_gradient, w.kv_cols, 0),
                         memory_rows, w.memory_rows);
    }
}
