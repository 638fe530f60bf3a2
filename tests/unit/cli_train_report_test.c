/* The report of a training run: sums worked out by hand, and exactly the keys of the script. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/train_record.h"

static void near(double value, double expected)
{
    if (!(fabs(value - expected) <= 1e-12 * fabs(expected)))
        fail_msg("%.15g is not %.15g", value, expected);
}

/* Two processes of two threads; two epochs of 2 steps of 2 x 3 samples in 2 and 4 seconds. */
static struct train_epoch epochs[2];
static struct train_device_record devices[2];
static double step_ms[4];

static struct train_asked asked_of(void)
{
    return (struct train_asked){
        .trainer = {.shape = {.d_model = 128, .nhead = 4, .encoder_layers = 3, .decoder_layers = 3,
                              .feed_forward = 512, .vocab = 8192, .seq_len = 256},
                    .batch = 3, .precision = TRAIN_BF16, .dropout = 0.1f,
                    .update = {.optimizer = TRAIN_ADAMW, .rate = 1e-4f, .decay = 0.01f}},
        .amp = true, .samples = 13, .epochs = 2, .warmups = 1, .epoch_steps = 2, .workers = 1};
}

static struct train_record record_of(void)
{
    const struct train_epoch e[2] = {{2, 9.5, 12}, {4, 9.25, 12}};
    const struct train_device_record d[2] = {
        {3e9, 9, 0.6, 0.3, 0, 1e12, NAN, NAN, NAN}, {2e9, 6, 0, 0.9, 0, 3e12, NAN, NAN, NAN}};
    const double ms[4] = {2000, 800, 1200, 1000};
    memcpy(epochs, e, sizeof e);
    memcpy(devices, d, sizeof d);
    memcpy(step_ms, ms, sizeof ms);
    return (struct train_record){.device = "cpu", .device_name = "AMD EPYC (9B14) @ 2.6 GHz!",
                                 .count = 2, .threads = 2, .devices = devices,
                                 .parameters = 3527168, .data_bytes = 13 * 4096.0, .epochs = epochs,
                                 .step_ms = step_ms, .step_count = 4, .steps = 4,
                                 .link = "shared memory", .reduced_bytes = 14108672,
                                 .expected_allreduce_ms = 5, .measured_allreduce_ms = 7};
}

static void test_sums(void **state)
{
    struct train_asked asked = asked_of();
    struct train_record record = record_of();
    struct train_sums s;
    (void)state;
    train_record_sums(&asked, &record, &s);
    near(s.seconds, 6);
    near(s.samples_per_s, 4);           /* over all the time: no mean of means */
    near(s.tokens_per_s, 4 * 512);
    near(s.epoch_seconds, 3);
    near(s.peak_tflops, 4);
    near(s.model_tflops, 4 * transformer_sample_flops(&asked.trainer.shape) / 1e12);
    near(s.mfu_pct, 100 * s.model_tflops / 4);
    near(s.step_p50_ms, 1000);
    near(s.step_p95_ms, 2000);
    near(s.step_mean_ms, 1250);
    near(s.data_wait_pct, 5);           /* 10 % and none */
    near(s.comm_pct, 10);               /* 5 % and 15 % */
    near(s.utilisation_pct, 62.5);      /* 75 % and 50 % of two threads */
    near(s.peak_memory_bytes, 3e9);
    assert_true(isnan(s.energy_j));
    snprintf(record.device, sizeof record.device, "cuda");
    train_record_sums(&asked, &record, &s);
    assert_true(isnan(s.utilisation_pct));      /* not that of the CPUs */
    devices[0].busy_pct = 90;           /* GPUs tell */
    devices[1].busy_pct = 70;
    devices[0].energy_j = devices[1].energy_j = 500;
    train_record_sums(&asked, &record, &s);
    near(s.utilisation_pct, 80);
    near(s.energy_j, 1000);
}

static void test_what_is_not_known_is_nan(void **state)
{
    struct train_asked asked = asked_of();
    struct train_record record = record_of();
    struct train_sums s;
    (void)state;
    devices[0].peak_flops = devices[1].peak_flops = 0;
    epochs[0].seconds = epochs[1].seconds = 0;
    record.step_count = 0;
    train_record_sums(&asked, &record, &s);
    assert_true(isnan(s.mfu_pct) && isnan(s.samples_per_s) && isnan(s.step_p99_ms));
    assert_true(isnan(s.comm_pct) && isnan(s.step_mean_ms));
    json_t *report = train_record_json(&asked, &record, &s);
    assert_true(json_is_null(json_object_get(report, "mfu_pct")));
    assert_true(json_is_null(json_object_get(report, "mfu_peak_tflops")));
    json_decref(report);
}

static void has_exactly(const json_t *object, const char *const *keys, size_t count)
{
    assert_int_equal(json_object_size(object), count);
    for (size_t i = 0; i < count; i++)
        if (!json_object_get(object, keys[i]))
            fail_msg("%s is missing", keys[i]);
}

#define HAS_EXACTLY(object, ...)                                                             \
    do {                                                                                     \
        static const char *const keys_[] = {__VA_ARGS__};                                    \
        has_exactly(object, keys_, sizeof keys_ / sizeof *keys_);                            \
    } while (0)

static void test_keys_are_those_of_the_script(void **state)
{
    struct train_asked asked = asked_of();
    struct train_record record = record_of();
    struct train_sums s;
    (void)state;
    train_record_sums(&asked, &record, &s);
    json_t *report = train_record_json(&asked, &record, &s);
    assert_non_null(report);
    HAS_EXACTLY(json_object_get(report, "metadata"), "timestamp", "hostname", "gpu_name",
                "gpu_count", "cuda_version", "pytorch_version", "python_version", "platform");
    json_t *config = json_object_get(report, "config");
    HAS_EXACTLY(config, "model_params", "d_model", "nhead", "num_encoder_layers",
                "num_decoder_layers", "dim_feedforward", "batch_size_per_gpu",
                "effective_batch_size", "seq_len", "vocab_size", "num_samples", "dataset_size_gb",
                "data_source", "num_shards", "amp", "num_workers", "warmup_epochs",
                "measured_epochs");
    HAS_EXACTLY(json_object_get(report, "summary"), "avg_wall_time_per_epoch_s",
                "avg_throughput_samples_per_s", "peak_gpu_memory_mb", "avg_gpu_utilisation_pct");
    json_t *rows = json_object_get(report, "epochs");
    assert_int_equal(json_array_size(rows), 2);
    HAS_EXACTLY(json_array_get(rows, 1), "epoch", "wall_time_s", "total_samples",
                "throughput_samples_per_s", "avg_loss");
    assert_int_equal(json_integer_value(json_object_get(config, "effective_batch_size")), 6);
    assert_true(json_is_null(json_object_get(config, "num_shards")));
    assert_true(json_is_true(json_object_get(config, "amp")));
    json_t *run = json_object_get(report, "run");
    near(json_real_value(json_object_get(run, "dropout")), 0.1);
    near(json_real_value(json_object_get(run, "lr")), 1e-4);
    assert_string_equal(json_string_value(json_object_get(run, "precision")), "bf16");
    assert_int_equal(json_array_size(json_object_get(report, "devices")), 2);
    const json_t *second = json_array_get(rows, 1);
    near(json_real_value(json_object_get(second, "throughput_samples_per_s")), 3);
    json_decref(report);
}

static void test_name_holds_nothing_that_a_file_name_should_not(void **state)
{
    struct train_record record = record_of();
    char name[64];
    (void)state;
    train_record_name(&record, name, sizeof name);
    assert_string_equal(name, "bench_AMD_EPYC_9B14_2_6_GHz_2cpu");
    memset(record.device_name, '/', sizeof record.device_name - 1);
    train_record_name(&record, name, sizeof name);
    assert_string_equal(name, "bench_unknown_2cpu");
    memset(record.device_name, 'x', sizeof record.device_name - 1);
    snprintf(record.device, sizeof record.device, "cuda");
    train_record_name(&record, name, sizeof name);
    assert_int_equal(strlen(name), sizeof name - 1);    /* cut, and ended */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_what_is_not_known_is_nan),
        cmocka_unit_test(test_keys_are_those_of_the_script),
        cmocka_unit_test(test_name_holds_nothing_that_a_file_name_should_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
