/* Records of a store of events as bytes: a head, a body, zeros up to a multiple of eight. The head
 * has a checksum of its own, so that a length is believed only where it was written, and one of the
 * body, seeded with the number. Numbers are little-endian; docs/formats.md has the bytes. */
#pragma once

#include "base/memory.h"
#include "watch/event_store.h"

enum {
    RECORD_EVENT = 0x56454b41,      /* "AKEV" */
    RECORD_KIND = 0x444b4b41,       /* "AKKD" */
    RECORD_HEAD_BYTES = 32,
    RECORD_STEP = 8,                /* records begin at multiples of it */
};

struct record {
    uint64_t number;
    uint32_t group;                 /* bytes from the first record of the same append to this one */
    const unsigned char *body;
    size_t body_bytes;
    size_t bytes;                   /* of all of it */
};

/* The record at data[bytes]; false: none, or not a whole one. */
bool stored_record_read(const unsigned char *data, size_t bytes, uint32_t mark,
                        struct record *record);
/* The first whole record at `from` or behind, at a multiple of RECORD_STEP; `bytes`: none. What
 * pretends to be one costs time in proportion to `bytes` at most. */
size_t stored_record_find(const unsigned char *data, size_t bytes, size_t from, uint32_t mark);

/* Begins a record in `out`, whose byte 0 is where the append begins; returns where. The body is
 * appended by the caller, then stored_record_end. */
size_t stored_record_begin(struct bytes *out);
void stored_record_end(struct bytes *out, size_t begin, uint32_t mark, uint64_t number);

/* ---- events ------------------------------------------------------------------------------ */

void event_record_append(struct bytes *out, const struct stored_event *event);
/* What it would take; SIZE_MAX where that is beyond all limits. */
size_t event_record_bytes(const struct stored_event *event);
/* Views into the record. NULL: fine; else what is wrong. */
const char *event_record_parse(const struct record *record, struct stored_event *event);
/* Never 0, but for an empty id. */
uint64_t event_id_hash(const char *id);

/* ---- bytes -------------------------------------------------------------------------------- */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers in files are little-endian");
void bytes_append_u32(struct bytes *out, uint32_t value);
void bytes_append_u64(struct bytes *out, uint64_t value);
void bytes_pad(struct bytes *out);          /* zeros, up to a multiple of RECORD_STEP */
uint32_t load_u32(const void *at);
uint64_t load_u64(const void *at);
