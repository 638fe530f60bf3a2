/* Cards that are made up: each sequence's vector is a function of its tokens, and they fail when
 * they are told. */
#pragma once

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "model_helpers.h"

#include "base/clock.h"
#include "base/memory.h"
#include "compute/encoder_device.h"

enum { STREAMS = 2, BATCH_TOKENS = 64, CARDS = 3 };

struct encoder_device {
    int ordinal;
    size_t hidden;
};

struct encoder_stream {
    struct encoder_device *device;
    bool failed;
    bool runs;                  /* under `by_count`: it waits for its end */
    double now_us, due_us;
    struct encoder_stream *next;
};

static atomic_int runs[CARDS], encoded[CARDS], devices, streams, after_failure;
static int fails_at[CARDS];     /* the run of a card from which on it fails; 0: never */
static unsigned hangs_ms;       /* it is silent for so long before it fails, as one that hangs */
static bool refuses;            /* to be made */
static unsigned us_per_token[CARDS];    /* one batch at a time; 0: none, and no waiting */
static pthread_mutex_t busy[CARDS] = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
                                       PTHREAD_MUTEX_INITIALIZER };
static atomic_size_t tokens_done[CARDS];

/* Time by count: batches end in the order of the times that us_per_token makes, whatever the clock
 * says and however busy this machine is. */
static struct {
    size_t lanes;               /* that run at once; 0: time is that of the clock */
    pthread_mutex_t lock;
    struct encoder_stream *streams;
    double free_at_us[CARDS];
    uint64_t changed_ns;
} by_count = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* A lane that does not come back for so long has nothing left to do. */
enum { LANE_ENDS_MS = 200 };

__attribute__((unused)) static void by_count_begin(size_t lanes)
{
    by_count.lanes = lanes;
    by_count.streams = NULL;
    memset(by_count.free_at_us, 0, sizeof by_count.free_at_us);
}

static void by_count_run(struct encoder_stream *stream, double us)
{
    double *free_at_us = &by_count.free_at_us[stream->device->ordinal];
    pthread_mutex_lock(&by_count.lock);
    if (stream->now_us == 0) {
        stream->next = by_count.streams;
        by_count.streams = stream;
    }
    stream->due_us = us + (stream->now_us > *free_at_us ? stream->now_us : *free_at_us);
    *free_at_us = stream->due_us;
    stream->runs = true;
    by_count.changed_ns = clock_monotonic_ns();
    for (bool first = false; !first;) {
        size_t running = 0;
        first = true;
        for (const struct encoder_stream *s = by_count.streams; s; s = s->next) {
            running += s->runs;
            first = first && !(s->runs && s->due_us < stream->due_us);
        }
        first = first && (running == by_count.lanes ||
                          seconds_since(by_count.changed_ns) > 1e-3 * LANE_ENDS_MS);
        if (!first) {
            pthread_mutex_unlock(&by_count.lock);
            clock_sleep_us(200);
            pthread_mutex_lock(&by_count.lock);
        }
    }
    stream->runs = false;
    stream->now_us = stream->due_us;
    by_count.changed_ns = clock_monotonic_ns();
    pthread_mutex_unlock(&by_count.lock);
}

static int cpu_of[CARDS];       /* where its streams are made and run; under `checks_cpu` */
static bool checks_cpu;
static atomic_int elsewhere;    /* how often they were not */

static enum akin_status fake_create(int ordinal, const struct encoder_shape *shape,
                                    const struct embedding_tables *tables,
                                    struct encoder_device **device, struct akin_error *error)
{
    (void)tables;
    if (refuses && ordinal == CARDS - 1)
        return error_set(error, AKIN_MEMORY, "card %d: no memory", ordinal);
    *device = memory_alloc(1, sizeof **device);
    **device = (struct encoder_device){ ordinal, shape->hidden };
    atomic_fetch_add(&devices, 1);
    return AKIN_OK;
}

static void fake_destroy(struct encoder_device **device)
{
    memory_free(*device);
    *device = NULL;
    atomic_fetch_sub(&devices, 1);
}

static enum akin_status fake_set_linear(struct encoder_device *device, size_t layer,
                                        enum encoder_linear which, const struct host_matrix *weight,
                                        const float *bias, struct akin_error *error)
{
    (void)device, (void)layer, (void)error;
    assert_true(weight->rows > 0 && bias && which < ENCODER_LINEARS);
    return AKIN_OK;
}

static enum akin_status fake_set_equalizer(struct encoder_device *device, size_t layer,
                                           enum encoder_linear which, const float *equalizer,
                                           size_t count, struct akin_error *error)
{
    (void)device, (void)layer, (void)error;
    assert_true(which == ENCODER_QKV || which == ENCODER_INTERMEDIATE);
    for (size_t i = 0; i < count; i++)
        assert_true(equalizer[i] > 0);
    return AKIN_OK;
}

static enum akin_status fake_set_norm(struct encoder_device *device, size_t layer,
                                      enum encoder_norm which, const float *gamma,
                                      const float *beta, struct akin_error *error)
{
    (void)device, (void)layer, (void)error;
    assert_true(gamma && beta && which < ENCODER_NORMS);
    return AKIN_OK;
}

static enum akin_status fake_stream_create(struct encoder_device *device, size_t tokens,
                                           size_t sequences, struct encoder_stream **stream,
                                           struct akin_error *error)
{
    (void)error;
    assert_true(tokens >= BATCH_TOKENS && sequences > 0);
    if (checks_cpu && sched_getcpu() != cpu_of[device->ordinal])
        atomic_fetch_add(&elsewhere, 1);
    *stream = memory_alloc(1, sizeof **stream);
    (*stream)->device = device;
    atomic_fetch_add(&streams, 1);
    return AKIN_OK;
}

static void fake_stream_destroy(struct encoder_stream **stream)
{
    memory_free(*stream);
    *stream = NULL;
    atomic_fetch_sub(&streams, 1);
}

static enum akin_status fake_run(struct encoder_stream *stream, const struct packed_batch *batch,
                                 bool normalize, float *vectors, struct akin_error *error)
{
    struct encoder_device *device = stream->device;
    int run = atomic_fetch_add(&runs[device->ordinal], 1) + 1;
    (void)normalize;
    if (stream->failed)
        atomic_fetch_add(&after_failure, 1);
    if (fails_at[device->ordinal] && run >= fails_at[device->ordinal]) {
        stream->failed = true;
        clock_sleep_us(1000 * hangs_ms);
        return error_set(error, AKIN_IO, "card %d fell out", device->ordinal);
    }
    if (checks_cpu && sched_getcpu() != cpu_of[device->ordinal])
        atomic_fetch_add(&elsewhere, 1);
    double us = (double)us_per_token[device->ordinal] * (double)batch->tokens;
    if (us > 0 && by_count.lanes) {
        by_count_run(stream, us);
    } else if (us > 0) {
        pthread_mutex_lock(&busy[device->ordinal]);
        clock_sleep_us((unsigned)us);
        pthread_mutex_unlock(&busy[device->ordinal]);
    }
    atomic_fetch_add(&tokens_done[device->ordinal], batch->tokens);
    atomic_fetch_add(&encoded[device->ordinal], (int)batch->sequences);
    for (size_t s = 0; s < batch->sequences; s++) {
        float sum = 0;
        for (size_t t = batch->offsets[s]; t < batch->offsets[s + 1]; t++)
            sum = sum * 0.5f + (float)batch->ids[t] + 0.01f * (float)batch->positions[t];
        for (size_t i = 0; i < device->hidden; i++)
            vectors[s * device->hidden + i] = sum + (float)i;
    }
    return AKIN_OK;
}

static const struct encoder_device_ops fake_cards = {
    .batch_tokens = BATCH_TOKENS, .streams = STREAMS, .create = fake_create,
    .destroy = fake_destroy, .set_linear = fake_set_linear,
    .set_equalizer = fake_set_equalizer, .set_norm = fake_set_norm,
    .stream_create = fake_stream_create, .stream_destroy = fake_stream_destroy, .run = fake_run
};
