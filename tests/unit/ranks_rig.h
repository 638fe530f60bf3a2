/* What the tests of ranks share: a body that sums vectors and checks every bit of them against a
 * plain loop over the ranks, and a page where ranks leave what they saw. Not all tests use all. */
#pragma once

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/rng.h"
#include "train/distributed.h"
#include "train_rig.h"

enum { NUMBERS = 100003, RIG_RANKS = 8, LOSS_STEPS = 12, LOSS_BATCH = 4 };

struct seen {
    pid_t process;
    enum akin_status status;
    char message[1024], link[32];
    size_t rank, world, local_rank, local_world, wrong, allocations;
    double seconds, losses[LOSS_STEPS];
    struct process_group_report report;
    struct process_group_speed speed;
};

/* Shared by all processes of a test. */
struct page {
    struct seen ranks[RIG_RANKS];
    size_t victim;              /* the rank that something happens to */
    int code;
};

__attribute__((unused))
static struct page *page_make(void)
{
    struct page *page = memory_share(sizeof *page);
    assert_non_null(page);
    return page;
}

__attribute__((unused))
static void nap(double seconds)
{
    struct timespec time = { (time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds)) };
    nanosleep(&time, NULL);
}

static void fill(float *values, size_t rank, int step)
{
    struct rng rng;
    rng_seed(&rng, 1000 * (uint64_t)step + rank);
    for (size_t i = 0; i < NUMBERS; i++)
        values[i] = rng_normal(&rng);
}

/* Numbers that differ in any bit from the sum in the order of ranks. */
static size_t count_wrong(const float *values, size_t world, int step)
{
    static float sum[NUMBERS], one[NUMBERS];
    fill(sum, 0, step);
    for (size_t rank = 1; rank < world; rank++) {
        fill(one, rank, step);
        for (size_t i = 0; i < NUMBERS; i++)
            sum[i] += one[i];
    }
    size_t wrong = 0;
    for (size_t i = 0; i < NUMBERS; i++)
        wrong += memcmp(&sum[i], &values[i], sizeof sum[i]) != 0;
    return wrong;
}

static struct seen *introduce(struct page *page, struct process_group *group)
{
    struct seen *seen = &page->ranks[process_group_rank(group)];
    seen->process = getpid();
    seen->rank = process_group_rank(group);
    seen->world = process_group_world(group);
    seen->local_rank = process_group_local_rank(group);
    seen->local_world = process_group_local_world(group);
    snprintf(seen->link, sizeof seen->link, "%s", process_group_link(group));
    return seen;
}

static int tell(struct seen *seen, enum akin_status status, const struct akin_error *error)
{
    seen->status = status;
    if (status != AKIN_OK)
        snprintf(seen->message, sizeof seen->message, "%s", error->message);
    return status == AKIN_OK ? 0 : 1;
}

/* Gradients come in ranges, the last first, as a way back through layers has them. */
static enum akin_status sum_vector(const struct gradient_reducer *reducer, float *values,
                                   struct akin_error *error)
{
    static const size_t ends[] = { NUMBERS, 99990, 60000, 59999, 17, 0 };
    for (size_t i = 0; i + 1 < sizeof ends / sizeof *ends; i++)
        reducer->start(reducer->context, values, ends[i + 1], ends[i] - ends[i + 1]);
    return reducer->wait(reducer->context, error);
}

static int sum_body(void *context, struct process_group *group)
{
    struct seen *seen = introduce(context, group);
    const struct gradient_reducer *reducer = process_group_reducer(group);
    static float values[NUMBERS];
    struct akin_error error;
    enum akin_status status = AKIN_OK;
    double sum = (double)seen->rank + 0.25;
    if (seen->world == 1)
        return reducer ? 1 : 0;
    for (int step = 0; step < 3 && status == AKIN_OK; step++) {
        fill(values, seen->rank, step);
        uint64_t before = memory_allocations();
        status = sum_vector(reducer, values, &error);
        seen->allocations += memory_allocations() - before;
        seen->wrong += count_wrong(values, seen->world, step);
    }
    if (status == AKIN_OK)
        status = reducer->sum(reducer->context, &sum, &error);
    double w = (double)seen->world;
    seen->wrong += sum != w * (w - 1) / 2 + 0.25 * w;
    process_group_report(group, &seen->report);
    if (status == AKIN_OK)
        status = process_group_measure(group, 300000, &seen->speed, &error);
    return tell(seen, status, &error);
}

__attribute__((unused))
static void check_sums(const struct page *page, size_t world, const char *link)
{
    for (size_t i = 0; i < world; i++) {
        const struct seen *seen = &page->ranks[i];
        if (seen->status != AKIN_OK)
            fail_msg("rank %zu: %s", i, seen->message);
        assert_int_equal(seen->rank, i);
        assert_int_equal(seen->world, world);
        assert_int_equal(seen->local_rank, i);
        assert_int_equal(seen->local_world, world);
        assert_int_equal(seen->wrong, 0);
        assert_int_equal(seen->allocations, 0);
        assert_string_equal(seen->link, link);
        assert_true(seen->report.sums >= 16);
        assert_true(seen->report.bytes_sent >= 3 * NUMBERS * sizeof(float));
        assert_true(seen->report.bytes_sent < 3 * 2.1 * NUMBERS * sizeof(float));
        assert_true(seen->report.waited_seconds > 0 && seen->report.summing_seconds > 0);
        assert_true(seen->speed.measured_seconds > 0 && seen->speed.expected_seconds > 0);
        assert_true(seen->speed.link_bytes_per_second > 1e6);
    }
}

/* Sums until a rank is lost; something happens to `victim` in its third step. */
static int lose_body(void *context, struct process_group *group,
                     int (*what)(struct process_group *))
{
    struct page *page = context;
    struct seen *seen = introduce(page, group);
    const struct gradient_reducer *reducer = process_group_reducer(group);
    static float values[NUMBERS];
    struct akin_error error;
    for (int step = 0; step < 100000; step++) {
        if (step == 2 && seen->rank == page->victim)
            return what(group);
        uint64_t start = clock_monotonic_ns();
        enum akin_status status = sum_vector(reducer, values, &error);
        seen->seconds = 1e-9 * (double)(clock_monotonic_ns() - start);
        if (status != AKIN_OK)
            return tell(seen, status, &error);
    }
    return 0;
}

static int be_killed(struct process_group *group)
{
    (void)group;
    kill(getpid(), SIGKILL);
    return 0;
}

static int killed_body(void *context, struct process_group *group)
{
    return lose_body(context, group, be_killed);
}

static int tell_nan(struct process_group *group)
{
    process_group_fail(group, "the loss of step 3 is not a number");
    return 1;
}

__attribute__((unused))
static int fail_body(void *context, struct process_group *group)
{
    return lose_body(context, group, tell_nan);
}

/* All but the victim were told of it, soon. */
__attribute__((unused))
static void check_told(const struct page *page, size_t world, const char *part)
{
    for (size_t i = 0; i < world; i++) {
        const struct seen *seen = &page->ranks[i];
        if (i == page->victim)
            continue;
        assert_int_equal(seen->status, AKIN_NETWORK);
        if (!strstr(seen->message, part))
            fail_msg("rank %zu: '%s' instead of '%s'", i, seen->message, part);
        assert_true(seen->seconds < 8);
    }
}

/* A tiny model on this rank's part of one batch, with dropout. */
__attribute__((unused))
static int loss_body(void *context, struct process_group *group)
{
    struct seen *seen = introduce(context, group);
    const struct transformer_shape shape = {
        .d_model = 16, .nhead = 2, .encoder_layers = 1, .decoder_layers = 2, .feed_forward = 24,
        .vocab = 31, .seq_len = 7,
    };
    struct trainer_settings settings = rig_settings(&shape, LOSS_BATCH / seen->world);
    settings.dropout = 0.1f;
    settings.update.rate = 1e-2f;
    settings.reducer = process_group_reducer(group);
    struct train_device *device;
    struct trainer *trainer = NULL;
    struct akin_error error = { AKIN_OK, "" };
    enum akin_status status = reference_train_create(&device, &error);
    if (status == AKIN_OK)
        status = trainer_create(device, &settings, &trainer, &error);
    int32_t tokens[2][LOSS_BATCH * 7];
    struct rng rng;
    rng_seed(&rng, 5);
    for (int step = 0; status == AKIN_OK && step < LOSS_STEPS; step++) {
        for (size_t i = 0; i < LOSS_BATCH * shape.seq_len; i++)
            for (int side = 0; side < 2; side++)
                tokens[side][i] = (int32_t)rng_below(&rng, shape.vocab);
        size_t skip = seen->rank * settings.batch * shape.seq_len;
        struct step_result result;
        status = trainer_step(trainer, tokens[0] + skip, tokens[1] + skip, &result, &error);
        seen->losses[step] = result.loss;
    }
    trainer_destroy(&trainer);
    if (device)
        device->ops->destroy(&device);
    return tell(seen, status, &error);
}

/* Every rank has the losses of one process that has the whole batch. */
__attribute__((unused))
static void check_losses(const struct page *page, size_t world)
{
    struct page *alone = page_make();
    struct launch_settings settings = { .processes = 1 };
    int code = -1;
    assert_int_equal(process_group_run(&settings, loss_body, alone, &code, NULL), AKIN_OK);
    assert_int_equal(code, 0);
    for (size_t i = 0; i < world; i++)
        for (size_t step = 0; step < LOSS_STEPS; step++) {
            double own = page->ranks[i].losses[step], truth = alone->ranks[0].losses[step];
            if (!(fabs(own - truth) <= 1e-6))
                fail_msg("rank %zu of %zu, step %zu: loss %.9f instead of %.9f", i, world, step,
                         own, truth);
            assert_true(own == page->ranks[0].losses[step]);
        }
    assert_true(alone->ranks[0].losses[0] > 1);
    memory_unshare(alone, sizeof *alone);
}
