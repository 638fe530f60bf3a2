/* Seam 2: the inner loops. One row here is one operation: a slot in struct kernels, a reference in
 * kernels_ref.c, a check and a benchmark in tests/kernelcheck.c (a row without check_<name> does
 * not compile).
 *
 * Rules that hold for every row
 * - Pointers need the alignment of a float, `const void *` none. Only what is named is read or
 *   written. Outputs do not overlap inputs unless the row says so.
 * - What one output is depends on its own inputs and sizes only, in a fixed order: never on how
 *   many rows or columns the call has. So the same text has the same bits in any batch.
 * - The vector levels (avx2, avx512) give the same bits as each other: both run kernels_wide.h.
 * - NaN and infinities propagate as in plain C unless the row says otherwise.
 *
 * Error classes (u = 2^-24), against the exact result on the same inputs
 *   exact    elementwise, one rounding: same bits on every level
 *   bounded  sums: |x - exact| <= (n + 2) u * sum |terms|, n the number of terms
 *   ulp N    |x - exact| <= N units in the last place of the exact result, or FLT_MIN
 *
 * gemm_f32         out[r][c] (+)= sum over k of x[r][k] * panel[k][c], for r < rows <= gemm.mr and
 *                  c < cols <= gemm.nr. Starts from bias[c] (NULL: 0), or from out[r][c] where
 *                  `accumulate` is set (bias is then not used), and adds the products for k = 0, 1,
 *                  2 ... one after the other in float32, fused on the vector levels. So cutting the
 *                  depth into several calls changes no bit. panel is [depth][gemm.nr]; all of it is
 *                  read. bounded, n = depth + 1.
 * score_dot_f32    scores[q][r] = sum a[k] b[k] for query q (queries[q * dim]) and row rows[r];
 * score_l2_f32     scores[q][r] = -sum (a[k] - b[k])^2. scores is [query_count][row_count]. Sixteen
 *                  partial sums, fused: number j takes k = j, j + 16, ...; the missing end counts
 *                  as zeros; then a tree: j + (j+8), + (j+4), + (j+2), + (j+1). Same bits on every
 *                  level. bounded, n = dim (l2: n = 2 dim + 2).
 * attend_f32       Attention of one head: out[i] = sum over j of w[i][j] * v[j], w[i] the softmax
 *                  over all keys of q[i] . k[j] / sqrt(dim). In float32, whatever the sizes; dim
 *                  and the numbers of queries and keys are at least 1, keys and queries at most
 *                  TOKENS_MAX. out overlaps nothing. error <= (2 (dim + 5) D + keys + 20) u
 *                  sum |w v|, D the largest sum |q k| / sqrt(dim) of the query's keys.
 * attend_rough     the same where the numbers come out of products in sixteen or eight bits: q, k,
 *                  v and w may be rounded to bfloat16, denormals are 0, and the exponential may
 *                  be off by 2^-12; dim at most ATTEND_DIMS. With D as above, error <=
 *                  (expm1(2 (2^-8 + 2^-12) D) + 2^-8 + 2^-11) sum |w v| and attend_f32's.
 * layernorm_f32    out = (s - mean) / sqrt(variance + epsilon) * gamma + beta with s = x + y (y may
 *                  be NULL; out may be x or y). Two passes in float32, each with four times sixteen
 *                  partial sums as above. With n = count: error <= (n / 16 + 12) u (|s| + mean |s|)
 *                  / sigma * |gamma| + 4 u |out|.
 * gelu_f32         x = x * Phi(x), the exact form 0.5 x (1 + erf(x / sqrt 2)), in place on
 *                  x[r * stride + c], r < rows, c < cols. ulp 5. -inf gives 0.
 * gelu_rough_f32   the same for what is rounded to sixteen or eight bits next: |error| <= 2^-14, in
 *                  less than half the time. -inf gives about 0, NaN and inf stay.
 * relu_f32         x = x < 0 ? 0 : x, likewise. exact.
 * add_f32          x += y. exact.
 * max_f32          x = x > y ? x : y, elementwise, but a NaN in either stays. exact.
 * scale_f32        x *= factor. exact.
 * blend_f32        x = keep * x + take * y: two products, then their sum, each rounded. exact.
 * add_scaled_f32   x += factor * y, fused. exact.
 * exp_sum_f32      x = e^(x - top) for numbers of at most top, 0 where that is below FLT_MIN: ulp
 *                  2, of x - top rounded once. Returns their sum: sixteen partial sums and the
 *                  tree, as in score_dot_f32, bounded.
 * quantize_u8      A row as bytes: with y = x * factor (NULL: x), low = min(0, y), high = max(0, y)
 *                  and g = (high - low) / 255: out = round(y * (255 / (high - low))) + zero_point
 *                  cut to 0..255, zero_point = round(-low * (255 / (high - low))), *scale = g, so
 *                  that y is about (out - zero_point) * scale. Rounds to even. Bytes up to `padded`
 *                  are 0. A range below 255 FLT_MIN gives scale, zero point and bytes 0; a NaN, an
 *                  infinity or a range beyond FLT_MAX scale NaN, the rest 0. exact.
 * gemm_u8s8        out[r][c] = fma(fma(-zero_point[r], sum[c], (float)s), scale[r] * scale[c],
 *                  start) with start = bias[c], or out[r][c] where `accumulate` is set, and s = sum
 *                  over k < depth of x[r][k] * panel[k][c] in int32, for r < rows <= u8s8.mr, c <
 *                  cols <= u8s8.nr. depth is a multiple of u8s8.granule and at most 65536, so |s|
 *                  <= 255 * 128 * 65536 < 2^31 and nothing saturates on any level. All of the panel
 *                  and of its four vectors [nr] are read. exact.
 * narrow_bf16      bfloat16 of float32, rounded to even; numbers below FLT_MIN give zero of their
 *                  sign, NaN a quiet NaN with its upper bits. Halves up to `padded` are 0. exact.
 * narrow_f16       IEEE half of float32, rounded to even; beyond 65504 infinity, NaN a quiet NaN
 *                  with its upper bits. exact.
 * gemm_bf16        out[r][c] = bias[c] + sum over k of x[r][k] * panel[k][c] of bfloat16 numbers,
 *                  summed in float32; in which order and with how many roundings is the level's
 *                  affair (the reference: k = 1, 0, 3, 2 ..., as Intel documents VDPBF16PS), but
 *                  the same for every row. Denormal inputs and results may count as 0. depth is a
 *                  multiple of bf16.granule; bias [nr] may be NULL. bounded, n = depth + 1, and
 *                  depth FLT_MIN beside.
 * pq4_products_f32 out[m][j] = start[m][j] (NULL: 0) + sum over d < width of x[m][d] *
 *                  codebook[m][d][j], m < parts, j < PQ4_CODES; fused, d = 0, 1, 2 ... The same
 *                  bits on every level. bounded, n = width + 1.
 * argmax_f32       best[r] = the first column of row r (x + r * stride) with its greatest number;
 *                  cols >= 1. Any column where the row has a NaN. exact.
 * pq4_scan         sums[b][r] = the sum of a table entry for each part of row r of block b: see
 *                  PQ4_GROUP_BYTES. Entries are at most 127, their sum at most 65535. `ahead`: as
 *                  many bytes that are wanted next and fetched meanwhile; may be `codes`. exact.
 * pq8_scan         The same with codes of eight bits and entries of at most 255: see PQ8_CODES.
 *                  exact.
 * select_u16       Writes the i < count, ascending, with x[i] >= floor; returns how many. exact.
 * score_s16s8      out[i] = sum over k < depth of query[k] * row[k] for the row which[i] (NULL: i),
 *                  `stride` bytes apart. depth is a multiple of 32; the sum of magnitudes is below
 *                  2^31. exact.
 * add_scaled_s8    x += factor * y, fused. exact.
 * widen_f16        float32 of IEEE half or bfloat16 numbers, `in` unaligned, little-endian. exact.
 * sketch_tables    What sketch_scores of the same level looks up for one query, from the summands
 *                  of the 2-bit fields of a sketch: fields[(4 p + j) * 4 + c] is what field j of
 *                  plane p adds when it is c. The three low fields of a plane add up to at most 63,
 *                  and so do the top fields of three planes 3 m .. 3 m + 2. planes is a multiple
 *                  of 3; tables is aligned to 64 and has sketch_table_bytes(planes).
 * sketch_scores    Estimates of `count` blocks of sketches; struct sketch_form says how they lie:
 *                  S = the summands of all fields of a row, D = sum head[h] * head byte h, both in
 *                  integers, then score = fma(fma(step, S, fma(head_step, D, offset)), factor,
 *                  shift); where there is a bias it takes the place of shift, which is then added
 *                  at last. exact.
 * dot_u8s8         sums[i] = sum over k < dim of row[k] * query[k] in int32, where row is number
 *                  ids[i], or i where ids is NULL, of rows [..][stride]. dim <= 65536. exact.
 * pick_f32         Writes the numbers i < count with values[i] >= threshold (or NaN), ascending, to
 *                  `at`, and returns how many. `at` has room for count + 15. exact.
 * pick_dots        The same for sums of dot_u8s8: v = fma(scale[i] * step, (float)(sums[i] -
 *                  offset), bias[i]), where a bias that is NULL is 0; picks those with fma(norm[i],
 *                  slack_norm, fma(radius[i], slack_radius, v)) >= threshold (or NaN), and writes v
 *                  beside. |sums - offset| < 2^31. Both outputs have room for count + 15. exact.
 * pick_tile        Bit c of masks[r], r < rows, c < cols <= 64, for values [r][c] of gemm_u8s8: is
 *                  fma(norm[r], slack_norm[c], fma(radius[r], slack_radius[c], value + bias[r]))
 *                  >= threshold[c] (or NaN)? A bias that is NULL is 0. exact.
 *
 * A graph's rows are bytes around 128 and its edges one bit per dimension (index/graph.h). dim is a
 * multiple of 64, at most 4096.
 * dot_tile_u8s8    out[q][r] = sum of queries[q][k] * rows[ids[r]][k] in int32 (ids NULL: row r):
 *                  dot_u8s8 for many queries. exact.
 * edge_bits        With y = row_scale * (row[k] - 128), c = scale * (centre[k] - 128), d = y - c,
 *                  each one rounding: bit k % 64 of bits[k / 64] is d > 0, and the sums over k:
 *                  of d * d, |d|, c * d, and c where the bit is set, -c elsewhere. Sixteen partial
 *                  sums, fused, and the tree, as in score_dot_f32. bits exact, same bits on every
 *                  level; the sums bounded, n = dim.
 * edge_scores      With u[e] the sum over g < dim / 4 of table[g][code of edge e], the code of
 *                  edges 0..15 the low and of 16..31 the high half of codes[g][e % 16]:
 *                  out[e] = fma(slope_scale * slope[e], fma(step, u[e], low),
 *                               fma(offset_scale, offset[e], start)). Entries of the table are at
 *                  most EDGE_LEVEL_MAX. Returns the mask of edges with out[e] < bound. exact.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "compute/beta_key.h"

/* Rows of activations as bytes, as quantize_u8 makes them. */
struct u8_rows {
    const uint8_t *values;          /* [rows][stride] */
    size_t stride;
    const float *scale, *zero_point;    /* [rows]; zero points are whole */
};

/* Columns of weights as signed bytes: weight[k][c] = values * scale[c]. */
struct s8_panel {
    const int8_t *values;           /* [depth / 4][nr][4] */
    const float *scale, *sum, *bias;    /* [nr]; sum of the column's values, exact in a float */
};

/* One head of one sequence. */
struct head {
    const float *q, *k, *v;         /* [queries or keys][stride] */
    float *out;                     /* [queries][out_stride] */
    size_t stride, out_stride, queries, keys, dim;
};

/* Keys, and dimensions, that attention works on at a time, and most queries. */
enum { ATTEND_KEYS = 128, ATTEND_DIMS = 128, ATTEND_QUERIES_MAX = 32 };

/* What attention needs beside; its contents mean nothing between calls. */
struct attend_scratch {
    float queries[ATTEND_DIMS * ATTEND_QUERIES_MAX], scores[ATTEND_KEYS * ATTEND_QUERIES_MAX];
    uint16_t keys[ATTEND_KEYS * ATTEND_DIMS], values[ATTEND_KEYS * ATTEND_DIMS],
        weights[ATTEND_KEYS * ATTEND_QUERIES_MAX];
    float top[TOKENS_MAX], total[TOKENS_MAX];   /* the running softmax of each query */
};

/* The edges of one node of a graph: their estimated distances are lines in what the query's table
 * says about their bits. */
enum { EDGES = 32, EDGE_LEVEL_MAX = 63 };

struct edge_codes {
    const uint8_t *codes;               /* [dim / 4][16] */
    const int16_t *offset, *slope;      /* [EDGES] */
    float offset_scale, slope_scale;
};

/* What a query contributes. */
struct edge_query {
    const uint8_t *table;               /* [dim / 4][16] */
    float step, low, start;
};

struct edge_sums {
    float squares, absolutes, centre_dot, centre_signed;
};

/* A block of sketches (compute/sketch.h): `rows` of them (32 or 64), in this order
 *   planes   [planes][rows] bytes of four 2-bit fields; row r at byte 2 r, or 2 (r - rows / 2) + 1
 *            from rows / 2 on, so that even bytes are the first half
 *   heads    [heads][rows][4] bytes, each at most 127
 *   factor   [rows] float32, and where `biased` bias [rows] behind it */
struct sketch_form {
    size_t rows, planes, heads;     /* planes is a multiple of 3, at most SKETCH_PLANES_MAX */
    bool biased;
};

enum { SKETCH_PLANES_MAX = 780 };   /* 260 lookups of at most 4 * 63 fit in sixteen bits */

static inline size_t sketch_form_bytes(const struct sketch_form *form)
{
    return form->rows * (form->planes + 4 * form->heads + (form->biased ? 8 : 4));
}

static inline size_t sketch_table_bytes(size_t planes)
{
    return planes / 3 * 4 * 64;
}

struct sketch_terms {
    const uint8_t *tables;          /* of sketch_tables */
    const int8_t *head;             /* [4 * heads] */
    float step, head_step, offset, shift;
};

/* What rows as bytes are worth (compute/screen.h), from the first row of a call on. */
struct row_terms {
    const float *scale, *radius, *norm;
    const float *bias;              /* may be NULL */
};

struct dot_query {
    float step, slack_radius, slack_norm;
    int32_t offset;
};

/*    name           result  parameters */
#define KERNELS(X)                                                                              \
    KERNELS_WIDE(X) KERNELS_NARROW(X) KERNELS_SCAN(X) KERNELS_PQ(X) KERNELS_PQ8(X) \
    KERNELS_GRAPH(X) KERNELS_BETA(X)

#define KERNELS_WIDE(X)                                                                          \
    X(gemm_f32,      void,   (float *out, size_t out_stride, const float *x, size_t x_stride,    \
                              const float *panel, size_t depth, size_t rows, size_t cols,        \
                              const float *bias, bool accumulate))                               \
    X(score_dot_f32, void,   (float *scores, const float *queries, size_t query_count,           \
                              const float *const *rows, size_t row_count, size_t dim))           \
    X(score_l2_f32,  void,   (float *scores, const float *queries, size_t query_count,           \
                              const float *const *rows, size_t row_count, size_t dim))           \
    X(attend_f32,    void,   (const struct head *head, struct attend_scratch *scratch))          \
    X(attend_rough,  void,   (const struct head *head, struct attend_scratch *scratch))          \
    X(layernorm_f32, void,   (float *out, const float *x, const float *y, const float *gamma,    \
                              const float *beta, float epsilon, size_t count))                   \
    X(gelu_f32,      void,   (float *x, size_t stride, size_t rows, size_t cols))                \
    X(gelu_rough_f32, void,  (float *x, size_t stride, size_t rows, size_t cols))                \
    X(relu_f32,      void,   (float *x, size_t stride, size_t rows, size_t cols))                \
    X(add_f32,       void,   (float *x, const float *y, size_t count))                           \
    X(max_f32,       void,   (float *x, const float *y, size_t count))                           \
    X(scale_f32,     void,   (float *x, float factor, size_t count))                             \
    X(blend_f32,     void,   (float *x, float keep, const float *y, float take, size_t count))   \
    X(add_scaled_f32, void,  (float *x, const float *y, float factor, size_t count))             \
    X(exp_sum_f32,   float,  (float *x, float top, size_t count))                                \
    X(widen_f16,     void,   (float *out, const void *in, size_t count))                         \
    X(widen_bf16,    void,   (float *out, const void *in, size_t count))                         \
    X(edge_bits,     void,   (uint64_t *bits, struct edge_sums *sums, const uint8_t *row,        \
                              float row_scale, const uint8_t *centre, float scale, size_t dim))  \
    X(quantize_u8,   void,   (uint8_t *out, const float *x, const float *factor, size_t count,   \
                              size_t padded, float *scale, float *zero_point))

/* Each instruction set that has one writes its own; those above are shared (kernels_wide.h). */
#define KERNELS_NARROW(X)                                                                        \
    X(gemm_u8s8,     void,   (float *out, size_t out_stride, const struct u8_rows *x,            \
                              const struct s8_panel *panel, size_t depth, size_t rows,           \
                              size_t cols, bool accumulate))                                     \
    X(narrow_bf16,   void,   (uint16_t *out, const float *x, size_t count, size_t padded))       \
    X(narrow_f16,    void,   (uint16_t *out, const float *x, size_t count))                      \
    X(gemm_bf16,     void,   (float *out, size_t out_stride, const uint16_t *x, size_t x_stride, \
                              const uint16_t *panel, size_t depth, size_t rows, size_t cols,     \
                              const float *bias))

/* Integers that many rows are screened by. */
#define KERNELS_SCAN(X)                                                                          \
    X(sketch_tables, void,   (uint8_t *tables, const uint8_t *fields, size_t planes))            \
    X(sketch_scores, void,   (float *scores, const uint8_t *blocks, size_t count,                \
                              const struct sketch_form *form, const struct sketch_terms *terms)) \
    X(dot_u8s8,      void,   (int32_t *sums, const uint8_t *rows, size_t stride,                 \
                              const uint32_t *ids, size_t count, const int8_t *query,            \
                              size_t dim))                                                       \
    X(pick_f32,      size_t, (uint32_t *at, const float *values, float threshold, size_t count)) \
    X(pick_dots,     size_t, (uint32_t *at, float *values, const int32_t *sums,                  \
                              const struct row_terms *terms, const struct dot_query *query,      \
                              float threshold, size_t count))                                    \
    X(pick_tile,     void,   (uint64_t *masks, const float *values, size_t stride, size_t rows,  \
                              size_t cols, const struct row_terms *terms,                        \
                              const float *slack_radius, const float *slack_norm,                \
                              const float *threshold))

/* Product quantisation and what a search by it does beside; kernels_pq_*.c. */
#define KERNELS_PQ(X)                                                                            \
    X(pq4_products_f32, void, (float *out, const float *x, const float *codebook,                \
                               const float *start, size_t parts, size_t width))                  \
    X(argmax_f32,    void,   (uint32_t *best, const float *x, size_t stride, size_t rows,        \
                              size_t cols))                                                      \
    X(pq4_scan,      void,   (uint16_t *sums, const uint8_t *codes, const uint8_t *tables,       \
                              size_t groups, size_t blocks, const uint8_t *ahead))               \
    X(select_u16,    size_t, (uint32_t *out, const uint16_t *x, size_t count, uint16_t floor))   \
    X(score_s16s8,   void,   (int32_t *out, const int16_t *query, const int8_t *rows,            \
                              size_t stride, const uint32_t *which, size_t count, size_t depth)) \
    X(add_scaled_s8, void,   (float *x, const int8_t *y, float factor, size_t count))

#define KERNELS_PQ8(X)                                                                           \
    X(pq8_scan,      void,   (uint16_t *sums, const uint8_t *codes, const uint8_t *tables,       \
                              size_t parts, size_t blocks, const uint8_t *ahead))

/* Codes of four bits. A block has 32 rows; a group is four parts, of which byte b < 32 holds parts
 * 0 (low half) and 2 of row b / 2 + 16 (b % 2), and byte 32 + b parts 1 and 3: so a row's sums come
 * out in order. codes [blocks][groups][PQ4_GROUP_BYTES]; tables [groups][4 parts][2][PQ4_CODES],
 * both copies equal, because a table fills a lane of a register and a register has rows twice. */
enum { PQ4_CODES = 16, PQ4_BLOCK_ROWS = 32, PQ4_GROUP = 4, PQ4_GROUP_BYTES = 64,
       PQ4_GROUP_TABLES = 128 };

/* Codes of eight bits: codes [blocks][parts][32 rows], rows as in a group's half above; tables
 * [parts][PQ8_CODES]. Looked up in registers where AVX-512 VBMI is there; elsewhere one by one. */
enum { PQ8_CODES = 256 };

/* The byte of a group where row r of a block has its parts 0 and 2; parts 1 and 3 are 32 behind. */
static inline size_t pq4_byte(size_t r)
{
    return r % 16 * 2 + r / 16;
}

#define KERNELS_GRAPH(X)                                                                         \
    X(dot_tile_u8s8, void,   (int32_t *out, size_t out_stride, const int8_t *queries,            \
                              size_t query_stride, size_t query_count, const uint8_t *rows,      \
                              size_t row_stride, const uint32_t *ids, size_t row_count,          \
                              size_t dim))                                                       \
    X(edge_scores,   uint32_t, (float *out, const struct edge_codes *edges,                      \
                              const struct edge_query *query, size_t dim, float bound))

/* Draws of bandits; kernels_beta_*.c. */
#define KERNELS_BETA(X)                                                                          \
    X(draw_beta_f32, void,   (float *out, const float *alpha, const float *beta, size_t count,   \
                              const struct beta_key *key))

/* How a matrix product is cut, chosen together with its micro-kernel. */
struct gemm_blocks {
    size_t mr, nr;          /* one call of the micro-kernel: rows, columns of a panel */
    size_t rows, depth;     /* a block of x that stays in the second-level cache */
    size_t granule;         /* the depth is padded to a multiple of this */
};

struct kernels {
#define X(name, result, params) result (*name) params;
    KERNELS(X)
#undef X
    struct gemm_blocks gemm, u8s8, bf16;    /* the latter two never cut the depth */
};

/* Upper limits of gemm.mr and gemm.nr on every level, for scratch of fixed size. */
enum { GEMM_MR_MAX = 16, GEMM_NR_MAX = 64 };
/* And of u8s8.rows and bf16.rows; upper limit of their depth. */
enum { NARROW_ROWS_MAX = 96, NARROW_DEPTH_MAX = 65536 };

/* The loops that a CPU backend runs, for those who call them directly: single scores and scans. */
struct backend;
const struct kernels *cpu_kernels(const struct backend *backend);

/* The fastest version of every operation that `cpu_flags` (base/cpu.h) allow. */
void kernels_select(struct kernels *k, unsigned cpu_flags);

/* Each instruction set's file exports exactly this: it overwrites the slots that it improves. */
void kernels_use_ref(struct kernels *k);
void kernels_use_avx2(struct kernels *k);
void kernels_use_avx512(struct kernels *k);
void kernels_use_avx512vnni(struct kernels *k);
void kernels_use_avx512bf16(struct kernels *k);
void kernels_use_avx512vbmi(struct kernels *k);
void kernels_use_amx(struct kernels *k);
void kernels_use_pq_ref(struct kernels *k);
void kernels_use_pq_avx2(struct kernels *k);
void kernels_use_pq_avx512(struct kernels *k);
void kernels_use_beta_ref(struct kernels *k);
void kernels_use_beta_avx2(struct kernels *k);
void kernels_use_beta_avx512(struct kernels *k);
