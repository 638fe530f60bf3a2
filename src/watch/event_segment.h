/* One segment of a store in memory: a row for each event, with all that filters and searches need,
 * and where its record is. The rows of one kind are a chain from the newest back. A segment that
 * grows owns its arrays; a sealed one has a sidecar, a file that is mapped and holds the same. */
#pragma once

#include "base/file_at.h"
#include "base/hash.h"
#include "watch/event_record.h"

enum { ROW_NONE = UINT32_MAX, SEGMENT_HEAD_BYTES = 40, ROW_ALERT = 1 };

struct event_row {                  /* 64 bytes, as in the sidecar */
    int64_t time_us;
    uint64_t id;                    /* event_id_hash */
    uint32_t offset, bytes;         /* of the record in the segment's file */
    uint32_t step;                  /* its number is the segment's first + step */
    uint32_t kind, session, source, origin, level;  /* places in the segment's tables */
    uint32_t before;                /* row of the kind's event before this one, or ROW_NONE */
    float score;
    uint32_t flags, unused;
};

struct segment_kind {               /* 16 bytes, as in the sidecar */
    uint64_t id;
    uint32_t last, count;           /* its newest row; how many it has */
};

struct segment_string {
    const char *data;
    size_t bytes;
};

struct event_segment {
    uint64_t first;                 /* number of its first event, and its file's name */
    uint64_t end;                   /* bytes of the file that are taken over */
    uint64_t damaged;               /* bytes of it that are not whole records */
    int64_t time_min, time_max;
    uint64_t alerts;
    size_t count, kind_count, string_count;
    const struct event_row *rows;
    const struct segment_kind *kinds;       /* in the order of their first events */

    struct file_map map;                    /* sealed: the sidecar, and in it: */
    const uint32_t *kind_order, *string_order;      /* sorted by id; by bytes */
    const uint32_t *string_at;              /* [string_count + 1] */
    const char *string_data;

    struct event_row *own_rows;             /* growing */
    struct segment_kind *own_kinds;
    struct segment_string *own_strings;
    size_t row_capacity, kind_capacity, string_capacity;
    struct number_map kind_places;
    struct string_map string_places;
    struct string_pool pool;
};

void segment_begin(struct event_segment *segment, uint64_t first);
void segment_deinit(struct event_segment *segment);

/* The head of a segment's file: number of its first event, and the cursors of all origins so far,
 * "origin\0cursor\0" each. */
void segment_head(struct bytes *out, uint64_t first, const struct bytes *cursors);
/* NULL: fine. Sets *bytes to those of the head, at least SEGMENT_HEAD_BYTES in any case. */
const char *segment_head_read(const unsigned char *data, size_t count, uint64_t first,
                              const char **cursors, size_t *cursor_bytes, size_t *bytes);

/* What a caller learns of events as they are taken over; may be NULL. */
struct segment_sink {
    void *cookie;
    void (*event)(void *cookie, const struct stored_event *event, uint64_t id);
};

/* Takes over the records in data[bytes], which lie in the file from segment->end on. What is no
 * record is skipped (`damaged` grows) where a later append shows that it was durable once, or where
 * nothing is to follow any more (`sealed`); otherwise it is the end of an append that did not end,
 * and segment->end stays before it. AKIN_MEMORY. */
enum akin_status segment_take(struct event_segment *segment, const unsigned char *data,
                              size_t bytes, bool sealed, struct segment_sink sink,
                              struct akin_error *error);

/* ROW_NONE where there is none. */
uint32_t segment_find_kind(const struct event_segment *segment, uint64_t id);
uint32_t segment_find_string(const struct event_segment *segment, const char *text, size_t bytes);
/* The row of an event's number; ROW_NONE: it has none. */
uint32_t segment_find_row(const struct event_segment *segment, uint64_t number);
uint64_t segment_last(const struct event_segment *segment);     /* 0: it is empty */

/* ---- event_sidecar.c ------------------------------------------------------------------------- */

/* Of a segment that has just ended. */
enum akin_status sidecar_write(const struct event_segment *segment, const char *path,
                               struct akin_error *error);
/* AKIN_FORMAT where it is damaged or not of a file of `first` and `bytes`. */
enum akin_status sidecar_open(const char *path, uint64_t first, uint64_t bytes,
                              struct event_segment *segment, struct akin_error *error);
/* The same over bytes that are there; NULL: fine. */
const char *sidecar_read(const unsigned char *data, size_t bytes, struct event_segment *segment);
