#include "watch/event_segment.h"

#include <string.h>

#include "base/limits.h"

static const char head_mark[16] = "akin events 1\n";
enum { AT_FIRST = 16, AT_CURSOR_BYTES = 24, AT_CHECK = 32 };

void segment_begin(struct event_segment *s, uint64_t first)
{
    *s = (struct event_segment){ .first = first, .time_min = INT64_MAX, .time_max = INT64_MIN };
    s->map.data = (const unsigned char *)"";
}

void segment_deinit(struct event_segment *s)
{
    file_map_close(&s->map);
    memory_free(s->own_rows);
    memory_free(s->own_kinds);
    memory_free(s->own_strings);
    number_map_deinit(&s->kind_places);
    string_map_deinit(&s->string_places);
    string_pool_deinit(&s->pool);
    segment_begin(s, s->first);
}

/* ---- the head ------------------------------------------------------------------------------- */

static uint64_t head_check(const unsigned char *head, const void *cursors, size_t bytes)
{
    return hash_bytes_seed(cursors, bytes, hash_bytes(head, AT_CHECK));
}

void segment_head(struct bytes *out, uint64_t first, const struct bytes *cursors)
{
    size_t begin = out->count;
    bytes_append(out, head_mark, sizeof head_mark);
    bytes_append_u64(out, first);
    bytes_append_u64(out, cursors->count);
    if (!out->failed)
        bytes_append_u64(out, head_check((unsigned char *)out->data + begin,
                                         cursors->count ? cursors->data : "", cursors->count));
    bytes_append(out, cursors->data, cursors->count);
    bytes_pad(out);
}

const char *segment_head_read(const unsigned char *data, size_t count, uint64_t first,
                              const char **cursors, size_t *cursor_bytes, size_t *bytes)
{
    *bytes = SEGMENT_HEAD_BYTES;
    *cursors = "";
    *cursor_bytes = 0;
    if (count < SEGMENT_HEAD_BYTES || memcmp(data, head_mark, sizeof head_mark))
        return "it does not begin as a segment of events does";
    uint64_t length = load_u64(data + AT_CURSOR_BYTES);
    if (length > count - SEGMENT_HEAD_BYTES
        || head_check(data, data + SEGMENT_HEAD_BYTES, (size_t)length) != load_u64(data + AT_CHECK))
        return "its head is damaged";
    size_t whole = SEGMENT_HEAD_BYTES + (size_t)length;
    *bytes = (whole + RECORD_STEP - 1) / RECORD_STEP * RECORD_STEP;
    *bytes = *bytes < count ? *bytes : count;
    if (load_u64(data + AT_FIRST) != first)
        return "its head belongs to another segment";
    if (length && data[whole - 1])
        return "the cursors in its head do not end";
    *cursors = (const char *)data + SEGMENT_HEAD_BYTES;
    *cursor_bytes = (size_t)length;
    return NULL;
}

/* ---- taking over ---------------------------------------------------------------------------- */

static bool place_kind(struct event_segment *s, uint64_t id, uint32_t row, uint32_t *place,
                       uint32_t *before)
{
    uint64_t found;
    bool fresh;
    if (!array_reserve((void **)&s->own_kinds, &s->kind_capacity, s->kind_count + 1,
                       sizeof *s->own_kinds)
        || !number_map_put(&s->kind_places, id, s->kind_count, &found, &fresh))
        return false;
    s->kinds = s->own_kinds;
    if (fresh)
        s->own_kinds[s->kind_count++] = (struct segment_kind){ .id = id, .last = ROW_NONE };
    struct segment_kind *kind = &s->own_kinds[found];
    *place = (uint32_t)found;
    *before = kind->last;
    kind->last = row;
    kind->count++;
    return true;
}

static bool place_string(struct event_segment *s, const char *text, size_t bytes, uint32_t *place)
{
    uint64_t found;
    if (string_map_get(&s->string_places, text, bytes, &found)) {
        *place = (uint32_t)found;
        return true;
    }
    if (!array_reserve((void **)&s->own_strings, &s->string_capacity, s->string_count + 1,
                       sizeof *s->own_strings))
        return false;
    char *copy = string_pool_add(&s->pool, text, bytes);
    if (!copy || !string_map_put(&s->string_places, copy, bytes, s->string_count, NULL, NULL))
        return false;
    s->own_strings[s->string_count] = (struct segment_string){ copy, bytes };
    *place = (uint32_t)s->string_count++;
    return true;
}

static bool add_row(struct event_segment *s, const struct stored_event *e, size_t bytes,
                    uint64_t id)
{
    struct event_row row = { .time_us = e->time_us, .id = id, .offset = (uint32_t)s->end,
                             .bytes = (uint32_t)bytes, .step = (uint32_t)(e->number - s->first),
                             .score = e->score, .flags = e->alert ? ROW_ALERT : 0 };
    if (!array_reserve((void **)&s->own_rows, &s->row_capacity, s->count + 1,
                       sizeof *s->own_rows))
        return false;
    s->rows = s->own_rows;
    if (!place_string(s, e->session, e->session_bytes, &row.session)
        || !place_string(s, e->source, strlen(e->source), &row.source)
        || !place_string(s, e->origin, strlen(e->origin), &row.origin)
        || !place_string(s, e->level, strlen(e->level), &row.level)
        || !place_kind(s, e->kind, (uint32_t)s->count, &row.kind, &row.before))
        return false;
    s->own_rows[s->count++] = row;
    s->alerts += e->alert;
    s->time_min = e->time_us < s->time_min ? e->time_us : s->time_min;
    s->time_max = e->time_us > s->time_max ? e->time_us : s->time_max;
    return true;
}

/* Numbers grow, and a segment's file stays small enough for its rows. */
static bool fits(const struct event_segment *s, const struct stored_event *e, size_t bytes)
{
    uint64_t last = segment_last(s);
    return e->number >= s->first && e->number > last && e->number - s->first < ROW_NONE
           && s->end + bytes < UINT32_MAX && s->count < ROW_NONE - 1;
}

/* Where reading goes on behind bytes at `at` that are no record; `bytes`: nowhere. */
static size_t resume(const unsigned char *data, size_t bytes, size_t at, bool sealed)
{
    size_t first = stored_record_find(data, bytes, at + 1, RECORD_EVENT);
    if (sealed || first == bytes)
        return first;
    for (size_t later = first; later < bytes;) {
        struct record record;
        if (!stored_record_read(data + later, bytes - later, RECORD_EVENT, &record)) {
            later = stored_record_find(data, bytes, later + 1, RECORD_EVENT);
            continue;
        }
        if (later >= record.group && later - record.group > at)
            return first;           /* an append that began when all before it was durable */
        later += record.bytes;
    }
    return bytes;
}

enum akin_status segment_take(struct event_segment *s, const unsigned char *data, size_t bytes,
                              bool sealed, struct segment_sink sink, struct akin_error *error)
{
    for (size_t at = 0; at < bytes;) {
        struct record record;
        struct stored_event event;
        if (stored_record_read(data + at, bytes - at, RECORD_EVENT, &record)
            && !event_record_parse(&record, &event) && fits(s, &event, record.bytes)) {
            uint64_t id = event_id_hash(event.id);
            if (!add_row(s, &event, record.bytes, id))
                return error_memory(error);
            if (sink.event)
                sink.event(sink.cookie, &event, id);
            s->end += record.bytes;
            at += record.bytes;
            continue;
        }
        size_t next = resume(data, bytes, at, sealed);
        if (next == bytes && !sealed)
            return AKIN_OK;
        s->damaged += next - at;
        s->end += next - at;
        at = next;
    }
    return AKIN_OK;
}

/* ---- finding -------------------------------------------------------------------------------- */

uint32_t segment_find_kind(const struct event_segment *s, uint64_t id)
{
    uint64_t place;
    if (!s->kind_order)
        return number_map_get(&s->kind_places, id, &place) ? (uint32_t)place : ROW_NONE;
    size_t low = 0, high = s->kind_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (s->kinds[s->kind_order[middle]].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < s->kind_count && s->kinds[s->kind_order[low]].id == id ? s->kind_order[low]
                                                                        : ROW_NONE;
}

static int compare_strings(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return order ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

uint32_t segment_find_string(const struct event_segment *s, const char *text, size_t bytes)
{
    uint64_t found;
    if (!s->string_order)
        return string_map_get(&s->string_places, text, bytes, &found) ? (uint32_t)found : ROW_NONE;
    size_t low = 0, high = s->string_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        uint32_t place = s->string_order[middle];
        int order = compare_strings(s->string_data + s->string_at[place],
                                    s->string_at[place + 1] - s->string_at[place], text, bytes);
        if (order == 0)
            return place;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return ROW_NONE;
}

uint32_t segment_find_row(const struct event_segment *s, uint64_t number)
{
    if (number < s->first || number - s->first > ROW_NONE)
        return ROW_NONE;
    uint64_t step = number - s->first;
    size_t low = 0, high = s->count;
    if (step < s->count && s->rows[step].step == step)
        return (uint32_t)step;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (s->rows[middle].step < step)
            low = middle + 1;
        else
            high = middle;
    }
    return low < s->count && s->rows[low].step == step ? (uint32_t)low : ROW_NONE;
}

uint64_t segment_last(const struct event_segment *s)
{
    return s->count ? s->first + s->rows[s->count - 1].step : 0;
}
