/* A training set on disk: shard_NNNN.bin, each a block of consecutive samples without a header, and
 * _manifest.json, which says what they are. docs/formats.md has every byte. A set is whole when its
 * manifest is there: it is written last. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "akin/engine.h"
#include "base/file.h"
#include "train/sample_tokens.h"

struct shard_layout {
    uint64_t sample_count;
    size_t seq_len, vocab;
    size_t shard_count;         /* 0: as many as make about 128 MiB each */
    enum token_type token_type;
};

/* Checks the sizes (AKIN_ARGUMENT or AKIN_LIMIT names the one), and fills in shard_count. */
enum akin_status shard_layout_complete(struct shard_layout *layout, struct akin_error *error);

/* Of a complete layout. Shards behind the last sample are empty files. */
size_t shard_sample_bytes(const struct shard_layout *layout);
uint64_t shard_first_sample(const struct shard_layout *layout, size_t shard);
uint64_t shard_samples(const struct shard_layout *layout, size_t shard);
uint64_t shard_bytes(const struct shard_layout *layout, size_t shard);
uint64_t shard_set_bytes(const struct shard_layout *layout);
size_t shard_of_sample(const struct shard_layout *layout, uint64_t sample);
enum akin_status shard_path(char path[PATH_BYTES_MAX], const char *folder, size_t shard,
                            struct akin_error *error);

/* A manifest's text; `where` goes into errors. All but the known keys are refused: the folder
 * may be somebody else's. */
enum akin_status manifest_parse(const char *text, size_t bytes, const char *where,
                                struct shard_layout *layout, struct akin_error *error);
void manifest_print(const struct shard_layout *layout, struct bytes *text);
bool shard_layouts_equal(const struct shard_layout *a, const struct shard_layout *b);

enum shard_io {
    SHARD_IO_AUTO,              /* direct for sets that the page cache could not keep */
    SHARD_IO_CACHED,
    SHARD_IO_DIRECT,
};

bool shards_want_direct(const struct shard_layout *layout, enum shard_io io);

struct shards_settings {
    const char *folder;
    struct shard_layout layout;
    uint64_t seed;              /* of what is generated; what lies there is taken as it is */
    int workers;                /* threads; below 1 counts as 1 */
    enum shard_io io;
    struct akin_progress progress;      /* stages "generate" and "check", in bytes */
};

struct shards_report {
    size_t shard_count;
    bool generated, scanned;    /* not scanned: the files are those of an earlier scan, or were
                                   made just now */
    bool remembered;            /* _checked.json says so to the next run */
    size_t shards_kept;         /* of a generation that was interrupted */
    uint64_t bytes_written, bytes_scanned;
    double generate_seconds, scan_seconds;
};

/* Makes the set whole, or says what is wrong, before training starts: an equal manifest is reused,
 * every shard must then be there in its exact size with all tokens below the vocabulary; otherwise
 * the set is generated, going on where an interrupted run with the same settings and seed stopped.
 * A set of other sizes is replaced; shards without a manifest that we did not write are left alone
 * and refused. One process at a time: AKIN_BUSY. */
enum akin_status shards_prepare(const struct shards_settings *settings,
                                struct shards_report *report, struct akin_error *error);

/* The quick half of that, for those who only read: manifest, presence and sizes. */
enum akin_status shards_verify(const char *folder, const struct shard_layout *layout,
                               struct akin_error *error);

/* The error for token `at` of the block that begins with `sample`. */
enum akin_status shard_bad_token(const char *folder, const struct shard_layout *layout,
                                 uint64_t sample, size_t at, int64_t value,
                                 struct akin_error *error);
