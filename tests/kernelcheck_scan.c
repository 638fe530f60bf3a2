/* The inner loops that screen rows by integers. Expected values are computed from the contract. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernelcheck.h"

/* ---- sketches --------------------------------------------------------------------------- */

struct sketch_case {
    struct sketch_form form;
    struct sketch_terms terms;
    uint8_t *fields, *tables, *blocks;
    int8_t *head;
    size_t count;
};

/* Summands as large as the contract allows, or random ones below. */
static void fill_fields(uint8_t *fields, size_t planes, bool largest)
{
    for (size_t i = 0; i < 16 * planes; i++)
        fields[i] = largest ? 21 : (uint8_t)rng_below(&rng, 22);
    for (size_t p = 0; largest && p < planes; p += 2)   /* unequal shares of the same 63 */
        for (size_t c = 0; c < 4; c++) {
            fields[16 * p + c] = 63;
            fields[16 * p + 4 + c] = fields[16 * p + 8 + c] = 0;
        }
}

static struct sketch_case sketch_case(const struct kernels *k, struct sketch_form form,
                                      size_t count, bool largest)
{
    struct sketch_case c = { .form = form, .count = count };
    size_t bytes = sketch_form_bytes(&form), table_bytes = sketch_table_bytes(form.planes);
    c.fields = guarded_bytes(16 * form.planes);
    c.tables = guarded_bytes(table_bytes);      /* a multiple of 64, so aligned */
    c.blocks = guarded_bytes(count * bytes);
    c.head = guarded_bytes(4 * form.heads);
    fill_fields(c.fields, form.planes, largest);
    for (size_t i = 0; i < count * bytes; i++)
        c.blocks[i] = (uint8_t)rng_next(&rng);
    for (size_t b = 0; b < count; b++) {
        uint8_t *heads = c.blocks + b * bytes + form.planes * form.rows;
        for (size_t i = 0; i < 4 * form.heads * form.rows; i++)
            heads[i] = largest ? 127 : heads[i] & 127;
        float *factor = (float *)(heads + 4 * form.heads * form.rows);
        for (size_t i = 0; i < form.rows * (form.biased ? 2 : 1); i++)
            factor[i] = 2 * rng_float(&rng) - 1;
    }
    for (size_t i = 0; i < 4 * form.heads; i++)
        c.head[i] = (int8_t)(largest ? -127 : (int)rng_below(&rng, 255) - 127);
    k->sketch_tables(c.tables, c.fields, form.planes);
    c.terms = (struct sketch_terms){ c.tables, c.head, rng_float(&rng), rng_float(&rng) / 16,
                                     -3 * rng_float(&rng), rng_float(&rng) };
    return c;
}

static float sketch_expected(const struct sketch_case *c, size_t b, size_t r)
{
    const struct sketch_form *form = &c->form;
    size_t rows = form->rows, at = r < rows / 2 ? 2 * r : 2 * r - rows + 1;
    const uint8_t *block = c->blocks + b * sketch_form_bytes(form);
    const uint8_t *heads = block + form->planes * rows;
    const float *factor = (const float *)(heads + 4 * rows * form->heads);
    int64_t sum = 0, head = 0;
    for (size_t p = 0; p < form->planes; p++)
        for (size_t j = 0; j < 4; j++)
            sum += c->fields[(4 * p + j) * 4 + (block[p * rows + at] >> 2 * j & 3)];
    for (size_t h = 0; h < form->heads; h++)
        for (size_t i = 0; i < 4; i++)
            head += c->head[4 * h + i] * (int64_t)heads[(h * rows + r) * 4 + i];
    float inner = fmaf(c->terms.step, (float)sum,
                       fmaf(c->terms.head_step, (float)head, c->terms.offset));
    return form->biased ? fmaf(inner, factor[r], factor[rows + r]) + c->terms.shift
                        : fmaf(inner, factor[r], c->terms.shift);
}

static void sketch_one(const struct kernels *k, struct sketch_form form, size_t count,
                       bool largest)
{
    struct sketch_case c = sketch_case(k, form, count, largest);
    float *scores = guarded(count * form.rows), *alone = guarded(form.rows);
    at(form.rows, form.planes, form.heads);
    k->sketch_scores(scores, c.blocks, count, &form, &c.terms);
    bool right = true;
    for (size_t i = 0; i < count * form.rows; i++) {
        float want = sketch_expected(&c, i / form.rows, i % form.rows);
        right &= same_bits(&want, &scores[i], 1);
    }
    expect(right, "wrong bits");
    expect(canary_intact(scores) && canary_intact(c.tables), "wrote in front of an output");
    size_t last = count - 1;
    k->sketch_scores(alone, c.blocks + last * sketch_form_bytes(&form), 1, &form, &c.terms);
    expect(same_bits(alone, scores + last * form.rows, form.rows), "a block alone differs");
    release_all();
}

void check_sketch_scores(const struct kernels *k)
{
    static const size_t planes[] = { 0, 3, 6, 9, 42, 96, SKETCH_PLANES_MAX };
    for (size_t p = 0; p < COUNT_OF(planes); p++)
        for (size_t heads = 0; heads <= 3; heads++)
            for (int i = 0; i < 8; i++)
                sketch_one(k, (struct sketch_form){ i & 1 ? 64 : 32, planes[p], heads, i & 2 },
                           1 + heads, i & 4);
}

/* Seen through sketch_scores, which reads them. */
void check_sketch_tables(const struct kernels *k)
{
    for (size_t planes = 0; planes < 40; planes += 3)
        sketch_one(k, (struct sketch_form){ 64, planes, 0, false }, 2, planes & 1);
}

/* ---- products of bytes ------------------------------------------------------------------- */

static void dots_one(const struct kernels *k, size_t count, size_t dim, int kind)
{
    size_t stride = dim + 3, span = 3 * count;
    uint8_t *rows = guarded_bytes((span - 1) * stride + dim);
    int8_t *query = guarded_bytes(dim);
    uint32_t *ids = guarded_bytes(count * sizeof *ids);
    int32_t *sums = guarded_bytes(count * sizeof *sums),
            *listed = guarded_bytes(count * sizeof *sums);
    at(count, dim, (size_t)kind);
    for (size_t i = 0; i < (span - 1) * stride + dim; i++)
        rows[i] = kind ? 255 : (uint8_t)rng_next(&rng);
    for (size_t i = 0; i < dim; i++)
        query[i] = kind == 1 ? 127 : kind == 2 ? -128 : (int8_t)rng_next(&rng);
    for (size_t i = 0; i < count; i++)
        ids[i] = (uint32_t)(i == 0 ? span - 1 : rng_below(&rng, span));
    k->dot_u8s8(sums, rows, stride, NULL, count, query, dim);
    k->dot_u8s8(listed, rows, stride, ids, count, query, dim);
    bool right = true;
    for (size_t i = 0; i < count; i++) {
        int64_t want = 0, other = 0;
        for (size_t j = 0; j < dim; j++) {
            want += rows[i * stride + j] * query[j];
            other += rows[ids[i] * stride + j] * query[j];
        }
        right &= sums[i] == want && listed[i] == other;
    }
    expect(right && canary_intact(sums) && canary_intact(listed), "wrong sums");
    release_all();
}

void check_dot_u8s8(const struct kernels *k)
{
    static const size_t rows[] = { 1, 2, 15, 16, 17, 40 };
    static const size_t dims[] = { 1, 3, 31, 32, 33, 63, 64, 65, 100, 384, 1000 };
    for (size_t r = 0; r < COUNT_OF(rows); r++)
        for (size_t d = 0; d < COUNT_OF(dims); d++)
            for (int kind = 0; kind < 3; kind++)
                dots_one(k, rows[r], dims[d], kind);
    for (int kind = 0; kind < 3; kind++)
        dots_one(k, 2, 65536, kind);        /* the stated limit */
}

/* ---- picking ---------------------------------------------------------------------------- */

static const size_t pick_counts[] = { 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 511 };

/* Thresholds that none, all and some pass. */
static float pick_threshold(int kind)
{
    return kind == 0 ? INFINITY : kind == 1 ? -INFINITY : 0.5f;
}

void check_pick_f32(const struct kernels *k)
{
    for (size_t c = 0; c < COUNT_OF(pick_counts); c++)
        for (int kind = 0; kind < 3; kind++) {
            size_t count = pick_counts[c], found = 0;
            float *values = random_floats(count, PLAIN), threshold = pick_threshold(kind);
            uint32_t *to = guarded_bytes((count + 15) * sizeof *to);
            at(count, (size_t)kind, 0);
            values[count / 2] = NAN;
            size_t picked = k->pick_f32(to, values, threshold, count);
            bool right = true;
            for (size_t i = 0; i < count; i++)
                if (!(values[i] < threshold))
                    right &= found < picked && to[found] == i, found++;
            expect(right && found == picked && canary_intact(to), "wrong picks");
            release_all();
        }
}

static struct row_terms random_terms(size_t rows, bool biased)
{
    return (struct row_terms){ random_floats(rows, PLAIN), random_floats(rows, PLAIN),
                               random_floats(rows, PLAIN),
                               biased ? random_floats(rows, PLAIN) : NULL };
}

void check_pick_dots(const struct kernels *k)
{
    for (size_t c = 0; c < COUNT_OF(pick_counts); c++)
        for (int kind = 0; kind < 6; kind++) {
            size_t count = pick_counts[c], found = 0;
            struct row_terms terms = random_terms(count, kind & 1);
            struct dot_query query = { 1e-6f, 0.25f, 0.125f, -12345 };
            int32_t *sums = guarded_bytes(count * sizeof *sums);
            uint32_t *to = guarded_bytes((count + 15) * sizeof *to);
            float *values = guarded(count + 15), threshold = pick_threshold(kind / 2);
            at(count, (size_t)kind, 0);
            for (size_t i = 0; i < count; i++)
                sums[i] = (int32_t)rng_below(&rng, 1 << 22) - (1 << 21);
            size_t picked = k->pick_dots(to, values, sums, &terms, &query, threshold, count);
            bool right = true;
            for (size_t i = 0; i < count; i++) {
                float v = fmaf(terms.scale[i] * query.step, (float)(sums[i] - query.offset),
                               terms.bias ? terms.bias[i] : 0);
                float most = fmaf(terms.norm[i], query.slack_norm,
                                  fmaf(terms.radius[i], query.slack_radius, v));
                if (most < threshold)
                    continue;
                right &= found < picked && to[found] == i && same_bits(&v, &values[found], 1);
                found++;
            }
            expect(right && found == picked && canary_intact(to) && canary_intact(values),
                   "wrong picks");
            release_all();
        }
}

static void tile_one(const struct kernels *k, size_t rows, size_t cols, int kind)
{
    size_t stride = cols + 3;
    struct row_terms terms = random_terms(rows, kind & 1);
    float *values = random_floats((rows - 1) * stride + cols, PLAIN);
    float *by_radius = random_floats(cols, PLAIN), *by_norm = random_floats(cols, PLAIN);
    float *threshold = random_floats(cols, PLAIN);
    uint64_t *masks = guarded_bytes(rows * sizeof *masks);
    bool right = true;
    at(rows, cols, (size_t)kind);
    threshold[cols / 2] = -INFINITY;
    k->pick_tile(masks, values, stride, rows, cols, &terms, by_radius, by_norm, threshold);
    for (size_t r = 0; r < rows; r++) {
        uint64_t want = 0;
        for (size_t c = 0; c < cols; c++) {
            float v = values[r * stride + c] + (terms.bias ? terms.bias[r] : 0);
            float most = fmaf(terms.norm[r], by_norm[c], fmaf(terms.radius[r], by_radius[c], v));
            want |= (uint64_t)!(most < threshold[c]) << c;
        }
        right &= masks[r] == want;
    }
    expect(right && canary_intact(masks), "wrong masks");
    release_all();
}

void check_pick_tile(const struct kernels *k)
{
    for (size_t rows = 1; rows <= 16; rows += 3)
        for (size_t cols = 1; cols <= 64; cols += cols < 20 ? 1 : 11)
            for (int kind = 0; kind < 2; kind++)
                tile_one(k, rows, cols, kind);
    tile_one(k, 12, 64, 1);
}
