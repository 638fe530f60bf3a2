/* What stands between a program and GPUs, as far as none is needed: peaks by name, what is said
 * where there is none, gradients that pass through the host, bytes that do not fit. */
#include "train_rig.h"

#include "train/gpu.h"

static void peaks_are_of_the_card(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum train_precision precision;
        double tflops;
    } cards[] = {
        {"NVIDIA H100 80GB HBM3", TRAIN_FP16, 989.4}, {"NVIDIA H100 80GB HBM3", TRAIN_FP32, 66.9},
        {"NVIDIA H100 PCIe", TRAIN_BF16, 756.5},      {"NVIDIA H200", TRAIN_BF16, 989.4},
        {"NVIDIA A100-SXM4-80GB", TRAIN_FP16, 312},   {"NVIDIA L4", TRAIN_FP16, 121},
        {"NVIDIA L40S", TRAIN_FP16, 362},
        {"NVIDIA L40", TRAIN_FP16, 0},      /* not an L4, not an L40S */
        {"Tesla V100", TRAIN_FP16, 0},      {"", TRAIN_FP16, 0},
    };
    for (size_t i = 0; i < sizeof cards / sizeof *cards; i++) {
        double found = gpu_peak_flops(cards[i].name, cards[i].precision) / 1e12;
        if (!(fabs(found - cards[i].tflops) < 1e-9))
            fail_msg("%s: %g", cards[i].name, found);
    }
}

static void counting_leaves_no_child(void **state)
{
    (void)state;
    char why[GPU_WHY_BYTES];
    size_t count = gpu_count(NULL, why);
    assert_true(count == 0 || why[0] == '\0');
    assert_int_equal(gpu_count("/no/such/libakin-cuda.so", why), 0);    /* a driver or not */
    assert_non_null(strstr(why, "/no/such/libakin-cuda.so"));
}

/* ---- through the host ------------------------------------------------------------------- */

/* Stands in for the memory of a card: addresses that the host must not touch are those of `card`,
 * which only these two functions know. */
static float card[16];
static int sums_asked;

static void from_card(struct train_device *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    memcpy(to, from, bytes);
}

static enum akin_status done(struct train_device *device, struct akin_error *error)
{
    (void)device;
    (void)error;
    return AKIN_OK;
}

/* As two ranks with equal gradients. */
static void twice(void *context, float *gradients, size_t offset, size_t count)
{
    (void)context;
    assert_true(gradients != card);
    for (size_t i = offset; i < offset + count; i++)
        gradients[i] *= 2;
}

static enum akin_status wait(void *context, struct akin_error *error)
{
    enum akin_status *status = context;
    return *status == AKIN_OK ? AKIN_OK : error_set(error, *status, "rank 1 is lost");
}

static enum akin_status sum(void *context, double *value, struct akin_error *error)
{
    (void)context;
    (void)error;
    *value *= 2;
    sums_asked++;
    return AKIN_OK;
}

static void gradients_go_there_and_back(void **state)
{
    (void)state;
    const struct train_ops ops = {.upload = from_card, .download = from_card, .finish = done};
    struct train_device device = {.ops = &ops};
    enum akin_status lost = AKIN_OK;
    const struct gradient_reducer inner = {&lost, twice, wait, sum, 1, 2};
    struct gpu_reducer *reducer;
    struct akin_error error = {0};
    must(gpu_reducer_create(NULL, &device, &inner, 16, &reducer, &error), &error);
    const struct gradient_reducer *outer = gpu_reducer_of(reducer);
    assert_int_equal(outer->rank, 1);
    assert_int_equal(outer->world, 2);
    for (int step = 0; step < 2; step++) {
        for (int i = 0; i < 16; i++)
            card[i] = (float)(i + step);
        outer->start(outer->context, card, 10, 6);
        outer->start(outer->context, card, 3, 7);
        must(outer->wait(outer->context, &error), &error);
        for (int i = 0; i < 16; i++)
            assert_true(card[i] == (float)(i + step) * (i < 3 ? 1 : 2));
    }
    double value = 3;
    must(outer->sum(outer->context, &value, &error), &error);
    assert_true(value == 6 && sums_asked == 1);
    lost = AKIN_NETWORK;
    assert_int_equal(outer->wait(outer->context, &error), AKIN_NETWORK);
    assert_non_null(strstr(error.message, "lost"));
    gpu_reducer_destroy(&reducer);
    assert_null(reducer);
    gpu_reducer_destroy(&reducer);
}

static void what_a_card_takes_more(void **state)
{
    (void)state;
    const struct transformer_shape shape = {.d_model = 128, .nhead = 4, .encoder_layers = 3,
                                            .decoder_layers = 3, .feed_forward = 512,
                                            .vocab = 8192, .seq_len = 256};
    struct trainer_settings settings = rig_settings(&shape, 128);
    struct trainer_bytes bytes = {.parameters = 4000};
    size_t wide = gpu_extra_bytes(&settings, &bytes);
    settings.precision = TRAIN_FP16;
    size_t half = gpu_extra_bytes(&settings, &bytes);
    assert_true(half < wide && half > (size_t)128 * 256 * 8 * 128 * 2);
    settings.slice = 8;
    assert_true(gpu_extra_bytes(&settings, &bytes) < half);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peaks_are_of_the_card),
        cmocka_unit_test(counting_leaves_no_child),
        cmocka_unit_test(gradients_go_there_and_back),
        cmocka_unit_test(what_a_card_takes_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
