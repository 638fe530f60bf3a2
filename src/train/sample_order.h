/* In which order an epoch takes the samples, and which rank takes which.
 *
 * The set is cut into chunks of consecutive samples (about 1 MiB as int64), the chunks are
 * permuted, and the row of chunks is cut into lanes of equal length. Each lane is shuffled inside
 * windows of about two chunks. Number p of the epoch is number p / lanes of lane p % lanes; the few
 * samples behind the last full turn of the lanes follow. Rank r of a world of w takes the numbers
 * r, r + w, r + 2w, ...: floor(samples / w) each, and the rest, fewer than w, are left out of this
 * epoch.
 *
 * Where batches are known and each is made of whole turns of a rank's lanes (`blocks`), rank r has
 * lanes r * lanes / w and on, and a batch goes lane by lane: so the batches of all ranks, one
 * behind the other, are the batch of one process that takes as many samples, in its order.
 *
 * There are 8 lanes where the world divides 8, else as many as ranks. So the order, and with it
 * what a step over all ranks consists of, is the same for worlds of 1, 2, 4 and 8; a rank reads
 * whole chunks of its own lanes; and it does not depend on how tokens and shards lie on the disk.
 * Without shuffling the lanes are the ranks', each in the order of the set.
 *
 * Not what DistributedSampler does: that one permutes single samples, and repeats some to fill up.
 * Why, in docs/decisions/017-training-data.md. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct sample_order {
    uint64_t sample_count, seed;
    size_t rank, world, seq_len;
    size_t batch;               /* 0: not known */
    bool shuffle;
    /* what follows from these */
    uint64_t rank_samples;      /* of an epoch */
    size_t lanes, lanes_mine;   /* of all ranks, of this one */
    bool blocks;
    uint64_t lane_samples, windows;
    size_t window_samples;      /* of one lane */
    uint64_t chunk_samples;
    uint32_t *chunks;           /* [chunk_count]: the permutation of this epoch */
    size_t chunk_count, short_at;       /* chunks[short_at] is the last one, which may be shorter */
    uint32_t epoch;
};

/* The fields up to shuffle are set, and checked before. */
enum akin_status sample_order_init(struct sample_order *order, struct akin_error *error);
void sample_order_deinit(struct sample_order *order);
void sample_order_epoch(struct sample_order *order, uint32_t epoch);

/* Where number i of a batch goes in it. */
static inline size_t order_place(const struct sample_order *order, size_t i)
{
    if (!order->blocks)
        return i;
    return i % order->lanes_mine * (order->batch / order->lanes_mine) + i / order->lanes_mine;
}

/* A window of this rank: its lanes, taken in turn. The last window may be the rest. */
size_t order_window_rows(const struct sample_order *order, uint64_t window);
size_t order_rows_max(const struct sample_order *order);
size_t order_window_parts(const struct sample_order *order, uint64_t window);

enum { ORDER_RUNS_MAX = 16 };

/* The share of one lane in a window: runs of samples, and the row of the window for each of their
 * samples, in the order of the runs. */
struct order_part {
    struct order_run {
        uint64_t first;
        size_t count;
    } runs[ORDER_RUNS_MAX];
    size_t run_count;
    uint32_t *rows;             /* the caller's: [order_part_rows_max] */
};

size_t order_part_rows_max(const struct sample_order *order);
/* Any thread, for different `out`. */
void order_part(const struct sample_order *order, uint64_t window, size_t part,
                struct order_part *out);
