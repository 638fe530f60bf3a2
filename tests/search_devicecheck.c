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
#ifdef AKIN_CUDA_EMULATED
#include "compute/cuda/cuda_search.h"
#else
#include "compute/cuda_plugin.h"
#endif

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

static void unit(float *x, size_t dim)
{
    double squares = 0;
    for (size_t i = 0; i < dim; i++)
        squares += (double)x[i] * (double)x[i];
    for (size_t i = 0; i < dim; i++)
        x[i] = (float)((double)x[i] / sqrt(squares));
}

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

static void run(struct data *d, struct search_device *device, size_t count, size_t k, bool masked,
                enum likeness likeness, size_t checked)
{
    struct hit *hits = must_have(memory_alloc(QUERIES_MAX * k, sizeof *hits));
    struct hit *alone = must_have(memory_alloc(k, sizeof *alone));
    size_t found[QUERIES_MAX], found_alone;
    struct search_counts passes = { { 0 } };
    struct device_query query = { .queries = d->query, .query_count = count, .k = k };
    if (masked) {
        query.masks = d->masks;
        query.mask_of = d->mask_of;
        query.mask_count = MASKS;
        query.mask_words = d->words;
    }
    must(ops->search(device, &query, hits, found, &passes, &error));
    for (size_t q = 0; q < count; q += count / checked ? count / checked : 1) {
        check_hits(d, q, masked, k, hits + q * k, found[q]);
        if (likeness == ALIKE && !masked)
            check_ties(d, q, hits + q * k, found[q]);
    }
    size_t again = passes.proven[SEARCH_PASS_FP32];
    expect(again <= count, "done again", d->rows, d->dim, count, (double)again);
    if (likeness == NEARLY_ALIKE)       /* or the test does not reach the second pass */
        expect(again > 0, "done again", d->rows, d->dim, count, (double)again);
    size_t q = count - 1;
    query.queries += q * d->dim;
    query.query_count = 1;
    if (masked && d->mask_of[q] == UINT32_MAX)
        query.masks = NULL;
    else if (masked)                    /* its mask as the one for all */
        query.masks += d->mask_of[q] * d->words;
    query.mask_of = NULL;
    must(ops->search(device, &query, alone, &found_alone, NULL, &error));
    expect(found_alone == found[q] && !memcmp(alone, hits + q * k, found[q] * sizeof *alone),
           "bits, alone", d->rows, d->dim, q, (double)found_alone);
    memory_free(hits);
    memory_free(alone);
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

/* The lists of popular items: the 200 nearest and the item itself. */
static void bench_lists(struct search_device *device, const float *rows)
{
    enum { LISTS = 10000, KEPT = 201, TURNS = 5 };
    struct hit *hits = must_have(memory_alloc(LISTS * KEPT, sizeof *hits));
    size_t *found = must_have(memory_alloc(LISTS, sizeof *found));
    struct search_counts passes = { { 0 } };
    struct device_query query = { .queries = rows, .query_count = LISTS, .k = KEPT };
    uint64_t least = UINT64_MAX;
    for (int turn = -1; turn < TURNS; turn++) {
        uint64_t began = clock_monotonic_ns(), took;
        must(ops->search(device, &query, hits, found, &passes, &error));
        took = clock_monotonic_ns() - began;
        if (turn >= 0 && took < least)
            least = took;
    }
    printf("10,000 lists of %d: %.2f ms, %zu done again\n", KEPT, (double)least * 1e-6,
           passes.proven[SEARCH_PASS_FP32]);
    memory_free(hits);
    memory_free(found);
}

/* From host memory to host memory; the median of the turns. Rows around centres, as texts are. */
static void bench(void)
{
    enum { ROWS = 62423, DIM = 384, CENTRES = 2000, MOST = 1000, TURNS = 15, K = 10 };
    static const size_t batches[] = { 1, 10, 100, 1000 };
    float *centres = must_have(memory_alloc(CENTRES * DIM, sizeof *centres));
    float *rows = must_have(memory_alloc((ROWS + MOST) * DIM, sizeof *rows));
    struct hit *hits = must_have(memory_alloc(MOST * K, sizeof *hits));
    uint64_t *masks = must_have(memory_alloc(8 * ((ROWS + 63) / 64), sizeof *masks));
    uint32_t mask_of[MOST];
    size_t found[MOST];
    struct search_counts passes = { { 0 } };
    struct search_device *device = NULL;
    for (size_t i = 0; i < CENTRES * DIM; i++)
        centres[i] = rng_normal(&rng);
    for (size_t r = 0; r < ROWS + MOST; r++) {
        const float *centre = centres + rng_below(&rng, CENTRES) * DIM;
        for (size_t i = 0; i < DIM; i++)
            rows[r * DIM + i] = centre[i] + rng_normal(&rng);
        unit(rows + r * DIM, DIM);
    }
    for (size_t i = 0; i < 8 * ((ROWS + 63) / 64); i++)
        masks[i] = rng_next(&rng) & rng_next(&rng);
    for (size_t q = 0; q < MOST; q++)
        mask_of[q] = (uint32_t)(q % 8);
    must(ops->create(0, rows, ROWS, DIM, &device, &error));
    for (int masked = 0; masked < 2; masked++)
        for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
            uint64_t took[TURNS];
            struct device_query query = { .queries = rows + ROWS * DIM, .query_count = batches[b],
                                          .k = K };
            if (masked) {
                query.masks = masks;
                query.mask_of = mask_of;
                query.mask_count = 8;
                query.mask_words = (ROWS + 63) / 64;
            }
            for (int turn = -3; turn < TURNS; turn++) {
                uint64_t began = clock_monotonic_ns();
                must(ops->search(device, &query, hits, found, &passes, &error));
                if (turn >= 0)
                    took[turn] = clock_monotonic_ns() - began;
            }
            for (int i = 1; i < TURNS; i++)     /* insertion sort */
                for (int j = i; j > 0 && took[j] < took[j - 1]; j--) {
                    uint64_t kept = took[j];
                    took[j] = took[j - 1];
                    took[j - 1] = kept;
                }
            double us = (double)took[TURNS / 2] * 1e-3;
            printf("%s batch %zu: %.1f us, %.0f queries/s, %zu done again\n",
                   masked ? "a mask each," : "all rows,", batches[b], us,
                   (double)batches[b] / us * 1e6, passes.proven[SEARCH_PASS_FP32]);
        }
    bench_lists(device, rows);
    ops->destroy(&device);
    memory_free(centres);
    memory_free(rows);
    memory_free(hits);
    memory_free(masks);
}

int main(int argc, char **argv)
{
    bool rates = argc == 3 && !strcmp(argv[2], "--bench");
    if (argc > 3 || (argc > 1 && strcmp(argv[1], "cuda")) || (argc == 3 && !rates)) {
        fputs("usage: search_devicecheck [cuda [--bench]]\n", stderr);
        return 2;
    }
#ifdef AKIN_CUDA_EMULATED
    ops = cuda_search_ops();
#else
    const struct cuda_plugin *plugin;
    if (cuda_plugin_load(NULL, &plugin, &error) != AKIN_OK || plugin->device_count() == 0) {
        printf("skipped: no card (%s)\n", error.message);
        return 77;
    }
    ops = plugin->search;
#endif
    rng_seed(&rng, 23);
    check_refused();
    check_size(5, 64, 3, 10, APART);
    check_size(700, 64, 20, 1, APART);
    check_size(900, 128, 140, 10, APART);
    check_size(700, 64, 33, 26, APART);
    check_size(700, 64, 33, 58, APART);
    check_size(1700, 64, 33, 201, APART);
    check_size(100, 64, 2, SEARCH_DEVICE_K_MAX, APART);
    check_size(400, 64, 2, 59, ALIKE);
    check_size(300, 448, 3, 10, APART);
    check_size(200, 832, 3, 58, APART);
    check_size(600, 64, 4, 10, NEARLY_ALIKE);
    check_size(600, 64, 4, 10, ALIKE);
    if (rates)
        bench();
    printf("search_devicecheck: %d checks, %d failed\n", checks, failures);
    return failures > 0;
}
