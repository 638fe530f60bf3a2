/* The sidecar of a sealed segment: what event_segment.h has in memory, as one file with a checksum.
 * It can always be made again from the segment, so what is wrong with it is never an error for
 * long. */
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "watch/event_segment.h"

static const char sidecar_mark[16] = "akin sidecar 1\n";

struct sidecar_head {               /* 112 bytes */
    char mark[16];
    uint64_t first, log_bytes, damaged, alerts;
    int64_t time_min, time_max;
    uint64_t rows, kinds, strings, string_bytes, bytes, check;
};

_Static_assert(sizeof(struct event_row) == 64 && sizeof(struct segment_kind) == 16
               && sizeof(struct sidecar_head) == 112, "as docs/formats.md has them");

/* The hash of the head, but for its last field, seeds that of the rest. */
static uint64_t check_of(struct sidecar_head head, const void *rest)
{
    head.check = 0;
    return hash_bytes_seed(rest, (size_t)head.bytes - sizeof head, hash_bytes(&head, sizeof head));
}

/* ---- writing -------------------------------------------------------------------------------- */

static int compare_kinds(const void *a, const void *b, void *context)
{
    const struct segment_kind *kinds = context;
    uint64_t x = kinds[*(const uint32_t *)a].id, y = kinds[*(const uint32_t *)b].id;
    return (x > y) - (x < y);
}

static int compare_strings(const void *a, const void *b, void *context)
{
    const struct segment_string *strings = context;
    const struct segment_string *x = &strings[*(const uint32_t *)a];
    const struct segment_string *y = &strings[*(const uint32_t *)b];
    int order = memcmp(x->data, y->data, x->bytes < y->bytes ? x->bytes : y->bytes);
    return order ? order : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static void append_order(struct bytes *out, size_t count,
                         int (*compare)(const void *a, const void *b, void *context),
                         const void *items)
{
    size_t begin = out->count;
    for (size_t i = 0; i < count; i++)
        bytes_append_u32(out, (uint32_t)i);
    if (!out->failed && count)
        qsort_r(out->data + begin, count, sizeof(uint32_t), compare, (void *)(uintptr_t)items);
    bytes_pad(out);
}

enum akin_status sidecar_write(const struct event_segment *s, const char *path,
                               struct akin_error *error)
{
    struct bytes out = { 0 };
    struct sidecar_head head = { .first = s->first, .log_bytes = s->end, .damaged = s->damaged,
                                 .alerts = s->alerts, .time_min = s->time_min,
                                 .time_max = s->time_max, .rows = s->count,
                                 .kinds = s->kind_count, .strings = s->string_count };
    memcpy(head.mark, sidecar_mark, sizeof head.mark);
    ASSERT(!s->kind_order);             /* it grows, or has just ended to */
    bytes_append(&out, &head, sizeof head);
    bytes_append(&out, s->rows, s->count * sizeof *s->rows);
    bytes_append(&out, s->kinds, s->kind_count * sizeof *s->kinds);
    append_order(&out, s->kind_count, compare_kinds, s->kinds);
    append_order(&out, s->string_count, compare_strings, s->own_strings);
    for (size_t i = 0; i <= s->string_count; i++) {
        bytes_append_u32(&out, (uint32_t)head.string_bytes);
        head.string_bytes += i < s->string_count ? s->own_strings[i].bytes : 0;
    }
    bytes_pad(&out);
    for (size_t i = 0; i < s->string_count; i++)
        bytes_append(&out, s->own_strings[i].data, s->own_strings[i].bytes);
    enum akin_status status = out.failed ? error_memory(error) : AKIN_OK;
    if (status == AKIN_OK && head.string_bytes > UINT32_MAX)
        status = error_set(error, AKIN_LIMIT, "%s: names beyond 4 GiB", path);
    if (status == AKIN_OK) {
        head.bytes = out.count;
        head.check = check_of(head, out.data + sizeof head);
        memcpy(out.data, &head, sizeof head);
        status = file_write(path, out.data, out.count, error);
    }
    bytes_deinit(&out);
    return status;
}

/* ---- reading -------------------------------------------------------------------------------- */

static const unsigned char *take(const unsigned char **at, size_t *left, uint64_t count,
                                 size_t each)
{
    size_t bytes;
    const unsigned char *begin = *at;
    if (count > SIZE_MAX || !size_mul((size_t)count, each, &bytes) || bytes > *left)
        return NULL;
    bytes += (RECORD_STEP - bytes % RECORD_STEP) % RECORD_STEP;
    bytes = bytes < *left ? bytes : *left;
    *at += bytes;
    *left -= bytes;
    return begin;
}


static bool rows_valid(const struct event_segment *s)
{
    for (size_t i = 0; i < s->count; i++) {
        const struct event_row *row = &s->rows[i];
        if (row->kind >= s->kind_count || row->session >= s->string_count
            || row->source >= s->string_count || row->origin >= s->string_count
            || row->level >= s->string_count || (row->before != ROW_NONE && row->before >= i)
            || (i && row->step <= s->rows[i - 1].step)
            || row->bytes > EVENT_RECORD_BYTES_MAX + RECORD_HEAD_BYTES
            || (uint64_t)row->offset + row->bytes > s->end)
            return false;
    }
    return true;
}

static bool tables_valid(const struct event_segment *s, uint64_t string_bytes)
{
    for (size_t i = 0; i < s->kind_count; i++)
        if (s->kinds[i].last >= s->count || s->kind_order[i] >= s->kind_count)
            return false;
    for (size_t i = 0; i < s->string_count; i++)
        if (s->string_at[i] > s->string_at[i + 1] || s->string_order[i] >= s->string_count)
            return false;
    return s->string_at[0] == 0 && s->string_at[s->string_count] == string_bytes;
}

const char *sidecar_read(const unsigned char *data, size_t bytes, struct event_segment *s)
{
    struct sidecar_head head;
    if (bytes < sizeof head || memcmp(data, sidecar_mark, sizeof sidecar_mark))
        return "it does not begin as a sidecar does";
    memcpy(&head, data, sizeof head);
    if (head.bytes != bytes || head.check != check_of(head, data + sizeof head))
        return "its checksum is wrong";
    const unsigned char *at = data + sizeof head;
    size_t left = bytes - sizeof head;
    s->first = head.first;
    s->end = head.log_bytes;
    s->damaged = head.damaged;
    s->alerts = head.alerts;
    s->time_min = head.time_min;
    s->time_max = head.time_max;
    s->rows = (const struct event_row *)(const void *)take(&at, &left, head.rows, 64);
    s->kinds = (const struct segment_kind *)(const void *)take(&at, &left, head.kinds, 16);
    s->kind_order = (const uint32_t *)(const void *)take(&at, &left, head.kinds, 4);
    s->string_order = (const uint32_t *)(const void *)take(&at, &left, head.strings, 4);
    s->string_at = (const uint32_t *)(const void *)take(
        &at, &left, head.strings < UINT32_MAX ? head.strings + 1 : UINT64_MAX, 4);
    s->string_data = (const char *)at;
    if (!s->rows || !s->kinds || !s->kind_order || !s->string_order || !s->string_at
        || left != head.string_bytes || head.rows >= ROW_NONE)
        return "its tables do not fit into it";
    s->count = (size_t)head.rows;
    s->kind_count = (size_t)head.kinds;
    s->string_count = (size_t)head.strings;
    return rows_valid(s) && tables_valid(s, head.string_bytes) ? NULL
                                                               : "its tables contradict each other";
}

enum akin_status sidecar_open(const char *path, uint64_t first, uint64_t bytes,
                              struct event_segment *segment, struct akin_error *error)
{
    struct event_segment read;
    segment_begin(&read, first);
    TRY(file_map_open(path, &read.map, error));
    const char *wrong = sidecar_read(read.map.data, read.map.bytes, &read);
    if (!wrong && (read.first != first || read.end != bytes))
        wrong = "it belongs to another state of the segment";
    if (wrong) {
        file_map_close(&read.map);
        return error_set(error, AKIN_FORMAT, "%s: %s", path, wrong);
    }
    *segment = read;
    return AKIN_OK;
}
