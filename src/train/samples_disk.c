/* Samples that are read from shards: runs of consecutive ones, about a MiB in a read, each
 * converted while it is in the cache and put where the shuffle wants it. Plain reads by several
 * threads; why not io_uring is in docs/decisions/017-training-data.md. Tokens are checked once more
 * as they are converted: a file may have changed since it was scanned, and a token is an index. */
#include <string.h>

#include "base/clock.h"
#include "base/file_at.h"
#include "base/memory.h"
#include "train/sample_source.h"
#include "train/shards_work.h"

struct disk_reader {
    struct shard_layout layout;
    bool direct;
    struct file_at file;        /* of `shard`, while file.fd >= 0 */
    size_t shard;
    unsigned char *buffer;
    void *block;                /* that the buffer is in */
};

static void reader_destroy(void *reader)
{
    struct disk_reader *r = reader;
    if (!r)
        return;
    file_at_close(&r->file);
    memory_free(r->block);
    memory_free(r);
}

static enum akin_status reader_create(const struct samples_settings *settings, void **reader,
                                      struct akin_error *error)
{
    struct disk_reader *r = memory_alloc(1, sizeof *r);
    if (!r)
        return error_memory(error);
    *r = (struct disk_reader){
        .layout = { settings->sample_count, settings->seq_len, settings->vocab,
                    settings->shard_count, settings->token_type },
        .file.fd = -1,
    };
    r->direct = shards_want_direct(&r->layout, settings->io);
    r->buffer = shard_part_buffer(&r->layout, &r->block);
    if (!r->buffer) {
        reader_destroy(r);
        return error_memory(error);
    }
    *reader = r;
    return AKIN_OK;
}

static void reader_rewind(void *reader)
{
    struct disk_reader *r = reader;
    file_at_close(&r->file);
}

static enum akin_status turn_to(struct disk_reader *r, const char *folder, size_t shard,
                                struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    if (r->file.fd >= 0 && r->shard == shard)
        return AKIN_OK;
    file_at_close(&r->file);
    TRY(shard_path(path, folder, shard, error));
    TRY(file_at_open(path, r->direct ? FILE_AT_READ_DIRECT : FILE_AT_READ, &r->file, error));
    r->shard = shard;
    return AKIN_OK;
}

/* `count` samples from `first` on, all in one shard and within the buffer. */
static enum akin_status read_piece(struct disk_reader *r, const char *folder, uint64_t first,
                                   size_t count, const uint32_t *places, int32_t *rows,
                                   struct sample_effort *effort, struct akin_error *error)
{
    const struct shard_layout *layout = &r->layout;
    size_t shard = shard_of_sample(layout, first), length = 2 * layout->seq_len;
    size_t bytes = count * shard_sample_bytes(layout);
    const unsigned char *data;
    uint64_t start = clock_monotonic_ns();
    TRY(turn_to(r, folder, shard, error));
    uint64_t offset = (first - shard_first_sample(layout, shard)) * shard_sample_bytes(layout);
    TRY(file_at_read_blocks(&r->file, offset, bytes, r->buffer, &data, error));
    effort->seconds += (double)(clock_monotonic_ns() - start) * 1e-9;
    effort->bytes += bytes;
    effort->direct |= r->file.direct;
    for (size_t i = 0; i < count; i++) {
        int64_t value;
        size_t bad = tokens_load(data + i * shard_sample_bytes(layout), length, layout->token_type,
                                 layout->vocab, rows + places[i] * length, &value);
        if (bad != SIZE_MAX)
            return shard_bad_token(folder, layout, first + i, bad, value, error);
    }
    return AKIN_OK;
}

static enum akin_status fill(const struct samples_settings *settings, void *reader,
                             const struct order_part *part, int32_t *rows,
                             struct sample_effort *effort, struct akin_error *error)
{
    struct disk_reader *r = reader;
    const struct shard_layout *layout = &r->layout;
    const uint32_t *places = part->rows;
    size_t most = shard_part_samples(layout);
    for (size_t run = 0; run < part->run_count; run++) {
        uint64_t first = part->runs[run].first;
        for (size_t left = part->runs[run].count; left;) {
            uint64_t end = shard_first_sample(layout, shard_of_sample(layout, first) + 1);
            size_t count = left < most ? left : most;
            count = end - first < count ? (size_t)(end - first) : count;
            TRY(read_piece(r, settings->data_dir, first, count, places, rows, effort, error));
            places += count;
            first += count;
            left -= count;
        }
    }
    return AKIN_OK;
}

const struct sample_source *samples_disk(void)
{
    static const struct sample_source source = {
        reader_create, reader_destroy, reader_rewind, fill,
    };
    return &source;
}
