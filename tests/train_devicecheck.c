/* Every operation of a training device against the reference device: odd sizes, forwards and
 * backwards, with and without dropout; a batch in slices and on several threads gives the same
 * bits. The reference itself is held to finite differences.
 *
 *   train_devicecheck DEVICE [--level ref|avx2|avx512|amx] [--small]
 *
 * DEVICE: reference, cpu-fp32, cpu-bf16, cuda-fp32, cuda-fp16, cuda-bf16; the last three where
 * there is a card, or in the build that emulates one. Exit status: 0 fine, 1 failed, 2 wrong use,
 * 77 this machine lacks it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"
#include "train_trials.h"
#ifdef AKIN_CUDA_EMULATED
#include "compute/cuda/cuda_devices.h"
#else
#include "compute/cuda_plugin.h"
#endif

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static int checks, failures;
static char where[160];         /* the case at hand, for a line that says what failed */

static bool expect(bool ok, const char *what, const char *tensor, double found, double allowed)
{
    checks++;
    if (ok)
        return true;
    failures++;
    printf("FAILED %s: %s %s: %.3g, allowed %.3g\n", where, what, tensor, found, allowed);
    return false;
}

static void must(enum akin_status status, const struct akin_error *error)
{
    checks++;
    if (status == AKIN_OK)
        return;
    printf("FAILED %s: %s\n", where, error->message);
    exit(1);
}

/* Under a sanitizer too, an allocation that no machine can satisfy fails. */
#define SHOWN __attribute__((visibility("default")))

SHOWN const char *__asan_default_options(void);
SHOWN const char *__tsan_default_options(void);

const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

/* ---- the devices ------------------------------------------------------------------------ */

/* `norm`: of the difference of two tensors, over the norm of the reference's; `most`: of one
 * number, over the largest of the reference's. */
struct allowance {
    double norm, most;
};

/* `kinks` is where hidden numbers of a feed-forward next to 0 are rounded across it: of them a
 * share as large as the rounding error, each wrong as a whole: a few of a thousand, so that the
 * error of a small layer is a matter of luck. The smooth feed-forward has no such numbers. */
struct kind {
    const char *name;
    enum train_precision precision;
    enum where_it_runs { PLAIN, CPU, CUDA } runs;
    struct allowance smooth, kinks;
};

static const struct kind KINDS[] = {
    {"reference", TRAIN_FP32, PLAIN, {0, 0}, {0, 0}},
    {"cpu-fp32", TRAIN_FP32, CPU, {1e-5, 5e-5}, {1e-5, 5e-5}},
    {"cpu-bf16", TRAIN_BF16, CPU, {2e-2, 1e-1}, {2e-1, 6e-1}},
    {"cuda-fp32", TRAIN_FP32, CUDA, {1e-5, 5e-5}, {1e-5, 5e-5}},
    {"cuda-fp16", TRAIN_FP16, CUDA, {4e-3, 2e-2}, {3e-2, 4e-1}},
    {"cuda-bf16", TRAIN_BF16, CUDA, {3e-2, 1.5e-1}, {2e-1, 6e-1}},
};

static unsigned allowed_flags;

static enum akin_status create_cuda(enum train_precision precision, struct train_device **device,
                                    struct akin_error *error)
{
#ifdef AKIN_CUDA_EMULATED
    return cuda_train_create(0, precision, device, error);
#else
    const struct cuda_plugin *plugin;
    enum akin_status status = cuda_plugin_load(NULL, &plugin, error);
    return status == AKIN_OK ? plugin->train_create(0, precision, device, error) : status;
#endif
}

/* NULL: this build or machine lacks it. */
static struct train_device *create(const struct kind *kind, struct thread_pool *pool)
{
    struct train_device *device = NULL;
    struct akin_error error = {0};
    enum akin_status status = AKIN_UNSUPPORTED;
    (void)pool;
    if (kind->runs == PLAIN)
        status = reference_train_create(&device, &error);
    if (kind->runs == CPU)
        status = cpu_train_create(allowed_flags, pool, kind->precision, &device, &error);
    if (kind->runs == CUDA)
        status = create_cuda(kind->precision, &device, &error);
    if (status == AKIN_UNSUPPORTED || status == AKIN_NOT_FOUND)
        return NULL;
    must(status, &error);
    return device;
}

/* ---- two devices ------------------------------------------------------------------------ */

static void compare(const struct allowance *allowed, const char *tensor, const float *found,
                    const float *wanted, size_t count)
{
    double difference = 0, norm = 0, worst = 0, most = 0;
    bool finite = true;
    for (size_t i = 0; i < count; i++) {
        double d = (double)found[i] - (double)wanted[i], w = (double)wanted[i];
        finite = finite && isfinite(found[i]);
        difference += d * d;
        norm += w * w;
        worst = fmax(worst, fabs(d));
        most = fmax(most, fabs(w));
    }
    if (!expect(finite, "not finite:", tensor, 0, 0))
        return;
    double relative = sqrt(difference) / fmax(sqrt(norm), 1e-30);
    expect(relative <= allowed->norm, "relative error of", tensor, relative, allowed->norm);
    expect(worst <= allowed->most * most, "one number of", tensor, worst, allowed->most * most);
}

static bool same(const void *a, const void *b, size_t bytes)
{
    return memcmp(a, b, bytes) == 0;
}

static void expect_same_bits(const struct trial *a, const struct trial *b, const char *what)
{
    size_t numbers = a->rows * a->sizes.dim;
    if (a->part != TRIAL_CROSS_ENTROPY)
        expect(same(a->y, b->y, numbers * sizeof *a->y), what, "other bits of y", 0, 0);
    expect(same(&a->loss, &b->loss, sizeof a->loss), what, "other bits of the loss", 0, 0);
    for (size_t i = 0; i < a->count; i++)
        expect(same(a->tensors[i].gradient, b->tensors[i].gradient,
                    a->tensors[i].count * sizeof(float)),
               what, a->tensors[i].name, 0, 0);
}

static void run(struct train_device *device, enum trial_part part, const struct trial_sizes *sizes,
                const struct train_pass *pass, size_t slice, struct trial *trial)
{
    struct akin_error error = {0};
    trial_create(part, sizes, 11, trial);
    must(trial_run(device, pass, slice, true, trial, &error), &error);
}

static void check_part(const struct kind *kind, struct train_device *const devices[2],
                       struct train_device *reference, enum trial_part part,
                       const struct trial_sizes *sizes, const struct train_pass *pass)
{
    const struct allowance *allowance = part == TRIAL_FEED_FORWARD ? &kind->kinks : &kind->smooth;
    struct trial wanted, found, other;
    run(reference, part, sizes, pass, 0, &wanted);
    run(devices[0], part, sizes, pass, 0, &found);
    if (part == TRIAL_CROSS_ENTROPY) {
        double allowed = allowance->norm * wanted.loss, off = fabs(found.loss - wanted.loss);
        expect(off <= allowed, "the", "loss", off, allowed);
    } else {
        compare(allowance, "y", found.y, wanted.y, found.rows * sizes->dim);
    }
    for (size_t i = 0; i < found.count; i++)
        compare(allowance, found.tensors[i].name, found.tensors[i].gradient,
                wanted.tensors[i].gradient, found.tensors[i].count);
    trial_destroy(&wanted);
    /* on a card the products of the library choose their own order of sums by their sizes */
    for (size_t slice = 1; kind->runs != CUDA && slice < sizes->samples; slice++) {
        run(devices[0], part, sizes, pass, slice, &other);
        expect_same_bits(&found, &other, "in slices:");
        trial_destroy(&other);
    }
    run(devices[1], part, sizes, pass, 0, &other);
    expect_same_bits(&found, &other, kind->runs == CUDA ? "once more:" : "on three threads:");
    trial_destroy(&other);
    trial_destroy(&found);
}

/* ---- one device against differences ----------------------------------------------------- */

static double objective(struct train_device *device, const struct train_pass *pass, struct trial *t)
{
    struct akin_error error = {0};
    t->loss = 0;
    must(trial_run(device, pass, 0, false, t, &error), &error);
    if (t->part == TRIAL_CROSS_ENTROPY)
        return t->loss / 3;             /* the weight of a row in trial_run */
    double sum = 0;
    for (size_t i = 0; i < t->rows * t->sizes.dim; i++)
        sum += (double)t->y[i] * (double)t->y_gradient[i];
    return sum;
}

/* Along a random direction, the slope must be what the gradient says. */
static void check_slope(struct train_device *device, const struct train_pass *pass,
                        struct trial *t, struct trial_tensor *tensor)
{
    const float step = 1e-3f;
    const double allowed = 3e-3;
    struct rng rng;
    rng_seed(&rng, 29);
    float *start = memory_alloc(tensor->count, sizeof *start);
    float *direction = memory_alloc(tensor->count, sizeof *direction);
    double along = 0, norm = 0, value[2];
    for (size_t i = 0; i < tensor->count; i++) {
        start[i] = tensor->value[i];
        direction[i] = rng_normal(&rng);
        along += (double)tensor->gradient[i] * (double)direction[i];
        norm += (double)tensor->gradient[i] * (double)tensor->gradient[i];
    }
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < tensor->count; i++)
            tensor->value[i] = start[i] + (side ? -step : step) * direction[i];
        value[side] = objective(device, pass, t);
    }
    memcpy(tensor->value, start, tensor->count * sizeof *start);
    double slope = (value[0] - value[1]) / (2 * (double)step);
    double off = fabs(slope - along) / fmax(sqrt(norm), 1e-3);
    expect(off <= allowed, "slope along", tensor->name, off, allowed);
    memory_free(direction);
    memory_free(start);
}

static void check_differences(struct train_device *device, enum trial_part part,
                              const struct trial_sizes *sizes, const struct train_pass *pass)
{
    struct trial t;
    struct akin_error error = {0};
    if (part == TRIAL_FEED_FORWARD && sizes->samples * sizes->queries > 1)
        return;                 /* a step takes some of many hidden numbers across the kink */
    trial_create(part, sizes, 17, &t);
    for (size_t i = 0; i < t.count; i++)
        memset(t.tensors[i].gradient, 0, t.tensors[i].count * sizeof(float));
    must(trial_run(device, pass, 0, true, &t, &error), &error);
    for (size_t i = 0; i < t.count; i++)
        check_slope(device, pass, &t, &t.tensors[i]);
    trial_destroy(&t);
}

/* ---- what has no gradient --------------------------------------------------------------- */

enum { NUMBERS = 1003, UPDATES = 3 };

struct optimizer_state {
    float value[NUMBERS], gradient[NUMBERS], first[NUMBERS], second[NUMBERS];
    uint32_t finite;
};

/* `finite` 2: none is given. */
static void run_updates(struct train_device *device, enum train_optimizer optimizer,
                        uint32_t finite, struct optimizer_state *state)
{
    const struct train_ops *ops = device->ops;
    struct akin_error error = {0};
    struct rng rng;
    void *memory;
    bool moments = optimizer != TRAIN_SGD;
    rng_seed(&rng, 3);
    for (int i = 0; i < NUMBERS; i++) {
        state->value[i] = rng_normal(&rng);
        state->gradient[i] = i % 100 == 7 ? 0 : rng_normal(&rng) * 64;
    }
    state->finite = finite;
    must(ops->allocate(device, sizeof *state, &memory, &error), &error);
    struct optimizer_state *on_device = memory;     /* addresses only */
    ops->upload(device, memory, state, sizeof *state);
    ops->clear(device, on_device->first, 2 * sizeof state->first);
    for (uint64_t step = 1; step <= UPDATES; step++) {
        struct train_update update = {
            optimizer, 0.01f, 0.05f, 0.9f, 0.999f, 1e-8f, step, 1.0f / 64,
        };
        ops->update(device, &update, on_device->value, on_device->gradient,
                    moments ? on_device->first : NULL, moments ? on_device->second : NULL, NUMBERS,
                    finite == 2 ? NULL : &on_device->finite);
    }
    must(ops->finish(device, &error), &error);
    ops->download(device, state, memory, sizeof *state);
    must(ops->finish(device, &error), &error);
    ops->release(device, memory);
}

static void check_updates(struct train_device *device, struct train_device *reference)
{
    static const struct allowance exact = {1e-6, 1e-6};
    struct optimizer_state *found = memory_alloc(2, sizeof *found), *wanted = found + 1;
    for (int optimizer = TRAIN_ADAMW; optimizer <= TRAIN_SGD; optimizer++)
        for (uint32_t finite = 1; finite <= 2; finite++) {
            snprintf(where, sizeof where, "update by optimizer %d, finite %u", optimizer, finite);
            run_updates(device, (enum train_optimizer)optimizer, finite, found);
            run_updates(reference, (enum train_optimizer)optimizer, finite, wanted);
            compare(&exact, "values", found->value, wanted->value, NUMBERS);
            compare(&exact, "first", found->first, wanted->first, NUMBERS);
            compare(&exact, "second", found->second, wanted->second, NUMBERS);
        }
    snprintf(where, sizeof where, "update after an overflow");
    run_updates(device, TRAIN_ADAMW, 0, found);
    struct rng rng;
    rng_seed(&rng, 3);
    bool kept = true;
    for (int i = 0; i < NUMBERS; i++) {
        kept = kept && found->value[i] == rng_normal(&rng) && found->first[i] == 0
               && found->second[i] == 0;
        if (i % 100 != 7)
            rng_normal(&rng);
    }
    expect(kept, "values", "changed", 0, 0);
    memory_free(found);
}

static uint32_t finite_with(struct train_device *device, float *values, size_t count, float odd,
                            size_t at)
{
    const struct train_ops *ops = device->ops;
    struct akin_error error = {0};
    void *memory, *flag;
    float kept = values[at];
    uint32_t finite = 1;
    values[at] = odd;
    must(ops->allocate(device, count * sizeof *values, &memory, &error), &error);
    must(ops->allocate(device, sizeof finite, &flag, &error), &error);
    ops->upload(device, memory, values, count * sizeof *values);
    ops->upload(device, flag, &finite, sizeof finite);
    ops->check_finite(device, memory, count, flag);
    must(ops->finish(device, &error), &error);
    ops->download(device, &finite, flag, sizeof finite);
    must(ops->finish(device, &error), &error);
    ops->release(device, memory);
    ops->release(device, flag);
    values[at] = kept;
    return finite;
}

static void check_finiteness(struct train_device *device)
{
    static const size_t places[] = {0, 1, 15, 16, 512, NUMBERS - 1};
    float values[NUMBERS];
    snprintf(where, sizeof where, "check_finite");
    for (int i = 0; i < NUMBERS; i++)
        values[i] = i % 3 ? 3.4e38f : -1e-45f;
    expect(finite_with(device, values, NUMBERS, 1, 0) == 1, "finite", "numbers", 0, 1);
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        expect(finite_with(device, values, NUMBERS, NAN, places[i]) == 0, "a", "NaN", 1, 0);
        expect(finite_with(device, values, NUMBERS, -INFINITY, places[i]) == 0, "an", "infinity",
               1, 0);
    }
}

static void check_memory(struct train_device *device)
{
    const struct train_ops *ops = device->ops;
    struct akin_error error = {0};
    float a[NUMBERS], b[NUMBERS];
    void *one, *two;
    snprintf(where, sizeof where, "memory");
    must(ops->allocate(device, sizeof a, &one, &error), &error);
    must(ops->allocate(device, sizeof a, &two, &error), &error);
    ops->download(device, a, one, sizeof a);
    must(ops->finish(device, &error), &error);
    bool zero = true, sum = true;
    for (int i = 0; i < NUMBERS; i++) {
        zero = zero && a[i] == 0;
        a[i] = (float)i;
        b[i] = 0.5f;
    }
    expect(zero, "new memory is", "not zero", 0, 0);
    ops->upload(device, one, a, sizeof a);
    ops->upload(device, two, b, sizeof b);
    ops->add(device, one, two, NUMBERS - 1);
    ops->clear(device, two, sizeof b);
    ops->download(device, a, one, sizeof a);
    ops->download(device, b, two, sizeof b);
    must(ops->finish(device, &error), &error);
    for (int i = 0; i < NUMBERS; i++) {
        sum = sum && a[i] == (float)i + (i < NUMBERS - 1 ? 0.5f : 0);
        zero = zero && b[i] == 0;
    }
    expect(sum && zero, "add or", "clear", 0, 0);
    ops->release(device, one);
    ops->release(device, two);
    ops->release(device, NULL);
    expect(ops->allocate(device, SIZE_MAX / 4, &one, &error) == AKIN_MEMORY && error.message[0],
           "more memory than there is", "was given", 0, 0);
}

/* ---- all of it -------------------------------------------------------------------------- */

enum { PLAIN_SIZES = 5 };       /* for plain loops */

/* For what is slow: an emulated card, a card under a checker. Heads of 8, 16, 32, 64 and 128
 * columns and of a number that tensor cores do not take; more than a tile of queries, of keys;
 * more than a chunk of rows. */
static const struct trial_sizes SMALL[] = {
    {3, 17, 12, 3, 48, 40, 67},
    {3, 5, 9, 3, 21, 33, 23},
    {1, 1, 1, 1, 8, 1, 2},
    {1, 1, 3, 2, 16, 43, 11},
    {3, 45, 7, 1, 16, 24, 30},
    {1, 70, 67, 1, 32, 40, 90},
    {1, 20, 66, 1, 64, 33, 40},
    {1, 17, 20, 1, 128, 24, 30},
};

static const struct trial_sizes SIZES[] = {
    {3, 17, 12, 3, 48, 80, 131},
    {2, 16, 17, 4, 32, 64, 97},
    {3, 5, 9, 3, 21, 33, 23},       /* heads of seven columns */
    {1, 1, 1, 1, 8, 1, 2},
    {1, 1, 3, 2, 16, 43, 11},
    {2, 70, 133, 2, 64, 200, 300},
    {3, 33, 40, 1, 128, 513, 1030},
    {1, 90, 66, 2, 128, 40, 50},
};

static const struct train_pass PASSES[] = {
    {.dropout = 0, .seed = 1, .step = 1, .first_sample = 0, .loss_scale = 1},
    {.dropout = 0.1f, .seed = 0x123456789abcdef0, .step = 3, .first_sample = 5, .loss_scale = 1},
    {.dropout = 0.5f, .seed = 7, .step = 0x80000001, .first_sample = 0x30000000, .loss_scale = 4},
};

static void check_all(const struct kind *kind, struct train_device *const devices[2],
                      struct train_device *reference, bool small)
{
    const struct trial_sizes *list = small ? SMALL : SIZES;
    size_t sizes = small ? COUNT_OF(SMALL) : kind->runs == PLAIN ? PLAIN_SIZES : COUNT_OF(SIZES);
    for (size_t i = 0; i < sizes; i++)
        for (size_t k = 0; k < COUNT_OF(PASSES); k++)
            for (int part = 0; part < TRIAL_PARTS; part++) {
                const struct trial_sizes *s = &list[i];
                snprintf(where, sizeof where, "%s %s, sizes %zu,%zu,%zu,%zu,%zu,%zu,%zu, pass %zu",
                         kind->name, trial_part_name((enum trial_part)part), s->samples, s->queries,
                         s->keys, s->heads, s->dim, s->inner, s->vocab, k);
                check_part(kind, devices, reference, (enum trial_part)part, s, &PASSES[k]);
                if (kind->runs == PLAIN && PASSES[k].loss_scale == 1)
                    check_differences(reference, (enum trial_part)part, s, &PASSES[k]);
            }
    check_updates(devices[0], reference);
    check_finiteness(devices[0]);
    check_memory(devices[0]);
}

static const struct kind *find_kind(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(KINDS); i++)
        if (!strcmp(KINDS[i].name, name))
            return &KINDS[i];
    return NULL;
}

int main(int argc, char **argv)
{
    bool small = argc > 2 && !strcmp(argv[argc - 1], "--small");
    argc -= small;
    const struct kind *kind = argc > 1 ? find_kind(argv[1]) : NULL;
    const char *level = argc == 4 && !strcmp(argv[2], "--level") ? argv[3] : NULL;
    if (!kind || (argc != 2 && !level) || !cpu_level(level, cpu_detect(), &allowed_flags)) {
        fputs("usage: train_devicecheck DEVICE [--level ref|avx2|avx512|amx] [--small]\n", stderr);
        return 2;
    }
    if (level && strcmp(cpu_level_name(allowed_flags), level)) {
        printf("skipped: this machine has no %s\n", level);
        return 77;
    }
    snprintf(where, sizeof where, "%s", kind->name);
    struct thread_pool *pools[2] = {thread_pool_create(1), thread_pool_create(3)};
    struct train_device *devices[2] = {create(kind, pools[0]), create(kind, pools[1])};
    struct train_device *reference = create(&KINDS[0], NULL);
    if (devices[0] && devices[1])
        check_all(kind, devices, reference, small);
    for (int i = 0; i < 2; i++) {
        if (devices[i])
            devices[i]->ops->destroy(&devices[i]);
        thread_pool_destroy(&pools[i]);
    }
    reference->ops->destroy(&reference);
    if (checks < 100) {
        printf("skipped: there is no %s here\n", kind->name);
        return 77;
    }
    printf("%s %s: %d checks, %d failures\n", kind->name, cpu_level_name(allowed_flags), checks,
           failures);
    return failures != 0;
}
