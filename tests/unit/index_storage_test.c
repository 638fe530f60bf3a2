/* Rows kept as fp32, fp16 and int8: what is kept is near what was given, never changes again, and
 * is what searches answer for, exactly where they are asked to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "collection_rig.h"
#include "compute/screen.h"

enum { DIM = 24, ROWS = 9000, MORE = 700, QUERIES = 40, K = 10 };

static const enum akin_metric metrics[] = { AKIN_METRIC_INNER_PRODUCT, AKIN_METRIC_COSINE,
                                            AKIN_METRIC_L2 };

static float *random_rows(uint64_t seed, size_t count)
{
    struct rng rng;
    rng_seed(&rng, seed);
    float *x = memory_alloc(count, DIM * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < count; i++) {
        double length = exp(4 * (double)rng_float(&rng) - 2);
        for (size_t k = 0; k < DIM; k++)        /* wide along some directions, as embeddings are */
            x[i * DIM + k] = (float)(length * (double)rng_normal(&rng) / (double)(1 + k % 8));
    }
    return x;
}

static struct akin_index_settings settings_of(enum akin_storage storage, enum akin_metric metric,
                                              const char *kind)
{
    struct akin_index_settings settings;
    collection_settings_default(&settings);
    settings.storage = storage;
    settings.metric = metric;
    settings.kind = kind;
    return settings;
}

static void build(struct rig *rig, const float *x, size_t count,
                  const struct akin_index_settings *settings)
{
    struct akin_index_rows rows = { .vectors = x, .count = count };
    rig_ok(rig, collection_build(&rig->host, rig->path, &rows, DIM, settings, &rig->error));
}

static float *read_all(struct rig *rig, const struct collection *c, size_t count)
{
    float *x = memory_alloc(count, DIM * sizeof *x);
    int64_t *ids = memory_alloc(count, sizeof *ids);
    size_t found = 0;
    for (size_t at = 0; at < count; at += found) {
        rig_ok(rig, collection_read(c, (int64_t)at, 1000, ids + at, x + at * DIM, &found,
                                    &rig->error));
        assert_true(found > 0);
    }
    for (size_t i = 0; i < count; i++)
        assert_int_equal(ids[i], i);
    rig_ok(rig, collection_read(c, (int64_t)count, 1000, ids, NULL, &found, &rig->error));
    assert_int_equal(found, 0);
    memory_free(ids);
    return x;
}

/* ---- near ---------------------------------------------------------------------------------- */

static void check_near(enum akin_storage storage, enum akin_metric metric, const float *given,
                       const float *kept, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float row[DIM], largest = 0;
        memcpy(row, given + i * DIM, sizeof row);
        if (metric == AKIN_METRIC_COSINE)
            unit_row(given + i * DIM, DIM, row);
        for (size_t k = 0; k < DIM; k++)
            largest = fmaxf(largest, fabsf(row[k]));
        for (size_t k = 0; k < DIM; k++) {
            double off = fabs((double)row[k] - (double)kept[i * DIM + k]);
            double bound = storage == AKIN_STORAGE_FP32 ? 0
                : storage == AKIN_STORAGE_FP16 ? fabs((double)row[k]) * 0x1p-11 + 0x1p-25
                                               : (double)largest / 254 * (1 + 0x1p-14);
            assert_true(off <= bound);
        }
    }
}

/* ---- exact --------------------------------------------------------------------------------- */

static void check_search(struct rig *rig, const struct collection *c, const float *kept,
                         size_t count, const float *queries, bool exact)
{
    struct akin_index_query query = { .vectors = queries, .count = QUERIES, .k = K,
                                      .exact = exact };
    static int64_t ids[QUERIES * K];
    static float scores[QUERIES * K];
    struct oracle_hit *hits = memory_alloc(count, sizeof *hits);
    struct akin_index_info info;
    size_t right = 0;
    collection_info(c, &info);
    rig_ok(rig, collection_search(c, &query, ids, scores, &rig->error));
    for (size_t q = 0; q < QUERIES; q++) {
        float unit[DIM];
        memcpy(unit, queries + q * DIM, sizeof unit);
        if (info.metric == AKIN_METRIC_COSINE)
            unit_row(queries + q * DIM, DIM, unit);
        for (size_t i = 0; i < count; i++)
            hits[i] = (struct oracle_hit){
                cpu_score(rig->host.backend, unit, kept + i * DIM, DIM,
                          info.metric == AKIN_METRIC_L2 ? SCORE_L2 : SCORE_INNER_PRODUCT),
                (int64_t)i };
        qsort(hits, count, sizeof *hits, oracle_order);
        for (size_t i = 0; i < K; i++) {
            right += scores[q * K + i] >= hits[K - 1].score;
            if (!exact)
                continue;
            assert_int_equal(ids[q * K + i], hits[i].id);
            assert_memory_equal(&scores[q * K + i], &hits[i].score, sizeof(float));
        }
    }
    assert_true((double)right >= 0.95 * QUERIES * K);
    memory_free(hits);
}

/* Sealed, then with a tail, then all sealed again: the rows never change a bit. */
static void test_exact(void **state)
{
    struct rig rig;
    float *x = random_rows(5, ROWS + MORE), *queries = random_rows(6, QUERIES);
    (void)state;
    rig_begin(&rig, 2);
    for (enum akin_storage storage = 0; storage <= AKIN_STORAGE_INT8; storage++)
        for (size_t m = 0; m < 3; m++) {
            struct akin_index_settings settings = settings_of(storage, metrics[m], "flat");
            build(&rig, x, ROWS, &settings);
            struct collection *c = rig_open(&rig, AKIN_INDEX_WRITE);
            float *kept = read_all(&rig, c, ROWS);
            check_near(storage, metrics[m], x, kept, ROWS);
            check_search(&rig, c, kept, ROWS, queries, true);
            check_search(&rig, c, kept, ROWS, queries, false);
            memory_free(kept);
            struct akin_index_rows more = { .vectors = x + ROWS * DIM, .count = MORE };
            rig_ok(&rig, collection_add(c, &more, false, &rig.error));
            kept = read_all(&rig, c, ROWS + MORE);
            check_near(storage, metrics[m], x, kept, ROWS + MORE);
            check_search(&rig, c, kept, ROWS + MORE, queries, true);
            collection_close(&c);
            c = rig_open(&rig, AKIN_INDEX_WRITE);       /* the tail is replayed */
            float *again = read_all(&rig, c, ROWS + MORE);
            assert_memory_equal(again, kept, (ROWS + MORE) * DIM * sizeof *kept);
            memory_free(again);
            rig_ok(&rig, collection_compact(c, NULL, &rig.error));
            again = read_all(&rig, c, ROWS + MORE);
            assert_memory_equal(again, kept, (ROWS + MORE) * DIM * sizeof *kept);
            check_search(&rig, c, kept, ROWS + MORE, queries, true);
            collection_close(&c);
            rig_ok(&rig, collection_check(&rig.host, rig.path, &rig.error));
            memory_free(again);
            memory_free(kept);
        }
    memory_free(x);
    memory_free(queries);
    rig_end(&rig);
}

/* Half precision under the trained kinds: their recall, and exact answers. */
static void test_kinds(void **state)
{
    static const char *const kinds[] = { "ivfpq", "graph" };
    struct rig rig;
    float *x = random_rows(7, ROWS), *queries = random_rows(8, QUERIES);
    (void)state;
    rig_begin(&rig, 2);
    for (size_t i = 0; i < 2; i++) {
        struct akin_index_settings settings =
            settings_of(AKIN_STORAGE_FP16, AKIN_METRIC_COSINE, kinds[i]);
        build(&rig, x, ROWS, &settings);
        struct collection *c = rig_open(&rig, AKIN_INDEX_READ);
        float *kept = read_all(&rig, c, ROWS);
        check_near(AKIN_STORAGE_FP16, AKIN_METRIC_COSINE, x, kept, ROWS);
        check_search(&rig, c, kept, ROWS, queries, true);
        check_search(&rig, c, kept, ROWS, queries, false);
        memory_free(kept);
        collection_close(&c);
        rig_ok(&rig, collection_check(&rig.host, rig.path, &rig.error));
    }
    memory_free(x);
    memory_free(queries);
    rig_end(&rig);
}

/* ---- smaller, refused, said ----------------------------------------------------------------- */

static void test_sizes(void **state)
{
    struct rig rig;
    float *x = random_rows(9, ROWS);
    struct akin_index_info info[3];
    (void)state;
    rig_begin(&rig, 1);
    for (enum akin_storage storage = 0; storage <= AKIN_STORAGE_INT8; storage++) {
        struct akin_index_settings settings =
            settings_of(storage, AKIN_METRIC_COSINE, storage ? "auto" : "flat");
        build(&rig, x, ROWS, &settings);
        struct collection *c = rig_open(&rig, AKIN_INDEX_READ);
        collection_info(c, &info[storage]);
        assert_int_equal(info[storage].storage, storage);
        assert_string_equal(info[storage].kind, "flat");
        collection_close(&c);
    }
    /* two bytes of a number, and the other two */
    assert_in_range(info[0].file_bytes - info[1].file_bytes, ROWS * DIM * 2 - 8192,
                    ROWS * DIM * 2 + 8192);
    assert_in_range(info[1].file_bytes - info[2].file_bytes, ROWS * DIM * 2 - 8192,
                    ROWS * DIM * 2 + 8192);
    assert_non_null(strstr(info[2].why, "int8"));
    memory_free(x);
    rig_end(&rig);
}

static void test_refused(void **state)
{
    struct rig rig;
    float x[2 * DIM] = { 1 };
    struct akin_index_rows rows = { .vectors = x, .count = 2 };
    (void)state;
    rig_begin(&rig, 1);
    struct akin_index_settings s = settings_of(AKIN_STORAGE_FP16, AKIN_METRIC_L2, "flat");
    x[DIM + 3] = 65520;
    assert_int_equal(collection_build(&rig.host, rig.path, &rows, DIM, &s, &rig.error),
                     AKIN_ARGUMENT);
    assert_non_null(strstr(rig.error.message, "row 1: column 3"));
    assert_non_null(strstr(rig.error.message, "fp32"));
    x[DIM + 3] = 65519;
    build(&rig, x, 2, &s);
    struct collection *c = rig_open(&rig, AKIN_INDEX_WRITE);
    x[0] = -70000;
    assert_int_equal(collection_add(c, &rows, false, &rig.error), AKIN_ARGUMENT);
    assert_non_null(strstr(rig.error.message, "row 0: column 0"));
    collection_close(&c);
    s.metric = AKIN_METRIC_COSINE;      /* brought to length 1 first */
    build(&rig, x, 2, &s);
    s.storage = AKIN_STORAGE_INT8;
    static const char *const kinds[] = { "ivfpq", "graph" };
    for (size_t i = 0; i < 2; i++) {
        s.kind = kinds[i];
        assert_int_equal(collection_build(&rig.host, rig.path, &rows, DIM, &s, &rig.error),
                         AKIN_UNSUPPORTED);
        assert_non_null(strstr(rig.error.message, kinds[i]));
    }
    s.kind = "flat";
    s.storage = (enum akin_storage)7;
    assert_int_equal(collection_build(&rig.host, rig.path, &rows, DIM, &s, &rig.error),
                     AKIN_ARGUMENT);
    rig_end(&rig);
}

/* ---- rounding ------------------------------------------------------------------------------ */

/* Whatever the numbers: rounded once is rounded for good, and is what the codes say. */
static void test_round(void **state)
{
    struct rng rng;
    (void)state;
    rng_seed(&rng, 11);
    for (int turn = 0; turn < 20000; turn++) {
        float x[DIM], once[DIM], numbers[4];
        uint8_t codes[32];
        double scale = exp2((double)rng_below(&rng, 260) - 132);
        for (size_t k = 0; k < DIM; k++) {
            double value = scale * (double)rng_normal(&rng);
            x[k] = (float)fmin(fmax(value, -0x1.fffffep127), 0x1.fffffep127);
        }
        if (turn % 7 == 0)
            memset(x + 1, 0, sizeof x - sizeof *x);
        memcpy(once, x, sizeof x);
        screen_round(once, DIM);
        memcpy(x, once, sizeof x);
        screen_round(x, DIM);
        assert_memory_equal(x, once, sizeof x);
        screen_encode(x, DIM, codes, numbers);
        for (size_t k = 0; k < DIM; k++) {
            float said = numbers[0] * (float)((int)codes[k] - 128);
            assert_memory_equal(&said, &once[k], sizeof said);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact), cmocka_unit_test(test_kinds), cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_round),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
