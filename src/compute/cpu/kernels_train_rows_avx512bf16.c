/* Heads of training with the products of AVX-512 BF16. */
#include "compute/cpu/train_rows.h"

#include "compute/cpu/vector_avx512.h"
#include "compute/cpu/vector_exp.h"
#include "compute/cpu/vector_philox.h"

enum { TILE_ROWS = 8, TILE_VECTORS = 2 };

#define V_DOT(a, b, sum)                                                                         \
    _mm512_dpbf16_ps(sum, (__m512bh)_mm512_castps_si512(a), (__m512bh)_mm512_castps_si512(b))

static inline void v_store_halves(uint16_t *to, v16 a)
{
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh(a));
}

static inline v16 v_halves(v16 a, v16 b)
{
    return _mm512_castsi512_ps((__m512i)_mm512_cvtne2ps_pbh(b, a));
}

static inline v16 v_zip(v16 a, v16 b)
{
    const __m512i order = _mm512_setr_epi32(     /* 16 + i in the upper half, i in the lower */
        0x100000, 0x110001, 0x120002, 0x130003, 0x140004, 0x150005, 0x160006, 0x170007,
        0x180008, 0x190009, 0x1a000a, 0x1b000b, 0x1c000c, 0x1d000d, 0x1e000e, 0x1f000f);
    __m512i both = (__m512i)_mm512_cvtne2ps_pbh(b, a);
    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, both));
}

static inline v16 v_zip_halves(const uint16_t *a, const uint16_t *b)
{
    __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)a));
    __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)b));
    return _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}

#include "compute/cpu/train_rows_wide.h"
#include "compute/cpu/train_attend_pairs.h"

static void attend_forward_any(const struct attend_head *h, float *out, size_t out_stride)
{
    if (h->half)
        attend_forward_pairs(h, out, out_stride);
    else
        attend_forward(h, out, out_stride);
}

static void attend_backward_any(const struct attend_head *h, const struct attend_gradients *g)
{
    if (h->half)
        attend_backward_pairs(h, g);
    else
        attend_backward(h, g);
}

void train_rows_use_avx512bf16(struct train_row_kernels *k)
{
    use(k);
    k->attend_forward = attend_forward_any;
    k->attend_backward = attend_backward_any;
}
