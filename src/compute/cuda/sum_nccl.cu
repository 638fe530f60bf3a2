// Sums of gradients over several cards by NCCL, on a stream of its own beside the training's. The
// library is loaded when it is first asked for, so that one card needs none. Needs NCCL 2.14, the
// first with communicators that do not block: a call of theirs returns while it is in progress, and
// is asked after until it is done or its time is over (NCCL User Guide, Fault Tolerance). Not part
// of a recorded step.
#include "compute/cuda/cuda_devices.h"

#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <new>

#include <nccl.h>

#include "compute/cuda/train_cuda.cuh"

extern "C" {
#include "base/clock.h"
#include "base/limits.h"
}

#include "compute/cuda/fence.cuh"

static_assert(sizeof(ncclUniqueId) == CUDA_SUM_ID_BYTES, "the size of NCCL's identifiers");

namespace {

struct library {
    decltype(&ncclGetUniqueId) unique_id;
    decltype(&ncclCommInitRankConfig) init;
    decltype(&ncclCommAbort) abort;
    decltype(&ncclCommGetAsyncError) async_error;
    decltype(&ncclAllReduce) all_reduce;
    decltype(&ncclGetErrorString) describe;
};

template <typename T> bool look_up(void *handle, const char *name, T *function)
{
    void *found = dlsym(handle, name);
    memcpy(function, &found, sizeof found);
    return found != nullptr;
}

enum akin_status load(library *l, struct akin_error *error)
{
    void *handle = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);   // stays with the process
    if (!handle)
        return error_set(error, AKIN_NOT_FOUND, "no NCCL: %s", dlerror());
    if (look_up(handle, "ncclGetUniqueId", &l->unique_id)
        && look_up(handle, "ncclCommInitRankConfig", &l->init)
        && look_up(handle, "ncclCommAbort", &l->abort)
        && look_up(handle, "ncclCommGetAsyncError", &l->async_error)
        && look_up(handle, "ncclAllReduce", &l->all_reduce)
        && look_up(handle, "ncclGetErrorString", &l->describe))
        return AKIN_OK;
    return error_set(error, AKIN_UNSUPPORTED, "libnccl.so.2 lacks a function; akin needs 2.14 or "
                     "later");
}

}

struct cuda_sum {
    library nccl;
    ncclComm_t comm;            // NULL: given up
    struct cuda_train *device;
    platform *owner;
    cudaStream_t stream;
    cudaEvent_t ready, done;    // the gradients on the training's stream, the sums on this one
};

namespace {

// How long cards may take to find each other, and sums to come; how often they are asked for.
enum { MEET_SECONDS = 120, SUM_SECONDS = 600, WATCH_US = 20 };

void check_nccl(cuda_sum *s, ncclResult_t code)
{
    if (code == ncclSuccess)
        return;
    char message[256];
    snprintf(message, sizeof message, "NCCL: %s", s->nccl.describe(code));
    platform_fail(s->owner, AKIN_NETWORK, message);
}

void check_cuda(cuda_sum *s, cudaError_t code)
{
    if (code == cudaSuccess)
        return;
    cudaGetLastError();         // or the next kernel of this thread is taken to have failed
    platform_fail(s->owner, AKIN_IO, cudaGetErrorString(code));
}

// Abort, not destroy: where a rank is lost the others must not wait for it.
void give_up(cuda_sum *s)
{
    if (s->comm)
        s->nccl.abort(s->comm);
    s->comm = nullptr;
}

// After a call that returned `code`: waits until the communicator has done it. What it then asks of
// the stream has been asked; not before.
void settle(cuda_sum *s, ncclResult_t code, unsigned seconds, const char *late)
{
    bool in_time = true;
    if (code == ncclInProgress)
        in_time = wait_until(seconds * UINT64_C(1000000000), [&] {
            ncclResult_t asked = s->nccl.async_error(s->comm, &code);
            code = asked == ncclSuccess ? code : asked;
            return code != ncclInProgress;
        });
    if (in_time && code == ncclSuccess)
        return;
    if (in_time)
        check_nccl(s, code);
    else
        platform_fail(s->owner, AKIN_NETWORK, late);
    give_up(s);
}

// Of cards that may be on other machines.
void meet(cuda_sum *s, const unsigned char id[CUDA_SUM_ID_BYTES], size_t rank, size_t world)
{
    ncclUniqueId same;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    memcpy(&same, id, sizeof same);
    config.blocking = 0;
    ncclResult_t code = s->nccl.init(&s->comm, (int)world, same, (int)rank, &config);
    settle(s, code, MEET_SECONDS, "NCCL: the cards of the other ranks did not answer for 120 s; is "
           "one of them lost, or do they not reach each other (NCCL_DEBUG=INFO tells)?");
}

}

enum akin_status cuda_sum_id(unsigned char id[CUDA_SUM_ID_BYTES], struct akin_error *error)
{
    library l;
    ncclUniqueId made;
    TRY(load(&l, error));
    ncclResult_t code = l.unique_id(&made);
    if (code != ncclSuccess)
        return error_set(error, AKIN_NETWORK, "NCCL: %s", l.describe(code));
    memcpy(id, &made, sizeof made);
    return AKIN_OK;
}

enum akin_status cuda_sum_create(struct train_device *device,
                                 const unsigned char id[CUDA_SUM_ID_BYTES], size_t rank,
                                 size_t world, struct cuda_sum **sum, struct akin_error *error)
{
    *sum = nullptr;
    cuda_sum *s = new (std::nothrow) cuda_sum();
    if (!s)
        return error_memory(error);
    s->device = cuda_train_of(device);
    s->owner = s->device->platform;
    platform_enter(s->owner);   // a communicator is of the card that is chosen when it is made
    enum akin_status status = load(&s->nccl, error);
    if (status == AKIN_OK) {
        meet(s, id, rank, world);
        check_cuda(s, cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking));
        check_cuda(s, cudaEventCreateWithFlags(&s->ready, cudaEventDisableTiming));
        check_cuda(s, cudaEventCreateWithFlags(&s->done, cudaEventDisableTiming));
        status = platform_finish(s->owner, error);
    }
    if (status == AKIN_OK)
        *sum = s->device->sum = s;
    else
        cuda_sum_destroy(&s);
    return status;
}

void cuda_sum_start(struct cuda_sum *s, float *values, size_t count)
{
    if (!s->comm)
        return;                 // the error is kept
    check_cuda(s, cudaEventRecord(s->ready, platform_stream(s->owner)));
    check_cuda(s, cudaStreamWaitEvent(s->stream, s->ready, 0));
    ncclResult_t code = s->nccl.all_reduce(values, values, count, ncclFloat, ncclSum, s->comm,
                                           s->stream);
    settle(s, code, MEET_SECONDS, "NCCL: the sums could not be begun for 120 s; is a rank lost?");
}

void cuda_sum_wait(struct cuda_sum *s)
{
    check_cuda(s, cudaEventRecord(s->done, s->stream));
    check_cuda(s, cudaStreamWaitEvent(platform_stream(s->owner), s->done, 0));
    platform_wait_longer(s->owner, RANKS_WAIT_NS);
}

// Where a rank is lost the kernels of the others wait for it for ever, and so would who waits for
// them: only asking NCCL, and giving up, ends that (NCCL User Guide, Error handling and
// communicator abort).
void cuda_sum_watch(struct cuda_sum *s)
{
    uint64_t end = clock_monotonic_ns() + SUM_SECONDS * UINT64_C(1000000000);
    while (s->comm) {
        ncclResult_t state = ncclSuccess;
        cudaError_t code = cudaEventQuery(s->done);
        if (code != cudaErrorNotReady) {
            check_cuda(s, code);
            return;
        }
        cudaGetLastError();     // that it is not ready is no error
        ncclResult_t asked = s->nccl.async_error(s->comm, &state);
        bool late = clock_monotonic_ns() > end;
        if (asked == ncclSuccess && (state == ncclSuccess || state == ncclInProgress) && !late) {
            clock_sleep_us(WATCH_US);
            continue;
        }
        check_nccl(s, asked == ncclSuccess ? state : asked);
        if (late)
            platform_fail(s->owner, AKIN_NETWORK, "NCCL: the sums of the other cards did not come");
        give_up(s);
    }
}

void cuda_sum_destroy(struct cuda_sum **sum)
{
    cuda_sum *s = *sum;
    if (!s)
        return;
    if (s->device->sum == s)
        s->device->sum = nullptr;
    *sum = nullptr;
    if (fence_is_up(s->device->ordinal)) {      // all of these would wait for it
        delete s;
        return;
    }
    platform_enter(s->owner);
    give_up(s);
    if (s->ready)
        cudaEventDestroy(s->ready);
    if (s->done)
        cudaEventDestroy(s->done);
    if (s->stream)
        cudaStreamDestroy(s->stream);
    delete s;
}
