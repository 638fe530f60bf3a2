// What kernels stand on: memory, one stream, matrix products, sorting, recording. platform_cuda.cu
// has it from the CUDA runtime, cuBLASLt and CUB; the emulation of the tests from the C library.
// Calls are asynchronous; the first error is kept and told by platform_finish.
#pragma once

#include <new>

#include "compute/cuda/portable.cuh"

extern "C" {
#include "base/status.h"
#include "compute/cuda_use.h"
}

struct platform;
struct cuda_description;

// Cards that can be used, and what one is.
int platform_count(void);
enum akin_status platform_describe(int ordinal, struct cuda_description *description,
                                   struct akin_error *error);
// Bytes that this process holds on a card for one use.
size_t platform_held(int ordinal, enum cuda_use use);

// Runs what makes containers grow; false: memory of the host has run out. Who is called from C must
// not let that out as an exception.
template <typename Work> bool within_memory(Work work)
{
    try {
        work();
    } catch (const std::bad_alloc &) {
        return false;
    }
    return true;
}

enum number_type { NUMBER_F32, NUMBER_F16, NUMBER_BF16 };

template <typename T> struct number_of;
template <> struct number_of<float> { static const number_type type = NUMBER_F32; };
template <> struct number_of<half_t> { static const number_type type = NUMBER_F16; };
template <> struct number_of<bfloat_t> { static const number_type type = NUMBER_BF16; };

// out [rows][cols] = left [rows][depth] right [depth][cols] + bias [cols] + add * out, all row-
// major; left_transposed: left lies as [depth][rows]; right_transposed: as [cols][depth]. Strides
// in numbers. Sums in float32 and, for F32, factors in float32 too (no TF32). bias is of out's
// type.
struct product {
    const void *left, *right, *bias;    // bias may be NULL
    void *out;
    size_t rows, cols, depth, left_stride, right_stride, out_stride;
    bool left_transposed, right_transposed, add;
    number_type in, result;             // result: in, or F32
};

// `use`: what all of its memory is for.
enum akin_status platform_open(int ordinal, platform **out, struct akin_error *error,
                               enum cuda_use use = CUDA_USE_OTHER);
void platform_close(platform *p);
// A thread that did not open it says so before it goes on with it.
void platform_enter(platform *p);

enum akin_status platform_allocate(platform *p, size_t bytes, void **memory,
                                   struct akin_error *error);
void platform_release(platform *p, void *memory);
// Of the host, for copies that do not hold up others.
enum akin_status platform_allocate_pinned(platform *p, size_t bytes, void **memory,
                                          struct akin_error *error);
void platform_release_pinned(platform *p, void *memory);
// The most that was allocated at once.
size_t platform_peak_bytes(const platform *p);
void platform_upload(platform *p, void *to, const void *from, size_t bytes);
void platform_download(platform *p, void *to, const void *from, size_t bytes);
void platform_clear(platform *p, void *memory, size_t bytes);
cudaStream_t platform_stream(const platform *p);
// Seconds of the device's own clock from the mark to the end of what was asked since; waits for it.
void platform_mark(platform *p);
double platform_since_mark(platform *p);
// The same without waiting: where it ends, and, once that was waited for, milliseconds up to there.
void platform_mark_end(platform *p);
double platform_marked_ms(platform *p);
// After kernels were started: keeps an error of the start.
void platform_started(platform *p, const char *what);
void platform_fail(platform *p, enum akin_status status, const char *what);
// A card that does not answer in time is given up (fence.cuh): AKIN_IO, and so is all that is asked
// of it from then on. The time grows with the kernels that were started.
enum akin_status platform_finish(platform *p, struct akin_error *error);
// What was asked waits for others, so that much longer.
void platform_wait_longer(platform *p, uint64_t ns);
// Shared memory that a block may have, and how many processors there are.
size_t platform_shared_bytes(const platform *p);
size_t platform_processors(const platform *p);
// Lets kernels of this function have up to `bytes` of shared memory.
void platform_allow_shared(platform *p, const void *kernel, size_t bytes);

void platform_multiply(platform *p, const product *product);

// keys [count] ascending with their values, equal keys in the order in which they came. scratch:
// platform_sort_bytes(count).
size_t platform_sort_bytes(size_t count);
void platform_sort(platform *p, const int32_t *keys, int32_t *keys_out, const int32_t *values,
                   int32_t *values_out, size_t count, void *scratch, size_t scratch_bytes);

// Recording of what is asked of the stream, to be played back as one. record_end keeps it under
// `slot`; false: recording is not possible here, and everything was done at once.
enum { RECORDINGS = 16 };
bool platform_record_begin(platform *p);
bool platform_record_end(platform *p, int slot);
void platform_play(platform *p, int slot);
void platform_forget(platform *p, int slot);

