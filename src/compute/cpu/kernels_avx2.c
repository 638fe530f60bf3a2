/* AVX2, FMA and F16C: a vector of sixteen floats is two registers. */
#include "compute/cpu/kernels.h"

#include "compute/cpu/vector_avx2.h"

/* The processor's own conversion: some 15 times the speed of the plain loop. */
static void narrow_f16(uint16_t *out, const float *x, size_t count)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8)
        _mm_storeu_si128((__m128i *)(out + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < count; i++) {
        __m128i one = _mm_cvtps_ph(_mm_set_ss(x[i]), _MM_FROUND_TO_NEAREST_INT);
        out[i] = (uint16_t)_mm_extract_epi16(one, 0);
    }
}

/* 6 x 2 accumulators, two registers of the panel, one broadcast: 15 of 16. */
enum { GEMM_ROWS = 6, GEMM_VECTORS = 1, SCORE_QUERIES = 2, SCORE_ROWS = 2 };
#define GEMM_CASES(C) C(1) C(2) C(3) C(4) C(5) C(6)

#include "compute/cpu/kernels_wide.h"

/* ---- bytes ------------------------------------------------------------------------------ */

/* VPMADDUBSW would saturate for bytes of this size, so bytes become words first: slower than it, as
 * fast as float32, and the same integers as every other level. 2 x 4 accumulators, each with two
 * partial sums of four columns. */
enum { BYTE_ROWS = 2, BYTE_COLS = 16 };

static inline int32_t load_four(const uint8_t *p)
{
    int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return four;
}

static inline __m256 dequantize(__m256i sums, __m256 zero_point, const float *sum, __m256 scale,
                                __m256 start)
{
    __m256 centred =
        _mm256_fnmadd_ps(zero_point, _mm256_loadu_ps(sum), _mm256_cvtepi32_ps(sums));
    return _mm256_fmadd_ps(centred, scale, start);
}

ALWAYS_INLINE void byte_tile(float *out, size_t out_stride, const struct u8_rows *x, size_t row,
                             const struct s8_panel *panel, size_t depth, const int rows,
                             size_t cols, bool accumulate)
{
    __m256i sums[BYTE_ROWS][4];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < 4; v++)
            sums[r][v] = _mm256_setzero_si256();
    const uint8_t *from = x->values + row * x->stride;
    for (size_t k = 0; k < depth; k += 4) {
        __m256i a[BYTE_ROWS];
        for (int r = 0; r < rows; r++)
            a[r] = _mm256_cvtepu8_epi16(
                _mm_set1_epi32(load_four(from + (size_t)r * x->stride + k)));
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            const void *at = panel->values + k * BYTE_COLS + v * 16;
            __m256i b = _mm256_cvtepi8_epi16(_mm_loadu_si128(at));
#pragma GCC unroll 2
            for (int r = 0; r < rows; r++)
                sums[r][v] = _mm256_add_epi32(sums[r][v], _mm256_madd_epi16(a[r], b));
        }
    }
    for (int r = 0; r < rows; r++) {
        __m256i low = _mm256_permute4x64_epi64(_mm256_hadd_epi32(sums[r][0], sums[r][1]), 0xd8);
        __m256i high = _mm256_permute4x64_epi64(_mm256_hadd_epi32(sums[r][2], sums[r][3]), 0xd8);
        __m256 zero_point = _mm256_set1_ps(x->zero_point[row + (size_t)r]);
        v16 scale = v_mul(v_set(x->scale[row + (size_t)r]), v_load(panel->scale));
        float *to = out + (row + (size_t)r) * out_stride;
        v16 start = accumulate ? v_load_first(to, cols) : v_load(panel->bias);
        v16 result = { dequantize(low, zero_point, panel->sum, scale.low, start.low),
                       dequantize(high, zero_point, panel->sum + 8, scale.high, start.high) };
        v_store_first(to, cols, result);
    }
}

static void gemm_u8s8(float *out, size_t out_stride, const struct u8_rows *x,
                      const struct s8_panel *panel, size_t depth, size_t rows, size_t cols,
                      bool accumulate)
{
    size_t r = 0;
    for (; r + BYTE_ROWS <= rows; r += BYTE_ROWS)
        byte_tile(out, out_stride, x, r, panel, depth, BYTE_ROWS, cols,
                  accumulate);
    if (r < rows)
        byte_tile(out, out_stride, x, r, panel, depth, 1, cols, accumulate);
}

/* ---- graph ------------------------------------------------------------------------------ */

/* Sixteen sums of sixteen bits to the distances of as many edges. */
static inline unsigned edge_lines(float *out, __m128i sums, const int16_t *offset,
                                  const int16_t *slope, const struct edge_codes *edges,
                                  const struct edge_query *query, float bound)
{
    __m256 u = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(sums));
    __m256i o = _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)offset));
    __m256i s = _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)slope));
    __m256 start = _mm256_fmadd_ps(_mm256_set1_ps(edges->offset_scale), _mm256_cvtepi32_ps(o),
                                   _mm256_set1_ps(query->start));
    __m256 factor = _mm256_mul_ps(_mm256_set1_ps(edges->slope_scale), _mm256_cvtepi32_ps(s));
    __m256 x = _mm256_fmadd_ps(_mm256_set1_ps(query->step), u, _mm256_set1_ps(query->low));
    x = _mm256_fmadd_ps(factor, x, start);
    _mm256_storeu_ps(out, x);
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(x, _mm256_set1_ps(bound), _CMP_LT_OQ));
}

/* Bytes are added four at a time (4 x 63 < 256), then as sixteen bits: the even ones with what the
 * odd ones carry above them, the odd ones alone, and at the end the difference. */
static uint32_t edge_scores(float *out, const struct edge_codes *edges,
                            const struct edge_query *query, size_t dim, float bound)
{
    __m256i half = _mm256_set1_epi8(15), sums[2][2];
    memset(sums, 0, sizeof sums);
    for (size_t at = 0; at < dim * 4; at += 128) {
        __m256i bytes[2] = { _mm256_setzero_si256(), _mm256_setzero_si256() };
        for (size_t i = 0; i < 128; i += 32) {
            __m256i codes = _mm256_loadu_si256((const __m256i *)(edges->codes + at + i));
            __m256i table = _mm256_loadu_si256((const __m256i *)(query->table + at + i));
            __m256i high = _mm256_and_si256(_mm256_srli_epi16(codes, 4), half);
            codes = _mm256_and_si256(codes, half);
            bytes[0] = _mm256_add_epi8(bytes[0], _mm256_shuffle_epi8(table, codes));
            bytes[1] = _mm256_add_epi8(bytes[1], _mm256_shuffle_epi8(table, high));
        }
        for (int h = 0; h < 2; h++) {
            sums[h][0] = _mm256_add_epi16(sums[h][0], bytes[h]);
            sums[h][1] = _mm256_add_epi16(sums[h][1], _mm256_srli_epi16(bytes[h], 8));
        }
    }
    uint32_t below = 0;
    for (int h = 0; h < 2; h++) {
        __m256i even = _mm256_sub_epi16(sums[h][0], _mm256_slli_epi16(sums[h][1], 8));
        __m128i e = _mm_add_epi16(_mm256_castsi256_si128(even), _mm256_extracti128_si256(even, 1));
        __m128i o = _mm_add_epi16(_mm256_castsi256_si128(sums[h][1]),
                                  _mm256_extracti128_si256(sums[h][1], 1));
        __m128i both[2] = { _mm_unpacklo_epi16(e, o), _mm_unpackhi_epi16(e, o) };
        for (int i = 0; i < 2; i++) {
            size_t first = (size_t)(16 * h + 8 * i);
            below |= edge_lines(out + first, both[i], edges->offset + first, edges->slope + first,
                                edges, query, bound) << first;
        }
    }
    return below;
}

/* ---- sketches --------------------------------------------------------------------------- */

/* For each plane a table of its low and one of its high half bytes. */
static void sketch_tables(uint8_t *tables, const uint8_t *fields, size_t planes)
{
    const __m128i spread = _mm_set_epi8(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    for (size_t i = 0; i < 2 * planes; i++) {
        __m128i pair = _mm_loadl_epi64((const __m128i *)(fields + 8 * i));
        __m128i first = _mm_broadcastd_epi32(pair);
        __m128i second = _mm_shuffle_epi8(_mm_srli_epi64(pair, 32), spread);
        _mm_store_si128((__m128i *)(tables + 16 * i), _mm_add_epi8(first, second));
    }
}

static inline __m256i look_up(const uint8_t *plane, const uint8_t *tables)
{
    const __m256i low = _mm256_set1_epi8(0x0f);
    __m256i x = _mm256_loadu_si256((const __m256i *)plane);
    __m256i a = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)tables));
    __m256i b = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(tables + 16)));
    a = _mm256_shuffle_epi8(a, _mm256_and_si256(x, low));
    b = _mm256_shuffle_epi8(b, _mm256_and_si256(_mm256_srli_epi16(x, 4), low));
    return _mm256_add_epi8(a, b);
}

/* Scores of the eight rows from `row` on, from their sums of look-ups. */
static inline void sketch_finish(float *scores, __m128i sums, const uint8_t *heads, size_t row,
                                 const struct sketch_form *form, const struct sketch_terms *terms)
{
    __m256i head = _mm256_setzero_si256();
    for (size_t h = 0; h < form->heads; h++) {
        int32_t four;
        __builtin_memcpy(&four, terms->head + 4 * h, sizeof four);
        __m256i x = _mm256_loadu_si256((const __m256i *)(heads + (h * form->rows + row) * 4));
        __m256i pairs = _mm256_maddubs_epi16(x, _mm256_set1_epi32(four));
        head = _mm256_add_epi32(head, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    const float *factor = (const float *)(heads + 4 * form->rows * form->heads) + row;
    __m256 inner = _mm256_fmadd_ps(_mm256_set1_ps(terms->head_step), _mm256_cvtepi32_ps(head),
                                   _mm256_set1_ps(terms->offset));
    inner = _mm256_fmadd_ps(_mm256_set1_ps(terms->step),
                            _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(sums)), inner);
    __m256 shift = _mm256_set1_ps(terms->shift), scale = _mm256_loadu_ps(factor);
    __m256 score = _mm256_fmadd_ps(
        inner, scale, form->biased ? _mm256_loadu_ps(factor + form->rows) : shift);
    _mm256_storeu_ps(scores + row, form->biased ? _mm256_add_ps(score, shift) : score);
}

static void sketch_finish_16(float *scores, __m256i sums, const uint8_t *heads, size_t row,
                             const struct sketch_form *form, const struct sketch_terms *terms)
{
    sketch_finish(scores, _mm256_castsi256_si128(sums), heads, row, form, terms);
    sketch_finish(scores, _mm256_extracti128_si256(sums, 1), heads, row + 8, form, terms);
}

/* Six look-ups into three planes add up to at most 252, so they are widened together. */
static void sketch_scores(float *scores, const uint8_t *blocks, size_t count,
                          const struct sketch_form *form, const struct sketch_terms *terms)
{
    size_t rows = form->rows, bytes = sketch_form_bytes(form);
    for (size_t b = 0; b < count; b++, blocks += bytes, scores += rows) {
        const uint8_t *heads = blocks + form->planes * rows;
        for (size_t part = 0; part < rows; part += 32) {
            __m256i all = _mm256_setzero_si256(), high = all;
            for (size_t p = 0; p < form->planes; p += 3) {
                const uint8_t *at = blocks + p * rows + part, *tables = terms->tables + 32 * p;
                __m256i found =
                    _mm256_add_epi8(look_up(at, tables), look_up(at + rows, tables + 32));
                found = _mm256_add_epi8(found, look_up(at + 2 * rows, tables + 64));
                all = _mm256_add_epi16(all, found);
                high = _mm256_add_epi16(high, _mm256_srli_epi16(found, 8));
            }
            __m256i even = _mm256_sub_epi16(all, _mm256_slli_epi16(high, 8));
            sketch_finish_16(scores, even, heads, part / 2, form, terms);
            sketch_finish_16(scores, high, heads, (rows + part) / 2, form, terms);
        }
    }
}

/* ---- screening -------------------------------------------------------------------------- */

/* Thirty-two products added up in eight lanes. VPMADDUBSW would saturate. */
static inline __m256i add_products(__m256i sum, const uint8_t *row, const int8_t *query)
{
    __m256i x = _mm256_loadu_si256((const __m256i *)row);
    __m256i y = _mm256_loadu_si256((const __m256i *)query);
    __m256i low = _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm256_castsi256_si128(x)),
                                    _mm256_cvtepi8_epi16(_mm256_castsi256_si128(y)));
    __m256i high = _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm256_extracti128_si256(x, 1)),
                                     _mm256_cvtepi8_epi16(_mm256_extracti128_si256(y, 1)));
    return _mm256_add_epi32(sum, _mm256_add_epi32(low, high));
}

static inline int32_t sum_lanes(__m256i a)
{
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    four = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 1)));
}

static void dot_u8s8(int32_t *sums, const uint8_t *rows, size_t stride, const uint32_t *ids,
                     size_t count, const int8_t *query, size_t dim)
{
    for (size_t i = 0; i < count; i++) {
        const uint8_t *row = rows + (ids ? ids[i] : i) * stride;
        const uint8_t *next = rows + (ids ? ids[i + 4 < count ? i + 4 : i] : i) * stride;
        __m256i sum = _mm256_setzero_si256();
        size_t k = 0;
        for (; k + 32 <= dim; k += 32) {
            if (ids)
                __builtin_prefetch(next + k);
            sum = add_products(sum, row + k, query + k);
        }
        int32_t rest = 0;
        for (; k < dim; k++)
            rest += row[k] * query[k];
        sums[i] = sum_lanes(sum) + rest;
    }
}

static inline size_t append(uint32_t *at, float *values, size_t found, unsigned mask, size_t first,
                            const float *from)
{
    for (; mask; mask &= mask - 1) {
        unsigned i = (unsigned)__builtin_ctz(mask);
        if (values)
            values[found] = from[i];
        at[found++] = (uint32_t)(first + i);
    }
    return found;
}

static size_t pick_f32(uint32_t *at, const float *values, float threshold, size_t count)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i += 8) {
        unsigned live = count - i >= 8 ? 0xff : (1u << (count - i)) - 1;
        __m256 v = _mm256_maskload_ps(values + i, mask_low(count - i >= 8 ? 8 : count - i));
        __m256 keep = _mm256_cmp_ps(v, _mm256_set1_ps(threshold), _CMP_NLT_UQ);
        found = append(at, NULL, found, (unsigned)_mm256_movemask_ps(keep) & live, i, NULL);
    }
    return found;
}

static inline __m256 load_8(const float *p, size_t i, __m256i live)
{
    return p ? _mm256_maskload_ps(p + i, live) : _mm256_setzero_ps();
}

static size_t pick_dots(uint32_t *at, float *values, const int32_t *sums,
                        const struct row_terms *terms, const struct dot_query *query,
                        float threshold, size_t count)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i += 8) {
        size_t n = count - i >= 8 ? 8 : count - i;
        __m256i live = mask_low(n), sum = _mm256_maskload_epi32(sums + i, live);
        __m256 s = _mm256_cvtepi32_ps(_mm256_sub_epi32(sum, _mm256_set1_epi32(query->offset)));
        __m256 scale = _mm256_mul_ps(load_8(terms->scale, i, live), _mm256_set1_ps(query->step));
        __m256 v = _mm256_fmadd_ps(scale, s, load_8(terms->bias, i, live));
        __m256 most = _mm256_fmadd_ps(load_8(terms->radius, i, live),
                                      _mm256_set1_ps(query->slack_radius), v);
        most = _mm256_fmadd_ps(load_8(terms->norm, i, live), _mm256_set1_ps(query->slack_norm),
                               most);
        __m256 keep = _mm256_cmp_ps(most, _mm256_set1_ps(threshold), _CMP_NLT_UQ);
        float flat[8];
        _mm256_storeu_ps(flat, v);
        unsigned mask = (unsigned)_mm256_movemask_ps(keep) & (0xffu >> (8 - n));
        found = append(at, values, found, mask, i, flat);
    }
    return found;
}

static void pick_tile(uint64_t *masks, const float *values, size_t stride, size_t rows, size_t cols,
                      const struct row_terms *terms, const float *slack_radius,
                      const float *slack_norm, const float *threshold)
{
    for (size_t r = 0; r < rows; r++) {
        __m256 bias = _mm256_set1_ps(terms->bias ? terms->bias[r] : 0);
        __m256 radius = _mm256_set1_ps(terms->radius[r]), norm = _mm256_set1_ps(terms->norm[r]);
        masks[r] = 0;
        for (size_t c = 0; c < cols; c += 8) {
            size_t n = cols - c >= 8 ? 8 : cols - c;
            __m256i live = mask_low(n);
            __m256 v = _mm256_add_ps(load_8(values + r * stride, c, live), bias);
            v = _mm256_fmadd_ps(radius, load_8(slack_radius, c, live), v);
            v = _mm256_fmadd_ps(norm, load_8(slack_norm, c, live), v);
            __m256 keep = _mm256_cmp_ps(v, load_8(threshold, c, live), _CMP_NLT_UQ);
            uint64_t mask = (unsigned)_mm256_movemask_ps(keep) & (0xffu >> (8 - n));
            masks[r] |= mask << c;
        }
    }
}

static void dot_tile_u8s8(int32_t *out, size_t out_stride, const int8_t *queries,
                          size_t query_stride, size_t query_count, const uint8_t *rows,
                          size_t row_stride, const uint32_t *ids, size_t row_count, size_t dim)
{
    for (size_t q = 0; q < query_count; q++)
        dot_u8s8(out + q * out_stride, rows, row_stride, ids, row_count,
                 queries + q * query_stride, dim);
}

static void use_screening(struct kernels *k)
{
    k->sketch_tables = sketch_tables;
    k->sketch_scores = sketch_scores;
    k->narrow_f16 = narrow_f16;
    k->dot_u8s8 = dot_u8s8;
    k->pick_f32 = pick_f32;
    k->pick_dots = pick_dots;
    k->pick_tile = pick_tile;
}

void kernels_use_avx2(struct kernels *k)
{
    use_wide(k);
    use_screening(k);
    k->gemm_u8s8 = gemm_u8s8;
    k->dot_tile_u8s8 = dot_tile_u8s8;
    k->edge_scores = edge_scores;
    k->u8s8 = (struct gemm_blocks){ .mr = 8, .nr = BYTE_COLS, .rows = 96, .granule = 4 };
    k->gemm = (struct gemm_blocks){
        .mr = GEMM_ROWS, .nr = GEMM_COLS, .rows = 96, .depth = 384, .granule = 1 };
}
