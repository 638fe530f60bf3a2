/* AMX: products of tiles, 16 rows of 64 bytes each, in int8 and bfloat16. Intel, "Architecture
 * Instruction Set Extensions Programming Reference", chapter 3.
 *
 * Written without a processor that has it: checked over tests/amx_emulation.h, never timed. Tiles
 * are configured at the start of each call and released at its end, so that no thread carries them
 * about; what is no tile operation is plain C, which the compiler makes vectors of. */
#include "compute/cpu/kernels.h"

#include <math.h>
#include <string.h>

#ifdef AKIN_AMX_EMULATION
#include AKIN_AMX_EMULATION
#else
#include <immintrin.h>
#endif

/* 2 x 2 tiles of sums, two of rows, two of columns: all eight. A call takes several such blocks,
 * because configuring costs as much as a few products. */
enum { TILE_ROWS = 16, TILE_BYTES = 64, BLOCK_ROWS = 32, COLS = 32, ROWS = 64 };
enum { LOW_LEFT, LOW_RIGHT, HIGH_LEFT, HIGH_RIGHT, X_LOW, X_HIGH, LEFT, RIGHT, TILES };

struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* `rows` of the sums and of x; a tile without rows stays off. */
static void configure(size_t rows)
{
    uint8_t low = (uint8_t)(rows < TILE_ROWS ? rows : TILE_ROWS), high = (uint8_t)(rows - low);
    uint8_t tile_rows[TILES] = { low, low, high, high, low, high, TILE_ROWS, TILE_ROWS };
    struct tile_config config = { .palette = 1 };
    for (size_t t = 0; t < TILES; t++) {
        config.rows[t] = tile_rows[t];
        config.row_bytes[t] = tile_rows[t] ? TILE_BYTES : 0;
    }
    /* gcc's intrinsic tells the compiler of the first eight bytes only. */
    __asm__ volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
}

/* The numbers of tiles are part of the instruction, hence the literals: see the enum. */
static void multiply_bytes(int32_t sums[BLOCK_ROWS][COLS], const uint8_t *x, size_t stride,
                           const int8_t *panel, size_t depth, bool high)
{
    _tile_zero(0);
    _tile_zero(1);
    if (high) {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (size_t k = 0; k < depth; k += TILE_BYTES) {
        const int8_t *at = panel + k * COLS;    /* [16][COLS][4] */
        _tile_loadd(6, at, COLS * 4);
        _tile_loadd(7, at + TILE_BYTES, COLS * 4);
        _tile_loadd(4, x + k, stride);
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
        if (high) {
            _tile_loadd(5, x + TILE_ROWS * stride + k, stride);
            _tile_dpbusd(2, 5, 6);
            _tile_dpbusd(3, 5, 7);
        }
    }
    _tile_stored(0, sums[0], COLS * 4);
    _tile_stored(1, sums[0] + 16, COLS * 4);
    if (high) {
        _tile_stored(2, sums[TILE_ROWS], COLS * 4);
        _tile_stored(3, sums[TILE_ROWS] + 16, COLS * 4);
    }
}

static void dequantize(float *out, const int32_t *sums, float scale, float zero_point,
                       const struct s8_panel *panel, size_t cols, bool accumulate)
{
    float row[COLS];
    memcpy(row, panel->bias, sizeof row);
    if (accumulate)
        memcpy(row, out, cols * sizeof *out);
    for (size_t c = 0; c < COLS; c++) {
        float centred = fmaf(-zero_point, panel->sum[c], (float)sums[c]);
        row[c] = fmaf(centred, scale * panel->scale[c], row[c]);
    }
    memcpy(out, row, cols * sizeof *out);
}

static void gemm_u8s8(float *out, size_t out_stride, const struct u8_rows *x,
                      const struct s8_panel *panel, size_t depth, size_t rows, size_t cols,
                      bool accumulate)
{
    int32_t sums[BLOCK_ROWS][COLS];
    size_t configured = 0;
    for (size_t first = 0; first < rows; first += BLOCK_ROWS) {
        size_t live = rows - first < BLOCK_ROWS ? rows - first : BLOCK_ROWS;
        if (live != configured)
            configure(live);
        configured = live;
        multiply_bytes(sums, x->values + first * x->stride, x->stride, panel->values, depth,
                       live > TILE_ROWS);
        for (size_t r = 0; r < live; r++)
            dequantize(out + (first + r) * out_stride, sums[r], x->scale[first + r],
                       x->zero_point[first + r], panel, cols, accumulate);
    }
    _tile_release();
}

/* `start` [COLS]: the bias, as every row's first sum. */
static void multiply_halves(float sums[BLOCK_ROWS][COLS], const uint16_t *x, size_t stride,
                            const uint16_t *panel, size_t depth, const float *start, bool high)
{
    _tile_loadd(0, start, 0);
    _tile_loadd(1, start + 16, 0);
    if (high) {
        _tile_loadd(2, start, 0);
        _tile_loadd(3, start + 16, 0);
    }
    for (size_t k = 0; k < depth; k += TILE_BYTES / 2) {
        const uint16_t *at = panel + k * COLS;  /* [16][COLS][2] */
        _tile_loadd(6, at, COLS * 4);
        _tile_loadd(7, at + TILE_BYTES / 2, COLS * 4);
        _tile_loadd(4, x + k, stride * 2);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (high) {
            _tile_loadd(5, x + TILE_ROWS * stride + k, stride * 2);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, sums[0], COLS * 4);
    _tile_stored(1, sums[0] + 16, COLS * 4);
    if (high) {
        _tile_stored(2, sums[TILE_ROWS], COLS * 4);
        _tile_stored(3, sums[TILE_ROWS] + 16, COLS * 4);
    }
}

static void gemm_bf16(float *out, size_t out_stride, const uint16_t *x, size_t x_stride,
                      const uint16_t *panel, size_t depth, size_t rows, size_t cols,
                      const float *bias)
{
    float sums[BLOCK_ROWS][COLS];
    static const float zeros[COLS];
    size_t configured = 0;
    for (size_t first = 0; first < rows; first += BLOCK_ROWS) {
        size_t live = rows - first < BLOCK_ROWS ? rows - first : BLOCK_ROWS;
        if (live != configured)
            configure(live);
        configured = live;
        multiply_halves(sums, x + first * x_stride, x_stride, panel, depth, bias ? bias : zeros,
                        live > TILE_ROWS);
        for (size_t r = 0; r < live; r++)
            memcpy(out + (first + r) * out_stride, sums[r], cols * sizeof *out);
    }
    _tile_release();
}

void kernels_use_amx(struct kernels *k)
{
    k->gemm_u8s8 = gemm_u8s8;
    k->u8s8 = (struct gemm_blocks){ .mr = ROWS, .nr = COLS, .rows = 96, .granule = TILE_BYTES };
    k->gemm_bf16 = gemm_bf16;
    k->bf16 = (struct gemm_blocks){ .mr = ROWS, .nr = COLS, .rows = 96, .granule = TILE_BYTES / 2 };
}
