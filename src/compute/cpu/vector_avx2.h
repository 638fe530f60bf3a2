/* A vector of sixteen floats as two registers: AVX2, FMA and F16C. What the loops of kernels_wide.h
 * and train_rows_wide.h are written in; vector_avx512.h is the same of one register. */
#include <immintrin.h>
#include <stdint.h>

typedef struct {
    __m256 low, high;
} v16;

/* Sixteen ones, then sixteen zeros: a window into it masks the first lanes. */
static const int32_t mask_source[32] = { -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                                         -1, -1, -1, -1, -1 };

static inline __m256i mask_low(size_t live)
{
    return _mm256_loadu_si256((const __m256i *)(mask_source + 16 - live));
}

static inline __m256i mask_high(size_t live)
{
    return _mm256_loadu_si256((const __m256i *)(mask_source + 24 - live));
}

#define BOTH2(f, a, b) ((v16){ f((a).low, (b).low), f((a).high, (b).high) })
#define BOTH3(f, a, b, c) ((v16){ f((a).low, (b).low, (c).low), f((a).high, (b).high, (c).high) })

static inline v16 v_set(float x) { return (v16){ _mm256_set1_ps(x), _mm256_set1_ps(x) }; }
static inline v16 v_load(const float *p)
{
    return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
static inline void v_store(float *p, v16 a)
{
    _mm256_storeu_ps(p, a.low), _mm256_storeu_ps(p + 8, a.high);
}
static inline v16 v_add(v16 a, v16 b) { return BOTH2(_mm256_add_ps, a, b); }
static inline v16 v_sub(v16 a, v16 b) { return BOTH2(_mm256_sub_ps, a, b); }
static inline v16 v_mul(v16 a, v16 b) { return BOTH2(_mm256_mul_ps, a, b); }
static inline v16 v_div(v16 a, v16 b) { return BOTH2(_mm256_div_ps, a, b); }
static inline v16 v_fma(v16 a, v16 b, v16 c) { return BOTH3(_mm256_fmadd_ps, a, b, c); }
static inline v16 v_fms(v16 a, v16 b, v16 c) { return BOTH3(_mm256_fmsub_ps, a, b, c); }
static inline v16 v_fnma(v16 a, v16 b, v16 c) { return BOTH3(_mm256_fnmadd_ps, a, b, c); }
static inline v16 v_max(v16 a, v16 b)
{
    return BOTH2(_mm256_max_ps, a, b);
} /* b where either is NaN */
static inline v16 v_min(v16 a, v16 b) { return BOTH2(_mm256_min_ps, a, b); }

static inline v16 v_load_first(const float *p, size_t n)
{
    if (n == 16)
        return v_load(p);
    return (v16){ _mm256_maskload_ps(p, mask_low(n)), _mm256_maskload_ps(p + 8, mask_high(n)) };
}

static inline void v_store_first(float *p, size_t n, v16 a)
{
    if (n == 16) {
        v_store(p, a);
        return;
    }
    _mm256_maskstore_ps(p, mask_low(n), a.low);
    _mm256_maskstore_ps(p + 8, mask_high(n), a.high);
}

static inline v16 v_first_or(v16 a, size_t n, v16 other)
{
    return (v16){ _mm256_blendv_ps(other.low, a.low, _mm256_castsi256_ps(mask_low(n))),
                  _mm256_blendv_ps(other.high, a.high, _mm256_castsi256_ps(mask_high(n))) };
}

static inline v16 v_abs(v16 a)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    return (v16){ _mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high) };
}

static inline __m256 add_exponent(__m256 a, __m256 power)
{
    __m256i shift = _mm256_slli_epi32(_mm256_castps_si256(power), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), shift));
}

/* a times 2 to the number in the low bits of `power` */
static inline v16 v_add_exponent(v16 a, v16 power) { return BOTH2(add_exponent, a, power); }

static inline __m256 not_below(__m256 a, __m256 x, __m256 limit)
{
    return _mm256_and_ps(a, _mm256_cmp_ps(x, limit, _CMP_NLT_UQ));
}

static inline v16 v_zero_below(v16 a, v16 x, float limit)
{
    v16 limits = v_set(limit);
    return BOTH3(not_below, a, x, limits);
}

static inline __m256 keep_nan(__m256 a, __m256 result)
{
    return _mm256_blendv_ps(result, a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
}

/* Zero but where a bit is set */
static inline v16 v_keep_bits(v16 a, unsigned bits)
{
    __m256i all = _mm256_set1_epi32((int)bits);
    __m256i low = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128), high = _mm256_slli_epi32(low, 8);
    __m256i keep_low = _mm256_cmpeq_epi32(_mm256_and_si256(all, low), low);
    __m256i keep_high = _mm256_cmpeq_epi32(_mm256_and_si256(all, high), high);
    return (v16){ _mm256_and_ps(a.low, _mm256_castsi256_ps(keep_low)),
                  _mm256_and_ps(a.high, _mm256_castsi256_ps(keep_high)) };
}

static inline v16 v_keep_nan(v16 a, v16 result) { return BOTH2(keep_nan, a, result); }

/* j + (j+8), then + (j+4), + (j+2), + (j+1) */
static inline float v_sum(v16 a)
{
    __m256 half = _mm256_add_ps(a.low, a.high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}

/* Four such sums at once, by the same tree */
static inline void v_sum4(float *sums, v16 a, v16 b, v16 c, v16 d)
{
    __m256 a8 = _mm256_add_ps(a.low, a.high), b8 = _mm256_add_ps(b.low, b.high);
    __m256 c8 = _mm256_add_ps(c.low, c.high), d8 = _mm256_add_ps(d.low, d.high);
    __m256 ab =
        _mm256_add_ps(_mm256_permute2f128_ps(a8, b8, 0x20), _mm256_permute2f128_ps(a8, b8, 0x31));
    __m256 cd =
        _mm256_add_ps(_mm256_permute2f128_ps(c8, d8, 0x20), _mm256_permute2f128_ps(c8, d8, 0x31));
    __m256 all = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
    all = _mm256_add_ps(all, _mm256_permute_ps(all, 0xb1));     /* a a c c | b b d d */
    __m128 ac = _mm256_castps256_ps128(all), bd = _mm256_extractf128_ps(all, 1);
    __m128 abcd = _mm_blend_ps(ac, bd, 0xa);                    /* a b c d */
    _mm_storeu_ps(sums, abcd);
}

static inline float v_largest(v16 a)
{
    __m256 half = _mm256_max_ps(a.low, a.high);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

static inline __m256 two_rows(const float *low, const float *high)
{
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high), 1);
}

/* columns[j] lane i = rows[i][d + j] for eight rows */
static inline void transpose_half(__m256 columns[4], const float *const rows[8], size_t d)
{
    __m256 y[4];
    for (int i = 0; i < 4; i++)
        y[i] = two_rows(rows[i] + d, rows[4 + i] + d);
    __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(y[0], y[1])),
            b = _mm256_castps_pd(_mm256_unpacklo_ps(y[2], y[3])),
            c = _mm256_castps_pd(_mm256_unpackhi_ps(y[0], y[1])),
            e = _mm256_castps_pd(_mm256_unpackhi_ps(y[2], y[3]));
    columns[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
    columns[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
    columns[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(c, e));
    columns[3] = _mm256_castpd_ps(_mm256_unpackhi_pd(c, e));
}

/* columns[j] lane i = rows[i][d + j] */
static inline void v_transpose4(v16 columns[4], const float *const rows[16], size_t d)
{
    __m256 low[4], high[4];
    transpose_half(low, rows, d);
    transpose_half(high, rows + 8, d);
    for (int j = 0; j < 4; j++)
        columns[j] = (v16){ low[j], high[j] };
}

static inline __m256 load_u8(const uint8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

static inline v16 v_load_u8(const uint8_t *p) { return (v16){ load_u8(p), load_u8(p + 8) }; }

/* The mask of lanes above 0 */
static inline unsigned v_positive(v16 a)
{
    __m256 zero = _mm256_setzero_ps();
    unsigned low = (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a.low, zero, _CMP_GT_OQ));
    return low | (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a.high, zero, _CMP_GT_OQ)) << 8;
}

static inline __m256 negate_unless(__m256 a, unsigned mask)
{
    __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    __m256i unset = _mm256_cmpeq_epi32(
        _mm256_and_si256(_mm256_set1_epi32((int)mask), bits), _mm256_setzero_si256());
    return _mm256_xor_ps(a, _mm256_and_ps(_mm256_castsi256_ps(unset), _mm256_set1_ps(-0.0f)));
}

static inline v16 v_negate_unless(v16 a, unsigned mask)
{
    return (v16){ negate_unless(a.low, mask), negate_unless(a.high, mask >> 8) };
}

/* There is no masked load of 16-bit numbers: a short end goes through the stack. */
static inline void load_halves(const void *p, size_t n, __m128i halves[2])
{
    uint16_t end[16] = { 0 };
    if (n < 16) {
        __builtin_memcpy(end, p, 2 * n);
        p = end;
    }
    halves[0] = _mm_loadu_si128(p);
    halves[1] = _mm_loadu_si128((const __m128i *)p + 1);
}

static inline v16 v_widen_f16(const void *p, size_t n)
{
    __m128i halves[2];
    load_halves(p, n, halves);
    return (v16){ _mm256_cvtph_ps(halves[0]), _mm256_cvtph_ps(halves[1]) };
}

static inline __m256 widen_bf16_half(__m128i halves)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

static inline v16 v_widen_bf16(const void *p, size_t n)
{
    __m128i halves[2];
    load_halves(p, n, halves);
    return (v16){ widen_bf16_half(halves[0]), widen_bf16_half(halves[1]) };
}

/* a rounded to even, plus `zero`, cut to 0..255 */
static inline void v_store_u8(uint8_t *p, size_t n, v16 a, int zero)
{
    __m256i low = _mm256_add_epi32(_mm256_cvtps_epi32(a.low), _mm256_set1_epi32(zero));
    __m256i high = _mm256_add_epi32(_mm256_cvtps_epi32(a.high), _mm256_set1_epi32(zero));
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
    __m128i bytes =
        _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    if (n == 16)
        _mm_storeu_si128((__m128i *)p, bytes);
    else
        __builtin_memcpy(p, &bytes, n);
}

/* Sixty-four of them. */
static inline void v_store_u8_four(uint8_t *p, v16 a, v16 b, v16 c, v16 d, int zero)
{
    v_store_u8(p, 16, a, zero);
    v_store_u8(p + 16, 16, b, zero);
    v_store_u8(p + 32, 16, c, zero);
    v_store_u8(p + 48, 16, d, zero);
}
