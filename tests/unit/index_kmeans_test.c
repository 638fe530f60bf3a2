/* k-means: the same centroids whatever the threads, near the truth, no cell left empty while others
 * have rows to spare; and the selection of the greatest, which candidates go through. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"
#include "index/greatest.h"
#include "index/kmeans.h"

enum { COUNT = 4000, DIM = 80, CLUSTERS = 50, AWAY = 100 };

/* CLUSTERS tight heaps far from the origin. */
static float *heaps(void)
{
    struct rng rng;
    rng_seed(&rng, 11);
    float *centres = memory_alloc(CLUSTERS * DIM, sizeof *centres);
    float *x = memory_alloc_aligned(COUNT * DIM, sizeof *x);
    for (size_t i = 0; i < CLUSTERS * DIM; i++)
        centres[i] = AWAY + rng_normal(&rng);
    for (size_t r = 0; r < COUNT; r++)
        for (size_t d = 0; d < DIM; d++)
            x[r * DIM + d] = centres[r % CLUSTERS * DIM + d] + 0.05f * rng_normal(&rng);
    memory_free(centres);
    return x;
}

static void train(int threads, const struct segment_rows *rows, float *mean, float *centroids,
                  uint32_t *cells)
{
    struct thread_pool *pool = thread_pool_create(threads);
    struct backend *backend = NULL;
    struct kmeans_assigner *assigner = NULL;
    struct kmeans_settings settings = { .clusters = CLUSTERS, .iterations = 12, .seed = 3 };
    assert_int_equal(cpu_backend_create(cpu_detect(), pool, &backend, NULL), AKIN_OK);
    assert_int_equal(kmeans_mean(backend, rows, 1, mean, NULL), AKIN_OK);
    assert_int_equal(kmeans_train(backend, pool, rows, mean, &settings, centroids, NULL), AKIN_OK);
    assert_int_equal(kmeans_assigner_create(backend, pool, rows, mean, centroids, CLUSTERS,
                                            &assigner, NULL),
                     AKIN_OK);
    kmeans_assign(assigner, NULL, 0, rows->count, cells);
    kmeans_assigner_destroy(&assigner);
    cpu_backend_destroy(&backend);
    thread_pool_destroy(&pool);
}

static void heaps_are_found_by_any_threads(void **state)
{
    (void)state;
    float *x = heaps(), mean[DIM], *centroids = memory_alloc(2 * CLUSTERS * DIM, sizeof *centroids);
    uint32_t *cells = memory_alloc(2 * COUNT, sizeof *cells), counts[CLUSTERS] = { 0 };
    struct segment_rows rows = { x, ELEMENT_F32, COUNT, DIM, SCORE_L2, NULL, 0 };
    train(1, &rows, mean, centroids, cells);
    train(3, &rows, mean, centroids + CLUSTERS * DIM, cells + COUNT);
    assert_memory_equal(centroids, centroids + CLUSTERS * DIM,
                        CLUSTERS * DIM * sizeof *centroids);
    assert_memory_equal(cells, cells + COUNT, COUNT * sizeof *cells);
    double near = 0, far = 0;
    for (size_t r = 0; r < COUNT; r++) {
        counts[cells[r]]++;
        for (size_t d = 0; d < DIM; d++) {
            double centred = (double)(x[r * DIM + d] - mean[d]);
            near += pow(centred - (double)centroids[cells[r] * DIM + d], 2);
            far += centred * centred;
        }
    }
    for (size_t c = 0; c < CLUSTERS; c++)
        assert_true(counts[c] > 0);
    assert_true(near < 0.25 * far);     /* a sampled start leaves some heaps in pairs */
    memory_free(cells);
    memory_free(centroids);
    memory_free(x);
}

/* Fewer different rows than clusters: finite centroids, every row at one that equals it. */
static void duplicates_leave_cells_empty(void **state)
{
    (void)state;
    float *x = memory_alloc_aligned(COUNT * DIM, sizeof *x), mean[DIM];
    float *centroids = memory_alloc(CLUSTERS * DIM, sizeof *centroids);
    uint32_t *cells = memory_alloc(COUNT, sizeof *cells);
    for (size_t i = 0; i < COUNT * DIM; i++)
        x[i] = (float)(i / DIM % 3);
    struct segment_rows rows = { x, ELEMENT_F32, COUNT, DIM, SCORE_L2, NULL, 0 };
    train(2, &rows, mean, centroids, cells);
    for (size_t i = 0; i < CLUSTERS * DIM; i++)
        assert_true(isfinite(centroids[i]));
    for (size_t r = 0; r < COUNT; r++)
        assert_true(fabsf(centroids[cells[r] * DIM] + mean[0] - x[r * DIM]) < 0.1f);
    memory_free(cells);
    memory_free(centroids);
    memory_free(x);
}

static int falling(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

static void the_greatest_are_kept(void **state)
{
    (void)state;
    enum { MOST = 3000 };
    uint64_t x[MOST], sorted[MOST];
    struct rng rng;
    rng_seed(&rng, 2);
    for (size_t round = 0; round < 2000; round++) {
        size_t count = 1 + rng_below(&rng, round % 3 ? 300 : MOST);
        size_t keep = 1 + rng_below(&rng, count);
        for (size_t i = 0; i < count; i++) {
            uint64_t value = rng_next(&rng);
            x[i] = round % 5 == 0   ? value
                   : round % 5 == 1 ? value % 7
                   : round % 5 == 2 ? int_key((int32_t)(value % 4000) - 2000, (uint32_t)i)
                   : round % 5 == 3 ? float_key(rng_normal(&rng), (uint32_t)i)
                                    : UINT64_MAX - (value % 2);
        }
        memcpy(sorted, x, count * sizeof *x);
        qsort(sorted, count, sizeof *sorted, falling);
        keep_greatest(x, count, keep);
        assert_true(x[keep - 1] == sorted[keep - 1]);
        qsort(x, keep, sizeof *x, falling);
        assert_memory_equal(x, sorted, keep * sizeof *x);
    }
    assert_true(float_key(-INFINITY, 0) > float_key(NAN, 0));
    assert_true(float_key(0.5f, 9) > float_key(-0.5f, 1));
    assert_true(float_key(1, 3) > float_key(1, 4));
    assert_int_equal(key_score(int_key(-7, 5)), -7);
    assert_int_equal(key_row(int_key(-7, 5)), 5);
}

static void samples_are_ascending(void **state)
{
    (void)state;
    uint32_t rows[1000];
    for (size_t total = 0; total <= 1000; total += 50)
        for (size_t count = 0; count <= total; count += 25) {
            sample_rows(total, total, count, rows);
            for (size_t i = 0; i < count; i++)
                assert_true(rows[i] < total && (!i || rows[i] > rows[i - 1]));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heaps_are_found_by_any_threads),
        cmocka_unit_test(duplicates_leave_cells_empty),
        cmocka_unit_test(the_greatest_are_kept),
        cmocka_unit_test(samples_are_ascending),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
