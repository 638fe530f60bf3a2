/* An .akx file of any bytes: opened, read to its last byte, checked, opened for writing, added to,
 * compacted; refused or accepted, never a crash. Once as it is, and once with every checksum made
 * right that can be found, so that what lies behind them is reached. The file has no name on a
 * disk: it is reached through its descriptor. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/memory.h"
#include "index/store_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SIZE_MAX_HERE = 1 << 20 };

static uint64_t sum_bytes(const void *data, uint64_t bytes)
{
    const unsigned char *at = data;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < bytes; i++)
        sum += at[i];
    return sum;
}

static uint64_t read_segments(const struct store *store)
{
    const struct store_layout *layout = store_layout(store);
    uint64_t sum = sum_bytes(layout->state, layout->state_bytes);
    for (size_t i = 0; i < layout->segment_count; i++) {
        struct store_segment *segment;
        struct akin_error error;
        size_t count;
        if (store_segment_open(store, layout->segments[i].frame, &segment, &error) != AKIN_OK)
            continue;
        for (size_t b = 0; b < segment->blocks.count; b++)
            sum += sum_bytes(segment->blocks.blocks[b].data, segment->blocks.blocks[b].bytes);
        uint64_t *dead = memory_alloc((segment->rows + 63) / 64, sizeof *dead);
        if (dead && store_read_dead(store, layout->segments[i].dead, segment->rows, dead, &count,
                                    &error) == AKIN_OK)
            ASSERT(count <= segment->rows);
        memory_free(dead);
        store_segment_close(&segment);
    }
    return sum;
}

static uint64_t read_tail(const struct store *store)
{
    struct store_tail *tail;
    struct store_operation op;
    struct akin_error error;
    uint64_t sum = 0;
    bool more = true;
    if (store_tail_open(store, &tail, &error) != AKIN_OK)
        return 0;
    while (more && store_tail_next(tail, &op, &more, &error) == AKIN_OK && more) {
        sum += sum_bytes(op.ids, op.count * sizeof *op.ids);
        for (size_t b = 0; b < op.blocks.count; b++)
            sum += sum_bytes(op.blocks.blocks[b].data, op.blocks.blocks[b].bytes);
        ASSERT(op.first + op.count <= store_operations(store));
    }
    store_tail_close(&tail);
    return sum;
}

static void read_all(const struct store *store)
{
    struct store_stats stats;
    store_stats(store, &stats);
    ASSERT(stats.live_bytes <= stats.file_bytes);
    ASSERT(read_segments(store) + read_tail(store) < UINT64_MAX);
}

/* What opened for writing takes one more operation, and is as it should be afterwards. */
static void try_writing(const char *path)
{
    struct store *store;
    struct akin_error error;
    enum akin_status before = store_check(path, NULL, &error);
    if (store_open(path, STORE_WRITE, &store, &error) != AKIN_OK)
        return;
    read_all(store);
    int64_t id = 7;
    uint64_t durable;
    ASSERT(store_append_delete(store, &id, 1, NULL, &error) == AKIN_OK);
    ASSERT(store_sync(store, &durable, &error) == AKIN_OK);
    ASSERT(durable == store_operations(store));
    store_close(&store);
    if (before == AKIN_OK)
        ASSERT(store_check(path, NULL, &error) == AKIN_OK);
}

static void try_file(const unsigned char *data, size_t size)
{
    int fd = memfd_create("fuzz", 0);
    char path[64];
    struct store *store;
    struct akin_error error = { 0 };
    if (fd < 0)
        return;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (write(fd, data, size) == (ssize_t)size) {
        if (store_open(path, STORE_READ, &store, &error) == AKIN_OK) {
            read_all(store);
            store_close(&store);
        }
        ASSERT(!strchr(error.message, '\n'));
        try_writing(path);
    }
    close(fd);
}

/* Sums of one frame that ends inside the file; returns its bytes, or 0. */
static uint64_t mend_frame(unsigned char *at, uint64_t room)
{
    struct store_frame f;
    if (room < sizeof f)
        return 0;
    memcpy(&f, at, sizeof f);
    uint64_t table_bytes = store_table_bytes(f.block_count, f.granule_count);
    if (f.bytes > room || f.bytes % 64 || f.bytes < sizeof f + table_bytes)
        return 0;
    unsigned char *table = at + f.bytes - table_bytes;
    for (uint32_t i = 0; i < f.block_count; i++) {
        struct store_entry e;
        memcpy(&e, table + i * sizeof e, sizeof e);
        if (e.offset > f.bytes || e.bytes > f.bytes - e.offset || e.bytes > STORE_GRANULE_BYTES ||
            e.bytes == 0 || e.granule >= f.granule_count)
            continue;
        uint64_t sum = hash_bytes(at + e.offset, e.bytes);
        memcpy(table + f.block_count * sizeof e + e.granule * sizeof sum, &sum, sizeof sum);
    }
    store_seal_frame(&f, table, table_bytes);
    memcpy(at, &f, sizeof f);
    return f.bytes;
}

static void mend(unsigned char *data, size_t size)
{
    struct store_header h;
    if (size < STORE_FRAMES)
        return;
    memcpy(&h, data, sizeof h);
    memcpy(h.magic, index_magic, sizeof index_magic);
    h.version = STORE_VERSION;
    h.checksum = hash_bytes(&h, offsetof(struct store_header, checksum));
    memcpy(data, &h, sizeof h);
    for (size_t slot = 0; slot < 2; slot++) {
        struct store_mark mark;
        unsigned char *at = data + (1 + slot) * STORE_PAGE_BYTES;
        memcpy(&mark, at, sizeof mark);
        mark.checksum = hash_bytes(&mark, offsetof(struct store_mark, checksum));
        memcpy(at, &mark, sizeof mark);
    }
    for (uint64_t at = STORE_FRAMES, step = 1; at < size && step; at += step)
        step = mend_frame(data + at, size - at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char *copy = size <= SIZE_MAX_HERE ? memory_alloc_aligned(size, 1) : NULL;
    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    try_file(copy, size);
    mend(copy, size);
    try_file(copy, size);
    memory_free(copy);
    return 0;
}
