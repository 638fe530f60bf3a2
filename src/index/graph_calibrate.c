/* Which width gives which recall: measured on vectors like those that people's words become, which
 * lie off the rows. Truth is a comparison with every row in eight bits; what the originals add to
 * that, the search adds too. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"
#include "index/graph_builder.h"

enum {
    QUERIES = 256, TRUTH = 100, TABLES = 2,
    GROUP = 16, BLOCK_ROWS = 64,    /* queries and rows compared at a time */
};

static const uint32_t table_k[TABLES] = { 10, 100 };

struct trial {
    struct graph_builder *builder;
    float *values;              /* [QUERIES][padded] */
    int8_t *bytes;              /* [QUERIES][padded], see graph_query */
    float *scales;              /* [QUERIES] */
    int32_t *byte_sums;         /* [QUERIES] */
    struct graph_near *truth;   /* [QUERIES][TRUTH], ascending */
    size_t *truth_count;        /* [QUERIES] */
    size_t *hits;               /* [QUERIES][TABLES] */
    size_t beam;
};

size_t graph_beam_width(size_t number)
{
    return (size_t)(number % 2 ? 24 : 16) << number / 2;
}

/* Takes the part along the dimension that evens out lengths: queries have none. */
static void drop_lift(const float *lift, float *values, size_t padded)
{
    float along = 0;
    for (size_t i = 0; i < padded; i++)
        along += lift[i] * values[i];
    for (size_t i = 0; i < padded; i++)
        values[i] -= along * lift[i];
}

/* Far off a row; and off the middle of three. Both have few near rows, as people's words do: typed
 * requests about 4,000, 10,000 and 62,423 films are found a little more easily than these, while
 * vectors nearer to a row, or moved by differences of rows, are found much more easily. */
static void make_query(struct graph_builder *b, struct rng *rng, size_t number, const float *lift,
                       float *values)
{
    const struct graph_view *view = &b->view;
    bool middle = number % 2;
    memset(values, 0, view->padded * sizeof *values);
    for (size_t j = 0; j < (middle ? 3 : 1); j++) {
        const unsigned char *node = node_at(view, rng_below(rng, b->count));
        float factor = (middle ? 1 / 3.0f : 1) * node_tail(view, node)->scale;
        for (size_t i = 0; i < view->padded; i++)
            values[i] += factor * (float)(node_row(view, node)[i] - 128);
    }
    if (b->header.lifted)
        drop_lift(lift, values, view->padded);
    double square = 0;
    for (size_t i = 0; i < view->padded; i++)
        square += (double)values[i] * (double)values[i];
    float noise = (middle ? 0.75f : 1.5f) * (float)sqrt(square / (double)b->header.dim);
    for (size_t i = 0; i < view->padded; i++)
        values[i] += noise * rng_normal(rng);
    if (b->header.lifted)
        drop_lift(lift, values, view->padded);
}

static void make_queries(struct trial *trial)
{
    struct graph_builder *b = trial->builder;
    struct graph_query *query = &b->workers[0].query;
    size_t padded = b->view.padded;
    float *lift = b->workers[0].row;
    struct rng rng;
    rng_seed(&rng, b->header.seed ^ 0x63616c);
    memset(lift, 0, padded * sizeof *lift);
    if (b->header.lifted)
        lift[b->header.dim] = 1;
    graph_rotate(&b->rotation, lift, b->workers[0].rotation);
    for (size_t q = 0; q < QUERIES; q++) {
        make_query(b, &rng, q, lift, trial->values + q * padded);
        memcpy(query->values, trial->values + q * padded, padded * sizeof *query->values);
        graph_query_prepare(query, padded);
        memcpy(trial->bytes + q * padded, query->bytes, padded);
        trial->scales[q] = query->scale;
        trial->byte_sums[q] = query->byte_sum;
    }
}

/* A row into the nearest ones of query `q`. */
static void offer(struct trial *trial, size_t q, float distance, uint32_t row)
{
    struct graph_near *truth = trial->truth + q * TRUTH;
    size_t *count = &trial->truth_count[q];
    if (*count == TRUTH && !(distance < truth[TRUTH - 1].distance))
        return;
    size_t at = *count < TRUTH ? (*count)++ : TRUTH - 1;
    for (; at && truth[at - 1].distance > distance; at--)
        truth[at] = truth[at - 1];
    truth[at] = (struct graph_near){ distance, row };
}

/* Every row compared with the queries of one group. */
static void find_truth(void *context, size_t group, int worker_number)
{
    struct trial *trial = context;
    struct graph_builder *b = trial->builder;
    const struct graph_view *view = &b->view;
    (void)worker_number;
    int32_t dots[GROUP][BLOCK_ROWS];
    for (size_t row = 0; row < b->count; row += BLOCK_ROWS) {
        size_t live = b->count - row < BLOCK_ROWS ? b->count - row : BLOCK_ROWS;
        view->kernels->dot_tile_u8s8(dots[0], BLOCK_ROWS,
                                     trial->bytes + group * GROUP * view->padded, view->padded,
                                     GROUP, node_row(view, node_at(view, row)), view->stride, NULL,
                                     live, view->padded);
        for (size_t i = 0; i < live; i++) {
            const struct graph_tail *tail = node_tail(view, node_at(view, row + i));
            float square = view->score == SCORE_L2 ? tail->square : 0;
            for (size_t q = group * GROUP; q < (group + 1) * GROUP; q++) {
                int32_t dot = dots[q % GROUP][i] - 128 * trial->byte_sums[q];
                offer(trial, q, square - 2 * trial->scales[q] * tail->scale * (float)dot,
                      (uint32_t)(row + i));
            }
        }
    }
}

/* Found is what is as near as the k-th true one. What found everything is not tried wider. */
static void try_query(void *context, size_t item, int worker_number)
{
    struct trial *trial = context;
    struct graph_builder *b = trial->builder;
    struct graph_worker *worker = &b->workers[worker_number];
    const struct graph_near *truth = trial->truth + item * TRUTH;
    if (trial->hits[item * TABLES + TABLES - 1] == trial->truth_count[item])
        return;
    memcpy(worker->query.values, trial->values + item * b->view.padded,
           b->view.padded * sizeof *worker->query.values);
    graph_query_prepare(&worker->query, b->view.padded);
    graph_query_table(&worker->query, b->view.padded);
    if (!graph_walk(&b->view, &worker->query, GRAPH_NO_NODE, trial->beam, TRUTH, NULL,
                    &worker->scratch))
        worker->failed = true;
    for (size_t t = 0; t < TABLES; t++) {
        size_t k = trial->truth_count[item] < table_k[t] ? trial->truth_count[item] : table_k[t];
        size_t found = 0;
        while (found < k && found < worker->scratch.best_count &&
               worker->scratch.best[found].distance <= truth[k - 1].distance)
            found++;
        trial->hits[item * TABLES + t] = found;
    }
}

static void record(struct trial *trial, size_t number)
{
    for (size_t t = 0; t < TABLES; t++) {
        struct graph_table *table = &trial->builder->header.tables[t];
        double wanted = 0, found = 0;
        for (size_t q = 0; q < QUERIES; q++) {
            wanted += (double)(trial->truth_count[q] < table_k[t] ? trial->truth_count[q]
                                                                  : table_k[t]);
            found += (double)trial->hits[q * TABLES + t];
        }
        float recall = wanted > 0 ? (float)(found / wanted) : 1;
        table->k = table_k[t];
        table->recall[number] =
            number ? fmaxf(recall, table->recall[number - 1]) : recall;
    }
}

/* Whether wider walks need no trial: this one found everything, or a scan is cheaper than they are.
 * They are at least as good as this one. */
static bool wide_enough(struct graph_builder *b, size_t number)
{
    struct graph_table *tables = b->header.tables;
    if ((tables[0].recall[number] < 1 || tables[1].recall[number] < 1) &&
        graph_beam_width(number) * GRAPH_VISIT_COST < b->count)
        return false;
    for (size_t t = 0; t < TABLES; t++)
        for (size_t i = number + 1; i < GRAPH_BEAMS; i++)
            tables[t].recall[i] = tables[t].recall[number];
    return true;
}

enum akin_status graph_calibrate(struct graph_builder *b, struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    const struct akin_progress *progress = &b->build->settings.progress;
    struct trial trial = { .builder = b };
    trial.values = memory_alloc_aligned(QUERIES * b->view.padded, sizeof *trial.values);
    trial.bytes = memory_alloc_aligned(QUERIES * b->view.padded, sizeof *trial.bytes);
    trial.scales = memory_alloc(QUERIES, sizeof *trial.scales);
    trial.byte_sums = memory_alloc(QUERIES, sizeof *trial.byte_sums);
    trial.truth = memory_alloc(QUERIES * TRUTH, sizeof *trial.truth);
    trial.truth_count = memory_alloc(QUERIES, sizeof *trial.truth_count);
    trial.hits = memory_alloc(QUERIES * TABLES, sizeof *trial.hits);
    if (!trial.values || !trial.bytes || !trial.scales || !trial.byte_sums || !trial.truth ||
        !trial.truth_count || !trial.hits)
        TRY_DONE(error_memory(error));
    make_queries(&trial);
    thread_pool_each(b->pool, QUERIES / GROUP, find_truth, &trial);
    for (size_t number = 0; number < GRAPH_BEAMS; number++) {
        if (progress->update &&
            !progress->update(progress->cookie, "recall", number, GRAPH_BEAMS))
            TRY_DONE(error_set(error, AKIN_CANCELLED,
                               "the graph was stopped before it was finished"));
        trial.beam = graph_beam_width(number);
        for (int w = 0; w < b->worker_count; w++)
            if (!graph_scratch_reserve(&b->workers[w].scratch, trial.beam, TRUTH))
                TRY_DONE(error_memory(error));
        thread_pool_each(b->pool, QUERIES, try_query, &trial);
        TRY_DONE(graph_workers_ok(b, error));
        record(&trial, number);
        if (wide_enough(b, number))
            break;
    }
done:
    memory_free(trial.values);
    memory_free(trial.bytes);
    memory_free(trial.scales);
    memory_free(trial.byte_sums);
    memory_free(trial.truth);
    memory_free(trial.truth_count);
    memory_free(trial.hits);
    return status;
}
