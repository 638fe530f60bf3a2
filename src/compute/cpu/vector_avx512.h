/* A vector of sixteen floats as one register: AVX-512 F, BW, VL and DQ. What the loops of
 * kernels_wide.h and train_rows_wide.h are written in; vector_avx2.h has two registers. */
#include <immintrin.h>
#include <stdint.h>

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

/* Zero but where a bit is set */
static inline v16 v_keep_bits(v16 a, unsigned bits)
{
    return _mm512_maskz_mov_ps((__mmask16)bits, a);
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
