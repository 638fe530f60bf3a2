/* A device that records a step and plays it back: played steps give what asked ones give, with
 * numbers that change from step to step; between begin and end a trainer allocates, uploads and
 * downloads nothing. The device is the reference, with its table wrapped. */
#include "train_rig.h"

#include "base/memory.h"
#include "base/rng.h"

enum { CALLS_MAX = 400, STEPS = 7, OVERFLOW_STEP = 4, BATCH = 5 };

static const struct transformer_shape SMALL = {
    .d_model = 8, .nhead = 2, .encoder_layers = 1, .decoder_layers = 2, .feed_forward = 12,
    .vocab = 11, .seq_len = 5,
};

/* ---- the device ------------------------------------------------------------------------- */

enum kind {
    CLEAR, ADD, PREPARE, EMBED, EMBED_BACK, ATTEND, ATTEND_BACK, FEED, FEED_BACK, NORM, NORM_BACK,
    ENTROPY, FINITE, UPDATE
};

/* One call: pointers in the order of its arguments, then sizes. */
struct call {
    enum kind kind;
    const void *from[4];
    void *to[3];
    size_t sizes[4];
    double weight;
    size_t first_sample;
    struct train_shape shape;
    struct train_linear *linear;
};

/* One device, one thread. */
static struct recorder {
    struct train_ops ops;
    const struct train_ops *plain;
    struct call calls[CALLS_MAX];
    size_t count, played, asked, forbidden;
    bool recording, recorded, enabled;
    bool overflow;              /* the finite check finds that gradients are not */
    const void *owner;
    struct train_pass pass;     /* of the step at hand */
    struct train_update update;
} rec;

static void replay(struct train_device *device, const struct call *c);

/* Does a call, and keeps it where a step is recorded. */
static void note(struct train_device *device, struct call call)
{
    if (rec.recording) {
        assert_true(rec.count < CALLS_MAX);
        rec.calls[rec.count++] = call;
    }
    replay(device, &call);
}

static void between(void)
{
    rec.forbidden += rec.recording;
}

static enum akin_status allocate(struct train_device *device, size_t bytes, void **memory,
                                 struct akin_error *error)
{
    between();
    return rec.plain->allocate(device, bytes, memory, error);
}

static void upload(struct train_device *device, void *to, const void *from, size_t bytes)
{
    between();
    rec.plain->upload(device, to, from, bytes);
}

static void download(struct train_device *device, void *to, const void *from, size_t bytes)
{
    between();
    rec.plain->download(device, to, from, bytes);
}

static enum akin_status finish(struct train_device *device, struct akin_error *error)
{
    between();
    return rec.plain->finish(device, error);
}

static void clear(struct train_device *device, void *memory, size_t bytes)
{
    note(device, (struct call){.kind = CLEAR, .to = {memory}, .sizes = {bytes}});
}

static void add(struct train_device *device, float *to, const float *from, size_t count)
{
    note(device, (struct call){.kind = ADD, .to = {to}, .from = {from}, .sizes = {count}});
}

static enum akin_status linear_prepare(struct train_device *device, struct train_linear *linear,
                                       struct akin_error *error)
{
    (void)error;
    note(device, (struct call){.kind = PREPARE, .linear = linear});
    return AKIN_OK;
}

static void embed_forward(struct train_device *device, const int32_t *ids, const float *tokens,
                          const float *positions, size_t samples, size_t length, size_t dim,
                          float *x)
{
    note(device, (struct call){.kind = EMBED, .from = {ids, tokens, positions}, .to = {x},
                               .sizes = {samples, length, dim}});
}

static void embed_backward(struct train_device *device, const int32_t *ids, const float *x_gradient,
                           size_t samples, size_t length, size_t dim, size_t vocab,
                           float *token_gradient, float *position_gradient)
{
    note(device, (struct call){.kind = EMBED_BACK, .from = {ids, x_gradient},
                               .to = {token_gradient, position_gradient},
                               .sizes = {samples, length, dim, vocab}});
}

static void attention_forward(struct train_device *device, const struct train_pass *pass,
                              const struct train_attention *layer, const struct train_shape *shape,
                              const float *x, const float *memory, float *y, void *saved)
{
    note(device, (struct call){.kind = ATTEND, .from = {layer, x, memory}, .to = {y, saved},
                               .shape = *shape, .first_sample = pass->first_sample});
}

static void attention_backward(struct train_device *device, const struct train_pass *pass,
                               const struct train_attention *layer, const struct train_shape *shape,
                               const float *x, const float *memory, const void *saved,
                               float *gradient, float *memory_gradient)
{
    note(device, (struct call){.kind = ATTEND_BACK, .from = {layer, x, memory, saved},
                               .to = {gradient, memory_gradient}, .shape = *shape,
                               .first_sample = pass->first_sample});
}

static void feed_forward(struct train_device *device, const struct train_pass *pass,
                         const struct train_feed_forward *layer, size_t samples,
                         size_t rows_per_sample, const float *x, float *y, void *saved)
{
    note(device, (struct call){.kind = FEED, .from = {layer, x}, .to = {y, saved},
                               .sizes = {samples, rows_per_sample},
                               .first_sample = pass->first_sample});
}

static void feed_backward(struct train_device *device, const struct train_pass *pass,
                          const struct train_feed_forward *layer, size_t samples,
                          size_t rows_per_sample, const float *x, const void *saved,
                          float *gradient)
{
    note(device, (struct call){.kind = FEED_BACK, .from = {layer, x, saved}, .to = {gradient},
                               .sizes = {samples, rows_per_sample},
                               .first_sample = pass->first_sample});
}

static void norm_forward(struct train_device *device, const struct train_norm *norm, const float *x,
                         size_t rows, float *y)
{
    note(device, (struct call){.kind = NORM, .from = {norm, x}, .to = {y}, .sizes = {rows}});
}

static void norm_backward(struct train_device *device, const struct train_norm *norm,
                          const float *x, size_t rows, float *gradient)
{
    note(device, (struct call){.kind = NORM_BACK, .from = {norm, x}, .to = {gradient},
                               .sizes = {rows}});
}

static void cross_entropy(struct train_device *device, const struct train_pass *pass,
                          const struct train_linear *projection, const int32_t *labels,
                          const float *x, size_t rows, double row_weight, double *loss_sum,
                          float *gradient)
{
    note(device, (struct call){.kind = ENTROPY, .from = {projection, labels, x},
                               .to = {loss_sum, gradient}, .sizes = {rows}, .weight = row_weight,
                               .first_sample = pass->first_sample});
}

static void check_finite(struct train_device *device, const float *values, size_t count,
                         uint32_t *finite)
{
    note(device, (struct call){.kind = FINITE, .from = {values}, .to = {finite},
                               .sizes = {count}});
}

static void update(struct train_device *device, const struct train_update *u, float *values,
                   const float *gradients, float *first, float *second, size_t count,
                   const uint32_t *finite)
{
    assert_memory_equal(u, &rec.update, sizeof *u);     /* what begin was told */
    note(device, (struct call){.kind = UPDATE, .from = {gradients, finite},
                               .to = {values, first, second}, .sizes = {count}});
}

static void replay_part(struct train_device *device, const struct call *c)
{
    const struct train_ops *o = rec.plain;
    const void *const *from = c->from;
    void *const *to = c->to;
    const size_t *n = c->sizes;
    struct train_pass pass = rec.pass;
    pass.first_sample = c->first_sample;
    switch (c->kind) {
    case ATTEND:
        return o->attention_forward(device, &pass, from[0], &c->shape, from[1], from[2], to[0],
                                    to[1]);
    case ATTEND_BACK:
        return o->attention_backward(device, &pass, from[0], &c->shape, from[1], from[2], from[3],
                                     to[0], to[1]);
    case FEED:
        return o->feed_forward_forward(device, &pass, from[0], n[0], n[1], from[1], to[0], to[1]);
    case FEED_BACK:
        return o->feed_forward_backward(device, &pass, from[0], n[0], n[1], from[1], from[2],
                                        to[0]);
    case ENTROPY:
        return o->cross_entropy(device, &pass, from[0], from[1], from[2], n[0], c->weight, to[0],
                                to[1]);
    default:
        fail();
    }
}

static void replay(struct train_device *device, const struct call *c)
{
    const struct train_ops *o = rec.plain;
    const void *const *from = c->from;
    void *const *to = c->to;
    const size_t *n = c->sizes;
    switch (c->kind) {
    case CLEAR: return o->clear(device, to[0], n[0]);
    case ADD: return o->add(device, to[0], from[0], n[0]);
    case PREPARE: must(o->linear_prepare(device, c->linear, NULL), NULL); return;
    case EMBED:
        return o->embed_forward(device, from[0], from[1], from[2], n[0], n[1], n[2], to[0]);
    case EMBED_BACK:
        return o->embed_backward(device, from[0], from[1], n[0], n[1], n[2], n[3], to[0], to[1]);
    case NORM: return o->norm_forward(device, from[0], from[1], n[0], to[0]);
    case NORM_BACK: return o->norm_backward(device, from[0], from[1], n[0], to[0]);
    case FINITE:
        o->check_finite(device, from[0], n[0], to[0]);
        if (rec.overflow)
            *(uint32_t *)to[0] = 0;
        return;
    case UPDATE:
        return o->update(device, &rec.update, to[0], from[0], to[1], to[2], n[0], from[1]);
    default: return replay_part(device, c);
    }
}

static bool step_begin(struct train_device *device, const void *owner,
                       const struct train_pass *pass, const struct train_update *of_step)
{
    assert_false(rec.recording);
    rec.pass = *pass;
    rec.update = *of_step;
    if (rec.enabled && rec.recorded && rec.owner == owner) {
        for (size_t i = 0; i < rec.count; i++)
            replay(device, &rec.calls[i]);
        rec.played++;
        return true;
    }
    rec.recorded = false;
    rec.owner = owner;
    rec.count = 0;
    rec.asked++;
    rec.recording = true;
    return false;
}

static void step_end(struct train_device *device)
{
    (void)device;
    assert_true(rec.recording);
    rec.recording = false;
    rec.recorded = true;
}

static bool supports(const struct train_device *device, enum train_precision precision)
{
    (void)device;
    return precision != TRAIN_BF16;     /* FP16: as FP32, under a loss scale */
}

static struct train_device *recording_device(bool enabled)
{
    struct train_device *device = NULL;
    must(reference_train_create(&device, NULL), NULL);
    rec = (struct recorder){.plain = device->ops, .ops = *device->ops, .enabled = enabled};
    struct train_ops *o = &rec.ops;
    o->supports = supports;
    o->allocate = allocate;
    o->upload = upload;
    o->download = download;
    o->finish = finish;
    o->clear = clear;
    o->add = add;
    o->linear_prepare = linear_prepare;
    o->embed_forward = embed_forward;
    o->embed_backward = embed_backward;
    o->attention_forward = attention_forward;
    o->attention_backward = attention_backward;
    o->feed_forward_forward = feed_forward;
    o->feed_forward_backward = feed_backward;
    o->norm_forward = norm_forward;
    o->norm_backward = norm_backward;
    o->cross_entropy = cross_entropy;
    o->check_finite = check_finite;
    o->update = update;
    o->step_begin = step_begin;
    o->step_end = step_end;
    device->ops = o;
    return device;
}

/* ---- training on it --------------------------------------------------------------------- */

struct outcome {
    struct step_result results[STEPS];
    struct safetensors *weights;
};

static void train(struct trainer *trainer, struct rng *rng, struct step_result *result)
{
    int32_t source[BATCH * 5], target[BATCH * 5];
    struct akin_error error = {0};
    for (size_t i = 0; i < BATCH * SMALL.seq_len; i++) {
        source[i] = (int32_t)rng_below(rng, SMALL.vocab);
        target[i] = (int32_t)rng_below(rng, SMALL.vocab);
    }
    must(trainer_step(trainer, source, target, result, &error), &error);
}

/* Slices that do not divide the batch, dropout, and in FP16 an overflow in the midst. */
static void run(struct train_device *device, enum train_precision precision, bool recompute,
                struct outcome *outcome)
{
    struct trainer_settings settings = rig_settings(&SMALL, BATCH);
    struct rng rng;
    settings.precision = precision;
    settings.dropout = 0.1f;
    settings.slice = 2;
    settings.recompute = recompute;
    settings.update.rate = 1e-2f;
    rng_seed(&rng, 7);
    struct trainer *trainer = rig_trainer(device, &settings);
    for (int i = 0; i < STEPS; i++) {
        rec.overflow = i == OVERFLOW_STEP;
        train(trainer, &rng, &outcome->results[i]);
    }
    outcome->weights = rig_fetch(trainer, false);
    trainer_destroy(&trainer);
}

static void expect_same(struct outcome *a, struct outcome *b)
{
    assert_memory_equal(a->results, b->results, sizeof a->results);
    for (size_t i = 0; i < safetensors_count(a->weights); i++) {
        const struct safetensors_tensor *x = safetensors_at(a->weights, i);
        assert_memory_equal(x->data, safetensors_at(b->weights, i)->data, x->bytes);
    }
    safetensors_close(&a->weights);
    safetensors_close(&b->weights);
}

static void played_steps_are_as_asked_ones(void **state)
{
    (void)state;
    for (int variant = 0; variant < 4; variant++) {
        enum train_precision precision = variant & 1 ? TRAIN_FP16 : TRAIN_FP32;
        struct outcome asked = {0}, played = {0}, plain = {0};
        struct train_device *device = recording_device(false);
        run(device, precision, variant & 2, &asked);
        assert_int_equal(rec.asked, STEPS);
        device->ops->destroy(&device);
        device = recording_device(true);
        run(device, precision, variant & 2, &played);
        assert_int_equal(rec.asked, 1);
        assert_int_equal(rec.played, STEPS - 1);
        assert_int_equal(rec.forbidden, 0);
        assert_true(rec.count > 20);
        assert_true(asked.results[0].loss != asked.results[1].loss);
        for (int i = 0; precision == TRAIN_FP16 && i < STEPS; i++) {
            assert_int_equal(played.results[i].skipped, i == OVERFLOW_STEP);
            assert_true(played.results[i].scale == (i > OVERFLOW_STEP ? 32768 : 65536));
        }
        device->ops->destroy(&device);
        if (precision == TRAIN_FP32) {      /* and as those of a device that records nothing */
            must(reference_train_create(&device, NULL), NULL);
            run(device, precision, variant & 2, &plain);
            assert_memory_equal(plain.results, asked.results, sizeof plain.results);
            safetensors_close(&plain.weights);
            device->ops->destroy(&device);
        }
        expect_same(&asked, &played);
    }
}

/* Two trainers in turn on one device do not get each other's steps. */
static void owners_are_told_apart(void **state)
{
    (void)state;
    struct train_device *device = recording_device(true);
    struct trainer_settings settings = rig_settings(&SMALL, BATCH);
    struct trainer *a = rig_trainer(device, &settings), *b = rig_trainer(device, &settings);
    for (int i = 0; i < 3; i++) {
        struct rng same[2];
        struct step_result results[2];
        rng_seed(&same[0], 11);
        rng_seed(&same[1], 11);
        train(a, &same[0], &results[0]);
        train(b, &same[1], &results[1]);
        assert_true(results[0].loss == results[1].loss);
    }
    assert_int_equal(rec.played, 0);
    trainer_destroy(&a);
    trainer_destroy(&b);
    device->ops->destroy(&device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(played_steps_are_as_asked_ones),
        cmocka_unit_test(owners_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
