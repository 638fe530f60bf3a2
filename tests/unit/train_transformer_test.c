/* What holds for a training model beyond its numbers: slices, recomputed layers and threads change
 * no bit; the loss falls; gradients are slopes and are announced when final; ranks add up; FP16
 * follows its scale. */
#include "train_rig.h"

#include "base/memory.h"
#include "base/rng.h"
#include "train/weights.h"

#define FIXTURE AKIN_SOURCE_DIR "/tests/fixtures/train"

static const struct transformer_shape SMALL = {
    .d_model = 8, .nhead = 2, .encoder_layers = 1, .decoder_layers = 2, .feed_forward = 12,
    .vocab = 11, .seq_len = 5,
};

static void random_tokens(struct rng *rng, const struct transformer_shape *shape, size_t batch,
                          int32_t *tokens)
{
    for (size_t i = 0; i < batch * shape->seq_len; i++)
        tokens[i] = (int32_t)rng_below(rng, shape->vocab);
}

static bool same_tensors(struct safetensors *a, struct safetensors *b)
{
    bool same = safetensors_count(a) == safetensors_count(b);
    for (size_t i = 0; same && i < safetensors_count(a); i++) {
        const struct safetensors_tensor *x = safetensors_at(a, i), *y = safetensors_at(b, i);
        same = x->bytes == y->bytes && !memcmp(x->data, y->data, x->bytes);
    }
    return same;
}

/* ---- bits ------------------------------------------------------------------------------- */

/* The weights after three steps with dropout. */
static struct safetensors *trained(enum rig_device which, int threads,
                                   enum train_precision precision, const struct truth *truth,
                                   size_t slice, bool recompute)
{
    struct thread_pool *pool;
    struct train_device *device = rig_device(which, threads, precision, &pool);
    struct trainer_settings settings = rig_settings(&truth->shape, truth->batch);
    if (!device)
        return NULL;
    settings.precision = precision;
    settings.slice = slice;
    settings.recompute = recompute;
    settings.dropout = 0.1f;
    settings.update.rate = 1e-2f;
    struct trainer *trainer = rig_trainer(device, &settings);
    for (size_t step = 0; step < 3; step++)
        rig_step(trainer, truth, step);
    struct safetensors *file = rig_fetch(trainer, false);
    trainer_destroy(&trainer);
    rig_release(&device, &pool);
    return file;
}

static void no_bit_depends_on_slices(void **state)
{
    (void)state;
    struct truth truth;
    truth_open(FIXTURE, &truth);
    for (int which = 0; which < RIG_DEVICES; which++)
        for (int precision = TRAIN_FP32; precision <= TRAIN_FP16; precision++) {
            enum rig_device device = (enum rig_device)which;
            enum train_precision p = (enum train_precision)precision;
            struct safetensors *wanted = trained(device, 1, p, &truth, truth.batch, false);
            for (size_t slice = 1; wanted && slice <= truth.batch; slice++)
                for (int recompute = 0; recompute < 2; recompute++) {
                    struct safetensors *found = trained(device, 1 + 2 * recompute, p, &truth, slice,
                                                        recompute);
                    assert_true(same_tensors(found, wanted));
                    safetensors_close(&found);
                }
            safetensors_close(&wanted);
        }
    truth_close(&truth);
}

/* ---- learning --------------------------------------------------------------------------- */

static void the_loss_falls(void **state)
{
    (void)state;
    struct truth truth;
    truth_open(FIXTURE, &truth);
    for (int which = 0; which < RIG_DEVICES; which++) {
        struct thread_pool *pool;
        struct train_device *device = rig_device((enum rig_device)which, 2, TRAIN_FP32, &pool);
        if (!device)
            continue;
        struct trainer_settings settings = rig_settings(&truth.shape, truth.batch);
        settings.update.rate = 1e-2f;
        settings.dropout = 0.1f;
        struct trainer *trainer = rig_trainer(device, &settings);
        double first = rig_step(trainer, &truth, 0), last = first;
        for (int i = 0; i < 40; i++)
            last = rig_step(trainer, &truth, 0);
        assert_true(first > 4 && last < first / 4);
        trainer_destroy(&trainer);
        rig_release(&device, &pool);
    }
    truth_close(&truth);
}

/* The loss of a first step from `values`, with dropout. */
static double loss_at(struct train_device *device, const struct trainer_settings *settings,
                      const float *values, const int32_t *source, const int32_t *target,
                      struct safetensors **gradients)
{
    struct akin_error error = {0};
    struct step_result result;
    struct trainer *trainer = rig_trainer(device, settings);
    const char *path = rig_file("values");
    must(weights_write(trainer_parameters(trainer), path, values, 1, &error), &error);
    must(trainer_load(trainer, path, &error), &error);
    must(path_remove(path, &error), &error);
    must(trainer_step(trainer, source, target, &result, &error), &error);
    if (gradients)
        *gradients = rig_fetch(trainer, true);
    trainer_destroy(&trainer);
    return result.loss;
}

/* The slope of the loss along a random direction in one tensor is what its gradient says. */
static void check_slope(struct train_device *device, const struct trainer_settings *settings,
                        const struct parameter *p, const struct safetensors *gradients,
                        float *values, const int32_t *source, const int32_t *target)
{
    const struct safetensors_tensor *gradient = safetensors_find(gradients, p->name);
    const float step = 2e-3f;
    double along = 0, norm = 0, loss[2];
    float start[512];
    assert_true(gradient->elements <= 512);
    memcpy(start, values + p->offset, gradient->bytes);
    for (int side = 0; side < 2; side++) {
        struct rng rng;
        rng_seed(&rng, 41);
        for (size_t i = 0; i < gradient->elements; i++) {
            float direction = rng_normal(&rng);
            values[p->offset + i] = start[i] + (side ? -step : step) * direction;
            along += side ? 0 : (double)rig_number(gradient, i) * (double)direction;
            norm += side ? 0 : pow((double)rig_number(gradient, i), 2);
        }
        loss[side] = loss_at(device, settings, values, source, target, NULL);
    }
    memcpy(values + p->offset, start, gradient->bytes);
    double slope = (loss[0] - loss[1]) / (2 * (double)step);
    if (!(fabs(slope - along) <= 0.02 * sqrt(norm) + 2e-4))
        fail_msg("%s: slope %g, gradient %g of norm %g", p->name, slope, along, sqrt(norm));
}

static void gradients_are_slopes(void **state)
{
    (void)state;
    struct thread_pool *pool;
    struct train_device *device = rig_device(RIG_REFERENCE, 1, TRAIN_FP32, &pool);
    struct trainer_settings settings = rig_settings(&SMALL, 3);
    struct safetensors *gradients;
    struct parameter_table table;
    struct rng rng;
    int32_t source[15], target[15];
    settings.dropout = 0.2f;
    settings.slice = 2;
    must(parameter_table_create(&SMALL, &table, NULL), NULL);
    float *values = memory_alloc(table.values, sizeof *values);
    rng_seed(&rng, 3);
    random_tokens(&rng, &SMALL, 3, source);
    random_tokens(&rng, &SMALL, 3, target);
    weights_draw(&table, 1, values);
    loss_at(device, &settings, values, source, target, &gradients);
    for (size_t i = 0; i < table.count; i++)
        check_slope(device, &settings, &table.parameters[i], gradients, values, source, target);
    safetensors_close(&gradients);
    memory_free(values);
    parameter_table_destroy(&table);
    rig_release(&device, &pool);
}

/* ---- dropout ---------------------------------------------------------------------------- */

static const struct train_ops *plain_ops;

/* How often each site was asked for. */
static int sites[64];

static void counting_attention(struct train_device *device, const struct train_pass *pass,
                               const struct train_attention *layer, const struct train_shape *shape,
                               const float *x, const float *memory, float *y, void *saved)
{
    sites[layer->site]++;
    sites[layer->site + 1]++;
    plain_ops->attention_forward(device, pass, layer, shape, x, memory, y, saved);
}

static void counting_feed_forward(struct train_device *device, const struct train_pass *pass,
                                  const struct train_feed_forward *layer, size_t samples,
                                  size_t rows_per_sample, const float *x, float *y, void *saved)
{
    sites[layer->site]++;
    sites[layer->site + 1]++;
    plain_ops->feed_forward_forward(device, pass, layer, samples, rows_per_sample, x, y, saved);
}

/* No two tensors, and no two steps, drop the same numbers; and it is the seed that says which. */
static void dropout_is_never_the_same(void **state)
{
    (void)state;
    struct thread_pool *pool;
    struct train_device *device = rig_device(RIG_REFERENCE, 1, TRAIN_FP32, &pool);
    struct truth truth;
    truth_open(FIXTURE, &truth);
    struct trainer_settings settings = rig_settings(&truth.shape, truth.batch);
    struct train_ops ops = *device->ops;
    struct akin_error error = {0};
    double losses[4];
    plain_ops = device->ops;
    ops.attention_forward = counting_attention;
    ops.feed_forward_forward = counting_feed_forward;
    device->ops = &ops;
    settings.update.rate = 0;
    for (int dropped = 0; dropped < 2; dropped++)
        for (uint64_t seed = 1; seed <= 2; seed++) {
            settings.dropout = dropped ? 0.1f : 0;
            settings.seed = seed;
            struct trainer *trainer = rig_trainer(device, &settings);
            must(trainer_load(trainer, truth_path(&truth, "init.safetensors"), &error), &error);
            memset(sites, 0, sizeof sites);
            for (int step = 0; step < 2; step++)
                losses[2 * (seed - 1) + (uint64_t)step] = rig_step(trainer, &truth, 0);
            size_t parts = 2 * truth.shape.encoder_layers + 3 * truth.shape.decoder_layers;
            for (size_t i = 0; i < 64; i++)
                assert_int_equal(sites[i], i < 2 * parts ? 2 : 0);
            assert_true((losses[2 * (seed - 1)] != losses[2 * (seed - 1) + 1]) == dropped);
            trainer_destroy(&trainer);
            if (seed == 2)
                assert_true((losses[0] != losses[2]) == dropped);
        }
    device->ops = plain_ops;
    truth_close(&truth);
    rig_release(&device, &pool);
}

/* ---- ranks ------------------------------------------------------------------------------ */

/* Adds nothing; remembers what it was told. */
struct listener {
    size_t next;                /* where the last announcement began */
    float *seen;                /* gradients as they were when they were said to be final */
    int calls;
    bool in_order;
};

static void listen_start(void *context, float *gradients, size_t offset, size_t count)
{
    struct listener *l = context;
    l->in_order = l->in_order && offset + count == l->next && count > 0;
    l->next = offset;
    l->calls++;
    memcpy(l->seen + offset, gradients + offset, count * sizeof *gradients);
}

static enum akin_status listen_wait(void *context, struct akin_error *error)
{
    (void)context, (void)error;
    return AKIN_OK;
}

static enum akin_status listen_sum(void *context, double *value, struct akin_error *error)
{
    (void)context, (void)value, (void)error;
    return AKIN_OK;
}

static void final_gradients_are_announced(void **state)
{
    (void)state;
    struct thread_pool *pool;
    struct train_device *device = rig_device(RIG_REFERENCE, 1, TRAIN_FP32, &pool);
    struct truth truth;
    truth_open(FIXTURE, &truth);
    for (size_t slice = 1; slice <= truth.batch; slice++) {
        struct trainer_settings settings = rig_settings(&truth.shape, truth.batch);
        struct listener listener = {.in_order = true};
        struct gradient_reducer reducer = {&listener, listen_start, listen_wait, listen_sum, 0, 1};
        settings.slice = slice;
        settings.reducer = &reducer;
        struct trainer *trainer = rig_trainer(device, &settings);
        const struct parameter_table *table = trainer_parameters(trainer);
        listener.seen = memory_alloc(table->values, sizeof *listener.seen);
        listener.next = table->values;
        rig_step(trainer, &truth, 0);
        assert_true(listener.in_order);
        assert_int_equal(listener.next, 0);
        assert_int_equal(listener.calls, 1 + truth.shape.decoder_layers
                                             + truth.shape.encoder_layers + 1);
        struct safetensors *gradients = rig_fetch(trainer, true);
        for (size_t i = 0; i < table->count; i++) {
            const struct safetensors_tensor *t = safetensors_find(gradients,
                                                                  table->parameters[i].name);
            assert_memory_equal(listener.seen + table->parameters[i].offset, t->data, t->bytes);
        }
        safetensors_close(&gradients);
        memory_free(listener.seen);
        trainer_destroy(&trainer);
    }
    truth_close(&truth);
    rig_release(&device, &pool);
}

static struct safetensors *gradients_of(struct train_device *device, size_t batch, size_t rank,
                                        size_t world, const int32_t *source, const int32_t *target)
{
    struct trainer_settings settings = rig_settings(&SMALL, batch);
    struct listener listener = {0};
    struct gradient_reducer reducer = {&listener, listen_start, listen_wait, listen_sum, rank,
                                       world};
    struct akin_error error = {0};
    struct step_result result;
    settings.dropout = 0.3f;
    settings.reducer = &reducer;
    struct trainer *trainer = rig_trainer(device, &settings);
    listener.seen = memory_alloc(trainer_parameters(trainer)->values, sizeof *listener.seen);
    size_t skip = rank * batch * SMALL.seq_len;
    must(trainer_step(trainer, source + skip, target + skip, &result, &error), &error);
    struct safetensors *gradients = rig_fetch(trainer, true);
    memory_free(listener.seen);
    trainer_destroy(&trainer);
    return gradients;
}

/* Two ranks of two samples drop what one rank of four drops, and their gradients add up to its. */
static void ranks_add_up(void **state)
{
    (void)state;
    struct thread_pool *pool;
    struct train_device *device = rig_device(RIG_REFERENCE, 1, TRAIN_FP32, &pool);
    struct rng rng;
    int32_t source[20], target[20];
    rng_seed(&rng, 3);
    random_tokens(&rng, &SMALL, 4, source);
    random_tokens(&rng, &SMALL, 4, target);
    struct safetensors *all = gradients_of(device, 4, 0, 1, source, target);
    struct safetensors *parts[2];
    for (size_t rank = 0; rank < 2; rank++)
        parts[rank] = gradients_of(device, 2, rank, 2, source, target);
    for (size_t i = 0; i < safetensors_count(all); i++) {
        const struct safetensors_tensor *whole = safetensors_at(all, i);
        for (size_t k = 0; k < whole->elements; k++) {
            double sum = (double)rig_number(safetensors_at(parts[0], i), k)
                         + (double)rig_number(safetensors_at(parts[1], i), k);
            assert_true(fabs(sum - (double)rig_number(whole, k)) < 1e-6);
        }
    }
    safetensors_close(&parts[0]);
    safetensors_close(&parts[1]);
    safetensors_close(&all);
    rig_release(&device, &pool);
}

/* ---- FP16 ------------------------------------------------------------------------------- */

static bool supports_all(const struct train_device *device, enum train_precision precision)
{
    (void)device, (void)precision;
    return true;
}

/* Gradients overflow above a scale of 16384. */
static void overflowing_cross_entropy(struct train_device *device, const struct train_pass *pass,
                                      const struct train_linear *projection, const int32_t *labels,
                                      const float *x, size_t rows, double row_weight,
                                      double *loss_sum, float *gradient)
{
    plain_ops->cross_entropy(device, pass, projection, labels, x, rows, row_weight, loss_sum,
                             gradient);
    if (pass->loss_scale > 16384)
        gradient[0] = INFINITY;
}

static void fp16_follows_its_scale(void **state)
{
    (void)state;
    struct thread_pool *pool;
    struct train_device *device = rig_device(RIG_REFERENCE, 1, TRAIN_FP32, &pool);
    struct transformer_shape shape = {.d_model = 4, .nhead = 1, .feed_forward = 1, .vocab = 3,
                                      .seq_len = 2};
    struct trainer_settings settings = rig_settings(&shape, 1), plain = settings;
    struct train_ops ops = *device->ops;
    struct akin_error error = {0};
    struct step_result result, wanted;
    const int32_t source[] = {0, 1}, target[] = {2, 1};
    struct trainer *exact = rig_trainer(device, &plain);
    plain_ops = device->ops;
    ops.supports = supports_all;
    ops.cross_entropy = overflowing_cross_entropy;
    device->ops = &ops;
    settings.precision = TRAIN_FP16;
    struct trainer *trainer = rig_trainer(device, &settings);
    double first = 0;
    for (int step = 0; step < 2003; step++) {
        must(trainer_step(trainer, source, target, &result, &error), &error);
        assert_true(result.scale == (step < 2 ? 65536 >> step : step < 2002 ? 16384 : 32768));
        assert_true(result.skipped == (step < 2 || step == 2002));
        if (step < 3)                   /* the weights have not changed */
            first = step ? first : result.loss;
        if (step < 3)
            assert_true(result.loss == first);
        if (step >= 2 && step < 20) {   /* the scale is a power of 2: the same numbers */
            must(trainer_step(exact, source, target, &wanted, &error), &error);
            assert_true(fabs(result.loss - wanted.loss) < 1e-6);
        }
    }
    assert_true(result.loss < first);
    trainer_destroy(&trainer);
    trainer_destroy(&exact);
    device->ops = plain_ops;
    rig_release(&device, &pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_bit_depends_on_slices),
        cmocka_unit_test(the_loss_falls),
        cmocka_unit_test(gradients_are_slopes),
        cmocka_unit_test(dropout_is_never_the_same),
        cmocka_unit_test(final_gradients_are_announced),
        cmocka_unit_test(ranks_add_up),
        cmocka_unit_test(fp16_follows_its_scale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
