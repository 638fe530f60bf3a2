// Behind the search: what the past's rows weigh is summed in a table in shared memory, the best of
// it, of text and of popularity become candidates, and these are scored and sorted. A block has one
// request. Rows of the past are added one after the other, each weight by a thread, so that every
// sum has one order; the order in which rows enter the table decides nothing, since what comes out
// is sorted by key.
#include "compute/cuda/personal_cuda.cuh"

namespace {

enum {
    WARPS = PERSONAL_WARPS, THREADS = PERSONAL_THREADS,
    SLOTS = 8192,                       // of the table, at most half of them taken
    KEYS = 4096,                        // that are sorted
    CANDIDATES = 3 * PERSONAL_OFFERS_MAX,
    SCALE_BEST = 10,                    // whose mean is the scale of taste
    FLOOR_BEST = 100,                   // which of what was said is 0
    ROWS = 4,                           // that a warp reads at once
    PIECE = 128,                        // numbers of a row that a warp reads at once
};

#define EMPTY 0xffffffffu

static_assert(PERSONAL_PAST_MAX * PERSONAL_ROW_MAX <= KEYS && 2 * KEYS <= SLOTS, "room for all");
static_assert((int)PERSONAL_MODEL_MAX + (int)PERSONAL_OFFERS_MAX <= (int)KEYS, "room for all");
static_assert((int)CANDIDATES <= (int)KEYS && (int)PERSONAL_ROW_MAX <= (int)THREADS, "as well");
static_assert(sizeof(struct item_weight) == sizeof(uint64_t), "read as one");

struct room {
    uint64_t *keys;             // [KEYS]
    uint32_t *table_rows;       // [SLOTS]
    float *table_values;        // [SLOTS]
    float *vector;              // [dim]
    uint32_t *candidates;       // [CANDIDATES]
    float *texts;               // [CANDIDATES]
    unsigned *counts;           // [WARPS] of warps; and then
    unsigned *shared;           // keys; taken
};

__host__ __device__ constexpr size_t room_bytes(size_t dim)
{
    return KEYS * sizeof(uint64_t) + SLOTS * (sizeof(uint32_t) + sizeof(float))
           + dim * sizeof(float) + CANDIDATES * (sizeof(uint32_t) + sizeof(float))
           + (WARPS + 2) * sizeof(unsigned);
}

__device__ inline room room_in(uint64_t *keys, size_t dim)
{
    room r;
    r.keys = keys;
    r.table_rows = reinterpret_cast<uint32_t *>(keys + KEYS);
    r.table_values = reinterpret_cast<float *>(r.table_rows + SLOTS);
    r.vector = r.table_values + SLOTS;
    r.candidates = reinterpret_cast<uint32_t *>(r.vector + dim);
    r.texts = reinterpret_cast<float *>(r.candidates + CANDIDATES);
    r.counts = reinterpret_cast<unsigned *>(r.texts + CANDIDATES);
    r.shared = r.counts + WARPS;
    return r;
}

__device__ inline unsigned first_slot(uint32_t row)
{
    return row * 2654435761u >> 19;     // Knuth's multiplier; the upper 13 bits
}
static_assert(SLOTS == 1 << 13, "of the hash");

__device__ inline float look_up(const room &r, uint32_t row)
{
    for (unsigned at = first_slot(row);; at = (at + 1) % SLOTS) {
        uint32_t found = r.table_rows[at];
        if (found == row)
            return r.table_values[at];
        if (found == EMPTY)
            return 0;
    }
}

// No two threads bring the same row at once.
__device__ inline void add(const room &r, uint32_t row, float value)
{
    unsigned at = first_slot(row);
    for (;;) {
        uint32_t found = atomicCAS(&r.table_rows[at], EMPTY, row);
        if (found == EMPTY || found == row)
            break;
        at = (at + 1) % SLOTS;
    }
    r.table_values[at] += value;
}

// The place of each thread that says yes, counted from *r.shared[1], which moves on; all threads of
// the block, in their order.
__device__ inline unsigned place_of(const room &r, bool yes)
{
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, before = r.shared[1], all = 0;
    uint32_t ballot = warp_ballot(yes);
    if (lane == 0)
        r.counts[warp] = (unsigned)count_bits(ballot);
    __syncthreads();
    for (unsigned w = 0; w < WARPS; w++) {
        before += w < warp ? r.counts[w] : 0;
        all += r.counts[w];
    }
    unsigned place = before + (unsigned)count_bits(ballot & ((1u << lane) - 1));
    __syncthreads();
    if (threadIdx.x == 0)
        r.shared[1] += all;
    __syncthreads();
    return place;
}

// ---- taste ----------------------------------------------------------------------------------

__device__ inline void gather_past(const room &r, const rank_job &j,
                                   const personal_request *request)
{
    uint64_t mine[PERSONAL_PAST_MAX];           // what this thread adds, all on its way at once
    for (unsigned i = threadIdx.x; i < SLOTS; i += THREADS) {
        r.table_rows[i] = EMPTY;
        r.table_values[i] = 0;
    }
    UNROLL
    for (int e = 0; e < PERSONAL_PAST_MAX; e++) {
        mine[e] = 0;
        if (e < (int)request->past_count) {
            uint64_t at = j.starts[request->past[e]] + threadIdx.x;
            if (at < j.starts[request->past[e] + 1])
                mine[e] = *reinterpret_cast<const uint64_t *>(j.entries + at);
        }
    }
    __syncthreads();
    UNROLL
    for (int e = 0; e < PERSONAL_PAST_MAX; e++) {
        if (e >= (int)request->past_count)
            break;                              // the same for all
        float weight = bits_score((uint32_t)(mine[e] >> 32));
        float value = request->past_weights[e] * weight;
        if (weight > 0 && value > 0)            // of others nobody knows what they name
            add(r, (uint32_t)mine[e], value);
        __syncthreads();
    }
}

// Keys [r.shared[0]], sorted; how many.
__device__ inline unsigned sort_keys_here(const room &r)
{
    unsigned padded = 2;
    __syncthreads();
    unsigned count = r.shared[0];
    while (padded < count)
        padded *= 2;
    for (unsigned i = count + threadIdx.x; i < padded; i += THREADS)
        r.keys[i] = 0;
    __syncthreads();
    block_sort(r.keys, padded);
    return count;
}

// All that was gathered as keys, sorted; how many.
__device__ inline unsigned sort_gathered(const room &r)
{
    for (unsigned i = threadIdx.x; i < SLOTS; i += THREADS)
        if (r.table_rows[i] != EMPTY)
            r.keys[atomicAdd(&r.shared[0], 1)] = key_of(r.table_values[i], r.table_rows[i]);
    return sort_keys_here(r);
}

__device__ inline float scale_of(const room &r, unsigned count)
{
    double sum = 0;
    unsigned best = count < SCALE_BEST ? count : (unsigned)SCALE_BEST;
    for (unsigned i = 0; i < best; i++)
        sum += (double)key_score(r.keys[i]);
    return sum > 0 ? (float)(sum / (double)best) : 1;
}

// ---- what a model says ----------------------------------------------------------------------

// How taste is told, and what text weighs beside it.
struct told {
    const float *said, *standing;       // of the model's items, of the others; NULL: gathered
    float floor, scale, text;
};

// Of the model's items all that may be found, of the others the first `most`, as keys, sorted.
__device__ inline unsigned sort_said(const room &r, const rank_job &j, const uint64_t *allowed,
                                     const told &t, const uint32_t *order, unsigned most)
{
    for (unsigned i = threadIdx.x; i < j.taste.size; i += THREADS)
        if (passes(allowed, j.taste.items[i]))
            r.keys[atomicAdd(&r.shared[0], 1)] = key_of(t.said[i], j.taste.items[i]);
    for (unsigned at = 0; at < j.others && r.shared[1] < most; at += THREADS) {
        unsigned i = at + threadIdx.x;
        bool yes = i < j.others && passes(allowed, order[i]);
        if (place_of(r, yes) < most && yes)
            r.keys[atomicAdd(&r.shared[0], 1)] = key_of(t.standing[order[i]], order[i]);
    }
    __syncthreads();
    if (threadIdx.x == 0)
        r.shared[1] = 0;
    return sort_keys_here(r);
}

__device__ inline void tell(const room &r, const rank_job &j, const personal_request *request,
                            unsigned count, told &t)
{
    double sum = 0;
    unsigned front = count < FLOOR_BEST ? count : (unsigned)FLOOR_BEST;
    unsigned best = count < SCALE_BEST ? count : (unsigned)SCALE_BEST;
    if (count == 0)
        return;
    t.floor = key_score(r.keys[front - 1]);
    for (unsigned i = 0; i < best; i++)
        sum += (double)(key_score(r.keys[i]) - t.floor);
    t.scale = sum > 0 ? (float)(sum / (double)best) : 1;
    t.text += request->taste * (j.taste.moods[request->mood].text / t.scale - request->told_text);
}

__device__ inline float taste_of(const room &r, const rank_job &j, const told &t, uint32_t row)
{
    if (!t.said)
        return look_up(r, row) / t.scale;
    uint32_t place = j.taste.places[row];
    return ((place == UINT32_MAX ? t.standing[row] : t.said[place]) - t.floor) / t.scale;
}

// ---- candidates -----------------------------------------------------------------------------

// Rows that may be found, in their order, from place r.shared[1] on; at most `most`. `row_of` has
// row i of `count`.
template <typename F>
__device__ inline void offer(const room &r, const uint64_t *allowed, unsigned count, unsigned most,
                             F row_of)
{
    unsigned begin = r.shared[1], end = begin + most;
    for (unsigned at = 0; at < count && r.shared[1] < end; at += THREADS) {
        unsigned i = at + threadIdx.x;
        uint32_t row = i < count ? row_of(i) : EMPTY;
        bool yes = row != EMPTY && passes(allowed, row);
        unsigned place = place_of(r, yes);
        if (yes && place < end)
            r.candidates[place] = row;
    }
    __syncthreads();
    if (threadIdx.x == 0 && r.shared[1] > end)
        r.shared[1] = end;
    __syncthreads();
}

// Products of ROWS candidates with the vector, by a warp.
__device__ inline void multiply(const room &r, const rank_job &j, unsigned first, unsigned count)
{
    unsigned lane = threadIdx.x % 32;
    const float *rows[ROWS];
    float sums[ROWS] = {};
    UNROLL
    for (unsigned i = 0; i < ROWS; i++)
        rows[i] = j.rows.wide + (size_t)r.candidates[first + i < count ? first + i : first]
                                    * j.rows.dim;
    for (size_t at = 4 * lane; at < j.rows.dim; at += PIECE) {
        uint4 pieces[ROWS];
        UNROLL
        for (unsigned i = 0; i < ROWS; i++)
            pieces[i] = *reinterpret_cast<const uint4 *>(rows[i] + at);
        UNROLL
        for (unsigned i = 0; i < ROWS; i++) {
            sums[i] = fmaf(bits_score(pieces[i].x), r.vector[at], sums[i]);
            sums[i] = fmaf(bits_score(pieces[i].y), r.vector[at + 1], sums[i]);
            sums[i] = fmaf(bits_score(pieces[i].z), r.vector[at + 2], sums[i]);
            sums[i] = fmaf(bits_score(pieces[i].w), r.vector[at + 3], sums[i]);
        }
    }
    UNROLL
    for (unsigned i = 0; i < ROWS; i++) {
        float product = warp_sum(sums[i]);
        if (lane == 0 && first + i < count)
            r.texts[first + i] = product;
    }
}

__device__ inline float popularity_of(const rank_job &j, uint32_t row)
{
    return j.popularity ? j.popularity[row] : 0;
}

// Candidates [count] as keys, sorted. One that was offered twice has the same key twice.
__device__ inline void score(const room &r, const rank_job &j, const personal_request *request,
                             unsigned count, bool points, const told &t)
{
    unsigned padded = 2;
    for (unsigned i = ROWS * (threadIdx.x / 32); i < count; i += ROWS * WARPS)
        multiply(r, j, i, count);
    __syncthreads();
    while (padded < count)
        padded *= 2;
    for (unsigned i = threadIdx.x; i < padded; i += THREADS) {
        uint64_t key = 0;
        if (i < count) {
            uint32_t row = r.candidates[i];
            float text = t.text * (points ? r.texts[i] : 0);
            float taste = request->taste * taste_of(r, j, t, row);
            float popular = request->popularity * popularity_of(j, row);
            key = key_of(text + taste + popular + 0.0f, row);   // -0 is 0
        }
        r.keys[i] = key;
    }
    __syncthreads();
    block_sort(r.keys, padded);
}

// The parts of a result, by a warp.
__device__ inline void write(const room &r, const rank_job &j, const personal_request *request,
                             uint64_t key, unsigned count, bool points, const told &t,
                             struct personal_result *result)
{
    unsigned lane = threadIdx.x % 32;
    uint32_t row = key_row(key);
    for (unsigned at = 0; at < count; at += 32) {
        bool here = at + lane < count && r.candidates[at + lane] == row;
        uint32_t ballot = warp_ballot(here);
        if (!ballot)
            continue;
        if (here && (ballot & ((1u << lane) - 1)) == 0) {
            result->row = row;
            result->score = key_score(key);
            result->similarity = points ? r.texts[at + lane] : 0;
            result->text = t.text * result->similarity;
            result->taste = request->taste * taste_of(r, j, t, row);
            result->popularity = request->popularity * popularity_of(j, row);
        }
        return;
    }
}

// What the block wrote is there before the ticket is.
__device__ inline void tell_host(const rank_job &j, bool points)
{
    __syncthreads();
    if (threadIdx.x != 0)
        return;
    *j.proven_there = points ? *j.proven : (uint32_t)SEARCH_PROVEN;
    __threadfence_system();
    *static_cast<volatile uint32_t *>(j.ticket) = j.number;
}

__global__ void __launch_bounds__(THREADS, 2) rank_kernel(rank_job j)
{
    SHARED(uint64_t, block);
    room r = room_in(block, j.rows.dim);
    size_t number = j.first + blockIdx.x;
    const personal_request *request = j.requests + number;
    const uint64_t *allowed = mask_for(j.mask, number);
    bool points = j.points[number] == POINTS;
    for (size_t i = threadIdx.x; i < j.rows.dim; i += THREADS)
        r.vector[i] = j.vectors[number * j.rows.dim + i];
    if (threadIdx.x < 2)
        r.shared[threadIdx.x] = 0;
    told t = {nullptr, nullptr, 0, 1, request->text};
    unsigned best = 0;
    if (request->mood != PERSONAL_NO_MOOD) {
        const personal_mood &mood = j.taste.moods[request->mood];
        t.said = j.said + number * j.taste.size;
        t.standing = mood.standing;
        __syncthreads();
        best = sort_said(r, j, allowed, t, mood.order, j.offers);
        tell(r, j, request, best, t);
        best = best < j.offers ? best : j.offers;
    } else {
        gather_past(r, j, request);
        best = request->past_count ? sort_gathered(r) : 0;
        t.scale = scale_of(r, best);
    }
    offer(r, allowed, best, j.offers, [&](unsigned i) { return key_row(r.keys[i]); });
    if (points) {
        const struct hit *hits = j.hits + number * j.text_offers;
        offer(r, j.texted, j.hits_found[number], j.text_offers,
              [&](unsigned i) { return (uint32_t)hits[i].row; });
    }
    if (request->popularity > 0 || request->popularity < 0)
        offer(r, allowed, j.popular_count, j.offers,
              [&](unsigned i) { return j.by_popularity[i]; });
    unsigned count = r.shared[1];
    score(r, j, request, count, points, t);
    unsigned found = 0, warp = threadIdx.x / 32;
    for (unsigned i = 0; i < count && found < j.k; i++) {
        uint64_t key = r.keys[i];
        if (i > 0 && key == r.keys[i - 1])
            continue;
        if (found % WARPS == warp)
            write(r, j, request, key, count, points, t, j.results + number * j.k + found);
        found++;
    }
    if (threadIdx.x == 0)
        j.found[number] = found;
    if (j.ticket)
        tell_host(j, points);
}

}

bool personal_rank_fits(const platform *p, size_t dim)
{
    return room_bytes(dim) <= platform_shared_bytes(p);
}

void personal_rank(platform *p, const rank_job *job, size_t count)
{
    size_t shared = room_bytes(job->rows.dim);
    platform_allow_shared(p, reinterpret_cast<const void *>(rank_kernel), shared);
    LAUNCH(rank_kernel, (unsigned)count, THREADS, shared, platform_stream(p), *job);
    platform_started(p, "the ranking of candidates");
}
