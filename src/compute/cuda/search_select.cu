// Between and behind the passes over the rows: thresholds from samples, and the answers of many
// queries from their survivors. And queries that few rows may answer, which need no pass.
#include "compute/cuda/search_cuda.cuh"

namespace {

enum { THREADS = 256, GROUPS = THREADS / GROUP };

// keys [n] of rows in shared memory get their float32 scores.
__device__ inline void rescore(const search_rows &rows, const float *query, uint64_t *keys,
                               unsigned n)
{
    for (unsigned first = 0; first < n; first += GROUPS) {      // all lanes take every turn
        unsigned i = first + threadIdx.x / GROUP;
        uint32_t row = i < n ? key_row(keys[i]) : 0;
        float score = group_dot(rows.wide + (size_t)row * rows.dim, query, rows.dim);
        if (i < n && threadIdx.x % GROUP == 0)
            keys[i] = key_of(score, row);
    }
    __syncthreads();
}

__device__ inline void load_query(float *query, const search_queries &queries, size_t number)
{
    for (size_t i = threadIdx.x; i < queries.dim; i += THREADS)
        query[i] = queries.wide[number * queries.dim + i];
}

__device__ inline void answer(const search_answers &answers, size_t number, const uint64_t *keys,
                              unsigned n, unsigned k, enum search_state state)
{
    rank_keys(keys, n, k, answers.hits + number * k);
    if (threadIdx.x == 0) {
        answers.found[number] = n < k ? n : k;
        answers.state[number] = state;
    }
}

__device__ inline int bits_of(uint64_t word)
{
    return count_bits((uint32_t)word) + count_bits((uint32_t)(word >> 32));
}

// A word of a mask; bits behind the last row stand for nothing.
__device__ inline uint64_t word_of(const uint64_t *mask, size_t i, size_t rows)
{
    if (64 * i >= rows)
        return 0;
    return rows - 64 * i >= 64 ? mask[i] : mask[i] & ((1ull << (rows - 64 * i)) - 1);
}

__global__ void __launch_bounds__(THREADS)
    few_kernel(search_scan scan, unsigned few, search_answers answers)
{
    SHARED(uint64_t, keys);             // [few]
    float *query = reinterpret_cast<float *>(keys + few);
    unsigned *counters = reinterpret_cast<unsigned *>(query + scan.rows.dim);   // passing, taken
    size_t number = blockIdx.x;
    const uint64_t *mask = mask_for(scan.mask, number);
    unsigned mine = 0;
    if (threadIdx.x < 2)
        counters[threadIdx.x] = 0;
    __syncthreads();
    for (size_t i = threadIdx.x; mask && i < scan.mask.words; i += THREADS)
        mine += (unsigned)bits_of(word_of(mask, i, scan.rows.count));
    if (mine)
        atomicAdd(&counters[0], mine);
    load_query(query, scan.queries, number);
    __syncthreads();
    unsigned passing = counters[0];
    bool gather = mask && passing <= few;
    if (threadIdx.x == 0)
        scan.gathered[number] = gather;
    if (!gather)
        return;
    for (size_t i = threadIdx.x; i < scan.mask.words; i += THREADS)
        for (uint64_t word = word_of(mask, i, scan.rows.count); word; word &= word - 1) {
            uint32_t low = (uint32_t)word;
            int bit = low ? lowest_bit(low) : 32 + lowest_bit((uint32_t)(word >> 32));
            keys[atomicAdd(&counters[1], 1)] = key_of(0, (uint32_t)(64 * i + bit));
        }
    __syncthreads();
    rescore(scan.rows, query, keys, passing);
    answer(answers, number, keys, passing, (unsigned)scan.k, SEARCH_GATHERED);
}

// Also no survivors yet.
__global__ void __launch_bounds__(THREADS) threshold_kernel(search_scan scan)
{
    SHARED(unsigned, counters);         // [SELECT_COUNTERS]
    size_t number = blockIdx.x;
    const float *maxima = scan.maxima + number * scan.subsets;
    bool answered = scan.gathered && scan.gathered[number];
    uint32_t found = 0;
    if (!answered && scan.subsets)
        found = kth_greatest([=](size_t i) { return ordered(maxima[i]); }, scan.subsets,
                             (unsigned)scan.k, THRESHOLD_LEAST, counters);
    if (threadIdx.x != 0)
        return;
    float error = scan.int8 ? scan.queries.error_int8[number] : scan.queries.error_fp16[number];
    scan.thresholds[number] = answered ? INFINITY : threshold_of(found, error);
    scan.survivor_count[number] = 0;
}

__global__ void __launch_bounds__(THREADS) select_kernel(search_scan scan, search_answers answers)
{
    SHARED(uint64_t, kept);             // [SEARCH_RESCORED]
    float *query = reinterpret_cast<float *>(kept + SEARCH_RESCORED);
    unsigned *counters = reinterpret_cast<unsigned *>(query + scan.rows.dim);
    unsigned *taken = counters + SELECT_COUNTERS;
    size_t number = blockIdx.x;
    const uint64_t *keys = scan.survivors + number * scan.room;
    unsigned n = scan.survivor_count[number];
    float error = scan.int8 ? scan.queries.error_int8[number] : scan.queries.error_fp16[number];
    if (scan.gathered && scan.gathered[number])
        return;
    if (n > scan.room || !(error < INFINITY)) {
        if (threadIdx.x == 0)
            answers.state[number] = SEARCH_UNPROVEN;
        return;
    }
    if (threadIdx.x == 0)
        *taken = 0;
    load_query(query, scan.queries, number);
    uint32_t last = kth_greatest([=](size_t i) { return (uint32_t)(keys[i] >> 32); }, n,
                                 (unsigned)scan.k, 0, counters);
    float least = threshold_of(last, error);
    for (unsigned i = threadIdx.x; i < n; i += THREADS) {
        if (!(key_score(keys[i]) >= least))
            continue;
        unsigned at = atomicAdd(taken, 1);
        if (at < SEARCH_RESCORED)
            kept[at] = keys[i];
    }
    __syncthreads();
    n = *taken;
    if (n > SEARCH_RESCORED) {          // the same in all threads
        if (threadIdx.x == 0)
            answers.state[number] = SEARCH_UNPROVEN;
        return;
    }
    rescore(scan.rows, query, kept, n);
    answer(answers, number, kept, n, (unsigned)scan.k, SEARCH_PROVEN);
}

}

void search_few(platform *p, const search_scan *scan, unsigned few, const search_answers *answers)
{
    size_t shared = few * sizeof(uint64_t) + scan->rows.dim * sizeof(float) + 2 * sizeof(unsigned);
    LAUNCH(few_kernel, (unsigned)scan->queries.count, THREADS, shared, platform_stream(p), *scan,
           few, *answers);
    platform_started(p, "a search of few rows");
}

void search_thresholds(platform *p, const search_scan *scan)
{
    LAUNCH(threshold_kernel, (unsigned)scan->queries.count, THREADS,
           SELECT_COUNTERS * sizeof(unsigned), platform_stream(p), *scan);
    platform_started(p, "thresholds of a search");
}

void search_select(platform *p, const search_scan *scan, const search_answers *answers)
{
    size_t shared = SEARCH_RESCORED * sizeof(uint64_t) + scan->rows.dim * sizeof(float)
                    + (SELECT_COUNTERS + 1) * sizeof(unsigned);
    LAUNCH(select_kernel, (unsigned)scan->queries.count, THREADS, shared, platform_stream(p),
           *scan, *answers);
    platform_started(p, "the end of a search");
}
