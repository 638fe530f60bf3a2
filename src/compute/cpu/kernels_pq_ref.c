/* The specification of the loops of product quantisation, and what a processor without AVX2 runs.
 */
#include <math.h>

#include "compute/cpu/kernels.h"

static void pq4_products_f32(float *out, const float *x, const float *codebook, const float *start,
                             size_t parts, size_t width)
{
    for (size_t m = 0; m < parts; m++)
        for (size_t j = 0; j < PQ4_CODES; j++) {
            float sum = start ? start[m * PQ4_CODES + j] : 0;
            for (size_t d = 0; d < width; d++)
                sum = fmaf(x[m * width + d], codebook[(m * width + d) * PQ4_CODES + j], sum);
            out[m * PQ4_CODES + j] = sum;
        }
}

static void argmax_f32(uint32_t *best, const float *x, size_t stride, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++) {
        const float *row = x + r * stride;
        size_t at = 0;
        for (size_t c = 1; c < cols; c++)
            if (row[c] > row[at])
                at = c;
        best[r] = (uint32_t)at;
    }
}

static void pq4_scan(uint16_t *sums, const uint8_t *codes, const uint8_t *tables, size_t groups,
                     size_t blocks, const uint8_t *ahead)
{
    (void)ahead;
    for (size_t b = 0; b < blocks; b++)
        for (size_t r = 0; r < PQ4_BLOCK_ROWS; r++) {
            const uint8_t *at = codes + b * groups * PQ4_GROUP_BYTES + pq4_byte(r);
            uint32_t sum = 0;
            for (size_t g = 0; g < groups; g++) {
                const uint8_t *table = tables + g * PQ4_GROUP_TABLES;
                uint8_t left = at[g * PQ4_GROUP_BYTES], right = at[g * PQ4_GROUP_BYTES + 32];
                sum += table[left & 15] + table[32 + (right & 15)] + table[64 + (left >> 4)] +
                       table[96 + (right >> 4)];
            }
            sums[b * PQ4_BLOCK_ROWS + r] = (uint16_t)sum;
        }
}

static void pq8_scan(uint16_t *sums, const uint8_t *codes, const uint8_t *tables, size_t parts,
                     size_t blocks, const uint8_t *ahead)
{
    (void)ahead;
    for (size_t b = 0; b < blocks; b++)
        for (size_t r = 0; r < PQ4_BLOCK_ROWS; r++) {
            const uint8_t *at = codes + b * parts * PQ4_BLOCK_ROWS + pq4_byte(r);
            uint32_t sum = 0;
            for (size_t p = 0; p < parts; p++)
                sum += tables[p * PQ8_CODES + at[p * PQ4_BLOCK_ROWS]];
            sums[b * PQ4_BLOCK_ROWS + r] = (uint16_t)sum;
        }
}

static size_t select_u16(uint32_t *out, const uint16_t *x, size_t count, uint16_t floor)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++)
        if (x[i] >= floor)
            out[found++] = (uint32_t)i;
    return found;
}

static void score_s16s8(int32_t *out, const int16_t *query, const int8_t *rows, size_t stride,
                        const uint32_t *which, size_t count, size_t depth)
{
    for (size_t i = 0; i < count; i++) {
        const int8_t *row = rows + (which ? which[i] : i) * stride;
        int32_t sum = 0;
        for (size_t k = 0; k < depth; k++)
            sum += query[k] * row[k];
        out[i] = sum;
    }
}

static void add_scaled_s8(float *x, const int8_t *y, float factor, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = fmaf(factor, (float)y[i], x[i]);
}

void kernels_use_pq_ref(struct kernels *k)
{
#define X(name, result, params) k->name = name;
    KERNELS_PQ(X) KERNELS_PQ8(X)
#undef X
}
