// CUDA's execution model on the CPU, for tests: every thread of a block is a fiber; barriers and
// warp functions switch fibers until all have arrived. One block runs after the other, its threads
// in another order each time. Slow and exact in what it checks: indexing, barriers (a divergent one
// aborts, a missing one does where emulation_races.cc sees it), fragment layouts, alignment of what
// a card loads as one. Threads of the host take turns. It says nothing about speed, and of the
// memory model only what concerns shared memory.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

extern dim3 threadIdx, blockIdx, blockDim, gridDim;

// Aligned as on a card, so that compilers may, and the sanitizer of alignment does, check it.
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

typedef void *cudaStream_t;

namespace emulation {
// Does it, or, while a step is recorded, only keeps it.
void ask(const std::function<void()> &what);
void run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &body);
// What is asked from now on goes into `to`; NULL: is done again.
void record(std::vector<std::function<void()>> *to);
void sync_block();
// All lanes of the warp arrive with `bytes` of their own; returns those of all, [32][64].
const unsigned char *gather(const void *mine, size_t bytes);
void *shared();
// Of this thread: kept until it waits for them, as late as they may come on a card.
void copy_async(void *to, const void *from, bool valid);
void copy_commit();
void copy_wait(size_t left);
enum { LANE_BYTES = 64 };
// Who runs, and how many barriers of each kind it has passed: __syncthreads, __syncwarp, and all
// that the lanes of a warp meet at.
struct moment {
    uint16_t thread, barriers, syncs, meets;
};
extern moment here;
// emulation_races.cc: a block begins; accesses that it is not told of otherwise.
void watch_block(void *memory, size_t bytes);
void watch_atomic(const void *word, size_t bytes);
void watch_copy(const void *to, bool begins);
void sync_warp();
[[noreturn]] void misaligned();
// To sixteen bytes, as ldmatrix and cp.async want it.
inline void must_be_aligned(const void *address)
{
    if (reinterpret_cast<uintptr_t>(address) % 16 != 0)
        misaligned();
}
}

// Whoever is compiled to tell of its accesses does not do so here.
#define UNWATCHED __attribute__((no_sanitize("thread")))

#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                       \
    emulation::run(grid, block, shared_bytes, [=] { (void)(stream); kernel(__VA_ARGS__); })
#define UNROLL
#define UNROLL_4
#define ROLLED
#define SHARED(type, name) type *name = reinterpret_cast<type *>(emulation::shared())

inline void __syncthreads()
{
    emulation::sync_block();
}

inline void copy_async(void *shared, const void *global, bool valid)
{
    emulation::copy_async(shared, global, valid);
}

inline void copy_commit(void)
{
    emulation::copy_commit();
}

template <int N> inline void copy_wait(void)
{
    emulation::copy_wait(N);
}

UNWATCHED inline unsigned atomicAnd(unsigned *word, unsigned value)
{
    emulation::watch_atomic(word, sizeof *word);
    unsigned old = *word;
    *word &= value;
    return old;
}

UNWATCHED inline unsigned atomicCAS(unsigned *word, unsigned compare, unsigned value)
{
    emulation::watch_atomic(word, sizeof *word);
    unsigned old = *word;
    *word = old == compare ? value : old;
    return old;
}

inline void __syncwarp()
{
    emulation::sync_warp();
}

template <typename T> inline T gather_one(T value, int lane)
{
    T out;
    const unsigned char *lanes = emulation::gather(&value, sizeof value);
    memcpy(&out, lanes + lane * emulation::LANE_BYTES, sizeof out);
    return out;
}

inline float warp_shuffle(float value, int lane) { return gather_one(value, lane); }
inline uint32_t warp_shuffle(uint32_t value, int lane) { return gather_one(value, lane); }

inline float bits_to_float(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

inline uint32_t float_to_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

inline uint32_t warp_ballot(bool yes)
{
    const unsigned char *lanes = emulation::gather(&yes, sizeof yes);
    uint32_t bits = 0;
    for (int i = 0; i < 32; i++)
        bits |= (uint32_t)(lanes[i * emulation::LANE_BYTES] != 0) << i;
    return bits;
}

inline uint32_t score_bits(float x) { return float_to_bits(x); }
inline float bits_score(uint32_t bits) { return bits_to_float(bits); }
inline int count_bits(uint32_t bits) { return __builtin_popcount(bits); }
inline int lowest_bit(uint32_t bits) { return __builtin_ctz(bits); }

inline int32_t dot_bytes(uint32_t a, uint32_t b, int32_t sum)
{
    for (int i = 0; i < 32; i += 8)
        sum += (int8_t)(a >> i) * (int8_t)(b >> i);
    return sum;
}

inline void __threadfence() {}
inline void __threadfence_system() {}

inline unsigned atomicMax(unsigned *word, unsigned value)
{
    unsigned old = *word;
    *word = old > value ? old : value;
    return old;
}
inline float round_product(float a, float b) { return a * b; }

UNWATCHED inline unsigned atomicAdd(unsigned *word, unsigned value)
{
    emulation::watch_atomic(word, sizeof *word);
    unsigned old = *word;
    *word += value;
    return old;
}

struct bfloat_t {
    uint16_t bits;
};
struct half_t {
    uint16_t bits;
};

inline float to_float(float x) { return x; }
inline float to_float(bfloat_t x) { return bits_to_float((uint32_t)x.bits << 16); }

inline float to_float(half_t x)
{
    uint32_t sign = (uint32_t)(x.bits & 0x8000) << 16, rest = (uint32_t)(x.bits & 0x7fff) << 13;
    if ((x.bits & 0x7c00) == 0x7c00)
        return bits_to_float(sign | 0x7f800000 | rest);
    return bits_to_float(sign | float_to_bits(bits_to_float(rest) * 0x1p112f));
}

inline float low_half(uint32_t pair) { return to_float(half_t{(uint16_t)pair}); }
inline float high_half(uint32_t pair) { return to_float(half_t{(uint16_t)(pair >> 16)}); }

template <typename T> inline T from_float(float x);
template <> inline float from_float<float>(float x) { return x; }

template <> inline bfloat_t from_float<bfloat_t>(float x)
{
    uint32_t bits = float_to_bits(x);
    if (x != x)
        return {0x7fff};
    return {(uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

template <> inline half_t from_float<half_t>(float x)
{
    uint16_t sign = (uint16_t)(float_to_bits(x) >> 16 & 0x8000);
    float magnitude = fabsf(x);
    if (x != x)
        return {0x7fff};
    if (magnitude >= 65520.0f)
        return {(uint16_t)(sign | 0x7c00)};
    if (magnitude < 6.103515625e-5f)     // subnormal: a multiple of 2^-24, rounded to even
        return {(uint16_t)(sign | (uint16_t)nearbyintf(ldexpf(magnitude, 24)))};
    uint32_t bits = float_to_bits(magnitude);
    bits += 0xfff + (bits >> 13 & 1);
    return {(uint16_t)(sign | (bits - (112u << 23)) >> 13)};
}

template <typename T> inline uint32_t pack(float low, float high)
{
    return from_float<T>(low).bits | (uint32_t)from_float<T>(high).bits << 16;
}

UNWATCHED inline const uint16_t *matrix_row(const unsigned char *lanes, int lane)
{
    const uint16_t *row;
    memcpy(&row, lanes + lane * emulation::LANE_BYTES, sizeof row);
    emulation::must_be_aligned(row);
    return row;
}

inline void warp_load_matrices(uint32_t out[4], const void *row)
{
    const unsigned char *lanes = emulation::gather(&row, sizeof row);
    int lane = (int)(threadIdx.x % 32);
    for (int m = 0; m < 4; m++) {
        const uint16_t *at = matrix_row(lanes, 8 * m + lane / 4) + 2 * (lane % 4);
        out[m] = at[0] | (uint32_t)at[1] << 16;
    }
}

inline void warp_load_matrices_transposed(uint32_t out[4], const void *row)
{
    const unsigned char *lanes = emulation::gather(&row, sizeof row);
    int lane = (int)(threadIdx.x % 32);
    for (int m = 0; m < 4; m++) {
        const uint16_t *low = matrix_row(lanes, 8 * m + 2 * (lane % 4));
        const uint16_t *high = matrix_row(lanes, 8 * m + 2 * (lane % 4) + 1);
        out[m] = low[lane / 4] | (uint32_t)high[lane / 4] << 16;
    }
}

template <typename T> inline void unpack(float out[2], uint32_t word)
{
    out[0] = to_float(T{(uint16_t)word});
    out[1] = to_float(T{(uint16_t)(word >> 16)});
}

// Lanes exchange their numbers as floats: a's words, then b's.
template <typename T>
UNWATCHED inline void warp_multiply(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    float mine[12];
    for (int i = 0; i < 6; i++)
        unpack<T>(mine + 2 * i, i < 4 ? a[i] : b[i - 4]);
    const unsigned char *lanes = emulation::gather(mine, sizeof mine);
    int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) {
        int row = i / 2, column = 2 * t + i % 2;       // row g + 8 row
        for (int k = 0; k < 16; k++) {
            float left, right;
            memcpy(&left, lanes + (4 * g + k % 8 / 2) * emulation::LANE_BYTES
                          + 4 * (2 * (row + 2 * (k / 8)) + k % 2), sizeof left);
            memcpy(&right, lanes + (4 * column + k % 8 / 2) * emulation::LANE_BYTES
                           + 4 * (2 * (4 + k / 8) + k % 2), sizeof right);
            c[i] += left * right;
        }
    }
}

// Register `number` of lane `lane`.
inline uint32_t register_of(const unsigned char *lanes, int lane, int number)
{
    uint32_t word;
    memcpy(&word, lanes + lane * emulation::LANE_BYTES + 4 * number, sizeof word);
    return word;
}

template <typename Left>
UNWATCHED inline void warp_multiply_bytes(int32_t c[4], const uint32_t a[4], const uint32_t b[2])
{
    uint32_t mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const unsigned char *lanes = emulation::gather(mine, sizeof mine);
    int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) {
        int row = i / 2, column = 2 * t + i % 2;       // row g + 8 row
        for (int k = 0; k < 32; k += 4) {
            uint32_t left = register_of(lanes, 4 * g + k % 16 / 4, row + 2 * (k / 16));
            uint32_t right = register_of(lanes, 4 * column + k % 16 / 4, 4 + k / 16);
            for (int byte = 0; byte < 32; byte += 8)
                c[i] += (int32_t)(Left)(left >> byte) * (int8_t)(right >> byte);
        }
    }
}
