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
