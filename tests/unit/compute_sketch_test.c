/* Sketches: estimates are near the scores, spaces survive storage, damaged ones are refused. That
 * the look-ups are right is kernelcheck's. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"
#include "compute/sketch.h"

enum { ROWS = 1000, QUERIES = 8 };

struct fixture {
    struct thread_pool *pool;
    struct backend *backend, *plain;    /* this machine's best, reference */
};

static int set_up(void **state)
{
    struct fixture *f = memory_alloc(1, sizeof *f);
    f->pool = thread_pool_create(2);
    assert_int_equal(cpu_backend_create(cpu_detect(), f->pool, &f->backend, NULL), AKIN_OK);
    assert_int_equal(cpu_backend_create(0, f->pool, &f->plain, NULL), AKIN_OK);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    cpu_backend_destroy(&f->backend);
    cpu_backend_destroy(&f->plain);
    thread_pool_destroy(&f->pool);
    memory_free(f);
    return 0;
}

/* Rows around a mean, with a spectrum that falls as those of embeddings do. */
static float *make_rows(size_t count, size_t dim, float scale, uint64_t seed)
{
    struct rng rng;
    rng_seed(&rng, seed);
    float *rows = memory_alloc(count * dim, sizeof *rows);
    for (size_t r = 0; r < count; r++) {
        float own = scale * (0.5f + rng_float(&rng));
        for (size_t k = 0; k < dim; k++)
            rows[r * dim + k] = own * (0.3f + rng_normal(&rng) / sqrtf(1 + 0.05f * (float)k));
    }
    return rows;
}

struct space {
    struct sketch *sketch;
    float *rows, *queries, *scores;
    unsigned char *codes;
    size_t dim, blocks;
    enum score score;
};

static void encode_all(struct space *s)
{
    size_t step = sketch_block_rows(s->sketch), bytes = sketch_block_bytes(s->sketch);
    void *scratch = memory_alloc_aligned(sketch_scratch_bytes(s->sketch), 1);
    s->blocks = (ROWS + step - 1) / step;
    s->codes = memory_alloc_aligned(s->blocks, bytes);
    for (size_t b = 0; b < s->blocks; b++) {
        const float *rows[64];
        size_t live = ROWS - b * step < step ? ROWS - b * step : step;
        for (size_t i = 0; i < live; i++)
            rows[i] = s->rows + (b * step + i) * s->dim;
        sketch_encode(s->sketch, rows, live, s->codes + b * bytes, scratch);
    }
    memory_free(scratch);
}

static struct space make_space(const struct fixture *f, size_t dim, enum score score, float scale,
                               size_t block_rows)
{
    struct space s = { .dim = dim, .score = score };
    const float *sample[ROWS];
    s.rows = make_rows(ROWS, dim, scale, 5);
    s.queries = make_rows(QUERIES, dim, scale, 6);
    s.scores = memory_alloc(ROWS + 64, sizeof *s.scores);
    for (size_t r = 0; r < ROWS; r++)
        sample[r] = s.rows + r * dim;
    struct sketch_training training = { .rows = sample, .count = ROWS, .dim = dim, .score = score,
                                        .block_rows = block_rows };
    assert_int_equal(sketch_train(f->backend, &training, &s.sketch, NULL), AKIN_OK);
    encode_all(&s);
    return s;
}

static void free_space(struct space *s)
{
    sketch_destroy(&s->sketch);
    memory_free(s->rows);
    memory_free(s->queries);
    memory_free(s->scores);
    memory_free(s->codes);
}

static void estimate(struct space *s, const struct sketch *sketch, size_t q, float *scores)
{
    void *memory = memory_alloc_aligned(sketch_query_bytes(sketch), 1);
    const struct sketch_query *query = sketch_prepare(sketch, s->queries + q * s->dim, memory);
    sketch_estimate(sketch, query, s->codes, s->blocks, scores);
    memory_free(memory);
}

/* The share of the variance of the scores that the estimates explain. */
static double explained(const struct fixture *f, struct space *s, size_t q)
{
    double mean = 0, variance = 0, error = 0;
    float exact[ROWS];
    estimate(s, s->sketch, q, s->scores);
    for (size_t r = 0; r < ROWS; r++) {
        exact[r] = cpu_score(f->backend, s->queries + q * s->dim, s->rows + r * s->dim, s->dim,
                             s->score);
        mean += (double)exact[r] / ROWS;
    }
    for (size_t r = 0; r < ROWS; r++) {
        double wrong = (double)s->scores[r] - (double)exact[r], spread = (double)exact[r] - mean;
        error += wrong * wrong;
        variance += spread * spread;
    }
    return 1 - error / variance;
}

static void test_estimates(void **state)
{
    static const size_t dims[] = { 1, 2, 3, 7, 8, 9, 33, 100, 384, 700 };
    const struct fixture *f = *state;
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
        for (int i = 0; i < 4; i++) {
            struct space s = make_space(f, dims[d], i & 1 ? SCORE_L2 : SCORE_INNER_PRODUCT,
                                        i & 1 ? 1 : 7, i & 2 ? 32 : 64);
            double share = 0;
            for (size_t q = 0; q < QUERIES; q++)
                share += explained(f, &s, q) / QUERIES;
            if (share < 0.8)
                fail_msg("dimension %zu, case %d: %.3f of the variance", dims[d], i, share);
            free_space(&s);
        }
}

static void test_stored(void **state)
{
    const struct fixture *f = *state;
    struct space s = make_space(f, 70, SCORE_L2, 1, 64);
    size_t bytes;
    const void *blob = sketch_blob(s.sketch, &bytes);
    unsigned char *copy = memory_alloc_aligned(bytes, 1);
    float *again = memory_alloc(ROWS + 64, sizeof *again);
    memcpy(copy, blob, bytes);
    struct sketch *opened = NULL, *refused = NULL;
    assert_int_equal(sketch_open(f->backend, copy, bytes, &opened, NULL), AKIN_OK);
    for (size_t q = 0; q < QUERIES; q++) {
        estimate(&s, s.sketch, q, s.scores);
        estimate(&s, opened, q, again);
        assert_memory_equal(s.scores, again, ROWS * sizeof *again);
    }
    sketch_destroy(&opened);
    for (size_t cut = 0; cut < bytes; cut += 7)
        assert_int_equal(sketch_open(f->backend, copy, cut, &refused, NULL), AKIN_FORMAT);
    struct rng rng;
    rng_seed(&rng, 9);
    for (int i = 0; i < 3000; i++) {        /* opened or refused, never a crash */
        size_t at = rng_below(&rng, i % 2 ? 64 : bytes);
        unsigned char kept = copy[at];
        copy[at] = (unsigned char)rng_next(&rng);
        if (sketch_open(f->backend, copy, bytes, &opened, NULL) == AKIN_OK)
            sketch_destroy(&opened);
        copy[at] = kept;
    }
    assert_null(refused);
    memory_free(again);
    memory_free(copy);
    free_space(&s);
}

static void test_rows_alike(void **state)
{
    const struct fixture *f = *state;
    static const float row[20] = { 1, 2, 3 }, zeros[20];
    const float *sample[3] = { row, row, row };
    struct sketch_training training = { .rows = sample, .count = 3, .dim = 20, .block_rows = 32 };
    struct sketch *space;
    assert_int_equal(sketch_train(f->plain, &training, &space, NULL), AKIN_OK);
    void *block = memory_alloc_aligned(sketch_block_bytes(space), 1);
    void *scratch = memory_alloc_aligned(sketch_scratch_bytes(space), 1);
    void *memory = memory_alloc_aligned(sketch_query_bytes(space), 1);
    float scores[32];
    sample[2] = zeros;
    sketch_encode(space, sample, 3, block, scratch);
    sketch_estimate(space, sketch_prepare(space, row, memory), block, 1, scores);
    assert_true(fabsf(scores[0] - 14) < 1e-4f && scores[0] == scores[1]);
    sketch_estimate(space, sketch_prepare(space, zeros, memory), block, 1, scores);
    assert_true(scores[0] == 0 && scores[2] == 0);
    memory_free(block);
    memory_free(scratch);
    memory_free(memory);
    sketch_destroy(&space);
    training.dim = 5000;
    struct akin_error error;
    assert_int_equal(sketch_train(f->plain, &training, &space, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "5000"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_estimates),
        cmocka_unit_test(test_stored),
        cmocka_unit_test(test_rows_alike),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
