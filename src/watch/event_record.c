#include "watch/event_record.h"

#include <string.h>

#include "base/hash.h"
#include "base/limits.h"

enum {
    EVENT_FIXED_BYTES = 56, EVENT_TEXTS = 8, FLAG_ALERT = 1,
    AT_BYTES = 4, AT_GROUP = 8, AT_CHECK = 12, AT_NUMBER = 16, AT_BODY_CHECK = 24,
    AT_KIND = 8, AT_SCORE = 16, AT_FLAGS = 20, AT_LENGTHS = 24,     /* in the body of an event */
};

void bytes_append_u32(struct bytes *out, uint32_t value)
{
    bytes_append(out, &value, sizeof value);
}

void bytes_append_u64(struct bytes *out, uint64_t value)
{
    bytes_append(out, &value, sizeof value);
}

void bytes_pad(struct bytes *out)
{
    static const char zeros[RECORD_STEP];
    bytes_append(out, zeros, (RECORD_STEP - out->count % RECORD_STEP) % RECORD_STEP);
}

uint32_t load_u32(const void *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

uint64_t load_u64(const void *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* Of all of the head but itself. */
static uint32_t head_check(const unsigned char *head)
{
    unsigned char copy[RECORD_HEAD_BYTES];
    memcpy(copy, head, sizeof copy);
    memset(copy + AT_CHECK, 0, 4);
    return (uint32_t)hash_bytes(copy, sizeof copy);
}

bool stored_record_read(const unsigned char *data, size_t bytes, uint32_t mark,
                        struct record *record)
{
    if (bytes < RECORD_HEAD_BYTES || load_u32(data) != mark
        || load_u32(data + AT_CHECK) != head_check(data))
        return false;
    struct record read = { .number = load_u64(data + AT_NUMBER),
                           .group = load_u32(data + AT_GROUP),
                           .body = data + RECORD_HEAD_BYTES,
                           .body_bytes = load_u32(data + AT_BYTES) };
    read.bytes = RECORD_HEAD_BYTES + (read.body_bytes + RECORD_STEP - 1) / RECORD_STEP
                                         * RECORD_STEP;
    if (read.body_bytes > EVENT_RECORD_BYTES_MAX || read.bytes > bytes
        || hash_bytes_seed(read.body, read.body_bytes, read.number)
               != load_u64(data + AT_BODY_CHECK))
        return false;
    *record = read;
    return true;
}

size_t stored_record_find(const unsigned char *data, size_t bytes, size_t from, uint32_t mark)
{
    size_t hashed = 0;
    for (size_t at = (from + RECORD_STEP - 1) / RECORD_STEP * RECORD_STEP;
         at < bytes && bytes - at >= RECORD_HEAD_BYTES && hashed <= 4 * bytes; at += RECORD_STEP) {
        struct record record;
        if (load_u32(data + at) != mark)
            continue;
        if (stored_record_read(data + at, bytes - at, mark, &record))
            return at;
        size_t body = load_u32(data + at + AT_BYTES);
        hashed += body < bytes - at ? body : 0;
    }
    return bytes;
}

size_t stored_record_begin(struct bytes *out)
{
    static const char head[RECORD_HEAD_BYTES];
    size_t begin = out->count;
    bytes_append(out, head, sizeof head);
    return begin;
}

void stored_record_end(struct bytes *out, size_t begin, uint32_t mark, uint64_t number)
{
    if (out->failed)
        return;
    size_t body = out->count - begin - RECORD_HEAD_BYTES;
    uint32_t bytes = (uint32_t)body, group = (uint32_t)begin;
    bytes_pad(out);
    if (out->failed)
        return;
    unsigned char *head = (unsigned char *)out->data + begin;
    uint64_t check = hash_bytes_seed(head + RECORD_HEAD_BYTES, body, number);
    memcpy(head, &mark, 4);
    memcpy(head + AT_BYTES, &bytes, 4);
    memcpy(head + AT_GROUP, &group, 4);
    memcpy(head + AT_NUMBER, &number, 8);
    memcpy(head + AT_BODY_CHECK, &check, 8);
    uint32_t whole = head_check(head);
    memcpy(head + AT_CHECK, &whole, 4);
}

/* ---- events ---------------------------------------------------------------------------------- */

struct text {
    const char *data;
    size_t bytes;
};

static void texts_of(const struct stored_event *e, struct text texts[EVENT_TEXTS])
{
    texts[0] = (struct text){ e->text, e->text_bytes };
    texts[1] = (struct text){ e->session, e->session_bytes };
    texts[2] = (struct text){ e->origin, strlen(e->origin) };
    texts[3] = (struct text){ e->id, strlen(e->id) };
    texts[4] = (struct text){ e->cursor, strlen(e->cursor) };
    texts[5] = (struct text){ e->time, strlen(e->time) };
    texts[6] = (struct text){ e->source, strlen(e->source) };
    texts[7] = (struct text){ e->level, strlen(e->level) };
}

size_t event_record_bytes(const struct stored_event *event)
{
    struct text texts[EVENT_TEXTS];
    size_t sum = RECORD_HEAD_BYTES + EVENT_FIXED_BYTES + EVENT_TEXTS + RECORD_STEP;
    texts_of(event, texts);
    for (int i = 0; i < EVENT_TEXTS; i++)
        if (texts[i].bytes > EVENT_RECORD_BYTES_MAX || !size_add(sum, texts[i].bytes, &sum))
            return SIZE_MAX;
    return sum - RECORD_HEAD_BYTES <= EVENT_RECORD_BYTES_MAX ? sum : SIZE_MAX;
}

void event_record_append(struct bytes *out, const struct stored_event *e)
{
    struct text texts[EVENT_TEXTS];
    texts_of(e, texts);
    size_t begin = stored_record_begin(out);
    uint32_t score;
    memcpy(&score, &e->score, sizeof score);
    bytes_append_u64(out, (uint64_t)e->time_us);
    bytes_append_u64(out, e->kind);
    bytes_append_u32(out, score);
    bytes_append_u32(out, e->alert ? FLAG_ALERT : 0);
    for (int i = 0; i < EVENT_TEXTS; i++)
        bytes_append_u32(out, (uint32_t)texts[i].bytes);
    for (int i = 0; i < EVENT_TEXTS; i++) {
        bytes_append(out, texts[i].data, texts[i].bytes);
        bytes_append(out, "", 1);
    }
    stored_record_end(out, begin, RECORD_EVENT, e->number);
}

const char *event_record_parse(const struct record *record, struct stored_event *event)
{
    const unsigned char *body = record->body;
    struct text texts[EVENT_TEXTS];
    if (record->body_bytes < EVENT_FIXED_BYTES)
        return "an event ends inside its numbers";
    if (record->number == 0 || load_u32(body + AT_FLAGS) & ~(uint32_t)FLAG_ALERT)
        return "an event has no such number or flag";
    size_t at = EVENT_FIXED_BYTES;
    for (int i = 0; i < EVENT_TEXTS; i++) {
        texts[i].bytes = load_u32(body + AT_LENGTHS + 4 * (size_t)i);
        texts[i].data = (const char *)body + at;
        if (texts[i].bytes >= record->body_bytes - at || texts[i].data[texts[i].bytes])
            return "a text of an event does not end where it should";
        at += texts[i].bytes + 1;
        if (i >= 2 && strlen(texts[i].data) != texts[i].bytes)
            return "a name in an event holds a NUL";
        if (at == record->body_bytes && i + 1 < EVENT_TEXTS)
            return "an event ends before its last text";
    }
    if (at != record->body_bytes)
        return "an event is longer than its texts";
    uint32_t score = load_u32(body + AT_SCORE);
    *event = (struct stored_event){ .number = record->number,
                                    .time_us = (int64_t)load_u64(body),
                                    .kind = load_u64(body + AT_KIND),
                                    .alert = load_u32(body + AT_FLAGS) & FLAG_ALERT,
                                    .text = texts[0].data, .text_bytes = texts[0].bytes,
                                    .session = texts[1].data, .session_bytes = texts[1].bytes,
                                    .origin = texts[2].data, .id = texts[3].data,
                                    .cursor = texts[4].data, .time = texts[5].data,
                                    .source = texts[6].data, .level = texts[7].data };
    memcpy(&event->score, &score, sizeof event->score);
    return NULL;
}

uint64_t event_id_hash(const char *id)
{
    if (!id[0])
        return 0;
    uint64_t hash = hash_bytes(id, strlen(id));
    return hash ? hash : 1;
}
