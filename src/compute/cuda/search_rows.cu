// Rows and queries in every width, and lists of rows from masks.
#include "compute/cuda/search_cuda.cuh"

namespace {

enum { WARPS = 4, LIST_THREADS = 512 };

// What is certain to be no less than a length whose squares were added in float32.
__device__ inline float length_of(float squares)
{
    return sqrtf(squares) * (1 + 1.0f / 512);
}

// x - centre (NULL: zeros) [dim] in int8: the scale; its bytes; the squares of it and of what they
// miss. By a warp.
__device__ inline float to_bytes(const float *x, const float *centre, size_t dim, int8_t *bytes,
                                 float *reach, float *missing)
{
    float most = 0, squares = 0, all = 0;
    size_t lane = threadIdx.x % 32;
    for (size_t i = lane; i < dim; i += 32)
        most = fmaxf(most, fabsf(x[i] - (centre ? centre[i] : 0)));
    most = warp_max(most);
    float scale = most > 0 ? most / 127 : 1;
    for (size_t i = lane; i < dim; i += 32) {
        float own = x[i] - (centre ? centre[i] : 0);
        float rounded = fminf(fmaxf(rintf(own / scale), -127.0f), 127.0f);
        float left = fmaf(-scale, rounded, own);
        bytes[i] = (int8_t)rounded;
        squares = fmaf(left, left, squares);
        all = fmaf(own, own, all);
    }
    *reach = warp_sum(all);
    *missing = warp_sum(squares);
    return scale;
}

__global__ void __launch_bounds__(32 * WARPS)
    put_kernel(search_store store, const float *rows, const uint32_t *numbers, size_t first,
               size_t count, size_t dim, uint32_t *most)
{
    size_t i = (size_t)blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (i >= count)
        return;
    const float *row = rows + i * dim;
    size_t at = numbers ? numbers[i] : first + i;
    float squares = 0, reach = 0, missing = 0;
    for (size_t d = lane; d < dim; d += 32) {
        float x = row[d];
        store.wide[at * dim + d] = x;
        store.narrow[at * dim + d] = from_float<half_t>(x);
        squares = fmaf(x, x, squares);
    }
    squares = warp_sum(squares);
    if (store.bytes) {
        float scale = to_bytes(row, store.centre, dim, store.bytes + at * dim, &reach, &missing);
        if (lane == 0)
            store.scales[at] = scale;
    }
    if (lane == 0) {
        atomicMax(&most[0], ordered(length_of(squares)));
        atomicMax(&most[1], ordered(length_of(reach)));
        atomicMax(&most[2], ordered(length_of(missing)));
    }
}

__global__ void __launch_bounds__(256)
    copy_kernel(uint32_t *to, const uint32_t *from, size_t words)
{
    size_t stride = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < words; i += stride)
        to[i] = from[i];
}

// What float32 sums of `dim` products of numbers are off by, for factors of length 1; of both that
// are compared.
__host__ __device__ inline float sum_error(size_t dim)
{
    return (float)(dim + 8) * (1.0f / (1 << 22));
}

// With row r = r' + e and query q = q' + f: q r = q' r' + q e + f r', so it is off by at most
// |q| |e| + |f| |r'| (Cauchy-Schwarz). fp16: e and f at most 2^-11 of each number, or 2^-25. That
// takes for granted that tensor cores count subnormal halves for what they are, which the PTX ISA
// leaves open and all cards of capability 7.0 and on do (Fasi et al. 2021, section 3.2).
__host__ __device__ inline float error_fp16(float length, size_t dim, search_margins m,
                                            float rounded)
{
    float root = sqrtf((float)dim) * (1.0f / (1 << 24));
    float query_missing = rounded * length + (rounded > 0 ? root : 0);
    float row_missing = m.longest * (1.0f / 2047) + root;
    return length * row_missing + query_missing * (m.longest + row_missing)
           + length * m.longest * sum_error(dim);
}

__host__ __device__ inline float error_int8(float length, float missing, size_t dim,
                                            search_margins m)
{
    return length * m.worst + missing * (m.reach + m.worst)
           + length * (m.longest + m.reach) * (sum_error(dim) + 1.0f / (1 << 20));
}

__global__ void __launch_bounds__(32 * WARPS)
    narrow_kernel(search_rows rows, search_queries q, search_margins margins)
{
    size_t i = (size_t)blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    size_t dim = q.dim;
    if (i >= q.count)
        return;
    const float *from = q.given ? q.given + i * dim : rows.wide + q.numbers[i] * dim;
    float squares = 0, most = 0, reach = 0, missing = 0, scale = 1;
    for (size_t d = lane; d < dim; d += 32) {
        float x = from[d];
        q.wide[i * dim + d] = x;
        q.narrow[i * dim + d] = from_float<half_t>(x);
        squares = fmaf(x, x, squares);
        most = fmaxf(most, fabsf(x));
    }
    float length = length_of(warp_sum(squares));
    most = warp_max(most);
    if (rows.bytes)
        scale = to_bytes(from, nullptr, dim, q.bytes + i * dim, &reach, &missing);
    if (lane != 0)
        return;
    // beyond fp16 or too small for scales: known by nothing; NaN is not below anything
    bool fits = length < 65504.0f && (most == 0 || most > 1e-30f);
    q.error_fp16[i] = fits ? error_fp16(length, dim, margins, 1.0f / 2047) : INFINITY;
    q.error_int8[i] = fits ? error_int8(length, length_of(missing), dim, margins) / scale
                           : INFINITY;
}

// One block: each thread has a run of words; where its rows begin is the sum of those before.
__global__ void __launch_bounds__(LIST_THREADS)
    list_kernel(const uint64_t *mask, size_t words, uint32_t *list)
{
    SHARED(uint32_t, sums);             // [LIST_THREADS / 32]
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    size_t each = (words + blockDim.x - 1) / blockDim.x;
    size_t first = threadIdx.x * each, end = first + each < words ? first + each : words;
    uint32_t mine = 0;
    for (size_t i = first; i < end; i++)
        mine += (uint32_t)(count_bits((uint32_t)mask[i]) + count_bits((uint32_t)(mask[i] >> 32)));
    uint32_t before = mine;             // and mine
    for (unsigned step = 1; step < 32; step *= 2) {
        uint32_t other = warp_shuffle(before, (int)(lane >= step ? lane - step : lane));
        before += lane >= step ? other : 0;
    }
    if (lane == 31)
        sums[warp] = before;
    __syncthreads();
    uint32_t at = before - mine;
    for (unsigned w = 0; w < warp; w++)
        at += sums[w];
    for (size_t i = first; i < end; i++)
        for (int half = 0; half < 2; half++) {
            uint32_t bits = (uint32_t)(mask[i] >> 32 * half);
            while (bits) {
                list[at++] = (uint32_t)(64 * i + 32 * half + lowest_bit(bits));
                bits &= bits - 1;
            }
        }
}

unsigned warps_for(size_t count)
{
    return (unsigned)((count + WARPS - 1) / WARPS);
}

}

void search_put(platform *p, const search_store *store, const float *rows, const uint32_t *numbers,
                size_t first, size_t count, size_t dim, uint32_t *most)
{
    LAUNCH(put_kernel, warps_for(count), 32 * WARPS, 0, platform_stream(p), *store, rows, numbers,
           first, count, dim, most);
    platform_started(p, "taking rows");
}

void search_copy(platform *p, void *to, const void *from, size_t bytes)
{
    size_t words = bytes / sizeof(uint32_t), blocks = (words + 255) / 256;
    LAUNCH(copy_kernel, (unsigned)(blocks < 4096 ? blocks : 4096), 256, 0, platform_stream(p),
           static_cast<uint32_t *>(to), static_cast<const uint32_t *>(from), words);
    platform_started(p, "moving rows");
}

void search_narrow(platform *p, const search_rows *rows, const search_queries *queries,
                   search_margins margins)
{
    LAUNCH(narrow_kernel, warps_for(queries->count), 32 * WARPS, 0, platform_stream(p), *rows,
           *queries, margins);
    platform_started(p, "the narrowing of queries");
}

void search_list(platform *p, const uint64_t *mask, size_t words, uint32_t *list)
{
    LAUNCH(list_kernel, 1, LIST_THREADS, LIST_THREADS / 32 * sizeof(uint32_t), platform_stream(p),
           mask, words, list);
    platform_started(p, "a list of rows");
}

// ---- masks, on the host -------------------------------------------------------------------------

uint64_t search_last_word(size_t rows)
{
    return rows % 64 ? (1ull << rows % 64) - 1 : ~0ull;
}

size_t search_passing(const uint64_t *mask, size_t rows)
{
    size_t words = (rows + 63) / 64, count = 0;
    for (size_t i = 0; i + 1 < words; i++)
        count += (size_t)__builtin_popcountll(mask[i]);
    return count + (size_t)__builtin_popcountll(mask[words - 1] & search_last_word(rows));
}

void search_list_here(const uint64_t *mask, size_t rows, uint32_t *list)
{
    size_t words = (rows + 63) / 64;
    for (size_t i = 0; i < words; i++) {
        uint64_t word = i + 1 < words ? mask[i] : mask[i] & search_last_word(rows);
        for (; word; word &= word - 1)
            *list++ = (uint32_t)(64 * i + (size_t)__builtin_ctzll(word));
    }
}

// ---- one query, on the host ---------------------------------------------------------------------

static bool fits(double squares, float most)
{
    return squares < 1e9 && (most == 0 || most > 1e-30f);
}

float search_error_fp16(const float *query, size_t dim, search_margins margins)
{
    double squares = 0;
    for (size_t i = 0; i < dim; i++)
        squares += (double)query[i] * (double)query[i];
    if (!fits(squares, 1))
        return INFINITY;
    return error_fp16((float)(sqrt(squares) * (1 + 1.0 / 512)), dim, margins, 0);
}

// 15 bits and the sign: v = 128 high + low.
float search_digits(const float *query, size_t dim, search_margins margins, int8_t *digits)
{
    double squares = 0, missing = 0;
    float most = 0;
    for (size_t i = 0; i < dim; i++) {
        most = fmaxf(most, fabsf(query[i]));
        squares += (double)query[i] * (double)query[i];
    }
    float scale = most > 0 ? most / (127 * 128) : 1;
    if (!fits(squares, most))
        return INFINITY;
    for (size_t i = 0; i < dim; i++) {
        int rounded = (int)lrintf(query[i] / scale);
        rounded = rounded > 127 * 128 ? 127 * 128 : rounded < -127 * 128 ? -127 * 128 : rounded;
        int high = (rounded + 64 + (1 << 20)) / 128 - (1 << 13);
        double left = (double)query[i] - (double)scale * rounded;
        digits[i] = (int8_t)high;
        digits[dim + i] = (int8_t)(rounded - 128 * high);
        missing += left * left;
    }
    const double slack = 1 + 1.0 / 512;
    return error_int8((float)(sqrt(squares) * slack), (float)(sqrt(missing) * slack), dim, margins)
           / scale * (float)slack;
}
