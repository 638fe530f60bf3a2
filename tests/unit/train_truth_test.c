/* Runs of PyTorch 2.15 in float64: the loss, every gradient, ten losses with each optimiser and the
 * weights that AdamW ends with. The committed run is whole but for the gradients, of which it has
 * signed sums; with AKIN_TEST_DATA the folders of train_reference there, which have all. */
#include "train_rig.h"

#ifdef AKIN_CUDA_EMULATED      /* slow, and the others have this test without it */
enum { EMULATED = 1, FIRST_DEVICE = RIG_CUDA };
#else
enum { EMULATED = 0, FIRST_DEVICE = RIG_REFERENCE };
#endif

/* `losses` is of AdamW, `fast` of the other optimisers, whose rates are 10 and 1000 times as large:
 * ten steps grow a rounding error as much. Gradients: see kinks in tests/train_devicecheck.c. */
struct bounds {
    double first_loss, losses, fast, gradient, sum;
};

static const struct bounds FP32 = {1e-6, 1e-5, 1e-5, 1e-5, 1e-5};
static const struct bounds BF16 = {2e-3, 2e-3, 2e-2, 0.1, 0.25};

/* ---- gradients -------------------------------------------------------------------------- */

/* A bias of k adds the same to all of a query's products: its gradient is exactly 0. */
static bool is_zero(const struct safetensors_tensor *tensor, size_t i)
{
    size_t dim = tensor->elements / 3;
    return strstr(tensor->name, "in_proj_bias") && i >= dim && i < 2 * dim;
}

static void check_gradient(const struct safetensors_tensor *found,
                           const struct safetensors_tensor *wanted, const struct bounds *bounds)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < found->elements; i++) {
        double value = (double)rig_number(found, i), truth;
        memcpy(&truth, wanted->data + i * sizeof truth, sizeof truth);
        if (is_zero(found, i)) {
            if (bounds == &FP32 && fabs(value) >= 1e-7)
                fail_msg("%s, number %zu: %g, truth 0", found->name, i, value);
            continue;
        }
        difference += (value - truth) * (value - truth);
        norm += truth * truth;
    }
    if (!(sqrt(difference) <= bounds->gradient * sqrt(norm)))
        fail_msg("%s: relative error %g", found->name, sqrt(difference / norm));
}

static void check_gradients(const struct truth *truth, struct trainer *trainer,
                            const struct bounds *bounds)
{
    struct safetensors *found = rig_fetch(trainer, true), *wanted = NULL;
    struct akin_error error = {0};
    must(safetensors_open(truth_path(truth, "grads_f64.safetensors"), &wanted, &error), &error);
    assert_int_equal(safetensors_count(found), safetensors_count(wanted));
    for (size_t i = 0; i < safetensors_count(found); i++) {
        const struct safetensors_tensor *tensor = safetensors_at(found, i);
        const struct safetensors_tensor *other = safetensors_find(wanted, tensor->name);
        assert_non_null(other);
        assert_int_equal(other->type, SAFETENSORS_F64);
        assert_int_equal(other->elements, tensor->elements);
        check_gradient(tensor, other, bounds);
    }
    safetensors_close(&found);
    safetensors_close(&wanted);
}

/* tests/golden/train_fixture.py */
static double signed_sum(const struct safetensors_tensor *tensor, uint32_t k)
{
    double sum = 0;
    for (size_t i = 0; i < tensor->elements; i++) {
        uint32_t h = ((uint32_t)i + 1000003 * k) * 0x9E3779B1;
        h = (h ^ h >> 15) * 0x85EBCA77;
        double value = (double)rig_number(tensor, i);
        sum += h >> 31 ? -value : value;
    }
    return sum;
}

static void check_sums(const struct truth *truth, struct trainer *trainer,
                       const struct bounds *bounds)
{
    const json_t *wanted = json_object_get(truth->expected, "gradients");
    struct safetensors *found = rig_fetch(trainer, true);
    assert_int_equal(safetensors_count(found), json_object_size(wanted));
    for (size_t i = 0; i < safetensors_count(found); i++) {
        const struct safetensors_tensor *tensor = safetensors_at(found, i);
        const json_t *of_tensor = json_object_get(wanted, tensor->name);
        const json_t *sums = json_object_get(of_tensor, "sums");
        double norm = json_real_value(json_object_get(of_tensor, "norm"));
        assert_int_equal(json_array_size(sums), 4);
        for (uint32_t k = 0; k < 4; k++) {
            double off = signed_sum(tensor, k) - json_real_value(json_array_get(sums, k));
            if (!(fabs(off) <= bounds->sum * norm))
                fail_msg("%s: sum %u is off by %g of the norm", tensor->name, k, off / norm);
        }
    }
    safetensors_close(&found);
}

/* ---- runs ------------------------------------------------------------------------------- */

struct optimizer_run {
    const char *curve, *weights;
    struct train_update update;
};

static const struct optimizer_run OPTIMIZERS[] = {
    {"adamw_f64", "final_adamw.safetensors",
     {TRAIN_ADAMW, 1e-4f, 0.01f, 0.9f, 0.999f, 1e-8f, 0, 0}},
    {"adam_f64", NULL, {TRAIN_ADAM, 1e-3f, 0, 0.9f, 0.999f, 1e-8f, 0, 0}},
    {"sgd_f64", NULL, {TRAIN_SGD, 0.1f, 0, 0, 0, 0, 0, 0}},
};

/* Where a gradient is next to nothing, Adam takes the sign of rounding errors: one number may be
 * off by the steps it went, all of them together not. */
static void check_weights(const struct truth *truth, struct trainer *trainer, const char *name)
{
    struct safetensors *found = rig_fetch(trainer, false), *wanted = NULL;
    struct akin_error error = {0};
    must(safetensors_open(truth_path(truth, name), &wanted, &error), &error);
    for (size_t i = 0; i < safetensors_count(found); i++) {
        const struct safetensors_tensor *tensor = safetensors_at(found, i);
        const struct safetensors_tensor *other = safetensors_find(wanted, tensor->name);
        double difference = 0, norm = 0;
        for (size_t k = 0; k < tensor->elements; k++) {
            double value = (double)rig_number(other, k);
            double off = is_zero(tensor, k) ? 0 : (double)rig_number(tensor, k) - value;
            difference += off * off;
            norm += value * value;
        }
        if (!(sqrt(difference) <= 1e-5 * sqrt(norm)))
            fail_msg("%s after training: relative error %g", tensor->name, sqrt(difference / norm));
    }
    safetensors_close(&found);
    safetensors_close(&wanted);
}

static void check_run(struct train_device *device, enum train_precision precision,
                      const struct truth *truth, const struct optimizer_run *run, bool whole)
{
    const struct bounds *bounds = precision == TRAIN_FP32 ? &FP32 : &BF16;
    struct trainer_settings settings = rig_settings(&truth->shape, truth->batch);
    struct akin_error error = {0};
    const json_t *curve = json_object_get(json_object_get(truth->expected, "curves"), run->curve);
    const json_t *losses = json_object_get(curve, "loss");
    settings.update = run->update;
    settings.precision = precision;
    struct trainer *trainer = rig_trainer(device, &settings);
    must(trainer_load(trainer, truth_path(truth, "init.safetensors"), &error), &error);
    assert_int_equal(json_array_size(losses), truth->steps);
    for (size_t step = 0; step < truth->steps; step++) {
        double loss = rig_step(trainer, truth, step);
        double wanted = json_real_value(json_array_get(losses, step));
        double allowed = step == 0 ? bounds->first_loss
                         : run->update.optimizer == TRAIN_ADAMW ? bounds->losses : bounds->fast;
        if (!(fabs(loss - wanted) <= allowed))
            fail_msg("%s, %s, step %zu: loss %.9g, truth %.9g", truth->folder, run->curve, step,
                     loss, wanted);
        if (step == 0 && whole)
            check_gradients(truth, trainer, bounds);
        else if (step == 0)
            check_sums(truth, trainer, bounds);
    }
    if (whole && run->weights && precision == TRAIN_FP32)
        check_weights(truth, trainer, run->weights);
    trainer_destroy(&trainer);
}

static void check_folder(const char *folder, bool whole)
{
    struct truth truth;
    truth_open(folder, &truth);
    for (int which = FIRST_DEVICE; which <= RIG_CUDA; which++)
        for (int precision = TRAIN_FP32; precision <= TRAIN_FP16; precision++) {
            struct thread_pool *pool;
            struct train_device *device = rig_device((enum rig_device)which, 2,
                                                     (enum train_precision)precision, &pool);
            size_t runs = sizeof OPTIMIZERS / sizeof *OPTIMIZERS;
            if (EMULATED && (precision != TRAIN_FP32 || whole))
                runs = 1;
            for (size_t i = 0; device && i < runs; i++)
                check_run(device, (enum train_precision)precision, &truth, &OPTIMIZERS[i], whole);
            rig_release(&device, &pool);
        }
    truth_close(&truth);
}

static void committed_run(void **state)
{
    const char *source = getenv("AKIN_TEST_SOURCE");    /* where it is not where it was built */
    char folder[PATH_BYTES_MAX];
    (void)state;
    snprintf(folder, sizeof folder, "%s/tests/fixtures/train", source ? source : AKIN_SOURCE_DIR);
    check_folder(folder, false);
}

static void shared_run(const char *name)
{
    const char *data = getenv("AKIN_TEST_DATA");
    char folder[PATH_BYTES_MAX];
    snprintf(folder, sizeof folder, "%s/train_reference/%s", data ? data : "", name);
    if (!data || !path_is_folder(folder))
        skip();
    check_folder(folder, true);
}

static void tiny_run(void **state)
{
    (void)state;
    shared_run("tiny_learned");
}

static void odd_run(void **state)
{
    (void)state;
    shared_run("odd_learned");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(committed_run),
        cmocka_unit_test(tiny_run),
        cmocka_unit_test(odd_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
