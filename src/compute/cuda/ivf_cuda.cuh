// What the files of inverted files on CUDA share. A search is four kernels: prepare (tables, scores
// of all cells, and the last block of a query chooses cells), scan (sums of codes, counted by
// bins), gather (rows above the bin where the candidates end, and the best within it), rank (rows
// in eight bits, then originals). What a kernel leaves for the next is reached by whole numbers and
// by orders that are total, so no order of blocks or atomics decides a bit.
#pragma once

#include "compute/cuda/buffer.cuh"

extern "C" {
#include "compute/ivf_device.h"
}

enum { IVF_THREADS = 256, IVF_WARPS = IVF_THREADS / 32 };
enum { IVF_BINS = 2048 };           // of scores, the best first; the last has all that is below
enum { IVF_TILE_BLOCKS = 8 };       // blocks of rows that a warp takes at once: eight rows a lane

#ifdef __CUDACC__

// Four of the bytes of low (0..3) and high (4..7), as the low four nibbles of `which` say.
__device__ __forceinline__ uint32_t pick_bytes(uint32_t low, uint32_t high, uint32_t which)
{
    return __byte_perm(low, high, which);
}

// sum + the products of four bytes with four int16, both signed.
__device__ __forceinline__ int dot_four(uint32_t pair, uint32_t next_pair, uint32_t bytes, int sum)
{
    return __dp2a_hi((int)next_pair, (int)bytes, __dp2a_lo((int)pair, (int)bytes, sum));
}

// What other blocks of the same kernel wrote: not from the cache of this processor.
template <typename T> __device__ __forceinline__ T read_fresh(const T *at)
{
    return __ldcg(at);
}

__device__ __forceinline__ void written_before(void)
{
    __threadfence();
}

#else

inline uint32_t pick_bytes(uint32_t low, uint32_t high, uint32_t which)
{
    uint64_t all = (uint64_t)high << 32 | low;
    uint32_t out = 0;
    for (int i = 0; i < 4; i++)
        out |= (uint32_t)(all >> 8 * (which >> 4 * i & 7) & 0xff) << 8 * i;
    return out;
}

inline int dot_four(uint32_t pair, uint32_t next_pair, uint32_t bytes, int sum)
{
    for (int i = 0; i < 4; i++)
        sum += (int16_t)((i < 2 ? pair : next_pair) >> 16 * (i % 2)) * (int8_t)(bytes >> 8 * i);
    return sum;
}

template <typename T> inline T read_fresh(const T *at) { return *at; }
inline void written_before(void) { }

#endif

// The lists as they lie on the card.
struct ivf_data {
    bool l2, wide, half;            // half: originals in fp16
    unsigned dim, depth, cells, rows, blocks, parts, norm_parts, groups, width;
    float norm_step;
    const struct ivf_cell *cell;
    const float *mean, *codebook;
    const int8_t *centroids, *records;      // [][depth]
    const struct ivf_tail *centroid_tails, *record_tails;
    const uint4 *codes;             // [blocks][groups][4]: eight rows, all parts of the group
    const uint32_t *entries;
    const void *vectors;
};

// What is asked; on the card, so that one recording does for all searches.
struct ivf_job {
    unsigned k, kept, probes, candidates, masked, pad[3];
};

// Of one query.
struct ivf_state {
    float query_scale, length, step;
    unsigned table_most;
    unsigned blocks;                // of rows, in the cells that were chosen
    unsigned shift, bin;            // width of a bin; the one where the candidates end
    unsigned certain, border;       // rows above it, and in it
    unsigned listed;                // candidates
    unsigned prepared, scanned, gathered, ranked;   // blocks that are done
};

struct ivf_work {
    const ivf_job *job;
    const float *queries;           // [][dim]
    ivf_state *state;
    int16_t *narrow;                // [][depth]
    uint8_t *tables;                // [][table_bytes]
    int32_t *dots, *bases;          // [][cells]
    float *promises;
    uint32_t *chosen, *first;       // [][probes_room + 1] cells, ascending; blocks before each
    uint16_t *sums;                 // [][rows_room]
    uint32_t *bins;                 // [][IVF_BINS]
    uint64_t *border;               // [][rows_room] keys
    uint32_t *list;                 // [][candidates_room] rows
    uint64_t *keys;
    const uint64_t *allowed;
    struct hit *hits;               // [][k], of the host
    uint32_t *found;
    unsigned table_bytes, probes_room, rows_room, candidates_room;
};

__host__ __device__ inline unsigned ivf_codes(const ivf_data &d) { return d.wide ? 256 : 16; }
__host__ __device__ inline unsigned ivf_group_parts(const ivf_data &d) { return d.wide ? 2 : 4; }

// Keys order like their scores, equal ones by row, lower ones first.
__device__ inline uint64_t ivf_key(uint32_t ordered, uint32_t row)
{
    return (uint64_t)ordered << 32 | (uint32_t)~row;
}

__device__ inline uint32_t ivf_key_row(uint64_t key)
{
    return ~(uint32_t)key;
}

__device__ inline bool ivf_passes(const uint64_t *allowed, uint32_t row)
{
    return !allowed || (allowed[row / 64] >> row % 64 & 1);
}

// Sum over a block; all threads have it. scratch [IVF_WARPS].
__device__ inline unsigned block_sum(unsigned value, unsigned *scratch)
{
    for (int step = 16; step > 0; step /= 2)
        value += warp_shuffle(value, (int)(threadIdx.x % 32) ^ step);
    __syncthreads();
    if (threadIdx.x % 32 == 0)
        scratch[threadIdx.x / 32] = value;
    __syncthreads();
    unsigned sum = 0;
    for (unsigned i = 0; i < IVF_WARPS; i++)
        sum += scratch[i];
    return sum;
}

__device__ inline float block_max(float value, unsigned *scratch)
{
    value = warp_max(value);
    __syncthreads();
    if (threadIdx.x % 32 == 0)
        scratch[threadIdx.x / 32] = score_bits(value);
    __syncthreads();
    for (unsigned i = 0; i < IVF_WARPS; i++)
        value = fmaxf(value, bits_score(scratch[i]));
    return value;
}

// What the threads before this one have.
__device__ inline unsigned block_before(unsigned value, unsigned *scratch)
{
    unsigned lane = threadIdx.x % 32, sum = value;
    for (unsigned step = 1; step < 32; step *= 2) {
        unsigned other = warp_shuffle(sum, (int)(lane >= step ? lane - step : lane));
        sum += lane >= step ? other : 0;
    }
    __syncthreads();
    if (lane == 31)
        scratch[threadIdx.x / 32] = sum;
    __syncthreads();
    for (unsigned i = 0; i < threadIdx.x / 32; i++)
        sum += scratch[i];
    return sum - value;
}

// Whether this block is the last one of `blocks` to come here; then it sees what they wrote. The
// counter is as before for the next search.
__device__ inline bool last_block(unsigned *counter, unsigned blocks, unsigned *scratch)
{
    written_before();
    __syncthreads();
    if (threadIdx.x == 0) {
        unsigned before = atomicAdd(counter, 1u);
        scratch[0] = before + 1 == blocks;
        if (before + 1 == blocks)
            *counter = 0;
    }
    __syncthreads();
    bool last = scratch[0] != 0;
    __syncthreads();
    written_before();
    return last;
}

// FRESH: of memory that other blocks of this kernel wrote; else of shared memory.
template <bool FRESH, typename T> __device__ inline T read_as(const T *at)
{
    if (FRESH)
        return read_fresh(at);
    return *at;
}

// The bin of [count] where `wanted` things counted from the first end, and how many are before it:
// out {bin, before}. bin `count`: there are no more than that. count is a multiple of IVF_THREADS.
template <bool FRESH>
__device__ inline void find_bin(const uint32_t *bins, unsigned count, unsigned wanted,
                                unsigned *scratch, unsigned out[2])
{
    unsigned each = count / IVF_THREADS, own = 0, begin = threadIdx.x * each;
    if (threadIdx.x == 0) {
        out[0] = count;
        out[1] = 0;
    }
    for (unsigned i = 0; i < each; i++)
        own += read_as<FRESH>(bins + begin + i);
    unsigned before = block_before(own, scratch);
    if (before < wanted && before + own >= wanted)
        for (unsigned i = 0; i < each; i++) {
            unsigned here = read_as<FRESH>(bins + begin + i);
            if (before + here >= wanted) {
                out[0] = begin + i;
                out[1] = before;
                break;
            }
            before += here;
        }
    __syncthreads();
}

// What `least_kept` works with, in shared memory.
struct ivf_select {
    unsigned bins[256], out[2], scratch[IVF_WARPS + 6];
};

// A number such that `wanted` of keys [count], which all differ, are as large or larger; 0 < wanted
// <= count. Byte by byte: the bin where the wanted ones end, then within it.
template <bool FRESH>
__device__ inline uint64_t least_kept(const uint64_t *keys, unsigned count, unsigned wanted,
                                      ivf_select *s)
{
    uint64_t prefix = 0;
    for (int shift = 56; shift >= 0; shift -= 8) {
        s->bins[threadIdx.x] = 0;
        __syncthreads();
        for (unsigned i = threadIdx.x; i < count; i += IVF_THREADS) {
            uint64_t key = read_as<FRESH>(keys + i);
            if (shift == 56 || key >> shift >> 8 == prefix >> shift >> 8)
                atomicAdd(&s->bins[255 - (key >> shift & 255)], 1u);
        }
        __syncthreads();
        find_bin<false>(s->bins, 256, wanted, s->scratch, s->out);
        unsigned bin = s->out[0], here = s->bins[bin];
        wanted -= s->out[1];
        prefix |= (uint64_t)(255 - bin) << shift;
        __syncthreads();
        if (here == wanted)
            break;
    }
    return prefix;
}

// Numbers of a warp's lanes in a team of eight that adds up a row: a piece is 16 bytes of it.
// query [depth] in shared memory. All lanes of the team have the sum.
__device__ inline int team_dot(const int8_t *row, const uint32_t *query, unsigned depth)
{
    unsigned lane = threadIdx.x % 32;
    int sum = 0;
    for (unsigned at = 16 * (lane % 8); at < depth; at += 128) {
        uint4 bytes = *reinterpret_cast<const uint4 *>(row + at);
        const uint4 *q = reinterpret_cast<const uint4 *>(query + at / 2);
        uint4 low = q[0], high = q[1];
        sum = dot_four(low.x, low.y, bytes.x, sum);
        sum = dot_four(low.z, low.w, bytes.y, sum);
        sum = dot_four(high.x, high.y, bytes.z, sum);
        sum = dot_four(high.z, high.w, bytes.w, sum);
    }
    for (int step = 4; step > 0; step /= 2)
        sum += (int)warp_shuffle((uint32_t)sum, (int)lane ^ step);
    return sum;
}

// Each for `queries` queries, with so many blocks for each.
size_t ivf_prepare_shared(const ivf_data *d);
size_t ivf_scan_shared(const ivf_data *d);
size_t ivf_rank_shared(const ivf_data *d);
void ivf_prepare(platform *p, const ivf_data *d, const ivf_work *w, size_t queries);
void ivf_scan(platform *p, const ivf_data *d, const ivf_work *w, size_t queries);
void ivf_gather(platform *p, const ivf_data *d, const ivf_work *w, size_t queries);
void ivf_rank(platform *p, const ivf_data *d, const ivf_work *w, size_t queries);
// Codes as they stand in files to the order of ivf_data.codes, in place.
void ivf_arrange(platform *p, uint4 *codes, size_t groups, bool wide);
