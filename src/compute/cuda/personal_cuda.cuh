// What the files of personal requests on CUDA share.
#pragma once

#include "compute/cuda/search_cuda.cuh"

extern "C" {
#include "compute/personal_device.h"
}

// AKIN_UNSUPPORTED, AKIN_ARGUMENT, AKIN_MEMORY: see create.
enum akin_status personal_check(const struct personal_items *items, size_t rows,
                                struct akin_error *error);

// A block has one request; its 512 threads go with the two below.
enum { PERSONAL_WARPS = 16, PERSONAL_THREADS = 32 * PERSONAL_WARPS };

// Descending; `count` is a power of two. As long as steps stay within 64 keys, a warp has its own.
template <typename K> __device__ inline void block_sort(K *keys, unsigned count)
{
    for (unsigned size = 2; size <= count; size *= 2)
        for (unsigned step = size / 2; step > 0; step /= 2) {
            for (unsigned i = threadIdx.x; i < count / 2; i += PERSONAL_THREADS) {
                unsigned low = 2 * i - (i & (step - 1)), high = low + step;
                bool down = (low & size) == 0;
                K a = keys[low], b = keys[high];
                if ((a < b) == down) {
                    keys[low] = b;
                    keys[high] = a;
                }
            }
            unsigned next = step > 1 ? step / 2 : size;
            if (step > 32 || next > 32)
                __syncthreads();
            else
                __syncwarp();
        }
    __syncthreads();
}

// What the model of taste says of a history: struct personal_taste on the card.
struct device_taste {
    unsigned size;
    const uint32_t *items, *places;
    personal_sum sums[PERSONAL_SUMS];
    unsigned reach[PERSONAL_SUMS];      // ages with a weight
    personal_sequence sequence;
    personal_mood moods[PERSONAL_MOODS];
};
struct taste_job {
    const personal_request *requests;
    const uint32_t *lists;              // of all requests
    device_taste taste;
    float *scores;                      // [][size] of the model's items
};
bool personal_say_fits(const platform *p);
void personal_say(platform *p, const taste_job *job, size_t count);

// Requests [count] to one vector of length 1 each, and whether it points somewhere. `requests`
// NULL: vector q is the query of request q, and nothing else.
enum { POINTS_NOT, POINTS, POINTS_WRONG };
struct fuse_job {
    const personal_request *requests;
    const float *given, *mean;          // [][dim], [dim]
    size_t count, dim;
    float *vectors;                     // [count][dim]
    uint32_t *points;                   // [count]: POINTS_NOT: nothing was given
};
void personal_fuse(platform *p, const fuse_job *job);
// The same, bit for bit, on the host, for a request alone: of its query, its person or both, NULL
// where there is none. Returns whether it points somewhere.
uint32_t personal_fuse_here(const float *query, const float *person, double share,
                            const float *mean, size_t dim, float *out);

// masks [count][words] of the requests that leave something out, from theirs (all rows where there
// is none) less what is skipped.
struct mask_job {
    const personal_request *requests;
    const uint64_t *given;              // [][words]
    const uint32_t *lists;
    size_t rows, words;
    uint64_t *masks;
};
void personal_masks(platform *p, const mask_job *job, size_t count);

// From the best by text to the best of all parts, of `count` requests from `first` on.
struct rank_job {
    search_rows rows;
    search_mask mask;
    const personal_request *requests;
    const float *vectors;               // [][dim] fused
    const uint32_t *points;
    const struct hit *hits;             // [][text_offers]
    const uint32_t *hits_found;
    const uint64_t *texted, *starts;
    const struct item_weight *entries;
    device_taste taste;
    const float *said;                  // [][taste.size]
    unsigned others;                    // rows outside of the model
    const float *popularity;
    const uint32_t *by_popularity;
    unsigned popular_count, text_offers, offers, k;
    size_t first;
    struct personal_result *results;    // [][k]; of a request alone these are of the host,
    uint32_t *found;
    const uint32_t *proven;             // and what the search says of it goes along,
    uint32_t *proven_there;
    uint32_t *ticket;                   // which then gets `number`; NULL: many
    uint32_t number;
};
// Whether the card has the shared memory for that.
bool personal_rank_fits(const platform *p, size_t dim);
void personal_rank(platform *p, const rank_job *job, size_t count);
