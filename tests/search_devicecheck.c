/* Search on a device against every row scored in double here: random rows, rows that are nearly or
 * exactly alike (ties go to the lower row), masks of their own for each query, fewer rows than k,
 * one query and many, every number of results; and the same bits for a query alone and in company.
 *
 *   search_devicecheck [cuda [--bench]]     --bench: also the rates over 62,423 rows of 384
 *
 * Exit status: 0 fine, 1 failed, 2 wrong use, 77 there is no card. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/rng.h"
#include "device_check.h"

enum { QUERIES_MAX = 160, MASKS = 3 };

static struct rng rng;
static const struct search_device_ops *ops;

static void expect(bool ok, const char *what, size_t rows, size_t dim, size_t query, double found)
{
    checks++;
    if (ok)
        return;
    if (failures++ < 20)
        printf("FAILED %s: rows %zu, dim %zu, query %zu: %.9g\n", what, rows, dim, query, found);
}

/* ---- data ------------------------------------------------------------------------------- */

enum likeness { APART, NEARLY_ALIKE, ALIKE };

struct data {
    size_t rows, dim, words;
    float *row, *query;         /* [rows][dim], [QUERIES_MAX][dim] */
    uint64_t *masks;            /* [MASKS][words] */
    uint32_t mask_of[QUERIES_MAX];
    double *scores;             /* [rows] of one query */
};

static void data_init(struct data *d, size_t rows, size_t dim, enum likeness likeness)
{
    *d = (struct data){ .rows = rows, .dim = dim, .words = (rows + 63) / 64 };
    d->row = must_have(memory_alloc(rows * dim, sizeof *d->row));
    d->query = must_have(memory_alloc(QUERIES_MAX * dim, sizeof *d->query));
    d->masks = must_have(memory_alloc(MASKS * d->words, sizeof *d->masks));
    d->scores = must_have(memory_alloc(rows, sizeof *d->scores));
    for (size_t r = 0; r < rows; r++) {
        /* alike: a few rows, each many times */
        const float *like = likeness != APART && r >= 7 ? d->row + r % 7 * dim : NULL;
        for (size_t i = 0; i < dim; i++)
            d->row[r * dim + i] = like ? like[i] : rng_normal(&rng);
        if (likeness == NEARLY_ALIKE && like)
            for (size_t i = 0; i < dim; i++)
                d->row[r * dim + i] += 1e-5f * rng_normal(&rng);
        if (likeness != ALIKE || !like)
            unit(d->row + r * dim, dim);
    }
    for (size_t i = 0; i < QUERIES_MAX * dim; i++)
        d->query[i] = rng_normal(&rng);
    for (size_t q = 0; q < QUERIES_MAX; q++) {
        unit(d->query + q * dim, dim);
        d->mask_of[q] = q % (MASKS + 1) == MASKS ? UINT32_MAX : (uint32_t)(q % (MASKS + 1));
    }
    /* half of the rows, one in fifty, none but the last */
    for (size_t r = 0; r < rows; r++) {
        d->masks[r / 64] |= (uint64_t)(rng_below(&rng, 2) == 0) << r % 64;
        d->masks[d->words + r / 64] |= (uint64_t)(rng_below(&rng, 50) == 0) << r % 64;
        d->masks[2 * d->words + r / 64] |= (uint64_t)(r + 1 == rows) << r % 64;
    }
    for (size_t m = 1; m <= MASKS && rows % 64; m++)    /* of rows that there are not */
        d->masks[m * d->words - 1] |= ~0ull << rows % 64;
}

static void data_deinit(struct data *d)
{
    memory_free(d->row);
    memory_free(d->query);
    memory_free(d->masks);
    memory_free(d->scores);
}

/* ---- what is right ---------------------------------------------------------------------- */

static bool may(const struct data *d, size_t q, size_t row, bool masked)
{
    if (!masked || d->mask_of[q] == UINT32_MAX)
        return true;
    return d->masks[d->mask_of[q] * d->words + row / 64] >> row % 64 & 1;
}

/* float32 scores may order rows otherwise than double ones where these are nearly equal, and so a
 * hit is right if no row that is left out is better by more than rounding. */
static void check_hits(struct data *d, size_t q, bool masked, size_t k, const struct hit *hits,
                       size_t found)
{
    const double rounding = 2e-6;
    size_t passing = 0;
    for (size_t r = 0; r < d->rows; r++) {
        d->scores[r] = may(d, q, r, masked) ? 0 : NAN;
        passing += may(d, q, r, masked);
        for (size_t i = 0; i < d->dim && may(d, q, r, masked); i++)
            d->scores[r] += (double)d->query[q * d->dim + i] * (double)d->row[r * d->dim + i];
    }
    expect(found == (passing < k ? passing : k), "number found", d->rows, d->dim, q, (double)found);
    for (size_t i = 0; i < found; i++) {
        size_t row = hits[i].row;
        if (row >= d->rows || isnan(d->scores[row])) {
            expect(false, "a row that may not be found, or twice", d->rows, d->dim, q, (double)row);
            return;
        }
        expect(fabs((double)hits[i].score - d->scores[row]) < rounding, "score", d->rows, d->dim, q,
               (double)hits[i].score - d->scores[row]);
        expect(i == 0 || hits[i].score < hits[i - 1].score ||
               (hits[i].score == hits[i - 1].score && row > hits[i - 1].row), "order", d->rows,
               d->dim, q, (double)i);
        d->scores[row] = NAN;
    }
    for (size_t r = 0; r < d->rows && found; r++)
        if (d->scores[r] > (double)hits[found - 1].score + rounding)
            expect(false, "a better row was left out", d->rows, d->dim, q, d->scores[r]);
}

/* Rows that are bit for bit alike come in their order. */
static void check_ties(const struct data *d, size_t q, const struct hit *hits, size_t found)
{
    for (size_t i = 1; i < found; i++)
        if (hits[i].row % 7 == hits[i - 1].row % 7)
            expect(hits[i].row == hits[i - 1].row + 7, "ties", d->rows, d->dim, q, hits[i].row);
}

/* The same bits as when `query` asked for all of them. */
static void check_same(const struct data *d, struct search_device *device,
                       const struct device_query *query, const struct hit *hits,
                       const size_t *found, const char *what)
{
    size_t k = query->k, count = query->query_count;
    struct hit *other = must_have(memory_alloc(count * k, sizeof *other));
    size_t found_other[QUERIES_MAX];
    must(ops->search(device, query, other, found_other, NULL, &error));
    for (size_t q = 0; q < count; q++)
        expect(found_other[q] == found[q] &&
               !memcmp(other + q * k, hits + q * k, found[q] * sizeof *other), what, d->rows,
               d->dim, q, (double)found_other[q]);
    memory_free(other);
}

static void run(struct data *d, struct search_device *device, size_t count, size_t k, bool masked,
                enum likeness likeness, size_t checked)
{
    struct hit *hits = must_have(memory_alloc(QUERIES_MAX * k, sizeof *hits));
    size_t found[QUERIES_MAX], all = 0;
    struct search_counts counts;
    struct device_query query = { .queries = d->query, .query_count = count, .k = k };
    if (masked) {
        query.masks = d->masks;
        query.mask_of = d->mask_of;
        query.mask_count = MASKS;
        query.mask_words = d->words;
    }
    must(ops->search(device, &query, hits, found, &counts, &error));
    for (size_t q = 0; q < count; q += count / checked ? count / checked : 1) {
        check_hits(d, q, masked, k, hits + q * k, found[q]);
        if (likeness == ALIKE && !masked)
            check_ties(d, q, hits + q * k, found[q]);
    }
    for (int pass = 0; pass < SEARCH_PASSES; pass++)
        all += counts.proven[pass];
    expect(all == count, "answered", d->rows, d->dim, count, (double)all);
    /* or the test does not reach the later passes, or the first one is good for nothing */
    if (likeness == ALIKE && !masked && d->rows > 7 * 1024)
        expect(counts.proven[SEARCH_PASS_FP32] == count, "done again", d->rows, d->dim, count,
               (double)counts.proven[SEARCH_PASS_FP32]);
    if (likeness == APART && !masked)
        expect(counts.proven[SEARCH_PASS_FP32] == 0, "not done again", d->rows, d->dim, count,
               (double)counts.proven[SEARCH_PASS_FP32]);
    if (masked && count > 2)            /* few rows */
        expect(counts.proven[SEARCH_PASS_AUTO] > 0, "gathered", d->rows, d->dim, count, 0);
    /* float32 goes one by one, which takes long in an emulation */
    int last = d->rows > 7 * 1024 ? SEARCH_PASS_AUTO : SEARCH_PASS_FP32;
    for (int pass = SEARCH_PASS_INT8; pass <= last; pass++) {
        query.first = (enum search_pass)pass;
        query.query_count = pass < SEARCH_PASS_FP32 || count < 4 ? count : 4;
        check_same(d, device, &query, hits, found, "bits, by pass");
    }
    size_t q = count - 1;
    query.queries += q * d->dim;
    query.query_count = 1;
    if (masked && d->mask_of[q] == UINT32_MAX)
        query.masks = NULL;
    else if (masked)                    /* its mask as the one for all */
        query.masks += d->mask_of[q] * d->words;
    query.mask_of = NULL;
    for (int pass = SEARCH_PASS_AUTO; pass <= last; pass++) {
        query.first = (enum search_pass)pass;
        check_same(d, device, &query, hits + q * k, found + q, "bits, alone");
    }
    memory_free(hits);
}

static void check_size(size_t rows, size_t dim, size_t count, size_t k, enum likeness likeness)
{
    struct data d;
    struct search_device *device = NULL;
    data_init(&d, rows, dim, likeness);
    must(ops->create(0, d.row, rows, dim, &device, &error));
    run(&d, device, count, k, false, likeness, 5);
    run(&d, device, count, k, true, likeness, 8);
    ops->destroy(&device);
    data_deinit(&d);
}

/* Answers that are told as they come. */
struct told {
    struct hit *hits;
    size_t *found, *times, k;
};

static void tell(void *context, size_t query, const struct hit *hits, size_t count)
{
    struct told *told = context;
    told->times[query]++;
    told->found[query] = count;
    if (count)
        memcpy(told->hits + query * told->k, hits, count * sizeof *hits);
}

/* Each once, and the same bits as those that are given back. */
static void check_told(const struct data *d, struct search_device *device,
                       struct device_query query, const struct hit *hits, const size_t *found)
{
    size_t k = query.k, count = query.query_count;
    struct told told = { must_have(memory_alloc(count * k, sizeof *told.hits)),
                         must_have(memory_alloc(count, sizeof *told.found)),
                         must_have(memory_alloc(count, sizeof *told.times)), k };
    query.answer = tell;
    query.context = &told;
    must(ops->search(device, &query, NULL, NULL, NULL, &error));
    for (size_t q = 0; q < count; q++)
        expect(told.times[q] == 1 && told.found[q] == found[q] &&
               !memcmp(told.hits + q * k, hits + q * k, found[q] * sizeof *hits), "an answer told",
               d->rows, d->dim, q, (double)told.times[q]);
    memory_free(told.hits);
    memory_free(told.found);
    memory_free(told.times);
}

/* One mask for all: of more rows than are listed on the host, of few, of nearly all, of none. */
static void check_masks(void)
{
    enum { ROWS = 6500, DIM = 64, COUNT = 2, K = 10 };
    static const unsigned one_in[] = { 3, 10, 1, 0 };
    struct data d;
    struct search_device *device = NULL;
    struct hit hits[COUNT * K];
    size_t found[COUNT];
    data_init(&d, ROWS, DIM, APART);
    must(ops->create(0, d.row, ROWS, DIM, &device, &error));
    for (size_t m = 0; m < sizeof one_in / sizeof *one_in; m++) {
        memset(d.masks, 0, d.words * sizeof *d.masks);
        for (size_t r = 0; r < ROWS && one_in[m]; r += one_in[m])
            d.masks[r / 64] |= 1ull << r % 64;
        if (one_in[m] == 1)
            d.masks[0] &= ~1ull;
        for (size_t q = 0; q < COUNT; q++)
            d.mask_of[q] = 0;
        struct device_query query = { .queries = d.query, .query_count = COUNT, .k = K,
                                      .masks = d.masks, .mask_count = 1, .mask_words = d.words };
        must(ops->search(device, &query, hits, found, NULL, &error));
        for (size_t q = 0; q < COUNT; q++)
            check_hits(&d, q, true, K, hits + q * K, found[q]);
        check_told(&d, device, query, hits, found);
        query.query_count = 1;
        check_same(&d, device, &query, hits, found, "bits, alone with a mask");
        check_told(&d, device, query, hits, found);
        query.query_count = COUNT;
        query.mask_of = d.mask_of;
        check_same(&d, device, &query, hits, found, "bits, a mask each");
    }
    /* under a number they stay, whatever lies there now; under another they come */
    for (size_t r = 0; r < d.words; r++)
        d.masks[r] = r % 2 ? ~0ull : 0;
    d.masks[d.words - 1] &= (1ull << ROWS % 64) - 1;
    struct device_query query = { .queries = d.query, .query_count = COUNT, .k = K,
                                  .masks = d.masks, .mask_of = d.mask_of, .mask_count = 1,
                                  .mask_words = d.words, .masks_number = 7 };
    must(ops->search(device, &query, hits, found, NULL, &error));
    for (size_t q = 0; q < COUNT; q++)
        check_hits(&d, q, true, K, hits + q * K, found[q]);
    memset(d.masks, 0, d.words * sizeof *d.masks);
    check_same(&d, device, &query, hits, found, "masks that stay");
    query.masks_number = 8;
    must(ops->search(device, &query, hits, found, NULL, &error));
    expect(found[0] == 0, "masks that changed", ROWS, DIM, 0, (double)found[0]);
    ops->destroy(&device);
    data_deinit(&d);
}

/* Rows that are appended and put are the rows of a device that was made of them; and rows as
 * queries are their vectors. */
static void check_changes(void)
{
    enum { ROWS = 500, DIM = 64, FIRST = 90, K = 10, COUNT = 5, PUT = 40 };
    static uint32_t numbers[PUT];
    struct data d;
    struct search_device *device = NULL, *whole = NULL;
    struct hit hits[COUNT * K];
    size_t found[COUNT];
    data_init(&d, ROWS, DIM, APART);
    must(ops->create(0, d.row, ROWS, DIM, &whole, &error));
    /* the first ones as others, then put right */
    must(ops->create(0, d.row + 3 * DIM, FIRST, DIM, &device, &error));
    size_t bytes = ops->memory(device);
    expect(bytes >= (size_t)FIRST * DIM * 7, "memory", FIRST, DIM, 0, (double)bytes);
    for (size_t at = FIRST; at < ROWS;) {
        size_t count = at + 100 < ROWS ? 100 : ROWS - at;
        must(ops->append(device, d.row + at * DIM, count, &error));
        at += count;
        expect(ops->row_count(device) == at, "row count", at, DIM, 0, (double)at);
    }
    must(ops->append(device, NULL, 0, &error));
    expect(ops->memory(device) > bytes, "memory grows", ROWS, DIM, 0, 0);
    for (size_t first = 0; first < FIRST; first += PUT) {
        size_t count = first + PUT < FIRST ? PUT : FIRST - first;
        float rows[PUT * DIM];
        for (size_t i = 0; i < count; i++) {        /* backwards */
            numbers[i] = (uint32_t)(first + count - 1 - i);
            memcpy(rows + i * DIM, d.row + numbers[i] * DIM, DIM * sizeof *rows);
        }
        must(ops->put(device, numbers, rows, count, &error));
    }
    struct device_query query = { .queries = d.query, .query_count = COUNT, .k = K };
    must(ops->search(whole, &query, hits, found, NULL, &error));
    for (int pass = SEARCH_PASS_AUTO; pass <= SEARCH_PASS_FP32; pass++) {
        query.first = (enum search_pass)pass;
        check_same(&d, device, &query, hits, found, "bits, rows that came and changed");
    }
    float vectors[COUNT * DIM];
    for (size_t q = 0; q < COUNT; q++) {
        numbers[q] = (uint32_t)(q * q * 30);
        memcpy(vectors + q * DIM, d.row + numbers[q] * DIM, DIM * sizeof *vectors);
    }
    query = (struct device_query){ .queries = vectors, .query_count = COUNT, .k = K };
    must(ops->search(whole, &query, hits, found, NULL, &error));
    query.queries = NULL;
    query.rows = numbers;
    for (int pass = SEARCH_PASS_AUTO; pass <= SEARCH_PASS_FP32; pass++) {
        query.first = (enum search_pass)pass;
        check_same(&d, device, &query, hits, found, "bits, rows as queries");
        query.query_count = 1;
        check_same(&d, device, &query, hits, found, "bits, one row as query");
        query.query_count = COUNT;
    }
    numbers[COUNT - 1] = ROWS;
    expect(ops->search(device, &query, hits, found, NULL, &error) == AKIN_ARGUMENT &&
           strstr(error.message, "500"), "a row that there is not", ROWS, DIM, 0, 0);
    expect(ops->put(device, numbers, vectors, COUNT, &error) == AKIN_ARGUMENT, "a row to put that "
           "there is not", ROWS, DIM, 0, 0);
    numbers[COUNT - 1] = 1;
    vectors[3] = INFINITY;
    expect(ops->put(device, numbers, vectors, COUNT, &error) == AKIN_UNSUPPORTED, "infinite", ROWS,
           DIM, 0, 0);
    expect(ops->append(device, vectors, 1, &error) == AKIN_UNSUPPORTED &&
           ops->row_count(device) == ROWS, "infinite", ROWS, DIM, 0, 0);
    query = (struct device_query){ .queries = d.query, .query_count = COUNT, .k = K };
    must(ops->search(whole, &query, hits, found, NULL, &error));
    check_same(&d, device, &query, hits, found, "as it was");
    bytes = ops->memory(device);
    ops->drop_int8(device);
    ops->drop_int8(device);
    expect(ops->memory(device) <= bytes - (size_t)ROWS * DIM, "memory without int8", ROWS, DIM, 0,
           (double)ops->memory(device));
    check_same(&d, device, &query, hits, found, "bits, without int8");
    must(ops->append(device, d.row + DIM, PUT, &error));
    must(ops->append(whole, d.row + DIM, PUT, &error));
    must(ops->search(whole, &query, hits, found, NULL, &error));
    check_same(&d, device, &query, hits, found, "bits, without int8, more rows");
    double seconds = -1;
    must(ops->measure(device, &query, hits, found, &seconds, &error));
    expect(seconds >= 0 && found[0] == K, "measured", ROWS, DIM, 0, seconds);
    ops->destroy(&device);
    ops->destroy(&whole);
    data_deinit(&d);
}

/* Queries of any length, zeros, and what is beyond every narrow form: an answer, and no harm. */
static void check_lengths(void)
{
    enum { ROWS = 2500, DIM = 64, COUNT = 7, K = 10 };
    static const float lengths[COUNT] = { 1, 1e-3f, 1e-20f, 1e-36f, 5e4f, 1e20f, 0 };
    struct data d;
    struct search_device *device = NULL;
    struct hit hits[COUNT * K], right[K];
    size_t found[COUNT], found_right;
    data_init(&d, ROWS, DIM, APART);
    must(ops->create(0, d.row, ROWS, DIM, &device, &error));
    struct device_query query = { .queries = d.query, .query_count = 1, .k = K };
    must(ops->search(device, &query, right, &found_right, NULL, &error));
    for (size_t q = 1; q < COUNT; q++)
        for (size_t i = 0; i < DIM; i++)
            d.query[q * DIM + i] = d.query[i] * lengths[q];
    query.query_count = COUNT;
    must(ops->search(device, &query, hits, found, NULL, &error));
    for (size_t q = 0; q < COUNT; q++) {
        struct device_query alone = { .queries = d.query + q * DIM, .query_count = 1, .k = K };
        expect(found[q] == K, "found", ROWS, DIM, q, (double)found[q]);
        for (size_t i = 0; i < K && q != 3; i++)      /* 1e-36: products are no longer normal */
            expect(hits[q * K + i].row == (lengths[q] > 0 ? right[i].row : i), "row by length",
                   ROWS, DIM, q, hits[q * K + i].row);
        check_same(&d, device, &alone, hits + q * K, found + q, "bits by length, alone");
    }
    d.query[5] = NAN;
    must(ops->search(device, &query, hits, found, NULL, &error));
    query.query_count = 1;
    must(ops->search(device, &query, hits, found, NULL, &error));
    ops->destroy(&device);
    data_deinit(&d);
}

/* More queries than go to the card at once, by number and with a mask each that a few share; masks
 * go along with them, or before where they are too large for that. */
static void check_chunks(void)
{
    enum { ROWS = 40, DIM = 64, COUNT = 1100, K = 2, MASKS_HERE = 700, LARGE = 1 << 20 };
    static struct hit hits[COUNT * K];
    static size_t found[COUNT];
    static uint32_t numbers[COUNT], mask_of[COUNT];
    static uint64_t masks[MASKS_HERE];
    struct data d;
    struct search_device *device = NULL;
    data_init(&d, ROWS, DIM, APART);
    must(ops->create(0, d.row, ROWS, DIM, &device, &error));
    for (size_t q = 0; q < COUNT; q++)
        numbers[q] = (uint32_t)(q % 37);
    struct device_query query = { .rows = numbers, .query_count = COUNT, .k = K };
    must(ops->search(device, &query, hits, found, NULL, &error));
    for (size_t q = 0; q < COUNT; q++)
        expect(found[q] == K && hits[q * K].row == numbers[q] &&
               !memcmp(hits + q * K, hits + q % 37 * K, K * sizeof *hits), "a chunk's query", ROWS,
               DIM, q, hits[q * K].row);
    for (size_t m = 0; m < MASKS_HERE; m++)     /* two rows, or all but two */
        masks[m] = m % 2 ? 3ull << m % 37 : ~(3ull << m % 37);
    for (size_t q = 0; q < COUNT; q++)
        mask_of[q] = q % 5 ? (uint32_t)(q * q % MASKS_HERE) : UINT32_MAX;
    query.masks = masks;
    query.mask_of = mask_of;
    query.mask_count = MASKS_HERE;
    query.mask_words = 1;
    must(ops->search(device, &query, hits, found, NULL, &error));
    for (size_t q = 0; q < COUNT; q++) {
        uint64_t mask = mask_of[q] == UINT32_MAX ? ~0ull : masks[mask_of[q]];
        bool self = mask >> numbers[q] & 1;
        expect(found[q] == K && (hits[q * K].row == numbers[q]) == self, "a chunk's mask", ROWS,
               DIM, q, hits[q * K].row);
        for (size_t i = 0; i < K; i++)
            expect(mask >> hits[q * K + i].row & 1, "a row that its mask leaves out", ROWS, DIM, q,
                   hits[q * K + i].row);
    }
    check_told(&d, device, query, hits, found);
    uint64_t *large = must_have(memory_alloc(3 * (size_t)LARGE, sizeof *large));
    for (size_t m = 0; m < 3; m++)
        large[m * LARGE] = masks[mask_of[m + 1]];
    static const uint32_t own[3] = { 0, 1, 2 };
    query.rows++;
    query.masks = large;
    query.mask_of = own;
    query.mask_count = query.query_count = 3;
    query.mask_words = LARGE;
    check_told(&d, device, query, hits + K, found + 1);
    memory_free(large);
    ops->destroy(&device);
    data_deinit(&d);
}

/* Where int8 leaves more than one query in eight, fp16 is first, until rows change; and the answers
 * are the same. One number of most rows is so large that bytes of them lose all others, which is
 * what the hard queries ask for; the easy ones ask for rows that are large where no other is. */
static void check_wider_first(void)
{
    enum { ROWS = 1100, DIM = 64, COUNT = 128, HARD = 20, EASY = 8, LARGE = 10, K = 5 };
    static struct hit hits[COUNT * K], other[COUNT * K];
    static size_t found[COUNT], found_other[COUNT];
    struct data d;
    struct search_device *device = NULL;
    struct search_counts counts;
    data_init(&d, ROWS, DIM, APART);
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t i = 0; i < DIM; i++)
            d.row[r * DIM + i] = rng_normal(&rng);
        d.row[r * DIM] = r < LARGE ? 0 : r % 2 ? 600 : -600;
        if (r < LARGE)
            d.row[r * DIM + 1] = 600 + 20 * (float)r;
    }
    for (size_t q = 0; q < COUNT; q++)
        for (size_t i = 0; i < 2; i++)
            d.query[q * DIM + i] = q >= HARD && i == 1 ? 10 : 0;
    must(ops->create(0, d.row, ROWS, DIM, &device, &error));
    struct device_query query = { .queries = d.query, .query_count = COUNT, .k = K };
    for (int turn = 0; turn < 2; turn++) {
        must(ops->search(device, &query, hits, found, &counts, &error));
        expect(counts.proven[SEARCH_PASS_INT8] == COUNT - HARD &&
               counts.proven[SEARCH_PASS_FP16] == HARD, "hard for int8", ROWS, DIM, COUNT,
               (double)counts.proven[SEARCH_PASS_INT8]);
    }
    for (size_t q = 0; q < COUNT; q++)
        expect(found[q] == K && (q < HARD || hits[q * K].row == LARGE - 1), "an easy query", ROWS,
               DIM, q, hits[q * K].row);
    for (int changed = 0; changed < 2; changed++) {
        enum search_pass first = changed ? SEARCH_PASS_INT8 : SEARCH_PASS_FP16;
        uint32_t number = ROWS - 1;
        if (changed)            /* though to what it was */
            must(ops->put(device, &number, d.row + number * DIM, 1, &error));
        query.queries = d.query + HARD * DIM;
        query.query_count = EASY;
        must(ops->search(device, &query, other, found_other, &counts, &error));
        expect(counts.proven[first] == EASY, "the first pass", ROWS, DIM, (size_t)first,
               (double)counts.proven[first]);
        expect(!memcmp(found_other, found + HARD, EASY * sizeof *found) &&
               !memcmp(other, hits + HARD * K, EASY * K * sizeof *hits), "bits, by first pass",
               ROWS, DIM, (size_t)first, 0);
    }
    ops->destroy(&device);
    data_deinit(&d);
}

#ifdef AKIN_CUDA_EMULATED
/* A search that the card has no room for says so, leaves what it was given alone and what is behind
 * it too, and is none for the next one. */
static void check_no_room(void)
{
    enum { ROWS = 400, DIM = 64, FEW = 3, COUNT = 20, K = 2, MORE = 250 };
    static struct hit hits[FEW * MORE], other[FEW * MORE], kept[FEW * MORE];
    size_t found[COUNT];
    struct data d;
    struct search_device *device = NULL;
    data_init(&d, ROWS, DIM, APART);
    must(ops->create(0, d.row, ROWS, DIM, &device, &error));
    struct device_query query = { .queries = d.query, .query_count = FEW, .k = MORE };
    must(ops->search(device, &query, hits, found, NULL, &error));
    memset(other, 0x5a, sizeof other);
    memcpy(kept, other, sizeof kept);
    setenv("AKIN_EMULATED_MEMORY", "1", 1);
    query.query_count = COUNT;
    query.k = K;
    enum akin_status status = ops->search(device, &query, other, found, NULL, &error);
    unsetenv("AKIN_EMULATED_MEMORY");
    expect(status == AKIN_MEMORY && strstr(error.message, "bytes"), "no room", ROWS, DIM, COUNT,
           (double)status);
    expect(!memcmp(other, kept, sizeof kept), "hits of a search that failed", ROWS, DIM, COUNT, 0);
    query.query_count = FEW;
    query.k = MORE;
    for (size_t q = 0; q < FEW; q++)
        found[q] = MORE;
    check_same(&d, device, &query, hits, found, "bits, after one that failed");
    ops->destroy(&device);
    data_deinit(&d);
}
#endif

static void check_refused(void)
{
    float rows[128] = { [5] = 70000 };
    struct search_device *device = NULL;
    static const size_t dims[] = { 0, 1, 63, 100, 1088 };
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        expect(ops->create(0, rows, 1, dims[i], &device, &error) == AKIN_UNSUPPORTED && !device,
               "a dimension it has no kernels for", 1, dims[i], 0, 0);
    expect(ops->create(0, rows, 2, 64, &device, &error) == AKIN_UNSUPPORTED && !device,
           "a number beyond fp16", 2, 64, 0, 0);
    rows[5] = NAN;
    expect(ops->create(0, rows, 2, 64, &device, &error) == AKIN_UNSUPPORTED && !device, "NaN", 2,
           64, 0, 0);
    expect(ops->create(0, rows, 0, 64, &device, &error) == AKIN_UNSUPPORTED && !device, "no rows",
           0, 64, 0, 0);
}

/* ---- rates ------------------------------------------------------------------------------ */

static void print_counts(const struct search_counts *counts)
{
    static const char *const names[SEARCH_PASSES] = { "gathering", "int8", "fp16", "fp32" };
    for (int pass = 0; pass < SEARCH_PASSES; pass++)
        if (counts->proven[pass])
            printf(" %s %zu", names[pass], counts->proven[pass]);
    printf("\n");
}

/* The lists of popular items: the 200 nearest and the item itself. */
static void bench_lists(struct search_device *device)
{
    enum { LISTS = 10000, KEPT = 201, TURNS = 5 };
    struct hit *hits = must_have(memory_alloc(LISTS * KEPT, sizeof *hits));
    size_t *found = must_have(memory_alloc(LISTS, sizeof *found));
    uint32_t *numbers = must_have(memory_alloc(LISTS, sizeof *numbers));
    struct search_counts counts = { { 0 } };
    struct device_query query = { .rows = numbers, .query_count = LISTS, .k = KEPT };
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < LISTS; i++)
        numbers[i] = (uint32_t)i;
    for (int turn = -1; turn < TURNS; turn++) {
        uint64_t began = clock_monotonic_ns(), took;
        must(ops->search(device, &query, hits, found, &counts, &error));
        took = clock_monotonic_ns() - began;
        if (turn >= 0 && took < least)
            least = took;
    }
    double seconds;
    must(ops->measure(device, &query, hits, found, &seconds, &error));
    printf("10,000 lists of %d: %.2f ms; on the device's clock %.2f ms; proven by", KEPT,
           (double)least * 1e-6, seconds * 1e3);
    print_counts(&counts);
    memory_free(numbers);
    memory_free(hits);
    memory_free(found);
}

enum { ROWS = 62423, DIM = 384, CENTRES = 2000, MOST = 1000, TURNS = 15, K = 10 };
enum { WORDS = (ROWS + 63) / 64 };

/* From host memory to host memory; the median of the turns. */
static void bench_query(struct search_device *device, struct device_query *query, const char *what)
{
    static struct hit hits[MOST * K];
    static const size_t batches[] = { 1, 10, 100, 1000 };
    uint64_t took[TURNS];
    size_t found[MOST];
    struct search_counts counts = { { 0 } };
    for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
        query->query_count = batches[b];
        for (int turn = -3; turn < TURNS; turn++) {
            uint64_t began = clock_monotonic_ns();
            must(ops->search(device, query, hits, found, &counts, &error));
            if (turn >= 0)
                took[turn] = clock_monotonic_ns() - began;
        }
        qsort(took, TURNS, sizeof *took, by_clock);
        double us = (double)took[TURNS / 2] * 1e-3, seconds, least = INFINITY;
        for (int turn = 0; turn < TURNS; turn++) {
            must(ops->measure(device, query, hits, found, &seconds, &error));
            least = seconds < least ? seconds : least;
        }
        printf("%s batch %zu: %.1f us, %.0f queries/s; on the device's clock %.1f us; proven by",
               what, batches[b], us, (double)batches[b] / us * 1e6, least * 1e6);
        print_counts(&counts);
    }
}

/* Rows around centres, as texts are. Masks of half, a twentieth and a thousandth of the rows. */
static void bench(void)
{
    float *centres = must_have(memory_alloc(CENTRES * DIM, sizeof *centres));
    float *rows = must_have(memory_alloc((ROWS + MOST) * DIM, sizeof *rows));
    uint64_t *masks = must_have(memory_alloc((size_t)MOST * WORDS, sizeof *masks));
    static uint32_t mask_of[MOST];
    static const unsigned one_in[] = { 2, 20, 1000 };
    struct search_device *device = NULL;
    for (size_t i = 0; i < CENTRES * DIM; i++)
        centres[i] = rng_normal(&rng);
    for (size_t r = 0; r < ROWS + MOST; r++) {
        const float *centre = centres + rng_below(&rng, CENTRES) * DIM;
        for (size_t i = 0; i < DIM; i++)
            rows[r * DIM + i] = centre[i] + rng_normal(&rng);
        unit(rows + r * DIM, DIM);
    }
    for (size_t q = 0; q < MOST; q++)
        mask_of[q] = (uint32_t)q;
    must(ops->create(0, rows, ROWS, DIM, &device, &error));
    printf("%.1f MB resident\n", (double)ops->memory(device) * 1e-6);
    struct device_query query = { .queries = rows + (size_t)ROWS * DIM, .k = K };
    bench_query(device, &query, "all rows,");
    query.first = SEARCH_PASS_FP16;
    bench_query(device, &query, "all rows, fp16 first,");
    query.first = SEARCH_PASS_AUTO;
    query.masks = masks;
    query.mask_words = WORDS;
    for (uint64_t m = 0; m < sizeof one_in / sizeof *one_in; m++) {
        char what[64];
        memset(masks, 0, (size_t)MOST * WORDS * sizeof *masks);
        for (size_t q = 0; q < MOST; q++)
            for (size_t i = 0; i < ROWS / one_in[m]; i++) {
                size_t row = rng_below(&rng, ROWS);
                masks[q * WORDS + row / 64] |= 1ull << row % 64;
            }
        query.mask_count = MOST;
        query.mask_of = mask_of;
        snprintf(what, sizeof what, "1000 masks sent, 1 row in %u,", one_in[m]);
        bench_query(device, &query, what);
        query.masks_number = m + 1;
        snprintf(what, sizeof what, "1000 masks there, 1 row in %u,", one_in[m]);
        bench_query(device, &query, what);
        query.masks_number = 0;
        query.mask_count = 1;
        query.mask_of = NULL;
        snprintf(what, sizeof what, "one mask, 1 row in %u,", one_in[m]);
        bench_query(device, &query, what);
    }
    bench_lists(device);
    ops->destroy(&device);
    memory_free(centres);
    memory_free(rows);
    memory_free(masks);
}

static void check(const struct cuda_plugin *plugin, bool rates)
{
    ops = plugin->search;
    rng_seed(&rng, 23);
    check_refused();
    check_size(5, 64, 3, 10, APART);
    check_size(700, 64, 20, 1, APART);
    check_size(2500, 128, 3, 26, APART);
    check_size(200, 192, 33, 58, APART);
    check_size(100, 64, 2, SEARCH_DEVICE_K_MAX, APART);
    check_size(400, 64, 2, 59, ALIKE);
    check_size(300, 448, 3, 10, APART);
    check_size(70, 1024, 34, 10, APART);
    check_size(300, 64, 3, 10, NEARLY_ALIKE);
    check_size(7300, 64, 2, 10, ALIKE);
    if (CHECK_LARGE) {
        check_size(2100, 64, 70, 10, APART);
        check_size(4700, 64, 2, 201, APART);
        check_chunks();
    }
    check_masks();
    check_changes();
    check_lengths();
    check_wider_first();
#ifdef AKIN_CUDA_EMULATED
    check_no_room();
#endif
    if (rates)
        bench();
}

int main(int argc, char **argv)
{
    return device_check_main(argc, argv, "search_devicecheck [cuda [--bench]]", check);
}
