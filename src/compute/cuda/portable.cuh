// What every kernel file includes. Under nvcc this is CUDA; under a plain C++ compiler it is
// tests/cuda_emulation/emulation.cuh, which runs the same kernels thread by thread on the CPU, so
// that index arithmetic, barriers and the layout of fragments are tested where there is no GPU.
//
// Rules that make one source do for both: kernels are started by LAUNCH; shared memory is the one
// block SHARED(type, name) of dynamic size; all lanes of a warp reach the same warp_ functions and
// all threads of a block the same __syncthreads().
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

typedef __half half_t;
typedef __nv_bfloat16 bfloat_t;

#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                       \
    kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__)
#define UNROLL _Pragma("unroll")
#define UNROLL_4 _Pragma("unroll 4")
#define ROLLED _Pragma("unroll 1")
#define SHARED(type, name)                                                           \
    extern __shared__ __align__(16) unsigned char shared_block_[];                   \
    type *name = reinterpret_cast<type *>(shared_block_)

__device__ __forceinline__ float warp_shuffle(float value, int lane)
{
    return __shfl_sync(0xffffffffu, value, lane);
}

__device__ __forceinline__ uint32_t warp_shuffle(uint32_t value, int lane)
{
    return __shfl_sync(0xffffffffu, value, lane);
}

__device__ __forceinline__ uint32_t warp_ballot(bool yes)
{
    return __ballot_sync(0xffffffffu, yes);
}

__device__ __forceinline__ uint32_t score_bits(float x) { return __float_as_uint(x); }
__device__ __forceinline__ float bits_score(uint32_t bits) { return __uint_as_float(bits); }
__device__ __forceinline__ int count_bits(uint32_t bits) { return __popc(bits); }
__device__ __forceinline__ int lowest_bit(uint32_t bits) { return __ffs((int)bits) - 1; }

// sum + the products of four signed bytes with four
__device__ __forceinline__ int32_t dot_bytes(uint32_t a, uint32_t b, int32_t sum)
{
    return __dp4a((int)a, (int)b, sum);
}
// Rounded, whatever it is added to.
__device__ __forceinline__ float round_product(float a, float b) { return __fmul_rn(a, b); }

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(half_t x) { return __half2float(x); }
__device__ __forceinline__ float to_float(bfloat_t x) { return __bfloat162float(x); }
__device__ __forceinline__ float low_half(uint32_t pair)
{
    return __half2float(__ushort_as_half((unsigned short)(pair & 0xffff)));
}
__device__ __forceinline__ float high_half(uint32_t pair)
{
    return __half2float(__ushort_as_half((unsigned short)(pair >> 16)));
}
template <typename T> __host__ __device__ __forceinline__ T from_float(float x);
template <> __host__ __device__ __forceinline__ float from_float<float>(float x) { return x; }
template <> __host__ __device__ __forceinline__ half_t from_float<half_t>(float x)
{
    return __float2half_rn(x);
}
template <> __host__ __device__ __forceinline__ bfloat_t from_float<bfloat_t>(float x)
{
    return __float2bfloat16_rn(x);
}

template <typename T> __device__ __forceinline__ uint32_t pack(float low, float high);
template <> __device__ __forceinline__ uint32_t pack<half_t>(float low, float high)
{
    __half2 both = __floats2half2_rn(low, high);
    return *reinterpret_cast<uint32_t *>(&both);
}
template <> __device__ __forceinline__ uint32_t pack<bfloat_t>(float low, float high)
{
    __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<uint32_t *>(&both);
}

// Four 8 x 8 matrices of 16-bit numbers; lane 8 m + r gives the address of row r of matrix m. Lane
// l receives of matrix m the numbers of row l / 4, columns 2 (l % 4) and the next (PTX ISA,
// ldmatrix); transposed: of column l / 4, rows 2 (l % 4) and the next.
__device__ __forceinline__ void warp_load_matrices(uint32_t out[4], const void *row)
{
    uint32_t address = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address)
                 : "memory");
}

__device__ __forceinline__ void warp_load_matrices_transposed(uint32_t out[4], const void *row)
{
    uint32_t address = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address)
                 : "memory");
}

// c [16][8] += a [16][16] b [16][8]. With g = lane / 4, t = lane % 4: a = {(g, 2t), (g + 8, 2t),
// (g, 2t + 8), (g + 8, 2t + 8)}, b = {(2t, g), (2t + 8, g)}, each with its right (a) or lower (b)
// neighbour; c = {(g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)} (PTX ISA, mma.m16n8k16).
template <typename T>
__device__ __forceinline__ void warp_multiply(float c[4], const uint32_t a[4], const uint32_t b[2]);

template <>
__device__ __forceinline__ void warp_multiply<half_t>(float c[4], const uint32_t a[4],
                                                      const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <>
__device__ __forceinline__ void warp_multiply<bfloat_t>(float c[4], const uint32_t a[4],
                                                        const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// c [16][8] += a [16][32] b [32][8] of bytes, those of a signed or not, of b signed. A register has
// four neighbours of a row (a) or column (b): with g and t as above a = {(g, 4t), (g + 8, 4t),
// (g, 4t + 16), (g + 8, 4t + 16)}, b = {(4t, g), (4t + 16, g)}; c as above (PTX ISA, mma.m16n8k32).
// warp_load_matrices brings them as if they were pairs.
template <typename Left>
__device__ __forceinline__ void warp_multiply_bytes(int32_t c[4], const uint32_t a[4],
                                                    const uint32_t b[2]);

template <>
__device__ __forceinline__ void warp_multiply_bytes<int8_t>(int32_t c[4], const uint32_t a[4],
                                                            const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <>
__device__ __forceinline__ void warp_multiply_bytes<uint8_t>(int32_t c[4], const uint32_t a[4],
                                                             const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Sixteen bytes from global to shared memory, or zeros where not valid, beside what the thread goes
// on with. Copies since the last commit are a group; wait<N> returns when at most the last N groups
// of this thread are under way (PTX ISA, cp.async).
__device__ __forceinline__ void copy_async(void *shared, const void *global, bool valid)
{
    uint32_t address = (uint32_t)__cvta_generic_to_shared(shared);
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(address), "l"(global), "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void copy_commit(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int N> __device__ __forceinline__ void copy_wait(void)
{
    asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory");
}

#else
#include "emulation.cuh"
#endif

__device__ inline float warp_sum(float value)
{
    for (int step = 16; step > 0; step /= 2)
        value += warp_shuffle(value, (int)(threadIdx.x % 32) ^ step);
    return value;
}

__device__ inline float warp_max(float value)
{
    for (int step = 16; step > 0; step /= 2)
        value = fmaxf(value, warp_shuffle(value, (int)(threadIdx.x % 32) ^ step));
    return value;
}

// Over four neighbouring lanes, which share a row of a fragment.
__device__ inline float quad_sum(float x)
{
    int lane = (int)(threadIdx.x % 32);
    x += warp_shuffle(x, lane ^ 1);
    return x + warp_shuffle(x, lane ^ 2);
}

__device__ inline float quad_max(float x)
{
    int lane = (int)(threadIdx.x % 32);
    x = fmaxf(x, warp_shuffle(x, lane ^ 1));
    return fmaxf(x, warp_shuffle(x, lane ^ 2));
}
