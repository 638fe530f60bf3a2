/* An index that grows, changes and is searched at once: what akin/index.h promises, over a backend
 * instead of an engine.
 *
 * Rows are in immutable sealed segments (segment.h) and in the tail: chunks of memory that are only
 * appended to, searched row by row, and written to the file as they come. A snapshot lists the
 * parts, how many rows of each count and which of those live. It never changes; a search takes the
 * current one and keeps it. A writer prepares the next and puts it in place in one step, so that
 * readers never wait and never see half of a batch. A thread in the background turns a tail that
 * has grown into a segment, and segments that have become many into larger ones. */
#pragma once

#include "akin/index.h"
#include "base/status.h"

struct backend;
struct collection;
struct index_card;
struct thread_pool;

/* What a search aims at that does not say. */
#define COLLECTION_RECALL 0.95f

/* What an index computes with; outlives it. */
struct collection_host {
    struct backend *backend;
    struct thread_pool *pool;
    unsigned cpu_flags;         /* for the background's own backend */
    /* Fills *card (segment_card.h) with the card that sealed segments are searched on, or with
     * nobody. Asked by the first search; an error is that search's. NULL: there is none. */
    enum akin_status (*find_card)(void *context, struct index_card *card,
                                  struct akin_error *error);
    void *card_context;
};

void collection_settings_default(struct akin_index_settings *settings);

/* `settings` may be NULL. */
enum akin_status collection_build(const struct collection_host *host, const char *path,
                                  const struct akin_index_rows *rows, size_t dimension,
                                  const struct akin_index_settings *settings,
                                  struct akin_error *error);
enum akin_status collection_open(const struct collection_host *host, const char *path,
                                 enum akin_index_mode mode, struct collection **collection,
                                 struct akin_error *error);
void collection_close(struct collection **collection);
enum akin_status collection_refresh(struct collection *c, struct akin_error *error);

/* With `update`, rows that are there already are replaced. */
enum akin_status collection_add(struct collection *c, const struct akin_index_rows *rows,
                                bool update, struct akin_error *error);
/* By ids [count], or where that is NULL by keys [count]. */
enum akin_status collection_delete(struct collection *c, const int64_t *ids,
                                   const char *const *keys, size_t count, size_t *deleted,
                                   struct akin_error *error);
enum akin_status collection_sync(struct collection *c, size_t *rows, struct akin_error *error);
enum akin_status collection_compact(struct collection *c, const struct akin_progress *progress,
                                    struct akin_error *error);
/* Does now what the background would do once there is enough of it, down to an empty tail. For
 * tests, and for whoever is about to be idle. */
enum akin_status collection_seal(struct collection *c, struct akin_error *error);

enum akin_status collection_search(const struct collection *c,
                                   const struct akin_index_query *query, int64_t *ids,
                                   float *scores, struct akin_error *error);
/* See akin_index_card_seconds. */
enum akin_status collection_card_seconds(const struct collection *c,
                                         const struct akin_index_query *query, double *seconds,
                                         struct akin_error *error);
enum akin_status collection_read(const struct collection *c, int64_t from, size_t count,
                                 int64_t *ids, float *vectors, size_t *found,
                                 struct akin_error *error);
/* See akin_index_filter_hint. */
enum akin_status collection_hint(const struct collection *c, const char *text, char *hint,
                                 size_t bytes, struct akin_error *error);
enum collection_field { COLLECTION_KEY, COLLECTION_METADATA };
/* Into text[bytes]. */
enum akin_status collection_text(const struct collection *c, int64_t id,
                                 enum collection_field field, char *text, size_t bytes,
                                 struct akin_error *error);
void collection_info(const struct collection *c, struct akin_index_info *info);

/* All that can be checked about a file, see akin_index_check. */
enum akin_status collection_check(const struct collection_host *host, const char *path,
                                  struct akin_error *error);
/* What can be checked about an open one's structures: snapshot, maps, counts. AKIN_FORMAT says what
 * contradicts what. For tests. */
enum akin_status collection_validate(const struct collection *c, struct akin_error *error);
