/* The graph against a scan in float32: recall, filters, exactness, odd sizes and rows, the same
 * bits for any number of threads, and blocks that lie. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file_at.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/rng.h"
#include "index/graph_handle.h"
#include "backends_rig.h"

enum { BLOCKS = 2 };

static int set_up(void **state)
{
    (void)state;
    return backends_open();
}

static int tear_down(void **state)
{
    (void)state;
    backends_close();
    return 0;
}

/* ---- blocks in memory ------------------------------------------------------------------- */

struct store {
    struct segment_block blocks[BLOCKS];
    unsigned char *data[BLOCKS];
    size_t count, capacity[BLOCKS];
};

static enum akin_status begin(void *context, uint32_t type, struct akin_error *error)
{
    (void)error;
    struct store *store = context;
    assert_true(store->count < BLOCKS);
    store->blocks[store->count++] = (struct segment_block){ .type = type };
    return AKIN_OK;
}

static enum akin_status append(void *context, const void *data, size_t bytes,
                               struct akin_error *error)
{
    (void)error;
    struct store *store = context;
    size_t i = store->count - 1;
    assert_int_equal(store->blocks[i].bytes, 0);    /* the graph appends once */
    store->data[i] = memory_alloc_aligned(bytes, 1);
    assert_non_null(store->data[i]);
    memcpy(store->data[i], data, bytes);
    store->blocks[i].data = store->data[i];
    store->blocks[i].bytes = bytes;
    return AKIN_OK;
}

static void store_free(struct store *store)
{
    for (size_t i = 0; i < BLOCKS; i++)
        memory_free(store->data[i]);
    *store = (struct store){ 0 };
}

static enum akin_status build(int threads, const struct segment_rows *rows,
                              struct segment_settings settings, struct store *store,
                              struct akin_error *error)
{
    struct segment_build request = { backends[threads - 1], pools[threads - 1], *rows, settings };
    struct segment_sink sink = { store, begin, append };
    return graph_build(&request, &sink, error);
}

static struct graph *open_store(const struct segment_rows *rows, const struct store *store)
{
    struct graph *graph = NULL;
    struct akin_error error = { 0 };
    struct segment_blocks blocks = { store->blocks, store->count };
    if (graph_open(backends[1], pools[1], rows, &blocks, &graph, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    return graph;
}

static struct graph *make(const struct segment_rows *rows, struct store *store)
{
    struct akin_error error = { 0 };
    if (build(2, rows, (struct segment_settings){ .seed = 3 }, store, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    return open_store(rows, store);
}

static void expect_whole(const struct graph *graph)
{
    struct akin_error error = { 0 };
    if (graph_check(graph, &error) != AKIN_OK)
        fail_msg("%s", error.message);
}

/* ---- data ------------------------------------------------------------------------------- */

static void unit(float *x, size_t dim)
{
    double square = 0;
    for (size_t i = 0; i < dim; i++)
        square += (double)x[i] * (double)x[i];
    for (size_t i = 0; i < dim && square > 0; i++)
        x[i] /= (float)sqrt(square);
}

/* Clusters of clusters, of length 1 where `normal`. */
static float *clustered(struct rng *rng, size_t count, size_t dim, bool normal)
{
    enum { CENTRES = 40 };
    float *x = memory_alloc_aligned(count + 1, dim * sizeof *x), centre[CENTRES][128];
    assert_non_null(x);
    assert_true(dim <= 128);
    for (size_t c = 0; c < CENTRES; c++)
        for (size_t i = 0; i < dim; i++)
            centre[c][i] = rng_normal(rng) + (c % 4 == i % 4 ? 1.0f : 0.0f);
    for (size_t row = 0; row < count; row++) {
        size_t c = rng_below(rng, CENTRES);
        float size = normal ? 1 : 0.2f + 2 * rng_float(rng);
        for (size_t i = 0; i < dim; i++)
            x[row * dim + i] = size * (centre[c][i] + 0.7f * rng_normal(rng));
        if (normal)
            unit(x + row * dim, dim);
    }
    return x;
}

/* Between rows, and off them. */
static float *off_data(struct rng *rng, const float *rows, size_t count, size_t queries, size_t dim,
                       bool normal)
{
    float *x = memory_alloc_aligned(queries, dim * sizeof *x);
    assert_non_null(x);
    for (size_t q = 0; q < queries; q++) {
        const float *a = rows + rng_below(rng, count) * dim,
                    *b = rows + rng_below(rng, count) * dim;
        for (size_t i = 0; i < dim; i++)
            x[q * dim + i] = a[i] + (q % 2 ? b[i] : 0.08f * rng_normal(rng));
        if (normal)
            unit(x + q * dim, dim);
    }
    return x;
}

/* ---- searching -------------------------------------------------------------------------- */

struct answer {
    struct hit *hits;
    size_t *found;
};

static struct answer search(const struct graph *graph, struct segment_query query)
{
    struct akin_error error = { 0 };
    struct answer answer = { memory_alloc(query.count * query.k + 1, sizeof(struct hit)),
                             memory_alloc(query.count, sizeof(size_t)) };
    struct segment_hits hits = { answer.hits, answer.found };
    if (graph_search(graph, &query, &hits, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    return answer;
}

static struct answer truth(const struct segment_rows *rows, struct segment_query query)
{
    struct answer answer = { memory_alloc(query.count * query.k + 1, sizeof(struct hit)),
                             memory_alloc(query.count, sizeof(size_t)) };
    struct topk_request request = {
        .rows = rows->vectors, .row_count = rows->count, .dim = rows->dim,
        .queries = query.queries, .query_count = query.count, .k = query.k,
        .score = rows->score, .allowed = query.allowed,
    };
    assert_int_equal(cpu_topk(backends[0], &request, answer.hits, answer.found, NULL), AKIN_OK);
    return answer;
}

static void answer_free(struct answer *answer)
{
    memory_free(answer->hits);
    memory_free(answer->found);
}

static bool bit_of(const uint64_t *bits, size_t i)
{
    return !bits || (bits[i / 64] >> i % 64 & 1);
}

/* Recall; and that hits are rows that pass, in order, with their own scores, each once. */
static double compare(const struct segment_rows *rows, struct segment_query query,
                      const struct answer *got, const struct answer *want)
{
    size_t right = 0, wanted = 0;
    for (size_t q = 0; q < query.count; q++) {
        const struct hit *hits = got->hits + q * query.k, *best = want->hits + q * query.k;
        assert_int_equal(got->found[q], want->found[q]);
        for (size_t i = 0; i < got->found[q]; i++) {
            assert_true(hits[i].row < rows->count);
            assert_true(bit_of(query.allowed, hits[i].row));
            assert_true(hits[i].score ==
                        cpu_score(backends[0], query.queries + q * rows->dim,
                                  (const float *)rows->vectors + hits[i].row * rows->dim, rows->dim,
                                  rows->score));
            if (i) {
                assert_true(hits[i - 1].score >= hits[i].score);
                assert_true(hits[i - 1].score > hits[i].score || hits[i - 1].row < hits[i].row);
            }
            right += hits[i].score >= best[want->found[q] - 1].score;
        }
        wanted += want->found[q];
    }
    return wanted ? (double)right / (double)wanted : 1;
}

static double recall_of(const struct graph *graph, const struct segment_rows *rows,
                        struct segment_query query)
{
    struct answer got = search(graph, query), want = truth(rows, query);
    double recall = compare(rows, query, &got, &want);
    answer_free(&got);
    answer_free(&want);
    return recall;
}

/* ---- tests ------------------------------------------------------------------------------ */

/* Originals that are read from a file: memory holds others. */
static void originals_from_a_file(void **state)
{
    (void)state;
    enum { ROWS = 1500, DIM = 48, QUERIES = 20, LEAD = 64, DEPTH = 10 };
    struct rng rng;
    rng_seed(&rng, 77);
    float *x = clustered(&rng, ROWS, DIM, true);
    float *q = off_data(&rng, x, ROWS, QUERIES, DIM, true);
    float *zeros = memory_alloc_aligned(ROWS * DIM, sizeof *zeros);
    memset(zeros, 0, ROWS * DIM * sizeof *zeros);
    struct segment_rows rows = { x, ELEMENT_F32, ROWS, DIM, SCORE_L2, NULL, 0 };
    struct segment_query query = { q, QUERIES, DEPTH, NULL, 0, false, 0.9f, NULL };
    struct store store = { 0 };
    struct graph *graph = make(&rows, &store);
    struct answer wanted = search(graph, query);
    graph_close(&graph);

    struct file_at file = { .fd = -1 };
    struct file_part part = { x, ROWS * DIM * sizeof *x };
    assert_int_equal(file_at_open("/tmp", FILE_AT_UNNAMED, &file, NULL), AKIN_OK);
    assert_int_equal(file_at_write(&file, LEAD, &part, 1, NULL), AKIN_OK);
    rows.vectors = zeros;
    rows.file = &file;
    rows.offset = LEAD;
    graph = open_store(&rows, &store);
    struct answer got = search(graph, query);
    assert_memory_equal(got.hits, wanted.hits, QUERIES * DEPTH * sizeof *got.hits);
    graph_close(&graph);
    answer_free(&got);
    answer_free(&wanted);
    file_at_close(&file);
    store_free(&store);
    memory_free(zeros);
    memory_free(q);
    memory_free(x);
}

static void metrics_keep_their_recall(void **state)
{
    (void)state;
    static const struct {
        size_t dim;
        enum score score;
        bool normal;
        double walked;      /* floor of walks 400 wide; products of unequal rows are harder */
    } cases[] = { { 96, SCORE_INNER_PRODUCT, true, 0.97 }, { 70, SCORE_L2, false, 0.97 },
                  { 65, SCORE_INNER_PRODUCT, false, 0.94 },
                  { 64, SCORE_INNER_PRODUCT, false, 0.94 } };
    enum { ROWS = 6000, QUERIES = 80 };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct rng rng;
        rng_seed(&rng, c + 1);
        float *x = clustered(&rng, ROWS, cases[c].dim, cases[c].normal);
        float *q = off_data(&rng, x, ROWS, QUERIES, cases[c].dim, cases[c].normal);
        struct segment_rows rows = { x, ELEMENT_F32, ROWS, cases[c].dim, cases[c].score, NULL, 0 };
        struct store store = { 0 };
        struct graph *graph = make(&rows, &store);
        expect_whole(graph);
        struct segment_query query = { q, QUERIES, 10, NULL, 0, false, 0.9f, NULL };
        double low = recall_of(graph, &rows, query);
        query.recall = 0.99f;
        double high = recall_of(graph, &rows, query);
        if (low < 0.85 || high < 0.97)
            fail_msg("case %zu: recall %.3f for 0.9, %.3f for 0.99", c, low, high);
        /* By walks alone: what the planner would hand to a scan at this size. */
        struct answer want = truth(&rows, query),
                      got = { memory_alloc(QUERIES * 10, sizeof(struct hit)),
                              memory_alloc(QUERIES, sizeof(size_t)) };
        struct segment_hits hits = { got.hits, got.found };
        assert_int_equal(graph_search_beam(graph, &query, 400, &hits, NULL), AKIN_OK);
        double walked = compare(&rows, query, &got, &want);
        if (walked < cases[c].walked)
            fail_msg("case %zu: recall %.3f of walks 400 wide", c, walked);
        answer_free(&want);
        answer_free(&got);
        graph_close(&graph);
        store_free(&store);
        memory_free(x);
        memory_free(q);
    }
}

static void exact_is_the_true_answer(void **state)
{
    (void)state;
    enum { ROWS = 3000, DIM = 50, QUERIES = 20 };
    for (int score = 0; score < 2; score++) {
        struct rng rng;
        rng_seed(&rng, 9);
        float *x = clustered(&rng, ROWS, DIM, score == 0);
        for (size_t i = 0; i < 40; i++)     /* ties */
            memcpy(x + (ROWS - 1 - i) * DIM, x + i * DIM, DIM * sizeof *x);
        float *q = off_data(&rng, x, ROWS, QUERIES, DIM, score == 0);
        memcpy(q, x, 5 * DIM * sizeof *q);
        struct segment_rows rows = { x, ELEMENT_F32, ROWS, DIM, (enum score)score, NULL, 0 };
        struct store store = { 0 };
        struct graph *graph = make(&rows, &store);
        static const size_t ks[] = { 1, 10, 700, ROWS, ROWS + 5 };
        for (size_t i = 0; i < sizeof ks / sizeof *ks; i++) {
            struct segment_query query = { q, QUERIES, ks[i], NULL, 0, true, 0, NULL };
            struct answer got = search(graph, query), want = truth(&rows, query);
            for (size_t n = 0; n < QUERIES; n++) {
                assert_int_equal(got.found[n], want.found[n]);
                assert_memory_equal(got.hits + n * ks[i], want.hits + n * ks[i],
                                    got.found[n] * sizeof *got.hits);
            }
            answer_free(&got);
            answer_free(&want);
        }
        graph_close(&graph);
        store_free(&store);
        memory_free(x);
        memory_free(q);
    }
}

static void filters_hold(void **state)
{
    (void)state;
    enum { ROWS = 12000, DIM = 64, QUERIES = 30, WORDS = (ROWS + 63) / 64 };
    struct rng rng;
    rng_seed(&rng, 4);
    float *x = clustered(&rng, ROWS, DIM, true), *q = off_data(&rng, x, ROWS, QUERIES, DIM, true);
    struct segment_rows rows = { x, ELEMENT_F32, ROWS, DIM, SCORE_INNER_PRODUCT, NULL, 0 };
    struct store store = { 0 };
    struct graph *graph = make(&rows, &store);
    static const size_t one_in[] = { 1, 2, 10, 100, 1000, ROWS };
    for (size_t f = 0; f < sizeof one_in / sizeof *one_in; f++) {
        uint64_t allowed[WORDS] = { 0 };
        size_t passed = 0;
        for (size_t row = 0; row < ROWS; row++)
            if (one_in[f] == ROWS ? row == 77 : rng_below(&rng, one_in[f]) == 0) {
                allowed[row / 64] |= (uint64_t)1 << row % 64;
                passed++;
            }
        struct segment_query query = { q, QUERIES, 10, allowed, passed, false, 0.95f, NULL };
        double recall = recall_of(graph, &rows, query);
        if (recall < 0.95)
            fail_msg("recall %.3f where one of %zu passes", recall, one_in[f]);
        struct answer got = { memory_alloc(QUERIES * 10, sizeof(struct hit)),
                              memory_alloc(QUERIES, sizeof(size_t)) };
        struct segment_hits hits = { got.hits, got.found };
        assert_int_equal(graph_search_beam(graph, &query, 500, &hits, NULL), AKIN_OK);
        struct answer want = truth(&rows, query);
        recall = compare(&rows, query, &got, &want);
        if (one_in[f] <= 10 && recall < 0.8)
            fail_msg("recall %.3f of walks where one of %zu passes", recall, one_in[f]);
        answer_free(&want);
        answer_free(&got);
    }
    uint64_t none[WORDS] = { 0 };
    struct segment_query query = { q, QUERIES, 10, none, 0, false, 0.95f, NULL };
    struct answer got = search(graph, query);
    for (size_t n = 0; n < QUERIES; n++)
        assert_int_equal(got.found[n], 0);
    answer_free(&got);
    graph_close(&graph);
    store_free(&store);
    memory_free(x);
    memory_free(q);
}

static void small_and_odd_sizes(void **state)
{
    (void)state;
    static const size_t counts[] = { 0, 1, 2, 3, 31, 32, 33, 34, 65, 129, 300 };
    static const size_t dims[] = { 1, 3, 64, 100 };
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
            size_t count = counts[c], dim = dims[d];
            struct rng rng;
            rng_seed(&rng, 5);
            float *x = clustered(&rng, count, dim, false);
            if (count > 2)
                memset(x + dim, 0, dim * sizeof *x);    /* a row of zeros */
            struct segment_rows rows = { x, ELEMENT_F32, count, dim, SCORE_L2, NULL, 0 };
            struct store store = { 0 };
            struct graph *graph = make(&rows, &store);
            expect_whole(graph);
            static const size_t ks[] = { 1, 5, 400 };
            for (size_t i = 0; i < 3; i++) {
                size_t queries = count ? count : 1;
                struct segment_query query = { x, queries, ks[i], NULL, 0, false, 0.95f, NULL };
                assert_true(count == 0 || recall_of(graph, &rows, query) >= 0.95);
                struct answer got = search(graph, query);
                for (size_t q = 0; q < queries; q++) {
                    assert_int_equal(got.found[q], ks[i] < count ? ks[i] : count);
                    if (count)
                        assert_true(got.hits[q * ks[i]].score == 0);
                }
                answer_free(&got);
            }
            graph_close(&graph);
            store_free(&store);
            memory_free(x);
        }
}

/* Rows that repeat: all of them, or each many times. The check tells whether all are in reach. */
static void duplicates_stay_in_reach(void **state)
{
    (void)state;
    enum { ROWS = 4000, DIM = 40 };
    static const size_t kinds[] = { 1, 2, 5, 80 };
    for (size_t c = 0; c < sizeof kinds / sizeof *kinds; c++)
        for (int zero = 0; zero < 2; zero++) {
            struct rng rng;
            rng_seed(&rng, 6);
            float *x = clustered(&rng, ROWS, DIM, true);
            for (size_t row = kinds[c]; row < ROWS; row++)
                memcpy(x + row * DIM, x + row % kinds[c] * DIM, DIM * sizeof *x);
            if (zero && kinds[c] == 1)
                memset(x, 0, ROWS * DIM * sizeof *x);
            struct segment_rows rows = { x, ELEMENT_F32, ROWS, DIM, SCORE_INNER_PRODUCT, NULL, 0 };
            struct store store = { 0 };
            struct graph *graph = make(&rows, &store);
            expect_whole(graph);
            struct segment_query query = { x, kinds[c], 10, NULL, 0, false, 0.9f, NULL };
            assert_true(recall_of(graph, &rows, query) >= 0.9);
            graph_close(&graph);
            store_free(&store);
            memory_free(x);
        }
}

static void same_bits_for_any_threads(void **state)
{
    (void)state;
    enum { ROWS = 5000, DIM = 33, QUERIES = 50 };
    struct rng rng;
    rng_seed(&rng, 8);
    float *x = clustered(&rng, ROWS, DIM, true), *q = off_data(&rng, x, ROWS, QUERIES, DIM, true);
    struct segment_rows rows = { x, ELEMENT_F32, ROWS, DIM, SCORE_INNER_PRODUCT, NULL, 0 };
    struct store stores[THREADS_TRIED] = { 0 };
    for (int t = 0; t < THREADS_TRIED; t++) {
        struct segment_settings settings = { .seed = 3, .degree = 24, .beam = 48 };
        assert_int_equal(build(t + 1, &rows, settings, &stores[t], NULL), AKIN_OK);
        for (size_t i = 0; t && i < BLOCKS; i++) {
            assert_int_equal(stores[t].blocks[i].bytes, stores[0].blocks[i].bytes);
            assert_memory_equal(stores[t].data[i], stores[0].data[i], stores[0].blocks[i].bytes);
        }
    }
    struct graph *graph = open_store(&rows, &stores[0]);
    struct segment_query query = { q, QUERIES, 10, NULL, 0, false, 0.8f, NULL };
    struct answer all = search(graph, query);
    for (size_t n = 0; n < QUERIES; n++) {
        query = (struct segment_query){ q + n * DIM, 1, 10, NULL, 0, false, 0.8f, NULL };
        struct answer one = search(graph, query);
        assert_memory_equal(one.hits, all.hits + n * 10, 10 * sizeof *one.hits);
        answer_free(&one);
    }
    answer_free(&all);
    graph_close(&graph);
    for (int t = 0; t < THREADS_TRIED; t++)
        store_free(&stores[t]);
    memory_free(x);
    memory_free(q);
}

struct shared_search {
    const struct graph *graph;
    const float *queries;
    struct hit (*hits)[10];
    size_t dim;
};

static void search_shared(void *context, size_t item, int worker)
{
    (void)worker;
    struct shared_search *s = context;
    size_t found;
    struct segment_query query = { s->queries + item * s->dim, 1, 10, NULL, 0, false, 0.8f, NULL };
    struct segment_hits hits = { s->hits[item], &found };
    if (graph_search_beam(s->graph, &query, item % 2 ? 64 : 0, &hits, NULL) != AKIN_OK ||
        found != 10)
        memset(s->hits[item], 0, sizeof s->hits[item]);
}

/* From several threads at once; and, warm, without a single allocation. */
static void many_readers(void **state)
{
    (void)state;
    enum { ROWS = 4000, DIM = 64, QUERIES = 200 };
    struct rng rng;
    rng_seed(&rng, 10);
    float *x = clustered(&rng, ROWS, DIM, true), *q = off_data(&rng, x, ROWS, QUERIES, DIM, true);
    struct segment_rows rows = { x, ELEMENT_F32, ROWS, DIM, SCORE_INNER_PRODUCT, NULL, 0 };
    struct store store = { 0 };
    struct graph *graph = make(&rows, &store);
    static struct hit alone[QUERIES][10], together[QUERIES][10];
    struct shared_search s = { graph, q, alone, DIM };
    for (size_t i = 0; i < QUERIES; i++)
        search_shared(&s, i, 0);
    uint64_t before = memory_allocations();
    for (size_t i = 0; i < QUERIES; i++)
        search_shared(&s, i, 0);
    assert_int_equal(memory_allocations(), before);
    s.hits = together;
    thread_pool_each(pools[2], QUERIES, search_shared, &s);
    assert_memory_equal(alone, together, sizeof alone);
    assert_true(alone[0][0].score > 0);
    graph_close(&graph);
    store_free(&store);
    memory_free(x);
    memory_free(q);
}

static bool stop_at(void *cookie, const char *stage, uint64_t done, uint64_t total)
{
    (void)stage, (void)done, (void)total;
    size_t *left = cookie;
    return (*left)-- > 0;
}

static void stopping_leaves_nothing(void **state)
{
    (void)state;
    enum { ROWS = 3000, DIM = 20 };
    struct rng rng;
    rng_seed(&rng, 11);
    float *x = clustered(&rng, ROWS, DIM, true);
    struct segment_rows rows = { x, ELEMENT_F32, ROWS, DIM, SCORE_INNER_PRODUCT, NULL, 0 };
    size_t calls = 0, left;
    for (enum akin_status status = AKIN_CANCELLED; status != AKIN_OK; calls++) {
        struct store store = { 0 };
        struct akin_error error = { 0 };
        left = calls;
        struct segment_settings settings = { .progress = { &left, stop_at } };
        status = build(2, &rows, settings, &store, &error);
        assert_true(status == AKIN_OK || status == AKIN_CANCELLED);
        assert_int_equal(store.count, status == AKIN_OK ? BLOCKS : 0);
        store_free(&store);
    }
    assert_true(calls > 10);
    memory_free(x);
}

static void bad_requests(void **state)
{
    (void)state;
    float x[4] = { 1, 2, 3, 4 };
    struct akin_error error = { 0 };
    struct store store = { 0 };
    struct segment_rows wide = { x, ELEMENT_F32, 0, 4097, SCORE_L2, NULL, 0 };
    assert_int_equal(build(1, &wide, (struct segment_settings){ 0 }, &store, &error), AKIN_LIMIT);
    assert_non_null(strstr(error.message, "4097"));
    struct segment_rows rows = { x, ELEMENT_F32, 2, 2, SCORE_L2, NULL, 0 };
    struct segment_settings few = { .degree = 5 }, many = { .degree = 33 }, beam = { .beam = 5000 };
    assert_int_equal(build(1, &rows, few, &store, &error), AKIN_ARGUMENT);
    assert_int_equal(build(1, &rows, many, &store, &error), AKIN_ARGUMENT);
    assert_int_equal(build(1, &rows, beam, &store, &error), AKIN_ARGUMENT);
    struct segment_rows bytes = { x, ELEMENT_I8, 2, 2, SCORE_L2, NULL, 0 };
    assert_int_equal(build(1, &bytes, (struct segment_settings){ 0 }, &store, &error),
                     AKIN_UNSUPPORTED);
    float odd[4] = { 1, 2, 3, INFINITY };
    struct segment_rows endless = { odd, ELEMENT_F32, 2, 2, SCORE_L2, NULL, 0 };
    for (int i = 0; i < 3; i++) {
        odd[3] = i == 0 ? INFINITY : i == 1 ? NAN : 1e20f;
        endless.score = i ? SCORE_INNER_PRODUCT : SCORE_L2;
        assert_int_equal(build(2, &endless, (struct segment_settings){ 0 }, &store, &error),
                         AKIN_ARGUMENT);
        assert_non_null(strstr(error.message, "row 1 "));
    }
    assert_int_equal(store.count, 0);
    struct graph *graph = make(&rows, &store);
    struct hit hits[1];
    size_t found;
    struct segment_hits out = { hits, &found };
    struct segment_query query = { x, 1, K_MAX + 1, NULL, 0, false, 0.9f, NULL };
    assert_int_equal(graph_search(graph, &query, &out, &error), AKIN_LIMIT);
    graph_close(&graph);
    struct segment_blocks blocks = { store.blocks, 1 };
    assert_int_equal(graph_open(backends[0], NULL, &rows, &blocks, &graph, &error), AKIN_FORMAT);
    struct segment_rows other = { x, ELEMENT_F32, 1, 4, SCORE_L2, NULL, 0 };
    blocks.count = BLOCKS;
    assert_int_equal(graph_open(backends[0], NULL, &other, &blocks, &graph, &error), AKIN_FORMAT);
    assert_null(graph);
    assert_int_equal(graph_build_bytes(SIZE_MAX / 16, 384, 1), 0);
    assert_true(graph_build_bytes(1000000, 384, 2) > (size_t)2 << 30);
    store_free(&store);
}

/* Any byte may be any other: no search may crash or hang, and the check names the damage. */
static void damage_is_found(void **state)
{
    (void)state;
    enum { ROWS = 90, DIM = 9 };
    struct rng rng;
    rng_seed(&rng, 12);
    float *x = clustered(&rng, ROWS, DIM, false);
    struct segment_rows rows = { x, ELEMENT_F32, ROWS, DIM, SCORE_INNER_PRODUCT, NULL, 0 };
    struct store store = { 0 };
    struct graph *graph = make(&rows, &store);
    graph_close(&graph);
    for (size_t block = 0; block < BLOCKS; block++)
        for (size_t at = 0; at < store.blocks[block].bytes;
             at += block ? 1 + rng_below(&rng, 9) : 1) {
            unsigned char *byte = store.data[block] + at, was = *byte;
            *byte ^= (unsigned char)(1u << rng_below(&rng, 8));
            struct akin_error error = { 0 };
            struct segment_blocks blocks = { store.blocks, store.count };
            if (graph_open(backends[0], NULL, &rows, &blocks, &graph, &error) == AKIN_OK) {
                struct hit hits[20];
                size_t found[2];
                struct segment_hits out = { hits, found };
                struct segment_query query = { x, 2, 10, NULL, 0, false, 0.9f, NULL };
                assert_int_equal(graph_search_beam(graph, &query, 40, &out, &error), AKIN_OK);
                assert_true(found[0] <= 10 && found[1] <= 10);
                /* What a table says of recall is as good as another number; the file's own sums
                 * find that. */
                if (graph_check(graph, &error) == AKIN_OK && block > 0)
                    fail_msg("byte %zu of block %zu: not found", at, block);
                graph_close(&graph);
            }
            assert_true(error.message[0] || block == 0);
            *byte = was;
        }
    store_free(&store);
    memory_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metrics_keep_their_recall), cmocka_unit_test(exact_is_the_true_answer),
        cmocka_unit_test(originals_from_a_file),
        cmocka_unit_test(filters_hold),              cmocka_unit_test(small_and_odd_sizes),
        cmocka_unit_test(duplicates_stay_in_reach),  cmocka_unit_test(same_bits_for_any_threads),
        cmocka_unit_test(many_readers),              cmocka_unit_test(stopping_leaves_nothing),
        cmocka_unit_test(bad_requests),              cmocka_unit_test(damage_is_found),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
