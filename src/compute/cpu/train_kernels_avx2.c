/* The loops of training in AVX2 and FMA: a vector of sixteen floats is two registers. */
#include "compute/cpu/train_kernels.h"

#include <immintrin.h>

typedef struct {
    __m256 low, high;
} v16;

typedef struct {
    __m256i low, high;
} p16;

/* 6 x 1 sums of two registers each, two of the right, one of the left: 15 of 16. */
enum { TILE_ROWS = 6, TILE_VECTORS = 1 };
#define TILE_CASES(X) X(1) X(2) X(3) X(4) X(5) X(6)

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

static inline v16 v_set(float x) { return (v16){ _mm256_set1_ps(x), _mm256_set1_ps(x) }; }
static inline v16 v_load(const float *p)
{
    return (v16){ _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) };
}
static inline void v_store(float *p, v16 a)
{
    _mm256_storeu_ps(p, a.low), _mm256_storeu_ps(p + 8, a.high);
}
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
static inline v16 v_add(v16 a, v16 b)
{
    return (v16){ _mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high) };
}
static inline v16 v_fma(v16 a, v16 b, v16 c)
{
    return (v16){ _mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high) };
}

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
static inline v16 p_dot(v16 sum, p16 a, p16 b)
{
    return v_fma(p_lower(a), p_lower(b), v_fma(p_upper(a), p_upper(b), sum));
}

#include "compute/cpu/train_kernels_wide.h"

void train_kernels_use_avx2(struct train_kernels *k)
{
    k->product_f32 = product_f32;
    k->product_bf16 = product_bf16;
    k->spread_f32 = spread_f32;
    k->sum_f32 = sum_f32;
    k->sum_bf16 = sum_bf16;
    k->product.mr = TILE_ROWS;
    k->product.nr = 16 * TILE_VECTORS;
}
