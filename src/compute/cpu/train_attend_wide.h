/* Attention of one head, forwards and backwards, for the vector levels; train_rows_wide.h includes
 * this. As in Dao 2023 (FlashAttention-2) the way back makes the weights again, a block of queries
 * against a panel of keys at a time. Forwards a block of queries has the scores of all its keys at
 * once, instead of a running maximum: they fit in the second-level cache, and the weights are
 * exact. Keys lie in the lanes, so that the bits of dropout are masks as they come.
 *
 * Everything is packed first: rows dense, dimensions padded to whole vectors and keys to whole
 * panels with zeros, so that the products have no ends. The including file defines TILE_ROWS, which
 * divides the queries of a block, and TILE_VECTORS, the size of a tile of a product. */

enum {
    QUERIES = ATTEND_TRAIN_QUERIES,
    KEYS = ATTEND_TRAIN_KEYS,
    PANEL = QUERIES * KEYS,     /* scores of a block of queries: [query][key] */
};

static inline size_t up(size_t count, size_t granule)
{
    return (count + granule - 1) / granule * granule;
}

/* ---- products --------------------------------------------------------------------------- */

/* A product of which the left side is read number by number: left(r, k) = left[r * row + k * next].
 * The right side and the result are rows of vectors. With `pairs` each number of either side is two
 * of bfloat16, neighbours along k, and V_DOT of the including file adds both products. */
#ifndef V_DOT
#define V_DOT v_fma     /* such a file has no pairs */
#endif

struct side {
    const float *at;
    size_t row, next;
};

ALWAYS_INLINE void product_tile(float *out, size_t out_stride, struct side left,
                                const float *right, size_t right_stride, size_t depth, bool add,
                                const int vectors, const bool pairs)
{
    v16 sums[TILE_ROWS][TILE_VECTORS];
#pragma GCC unroll 8
    for (size_t r = 0; r < TILE_ROWS; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sums[r][v] = add ? v_load(out + r * out_stride + v * LANES) : v_set(0);
    for (size_t k = 0; k < depth; k++) {
        v16 b[TILE_VECTORS];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            b[v] = v_load(right + k * right_stride + v * LANES);
#pragma GCC unroll 8
        for (size_t r = 0; r < TILE_ROWS; r++) {
            v16 a = v_set(left.at[r * left.row + k * left.next]);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sums[r][v] = pairs ? V_DOT(a, b[v], sums[r][v]) : v_fma(a, b[v], sums[r][v]);
        }
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < TILE_ROWS; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            v_store(out + r * out_stride + v * LANES, sums[r][v]);
}

/* `rows` is a multiple of TILE_ROWS, `cols` of LANES; strides are constants where it is inlined. */
ALWAYS_INLINE void product(float *out, size_t out_stride, struct side left, const float *right,
                           size_t right_stride, size_t rows, size_t cols, size_t depth, bool add,
                           const bool pairs)
{
    size_t c = 0;
    for (; c + TILE_VECTORS * LANES <= cols; c += TILE_VECTORS * LANES)
        for (size_t r = 0; r < rows; r += TILE_ROWS) {
            struct side part = { left.at + r * left.row, left.row, left.next };
            product_tile(out + r * out_stride + c, out_stride, part, right + c, right_stride, depth,
                         add, TILE_VECTORS, pairs);
        }
    for (; c < cols; c += LANES)
        for (size_t r = 0; r < rows; r += TILE_ROWS) {
            struct side part = { left.at + r * left.row, left.row, left.next };
            product_tile(out + r * out_stride + c, out_stride, part, right + c, right_stride, depth,
                         add, 1, pairs);
        }
}

/* How much of a panel is worked on: `keys` of it, a multiple of HALF_PANEL, for queries in a
 * multiple of TILE_ROWS. */
struct extent {
    size_t rows, keys;
};

enum { HALF_PANEL = KEYS / 2 };

/* panel[query][key] = sum over d of x[query][d] * columns[d][key] */
static void score_panel(float *panel, const float *x, const float *columns, struct extent e,
                        size_t dims)
{
    if (dims == 32)     /* constants, for the usual size of a head */
        product(panel, KEYS, (struct side){ x, 32, 1 }, columns, KEYS, e.rows, e.keys, 32, false,
                false);
    else
        product(panel, KEYS, (struct side){ x, dims, 1 }, columns, KEYS, e.rows, e.keys, dims,
                false, false);
}

/* out[query][d] (+)= sum over key of panel[query][key] * x[key][d] */
static void weigh_panel(float *out, const float *panel, const float *x, struct extent e,
                        size_t dims, bool add)
{
    struct side left = { panel, KEYS, 1 };
    if (dims == 32)
        product(out, 32, left, x, 32, e.rows, 32, e.keys, add, false);
    else
        product(out, dims, left, x, dims, e.rows, dims, e.keys, add, false);
}

/* out[key][d] += sum over query of panel[query][key] * x[query][d] */
static void collect_panel(float *out, const float *panel, const float *x, struct extent e,
                          size_t dims)
{
    struct side left = { panel, 1, KEYS };
    if (dims == 32)
        product(out, 32, left, x, 32, e.keys, 32, e.rows, true, false);
    else
        product(out, dims, left, x, dims, e.keys, dims, e.rows, true, false);
}

/* ---- packing ---------------------------------------------------------------------------- */

ALWAYS_INLINE v16 load_numbers(const void *x, size_t i, size_t live, bool half)
{
    return half ? v_widen_bf16((const uint16_t *)x + i, live)
                : v_load_first((const float *)x + i, live);
}

/* to [padded][dims] = x [rows][stride], zeros elsewhere */
static void pack_rows(float *to, size_t padded, size_t dims, const void *x, size_t stride,
                      size_t rows, size_t dim, bool half)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t d = 0; d < dims; d += LANES) {
            size_t live = dim > d ? smaller(dim - d, LANES) : 0;
            v_store(to + r * dims + d, load_numbers(x, r * stride + d, live, half));
        }
    memset(to + rows * dims, 0, (padded - rows) * dims * sizeof *to);
}

/* to [panel][dims][KEYS] = x [keys][dims] */
static void pack_columns(float *to, const float *x, size_t keys, size_t dims)
{
    for (size_t key = 0; key < keys; key += LANES) {
        const float *rows[LANES];
        for (size_t i = 0; i < LANES; i++)
            rows[i] = x + (key + i) * dims;
        float *panel = to + key / KEYS * KEYS * dims + key % KEYS;
        for (size_t d = 0; d < dims; d += 4) {
            v16 columns[4];
            v_transpose4(columns, rows, d);
            for (size_t i = 0; i < 4; i++)
                v_store(panel + (d + i) * KEYS, columns[i]);
        }
    }
}

static void unpack_rows(float *to, size_t stride, const float *x, size_t dims, size_t rows,
                        size_t dim, float factor)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t d = 0; d < dim; d += LANES)
            v_store_first(to + r * stride + d, smaller(dim - d, LANES),
                          v_mul(v_load(x + r * dims + d), v_set(factor)));
}

/* Where the parts of the scratch begin. `padded_keys` are whole panels. */
struct packed {
    size_t dims, padded_queries, padded_keys, keep_stride;
    float *q, *k, *v, *key_columns, *value_columns, *panels, *block;
    float *out_gradient, *k_gradient, *v_gradient;
    uint8_t *keep;              /* [QUERIES][keep_stride] */
};

static struct packed packed_of(const struct attend_head *h)
{
    struct packed p = { .dims = up(h->dim, LANES), .padded_queries = up(h->queries, QUERIES),
                        .padded_keys = up(h->keys, KEYS) };
    size_t query_numbers = p.padded_queries * p.dims, key_numbers = p.padded_keys * p.dims;
    p.keep_stride = dropout_blocks(h->keys);    /* so that rows of bits follow each other */
    p.q = h->scratch;
    p.k = p.q + query_numbers;
    p.v = p.k + key_numbers;
    p.key_columns = p.v + key_numbers;
    p.panels = p.key_columns + key_numbers;
    p.block = p.panels + QUERIES * p.padded_keys + 2 * PANEL;
    p.value_columns = p.block + QUERIES * p.dims;
    p.k_gradient = p.value_columns + key_numbers;
    p.v_gradient = p.k_gradient + key_numbers;
    p.out_gradient = p.v_gradient + key_numbers;
    p.keep = (uint8_t *)(p.out_gradient + query_numbers);
    return p;
}

static void pack(const struct packed *p, const struct attend_head *h)
{
    pack_rows(p->q, p->padded_queries, p->dims, h->q, h->q_stride, h->queries, h->dim, h->half);
    pack_rows(p->k, p->padded_keys, p->dims, h->k, h->kv_stride, h->keys, h->dim, h->half);
    pack_rows(p->v, p->padded_keys, p->dims, h->v, h->kv_stride, h->keys, h->dim, h->half);
    pack_columns(p->key_columns, p->k, p->padded_keys, p->dims);
}

/* Keys that query i sees. */
static inline size_t seen(const struct attend_head *h, size_t i)
{
    return h->causal ? smaller(h->keys, i + 1) : h->keys;
}

/* What some queries, the last of them before `end`, need of panel n. */
static inline struct extent extent_of(const struct attend_head *h, size_t rows, size_t end,
                                      size_t n)
{
    return (struct extent){ up(rows, TILE_ROWS),
                            smaller(KEYS, up(seen(h, end - 1) - n * KEYS, HALF_PANEL)) };
}

static inline float score_scale(const struct attend_head *h)
{
    return 1 / sqrtf((float)h->dim);
}

static inline float kept_scale(const struct attend_head *h)
{
    return h->dropout->threshold ? h->dropout->scale : 1;
}

/* The bits of a block of queries. */
static void block_bits(const struct packed *p, const struct attend_head *h, size_t query,
                       size_t rows)
{
    if (h->dropout->threshold == 0) {
        memset(p->keep, 0xff, rows * p->keep_stride);
        return;
    }
    uint64_t block = h->block + query * p->keep_stride;
    if (h->causal)
        for (size_t r = 0; r < rows; r++)
            dropout_bits(p->keep + r * p->keep_stride, h->dropout, block + r * p->keep_stride,
                         dropout_blocks(seen(h, query + r)));
    else
        dropout_bits(p->keep, h->dropout, block, rows * p->keep_stride);
}

/* ---- forwards --------------------------------------------------------------------------- */

/* One query's products with keys become e^(scale * product - top), dropped where the bits say so,
 * and 0 from `keys` to the end of the last panel; returns their sum, of those dropped too. */
static float weights_of(float *scores, size_t keys, const uint8_t *keep, float scale, float *top)
{
    v16 largest = v_set(-INFINITY), total = v_set(0), zero = v_set(0);
    size_t end = up(keys, KEYS);
    for (size_t key = 0; key < keys; key += LANES) {
        v16 x = v_load(scores + key / KEYS * PANEL + key % KEYS);
        largest = v_max(key + LANES > keys ? v_first_or(x, keys - key, largest) : x, largest);
    }
    *top = v_largest(largest) * scale;
    largest = v_set(*top);
    for (size_t key = 0; key < end; key += LANES) {
        float *at = scores + key / KEYS * PANEL + key % KEYS;
        size_t live = keys > key ? smaller(keys - key, LANES) : 0;
        v16 e = zero;
        if (live)
            e = exp_nonpositive(v_fms(v_load(at), v_set(scale), largest), zero);
        if (live < LANES)
            e = v_first_or(e, live, zero);
        total = v_add(total, e);
        v_store(at, v_keep_bits(e, live ? bits_at(keep, key, live) : 0));
    }
    return v_sum(total);
}

static void attend_forward(const struct attend_head *h, float *out, size_t out_stride)
{
    struct packed p = packed_of(h);
    pack(&p, h);
    float kept = kept_scale(h), scale = score_scale(h);
    for (size_t i = 0; i < h->queries; i += QUERIES) {
        size_t rows = smaller(QUERIES, h->queries - i), end = i + rows;
        size_t panels = up(seen(h, i + rows - 1), KEYS) / KEYS;
        for (size_t n = 0; n < panels; n++)
            score_panel(p.panels + n * PANEL, p.q + i * p.dims, p.key_columns + n * KEYS * p.dims,
                        extent_of(h, rows, end, n), p.dims);
        block_bits(&p, h, i, rows);
        for (size_t r = 0; r < rows; r++) {
            size_t keys = seen(h, i + r);
            float total = weights_of(p.panels + r * KEYS, keys, p.keep + r * p.keep_stride,
                                     scale, h->top + i + r);
            h->inverse[i + r] = 1 / total;
            for (size_t n = up(keys, KEYS) / KEYS; n < panels; n++)
                memset(p.panels + n * PANEL + r * KEYS, 0, KEYS * sizeof *p.panels);
        }
        for (size_t n = 0; n < panels; n++)
            weigh_panel(p.block, p.panels + n * PANEL, p.v + n * KEYS * p.dims,
                        extent_of(h, rows, end, n), p.dims, n > 0);
        for (size_t r = 0; r < rows; r++)
            unpack_rows(out + (i + r) * out_stride, out_stride, p.block + r * p.dims, p.dims, 1,
                        h->dim, h->inverse[i + r] * kept);
    }
}

/* ---- backwards -------------------------------------------------------------------------- */

/* What one query's softmax was, for the way back. */
struct weight_terms {
    float scale, top, inverse, kept, delta;
};

struct weights_back {
    v16 dropped, gradient;      /* the weights, dropped; the gradient of the scores */
};

/* Sixteen weights again, of which `live` are, from products with keys and the gradients of what was
 * dropped from. */
ALWAYS_INLINE struct weights_back weight_back(const float *scores, const float *gradients,
                                              const uint8_t *keep, size_t key, size_t live,
                                              const struct weight_terms *t)
{
    v16 zero = v_set(0), kept = v_set(t->kept);
    v16 w = exp_nonpositive(v_fms(v_load(scores + key), v_set(t->scale), v_set(t->top)), zero);
    w = v_first_or(v_mul(w, v_set(t->inverse)), live, zero);
    unsigned bits = live ? bits_at(keep, key, live) : 0;
    v16 g = v_keep_bits(v_mul(v_load(gradients + key), kept), bits);
    return (struct weights_back){ v_keep_bits(v_mul(w, kept), bits),
                                  v_mul(w, v_sub(g, v_set(t->delta))) };
}

/* One query's scores and the gradients of its dropped weights, in one panel, become the dropped
 * weights and the gradients of the scores; 0 from `keys` to `end`. */
static void weights_back(float *scores, float *gradients, size_t keys, size_t end,
                         const uint8_t *keep, const struct weight_terms *t)
{
#pragma GCC unroll 2
    for (size_t key = 0; key < end; key += LANES) {
        size_t live = keys > key ? smaller(keys - key, LANES) : 0;
        struct weights_back w = weight_back(scores, gradients, keep, key, live, t);
        v_store(scores + key, w.dropped);
        v_store(gradients + key, w.gradient);
    }
}

/* sum over d of the gradient of a query's result * that result */
static float result_slope(const void *gradient, size_t gradient_at, bool pairs, const void *out,
                          size_t at, size_t dim, bool half)
{
    v16 sum = v_set(0);
    for (size_t d = 0; d < dim; d += LANES) {
        size_t live = smaller(dim - d, LANES);
        sum = v_fma(load_numbers(gradient, gradient_at + d, live, pairs),
                    load_numbers(out, at + d, live, half), sum);
    }
    return v_sum(sum);
}

/* Of the gradients as they are multiplied, else their rounding would not cancel. */
static void query_terms(struct weight_terms *terms, const struct packed *p,
                        const struct attend_head *h, const struct attend_gradients *g,
                        size_t query, size_t rows, bool pairs)
{
    for (size_t r = 0; r < rows; r++) {
        size_t i = query + r;
        float delta = result_slope(p->out_gradient, i * p->dims, pairs, g->out, i * g->out_stride,
                                   h->dim, h->half);
        terms[r] = (struct weight_terms){ score_scale(h), h->top[i], h->inverse[i], kept_scale(h),
                                          delta };
    }
}

/* One panel of keys for a block of queries: adds to the gradients of its keys and values and to
 * that of the queries, p->block. */
static void panel_back(const struct packed *p, const struct attend_head *h, size_t query,
                       size_t rows, size_t n, const struct weight_terms *terms)
{
    struct extent e = extent_of(h, rows, query + rows, n);
    size_t first = n * KEYS * p->dims, key = n * KEYS;
    const float *q = p->q + query * p->dims, *out_gradient = p->out_gradient + query * p->dims;
    float *scores = p->panels, *gradients = p->panels + PANEL;
    score_panel(scores, q, p->key_columns + first, e, p->dims);
    score_panel(gradients, out_gradient, p->value_columns + first, e, p->dims);
    for (size_t r = 0; r < rows; r++) {
        size_t keys = seen(h, query + r);
        weights_back(scores + r * KEYS, gradients + r * KEYS, keys > key ? keys - key : 0, e.keys,
                     p->keep + r * p->keep_stride + key / 8, &terms[r]);
    }
    memset(scores + rows * KEYS, 0, (e.rows - rows) * KEYS * sizeof *scores);
    memset(gradients + rows * KEYS, 0, (e.rows - rows) * KEYS * sizeof *scores);
    collect_panel(p->v_gradient + first, scores, out_gradient, e, p->dims);
    collect_panel(p->k_gradient + first, gradients, q, e, p->dims);
    weigh_panel(p->block, gradients, p->k + first, e, p->dims, n > 0);
}

typedef void panel_back_fn(const struct packed *p, const struct attend_head *h, size_t query,
                           size_t rows, size_t n, const struct weight_terms *terms);

/* The way back of what is packed, panel by panel. */
ALWAYS_INLINE void attend_back(const struct packed *p, const struct attend_head *h,
                               const struct attend_gradients *g, panel_back_fn *back,
                               const bool pairs)
{
    memset(p->k_gradient, 0, p->padded_keys * p->dims * sizeof *p->k_gradient);
    memset(p->v_gradient, 0, p->padded_keys * p->dims * sizeof *p->v_gradient);
    for (size_t i = 0; i < h->queries; i += QUERIES) {
        size_t rows = smaller(QUERIES, h->queries - i);
        size_t panels = up(seen(h, i + rows - 1), KEYS) / KEYS;
        struct weight_terms terms[QUERIES];
        query_terms(terms, p, h, g, i, rows, pairs);
        block_bits(p, h, i, rows);
        for (size_t n = 0; n < panels; n++)
            back(p, h, i, rows, n, terms);
        unpack_rows(g->q + i * g->q_stride, g->q_stride, p->block, p->dims, rows, h->dim,
                    score_scale(h));
    }
    unpack_rows(g->k, g->kv_stride, p->k_gradient, p->dims, h->keys, h->dim, score_scale(h));
    unpack_rows(g->v, g->kv_stride, p->v_gradient, p->dims, h->keys, h->dim, 1);
}

static void attend_backward(const struct attend_head *h, const struct attend_gradients *g)
{
    struct packed p = packed_of(h);
    pack(&p, h);
    pack_columns(p.value_columns, p.v, p.padded_keys, p.dims);
    pack_rows(p.out_gradient, p.padded_queries, p.dims, g->out_gradient, g->stride, h->queries,
              h->dim, false);
    attend_back(&p, h, g, panel_back, false);
}
