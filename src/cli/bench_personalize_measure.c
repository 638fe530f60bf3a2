/* Single requests, stage by stage, and batches of ready vectors and of whole requests. Queries are
 * titles of items spread over the catalogue, people are spread over all that have a vector. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/bench_personalize.h"

enum { WARM_UPS = 20, BATCH_REPEATS = 5, VISITORS_MAX = 1000 };

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct stage_times stage_times_of(double *times, size_t count)
{
    if (!count)
        return (struct stage_times){NAN, NAN, NAN, NAN};
    double sum = 0;
    qsort(times, count, sizeof *times, ascending);
    for (size_t i = 0; i < count; i++)
        sum += times[i];
    return (struct stage_times){.mean = sum / (double)count,
                                .median = times[(count - 1) / 2],
                                .p95 = times[(count - 1) * 95 / 100],
                                .p99 = times[(count - 1) * 99 / 100]};
}

/* ---- single requests --------------------------------------------------------------------- */

/* Request i, by parts, as people's requests are answered. Without a model an item stands for the
 * query, so that the rest is the same. */
static void set_request(const struct personal_bench *b, size_t i, struct akin_request *request)
{
    struct akin_item item;
    akin_request_default(request);
    request->k = PERSONAL_K;
    request->ranking = AKIN_RANK_PARTS;
    akin_catalog_item(b->catalog, i * 7919 % b->info.items, &item);
    if (b->model)
        request->query = item.title;
    if (b->info.users)
        request->user = akin_catalog_user_id(b->catalog, i * 31 % b->info.users);
    if (!request->query && !request->user)
        request->similar = item.id;
}

static enum akin_status ask(struct personal_bench *b, size_t i, const char *context,
                            struct akin_recommend_timing *timing)
{
    struct akin_request request;
    struct akin_recommendation results[PERSONAL_K];
    size_t found;
    set_request(b, i, &request);
    request.context = context;
    return akin_recommend(b->recommender, &request, results, &found, timing, &b->cli->error);
}

/* Each person comes once, up to VISITORS_MAX: the first visit folds what was rated before. */
static enum akin_status first_visits(struct personal_bench *b)
{
    struct akin_recommend_timing timing;
    enum akin_status status = AKIN_OK;
    size_t count = b->info.users < VISITORS_MAX ? b->info.users : VISITORS_MAX;
    double *times = memory_alloc(count, sizeof *times);
    if (!times)
        return error_memory(&b->cli->error);
    for (size_t i = 0; i < count; i++) {
        TRY_DONE(ask(b, i, NULL, &timing));
        times[i] = timing.total_ms - timing.encode_ms;
    }
    b->visitors = count;
    b->first_visits = stage_times_of(times, count);
done:
    memory_free(times);
    return status;
}

/* People alone, whose new items a graph ranks; NAN without one. */
static enum akin_status ask_graph(struct personal_bench *b)
{
    enum akin_status status = AKIN_OK;
    size_t count = 0;
    double *times = memory_alloc(2 * b->queries, sizeof *times), *fresh;
    if (!times)
        return error_memory(&b->cli->error);
    fresh = times + b->queries;
    for (size_t i = 0; i < b->queries && b->info.users; i++) {
        struct akin_request request;
        struct akin_recommendation results[PERSONAL_K];
        struct akin_recommend_timing timing;
        size_t found;
        set_request(b, i, &request);
        request.query = NULL;
        TRY_DONE(akin_recommend(b->recommender, &request, results, &found, &timing,
                                &b->cli->error));
        times[count] = timing.graph_ms;
        fresh[count] = timing.new_ms;
        count += timing.graph_ms > 0;
    }
    b->graph = stage_times_of(times, count);
    b->fresh = stage_times_of(fresh, count);
done:
    memory_free(times);
    return status;
}

/* The same requests with a context, where a reranker minds it. */
static enum akin_status situations(struct personal_bench *b)
{
    struct akin_recommend_timing timing;
    enum akin_status status = AKIN_OK;
    size_t told = 0, candidates = 0;
    double *times = memory_alloc(b->queries, sizeof *times);
    if (!times)
        return error_memory(&b->cli->error);
    for (size_t i = 0; i < b->queries; i++) {
        TRY_DONE(ask(b, i, "{\"genre_prefs\": [0.7, 0.2, 0.1]}", &timing));
        if (!timing.situation_candidates)
            continue;
        candidates += timing.situation_candidates;
        times[told++] = timing.situation_ms;
    }
    b->situation_candidates = told ? candidates / told : 0;
    b->situation = stage_times_of(times, told);
done:
    memory_free(times);
    return status;
}

enum akin_status personal_latency(struct personal_bench *b)
{
    struct akin_recommend_timing timing;
    double *times[STAGES + 1];
    enum akin_status status = AKIN_OK;
    uint64_t began = akin_clock_ns();
    TRY(ask(b, b->queries + WARM_UPS, NULL, &timing));
    b->cold_ms = ms_since(began);
    TRY(first_visits(b));
    for (size_t i = 0; i < WARM_UPS; i++)
        TRY(ask(b, b->queries + i, NULL, &timing));
    double *block = memory_alloc(b->queries * (STAGES + 1), sizeof *block);
    if (!block)
        return error_memory(&b->cli->error);
    for (size_t s = 0; s <= STAGES; s++)
        times[s] = block + s * b->queries;
    for (size_t i = 0; i < b->queries; i++) {
        began = akin_clock_ns();
        TRY_DONE(ask(b, i, NULL, &timing));
        times[STAGE_TOTAL][i] = ms_since(began);
        times[STAGE_ENCODE][i] = timing.encode_ms;
        times[STAGE_FUSE][i] = timing.fuse_ms;
        times[STAGE_FILTER][i] = timing.filter_ms;
        times[STAGE_SEARCH][i] = timing.search_ms;
        times[STAGES][i] = times[STAGE_TOTAL][i] - timing.encode_ms;
        TRY_DONE(check_interrupted(b->cli));
    }
    for (size_t s = 0; s < STAGES; s++)
        b->stages[s] = stage_times_of(times[s], b->queries);
    b->without_encoding = stage_times_of(times[STAGES], b->queries);
    if (!b->model)
        b->stages[STAGE_ENCODE] = stage_times_of(NULL, 0);
    TRY_DONE(ask_graph(b));
    TRY_DONE(situations(b));
done:
    memory_free(block);
    return status;
}

/* ---- batches ----------------------------------------------------------------------------- */

struct batch_call {
    struct personal_bench *bench;
    float *vectors;                      /* [count][dimension] */
    struct akin_recommendation *results; /* [count][PERSONAL_K] */
    size_t *found;
    size_t count;
};

static enum akin_status call_batch(void *context)
{
    struct batch_call *call = context;
    return akin_recommend_vectors(call->bench->recommender, call->vectors, call->count, PERSONAL_K,
                                  NULL, call->results, call->found, &call->bench->cli->error);
}

/* 0.7 item + 0.3 person, the mixture of a request with both. */
static void set_vectors(const struct personal_bench *b, size_t first, size_t count, float *vectors)
{
    size_t dimension = b->info.dimension;
    for (size_t i = 0; i < count; i++) {
        const float *item =
            akin_catalog_item_vector(b->catalog, (first + i) * 7919 % b->info.items);
        const float *user = b->info.users_with_vector
                                ? akin_catalog_user_vector(
                                      b->catalog, (first + i) * 31 % b->info.users_with_vector)
                                : NULL;
        float *vector = vectors + i * dimension;
        memcpy(vector, item, dimension * sizeof *vector);
        for (size_t d = 0; user && d < dimension; d++)
            vector[d] = 0.7f * vector[d] + 0.3f * user[d];
    }
}

/* People alone, by parts: nothing is encoded. */
struct people_call {
    struct personal_bench *bench;
    struct akin_request *requests;
    struct akin_answer *answers;
    size_t count;
};

static enum akin_status call_people(void *context)
{
    struct people_call *call = context;
    return akin_recommend_batch(call->bench->recommender, call->requests, call->count,
                                call->answers, &call->bench->cli->error);
}

static enum akin_status measure_people(struct personal_bench *b,
                                       struct akin_recommendation *results)
{
    enum akin_status status = AKIN_OK;
    size_t most = b->batches[PERSONAL_BATCHES - 1].size;
    struct people_call call = { .bench = b, .requests = memory_alloc(most, sizeof *call.requests),
                                .answers = memory_alloc(most, sizeof *call.answers) };
    if (!call.requests || !call.answers)
        TRY_DONE(error_memory(&b->cli->error));
    for (size_t i = 0; i < most; i++) {
        set_request(b, i, &call.requests[i]);
        call.requests[i].query = NULL;
        call.answers[i].results = results + i * PERSONAL_K;
    }
    for (size_t i = 0; i < PERSONAL_BATCHES; i++) {
        b->batches[i].people_ms = NAN;
        call.count = b->batches[i].size;
        if (b->info.users)
            TRY_DONE(bench_median_ms(call_people, &call, 1, BATCH_REPEATS,
                                     &b->batches[i].people_ms));
    }
done:
    memory_free(call.requests);
    memory_free(call.answers);
    return status;
}

enum akin_status personal_throughput(struct personal_bench *b)
{
    static const size_t sizes[PERSONAL_BATCHES] = {10, 100, 1000};
    size_t dimension = b->info.dimension, most = sizes[PERSONAL_BATCHES - 1];
    enum akin_status status = AKIN_OK;
    struct batch_call call = {
        .bench = b,
        .vectors = memory_alloc_aligned(most, dimension * sizeof(float)),
        .results = memory_alloc(most, PERSONAL_K * sizeof(struct akin_recommendation)),
        .found = memory_alloc(most, sizeof(size_t))};
    if (!call.vectors || !call.results || !call.found)
        TRY_DONE(error_memory(&b->cli->error));
    for (size_t i = 0; i < PERSONAL_BATCHES; i++) {
        struct personal_batch *batch = &b->batches[i];
        batch->size = call.count = sizes[i];
        set_vectors(b, i * most, call.count, call.vectors);
        TRY_DONE(bench_median_ms(call_batch, &call, 0, 1, &batch->cold_ms));
        TRY_DONE(bench_median_ms(call_batch, &call, 1, BATCH_REPEATS, &batch->warm_ms));
    }
    TRY_DONE(measure_people(b, call.results));
done:
    memory_free(call.vectors);
    memory_free(call.results);
    memory_free(call.found);
    return status;
}
