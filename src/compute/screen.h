/* Rows as bytes, with what is known for certain about the scores that they stand for: each row
 * keeps the length of what rounding took from it, so for every query an interval follows that its
 * score lies in. Who keeps all rows whose interval reaches the k-th best lower end, and scores
 * those from the originals, has the exact answer.
 *
 * Values. Screening works on values that order rows as their scores do: q . x for the inner
 * product, q . x - |x|^2 / 2 for L2, whose score is 2 value - |q|^2. With x = s c + e (c bytes, s
 * the row's scale) and q = t u + f (u bytes), |q . x - s t u . c| <= |q| |e| + |f| |s c|: `radius`
 * is |e| and `norm` |s c|, both rounded up. The slacks below also cover every rounding in float32
 * on the way, and that of the canonical score itself. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "compute/backend.h"
#include "compute/cpu/kernels.h"

enum {
    SCREEN_STEP = 512,          /* rows of one call */
    SCREEN_TAIL = 64,           /* readable bytes behind the codes of the last row */
    SCREEN_GROUP_MAX = 64,      /* queries of a group, see screen_group_size */
    SCREEN_TILE_MAX = 16,       /* rows of a tile */
};

static inline size_t screen_stride(size_t dim)
{
    return (dim + 15) / 16 * 16;
}

struct screen_rows {
    const uint8_t *codes;       /* [count][stride]: 128 + c, |c| <= 127; 128 behind dim */
    struct row_terms terms;     /* [count] each; bias -|x|^2 / 2 with L2, else NULL */
    size_t count, dim, stride;
    enum score score;
    double length_max;          /* of the rows, before rounding */
};

/* One row: codes [stride], and scale, radius, norm and bias to numbers. Returns its length. */
double screen_encode(const float *row, size_t dim, uint8_t *codes, float numbers[4]);
/* Makes of the row what its codes say, with a scale of 16 bits: every number of it is then exact in
 * float32, and who encodes it again gets the same scale and codes, with radius 0. */
void screen_round(float *row, size_t dim);
/* As screen_encode for codes and a scale that are given: numbers[0] is read, the others written. */
double screen_measure(const float *row, size_t dim, const uint8_t *codes, float numbers[4]);
/* And back: the row that the codes say, dim floats. */
void screen_decode(const struct screen_rows *rows, size_t row, float *out);

struct screen_query {
    struct dot_query dot;
    float slack;                /* beside those that depend on the row */
    double squares;             /* |q|^2 */
    const int8_t *digits;       /* [stride] */
};

/* Writes digits [stride]. false: numbers so large or so small that the bounds would not hold; then
 * all rows have to be scored. */
bool screen_prepare(const struct screen_rows *rows, const float *query, int8_t *digits,
                    struct screen_query *out);

/* The least value that a row with this score can have; with the next float down so that a
 * comparison with `<` is safe. */
float screen_value(const struct screen_rows *rows, const struct screen_query *query, float score);

/* What the interval of a row has to reach for its value to reach this one: the threshold of the
 * calls below, which leave the constant part of the slack to us. */
static inline float screen_threshold(const struct screen_query *query, float value)
{
    float lower = value - query->slack;
    return lower - __builtin_fabsf(lower) * 0x1p-22f;
}

/* Half of the interval of a row. */
static inline float screen_error(const struct screen_rows *rows, const struct screen_query *query,
                                 size_t row)
{
    return rows->terms.radius[row] * query->dot.slack_radius +
           rows->terms.norm[row] * query->dot.slack_norm + query->slack;
}

/* Those of the rows whose interval reaches `threshold` or beyond: their numbers and values, room
 * for count + 15 each. count <= SCREEN_STEP; a list is of rows in any order. */
size_t screen_range(const struct backend *backend, const struct screen_rows *rows,
                    const struct screen_query *query, size_t first, size_t count, float threshold,
                    uint32_t *found, float *values);
size_t screen_list(const struct backend *backend, const struct screen_rows *rows,
                   const struct screen_query *query, const uint32_t *list, size_t count,
                   float threshold, uint32_t *found, float *values);

/* ---- groups of queries ------------------------------------------------------------------ */

size_t screen_group_size(const struct backend *backend);    /* queries of a full group */
size_t screen_tile_rows(const struct backend *backend);     /* rows of a full tile */
size_t screen_group_bytes(const struct backend *backend, size_t dim);

/* Up to a group of prepared queries as the product reads them. */
struct screen_group {
    int8_t *panel;              /* [screen_group_bytes], aligned to 64 */
    size_t count;
    float step[SCREEN_GROUP_MAX], sum[SCREEN_GROUP_MAX], zeros[SCREEN_GROUP_MAX];
    float slack_radius[SCREEN_GROUP_MAX], slack_norm[SCREEN_GROUP_MAX];
};

void screen_pack(const struct backend *backend, const struct screen_rows *rows,
                 const struct screen_query *queries, size_t count, struct screen_group *group);

/* Values [count][SCREEN_GROUP_MAX] of rows [first, first + count) without their biases, and the
 * bits of the queries whose threshold a row reaches. count <= screen_tile_rows. */
void screen_tile(const struct backend *backend, const struct screen_rows *rows,
                 const struct screen_group *group, size_t first, size_t count,
                 const float *threshold, float *values, uint64_t *masks);

/* ---- originals -------------------------------------------------------------------------- */

/* cpu_score of listed rows, whatever the originals are kept in. `vectors` [count][dim]; with
 * ELEMENT_I8 the codes are the originals. scratch [SCREEN_TILE_MAX * dim], for others than float32.
 */
struct originals {
    const void *vectors;
    enum element_type element;
    size_t dim;
    enum score score;
    const struct screen_rows *codes;
};

void originals_read(const struct backend *backend, const struct originals *from, size_t row,
                    float *out);
void originals_score(const struct backend *backend, const struct originals *from,
                     const float *query, const uint32_t *list, size_t count, float *scratch,
                     float *scores);

/* The numbers i < count with values[i] >= threshold (or NaN) to `at`, which has room for count +
 * 15; returns how many. */
size_t pick_above(const struct backend *backend, uint32_t *at, const float *values,
                  float threshold, size_t count);
