/* Kind ivfpq: recall on queries that lie off the rows, filters, exactness, odd sizes, the same
 * bytes and hits whatever the threads and the batch, and segments that lie about themselves. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file_at.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/rng.h"
#include "index/ivfpq_parts.h"
#include "backends_rig.h"

enum { BLOCKS = 8, CLUSTERS = 40 };

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

/* ---- a segment in memory ---------------------------------------------------------------- */

struct built {
    struct segment_block blocks[BLOCKS];
    size_t count, capacity[BLOCKS];
};

static enum akin_status memory_begin(void *context, uint32_t type, struct akin_error *error)
{
    struct built *b = context;
    (void)error;
    assert_true(b->count < BLOCKS);
    b->blocks[b->count++].type = type;
    return AKIN_OK;
}

static enum akin_status memory_append(void *context, const void *data, size_t bytes,
                                      struct akin_error *error)
{
    struct built *b = context;
    struct segment_block *block = &b->blocks[b->count - 1];
    char *grown = memory_alloc_aligned(block->bytes + bytes, 1);
    (void)error;
    assert_non_null(grown);
    if (block->bytes)
        memcpy(grown, block->data, block->bytes);
    memcpy(grown + block->bytes, data, bytes);
    memory_free((void *)block->data);
    block->data = grown;
    block->bytes += bytes;
    return AKIN_OK;
}

static void built_free(struct built *b)
{
    for (size_t i = 0; i < b->count; i++)
        memory_free((void *)b->blocks[i].data);
    *b = (struct built){ 0 };
}

static void build_coded(int threads, const struct segment_rows *rows, size_t nlist,
                        size_t pq_bytes, size_t pq_bits, struct built *b)
{
    struct segment_settings settings = {
        .seed = 5, .nlist = nlist, .pq_bytes = pq_bytes, .pq_bits = pq_bits };
    struct segment_build build = { backends[threads], pools[threads], *rows, settings };
    struct segment_sink sink = { b, memory_begin, memory_append };
    struct akin_error error = { 0 };
    *b = (struct built){ 0 };
    if (ivfpq_build(&build, &sink, &error) != AKIN_OK)
        fail_msg("%s", error.message);
}

static void build_with(int threads, const struct segment_rows *rows, size_t nlist, size_t pq_bytes,
                       struct built *b)
{
    build_coded(threads, rows, nlist, pq_bytes, 0, b);
}

static enum akin_status open_built(const struct segment_rows *rows, const struct built *b,
                                   struct ivfpq **v, struct akin_error *error)
{
    struct segment_blocks blocks = { b->blocks, b->count };
    return ivfpq_open(backends[1], pools[1], rows, &blocks, v, error);
}

static struct ivfpq *must_open(const struct segment_rows *rows, const struct built *b)
{
    struct ivfpq *v = NULL;
    struct akin_error error = { 0 };
    if (open_built(rows, b, &v, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    return v;
}

static void must_check(const struct ivfpq *v)
{
    struct akin_error error = { 0 };
    if (ivfpq_check(v, &error) != AKIN_OK)
        fail_msg("%s", error.message);
}

/* ---- rows and queries ------------------------------------------------------------------- */

/* Clusters, some tight and some wide, away from the origin. */
static float *clustered(uint64_t seed, size_t count, size_t dim)
{
    struct rng rng;
    rng_seed(&rng, seed);
    float *centres = memory_alloc(CLUSTERS * dim, sizeof *centres);
    float *x = memory_alloc_aligned(count * dim + 1, sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < CLUSTERS * dim; i++)
        centres[i] = rng_normal(&rng) + 0.5f;
    for (size_t r = 0; r < count; r++) {
        size_t c = rng_below(&rng, CLUSTERS);
        for (size_t d = 0; d < dim; d++)
            x[r * dim + d] =
                centres[c * dim + d] + rng_normal(&rng) * (0.3f + 0.02f * (float)c);
    }
    memory_free(centres);
    return x;
}

static void to_length_1(float *x, size_t count, size_t dim)
{
    for (size_t r = 0; r < count; r++) {
        double sum = 0;
        for (size_t d = 0; d < dim; d++)
            sum += (double)x[r * dim + d] * (double)x[r * dim + d];
        for (size_t d = 0; d < dim && sum > 0; d++)
            x[r * dim + d] = (float)((double)x[r * dim + d] / sqrt(sum));
    }
}

/* Mixtures of a row, another and noise: none is a row. */
static float *off_rows(const float *rows, size_t row_count, size_t dim, size_t count)
{
    struct rng rng;
    rng_seed(&rng, 77);
    float *q = memory_alloc_aligned(count * dim, sizeof *q);
    assert_non_null(q);
    for (size_t i = 0; i < count; i++) {
        const float *a = rows + rng_below(&rng, row_count) * dim,
                    *b = rows + rng_below(&rng, row_count) * dim;
        float share = (float)(i % 3) * 0.25f;
        for (size_t d = 0; d < dim; d++)
            q[i * dim + d] = (1 - share) * a[d] + share * b[d] + 0.1f * rng_normal(&rng);
    }
    return q;
}

static struct hit *true_hits(const struct segment_rows *rows, const float *queries, size_t count,
                             size_t k, const uint64_t *allowed, size_t *found)
{
    struct hit *hits = memory_alloc(count * k, sizeof *hits);
    struct topk_request request = { .dim = rows->dim, .queries = queries, .query_count = count,
                                    .k = k, .score = rows->score, .allowed = allowed };
    struct segment_hits out = { hits, found };
    assert_int_equal(segment_topk(backends[1], rows, &request, &out, NULL), AKIN_OK);
    return hits;
}

/* Searches, and holds what always holds: hits in order, allowed, with the originals' scores. */
static void search(struct ivfpq *v, const struct segment_query *query, struct hit *hits,
                   size_t *found)
{
    struct segment_hits out = { hits, found };
    struct akin_error error = { 0 };
    if (ivfpq_search(v, query, &out, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    for (size_t q = 0; q < query->count; q++) {
        const struct hit *own = hits + q * query->k;
        assert_true(found[q] <= query->k);
        for (size_t i = 0; i < found[q]; i++) {
            assert_true(own[i].row < v->rows.count);
            if (query->allowed)
                assert_true(query->allowed[own[i].row / 64] >> own[i].row % 64 & 1);
            if (i)
                assert_true(own[i - 1].score > own[i].score ||
                            (own[i - 1].score == own[i].score && own[i - 1].row < own[i].row));
            if (v->rows.element == ELEMENT_F32) {
                const float *row = (const float *)v->rows.vectors + own[i].row * v->rows.dim;
                float score = cpu_score(backends[1], query->queries + q * v->rows.dim, row,
                                        v->rows.dim, v->rows.score);
                assert_memory_equal(&score, &own[i].score, sizeof score);
            }
        }
    }
}

static double recall_of(struct ivfpq *v, const struct segment_query *query)
{
    size_t k = query->k, count = query->count, good = 0, all = 0;
    size_t *found = memory_alloc(2 * count, sizeof *found), *wanted = found + count;
    struct hit *hits = memory_alloc(count * k, sizeof *hits);
    struct hit *truth =
        true_hits(&v->rows, query->queries, count, k, query->allowed, wanted);
    search(v, query, hits, found);
    for (size_t q = 0; q < count; q++) {
        for (size_t i = 0; i < wanted[q]; i++)
            for (size_t j = 0; j < found[q]; j++)
                good += truth[q * k + i].row == hits[q * k + j].row;
        all += wanted[q];
    }
    memory_free(truth);
    memory_free(hits);
    memory_free(found);
    return all ? (double)good / (double)all : 1;
}

/* ---- tests ------------------------------------------------------------------------------ */

static void one_recall(enum score score, size_t count, size_t dim, size_t pq_bytes,
                       size_t pq_bits)
{
    float *x = clustered(3, count, dim);
    if (score == SCORE_INNER_PRODUCT)
        to_length_1(x, count, dim);
    float *q = off_rows(x, count, dim, 150);
    struct segment_rows rows = { x, ELEMENT_F32, count, dim, score, NULL, 0 };
    struct built b;
    build_coded(1, &rows, 0, pq_bytes, pq_bits, &b);
    struct ivfpq *v = must_open(&rows, &b);
    must_check(v);
    static const float wanted[] = { 0.8f, 0.95f, 0.99f };
    for (size_t i = 0; i < 3; i++)
        for (size_t k = 1; k <= 100; k *= 10) {
            struct segment_query query = { q, 150, k, NULL, 0, false, wanted[i], NULL };
            double recall = recall_of(v, &query);
            if (recall < (double)wanted[i] - 0.01)
                fail_msg("score %d: recall@%zu %.3f of %.3f asked", score, k, recall,
                         (double)wanted[i]);
        }
    struct ivfpq_plan low = ivfpq_plan(v, 0.8f, 10, count), high = ivfpq_plan(v, 0.99f, 10, count);
    assert_true(low.probes < v->header->cells && low.probes <= high.probes);
    struct segment_query exact = { q, 150, 10, NULL, 0, true, 0, NULL };
    assert_true(recall_of(v, &exact) == 1);
    ivfpq_close(&v);
    built_free(&b);
    memory_free(q);
    memory_free(x);
}

static void recall_is_what_was_asked_for(void **state)
{
    (void)state;
    one_recall(SCORE_INNER_PRODUCT, 12000, 64, 0, 0);
    one_recall(SCORE_INNER_PRODUCT, 6000, 50, 8, 4);
    one_recall(SCORE_L2, 6000, 33, 0, 0);
    one_recall(SCORE_L2, 6000, 5, 0, 0);
    one_recall(SCORE_INNER_PRODUCT, 6000, 50, 7, 8);
    one_recall(SCORE_L2, 6000, 33, 0, 8);
}

/* In the same bytes, codes of eight bits put fewer rows before the true neighbours. */
static void eight_bits_need_fewer_candidates(void **state)
{
    (void)state;
    enum { COUNT = 12000, DIM = 64 };
    float *x = clustered(6, COUNT, DIM);
    to_length_1(x, COUNT, DIM);
    struct segment_rows rows = { x, ELEMENT_F32, COUNT, DIM, SCORE_INNER_PRODUCT, NULL, 0 };
    uint32_t candidates[2];
    for (size_t wide = 0; wide < 2; wide++) {
        struct built b;
        build_coded(1, &rows, 16, 8, wide ? 8 : 4, &b);
        struct ivfpq *v = must_open(&rows, &b);
        candidates[wide] = ivfpq_plan(v, 0.99f, 10, COUNT).candidates;
        ivfpq_close(&v);
        built_free(&b);
    }
    if (candidates[1] >= candidates[0])
        fail_msg("%u candidates with four bits, %u with eight", candidates[0], candidates[1]);
    memory_free(x);
}

static void filters_keep_their_recall(void **state)
{
    (void)state;
    enum { COUNT = 12000, DIM = 64, QUERIES = 100 };
    float *x = clustered(4, COUNT, DIM);
    to_length_1(x, COUNT, DIM);
    float *q = off_rows(x, COUNT, DIM, QUERIES);
    struct segment_rows rows = { x, ELEMENT_F32, COUNT, DIM, SCORE_INNER_PRODUCT, NULL, 0 };
    struct built b;
    build_with(2, &rows, 0, 0, &b);
    struct ivfpq *v = must_open(&rows, &b);
    static const double shares[] = { 0.9, 0.5, 0.1, 0.01, 0.001, 0 };
    for (size_t s = 0; s < 6; s++) {
        uint64_t allowed[(COUNT + 63) / 64] = { 0 };
        size_t count = 0;
        struct rng rng;
        rng_seed(&rng, s);
        for (size_t r = 0; r < COUNT; r++)
            if ((double)rng_float(&rng) < shares[s]) {
                allowed[r / 64] |= 1ull << r % 64;
                count++;
            }
        struct segment_query query = { q, QUERIES, 10, allowed, count, false, 0.95f, NULL };
        double recall = recall_of(v, &query);
        if (recall < 0.95)
            fail_msg("recall %.3f where %.3f of the rows pass", recall, shares[s]);
        query.exact = true;
        assert_true(recall_of(v, &query) == 1);
    }
    ivfpq_close(&v);
    built_free(&b);
    memory_free(q);
    memory_free(x);
}

static void bits_stay(size_t pq_bits)
{
    enum { COUNT = 5000, DIM = 70, QUERIES = 20, K = 10 };
    float *x = clustered(5, COUNT, DIM), *q = off_rows(x, COUNT, DIM, QUERIES);
    struct segment_rows rows = { x, ELEMENT_F32, COUNT, DIM, SCORE_L2, NULL, 0 };
    struct built b[THREADS_TRIED];
    for (int t = 0; t < THREADS_TRIED; t++)
        build_coded(t, &rows, 0, 0, pq_bits, &b[t]);
    for (int t = 1; t < THREADS_TRIED; t++)
        for (size_t i = 0; i < BLOCKS; i++) {
            assert_int_equal(b[t].blocks[i].bytes, b[0].blocks[i].bytes);
            assert_memory_equal(b[t].blocks[i].data, b[0].blocks[i].data, b[0].blocks[i].bytes);
        }
    struct ivfpq *v = must_open(&rows, &b[0]);
    struct hit together[QUERIES * K], alone[K];
    size_t found[QUERIES], one;
    struct segment_query batch = { q, QUERIES, K, NULL, 0, false, 0.9f, NULL };
    search(v, &batch, together, found);
    uint64_t before = 0;
    for (size_t i = 0; i < QUERIES; i++) {
        struct segment_query single = { q + i * DIM, 1, K, NULL, 0, false, 0.9f, NULL };
        search(v, &single, alone, &one);
        assert_int_equal(one, found[i]);
        assert_memory_equal(alone, together + i * K, one * sizeof *alone);
        if (i == 0)
            before = memory_allocations();
    }
    assert_int_equal(memory_allocations(), before);     /* the hot path makes none */
    ivfpq_close(&v);
    for (int t = 0; t < THREADS_TRIED; t++)
        built_free(&b[t]);
    memory_free(q);
    memory_free(x);
}

static void threads_and_batches_change_no_bit(void **state)
{
    (void)state;
    bits_stay(4);
    bits_stay(8);
}

/* All rows come back where k is larger than the collection, duplicates by row. */
static void one_odd_size(enum score score, size_t count, size_t dim, int kind)
{
    float *x = clustered(count + dim, count, dim);
    for (size_t i = 0; i < count * dim && kind; i++)
        x[i] = kind == 1 ? 0 : kind == 2 ? 3.5f : x[i % dim];   /* zeros, constant, duplicates */
    struct segment_rows rows = { x, ELEMENT_F32, count, dim, score, NULL, 0 };
    struct built b;
    build_coded(1, &rows, kind == 3 ? 7 : 0, dim % 3, (count + dim) % 4 == 1 ? 8 : 4, &b);
    struct ivfpq *v = must_open(&rows, &b);
    must_check(v);
    float query[700];
    for (size_t d = 0; d < dim; d++)
        query[d] = (float)d - 1.5f;
    size_t k = count + 7, found;
    struct hit *hits = memory_alloc(k, sizeof *hits);
    struct segment_query all = { query, 1, k, NULL, 0, false, 0.95f, NULL };
    search(v, &all, hits, &found);
    assert_int_equal(found, count);
    struct segment_query few = { query, 1, 3, NULL, 0, false, 0.95f, NULL };
    search(v, &few, hits, &found);
    assert_int_equal(found, count < 3 ? count : 3);
    for (size_t i = 0; kind && i < found; i++)
        assert_int_equal(hits[i].row, i);
    memory_free(hits);
    ivfpq_close(&v);
    built_free(&b);
    memory_free(x);
}

static void odd_sizes(void **state)
{
    (void)state;
    static const size_t counts[] = { 0, 1, 2, 5, 31, 32, 33, 100, 515 };
    static const size_t dims[] = { 1, 2, 3, 7, 31, 32, 33, 100, 385 };
    for (size_t c = 0; c < 9; c++)
        for (size_t d = 0; d < 9; d++) {
            one_odd_size(SCORE_INNER_PRODUCT, counts[c], dims[d], (int)((c + d) % 4));
            one_odd_size(SCORE_L2, counts[c], dims[d], (int)((c + d + 1) % 4));
        }
    struct segment_rows wide = { "", ELEMENT_F32, 0, IVFPQ_DIM_MAX + 1, SCORE_L2, NULL, 0 };
    struct segment_build build = { backends[0], pools[0], wide, { .seed = 1 } };
    struct built b = { 0 };
    struct segment_sink sink = { &b, memory_begin, memory_append };
    assert_int_equal(ivfpq_build(&build, &sink, NULL), AKIN_LIMIT);
    build.rows.dim = 2;
    build.settings.pq_bits = 6;
    assert_int_equal(ivfpq_build(&build, &sink, NULL), AKIN_ARGUMENT);
}

static void halves_as_originals(void **state)
{
    (void)state;
    enum { COUNT = 3000, DIM = 24 };
    struct rng rng;
    rng_seed(&rng, 9);
    uint16_t *halves = memory_alloc_aligned(COUNT * DIM, sizeof *halves);
    float *wide = memory_alloc_aligned(COUNT * DIM, sizeof *wide);
    for (size_t i = 0; i < COUNT * DIM; i++)
        halves[i] = (uint16_t)(0x3000 + rng_below(&rng, 0xc00) + (rng_below(&rng, 2) << 15));
    cpu_kernels(backends[1])->widen_f16(wide, halves, COUNT * DIM);
    float *q = off_rows(wide, COUNT, DIM, 50);
    struct segment_rows rows = { halves, ELEMENT_F16, COUNT, DIM, SCORE_INNER_PRODUCT, NULL, 0 };
    struct built b;
    build_with(1, &rows, 0, 0, &b);
    struct ivfpq *v = must_open(&rows, &b);
    must_check(v);
    struct segment_query query = { q, 50, 10, NULL, 0, false, 0.95f, NULL };
    assert_true(recall_of(v, &query) >= 0.94);
    query.exact = true;
    assert_true(recall_of(v, &query) == 1);
    struct hit wanted[50 * 10], hits[50 * 10];
    size_t found[50];
    search(v, &query, wanted, found);
    ivfpq_close(&v);
    /* A scan of all reads them where they are mapped, not one by one from the file. */
    struct file_at empty = { .fd = -1 };
    assert_int_equal(file_at_open("/tmp", FILE_AT_UNNAMED, &empty, NULL), AKIN_OK);
    assert_int_equal(file_at_truncate(&empty, COUNT * DIM * sizeof *halves, NULL), AKIN_OK);
    rows.file = &empty;
    v = must_open(&rows, &b);
    search(v, &query, hits, found);
    assert_memory_equal(hits, wanted, sizeof hits);
    ivfpq_close(&v);
    file_at_close(&empty);
    built_free(&b);
    memory_free(q);
    memory_free(wide);
    memory_free(halves);
}

/* Originals that are read from a file: memory holds others, and is only looked at where the file
 * cannot be read. */
static void originals_from_a_file(void **state)
{
    (void)state;
    enum { COUNT = 2000, DIM = 24, LEAD = 40, QUERIES = 30, DEPTH = 10 };
    float *x = clustered(8, COUNT, DIM), *q = off_rows(x, COUNT, DIM, QUERIES);
    float *zeros = memory_alloc(COUNT * DIM, sizeof *zeros);
    struct segment_rows rows = { x, ELEMENT_F32, COUNT, DIM, SCORE_L2, NULL, 0 }, stored = rows;
    struct segment_query query = { q, QUERIES, DEPTH, NULL, 0, false, 0.9f, NULL };
    struct hit wanted[QUERIES * DEPTH], hits[QUERIES * DEPTH];
    size_t found[QUERIES];
    struct segment_hits out = { hits, found };
    struct built b;
    build_with(1, &rows, 0, 0, &b);
    struct ivfpq *v = must_open(&rows, &b);
    search(v, &query, wanted, found);
    ivfpq_close(&v);

    struct file_at file = { .fd = -1 };
    struct file_part part = { x, COUNT * DIM * sizeof *x };
    assert_int_equal(file_at_open("/tmp", FILE_AT_UNNAMED, &file, NULL), AKIN_OK);
    assert_int_equal(file_at_write(&file, LEAD, &part, 1, NULL), AKIN_OK);
    stored.vectors = zeros;
    stored.file = &file;
    stored.offset = LEAD;
    v = must_open(&stored, &b);
    assert_int_equal(ivfpq_search(v, &query, &out, NULL), AKIN_OK);
    assert_memory_equal(hits, wanted, sizeof hits);
    memcpy(zeros, x, part.bytes);
    assert_int_equal(file_at_truncate(&file, LEAD + part.bytes / 2, NULL), AKIN_OK);
    assert_int_equal(ivfpq_search(v, &query, &out, NULL), AKIN_OK);
    assert_memory_equal(hits, wanted, sizeof hits);
    ivfpq_close(&v);
    file_at_close(&file);
    built_free(&b);
    memory_free(zeros);
    memory_free(q);
    memory_free(x);
}

static bool stop_at_once(void *cookie, const char *stage, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    return strcmp(stage, cookie) != 0;
}

static void a_build_can_be_stopped(void **state)
{
    (void)state;
    static const char *const stages[] = { "cells", "assign", "codebook", "encode", "calibrate" };
    float *x = clustered(1, 600, 16);
    for (size_t i = 0; i < 5; i++) {
        struct segment_rows rows = { x, ELEMENT_F32, 600, 16, SCORE_L2, NULL, 0 };
        struct segment_build build = { backends[1], pools[1], rows, { .seed = 1 } };
        build.settings.progress =
            (struct akin_progress){ .cookie = (void *)stages[i], .update = stop_at_once };
        struct built b = { 0 };
        struct segment_sink sink = { &b, memory_begin, memory_append };
        assert_int_equal(ivfpq_build(&build, &sink, NULL), AKIN_CANCELLED);
        built_free(&b);
    }
    memory_free(x);
}

/* ---- damage ----------------------------------------------------------------------------- */

static struct segment_block *block_of(struct built *b, uint32_t type)
{
    for (size_t i = 0; i < b->count; i++)
        if (b->blocks[i].type == type)
            return &b->blocks[i];
    fail_msg("no block %u", type);
    return NULL;
}

static void sizes_that_lie_are_refused(void **state)
{
    (void)state;
    float *x = clustered(2, 700, 20);
    struct segment_rows rows = { x, ELEMENT_F32, 700, 20, SCORE_L2, NULL, 0 }, other = rows;
    struct built b;
    struct ivfpq *v = NULL;
    build_with(1, &rows, 0, 0, &b);
    for (size_t i = 0; i < b.count; i++) {
        uint64_t was = b.blocks[i].bytes;
        for (int change = -1; change <= 1; change += 2) {
            b.blocks[i].bytes = was + (uint64_t)change;
            assert_int_equal(open_built(&rows, &b, &v, NULL), AKIN_FORMAT);
        }
        b.blocks[i].bytes = was;
        b.blocks[i].type += 100;
        assert_int_equal(open_built(&rows, &b, &v, NULL), AKIN_FORMAT);
        b.blocks[i].type -= 100;
    }
    other.count--;
    assert_int_equal(open_built(&other, &b, &v, NULL), AKIN_FORMAT);
    other = rows;
    other.dim++;
    assert_int_equal(open_built(&other, &b, &v, NULL), AKIN_FORMAT);
    struct ivfpq_header *h = (struct ivfpq_header *)block_of(&b, IVFPQ_HEADER)->data;
    h->version++;
    assert_int_equal(open_built(&rows, &b, &v, NULL), AKIN_UNSUPPORTED);
    h->version--;
    for (h->wide = 1; h->wide < 3; h->wide++)
        assert_int_equal(open_built(&rows, &b, &v, NULL), AKIN_FORMAT);
    h->wide = 0;
    struct ivf_cell *cells = (struct ivf_cell *)block_of(&b, IVFPQ_CELLS)->data;
    cells[1].first += 1000;
    assert_int_equal(open_built(&rows, &b, &v, NULL), AKIN_FORMAT);
    cells[1].first -= 1000;
    cells[0].rows = UINT32_MAX;
    assert_int_equal(open_built(&rows, &b, &v, NULL), AKIN_FORMAT);
    built_free(&b);
    memory_free(x);
}

/* Any flipped bits: refused, or searched without a crash. */
static void flipped_bits_crash_nothing(void **state)
{
    (void)state;
    enum { COUNT = 700, DIM = 20, K = 10, FLIPS = 1500 };
    float *x = clustered(2, COUNT, DIM);
    struct segment_rows rows = { x, ELEMENT_F32, COUNT, DIM, SCORE_L2, NULL, 0 };
    struct built b;
    struct rng rng;
    build_with(1, &rows, 0, 0, &b);
    rng_seed(&rng, 1);
    for (size_t i = 0; i < FLIPS; i++) {
        struct segment_block *block = &b.blocks[i % b.count];
        unsigned char *byte = (unsigned char *)block->data + rng_below(&rng, block->bytes);
        unsigned char was = *byte;
        *byte ^= (unsigned char)(1 + rng_below(&rng, 255));
        struct ivfpq *v = NULL;
        if (open_built(&rows, &b, &v, NULL) == AKIN_OK) {
            struct hit hits[2 * K];
            size_t found[2];
            struct segment_hits out = { hits, found };
            struct segment_query query = { x + i % 600 * DIM, 2, K, NULL, 0, false, 0.95f, NULL };
            assert_int_equal(ivfpq_search(v, &query, &out, NULL), AKIN_OK);
            for (size_t q = 0; q < 2; q++)
                for (size_t h = 0; h < found[q]; h++)
                    assert_true(hits[q * K + h].row < COUNT);
            ivfpq_check(v, NULL);
            ivfpq_close(&v);
        }
        *byte = was;
    }
    built_free(&b);
    memory_free(x);
}

static void damage_is_found_by_check(void **state)
{
    (void)state;
    static const uint32_t types[] = { IVFPQ_CENTROIDS, IVFPQ_MEAN,    IVFPQ_CODEBOOK,
                                      IVFPQ_CODES,     IVFPQ_ENTRIES, IVFPQ_ROWS };
    float *x = clustered(2, 700, 20);
    struct segment_rows rows = { x, ELEMENT_F32, 700, 20, SCORE_INNER_PRODUCT, NULL, 0 };
    struct built b;
    build_with(1, &rows, 0, 0, &b);
    for (size_t i = 0; i < 6; i++) {
        unsigned char *byte = (unsigned char *)block_of(&b, types[i])->data;
        bool floats = types[i] == IVFPQ_MEAN || types[i] == IVFPQ_CODEBOOK;
        byte += floats ? 3 : 0; /* an exponent: the last digits of a number change nothing */
        *byte ^= 0x41;
        struct ivfpq *v = must_open(&rows, &b);
        struct akin_error error = { 0 };
        if (ivfpq_check(v, &error) != AKIN_FORMAT || !strstr(error.message, "ivfpq segment"))
            fail_msg("block %u is damaged and nobody says so", types[i]);
        ivfpq_close(&v);
        *byte ^= 0x41;
    }
    built_free(&b);
    memory_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recall_is_what_was_asked_for),
        cmocka_unit_test(eight_bits_need_fewer_candidates),
        cmocka_unit_test(filters_keep_their_recall),
        cmocka_unit_test(threads_and_batches_change_no_bit),
        cmocka_unit_test(odd_sizes),
        cmocka_unit_test(halves_as_originals),
        cmocka_unit_test(originals_from_a_file),
        cmocka_unit_test(a_build_can_be_stopped),
        cmocka_unit_test(sizes_that_lie_are_refused),
        cmocka_unit_test(flipped_bits_crash_nothing),
        cmocka_unit_test(damage_is_found_by_check),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
