/* What a trainer refuses: settings by name, tokens by place, a loss that is not finite by step;
 * what it says it takes, and memory that runs out at any place. */
#include "train_rig.h"

#include "base/memory.h"
#include "train/weights.h"

static const struct transformer_shape SMALL = {
    .d_model = 8, .nhead = 2, .encoder_layers = 1, .decoder_layers = 1, .feed_forward = 12,
    .vocab = 11, .seq_len = 5,
};

static struct train_device *plain_device(void)
{
    struct train_device *device = NULL;
    must(reference_train_create(&device, NULL), NULL);
    return device;
}

/* ---- settings --------------------------------------------------------------------------- */

static void refuse(struct train_device *device, const struct trainer_settings *settings,
                   enum akin_status status, const char *word)
{
    struct akin_error error = {0};
    struct trainer *trainer = NULL;
    struct trainer_bytes bytes;
    assert_int_equal(trainer_create(device, settings, &trainer, &error), status);
    assert_null(trainer);
    if (!strstr(error.message, word))
        fail_msg("no %s in: %s", word, error.message);
    assert_int_equal(trainer_estimate(device, settings, &bytes, NULL), status);
}

static void settings_are_refused_by_name(void **state)
{
    (void)state;
    struct train_device *device = plain_device();
    const struct trainer_settings good = rig_settings(&SMALL, 2);
    struct trainer_settings s;
    const struct {
        size_t *size;
        size_t value;
        const char *word;
    } sizes[] = {
        {&s.shape.d_model, 0, "d-model"},        {&s.shape.nhead, 0, "nhead"},
        {&s.shape.nhead, 3, "nhead 3"},          {&s.shape.feed_forward, 0, "dim-feedforward"},
        {&s.shape.vocab, 0, "vocab-size"},       {&s.shape.seq_len, 1, "seq-len"},
        {&s.shape.encoder_layers, 5000, "num-encoder-layers"},
        {&s.batch, 0, "batch"},                  {&s.batch, SIZE_MAX, "batch"},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        s = good;
        *sizes[i].size = sizes[i].value;
        refuse(device, &s, AKIN_ARGUMENT, sizes[i].word);
    }
    const struct {
        float *number;
        float value;
        const char *word;
    } numbers[] = {
        {&s.dropout, 1, "dropout"},              {&s.dropout, -0.1f, "dropout"},
        {&s.dropout, NAN, "dropout"},            {&s.dropout, 0.99999999f, "dropout"},
        {&s.update.rate, -1, "learning rate"},   {&s.update.rate, NAN, "learning rate"},
        {&s.update.beta1, 1, "beta1"},           {&s.update.beta2, 1, "beta2"},
        {&s.update.decay, INFINITY, "decay"},    {&s.update.epsilon, -1, "epsilon"},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        s = good;
        *numbers[i].number = numbers[i].value;
        refuse(device, &s, AKIN_ARGUMENT, numbers[i].word);
    }
    s = good;
    s.precision = TRAIN_FP16;
    refuse(device, &s, AKIN_UNSUPPORTED, "fp16");
    device->ops->destroy(&device);
}

static void sizes_beyond_memory_are_refused(void **state)
{
    (void)state;
    struct train_device *device = plain_device();
    struct trainer_settings s = rig_settings(&SMALL, 1 << 20);
    s.shape.seq_len = 1 << 24;
    refuse(device, &s, AKIN_LIMIT, "GB");
    s = rig_settings(&SMALL, 2);
    s.shape.d_model = 1 << 24;
    s.shape.encoder_layers = s.shape.decoder_layers = 1024;
    refuse(device, &s, AKIN_LIMIT, "GB");
    device->ops->destroy(&device);
}

/* ---- memory ----------------------------------------------------------------------------- */

/* A device that counts, and refuses one allocation. */
static struct {
    const struct train_ops *plain;
    size_t bytes;
    int calls, refused;
} counter;

static enum akin_status counting_allocate(struct train_device *device, size_t bytes, void **memory,
                                          struct akin_error *error)
{
    if (counter.calls++ == counter.refused)
        return error_set(error, AKIN_MEMORY, "no memory for %zu bytes", bytes);
    counter.bytes += bytes;
    return counter.plain->allocate(device, bytes, memory, error);
}

static void memory_is_as_estimated(void **state)
{
    (void)state;
    struct train_device *device = plain_device();
    struct train_ops ops = *device->ops;
    counter.plain = device->ops;
    ops.allocate = counting_allocate;
    device->ops = &ops;
    for (int variant = 0; variant < 4; variant++) {
        struct trainer_settings s = rig_settings(&SMALL, 5);
        struct trainer_bytes bytes, whole;
        s.recompute = variant & 1;
        s.update.optimizer = variant & 2 ? TRAIN_SGD : TRAIN_ADAMW;
        s.shape.encoder_layers = s.shape.decoder_layers = 3;
        must(trainer_estimate(device, &s, &whole, NULL), NULL);
        s.slice = 2;
        must(trainer_estimate(device, &s, &bytes, NULL), NULL);
        assert_true(bytes.activations < whole.activations);
        counter.bytes = 0;
        counter.calls = 0;
        counter.refused = -1;
        struct trainer *trainer = rig_trainer(device, &s);
        trainer_destroy(&trainer);
        assert_int_equal(counter.bytes, bytes.total);
        for (int last = counter.calls, refused = 0; refused < last; refused++) {
            struct akin_error error = {0};
            counter.calls = 0;
            counter.refused = refused;
            assert_int_equal(trainer_create(device, &s, &trainer, &error), AKIN_MEMORY);
            assert_null(trainer);
        }
    }
    struct trainer_settings s = rig_settings(&SMALL, 5);
    struct trainer_bytes kept, again;
    s.shape.encoder_layers = s.shape.decoder_layers = 6;
    must(trainer_estimate(device, &s, &kept, NULL), NULL);
    s.recompute = true;
    must(trainer_estimate(device, &s, &again, NULL), NULL);
    assert_true(again.activations < kept.activations / 3);
    device->ops->destroy(&device);
}

/* ---- steps ------------------------------------------------------------------------------ */

static void tokens_are_refused_by_place(void **state)
{
    (void)state;
    struct train_device *device = plain_device();
    struct trainer_settings settings = rig_settings(&SMALL, 2);
    struct trainer *trainer = rig_trainer(device, &settings);
    struct step_result result;
    int32_t source[10] = {0}, target[10] = {10};
    must(trainer_step(trainer, source, target, &result, NULL), NULL);
    for (int side = 0; side < 2; side++)
        for (int below = 0; below < 2; below++) {
            int32_t *tokens = side ? target : source;
            struct akin_error error = {0};
            tokens[7] = below ? -1 : 11;
            assert_int_equal(trainer_step(trainer, source, target, &result, &error),
                             AKIN_ARGUMENT);
            assert_non_null(strstr(error.message, side ? "target" : "source"));
            assert_non_null(strstr(error.message, "sample 1: token 2"));
            tokens[7] = 0;
        }
    must(trainer_step(trainer, source, target, &result, NULL), NULL);
    trainer_destroy(&trainer);
    device->ops->destroy(&device);
}

static void a_loss_that_is_not_finite_stops(void **state)
{
    (void)state;
    struct train_device *device = plain_device();
    struct trainer_settings settings = rig_settings(&SMALL, 2);
    struct akin_error error = {0};
    struct step_result result = {.loss = -1};
    int32_t source[10] = {1, 2, 3}, target[10] = {4, 5, 6};
    settings.update.rate = 1e38f;
    settings.update.decay = 1;
    struct trainer *trainer = rig_trainer(device, &settings);
    enum akin_status status = AKIN_OK;
    int step = 0;
    while (status == AKIN_OK && ++step < 10)
        status = trainer_step(trainer, source, target, &result, &error);
    assert_int_equal(status, AKIN_NUMERIC);
    char words[40];
    snprintf(words, sizeof words, "step %d: the loss is not finite", step);
    assert_non_null(strstr(error.message, words));
    assert_true(step > 1);
    trainer_destroy(&trainer);
    device->ops->destroy(&device);
}

static void a_bad_file_changes_nothing(void **state)
{
    (void)state;
    struct train_device *device = plain_device();
    struct trainer_settings settings = rig_settings(&SMALL, 2);
    struct trainer *trainer = rig_trainer(device, &settings);
    const struct parameter_table *table = trainer_parameters(trainer);
    const char *path = rig_file("bad");
    struct akin_error error = {0};
    struct safetensors *before = rig_fetch(trainer, false);
    float *values = memory_alloc(table->values, sizeof *values);
    values[table->parameters[table->count - 1].offset] = INFINITY;
    must(weights_write(table, path, values, 1, &error), &error);
    assert_int_equal(trainer_load(trainer, path, &error), AKIN_FORMAT);
    assert_non_null(strstr(error.message, "output_proj.bias"));
    must(path_remove(path, &error), &error);
    struct safetensors *after = rig_fetch(trainer, false);
    for (size_t i = 0; i < table->count; i++)
        assert_memory_equal(safetensors_at(before, i)->data, safetensors_at(after, i)->data,
                            safetensors_at(before, i)->bytes);
    assert_int_equal(trainer_save(trainer, "/nowhere/at all", &error), AKIN_NOT_FOUND);
    safetensors_close(&before);
    safetensors_close(&after);
    memory_free(values);
    trainer_destroy(&trainer);
    trainer_destroy(&trainer);          /* NULL is fine */
    device->ops->destroy(&device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_are_refused_by_name),
        cmocka_unit_test(sizes_beyond_memory_are_refused),
        cmocka_unit_test(memory_is_as_estimated),
        cmocka_unit_test(tokens_are_refused_by_place),
        cmocka_unit_test(a_loss_that_is_not_finite_stops),
        cmocka_unit_test(a_bad_file_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
