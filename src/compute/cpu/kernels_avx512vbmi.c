/* AVX-512 VBMI (with VNNI): VPERMB looks up 64 six-bit numbers in a table of 64 bytes, which is
 * three fields of a sketch at once. The low six bits of a byte are an index as they stand, the
 * upper two are ignored; those of three planes make a fourth index. Four results stay below 256, so
 * they are added in bytes and widened together.
 *
 * VPERMT2B does the same with seven bits in two registers: a byte in two of them and a choice by
 * its top bit looks up product codes of eight bits. */
#include "compute/cpu/kernels.h"

#include <immintrin.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Entry i of a table is a[i & 3] + b[i >> 2 & 3] + c[i >> 4]. */
static __m512i six_bit_table(const uint8_t *a, const uint8_t *b, const uint8_t *c)
{
    int32_t fours[3];
    __builtin_memcpy(&fours[0], a, 4);
    __builtin_memcpy(&fours[1], b, 4);
    __builtin_memcpy(&fours[2], c, 4);
    const __m128i spread = _mm_set_epi8(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    __m512i second = _mm512_broadcast_i32x4(_mm_shuffle_epi8(_mm_set1_epi32(fours[1]), spread));
    const __m512i lanes = _mm512_broadcast_i32x4(_mm_setzero_si128());
    __m512i index = _mm512_inserti32x4(lanes, _mm_set1_epi8(1), 1);
    index = _mm512_inserti32x4(index, _mm_set1_epi8(2), 2);
    index = _mm512_inserti32x4(index, _mm_set1_epi8(3), 3);
    __m512i third = _mm512_shuffle_epi8(_mm512_set1_epi32(fours[2]), index);
    return _mm512_add_epi8(_mm512_add_epi8(_mm512_set1_epi32(fours[0]), second), third);
}

static void sketch_tables(uint8_t *tables, const uint8_t *fields, size_t planes)
{
    for (size_t p = 0; p < planes; p += 3, fields += 48, tables += 256) {
        for (size_t i = 0; i < 3; i++) {
            const uint8_t *at = fields + 16 * i;
            _mm512_store_si512(tables + 64 * i, six_bit_table(at, at + 4, at + 8));
        }
        _mm512_store_si512(tables + 192, six_bit_table(fields + 12, fields + 28, fields + 44));
    }
}

/* A plane of 64 rows, or of 32 with nothing behind them. */
ALWAYS_INLINE __m512i load_plane(const uint8_t *p, const int rows)
{
    return rows == 64 ? _mm512_loadu_si512(p)
                      : _mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i *)p));
}

/* Blocks that share what is loaded of the tables. */
enum { GROUP = 2 };
/* Blocks ahead, each line of which is fetched while its like is read: the processor alone stops at
 * the end of every page, and sketches are seldom in the caches when a single query comes. */
enum { FETCHED = 4 };

struct sums {
    __m512i all, high;      /* sixteen bits: low + 256 high bytes, modulo 2^16; high bytes */
};

/* Three planes of each of `blocks` blocks, `bytes` apart: the tables are loaded once for all. */
ALWAYS_INLINE void add_planes(struct sums *sums, const uint8_t *planes, size_t bytes,
                              const uint8_t *tables, const int rows, const int blocks)
{
    const __m512i second = _mm512_set1_epi8(0x0c), third = _mm512_set1_epi8(0x30);
    __m512i t0 = _mm512_load_si512(tables), t1 = _mm512_load_si512(tables + 64),
            t2 = _mm512_load_si512(tables + 128), t3 = _mm512_load_si512(tables + 192);
#pragma GCC unroll 4
    for (int b = 0; b < blocks; b++) {
        const uint8_t *at = planes + (size_t)b * bytes;
        __m512i x = load_plane(at, rows), y = load_plane(at + rows, rows),
                z = load_plane(at + 2 * rows, rows);
        for (int i = 0; i < 3; i++)
            _mm_prefetch((const char *)at + FETCHED * bytes + i * rows, _MM_HINT_T0);
        /* bit by bit: mask ? new : old */
        __m512i top = _mm512_ternarylogic_epi32(second, _mm512_srli_epi16(y, 4),
                                                _mm512_srli_epi16(x, 6), 0xca);
        top = _mm512_ternarylogic_epi32(third, _mm512_srli_epi16(z, 2), top, 0xca);
        __m512i found = _mm512_add_epi8(_mm512_permutexvar_epi8(x, t0),
                                        _mm512_permutexvar_epi8(y, t1));
        __m512i other = _mm512_add_epi8(_mm512_permutexvar_epi8(z, t2),
                                        _mm512_permutexvar_epi8(top, t3));
        found = _mm512_add_epi8(found, other);
        sums[b].all = _mm512_add_epi16(sums[b].all, found);
        sums[b].high = _mm512_add_epi16(sums[b].high, _mm512_srli_epi16(found, 8));
    }
}

/* Scores of sixteen rows from their sums of look-ups; `row` is the first one's number. */
ALWAYS_INLINE void finish(float *scores, __m256i sums, const uint8_t *heads, size_t row,
                          const int rows, size_t bytes, const struct sketch_form *form,
                          const struct sketch_terms *terms)
{
    __m512i head = _mm512_setzero_si512();
    const int8_t *weights = terms->head;
    const uint8_t *at = heads + 4 * row;
    for (size_t h = 0; h < form->heads; h++, at += 4 * rows, weights += 4) {
        int32_t four;
        __builtin_memcpy(&four, weights, 4);
        head = _mm512_dpbusd_epi32(head, _mm512_loadu_si512(at), _mm512_set1_epi32(four));
        _mm_prefetch((const char *)at + FETCHED * bytes, _MM_HINT_T0);
    }
    const float *factor = (const float *)(heads + 4 * (size_t)rows * form->heads) + row;
    __m512 inner = _mm512_fmadd_ps(_mm512_set1_ps(terms->head_step), _mm512_cvtepi32_ps(head),
                                   _mm512_set1_ps(terms->offset));
    inner = _mm512_fmadd_ps(_mm512_set1_ps(terms->step),
                            _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(sums)), inner);
    __m512 shift = _mm512_set1_ps(terms->shift), scale = _mm512_loadu_ps(factor);
    __m512 score = _mm512_fmadd_ps(
        inner, scale, form->biased ? _mm512_loadu_ps(factor + rows) : shift);
    _mm512_storeu_ps(scores + row, form->biased ? _mm512_add_ps(score, shift) : score);
}

/* One group of blocks that share the tables. */
ALWAYS_INLINE void score_group(float *scores, const uint8_t *blocks, size_t bytes,
                               const struct sketch_form *form, const struct sketch_terms *terms,
                               const int rows, const int count)
{
    struct sums sums[GROUP];
#pragma GCC unroll 4
    for (int b = 0; b < count; b++)
        sums[b].all = sums[b].high = _mm512_setzero_si512();
    for (size_t p = 0; p < form->planes; p += 3)
        add_planes(sums, blocks + p * (size_t)rows, bytes, terms->tables + p / 3 * 256, rows,
                   count);
#pragma GCC unroll 4
    for (int b = 0; b < count; b++, blocks += bytes, scores += rows) {
        __m512i high = sums[b].high;
        __m512i even = _mm512_sub_epi16(sums[b].all, _mm512_slli_epi16(high, 8));
        const uint8_t *heads = blocks + form->planes * (size_t)rows;
        const size_t half = (size_t)rows / 2;
        finish(scores, _mm512_castsi512_si256(even), heads, 0, rows, bytes, form, terms);
        finish(scores, _mm512_castsi512_si256(high), heads, half, rows, bytes, form, terms);
        if (rows == 64) {
            finish(scores, _mm512_extracti64x4_epi64(even, 1), heads, 16, rows, bytes, form, terms);
            finish(scores, _mm512_extracti64x4_epi64(high, 1), heads, 48, rows, bytes, form, terms);
        }
    }
}

ALWAYS_INLINE void score_blocks(float *scores, const uint8_t *blocks, size_t count,
                                const struct sketch_form *form, const struct sketch_terms *terms,
                                const int rows)
{
    size_t bytes = sketch_form_bytes(form), b = 0;
    for (; b + GROUP <= count; b += GROUP)
        score_group(scores + b * (size_t)rows, blocks + b * bytes, bytes, form, terms, rows, GROUP);
    for (; b < count; b++)
        score_group(scores + b * (size_t)rows, blocks + b * bytes, bytes, form, terms, rows, 1);
}

static void sketch_scores(float *scores, const uint8_t *blocks, size_t count,
                          const struct sketch_form *form, const struct sketch_terms *terms)
{
    if (form->rows == 64)
        score_blocks(scores, blocks, count, form, terms, 64);
    else
        score_blocks(scores, blocks, count, form, terms, 32);
}

/* ---- product codes of eight bits --------------------------------------------------------- */

/* Two blocks of 32 rows side by side; sums of even bytes hold 256 times the odd ones as well. */
struct pair {
    __m512i both, odd;
};

ALWAYS_INLINE void add_pair(struct pair *pair, const uint8_t *codes, size_t step,
                            const __m512i *table)
{
    __m256i first = _mm256_loadu_si256((const void *)codes);
    __m256i second = _mm256_loadu_si256((const void *)(codes + step));
    __m512i x = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
    __m512i low = _mm512_permutex2var_epi8(table[0], x, table[1]);
    __m512i high = _mm512_permutex2var_epi8(table[2], x, table[3]);
    __m512i found = _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high);
    pair->both = _mm512_add_epi16(pair->both, found);
    pair->odd = _mm512_add_epi16(pair->odd, _mm512_srli_epi16(found, 8));
}

ALWAYS_INLINE void store_pair(uint16_t *sums, const struct pair *pair, size_t blocks)
{
    __m512i even = _mm512_sub_epi16(pair->both, _mm512_slli_epi16(pair->odd, 8));
    __m512i left = _mm512_shuffle_i64x2(even, pair->odd, 0x44);
    _mm512_storeu_si512(sums, left);
    if (blocks > 1)
        _mm512_storeu_si512(sums + PQ4_BLOCK_ROWS, _mm512_shuffle_i64x2(even, pair->odd, 0xee));
}

/* `pairs` pairs of blocks by each table; the last may be one block, which is then read twice. */
ALWAYS_INLINE void pq8_pairs(uint16_t *sums, const uint8_t *codes, const uint8_t *tables,
                             size_t parts, size_t blocks, const uint8_t *ahead,
                             const size_t pairs)
{
    size_t step = parts * PQ4_BLOCK_ROWS, second = blocks > 1 ? step : 0;
    struct pair sum[4];
    for (size_t i = 0; i < pairs; i++)
        sum[i].both = sum[i].odd = _mm512_setzero_si512();
    for (size_t p = 0; p < parts; p++, codes += PQ4_BLOCK_ROWS, tables += PQ8_CODES) {
        __m512i table[4];
        for (size_t i = 0; i < 4; i++)
            table[i] = _mm512_loadu_si512(tables + 64 * i);
        for (size_t i = 0; i < pairs; i++)
            add_pair(&sum[i], codes + 2 * i * step, second, table);
        for (size_t i = 0; i < pairs; i++, ahead += 2 * PQ4_BLOCK_ROWS)
            _mm_prefetch((const char *)ahead, _MM_HINT_T0);
    }
    for (size_t i = 0; i < pairs; i++)
        store_pair(sums + 2 * i * PQ4_BLOCK_ROWS, &sum[i], blocks);
}

static void pq8_scan(uint16_t *sums, const uint8_t *codes, const uint8_t *tables, size_t parts,
                     size_t blocks, const uint8_t *ahead)
{
    size_t bytes = parts * PQ4_BLOCK_ROWS;
    for (; blocks >= 8; blocks -= 8, codes += 8 * bytes, sums += 8 * PQ4_BLOCK_ROWS) {
        pq8_pairs(sums, codes, tables, parts, 8, ahead, 4);
        ahead += 8 * bytes;
    }
    for (; blocks; codes += 2 * bytes, sums += 2 * PQ4_BLOCK_ROWS) {
        size_t now = blocks < 2 ? 1 : 2;
        pq8_pairs(sums, codes, tables, parts, now, ahead, 1);
        ahead += 2 * bytes;
        blocks -= now;
    }
}

void kernels_use_avx512vbmi(struct kernels *k)
{
    k->pq8_scan = pq8_scan;
    k->sketch_tables = sketch_tables;
    k->sketch_scores = sketch_scores;
}
