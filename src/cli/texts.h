/* Texts out of files: a line each (.txt), a field of JSON lines (.jsonl), a column (.csv). Reads in
 * windows, so that a file larger than memory can be embedded. */
#pragma once

#include "akin/model.h"
#include "base/memory.h"
#include "base/status.h"

struct text_source;

struct text_source_settings {
    const char *path;   /* "-": standard input */
    const char *format; /* "txt", "jsonl", "csv"; NULL: by the name's ending, txt otherwise */
    const char *field;  /* of JSON lines, column of CSV; NULL: "text" */
    bool rereadable;    /* text_source_rewind will be called: a pipe is then kept in a
                         * temporary file without a name */
};

/* Errors name file, line and field. A blank line of JSON lines or CSV is no text and is counted;
 * an empty line of a .txt is an empty text. */
enum akin_status text_source_open(const struct text_source_settings *settings,
                                  struct text_source **source, struct akin_error *error);
void text_source_close(struct text_source **source);
enum akin_status text_source_rewind(struct text_source *source, struct akin_error *error);

/* The next text, valid until the next call; *more false at the end. */
enum akin_status text_source_next(struct text_source *source, struct akin_text *text, bool *more,
                                  struct akin_error *error);

const char *text_source_name(const struct text_source *source);     /* for messages */
uint64_t text_source_blank_lines(const struct text_source *source); /* since the last rewind */

/* Reads to the end and counts; rewinds. AKIN_NOT_FOUND when there is no text at all. */
enum akin_status text_source_measure(struct text_source *source, size_t *count,
                                     struct akin_error *error);

/* ---- windows ----------------------------------------------------------------------------- */

/* Up to texts_max texts with their bytes. */
struct text_window {
    struct bytes data;
    struct akin_text *texts; /* [count] views of data */
    size_t *ends;            /* [count] */
    size_t count, texts_capacity, ends_capacity;
};

enum { WINDOW_TEXTS_MAX = 16384 };

/* Fills the window with the texts that come next; count 0 at the end of the source. */
enum akin_status text_window_fill(struct text_window *window, struct text_source *source,
                                  size_t texts_max, struct akin_error *error);
enum akin_status text_window_add(struct text_window *window, const char *bytes, size_t count,
                                 struct akin_error *error);
/* After the last text_window_add: makes `texts` point into `data`. */
void text_window_seal(struct text_window *window);
void text_window_deinit(struct text_window *window);
