// The platform of kernels on an NVIDIA card: CUDA runtime, cuBLASLt, CUB's radix sort.
#include "compute/cuda/platform.cuh"

#include <cstdio>
#include <cstring>
#include <new>
#include <unordered_map>
#include <vector>

#include <cub/device/device_radix_sort.cuh>
#include <cublasLt.h>

namespace {

enum { WORKSPACE_BYTES = 64 << 20, ALIGNMENT_MAX = 256 };

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
    int shared_bytes, processors;       // of a block, at most; of the card
    cudaStream_t stream;
    cublasLtHandle_t blas;
    void *workspace;
    std::vector<plan> plans;
    std::unordered_map<void *, size_t> blocks;  // what is allocated
    size_t bytes, peak_bytes;                   // of them
    cudaGraphExec_t recordings[RECORDINGS];
    cudaEvent_t marks[MARKS];
    enum akin_status status;            // of the first error
    char message[256];
};

void platform_fail(platform *p, enum akin_status status, const char *what)
{
    if (p->status != AKIN_OK)
        return;
    p->status = status;
    snprintf(p->message, sizeof p->message, "%s", what);
}

namespace {

void check(platform *p, cudaError_t code, const char *what)
{
    if (code == cudaSuccess)
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

}

enum akin_status platform_open(int ordinal, platform **out, struct akin_error *error)
{
    *out = nullptr;
    int count = 0;
    cudaError_t code = cudaGetDeviceCount(&count);
    if (code != cudaSuccess)
        return error_set(error, AKIN_NOT_FOUND, "no CUDA device: %s", cudaGetErrorString(code));
    if (ordinal < 0 || ordinal >= count)
        return error_set(error, AKIN_NOT_FOUND, "there is no CUDA device %d; there are %d", ordinal,
                         count);
    platform *p = new (std::nothrow) platform();
    if (!p)
        return error_memory(error);
    p->ordinal = ordinal;
    check(p, cudaSetDevice(ordinal), "choosing it");
    check(p, cudaDeviceGetAttribute(&p->shared_bytes,
                                    cudaDevAttrMaxSharedMemoryPerBlockOptin, ordinal), "asking it");
    check(p, cudaDeviceGetAttribute(&p->processors, cudaDevAttrMultiProcessorCount, ordinal),
          "asking it");
    check(p, cudaStreamCreateWithFlags(&p->stream, cudaStreamNonBlocking), "making a stream");
    if (p->status != AKIN_OK) {
        enum akin_status status = error_set(error, p->status, "%s", p->message);
        platform_close(p);
        return status;
    }
    *out = p;
    return AKIN_OK;
}

void platform_close(platform *p)
{
    cudaSetDevice(p->ordinal);
    for (plan &each : p->plans) {
        cublasLtMatmulDescDestroy(each.operation);
        cublasLtMatrixLayoutDestroy(each.left);
        cublasLtMatrixLayoutDestroy(each.right);
        cublasLtMatrixLayoutDestroy(each.out);
    }
    for (int slot = 0; slot < RECORDINGS; slot++)
        platform_forget(p, slot);
    for (cudaEvent_t mark : p->marks)
        if (mark)
            cudaEventDestroy(mark);
    if (p->blas)
        cublasLtDestroy(p->blas);
    cudaFree(p->workspace);
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
    cudaError_t code = cudaMalloc(memory, bytes > 0 ? bytes : 1);
    if (code == cudaSuccess) {
        p->blocks[*memory] = bytes;
        p->bytes += bytes;
        p->peak_bytes = p->bytes > p->peak_bytes ? p->bytes : p->peak_bytes;
        return AKIN_OK;
    }
    cudaGetLastError();         // it is told here, and not again
    size_t left = 0, all = 0;
    cudaMemGetInfo(&left, &all);
    return error_set(error, AKIN_MEMORY,
                     "CUDA device %d has no %zu bytes: %zu of %zu are free; a smaller batch or "
                     "slice, or recomputation, needs less",
                     p->ordinal, bytes, left, all);
}

void platform_release(platform *p, void *memory)
{
    if (!memory)
        return;
    p->bytes -= p->blocks[memory];
    p->blocks.erase(memory);
    check(p, cudaFree(memory), "giving memory back");
}

enum akin_status platform_allocate_pinned(platform *p, size_t bytes, void **memory,
                                          struct akin_error *error)
{
    *memory = nullptr;
    cudaError_t code = cudaMallocHost(memory, bytes > 0 ? bytes : 1);
    if (code == cudaSuccess)
        return AKIN_OK;
    cudaGetLastError();
    return error_set(error, AKIN_MEMORY, "CUDA device %d: no %zu bytes of memory that stays in "
                     "place: %s", p->ordinal, bytes, cudaGetErrorString(code));
}

void platform_release_pinned(platform *p, void *memory)
{
    if (memory)
        check(p, cudaFreeHost(memory), "giving memory back");
}

void platform_upload(platform *p, void *to, const void *from, size_t bytes)
{
    check(p, cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, p->stream), "upload");
}

void platform_download(platform *p, void *to, const void *from, size_t bytes)
{
    check(p, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, p->stream), "download");
    check(p, cudaStreamSynchronize(p->stream), "download");
}

void platform_clear(platform *p, void *memory, size_t bytes)
{
    check(p, cudaMemsetAsync(memory, 0, bytes, p->stream), "clearing memory");
}

cudaStream_t platform_stream(const platform *p)
{
    return p->stream;
}

void platform_started(platform *p, const char *what)
{
    check(p, cudaGetLastError(), what);
}

enum akin_status platform_finish(platform *p, struct akin_error *error)
{
    check(p, cudaStreamSynchronize(p->stream), "waiting for it");
    return p->status == AKIN_OK ? AKIN_OK : error_set(error, p->status, "%s", p->message);
}

size_t platform_shared_bytes(const platform *p)
{
    return (size_t)p->shared_bytes;
}

size_t platform_processors(const platform *p)
{
    return (size_t)p->processors;
}

void platform_allow_shared(platform *p, const void *kernel, size_t bytes)
{
    if (bytes > 48 << 10)
        check(p, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      (int)bytes), "shared memory");
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
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulPreferenceCreate(&preference);
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
    if (!p->workspace) {
        check(p, cudaMalloc(&p->workspace, WORKSPACE_BYTES), "memory for products");
        check_blas(p, cublasLtCreate(&p->blas), "opening cuBLASLt");
        p->bytes += WORKSPACE_BYTES;
        p->peak_bytes = p->bytes > p->peak_bytes ? p->bytes : p->peak_bytes;
    }
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
    if (!choose(p, &made))
        return nullptr;
    p->plans.push_back(made);
    return &p->plans.back();
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
    if (cudaStreamBeginCapture(p->stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess)
        return true;
    cudaGetLastError();         // or the next kernel is taken to have failed
    return false;
}

bool platform_record_end(platform *p, int slot)
{
    cudaGraph_t graph = nullptr;
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
    check(p, cudaGraphLaunch(p->recordings[slot], p->stream), "playing a step");
}

void platform_forget(platform *p, int slot)
{
    if (p->recordings[slot])
        cudaGraphExecDestroy(p->recordings[slot]);
    p->recordings[slot] = nullptr;
}

void platform_mark(platform *p, int mark)
{
    if (!p->marks[mark])
        check(p, cudaEventCreate(&p->marks[mark]), "making a mark");
    if (p->marks[mark])
        check(p, cudaEventRecord(p->marks[mark], p->stream), "a mark");
}

double platform_marked_ms(platform *p, int from, int to)
{
    float ms = 0;
    if (p->status == AKIN_OK)
        check(p, cudaEventElapsedTime(&ms, p->marks[from], p->marks[to]), "reading marks");
    return (double)ms;
}
