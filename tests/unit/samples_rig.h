/* What the tests of training data share: a folder, settings, an epoch's samples in one block. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "train/samples.h"

static char rig_folder[64];
static struct akin_error error;

static int rig_begin(void **state)
{
    (void)state;
    snprintf(rig_folder, sizeof rig_folder, "/tmp/akin_samples_XXXXXX");
    error = (struct akin_error){ 0 };
    return mkdtemp(rig_folder) ? 0 : -1;
}

static int rig_end(void **state)
{
    (void)state;
    return path_remove_tree(rig_folder, NULL);
}

static inline void must(enum akin_status status)
{
    if (status != AKIN_OK)
        fail_msg("%s", error.message);
}

static inline void rig_path(char path[PATH_BYTES_MAX], const char *name)
{
    assert_int_equal(path_join(path, PATH_BYTES_MAX, rig_folder, name, NULL), AKIN_OK);
}

static inline bool rig_has(const char *name)
{
    char path[PATH_BYTES_MAX];
    rig_path(path, name);
    return path_exists(path);
}

static inline struct bytes rig_read(const char *name)
{
    struct bytes text = { 0 };
    char path[PATH_BYTES_MAX];
    rig_path(path, name);
    must(file_read(path, (size_t)1 << 30, &text, &error));
    return text;
}

static inline void rig_write(const char *name, const void *data, size_t bytes)
{
    char path[PATH_BYTES_MAX];
    rig_path(path, name);
    must(file_write(path, data, bytes, &error));
}

static inline struct shards_settings rig_shards(uint64_t samples, size_t seq_len, size_t vocab,
                                                size_t shards)
{
    return (struct shards_settings){
        .folder = rig_folder, .layout = { samples, seq_len, vocab, shards, TOKEN_I64 },
        .seed = 5, .workers = 2,
    };
}

static inline struct samples_settings rig_samples(const struct shards_settings *set)
{
    return (struct samples_settings){
        .data_dir = set->folder, .seed = set->seed, .sample_count = set->layout.sample_count,
        .seq_len = set->layout.seq_len, .vocab = set->layout.vocab,
        .shard_count = set->layout.shard_count, .token_type = set->layout.token_type,
        .workers = 2, .world = 1, .shuffle = true,
    };
}

/* [count][2][seq_len] of one epoch; the caller frees. */
static inline int32_t *rig_drain(struct samples *samples, uint32_t epoch, size_t seq_len,
                                 size_t batch, uint64_t *count)
{
    uint64_t expected = samples_per_epoch(samples);
    int32_t *all = memory_alloc((size_t)expected + 1, 2 * seq_len * sizeof *all);
    int32_t *source = memory_alloc(batch, seq_len * sizeof *source);
    int32_t *target = memory_alloc(batch, seq_len * sizeof *target);
    size_t got = batch;
    samples_epoch(samples, epoch);
    for (*count = 0; got == batch; *count += got) {
        must(samples_next(samples, batch, source, target, &got, &error));
        assert_true(got <= batch && *count + got <= expected);
        for (size_t i = 0; i < got; i++) {
            int32_t *row = all + (*count + i) * 2 * seq_len;
            memcpy(row, source + i * seq_len, seq_len * sizeof *row);
            memcpy(row + seq_len, target + i * seq_len, seq_len * sizeof *row);
        }
    }
    assert_int_equal(*count, expected);
    must(samples_next(samples, batch, source, target, &got, &error));
    assert_int_equal(got, 0);
    memory_free(source);
    memory_free(target);
    return all;
}

static inline int32_t *rig_epoch(const struct samples_settings *settings, uint32_t epoch,
                                 size_t batch, uint64_t *count)
{
    struct samples *samples;
    must(samples_open(settings, &samples, &error));
    int32_t *all = rig_drain(samples, epoch, settings->seq_len, batch, count);
    samples_close(&samples);
    assert_null(samples);
    return all;
}
