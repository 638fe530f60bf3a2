/* Draws of the Beta distribution with AVX2. */
#include "compute/cpu/kernels.h"

#include "compute/cpu/vector_avx2.h"

#include "compute/cpu/vector_exp.h"

static inline v16 v_sqrt(v16 a)
{
    return (v16){ _mm256_sqrt_ps(a.low), _mm256_sqrt_ps(a.high) };
}

static inline __m256 where_below(__m256 a, __m256 b, __m256 yes, __m256 no)
{
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}

static inline v16 v_where_below(v16 a, v16 b, v16 yes, v16 no)
{
    return (v16){ where_below(a.low, b.low, yes.low, no.low),
                  where_below(a.high, b.high, yes.high, no.high) };
}

static inline __m256 split(__m256 x, __m256 *e)
{
    __m256i bits = _mm256_castps_si256(x);
    __m256i n = _mm256_srai_epi32(_mm256_sub_epi32(bits, _mm256_set1_epi32(BETA_ROOT_HALF)), 23);
    *e = _mm256_cvtepi32_ps(n);
    return _mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(n, 23)));
}

static inline v16 v_split(v16 x, v16 *e)
{
    return (v16){ split(x.low, &e->low), split(x.high, &e->high) };
}

/* Philox with a word in the low half of each lane of 64 bits; the upper halves hold anything. */
struct blocks {
    __m256i c0, c1, c2, c3;
};

ALWAYS_INLINE void philox_round(struct blocks *b, uint32_t k0, uint32_t k1)
{
    __m256i x = _mm256_mul_epu32(b->c0, _mm256_set1_epi64x(0xD2511F53));
    __m256i y = _mm256_mul_epu32(b->c2, _mm256_set1_epi64x(0xCD9E8D57));
    __m256i n0 = _mm256_xor_si256(_mm256_srli_epi64(y, 32), b->c1);
    __m256i n2 = _mm256_xor_si256(_mm256_srli_epi64(x, 32), b->c3);
    b->c0 = _mm256_xor_si256(n0, _mm256_set1_epi64x(k0));
    b->c2 = _mm256_xor_si256(n2, _mm256_set1_epi64x(k1));
    b->c1 = y;
    b->c3 = x;
}

static inline __m256 uniform_of(__m256i even, __m256i odd)
{
    __m256i words = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
    __m256 part = _mm256_cvtepi32_ps(_mm256_srli_epi32(words, 9));
    return _mm256_fmadd_ps(part, _mm256_set1_ps(0x1p-23f), _mm256_set1_ps(0x1p-24f));
}

ALWAYS_INLINE void v_uniform(v16 uniform[3], const uint32_t *arms, const struct beta_key *key,
                             uint32_t attempt)
{
    struct blocks b[4];
    uint32_t k0 = key->seed[0], k1 = key->seed[1];
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {   /* even arms of each half, then odd ones */
        __m256i c0 = _mm256_loadu_si256((const __m256i *)(arms + v / 2 * 8));
        b[v] = (struct blocks){ v % 2 ? _mm256_srli_epi64(c0, 32) : c0,
                                _mm256_set1_epi64x(key->round[0]),
                                _mm256_set1_epi64x(key->round[1]),
                                _mm256_set1_epi64x(beta_word(key, attempt)) };
    }
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            philox_round(&b[v], k0, k1);
    uniform[0] = (v16){ uniform_of(b[0].c0, b[1].c0), uniform_of(b[2].c0, b[3].c0) };
    uniform[1] = (v16){ uniform_of(b[0].c1, b[1].c1), uniform_of(b[2].c1, b[3].c1) };
    uniform[2] = (v16){ uniform_of(b[0].c2, b[1].c2), uniform_of(b[2].c2, b[3].c2) };
}

#include "compute/cpu/beta_wide.h"

void kernels_use_beta_avx2(struct kernels *k)
{
    k->draw_beta_f32 = draw_beta_f32;
}
