/* AVX-512 VNNI: four products of bytes into one int32 lane. VPDPBUSD does not saturate (VPDPBUSDS
 * does), so sums are exact. */
#include "compute/cpu/kernels.h"

#include <immintrin.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* 12 x 2 accumulators, two registers of the panel, one broadcast: 27 of 32. */
enum { ROWS = 12, VECTORS = 2, COLS = 16 * VECTORS };

static inline __mmask16 first_lanes(size_t live)
{
    return live >= 16 ? 0xffff : (__mmask16)((1u << live) - 1);
}

static inline int32_t load_four(const uint8_t *p)
{
    int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return four;
}

/* Sixteen columns of the tile, from `first` on: one register of each vector serves all rows. */
ALWAYS_INLINE void dequantize(float *out, size_t out_stride, const struct u8_rows *x,
                              const struct s8_panel *panel, __m512i sums[][VECTORS], const int rows,
                              size_t first, size_t cols, bool accumulate)
{
    __mmask16 live = first_lanes(cols > first ? cols - first : 0);
    __m512 scale = _mm512_loadu_ps(panel->scale + first), sum = _mm512_loadu_ps(panel->sum + first);
    __m512 bias = _mm512_loadu_ps(panel->bias + first);
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        float *to = out + (size_t)r * out_stride + first;
        __m512 centred = _mm512_fnmadd_ps(_mm512_set1_ps(x->zero_point[r]), sum,
                                          _mm512_cvtepi32_ps(sums[r][first / 16]));
        __m512 factor = _mm512_mul_ps(_mm512_set1_ps(x->scale[r]), scale);
        __m512 start = accumulate ? _mm512_maskz_loadu_ps(live, to) : bias;
        _mm512_mask_storeu_ps(to, live, _mm512_fmadd_ps(centred, factor, start));
    }
}

/* `rows` is a constant where this is inlined, so the accumulators are registers. What lies behind
 * the panel is asked for meanwhile: the next panel, for which the own prefetching of the processor
 * comes too late, so short is one. */
ALWAYS_INLINE void tile(float *out, size_t out_stride, const struct u8_rows *x,
                        const struct s8_panel *panel, size_t depth, const int rows, size_t cols,
                        bool accumulate)
{
    __m512i sums[ROWS][VECTORS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        sums[r][0] = _mm512_setzero_si512();
        sums[r][1] = _mm512_setzero_si512();
    }
    for (size_t k = 0; k < depth; k += 4) {
        const int8_t *at = panel->values + k * COLS;
        uintptr_t next = (uintptr_t)at + depth * COLS;
        __m512i b0 = _mm512_loadu_si512(at), b1 = _mm512_loadu_si512(at + 64);
        __builtin_prefetch((const void *)next);
        __builtin_prefetch((const void *)(next + 64));
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            __m512i a = _mm512_set1_epi32(load_four(x->values + (size_t)r * x->stride + k));
            sums[r][0] = _mm512_dpbusd_epi32(sums[r][0], a, b0);
            sums[r][1] = _mm512_dpbusd_epi32(sums[r][1], a, b1);
        }
    }
    /* Else gcc 12 keeps a second copy of the sums all along, in memory. */
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
        __asm__ volatile("" : "+v"(sums[r][0]), "+v"(sums[r][1]) : : "memory");
    dequantize(out, out_stride, x, panel, sums, rows, 0, cols, accumulate);
    dequantize(out, out_stride, x, panel, sums, rows, 16, cols, accumulate);
}

static void gemm_u8s8(float *out, size_t out_stride, const struct u8_rows *x,
                      const struct s8_panel *panel, size_t depth, size_t rows, size_t cols,
                      bool accumulate)
{
    switch (rows) {
#define CASE(n)                                                                                 \
    case n:                                                                                     \
        tile(out, out_stride, x, panel, depth, n, cols, accumulate);                            \
        break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
        CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#undef CASE
    }
}

/* ---- rows of a graph -------------------------------------------------------------------- */

enum { DOT_ROWS = 4, DOT_QUERIES = 4 };

/* Four sums of sixteen lanes each. */
static inline __m128i sum_lanes(__m512i a, __m512i b, __m512i c, __m512i d)
{
    __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    __m512i all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all),
                                    _mm512_extracti64x4_epi64(all, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/* `rows` has DOT_ROWS pointers; those from `live` on repeat the last one. */
ALWAYS_INLINE void dot_tile(int32_t *out, size_t out_stride, const int8_t *queries,
                            size_t query_stride, const int query_count,
                            const uint8_t *const *rows, size_t live, size_t dim)
{
    __m512i sums[DOT_QUERIES][DOT_ROWS];
#pragma GCC unroll 4
    for (int q = 0; q < query_count; q++)
#pragma GCC unroll 4
        for (int r = 0; r < DOT_ROWS; r++)
            sums[q][r] = _mm512_setzero_si512();
    for (size_t k = 0; k < dim; k += 64) {
        __m512i row[DOT_ROWS];
#pragma GCC unroll 4
        for (int r = 0; r < DOT_ROWS; r++)
            row[r] = _mm512_loadu_si512(rows[r] + k);
#pragma GCC unroll 4
        for (int q = 0; q < query_count; q++) {
            __m512i query = _mm512_loadu_si512(queries + (size_t)q * query_stride + k);
#pragma GCC unroll 4
            for (int r = 0; r < DOT_ROWS; r++)
                sums[q][r] = _mm512_dpbusd_epi32(sums[q][r], row[r], query);
        }
    }
#pragma GCC unroll 4
    for (int q = 0; q < query_count; q++)
        _mm_mask_storeu_epi32(out + (size_t)q * out_stride, (__mmask8)((1u << live) - 1),
                              sum_lanes(sums[q][0], sums[q][1], sums[q][2], sums[q][3]));
}

static void dot_tile_u8s8(int32_t *out, size_t out_stride, const int8_t *queries,
                          size_t query_stride, size_t query_count, const uint8_t *rows,
                          size_t row_stride, const uint32_t *ids, size_t row_count, size_t dim)
{
    for (size_t r = 0; r < row_count; r += DOT_ROWS) {
        size_t live = row_count - r < DOT_ROWS ? row_count - r : DOT_ROWS, q = 0;
        const uint8_t *at[DOT_ROWS];
        for (size_t i = 0; i < DOT_ROWS; i++) {
            size_t row = r + (i < live ? i : live - 1);
            at[i] = rows + (ids ? ids[row] : row) * row_stride;
        }
        for (; q + DOT_QUERIES <= query_count; q += DOT_QUERIES)
            dot_tile(out + q * out_stride + r, out_stride, queries + q * query_stride,
                     query_stride, DOT_QUERIES, at, live, dim);
        for (; q < query_count; q++)
            dot_tile(out + q * out_stride + r, out_stride, queries + q * query_stride,
                     query_stride, 1, at, live, dim);
    }
}

/* ---- one query, many rows --------------------------------------------------------------- */

/* Sixteen products of one row, added up in sixteen lanes. */
ALWAYS_INLINE __m512i row_sums(const uint8_t *row, const uint8_t *next, const int8_t *query,
                               size_t dim)
{
    __m512i sum = _mm512_setzero_si512();
    size_t k = 0;
    for (; k + 64 <= dim; k += 64) {
        __builtin_prefetch(next + k);
        sum = _mm512_dpbusd_epi32(sum, _mm512_loadu_si512(row + k), _mm512_loadu_si512(query + k));
    }
    if (k < dim) {
        __mmask64 live = ~0ull >> (64 - (dim - k));
        __builtin_prefetch(next + k);
        sum = _mm512_dpbusd_epi32(sum, _mm512_maskz_loadu_epi8(live, row + k),
                                  _mm512_maskz_loadu_epi8(live, query + k));
    }
    return sum;
}

/* The sums of the lanes of sixteen registers, in order. */
ALWAYS_INLINE __m512i sum_sixteen(const __m512i sums[16])
{
    __m512i four[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const __m512i *a = sums + 4 * i;
        __m512i low = _mm512_add_epi32(_mm512_unpacklo_epi32(a[0], a[1]),
                                       _mm512_unpackhi_epi32(a[0], a[1]));
        __m512i high = _mm512_add_epi32(_mm512_unpacklo_epi32(a[2], a[3]),
                                        _mm512_unpackhi_epi32(a[2], a[3]));
        four[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(low, high),
                                   _mm512_unpackhi_epi64(low, high));
    }
#define FOLD(a, b) _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), \
                                    _mm512_shuffle_i32x4(a, b, 0xdd))
    __m512i low = FOLD(four[0], four[1]), high = FOLD(four[2], four[3]);
    return FOLD(low, high);
#undef FOLD
}

static void dot_u8s8(int32_t *sums, const uint8_t *rows, size_t stride, const uint32_t *ids,
                     size_t count, const int8_t *query, size_t dim)
{
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        __m512i lanes[16];
        size_t ahead = i + 32 <= count ? 16 : 0;
#pragma GCC unroll 16
        for (size_t r = 0; r < 16; r++)
            lanes[r] = row_sums(rows + (ids ? ids[i + r] : i + r) * stride,
                                rows + (ids ? ids[i + r + ahead] : i + r + ahead) * stride, query,
                                dim);
        _mm512_storeu_si512(sums + i, sum_sixteen(lanes));
    }
    for (; i < count; i++) {
        const uint8_t *row = rows + (ids ? ids[i] : i) * stride;
        sums[i] = _mm512_reduce_add_epi32(row_sums(row, row, query, dim));
    }
}

void kernels_use_avx512vnni(struct kernels *k)
{
    k->gemm_u8s8 = gemm_u8s8;
    k->dot_tile_u8s8 = dot_tile_u8s8;
    k->dot_u8s8 = dot_u8s8;
    k->u8s8 = (struct gemm_blocks){ .mr = ROWS, .nr = COLS, .rows = 96, .granule = 4 };
}
