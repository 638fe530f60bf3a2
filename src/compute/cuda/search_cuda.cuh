// What the files of search on CUDA share. A pass over the rows has scores that are off by at most
// a known error, from int8 or fp16 rows; with t the k-th best of any of them, what scores less than
// t - 2 error is not among the k best, and the rest gets float32 scores, which decide. Candidates
// are 64-bit keys: the score as a number that orders like it, then the row, lower ones first; so
// the greatest keys are the answer, and 0 is nobody.
#pragma once

#include "compute/cuda/buffer.cuh"

extern "C" {
#include "compute/search_device.h"
}

__device__ inline uint32_t ordered(float score)
{
    uint32_t bits = score_bits(score + 0.0f);   // no -0
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ inline float ordered_score(uint32_t bits)
{
    return bits_score(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits);
}

__device__ inline uint64_t key_of(float score, uint32_t row)
{
    return (uint64_t)ordered(score) << 32 | (0xffffffffu - row);
}

__device__ inline uint32_t key_row(uint64_t key)
{
    return 0xffffffffu - (uint32_t)key;
}

__device__ inline float key_score(uint64_t key)
{
    return ordered_score((uint32_t)(key >> 32));
}

__device__ inline uint64_t shuffle_key(uint64_t key, int lane)
{
    return (uint64_t)warp_shuffle((uint32_t)(key >> 32), lane) << 32
           | warp_shuffle((uint32_t)key, lane);
}

// The most that lies between the best and the worst candidate of a query that get float32 scores.
enum { SEARCH_RESCORED = 1024 };
// Passing rows up to which a query's rows are gathered one by one instead of scanned.
enum { SEARCH_FEW = 128 };
// Queries that are asked for together, in a lane of the device.
enum { SEARCH_CHUNK = 512 };

struct search_rows {
    // [count][dim], or NULL: row r is about a centre, the same for all and so of no account to a
    // query, and scales[r] times them
    const int8_t *bytes;
    const float *scales;
    const half_t *narrow;       // [count][dim]
    const float *wide;          // the same in float32
    size_t count, dim;
    const uint32_t *list;       // [listed] rows to look at; NULL: all, and listed is count
    size_t listed;
};

__device__ inline uint32_t row_at(const search_rows &rows, size_t i)
{
    return rows.list ? rows.list[i] : (uint32_t)i;
}

// Whether a row may be found; a list has only those that may.
struct search_mask {
    const uint64_t *masks;      // NULL: all rows for all
    const uint32_t *mask_of;    // NULL: the first one for all
    size_t words;
};

__device__ inline const uint64_t *mask_for(const search_mask &m, size_t query)
{
    if (!m.masks || !m.mask_of)
        return m.masks;
    if (m.mask_of[query] == UINT32_MAX)
        return nullptr;
    return m.masks + m.mask_of[query] * m.words;
}

__device__ inline bool passes(const uint64_t *mask, uint32_t row)
{
    return !mask || (mask[row / 64] >> row % 64 & 1);
}

// A chunk of queries on the card.
struct search_queries {
    const float *given;         // [count][dim], or NULL: rows `numbers` of the device
    const uint32_t *numbers;
    float *wide;                // [count][dim]
    half_t *narrow;
    int8_t *bytes;
    float *error_fp16, *error_int8;     // [count]; of int8 in the units of its scores
    size_t count, dim;
};

// What the rows' narrow forms are off by.
struct search_margins {
    float longest;              // length of a row, at most
    float reach;                // length of a row less the centre, at most
    float worst;                // length of what is missing from a row in int8, at most
};

// What others on the same card may read of a search device, which must outlive them and have no
// rows changed meanwhile.
struct search_view {
    search_rows rows;
    search_margins margins;
};
search_view search_device_view(const struct search_device *device);

// Answers, on the card or in memory of the host that stays in place.
enum search_state { SEARCH_UNPROVEN, SEARCH_PROVEN, SEARCH_GATHERED };
struct search_answers {
    struct hit *hits;           // [count][k]
    uint32_t *found, *state;    // [count]
};

// ---- products, the same bits wherever they are computed -----------------------------------------

enum { GROUP = 8 };             // lanes of a row

__device__ inline float add_eight(const half_t *row, const float *query, size_t at, float sum)
{
    uint4 piece = *reinterpret_cast<const uint4 *>(row + at);
    const uint32_t words[4] = {piece.x, piece.y, piece.z, piece.w};
    UNROLL
    for (int i = 0; i < 4; i++) {
        sum = fmaf(low_half(words[i]), query[at + 2 * i], sum);
        sum = fmaf(high_half(words[i]), query[at + 2 * i + 1], sum);
    }
    return sum;
}

__device__ inline float add_eight(const float *row, const float *query, size_t at, float sum)
{
    const uint4 *pieces = reinterpret_cast<const uint4 *>(row + at);
    uint4 low = pieces[0], high = pieces[1];
    const uint32_t words[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    UNROLL
    for (int i = 0; i < 8; i++)
        sum = fmaf(bits_score(words[i]), query[at + i], sum);
    return sum;
}

__device__ inline float group_sum(float sum)
{
    int lane = (int)(threadIdx.x % 32);
    UNROLL
    for (int step = GROUP / 2; step > 0; step /= 2)
        sum += warp_shuffle(sum, lane ^ step);
    return sum;
}

// The inner product of a row with a query by the eight lanes of a group, each with every eighth
// piece; all of them return it.
template <typename T>
__device__ inline float group_dot(const T *row, const float *query, size_t dim)
{
    float sum = 0;
    for (size_t at = 8 * (size_t)(threadIdx.x % GROUP); at < dim; at += 8 * GROUP)
        sum = add_eight(row, query, at, sum);
    return group_sum(sum);
}

// ---- the best of many, by a block ---------------------------------------------------------------

enum { SELECT_COUNTERS = 32 };
// Bits that a threshold may do without: it is lower by 2^-11 of itself, and found in 20 rounds.
enum { THRESHOLD_LEAST = 12 };

// The k-th greatest of value(0) ... value(n - 1), numbers that are ordered() scores, or less: its
// bits below `least` are zeros. 0: there are not so many. counters: [SELECT_COUNTERS] in shared
// memory, free again after the next barrier.
template <typename Values>
__device__ inline uint32_t kth_greatest(const Values &value, size_t n, unsigned k, int least,
                                        unsigned *counters)
{
    uint32_t found = 0;
    if (threadIdx.x < SELECT_COUNTERS)
        counters[threadIdx.x] = 0;
    __syncthreads();
    for (int bit = 31; bit >= least; bit--) {
        uint32_t tried = found | 1u << bit;
        unsigned count = 0;
        for (size_t first = 0; first < n; first += blockDim.x) {
            size_t i = first + threadIdx.x;
            count += (unsigned)count_bits(warp_ballot(i < n && value(i) >= tried));
        }
        if (threadIdx.x % 32 == 0 && count)
            atomicAdd(&counters[bit], count);
        __syncthreads();
        if (counters[bit] >= k)
            found = tried;
    }
    return found;
}

// Below which nothing can be among the best, given what kth_greatest() found. Where fewer than k
// are greater than -INFINITY that is no number, and everything may.
__device__ inline float threshold_of(uint32_t found, float error)
{
    float threshold = found ? ordered_score(found) - 2 * error : -INFINITY;
    return threshold == threshold ? threshold : -INFINITY;
}

// keys [n] in shared memory, each once: the best k to hits, best first.
__device__ inline void rank_keys(const uint64_t *keys, unsigned n, unsigned k, struct hit *hits)
{
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x) {
        uint64_t key = keys[i];
        unsigned better = 0;
        for (unsigned j = 0; j < n; j++)
            better += keys[j] > key;
        if (better < k) {
            hits[better].score = key_score(key);
            hits[better].row = key_row(key);
        }
    }
}

// ---- search_rows.cu -----------------------------------------------------------------------------

// rows [count][dim] of the card to numbers[i], or first + i, in every width; most [SEARCH_MARGINS]:
// search_margins, ordered(), grow.
enum { SEARCH_MARGINS = 3 };
struct search_store {
    const float *centre;        // [dim]
    int8_t *bytes;              // NULL: not in int8
    float *scales;
    half_t *narrow;
    float *wide;
};
void search_put(platform *p, const search_store *store, const float *rows, const uint32_t *numbers,
                size_t first, size_t count, size_t dim, uint32_t *most);
void search_copy(platform *p, void *to, const void *from, size_t bytes);    // a multiple of 4
// Queries in every width, and their errors.
void search_narrow(platform *p, const search_rows *rows, const search_queries *queries,
                   search_margins margins);
// The rows whose bit is set, ascending.
void search_list(platform *p, const uint64_t *mask, size_t words, uint32_t *list);
// The same on the host, of so many rows (one at least) and with any bits behind them; how many they
// are; and the bits of the last word that stand for rows.
void search_list_here(const uint64_t *mask, size_t rows, uint32_t *list);
size_t search_passing(const uint64_t *mask, size_t rows);
uint64_t search_last_word(size_t rows);

// ---- search_many.cu -----------------------------------------------------------------------------

// The first part looks at `sampled` of the tiles of rows and leaves the best of each few of them,
// [count][subsets]; from these come thresholds (search_select.cu), and the second part keeps what
// is not below: survivors [count][room], survivor_count [count], which counts those too for which
// there is no room.
struct search_scan {
    search_rows rows;
    search_mask mask;
    search_queries queries;
    bool int8;
    size_t k;
    size_t tiles, sampled, subsets, room;
    float *maxima, *thresholds;
    uint64_t *survivors;
    unsigned *survivor_count;
    uint32_t *gathered;         // [count]: not 0: this query is answered already; NULL: none is
};
// The last four sizes; AKIN_UNSUPPORTED: not on this card.
bool search_many_plan(const platform *p, search_scan *scan);
void search_many_sample(platform *p, const search_scan *scan);
void search_many(platform *p, const search_scan *scan);

// ---- search_select.cu ---------------------------------------------------------------------------

// Queries with few rows that pass are answered, and marked.
void search_few(platform *p, const search_scan *scan, unsigned few, const search_answers *answers);
void search_thresholds(platform *p, const search_scan *scan);
void search_select(platform *p, const search_scan *scan, const search_answers *answers);

// ---- search_one.cu ------------------------------------------------------------------------------

// One query, as numbers of the host that travel with the start of the kernel: with the rest more
// than 4,096 bytes of arguments, which CUDA takes since 12.1 (32,764 from capability 7.0 on).
struct search_given {
    float wide[SEARCH_DEVICE_DIM_MAX];
};
enum { ONE_ROOM = SEARCH_RESCORED, ONE_SUBSETS = 2048 };
struct search_single {
    search_rows rows;
    search_mask mask;           // on the card or in pinned memory
    size_t mask_number;         // as whose query it is looked up
    enum search_pass pass;
    size_t k;
    float error;                // in the units of the pass
    const float *query;         // of the card; NULL: what is given
    float *scores;              // [rows.listed]
    float *maxima;              // [ONE_SUBSETS]
    uint64_t *candidates;       // [ONE_ROOM]
    unsigned *counters;         // [2], zeros before and after
    search_answers answers;
    uint32_t *ticket;           // gets `number` when the answer is there; NULL: nobody waits so
    uint32_t number;
};
// What an int8 pass multiplies with: a query in two digits, high and low, [dim] each. Its error;
// not finite: the query cannot be told so. And that of float32 queries with fp16 rows.
float search_digits(const float *query, size_t dim, search_margins margins, int8_t *digits);
float search_error_fp16(const float *query, size_t dim, search_margins margins);
// factors: what the pass multiplies with, digits or the query itself.
void search_one(platform *p, const search_single *single, const search_given *factors,
                const search_given *query);

// ---- search_work.cu -----------------------------------------------------------------------------

// What a search under way needs; all zeros at first. One for each stream.
struct search_work {
    buffer wide, narrow, bytes, errors, gathered, counts, thresholds, maxima, survivors,
        scores, single;
};
void search_work_release(platform *p, search_work *work);
size_t search_work_bytes(const search_work *work);

// Queries that lie on the card: given [count][dim], or numbers [count] of rows; any count.
struct search_job {
    const float *given;
    const uint32_t *numbers;
    size_t count, k;
    search_mask mask;           // on the card
    enum search_pass pass;      // SEARCH_PASS_AUTO: what is fastest; not float32
    search_answers answers;
};
enum search_pass search_pass_for(const search_view *view, size_t k);
// Starts it on the platform's stream and does not wait. The state of a query that it leaves
// unanswered is SEARCH_UNPROVEN. AKIN_UNSUPPORTED: the card has no shared memory for this pass.
enum akin_status search_start(platform *p, search_work *work, const search_view *view,
                              const search_job *job, struct akin_error *error);
// One query, the rest of `single` given, in float32 or, with numbers of the host, by any pass.
enum akin_status search_start_one(platform *p, search_work *work, search_single *single,
                                  const search_given *factors, const search_given *query,
                                  struct akin_error *error);
// Until a kernel has told that an answer is there, the ticket being `number`: sooner than the
// stream is found to be idle, which is asked now and then, so that the time that a card is given
// (platform_finish) stays short. A kernel that fails tells nothing: the stream does, after these
// tens of milliseconds.
enum akin_status search_await(platform *p, const uint32_t *ticket, uint32_t number,
                              struct akin_error *error);
