/* Sealed segments on a card, with a device in plain C that answers from the CPU and fails when it
 * is told to: who answers what, rows that come and go meanwhile, and what happens where it fails.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "collection_rig.h"

enum { ROWS = 5000, DIM = 20, K = 10, QUERIES = 7, CPU_K = SEARCH_DEVICE_K_MAX + 1 };

/* ---- the device ----------------------------------------------------------------------------- */

struct fake {
    atomic_int asked, created, open, inside;
    int fails_at;               /* the number of a search; 0: none */
    bool no_memory, none, required;
    enum akin_status find_status;
    size_t dim;                 /* of the last create */
    uint64_t number;            /* of the last search */
    bool masked;
    struct backend *backend;
    int warnings;
    char warning[512];
    struct akin_log log;
};

static struct fake fake;

struct search_device {
    float *rows;
    size_t count, dim;
};

struct ivf_device {
    struct ivf_lists lists;
};

static enum akin_status begin(struct akin_error *error)
{
    assert_int_equal(atomic_fetch_add(&fake.inside, 1), 0);     /* one call at a time */
    int asked = atomic_fetch_add(&fake.asked, 1) + 1;
    if (asked != fake.fails_at)
        return AKIN_OK;
    atomic_fetch_sub(&fake.inside, 1);
    return error_set(error, AKIN_IO, "the card fell off the bus");
}

static enum akin_status opened(struct akin_error *error)
{
    if (fake.no_memory)
        return error_set(error, AKIN_MEMORY, "no 12345678 bytes: 1000 of 2000 are free");
    fake.created++;
    fake.open++;
    return AKIN_OK;
}

static enum akin_status rows_create(int ordinal, const float *rows, size_t count, size_t dim,
                                    struct search_device **device, struct akin_error *error)
{
    assert_int_equal(ordinal, 3);
    assert_int_equal(dim % SEARCH_DEVICE_DIM_UNIT, 0);
    TRY(opened(error));
    fake.dim = dim;
    *device = memory_alloc(1, sizeof **device);
    **device = (struct search_device){ memory_alloc_aligned(count, dim * sizeof(float)), count,
                                       dim };
    memcpy((*device)->rows, rows, count * dim * sizeof(float));
    return AKIN_OK;
}

static void rows_destroy(struct search_device **device)
{
    fake.open--;
    memory_free((*device)->rows);
    memory_free(*device);
    *device = NULL;
}

/* Scores are a little off, as those of a card may be. */
static enum akin_status rows_search(struct search_device *d, const struct device_query *query,
                                    struct hit *hits, size_t *found,
                                    struct search_counts *counts, struct akin_error *error)
{
    assert_null(counts);
    TRY(begin(error));
    struct topk_request request = {
        .rows = d->rows, .row_count = d->count, .dim = d->dim, .queries = query->queries,
        .query_count = query->query_count, .k = query->k, .allowed = query->masks,
        .score = SCORE_INNER_PRODUCT,
    };
    assert_true(query->k <= SEARCH_DEVICE_K_MAX);
    fake.number = query->masks_number;
    fake.masked = query->masks != NULL;
    enum akin_status status = cpu_topk(fake.backend, &request, hits, found, error);
    for (size_t q = 0; q < query->query_count; q++)
        for (size_t i = 0; i < found[q]; i++)
            hits[q * query->k + i].score *= 1.0000001f;
    atomic_fetch_sub(&fake.inside, 1);
    return status;
}

static enum akin_status ivf_create(int ordinal, const struct ivf_lists *lists,
                                   struct ivf_device **device, struct akin_error *error)
{
    assert_int_equal(ordinal, 3);
    TRY(opened(error));
    *device = memory_alloc(1, sizeof **device);
    (*device)->lists = *lists;
    return AKIN_OK;
}

static void ivf_destroy(struct ivf_device **device)
{
    fake.open--;
    memory_free(*device);
    *device = NULL;
}

/* The true neighbours, which is more than it would find. */
static enum akin_status ivf_search(struct ivf_device *d, const struct ivf_query *query,
                                   struct hit *hits, size_t *found, struct akin_error *error)
{
    TRY(begin(error));
    struct topk_request request = {
        .rows = d->lists.vectors, .row_count = d->lists.rows, .dim = d->lists.dim,
        .queries = query->queries, .query_count = query->count, .k = query->k,
        .allowed = query->allowed, .score = d->lists.score,
    };
    fake.number = query->allowed_number;
    fake.masked = query->allowed != NULL;
    enum akin_status status = cpu_topk(fake.backend, &request, hits, found, error);
    atomic_fetch_sub(&fake.inside, 1);
    return status;
}

static enum akin_status ivf_measure(struct ivf_device *d, const struct ivf_query *query,
                                    struct hit *hits, size_t *found, double *seconds,
                                    struct akin_error *error)
{
    *seconds = 0.25;
    return ivf_search(d, query, hits, found, error);
}

static size_t ivf_memory(const struct ivf_device *d)
{
    return d->lists.rows;
}

static size_t rows_memory(const struct search_device *d)
{
    return d->count * d->dim * sizeof(float);
}

static const struct search_device_ops rows_ops = {
    .create = rows_create, .destroy = rows_destroy, .search = rows_search, .memory = rows_memory,
};
static const struct ivf_device_ops ivf_ops = {
    .create = ivf_create, .destroy = ivf_destroy, .search = ivf_search, .measure = ivf_measure,
    .memory = ivf_memory,
};

static void warn(void *cookie, enum akin_log_level level, const char *line)
{
    (void)cookie;
    assert_int_equal(level, AKIN_LOG_WARNING);
    fake.warnings++;
    snprintf(fake.warning, sizeof fake.warning, "%s", line);
}

static enum akin_status find_card(void *context, struct index_card *card, struct akin_error *error)
{
    assert_ptr_equal(context, &fake);
    if (fake.find_status != AKIN_OK)
        return error_set(error, fake.find_status, "no card here");
    *card = (struct index_card){ .ordinal = 3, .required = fake.required, .log = &fake.log };
    if (!fake.none) {
        card->search = &rows_ops;
        card->ivf = &ivf_ops;
    }
    return AKIN_OK;
}

/* ---- an index on it ------------------------------------------------------------------------- */

struct bench {
    struct rig rig;
    struct collection *c;
    float *rows;                /* [ROWS][DIM] */
    float queries[QUERIES * DIM];
};

static void bench_begin(struct bench *b, size_t rows, struct akin_index_settings settings)
{
    static const char *const metadata[] = { "{\"year\": 1990}", "{\"year\": 2000}" };
    struct rng rng;
    rng_seed(&rng, 17);
    rig_begin(&b->rig, 2);
    fake = (struct fake){ .backend = b->rig.host.backend, .log = { .write = warn } };
    b->rows = memory_alloc_aligned(ROWS, DIM * sizeof(float));
    const char **texts = memory_alloc(ROWS, sizeof *texts);
    for (size_t i = 0; i < ROWS * DIM; i++)
        b->rows[i] = rng_normal(&rng);
    for (size_t i = 0; i < QUERIES * DIM; i++)
        b->queries[i] = rng_normal(&rng);
    for (size_t i = 0; i < ROWS; i++)
        texts[i] = metadata[i % 2];
    struct akin_index_rows all = { .vectors = b->rows, .metadata = texts, .count = rows };
    rig_ok(&b->rig, collection_build(&b->rig.host, b->rig.path, &all, DIM, &settings,
                                     &b->rig.error));
    memory_free(texts);
    b->rig.host.find_card = find_card;
    b->rig.host.card_context = &fake;
}

static struct akin_index_settings settings_of(const char *kind, enum akin_metric metric)
{
    struct akin_index_settings settings;
    collection_settings_default(&settings);
    settings.kind = kind;
    settings.metric = metric;
    return settings;
}

static void bench_end(struct bench *b)
{
    collection_close(&b->c);
    assert_int_equal(fake.open, 0);
    memory_free(b->rows);
    rig_end(&b->rig);
}

static enum akin_status search(struct bench *b, struct akin_index_query query, int64_t *ids,
                               float *scores)
{
    query.vectors = b->queries;
    query.count = query.count ? query.count : QUERIES;
    query.k = query.k ? query.k : K;
    return collection_search(b->c, &query, ids, scores, &b->rig.error);
}

/* The true neighbours, from the CPU: nobody asks a card for so many. */
static void truth(struct bench *b, const char *filter, int64_t *ids, float *scores)
{
    static int64_t many[QUERIES * CPU_K];
    static float many_scores[QUERIES * CPU_K];
    int asked = fake.asked;
    rig_ok(&b->rig, search(b, (struct akin_index_query){ .k = CPU_K, .exact = true,
                                                         .filter = filter }, many, many_scores));
    assert_int_equal(fake.asked, asked);
    for (size_t q = 0; q < QUERIES; q++) {
        memcpy(ids + q * K, many + q * CPU_K, K * sizeof *ids);
        memcpy(scores + q * K, many_scores + q * CPU_K, K * sizeof *scores);
    }
}

/* The card is asked as often as said for both, and both are the true neighbours. */
static void same(struct bench *b, const char *filter, int asked)
{
    int64_t ids[QUERIES * K], right[QUERIES * K], one[K];
    float scores[QUERIES * K], right_scores[QUERIES * K], one_score[K];
    truth(b, filter, right, right_scores);
    int before = fake.asked;
    rig_ok(&b->rig, search(b, (struct akin_index_query){ .filter = filter }, ids, scores));
    rig_ok(&b->rig, search(b, (struct akin_index_query){ .filter = filter, .count = 1 }, one,
                           one_score));
    assert_int_equal(fake.asked, before + asked);
    assert_memory_equal(ids, right, sizeof ids);
    assert_memory_equal(scores, right_scores, sizeof scores);
    assert_memory_equal(one, right, sizeof one);
    assert_memory_equal(one_score, right_scores, sizeof one_score);
}

/* ---- tests ---------------------------------------------------------------------------------- */

static void answers_are_those_of_the_cpu(void **state)
{
    static const struct {
        const char *kind;
        enum akin_metric metric;
        enum akin_storage storage;
    } forms[] = {
        { "flat", AKIN_METRIC_COSINE, AKIN_STORAGE_FP32 },
        { "flat", AKIN_METRIC_INNER_PRODUCT, AKIN_STORAGE_FP16 },
        { "flat", AKIN_METRIC_COSINE, AKIN_STORAGE_INT8 },
        { "graph", AKIN_METRIC_COSINE, AKIN_STORAGE_FP32 },
        { "ivfpq", AKIN_METRIC_L2, AKIN_STORAGE_FP32 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct bench b = { 0 };
        struct akin_index_settings settings = settings_of(forms[i].kind, forms[i].metric);
        struct akin_index_info info;
        settings.storage = forms[i].storage;
        bench_begin(&b, ROWS, settings);
        b.c = rig_open(&b.rig, AKIN_INDEX_READ);
        collection_info(b.c, &info);
        assert_int_equal(fake.created, 0);          /* nobody has searched */
        assert_int_equal(info.card_bytes, 0);
        same(&b, NULL, 2);
        same(&b, "year>=2000", 2);
        assert_int_equal(fake.created, 1);
        collection_info(b.c, &info);
        assert_true(info.card_bytes >= ROWS);
        assert_int_equal(fake.warnings, 0);
        bench_end(&b);
    }
}

/* Deleted and replaced rows are gone at once, new ones there, and the number of the bits that say
 * so is another one. */
static void rows_come_and_go(void **state)
{
    static const char *const kinds[] = { "flat", "ivfpq" };
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct bench b = { 0 };
        int64_t ids[QUERIES * K];
        float scores[QUERIES * K];
        size_t deleted;
        bench_begin(&b, ROWS, settings_of(kinds[i], AKIN_METRIC_COSINE));
        b.c = rig_open(&b.rig, AKIN_INDEX_WRITE);
        same(&b, NULL, 2);
        assert_false(fake.masked);
        rig_ok(&b.rig, search(&b, (struct akin_index_query){ 0 }, ids, scores));
        uint64_t number = fake.number;
        for (int turn = 0; turn < 3; turn++) {
            int64_t best = ids[0];
            rig_ok(&b.rig, collection_delete(b.c, &best, NULL, 1, &deleted, &b.rig.error));
            assert_int_equal(deleted, 1);
            rig_ok(&b.rig, search(&b, (struct akin_index_query){ 0 }, ids, scores));
            assert_true(ids[0] != best);
            assert_true(fake.masked && fake.number > number);
            number = fake.number;
            same(&b, NULL, 2);
            assert_int_equal(fake.number, number);
        }
        int64_t moved = 77;
        struct akin_index_rows row = { .vectors = b.queries, .ids = &moved, .count = 1 };
        rig_ok(&b.rig, collection_add(b.c, &row, true, &b.rig.error));
        rig_ok(&b.rig, search(&b, (struct akin_index_query){ 0 }, ids, scores));
        assert_int_equal(ids[0], 77);               /* from the tail, before what is on the card */
        same(&b, NULL, 2);
        same(&b, "year<=1990", 2);
        assert_int_equal(fake.created, 1);
        rig_ok(&b.rig, collection_compact(b.c, NULL, &b.rig.error));
        same(&b, NULL, 2);                          /* another segment, brought there anew */
        assert_int_equal(fake.created, 2);
        assert_int_equal(fake.open, 1);
        bench_end(&b);
    }
}

static void auto_goes_on_without_it(void **state)
{
    struct bench b = { 0 };
    (void)state;
    bench_begin(&b, ROWS, settings_of("flat", AKIN_METRIC_COSINE));
    b.c = rig_open(&b.rig, AKIN_INDEX_READ);
    same(&b, NULL, 2);
    fake.fails_at = fake.asked + 1;
    same(&b, NULL, 1);                              /* that one, and never again */
    same(&b, NULL, 0);
    assert_int_equal(fake.open, 0);                 /* its memory is given back */
    assert_int_equal(fake.warnings, 1);
    assert_non_null(strstr(fake.warning, "5000 rows on the CPU: the card fell off the bus"));
    collection_close(&b.c);
    fake.no_memory = true;
    b.c = rig_open(&b.rig, AKIN_INDEX_READ);
    same(&b, NULL, 0);
    assert_int_equal(fake.warnings, 2);
    assert_non_null(strstr(fake.warning, "12345678 bytes"));
    bench_end(&b);
}

static void who_asks_for_a_card_gets_it_or_an_error(void **state)
{
    struct bench b = { 0 };
    int64_t ids[QUERIES * K];
    float scores[QUERIES * K];
    struct akin_index_query query = { 0 };
    (void)state;
    bench_begin(&b, ROWS, settings_of("ivfpq", AKIN_METRIC_COSINE));
    fake.required = true;
    fake.find_status = AKIN_NOT_FOUND;
    b.c = rig_open(&b.rig, AKIN_INDEX_READ);
    assert_int_equal(search(&b, query, ids, scores), AKIN_NOT_FOUND);
    fake.find_status = AKIN_OK;                     /* somebody plugs one in */
    fake.no_memory = true;
    assert_int_equal(search(&b, query, ids, scores), AKIN_MEMORY);
    assert_non_null(strstr(b.rig.error.message, "12345678 bytes"));
    assert_non_null(strstr(b.rig.error.message, "auto"));
    fake.no_memory = false;
    fake.fails_at = 2;
    rig_ok(&b.rig, search(&b, query, ids, scores));
    assert_int_equal(search(&b, query, ids, scores), AKIN_IO);
    assert_non_null(strstr(b.rig.error.message, "fell off the bus"));
    assert_int_equal(fake.open, 0);
    rig_ok(&b.rig, search(&b, query, ids, scores));     /* brought there anew */
    assert_int_equal(fake.created, 2);
    assert_int_equal(fake.warnings, 0);
    bench_end(&b);
}

/* Its own clock, where it answers alone and has one. */
static void times_are_those_of_its_clock(void **state)
{
    static const char *const kinds[] = { "ivfpq", "flat" };
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct bench b = { 0 };
        double seconds = 0;
        bench_begin(&b, ROWS, settings_of(kinds[i], AKIN_METRIC_COSINE));
        struct akin_index_query query = { .vectors = b.queries, .count = 2, .k = K };
        b.c = rig_open(&b.rig, AKIN_INDEX_READ);
        rig_ok(&b.rig, collection_card_seconds(b.c, &query, &seconds, &b.rig.error));
        assert_true(isnan(seconds));                /* nothing is there yet */
        same(&b, NULL, 2);
        rig_ok(&b.rig, collection_card_seconds(b.c, &query, &seconds, &b.rig.error));
        assert_true(i ? isnan(seconds) : seconds == 0.25);
        query.exact = true;                         /* the CPU's */
        rig_ok(&b.rig, collection_card_seconds(b.c, &query, &seconds, &b.rig.error));
        assert_true(isnan(seconds));
        query.exact = false;
        fake.fails_at = i ? 0 : fake.asked + 1;
        assert_int_equal(collection_card_seconds(b.c, &query, &seconds, &b.rig.error),
                         i ? AKIN_OK : AKIN_IO);
        bench_end(&b);
    }
}

static void what_it_does_not_know_the_cpu_answers(void **state)
{
    struct bench b = { 0 };
    static int64_t ids[QUERIES * CPU_K];
    static float scores[QUERIES * CPU_K];
    (void)state;
    bench_begin(&b, ROWS, settings_of("ivfpq", AKIN_METRIC_COSINE));
    b.c = rig_open(&b.rig, AKIN_INDEX_READ);
    same(&b, NULL, 2);
    int asked = fake.asked;
    rig_ok(&b.rig, search(&b, (struct akin_index_query){ .exact = true }, ids, scores));
    rig_ok(&b.rig, search(&b, (struct akin_index_query){ .k = 900, .count = 1 }, ids, scores));
    assert_int_equal(fake.asked, asked);
    bench_end(&b);

    bench_begin(&b, ROWS, settings_of("flat", AKIN_METRIC_L2));
    b.c = rig_open(&b.rig, AKIN_INDEX_READ);
    same(&b, NULL, 0);
    assert_int_equal(fake.warnings, 1);
    collection_close(&b.c);
    fake.required = true;
    b.c = rig_open(&b.rig, AKIN_INDEX_READ);
    assert_int_equal(search(&b, (struct akin_index_query){ 0 }, ids, scores), AKIN_UNSUPPORTED);
    assert_non_null(strstr(b.rig.error.message, "l2"));
    bench_end(&b);

    bench_begin(&b, ROWS, settings_of("flat", AKIN_METRIC_INNER_PRODUCT));
    b.c = rig_open(&b.rig, AKIN_INDEX_READ);
    same(&b, NULL, 2);
    b.queries[3] = 70000;                           /* fp16 has no such number */
    same(&b, NULL, 0);
    bench_end(&b);
}

static void few_rows_stay_unless_somebody_insists(void **state)
{
    struct bench b = { 0 };
    (void)state;
    bench_begin(&b, SEGMENT_CARD_ROWS_MIN - 1, settings_of("flat", AKIN_METRIC_COSINE));
    b.c = rig_open(&b.rig, AKIN_INDEX_READ);
    same(&b, NULL, 0);
    assert_int_equal(fake.created + fake.warnings, 0);
    collection_close(&b.c);
    fake.required = true;
    b.c = rig_open(&b.rig, AKIN_INDEX_READ);
    same(&b, NULL, 2);
    collection_close(&b.c);
    fake.required = false;
    fake.none = true;                               /* and nobody, where there is none */
    b.c = rig_open(&b.rig, AKIN_INDEX_READ);
    same(&b, NULL, 0);
    bench_end(&b);
}

struct crowd {
    struct bench *b;
    atomic_int wrong;
    int64_t right[K];
};

static void ask(void *context, size_t i, int worker)
{
    struct crowd *crowd = context;
    int64_t ids[K];
    float scores[K];
    struct akin_error error;
    struct akin_index_query query = { .vectors = crowd->b->queries, .count = 1, .k = K };
    (void)worker;
    (void)i;
    if (collection_search(crowd->b->c, &query, ids, scores, &error) != AKIN_OK ||
        memcmp(ids, crowd->right, sizeof ids))
        atomic_fetch_add(&crowd->wrong, 1);
}

/* One is asked at a time, whoever comes; and in the middle it fails. */
static void many_ask_at_once(void **state)
{
    struct bench b = { 0 };
    struct crowd crowd = { .b = &b };
    int64_t right[QUERIES * K];
    float scores[QUERIES * K];
    (void)state;
    bench_begin(&b, ROWS, settings_of("flat", AKIN_METRIC_COSINE));
    b.c = rig_open(&b.rig, AKIN_INDEX_READ);
    truth(&b, NULL, right, scores);
    memcpy(crowd.right, right, sizeof crowd.right);
    fake.fails_at = 40;
    struct thread_pool *pool = thread_pool_create(4);
    assert_non_null(pool);
    thread_pool_each(pool, 80, ask, &crowd);
    thread_pool_destroy(&pool);
    assert_int_equal(crowd.wrong, 0);
    assert_int_equal(fake.asked, 40);
    bench_end(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_those_of_the_cpu),
        cmocka_unit_test(rows_come_and_go),
        cmocka_unit_test(auto_goes_on_without_it),
        cmocka_unit_test(who_asks_for_a_card_gets_it_or_an_error),
        cmocka_unit_test(times_are_those_of_its_clock),
        cmocka_unit_test(what_it_does_not_know_the_cpu_answers),
        cmocka_unit_test(few_rows_stay_unless_somebody_insists),
        cmocka_unit_test(many_ask_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
