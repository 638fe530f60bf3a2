/* Product quantisation with AVX2: tables of sixteen bytes are looked up by VPSHUFB, one register
 * for 32 rows (André, Kermarrec, Le Scouarnec, "Quicker ADC", 2019, and faiss' fast scan). */
#include "compute/cpu/kernels.h"

#include <immintrin.h>
#include <math.h>

static void pq4_products_f32(float *out, const float *x, const float *codebook, const float *start,
                             size_t parts, size_t width)
{
    for (size_t m = 0; m < parts; m++) {
        __m256 a = start ? _mm256_loadu_ps(start + m * PQ4_CODES) : _mm256_setzero_ps();
        __m256 b = start ? _mm256_loadu_ps(start + m * PQ4_CODES + 8) : _mm256_setzero_ps();
        for (size_t d = 0; d < width; d++) {
            __m256 value = _mm256_set1_ps(x[m * width + d]);
            const float *at = codebook + (m * width + d) * PQ4_CODES;
            a = _mm256_fmadd_ps(value, _mm256_loadu_ps(at), a);
            b = _mm256_fmadd_ps(value, _mm256_loadu_ps(at + 8), b);
        }
        _mm256_storeu_ps(out + m * PQ4_CODES, a);
        _mm256_storeu_ps(out + m * PQ4_CODES + 8, b);
    }
}

/* The greatest first, then where it stands first: both passes are cheap, and ties need no care. */
static uint32_t argmax_row(const float *row, size_t cols)
{
    size_t c = 0;
    float top = row[0];
    if (cols >= 8) {
        __m256 most = _mm256_loadu_ps(row);
        for (c = 8; c + 8 <= cols; c += 8)
            most = _mm256_max_ps(most, _mm256_loadu_ps(row + c));
        __m128 four = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
        four = _mm_max_ps(four, _mm_movehl_ps(four, four));
        top = _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
    }
    for (; c < cols; c++)
        top = row[c] > top ? row[c] : top;
    for (c = 0; c + 8 <= cols; c += 8) {
        __m256 equal = _mm256_cmp_ps(_mm256_loadu_ps(row + c), _mm256_set1_ps(top), _CMP_EQ_OQ);
        int mask = _mm256_movemask_ps(equal);
        if (mask)
            return (uint32_t)(c + (size_t)__builtin_ctz((unsigned)mask));
    }
    for (; c + 1 < cols && row[c] != top; c++)
        ;
    return (uint32_t)(c < cols ? c : 0);
}

static void argmax_f32(uint32_t *best, const float *x, size_t stride, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++)
        best[r] = argmax_row(x + r * stride, cols);
}

/* Looks up 32 bytes of codes: the low and the high halves, each in its own table. At most 254. */
static inline __m256i look_up(const uint8_t *codes, const uint8_t *tables)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i both = _mm256_loadu_si256((const void *)codes);
    __m256i low = _mm256_and_si256(both, nibble);
    __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
    __m256i a = _mm256_shuffle_epi8(_mm256_loadu_si256((const void *)tables), low);
    __m256i b = _mm256_shuffle_epi8(_mm256_loadu_si256((const void *)(tables + 64)), high);
    return _mm256_add_epi8(a, b);
}

/* A register of bytes is added as 16-bit numbers: their upper bytes, the odd rows, are summed
 * beside, and what they did to the sums of both is taken off at the end. */
static void pq4_scan(uint16_t *sums, const uint8_t *codes, const uint8_t *tables, size_t groups,
                     size_t blocks, const uint8_t *ahead)
{
    (void)ahead;
    for (size_t b = 0; b < blocks; b++) {
        __m256i both = _mm256_setzero_si256(), odd = both;
        for (size_t g = 0; g < groups; g++) {
            const uint8_t *at = codes + (b * groups + g) * PQ4_GROUP_BYTES;
            __m256i x = look_up(at, tables + g * PQ4_GROUP_TABLES);
            __m256i y = look_up(at + 32, tables + g * PQ4_GROUP_TABLES + 32);
            both = _mm256_add_epi16(both, _mm256_add_epi16(x, y));
            odd = _mm256_add_epi16(odd, _mm256_srli_epi16(x, 8));
            odd = _mm256_add_epi16(odd, _mm256_srli_epi16(y, 8));
        }
        __m256i even = _mm256_sub_epi16(both, _mm256_slli_epi16(odd, 8));
        _mm256_storeu_si256((void *)(sums + b * PQ4_BLOCK_ROWS), even);
        _mm256_storeu_si256((void *)(sums + b * PQ4_BLOCK_ROWS + 16), odd);
    }
}

static size_t select_u16(uint32_t *out, const uint16_t *x, size_t count, uint16_t floor)
{
    const __m256i limit = _mm256_set1_epi16((short)floor);
    size_t found = 0, i = 0;
    for (; i + 16 <= count; i += 16) {
        __m256i value = _mm256_loadu_si256((const void *)(x + i));
        __m256i over = _mm256_cmpeq_epi16(_mm256_max_epu16(value, limit), value);
        for (unsigned mask = (unsigned)_mm256_movemask_epi8(over) & 0x55555555u; mask;
             mask &= mask - 1)
            out[found++] = (uint32_t)(i + (size_t)__builtin_ctz(mask) / 2);
    }
    for (; i < count; i++)
        if (x[i] >= floor)
            out[found++] = (uint32_t)i;
    return found;
}

static int32_t score_row(const int16_t *query, const int8_t *row, size_t depth)
{
    __m256i a = _mm256_setzero_si256(), b = a;
    for (size_t k = 0; k < depth; k += 32) {
        __m256i x = _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)(row + k)));
        __m256i y = _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)(row + k + 16)));
        __m256i p = _mm256_loadu_si256((const void *)(query + k));
        __m256i q = _mm256_loadu_si256((const void *)(query + k + 16));
        a = _mm256_add_epi32(a, _mm256_madd_epi16(x, p));
        b = _mm256_add_epi32(b, _mm256_madd_epi16(y, q));
    }
    a = _mm256_add_epi32(a, b);
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

static void score_s16s8(int32_t *out, const int16_t *query, const int8_t *rows, size_t stride,
                        const uint32_t *which, size_t count, size_t depth)
{
    enum { AHEAD = 8 };
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; which && i + AHEAD < count && k < depth; k += 64)
            _mm_prefetch((const char *)(rows + which[i + AHEAD] * stride + k), _MM_HINT_T0);
        out[i] = score_row(query, rows + (which ? which[i] : i) * stride, depth);
    }
}

static void add_scaled_s8(float *x, const int8_t *y, float factor, size_t count)
{
    size_t i = 0;
    const __m256 f = _mm256_set1_ps(factor);
    for (; i + 8 <= count; i += 8) {
        __m256i wide = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)(y + i)));
        __m256 sum = _mm256_fmadd_ps(f, _mm256_cvtepi32_ps(wide), _mm256_loadu_ps(x + i));
        _mm256_storeu_ps(x + i, sum);
    }
    for (; i < count; i++)
        x[i] = fmaf(factor, (float)y[i], x[i]);
}

void kernels_use_pq_avx2(struct kernels *k)
{
#define X(name, result, params) k->name = name;
    KERNELS_PQ(X)
#undef X
}
