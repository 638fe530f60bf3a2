/* Any bytes as each file of a store of events: a segment that grows or is sealed, its sidecar, a
 * file of kinds. The first byte says which. What is taken over is consistent: every chain ends,
 * every place is inside its table, every record is read again as it was. */
#include <string.h>

#include "base/limits.h"
#include "watch/event_kinds.h"
#include "watch/event_segment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(const struct event_segment *s)
{
    size_t rows = 0;
    for (size_t kind = 0; kind < s->kind_count; kind++) {
        size_t steps = 0;
        for (uint32_t row = s->kinds[kind].last; row != ROW_NONE; row = s->rows[row].before) {
            ASSERT(row < s->count && ++steps <= s->count);
            rows++;
        }
        ASSERT(s->kind_order || segment_find_kind(s, s->kinds[kind].id) == kind);
        (void)segment_find_kind(s, s->kinds[kind].id);
    }
    ASSERT(s->kind_order || rows == s->count);
    for (size_t i = 0; i < s->count; i++)
        ASSERT(segment_find_row(s, s->first + s->rows[i].step) == i);
    (void)segment_find_string(s, "net", 3);
    (void)segment_find_string(s, "", 0);
}

/* A sidecar of what was taken over says the same. */
static void compare(const struct event_segment *s, const unsigned char *data)
{
    for (size_t i = 0; i < s->count; i++) {
        struct record record;
        struct stored_event event;
        const struct event_row *row = &s->rows[i];
        ASSERT(stored_record_read(data + row->offset, row->bytes, RECORD_EVENT, &record));
        ASSERT(!event_record_parse(&record, &event));
        ASSERT(event.number == s->first + row->step && event.time_us == row->time_us);
        ASSERT(segment_find_string(s, event.source, strlen(event.source)) == row->source);
        struct bytes again = { 0 };
        size_t begin = stored_record_begin(&again);
        ASSERT(begin == 0);
        bytes_clear(&again);
        event_record_append(&again, &event);
        ASSERT(again.failed || again.count == row->bytes);
        ASSERT(again.failed
               || !memcmp(again.data + RECORD_HEAD_BYTES, record.body, record.body_bytes));
        bytes_deinit(&again);
    }
}

static void try_segment(const unsigned char *data, size_t size, bool sealed)
{
    struct event_segment s;
    const char *cursors;
    size_t cursor_bytes, bytes;
    segment_begin(&s, 1);
    (void)segment_head_read(data, size, 1, &cursors, &cursor_bytes, &bytes);
    ASSERT(cursor_bytes <= size);
    s.end = bytes < size ? bytes : size;
    if (segment_take(&s, data + s.end, size - (size_t)s.end, sealed, (struct segment_sink){ 0 },
                     NULL) == AKIN_OK) {
        ASSERT(s.end <= size && (!sealed || s.end == size));
        walk(&s);
        compare(&s, data);
    }
    segment_deinit(&s);
}

/* Once as it is, and once with its checksum made right, so that what lies behind it is reached. */
static void try_sidecar(unsigned char *data, size_t size)
{
    enum { HEAD = 112, AT_BYTES = 96, AT_CHECK = 104 };
    struct event_segment s;
    uint64_t bytes = size, check;
    segment_begin(&s, 1);
    if (!sidecar_read(data, size, &s))
        walk(&s);
    if (size < HEAD)
        return;
    memcpy(data + AT_BYTES, &bytes, sizeof bytes);
    memset(data + AT_CHECK, 0, sizeof check);
    check = hash_bytes_seed(data + HEAD, size - HEAD, hash_bytes(data, HEAD));
    memcpy(data + AT_CHECK, &check, sizeof check);
    segment_begin(&s, 1);
    if (!sidecar_read(data, size, &s))
        walk(&s);
}

static void try_kinds(const unsigned char *data, size_t size)
{
    struct kinds_head head;
    struct record record;
    const char *text;
    const unsigned char *halves;
    if (kinds_head_read(data, size, &head))
        return;
    ASSERT(strlen(head.model) < sizeof head.model && head.dimension <= DIMENSION_MAX);
    for (size_t at = head.bytes; at < size;) {
        at = stored_record_find(data, size, at, RECORD_KIND);
        if (at == size || !stored_record_read(data + at, size - at, RECORD_KIND, &record))
            return;
        if (!kind_record_parse(&record, head.dimension, &text, &halves))
            ASSERT(halves + 2 * head.dimension <= data + size && strlen(text) < size);
        at += record.bytes;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    unsigned char *copy = memory_alloc_aligned(size, 1);    /* aligned, as maps are */
    if (!copy)
        return 0;
    memcpy(copy, data + 1, size - 1);
    if (data[0] % 4 == 3)
        try_kinds(copy, size - 1);
    else if (data[0] % 4 == 2)
        try_sidecar(copy, size - 1);
    else
        try_segment(copy, size - 1, data[0] % 4 == 1);
    memory_free(copy);
    return 0;
}
