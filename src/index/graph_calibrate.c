/* Which width gives which recall: measured on vectors like those that people's words become, which
 * lie off the rows. Truth is a comparison with every row in eight bits; what the originals add to
 * that, the search adds too. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"
#include "index/graph_builder.h"

enum { QUERIES = 256, TRUTH = 100, BLOCK_ROWS = 256, TABLES = 2 };

static const uint32_t table_k[TABLES] = { 10, 100 };

struct trial {
    struct graph_builder *builder;
    float *values;              /* [QUERIES][padded] */
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

/* Near a row but off it, nearer and farther; in the middle of three; moved from one by the
 * difference of two others. Recall on these is a little below that on what people type about films.
 */
static void make_query(struct graph_builder *b, struct rng *rng, size_t number, const float *lift,
                       float *values)
{
    static const float parts[4][3] = { { 1, 0, 0 }, { 1, 0, 0 }, { 1, 1, 1 }, { 1, 0.5f, -0.5f } };
    static const float noises[4] = { 1, 1.5f, 0.75f, 0 };
    const struct graph_view *view = &b->view;
    memset(values, 0, view->padded * sizeof *values);
    for (size_t j = 0; j < 3; j++) {
        const unsigned char *node = node_at(view, rng_below(rng, b->count));
        float factor = parts[number % 4][j] * node_tail(view, node)->scale;
        for (size_t i = 0; i < view->padded; i++)
            values[i] += factor * (float)(node_row(view, node)[i] - 128);
    }
    if (b->header.lifted)
        drop_lift(lift, values, view->padded);
    double square = 0;
    for (size_t i = 0; i < view->padded; i++)
        square += (double)values[i] * (double)values[i];
    float noise = noises[number % 4] * (float)sqrt(square / (double)b->header.dim);
    for (size_t i = 0; i < view->padded; i++)
        values[i] += noise * rng_normal(rng);
    if (b->header.lifted)
        drop_lift(lift, values, view->padded);
    for (size_t i = 0; i < view->padded && number % 4 == 2; i++)
        values[i] /= 3;
}

/* Everything compared with the queries of one worker's share. */
static void find_truth(void *context, size_t item, int worker_number)
{
    struct trial *trial = context;
    struct graph_builder *b = trial->builder;
    struct graph_worker *worker = &b->workers[worker_number];
    struct graph_near *truth = trial->truth + item * TRUTH;
    size_t count = 0;
    int32_t dots[BLOCK_ROWS];
    memcpy(worker->query.values, trial->values + item * b->view.padded,
           b->view.padded * sizeof *worker->query.values);
    graph_query_prepare(&worker->query, b->view.padded);
    int32_t correction = 128 * worker->query.byte_sum;
    for (size_t row = 0; row < b->count; row += BLOCK_ROWS) {
        size_t live = b->count - row < BLOCK_ROWS ? b->count - row : BLOCK_ROWS;
        b->view.kernels->dot_u8s8(dots, node_row(&b->view, node_at(&b->view, row)), b->view.stride,
                                  NULL, live, worker->query.bytes, b->view.padded);
        for (size_t i = 0; i < live; i++) {
            const struct graph_tail *tail = node_tail(&b->view, node_at(&b->view, row + i));
            float square = b->view.score == SCORE_L2 ? tail->square : 0;
            float distance =
                square - 2 * worker->query.scale * tail->scale * (float)(dots[i] - correction);
            if (count == TRUTH && !(distance < truth[TRUTH - 1].distance))
                continue;
            size_t at = count < TRUTH ? count++ : TRUTH - 1;
            for (; at && truth[at - 1].distance > distance; at--)
                truth[at] = truth[at - 1];
            truth[at] = (struct graph_near){ distance, (uint32_t)(row + i) };
        }
    }
    trial->truth_count[item] = count;
}

/* Found is what is as near as the k-th true one. */
static void try_query(void *context, size_t item, int worker_number)
{
    struct trial *trial = context;
    struct graph_builder *b = trial->builder;
    struct graph_worker *worker = &b->workers[worker_number];
    const struct graph_near *truth = trial->truth + item * TRUTH;
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
    struct rng rng;
    rng_seed(&rng, b->header.seed ^ 0x63616c);
    trial.values = memory_alloc_aligned(QUERIES * b->view.padded, sizeof *trial.values);
    trial.truth = memory_alloc(QUERIES * TRUTH, sizeof *trial.truth);
    trial.truth_count = memory_alloc(QUERIES, sizeof *trial.truth_count);
    trial.hits = memory_alloc(QUERIES * TABLES, sizeof *trial.hits);
    if (!trial.values || !trial.truth || !trial.truth_count || !trial.hits)
        TRY_DONE(error_memory(error));
    float *lift = b->workers[0].row;
    memset(lift, 0, b->view.padded * sizeof *lift);
    if (b->header.lifted)
        lift[b->header.dim] = 1;
    graph_rotate(&b->rotation, lift, b->workers[0].rotation);
    for (size_t q = 0; q < QUERIES; q++)
        make_query(b, &rng, q, lift, trial.values + q * b->view.padded);
    thread_pool_each(b->pool, QUERIES, find_truth, &trial);
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
    memory_free(trial.truth);
    memory_free(trial.truth_count);
    memory_free(trial.hits);
    return status;
}
