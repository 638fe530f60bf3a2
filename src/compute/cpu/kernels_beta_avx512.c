/* Draws of the Beta distribution with AVX-512. */
#include "compute/cpu/kernels.h"

#include "compute/cpu/vector_avx512.h"

#include "compute/cpu/vector_exp.h"

static inline v16 v_sqrt(v16 a) { return _mm512_sqrt_ps(a); }

static inline v16 v_where_below(v16 a, v16 b, v16 yes, v16 no)
{
    return _mm512_mask_mov_ps(no, _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), yes);
}

static inline v16 v_split(v16 x, v16 *e)
{
    __m512i bits = _mm512_castps_si512(x);
    __m512i n = _mm512_srai_epi32(_mm512_sub_epi32(bits, _mm512_set1_epi32(BETA_ROOT_HALF)), 23);
    *e = _mm512_cvtepi32_ps(n);
    return _mm512_castsi512_ps(_mm512_sub_epi32(bits, _mm512_slli_epi32(n, 23)));
}

/* Philox with a word in the low half of each lane of 64 bits; the upper halves hold anything. */
struct blocks {
    __m512i c0, c1, c2, c3;
};

ALWAYS_INLINE void philox_round(struct blocks *b, uint32_t k0, uint32_t k1)
{
    __m512i x = _mm512_mul_epu32(b->c0, _mm512_set1_epi64(0xD2511F53));
    __m512i y = _mm512_mul_epu32(b->c2, _mm512_set1_epi64(0xCD9E8D57));
    b->c0 = _mm512_ternarylogic_epi64(_mm512_srli_epi64(y, 32), b->c1, _mm512_set1_epi64(k0), 0x96);
    b->c2 = _mm512_ternarylogic_epi64(_mm512_srli_epi64(x, 32), b->c3, _mm512_set1_epi64(k1), 0x96);
    b->c1 = y;
    b->c3 = x;
}

static inline v16 uniform_of(__m512i even, __m512i odd)
{
    __m512i words = _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
    v16 part = _mm512_cvtepi32_ps(_mm512_srli_epi32(words, 9));
    return v_fma(part, v_set(0x1p-23f), v_set(0x1p-24f));
}

ALWAYS_INLINE void v_uniform(v16 uniform[3], const uint32_t *arms, const struct beta_key *key,
                             uint32_t attempt)
{
    uint32_t k0 = key->seed[0], k1 = key->seed[1];
    struct blocks even = { _mm512_loadu_si512(arms), _mm512_set1_epi64(key->round[0]),
                           _mm512_set1_epi64(key->round[1]),
                           _mm512_set1_epi64(beta_word(key, attempt)) };
    struct blocks odd = even;
    odd.c0 = _mm512_srli_epi64(odd.c0, 32);
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        philox_round(&even, k0, k1);
        philox_round(&odd, k0, k1);
    }
    uniform[0] = uniform_of(even.c0, odd.c0);
    uniform[1] = uniform_of(even.c1, odd.c1);
    uniform[2] = uniform_of(even.c2, odd.c2);
}

#include "compute/cpu/beta_wide.h"

void kernels_use_beta_avx512(struct kernels *k)
{
    k->draw_beta_f32 = draw_beta_f32;
}
