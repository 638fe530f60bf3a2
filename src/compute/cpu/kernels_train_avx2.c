/* The loops of training in AVX2 and FMA: a vector of sixteen floats is two registers. */
#include "compute/cpu/train_kernels.h"

#include "compute/cpu/vector_avx2.h"

typedef struct {
    __m256i low, high;
} p16;

/* 6 x 1 sums of two registers each, two of the right, one of the left: 15 of 16. */
enum { TILE_ROWS = 6, TILE_VECTORS = 1 };
#define TILE_CASES(X) X(1) X(2) X(3) X(4) X(5) X(6)

static inline p16 p_set(uint32_t pair)
{
    return (p16){ _mm256_set1_epi32((int)pair), _mm256_set1_epi32((int)pair) };
}
static inline p16 p_load(const uint32_t *p)
{
    return (p16){ _mm256_loadu_si256((const __m256i *)p),
                  _mm256_loadu_si256((const __m256i *)(p + 8)) };
}
static inline p16 p_load_first(const uint32_t *p, size_t n)
{
    v16 loaded = v_load_first((const float *)p, n);
    return (p16){ _mm256_castps_si256(loaded.low), _mm256_castps_si256(loaded.high) };
}
static inline __m256 upper_half(__m256i a)
{
    return _mm256_castsi256_ps(_mm256_and_si256(a, _mm256_set1_epi32((int)0xffff0000)));
}
static inline __m256 lower_half(__m256i a)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(a, 16));
}
static inline v16 p_upper(p16 a) { return (v16){ upper_half(a.low), upper_half(a.high) }; }
static inline v16 p_lower(p16 a) { return (v16){ lower_half(a.low), lower_half(a.high) }; }
#include "compute/cpu/train_products_wide.h"

void train_kernels_use_avx2(struct train_kernels *k)
{
    use_wide(k);
}
