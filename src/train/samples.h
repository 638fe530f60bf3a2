/* Batches of training samples, made or read by threads ahead of the step.
 *
 * The tokens in memory are those that shards_prepare writes with the same seed, and the order is
 * the same (sample_order.h): training from memory and from such shards gives the same bits,
 * whatever the number of workers. One thread at a time uses a handle. */
#pragma once

#include "train/shards.h"

struct samples_settings {
    const char *data_dir;       /* NULL: in memory; otherwise a set that shards_prepare has seen */
    uint64_t seed;              /* of the order and, in memory, of the tokens */
    uint64_t sample_count;
    size_t seq_len, vocab;
    size_t shard_count;         /* 0: as shard_layout_complete chooses */
    enum token_type token_type; /* of the shards */
    enum shard_io io;
    int workers;                /* threads; below 1 counts as 1, and below 8 as 8 where reads go
                                   past the page cache: those sleep most of the time */
    size_t rank, world;         /* world 0 counts as 1 */
    size_t batch;               /* that samples_next will be asked for: the batches of all ranks
                                   are then, in their order, that of one (sample_order.h); 0: any */
    bool shuffle;
};

struct samples;

/* AKIN_ARGUMENT or AKIN_LIMIT names the setting. On disk: shards_verify's errors. */
enum akin_status samples_open(const struct samples_settings *settings, struct samples **samples,
                              struct akin_error *error);
/* At any moment; waits for the threads. NULL is fine. */
void samples_close(struct samples **samples);

/* Samples of this rank in every epoch: floor(sample_count / world), the same for each rank. */
uint64_t samples_per_epoch(const struct samples *samples);

/* Begins an epoch, whatever was left of the one before. The first samples come into being from now
 * on: call it early. */
void samples_epoch(struct samples *samples, uint32_t epoch);

/* The next `batch` samples (the settings' where they tell one), or as many as the epoch still has:
 * at its end *got is less than batch, then 0. (The reference drops an incomplete batch: so may the
 * caller.) Allocates nothing. After an error every call gives the same one until the next
 * samples_epoch; the buffers are then of no use. */
enum akin_status samples_next(struct samples *samples, size_t batch, int32_t *source,
                              int32_t *target /* both [batch][seq_len] */, size_t *got,
                              struct akin_error *error);

/* Since the last samples_epoch. */
struct samples_stats {
    uint64_t samples;           /* handed out */
    uint64_t bytes_read;        /* of shards, by now */
    double seconds;             /* until the last sample was handed out */
    double wait_seconds;        /* of these: in samples_next, with nothing ready */
    double read_seconds;        /* of all threads together, in reads; preparing, in memory */
    double gb_per_second;       /* bytes_read / seconds / 10^9 */
    bool direct;                /* reads went past the page cache */
    size_t buffer_bytes;        /* that the handle holds */
};

void samples_stats(const struct samples *samples, struct samples_stats *stats);
