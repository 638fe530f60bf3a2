/* Dropout as train_ops.h defines it, a row at a time: first the bits of what is kept, then one of
 * the loops of train_rows.h that apply them. The way back makes the same bits again. */
#pragma once

#include "compute/train_ops.h"

/* One tensor of dropout in one pass: the keys of the ten rounds of Philox, made once. */
struct dropout {
    uint64_t keys[20];          /* k0 and k1 of each round in turn, in the low halves */
    uint32_t site, step;
    uint32_t threshold;         /* 0: nothing is dropped, and no loop is called */
    float scale;                /* of what is kept */
};

static inline struct dropout dropout_of(const struct train_pass *pass, uint32_t site)
{
    struct dropout d = { .site = site, .step = pass->step,
                         .threshold = dropout_threshold(pass->dropout) };
    uint32_t k0 = (uint32_t)pass->seed, k1 = (uint32_t)(pass->seed >> 32);
    for (int round = 0; round < 10; round++) {
        d.keys[2 * round] = k0;
        d.keys[2 * round + 1] = k1;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    d.scale = d.threshold < 65536 ? 65536.0f / (float)(65536 - d.threshold) : 0;
    return d;
}

/* Blocks of eight numbers that a row of dropout takes; row r begins at block r * this. */
static inline size_t dropout_blocks(size_t cols)
{
    return (cols + 7) / 8;
}
