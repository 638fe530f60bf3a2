/* The loops of training in AVX-512 F, BW, VL and DQ: a vector of sixteen floats is one register. */
#include "compute/cpu/train_kernels.h"

#include "compute/cpu/vector_avx512.h"

typedef __m512i p16;

/* 12 x 2 sums, two registers of the right, one of the left: 27 of 32. */
enum { TILE_ROWS = 12, TILE_VECTORS = 2 };
#define TILE_CASES(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)

static inline p16 p_set(uint32_t pair) { return _mm512_set1_epi32((int)pair); }
static inline p16 p_load(const uint32_t *p) { return _mm512_loadu_si512(p); }
static inline p16 p_load_first(const uint32_t *p, size_t n)
{
    return _mm512_maskz_loadu_epi32(first_lanes(n), p);
}

static inline v16 p_upper(p16 a)
{
    return _mm512_castsi512_ps(_mm512_and_si512(a, _mm512_set1_epi32((int)0xffff0000)));
}
static inline v16 p_lower(p16 a) { return _mm512_castsi512_ps(_mm512_slli_epi32(a, 16)); }

#include "compute/cpu/train_products_wide.h"

void train_kernels_use_avx512(struct train_kernels *k)
{
    use_wide(k);
}
