/* How many of the best estimates hold a share of the k nearest rows: measured when a segment is
 * built. Queries of people lie off the data, so no row is taken as a query: midpoints of rows, sums
 * and differences are, and the rows that they were made of do not count. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/rng.h"
#include "index/flat_handle.h"

const uint32_t flat_ks[FLAT_KS] = { 1, 10, 100 };
const float flat_recalls[FLAT_RECALLS] = { 0.7f, 0.8f, 0.9f, 0.95f, 0.97f,
                                           0.98f, 0.99f, 0.995f, 0.998f, 1 };

enum {
    QUERIES = 256,
    PARTS = 3,                  /* rows that a query is made of, at most */
    NEAREST = 100,              /* the largest of flat_ks */
    KEPT = NEAREST + PARTS,
    CHUNK_ROWS = 4096,          /* a multiple of FLAT_BLOCK_ROWS */
    CHUNK_BLOCKS = 16,          /* of estimates */
};

struct calibration {
    const struct segment_build *build;
    const struct sketch *space;
    const unsigned char *sketches;
    float *queries;             /* [QUERIES][dim] */
    float *rows;                /* [CHUNK_ROWS][dim] */
    uint32_t *parts;            /* [QUERIES][PARTS]: rows */
    struct hit *hits;           /* [QUERIES][KEPT] */
    struct hit *kept;           /* [QUERIES][KEPT]: heaps, then the nearest in front */
    size_t *found;              /* [QUERIES] */
    uint32_t *ranks;            /* [QUERIES][NEAREST]: of the nearest rows among the estimates */
    unsigned char *prepared;    /* [threads][prepared_bytes] */
    size_t prepared_bytes, nearest;
};

/* ---- queries ---------------------------------------------------------------------------- */

static const float *read_rows(const struct calibration *c, size_t first, size_t count, float *to)
{
    const struct segment_rows *rows = &c->build->rows;
    if (rows->element == ELEMENT_F32 || rows->element == ELEMENT_I8)
        return (const float *)rows->vectors + first * rows->dim;
    struct originals from = { .vectors = rows->vectors, .element = rows->element,
                              .dim = rows->dim, .score = rows->score };
    for (size_t i = 0; i < count; i++)
        originals_read(c->build->backend, &from, first + i, to + i * rows->dim);
    return to;
}

static void make_query(const struct calibration *c, struct rng *rng, size_t q)
{
    static const float weights[4][PARTS] = { { 0.5f, 0.5f, 0 }, { 0.4f, 0.3f, 0.3f },
                                             { 1, 0.5f, -0.5f }, { 1, 0.7f, 0 } };
    size_t dim = c->build->rows.dim;
    float *query = c->queries + q * dim;
    for (size_t i = 0; i < PARTS; i++) {
        size_t row = rng_below(rng, c->build->rows.count);
        const float *x = read_rows(c, row, 1, c->rows);
        c->parts[q * PARTS + i] = (uint32_t)row;
        for (size_t k = 0; k < dim; k++)
            query[k] += weights[q % 4][i] * x[k];
    }
}

static bool is_part(const struct calibration *c, size_t q, uint32_t row)
{
    for (size_t i = 0; i < PARTS; i++)
        if (c->parts[q * PARTS + i] == row)
            return true;
    return false;
}

/* ---- the truth -------------------------------------------------------------------------- */

static enum akin_status find_nearest(const struct calibration *c, struct akin_error *error)
{
    const struct segment_rows *rows = &c->build->rows;
    struct best best[QUERIES];
    for (size_t q = 0; q < QUERIES; q++)
        best[q] = (struct best){ .hits = c->kept + q * KEPT,
                                  .capacity = c->nearest + PARTS };
    size_t step = rows->element == ELEMENT_F32 || rows->element == ELEMENT_I8 ? rows->count
                                                                              : CHUNK_ROWS;
    for (size_t first = 0; first < rows->count; first += step) {
        size_t live = rows->count - first < step ? rows->count - first : step;
        struct topk_request request = {
            .rows = read_rows(c, first, live, c->rows), .row_count = live, .dim = rows->dim,
            .queries = c->queries, .query_count = QUERIES, .k = KEPT, .score = rows->score,
        };
        TRY(cpu_topk(c->build->backend, &request, c->hits, c->found, error));
        for (size_t q = 0; q < QUERIES; q++)
            for (size_t i = 0; i < c->found[q]; i++) {
                struct hit hit = c->hits[q * KEPT + i];
                hit.row += (uint32_t)first;
                best_offer(&best[q], hit);
            }
    }
    for (size_t q = 0; q < QUERIES; q++) {
        struct hit *hits = c->kept + q * KEPT;
        size_t count = best[q].count, kept = 0;
        best_drain(&best[q], hits);
        for (size_t i = 0; i < count && kept < c->nearest; i++)
            if (!is_part(c, q, hits[i].row))
                hits[kept++] = hits[i];
    }
    return AKIN_OK;
}

/* ---- ranks ------------------------------------------------------------------------------ */

static int by_float(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* above[i]: how many estimates lie above sorted[i]. */
static void count_above(const struct calibration *c, const struct sketch_query *query,
                        const float *sorted, uint32_t *above)
{
    size_t count = c->build->rows.count, bytes = sketch_block_bytes(c->space);
    size_t blocks = (count + FLAT_BLOCK_ROWS - 1) / FLAT_BLOCK_ROWS;
    uint32_t between[NEAREST + 1] = { 0 };
    for (size_t b = 0; b < blocks; b += CHUNK_BLOCKS) {
        float estimates[CHUNK_BLOCKS * FLAT_BLOCK_ROWS];
        uint32_t at[CHUNK_BLOCKS * FLAT_BLOCK_ROWS + 16];
        size_t live = blocks - b < CHUNK_BLOCKS ? blocks - b : CHUNK_BLOCKS;
        size_t rest = count - b * FLAT_BLOCK_ROWS;
        rest = rest < live * FLAT_BLOCK_ROWS ? rest : live * FLAT_BLOCK_ROWS;
        sketch_estimate(c->space, query, c->sketches + b * bytes, live, estimates);
        size_t found = pick_above(c->build->backend, at, estimates, sorted[0], rest);
        for (size_t i = 0; i < found; i++) {
            size_t j = 0;
            while (j < c->nearest && estimates[at[i]] > sorted[j])
                j++;
            between[j]++;
        }
    }
    uint32_t sum = 0;
    for (size_t i = c->nearest; i-- > 0; )
        above[i] = sum += between[i + 1];
}

static void rank_query(void *context, size_t q, int worker)
{
    const struct calibration *c = context;
    size_t bytes = sketch_block_bytes(c->space), dim = c->build->rows.dim;
    const struct sketch_query *query = sketch_prepare(
        c->space, c->queries + q * dim, c->prepared + (size_t)worker * c->prepared_bytes);
    float own[NEAREST], sorted[NEAREST], estimates[FLAT_BLOCK_ROWS];
    uint32_t above[NEAREST];
    for (size_t i = 0; i < c->nearest; i++) {
        uint32_t row = c->kept[q * KEPT + i].row;
        sketch_estimate(c->space, query, c->sketches + row / FLAT_BLOCK_ROWS * bytes, 1, estimates);
        sorted[i] = own[i] = estimates[row % FLAT_BLOCK_ROWS];
    }
    qsort(sorted, c->nearest, sizeof *sorted, by_float);
    count_above(c, query, sorted, above);
    for (size_t i = 0; i < c->nearest; i++) {
        size_t at = 0;
        while (at + 1 < c->nearest && sorted[at] < own[i])
            at++;
        c->ranks[q * NEAREST + i] = above[at] + 1;
    }
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void fill_table(const struct calibration *c, uint32_t *ranks, struct flat_header *header)
{
    for (size_t i = 0; i < FLAT_KS; i++) {
        size_t k = flat_ks[i] < c->nearest ? flat_ks[i] : c->nearest, count = QUERIES * k;
        for (size_t q = 0; q < QUERIES; q++)
            memcpy(ranks + q * k, c->ranks + q * NEAREST, k * sizeof *ranks);
        qsort(ranks, count, sizeof *ranks, by_number);
        for (size_t j = 0; j < FLAT_RECALLS; j++) {
            size_t at = (size_t)ceil((double)flat_recalls[j] * (double)count);
            header->candidates[i][j] = ranks[(at ? at : 1) - 1];
        }
        header->candidates[i][FLAT_RECALLS - 1] *= 2;
    }
}

enum akin_status flat_calibrate(const struct segment_build *build, const struct sketch *space,
                                const unsigned char *sketches, struct flat_header *header,
                                struct akin_error *error)
{
    struct calibration c = { .build = build, .space = space, .sketches = sketches };
    enum akin_status status = AKIN_OK;
    uint32_t *ranks = memory_alloc(QUERIES * NEAREST, sizeof *ranks);
    c.nearest = NEAREST;
    c.prepared_bytes = sketch_query_bytes(space);
    c.queries = memory_alloc(QUERIES, build->rows.dim * sizeof *c.queries);
    c.rows = memory_alloc_aligned(CHUNK_ROWS, build->rows.dim * sizeof *c.rows);
    c.parts = memory_alloc(QUERIES * PARTS, sizeof *c.parts);
    c.hits = memory_alloc(QUERIES * KEPT, sizeof *c.hits);
    c.kept = memory_alloc(QUERIES * KEPT, sizeof *c.kept);
    c.found = memory_alloc(QUERIES, sizeof *c.found);
    c.ranks = memory_alloc(QUERIES * NEAREST, sizeof *c.ranks);
    c.prepared = memory_alloc_aligned((size_t)thread_pool_size(build->pool), c.prepared_bytes);
    if (!ranks || !c.queries || !c.rows || !c.parts || !c.hits || !c.kept || !c.found || !c.ranks ||
        !c.prepared)
        TRY_DONE(error_memory(error));
    struct rng rng;
    rng_seed(&rng, build->settings.seed ^ 0x63616c6962726174ull);
    for (size_t q = 0; q < QUERIES; q++)
        make_query(&c, &rng, q);
    TRY_DONE(find_nearest(&c, error));
    thread_pool_each(build->pool, QUERIES, rank_query, &c);
    fill_table(&c, ranks, header);
done:
    memory_free(ranks);
    memory_free(c.queries);
    memory_free(c.rows);
    memory_free(c.parts);
    memory_free(c.hits);
    memory_free(c.kept);
    memory_free(c.found);
    memory_free(c.ranks);
    memory_free(c.prepared);
    return status;
}

/* ---- pairs of rows ------------------------------------------------------------------------ */

enum { PAIR_QUERIES = 64 };

/* Rows at equal distances, each against the block that lies as far from the end as it does from
 * the front. */
enum akin_status flat_error(const struct segment_build *build, const struct sketch *space,
                            const unsigned char *sketches, double *out, struct akin_error *error)
{
    struct calibration c = { .build = build, .space = space };
    size_t count = build->rows.count, dim = build->rows.dim, bytes = sketch_block_bytes(space);
    size_t queries = count < PAIR_QUERIES ? count : PAIR_QUERIES, pairs = 0;
    double squares = 0, sum = 0, spread = 0;
    c.rows = memory_alloc_aligned(FLAT_BLOCK_ROWS + 1, dim * sizeof *c.rows);
    c.prepared = memory_alloc_aligned(sketch_query_bytes(space), 1);
    for (size_t i = 0; c.rows && c.prepared && i < queries; i++) {
        float estimates[FLAT_BLOCK_ROWS];
        size_t row = i * (count / queries), first = (count - 1 - row) / FLAT_BLOCK_ROWS;
        const float *x = read_rows(&c, row, 1, c.rows + FLAT_BLOCK_ROWS * dim);
        const struct sketch_query *query = sketch_prepare(space, x, c.prepared);
        sketch_estimate(space, query, sketches + first * bytes, 1, estimates);
        first *= FLAT_BLOCK_ROWS;
        size_t live = count - first < FLAT_BLOCK_ROWS ? count - first : FLAT_BLOCK_ROWS;
        const float *others = read_rows(&c, first, live, c.rows);
        for (size_t j = 0; j < live; j++, pairs++) {
            float score = cpu_score(build->backend, x, others + j * dim, dim, build->rows.score);
            double off = (double)score - (double)estimates[j];
            squares += off * off;
            sum += (double)score;
            spread += (double)score * (double)score;
        }
    }
    bool done = c.rows && c.prepared;
    spread -= pairs ? sum * sum / (double)pairs : 0;
    *out = spread > 0 && isfinite(squares / spread) ? sqrt(squares / spread) : 0;
    memory_free(c.rows);
    memory_free(c.prepared);
    return done ? AKIN_OK : error_memory(error);
}

/* ---- from the table ----------------------------------------------------------------------- */

/* Between two ks as a power of k, beyond the last one in proportion. */
static double table_value(const struct flat_header *header, double k, size_t j)
{
    size_t i = 0;
    while (i + 1 < FLAT_KS && flat_ks[i] < k)
        i++;
    double here = header->candidates[i][j];
    if (flat_ks[i] < k)
        return here * k / flat_ks[i];
    if (i == 0)
        return here;
    double before = header->candidates[i - 1][j];
    double share = log(k / flat_ks[i - 1]) / log((double)flat_ks[i] / flat_ks[i - 1]);
    return before > 0 && here > before ? before * pow(here / before, share) : here;
}

/* The recall in between two of the table: candidates grow as what may be missed shrinks. */
static double for_recall(const struct flat_header *header, double k, double recall)
{
    size_t j = 0;
    while (j + 1 < FLAT_RECALLS && (double)flat_recalls[j] < recall)
        j++;
    double above = table_value(header, k, j), step;
    if (j == 0 || j + 1 == FLAT_RECALLS)
        return above;
    double low = 1 - (double)flat_recalls[j - 1], high = 1 - (double)flat_recalls[j];
    step = log(low / (1 - recall)) / log(low / high);
    double below = table_value(header, k, j - 1);
    return below + (above - below) * (step < 1 ? step : 1);
}

/* The k nearest of every third row lie as far out as the 3 k nearest of all, and a third of the
 * estimates that are above theirs are of allowed rows. A tenth is added: the table is measured on
 * some hundreds of queries. */
size_t flat_candidates(const struct flat_header *header, size_t k, float recall, size_t allowed)
{
    double rows = (double)(header->measured ? header->measured : header->count);
    double share = (double)allowed / rows;
    double wanted = ceil(1.1 * for_recall(header, (double)k / share, (double)recall) * share);
    return wanted < (double)k ? k : wanted < (double)allowed ? (size_t)wanted : allowed;
}
