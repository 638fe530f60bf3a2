/* AVX-512 F, BW, VL and DQ: a vector of sixteen floats is one register. */
#include "compute/cpu/kernels.h"

#include "compute/cpu/vector_avx512.h"

/* 12 x 2 accumulators, two registers of the panel, and the broadcasts read memory: 26 of 32. */
enum { GEMM_ROWS = 12, GEMM_VECTORS = 2, SCORE_QUERIES = 4, SCORE_ROWS = 4 };
#define GEMM_CASES(C) C(1) C(2) C(3) C(4) C(5) C(6) C(7) C(8) C(9) C(10) C(11) C(12)

#include "compute/cpu/kernels_wide.h"

/* Sixteen sums of sixteen bits to the distances of as many edges. */
static inline uint32_t edge_lines(float *out, __m256i sums, const struct edge_codes *edges,
                                  const struct edge_query *query, size_t first, float bound)
{
    const void *offset = edges->offset + first, *slope = edges->slope + first;
    __m512 u = _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(sums));
    __m512 o = _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm256_loadu_si256(offset)));
    __m512 s = _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm256_loadu_si256(slope)));
    __m512 start = _mm512_fmadd_ps(_mm512_set1_ps(edges->offset_scale), o,
                                   _mm512_set1_ps(query->start));
    __m512 factor = _mm512_mul_ps(_mm512_set1_ps(edges->slope_scale), s);
    __m512 x = _mm512_fmadd_ps(_mm512_set1_ps(query->step), u, _mm512_set1_ps(query->low));
    x = _mm512_fmadd_ps(factor, x, start);
    _mm512_storeu_ps(out + first, x);
    uint32_t below = _mm512_cmp_ps_mask(x, _mm512_set1_ps(bound), _CMP_LT_OQ);
    return below << first;
}

/* The four quarters of the even and odd sums to sixteen in the order of the edges. */
static inline __m256i edge_order(__m512i mixed, __m512i odd)
{
    __m512i even = _mm512_sub_epi16(mixed, _mm512_slli_epi16(odd, 8));
    __m256i e = _mm256_add_epi16(_mm512_castsi512_si256(even), _mm512_extracti64x4_epi64(even, 1));
    __m256i o = _mm256_add_epi16(_mm512_castsi512_si256(odd), _mm512_extracti64x4_epi64(odd, 1));
    __m128i e8 = _mm_add_epi16(_mm256_castsi256_si128(e), _mm256_extracti128_si256(e, 1));
    __m128i o8 = _mm_add_epi16(_mm256_castsi256_si128(o), _mm256_extracti128_si256(o, 1));
    return _mm256_set_m128i(_mm_unpackhi_epi16(e8, o8), _mm_unpacklo_epi16(e8, o8));
}

/* Bytes are added four at a time (4 x 63 < 256), then as sixteen bits: the even ones with what the
 * odd ones carry above them, the odd ones alone, and at the end the difference. */
static uint32_t edge_scores(float *out, const struct edge_codes *edges,
                            const struct edge_query *query, size_t dim, float bound)
{
    const __m512i half = _mm512_set1_epi8(15);
    __m512i low_mixed = _mm512_setzero_si512(), low_odd = low_mixed, high_mixed = low_mixed,
            high_odd = low_mixed;
    for (size_t at = 0; at < dim * 4; at += 256) {
        __m512i low = _mm512_setzero_si512(), high = low;
#pragma GCC unroll 4
        for (size_t i = 0; i < 256; i += 64) {
            __m512i codes = _mm512_loadu_si512(edges->codes + at + i);
            __m512i table = _mm512_loadu_si512(query->table + at + i);
            __m512i upper = _mm512_and_si512(_mm512_srli_epi16(codes, 4), half);
            low = _mm512_add_epi8(
                low, _mm512_shuffle_epi8(table, _mm512_and_si512(codes, half)));
            high = _mm512_add_epi8(high, _mm512_shuffle_epi8(table, upper));
        }
        low_mixed = _mm512_add_epi16(low_mixed, low);
        low_odd = _mm512_add_epi16(low_odd, _mm512_srli_epi16(low, 8));
        high_mixed = _mm512_add_epi16(high_mixed, high);
        high_odd = _mm512_add_epi16(high_odd, _mm512_srli_epi16(high, 8));
    }
    return edge_lines(out, edge_order(low_mixed, low_odd), edges, query, 0, bound) |
           edge_lines(out, edge_order(high_mixed, high_odd), edges, query, 16, bound);
}

/* ---- screening -------------------------------------------------------------------------- */

static inline __m512i numbers_from(size_t first)
{
    const __m512i count = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    return _mm512_add_epi32(_mm512_set1_epi32((int)first), count);
}

static inline __mmask16 first_of(size_t live)
{
    return live >= 16 ? 0xffff : first_lanes(live);
}

/* The numbers of `keep`, whose first is `first`, behind those found. */
static inline size_t append_numbers(uint32_t *at, size_t found, __mmask16 keep, size_t first)
{
    _mm512_storeu_si512(at + found, _mm512_maskz_compress_epi32(keep, numbers_from(first)));
    return found + (size_t)__builtin_popcount(keep);
}

static size_t pick_f32(uint32_t *at, const float *values, float threshold, size_t count)
{
    size_t found = 0, i = 0;
    const __m512 limit = _mm512_set1_ps(threshold);
    for (; i + 64 <= count; i += 64) {      /* seldom any of so many */
        __mmask16 keep[4];
        for (size_t part = 0; part < 4; part++)
            keep[part] = _mm512_cmp_ps_mask(_mm512_loadu_ps(values + i + 16 * part), limit,
                                            _CMP_NLT_UQ);
        if (!(keep[0] | keep[1] | keep[2] | keep[3]))
            continue;
        for (size_t part = 0; part < 4; part++)
            found = append_numbers(at, found, keep[part], i + 16 * part);
    }
    for (; i < count; i += 16) {
        __mmask16 live = first_of(count - i);
        __m512 v = _mm512_maskz_loadu_ps(live, values + i);
        __mmask16 keep = _mm512_mask_cmp_ps_mask(live, v, limit, _CMP_NLT_UQ);
        if (keep)
            found = append_numbers(at, found, keep, i);
    }
    return found;
}

static size_t pick_dots(uint32_t *at, float *values, const int32_t *sums,
                        const struct row_terms *terms, const struct dot_query *query,
                        float threshold, size_t count)
{
    size_t found = 0;
    const __m512 limit = _mm512_set1_ps(threshold), step = _mm512_set1_ps(query->step);
    const __m512 slack_radius = _mm512_set1_ps(query->slack_radius);
    const __m512 slack_norm = _mm512_set1_ps(query->slack_norm);
    const __m512i offset = _mm512_set1_epi32(query->offset);
    for (size_t i = 0; i < count; i += 16) {
        __mmask16 live = first_of(count - i);
        __m512 s = _mm512_cvtepi32_ps(
            _mm512_sub_epi32(_mm512_maskz_loadu_epi32(live, sums + i), offset));
        __m512 scale = _mm512_mul_ps(_mm512_maskz_loadu_ps(live, terms->scale + i), step);
        __m512 bias = _mm512_setzero_ps();
        if (terms->bias)
            bias = _mm512_maskz_loadu_ps(live, terms->bias + i);
        __m512 v = _mm512_fmadd_ps(scale, s, bias);
        __m512 most = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(live, terms->radius + i),
                                      slack_radius, v);
        most = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(live, terms->norm + i), slack_norm, most);
        __mmask16 keep = _mm512_mask_cmp_ps_mask(live, most, limit, _CMP_NLT_UQ);
        if (!keep)
            continue;
        _mm512_storeu_si512(at + found, _mm512_maskz_compress_epi32(keep, numbers_from(i)));
        _mm512_storeu_ps(values + found, _mm512_maskz_compress_ps(keep, v));
        found += (size_t)__builtin_popcount(keep);
    }
    return found;
}

static void pick_tile(uint64_t *masks, const float *values, size_t stride, size_t rows, size_t cols,
                      const struct row_terms *terms, const float *slack_radius,
                      const float *slack_norm, const float *threshold)
{
    for (size_t r = 0; r < rows; r++)
        masks[r] = 0;
    for (size_t c = 0; c < cols; c += 16) {
        __mmask16 live = first_of(cols - c);
        __m512 by_radius = _mm512_maskz_loadu_ps(live, slack_radius + c);
        __m512 by_norm = _mm512_maskz_loadu_ps(live, slack_norm + c);
        __m512 limit = _mm512_maskz_loadu_ps(live, threshold + c);
        for (size_t r = 0; r < rows; r++) {
            __m512 v = _mm512_maskz_loadu_ps(live, values + r * stride + c);
            v = _mm512_add_ps(v, _mm512_set1_ps(terms->bias ? terms->bias[r] : 0));
            v = _mm512_fmadd_ps(_mm512_set1_ps(terms->radius[r]), by_radius, v);
            v = _mm512_fmadd_ps(_mm512_set1_ps(terms->norm[r]), by_norm, v);
            masks[r] |= (uint64_t)_mm512_mask_cmp_ps_mask(live, v, limit, _CMP_NLT_UQ) << c;
        }
    }
}

void kernels_use_avx512(struct kernels *k)
{
    use_wide(k);
    k->edge_scores = edge_scores;
    k->pick_f32 = pick_f32;
    k->pick_dots = pick_dots;
    k->pick_tile = pick_tile;
    k->gemm = (struct gemm_blocks){
        .mr = GEMM_ROWS, .nr = GEMM_COLS, .rows = 192, .depth = 384, .granule = 1 };
}
