/* Rows and heads of training with AVX2 and FMA. */
#include "compute/cpu/train_rows.h"

#include "compute/cpu/vector_avx2.h"
#include "compute/cpu/vector_exp.h"

/* Philox of four blocks: a word of each in the low half of a lane of 64 bits, the upper halves hold
 * anything. The counters lie so that the words, unpacked and packed, come out in order. */
ALWAYS_INLINE uint32_t keep_32(const struct dropout *d, uint64_t block)
{
    const __m256i m0 = _mm256_set1_epi64x(0xD2511F53), m1 = _mm256_set1_epi64x(0xCD9E8D57);
    __m256i c0 = _mm256_add_epi64(_mm256_set1_epi64x((int64_t)block),
                                  _mm256_setr_epi64x(0, 1, 2, 3));
    __m256i c1 = _mm256_srli_epi64(c0, 32), c2 = _mm256_set1_epi64x(d->site),
            c3 = _mm256_set1_epi64x(d->step);
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++) {
        __m256i a = _mm256_mul_epu32(c0, m0), b = _mm256_mul_epu32(c2, m1);
        __m256i k0 = _mm256_set1_epi64x((int64_t)d->keys[2 * round]),
                k1 = _mm256_set1_epi64x((int64_t)d->keys[2 * round + 1]);
        c0 = _mm256_xor_si256(_mm256_srli_epi64(b, 32), _mm256_xor_si256(c1, k0));
        c2 = _mm256_xor_si256(_mm256_srli_epi64(a, 32), _mm256_xor_si256(c3, k1));
        c1 = b;
        c3 = a;
    }
    __m256i low = _mm256_blend_epi32(c0, _mm256_slli_epi64(c1, 32), 0xaa);
    __m256i high = _mm256_blend_epi32(c2, _mm256_slli_epi64(c3, 32), 0xaa);
    /* blocks 0 and 2, then 1 and 3; 16-bit numbers are compared as signed ones, half way around */
    __m256i around = _mm256_set1_epi16(-32768);
    __m256i dropped = _mm256_xor_si256(_mm256_set1_epi16((short)(d->threshold - 1)), around);
    __m256i even = _mm256_cmpgt_epi16(
        _mm256_xor_si256(_mm256_unpacklo_epi64(low, high), around), dropped);
    __m256i odd = _mm256_cmpgt_epi16(
        _mm256_xor_si256(_mm256_unpackhi_epi64(low, high), around), dropped);
    return (uint32_t)_mm256_movemask_epi8(_mm256_packs_epi16(even, odd));
}

ALWAYS_INLINE void keep_vectors(uint64_t *bits, const struct dropout *d, uint64_t block,
                                const size_t vectors)
{
    for (size_t v = 0; v < vectors; v++)
        bits[v] = keep_32(d, block + 8 * v) | (uint64_t)keep_32(d, block + 8 * v + 4) << 32;
}

enum { TILE_ROWS = 4, TILE_VECTORS = 1 };   /* 8 accumulators of 16 registers */

#include "compute/cpu/train_rows_wide.h"

void train_rows_use_avx2(struct train_row_kernels *k)
{
    use(k);
}
