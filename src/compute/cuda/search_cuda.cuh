// What the files of search on CUDA share. Candidates are 64-bit keys: the score as a number that
// orders like it, then the row, lower ones first; so the greatest keys are the answer, and 0 is
// nobody.
#pragma once

#include "compute/cuda/platform.cuh"

extern "C" {
#include "compute/search_device.h"
}

__device__ inline uint64_t key_of(float score, uint32_t row)
{
    uint32_t bits = score_bits(score);
    bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return (uint64_t)bits << 32 | (0xffffffffu - row);
}

__device__ inline uint32_t key_row(uint64_t key)
{
    return 0xffffffffu - (uint32_t)key;
}

__device__ inline float key_score(uint64_t key)
{
    uint32_t bits = (uint32_t)(key >> 32);
    return bits_score(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits);
}

__device__ inline uint64_t shuffle_key(uint64_t key, int lane)
{
    return (uint64_t)warp_shuffle((uint32_t)(key >> 32), lane) << 32
           | warp_shuffle((uint32_t)key, lane);
}

// Keys that a warp sorts at once to keep so many: the best and what is new.
__host__ __device__ constexpr int warp_keys(int kept) { return kept <= 64 ? 128 : 512; }

// Descending, over the 32 LANE keys of a warp; key i of a lane is number 32 i + lane. Bitonic
// (Batcher 1968).
template <int LANE> __device__ inline void sort_keys(uint64_t keys[LANE])
{
    int lane = (int)(threadIdx.x % 32);
    UNROLL
    for (int size = 2; size <= 32 * LANE; size *= 2)
        UNROLL
        for (int step = size / 2; step > 0; step /= 2)
            if (step >= 32) {
                UNROLL
                for (int i = 0; i < LANE; i++) {
                    int other = i ^ step / 32;
                    if (other <= i)
                        continue;
                    bool down = ((32 * i + lane) & size) == 0;
                    if ((keys[i] < keys[other]) == down) {
                        uint64_t kept = keys[i];
                        keys[i] = keys[other];
                        keys[other] = kept;
                    }
                }
            } else {
                UNROLL
                for (int i = 0; i < LANE; i++) {
                    uint64_t other = shuffle_key(keys[i], lane ^ step);
                    bool down = ((32 * i + lane) & size) == 0, first = (lane & step) == 0;
                    bool greatest = down == first;
                    if (greatest ? other > keys[i] : other < keys[i])
                        keys[i] = other;
                }
            }
}

// Whether a row may be found.
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

struct search_rows {
    const half_t *narrow;       // [count][dim]
    const float *wide;          // the same in float32
    size_t count, dim;
};

// What others on the same card may read of a search device, which must outlive them: the rows, and
// by how far an fp16 score may be off for a query of length 1.
struct search_view {
    search_rows rows;
    float margin;
};
search_view search_device_view(const struct search_device *device);
// How many a search has to keep to find the k best.
size_t search_kept(size_t k);

// queries as fp16, and error [count] = margin times the length of each.
void search_narrow(platform *p, const float *queries, size_t count, size_t dim, float margin,
                   half_t *narrow, float *error);
// The `kept` best of each of `lists` parts of the rows, [queries][lists][kept], by fp16 scores.
size_t search_many_lists(const platform *p, size_t queries, size_t dim, size_t kept);
// Whether the card has the shared memory for that.
bool search_many_fits(const platform *p, size_t dim, size_t kept);
void search_many(platform *p, const search_rows *rows, const half_t *queries, size_t query_count,
                 const search_mask *mask, size_t kept, size_t lists, uint64_t *out);
// The same for query number `number` alone, by fp16 scores or, exact, by those of float32.
enum { SEARCH_ONE_LISTS = 256 };
void search_one(platform *p, const search_rows *rows, const float *query, size_t number,
                const search_mask *mask, size_t kept, bool exact, uint64_t *out);
// hits [queries][k] from those lists by float32 scores; proven[q]: no row that was left out can be
// better, since its fp16 score is off by at most error[q].
void search_merge(platform *p, const search_rows *rows, const float *queries, size_t query_count,
                  const uint64_t *lists, size_t list_count, size_t kept, size_t k,
                  const float *error, struct hit *hits, uint32_t *found, uint32_t *proven);
