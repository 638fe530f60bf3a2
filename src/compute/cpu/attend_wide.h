/* Attention of one head, for the vector levels; kernels_wide.h includes this. Queries lie in the
 * lanes, so maximum, exponential and sum of a softmax are plain vector operations and nothing is
 * ever summed across lanes: queries are transposed, keys and values are read where they lie. The
 * scores of a block of keys are [key][query], from where the second product reads them by
 * broadcast. Keys come in blocks, with a running maximum and sum, as in Milakov and Gimelshein,
 * "Online normalizer calculation for softmax" (2018). */

/* panel[d][GEMM_COLS] = scale * q[query][first_dim + d]; lanes behind the last query repeat it. */
ALWAYS_INLINE void transpose_queries(float *panel, const struct head *head, size_t query,
                                     size_t queries, size_t first_dim, size_t dims,
                                     const int vectors)
{
    float scale = 1 / sqrtf((float)head->dim);
    for (int v = 0; v < vectors; v++) {
        const float *rows[LANES];
        for (size_t i = 0; i < LANES; i++)
            rows[i] = head->q + first_dim +
                      (query + smaller((size_t)v * LANES + i, queries - 1)) * head->stride;
        float *to = panel + v * LANES;
        size_t d = 0;
        for (; d + 4 <= dims; d += 4) {
            v16 columns[4];
            v_transpose4(columns, rows, d);
            for (size_t i = 0; i < 4; i++)
                v_store(to + (d + i) * GEMM_COLS, v_mul(columns[i], v_set(scale)));
        }
        for (; d < dims; d++)
            for (size_t i = 0; i < LANES; i++)
                to[d * GEMM_COLS + i] = rows[i][d] * scale;
    }
}

/* A piece of the dimensions of some keys: the first one starts at 0, the others add, and the last
 * one takes the maximum. */
struct piece {
    size_t first, dims;
    bool last;
};

/* scores[key][query] for a number of keys that is constant where this is inlined */
ALWAYS_INLINE void score_keys(float *scores, const float *panel, const float *k, size_t stride,
                              const struct piece *piece, const int keys, const int vectors,
                              float *top)
{
    v16 sums[GEMM_ROWS][GEMM_VECTORS];
#pragma GCC unroll 16
    for (int r = 0; r < keys; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sums[r][v] = piece->first ? v_load(scores + r * GEMM_COLS + v * LANES) : v_set(0);
    for (size_t d = 0; d < piece->dims; d++) {
        v16 b[GEMM_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            b[v] = v_load(panel + d * GEMM_COLS + v * LANES);
#pragma GCC unroll 16
        for (int r = 0; r < keys; r++) {
            v16 a = v_set(k[(size_t)r * stride + d]);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sums[r][v] = v_fma(a, b[v], sums[r][v]);
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        v16 largest = v_load(top + v * LANES);
#pragma GCC unroll 16
        for (int r = 0; r < keys; r++) {
            v_store(scores + r * GEMM_COLS + v * LANES, sums[r][v]);
            largest = v_max(sums[r][v], largest);
        }
        if (piece->last)
            v_store(top + v * LANES, largest);
    }
}

ALWAYS_INLINE void score_block(struct attend_scratch *s, const struct head *head, size_t query,
                               size_t queries, size_t key, size_t keys, const int vectors,
                               float *top)
{
    for (size_t d = 0; d < head->dim; d += ATTEND_DIMS) {
        struct piece piece = { d, smaller(ATTEND_DIMS, head->dim - d),
                               d + ATTEND_DIMS >= head->dim };
        transpose_queries(s->queries, head, query, queries, d, piece.dims, vectors);
        for (size_t r = 0; r < keys; r += GEMM_ROWS) {
            const float *k = head->k + (key + r) * head->stride + d;
            float *scores = s->scores + r * GEMM_COLS;
            switch (smaller(GEMM_ROWS, keys - r)) {
#define CASE(n)                                                                                 \
            case n:                                                                             \
                score_keys(scores, s->queries, k, head->stride, &piece, n, vectors, top);       \
                break;
                GEMM_CASES(CASE)
#undef CASE
            }
        }
    }
}

/* scores become exp(score - top); their sums in *total */
ALWAYS_INLINE void exponentials(float *scores, size_t keys, const int vectors, const float *top,
                                float *total)
{
    v16 sums[GEMM_VECTORS], largest[GEMM_VECTORS];
    for (int v = 0; v < vectors; v++) {
        sums[v] = v_set(0);
        largest[v] = v_load(top + v * LANES);
    }
    for (size_t key = 0; key < keys; key++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            float *at = scores + key * GEMM_COLS + v * LANES;
            v16 e = exp_nonpositive(v_sub(v_load(at), largest[v]), v_set(0));
            v_store(at, e);
            sums[v] = v_add(sums[v], e);
        }
    for (int v = 0; v < vectors; v++)
        v_store(total + v * LANES, sums[v]);
}

/* One block of keys for some queries. */
struct weights {
    const float *scores;        /* [key][GEMM_COLS] */
    const float *before, *after;    /* [query] factors of what `out` holds (NULL: nothing) and of
                                       the result (NULL: 1) */
    const float *v;             /* [key][stride] */
    size_t stride, keys;
};

/* out[query][c] = (out * before + sum of scores * v) * after */
ALWAYS_INLINE void weigh_values(float *out, size_t out_stride, const struct weights *w,
                                size_t query, const int rows, size_t cols)
{
    v16 sums[GEMM_ROWS][GEMM_VECTORS];
    size_t live[GEMM_VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < GEMM_VECTORS; v++) {
        size_t first = (size_t)v * LANES;
        live[v] = cols > first ? smaller(cols - first, LANES) : 0;
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++)
            sums[r][v] = w->before
                             ? v_mul(v_load_first(out + (size_t)r * out_stride + first, live[v]),
                                     v_set(w->before[query + (size_t)r]))
                             : v_set(0);
    }
    for (size_t key = 0; key < w->keys; key++) {
        v16 b[GEMM_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < GEMM_VECTORS; v++)
            b[v] = v_load_first(w->v + key * w->stride + v * LANES, live[v]);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            v16 a = v_set(w->scores[key * GEMM_COLS + query + (size_t)r]);
#pragma GCC unroll 4
            for (int v = 0; v < GEMM_VECTORS; v++)
                sums[r][v] = v_fma(a, b[v], sums[r][v]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        v16 factor = v_set(w->after ? w->after[query + (size_t)r] : 1);
#pragma GCC unroll 4
        for (int v = 0; v < GEMM_VECTORS; v++)
            v_store_first(out + (size_t)r * out_stride + v * LANES, live[v],
                          v_mul(sums[r][v], factor));
    }
}

static void weigh_block(const struct head *head, const struct weights *w, size_t first,
                        size_t queries)
{
    for (size_t c = 0; c < head->dim; c += GEMM_COLS) {
        struct weights part = *w;
        part.v += c;
        size_t cols = smaller(GEMM_COLS, head->dim - c);
        for (size_t r = 0; r < queries; r += GEMM_ROWS) {
            float *out = head->out + (first + r) * head->out_stride + c;
            switch (smaller(GEMM_ROWS, queries - r)) {
#define CASE(n)                                                                                 \
            case n:                                                                             \
                weigh_values(out, head->out_stride, &part, r, n, cols);                         \
                break;
                GEMM_CASES(CASE)
#undef CASE
            }
        }
    }
}

/* Some queries against one block of keys: their part of `out`, and the running softmax. */
static void attend_block(const struct head *head, struct attend_scratch *s, size_t query,
                         size_t queries, size_t key, size_t keys)
{
    float *top = s->top + query, *total = s->total + query;
    float old[GEMM_COLS], factor[GEMM_COLS], inverse[GEMM_COLS], sums[GEMM_COLS];
    for (size_t i = 0; i < GEMM_COLS; i++)
        top[i] = old[i] = key ? top[i] : -INFINITY;
    int vectors = queries <= LANES ? 1 : GEMM_VECTORS;
    if (vectors == 1) {     /* a constant on either side */
        score_block(s, head, query, queries, key, keys, 1, top);
        exponentials(s->scores, keys, 1, top, sums);
    } else {
        score_block(s, head, query, queries, key, keys, GEMM_VECTORS, top);
        exponentials(s->scores, keys, GEMM_VECTORS, top, sums);
    }
    for (size_t i = 0; i < (size_t)vectors * LANES; i += LANES) {
        v16 sum = v_load(sums + i);
        if (key) {
            v16 f = exp_nonpositive(v_sub(v_load(old + i), v_load(top + i)), v_set(0));
            v_store(factor + i, f);
            sum = v_fma(v_load(total + i), f, sum);
        }
        v_store(total + i, sum);
        v_store(inverse + i, v_div(v_set(1), sum));
    }
    bool last = key + keys == head->keys;
    struct weights weights = { .scores = s->scores, .before = key ? factor : NULL,
                               .after = last ? inverse : NULL,
                               .v = head->v + key * head->stride, .stride = head->stride,
                               .keys = keys };
    weigh_block(head, &weights, query, queries);
}

static void attend_f32(const struct head *head, struct attend_scratch *s)
{
    for (size_t key = 0; key < head->keys; key += ATTEND_KEYS)
        for (size_t query = 0; query < head->queries; query += GEMM_COLS)
            attend_block(head, s, query, smaller(GEMM_COLS, head->queries - query), key,
                         smaller(ATTEND_KEYS, head->keys - key));
}

/* Less accuracy buys nothing without products in sixteen bits. */
static void attend_rough(const struct head *head, struct attend_scratch *s)
{
    attend_f32(head, s);
}
