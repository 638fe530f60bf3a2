/* Segments of the flat kind: exact means the ids and the bits of the scores of brute force,
 * whatever the rows; sketches keep a floor of recall; what is damaged is refused or found. */
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
#include "compute/best.h"
#include "index/flat_handle.h"

/* ---- a segment in memory ---------------------------------------------------------------- */

enum { BLOCKS_MAX = 8 };

struct memory_sink {
    struct segment_block blocks[BLOCKS_MAX];
    struct bytes bytes[BLOCKS_MAX];
    size_t count;
    int fails_after;            /* calls; negative: never */
};

static enum akin_status sink_begin(void *context, uint32_t type, struct akin_error *error)
{
    struct memory_sink *s = context;
    if (s->fails_after >= 0 && s->fails_after-- == 0)
        return error_set(error, AKIN_IO, "the disk is full");
    assert_true(s->count < BLOCKS_MAX);
    s->blocks[s->count++].type = type;
    return AKIN_OK;
}

static enum akin_status sink_append(void *context, const void *data, size_t bytes,
                                    struct akin_error *error)
{
    struct memory_sink *s = context;
    if (s->fails_after >= 0 && s->fails_after-- == 0)
        return error_set(error, AKIN_IO, "the disk is full");
    bytes_append(&s->bytes[s->count - 1], data, bytes);
    return AKIN_OK;
}

/* Blocks aligned as in a file. */
static void sink_settle(struct memory_sink *s)
{
    for (size_t i = 0; i < s->count; i++) {
        void *block = memory_alloc_aligned(s->bytes[i].count + 1, 1);
        memcpy(block, s->bytes[i].data, s->bytes[i].count);
        s->blocks[i].data = block;
        s->blocks[i].bytes = s->bytes[i].count;
        bytes_deinit(&s->bytes[i]);
    }
}

static void sink_free(struct memory_sink *s)
{
    for (size_t i = 0; i < s->count; i++)
        memory_free((void *)s->blocks[i].data);
}

struct fixture {
    struct thread_pool *pools[2];
    struct backend *backends[2];    /* this machine's best with 3 threads; reference with one */
};

static int set_up(void **state)
{
    struct fixture *f = memory_alloc(1, sizeof *f);
    for (int i = 0; i < 2; i++) {
        f->pools[i] = thread_pool_create(i ? 1 : 3);
        assert_int_equal(cpu_backend_create(i ? 0 : cpu_detect(), f->pools[i], &f->backends[i],
                                            NULL), AKIN_OK);
    }
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 2; i++) {
        cpu_backend_destroy(&f->backends[i]);
        thread_pool_destroy(&f->pools[i]);
    }
    memory_free(f);
    return 0;
}

/* ---- rows ------------------------------------------------------------------------------- */

enum kind { RANDOM, CLUSTERED, DUPLICATED, CONSTANT, WILD, ZEROS, TINY, WHOLE, SPIKES, KINDS };
static const char *const kind_names[] = { "random", "clustered", "duplicated", "constant", "wild",
                                          "zeros", "tiny", "whole", "spikes" };

static void fill_row(struct rng *rng, enum kind kind, float *x, const float *rows, size_t r,
                     size_t dim)
{
    float own = kind == WILD ? ldexpf(1, (int)rng_below(rng, 60) - 30) : 1;
    for (size_t k = 0; k < dim; k++) {
        float y = own * rng_normal(rng);
        switch (kind) {
        case CLUSTERED:
            y = r % 40 == r ? y : rows[r % 40 * dim + k] + 0.01f * y;
            break;
        case DUPLICATED:
            y = r % 7 == r ? y : rows[r % 7 * dim + k];
            break;
        case CONSTANT:
            y = (float)(r % 3);
            break;
        case ZEROS:
            y = r % 2 ? 0 : y;
            break;
        case TINY:
            y = ldexpf(y, -(int)rng_below(rng, 150));
            break;
        case WHOLE:
            y = (float)rng_below(rng, 3) - 1;
            break;
        case SPIKES:
            y = rng_below(rng, 20) ? 0.001f * y : 1000 * y;
            break;
        default:
            break;
        }
        x[k] = y;
    }
}

static float *make_rows(enum kind kind, size_t count, size_t dim, uint64_t seed)
{
    struct rng rng;
    rng_seed(&rng, seed + kind);
    float *rows = memory_alloc_aligned(count + 1, dim * sizeof *rows);
    for (size_t r = 0; r < count; r++)
        fill_row(&rng, kind, rows + r * dim, rows, r, dim);
    return rows;
}

/* Half of the bits of float32; what is too large for a half is cut. */
static uint16_t *narrow(const float *rows, size_t count)
{
    uint16_t *halves = memory_alloc_aligned(count + 1, sizeof *halves);
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &rows[i], sizeof bits);
        halves[i] = (uint16_t)(bits >> 16);     /* bfloat16 */
    }
    return halves;
}

struct segment {
    struct memory_sink sink;
    struct flat *flat;
    struct segment_rows rows;
    float *original;
    uint16_t *halves;
};

static struct segment make_segment(const struct fixture *f, int i, enum kind kind, size_t count,
                                   size_t dim, enum score score, enum element_type element)
{
    struct segment s = { .sink.fails_after = -1 };
    s.original = make_rows(kind, count, dim, 11);
    s.halves = narrow(s.original, count * dim);
    s.rows = (struct segment_rows){
        .vectors = element == ELEMENT_BF16 ? (const void *)s.halves : s.original,
        .element = element, .count = count, .dim = dim, .score = score,
    };
    struct segment_build build = { f->backends[i], f->pools[i], s.rows, { .seed = 1 } };
    struct segment_sink sink = { &s.sink, sink_begin, sink_append };
    assert_int_equal(flat_build(&build, &sink, NULL), AKIN_OK);
    sink_settle(&s.sink);
    struct segment_blocks blocks = { s.sink.blocks, s.sink.count };
    if (element == ELEMENT_I8)
        s.rows.vectors = NULL;
    struct akin_error error;
    if (flat_open(f->backends[i], f->pools[i], &s.rows, &blocks, &s.flat, &error))
        fail_msg("%s", error.message);
    return s;
}

static void free_segment(struct segment *s)
{
    flat_close(&s->flat);
    sink_free(&s->sink);
    memory_free(s->original);
    memory_free(s->halves);
}

/* ---- the truth -------------------------------------------------------------------------- */

static size_t brute_force(const struct fixture *f, int i, const struct segment *s,
                          const float *query, size_t k, const uint64_t *allowed, struct hit *hits)
{
    struct best best = { .hits = hits, .capacity = k };
    float *x = memory_alloc(s->rows.dim, sizeof *x);
    for (size_t r = 0; r < s->rows.count; r++) {
        if (!flat_allows(allowed, r))
            continue;
        flat_row(s->flat, r, x);
        float score = cpu_score(f->backends[i], query, x, s->rows.dim, s->rows.score);
        best_offer(&best, (struct hit){ score, (uint32_t)r });
    }
    memory_free(x);
    size_t found = best.count;
    best_drain(&best, hits);
    return found;
}

static uint64_t *make_filter(size_t count, unsigned one_in, size_t *allowed_count)
{
    struct rng rng;
    rng_seed(&rng, one_in);
    uint64_t *allowed = memory_alloc(count / 64 + 1, sizeof *allowed);
    *allowed_count = 0;
    for (size_t r = 0; r < count; r++)
        if (rng_below(&rng, one_in) == 0) {
            allowed[r / 64] |= 1ull << r % 64;
            ++*allowed_count;
        }
    if (count % 64)         /* what lies behind the last row does not count */
        allowed[count / 64] |= ~0ull << count % 64;
    return allowed;
}

/* Queries that lie among the rows, are rows, or are zeros. */
static float *make_queries(enum kind kind, size_t count, const struct segment *s)
{
    size_t dim = s->rows.dim;
    float *queries = make_rows(kind, count, dim, 99);
    memcpy(queries, s->original + s->rows.count / 2 * dim, dim * sizeof *queries);
    for (size_t k = 0; count > 3 && k < dim; k++)
        queries[3 * dim + k] = 0;
    return queries;
}

static void compare(const struct fixture *f, int i, const struct segment *s, const char *name,
                    const float *queries, size_t count, size_t k, unsigned one_in)
{
    size_t allowed_count = s->rows.count;
    uint64_t *allowed = one_in ? make_filter(s->rows.count, one_in, &allowed_count) : NULL;
    struct hit *hits = memory_alloc(count * k, sizeof *hits), *want = memory_alloc(k, sizeof *want);
    size_t *found = memory_alloc(count, sizeof *found);
    struct segment_query query = { .queries = queries, .count = count, .k = k, .exact = true,
                                   .allowed = allowed, .allowed_count = allowed_count };
    struct segment_hits out = { hits, found };
    assert_int_equal(flat_search(s->flat, &query, &out, NULL), AKIN_OK);
    for (size_t q = 0; q < count; q++) {
        size_t expected = brute_force(f, i, s, queries + q * s->rows.dim, k, allowed, want);
        if (found[q] != expected || memcmp(hits + q * k, want, expected * sizeof *want))
            fail_msg("%s: %zu rows of %zu, score %d, element %d, batch %zu, k %zu, filter %u, "
                     "query %zu", name, s->rows.count, s->rows.dim, s->rows.score,
                     s->rows.element, count, k, one_in, q);
    }
    memory_free(allowed);
    memory_free(hits);
    memory_free(want);
    memory_free(found);
}

static void compare_all(const struct fixture *f, int i, enum kind kind, size_t count, size_t dim,
                        enum score score, enum element_type element)
{
    enum { BATCH = 40 };
    struct segment s = make_segment(f, i, kind, count, dim, score, element);
    float *queries = make_queries(kind, BATCH, &s);
    struct akin_error error;
    if (flat_check(s.flat, &error))
        fail_msg("%s: %s", kind_names[kind], error.message);
    compare(f, i, &s, kind_names[kind], queries, BATCH, 10, 0);
    compare(f, i, &s, kind_names[kind], queries, 5, 1, 0);
    compare(f, i, &s, kind_names[kind], queries, 5, 100, 2);
    compare(f, i, &s, kind_names[kind], queries, 5, 10, 10);
    compare(f, i, &s, kind_names[kind], queries, BATCH, 3, 30);
    compare(f, i, &s, kind_names[kind], queries, 2, count + 3, 0);
    memory_free(queries);
    free_segment(&s);
}

static void test_exact(void **state)
{
    static const size_t dims[] = { 1, 2, 5, 16, 63, 100, 384 };
    static const enum element_type elements[] = { ELEMENT_F32, ELEMENT_BF16, ELEMENT_I8 };
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
            for (int score = 0; score < 2; score++)
                compare_all(*state, 0, (enum kind)kind, 700 + 13 * d, dims[d], (enum score)score,
                            elements[(d + (size_t)kind + (size_t)score) % 3]);
}

static void test_sizes(void **state)
{
    static const size_t counts[] = { 1, 2, 11, 12, 13, 63, 64, 65, 511, 512, 513, 1030 };
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        compare_all(*state, c % 2, RANDOM, counts[c], 37, c & 1 ? SCORE_L2 : SCORE_INNER_PRODUCT,
                    ELEMENT_F32);
    compare_all(*state, 0, RANDOM, 600, 4096, SCORE_L2, ELEMENT_F32);
    compare_all(*state, 0, CLUSTERED, 600, 4095, SCORE_INNER_PRODUCT, ELEMENT_I8);
}

/* Every level of the processor, the reference included. */
static void test_reference(void **state)
{
    for (int kind = 0; kind < KINDS; kind++)
        compare_all(*state, 1, (enum kind)kind, 300, 65, (enum score)(kind % 2), ELEMENT_F32);
}

static void test_empty(void **state)
{
    const struct fixture *f = *state;
    struct segment s = make_segment(f, 0, RANDOM, 0, 8, SCORE_L2, ELEMENT_F32);
    float query[16] = { 1 };
    struct hit hits[10];
    size_t found[2] = { 7, 7 };
    struct segment_query q = { .queries = query, .count = 2, .k = 5, .exact = true };
    struct segment_hits out = { hits, found };
    assert_int_equal(flat_search(s.flat, &q, &out, NULL), AKIN_OK);
    assert_true(found[0] == 0 && found[1] == 0);
    q.count = 0;
    assert_int_equal(flat_search(s.flat, &q, &out, NULL), AKIN_OK);
    assert_int_equal(flat_check(s.flat, NULL), AKIN_OK);
    free_segment(&s);
}

/* ---- sketches --------------------------------------------------------------------------- */

enum { MANY = FLAT_SKETCHED_ROWS + 500, MANY_DIM = 96, MANY_QUERIES = 120 };

/* Rows with a spectrum that falls, as those of sentences do, and queries that are none of them. */
static struct segment sketched(const struct fixture *f, int i, enum score score,
                               enum element_type element, float **queries)
{
    struct segment s = { .sink.fails_after = -1 };
    struct rng rng;
    rng_seed(&rng, 21);
    s.original = memory_alloc_aligned(MANY + MANY_QUERIES, MANY_DIM * sizeof(float));
    for (size_t j = 0; j < (MANY + MANY_QUERIES) * MANY_DIM; j++)
        s.original[j] = 0.2f + rng_normal(&rng) / sqrtf(1 + 0.2f * (float)(j % MANY_DIM));
    *queries = s.original + MANY * MANY_DIM;
    s.rows = (struct segment_rows){ s.original, element, MANY, MANY_DIM, score, NULL, 0 };
    struct segment_build build = { f->backends[i], f->pools[i], s.rows, { .seed = 1 } };
    struct segment_sink sink = { &s.sink, sink_begin, sink_append };
    assert_int_equal(flat_build(&build, &sink, NULL), AKIN_OK);
    sink_settle(&s.sink);
    struct segment_blocks blocks = { s.sink.blocks, s.sink.count };
    assert_int_equal(flat_open(f->backends[i], f->pools[i], &s.rows, &blocks, &s.flat, NULL),
                     AKIN_OK);
    return s;
}

enum { NEAREST = 100 };

struct truth {
    const uint64_t *allowed;
    size_t allowed_count;
    struct hit hits[MANY_QUERIES][NEAREST];     /* those of fewer neighbours stand in front */
};

static struct truth *find_truth(const struct fixture *f, const struct segment *s,
                                const float *queries, const uint64_t *allowed, size_t count)
{
    struct truth *truth = memory_alloc(1, sizeof *truth);
    truth->allowed = allowed;
    truth->allowed_count = count;
    for (size_t q = 0; q < MANY_QUERIES; q++)
        assert_int_equal(brute_force(f, 0, s, queries + q * MANY_DIM, NEAREST, allowed,
                                     truth->hits[q]), NEAREST);
    return truth;
}

/* The share of the k nearest that a search finds; alone and in a batch it finds the same. */
static double recall_of(const struct segment *s, const float *queries, size_t k, float recall,
                        const struct truth *truth)
{
    struct hit hits[MANY_QUERIES * NEAREST], alone[NEAREST];
    size_t found[MANY_QUERIES], one, same = 0;
    struct segment_query query = { .queries = queries, .count = MANY_QUERIES, .k = k,
                                   .recall = recall, .allowed = truth->allowed,
                                   .allowed_count = truth->allowed_count };
    struct segment_hits out = { hits, found }, single_out = { alone, &one };
    assert_int_equal(flat_search(s->flat, &query, &out, NULL), AKIN_OK);
    query.count = 1;
    for (size_t q = 0; q < MANY_QUERIES; q++) {
        const struct hit *want = truth->hits[q];
        query.queries = queries + q * MANY_DIM;
        assert_int_equal(flat_search(s->flat, &query, &single_out, NULL), AKIN_OK);
        assert_true(one == k && found[q] == k && !memcmp(alone, hits + q * k, k * sizeof *alone));
        for (size_t j = 0; j < k; j++)
            for (size_t l = 0; l < k; l++)
                same += alone[j].row == want[l].row && alone[j].score == want[l].score;
    }
    return (double)same / (double)(MANY_QUERIES * k);
}

static void check_recalls(const struct segment *s, const float *queries, const struct truth *truth)
{
    static const float recalls[] = { 0.8f, 0.95f, 0.99f, 0.999f };
    for (size_t r = 0; r < sizeof recalls / sizeof *recalls; r++)
        for (size_t k = 1; k <= NEAREST; k *= 10) {
            /* of so few queries */
            double margin = k == 1 ? 0.045 : k == 10 ? 0.015 : 0.01;
            double got = recall_of(s, queries, k, recalls[r], truth);
            if (got < (double)recalls[r] - margin)
                fail_msg("%zu of %d rows: recall %.3f of %zu for %.3f", truth->allowed_count,
                         MANY, got, k, (double)recalls[r]);
        }
}

static void test_recall(void **state)
{
    const struct fixture *f = *state;
    for (int i = 0; i < 3; i++) {
        float *queries;
        size_t allowed_count;
        struct segment s = sketched(f, 0, i & 1 ? SCORE_L2 : SCORE_INNER_PRODUCT,
                                    i & 2 ? ELEMENT_I8 : ELEMENT_F32, &queries);
        uint64_t *allowed = make_filter(MANY, 3, &allowed_count);
        struct truth *all = find_truth(f, &s, queries, NULL, MANY);
        struct truth *some = find_truth(f, &s, queries, allowed, allowed_count);
        check_recalls(&s, queries, all);
        check_recalls(&s, queries, some);
        compare(f, 0, &s, "sketched", queries, MANY_QUERIES, 10, 0);
        assert_int_equal(flat_check(s.flat, NULL), AKIN_OK);
        memory_free(all);
        memory_free(some);
        memory_free(allowed);
        free_segment(&s);
    }
}

/* ---- repeatability, allocation, damage ---------------------------------------------------- */

static void test_same_file(void **state)
{
    const struct fixture *f = *state;
    struct fixture other = *f;
    float *queries;
    other.pools[0] = f->pools[1];       /* one thread */
    struct segment a = sketched(f, 0, SCORE_L2, ELEMENT_F32, &queries);
    assert_int_equal(cpu_backend_create(cpu_detect(), other.pools[0], &other.backends[0], NULL),
                     AKIN_OK);
    struct segment b = sketched(&other, 0, SCORE_L2, ELEMENT_F32, &queries);
    assert_int_equal(a.sink.count, b.sink.count);
    for (size_t i = 0; i < a.sink.count; i++) {
        assert_int_equal(a.sink.blocks[i].bytes, b.sink.blocks[i].bytes);
        assert_memory_equal(a.sink.blocks[i].data, b.sink.blocks[i].data, a.sink.blocks[i].bytes);
    }
    free_segment(&a);
    free_segment(&b);
    cpu_backend_destroy(&other.backends[0]);
}

/* What one level of the processor built another one reads: the very same sketches. */
static void test_levels(void **state)
{
    const struct fixture *f = *state;
    float *queries;
    struct segment s = sketched(f, 0, SCORE_L2, ELEMENT_F32, &queries);
    struct segment_blocks blocks = { s.sink.blocks, s.sink.count };
    struct hit hits[2][MANY_QUERIES * 10];
    size_t found[2][MANY_QUERIES];
    struct flat *plain;
    assert_int_equal(flat_open(f->backends[1], NULL, &s.rows, &blocks, &plain, NULL), AKIN_OK);
    assert_int_equal(flat_check(plain, NULL), AKIN_OK);
    for (int exact = 0; exact < 2; exact++) {
        struct segment_query q = { .queries = queries, .count = MANY_QUERIES, .k = 10,
                                   .exact = exact, .recall = 0.9f };
        for (int i = 0; i < 2; i++) {
            struct segment_hits out = { hits[i], found[i] };
            assert_int_equal(flat_search(i ? plain : s.flat, &q, &out, NULL), AKIN_OK);
        }
        assert_memory_equal(hits[0], hits[1], sizeof hits[0]);
    }
    flat_close(&plain);
    free_segment(&s);
}

struct crowd {
    const struct flat *flat;
    const float *queries;
    const struct hit *want;
    bool wrong[64];
};

static void search_in_crowd(void *context, size_t item, int worker)
{
    struct crowd *crowd = context;
    struct hit hits[10];
    size_t found, q = item % MANY_QUERIES;
    (void)worker;
    struct segment_query query = { .queries = crowd->queries + q * MANY_DIM, .count = 1, .k = 10,
                                   .exact = item % 2, .recall = 1 };
    struct segment_hits out = { hits, &found };
    crowd->wrong[item % 64] |= flat_search(crowd->flat, &query, &out, NULL) != AKIN_OK ||
                               memcmp(hits, crowd->want + q * 10, sizeof hits);
}

/* Several threads search one segment, each by itself. */
static void test_many_threads(void **state)
{
    const struct fixture *f = *state;
    float *queries;
    struct segment s = sketched(f, 0, SCORE_INNER_PRODUCT, ELEMENT_F32, &queries);
    struct hit want[MANY_QUERIES * 10];
    size_t found[MANY_QUERIES];
    struct segment_hits out = { want, found };
    struct segment_query query = { .queries = queries, .count = MANY_QUERIES, .k = 10,
                                   .exact = true };
    assert_int_equal(flat_search(s.flat, &query, &out, NULL), AKIN_OK);
    struct crowd crowd = { .flat = s.flat, .queries = queries, .want = want };
    thread_pool_each(f->pools[0], 240, search_in_crowd, &crowd);
    for (size_t i = 0; i < 64; i++)
        assert_false(crowd.wrong[i]);
    free_segment(&s);
}

static void test_no_allocations(void **state)
{
    const struct fixture *f = *state;
    float *queries;
    struct segment s = sketched(f, 0, SCORE_INNER_PRODUCT, ELEMENT_F32, &queries);
    struct hit hits[MANY_QUERIES * 10];
    size_t found[MANY_QUERIES];
    struct segment_hits out = { hits, found };
    for (int exact = 0; exact < 2; exact++)
        for (size_t count = 1; count <= MANY_QUERIES; count += MANY_QUERIES - 1) {
            struct segment_query q = { .queries = queries, .count = count, .k = 10,
                                       .exact = exact, .recall = 0.95f };
            for (int warm = 0; warm < 20; warm++)
                assert_int_equal(flat_search(s.flat, &q, &out, NULL), AKIN_OK);
            uint64_t before = memory_allocations();
            assert_int_equal(flat_search(s.flat, &q, &out, NULL), AKIN_OK);
            /* which thread meets which query is not fixed, so its room may still grow once */
            assert_true(memory_allocations() - before <= (count > 1 ? 8 : 0));
        }
    free_segment(&s);
}

static void test_bad_input(void **state)
{
    const struct fixture *f = *state;
    struct segment s = make_segment(f, 0, RANDOM, 100, 20, SCORE_INNER_PRODUCT, ELEMENT_F32);
    float query[20] = { NAN };
    struct hit hits[10];
    size_t found;
    struct akin_error error;
    struct segment_query q = { .queries = query, .count = 1, .k = 5, .exact = true };
    struct segment_hits out = { hits, &found };
    assert_int_equal(flat_search(s.flat, &q, &out, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "query 0: column 0"));
    query[0] = 1;
    q.k = 0;
    assert_int_equal(flat_search(s.flat, &q, &out, &error), AKIN_ARGUMENT);
    struct segment_rows wide = s.rows;
    wide.dim = 5000;
    struct memory_sink memory = { .fails_after = -1 };
    struct segment_sink sink = { &memory, sink_begin, sink_append };
    struct segment_build build = { f->backends[0], f->pools[0], wide, { 0 } };
    assert_int_equal(flat_build(&build, &sink, &error), AKIN_LIMIT);
    free_segment(&s);
}

static void test_sink_fails(void **state)
{
    const struct fixture *f = *state;
    float *rows = make_rows(RANDOM, FLAT_SKETCHED_ROWS, 4, 1);
    enum akin_status status = AKIN_IO;
    for (int calls = 0; status == AKIN_IO; calls++) {
        struct memory_sink memory = { .fails_after = calls };
        struct segment_sink sink = { &memory, sink_begin, sink_append };
        struct segment_build build = { f->backends[0], f->pools[0],
                                       { .vectors = rows, .element = ELEMENT_F32,
                                         .count = FLAT_SKETCHED_ROWS, .dim = 4,
                                         .score = SCORE_L2 },
                                       { 0 } };
        status = flat_build(&build, &sink, NULL);
        for (size_t i = 0; i < memory.count; i++)
            bytes_deinit(&memory.bytes[i]);
    }
    assert_int_equal(status, AKIN_OK);
    memory_free(rows);
}

/* A byte changed anywhere: refused, or opened and searched without a crash; a row's own byte is
 * found by the check. */
static void test_damage(void **state)
{
    const struct fixture *f = *state;
    float *queries;
    struct segment s = sketched(f, 0, SCORE_L2, ELEMENT_F32, &queries);
    struct segment_blocks blocks = { s.sink.blocks, s.sink.count };
    struct hit hits[10];
    size_t found;
    struct segment_hits out = { hits, &found };
    struct segment_query q = { .queries = queries, .count = 1, .k = 10, .recall = 0.95f };
    struct rng rng;
    rng_seed(&rng, 4);
    for (int i = 0; i < 400; i++) {
        struct segment_block *block = &s.sink.blocks[rng_below(&rng, s.sink.count)];
        size_t at = rng_below(&rng, i % 3 ? block->bytes : 64);
        unsigned char *byte = (unsigned char *)block->data + at, kept = *byte;
        *byte ^= (unsigned char)(1 + rng_below(&rng, 255));
        struct flat *flat = NULL;
        if (flat_open(f->backends[0], f->pools[0], &s.rows, &blocks, &flat, NULL) == AKIN_OK) {
            q.exact = i % 2;
            flat_search(flat, &q, &out, NULL);
            if (block->type == FLAT_CODES && at < MANY * screen_stride(MANY_DIM))
                assert_int_equal(flat_check(flat, NULL), AKIN_FORMAT);
            flat_close(&flat);
        }
        *byte = kept;
    }
    for (size_t i = 0; i < s.sink.count; i++) {
        struct flat *flat = NULL;
        uint64_t bytes = s.sink.blocks[i].bytes;
        for (int change = 0; change < 3; change++) {
            s.sink.blocks[i].bytes = change == 0 ? bytes - 1 : change == 1 ? 0 : bytes + 64;
            assert_int_not_equal(
                flat_open(f->backends[0], f->pools[0], &s.rows, &blocks, &flat, NULL), AKIN_OK);
        }
        s.sink.blocks[i].bytes = bytes;
        uint32_t type = s.sink.blocks[i].type;
        s.sink.blocks[i].type = 99;
        assert_int_not_equal(
            flat_open(f->backends[0], f->pools[0], &s.rows, &blocks, &flat, NULL), AKIN_OK);
        s.sink.blocks[i].type = type;
    }
    free_segment(&s);
}

/* What a space was measured on, and how well: refused where it cannot be. */
static void test_measured(void **state)
{
    const struct fixture *f = *state;
    float *queries;
    struct segment s = sketched(f, 0, SCORE_L2, ELEMENT_F32, &queries);
    struct segment_blocks blocks = { s.sink.blocks, s.sink.count };
    struct hit hits[10];
    size_t found;
    struct segment_hits out = { hits, &found };
    struct segment_query q = { .queries = queries, .count = 1, .k = 10, .recall = 0.95f };
    for (size_t i = 0; i < s.sink.count; i++) {
        struct flat_header *h = (struct flat_header *)s.sink.blocks[i].data, kept = *h;
        struct flat *flat = NULL;
        if (s.sink.blocks[i].type != FLAT_HEADER)
            continue;
        for (int change = 0; change < 4; change++) {
            h->measured = change == 0 ? 0 : change == 1 ? UINT64_MAX : h->measured;
            h->error = change == 2 ? -1 : change == 3 ? NAN : h->error;
            assert_int_equal(flat_open(f->backends[0], f->pools[0], &s.rows, &blocks, &flat, NULL),
                             AKIN_FORMAT);
            *h = kept;
        }
        h->version = 1;         /* an older file does not say on how many rows it measured */
        h->measured = 0;
        assert_int_equal(flat_open(f->backends[0], f->pools[0], &s.rows, &blocks, &flat, NULL),
                         AKIN_OK);
        assert_int_equal(flat_measured(flat), 0);
        assert_int_equal(flat_search(flat, &q, &out, NULL), AKIN_OK);
        flat_close(&flat);
        *h = kept;
    }
    free_segment(&s);
}

static void test_select(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 2);
    uint64_t keys[300];
    for (int i = 0; i < 2000; i++) {
        size_t total = 1 + rng_below(&rng, 300), count = rng_below(&rng, total + 1);
        for (size_t j = 0; j < total; j++)
            keys[j] = i % 3 == 0 ? j : i % 3 == 1 ? total - j : rng_next(&rng);
        flat_largest(keys, total, count);
        uint64_t least = UINT64_MAX, most = 0;
        for (size_t j = 0; j < total; j++)
            if (j < count)
                least = keys[j] < least ? keys[j] : least;
            else
                most = keys[j] > most ? keys[j] : most;
        assert_true(count == 0 || count == total || least > most);
    }
    static const float values[] = { -INFINITY, -3, -1e-40f, 0, 1e-40f, 2, 3, INFINITY };
    for (size_t i = 0; i + 1 < sizeof values / sizeof *values; i++) {
        assert_true(flat_key(values[i], 9) < flat_key(values[i + 1], 8));
        assert_true(flat_key(values[i], 9) < flat_key(values[i], 8));
        assert_true(flat_key_value(flat_key(values[i], 9)) == values[i]);
        assert_int_equal(flat_key_row(flat_key(values[i], 9)), 9);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_select),
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_recall),
        cmocka_unit_test(test_same_file),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_many_threads),
        cmocka_unit_test(test_no_allocations),
        cmocka_unit_test(test_bad_input),
        cmocka_unit_test(test_sink_fails),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_measured),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
