/* The checks of the loops of product quantisation (see kernelcheck.h). */
#include <math.h>
#include <string.h>

#include "kernelcheck.h"

static void products_one(const struct kernels *k, size_t parts, size_t width, bool with_start)
{
    size_t outs = parts * PQ4_CODES;
    at(parts, width, with_start);
    float *x = random_floats(parts * width, PLAIN), *start = NULL;
    float *codebook = random_floats(outs * width, WIDE), *out = guarded(outs),
          *same = guarded(outs);
    if (with_start)
        start = random_floats(outs, PLAIN);
    k->pq4_products_f32(out, x, codebook, start, parts, width);
    bool right = true;
    for (size_t i = 0; i < outs; i++) {
        size_t m = i / PQ4_CODES;
        double exact = start ? (double)start[i] : 0, magnitude = fabs(exact);
        for (size_t d = 0; d < width; d++) {
            double term = (double)x[m * width + d] *
                          (double)codebook[(m * width + d) * PQ4_CODES + i % PQ4_CODES];
            exact += term;
            magnitude += fabs(term);
        }
        right &= within(out[i], exact, ((double)width + 3) * UNIT * magnitude);
    }
    expect(right, "wrong value");
    expect(canary_intact(out), "wrote in front of the output");
    reference.pq4_products_f32(same, x, codebook, start, parts, width);
    expect(same_bits(out, same, outs), "other bits than the reference");
    release_all();
}

void check_pq4_products_f32(const struct kernels *k)
{
    for (size_t parts = 1; parts < 10; parts++)
        for (size_t width = 1; width < 10; width++)
            products_one(k, parts, width, (parts + width) % 2);
    products_one(k, 96, 4, true);
    products_one(k, 2, 1000, false);
}

void check_argmax_f32(const struct kernels *k)
{
    enum { ROWS = 5 };
    for (size_t cols = 1; cols < 70; cols++)
        for (int round = 0; round < 6; round++) {
            size_t stride = cols + 3, total = (ROWS - 1) * stride + cols;
            uint32_t best[ROWS];
            at(cols, (size_t)round, 0);
            float *x = random_floats(total, WIDE);
            for (size_t i = 0; i < total; i++)
                if (round == 1 || (round == 2 && i % 3 == 0))
                    x[i] = 2e6f;                            /* ties: the first one wins */
                else if (round == 3 && i % 2 == 0)
                    x[i] = i % 4 ? INFINITY : -INFINITY;
                else if (round == 4)
                    x[i] = -INFINITY;
                else if (round == 5)
                    x[i] = NAN;
            k->argmax_f32(best, x, stride, ROWS, cols);
            bool right = true;
            for (size_t r = 0; r < ROWS; r++) {
                const float *row = x + r * stride;
                right &= best[r] < cols;
                for (size_t c = 0; c < cols && right && round != 5; c++)
                    right &= c < best[r] ? row[c] < row[best[r]] : row[c] <= row[best[r]];
            }
            expect(right, "not the first of the greatest");
            release_all();
        }
}

static uint8_t *random_bytes(size_t count, uint64_t below)
{
    uint8_t *bytes = guarded_bytes(count);
    for (size_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)rng_below(&rng, below);
    return bytes;
}

/* From the definition: part by part, row by row. */
static uint32_t sum_of_row(const uint8_t *block, const uint8_t *tables, size_t groups, size_t r)
{
    uint32_t sum = 0;
    for (size_t part = 0; part < groups * PQ4_GROUP; part++) {
        const uint8_t *group = block + part / PQ4_GROUP * PQ4_GROUP_BYTES;
        uint8_t byte = group[part % 2 * 32 + pq4_byte(r)];
        sum += tables[part * 32 + (part % PQ4_GROUP >= 2 ? byte >> 4 : byte & 15)];
    }
    return sum;
}

static void scan_one(const struct kernels *k, size_t groups, size_t blocks, uint64_t below)
{
    size_t rows = blocks * PQ4_BLOCK_ROWS;
    at(groups, blocks, below);
    uint8_t *codes = random_bytes(groups * blocks * PQ4_GROUP_BYTES, 256);
    uint8_t *tables = random_bytes(groups * PQ4_GROUP_TABLES, below);
    for (size_t t = 0; t < groups * PQ4_GROUP; t++)
        memcpy(tables + t * 32 + 16, tables + t * 32, 16);
    if (below == 128 && groups)
        memset(tables, 127, groups * PQ4_GROUP_TABLES);
    uint16_t *sums = guarded_bytes(rows * sizeof *sums);
    k->pq4_scan(sums, codes, tables, groups, blocks, codes);
    bool right = true;
    for (size_t r = 0; r < rows; r++)
        right &= sums[r] == sum_of_row(codes + r / PQ4_BLOCK_ROWS * groups * PQ4_GROUP_BYTES,
                                       tables, groups, r % PQ4_BLOCK_ROWS);
    expect(right, "wrong sum");
    expect(canary_intact(sums), "wrote in front of the output");
    release_all();
}

void check_pq4_scan(const struct kernels *k)
{
    for (size_t groups = 0; groups < 10; groups++)
        for (size_t blocks = 0; blocks < 6; blocks++)
            scan_one(k, groups, blocks, 100);
    scan_one(k, 24, 7, 127);
    scan_one(k, 129, 3, 128);       /* 516 parts of 127: the largest sum that fits */
    scan_one(k, 513, 2, 32);
}

static void wide_one(const struct kernels *k, size_t parts, size_t blocks, int kind)
{
    size_t rows = blocks * PQ4_BLOCK_ROWS;
    at(parts, blocks, (size_t)kind);
    uint8_t *codes = random_bytes(parts * rows, 256);
    uint8_t *tables = random_bytes(parts * PQ8_CODES, 256);
    if (kind == 1)
        memset(tables, 255, parts * PQ8_CODES);
    uint16_t *sums = guarded_bytes(rows * sizeof *sums);
    k->pq8_scan(sums, codes, tables, parts, blocks, codes);
    bool right = true;
    for (size_t r = 0; r < rows; r++) {
        const uint8_t *block = codes + r / PQ4_BLOCK_ROWS * parts * PQ4_BLOCK_ROWS;
        uint32_t sum = 0;
        for (size_t p = 0; p < parts; p++)
            sum += tables[p * PQ8_CODES +
                          block[p * PQ4_BLOCK_ROWS + pq4_byte(r % PQ4_BLOCK_ROWS)]];
        right &= sums[r] == sum;
    }
    expect(right, "wrong sum");
    expect(canary_intact(sums), "wrote in front of the output");
    release_all();
}

void check_pq8_scan(const struct kernels *k)
{
    for (size_t parts = 0; parts < 6; parts++)
        for (size_t blocks = 0; blocks < 20; blocks++)
            wide_one(k, parts, blocks, 0);
    wide_one(k, 32, 17, 0);
    wide_one(k, 257, 9, 1);         /* the largest sum that fits */
}

void check_select_u16(const struct kernels *k)
{
    static const uint16_t floors[] = { 0, 1, 200, 32767, 32768, 65535 };
    for (size_t count = 0; count < 100; count++)
        for (size_t f = 0; f < COUNT_OF(floors); f++) {
            at(count, floors[f], 0);
            uint16_t *x = guarded_bytes(count * sizeof *x);
            for (size_t i = 0; i < count; i++)
                x[i] = (uint16_t)(rng_below(&rng, 3) ? rng_next(&rng) : floors[f]);
            uint32_t *out = guarded_bytes(count * sizeof *out);
            size_t found = k->select_u16(out, x, count, floors[f]), want = 0;
            bool right = true;
            for (size_t i = 0; i < count; i++)
                if (x[i] >= floors[f]) {
                    right &= want < found && out[want] == i;
                    want++;
                }
            expect(right && found == want && canary_intact(out), "wrong selection");
            release_all();
        }
}

static void score_s16s8_one(const struct kernels *k, size_t count, size_t depth, bool chosen)
{
    size_t stride = depth + 8;
    uint32_t which[40];
    at(count, depth, chosen);
    int16_t *query = guarded_bytes(depth * sizeof *query);
    for (size_t i = 0; i < depth; i++)
        query[i] = (int16_t)((int)rng_below(&rng, 4095) - 2047);
    int8_t *rows = (int8_t *)random_bytes(count ? (count - 1) * stride + depth : 0, 256);
    for (size_t i = 0; i < count; i++)
        which[i] = (uint32_t)rng_below(&rng, count);
    int32_t *out = guarded_bytes(count * sizeof *out);
    k->score_s16s8(out, query, rows, stride, chosen ? which : NULL, count, depth);
    bool right = true;
    for (size_t i = 0; i < count; i++) {
        const int8_t *row = rows + (chosen ? which[i] : i) * stride;
        int64_t sum = 0;
        for (size_t j = 0; j < depth; j++)
            sum += query[j] * row[j];
        right &= out[i] == sum;
    }
    expect(right, "wrong sum");
    expect(canary_intact(out), "wrote in front of the output");
    release_all();
}

void check_score_s16s8(const struct kernels *k)
{
    for (size_t count = 0; count < 24; count++)
        for (size_t depth = 32; depth <= 416; depth += 96) {
            score_s16s8_one(k, count, depth, true);
            score_s16s8_one(k, count, depth, false);
        }
    score_s16s8_one(k, 3, 4096, true);
}

void check_add_scaled_s8(const struct kernels *k)
{
    for (size_t count = 0; count < 100; count++)
        for (int round = 0; round < 4; round++) {
            float factor = rng_float(&rng) - 0.5f;
            at(count, (size_t)round, 0);
            int8_t *y = (int8_t *)random_bytes(count, 256);
            float *x = guarded_bytes(count * sizeof *x), want[100];
            for (size_t i = 0; i < count; i++) {
                x[i] = rng_float(&rng) * 1000 - 500;
                want[i] = fmaf(factor, (float)y[i], x[i]);
            }
            k->add_scaled_s8(x, y, factor, count);
            expect(count == 0 || !memcmp(x, want, count * sizeof *x), "wrong sum");
            expect(canary_intact(x), "wrote in front of the output");
            release_all();
        }
}
