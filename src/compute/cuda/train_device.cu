// The CUDA device of training: memory, numbers of a step, scratch, recording, the table.
#include "compute/cuda/cuda_devices.h"

#include <cmath>
#include <cstring>
#include <new>

#include "compute/cuda/train_cuda.cuh"

namespace {

bool supports(const struct train_device *, enum train_precision)
{
    return true;
}

enum akin_status allocate(struct train_device *base, size_t bytes, void **memory,
                          struct akin_error *error)
{
    cuda_train *device = cuda_train_of(base);
    enum akin_status status = platform_allocate(device->platform, bytes, memory, error);
    if (status == AKIN_OK)
        platform_clear(device->platform, *memory, bytes);
    return status;
}

void pass_numbers(step_numbers *numbers, const struct train_pass *pass)
{
    numbers->key[0] = (uint32_t)pass->seed;
    numbers->key[1] = (uint32_t)(pass->seed >> 32);
    numbers->step = pass->step;
    numbers->loss_scale = pass->loss_scale;
}

void update_numbers(step_numbers *numbers, const struct train_update *u)
{
    numbers->rate = u->rate;
    numbers->decay = u->decay;
    numbers->beta1 = u->beta1;
    numbers->beta2 = u->beta2;
    numbers->epsilon = u->epsilon;
    numbers->gradient_factor = u->gradient_factor;
    numbers->correction1 = (float)(1 - pow((double)u->beta1, (double)u->step));
    numbers->correction2 = (float)(1 - pow((double)u->beta2, (double)u->step));
}

// Only what differs from what the device has: nothing while a step is recorded. From memory that
// stays: a copy may still read it when the call is back.
void send(cuda_train *device, const step_numbers *numbers)
{
    if (memcmp(&device->sent, numbers, sizeof *numbers) == 0)
        return;
    device->sent = *numbers;
    platform_upload(device->platform, device->now, &device->sent, sizeof device->sent);
}

// Memory that a recording may know is about to change.
void forget_recording(cuda_train *device)
{
    platform_forget(device->platform, 0);
    device->owner = nullptr;
    device->steps = 0;
}

void release(struct train_device *base, void *memory)
{
    if (memory)
        forget_recording(cuda_train_of(base));
    platform_release(cuda_train_of(base)->platform, memory);
}

void upload(struct train_device *base, void *to, const void *from, size_t bytes)
{
    platform_upload(cuda_train_of(base)->platform, to, from, bytes);
}

void download(struct train_device *base, void *to, const void *from, size_t bytes)
{
    platform_download(cuda_train_of(base)->platform, to, from, bytes);
}

void clear(struct train_device *base, void *memory, size_t bytes)
{
    platform_clear(cuda_train_of(base)->platform, memory, bytes);
}

enum akin_status finish(struct train_device *base, struct akin_error *error)
{
    cuda_train *device = cuda_train_of(base);
#ifdef AKIN_NCCL
    if (device->sum)
        cuda_sum_watch(device->sum);
#endif
    return platform_finish(device->platform, error);
}

void destroy(struct train_device **base)
{
    if (!*base)
        return;
    cuda_train *device = cuda_train_of(*base);
    if (device->platform) {
        platform_enter(device->platform);
        platform_release(device->platform, device->scratch);
        platform_release(device->platform, device->now);
        platform_close(device->platform);
    }
    delete device;
    *base = nullptr;
}

// The first step of an owner runs as it is asked for, and makes all scratch and plans; the second
// is recorded, and later ones are played.
bool step_begin(struct train_device *base, const void *owner, const struct train_pass *pass,
                const struct train_update *update)
{
    cuda_train *device = cuda_train_of(base);
    platform_enter(device->platform);
    if (owner != device->owner)
        forget_recording(device);
    device->owner = owner;
    step_numbers numbers = device->sent;
    pass_numbers(&numbers, pass);
    update_numbers(&numbers, update);
    send(device, &numbers);
    device->steps += device->steps < 3;
    if (device->steps == 3) {
        platform_play(device->platform, 0);
        return true;
    }
    device->recording = device->steps == 2 && platform_record_begin(device->platform);
    return false;
}

void step_end(struct train_device *base)
{
    cuda_train *device = cuda_train_of(base);
    if (device->steps == 2 && !(device->recording && platform_record_end(device->platform, 0)))
        device->steps = 1;      // never played
    device->recording = false;
}

template <typename T> struct train_ops table_of(void)
{
    struct train_ops ops = {};
    ops.name = "cuda";
    ops.supports = supports;
    ops.allocate = allocate;
    ops.release = release;
    ops.upload = upload;
    ops.download = download;
    ops.clear = clear;
    ops.finish = finish;
    ops.destroy = destroy;
    ops.step_begin = step_begin;
    ops.step_end = step_end;
    linear_operations<T>(&ops);
    attention_operations<T>(&ops);
    feed_forward_operations<T>(&ops);
    cross_entropy_operations<T>(&ops);
    row_operations(&ops);
    return ops;
}

const struct train_ops *table_for(enum train_precision precision)
{
    static const struct train_ops F32 = table_of<float>(), F16 = table_of<half_t>(),
                                  BF16 = table_of<bfloat_t>();
    return precision == TRAIN_FP32 ? &F32 : precision == TRAIN_FP16 ? &F16 : &BF16;
}

}

dropping dropping_of(cuda_train *device, const struct train_pass *pass, uint32_t site)
{
    step_numbers numbers = device->sent;
    pass_numbers(&numbers, pass);
    send(device, &numbers);
    uint32_t threshold = dropout_threshold(pass->dropout);
    return {threshold, site, 65536.0f / (65536.0f - (float)threshold), device->now};
}

void cuda_train_send_update(cuda_train *device, const struct train_update *update)
{
    step_numbers numbers = device->sent;
    update_numbers(&numbers, update);
    send(device, &numbers);
}

// Grows at the first step, while nothing is recorded.
unsigned char *cuda_train_scratch(cuda_train *device, size_t bytes)
{
    if (bytes <= device->scratch_bytes)
        return device->scratch;
    struct akin_error error;
    platform_finish(device->platform, nullptr);
    platform_release(device->platform, device->scratch);
    device->scratch = nullptr;
    device->scratch_bytes = 0;
    void *memory;
    if (platform_allocate(device->platform, bytes, &memory, &error) != AKIN_OK) {
        platform_fail(device->platform, AKIN_MEMORY, error.message);
        return nullptr;
    }
    device->scratch = static_cast<unsigned char *>(memory);
    device->scratch_bytes = bytes;
    return device->scratch;
}

size_t cuda_train_peak_bytes(const struct train_device *base)
{
    return platform_peak_bytes(cuda_train_of(base)->platform);
}

enum akin_status cuda_train_create(int ordinal, enum train_precision precision,
                                   struct train_device **out, struct akin_error *error)
{
    *out = nullptr;
    cuda_train *device = new (std::nothrow) cuda_train();
    if (!device)
        return error_memory(error);
    device->base.ops = table_for(precision);
    device->ordinal = ordinal;
    device->precision = precision;
    struct train_device *base = &device->base;
    enum akin_status status = platform_open(ordinal, &device->platform, error, CUDA_USE_TRAINING);
    void *now = nullptr;
    if (status == AKIN_OK)
        status = platform_allocate(device->platform, sizeof *device->now, &now, error);
    device->now = static_cast<step_numbers *>(now);
    if (status != AKIN_OK) {
        destroy(&base);
        return status;
    }
    platform_clear(device->platform, device->now, sizeof *device->now);
    *out = base;
    return AKIN_OK;
}
