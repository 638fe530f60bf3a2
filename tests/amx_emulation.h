/* The tile operations that src/compute/cpu/kernels_amx.c uses, in plain C, after Intel's
 * "Architecture Instruction Set Extensions Programming Reference", chapter 3. For one thread.
 * What a processor would refuse (a tile that is off, shapes that do not fit) stops the program.
 * Exact for integers; for bfloat16 one rounding per product, denormals as zeros. */
#pragma once

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "compute/cpu/half.h"

static struct emulated_tile {
    unsigned rows, row_bytes;
    unsigned char bytes[16][64];
} emulated_tiles[8];

static inline void emulated_require(int fine)
{
    if (!fine)
        abort();
}

static inline struct emulated_tile *emulated_tile(int number)
{
    struct emulated_tile *tile = &emulated_tiles[number];
    emulated_require(tile->rows > 0);
    return tile;
}

static inline void _tile_loadconfig(const void *config)
{
    const unsigned char *bytes = config;
    emulated_require(bytes[0] == 1 && bytes[1] == 0);
    for (int t = 0; t < 8; t++) {
        uint16_t row_bytes;
        memcpy(&row_bytes, bytes + 16 + 2 * t, sizeof row_bytes);
        unsigned rows = bytes[48 + t];
        emulated_require(rows <= 16 && row_bytes <= 64 && !rows == !row_bytes);
        emulated_tiles[t] = (struct emulated_tile){ .rows = rows, .row_bytes = row_bytes };
    }
}

static inline void _tile_release(void)
{
    memset(emulated_tiles, 0, sizeof emulated_tiles);
}

static inline void _tile_zero(int number)
{
    memset(emulated_tile(number)->bytes, 0, sizeof emulated_tiles[0].bytes);
}

static inline void _tile_loadd(int number, const void *from, size_t stride)
{
    struct emulated_tile *tile = emulated_tile(number);
    memset(tile->bytes, 0, sizeof tile->bytes);
    for (unsigned r = 0; r < tile->rows; r++)
        memcpy(tile->bytes[r], (const char *)from + r * stride, tile->row_bytes);
}

static inline void _tile_stored(int number, void *to, size_t stride)
{
    const struct emulated_tile *tile = emulated_tile(number);
    for (unsigned r = 0; r < tile->rows; r++)
        memcpy((char *)to + r * stride, tile->bytes[r], tile->row_bytes);
}

static inline void emulated_fit(const struct emulated_tile *sums, const struct emulated_tile *a,
                                const struct emulated_tile *b)
{
    emulated_require(sums->rows == a->rows && sums->row_bytes == b->row_bytes &&
                     a->row_bytes == 4 * b->rows);
}

static inline void _tile_dpbusd(int sums_number, int a_number, int b_number)
{
    struct emulated_tile *sums = emulated_tile(sums_number);
    const struct emulated_tile *a = emulated_tile(a_number), *b = emulated_tile(b_number);
    emulated_fit(sums, a, b);
    for (unsigned r = 0; r < sums->rows; r++)
        for (unsigned c = 0; c < sums->row_bytes / 4; c++) {
            int32_t sum;
            memcpy(&sum, &sums->bytes[r][4 * c], sizeof sum);
            for (unsigned k = 0; k < a->row_bytes; k++)
                sum += a->bytes[r][k] * (int8_t)b->bytes[k / 4][4 * c + k % 4];
            memcpy(&sums->bytes[r][4 * c], &sum, sizeof sum);
        }
}

static inline float emulated_flush(float x)
{
    return fabsf(x) < FLT_MIN ? copysignf(0, x) : x;
}

static inline float emulated_half(const unsigned char *bytes)
{
    uint16_t half;
    memcpy(&half, bytes, sizeof half);
    return emulated_flush(bf16_to_f32(half));
}

static inline void _tile_dpbf16ps(int sums_number, int a_number, int b_number)
{
    struct emulated_tile *sums = emulated_tile(sums_number);
    const struct emulated_tile *a = emulated_tile(a_number), *b = emulated_tile(b_number);
    emulated_fit(sums, a, b);
    for (unsigned r = 0; r < sums->rows; r++)
        for (unsigned c = 0; c < sums->row_bytes / 4; c++) {
            float sum;
            memcpy(&sum, &sums->bytes[r][4 * c], sizeof sum);
            for (unsigned k = 0; k < a->row_bytes / 2; k++)
                sum = emulated_flush(fmaf(emulated_half(&a->bytes[r][2 * k]),
                                          emulated_half(&b->bytes[k / 2][4 * c + k % 2 * 2]),
                                          sum));
            memcpy(&sums->bytes[r][4 * c], &sum, sizeof sum);
        }
}
