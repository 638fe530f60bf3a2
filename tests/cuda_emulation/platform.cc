// The platform of compute/cuda/platform.cuh from the C library: memory of the host, products as
// plain loops with sums in double. What is recorded is not done, as in CUDA, until it is played;
// what a card would refuse meanwhile aborts. Cards are made up by cards.cc.
#include "compute/cuda/platform.cuh"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <unordered_map>
#include <vector>

extern "C" {
#include "compute/cuda_plugin.h"
}

#include "cards.h"
#include "guard.h"
#include "compute/cuda/fence.cuh"
#include "compute/cuda/ledger.cuh"

struct platform {
    enum akin_status status;
    char message[256];
    int ordinal;
    enum cuda_use use;
    bool recording;
    std::chrono::steady_clock::time_point marked, ended;
    std::unordered_map<void *, size_t> blocks;
    size_t bytes, peak_bytes;
    std::vector<std::function<void()>> taken, kept[RECORDINGS];
};

static void not_recording(const platform *p, const char *what)
{
    if (!p->recording)
        return;
    fprintf(stderr, "%s while a step is recorded\n", what);
    abort();
}

// A card that is given up is not to be used any more.
static void not_given_up(const platform *p, const char *what)
{
    if (!fence_is_up(p->ordinal))
        return;
    fprintf(stderr, "%s on card %d, which was given up\n", what, p->ordinal);
    abort();
}

int platform_count(void)
{
    return cards_count();
}

enum akin_status platform_describe(int ordinal, struct cuda_description *d,
                                   struct akin_error *error)
{
    *d = {};
    if (ordinal < 0 || ordinal >= cards_count())
        return error_set(error, AKIN_NOT_FOUND, "made-up card %d: there is none", ordinal);
    snprintf(d->name, sizeof d->name, "Made-up card %d", ordinal);
    d->memory_total = cards_memory(ordinal);
    d->memory_free = cards_free(ordinal);
    d->processors = 6;
    d->capability = cards_capability();
    d->driver = d->runtime = 13000;
    d->blas = 130002;
    snprintf(d->bus, sizeof d->bus, "0000:%02x:00.0", 7 + ordinal);
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
    if (ordinal < 0 || ordinal >= cards_count())
        return error_set(error, AKIN_NOT_FOUND, "there is no made-up card %d; there are %d",
                         ordinal, cards_count());
    if (fence_is_up(ordinal))
        return error_set(error, AKIN_IO, "made-up card %d was given up: it did not answer",
                         ordinal);
    *out = new platform();
    (*out)->ordinal = ordinal;
    (*out)->use = use;
    return AKIN_OK;
}

void platform_close(platform *p)
{
    delete p;
}

void platform_enter(platform *)
{
}

// As aligned as on a card, and ending where it was asked to end.
static void *take_memory(size_t bytes)
{
    size_t whole = (bytes + 511) / 256 * 256;
    char *memory = static_cast<char *>(aligned_alloc(256, whole));
    if (memory)
        guard_close(memory + bytes, whole - bytes);
    return memory;
}

enum akin_status platform_allocate_pinned(platform *p, size_t bytes, void **memory,
                                          struct akin_error *error)
{
    not_recording(p, "allocation");
    not_given_up(p, "allocation");
    *memory = take_memory(bytes);
    return *memory ? AKIN_OK : error_memory(error);
}

void platform_release_pinned(platform *p, void *memory)
{
    not_recording(p, "release");
    if (fence_is_up(p->ordinal))
        guard_stays(memory);
    else
        free(memory);
}

size_t platform_peak_bytes(const platform *p)
{
    return p->peak_bytes;
}

enum akin_status platform_allocate(platform *p, size_t bytes, void **memory,
                                   struct akin_error *error)
{
    not_recording(p, "allocation");
    not_given_up(p, "allocation");
    bool fits = cards_take(p->ordinal, bytes);
    *memory = fits ? take_memory(bytes) : nullptr;
    if (!*memory)
        return error_set(error, AKIN_MEMORY, "made-up card %d has no %zu bytes: %zu of %zu are "
                         "free", p->ordinal, bytes, cards_free(p->ordinal),
                         cards_memory(p->ordinal));
    p->blocks[*memory] = bytes;
    p->bytes += bytes;
    ledger_take(p->ordinal, p->use, bytes);
    p->peak_bytes = std::max(p->peak_bytes, p->bytes);
    memset(*memory, 0xff, bytes);       // what nobody wrote is a number that shows
    return AKIN_OK;
}

void platform_release(platform *p, void *memory)
{
    not_recording(p, "release");
    if (memory && fence_is_up(p->ordinal))
        guard_stays(memory);
    if (!memory || fence_is_up(p->ordinal))
        return;
    cards_give(p->ordinal, p->blocks[memory]);
    ledger_give(p->ordinal, p->use, p->blocks[memory]);
    p->bytes -= p->blocks[memory];
    p->blocks.erase(memory);
    free(memory);
}

void platform_upload(platform *p, void *to, const void *from, size_t bytes)
{
    not_recording(p, "upload");
    if (p->status != AKIN_OK)
        return;
    memcpy(to, from, bytes);
}

void platform_download(platform *p, void *to, const void *from, size_t bytes)
{
    not_recording(p, "download");
    card_fault fault = p->status == AKIN_OK ? cards_batch(p->ordinal) : CARD_FINE;
    char message[256];
    snprintf(message, sizeof message, "made-up card %d %s", p->ordinal,
             fault == CARD_FAILS ? "fell out, as it was told to" : "did not answer: it is given "
             "up, and its memory with it, until the program ends");
    if (fault == CARD_FAILS)
        platform_fail(p, AKIN_IO, message);
    // what the card's own wait is told of a hang: never
    if (fault == CARD_HANGS && !wait_until(cards_wait_ns(), [] { return false; })) {
        fence_raise(p->ordinal);
        platform_fail(p, AKIN_IO, message);
    }
    if (p->status == AKIN_OK)
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

void platform_mark(platform *p)
{
    p->marked = std::chrono::steady_clock::now();
}

void platform_mark_end(platform *p)
{
    p->ended = std::chrono::steady_clock::now();
}

double platform_marked_ms(platform *p)
{
    return std::chrono::duration<double, std::milli>(p->ended - p->marked).count();
}

double platform_since_mark(platform *p)
{
    platform_mark_end(p);
    return platform_marked_ms(p) * 1e-3;
}

void platform_started(platform *, const char *)
{
}

void platform_fail(platform *p, enum akin_status status, const char *what)
{
    if (p->status != AKIN_OK)
        return;
    p->status = status;
    snprintf(p->message, sizeof p->message, "%s", what);
}

enum akin_status platform_finish(platform *p, struct akin_error *error)
{
    not_recording(p, "waiting");
    if (fence_is_up(p->ordinal)) {
        char message[256];
        snprintf(message, sizeof message, "made-up card %d was given up: it did not answer earlier",
                 p->ordinal);
        platform_fail(p, AKIN_IO, message);
    }
    return p->status == AKIN_OK ? AKIN_OK : error_set(error, p->status, "%s", p->message);
}

void platform_wait_longer(platform *, uint64_t)
{
}

size_t platform_shared_bytes(const platform *)
{
    return cards_shared_bytes();
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
