/* Who rated one thing rated another: the shrunk cosine of two items over their raters,
 *
 *   both / sqrt((raters of one + 5) (raters of the other + 5))
 *
 * straight from the ratings of the catalogue, for any item, without fitting. A row is the
 * COOCCUR_ROW greatest of an item. What it costs is the sum of the ratings of the raters, of which
 * COOCCUR_RATERS spread over all are taken at most; rows of all items may be made ahead. */
#pragma once

#include "base/status.h"
#include "compute/item_rows.h"
#include "recommend/gather.h"

struct catalog;
struct cooccur;
struct thread_pool;

enum { COOCCUR_RATERS = 1000, COOCCUR_ROW = 200 };

enum akin_status cooccur_create(const struct catalog *catalog, struct cooccur **cooccur,
                                struct akin_error *error);
void cooccur_destroy(struct cooccur **cooccur);
uint64_t cooccur_bytes(const struct cooccur *cooccur);

/* All cosines of an item, itself left out, added to `out`. `counting` is clear, and clear again. An
 * item that is asked for needs them all: what few have rated has a small cosine, and is still told
 * from what nobody has (rows cut to 200 cost 0.07 of the recall of franchises). */
void cooccur_gather(const struct cooccur *cooccur, size_t row, struct gather *counting,
                    struct gather *out);
/* The row of an item, itself left out, in no particular order, ties by row; returns how many. The
 * gather is clear, and clear again. */
size_t cooccur_row(const struct cooccur *cooccur, size_t row, struct gather *counting,
                   struct item_weight out[COOCCUR_ROW]);

/* ---- rows that were made ahead ---------------------------------------------------------- */

/* Those of all items, with the threads of the pool (NULL: none); starts and entries are the
 * caller's to free, whatever the status. */
enum akin_status cooccur_rows(const struct cooccur *cooccur, struct thread_pool *pool,
                              struct item_rows *rows, struct akin_error *error);
void item_rows_free(struct item_rows *rows);
uint64_t item_rows_bytes(const struct item_rows *rows);

/* Adds weight * each entry of a row. */
void item_rows_gather(const struct item_rows *rows, size_t row, float weight, struct gather *out);
