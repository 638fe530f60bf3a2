/* AVX-512 F, BW, VL and DQ: a vector of sixteen floats is one register. */
#include "compute/cpu/kernels.h"

#include <immintrin.h>

typedef __m512 v16;

static inline __mmask16 first_lanes(size_t live)
{
    return (__mmask16)((1u << live) - 1);
}

static inline v16 v_set(float x) { return _mm512_set1_ps(x); }
static inline v16 v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline v16 v_load_first(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps(first_lanes(n), p);
}
static inline void v_store(float *p, v16 a) { _mm512_storeu_ps(p, a); }
static inline void v_store_first(float *p, size_t n, v16 a)
{
    _mm512_mask_storeu_ps(p, first_lanes(n), a);
}
static inline v16 v_first_or(v16 a, size_t n, v16 other)
{
    return _mm512_mask_mov_ps(other, first_lanes(n), a);
}
static inline v16 v_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
static inline v16 v_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
static inline v16 v_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
static inline v16 v_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
static inline v16 v_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
static inline v16 v_fms(v16 a, v16 b, v16 c) { return _mm512_fmsub_ps(a, b, c); }
static inline v16 v_fnma(v16 a, v16 b, v16 c) { return _mm512_fnmadd_ps(a, b, c); }
static inline v16 v_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }   /* b where either is NaN */
static inline v16 v_min(v16 a, v16 b) { return _mm512_min_ps(a, b); }
static inline v16 v_abs(v16 a) { return _mm512_abs_ps(a); }

/* a times 2 to the number in the low bits of `power` */
static inline v16 v_add_exponent(v16 a, v16 power)
{
    __m512i shift = _mm512_slli_epi32(_mm512_castps_si512(power), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), shift));
}

static inline v16 v_zero_below(v16 a, v16 x, float limit)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, v_set(limit), _CMP_NLT_UQ), a);
}

static inline v16 v_keep_nan(v16 a, v16 result)
{
    return _mm512_mask_mov_ps(result, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a);
}

/* j + (j+8), then + (j+4), + (j+2), + (j+1) */
static inline float v_sum(v16 a)
{
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}

/* Four such sums at once, by the same tree */
static inline void v_sum4(float *sums, v16 a, v16 b, v16 c, v16 d)
{
    v16 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    v16 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
    v16 all = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
    all = _mm512_add_ps(all, _mm512_permute_ps(all, 0x4e));
    all = _mm512_add_ps(all, _mm512_permute_ps(all, 0xb1));
    all = _mm512_maskz_compress_ps(0x1111, all);
    _mm_storeu_ps(sums, _mm512_castps512_ps128(all));
}

static inline v16 v_load_u8(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

/* The mask of lanes above 0 */
static inline unsigned v_positive(v16 a)
{
    return _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_GT_OQ);
}

static inline v16 v_negate_unless(v16 a, unsigned mask)
{
    return _mm512_mask_xor_ps(a, (__mmask16)~mask, a, _mm512_set1_ps(-0.0f));
}

static inline float v_largest(v16 a)
{
    __m256 half = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

/* columns[j] lane i = rows[i][d + j] */
static inline void v_transpose4(v16 columns[4], const float *const rows[16], size_t d)
{
    v16 z[4];
    for (int i = 0; i < 4; i++) {   /* lanes 4 j ... 4 j + 3 from row 4 j + i */
        z[i] = _mm512_castps128_ps512(_mm_loadu_ps(rows[i] + d));
        z[i] = _mm512_mask_broadcast_f32x4(z[i], 0x00f0, _mm_loadu_ps(rows[4 + i] + d));
        z[i] = _mm512_mask_broadcast_f32x4(z[i], 0x0f00, _mm_loadu_ps(rows[8 + i] + d));
        z[i] = _mm512_mask_broadcast_f32x4(z[i], 0xf000, _mm_loadu_ps(rows[12 + i] + d));
    }
    __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(z[0], z[1])),
            b = _mm512_castps_pd(_mm512_unpacklo_ps(z[2], z[3])),
            c = _mm512_castps_pd(_mm512_unpackhi_ps(z[0], z[1])),
            e = _mm512_castps_pd(_mm512_unpackhi_ps(z[2], z[3]));
    columns[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
    columns[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
    columns[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(c, e));
    columns[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(c, e));
}

static inline __m256i load_halves(const void *p, size_t n)
{
    return _mm256_maskz_loadu_epi16(first_lanes(n), p);
}

static inline v16 v_widen_f16(const void *p, size_t n)
{
    return _mm512_cvtph_ps(load_halves(p, n));
}

static inline v16 v_widen_bf16(const void *p, size_t n)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_halves(p, n)), 16));
}

/* a rounded to even, plus `zero`, cut to 0..255 */
static inline void v_store_u8(uint8_t *p, size_t n, v16 a, int zero)
{
    __m512i level = _mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(zero));
    level = _mm512_max_epi32(level, _mm512_setzero_si512());
    _mm512_mask_cvtusepi32_storeu_epi8(p, first_lanes(n), level);
}

/* Sixty-four of them; every |a| is below 2^15. */
static inline void v_store_u8_four(uint8_t *p, v16 a, v16 b, v16 c, v16 d, int zero)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i offset = _mm512_set1_epi16((short)zero);
    __m512i ab = _mm512_packs_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b));
    __m512i cd = _mm512_packs_epi32(_mm512_cvtps_epi32(c), _mm512_cvtps_epi32(d));
    __m512i bytes =
        _mm512_packus_epi16(_mm512_add_epi16(ab, offset), _mm512_add_epi16(cd, offset));
    _mm512_storeu_si512(p, _mm512_permutexvar_epi32(order, bytes));
}

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

static size_t pick_f32(uint32_t *at, const float *values, float threshold, size_t count)
{
    size_t found = 0;
    const __m512 limit = _mm512_set1_ps(threshold);
    for (size_t i = 0; i < count; i += 16) {
        __mmask16 live = first_of(count - i);
        __m512 v = _mm512_maskz_loadu_ps(live, values + i);
        __mmask16 keep = _mm512_mask_cmp_ps_mask(live, v, limit, _CMP_NLT_UQ);
        if (!keep)
            continue;
        _mm512_storeu_si512(at + found, _mm512_maskz_compress_epi32(keep, numbers_from(i)));
        found += (size_t)__builtin_popcount(keep);
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
