/* Entries to bytes and back: kind u8, time i64, source length u8, source, cursor length u16,
 * cursor, and the record, or length u64 and SHA-256 of a record that lies in a file of its own. */
#include "audit/entry.h"

#include <string.h>

enum {
    KIND_RECORD = 1,
    KIND_LARGE = 2,
    KIND_KEY = 3,
    KIND_WITNESS = 4,
    HEAD_BYTES = 1 + 8 + 1 + 2,     /* of an entry without source and cursor */
    REFERENCE_BYTES = 8 + 32,
};

void put_u16(unsigned char *at, uint16_t value)
{
    at[0] = (unsigned char)(value >> 8);
    at[1] = (unsigned char)value;
}

void put_u32(unsigned char *at, uint32_t value)
{
    put_u16(at, (uint16_t)(value >> 16));
    put_u16(at + 2, (uint16_t)value);
}

void put_u64(unsigned char *at, uint64_t value)
{
    put_u32(at, (uint32_t)(value >> 32));
    put_u32(at + 4, (uint32_t)value);
}

uint16_t get_u16(const unsigned char *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

uint32_t get_u32(const unsigned char *at)
{
    return (uint32_t)get_u16(at) << 16 | get_u16(at + 2);
}

uint64_t get_u64(const unsigned char *at)
{
    return (uint64_t)get_u32(at) << 32 | get_u32(at + 4);
}

void append_u16(struct bytes *out, uint16_t value)
{
    unsigned char bytes[2];
    put_u16(bytes, value);
    bytes_append(out, bytes, sizeof bytes);
}

void append_u32(struct bytes *out, uint32_t value)
{
    unsigned char bytes[4];
    put_u32(bytes, value);
    bytes_append(out, bytes, sizeof bytes);
}

void append_u64(struct bytes *out, uint64_t value)
{
    unsigned char bytes[8];
    put_u64(bytes, value);
    bytes_append(out, bytes, sizeof bytes);
}

const char *akin_audit_kind_name(enum akin_audit_kind kind)
{
    static const char *const names[] = {"record", "key", "witness"};
    return (unsigned)kind < sizeof names / sizeof names[0] ? names[kind] : "unknown";
}

/* ---- writing ----------------------------------------------------------------------------- */

bool entry_is_large(const struct entry *entry)
{
    return entry->bytes > ENTRY_BYTES_MAX - HEAD_BYTES - entry->source_bytes - entry->cursor_bytes;
}

void entry_append(struct bytes *out, const struct entry *entry)
{
    static const unsigned char kinds[] = {KIND_RECORD, KIND_KEY, KIND_WITNESS};
    unsigned char head[2 + 1 + 8 + 1], cursor[2];
    size_t bytes = HEAD_BYTES + entry->source_bytes + entry->cursor_bytes +
                   (entry->large ? REFERENCE_BYTES : (size_t)entry->bytes);
    put_u16(head, (uint16_t)bytes);
    head[2] = entry->large ? KIND_LARGE : kinds[entry->kind];
    put_u64(head + 3, (uint64_t)entry->time_us);
    head[11] = (unsigned char)entry->source_bytes;
    put_u16(cursor, (uint16_t)entry->cursor_bytes);
    bytes_append(out, head, sizeof head);
    bytes_append(out, entry->source, entry->source_bytes);
    bytes_append(out, cursor, sizeof cursor);
    bytes_append(out, entry->cursor, entry->cursor_bytes);
    if (entry->large) {
        append_u64(out, entry->bytes);
        bytes_append(out, entry->digest, sizeof entry->digest);
    } else {
        bytes_append(out, entry->data, (size_t)entry->bytes);
    }
}

/* ---- reading ----------------------------------------------------------------------------- */

const char *entry_read(const unsigned char *bytes, size_t count, struct entry *entry)
{
    if (count < HEAD_BYTES)
        return "the entry is too short";
    *entry = (struct entry){.time_us = (int64_t)get_u64(bytes + 1), .source_bytes = bytes[9]};
    size_t at = 10, left = count - 10;
    if (left < entry->source_bytes + 2)
        return "the entry ends inside its source";
    entry->source = (const char *)bytes + at;
    at += entry->source_bytes;
    entry->cursor_bytes = get_u16(bytes + at);
    at += 2;
    if (count - at < entry->cursor_bytes || entry->cursor_bytes > AKIN_AUDIT_CURSOR_BYTES_MAX)
        return "the entry ends inside its cursor";
    entry->cursor = (const char *)bytes + at;
    at += entry->cursor_bytes;
    entry->data = bytes + at;
    entry->bytes = count - at;
    switch (bytes[0]) {
    case KIND_RECORD:
        entry->kind = AKIN_AUDIT_RECORD;
        return NULL;
    case KIND_KEY:
        entry->kind = AKIN_AUDIT_KEY;
        return NULL;
    case KIND_WITNESS:
        entry->kind = AKIN_AUDIT_WITNESS;
        return NULL;
    case KIND_LARGE:
        break;
    default:
        return "the entry is of a kind that this version does not know";
    }
    if (entry->bytes != REFERENCE_BYTES)
        return "the entry is not a reference to a record";
    entry->large = true;
    entry->bytes = get_u64(entry->data);
    memcpy(entry->digest, entry->data + 8, sizeof entry->digest);
    entry->data = NULL;
    if (entry->bytes > AKIN_AUDIT_RECORD_BYTES_MAX)
        return "the entry names a record that is too long";
    return NULL;
}

const char *entry_next(const unsigned char *bytes, size_t count, size_t *at, struct entry *entry,
                       const unsigned char **begin, size_t *entry_bytes)
{
    if (count - *at < ENTRY_LENGTH_BYTES)
        return "the bundle ends inside the length of an entry";
    size_t length = get_u16(bytes + *at);
    if (count - *at - ENTRY_LENGTH_BYTES < length)
        return "the bundle ends inside an entry";
    *begin = bytes + *at + ENTRY_LENGTH_BYTES;
    *entry_bytes = length;
    *at += ENTRY_LENGTH_BYTES + length;
    return entry_read(*begin, length, entry);
}
