/* Rows as bytes with proven intervals; the products are kernels. All bounds are computed in double
 * and rounded up into floats. */
#include "compute/screen.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "compute/cpu/backend_cpu.h"

/* Beyond these squares overflow, or what rounds away is no longer small against what is left. */
#define LENGTH_LARGE 1e15
#define LENGTH_SMALL 1e-15
/* A row whose largest number is below this has codes 0, and all of it is `radius`. */
#define SCALE_SMALL 1e-30f
/* Products that fall below the smallest normal number. */
#define UNDERFLOW_SLACK 1e-36
#define UNIT 0x1p-24

static float round_up_float(double x)
{
    float f = (float)x;
    return (double)f < x ? nextafterf(f, INFINITY) : f;
}

double screen_measure(const float *row, size_t dim, const uint8_t *codes, float numbers[4])
{
    double rest = 0, norm = 0, squares = 0, scale = (double)numbers[0];
    for (size_t k = 0; k < dim; k++) {
        double x = (double)row[k], kept = scale * (double)((int)codes[k] - 128);
        rest += (x - kept) * (x - kept);
        norm += kept * kept;
        squares += x * x;
    }
    numbers[1] = round_up_float(sqrt(rest) * (1 + 1e-9) + DBL_MIN);
    numbers[2] = round_up_float(sqrt(norm) * (1 + 1e-9));
    numbers[3] = (float)(-squares / 2);
    return sqrt(squares);
}

double screen_encode(const float *row, size_t dim, uint8_t *codes, float numbers[4])
{
    float largest = 0;
    for (size_t k = 0; k < dim; k++)
        largest = fabsf(row[k]) > largest ? fabsf(row[k]) : largest;
    bool small = !(largest >= SCALE_SMALL && largest <= FLT_MAX);
    float scale = small ? 0 : largest / 127, inverse = small ? 0 : 1 / scale;
    for (size_t k = 0; k < dim; k++) {
        float level = rintf(row[k] * inverse);
        level = level > 127 ? 127 : level < -127 ? -127 : level;
        codes[k] = (uint8_t)((int)level + 128);
    }
    memset(codes + dim, 128, screen_stride(dim) - dim);
    numbers[0] = scale;
    return screen_measure(row, dim, codes, numbers);
}

/* Rounded up, so that no level is beyond 127, unless the largest number would overflow. */
static float short_scale(float scale)
{
    uint32_t bits;
    memcpy(&bits, &scale, sizeof bits);
    bits = (bits + 0xff) & ~(uint32_t)0xff;
    memcpy(&scale, &bits, sizeof scale);
    if (isfinite(scale * 127))
        return scale;
    bits -= 0x100;
    memcpy(&scale, &bits, sizeof scale);
    return scale;
}

void screen_round(float *row, size_t dim)
{
    float largest = 0;
    for (size_t k = 0; k < dim; k++)
        largest = fabsf(row[k]) > largest ? fabsf(row[k]) : largest;
    bool small = !(largest >= SCALE_SMALL && largest <= FLT_MAX);
    float scale = small ? 0 : short_scale(largest / 127);
    float inverse = scale * 127 >= SCALE_SMALL ? 1 / scale : 0;
    for (size_t k = 0; k < dim; k++) {
        float level = rintf(row[k] * inverse);
        level = level > 127 ? 127 : level < -127 ? -127 : level;
        row[k] = scale * (level + 0.0f);        /* never -0, which no code says */
    }
}

void screen_decode(const struct screen_rows *rows, size_t row, float *out)
{
    const uint8_t *codes = rows->codes + row * rows->stride;
    for (size_t k = 0; k < rows->dim; k++)
        out[k] = rows->terms.scale[row] * (float)((int)codes[k] - 128);
}

bool screen_prepare(const struct screen_rows *rows, const float *query, int8_t *digits,
                    struct screen_query *out)
{
    size_t dim = rows->dim;
    double squares = 0, rest = 0;
    float largest = 0;
    for (size_t k = 0; k < dim; k++) {
        squares += (double)query[k] * (double)query[k];
        largest = fabsf(query[k]) > largest ? fabsf(query[k]) : largest;
    }
    double length = sqrt(squares), far = rows->length_max;
    if (!(length >= LENGTH_SMALL && length <= LENGTH_LARGE && far <= LENGTH_LARGE))
        return false;
    float step = largest / 127, inverse = 1 / step;
    int32_t sum = 0;
    for (size_t k = 0; k < dim; k++) {
        float level = rintf(query[k] * inverse);
        level = level > 127 ? 127 : level < -127 ? -127 : level;
        double left = (double)query[k] - (double)step * (double)level;
        rest += left * left;
        digits[k] = (int8_t)level;
        sum += digits[k];
    }
    memset(digits + dim, 0, rows->stride - dim);
    /* canonical: sixteen chains of fused operations and a tree; products: bytes are exact, their
     * sum is rounded once at up to 255 sqrt(dim) times the scale, the rest are a few operations */
    double canonical = ((double)dim / 16 + 10) * UNIT,
           product = (3 * sqrt((double)dim) + 24) * UNIT;
    bool l2 = rows->score == SCORE_L2;
    double slack = UNDERFLOW_SLACK;
    if (l2)         /* |q - x|^2 <= 2 |q|^2 + 2 |x|^2; and the bias, which was rounded */
        slack += (1.1 * canonical + 8 * UNIT) * (squares + far * far);
    out->dot = (struct dot_query){
        .step = step, .offset = 128 * sum,
        .slack_radius = round_up_float(length * (1 + canonical + 1e-5)),
        .slack_norm = round_up_float((sqrt(rest) + length * (canonical + product)) * (1 + 1e-5)),
    };
    out->slack = round_up_float(slack);
    out->squares = squares;
    out->digits = digits;
    return true;
}

float screen_value(const struct screen_rows *rows, const struct screen_query *query, float score)
{
    double value = (double)score;
    if (rows->score == SCORE_L2)
        value = (value + query->squares) / 2;
    float f = (float)value;
    return nextafterf(f, -INFINITY);
}

static const struct kernels *kernels_of(const struct backend *backend)
{
    return &((const struct cpu_backend *)backend)->kernels;
}

size_t screen_range(const struct backend *backend, const struct screen_rows *rows,
                    const struct screen_query *query, size_t first, size_t count, float threshold,
                    uint32_t *found, float *values)
{
    const struct kernels *k = kernels_of(backend);
    int32_t sums[SCREEN_STEP];
    const struct row_terms *t = &rows->terms;
    struct row_terms terms = { t->scale + first, t->radius + first, t->norm + first,
                               t->bias ? t->bias + first : NULL };
    ASSERT(count <= SCREEN_STEP);
    k->dot_u8s8(sums, rows->codes + first * rows->stride, rows->stride, NULL, count, query->digits,
                rows->dim);
    size_t picked = k->pick_dots(found, values, sums, &terms, &query->dot, threshold, count);
    for (size_t i = 0; i < picked; i++)
        found[i] += (uint32_t)first;
    return picked;
}

size_t screen_list(const struct backend *backend, const struct screen_rows *rows,
                   const struct screen_query *query, const uint32_t *list, size_t count,
                   float threshold, uint32_t *found, float *values)
{
    const struct kernels *k = kernels_of(backend);
    int32_t sums[SCREEN_STEP];
    float scale[SCREEN_STEP], radius[SCREEN_STEP], norm[SCREEN_STEP], bias[SCREEN_STEP];
    const struct row_terms *t = &rows->terms;
    ASSERT(count <= SCREEN_STEP);
    k->dot_u8s8(sums, rows->codes, rows->stride, list, count, query->digits, rows->dim);
    for (size_t i = 0; i < count; i++) {
        scale[i] = t->scale[list[i]];
        radius[i] = t->radius[list[i]];
        norm[i] = t->norm[list[i]];
        bias[i] = t->bias ? t->bias[list[i]] : 0;
    }
    struct row_terms terms = { scale, radius, norm, bias };
    size_t picked = k->pick_dots(found, values, sums, &terms, &query->dot, threshold, count);
    for (size_t i = 0; i < picked; i++)
        found[i] = list[found[i]];
    return picked;
}

/* ---- groups of queries ------------------------------------------------------------------ */

size_t screen_group_size(const struct backend *backend)
{
    return kernels_of(backend)->u8s8.nr;
}

size_t screen_tile_rows(const struct backend *backend)
{
    return min_size(kernels_of(backend)->u8s8.mr, SCREEN_TILE_MAX);
}

static size_t group_depth(const struct backend *backend, size_t dim)
{
    return round_up(dim, kernels_of(backend)->u8s8.granule);
}

size_t screen_group_bytes(const struct backend *backend, size_t dim)
{
    return round_up(group_depth(backend, dim) * screen_group_size(backend), 64);
}

/* The queries are the columns of the product, so rows are read as they lie. */
void screen_pack(const struct backend *backend, const struct screen_rows *rows,
                 const struct screen_query *queries, size_t count, struct screen_group *group)
{
    size_t nr = screen_group_size(backend), dim = rows->dim;
    int8_t *panel = group->panel;
    memset(panel, 0, screen_group_bytes(backend, dim));
    *group = (struct screen_group){ .panel = panel, .count = count };
    for (size_t c = 0; c < count; c++) {
        const struct screen_query *q = &queries[c];
        for (size_t k = 0; k < dim; k++)
            panel[k / 4 * nr * 4 + c * 4 + k % 4] = q->digits[k];
        group->step[c] = q->dot.step;
        group->sum[c] = (float)(q->dot.offset / 128);
        group->slack_radius[c] = q->dot.slack_radius;
        group->slack_norm[c] = q->dot.slack_norm;
    }
}

void screen_tile(const struct backend *backend, const struct screen_rows *rows,
                 const struct screen_group *group, size_t first, size_t count,
                 const float *threshold, float *values, uint64_t *masks)
{
    static const float middle[SCREEN_TILE_MAX] = { 128, 128, 128, 128, 128, 128, 128, 128,
                                                   128, 128, 128, 128, 128, 128, 128, 128 };
    const struct kernels *k = kernels_of(backend);
    const struct row_terms *t = &rows->terms;
    struct u8_rows x = { rows->codes + first * rows->stride, rows->stride, t->scale + first,
                         middle };
    struct s8_panel panel = { group->panel, group->step, group->sum, group->zeros };
    struct row_terms terms = { t->scale + first, t->radius + first, t->norm + first,
                               t->bias ? t->bias + first : NULL };
    k->gemm_u8s8(values, SCREEN_GROUP_MAX, &x, &panel, group_depth(backend, rows->dim), count,
                 group->count, false);
    k->pick_tile(masks, values, SCREEN_GROUP_MAX, count, group->count, &terms,
                 group->slack_radius, group->slack_norm, threshold);
}

/* ---- originals -------------------------------------------------------------------------- */

void originals_read(const struct backend *backend, const struct originals *from, size_t row,
                    float *out)
{
    if (from->element == ELEMENT_I8) {
        screen_decode(from->codes, row, out);
        return;
    }
    struct host_matrix matrix = { from->vectors, from->element, 0, from->dim };
    widen_row(kernels_of(backend), &matrix, row, out);
}

/* All lines of a tile's rows are asked for before the first one is needed: they lie anywhere. */
static void prefetch_row(const float *row, size_t dim)
{
    for (size_t k = 0; k < dim; k += 16)
        __builtin_prefetch(row + k);
}

void originals_score(const struct backend *backend, const struct originals *from,
                     const float *query, const uint32_t *list, size_t count, float *scratch,
                     float *scores)
{
    const struct kernels *k = kernels_of(backend);
    for (size_t i = 0; i < count; i += SCREEN_TILE_MAX) {
        const float *pointers[SCREEN_TILE_MAX];
        size_t live = min_size(SCREEN_TILE_MAX, count - i);
        for (size_t r = 0; r < live; r++) {
            if (from->element == ELEMENT_F32) {
                pointers[r] = (const float *)from->vectors + list[i + r] * from->dim;
                prefetch_row(pointers[r], from->dim);
                continue;
            }
            pointers[r] = scratch + r * from->dim;
            originals_read(backend, from, list[i + r], scratch + r * from->dim);
        }
        (from->score == SCORE_L2 ? k->score_l2_f32 : k->score_dot_f32)(scores + i, query, 1,
                                                                       pointers, live, from->dim);
    }
}

size_t pick_above(const struct backend *backend, uint32_t *at, const float *values,
                  float threshold, size_t count)
{
    return kernels_of(backend)->pick_f32(at, values, threshold, count);
}
