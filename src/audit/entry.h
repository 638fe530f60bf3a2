/* Entries: the canonical bytes of a record, which are the leaves of the tree and what bundles hold,
 * each behind its length. The one description of the format is in docs/formats.md. */
#pragma once

#include "akin/audit.h"
#include "audit/tree.h"
#include "base/memory.h"

enum {
    ENTRY_BYTES_MAX = 65535,        /* of C2SP tlog-tiles */
    ENTRY_LENGTH_BYTES = 2,
};

/* Numbers are big-endian throughout a log, as in tlog-tiles. */
void put_u16(unsigned char *at, uint16_t value);
void put_u32(unsigned char *at, uint32_t value);
void put_u64(unsigned char *at, uint64_t value);
uint16_t get_u16(const unsigned char *at);
uint32_t get_u32(const unsigned char *at);
uint64_t get_u64(const unsigned char *at);
void append_u16(struct bytes *out, uint16_t value);
void append_u32(struct bytes *out, uint32_t value);
void append_u64(struct bytes *out, uint64_t value);

/* One entry, as views of its bytes. */
struct entry {
    enum akin_audit_kind kind;
    int64_t time_us;
    const char *source, *cursor;    /* not NUL-terminated */
    size_t source_bytes, cursor_bytes;
    bool large;                     /* the record lies in a file of its own */
    const unsigned char *data;      /* the record; NULL when large */
    uint64_t bytes;                 /* of the record */
    unsigned char digest[32];       /* SHA-256 of a large record */
};

/* Whether a record of so many bytes does not fit in its entry. */
bool entry_is_large(const struct entry *entry);
/* Appends length and entry; `digest` is filled in by the caller for a large one. */
void entry_append(struct bytes *out, const struct entry *entry);

/* Reads the entry behind the length at *at of bytes[count], and moves *at behind it. NULL: fine;
 * else what is wrong with it. *begin, *entry_bytes: the leaf. */
const char *entry_next(const unsigned char *bytes, size_t count, size_t *at, struct entry *entry,
                       const unsigned char **begin, size_t *entry_bytes);
const char *entry_read(const unsigned char *bytes, size_t count, struct entry *entry);
