// What stands before the search: a query and a person become one vector, and what a request leaves
// out a bit mask.
#include <cstring>

#include "compute/cuda/personal_cuda.cuh"

namespace {

enum { WARPS = 4, MASK_THREADS = 256 };

// Less of a vector than this is rounding; less of a sum's square, cancelled out.
#define LENGTH_LEAST 1e-6
#define SQUARES_LEAST 1e-12

__device__ inline double lanes_sum(double value)
{
    for (int step = 16; step > 0; step /= 2) {
        uint64_t bits;
        double other;
        memcpy(&bits, &value, sizeof bits);
        bits = shuffle_key(bits, (int)(threadIdx.x % 32) ^ step);
        memcpy(&other, &bits, sizeof other);
        value += other;
    }
    return value;
}

// In the order of the lanes: the same bits wherever the vector lies.
__device__ inline double squares_of(const float *x, size_t dim)
{
    double sum = 0;
    for (size_t i = threadIdx.x % 32; i < dim; i += 32)
        sum += (double)x[i] * (double)x[i];
    return lanes_sum(sum);
}

__host__ __device__ inline bool usable(double squares, double least)
{
    return squares > least && squares <= 1e300;     // false for what is not a number
}

// out = from * scale - mean; a lane reads back only what it wrote.
__device__ inline void scaled(float *out, const float *from, float scale, const float *mean,
                              size_t dim)
{
    for (size_t i = threadIdx.x % 32; i < dim; i += 32) {
        float x = from[i] * scale;
        out[i] = mean ? x - mean[i] : x;
    }
}

// The query, less the mean; false: it points nowhere.
__device__ inline bool map(float *out, const float *query, const float *mean, size_t dim)
{
    double squares = squares_of(query, dim);
    if (!usable(squares, LENGTH_LEAST * LENGTH_LEAST))
        return false;
    scaled(out, query, (float)(1 / sqrt(squares)), mean, dim);
    squares = squares_of(out, dim);
    if (!usable(squares, LENGTH_LEAST * LENGTH_LEAST))
        return false;
    scaled(out, out, (float)(1 / sqrt(squares)), nullptr, dim);
    return true;
}

// out = share * out/|out| + (1 - share) * person/|person|, to length 1. `has` says which there are.
__device__ inline bool join(float *out, const float *person, bool has_query, double share,
                            size_t dim)
{
    double own = has_query ? squares_of(out, dim) : 0, other = squares_of(person, dim), sum = 0;
    if (!usable(other, 0) || (has_query && !usable(own, 0)))
        return false;
    double query_scale = has_query ? share / sqrt(own) : 0;
    double person_scale = (has_query ? 1 - share : 1) / sqrt(other);
    for (size_t i = threadIdx.x % 32; i < dim; i += 32) {
        double x = (has_query ? query_scale * (double)out[i] : 0)
                   + person_scale * (double)person[i];
        sum += x * x;
    }
    sum = lanes_sum(sum);
    if (!usable(sum, SQUARES_LEAST))
        return false;
    double length = sqrt(sum);
    for (size_t i = threadIdx.x % 32; i < dim; i += 32) {
        double x = (has_query ? query_scale * (double)out[i] : 0)
                   + person_scale * (double)person[i];
        out[i] = (float)(x / length);
    }
    return true;
}

__global__ void __launch_bounds__(32 * WARPS) fuse_kernel(fuse_job j)
{
    size_t number = (size_t)blockIdx.x * WARPS + threadIdx.x / 32;
    if (number >= j.count)
        return;
    float *out = j.vectors + number * j.dim;
    uint32_t query = (uint32_t)number, person = UINT32_MAX;
    double share = 1;
    if (j.requests) {
        query = j.requests[number].query;
        person = j.requests[number].person;
        share = (double)j.requests[number].share;
    }
    bool has_query = query != UINT32_MAX, has_person = person != UINT32_MAX, right = true;
    if (has_query)
        right = map(out, j.given + query * j.dim, j.mean, j.dim);
    if (right && has_person)
        right = join(out, j.given + person * j.dim, has_query, share, j.dim);
    if (!right || !(has_query || has_person))
        for (size_t i = threadIdx.x % 32; i < j.dim; i += 32)
            out[i] = 0;
    if (threadIdx.x % 32 == 0)
        j.points[number] = !right ? POINTS_WRONG : has_query || has_person ? POINTS : POINTS_NOT;
}

// ---- on the host -----------------------------------------------------------------------------
// As a warp does it, lane by lane.

double lanes_sum_here(double sums[32])
{
    for (int step = 16; step > 0; step /= 2) {
        double before[32];
        memcpy(before, sums, sizeof before);
        for (int lane = 0; lane < 32; lane++)
            sums[lane] = before[lane] + before[lane ^ step];
    }
    return sums[0];
}

double squares_here(const float *x, size_t dim)
{
    double sums[32] = {};
    for (size_t i = 0; i < dim; i++)
        sums[i % 32] += (double)x[i] * (double)x[i];
    return lanes_sum_here(sums);
}

bool map_here(float *out, const float *query, const float *mean, size_t dim)
{
    double squares = squares_here(query, dim);
    if (!usable(squares, LENGTH_LEAST * LENGTH_LEAST))
        return false;
    float scale = (float)(1 / sqrt(squares));
    for (size_t i = 0; i < dim; i++) {
        float x = query[i] * scale;
        out[i] = x - mean[i];
    }
    squares = squares_here(out, dim);
    if (!usable(squares, LENGTH_LEAST * LENGTH_LEAST))
        return false;
    scale = (float)(1 / sqrt(squares));
    for (size_t i = 0; i < dim; i++)
        out[i] *= scale;
    return true;
}

bool join_here(float *out, const float *person, bool has_query, double share, size_t dim)
{
    double own = has_query ? squares_here(out, dim) : 0, other = squares_here(person, dim);
    double sums[32] = {};
    if (!usable(other, 0) || (has_query && !usable(own, 0)))
        return false;
    double query_scale = has_query ? share / sqrt(own) : 0;
    double person_scale = (has_query ? 1 - share : 1) / sqrt(other);
    for (size_t i = 0; i < dim; i++) {
        double x = (has_query ? query_scale * (double)out[i] : 0)
                   + person_scale * (double)person[i];
        sums[i % 32] += x * x;
    }
    double sum = lanes_sum_here(sums);
    if (!usable(sum, SQUARES_LEAST))
        return false;
    double length = sqrt(sum);
    for (size_t i = 0; i < dim; i++) {
        double x = (has_query ? query_scale * (double)out[i] : 0)
                   + person_scale * (double)person[i];
        out[i] = (float)(x / length);
    }
    return true;
}

// ---- masks ------------------------------------------------------------------------------------

// Skipped rows clear their bits in any order: the result is the same.
__global__ void __launch_bounds__(MASK_THREADS) mask_kernel(mask_job j)
{
    const personal_request *request = j.requests + blockIdx.x;
    if (request->skip_count == 0 && request->mask == UINT32_MAX)
        return;
    uint64_t *mask = j.masks + blockIdx.x * j.words;
    const uint64_t *given = request->mask == UINT32_MAX ? nullptr
                                                        : j.given + request->mask * j.words;
    for (size_t w = threadIdx.x; w < j.words; w += MASK_THREADS) {
        uint64_t word = given ? given[w] : ~(uint64_t)0;
        if (64 * (w + 1) > j.rows)
            word &= ~(uint64_t)0 >> (64 * (w + 1) - j.rows);
        mask[w] = word;
    }
    __syncthreads();
    unsigned *halves = reinterpret_cast<unsigned *>(mask);      // little-endian
    for (uint32_t i = threadIdx.x; i < request->skip_count; i += MASK_THREADS) {
        uint32_t row = j.lists[request->skip_first + i];
        atomicAnd(&halves[row / 32], ~(1u << row % 32));
    }
}

}

void personal_fuse(platform *p, const fuse_job *job)
{
    LAUNCH(fuse_kernel, (unsigned)((job->count + WARPS - 1) / WARPS), 32 * WARPS, 0,
           platform_stream(p), *job);
    platform_started(p, "the vectors of requests");
}

uint32_t personal_fuse_here(const float *query, const float *person, double share,
                            const float *mean, size_t dim, float *out)
{
    bool right = !query || map_here(out, query, mean, dim);
    if (right && person)
        right = join_here(out, person, query != nullptr, share, dim);
    if (!right || !(query || person))
        memset(out, 0, dim * sizeof *out);
    return !right ? POINTS_WRONG : query || person ? POINTS : POINTS_NOT;
}

void personal_masks(platform *p, const mask_job *job, size_t count)
{
    LAUNCH(mask_kernel, (unsigned)count, MASK_THREADS, 0, platform_stream(p), *job);
    platform_started(p, "the masks of requests");
}
