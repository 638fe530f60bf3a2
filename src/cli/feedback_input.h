/* Ratings out of files: JSON lines or CSV, read in batches. */
#pragma once

#include "akin/recommend.h"
#include "base/memory.h"
#include "base/status.h"

struct feedback_input;

/* `format` "jsonl" or "csv"; NULL: by the name's ending, jsonl otherwise. "-" is standard input.
 * CSV begins with the names of its columns: user, item (or media_id), rating, and perhaps
 * timestamp. Ratings are divided by rating_max; one without a time gets `now`. */
enum akin_status feedback_input_open(const char *path, const char *format, double rating_max,
                                     int64_t now, struct feedback_input **input,
                                     struct akin_error *error);
void feedback_input_close(struct feedback_input **input);

/* Up to `count` ratings; fewer at the end and before a line that cannot be read, whose error comes
 * then with *got 0. Strings live until the next call. */
enum akin_status feedback_input_next(struct feedback_input *input, struct akin_feedback *feedback,
                                     size_t count, size_t *got, struct akin_error *error);
/* Where rating i of the last batch stands. */
const char *feedback_input_name(const struct feedback_input *input);
uint64_t feedback_input_line(const struct feedback_input *input, size_t i);
