/* Narrowed weights to rows and back: the same bits in every product, for every shape. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"
#include "compute/stored.h"

enum { ROWS = 9 };

struct rig {
    struct thread_pool *pool;
    struct backend *backend;
    struct lane *lane;
};

static void start(struct rig *rig, unsigned flags)
{
    rig->pool = thread_pool_create(1);
    assert_non_null(rig->pool);
    assert_int_equal(cpu_backend_create(flags, rig->pool, &rig->backend, NULL), AKIN_OK);
    assert_int_equal(rig->backend->ops->lane_create(rig->backend, 1 << 18, &rig->lane, NULL),
                     AKIN_OK);
}

static void stop(struct rig *rig)
{
    rig->backend->ops->lane_destroy(&rig->lane);
    cpu_backend_destroy(&rig->backend);
    thread_pool_destroy(&rig->pool);
}

static float *random_floats(struct rng *rng, size_t count, float scale)
{
    float *values = memory_alloc(count, sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++)
        values[i] = scale * rng_normal(rng);
    return values;
}

static void multiply(struct rig *rig, const struct linear *linear, const float *x, size_t in,
                     size_t out, float *result)
{
    const struct backend_ops *op = rig->backend->ops;
    op->lane_reset(rig->lane);
    struct tensor from = op->tensor_take(rig->lane, ROWS, in);
    struct tensor to = op->tensor_take(rig->lane, ROWS, out);
    assert_non_null(to.data);
    memcpy(from.data, x, ROWS * in * sizeof *x);
    op->linear(rig->lane, &to, &from, linear, ACTIVATION_NONE);
    memcpy(result, to.data, ROWS * out * sizeof *result);
}

static void round_trip(struct rig *rig, size_t in, size_t out, enum compute_precision precision,
                       bool equalized)
{
    struct rng rng;
    rng_seed(&rng, in * 31 + out);
    float *weights = random_floats(&rng, in * out, 0.1f), *bias = random_floats(&rng, out, 1);
    float *x = random_floats(&rng, ROWS * in, 1), *equalizer = random_floats(&rng, in, 1);
    for (size_t k = 0; k < in; k++)
        equalizer[k] = equalizer[k] * equalizer[k] + 0.01f;
    memset(weights, 0, in * sizeof *weights);       /* an output of zeros */
    struct host_matrix matrix = { .data = weights, .type = ELEMENT_F32, .rows = out, .cols = in };
    struct linear *original, *restored;
    assert_int_equal(rig->backend->ops->linear_create(rig->backend, &matrix, bias,
                                                      equalized ? equalizer : NULL, precision,
                                                      &original, NULL), AKIN_OK);
    struct stored_linear stored;
    assert_true(cpu_linear_describe(original, &stored));
    assert_true(stored.in == in && stored.out == out);
    size_t bytes = precision == COMPUTE_INT8 ? 1 : 2;
    char *values = memory_alloc(in * out + 1, bytes);   /* one byte off: of any alignment */
    float *scales = memory_alloc(out * stored_pieces(in, stored.piece), sizeof *scales);
    cpu_linear_store(original, values, scales);
    memmove(values + 1, values, in * out * bytes);
    stored.values = values + 1;
    stored.scales = precision == COMPUTE_INT8 ? scales : NULL;
    assert_int_equal(cpu_linear_restore(rig->backend, &stored, bias, &restored, NULL), AKIN_OK);
    float *a = memory_alloc(ROWS * out, sizeof *a), *b = memory_alloc(ROWS * out, sizeof *b);
    multiply(rig, original, x, in, out, a);
    multiply(rig, restored, x, in, out, b);
    if (memcmp(a, b, ROWS * out * sizeof *a))
        fail_msg("%zu x %zu: other bits", out, in);
    assert_int_equal(rig->backend->ops->linear_bytes(original),
                     rig->backend->ops->linear_bytes(restored));
    rig->backend->ops->linear_destroy(&original);
    rig->backend->ops->linear_destroy(&restored);
    float *const blocks[] = { weights, bias, x, equalizer, scales, a, b };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        memory_free(blocks[i]);
    memory_free(values);
}

static void test_same_bits(void **state)
{
    static const size_t shapes[][2] = { { 1, 1 }, { 3, 70 }, { 37, 5 }, { 64, 64 }, { 384, 129 },
                                        { 1024, 33 }, { 1025, 17 }, { 1536, 96 } };
    static const char *const levels[] = { "ref", "avx2", "avx512", "amx" };
    (void)state;
    for (size_t level = 0; level < sizeof levels / sizeof *levels; level++) {
        struct rig rig;
        unsigned flags;
        assert_true(cpu_level(levels[level], cpu_detect(), &flags));
        start(&rig, flags);
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            round_trip(&rig, shapes[i][0], shapes[i][1], COMPUTE_INT8, i % 2);
            if (rig.backend->ops->supports(rig.backend, COMPUTE_BF16))
                round_trip(&rig, shapes[i][0], shapes[i][1], COMPUTE_BF16, false);
        }
        stop(&rig);
    }
}

static void test_refuses(void **state)
{
    struct rig rig;
    struct linear *linear = NULL;
    struct akin_error error = { 0 };
    static const int8_t values[2048];
    static const float ones[2048];
    (void)state;
    start(&rig, 0);
    struct stored_linear stored = { .precision = COMPUTE_INT8, .out = 1, .in = 2048, .piece = 2048,
                                    .values = values, .scales = ones };
    assert_int_equal(cpu_linear_restore(rig.backend, &stored, NULL, &linear, &error), AKIN_FORMAT);
    assert_non_null(strstr(error.message, "pieces of 2048"));
    stored.out = 0;
    assert_int_equal(cpu_linear_restore(rig.backend, &stored, NULL, &linear, &error),
                     AKIN_ARGUMENT);
    stored.out = 1;
    stored.in = stored.piece = 70000;
    assert_int_equal(cpu_linear_restore(rig.backend, &stored, NULL, &linear, &error),
                     AKIN_ARGUMENT);
    stored.precision = COMPUTE_FP32;
    assert_int_equal(cpu_linear_restore(rig.backend, &stored, NULL, &linear, &error),
                     AKIN_ARGUMENT);
    assert_null(linear);
    stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits), cmocka_unit_test(test_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
