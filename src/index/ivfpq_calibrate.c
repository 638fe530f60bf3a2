/* Kind "ivfpq": how many cells to probe and how many candidates to score again for a recall,
 * measured at the end of a build. For each test query and each true neighbour we note at which
 * place its cell comes, and how many rows of the cells up to there have better codes; a plan finds
 * the neighbour if it goes as far in both. The cheapest plan that reaches the target with every
 * family of queries is listed.
 *
 * Families. People's queries lie off the rows: they name what is particular about what they look
 * for and leave out what it shares with its like. A row less 0.7 of its cell's centre lies off in
 * the same way, and on film titles with typed queries needs the same cells to within a tenth; rows
 * themselves, their midpoints, or rows with noise need less than half. The sum of two rows less 0.6
 * is the second family. With L2, where less of a vector is another place, a row moves by another
 * row's residual, and the second family are midpoints. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/thread.h"
#include "index/ivfpq_parts.h"

enum { FAMILIES = 2, OFF_QUERIES = 128, MIDDLE_QUERIES = 64, QUERIES = OFF_QUERIES + MIDDLE_QUERIES,
       TRUTHS = 100, PROBE_STEPS = 64, CANDIDATE_STEPS = 36, PIECE_BLOCKS = 16 };

/* The share of what a target leaves open that is asked of the test queries on top of it: they are
 * few, and people's may be a little harder. */
static const float MARGIN = 0.2f;

/* How much of its cell's centre a query lacks. */
static const float SHARED = 0.7f, SHARED_BY_TWO = 0.6f;

static const float targets[IVFPQ_PLANS] = { 0.8f,  0.85f, 0.9f,  0.925f, 0.95f, 0.96f,
                                            0.97f, 0.98f, 0.99f, 0.995f, 0.999f };

/* Hits of all true neighbours by plan, or with `found` its first plan in candidates only. */
struct tally {
    uint32_t found[FAMILIES][IVFPQ_DEPTHS][PROBE_STEPS][CANDIDATE_STEPS];
};

struct calibration {
    const struct ivfpq *v;
    const uint32_t *position;
    const float *queries;
    size_t truths;              /* of a query */
    const struct hit *truth;    /* [QUERIES][truths] */
    uint32_t probes[PROBE_STEPS], candidates[CANDIDATE_STEPS];
    struct tally *tallies;      /* [threads] */
    struct prepared *prepared;
    uint32_t *places;           /* [threads][cells] */
};

struct neighbour {
    int64_t score;              /* by its codes */
    uint32_t place;             /* of its cell */
    bool near;                  /* one of the ten nearest */
};

static int64_t code_score(const struct calibration *c, const struct prepared *p, size_t cell,
                          uint32_t position)
{
    const struct ivfpq *v = c->v;
    uint16_t sums[PQ4_BLOCK_ROWS];
    size_t block = position / PQ4_BLOCK_ROWS;
    scan_codes(v, block, 1, block, p->tables, sums);
    return (int64_t)p->bases[cell] + sums[position % PQ4_BLOCK_ROWS];
}

/* The cell whose blocks hold an entry. */
static size_t cell_at(const struct ivfpq *v, uint32_t position)
{
    size_t low = 0, high = v->header->cells;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (v->cells[middle].first <= position / PQ4_BLOCK_ROWS)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Best score first. */
static void load_neighbours(const struct calibration *c, const struct prepared *p, size_t query,
                            const uint32_t *places, struct neighbour *neighbours)
{
    for (size_t t = 0; t < c->truths; t++) {
        uint32_t position = c->position[c->truth[query * c->truths + t].row];
        size_t cell = cell_at(c->v, position), at = t;
        struct neighbour own = { code_score(c, p, cell, position), places[cell], t < 10 };
        for (; at && neighbours[at - 1].score < own.score; at--)
            neighbours[at] = neighbours[at - 1];
        neighbours[at] = own;
    }
}

/* Counts the rows of a cell that have better codes than a neighbour: better[i] are better than i,
 * but not than i - 1. */
static void count_better(const struct calibration *c, const struct prepared *p, size_t cell,
                         const struct neighbour *neighbours, uint32_t *better)
{
    const struct ivfpq *v = c->v;
    size_t rows = v->cells[cell].rows;
    uint16_t sums[PIECE_BLOCKS * PQ4_BLOCK_ROWS];
    for (size_t row = 0; row < rows; row += PIECE_BLOCKS * PQ4_BLOCK_ROWS) {
        size_t blocks = (rows - row + PQ4_BLOCK_ROWS - 1) / PQ4_BLOCK_ROWS;
        blocks = blocks < PIECE_BLOCKS ? blocks : PIECE_BLOCKS;
        size_t count = blocks * PQ4_BLOCK_ROWS;
        count = count < rows - row ? count : rows - row;
        size_t first = v->cells[cell].first + row / PQ4_BLOCK_ROWS;
        scan_codes(v, first, blocks, first, p->tables, sums);
        for (size_t i = 0; i < count; i++) {
            int64_t score = (int64_t)p->bases[cell] + sums[i];
            if (score <= neighbours[c->truths - 1].score)
                continue;
            size_t low = 0, high = c->truths - 1;
            while (low < high) {
                size_t middle = (low + high) / 2;
                if (neighbours[middle].score < score)
                    high = middle;
                else
                    low = middle + 1;
            }
            better[low]++;
        }
    }
}

static void add_found(const struct calibration *c, const struct neighbour *neighbours,
                      const uint32_t *better, size_t step, size_t family, struct tally *tally)
{
    uint32_t ahead = 0;
    for (size_t t = 0; t < c->truths; t++) {
        ahead += better[t];
        if (neighbours[t].place >= c->probes[step])
            continue;
        size_t s = 0;
        while (s < CANDIDATE_STEPS && c->candidates[s] <= ahead)
            s++;
        if (s == CANDIDATE_STEPS)
            continue;
        tally->found[family][1][step][s]++;
        tally->found[family][0][step][s] += neighbours[t].near;
    }
}

static void measure_query(void *context, size_t query, int worker)
{
    const struct calibration *c = context;
    struct prepared *p = &c->prepared[worker];
    uint32_t *places = c->places + (size_t)worker * c->v->header->cells, better[TRUTHS] = { 0 };
    struct neighbour neighbours[TRUTHS];
    prepare(c->v, c->queries + query * c->v->rows.dim, p);
    for (uint32_t i = 0; i < c->v->header->cells; i++)
        places[p->order[i]] = i;
    load_neighbours(c, p, query, places, neighbours);
    for (size_t step = 0, done = 0; step < PROBE_STEPS; step++) {
        for (; done < c->probes[step]; done++)
            count_better(c, p, p->order[done], neighbours, better);
        add_found(c, neighbours, better, step, query >= OFF_QUERIES, &c->tallies[worker]);
    }
}

/* ---- the queries ------------------------------------------------------------------------ */

/* A row, and the centre of its cell as the segment has it. */
static void load_row(const struct calibration *c, size_t row, float *x, float *centre)
{
    const struct ivfpq *v = c->v;
    segment_row(v->backend, &v->rows, row, NULL, x);
    record_read(v, v->centroids + cell_at(v, c->position[row]) * v->stride, centre);
    for (size_t d = 0; d < v->rows.dim; d++)
        centre[d] += v->mean[d];
}

static bool make_queries(const struct calibration *c, uint64_t seed, float *queries)
{
    const struct ivfpq *v = c->v;
    size_t dim = v->rows.dim, rows = v->rows.count, count = rows < QUERIES ? rows : QUERIES;
    uint32_t sample[QUERIES], others[QUERIES];
    float *x = memory_alloc(3 * dim, sizeof *x), *centre = x ? x + dim : NULL;
    float *other_centre = x ? centre + dim : NULL;
    if (!x)
        return false;
    sample_rows(seed, rows, count, sample);
    sample_rows(seed + 1, rows, count, others);
    for (size_t i = 0; i < QUERIES; i++) {
        float *q = queries + i * dim;
        load_row(c, sample[i % count], q, centre);
        load_row(c, others[(i + i / count + 1) * 31 % count], x, other_centre);
        for (size_t d = 0; d < dim; d++) {
            if (segment_is_l2(v))
                q[d] = i < OFF_QUERIES ? q[d] + x[d] - other_centre[d] : (q[d] + x[d]) / 2;
            else if (i < OFF_QUERIES)
                q[d] -= SHARED * centre[d];
            else
                q[d] += x[d] - SHARED_BY_TWO * (centre[d] + other_centre[d]);
        }
    }
    memory_free(x);
    return true;
}

/* ---- the plans -------------------------------------------------------------------------- */

/* Geometric steps, the last one all. */
static void fill_steps(struct calibration *c)
{
    double cells = c->v->header->cells, rows = (double)c->v->rows.count;
    for (size_t i = 0; i < PROBE_STEPS; i++)
        c->probes[i] = (uint32_t)fmin(cells, ceil(pow(cells, (double)i / (PROBE_STEPS - 1))));
    for (size_t i = 0; i < CANDIDATE_STEPS; i++)
        c->candidates[i] = (uint32_t)fmin(rows, 8 * pow(1.35, (double)i));
    c->probes[PROBE_STEPS - 1] = c->v->header->cells;
    c->candidates[CANDIDATE_STEPS - 1] = (uint32_t)c->v->rows.count;
}

/* The first step of candidates with which every family reaches the target, or all of them. */
static size_t enough_candidates(const struct calibration *c, const struct tally *sum, size_t depth,
                                size_t step, float target)
{
    static const size_t queries[FAMILIES] = { OFF_QUERIES, MIDDLE_QUERIES };
    size_t deep = depth == 0 && c->truths > 10 ? 10 : c->truths, needed = 0;
    for (size_t f = 0; f < FAMILIES; f++) {
        double want = (double)(target + MARGIN * (1 - target)) * (double)(queries[f] * deep),
               found = 0;
        size_t s = 0;
        for (; s < CANDIDATE_STEPS; s++) {
            found += sum->found[f][depth][step][s];
            if (found >= want)
                break;
        }
        needed = s > needed ? s : needed;
    }
    return needed;
}

/* Nanoseconds: codes of a row at about one for each 24 groups, a block at least for each cell; a
 * record that is fetched 20. */
static struct ivfpq_plan cheapest(const struct calibration *c, const struct tally *sum,
                                  size_t depth, float target)
{
    const struct ivfpq_header *h = c->v->header;
    struct ivfpq_plan plan = { target, h->cells, (uint32_t)h->rows };
    double least = INFINITY;
    for (size_t step = 0; step < PROBE_STEPS; step++) {
        size_t s = enough_candidates(c, sum, depth, step, target);
        if (s == CANDIDATE_STEPS)
            continue;
        double share = (double)c->probes[step] / h->cells;
        double rows = share * (double)h->rows + c->probes[step] * (PQ4_BLOCK_ROWS / 2.0);
        double cost = rows * h->groups / 24 + c->candidates[s] * 20.0;
        if (cost < least) {
            least = cost;
            plan = (struct ivfpq_plan){ target, c->probes[step], c->candidates[s] };
        }
    }
    uint32_t cheap = (uint32_t)((double)plan.probes / h->cells * (double)h->rows /
                                IVFPQ_CHEAP_ROWS);
    plan.candidates = cheap > plan.candidates ? cheap : plan.candidates;
    return plan;
}

static void add_tallies(struct tally *tallies, size_t threads)
{
    uint32_t *sum = &tallies[0].found[0][0][0][0];
    for (size_t w = 1; w < threads; w++)
        for (size_t i = 0; i < sizeof *tallies / sizeof *sum; i++)
            sum[i] += (&tallies[w].found[0][0][0][0])[i];
}

static enum akin_status measure(struct calibration *c, const struct segment_build *build,
                                struct hit *truth, size_t threads, struct akin_error *error)
{
    size_t found[QUERIES];
    struct topk_request request = { .dim = c->v->rows.dim, .queries = c->queries,
                                    .query_count = QUERIES, .k = c->truths,
                                    .score = c->v->rows.score };
    struct segment_hits hits = { truth, found };
    const struct akin_progress *p = &build->settings.progress;
    if (p->update && !p->update(p->cookie, "calibrate", 0, 1))
        return error_set(error, AKIN_CANCELLED, "stopped while the index was calibrated");
    TRY(segment_topk(build->backend, &c->v->rows, &request, &hits, error));
    thread_pool_each(build->pool, QUERIES, measure_query, c);
    add_tallies(c->tallies, threads);
    return AKIN_OK;
}

enum akin_status ivfpq_calibrate(const struct ivfpq *v, const uint32_t *position,
                                 const struct segment_build *build,
                                 struct ivfpq_plan plans[IVFPQ_DEPTHS][IVFPQ_PLANS],
                                 struct akin_error *error)
{
    size_t threads = (size_t)thread_pool_size(build->pool), rows = v->rows.count;
    struct calibration c = { .v = v, .position = position,
                             .truths = rows < TRUTHS ? rows : TRUTHS };
    enum akin_status status = AKIN_OK;
    if (!rows)
        return AKIN_OK;
    float *queries = memory_alloc_aligned(QUERIES * v->rows.dim, sizeof *queries);
    struct hit *truth = memory_alloc(QUERIES * c.truths, sizeof *truth);
    c.tallies = memory_alloc(threads, sizeof *c.tallies);
    c.prepared = memory_alloc(threads, sizeof *c.prepared);
    c.places = memory_alloc(threads * v->header->cells, sizeof *c.places);
    bool fine = queries && truth && c.tallies && c.prepared && c.places;
    for (size_t i = 0; fine && i < threads; i++)
        fine = prepared_init(&c.prepared[i], v);
    if (!fine || !make_queries(&c, build->settings.seed + 3, queries))
        TRY_DONE(error_memory(error));
    c.queries = queries;
    c.truth = truth;
    fill_steps(&c);
    TRY_DONE(measure(&c, build, truth, threads, error));
    for (size_t depth = 0; depth < IVFPQ_DEPTHS; depth++)
        for (size_t i = 0; i < IVFPQ_PLANS; i++)
            plans[depth][i] = cheapest(&c, &c.tallies[0], depth, targets[i]);
done:
    for (size_t i = 0; c.prepared && i < threads; i++)
        prepared_deinit(&c.prepared[i]);
    memory_free(c.places);
    memory_free(c.prepared);
    memory_free(c.tallies);
    memory_free(truth);
    memory_free(queries);
    return status;
}
