/* Rows and queries as bytes, edges as bits. The bits are those of RaBitQ (Gao and Long, 2024),
 * taken of the difference to the node that holds the edge, as SymphonyQG does. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/rng.h"
#include "index/graph_internal.h"

/* ---- rotation --------------------------------------------------------------------------- */

bool graph_rotation_init(struct graph_rotation *rotation, size_t padded, uint64_t seed)
{
    rotation->padded = padded;
    rotation->signs = memory_alloc(GRAPH_ROUNDS * padded, sizeof *rotation->signs);
    if (!rotation->signs)
        return false;
    struct rng rng;
    rng_seed(&rng, seed);
    uint64_t bits = 0;
    for (size_t i = 0; i < GRAPH_ROUNDS * padded; i++, bits >>= 1) {
        if (i % 64 == 0)
            bits = rng_next(&rng);
        rotation->signs[i] = bits & 1 ? 0.35355339f : -0.35355339f;   /* 1 / sqrt 8 */
    }
    return true;
}

void graph_rotation_deinit(struct graph_rotation *rotation)
{
    memory_free(rotation->signs);
    rotation->signs = NULL;
}

void graph_rotate(const struct graph_rotation *rotation, float *x, float *scratch)
{
    size_t padded = rotation->padded, groups = padded / 8;
    for (size_t round = 0; round < GRAPH_ROUNDS; round++) {
        const float *signs = rotation->signs + round * padded;
        for (size_t i = 0; i < padded; i++)
            scratch[i] = x[i] * signs[i];
        for (size_t first = 0; first < padded; first += 64)
            for (size_t h = 8; h < 64; h *= 2)
                for (size_t i = 0; i < 64; i += (i + 8) & h ? h + 8 : 8) {
                    float *a = scratch + first + i, *b = a + h;
                    for (size_t lane = 0; lane < 8; lane++) {
                        float sum = a[lane] + b[lane], difference = a[lane] - b[lane];
                        a[lane] = sum;
                        b[lane] = difference;
                    }
                }
        for (size_t g = 0; g < groups; g++)
            for (size_t lane = 0; lane < 8; lane++)
                x[lane * groups + g] = scratch[g * 8 + lane];
    }
}

/* ---- queries ---------------------------------------------------------------------------- */

bool graph_query_init(struct graph_query *query, size_t padded)
{
    query->values = memory_alloc_aligned(padded, sizeof *query->values);
    query->bytes = memory_alloc_aligned(padded, sizeof *query->bytes);
    query->table = memory_alloc_aligned(padded, 4);
    return query->values && query->bytes && query->table;
}

void graph_query_deinit(struct graph_query *query)
{
    memory_free(query->values);
    memory_free(query->bytes);
    memory_free(query->table);
    *query = (struct graph_query){ 0 };
}

/* The scale that puts the largest value on 127. */
static float byte_scale(const float *values, size_t count)
{
    float largest = 0;
    for (size_t i = 0; i < count; i++)
        largest = fmaxf(largest, fabsf(values[i]));
    float scale = largest / 127;
    return scale >= 0x1p-120f ? scale : 0;
}

/* Which of four bits a code has. */
static const uint8_t code_bits[4][16] = {
    { 0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255 },
    { 0, 0, 255, 255, 0, 0, 255, 255, 0, 0, 255, 255, 0, 0, 255, 255 },
    { 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 255, 255, 255, 255 },
    { 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255 },
};

/* Each value is rounded to a level of its own, so that entries are sums of bytes, and the query
 * that the table stands for is one vector. */
void graph_query_table(struct graph_query *query, size_t padded)
{
    float range = 0;
    for (size_t g = 0; g < padded; g += 4) {
        float sum = 0;
        for (size_t i = 0; i < 4; i++)
            sum += fabsf(query->values[g + i]);
        range = sum > range ? sum : range;
    }
    float step = 2 * range / (EDGE_LEVEL_MAX - 3);
    if (step < 0x1p-120f)
        step = 0;
    float factor = step > 0 ? 2 / step : 0;
    int32_t total = 0;
    for (size_t g = 0; g < padded; g += 4) {
        uint8_t entries[16] = { 0 };
        for (size_t i = 0; i < 4; i++) {
            float value = query->values[g + i];
            int level = (int)(fabsf(value) * factor + 0.5f);
            uint8_t flip = value < 0 ? 255 : 0, byte = (uint8_t)level;
            total += level;
            for (size_t code = 0; code < 16; code++)
                entries[code] =
                    (uint8_t)(entries[code] + ((code_bits[i][code] ^ flip) & byte));
        }
        memcpy(query->table + g * 4, entries, sizeof entries);
    }
    query->step = step;
    query->low = -0.5f * step * (float)total;
}

void graph_query_prepare(struct graph_query *query, size_t padded)
{
    query->scale = byte_scale(query->values, padded);
    float factor = query->scale > 0 ? 1 / query->scale : 0, error = 0;
    query->byte_sum = 0;
    for (size_t i = 0; i < padded; i++) {
        long level = lrintf(query->values[i] * factor);
        query->bytes[i] = (int8_t)(level < -127 ? -127 : level > 127 ? 127 : level);
        query->byte_sum += query->bytes[i];
        float missed = query->values[i] - query->scale * (float)query->bytes[i];
        error += missed * missed;
    }
    query->error = sqrtf(error);
}

void graph_query_from_row(struct graph_query *query, const struct graph_view *view,
                          const void *node)
{
    const uint8_t *row = node_row(view, node);
    query->scale = node_tail(view, node)->scale;
    query->byte_sum = 0;
    query->error = 0;
    for (size_t i = 0; i < view->padded; i++) {
        query->bytes[i] = (int8_t)(row[i] - 128);
        query->byte_sum += query->bytes[i];
        query->values[i] = query->scale * (float)query->bytes[i];
    }
    graph_query_table(query, view->padded);
}

/* ---- rows ------------------------------------------------------------------------------- */

void graph_load_row(const struct kernels *kernels, const struct segment_rows *rows,
                    const struct graph_header *header, size_t row, float *values)
{
    size_t dim = rows->dim;
    const char *at = (const char *)rows->vectors + row * dim * element_bytes(rows->element);
    if (rows->element == ELEMENT_F32)
        memcpy(values, at, dim * sizeof *values);
    else if (rows->element == ELEMENT_F16)
        kernels->widen_f16(values, at, dim);
    else
        kernels->widen_bf16(values, at, dim);
    memset(values + dim, 0, (header->padded - dim) * sizeof *values);
    if (!header->lifted)
        return;
    double rest = (double)header->square;
    for (size_t i = 0; i < dim; i++)
        rest -= (double)values[i] * (double)values[i];
    values[dim] = rest > 0 ? (float)sqrt(rest) : 0;
}

void graph_sum_row(const struct graph_view *view, unsigned char *node)
{
    const uint8_t *row = node_row(view, node);
    struct graph_tail *tail = (struct graph_tail *)node_tail(view, node);
    int64_t squares = 0;
    int32_t sum = 0;
    for (size_t i = 0; i < view->padded; i++) {
        int32_t level = row[i] - 128;
        sum += level;
        squares += level * level;
    }
    tail->byte_sum = sum;
    tail->square = (float)((double)tail->scale * (double)tail->scale * (double)squares);
}

void graph_write_row(const struct graph_view *view, unsigned char *node, const float *values)
{
    uint8_t *row = (uint8_t *)node_row(view, node);
    struct graph_tail *tail = (struct graph_tail *)node_tail(view, node);
    float scale = byte_scale(values, view->padded), factor = scale > 0 ? 1 / scale : 0;
    double error = 0, length = 0;
    for (size_t i = 0; i < view->padded; i++) {
        long level = lrintf(values[i] * factor);
        level = level < -127 ? -127 : level > 127 ? 127 : level;
        row[i] = (uint8_t)(level + 128);
        double missed = (double)values[i] - (double)scale * (double)level;
        error += missed * missed;
        length += (double)values[i] * (double)values[i];
    }
    memset(tail, 0, sizeof *tail);
    tail->scale = scale;
    /* The rotation's own rounding: a few roundings of sums of eight per round, far below 2^-18. */
    tail->error = (float)(sqrt(error) * 1.0001 + sqrt(length) * 0x1p-18);
    graph_sum_row(view, node);
}

/* ---- edges ------------------------------------------------------------------------------ */

/* Eight codes of four bits to a byte each. */
static uint64_t spread(uint32_t codes)
{
    uint64_t x = codes;
    x = (x | x << 16) & 0x0000ffff0000ffff;
    x = (x | x << 8) & 0x00ff00ff00ff00ff;
    return (x | x << 4) & 0x0f0f0f0f0f0f0f0f;
}

/* The bits of edges `edge` and `edge` + 16 into their column. */
static void write_codes(unsigned char *node, size_t edge, const uint64_t *low, const uint64_t *high,
                        size_t padded)
{
    unsigned char *at = node + edge;
    for (size_t word = 0; word < padded / 64; word++)
        for (size_t half = 0; half < 64; half += 32) {
            uint64_t codes = spread((uint32_t)(low[word] >> half)) |
                             spread((uint32_t)(high[word] >> half)) << 4;
            for (size_t g = 0; g < 8; g++, at += 16, codes >>= 8)
                *at = (unsigned char)codes;
        }
}

void graph_write_edges(const struct graph_view *view, unsigned char *node, const uint32_t *ids,
                       size_t count)
{
    struct graph_tail *tail = (struct graph_tail *)node_tail(view, node);
    uint32_t *node_list = (uint32_t *)node_ids(view, node);
    int16_t *offsets = (int16_t *)node_offsets(view, node), *slopes = offsets + EDGES;
    float offset[EDGES], slope[EDGES], low = INFINITY, high = -INFINITY, steepest = 0;
    uint64_t bits[EDGES][GRAPH_DIM_MAX / 64 + 1];
    for (size_t e = count; e < EDGES; e++)
        memset(bits[e], 0, view->padded / 8);
    for (size_t e = 0; e < count; e++)
        graph_fetch_row(view, ids[e]);
    for (size_t e = 0; e < count; e++) {
        const unsigned char *other = node_at(view, ids[e]);
        const struct graph_tail *there = node_tail(view, other);
        struct edge_sums sums;
        view->kernels->edge_bits(bits[e], &sums, node_row(view, other), there->scale,
                                 node_row(view, node), tail->scale, view->padded);
        float factor = sums.absolutes > 0 ? sums.squares / sums.absolutes : 0;
        offset[e] = -2 * (sums.centre_dot - factor * sums.centre_signed);
        if (view->score == SCORE_L2)
            offset[e] += there->square;
        slope[e] = -2 * factor;
        low = fminf(low, offset[e]);
        high = fmaxf(high, offset[e]);
        steepest = fmaxf(steepest, -slope[e]);
    }
    for (size_t e = 0; e < EDGES / 2; e++)
        write_codes(node, e, bits[e], bits[e + EDGES / 2], view->padded);
    tail->edges = (uint32_t)count;
    tail->offset_base = count ? 0.5f * low + 0.5f * high : 0;
    tail->offset_scale = count ? (high - low) / 65534 : 0;
    tail->slope_scale = steepest / 32767;
    for (size_t e = 0; e < EDGES; e++) {
        bool used = e < count;
        node_list[e] = used ? ids[e] : GRAPH_NO_NODE;
        offsets[e] = used && tail->offset_scale > 0
                         ? (int16_t)lrintf((offset[e] - tail->offset_base) / tail->offset_scale)
                         : 0;
        slopes[e] = used && tail->slope_scale > 0 ? (int16_t)lrintf(slope[e] / tail->slope_scale)
                                                  : 0;
    }
}
