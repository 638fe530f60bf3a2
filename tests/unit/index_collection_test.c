/* What a collection refuses, and what it says about itself: bad rows, names that are there already
 * or are not, a second writer, handles for reading, kinds and why, keys, old files, recall. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/limits.h"
#include "collection_rig.h"

static struct rig rig;

static int set_up(void **state)
{
    (void)state;
    rig_begin(&rig, 2);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rig_end(&rig);
    return 0;
}

static void build(const struct akin_index_rows *rows, size_t dim, const char *kind,
                  enum akin_metric metric)
{
    struct akin_index_settings settings;
    collection_settings_default(&settings);
    settings.kind = kind;
    settings.metric = metric;
    rig_ok(&rig, collection_build(&rig.host, rig.path, rows, dim, &settings, &rig.error));
}

static void refused(enum akin_status status, enum akin_status wanted, const char *words)
{
    assert_int_equal(status, wanted);
    if (!strstr(rig.error.message, words))
        fail_msg("\"%s\" does not say \"%s\"", rig.error.message, words);
}

static size_t live_rows(const struct collection *c)
{
    struct akin_index_info info;
    collection_info(c, &info);
    return info.count;
}

/* ---- bad input --------------------------------------------------------------------------- */

static void bad_builds(void **state)
{
    (void)state;
    float v[6] = { 1, 2, 3, 4, NAN, 6 };
    const char *keys[3] = { "a", "b", "a" }, *bad[3] = { "{}", "{\"a\": [1]}", NULL };
    struct akin_index_rows rows = { .vectors = v, .count = 3 };
    struct akin_index_settings s;
    collection_settings_default(&s);
#define BUILD(dim) collection_build(&rig.host, rig.path, &rows, dim, &s, &rig.error)
    refused(BUILD(2), AKIN_ARGUMENT, "row 2: column 0 is not finite");
    v[4] = 5;
    rows.ids = (int64_t[]){ 7, 3, 7 };
    refused(BUILD(2), AKIN_ARGUMENT, "rows 0 and 2 have the same id 7");
    rows.ids = (int64_t[]){ 7, -1, 8 };
    refused(BUILD(2), AKIN_ARGUMENT, "row 1: its id is -1");
    rows.keys = keys;
    refused(BUILD(2), AKIN_ARGUMENT, "not by both");
    rows.ids = NULL;
    refused(BUILD(2), AKIN_ARGUMENT, "rows 0 and 2 have the same key");
    keys[2] = "";
    refused(BUILD(2), AKIN_ARGUMENT, "row 2: a key has 1 to");
    rows.keys = NULL;
    rows.metadata = bad;
    refused(BUILD(2), AKIN_FORMAT, "row 1");
    rows.metadata = NULL;
    refused(BUILD(0), AKIN_ARGUMENT, "dimension 0");
    refused(BUILD(4097), AKIN_LIMIT, "4097");
    s.kind = "tree";
    refused(BUILD(2), AKIN_UNSUPPORTED, "tree");
    s.kind = "auto";
    s.recall = 1.5f;
    refused(BUILD(2), AKIN_ARGUMENT, "recall");
    s.recall = 0.9f;
    s.metric = (enum akin_metric)9;
    refused(BUILD(2), AKIN_ARGUMENT, "metric 9");
    s.metric = AKIN_METRIC_L2;
    s.nlist = 70000;
    refused(BUILD(2), AKIN_LIMIT, "70000");
    s.nlist = 0;
    rows.count = (size_t)1 << 32;
    refused(BUILD(2), AKIN_LIMIT, "4294967296");
    assert_false(path_exists(rig.path));
#undef BUILD
}

static void bad_changes(void **state)
{
    (void)state;
    float v[4] = { 1, 2, 3, 4 }, bad[4] = { 1, 2, INFINITY, 4 };
    int64_t ids[2] = { 5, 6 };
    struct akin_index_rows rows = { .vectors = v, .ids = ids, .count = 2 };
    struct collection *second = NULL;
    size_t deleted = 9;
    build(&rows, 2, "flat", AKIN_METRIC_L2);
    struct collection *c = rig_open(&rig, AKIN_INDEX_WRITE);
    refused(collection_open(&rig.host, rig.path, AKIN_INDEX_WRITE, &second, &rig.error),
            AKIN_BUSY, rig.path);
    assert_null(second);
    refused(collection_add(c, &rows, false, &rig.error), AKIN_ARGUMENT,
            "row 0: id 5 is there already");
    ids[0] = 7;
    refused(collection_add(c, &rows, false, &rig.error), AKIN_ARGUMENT,
            "row 1: id 6 is there already");
    ids[1] = 7;
    refused(collection_add(c, &rows, true, &rig.error), AKIN_ARGUMENT,
            "rows 0 and 1 have the same id");
    ids[1] = -8;
    refused(collection_add(c, &rows, true, &rig.error), AKIN_ARGUMENT, "id is -8");
    ids[1] = 8;
    rows.vectors = bad;
    refused(collection_add(c, &rows, false, &rig.error), AKIN_ARGUMENT,
            "row 1: column 0 is not finite");
    rows.vectors = v;
    rows.metadata = (const char *const[]){ "{\"year\": 1999}", "[]" };
    refused(collection_add(c, &rows, false, &rig.error), AKIN_FORMAT, "row 1");
    assert_int_equal(live_rows(c), 2);      /* nothing of all that happened */
    rig_ok(&rig, collection_validate(c, &rig.error));
    rig_ok(&rig, collection_delete(c, (int64_t[]){ 99, -4, 5, 5 }, NULL, 4, &deleted,
                                   &rig.error));
    assert_int_equal(deleted, 1);
    assert_int_equal(live_rows(c), 1);
    ids[0] = INT64_MAX;
    rows.metadata = NULL;
    rig_ok(&rig, collection_add(c, &rows, false, &rig.error));
    rows.ids = NULL;
    refused(collection_add(c, &rows, false, &rig.error), AKIN_LIMIT, "no free id");
    rig_ok(&rig, collection_validate(c, &rig.error));
    collection_close(&c);
    assert_null(c);
    c = rig_open(&rig, AKIN_INDEX_READ);
    assert_int_equal(live_rows(c), 3);
    refused(collection_add(c, &rows, false, &rig.error), AKIN_ARGUMENT, "for reading only");
    refused(collection_delete(c, ids, NULL, 1, NULL, &rig.error), AKIN_ARGUMENT, "reading");
    refused(collection_sync(c, NULL, &rig.error), AKIN_ARGUMENT, "reading");
    refused(collection_compact(c, NULL, &rig.error), AKIN_ARGUMENT, "reading");
    collection_close(&c);
    collection_close(&c);
}

static void bad_queries(void **state)
{
    (void)state;
    float v[4] = { 1, 2, 3, 4 }, scores[4];
    int64_t ids[4] = { 77 };
    struct akin_index_rows rows = { .vectors = v, .count = 2 };
    struct akin_index_query q = { .vectors = v, .count = 1, .k = 4 };
    build(&rows, 2, "auto", AKIN_METRIC_COSINE);
    struct collection *c = rig_open(&rig, AKIN_INDEX_READ);
#define SEARCH collection_search(c, &q, ids, scores, &rig.error)
    q.recall = -0.5f;
    refused(SEARCH, AKIN_ARGUMENT, "recall");
    q.recall = NAN;
    refused(SEARCH, AKIN_ARGUMENT, "recall");
    q.recall = 0;
    q.k = K_MAX + 1;
    refused(SEARCH, AKIN_LIMIT, "k is");
    q.k = 4;
    q.filter = "year>";
    refused(SEARCH, AKIN_ARGUMENT, "filter");
    assert_int_equal(ids[0], 77);
    q.filter = "year>1990";
    rig_ok(&rig, SEARCH);
    assert_int_equal(ids[0], -1);
    q.filter = "NOT year>1990";
    rig_ok(&rig, SEARCH);
    assert_int_equal(ids[1], 1);
    assert_int_equal(ids[2], -1);
    q.filter = NULL;
    q.k = 0;
    rig_ok(&rig, SEARCH);
    q.count = 0;
    rig_ok(&rig, SEARCH);
#undef SEARCH
    collection_close(&c);
}

/* ---- names and texts --------------------------------------------------------------------- */

static void keys_name_rows(void **state)
{
    (void)state;
    float v[6] = { 1, 0, 0, 1, 1, 1 };
    const char *keys[3] = { "north", "west", "north-west" }, *texts[3] = { "{\"n\":1}", "", NULL };
    struct akin_index_rows rows = { .vectors = v, .keys = keys, .metadata = texts, .count = 3 };
    char text[64];
    size_t deleted;
    build(&(struct akin_index_rows){ 0 }, 2, "flat", AKIN_METRIC_COSINE);
    struct collection *c = rig_open(&rig, AKIN_INDEX_WRITE);
    rig_ok(&rig, collection_add(c, &rows, false, &rig.error));
    for (int round = 0; round < 4; round++) {       /* tail, sealed, opened again, compacted */
        refused(collection_add(c, &rows, false, &rig.error), AKIN_ARGUMENT, "key \"north\"");
        rig_ok(&rig, collection_text(c, 1, COLLECTION_KEY, text, sizeof text, &rig.error));
        assert_string_equal(text, "west");
        rig_ok(&rig, collection_text(c, 0, COLLECTION_METADATA, text, sizeof text, &rig.error));
        assert_string_equal(text, "{\"n\":1}");
        rig_ok(&rig, collection_text(c, 2, COLLECTION_METADATA, text, sizeof text, &rig.error));
        assert_string_equal(text, "");
        refused(collection_text(c, 1, COLLECTION_KEY, text, 4, &rig.error), AKIN_LIMIT, "4 bytes");
        refused(collection_text(c, 3, COLLECTION_KEY, text, 4, &rig.error), AKIN_NOT_FOUND, "3");
        if (round == 0)
            rig_ok(&rig, collection_seal(c, &rig.error));
        if (round == 1) {
            collection_close(&c);
            c = rig_open(&rig, AKIN_INDEX_WRITE);
        }
        if (round == 2)
            rig_ok(&rig, collection_compact(c, NULL, &rig.error));
    }
    const char *some[3] = { "west", "east", "west" };
    rig_ok(&rig, collection_delete(c, NULL, some, 3, &deleted, &rig.error));
    assert_int_equal(deleted, 1);
    rig_ok(&rig, collection_add(c, &rows, true, &rig.error));   /* two replaced, one anew */
    assert_int_equal(live_rows(c), 3);
    rig_ok(&rig, collection_text(c, 2, COLLECTION_KEY, text, sizeof text, &rig.error));
    assert_string_equal(text, "north-west");
    rig_ok(&rig, collection_text(c, 3, COLLECTION_KEY, text, sizeof text, &rig.error));
    assert_string_equal(text, "west");
    rig_ok(&rig, collection_validate(c, &rig.error));
    collection_close(&c);
    rig_ok(&rig, collection_check(&rig.host, rig.path, &rig.error));
}

/* ---- what an index says ------------------------------------------------------------------ */

static float *some_rows(size_t count, size_t dim, uint64_t seed)
{
    struct rng rng;
    rng_seed(&rng, seed);
    float *rows = memory_alloc_aligned(count, dim * sizeof *rows);
    assert_non_null(rows);
    /* Around 40 centres, as texts are. */
    float centres[40][64];
    for (size_t i = 0; i < 40 * 64; i++)
        centres[i / 64][i % 64] = rng_normal(&rng);
    for (size_t i = 0; i < count; i++) {
        size_t centre = rng_below(&rng, 40);
        for (size_t j = 0; j < dim; j++)
            rows[i * dim + j] = centres[centre][j] + 0.7f * rng_normal(&rng);
    }
    return rows;
}

static void every_kind_reaches_its_recall(void **state)
{
    enum { ROWS = 6000, DIM = 48, QUERIES = 100, K = 10 };
    static const char *const kinds[] = { "flat", "ivfpq", "graph", "auto" };
    static int64_t truth[QUERIES * K], found[QUERIES * K];
    static float scores[QUERIES * K];
    float *x = some_rows(ROWS, DIM, 4), *q = some_rows(QUERIES, DIM, 4);
    (void)state;
    struct rng rng;
    rng_seed(&rng, 5);
    for (size_t i = 0; i < QUERIES * DIM; i++)
        q[i] += 0.3f * rng_normal(&rng);            /* off the rows */
    struct akin_index_rows rows = { .vectors = x, .count = ROWS };
    for (size_t i = 0; i < 4; i++) {
        struct akin_index_info info;
        build(&rows, DIM, kinds[i], AKIN_METRIC_COSINE);
        struct collection *c = rig_open(&rig, AKIN_INDEX_READ);
        struct akin_index_query query = { .vectors = q, .count = QUERIES, .k = K, .exact = true };
        collection_info(c, &info);
        assert_string_equal(info.asked, kinds[i]);
        assert_string_equal(info.kind, i < 3 ? kinds[i] : "flat");
        assert_true(info.segments == 1 && info.tail_rows == 0 && info.count == ROWS);
        rig_ok(&rig, collection_search(c, &query, found, scores, &rig.error));
        if (i == 0)
            memcpy(truth, found, sizeof truth);
        assert_memory_equal(found, truth, sizeof truth);
        query.exact = false;
        rig_ok(&rig, collection_search(c, &query, found, scores, &rig.error));
        size_t right = 0;
        for (size_t at = 0; at < QUERIES * K; at++)
            for (size_t j = at / K * K; j < at / K * K + K; j++)
                right += found[at] == truth[j];
        print_message("%s: recall %.3f; %s\n", kinds[i], (double)right / (QUERIES * K), info.why);
        assert_true(right >= 0.95 * QUERIES * K);
        collection_close(&c);
        rig_ok(&rig, collection_check(&rig.host, rig.path, &rig.error));
    }
    memory_free(x);
    memory_free(q);
}

static void auto_says_why(void **state)
{
    (void)state;
    char why[256];
    struct collection_creation c = { .version = 1, .recall = 0.95f };
    assert_int_equal(plan_kind(&c, 62423, 384, why, sizeof why), SEGMENT_FLAT);
    assert_non_null(strstr(why, "62423"));
    assert_int_equal(plan_kind(&c, 200000, 64, why, sizeof why), SEGMENT_GRAPH);
    assert_non_null(strstr(why, "recall 0.95"));
    assert_int_equal(plan_kind(&c, 4000000000u, 4096, why, sizeof why), SEGMENT_IVFPQ);
    assert_non_null(strstr(why, "GB"));
    c.recall = 1;
    assert_int_equal(plan_kind(&c, 200000, 64, why, sizeof why), SEGMENT_FLAT);
    c.kind = SEGMENT_GRAPH;
    assert_int_equal(plan_kind(&c, 10, 64, why, sizeof why), SEGMENT_FLAT);
    assert_non_null(strstr(why, "too few"));
}

/* ---- other files, other handles ---------------------------------------------------------- */

static void the_background_seals(void **state)
{
    enum { ROWS = 3000, DIM = 8, STEP = 50 };
    (void)state;
    float *x = some_rows(ROWS, DIM, 6);
    struct akin_index_info info;
    build(&(struct akin_index_rows){ 0 }, DIM, "flat", AKIN_METRIC_COSINE);
    struct collection *c = rig_open(&rig, AKIN_INDEX_WRITE);
    rig_seal_rows(c, 100);
    for (size_t at = 0; at < ROWS; at += STEP) {
        struct akin_index_rows rows = { .vectors = x + at * DIM, .count = STEP };
        rig_ok(&rig, collection_add(c, &rows, false, &rig.error));
    }
    collection_close(&c);
    c = rig_open(&rig, AKIN_INDEX_READ);
    collection_info(c, &info);
    assert_int_equal(info.count, ROWS);
    assert_true(info.segments >= 1 && info.segments < 20);
    assert_true(info.tail_rows < 200);
    collection_close(&c);
    memory_free(x);
}

/* Whatever the tail became before. */
static void compact_makes_the_kind(void **state)
{
    enum { DIM = 8, COUNT = 900 };
    float *rows = memory_alloc_aligned(COUNT * DIM, sizeof *rows);
    struct akin_index_rows none = { 0 }, all = { .vectors = rows, .count = COUNT };
    struct akin_index_info info;
    struct rng rng;
    (void)state;
    rng_seed(&rng, 3);
    for (size_t i = 0; i < COUNT * DIM; i++)
        rows[i] = rng_normal(&rng);
    build(&none, DIM, "graph", AKIN_METRIC_COSINE);
    struct collection *c = rig_open(&rig, AKIN_INDEX_WRITE);
    rig_ok(&rig, collection_add(c, &all, false, &rig.error));
    rig_ok(&rig, collection_compact(c, NULL, &rig.error));
    collection_info(c, &info);
    assert_string_equal(info.kind, "graph");
    assert_int_equal(info.segments, 1);
    assert_int_equal(info.tail_rows, 0);
    rig_ok(&rig, collection_compact(c, NULL, &rig.error));      /* copied as it is */
    rig_ok(&rig, collection_validate(c, &rig.error));
    collection_info(c, &info);
    assert_int_equal(info.count, COUNT);
    collection_close(&c);
    rig_ok(&rig, collection_check(&rig.host, rig.path, &rig.error));
    memory_free(rows);
}

static void a_reader_refreshes(void **state)
{
    (void)state;
    float v[4] = { 1, 2, 3, 4 };
    struct akin_index_rows rows = { .vectors = v, .count = 2 };
    build(&rows, 2, "flat", AKIN_METRIC_L2);
    struct collection *reader = rig_open(&rig, AKIN_INDEX_READ);
    struct collection *writer = rig_open(&rig, AKIN_INDEX_WRITE);
    rig_ok(&rig, collection_add(writer, &rows, false, &rig.error));
    rig_ok(&rig, collection_refresh(reader, &rig.error));
    assert_int_equal(live_rows(reader), 2);         /* not durable yet */
    rig_ok(&rig, collection_sync(writer, NULL, &rig.error));
    assert_int_equal(live_rows(reader), 2);
    rig_ok(&rig, collection_refresh(reader, &rig.error));
    assert_int_equal(live_rows(reader), 4);
    rig_ok(&rig, collection_delete(writer, (int64_t[]){ 0, 3 }, NULL, 2, NULL, &rig.error));
    rig_ok(&rig, collection_compact(writer, NULL, &rig.error));
    rig_ok(&rig, collection_refresh(reader, &rig.error));
    assert_int_equal(live_rows(reader), 2);
    rig_ok(&rig, collection_validate(reader, &rig.error));
    collection_close(&writer);
    collection_close(&reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bad_builds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_changes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_queries, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keys_name_rows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_kind_reaches_its_recall, set_up, tear_down),
        cmocka_unit_test_setup_teardown(auto_says_why, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_background_seals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(compact_makes_the_kind, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reader_refreshes, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
