/* Attention of one head with products of pairs of bfloat16 numbers, for a file that has V_DOT; the
 * rest is as in train_attend_wide.h, which comes before. What is multiplied is rounded: q, k and v
 * come so, weights and gradients of scores are rounded once, and sums are float32. The including
 * file also defines
 *   v_store_halves(to, a)      sixteen numbers rounded, to [16] of sixteen bits
 *   v_halves(a, b)             a and b rounded, one behind the other
 *   v_zip(a, b)                pairs of a and b rounded, a the lower
 *   v_zip_halves(a, b)         the same of numbers that are rounded already
 *
 * Rows of pairs have dims / 2 of them, of neighbouring dimensions; zipped rows have dims, of the
 * rows 2 j and 2 j + 1. */

/* Each part of the scratch holds rows of pairs and, behind the middle, the same rows zipped. */
static inline float *zipped(float *part, size_t rows, size_t dims)
{
    return part + rows * dims / 2;
}

static void score_pairs(float *panel, const float *x, const float *columns, struct extent e,
                        size_t dims)
{
    if (dims == 32)
        product(panel, KEYS, (struct side){ x, 16, 1 }, columns, KEYS, e.rows, e.keys, 16, false,
                true);
    else
        product(panel, KEYS, (struct side){ x, dims / 2, 1 }, columns, KEYS, e.rows, e.keys,
                dims / 2, false, true);
}

/* Rows of the panel hold KEYS / 2 pairs at their beginnings. */
static void weigh_pairs(float *out, const float *panel, const float *x, struct extent e,
                        size_t dims, bool add)
{
    struct side left = { panel, KEYS, 1 };
    if (dims == 32)
        product(out, 32, left, x, 32, e.rows, 32, e.keys / 2, add, true);
    else
        product(out, dims, left, x, dims, e.rows, dims, e.keys / 2, add, true);
}

/* `next`: from a pair of queries to the next one. */
ALWAYS_INLINE void collect_pairs(float *out, const float *pairs, const float *x, struct extent e,
                                 size_t dims, const size_t next)
{
    struct side left = { pairs, 1, next };
    if (dims == 32)
        product(out, 32, left, x, 32, e.keys, 32, e.rows / 2, true, true);
    else
        product(out, dims, left, x, dims, e.keys, dims, e.rows / 2, true, true);
}

/* ---- packing ---------------------------------------------------------------------------- */

static void zip_rows(float *rows, size_t count, size_t dims)
{
    const uint16_t *x = (const uint16_t *)rows;
    float *to = zipped(rows, count, dims);
    for (size_t r = 0; r < count; r += 2)
        for (size_t d = 0; d < dims; d += LANES)
            v_store(to + r / 2 * dims + d,
                    v_zip_halves(x + r * dims + d, x + (r + 1) * dims + d));
}

static void pack_halves(float *to, size_t padded, size_t dims, const uint16_t *x, size_t stride,
                        size_t rows, size_t dim)
{
    uint16_t *row = (uint16_t *)to;
    for (size_t r = 0; r < rows; r++, row += dims) {
        memcpy(row, x + r * stride, dim * sizeof *x);
        memset(row + dim, 0, (dims - dim) * sizeof *x);
    }
    memset(row, 0, (padded - rows) * dims * sizeof *x);
}

static void pack_rounded(float *to, size_t padded, size_t dims, const float *x, size_t stride,
                         size_t rows, size_t dim)
{
    uint16_t *row = (uint16_t *)to;
    for (size_t r = 0; r < rows; r++, row += dims)
        for (size_t d = 0; d < dims; d += LANES)
            v_store_halves(row + d, v_load_first(x + r * stride + d,
                                                 dim > d ? smaller(dim - d, LANES) : 0));
    memset(row, 0, (padded - rows) * dims * sizeof *row);
}

static void pack_pairs(const struct packed *p, const struct attend_head *h)
{
    pack_halves(p->q, p->padded_queries, p->dims, h->q, h->q_stride, h->queries, h->dim);
    pack_halves(p->k, p->padded_keys, p->dims, h->k, h->kv_stride, h->keys, h->dim);
    pack_halves(p->v, p->padded_keys, p->dims, h->v, h->kv_stride, h->keys, h->dim);
    pack_columns(p->key_columns, p->k, p->padded_keys, p->dims / 2);
}

/* ---- forwards --------------------------------------------------------------------------- */

/* A row of the panels to rows of pairs, in place. */
static void round_weights(float *row, size_t panels)
{
    for (size_t n = 0; n < panels; n++)
        for (size_t key = 0; key < KEYS; key += 2 * LANES) {
            float *at = row + n * PANEL + key;
            v_store(at - key / 2, v_halves(v_load(at), v_load(at + LANES)));
        }
}

static void attend_forward_pairs(const struct attend_head *h, float *out, size_t out_stride)
{
    struct packed p = packed_of(h);
    pack_pairs(&p, h);
    zip_rows(p.v, p.padded_keys, p.dims);
    float kept = kept_scale(h), scale = score_scale(h);
    const float *values = zipped(p.v, p.padded_keys, p.dims);
    for (size_t i = 0; i < h->queries; i += QUERIES) {
        size_t rows = smaller(QUERIES, h->queries - i), end = i + rows;
        size_t panels = up(seen(h, i + rows - 1), KEYS) / KEYS, step = KEYS * p.dims / 2;
        for (size_t n = 0; n < panels; n++)
            score_pairs(p.panels + n * PANEL, p.q + i * p.dims / 2, p.key_columns + n * step,
                        extent_of(h, rows, end, n), p.dims);
        block_bits(&p, h, i, rows);
        for (size_t r = 0; r < rows; r++) {
            size_t keys = seen(h, i + r), own = up(keys, KEYS) / KEYS;
            float total = weights_of(p.panels + r * KEYS, keys, p.keep + r * p.keep_stride, scale,
                                     h->top + i + r);
            h->inverse[i + r] = 1 / total;
            round_weights(p.panels + r * KEYS, own);
            for (size_t n = own; n < panels; n++)
                memset(p.panels + n * PANEL + r * KEYS, 0, KEYS / 2 * sizeof *p.panels);
        }
        for (size_t n = 0; n < panels; n++)
            weigh_pairs(p.block, p.panels + n * PANEL, values + n * step,
                        extent_of(h, rows, end, n), p.dims, n > 0);
        for (size_t r = 0; r < rows; r++)
            unpack_rows(out + (i + r) * out_stride, out_stride, p.block + r * p.dims, p.dims, 1,
                        h->dim, h->inverse[i + r] * kept);
    }
}

/* ---- backwards -------------------------------------------------------------------------- */

/* What two queries need: how many keys of the panel each sees, its bits, and its softmax. */
struct query_pair {
    size_t keys[2];
    const uint8_t *keep[2];
    const struct weight_terms *terms[2];
};

/* Two rows of scores become, in the first, pairs of dropped weights; two rows of gradients of
 * weights become rows of pairs of the gradients of scores, and `gradient_pairs` pairs of them. */
static void weights_back_pairs(float *scores, float *gradients, float *gradient_pairs,
                               size_t end, const struct query_pair *q)
{
    for (size_t key = 0; key < end; key += 2 * LANES) {
        struct weights_back w[2][2];
#pragma GCC unroll 2
        for (size_t r = 0; r < 2; r++)
#pragma GCC unroll 2
            for (size_t v = 0; v < 2; v++) {
                size_t at = key + v * LANES;
                w[r][v] = weight_back(scores + r * KEYS, gradients + r * KEYS, q->keep[r], at,
                                      q->keys[r] > at ? smaller(q->keys[r] - at, LANES) : 0,
                                      q->terms[r]);
            }
#pragma GCC unroll 2
        for (size_t v = 0; v < 2; v++) {
            v_store(scores + key + v * LANES, v_zip(w[0][v].dropped, w[1][v].dropped));
            v_store(gradient_pairs + key + v * LANES, v_zip(w[0][v].gradient, w[1][v].gradient));
            v_store(gradients + v * KEYS + key / 2, v_halves(w[v][0].gradient, w[v][1].gradient));
        }
    }
}

/* Queries from `rows` on see no keys. */
static struct query_pair pair_of(const struct packed *p, const struct attend_head *h, size_t query,
                                 size_t rows, size_t r, size_t key,
                                 const struct weight_terms *terms)
{
    struct query_pair pair;
    for (size_t i = 0; i < 2; i++) {
        size_t row = smaller(r + i, rows - 1), keys = seen(h, query + row);
        pair.keys[i] = r + i < rows && keys > key ? keys - key : 0;
        pair.keep[i] = p->keep + row * p->keep_stride + key / 8;
        pair.terms[i] = terms + row;
    }
    return pair;
}

static void panel_back_pairs(const struct packed *p, const struct attend_head *h, size_t query,
                             size_t rows, size_t n, const struct weight_terms *terms)
{
    struct extent e = extent_of(h, rows, query + rows, n);
    size_t step = n * KEYS * p->dims / 2, at = query * p->dims / 2;
    float *scores = p->panels, *gradients = scores + PANEL, *gradient_pairs = gradients + PANEL;
    score_pairs(scores, p->q + at, p->key_columns + step, e, p->dims);
    score_pairs(gradients, p->out_gradient + at, p->value_columns + step, e, p->dims);
    for (size_t r = 0; r < e.rows; r += 2) {
        struct query_pair pair = pair_of(p, h, query, rows, r, n * KEYS, terms);
        weights_back_pairs(scores + r * KEYS, gradients + r * KEYS, gradient_pairs + r / 2 * KEYS,
                           e.keys, &pair);
    }
    collect_pairs(p->v_gradient + 2 * step, scores,
                  zipped(p->out_gradient, p->padded_queries, p->dims) + at, e, p->dims, 2 * KEYS);
    collect_pairs(p->k_gradient + 2 * step, gradient_pairs,
                  zipped(p->q, p->padded_queries, p->dims) + at, e, p->dims, KEYS);
    weigh_pairs(p->block, gradients, zipped(p->k, p->padded_keys, p->dims) + step, e, p->dims,
                n > 0);
}

static void attend_backward_pairs(const struct attend_head *h, const struct attend_gradients *g)
{
    struct packed p = packed_of(h);
    pack_pairs(&p, h);
    pack_columns(p.value_columns, p.v, p.padded_keys, p.dims / 2);
    pack_rounded(p.out_gradient, p.padded_queries, p.dims, g->out_gradient, g->stride, h->queries,
                 h->dim);
    zip_rows(p.out_gradient, p.padded_queries, p.dims);
    zip_rows(p.q, p.padded_queries, p.dims);
    zip_rows(p.k, p.padded_keys, p.dims);
    attend_back(&p, h, g, panel_back_pairs, true);
}
