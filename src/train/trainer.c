/* One model that learns: batches in slices, the loss scale of FP16, the update. The loss scale
 * follows Micikevicius et al. 2018 with PyTorch's constants. */
#include "train/trainer.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "train/transformer.h"
#include "train/weights.h"

enum { SCALE_GOOD_STEPS = 2000 };

static const double SCALE_START = 65536, SCALE_LEAST = 0x1p-20, SCALE_MOST = 0x1p60;
static const size_t BATCH_MOST = (size_t)1 << 24;

struct trainer {
    struct trainer_settings settings;
    struct transformer model;
    struct train_device *device;
    float *first, *second;      /* moments, as the model's values; NULL for SGD */
    int32_t *ids;               /* of the device: source, then input, then labels of the batch */
    int32_t *staging;           /* the same on the host */
    double *loss_sum;           /* of the device */
    uint32_t *finite;           /* of the device */
    uint64_t step, updates;     /* steps begun; those that learned */
    double scale, used_scale;   /* of the next step, of the last */
    unsigned good_steps;        /* since the scale last changed */
};

/* ---- settings --------------------------------------------------------------------------- */

static enum akin_status check_update(const struct train_update *u, struct akin_error *error)
{
    const struct {
        const char *name;
        float value, below;     /* least is 0 */
    } numbers[] = {
        {"the learning rate", u->rate, INFINITY}, {"the weight decay", u->decay, INFINITY},
        {"beta1", u->beta1, 1},                   {"beta2", u->beta2, 1},
        {"epsilon", u->epsilon, INFINITY},
    };
    size_t count = u->optimizer == TRAIN_SGD ? 2 : sizeof numbers / sizeof *numbers;
    for (size_t i = 0; i < count; i++)
        if (!(numbers[i].value >= 0 && numbers[i].value < numbers[i].below))
            return error_set(error, AKIN_ARGUMENT, "%s is %g; it must be at least 0 and below %g",
                             numbers[i].name, (double)numbers[i].value, (double)numbers[i].below);
    if (u->optimizer > TRAIN_SGD)
        return error_set(error, AKIN_ARGUMENT, "optimizer %d is not known", (int)u->optimizer);
    return AKIN_OK;
}

static enum akin_status check_settings(const struct train_device *device,
                                       const struct trainer_settings *s, struct akin_error *error)
{
    static const char *const precisions[] = {"fp32", "bf16", "fp16"};
    if (s->batch < 1 || s->batch > BATCH_MOST)
        return error_set(error, AKIN_ARGUMENT, "the batch has %zu samples; it must have 1 to %zu",
                         s->batch, BATCH_MOST);
    if (!(s->dropout >= 0 && s->dropout < 1) || dropout_threshold(s->dropout) >= 65536)
        return error_set(error, AKIN_ARGUMENT,
                         "dropout is %g; it must be at least 0 and below 1", (double)s->dropout);
    if (s->precision > TRAIN_FP16)
        return error_set(error, AKIN_ARGUMENT, "precision %d is not known", (int)s->precision);
    if (!device->ops->supports(device, s->precision))
        return error_set(error, AKIN_UNSUPPORTED, "device %s does not train in %s here",
                         device->ops->name, precisions[s->precision]);
    return check_update(&s->update, error);
}

static size_t slice_samples(const struct train_device *device, const struct trainer_settings *s)
{
    size_t slice = s->slice ? s->slice : device->ops->slice_samples;
    return slice == 0 || slice > s->batch ? s->batch : slice;
}

/* ---- memory ----------------------------------------------------------------------------- */

/* Tokens of one sample that a step hands to the device. */
static size_t sample_ids(const struct transformer_shape *shape)
{
    return shape->seq_len + 2 * (shape->seq_len - 1);
}

static enum akin_status count_bytes(struct transformer *model, const struct trainer_settings *s,
                                    struct trainer_bytes *bytes, struct akin_error *error)
{
    struct transformer_bytes of_model;
    size_t ids;
    TRY(transformer_bytes(model, &of_model, error));
    if (!size_mul(s->batch, sample_ids(&s->shape) * sizeof(int32_t), &ids))
        return error_set(error, AKIN_LIMIT, "a batch of %zu samples is too large", s->batch);
    *bytes = (struct trainer_bytes){
        .parameters = of_model.parameters, .gradients = of_model.gradients,
        .moments = s->update.optimizer == TRAIN_SGD ? 0 : 2 * of_model.parameters,
        .activations = of_model.activations,
        .scratch = of_model.scratch + ids + sizeof(double) + sizeof(uint32_t),
    };
    bytes->total = bytes->parameters + bytes->gradients + bytes->moments + bytes->activations
                   + bytes->scratch;
    return AKIN_OK;
}

enum akin_status trainer_estimate(const struct train_device *device,
                                  const struct trainer_settings *settings,
                                  struct trainer_bytes *bytes, struct akin_error *error)
{
    struct transformer model;
    TRY(check_settings(device, settings, error));
    /* A model that is never allocated only asks how much its parts save. */
    TRY(transformer_init(&model, (struct train_device *)(uintptr_t)device, &settings->shape,
                         slice_samples(device, settings), settings->recompute, error));
    enum akin_status status = count_bytes(&model, settings, bytes, error);
    transformer_deinit(&model);
    return status;
}

static enum akin_status take(struct trainer *t, size_t bytes, void *place, struct akin_error *error)
{
    void *memory;
    TRY(t->device->ops->allocate(t->device, bytes, &memory, error));
    *(void **)place = memory;
    return AKIN_OK;
}

static enum akin_status take_all(struct trainer *t, struct akin_error *error)
{
    size_t values = t->model.table.values * sizeof(float);
    size_t ids = t->settings.batch * sample_ids(&t->settings.shape);
    TRY(transformer_allocate(&t->model, error));
    if (t->settings.update.optimizer != TRAIN_SGD) {
        TRY(take(t, values, &t->first, error));
        TRY(take(t, values, &t->second, error));
    }
    TRY(take(t, ids * sizeof *t->ids, &t->ids, error));
    TRY(take(t, sizeof *t->loss_sum, &t->loss_sum, error));
    TRY(take(t, sizeof *t->finite, &t->finite, error));
    t->staging = memory_alloc(ids, sizeof *t->staging);
    return t->staging ? AKIN_OK : error_memory(error);
}

/* Host memory for all parameters. */
static enum akin_status take_host(const struct trainer *t, float **values, struct akin_error *error)
{
    *values = memory_alloc_aligned(t->model.table.values, sizeof **values);
    return *values ? AKIN_OK : error_memory(error);
}

static enum akin_status set_values(struct trainer *t, const float *values, struct akin_error *error)
{
    t->device->ops->upload(t->device, t->model.values, values,
                           t->model.table.values * sizeof *values);
    TRY(transformer_prepare(&t->model, error));
    return t->device->ops->finish(t->device, error);
}

static enum akin_status draw(struct trainer *t, struct akin_error *error)
{
    float *values;
    TRY(take_host(t, &values, error));
    weights_draw(&t->model.table, t->settings.seed, values);
    enum akin_status status = set_values(t, values, error);
    memory_free(values);
    return status;
}

enum akin_status trainer_create(struct train_device *device,
                                const struct trainer_settings *settings, struct trainer **trainer,
                                struct akin_error *error)
{
    struct trainer_bytes bytes;
    TRY(trainer_estimate(device, settings, &bytes, error));
    struct trainer *t = memory_alloc(1, sizeof *t);
    if (!t)
        return error_memory(error);
    t->settings = *settings;
    t->device = device;
    t->scale = t->used_scale = settings->precision == TRAIN_FP16 ? SCALE_START : 1;
    enum akin_status status = transformer_init(&t->model, device, &settings->shape,
                                               slice_samples(device, settings),
                                               settings->recompute, error);
    if (status == AKIN_OK)
        status = take_all(t, error);
    if (status == AKIN_OK)
        status = draw(t, error);
    if (status == AKIN_OK)
        *trainer = t;
    else
        trainer_destroy(&t);
    return status;
}

void trainer_destroy(struct trainer **trainer)
{
    struct trainer *t = *trainer;
    if (!t)
        return;
    const struct train_ops *ops = t->device->ops;
    void *blocks[] = {t->first, t->second, t->ids, t->loss_sum, t->finite};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        ops->release(t->device, blocks[i]);
    transformer_deinit(&t->model);
    memory_free(t->staging);
    memory_free(t);
    *trainer = NULL;
}

/* ---- files ------------------------------------------------------------------------------ */

enum akin_status trainer_load(struct trainer *t, const char *path, struct akin_error *error)
{
    float *values;
    TRY(take_host(t, &values, error));
    enum akin_status status = weights_read(&t->model.table, path, values, error);
    if (status == AKIN_OK)
        status = set_values(t, values, error);
    memory_free(values);
    return status;
}

static enum akin_status save(struct trainer *t, const float *block, float factor, const char *path,
                             struct akin_error *error)
{
    float *values;
    TRY(take_host(t, &values, error));
    t->device->ops->download(t->device, values, block, t->model.table.values * sizeof *values);
    enum akin_status status = t->device->ops->finish(t->device, error);
    if (status == AKIN_OK)
        status = weights_write(&t->model.table, path, values, factor, error);
    memory_free(values);
    return status;
}

enum akin_status trainer_save(struct trainer *t, const char *path, struct akin_error *error)
{
    return save(t, t->model.values, 1, path, error);
}

enum akin_status trainer_save_gradients(struct trainer *t, const char *path,
                                        struct akin_error *error)
{
    return save(t, t->model.gradients, (float)(1 / t->used_scale), path, error);
}

const struct parameter_table *trainer_parameters(const struct trainer *t)
{
    return &t->model.table;
}

/* ---- a step ----------------------------------------------------------------------------- */

static enum akin_status check_tokens(const struct trainer *t, const char *side, const int32_t *ids,
                                     struct akin_error *error)
{
    size_t length = t->settings.shape.seq_len, count = t->settings.batch * length;
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= t->settings.shape.vocab)
            return error_set(error, AKIN_ARGUMENT,
                             "%s of sample %zu: token %zu is %d; it must be 0 to %zu", side,
                             i / length, i % length, ids[i], t->settings.shape.vocab - 1);
    return AKIN_OK;
}

/* All that a step reads. The decoder reads a target without its last token, and learns it without
 * its first. */
static void stage(struct trainer *t, const int32_t *source, const int32_t *target)
{
    size_t batch = t->settings.batch, length = t->settings.shape.seq_len;
    int32_t *input = t->staging + batch * length, *labels = input + batch * (length - 1);
    const uint32_t finite = 1;
    memcpy(t->staging, source, batch * length * sizeof *source);
    for (size_t i = 0; i < batch; i++, target += length) {
        memcpy(input + i * (length - 1), target, (length - 1) * sizeof *input);
        memcpy(labels + i * (length - 1), target + 1, (length - 1) * sizeof *labels);
    }
    t->device->ops->upload(t->device, t->ids, t->staging,
                           batch * sample_ids(&t->settings.shape) * sizeof *t->ids);
    if (t->settings.precision == TRAIN_FP16)
        t->device->ops->upload(t->device, t->finite, &finite, sizeof finite);
}

static size_t world(const struct trainer *t)
{
    return t->settings.reducer ? t->settings.reducer->world : 1;
}

/* Labels of all ranks. */
static double label_count(const struct trainer *t)
{
    return (double)world(t) * (double)t->settings.batch * (double)(t->settings.shape.seq_len - 1);
}

static struct train_pass pass_from(const struct trainer *t, size_t first)
{
    const struct trainer_settings *s = &t->settings;
    size_t rank = s->reducer ? s->reducer->rank : 0;
    return (struct train_pass){.dropout = s->dropout, .seed = s->seed, .step = (uint32_t)t->step,
                               .first_sample = rank * s->batch + first,
                               .loss_scale = (float)t->scale};
}

static struct train_update next_update(const struct trainer *t)
{
    struct train_update update = t->settings.update;
    update.step = t->updates + 1;
    update.gradient_factor = (float)(1 / t->used_scale);
    return update;
}

static void learn(struct trainer *t)
{
    const struct trainer_settings *s = &t->settings;
    size_t batch = s->batch, length = s->shape.seq_len;
    const int32_t *input = t->ids + batch * length, *labels = input + batch * (length - 1);
    transformer_clear_gradients(&t->model);
    t->device->ops->clear(t->device, t->loss_sum, sizeof *t->loss_sum);
    for (size_t first = 0; first < batch; first += t->model.slice) {
        size_t samples = batch - first < t->model.slice ? batch - first : t->model.slice;
        struct train_pass pass = pass_from(t, first);
        struct transformer_slice slice = {
            .samples = samples, .source = t->ids + first * length,
            .input = input + first * (length - 1), .labels = labels + first * (length - 1),
            .row_weight = 1 / label_count(t), .loss_sum = t->loss_sum, .reducer = s->reducer,
            .last = first + samples == batch,
        };
        transformer_learn(&t->model, &pass, &slice);
    }
}

/* What follows from the gradients. Where they overflowed nothing changes. */
static enum akin_status use_gradients(struct trainer *t, const struct train_update *update,
                                      struct akin_error *error)
{
    const struct train_ops *ops = t->device->ops;
    bool fp16 = t->settings.precision == TRAIN_FP16;
    if (fp16)
        ops->check_finite(t->device, t->model.gradients, t->model.table.values, t->finite);
    ops->update(t->device, update, t->model.values, t->model.gradients, t->first, t->second,
                t->model.table.values, fp16 ? t->finite : NULL);
    return transformer_prepare(&t->model, error);
}

/* Asks for a whole step; where the device plays back what it recorded, at once. Ranks meet in the
 * middle, which no device records. */
static enum akin_status take_step(struct trainer *t, struct akin_error *error)
{
    const struct train_ops *ops = t->device->ops;
    const struct gradient_reducer *reducer = t->settings.reducer;
    const struct train_update update = next_update(t);
    const struct train_pass pass = pass_from(t, 0);
    bool whole = ops->step_begin && !reducer;
    if (whole && ops->step_begin(t->device, t, &pass, &update))
        return AKIN_OK;
    learn(t);
    enum akin_status status = reducer ? reducer->wait(reducer->context, error) : AKIN_OK;
    if (status == AKIN_OK)
        status = use_gradients(t, &update, error);
    if (whole)
        ops->step_end(t->device);
    return status;
}

/* What the device found: the loss, and whether it learned. */
static enum akin_status read_step(struct trainer *t, double *loss, bool *learned,
                                  struct akin_error *error)
{
    const struct train_ops *ops = t->device->ops;
    const struct gradient_reducer *reducer = t->settings.reducer;
    uint32_t finite = 1;
    double sum;
    TRY(ops->finish(t->device, error));
    ops->download(t->device, &sum, t->loss_sum, sizeof sum);
    if (t->settings.precision == TRAIN_FP16)
        ops->download(t->device, &finite, t->finite, sizeof finite);
    TRY(ops->finish(t->device, error));
    if (reducer)
        TRY(reducer->sum(reducer->context, &sum, error));
    *loss = sum / label_count(t);
    *learned = finite != 0;
    return AKIN_OK;
}

static enum akin_status follow_scale(struct trainer *t, bool learned, struct akin_error *error)
{
    t->good_steps = learned ? t->good_steps + 1 : 0;
    if (!learned)
        t->scale /= 2;
    else if (t->good_steps == SCALE_GOOD_STEPS && t->scale < SCALE_MOST) {
        t->scale *= 2;
        t->good_steps = 0;
    }
    if (t->scale >= SCALE_LEAST)
        return AKIN_OK;
    return error_set(error, AKIN_NUMERIC,
                     "step %llu: the gradients are not finite at any loss scale; train in bf16 or "
                     "fp32, or with a smaller learning rate", (unsigned long long)t->step);
}

enum akin_status trainer_step(struct trainer *t, const int32_t *source, const int32_t *target,
                              struct step_result *result, struct akin_error *error)
{
    struct step_result found = {.scale = t->scale};
    bool learned;
    TRY(check_tokens(t, "source", source, error));
    TRY(check_tokens(t, "target", target, error));
    t->step++;
    t->used_scale = t->scale;
    stage(t, source, target);
    TRY(take_step(t, error));
    TRY(read_step(t, &found.loss, &learned, error));
    if (!isfinite(found.loss))
        return error_set(error, AKIN_NUMERIC,
                         "step %llu: the loss is not finite; a smaller learning rate may help",
                         (unsigned long long)t->step);
    t->updates += learned;
    found.skipped = !learned;
    if (t->settings.precision == TRAIN_FP16)
        TRY(follow_scale(t, learned, error));
    *result = found;
    return AKIN_OK;
}
