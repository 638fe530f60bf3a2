/* Inverted files on a device against index/ivfpq.h on the CPU, bit for bit: inner products and L2,
 * codes of four bits and eight, float32 and fp16, dimensions that fill nothing, rows that are alike
 * (so that ties decide), filters, few cells and all of them, few candidates and many, queries alone
 * and together.
 *
 *   ivf_devicecheck [cuda [--bench [ROWS]]]     --bench: also times over 1,000,000 rows of 384
 *
 * Exit status: 0 fine, 1 failed, 2 wrong use, 77 there is no card. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"
#include "compute/cpu/kernels.h"
#include "device_check.h"
#include "index/ivfpq_parts.h"

enum { BLOCKS = 8, QUERIES = 30 };

static const struct ivf_device_ops *ops;
static struct backend *backend;
static struct thread_pool *pool;
static struct rng rng;

/* ---- a segment in memory ------------------------------------------------------------------ */

struct built {
    struct segment_rows rows;
    struct segment_block blocks[BLOCKS];
    size_t count, room;
    struct ivfpq *ivfpq;
    struct ivfpq_header *header;    /* in its block */
};

static enum akin_status begin(void *context, uint32_t type, struct akin_error *unused)
{
    struct built *b = context;
    (void)unused;
    b->blocks[b->count++].type = type;
    b->room = 0;
    return AKIN_OK;
}

static enum akin_status append(void *context, const void *data, size_t bytes,
                               struct akin_error *unused)
{
    struct built *b = context;
    struct segment_block *last = &b->blocks[b->count - 1];
    (void)unused;
    if (last->bytes + bytes > b->room) {
        b->room = 2 * (last->bytes + bytes);
        char *grown = must_have(memory_alloc_aligned(b->room, 1));
        if (last->bytes)
            memcpy(grown, last->data, last->bytes);
        memory_free((void *)last->data);
        last->data = grown;
    }
    memcpy((char *)last->data + last->bytes, data, bytes);
    last->bytes += bytes;
    return AKIN_OK;
}

struct form {
    const char *name;
    size_t rows, dim, cells, pq_bytes, pq_bits;
    enum score score;
    enum element_type element;
    size_t copies;                  /* each row stands so often; 0: once */
};

/* Around a few centres, so that cells differ. */
static void fill(float *x, size_t dim, uint64_t centre, float noise)
{
    struct rng at;
    rng_seed(&at, centre);
    double squares = 0;
    for (size_t i = 0; i < dim; i++) {
        x[i] = rng_normal(&at) + noise * rng_normal(&rng);
        squares += (double)x[i] * (double)x[i];
    }
    for (size_t i = 0; i < dim; i++)
        x[i] = (float)((double)x[i] / sqrt(squares));
}

static float *made_rows(const struct form *f)
{
    float *rows = must_have(memory_alloc_aligned(f->rows * f->dim, sizeof *rows));
    size_t copies = f->copies ? f->copies : 1;
    for (size_t r = 0; r < f->rows; r++)
        if (r % copies)
            memcpy(rows + r * f->dim, rows + (r - 1) * f->dim, f->dim * sizeof *rows);
        else
            fill(rows + r * f->dim, f->dim, rng_below(&rng, 12), 0.7f);
    return rows;
}

/* Takes the rows over. */
static void build_rows(struct segment_rows rows, size_t cells, size_t pq_bytes, size_t pq_bits,
                       struct built *b)
{
    *b = (struct built){ .rows = rows };
    struct segment_build asked = { backend, pool, b->rows,
                                   { .seed = 3, .nlist = cells, .pq_bytes = pq_bytes,
                                     .pq_bits = pq_bits } };
    must(ivfpq_build(&asked, &(struct segment_sink){ b, begin, append }, &error));
    struct segment_blocks all = { b->blocks, b->count };
    must(ivfpq_open(backend, pool, &b->rows, &all, &b->ivfpq, &error));
    b->header = (struct ivfpq_header *)(void *)b->ivfpq->header;
}

static void build(const struct form *f, struct built *b)
{
    float *rows = made_rows(f);
    struct segment_rows own = { rows, f->element, f->rows, f->dim, f->score, NULL, 0 };
    if (f->element == ELEMENT_F16) {
        uint16_t *half = must_have(memory_alloc_aligned(f->rows * f->dim, sizeof *half));
        cpu_kernels(backend)->narrow_f16(half, rows, f->rows * f->dim);
        memory_free(rows);
        own.vectors = half;
    }
    build_rows(own, f->cells, f->pq_bytes, f->pq_bits, b);
}

static void built_free(struct built *b)
{
    ivfpq_close(&b->ivfpq);
    for (size_t i = 0; i < b->count; i++)
        memory_free((void *)b->blocks[i].data);
    memory_free((void *)b->rows.vectors);
}

/* ---- checks --------------------------------------------------------------------------------- */

struct results {
    struct hit *hits;
    size_t *found;
};

static struct results results_make(size_t k)
{
    struct results r = { must_have(memory_alloc(QUERIES * k, sizeof *r.hits)),
                         must_have(memory_alloc(QUERIES, sizeof *r.found)) };
    return r;
}

static void results_free(struct results *r)
{
    memory_free(r->hits);
    memory_free(r->found);
}

static void compare(const char *name, const char *what, size_t k, size_t count,
                    const struct results *cpu, const struct results *card, size_t at)
{
    for (size_t q = 0; q < count; q++) {
        const struct hit *a = cpu->hits + (at + q) * k, *b = card->hits + q * k;
        checks++;
        size_t found = cpu->found[at + q], i = 0;
        while (i < found && i < card->found[q] && !memcmp(&a[i], &b[i], sizeof *a))
            i++;
        if (i == found && found == card->found[q])
            continue;
        if (failures++ < 20)
            printf("FAILED %s, %s, query %zu: %zu found, should be %zu; hit %zu is row %u %.9g, "
                   "should be %u %.9g\n", name, what, at + q, card->found[q], found, i, b[i].row,
                   (double)b[i].score, a[i].row, (double)a[i].score);
    }
}

/* The same plan whatever the recall. */
static void set_plan(struct built *b, uint32_t probes, uint32_t candidates)
{
    for (size_t depth = 0; depth < IVFPQ_DEPTHS; depth++)
        for (size_t i = 0; i < IVFPQ_PLANS; i++) {
            b->header->plans[depth][i].probes = probes;
            b->header->plans[depth][i].candidates = candidates;
        }
}

/* Whether the device is asked at all: it is not for what the CPU does in another way. */
static bool check_search(const char *name, const struct built *b, struct ivf_device *device,
                         struct segment_query query, uint64_t number, size_t alone)
{
    struct results cpu = results_make(query.k), card = results_make(query.k);
    struct ivf_query asked;
    bool can = ivfpq_device_query(b->ivfpq, &query, &asked);
    if (can) {
        asked.allowed_number = number;
        must(ivfpq_search(b->ivfpq, &query, &(struct segment_hits){ cpu.hits, cpu.found }, &error));
        must(ops->search(device, &asked, card.hits, card.found, &error));
        compare(name, "together", query.k, query.count, &cpu, &card, 0);
        asked.count = 1;
        asked.queries += alone * b->rows.dim;
        for (int turn = 0; turn < 3; turn++) {      /* started, recorded, played */
            must(ops->search(device, &asked, card.hits, card.found, &error));
            compare(name, turn ? "alone again" : "alone", query.k, 1, &cpu, &card, alone);
        }
    }
    results_free(&cpu);
    results_free(&card);
    return can;
}

static void check_form(const struct form *f)
{
    struct built b;
    struct ivf_device *device = NULL;
    build(f, &b);
    struct ivf_lists lists = ivfpq_lists(b.ivfpq);
    must(ops->create(0, &lists, &device, &error));
    float *queries = must_have(memory_alloc_aligned(QUERIES * f->dim, sizeof *queries));
    size_t words = (f->rows + 63) / 64, count = 0;
    uint64_t *half = must_have(memory_alloc(words, sizeof *half));
    for (size_t q = 0; q < QUERIES; q++)
        fill(queries + q * f->dim, f->dim, rng_below(&rng, 14), 1.2f);
    memset(queries, 0, f->dim * sizeof *queries);       /* all tables are flat */
    for (size_t r = 0; r < f->rows; r++)
        if (rng_below(&rng, 2)) {
            half[r / 64] |= (uint64_t)1 << r % 64;
            count++;
        }
    uint32_t cells = b.header->cells;
    const struct {
        uint32_t probes, candidates;
        size_t k, count;
        bool masked;
    } cases[] = {
        {1, 1, 1, 3, false}, {cells / 3 + 1, 20, 10, QUERIES, false},
        {cells, 100, 10, 5, true}, {cells / 2 + 1, (uint32_t)f->rows / 3, 40, 4, true},
        {cells, (uint32_t)f->rows, 100, 2, false},
    };
    size_t asked = 0, total = sizeof cases / sizeof *cases;
    for (size_t i = 0; i < total; i++) {
        set_plan(&b, cases[i].probes, cases[i].candidates);
        struct segment_query query = {
            .queries = queries, .count = cases[i].count, .k = cases[i].k, .recall = 0.9f,
            .allowed = cases[i].masked ? half : NULL, .allowed_count = count,
        };
        asked += check_search(f->name, &b, device, query, i == 2 ? 7 : 0,
                              cases[i].count - 1);
    }
    checks++;
    if (asked + 2 < total && failures++ < 20)
        printf("FAILED %s: the device was asked in %zu of %zu cases\n", f->name, asked, total);
    memory_free(half);
    memory_free(queries);
    ops->destroy(&device);
    built_free(&b);
}

/* A number promises that the bits are the same: they are not sent again, and others are. */
static void check_numbers(void)
{
    static const struct form form = { "numbers", 3000, 64, 12, 0, 4, SCORE_INNER_PRODUCT,
                                      ELEMENT_F32, 0 };
    struct built b;
    struct ivf_device *device = NULL;
    struct hit hits[10];
    struct ivf_query asked;
    size_t found = 0, words = (form.rows + 63) / 64;
    uint64_t *bits = must_have(memory_alloc(words, sizeof *bits));
    build(&form, &b);
    struct ivf_lists lists = ivfpq_lists(b.ivfpq);
    must(ops->create(0, &lists, &device, &error));
    float query[64];
    fill(query, 64, 1, 0.5f);
    memset(bits, 0xff, words * sizeof *bits);
    struct segment_query wanted = { .queries = query, .count = 1, .k = 10, .recall = 0.9f,
                                    .allowed = bits, .allowed_count = form.rows };
    checks++;
    if (!ivfpq_device_query(b.ivfpq, &wanted, &asked)) {
        printf("FAILED numbers: the device is not asked\n");
        failures++;
    } else {
        asked.allowed_number = 1;
        must(ops->search(device, &asked, hits, &found, &error));
        uint32_t best = hits[0].row;
        bits[best / 64] &= ~((uint64_t)1 << best % 64);
        must(ops->search(device, &asked, hits, &found, &error));
        bool kept = hits[0].row == best;        /* number 1 is still what it was */
        asked.allowed_number = 2;
        must(ops->search(device, &asked, hits, &found, &error));
        bool gone = hits[0].row != best;
        checks++;
        if (!kept || !gone) {
            printf("FAILED numbers: kept %d, gone %d\n", kept, gone);
            failures++;
        }
    }
    memory_free(bits);
    ops->destroy(&device);
    built_free(&b);
}

static void refused(struct ivf_device *device, struct ivf_query query, const char *what)
{
    struct hit hits[4];
    size_t found;
    checks++;
    if (ops->search(device, &query, hits, &found, &error) == AKIN_UNSUPPORTED)
        return;
    printf("FAILED: %s is not refused\n", what);
    failures++;
}

static void check_refused(void)
{
    static const struct form form = { "refused", 600, 40, 8, 0, 4, SCORE_L2, ELEMENT_F32, 0 };
    struct built b;
    struct ivf_device *device = NULL;
    build(&form, &b);
    struct ivf_lists lists = ivfpq_lists(b.ivfpq), none = lists;
    none.rows = 0;
    checks++;
    if (ops->create(0, &none, &device, &error) != AKIN_UNSUPPORTED || device)
        failures++, printf("FAILED: no rows are not refused\n");
    must(ops->create(0, &lists, &device, &error));
    checks++;
    if (ops->memory(device) < 600 * 40 * sizeof(float))
        failures++, printf("FAILED: %zu bytes are held\n", ops->memory(device));
    float query[40] = { 1 };
    struct ivf_query good = { .queries = query, .count = 1, .k = 2, .kept = 4, .probes = 2,
                              .candidates = 4 }, bad = good;
    struct hit hits[4];
    size_t found = 0;
    must(ops->search(device, &good, hits, &found, &error));
    bad.probes = 9;
    refused(device, bad, "a ninth cell");
    bad = good, bad.probes = 0;
    refused(device, bad, "no cell");
    bad = good, bad.candidates = IVF_DEVICE_CANDIDATES_MAX + 1;
    refused(device, bad, "too many candidates");
    bad = good, bad.kept = IVF_DEVICE_KEPT_MAX + 1;
    refused(device, bad, "too many kept");
    bad = good, bad.k = 5;
    refused(device, bad, "more than are kept");
    bad = good, bad.k = 0;
    refused(device, bad, "no results");
    good.count = 0;
    must(ops->search(device, &good, hits, &found, &error));
    ops->destroy(&device);
    ops->destroy(&device);      /* is fine */
    built_free(&b);
}

/* ---- times ---------------------------------------------------------------------------------- */

enum { RECALLED = 100 };        /* the batch whose recall is told */

static void print_recall(const struct built *b, const struct segment_query *query,
                         const struct hit *hits)
{
    struct hit *truth = must_have(memory_alloc(query->count * query->k, sizeof *truth));
    size_t *found = must_have(memory_alloc(query->count, sizeof *found)), right = 0;
    struct segment_query exact = *query;
    exact.exact = true;
    must(ivfpq_search(b->ivfpq, &exact, &(struct segment_hits){ truth, found }, &error));
    for (size_t i = 0; i < query->count * query->k; i++)
        right += hits[i].score >= truth[i / query->k * query->k + query->k - 1].score;
    printf("  recall@%zu %.4f\n", query->k,
           (double)right / (double)(query->count * query->k));
    memory_free(truth);
    memory_free(found);
}

/* From host memory to host memory, the median of the turns; the CPU's beside it. */
static void bench_batch(const struct built *b, struct ivf_device *device, const float *queries,
                        size_t count, float recall)
{
    enum { TURNS = 15, K = 10 };
    uint64_t card[TURNS], cpu[3];
    struct hit *hits = must_have(memory_alloc(count * K, sizeof *hits));
    size_t *found = must_have(memory_alloc(count, sizeof *found));
    struct segment_query query = { .queries = queries, .count = count, .k = K, .recall = recall };
    struct ivf_query asked;
    if (ivfpq_device_query(b->ivfpq, &query, &asked)) {
        for (int turn = -3; turn < TURNS; turn++) {
            uint64_t began = clock_monotonic_ns();
            must(ops->search(device, &asked, hits, found, &error));
            if (turn >= 0)
                card[turn] = clock_monotonic_ns() - began;
        }
        for (int turn = 0; turn < 3; turn++) {
            uint64_t began = clock_monotonic_ns();
            must(ivfpq_search(b->ivfpq, &query, &(struct segment_hits){ hits, found }, &error));
            cpu[turn] = clock_monotonic_ns() - began;
        }
        qsort(card, TURNS, sizeof *card, by_clock);
        qsort(cpu, 3, sizeof *cpu, by_clock);
        double own[TURNS];
        for (int turn = 0; turn < TURNS; turn++)
            must(ops->measure(device, &asked, hits, found, &own[turn], &error));
        qsort(own, TURNS, sizeof *own, by_seconds);
        printf("recall %.3g (%zu of %u cells, %zu candidates), batch %zu: %.1f us, %.0f queries/s;"
               " by the device's clock %.1f us; CPU, %d threads: %.1f us\n", (double)recall,
               asked.probes, b->header->cells, asked.candidates, count,
               (double)card[TURNS / 2] * 1e-3, (double)count / (double)card[TURNS / 2] * 1e9,
               own[TURNS / 2] * 1e6, thread_pool_size(pool), (double)cpu[1] * 1e-3);
        if (count == RECALLED)
            print_recall(b, &query, hits);
    }
    memory_free(hits);
    memory_free(found);
}

/* Half of the numbers around centres, quickly: four of a random word at a time. */
static void made_bench(float *x, size_t count, size_t dim, const float *centres,
                       size_t centre_count)
{
    for (size_t r = 0; r < count; r++) {
        const float *centre = centres + rng_below(&rng, centre_count) * dim;
        float *row = x + r * dim, squares = 0;
        for (size_t i = 0; i < dim; i += 4) {
            uint64_t word = rng_next(&rng);
            for (size_t j = 0; j < 4; j++) {
                row[i + j] = centre[i + j] + (float)(int16_t)(word >> 16 * j) * 0x1p-14f;
                squares += row[i + j] * row[i + j];
            }
        }
        for (size_t i = 0; i < dim; i++)
            row[i] *= 1 / sqrtf(squares);
    }
}

static void bench(size_t rows)
{
    enum { DIM = 384, CENTRES = 2000, ASKED = 1000 };
    static const size_t batches[] = { 1, 10, 100, 1000 };
    static const float recalls[] = { 0.9f, 0.95f, 0.99f };
    struct built b;
    struct ivf_device *device = NULL;
    float *centres = must_have(memory_alloc(CENTRES * DIM, sizeof *centres));
    float *made = must_have(memory_alloc_aligned((rows + ASKED) * DIM, sizeof *made));
    for (size_t i = 0; i < CENTRES * DIM; i++)
        centres[i] = rng_normal(&rng);
    made_bench(made, rows + ASKED, DIM, centres, CENTRES);
    struct segment_rows own = { made, ELEMENT_F32, rows, DIM, SCORE_INNER_PRODUCT, NULL, 0 };
    build_rows(own, 0, 0, 4, &b);
    struct ivf_lists lists = ivfpq_lists(b.ivfpq);
    uint64_t began = clock_monotonic_ns();
    must(ops->create(0, &lists, &device, &error));
    printf("%zu rows to the device: %.0f ms\n", rows,
           (double)(clock_monotonic_ns() - began) * 1e-6);
    for (size_t r = 0; r < sizeof recalls / sizeof *recalls; r++)
        for (size_t i = 0; i < sizeof batches / sizeof *batches; i++)
            bench_batch(&b, device, made + rows * DIM, batches[i], recalls[r]);
    printf("%.1f MB of the device\n", (double)ops->memory(device) * 1e-6);
    memory_free(centres);
    ops->destroy(&device);
    built_free(&b);
}

static const struct form forms[] = {
    { "four bits", 3000, 64, 24, 0, 4, SCORE_INNER_PRODUCT, ELEMENT_F32, 0 },
    { "L2", 2500, 72, 20, 0, 4, SCORE_L2, ELEMENT_F32, 0 },
    { "eight bits", 2000, 48, 16, 0, 8, SCORE_INNER_PRODUCT, ELEMENT_F32, 0 },
    { "eight bits, L2, fp16", 1500, 50, 9, 7, 8, SCORE_L2, ELEMENT_F16, 0 },
    { "one number", 700, 1, 5, 0, 4, SCORE_L2, ELEMENT_F32, 0 },
    { "odd", 1100, 33, 30, 9, 4, SCORE_INNER_PRODUCT, ELEMENT_F16, 0 },
    { "alike", 2400, 40, 10, 0, 4, SCORE_INNER_PRODUCT, ELEMENT_F32, 300 },
    { "alike, L2", 2400, 40, 10, 0, 8, SCORE_L2, ELEMENT_F32, 2400 },
};

static long bench_rows = 1000000;

static void check(const struct cuda_plugin *plugin, bool rates)
{
    ops = plugin->ivf;
    pool = must_have(thread_pool_create(rates ? 16 : 2));
    must(cpu_backend_create(cpu_detect(), pool, &backend, &error));
    rng_seed(&rng, 29);
    check_refused();
    check_numbers();
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        check_form(&forms[i]);
    if (rates)
        bench((size_t)bench_rows);
    cpu_backend_destroy(&backend);
    thread_pool_destroy(&pool);
}

int main(int argc, char **argv)
{
    if (argc == 4) {
        bench_rows = strtol(argv[3], NULL, 10);
        if (bench_rows >= 1000 && bench_rows <= 10000000)
            argc = 3;
    }
    return device_check_main(argc, argv, "ivf_devicecheck [cuda [--bench [ROWS]]]", check);
}
