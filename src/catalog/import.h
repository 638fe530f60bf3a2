/* What all imports share: counting of problems, progress, the text of an item, and the output that
 * replaces a catalogue as a whole or not at all. */
#pragma once

#include "akin/catalog.h"
#include "base/file.h"
#include "catalog/import_ratings.h"

struct import {
    struct akin_import_report report;
    struct akin_progress progress;
    uint64_t steps;
};

/* Adds 1 to `counter` and keeps the text "file:line: reason" if it is the first problem. */
void import_problem(struct import *import, uint64_t *counter, const char *file, uint64_t line,
                    const char *format, ...) __attribute__((format(printf, 5, 6)));

/* Call once per row; tells progress now and then. AKIN_CANCELLED when it says stop. */
enum akin_status import_step(struct import *import, const char *stage, uint64_t done,
                             uint64_t total, struct akin_error *error);

/* An item on its way to the file. */
struct import_item {
    const char *id, *title;
    int year;                       /* 0: unknown */
    const char *const *genres;
    size_t genre_count;
    const char *const *themes;
    size_t theme_count;
    const char *text;               /* NULL: composed */
};

/* "Title (Year). Genres: A, B. Themes: t1, t2." Parts that are empty are left out; the year is
 * added where the title does not have one. */
void import_compose_text(struct bytes *out, const struct import_item *item);

/* {"media_id": ..., "title": ..., "year": ..., "genres": [...], "themes": [...]} and, where `text`
 * is not NULL, "text" behind them; a newline at the end. */
void import_append_item(struct bytes *out, const struct import_item *item, const char *text);

/* The fingerprint of a file's lines or blocks: feed them one by one, beginning with 0. */
uint64_t import_fingerprint(uint64_t so_far, const void *bytes, size_t count);

struct import_output {
    char folder[PATH_BYTES_MAX];
    bool films;                     /* movies.jsonl, otherwise items.jsonl and user_names.json */
    double rating_max;
    struct file_writer *items, *ratings, *names, *description;
    struct bytes line, text;
    uint64_t items_fingerprint, ratings_fingerprint;
};

enum akin_status import_output_open(struct import_output *output, const char *folder, bool films,
                                    struct akin_error *error);
enum akin_status import_output_item(struct import_output *output, struct import *import,
                                    const struct import_item *item, struct akin_error *error);
enum akin_status import_output_ratings(struct import_output *output, struct import *import,
                                       const struct rating_table *ratings,
                                       struct akin_error *error);
/* Puts everything in place: the files of the other kind and embeddings that do not belong to these
 * items and ratings are removed. */
enum akin_status import_output_commit(struct import_output *output, const struct import *import,
                                      struct akin_error *error);
void import_output_abort(struct import_output *output); /* also after a commit; zeroed is fine */

/* Inside the folder. */
#define CATALOG_EMBEDDINGS "embeddings"
#define CATALOG_RATINGS_DESCR                                                         \
    "[('user', '<u4'), ('item', '<u4'), ('rating', '<f4'), ('timestamp', '<i8')]"
