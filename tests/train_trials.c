/* See train_trials.h. */
#include "train_trials.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/rng.h"

const char *trial_part_name(enum trial_part part)
{
    static const char *const names[TRIAL_PARTS] = {
        "self-attention", "causal attention", "cross-attention", "feed-forward",
        "smooth feed-forward", "norm", "embed", "cross-entropy",
    };
    return names[part];
}

/* ---- made-up tensors -------------------------------------------------------------------- */

static void *must(void *memory)
{
    if (!memory) {
        fputs("no memory\n", stderr);
        exit(2);
    }
    return memory;
}

static float *random_floats(struct rng *rng, size_t count, float mean, float deviation)
{
    float *values = must(memory_alloc_aligned(count, sizeof *values));
    for (size_t i = 0; i < count; i++)
        values[i] = mean + deviation * rng_normal(rng);
    return values;
}

static void add_tensor(struct trial *t, struct rng *rng, const char *name, size_t count,
                       size_t per_sample, float mean, float deviation)
{
    t->tensors[t->count++] = (struct trial_tensor){
        .name = name, .count = count, .per_sample = per_sample,
        .value = random_floats(rng, count, mean, deviation),
        .gradient = random_floats(rng, count, 0, 0.25f),
    };
}

static void add_linear(struct trial *t, struct rng *rng, const char *weight, const char *bias,
                       size_t outputs, size_t inputs)
{
    add_tensor(t, rng, weight, outputs * inputs, 0, 0, 1.5f / sqrtf((float)inputs));
    add_tensor(t, rng, bias, outputs, 0, 0, 0.5f);
}

static void add_norm(struct trial *t, struct rng *rng)
{
    add_tensor(t, rng, "gain", t->sizes.dim, 0, 1, 0.3f);
    add_tensor(t, rng, "offset", t->sizes.dim, 0, 0, 0.3f);
}

static void add_parameters(struct trial *t, struct rng *rng)
{
    const struct trial_sizes *s = &t->sizes;
    bool cross = t->part == TRIAL_CROSS_ATTENTION;
    switch (t->part) {
    case TRIAL_SELF_ATTENTION:
    case TRIAL_CAUSAL_ATTENTION:
    case TRIAL_CROSS_ATTENTION:
        if (cross)
            add_tensor(t, rng, "memory", s->samples * s->keys * s->dim, s->keys * s->dim, 0, 1);
        add_linear(t, rng, "query.weight", "query.bias", cross ? s->dim : 3 * s->dim, s->dim);
        if (cross)
            add_linear(t, rng, "memory.weight", "memory.bias", 2 * s->dim, s->dim);
        add_linear(t, rng, "out.weight", "out.bias", s->dim, s->dim);
        add_norm(t, rng);
        break;
    case TRIAL_FEED_FORWARD:
    case TRIAL_SMOOTH_FEED_FORWARD:
        add_linear(t, rng, "up.weight", "up.bias", s->inner, s->dim);
        for (size_t i = 0; t->part == TRIAL_SMOOTH_FEED_FORWARD && i < s->inner; i++)
            t->tensors[t->count - 1].value[i] += i % 2 ? 9.0f : -9.0f;
        add_linear(t, rng, "down.weight", "down.bias", s->dim, s->inner);
        add_norm(t, rng);
        break;
    case TRIAL_NORM:
        add_norm(t, rng);
        break;
    case TRIAL_EMBED:
        add_tensor(t, rng, "tokens", s->vocab * s->dim, 0, 0, 1);
        add_tensor(t, rng, "positions", s->queries * s->dim, 0, 0, 1);
        break;
    case TRIAL_CROSS_ENTROPY:
        add_linear(t, rng, "projection.weight", "projection.bias", s->vocab, s->dim);
        break;
    case TRIAL_PARTS:
        break;
    }
}

void trial_create(enum trial_part part, const struct trial_sizes *sizes, uint64_t seed,
                  struct trial *trial)
{
    struct rng rng;
    rng_seed(&rng, seed);
    *trial = (struct trial){.part = part, .sizes = *sizes,
                            .rows = sizes->samples * sizes->queries, .loss = 0.75};
    size_t numbers = trial->rows * sizes->dim;
    if (part != TRIAL_EMBED)
        add_tensor(trial, &rng, "x", numbers, sizes->queries * sizes->dim, 0.2f, 1);
    add_parameters(trial, &rng);
    trial->ids = must(memory_alloc(trial->rows, sizeof *trial->ids));
    for (size_t i = 0; i < trial->rows; i++)
        trial->ids[i] = (int32_t)rng_below(&rng, sizes->vocab);
    trial->ids[0] = (int32_t)sizes->vocab - 1;
    for (size_t i = 2; part == TRIAL_CROSS_ENTROPY && i < trial->rows; i += 5)
        trial->ids[i] = -1 - (int32_t)i;        /* rows that do not count */
    trial->y = random_floats(&rng, numbers, NAN, 0);    /* what is not written shows */
    trial->y_gradient = random_floats(&rng, numbers, 0, 1);
}

void trial_destroy(struct trial *trial)
{
    for (size_t i = 0; i < trial->count; i++) {
        memory_free(trial->tensors[i].value);
        memory_free(trial->tensors[i].gradient);
    }
    memory_free(trial->ids);
    memory_free(trial->y);
    memory_free(trial->y_gradient);
    *trial = (struct trial){0};
}

/* ---- on the device ---------------------------------------------------------------------- */

enum { LINEARS_MAX = 3 };

struct on_device {
    struct train_device *device;
    const struct trial *trial;
    struct train_pass pass;             /* of the whole batch */
    float *value[TRIAL_TENSORS_MAX], *gradient[TRIAL_TENSORS_MAX];
    int32_t *ids;
    float *y, *y_gradient;
    double *loss;
    struct train_attention attention;
    struct train_feed_forward feed_forward;
    struct train_norm norm;
    struct train_linear *linears[LINEARS_MAX], projection;
    size_t linear_count;
};

static size_t find(const struct trial *t, const char *name)
{
    for (size_t i = 0; i < t->count; i++)
        if (!strcmp(t->tensors[i].name, name))
            return i;
    fprintf(stderr, "%s has no %s\n", trial_part_name(t->part), name);
    exit(2);
}

static enum akin_status send(struct on_device *d, const void *host, size_t bytes, void *place,
                             struct akin_error *error)
{
    void *memory;
    TRY(d->device->ops->allocate(d->device, bytes, &memory, error));
    *(void **)place = memory;
    d->device->ops->upload(d->device, memory, host, bytes);
    return AKIN_OK;
}

static enum akin_status set_linear(struct on_device *d, struct train_linear *linear,
                                   const char *weight, const char *bias, struct akin_error *error)
{
    const struct trial *t = d->trial;
    size_t w = find(t, weight), b = find(t, bias);
    *linear = (struct train_linear){
        .weight = d->value[w], .bias = d->value[b],
        .weight_gradient = d->gradient[w], .bias_gradient = d->gradient[b],
        .outputs = t->tensors[b].count, .inputs = t->tensors[w].count / t->tensors[b].count,
    };
    d->linears[d->linear_count++] = linear;
    return d->device->ops->linear_prepare(d->device, linear, error);
}

static void set_norm(struct on_device *d, struct train_norm *norm)
{
    size_t gain = find(d->trial, "gain"), offset = find(d->trial, "offset");
    *norm = (struct train_norm){
        .gain = d->value[gain], .offset = d->value[offset],
        .gain_gradient = d->gradient[gain], .offset_gradient = d->gradient[offset],
        .dim = d->trial->sizes.dim,
    };
}

static enum akin_status set_layer(struct on_device *d, struct akin_error *error)
{
    enum trial_part part = d->trial->part;
    if (part == TRIAL_CROSS_ATTENTION)
        TRY(set_linear(d, &d->attention.memory, "memory.weight", "memory.bias", error));
    if (part <= TRIAL_CROSS_ATTENTION) {
        TRY(set_linear(d, &d->attention.query, "query.weight", "query.bias", error));
        TRY(set_linear(d, &d->attention.out, "out.weight", "out.bias", error));
        set_norm(d, &d->attention.norm);
        d->attention.heads = d->trial->sizes.heads;
        d->attention.causal = part == TRIAL_CAUSAL_ATTENTION;
        d->attention.site = 5;
    } else if (part <= TRIAL_SMOOTH_FEED_FORWARD) {
        TRY(set_linear(d, &d->feed_forward.up, "up.weight", "up.bias", error));
        TRY(set_linear(d, &d->feed_forward.down, "down.weight", "down.bias", error));
        set_norm(d, &d->feed_forward.norm);
        d->feed_forward.site = 9;
    } else if (part == TRIAL_NORM) {
        set_norm(d, &d->norm);
    } else if (part == TRIAL_CROSS_ENTROPY) {
        TRY(set_linear(d, &d->projection, "projection.weight", "projection.bias", error));
    }
    return AKIN_OK;
}

static enum akin_status send_all(struct on_device *d, struct akin_error *error)
{
    const struct trial *t = d->trial;
    size_t numbers = t->rows * t->sizes.dim * sizeof(float);
    for (size_t i = 0; i < t->count; i++) {
        size_t bytes = t->tensors[i].count * sizeof(float);
        TRY(send(d, t->tensors[i].value, bytes, &d->value[i], error));
        TRY(send(d, t->tensors[i].gradient, bytes, &d->gradient[i], error));
    }
    TRY(send(d, t->ids, t->rows * sizeof *t->ids, &d->ids, error));
    TRY(send(d, t->y, numbers, &d->y, error));
    TRY(send(d, t->y_gradient, numbers, &d->y_gradient, error));
    TRY(send(d, &t->loss, sizeof t->loss, &d->loss, error));
    return set_layer(d, error);
}

static void release_all(struct on_device *d)
{
    const struct train_ops *ops = d->device->ops;
    for (size_t i = 0; i < d->linear_count; i++)
        ops->linear_forget(d->device, d->linears[i]);
    for (size_t i = 0; i < d->trial->count; i++) {
        ops->release(d->device, d->value[i]);
        ops->release(d->device, d->gradient[i]);
    }
    ops->release(d->device, d->ids);
    ops->release(d->device, d->y);
    ops->release(d->device, d->y_gradient);
    ops->release(d->device, d->loss);
}

/* ---- one slice -------------------------------------------------------------------------- */

static size_t saved_bytes(const struct on_device *d, const struct train_shape *shape)
{
    const struct train_ops *ops = d->device->ops;
    if (d->trial->part <= TRIAL_CROSS_ATTENTION)
        return ops->attention_saved_bytes(d->device, &d->attention, shape);
    if (d->trial->part <= TRIAL_SMOOTH_FEED_FORWARD)
        return ops->feed_forward_saved_bytes(d->device, &d->feed_forward,
                                             shape->samples * shape->queries);
    return 0;
}

/* Of samples [first, first + shape->samples). x, y and memory are those of the slice. */
struct slice {
    struct train_pass pass;
    struct train_shape shape;
    size_t rows;
    const int32_t *ids;
    const float *x, *memory;
    float *y, *gradient, *memory_gradient;
    void *saved;
};

static struct slice slice_of(const struct on_device *d, size_t first, size_t samples)
{
    const struct trial *t = d->trial;
    const struct trial_sizes *s = &t->sizes;
    size_t row = first * s->queries;
    struct slice slice = {
        .pass = d->pass, .shape = {samples, s->queries, s->keys}, .rows = samples * s->queries,
        .ids = d->ids + row, .y = d->y + row * s->dim, .gradient = d->y_gradient + row * s->dim,
        .x = t->part == TRIAL_EMBED ? NULL : d->value[0] + row * s->dim,
    };
    slice.pass.first_sample += first;
    if (t->part == TRIAL_CROSS_ATTENTION) {
        slice.memory = d->value[1] + first * s->keys * s->dim;
        slice.memory_gradient = d->gradient[1] + first * s->keys * s->dim;
    } else {
        slice.shape.keys = s->queries;
    }
    return slice;
}

static void forward(struct on_device *d, const struct slice *s, bool backward)
{
    const struct train_ops *ops = d->device->ops;
    const struct trial_sizes *sizes = &d->trial->sizes;
    switch (d->trial->part) {
    case TRIAL_SELF_ATTENTION:
    case TRIAL_CAUSAL_ATTENTION:
    case TRIAL_CROSS_ATTENTION:
        ops->attention_forward(d->device, &s->pass, &d->attention, &s->shape, s->x, s->memory, s->y,
                               s->saved);
        break;
    case TRIAL_FEED_FORWARD:
    case TRIAL_SMOOTH_FEED_FORWARD:
        ops->feed_forward_forward(d->device, &s->pass, &d->feed_forward, s->shape.samples,
                                  s->shape.queries, s->x, s->y, s->saved);
        break;
    case TRIAL_NORM:
        ops->norm_forward(d->device, &d->norm, s->x, s->rows, s->y);
        break;
    case TRIAL_EMBED:
        ops->embed_forward(d->device, s->ids, d->value[0], d->value[1], s->shape.samples,
                           sizes->queries, sizes->dim, s->y);
        break;
    case TRIAL_CROSS_ENTROPY:
        ops->cross_entropy(d->device, &s->pass, &d->projection, s->ids, s->x, s->rows,
                           1.0 / 3, d->loss, backward ? s->gradient : NULL);
        break;
    case TRIAL_PARTS:
        break;
    }
}

static void backward(struct on_device *d, const struct slice *s)
{
    const struct train_ops *ops = d->device->ops;
    const struct trial_sizes *sizes = &d->trial->sizes;
    switch (d->trial->part) {
    case TRIAL_SELF_ATTENTION:
    case TRIAL_CAUSAL_ATTENTION:
    case TRIAL_CROSS_ATTENTION:
        ops->attention_backward(d->device, &s->pass, &d->attention, &s->shape, s->x, s->memory,
                                s->saved, s->gradient, s->memory_gradient);
        break;
    case TRIAL_FEED_FORWARD:
    case TRIAL_SMOOTH_FEED_FORWARD:
        ops->feed_forward_backward(d->device, &s->pass, &d->feed_forward, s->shape.samples,
                                   s->shape.queries, s->x, s->saved, s->gradient);
        break;
    case TRIAL_NORM:
        ops->norm_backward(d->device, &d->norm, s->x, s->rows, s->gradient);
        break;
    case TRIAL_EMBED:
        ops->embed_backward(d->device, s->ids, s->gradient, s->shape.samples, sizes->queries,
                            sizes->dim, sizes->vocab, d->gradient[0], d->gradient[1]);
        break;
    case TRIAL_CROSS_ENTROPY:           /* forwards has done it */
    case TRIAL_PARTS:
        break;
    }
}

static enum akin_status run_slice(struct on_device *d, size_t first, size_t samples, bool back,
                                  struct akin_error *error)
{
    struct slice slice = slice_of(d, first, samples);
    size_t bytes = saved_bytes(d, &slice.shape);
    if (bytes > 0)
        TRY(d->device->ops->allocate(d->device, bytes, &slice.saved, error));
    forward(d, &slice, back);
    if (back)
        backward(d, &slice);
    enum akin_status status = d->device->ops->finish(d->device, error);
    d->device->ops->release(d->device, slice.saved);
    return status;
}

static void fetch_all(struct on_device *d, bool back, struct trial *t)
{
    const struct train_ops *ops = d->device->ops;
    size_t numbers = t->rows * t->sizes.dim * sizeof(float);
    ops->download(d->device, t->y, d->y, numbers);
    ops->download(d->device, &t->loss, d->loss, sizeof t->loss);
    if (!back)
        return;
    for (size_t i = 0; i < t->count; i++)
        ops->download(d->device, t->tensors[i].gradient, d->gradient[i],
                      t->tensors[i].count * sizeof(float));
    if (t->part != TRIAL_EMBED)         /* x's, which took the place of y's */
        ops->download(d->device, t->tensors[0].gradient, d->y_gradient, numbers);
}

enum akin_status trial_run(struct train_device *device, const struct train_pass *pass, size_t slice,
                           bool back, struct trial *trial, struct akin_error *error)
{
    struct on_device d = {.device = device, .trial = trial, .pass = *pass};
    size_t samples = trial->sizes.samples;
    if (slice == 0)
        slice = samples;
    enum akin_status status = send_all(&d, error);
    for (size_t i = 0; status == AKIN_OK && i < samples; i += slice)
        status = run_slice(&d, i, samples - i < slice ? samples - i : slice, back, error);
    if (status == AKIN_OK)
        fetch_all(&d, back, trial);
    if (status == AKIN_OK)
        status = device->ops->finish(device, error);
    release_all(&d);
    return status;
}
