/* Where samples come from: private to samples.c and the two sources. */
#pragma once

#include "train/sample_order.h"
#include "train/samples.h"

/* What a fill took. */
struct sample_effort {
    uint64_t bytes;
    double seconds;
    bool direct;
};

struct sample_source {
    /* One for each worker. */
    enum akin_status (*reader_create)(const struct samples_settings *settings, void **reader,
                                      struct akin_error *error);
    void (*reader_destroy)(void *reader);
    /* Forgets what it has open: an epoch begins with the files as they are then. */
    void (*reader_rewind)(void *reader);
    /* Fills the rows of `part` in rows [..][2][seq_len]. Different readers at the same time. */
    enum akin_status (*fill)(const struct samples_settings *settings, void *reader,
                             const struct order_part *part, int32_t *rows,
                             struct sample_effort *effort, struct akin_error *error);
};

const struct sample_source *samples_memory(void);
const struct sample_source *samples_disk(void);
