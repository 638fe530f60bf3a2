/* Bits of dropout with AVX-512, for files that include train_rows_wide.h behind it; vector_avx512.h
 * and vector_exp.h come before. */
#include "compute/cpu/train_dropout.h"

/* Philox of eight blocks a vector: a word of each in the low half of a lane of 64 bits, the upper
 * halves hold anything. The counters lie so that the words, unpacked, come out in the order of
 * blocks. One vector waits for itself most of the time; four side by side do not. */
ALWAYS_INLINE void keep_vectors(uint64_t *bits, const struct dropout *d, uint64_t block,
                                const size_t vectors)
{
    const __m512i m0 = _mm512_set1_epi64(0xD2511F53), m1 = _mm512_set1_epi64(0xCD9E8D57);
    __m512i c0[4], c1[4], c2[4], c3[4];
    for (size_t v = 0; v < vectors; v++) {
        c0[v] = _mm512_add_epi64(_mm512_set1_epi64((int64_t)(block + 8 * v)),
                                 _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7));
        c1[v] = _mm512_srli_epi64(c0[v], 32);
        c2[v] = _mm512_set1_epi64(d->site);
        c3[v] = _mm512_set1_epi64(d->step);
    }
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++) {
        __m512i k0 = _mm512_set1_epi64((int64_t)d->keys[2 * round]),
                k1 = _mm512_set1_epi64((int64_t)d->keys[2 * round + 1]);
#pragma GCC unroll 4
        for (size_t v = 0; v < vectors; v++) {
            __m512i a = _mm512_mul_epu32(c0[v], m0), b = _mm512_mul_epu32(c2[v], m1);
            c0[v] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(b, 32), c1[v], k0, 0x96);
            c2[v] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(a, 32), c3[v], k1, 0x96);
            c1[v] = b;
            c3[v] = a;
        }
    }
    __m512i dropped = _mm512_set1_epi16((short)(d->threshold - 1));     /* the greatest of these */
    for (size_t v = 0; v < vectors; v++) {
        __m512i low = _mm512_mask_blend_epi32(0xaaaa, c0[v], _mm512_slli_epi64(c1[v], 32));
        __m512i high = _mm512_mask_blend_epi32(0xaaaa, c2[v], _mm512_slli_epi64(c3[v], 32));
        uint64_t first = _mm512_cmpgt_epu16_mask(_mm512_unpacklo_epi64(low, high), dropped);
        uint64_t second = _mm512_cmpgt_epu16_mask(_mm512_unpackhi_epi64(low, high), dropped);
        bits[v] = first | second << 32;
    }
}
