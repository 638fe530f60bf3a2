/* The kinds of events with the vectors of their texts by one model, in halves, found by content:
 * the file's name and head say which model, a record which text. Not locked: the store's affair. */
#pragma once

#include "base/file_at.h"
#include "base/hash.h"
#include "watch/event_record.h"

struct event_kinds {
    char model[128];                /* what the model is known by; "": none, and no vectors */
    char path[PATH_BYTES_MAX];
    struct file_at file;            /* fd -1: not there yet */
    uint64_t end;                   /* bytes of it that are taken over */
    uint64_t damaged;
    size_t count, capacity, text_capacity, id_capacity, scale_capacity, dimension;
    struct number_map places;       /* id -> row */
    uint64_t *ids;                  /* [count] */
    uint16_t *halves;               /* [count][dimension] */
    float *scales;                  /* [count]: 1 / length, 0 where there is none */
    const char **texts;             /* [count] */
    struct string_pool pool;
    struct bytes pending;           /* records that are not in the file yet */
    bool unsynced;
};

struct hit;
struct kernels;

void event_kinds_init(struct event_kinds *kinds);
enum akin_status event_kinds_open(struct event_kinds *kinds, const char *folder, const char *model,
                                  bool read_only, struct akin_error *error);
void event_kinds_close(struct event_kinds *kinds);
/* Takes over what the file has more by now. `exclusive`: nobody appends meanwhile, so that an end
 * that is no record is cut off. *cut counts bytes. */
enum akin_status event_kinds_catch_up(struct event_kinds *kinds, const struct kernels *kernels,
                                      bool exclusive, uint64_t *cut, struct akin_error *error);
/* Into memory and `pending`; nothing for one that is there. AKIN_ARGUMENT: another dimension. */
enum akin_status event_kinds_put(struct event_kinds *kinds, const struct kernels *kernels,
                                 uint64_t id, const char *text, const float *vector,
                                 size_t dimension, struct akin_error *error);
/* Appends what is pending; the caller has the store's lock, and has caught up. */
enum akin_status event_kinds_flush(struct event_kinds *kinds, bool durable,
                                   struct akin_error *error);
/* Cosines of rows [begin, end) with query[dimension], into scores[begin..end): 0 where they are
 * nothing finite. false: no memory. */
bool event_kinds_score(const struct event_kinds *kinds, const struct kernels *kernels,
                       const float *query, size_t begin, size_t end, float *scores);
/* The same, bit for bit, for the rows of these hits. */
bool event_kinds_score_some(const struct event_kinds *kinds, const struct kernels *kernels,
                            const float *query, struct hit *hits, size_t count);

/* ---- the file -------------------------------------------------------------------------------- */

struct kinds_head {
    char model[128];
    size_t dimension, bytes;        /* bytes of the head */
};

void kinds_head_append(struct bytes *out, const char *model, size_t dimension);
/* NULL: fine. */
const char *kinds_head_read(const unsigned char *data, size_t bytes, struct kinds_head *head);
/* Views into the record; NULL: fine. `halves` are unaligned, little-endian. */
const char *kind_record_parse(const struct record *record, size_t dimension, const char **text,
                              const unsigned char **halves);
