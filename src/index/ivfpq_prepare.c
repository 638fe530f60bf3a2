/* Kind "ivfpq": what one query needs before rows are looked at: the order of the cells, and its
 * tables of products in bytes. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "index/ivfpq_parts.h"

bool prepared_init(struct prepared *p, const struct ivfpq *v)
{
    const struct ivfpq_header *h = v->header;
    size_t cells = h->cells, entries = header_group(h) * header_codes(h);
    p->query = memory_alloc_aligned(v->depth, sizeof *p->query);
    p->vector = memory_alloc((size_t)h->parts * h->width, sizeof *p->vector);
    p->products = memory_alloc(h->groups * entries, sizeof *p->products);
    p->tables = memory_alloc_aligned(h->groups, h->wide ? entries : PQ4_GROUP_TABLES);
    p->dots = memory_alloc(cells, sizeof *p->dots);
    p->bases = memory_alloc(cells, sizeof *p->bases);
    p->scores = memory_alloc(cells, sizeof *p->scores);
    p->order = memory_alloc(cells, sizeof *p->order);
    return p->query && p->vector && p->products && p->tables && p->dots && p->bases && p->scores &&
           p->order;
}

void prepared_deinit(struct prepared *p)
{
    memory_free(p->query);
    memory_free(p->vector);
    memory_free(p->products);
    memory_free(p->tables);
    memory_free(p->dots);
    memory_free(p->bases);
    memory_free(p->scores);
    memory_free(p->order);
}

/* The query in twelve bits: 4,096 products with eight-bit rows stay below 2^31. */
static void narrow_query(const struct ivfpq *v, const float *query, struct prepared *p)
{
    size_t dim = v->rows.dim;
    bool l2 = segment_is_l2(v);
    float most = 0, squares = 0;
    for (size_t i = 0; i < dim; i++) {
        float x = l2 ? query[i] - v->mean[i] : query[i], size = fabsf(x);
        p->vector[i] = x;
        most = size > most ? size : most;
        squares += x * x;
    }
    p->length = sqrtf(squares);
    p->query_scale = most / IVF_QUERY_LEVELS;
    float factor = most > 0 ? IVF_QUERY_LEVELS / most : 0;
    const float magic = 0x1.8p23f;      /* adding it rounds to a whole number, to even */
    if (!isfinite(factor))
        factor = p->query_scale = 0;
    for (size_t i = 0; i < dim; i++) {
        float level = p->vector[i] * factor + magic - magic;
        p->query[i] = level >= -IVF_QUERY_LEVELS && level <= IVF_QUERY_LEVELS ? (int16_t)level : 0;
    }
    memset(p->query + dim, 0, (v->depth - dim) * sizeof *p->query);
}

/* What the best row of a cell may score. The centroid's score and how far the rows spread along a
 * query; with L2 a query inside of the cell's reach has nothing to win by it. */
static float promise(const struct ivfpq *v, const struct prepared *p, size_t c, float score)
{
    float reach = IVF_REACH * v->cells[c].spread;
    if (!segment_is_l2(v))
        return score + reach * p->length;
    float distance = sqrtf(fmaxf(0, p->length * p->length - 2 * score));
    return score + reach * fmaxf(0, distance - reach);
}

/* Cells by falling promise, to the nearest 1/1024 of its range: counted, not compared. */
static void order_cells(struct prepared *p, const float *promises, size_t cells)
{
    uint32_t starts[IVF_BUCKETS + 1] = { 0 };
    float most = -INFINITY, least = INFINITY;
    for (size_t c = 0; c < cells; c++) {
        most = promises[c] > most ? promises[c] : most;
        least = promises[c] < least ? promises[c] : least;
    }
    float factor = most > least ? (IVF_BUCKETS - 1) / (most - least) : 0;
    uint32_t *bucket = (uint32_t *)p->dots;     /* done with */
    for (size_t c = 0; c < cells; c++) {
        float at = (most - promises[c]) * factor;
        bucket[c] = at >= 0 && at < IVF_BUCKETS ? (uint32_t)at : IVF_BUCKETS - 1;
        starts[bucket[c] + 1]++;
    }
    for (size_t b = 1; b < IVF_BUCKETS; b++)
        starts[b] += starts[b - 1];
    for (size_t c = 0; c < cells; c++)
        p->order[starts[bucket[c]]++] = (uint32_t)c;
}

/* The largest step of any part sets the scale, so that sums of parts can be compared. What is below
 * a part's smallest product is the same for all rows. */
static void quantize_tables(const struct ivfpq *v, struct prepared *p)
{
    const struct ivfpq_header *h = v->header;
    size_t parts = h->groups * header_group(h), codes = header_codes(h);
    size_t levels = h->wide ? IVF_WIDE_LEVELS : IVF_TABLE_LEVELS;
    levels = UINT16_MAX / parts < levels ? UINT16_MAX / parts : levels;
    float range = 0;
    for (size_t part = 0; part < parts; part++) {
        float *table = p->products + part * codes, low = table[0], high = table[0];
        for (size_t i = 1; i < codes; i++) {
            low = table[i] < low ? table[i] : low;
            high = table[i] > high ? table[i] : high;
        }
        for (size_t i = 0; i < codes; i++)
            table[i] -= low;
        range = high - low > range ? high - low : range;
    }
    p->step = range > 0 ? range / (float)levels : 1;
    float factor = 1 / p->step, top = (float)levels;
    if (!isfinite(factor))
        factor = 0, p->step = 1;
    p->table_most = 0;
    for (size_t part = 0; part < parts; part++) {
        const float *table = p->products + part * codes;
        uint8_t *out = p->tables + part * (h->wide ? codes : 2 * codes), most = 0;
        for (size_t i = 0; i < codes; i++) {
            float level = table[i] * factor + 0.5f;
            level = level < top ? level : top;      /* NaN is the top as well */
            out[i] = (uint8_t)(int)level;
            most = out[i] > most ? out[i] : most;
        }
        if (!h->wide)
            memcpy(out + codes, out, codes);
        p->table_most += most;
    }
}

void prepare(const struct ivfpq *v, const float *query, struct prepared *p)
{
    const struct ivfpq_header *h = v->header;
    size_t dim = h->dim, cells = h->cells, padded = (size_t)h->parts * h->width;
    size_t codes = header_codes(h), used = h->parts + header_norm_parts(h);
    narrow_query(v, query, p);
    memset(p->vector + dim, 0, (padded - dim) * sizeof *p->vector);
    code_products(v, p->vector, NULL, p->products);
    for (size_t part = h->parts; part < used; part++)
        for (size_t i = 0; i < codes; i++)
            p->products[part * codes + i] =
                h->norm_step * (float)(part + 1 < used ? i * PQ4_CODES : i);
    memset(p->products + used * codes, 0,
           (h->groups * header_group(h) - used) * codes * sizeof *p->products);
    quantize_tables(v, p);

    v->kernels->score_s16s8(p->dots, p->query, v->centroids, v->stride, NULL, cells, v->depth);
    float best = -INFINITY;
    for (size_t c = 0; c < cells; c++) {
        float scale = record_tail(v, v->centroids + c * v->stride).scale * p->query_scale;
        p->scores[c] = (float)p->dots[c] * scale + v->cells[c].offset;
        best = p->scores[c] > best ? p->scores[c] : best;
    }
    float factor = 1 / p->step;
    for (size_t c = 0; c < cells; c++) {
        float steps = (p->scores[c] - best) * factor;
        p->bases[c] = steps > -IVF_BASE_MAX ? (int32_t)(steps - 0.5f) : -IVF_BASE_MAX;
        p->scores[c] = promise(v, p, c, p->scores[c]);
    }
    order_cells(p, p->scores, cells);
}
