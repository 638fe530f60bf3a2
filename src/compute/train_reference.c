/* The training device in plain loops: what every other device is held to. One thread, memory of the
 * host, float32 storage. Sums are in double, but for the gradients of parameters: these take one
 * row after the other, rounded to float32 each time, so that a batch may come in several calls.
 * Nothing here is meant to be fast. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/philox.h"
#include "compute/train_ops.h"

struct reference_device {
    struct train_device base;
    struct akin_error error;    /* the first; status AKIN_OK: none */
};

static const double EPSILON = 1e-5;     /* of LayerNorm */

/* ---- memory ----------------------------------------------------------------------------- */

static bool supports(const struct train_device *device, enum train_precision precision)
{
    (void)device;
    return precision == TRAIN_FP32;
}

static enum akin_status allocate(struct train_device *device, size_t bytes, void **memory,
                                 struct akin_error *error)
{
    (void)device;
    void *block = memory_alloc(bytes, 1);
    if (!block)
        return error_set(error, AKIN_MEMORY, "no memory for %zu bytes", bytes);
    *memory = block;
    return AKIN_OK;
}

static void release(struct train_device *device, void *memory)
{
    (void)device;
    memory_free(memory);
}

static void copy(struct train_device *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    memcpy(to, from, bytes);
}

static void clear(struct train_device *device, void *memory, size_t bytes)
{
    (void)device;
    memset(memory, 0, bytes);
}

static void add(struct train_device *device, float *to, const float *from, size_t count)
{
    (void)device;
    for (size_t i = 0; i < count; i++)
        to[i] += from[i];
}

static enum akin_status finish(struct train_device *device, struct akin_error *error)
{
    const struct reference_device *d = (const struct reference_device *)device;
    if (d->error.status == AKIN_OK)
        return AKIN_OK;
    return error_set(error, d->error.status, "%s", d->error.message);
}

/* Zeroed; NULL is remembered for finish. */
static float *scratch(struct train_device *device, size_t rows, size_t cols)
{
    struct reference_device *d = (struct reference_device *)device;
    size_t count;
    float *block = size_mul(rows, cols, &count) ? memory_alloc(count, sizeof *block) : NULL;
    if (!block && d->error.status == AKIN_OK)
        error_set(&d->error, AKIN_MEMORY, "no memory for %zu rows of %zu numbers", rows, cols);
    return block;
}

/* ---- dropout ---------------------------------------------------------------------------- */

static uint64_t padded(size_t cols)
{
    return ((uint64_t)cols + 7) / 8 * 8;
}

/* What number e of the tensor of `site` is multiplied by. */
static double dropout(const struct train_pass *pass, uint32_t site, uint64_t e)
{
    uint32_t threshold = dropout_threshold(pass->dropout);
    if (threshold == 0)
        return 1;
    uint64_t block = e / 8;
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), site, pass->step};
    const uint32_t key[2] = {(uint32_t)pass->seed, (uint32_t)(pass->seed >> 32)};
    uint32_t random[4];
    philox_4x32(counter, key, random);
    uint32_t word = random[e % 8 / 2] >> (e % 2 ? 16 : 0) & 0xFFFF;
    return word < threshold ? 0 : 65536.0 / (65536.0 - threshold);
}

/* values [rows][cols], the first row being `first_row` of the whole batch. */
static void dropout_rows(const struct train_pass *pass, uint32_t site, size_t first_row,
                         size_t rows, size_t cols, float *values)
{
    for (size_t row = 0; row < rows; row++)
        for (size_t col = 0; col < cols; col++)
            values[row * cols + col] *=
                (float)dropout(pass, site, (uint64_t)(first_row + row) * padded(cols) + col);
}

/* ---- linear ----------------------------------------------------------------------------- */

static enum akin_status linear_prepare(struct train_device *device, struct train_linear *linear,
                                       struct akin_error *error)
{
    (void)device, (void)linear, (void)error;    /* products read the weights themselves */
    return AKIN_OK;
}

static void linear_forget(struct train_device *device, struct train_linear *linear)
{
    (void)device, (void)linear;
}

static void linear_forward(const struct train_linear *linear, const float *x, size_t rows, float *y)
{
    for (size_t row = 0; row < rows; row++)
        for (size_t out = 0; out < linear->outputs; out++) {
            double sum = (double)linear->bias[out];
            for (size_t in = 0; in < linear->inputs; in++)
                sum += (double)x[row * linear->inputs + in]
                       * (double)linear->weight[out * linear->inputs + in];
            y[row * linear->outputs + out] = (float)sum;
        }
}

/* x_gradient += */
static void linear_backward(const struct train_linear *linear, const float *x,
                            const float *y_gradient, size_t rows, float *x_gradient)
{
    for (size_t row = 0; row < rows; row++) {
        const float *x_row = x + row * linear->inputs, *dy = y_gradient + row * linear->outputs;
        float *dx = x_gradient + row * linear->inputs;
        for (size_t in = 0; in < linear->inputs; in++) {
            double sum = 0;
            for (size_t out = 0; out < linear->outputs; out++)
                sum += (double)dy[out] * (double)linear->weight[out * linear->inputs + in];
            dx[in] = (float)((double)dx[in] + sum);
        }
        if (!linear->weight_gradient)
            continue;
        for (size_t out = 0; out < linear->outputs; out++) {
            linear->bias_gradient[out] += dy[out];
            for (size_t in = 0; in < linear->inputs; in++) {
                float *sum = &linear->weight_gradient[out * linear->inputs + in];
                *sum = (float)((double)*sum + (double)dy[out] * (double)x_row[in]);
            }
        }
    }
}

/* ---- norm ------------------------------------------------------------------------------- */

struct moments {
    double mean, scale;         /* 1 / standard deviation */
};

static struct moments row_moments(const float *x, size_t dim)
{
    double mean = 0, variance = 0;
    for (size_t i = 0; i < dim; i++)
        mean += (double)x[i];
    mean /= (double)dim;
    for (size_t i = 0; i < dim; i++)
        variance += ((double)x[i] - mean) * ((double)x[i] - mean);
    return (struct moments){mean, 1 / sqrt(variance / (double)dim + EPSILON)};
}

static void norm_forward(struct train_device *device, const struct train_norm *norm,
                         const float *x, size_t rows, float *y)
{
    (void)device;
    for (size_t row = 0; row < rows; row++, x += norm->dim, y += norm->dim) {
        struct moments m = row_moments(x, norm->dim);
        for (size_t i = 0; i < norm->dim; i++)
            y[i] = (float)(((double)x[i] - m.mean) * m.scale * (double)norm->gain[i]
                           + (double)norm->offset[i]);
    }
}

static void norm_backward(struct train_device *device, const struct train_norm *norm,
                          const float *x, size_t rows, float *gradient)
{
    (void)device;
    size_t dim = norm->dim;
    for (size_t row = 0; row < rows; row++, x += dim, gradient += dim) {
        struct moments m = row_moments(x, dim);
        double mean = 0, along = 0;     /* of the normed row's gradient; of it times the row */
        for (size_t i = 0; i < dim; i++) {
            double normed = ((double)x[i] - m.mean) * m.scale;
            double g = (double)gradient[i] * (double)norm->gain[i];
            mean += g / (double)dim;
            along += g * normed / (double)dim;
        }
        for (size_t i = 0; i < dim; i++) {
            double normed = ((double)x[i] - m.mean) * m.scale, dy = (double)gradient[i];
            if (norm->gain_gradient) {
                norm->gain_gradient[i] = (float)((double)norm->gain_gradient[i] + dy * normed);
                norm->offset_gradient[i] += gradient[i];
            }
            gradient[i] = (float)(m.scale * (dy * (double)norm->gain[i] - mean - normed * along));
        }
    }
}

/* ---- attention -------------------------------------------------------------------------- */

/* Where things lie in what attention_forward saves. */
struct attention_parts {
    size_t dim, q_stride, kv_stride;
    float *q, *k, *v;           /* one row of each token; in rows of q_stride and kv_stride */
    float *projected, *memory;  /* outputs of the two linears; self: all in the first */
    float *weights;             /* [samples][heads][queries][keys], after softmax */
    float *kept;                /* the same after dropout */
    float *context;             /* [samples * queries][dim] */
    float *sum;                 /* the input of the norm */
    size_t count;               /* numbers in all */
};

static struct attention_parts attention_parts(const struct train_attention *layer,
                                              const struct train_shape *shape, float *at)
{
    struct attention_parts p = {.dim = layer->out.inputs, .projected = at};
    size_t rows = shape->samples * shape->queries, keys = shape->samples * shape->keys;
    size_t projected = rows * layer->query.outputs, memory = keys * layer->memory.outputs;
    size_t weights = shape->samples * layer->heads * shape->queries * shape->keys;
    p.count = projected + memory + 2 * weights + 2 * rows * p.dim;
    if (!at)
        return p;
    p.memory = p.projected + projected;
    p.weights = p.memory + memory;
    p.kept = p.weights + weights;
    p.context = p.kept + weights;
    p.sum = p.context + rows * p.dim;
    p.q = p.projected;
    p.q_stride = layer->query.outputs;
    bool self = layer->memory.outputs == 0;
    p.k = self ? p.projected + p.dim : p.memory;
    p.v = p.k + p.dim;
    p.kv_stride = self ? p.q_stride : layer->memory.outputs;
    return p;
}

static size_t attention_saved_bytes(const struct train_device *device,
                                    const struct train_attention *layer,
                                    const struct train_shape *shape)
{
    (void)device;
    return attention_parts(layer, shape, NULL).count * sizeof(float);
}

/* One head of one sample: where its rows begin, and what it multiplies by. */
struct head {
    const struct train_pass *pass;
    const struct train_attention *layer;
    const struct train_shape *shape;
    const struct attention_parts *parts;
    size_t q, kv, context, weights;     /* offsets of its first numbers */
    uint64_t sample_head;               /* counted over the whole batch */
    size_t dim;
};

static struct head head_of(const struct train_pass *pass, const struct train_attention *layer,
                           const struct train_shape *shape, const struct attention_parts *parts,
                           size_t sample, size_t h)
{
    size_t dim = parts->dim / layer->heads;
    return (struct head){
        .pass = pass, .layer = layer, .shape = shape, .parts = parts, .dim = dim,
        .q = sample * shape->queries * parts->q_stride + h * dim,
        .kv = sample * shape->keys * parts->kv_stride + h * dim,
        .context = sample * shape->queries * parts->dim + h * dim,
        .weights = (sample * layer->heads + h) * shape->queries * shape->keys,
        .sample_head = (uint64_t)(pass->first_sample + sample) * layer->heads + h,
    };
}

static double head_dropout(const struct head *h, size_t query, size_t key)
{
    uint64_t row = h->sample_head * h->shape->queries + query;
    return dropout(h->pass, h->layer->site, row * padded(h->shape->keys) + key);
}

/* Softmax of one query's products with the keys that it sees; 0 for the others. */
static void softmax_row(const struct head *h, size_t query, float *weights)
{
    const struct attention_parts *p = h->parts;
    const float *q = p->q + h->q + query * p->q_stride;
    size_t seen = h->layer->causal ? query + 1 : h->shape->keys;
    double most = -DBL_MAX, sum = 0;
    for (size_t key = 0; key < seen; key++) {
        const float *k = p->k + h->kv + key * p->kv_stride;
        double product = 0;
        for (size_t i = 0; i < h->dim; i++)
            product += (double)q[i] * (double)k[i];
        weights[key] = (float)(product / sqrt((double)h->dim));
        most = fmax(most, (double)weights[key]);
    }
    for (size_t key = 0; key < seen; key++)
        sum += exp((double)weights[key] - most);
    for (size_t key = 0; key < h->shape->keys; key++)
        weights[key] = key < seen ? (float)(exp((double)weights[key] - most) / sum) : 0;
}

static void head_forward(const struct head *h)
{
    const struct attention_parts *p = h->parts;
    size_t keys = h->shape->keys;
    for (size_t query = 0; query < h->shape->queries; query++) {
        float *weights = p->weights + h->weights + query * keys;
        float *kept = p->kept + h->weights + query * keys;
        float *context = p->context + h->context + query * p->dim;
        softmax_row(h, query, weights);
        for (size_t key = 0; key < keys; key++)
            kept[key] = (float)((double)weights[key] * head_dropout(h, query, key));
        for (size_t i = 0; i < h->dim; i++) {
            double sum = 0;
            for (size_t key = 0; key < keys; key++)
                sum += (double)kept[key] * (double)p->v[h->kv + key * p->kv_stride + i];
            context[i] = (float)sum;
        }
    }
}

static void attention_forward(struct train_device *device, const struct train_pass *pass,
                              const struct train_attention *layer, const struct train_shape *shape,
                              const float *x, const float *memory, float *y, void *saved)
{
    struct attention_parts p = attention_parts(layer, shape, saved);
    size_t rows = shape->samples * shape->queries;
    linear_forward(&layer->query, x, rows, p.projected);
    if (memory)
        linear_forward(&layer->memory, memory, shape->samples * shape->keys, p.memory);
    for (size_t sample = 0; sample < shape->samples; sample++)
        for (size_t i = 0; i < layer->heads; i++) {
            struct head h = head_of(pass, layer, shape, &p, sample, i);
            head_forward(&h);
        }
    linear_forward(&layer->out, p.context, rows, p.sum);
    dropout_rows(pass, layer->site + 1, pass->first_sample * shape->queries, rows, p.dim, p.sum);
    add(device, p.sum, x, rows * p.dim);
    norm_forward(device, &layer->norm, p.sum, rows, y);
}

/* scores [queries][keys] = the gradient of what softmax takes, divided by sqrt(dim) */
static void scores_gradient(const struct head *h, const float *context_gradient, float *scores)
{
    const struct attention_parts *p = h->parts;
    size_t keys = h->shape->keys;
    for (size_t query = 0; query < h->shape->queries; query++) {
        const float *weights = p->weights + h->weights + query * keys;
        const float *dc = context_gradient + h->context + query * p->dim;
        float *row = scores + query * keys;
        double mean = 0;
        for (size_t key = 0; key < keys; key++) {
            double product = 0;
            for (size_t i = 0; i < h->dim; i++)
                product += (double)dc[i] * (double)p->v[h->kv + key * p->kv_stride + i];
            row[key] = (float)(product * head_dropout(h, query, key));
            mean += (double)row[key] * (double)weights[key];
        }
        for (size_t key = 0; key < keys; key++)
            row[key] = (float)((double)weights[key] * ((double)row[key] - mean)
                               / sqrt((double)h->dim));
    }
}

/* `to` holds the gradients of q, k and v in the places of p->q, p->k and p->v. */
static void head_backward(const struct head *h, const float *context_gradient, float *scores,
                          const struct attention_parts *to)
{
    const struct attention_parts *p = h->parts;
    size_t queries = h->shape->queries, keys = h->shape->keys;
    scores_gradient(h, context_gradient, scores);
    for (size_t i = 0; i < h->dim; i++) {
        for (size_t query = 0; query < queries; query++) {
            double sum = 0;
            for (size_t key = 0; key < keys; key++)
                sum += (double)scores[query * keys + key]
                       * (double)p->k[h->kv + key * p->kv_stride + i];
            to->q[h->q + query * p->q_stride + i] = (float)sum;
        }
        for (size_t key = 0; key < keys; key++) {
            double k_sum = 0, v_sum = 0;
            for (size_t query = 0; query < queries; query++) {
                k_sum += (double)scores[query * keys + key]
                         * (double)p->q[h->q + query * p->q_stride + i];
                v_sum += (double)p->kept[h->weights + query * keys + key]
                         * (double)context_gradient[h->context + query * p->dim + i];
            }
            to->k[h->kv + key * p->kv_stride + i] = (float)k_sum;
            to->v[h->kv + key * p->kv_stride + i] = (float)v_sum;
        }
    }
}

static void attention_backward(struct train_device *device, const struct train_pass *pass,
                               const struct train_attention *layer,
                               const struct train_shape *shape, const float *x,
                               const float *memory, const void *saved, float *gradient,
                               float *memory_gradient)
{
    struct attention_parts p = attention_parts(layer, shape, (float *)(uintptr_t)saved);
    size_t rows = shape->samples * shape->queries;
    float *block = scratch(device, p.count, 1);
    float *out = scratch(device, rows, p.dim);
    float *scores = scratch(device, shape->queries, shape->keys);
    if (block && out && scores) {
        struct attention_parts to = attention_parts(layer, shape, block);
        norm_backward(device, &layer->norm, p.sum, rows, gradient);
        memcpy(out, gradient, rows * p.dim * sizeof *out);
        dropout_rows(pass, layer->site + 1, pass->first_sample * shape->queries, rows, p.dim, out);
        linear_backward(&layer->out, p.context, out, rows, to.context);
        for (size_t sample = 0; sample < shape->samples; sample++)
            for (size_t i = 0; i < layer->heads; i++) {
                struct head h = head_of(pass, layer, shape, &p, sample, i);
                head_backward(&h, to.context, scores, &to);
            }
        linear_backward(&layer->query, x, to.projected, rows, gradient);
        if (memory)
            linear_backward(&layer->memory, memory, to.memory, shape->samples * shape->keys,
                            memory_gradient);
    }
    memory_free(scores);
    memory_free(out);
    memory_free(block);
}

/* ---- feed-forward ----------------------------------------------------------------------- */

/* Saved: the hidden rows after relu and dropout, then the input of the norm. */
static size_t feed_forward_saved_bytes(const struct train_device *device,
                                       const struct train_feed_forward *layer, size_t rows)
{
    (void)device;
    return rows * (layer->up.outputs + layer->down.outputs) * sizeof(float);
}

static void feed_forward_forward(struct train_device *device, const struct train_pass *pass,
                                 const struct train_feed_forward *layer, size_t samples,
                                 size_t rows_per_sample, const float *x, float *y, void *saved)
{
    size_t rows = samples * rows_per_sample, first = pass->first_sample * rows_per_sample;
    size_t inner = layer->up.outputs, dim = layer->down.outputs;
    float *hidden = saved, *sum = hidden + rows * inner;
    linear_forward(&layer->up, x, rows, hidden);
    for (size_t i = 0; i < rows * inner; i++)
        hidden[i] = hidden[i] < 0 ? 0 : hidden[i];      /* a NaN stays one */
    dropout_rows(pass, layer->site, first, rows, inner, hidden);
    linear_forward(&layer->down, hidden, rows, sum);
    dropout_rows(pass, layer->site + 1, first, rows, dim, sum);
    add(device, sum, x, rows * dim);
    norm_forward(device, &layer->norm, sum, rows, y);
}

static void feed_forward_backward(struct train_device *device, const struct train_pass *pass,
                                  const struct train_feed_forward *layer, size_t samples,
                                  size_t rows_per_sample, const float *x, const void *saved,
                                  float *gradient)
{
    size_t rows = samples * rows_per_sample, first = pass->first_sample * rows_per_sample;
    size_t inner = layer->up.outputs, dim = layer->down.outputs;
    const float *hidden = saved, *sum = hidden + rows * inner;
    float *out = scratch(device, rows, dim), *dh = scratch(device, rows, inner);
    if (out && dh) {
        norm_backward(device, &layer->norm, sum, rows, gradient);
        memcpy(out, gradient, rows * dim * sizeof *out);
        dropout_rows(pass, layer->site + 1, first, rows, dim, out);
        linear_backward(&layer->down, hidden, out, rows, dh);
        dropout_rows(pass, layer->site, first, rows, inner, dh);
        for (size_t i = 0; i < rows * inner; i++)
            if (!(hidden[i] > 0))
                dh[i] = 0;
        linear_backward(&layer->up, x, dh, rows, gradient);
    }
    memory_free(dh);
    memory_free(out);
}

/* ---- both ends -------------------------------------------------------------------------- */

static void embed_forward(struct train_device *device, const int32_t *ids, const float *tokens,
                          const float *positions, size_t samples, size_t length, size_t dim,
                          float *x)
{
    (void)device;
    for (size_t row = 0; row < samples * length; row++)
        for (size_t i = 0; i < dim; i++)
            x[row * dim + i] = tokens[(size_t)ids[row] * dim + i]
                               + positions[row % length * dim + i];
}

static void embed_backward(struct train_device *device, const int32_t *ids, const float *x_gradient,
                           size_t samples, size_t length, size_t dim, size_t vocab,
                           float *token_gradient, float *position_gradient)
{
    (void)vocab;
    for (size_t row = 0; row < samples * length; row++, x_gradient += dim) {
        add(device, token_gradient + (size_t)ids[row] * dim, x_gradient, dim);
        add(device, position_gradient + row % length * dim, x_gradient, dim);
    }
}

static void cross_entropy(struct train_device *device, const struct train_pass *pass,
                          const struct train_linear *projection, const int32_t *labels,
                          const float *x, size_t rows, double row_weight, double *loss_sum,
                          float *gradient)
{
    size_t vocab = projection->outputs, dim = projection->inputs;
    double factor = (double)pass->loss_scale * row_weight;
    float *logits = scratch(device, 1, vocab);
    for (size_t row = 0; logits && row < rows; row++) {
        double most = -DBL_MAX, sum = 0;
        if (labels[row] < 0) {
            if (gradient)
                memset(gradient + row * dim, 0, dim * sizeof *gradient);
            continue;
        }
        linear_forward(projection, x + row * dim, 1, logits);
        for (size_t i = 0; i < vocab; i++)
            most = fmax(most, (double)logits[i]);
        for (size_t i = 0; i < vocab; i++)
            sum += exp((double)logits[i] - most);
        size_t label = (size_t)labels[row];
        *loss_sum += log(sum) + most - (double)logits[label];
        if (!gradient)
            continue;
        for (size_t i = 0; i < vocab; i++)
            logits[i] = (float)(factor * (exp((double)logits[i] - most) / sum - (i == label)));
        memset(gradient + row * dim, 0, dim * sizeof *gradient);
        linear_backward(projection, x + row * dim, logits, 1, gradient + row * dim);
    }
    memory_free(logits);
}

/* ---- the optimiser ---------------------------------------------------------------------- */

static void check_finite(struct train_device *device, const float *values, size_t count,
                         uint32_t *finite)
{
    (void)device;
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            *finite = 0;
}

static void update(struct train_device *device, const struct train_update *update, float *values,
                   const float *gradients, float *first, float *second, size_t count,
                   const uint32_t *finite)
{
    (void)device;
    double rate = (double)update->rate, decay = (double)update->decay;
    double beta1 = (double)update->beta1, beta2 = (double)update->beta2;
    double correction1 = 1 - pow(beta1, (double)update->step);
    double correction2 = 1 - pow(beta2, (double)update->step);
    if (finite && !*finite)
        return;
    for (size_t i = 0; i < count; i++) {
        double value = (double)values[i];
        double gradient = (double)gradients[i] * (double)update->gradient_factor;
        if (update->optimizer == TRAIN_ADAMW)
            value *= 1 - rate * decay;
        else
            gradient += decay * value;
        if (update->optimizer == TRAIN_SGD) {
            values[i] = (float)(value - rate * gradient);
            continue;
        }
        first[i] = (float)(beta1 * (double)first[i] + (1 - beta1) * gradient);
        second[i] = (float)(beta2 * (double)second[i] + (1 - beta2) * gradient * gradient);
        double root = sqrt((double)second[i] / correction2) + (double)update->epsilon;
        values[i] = (float)(value - rate / correction1 * (double)first[i] / root);
    }
}

/* ---- the device ------------------------------------------------------------------------- */

static void destroy(struct train_device **device)
{
    memory_free(*device);
    *device = NULL;
}

static const struct train_ops OPS = {
    .name = "reference",
    .supports = supports,
    .allocate = allocate,
    .release = release,
    .upload = copy,
    .download = copy,
    .clear = clear,
    .add = add,
    .finish = finish,
    .linear_prepare = linear_prepare,
    .linear_forget = linear_forget,
    .embed_forward = embed_forward,
    .embed_backward = embed_backward,
    .attention_saved_bytes = attention_saved_bytes,
    .attention_forward = attention_forward,
    .attention_backward = attention_backward,
    .feed_forward_saved_bytes = feed_forward_saved_bytes,
    .feed_forward_forward = feed_forward_forward,
    .feed_forward_backward = feed_forward_backward,
    .norm_forward = norm_forward,
    .norm_backward = norm_backward,
    .cross_entropy = cross_entropy,
    .check_finite = check_finite,
    .update = update,
    .destroy = destroy,
};

enum akin_status reference_train_create(struct train_device **device, struct akin_error *error)
{
    struct reference_device *created = memory_alloc(1, sizeof *created);
    if (!created)
        return error_memory(error);
    created->base.ops = &OPS;
    *device = &created->base;
    return AKIN_OK;
}
