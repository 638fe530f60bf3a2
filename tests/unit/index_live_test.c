/* Rows that come after an index was built: small segments use the sketches' space of the large one
 * and answer as well as one segment would, unless their rows are of another kind; and the tail is
 * screened without changing a bit of any answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "collection_rig.h"
#include "index/flat_handle.h"

enum {
    DIM = 96,
    BUILT = FLAT_SKETCHED_ROWS + 800,
    BATCH = 1000,
    BATCHES = 3,            /* four would be merged */
    TAIL = 700,
    ALL = BUILT + BATCHES * BATCH + TAIL,
    QUERIES = 150,
    K = 10,
};

static struct rig rig;
static float *rows, *queries;

/* A spectrum that falls, as that of sentences does; turned round, it is that of something else. */
static void fill(float *x, size_t count, bool other, uint64_t seed)
{
    struct rng rng;
    rng_seed(&rng, seed);
    for (size_t i = 0; i < count * DIM; i++) {
        size_t k = other ? DIM - 1 - i % DIM : i % DIM;
        x[i] = 0.2f + rng_normal(&rng) / sqrtf(1 + 0.2f * (float)k * (other ? 20 : 1));
    }
}

static int set_up(void **state)
{
    (void)state;
    rig_begin(&rig, 2);
    rows = memory_alloc_aligned(ALL * DIM, sizeof *rows);
    queries = memory_alloc_aligned(QUERIES * DIM, sizeof *queries);
    fill(rows, ALL, false, 5);
    fill(queries, QUERIES, false, 6);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    memory_free(rows);
    memory_free(queries);
    rig_end(&rig);
    return 0;
}

static void add(struct collection *c, const float *x, size_t first, size_t count)
{
    int64_t *ids = memory_alloc(count, sizeof *ids);
    for (size_t i = 0; i < count; i++)      /* not in the order in which they lie */
        ids[i] = (int64_t)(first + count - 1 - i);
    struct akin_index_rows batch = { .vectors = x, .ids = ids, .count = count };
    rig_ok(&rig, collection_add(c, &batch, false, &rig.error));
    memory_free(ids);
}

/* `BUILT` rows in a segment, batches in segments of their own, and a tail. */
static struct collection *grown(enum akin_metric metric)
{
    struct akin_index_settings settings;
    collection_settings_default(&settings);
    settings.metric = metric;
    settings.kind = "flat";
    struct akin_index_rows built = { .vectors = rows, .count = BUILT };
    rig_ok(&rig, collection_build(&rig.host, rig.path, &built, DIM, &settings, &rig.error));
    struct collection *c = rig_open(&rig, AKIN_INDEX_WRITE);
    rig_seal_rows(c, 100 * BATCH);          /* not by itself */
    for (size_t i = 0; i < BATCHES; i++) {
        add(c, rows + (BUILT + i * BATCH) * DIM, BUILT + i * BATCH, BATCH);
        rig_ok(&rig, collection_seal(c, &rig.error));
    }
    add(c, rows + (ALL - TAIL) * DIM, ALL - TAIL, TAIL);
    return c;
}

struct answer {
    int64_t ids[QUERIES * K];
    float scores[QUERIES * K];
};

static void ask(struct collection *c, bool exact, float recall, const char *filter,
                struct answer *out)
{
    struct akin_index_query all = { .vectors = queries, .count = QUERIES, .k = K, .exact = exact,
                                    .recall = recall, .filter = filter };
    rig_ok(&rig, collection_search(c, &all, out->ids, out->scores, &rig.error));
    for (size_t q = 0; q < QUERIES; q++) {      /* alone it is the same */
        int64_t ids[K];
        float scores[K];
        struct akin_index_query one = all;
        one.vectors += q * DIM;
        one.count = 1;
        rig_ok(&rig, collection_search(c, &one, ids, scores, &rig.error));
        assert_memory_equal(ids, out->ids + q * K, sizeof ids);
        assert_memory_equal(scores, out->scores + q * K, sizeof scores);
    }
}

static const float *row_of(int64_t id)
{
    size_t i = (size_t)id, first = i, count = BATCH;
    if (i < BUILT)
        return rows + i * DIM;
    first = i < ALL - TAIL ? BUILT + (i - BUILT) / BATCH * BATCH : ALL - TAIL;
    count = i < ALL - TAIL ? BATCH : TAIL;
    return rows + (first + count - 1 - (i - first)) * DIM;
}

static void true_answer(const struct collection *c, struct answer *out)
{
    float *scores = memory_alloc(ALL, sizeof *scores);
    for (size_t q = 0; q < QUERIES; q++) {
        for (size_t i = 0; i < ALL; i++)
            scores[i] = cpu_score(rig.host.backend, queries + q * DIM, row_of((int64_t)i), DIM,
                                  collection_score(c));
        for (size_t j = 0; j < K; j++) {
            size_t best = 0;
            for (size_t i = 1; i < ALL; i++)
                if (scores[i] > scores[best])
                    best = i;
            out->ids[q * K + j] = (int64_t)best;
            out->scores[q * K + j] = scores[best];
            scores[best] = -INFINITY;
        }
    }
    memory_free(scores);
}

static double recall_of(const struct answer *got, const struct answer *want)
{
    size_t same = 0;
    for (size_t q = 0; q < QUERIES; q++)
        for (size_t i = 0; i < K; i++)
            for (size_t j = 0; j < K; j++)
                same += got->ids[q * K + i] == want->ids[q * K + j];
    return (double)same / (QUERIES * K);
}

static void small_segments_answer_as_well(void **state)
{
    static const enum akin_metric metrics[] = { AKIN_METRIC_INNER_PRODUCT, AKIN_METRIC_L2 };
    static const float recalls[] = { 0.8f, 0.95f, 0.99f };
    static struct answer want, got;
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        struct collection *c = grown(metrics[m]);
        assert_int_equal(c->current->sealed, 1 + BATCHES);
        for (size_t i = 0; i < c->current->sealed; i++) {
            const struct flat *flat = segment_flat(c->current->views[i].part->segment);
            assert_non_null(flat);
            assert_non_null(flat->space);
            assert_int_equal(flat_measured(flat), BUILT);
            assert_true(i == 0 || c->current->views[i - 1].rows >= c->current->views[i].rows);
        }
        true_answer(c, &want);
        ask(c, true, 0, NULL, &got);
        assert_memory_equal(&got, &want, sizeof want);
        for (size_t r = 0; r < sizeof recalls / sizeof *recalls; r++) {
            ask(c, false, recalls[r], NULL, &got);
            double recall = recall_of(&got, &want);
            if (recall < (double)recalls[r] - 0.015)
                fail_msg("recall %.3f for %.2f", recall, (double)recalls[r]);
        }
        rig_ok(&rig, collection_validate(c, &rig.error));
        collection_close(&c);
        rig_ok(&rig, collection_check(&rig.host, rig.path, &rig.error));
    }
}

/* A space of the wrong rows would rank them badly: these are scanned in bytes instead. */
static void other_rows_are_not_sketched(void **state)
{
    (void)state;
    float *other = memory_alloc_aligned(BATCH * DIM, sizeof *other);
    struct collection *c = grown(AKIN_METRIC_INNER_PRODUCT);
    fill(other, BATCH, true, 7);
    rig_ok(&rig, collection_seal(c, &rig.error));
    add(c, other, ALL, BATCH);
    rig_ok(&rig, collection_seal(c, &rig.error));
    const struct view *last = &c->current->views[c->current->sealed - 1];
    bool found = false;
    for (size_t i = 0; i < c->current->sealed; i++) {
        last = &c->current->views[i];
        bool own = part_find(last->part, ALL + 1) != SIZE_MAX;
        if (own && last->rows == BATCH)
            assert_null(segment_flat(last->part->segment)->space);
        found |= own;
    }
    assert_true(found);
    rig_ok(&rig, collection_validate(c, &rig.error));
    memory_free(other);
    collection_close(&c);
}

/* Without anything built before: as soon as the rows suffice, they teach a space. */
static void the_first_rows_teach_a_space(void **state)
{
    struct akin_index_rows none = { 0 };
    struct akin_index_settings settings;
    (void)state;
    collection_settings_default(&settings);
    settings.metric = AKIN_METRIC_INNER_PRODUCT;
    rig_ok(&rig, collection_build(&rig.host, rig.path, &none, DIM, &settings, &rig.error));
    struct collection *c = rig_open(&rig, AKIN_INDEX_WRITE);
    rig_seal_rows(c, 100 * BATCH);
    for (size_t at = 0; at < ALL - ALL % BATCH; at += BATCH) {
        add(c, rows + at * DIM, at, BATCH);
        rig_ok(&rig, collection_seal(c, &rig.error));
    }
    const struct view *first = &c->current->views[0];
    assert_true(first->rows >= FLAT_SKETCHED_ROWS);
    for (size_t i = 0; i < c->current->sealed; i++)
        assert_non_null(segment_flat(c->current->views[i].part->segment)->space);
    rig_ok(&rig, collection_validate(c, &rig.error));
    collection_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(small_segments_answer_as_well, set_up, tear_down),
        cmocka_unit_test_setup_teardown(other_rows_are_not_sketched, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_first_rows_teach_a_space, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
