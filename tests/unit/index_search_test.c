/* Searching a flat index: against every score computed in double, with ties, odd ids, masks, any
 * k, and the same bits from any number of threads. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/rng.h"
#include "index/collection.h"
#include "index/index.h"
#include "backends_rig.h"

static char folder[] = "/tmp/akin_search_XXXXXX";
static char path[256];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/x.akx", folder);
    return backends_open();
}

static int tear_down(void **state)
{
    (void)state;
    backends_close();
    return path_remove_tree(folder, NULL);
}

static struct collection_host host_of(int threads)
{
    return (struct collection_host){ .backend = backends[threads - 1], .pool = pools[threads - 1],
                                     .cpu_flags = cpu_detect() };
}

static struct collection *open_index(int threads)
{
    struct collection *index = NULL;
    struct akin_error error = { 0 };
    struct collection_host host = host_of(threads);
    if (collection_open(&host, path, AKIN_INDEX_READ, &index, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    return index;
}

static enum akin_status search(const struct collection *index, const float *queries, size_t count,
                               size_t k, const char *filter, int64_t *ids, float *scores,
                               struct akin_error *error)
{
    struct akin_index_query query = { .vectors = queries, .count = count, .k = k, .exact = true,
                                      .filter = filter };
    return collection_search(index, &query, ids, scores, error);
}

static void build(const float *vectors, const int64_t *ids, const char *const *metadata,
                  size_t count, size_t dim, enum akin_metric metric)
{
    struct akin_index_settings settings;
    struct collection_host host = host_of(2);
    struct akin_index_rows rows = { .vectors = vectors, .ids = ids, .metadata = metadata,
                                    .count = count };
    struct akin_error error = { 0 };
    collection_settings_default(&settings);
    settings.metric = metric;
    if (collection_build(&host, path, &rows, dim, &settings, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    assert_int_equal(collection_check(&host, path, NULL), AKIN_OK);
}

/* ---- the naive search ------------------------------------------------------------------- */

struct naive {
    double score;
    int64_t id;
};

static int by_score_then_id(const void *a, const void *b)
{
    const struct naive *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static double naive_score(const float *a, const float *b, size_t dim, enum akin_metric metric)
{
    double dot = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < dim; i++) {
        dot += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    if (metric == AKIN_METRIC_COSINE)
        return aa > 0 && bb > 0 ? dot / sqrt(aa * bb) : 0;
    return metric == AKIN_METRIC_L2 ? -(aa + bb - 2 * dot) : dot;
}

/* Small whole numbers: scores are exact in float32 (but for the cosine), and ties are many. */
static float *small_numbers(struct rng *rng, size_t count)
{
    float *values = memory_alloc(count, sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)rng_below(rng, 5) - 2;
    return values;
}

static void compare_with_naive(enum akin_metric metric, bool with_ids, bool masked)
{
    enum { ROWS = 2500, DIM = 7, QUERIES = 70, K = 300 };
    struct rng rng;
    rng_seed(&rng, 7 + metric);
    float *vectors = small_numbers(&rng, ROWS * DIM), *queries = small_numbers(&rng, QUERIES * DIM);
    int64_t *ids = memory_alloc(ROWS, sizeof *ids),
            *found = memory_alloc(QUERIES * K, sizeof *found);
    float *scores = memory_alloc(QUERIES * K, sizeof *scores);
    struct naive *all = memory_alloc(ROWS, sizeof *all);
    const char **passes = memory_alloc(ROWS, sizeof *passes);
    for (size_t i = 0; i < ROWS; i++) {
        ids[i] = with_ids ? (int64_t)(i * 1237 % ROWS) * 1000000007 : (int64_t)i;
        passes[i] = rng_below(&rng, 3) == 0 ? "{\"passes\": 1}" : "{\"passes\": \"not\"}";
    }
    build(vectors, with_ids ? ids : NULL, masked ? passes : NULL, ROWS, DIM, metric);
    struct collection *index = open_index(2);
    assert_int_equal(
        search(index, queries, QUERIES, K, masked ? "passes=1" : NULL, found, scores, NULL),
        AKIN_OK);
    double tolerance = metric == AKIN_METRIC_COSINE ? 2e-6 : 0;
    for (size_t q = 0; q < QUERIES; q++) {
        size_t count = 0;
        for (size_t i = 0; i < ROWS; i++)
            if (!masked || strstr(passes[i], ": 1"))
                all[count++] = (struct naive){
                    naive_score(queries + q * DIM, vectors + i * DIM, DIM, metric), ids[i]};
        qsort(all, count, sizeof *all, by_score_then_id);
        for (size_t i = 0; i < K; i++) {
            assert_true(fabs(scores[q * K + i] - all[i].score) <= tolerance);
            if (tolerance == 0)
                assert_int_equal(found[q * K + i], all[i].id);
            else if (i && scores[q * K + i] == scores[q * K + i - 1])
                assert_true(found[q * K + i] > found[q * K + i - 1]);
        }
    }
    collection_close(&index);
    assert_null(index);
    memory_free(passes);
    memory_free(all);
    memory_free(scores);
    memory_free(found);
    memory_free(ids);
    memory_free(queries);
    memory_free(vectors);
}

static void inner_product(void **state)
{
    compare_with_naive(AKIN_METRIC_INNER_PRODUCT, false, false);
    compare_with_naive(AKIN_METRIC_INNER_PRODUCT, true, false);
    compare_with_naive(AKIN_METRIC_INNER_PRODUCT, false, true);
    (void)state;
}

static void squared_distance(void **state)
{
    compare_with_naive(AKIN_METRIC_L2, false, false);
    compare_with_naive(AKIN_METRIC_L2, true, false);
    (void)state;
}

static void cosine(void **state)
{
    compare_with_naive(AKIN_METRIC_COSINE, false, false);
    compare_with_naive(AKIN_METRIC_COSINE, true, false);
    (void)state;
}

/* ---- any k, any threads ----------------------------------------------------------------- */

static void every_k(void **state)
{
    static const size_t ks[] = { 0, 1, 2, 9, 10, 11, 5000 };
    const float vectors[] = { 1, 5, 5, -3, 0, 2, 4, 4, 4, 7 }, query[] = { 1, -1 };
    const int64_t expected[2][10] = {{9, 1, 2, 6, 7, 8, 5, 0, 4, 3},
                                     {3, 4, 0, 5, 6, 7, 8, 1, 2, 9}};
    build(vectors, NULL, NULL, 10, 1, AKIN_METRIC_INNER_PRODUCT);
    struct collection *index = open_index(1);
    struct akin_index_info info;
    collection_info(index, &info);
    assert_string_equal(info.kind, "flat");
    assert_int_equal(info.count, 10);
    assert_int_equal(info.dimension, 1);
    assert_int_equal(info.version, 2);
    assert_int_equal(info.metric, AKIN_METRIC_INNER_PRODUCT);
    for (size_t c = 0; c < sizeof ks / sizeof *ks; c++) {
        size_t k = ks[c];
        int64_t *ids = memory_alloc(2 * k, sizeof *ids);
        float *scores = memory_alloc(2 * k, sizeof *scores);
        assert_int_equal(search(index, query, 2, k, NULL, ids, scores, NULL), AKIN_OK);
        for (size_t i = 0; i < 2 * k; i++) {
            size_t rank = i % k;
            assert_int_equal(ids[i], rank < 10 ? expected[i / k][rank] : -1);
            assert_true(rank < 10 ? isfinite(scores[i]) : scores[i] == -INFINITY);
        }
        memory_free(scores);
        memory_free(ids);
    }
    struct akin_error error = { 0 };
    assert_int_equal(search(index, query, 1, K_MAX + 1, NULL, NULL, NULL, &error),
                     AKIN_LIMIT);
    assert_int_equal(search(index, query, 0, 3, NULL, NULL, NULL, &error), AKIN_OK);
    const float bad[] = { 1, NAN };
    int64_t id[2] = { 77, 77 };
    float score[2];
    assert_int_equal(search(index, bad, 2, 1, NULL, id, score, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "query 1: column 0 is not finite"));
    assert_int_equal(id[0], 77);
    collection_close(&index);
    (void)state;
}

static void filter_of_nothing(void **state)
{
    const float vectors[] = { 1, 2, 3 };
    const char *const texts[] = { "{\"n\": 1}", NULL, "{\"n\": 3}" };
    struct akin_error error = { 0 };
    build(vectors, (int64_t[]){ 30, 20, 10 }, texts, 3, 1, AKIN_METRIC_L2);
    struct collection *index = open_index(1);
    int64_t ids[2];
    float scores[2];
    assert_int_equal(search(index, vectors, 1, 2, "n>5", ids, scores, NULL), AKIN_OK);
    assert_int_equal(ids[0], -1);
    assert_true(scores[1] == -INFINITY);
    assert_int_equal(search(index, vectors, 1, 2, "n=1", ids, scores, NULL), AKIN_OK);
    assert_int_equal(ids[0], 30);
    assert_true(scores[0] == 0);
    assert_int_equal(ids[1], -1);
    assert_int_equal(search(index, vectors, 1, 2, "n=", ids, scores, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "filter"));
    collection_close(&index);
    (void)state;
}

static void empty_index(void **state)
{
    build(NULL, NULL, NULL, 0, 5, AKIN_METRIC_COSINE);
    struct collection *index = open_index(1);
    const float query[5] = { 1 };
    int64_t ids[3];
    float scores[3];
    assert_int_equal(search(index, query, 1, 3, NULL, ids, scores, NULL), AKIN_OK);
    assert_int_equal(ids[2], -1);
    collection_close(&index);
    (void)state;
}

static void same_bits_from_any_thread_count(void **state)
{
    enum { ROWS = 9000, DIM = 37, QUERIES = 67, K = 40 };
    struct rng rng;
    rng_seed(&rng, 99);
    float *vectors = memory_alloc(ROWS * DIM, sizeof *vectors);
    for (size_t i = 0; i < ROWS * DIM; i++)
        vectors[i] = rng_normal(&rng);
    build(vectors, NULL, NULL, ROWS, DIM, AKIN_METRIC_COSINE);
    int64_t *ids[THREADS_TRIED];
    float *scores[THREADS_TRIED], alone_scores[K];
    int64_t alone[K];
    for (int t = 0; t < THREADS_TRIED; t++) {
        ids[t] = memory_alloc(QUERIES * K, sizeof *ids[t]);
        scores[t] = memory_alloc(QUERIES * K, sizeof *scores[t]);
        struct collection *index = open_index(t + 1);
        assert_int_equal(search(index, vectors, QUERIES, K, NULL, ids[t], scores[t], NULL),
                         AKIN_OK);
        for (size_t q = 0; q < QUERIES; q += 11) {  /* alone as in a batch */
            assert_int_equal(
                search(index, vectors + q * DIM, 1, K, NULL, alone, alone_scores, NULL),
                AKIN_OK);
            assert_memory_equal(alone, ids[0] + q * K, sizeof alone);
            assert_memory_equal(alone_scores, scores[0] + q * K, sizeof alone_scores);
        }
        collection_close(&index);
        assert_memory_equal(ids[0], ids[t], QUERIES * K * sizeof *ids[t]);
        assert_memory_equal(scores[0], scores[t], QUERIES * K * sizeof *scores[t]);
    }
    for (int t = 0; t < THREADS_TRIED; t++) {
        memory_free(ids[t]);
        memory_free(scores[t]);
    }
    memory_free(vectors);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inner_product),
        cmocka_unit_test(squared_distance),
        cmocka_unit_test(cosine),
        cmocka_unit_test(every_k),
        cmocka_unit_test(filter_of_nothing),
        cmocka_unit_test(empty_index),
        cmocka_unit_test(same_bits_from_any_thread_count),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
