/* Product quantisation with AVX-512 F and BW: as kernels_pq_avx2.c, in registers twice as wide. Two
 * blocks of rows pass by each pair of tables. */
#include "compute/cpu/kernels.h"

#include <immintrin.h>

static void pq4_products_f32(float *out, const float *x, const float *codebook, const float *start,
                             size_t parts, size_t width)
{
    for (size_t m = 0; m < parts; m++) {
        __m512 sum = start ? _mm512_loadu_ps(start + m * PQ4_CODES) : _mm512_setzero_ps();
        for (size_t d = 0; d < width; d++)
            sum = _mm512_fmadd_ps(_mm512_set1_ps(x[m * width + d]),
                                  _mm512_loadu_ps(codebook + (m * width + d) * PQ4_CODES), sum);
        _mm512_storeu_ps(out + m * PQ4_CODES, sum);
    }
}

static uint32_t argmax_row(const float *row, size_t cols)
{
    const __m512 least = _mm512_set1_ps(-__builtin_inff());
    __m512 most = least;
    for (size_t c = 0; c < cols; c += 16) {
        __mmask16 live = cols - c >= 16 ? 0xffff : (__mmask16)((1u << (cols - c)) - 1);
        most = _mm512_max_ps(_mm512_mask_loadu_ps(least, live, row + c), most);
    }
    __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    for (size_t c = 0; c < cols; c += 16) {
        __mmask16 live = cols - c >= 16 ? 0xffff : (__mmask16)((1u << (cols - c)) - 1);
        __mmask16 equal = _mm512_mask_cmp_ps_mask(live, _mm512_maskz_loadu_ps(live, row + c), top,
                                                  _CMP_EQ_OQ);
        if (equal)
            return (uint32_t)(c + (size_t)__builtin_ctz(equal));
    }
    return 0;
}

static void argmax_f32(uint32_t *best, const float *x, size_t stride, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++)
        best[r] = argmax_row(x + r * stride, cols);
}

static inline void fetch(const uint8_t *line)
{
    _mm_prefetch((const char *)line, _MM_HINT_T0);
}

static inline __m512i look_up(const uint8_t *codes, __m512i low_table, __m512i high_table)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i both = _mm512_loadu_si512(codes);
    __m512i low = _mm512_and_si512(both, nibble);
    __m512i high = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);
    return _mm512_add_epi8(_mm512_shuffle_epi8(low_table, low),
                           _mm512_shuffle_epi8(high_table, high));
}

/* As in kernels_pq_avx2.c; the two halves of a register belong to the same rows. */
static inline void store_sums(uint16_t *sums, __m512i both, __m512i odd)
{
    __m512i even = _mm512_sub_epi16(both, _mm512_slli_epi16(odd, 8));
    __m512i left = _mm512_shuffle_i64x2(even, odd, 0x44);
    __m512i right = _mm512_shuffle_i64x2(even, odd, 0xee);
    _mm512_storeu_si512(sums, _mm512_add_epi16(left, right));
}

static void pq4_scan(uint16_t *sums, const uint8_t *codes, const uint8_t *tables, size_t groups,
                     size_t blocks, const uint8_t *ahead)
{
    size_t step = groups * PQ4_GROUP_BYTES;
    for (; blocks >= 2; blocks -= 2, codes += 2 * step, sums += 2 * PQ4_BLOCK_ROWS) {
        __m512i both0 = _mm512_setzero_si512(), odd0 = both0, both1 = both0, odd1 = both0;
        for (size_t g = 0; g < groups; g++) {
            __m512i low = _mm512_loadu_si512(tables + g * PQ4_GROUP_TABLES);
            __m512i high = _mm512_loadu_si512(tables + g * PQ4_GROUP_TABLES + 64);
            __m512i x = look_up(codes + g * PQ4_GROUP_BYTES, low, high);
            __m512i y = look_up(codes + step + g * PQ4_GROUP_BYTES, low, high);
            fetch(ahead + g * 2 * PQ4_GROUP_BYTES);
            fetch(ahead + (g * 2 + 1) * PQ4_GROUP_BYTES);
            both0 = _mm512_add_epi16(both0, x);
            both1 = _mm512_add_epi16(both1, y);
            odd0 = _mm512_add_epi16(odd0, _mm512_srli_epi16(x, 8));
            odd1 = _mm512_add_epi16(odd1, _mm512_srli_epi16(y, 8));
        }
        store_sums(sums, both0, odd0);
        store_sums(sums + PQ4_BLOCK_ROWS, both1, odd1);
        ahead += 2 * step;
    }
    if (!blocks)
        return;
    __m512i both = _mm512_setzero_si512(), odd = both;
    for (size_t g = 0; g < groups; g++) {
        __m512i x = look_up(codes + g * PQ4_GROUP_BYTES,
                            _mm512_loadu_si512(tables + g * PQ4_GROUP_TABLES),
                            _mm512_loadu_si512(tables + g * PQ4_GROUP_TABLES + 64));
        fetch(ahead + g * PQ4_GROUP_BYTES);
        both = _mm512_add_epi16(both, x);
        odd = _mm512_add_epi16(odd, _mm512_srli_epi16(x, 8));
    }
    store_sums(sums, both, odd);
}

static size_t select_u16(uint32_t *out, const uint16_t *x, size_t count, uint16_t floor)
{
    const __m512i limit = _mm512_set1_epi16((short)floor);
    size_t found = 0, i = 0;
    for (; i < count; i += 32) {
        __mmask32 live = count - i >= 32 ? 0xffffffffu : (1u << (count - i)) - 1;
        __mmask32 over = _mm512_mask_cmpge_epu16_mask(live, _mm512_maskz_loadu_epi16(live, x + i),
                                                      limit);
        for (; over; over &= over - 1)
            out[found++] = (uint32_t)(i + (size_t)__builtin_ctz(over));
    }
    return found;
}

static inline __m512i four_more(__m512i sum, __m512i query, const int8_t *row)
{
    __m512i x = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const void *)row));
    return _mm512_add_epi32(sum, _mm512_madd_epi16(x, query));
}

static void score_s16s8(int32_t *out, const int16_t *query, const int8_t *rows, size_t stride,
                        const uint32_t *which, size_t count, size_t depth)
{
    enum { AHEAD = 8 };
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        const int8_t *row[4];
        __m512i sums[4];
        for (size_t j = 0; j < 4; j++) {
            row[j] = rows + (which ? which[i + j] : i + j) * stride;
            sums[j] = _mm512_setzero_si512();
            for (size_t k = 0; which && i + j + AHEAD < count && k < depth; k += 64)
                _mm_prefetch((const char *)(rows + which[i + j + AHEAD] * stride + k),
                             _MM_HINT_T0);
        }
        for (size_t k = 0; k < depth; k += 32) {
            __m512i q = _mm512_loadu_si512(query + k);
            sums[0] = four_more(sums[0], q, row[0] + k);
            sums[1] = four_more(sums[1], q, row[1] + k);
            sums[2] = four_more(sums[2], q, row[2] + k);
            sums[3] = four_more(sums[3], q, row[3] + k);
        }
        for (size_t j = 0; j < 4; j++)
            out[i + j] = _mm512_reduce_add_epi32(sums[j]);
    }
    for (; i < count; i++) {
        const int8_t *row = rows + (which ? which[i] : i) * stride;
        __m512i sum = _mm512_setzero_si512();
        for (size_t k = 0; k < depth; k += 32)
            sum = four_more(sum, _mm512_loadu_si512(query + k), row + k);
        out[i] = _mm512_reduce_add_epi32(sum);
    }
}

static void add_scaled_s8(float *x, const int8_t *y, float factor, size_t count)
{
    const __m512 f = _mm512_set1_ps(factor);
    for (size_t i = 0; i < count; i += 16) {
        __mmask16 live = count - i < 16 ? (__mmask16)((1u << (count - i)) - 1) : 0xffff;
        __m512i wide = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(live, y + i));
        __m512 sum = _mm512_fmadd_ps(f, _mm512_cvtepi32_ps(wide),
                                     _mm512_maskz_loadu_ps(live, x + i));
        _mm512_mask_storeu_ps(x + i, live, sum);
    }
}

void kernels_use_pq_avx512(struct kernels *k)
{
#define X(name, result, params) k->name = name;
    KERNELS_PQ(X)
#undef X
}
