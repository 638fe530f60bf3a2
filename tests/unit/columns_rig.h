/* What the tests of columns share: rows from an array of texts, blocks kept in memory. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "index/columns.h"

static inline const char *rig_text(const void *context, size_t row, size_t *bytes)
{
    const char *const *texts = context;
    *bytes = strlen(texts[row]);
    return texts[row];
}

static inline struct columns_rows rig_rows(const char *const *texts, size_t count)
{
    return (struct columns_rows){ .count = count, .context = texts, .text = rig_text };
}

/* The blocks of one segment, each in memory of exactly its size. */
struct rig_segment {
    struct segment_block blocks[4];
    size_t count;
    struct bytes bytes[4];
    struct segment_blocks all;
};

static inline enum akin_status rig_begin(void *context, uint32_t type, struct akin_error *error)
{
    struct rig_segment *segment = context;
    (void)error;
    segment->blocks[segment->count++].type = type;
    return AKIN_OK;
}

static inline enum akin_status rig_append(void *context, const void *data, size_t bytes,
                                          struct akin_error *error)
{
    struct rig_segment *segment = context;
    (void)error;
    bytes_append(&segment->bytes[segment->count - 1], data, bytes);
    return AKIN_OK;
}

static inline enum akin_status rig_build(struct rig_segment *segment,
                                         const struct columns_rows *rows, struct akin_error *error)
{
    *segment = (struct rig_segment){ .count = 0 };
    struct segment_sink sink = { segment, rig_begin, rig_append };
    enum akin_status status = columns_build(rows, &sink, error);
    for (size_t i = 0; i < segment->count; i++) {
        size_t bytes = segment->bytes[i].count;
        void *data = memory_alloc_aligned(bytes, 1);
        if (bytes)
            memcpy(data, segment->bytes[i].data, bytes);
        bytes_deinit(&segment->bytes[i]);
        segment->blocks[i].data = data;
        segment->blocks[i].bytes = bytes;
    }
    segment->all = (struct segment_blocks){ segment->blocks, segment->count };
    return status;
}

static inline void rig_free(struct rig_segment *segment)
{
    for (size_t i = 0; i < segment->count; i++)
        memory_free((void *)segment->blocks[i].data);
    segment->count = 0;
}
