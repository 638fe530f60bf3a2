// The platform of compute/cuda/platform.cuh from the C library: memory of the host, products as
// plain loops with sums in double. What is recorded is not done, as in CUDA, until it is played;
// what a card would refuse meanwhile aborts.
#include "compute/cuda/platform.cuh"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <vector>

struct platform {
    enum akin_status status;
    char message[256];
    bool recording;
    std::vector<std::function<void()>> taken, kept[RECORDINGS];
};

static void not_recording(const platform *p, const char *what)
{
    if (!p->recording)
        return;
    fprintf(stderr, "%s while a step is recorded\n", what);
    abort();
}

enum akin_status platform_open(int, platform **out, struct akin_error *)
{
    *out = new platform();
    return AKIN_OK;
}

void platform_close(platform *p)
{
    delete p;
}

void platform_enter(platform *)
{
}

enum akin_status platform_allocate_pinned(platform *p, size_t bytes, void **memory,
                                          struct akin_error *error)
{
    return platform_allocate(p, bytes, memory, error);
}

void platform_release_pinned(platform *p, void *memory)
{
    platform_release(p, memory);
}

size_t platform_peak_bytes(const platform *)
{
    return 0;
}

enum akin_status platform_allocate(platform *p, size_t bytes, void **memory,
                                   struct akin_error *error)
{
    not_recording(p, "allocation");
    *memory = aligned_alloc(256, (bytes + 511) / 256 * 256);
    if (!*memory)
        return error_set(error, AKIN_MEMORY, "no %zu bytes", bytes);
    memset(*memory, 0xff, bytes);       // what nobody wrote is a number that shows
    return AKIN_OK;
}

void platform_release(platform *p, void *memory)
{
    not_recording(p, "release");
    free(memory);
}

void platform_upload(platform *p, void *to, const void *from, size_t bytes)
{
    not_recording(p, "upload");
    memcpy(to, from, bytes);
}

void platform_download(platform *p, void *to, const void *from, size_t bytes)
{
    not_recording(p, "download");
    memcpy(to, from, bytes);
}

void platform_clear(platform *, void *memory, size_t bytes)
{
    emulation::ask([=] { memset(memory, 0, bytes); });
}

cudaStream_t platform_stream(const platform *)
{
    return nullptr;
}

void platform_started(platform *, const char *)
{
}

void platform_fail(platform *p, enum akin_status status, const char *what)
{
    p->status = status;
    snprintf(p->message, sizeof p->message, "%s", what);
}

enum akin_status platform_finish(platform *p, struct akin_error *error)
{
    not_recording(p, "waiting");
    return p->status == AKIN_OK ? AKIN_OK : error_set(error, p->status, "%s", p->message);
}

size_t platform_shared_bytes(const platform *)
{
    return 227 << 10;
}

size_t platform_processors(const platform *)
{
    return 6;
}

void platform_allow_shared(platform *, const void *, size_t)
{
}

static float number_at(const void *data, number_type type, size_t i)
{
    if (type == NUMBER_F32)
        return static_cast<const float *>(data)[i];
    if (type == NUMBER_F16)
        return to_float(static_cast<const half_t *>(data)[i]);
    return to_float(static_cast<const bfloat_t *>(data)[i]);
}

static void put_number(void *data, number_type type, size_t i, float value)
{
    if (type == NUMBER_F32)
        static_cast<float *>(data)[i] = value;
    else if (type == NUMBER_F16)
        static_cast<half_t *>(data)[i] = from_float<half_t>(value);
    else
        static_cast<bfloat_t *>(data)[i] = from_float<bfloat_t>(value);
}

static void multiply(const product *m)
{
    for (size_t r = 0; r < m->rows; r++)
        for (size_t c = 0; c < m->cols; c++) {
            double sum = m->bias ? number_at(m->bias, m->result, c) : 0.0;
            size_t out = r * m->out_stride + c;
            if (m->add)
                sum += number_at(m->out, m->result, out);
            for (size_t k = 0; k < m->depth; k++) {
                size_t left = m->left_transposed ? k * m->left_stride + r : r * m->left_stride + k;
                size_t right = m->right_transposed ? c * m->right_stride + k
                                                   : k * m->right_stride + c;
                sum += (double)number_at(m->left, m->in, left)
                       * (double)number_at(m->right, m->in, right);
            }
            put_number(m->out, m->result, out, (float)sum);
        }
}

void platform_multiply(platform *, const product *m)
{
    product copy = *m;
    emulation::ask([=] { multiply(&copy); });
}

size_t platform_sort_bytes(size_t)
{
    return 1;
}

static void sort(const int32_t *keys, int32_t *keys_out, const int32_t *values,
                 int32_t *values_out, size_t count)
{
    std::vector<size_t> order(count);
    std::iota(order.begin(), order.end(), (size_t)0);
    std::stable_sort(order.begin(), order.end(),
                     [=](size_t a, size_t b) { return keys[a] < keys[b]; });
    for (size_t i = 0; i < count; i++) {
        keys_out[i] = keys[order[i]];
        values_out[i] = values[order[i]];
    }
}

void platform_sort(platform *, const int32_t *keys, int32_t *keys_out, const int32_t *values,
                   int32_t *values_out, size_t count, void *, size_t)
{
    emulation::ask([=] { sort(keys, keys_out, values, values_out, count); });
}

bool platform_record_begin(platform *p)
{
    p->recording = true;
    p->taken.clear();
    emulation::record(&p->taken);
    return true;
}

bool platform_record_end(platform *p, int slot)
{
    emulation::record(nullptr);
    p->recording = false;
    p->kept[slot].swap(p->taken);
    platform_play(p, slot);
    return true;
}

void platform_play(platform *p, int slot)
{
    not_recording(p, "playing");
    for (const std::function<void()> &each : p->kept[slot])
        each();
}

void platform_forget(platform *p, int slot)
{
    p->kept[slot].clear();
}

void platform_mark(platform *p, int)
{
    not_recording(p, "a mark");
}

double platform_marked_ms(platform *, int, int)
{
    return 0;
}
