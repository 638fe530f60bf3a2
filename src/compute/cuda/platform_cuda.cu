// The platform of kernels on an NVIDIA card: CUDA runtime, cuBLASLt, CUB's radix sort.
#include "compute/cuda/platform.cuh"

#include <cctype>
#include <cstdio>
#include <cstring>
#include <new>
#include <unordered_map>
#include <vector>

#include <cub/device/device_radix_sort.cuh>
#include <cublasLt.h>

extern "C" {
#include "base/limits.h"
#include "compute/cuda_plugin.h"
}

#include "compute/cuda/fence.cuh"
#include "compute/cuda/ledger.cuh"

namespace {

enum { WORKSPACE_BYTES = 64 << 20, ALIGNMENT_MAX = 256, CAPABILITY_MAJOR_MIN = 8 };

// What a chosen algorithm depends on.
struct plan_key {
    size_t rows, cols, depth, left_stride, right_stride, out_stride;
    unsigned left_alignment, right_alignment, out_alignment;
    bool left_transposed, right_transposed, add, bias;
    number_type in, result;
};

struct plan {
    plan_key key;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t left, right, out;
    cublasLtMatmulAlgo_t algorithm;
};

cudaDataType_t data_type(number_type type)
{
    return type == NUMBER_F32 ? CUDA_R_32F : type == NUMBER_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

unsigned alignment_of(const void *pointer)
{
    uintptr_t bits = reinterpret_cast<uintptr_t>(pointer);
    unsigned alignment = ALIGNMENT_MAX;
    while (bits % alignment != 0)
        alignment /= 2;
    return alignment;
}

}

struct platform {
    int ordinal;
    enum cuda_use use;
    int shared_bytes, processors;       // of a block, at most; of the card
    cudaStream_t stream;
    cublasLtHandle_t blas;
    void *workspace;
    std::vector<plan> plans;
    std::unordered_map<void *, size_t> blocks;  // what is allocated
    size_t bytes, peak_bytes;                   // of them
    std::vector<const void *> widened;          // kernels that may have all shared memory
    std::vector<std::pair<unsigned char *, size_t>> pinned;
    cudaGraphExec_t recordings[RECORDINGS];
    cudaEvent_t marks[2];               // begin and end; made when first asked for
    uint64_t recorded[RECORDINGS];      // kernels of them
    uint64_t asked, longer_ns;          // kernels since it was last waited for; see wait_longer
    uint64_t before;                    // of them, those before the recording under way
    enum akin_status status;            // of the first error
    char message[256];
};

void platform_fail(platform *p, enum akin_status status, const char *what)
{
    if (p->status != AKIN_OK)
        return;
    p->status = status;
    snprintf(p->message, sizeof p->message, "%.*s", (int)sizeof p->message - 1, what);
}

namespace {

// An error that a call of the runtime returns stays as the last one of this thread, whatever
// succeeds after it, and would be taken for the next kernel's. That something is not ready does not
// (CUDA C++ Programming Guide, Error Checking); it costs nothing not to rely on that.
cudaError_t taken(cudaError_t code)
{
    if (code != cudaSuccess)
        cudaGetLastError();
    return code;
}

void check(platform *p, cudaError_t code, const char *what)
{
    if (taken(code) == cudaSuccess)
        return;
    char message[256];
    snprintf(message, sizeof message, "CUDA device %d: %s: %s", p->ordinal, what,
             cudaGetErrorString(code));
    platform_fail(p, code == cudaErrorMemoryAllocation ? AKIN_MEMORY : AKIN_IO, message);
}

void check_blas(platform *p, cublasStatus_t code, const char *what)
{
    if (code == CUBLAS_STATUS_SUCCESS)
        return;
    char message[256];
    snprintf(message, sizeof message, "CUDA device %d: %s: %s", p->ordinal, what,
             cublasLtGetStatusString(code));
    platform_fail(p, AKIN_IO, message);
}

// What is to be done about an error that every program of this machine would get.
const char *remedy(cudaError_t code)
{
    switch (code) {
    case cudaErrorInsufficientDriver:
        return ": install a newer driver of NVIDIA's (CUDA 13 needs 580 or later)";
    case cudaErrorNoDevice:
        return ": see nvidia-smi, and CUDA_VISIBLE_DEVICES of the environment";
    case cudaErrorSystemNotReady:
        return ": is nvidia-fabricmanager running?";
    case cudaErrorDevicesUnavailable:
        return ": another program has it for itself alone (nvidia-smi -c DEFAULT)";
    default:
        return "";
    }
}

enum akin_status given_up(int ordinal, struct akin_error *error)
{
    return error_set(error, AKIN_IO, "CUDA device %d was given up: it did not answer earlier",
                     ordinal);
}

bool is_given_up(platform *p)
{
    struct akin_error error = {};
    if (!fence_is_up(p->ordinal))
        return false;
    platform_fail(p, given_up(p->ordinal, &error), error.message);
    return true;
}

// Until all that was asked is done, or the card is given up.
void wait(platform *p, const char *what)
{
    cudaError_t code = cudaSuccess;
    uint64_t limit_ns = CARD_WAIT_NS + p->longer_ns + p->asked * CARD_WAIT_KERNEL_NS;
    p->asked = p->longer_ns = 0;
    if (is_given_up(p))
        return;
    bool answered = wait_until(limit_ns, [&] {
        code = taken(cudaStreamQuery(p->stream));
        return code != cudaErrorNotReady || fence_is_up(p->ordinal);
    });
    if (answered && code != cudaErrorNotReady) {
        check(p, code, what);
        return;
    }
    if (!answered) {
        char message[256];
        fence_raise(p->ordinal);
        snprintf(message, sizeof message, "CUDA device %d has not answered for %.0f s: it is given "
                 "up, with its memory, until this program ends; see nvidia-smi -q and the kernel's "
                 "log for Xid", p->ordinal, (double)limit_ns * 1e-9);
        platform_fail(p, AKIN_IO, message);
    }
    is_given_up(p);
}

bool is_pinned(const platform *p, const void *memory, size_t bytes)
{
    const unsigned char *at = static_cast<const unsigned char *>(memory);
    for (const auto &each : p->pinned)
        if (at >= each.first && at + bytes <= each.first + each.second)
            return true;
    return false;
}

}

int platform_count(void)
{
    int count = 0;
    return taken(cudaGetDeviceCount(&count)) == cudaSuccess ? count : 0;
}

enum akin_status platform_describe(int ordinal, struct cuda_description *d,
                                   struct akin_error *error)
{
    cudaDeviceProp properties;
    *d = {};
    if (fence_is_up(ordinal))
        return given_up(ordinal, error);
    cudaError_t code = cudaSetDevice(ordinal);
    if (code == cudaSuccess)
        code = cudaGetDeviceProperties(&properties, ordinal);
    if (code == cudaSuccess)
        code = cudaMemGetInfo(&d->memory_free, &d->memory_total);
    if (code == cudaSuccess)
        code = cudaDriverGetVersion(&d->driver);
    if (code == cudaSuccess)
        code = cudaRuntimeGetVersion(&d->runtime);
    if (code == cudaSuccess)
        code = cudaDeviceGetPCIBusId(d->bus, (int)sizeof d->bus, ordinal);
    if (taken(code) != cudaSuccess)
        return error_set(error, AKIN_NOT_FOUND, "CUDA device %d: %s%s", ordinal,
                         cudaGetErrorString(code), remedy(code));
    snprintf(d->name, sizeof d->name, "%.*s", (int)sizeof d->name - 1, properties.name);
    for (char *c = d->bus; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    d->processors = properties.multiProcessorCount;
    d->capability = 10 * properties.major + properties.minor;
    d->blas = cublasLtGetVersion();
    return AKIN_OK;
}

size_t platform_held(int ordinal, enum cuda_use use)
{
    return ledger_held(ordinal, use);
}

enum akin_status platform_open(int ordinal, platform **out, struct akin_error *error,
                               enum cuda_use use)
{
    *out = nullptr;
    int count = 0;
    cudaError_t code = taken(cudaGetDeviceCount(&count));
    if (code != cudaSuccess)
        return error_set(error, AKIN_NOT_FOUND, "no CUDA device: %s%s", cudaGetErrorString(code),
                         remedy(code));
    if (ordinal < 0 || ordinal >= count)
        return error_set(error, AKIN_NOT_FOUND, "there is no CUDA device %d; there are %d", ordinal,
                         count);
    if (fence_is_up(ordinal))
        return given_up(ordinal, error);
    platform *p = new (std::nothrow) platform();
    if (!p)
        return error_memory(error);
    p->ordinal = ordinal;
    p->use = use;
    check(p, cudaSetDevice(ordinal), "choosing it");
    check(p, cudaDeviceGetAttribute(&p->shared_bytes,
                                    cudaDevAttrMaxSharedMemoryPerBlockOptin, ordinal), "asking it");
    check(p, cudaDeviceGetAttribute(&p->processors, cudaDevAttrMultiProcessorCount, ordinal),
          "asking it");
    int major = 0;
    check(p, cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal),
          "asking it");
    if (p->status == AKIN_OK && major < CAPABILITY_MAJOR_MIN)
        platform_fail(p, AKIN_UNSUPPORTED, "this GPU is of a compute capability below 8.0, which "
                      "is what akin has kernels for: use --device cpu");
    check(p, cudaStreamCreateWithFlags(&p->stream, cudaStreamNonBlocking), "making a stream");
    if (p->status != AKIN_OK) {
        enum akin_status status = error_set(error, p->status, "%s", p->message);
        platform_close(p);
        return status;
    }
    *out = p;
    return AKIN_OK;
}

namespace {

void release(plan *made)
{
    if (made->operation)
        cublasLtMatmulDescDestroy(made->operation);
    for (cublasLtMatrixLayout_t each : {made->left, made->right, made->out})
        if (each)
            cublasLtMatrixLayoutDestroy(each);
}

}

void platform_close(platform *p)
{
    if (fence_is_up(p->ordinal)) {      // all of these would wait for it
        delete p;
        return;
    }
    cudaSetDevice(p->ordinal);
    for (plan &each : p->plans)
        release(&each);
    for (int slot = 0; slot < RECORDINGS; slot++)
        platform_forget(p, slot);
    for (cudaEvent_t each : p->marks)
        if (each)
            cudaEventDestroy(each);
    if (p->blas)
        cublasLtDestroy(p->blas);
    platform_release(p, p->workspace);
    if (p->stream)
        cudaStreamDestroy(p->stream);
    delete p;
}

void platform_enter(platform *p)
{
    check(p, cudaSetDevice(p->ordinal), "choosing it");
}

size_t platform_peak_bytes(const platform *p)
{
    return p->peak_bytes;
}

enum akin_status platform_allocate(platform *p, size_t bytes, void **memory,
                                   struct akin_error *error)
{
    *memory = nullptr;
    if (is_given_up(p))
        return error_set(error, p->status, "%s", p->message);
    if (taken(cudaMalloc(memory, bytes > 0 ? bytes : 1)) == cudaSuccess) {
        if (!within_memory([&] { p->blocks.emplace(*memory, bytes); })) {
            cudaFree(*memory);
            *memory = nullptr;
            return error_memory(error);
        }
        p->bytes += bytes;
        ledger_take(p->ordinal, p->use, bytes);
        p->peak_bytes = p->bytes > p->peak_bytes ? p->bytes : p->peak_bytes;
        return AKIN_OK;
    }
    size_t left = 0, all = 0;
    taken(cudaMemGetInfo(&left, &all));
    return error_set(error, AKIN_MEMORY,
                     "CUDA device %d has no %zu bytes: %zu of %zu are free; a smaller batch or "
                     "slice, or recomputation, needs less",
                     p->ordinal, bytes, left, all);
}

void platform_release(platform *p, void *memory)
{
    if (!memory || fence_is_up(p->ordinal))
        return;
    auto block = p->blocks.find(memory);
    ASSERT(block != p->blocks.end());
    p->bytes -= block->second;
    ledger_give(p->ordinal, p->use, block->second);
    p->blocks.erase(block);
    check(p, cudaFree(memory), "giving memory back");
}

enum akin_status platform_allocate_pinned(platform *p, size_t bytes, void **memory,
                                          struct akin_error *error)
{
    *memory = nullptr;
    if (is_given_up(p))
        return error_set(error, p->status, "%s", p->message);
    cudaError_t code = taken(cudaMallocHost(memory, bytes > 0 ? bytes : 1));
    if (code == cudaSuccess) {
        unsigned char *begin = static_cast<unsigned char *>(*memory);
        if (within_memory([&] { p->pinned.push_back({begin, bytes}); }))
            return AKIN_OK;
        cudaFreeHost(*memory);
        *memory = nullptr;
        return error_memory(error);
    }
    return error_set(error, AKIN_MEMORY, "CUDA device %d: no %zu bytes of memory that stays in "
                     "place: %s", p->ordinal, bytes, cudaGetErrorString(code));
}

void platform_release_pinned(platform *p, void *memory)
{
    if (!memory || fence_is_up(p->ordinal))
        return;
    for (size_t i = 0; i < p->pinned.size(); i++)
        if (p->pinned[i].first == memory) {
            p->pinned.erase(p->pinned.begin() + (ptrdiff_t)i);
            break;
        }
    check(p, cudaFreeHost(memory), "giving memory back");
}

void platform_upload(platform *p, void *to, const void *from, size_t bytes)
{
    if (!is_given_up(p))
        check(p, cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, p->stream), "upload");
}

void platform_download(platform *p, void *to, const void *from, size_t bytes)
{
    // a copy to memory that may move waits for all before it, without an end
    if (!is_pinned(p, to, bytes))
        wait(p, "download");
    if (is_given_up(p))
        return;
    check(p, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, p->stream), "download");
    wait(p, "download");
}

void platform_clear(platform *p, void *memory, size_t bytes)
{
    if (!is_given_up(p))
        check(p, cudaMemsetAsync(memory, 0, bytes, p->stream), "clearing memory");
}

cudaStream_t platform_stream(const platform *p)
{
    return p->stream;
}

void platform_mark(platform *p)
{
    for (cudaEvent_t &each : p->marks)
        if (!each)
            check(p, cudaEventCreate(&each), "making an event");
    if (p->status == AKIN_OK)
        check(p, cudaEventRecord(p->marks[0], p->stream), "marking the time");
}

void platform_mark_end(platform *p)
{
    if (p->status == AKIN_OK)
        check(p, cudaEventRecord(p->marks[1], p->stream), "marking the time");
}

double platform_marked_ms(platform *p)
{
    float ms = 0;
    if (p->status == AKIN_OK)
        check(p, cudaEventElapsedTime(&ms, p->marks[0], p->marks[1]), "measuring time");
    return (double)ms;
}

double platform_since_mark(platform *p)
{
    platform_mark_end(p);
    return platform_finish(p, nullptr) == AKIN_OK ? platform_marked_ms(p) * 1e-3 : 0;
}

void platform_started(platform *p, const char *what)
{
    check(p, cudaGetLastError(), what);
    p->asked++;
}

enum akin_status platform_finish(platform *p, struct akin_error *error)
{
    wait(p, "waiting for it");
    return p->status == AKIN_OK ? AKIN_OK : error_set(error, p->status, "%s", p->message);
}

void platform_wait_longer(platform *p, uint64_t ns)
{
    p->longer_ns += ns;
}

size_t platform_shared_bytes(const platform *p)
{
    return (size_t)p->shared_bytes;
}

size_t platform_processors(const platform *p)
{
    return (size_t)p->processors;
}

// All that a block may have, once: the limit is the kernel's on this card, not the launch's, so
// that two threads with launches of different sizes must not set it to theirs; and setting it may
// wait for copies that are under way.
void platform_allow_shared(platform *p, const void *kernel, size_t bytes)
{
    if (bytes <= 48 << 10)
        return;
    for (const void *each : p->widened)
        if (each == kernel)
            return;
    check(p, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  p->shared_bytes), "shared memory");
    if (!within_memory([&] { p->widened.push_back(kernel); }))
        platform_fail(p, AKIN_MEMORY, "memory ran out");
}

namespace {

// cuBLASLt thinks in columns: a row-major matrix is its transpose there. So out^T = right^T left^T.
void make_layouts(plan *made, const product *m)
{
    cudaDataType_t in = data_type(m->in), result = data_type(m->result);
    cublasLtMatrixLayoutCreate(&made->right, in, m->right_transposed ? m->depth : m->cols,
                               m->right_transposed ? m->cols : m->depth, (int64_t)m->right_stride);
    cublasLtMatrixLayoutCreate(&made->left, in, m->left_transposed ? m->rows : m->depth,
                               m->left_transposed ? m->depth : m->rows, (int64_t)m->left_stride);
    cublasLtMatrixLayoutCreate(&made->out, result, m->cols, m->rows, (int64_t)m->out_stride);
}

void make_operation(plan *made, const product *m)
{
    cublasLtMatmulDescCreate(&made->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    cublasOperation_t right = m->right_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasOperation_t left = m->left_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasLtMatmulDescSetAttribute(made->operation, CUBLASLT_MATMUL_DESC_TRANSA, &right,
                                   sizeof right);
    cublasLtMatmulDescSetAttribute(made->operation, CUBLASLT_MATMUL_DESC_TRANSB, &left,
                                   sizeof left);
    if (m->bias) {
        cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
        cublasLtMatmulDescSetAttribute(made->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                       sizeof epilogue);
        cublasLtMatmulDescSetAttribute(made->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                       &m->bias, sizeof m->bias);
    }
}

bool choose(platform *p, plan *made)
{
    const plan_key &key = made->key;
    cublasLtMatmulPreference_t preference = nullptr;
    check_blas(p, cublasLtMatmulPreferenceCreate(&preference), "planning a product");
    if (!preference)
        return false;
    size_t workspace = WORKSPACE_BYTES;
    uint32_t right = key.right_alignment, left = key.left_alignment, out = key.out_alignment;
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                         &workspace, sizeof workspace);
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                                         &right, sizeof right);
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                         &left, sizeof left);
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                                         &out, sizeof out);
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
                                         &out, sizeof out);
    cublasLtMatmulHeuristicResult_t best;
    int found = 0;
    cublasStatus_t code = cublasLtMatmulAlgoGetHeuristic(p->blas, made->operation, made->right,
                                                         made->left, made->out, made->out,
                                                         preference, 1, &best, &found);
    cublasLtMatmulPreferenceDestroy(preference);
    if (code != CUBLAS_STATUS_SUCCESS || found == 0) {
        char message[256];
        snprintf(message, sizeof message,
                 "CUDA device %d: cuBLASLt has no product of %zu x %zu by %zu", p->ordinal,
                 key.rows, key.depth, key.cols);
        platform_fail(p, AKIN_UNSUPPORTED, message);
        return false;
    }
    made->algorithm = best.algo;
    return true;
}

// Who multiplies nothing needs neither.
bool open_products(platform *p)
{
    struct akin_error error = {};
    if (p->workspace)
        return p->status == AKIN_OK;
    enum akin_status status = platform_allocate(p, WORKSPACE_BYTES, &p->workspace, &error);
    if (status != AKIN_OK)
        platform_fail(p, status, error.message);
    else
        check_blas(p, cublasLtCreate(&p->blas), "opening cuBLASLt");
    return p->status == AKIN_OK;
}

plan *plan_for(platform *p, const product *m)
{
    if (!open_products(p))
        return nullptr;
    plan_key key;
    memset(&key, 0, sizeof key);        // compared as bytes
    key.rows = m->rows, key.cols = m->cols, key.depth = m->depth;
    key.left_stride = m->left_stride, key.right_stride = m->right_stride;
    key.out_stride = m->out_stride;
    key.left_alignment = alignment_of(m->left), key.right_alignment = alignment_of(m->right);
    key.out_alignment = alignment_of(m->out);
    key.left_transposed = m->left_transposed, key.right_transposed = m->right_transposed;
    key.add = m->add, key.bias = m->bias != nullptr;
    key.in = m->in, key.result = m->result;
    for (plan &each : p->plans)
        if (memcmp(&each.key, &key, sizeof key) == 0)
            return &each;
    plan made = {};
    memcpy(&made.key, &key, sizeof key);
    make_operation(&made, m);
    make_layouts(&made, m);
    if (choose(p, &made)) {
        if (within_memory([&] { p->plans.push_back(made); }))
            return &p->plans.back();
        platform_fail(p, AKIN_MEMORY, "memory ran out");
    }
    release(&made);
    return nullptr;
}

}

void platform_multiply(platform *p, const product *m)
{
    plan *chosen = plan_for(p, m);
    if (!chosen)
        return;
    if (m->bias)
        cublasLtMatmulDescSetAttribute(chosen->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                       &m->bias, sizeof m->bias);
    float one = 1.0f, beta = m->add ? 1.0f : 0.0f;
    check_blas(p, cublasLtMatmul(p->blas, chosen->operation, &one, m->right, chosen->right, m->left,
                                 chosen->left, &beta, m->out, chosen->out, m->out, chosen->out,
                                 &chosen->algorithm, p->workspace, WORKSPACE_BYTES, p->stream),
               "product");
}

size_t platform_sort_bytes(size_t count)
{
    size_t bytes = 0;
    const int32_t *in = nullptr;
    int32_t *out = nullptr;
    cub::DeviceRadixSort::SortPairs(nullptr, bytes, in, out, in, out, count);
    return bytes;
}

void platform_sort(platform *p, const int32_t *keys, int32_t *keys_out, const int32_t *values,
                   int32_t *values_out, size_t count, void *scratch, size_t scratch_bytes)
{
    check(p, cub::DeviceRadixSort::SortPairs(scratch, scratch_bytes, keys, keys_out, values,
                                             values_out, count, 0, 32, p->stream), "sort");
}

bool platform_record_begin(platform *p)
{
    if (taken(cudaStreamBeginCapture(p->stream, cudaStreamCaptureModeThreadLocal)) != cudaSuccess)
        return false;
    p->before = p->asked;
    p->asked = 0;
    return true;
}

bool platform_record_end(platform *p, int slot)
{
    cudaGraph_t graph = nullptr;
    p->recorded[slot] = p->asked;
    p->asked = p->before;
    check(p, cudaStreamEndCapture(p->stream, &graph), "recording a step");
    if (!graph)
        return false;
    platform_forget(p, slot);
    check(p, cudaGraphInstantiate(&p->recordings[slot], graph, 0), "recording a step");
    cudaGraphDestroy(graph);
    if (p->status != AKIN_OK)
        return false;
    platform_play(p, slot);
    return true;
}

void platform_play(platform *p, int slot)
{
    p->asked += p->recorded[slot];
    if (!is_given_up(p))
        check(p, cudaGraphLaunch(p->recordings[slot], p->stream), "playing a step");
}

void platform_forget(platform *p, int slot)
{
    if (p->recordings[slot])
        cudaGraphExecDestroy(p->recordings[slot]);
    p->recordings[slot] = nullptr;
}
