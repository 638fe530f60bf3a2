/* The inner loops of the graph. Expected values are computed from the contract. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernelcheck.h"

static const size_t dims[] = { 64, 128, 192, 384, 448, 1024, 4096 };

static uint8_t *random_bytes(size_t count, bool extreme)
{
    uint8_t *bytes = guarded_bytes(count);
    for (size_t i = 0; i < count; i++)
        bytes[i] = extreme ? (rng_below(&rng, 2) ? 255 : 0) : (uint8_t)rng_below(&rng, 256);
    return bytes;
}

/* ---- dot_tile_u8s8 ----------------------------------------------------------------------- */

static void tile_one(const struct kernels *k, size_t queries, size_t rows, size_t dim, bool by_id)
{
    enum { GAP = 64, TABLE = 11 };
    size_t stride = dim + GAP, out_stride = rows + 3;
    at(queries, rows, dim);
    uint8_t *table = random_bytes((TABLE - 1) * stride + dim, rows % 2);
    int8_t *query = (int8_t *)random_bytes((queries - 1) * stride + dim, rows % 2);
    uint32_t *ids = guarded_bytes(rows * sizeof *ids);
    for (size_t r = 0; r < rows; r++)
        ids[r] = by_id ? (uint32_t)rng_below(&rng, TABLE) : (uint32_t)r;
    int32_t *out = guarded_bytes(((queries - 1) * out_stride + rows) * sizeof *out);
    memset(out, 0x55, ((queries - 1) * out_stride + rows) * sizeof *out);
    k->dot_tile_u8s8(out, out_stride, query, stride, queries, table, stride, by_id ? ids : NULL,
                     rows, dim);
    bool right = true;
    for (size_t q = 0; q < queries; q++)
        for (size_t r = 0; r < out_stride && q * out_stride + r < (queries - 1) * out_stride + rows;
             r++) {
            int64_t sum = 0x55555555;
            if (r < rows) {
                sum = 0;
                for (size_t i = 0; i < dim; i++)
                    sum += (int64_t)query[q * stride + i] * table[ids[r] * stride + i];
            }
            right &= out[q * out_stride + r] == sum;
        }
    expect(right, "wrong sum, or wrote between the rows");
    expect(canary_intact(out), "wrote in front of the output");
    release_all();
}

void check_dot_tile_u8s8(const struct kernels *k)
{
    for (size_t d = 0; d < COUNT_OF(dims); d++)
        for (size_t queries = 1; queries < 10; queries += queries < 5 ? 1 : 3)
            for (size_t rows = 1; rows <= 11; rows++)
                tile_one(k, queries, rows, dims[d], (rows + queries) % 2);
}

/* ---- edge_bits --------------------------------------------------------------------------- */

static void edge_one(const struct kernels *k, size_t dim, float row_scale, float scale, bool same)
{
    at(dim, same, 0);
    uint8_t *row = random_bytes(dim, false), *centre = same ? row : random_bytes(dim, false);
    uint64_t *bits = guarded_bytes(dim / 8), *ref_bits = guarded_bytes(dim / 8);
    struct edge_sums sums, ref;
    k->edge_bits(bits, &sums, row, row_scale, centre, scale, dim);
    reference.edge_bits(ref_bits, &ref, row, row_scale, centre, scale, dim);
    expect(!memcmp(bits, ref_bits, dim / 8) && canary_intact(bits),
           "other bits than the reference");
    expect(!memcmp(&sums, &ref, sizeof sums), "other sums than the reference");
    double squares = 0, absolutes = 0, dots = 0, signs = 0, dot_size = 0, sign_size = 0;
    bool right = true;
    for (size_t i = 0; i < dim; i++) {
        float y = row_scale * (float)(row[i] - 128), c = scale * (float)(centre[i] - 128);
        double d = (double)(y - c);
        right &= (bits[i / 64] >> i % 64 & 1) == (d > 0);
        squares += d * d;
        absolutes += fabs(d);
        dots += (double)c * d;
        dot_size += fabs((double)c * d);
        signs += d > 0 ? (double)c : -(double)c;
        sign_size += fabs((double)c);
    }
    double bound = ((double)dim + 2) * UNIT;
    expect(right, "a bit is not the sign of its difference");
    expect(within(sums.squares, squares, bound * squares) &&
           within(sums.absolutes, absolutes, bound * absolutes) &&
           within(sums.centre_dot, dots, bound * dot_size) &&
           within(sums.centre_signed, signs, bound * sign_size), "a sum is off");
    release_all();
}

void check_edge_bits(const struct kernels *k)
{
    for (size_t d = 0; d < COUNT_OF(dims); d++)
        for (int i = 0; i < 8; i++) {
            edge_one(k, dims[d], 0.0017f, 0.0013f * (float)(i + 1), false);
            edge_one(k, dims[d], i % 2 ? 0 : 3e10f, 2e-9f, false);
            edge_one(k, dims[d], 0.01f, 0.01f, true);
        }
}

/* ---- edge_scores ------------------------------------------------------------------------- */

static void score_one(const struct kernels *k, size_t dim, bool largest)
{
    at(dim, largest, 0);
    uint8_t *codes = random_bytes(dim * 4, false), *table = guarded_bytes(dim * 4);
    int16_t *lines = guarded_bytes(2 * EDGES * sizeof *lines);
    for (size_t i = 0; i < dim * 4; i++)
        table[i] = largest ? EDGE_LEVEL_MAX : (uint8_t)rng_below(&rng, EDGE_LEVEL_MAX + 1);
    for (size_t i = 0; i < 2 * EDGES; i++)
        lines[i] = (int16_t)((int)rng_below(&rng, 65536) - 32768);
    struct edge_codes edges = { codes, lines, lines + EDGES, 1e-5f * rng_float(&rng),
                                1e-6f * rng_float(&rng) };
    struct edge_query query = { table, 0.01f * rng_float(&rng), -rng_float(&rng),
                                rng_float(&rng) };
    float *out = guarded(EDGES), want[EDGES], bound = 0;
    for (size_t e = 0; e < EDGES; e++) {
        uint32_t sum = 0;
        for (size_t g = 0; g < dim / 4; g++) {
            unsigned byte = codes[g * 16 + e % 16];
            sum += table[g * 16 + (e < 16 ? byte & 15 : byte >> 4)];
        }
        float line = edges.slope_scale * (float)edges.slope[e];
        want[e] = fmaf(line, fmaf(query.step, (float)sum, query.low),
                       fmaf(edges.offset_scale, (float)edges.offset[e], query.start));
        bound = e == 7 ? want[e] : bound;
    }
    uint32_t below = k->edge_scores(out, &edges, &query, dim, bound), want_below = 0;
    for (size_t e = 0; e < EDGES; e++)
        want_below |= (uint32_t)(want[e] < bound) << e;
    expect(same_bits(out, want, EDGES) && canary_intact(out), "wrong bits");
    expect(below == want_below, "wrong mask");
    expect(k->edge_scores(out, &edges, &query, dim, INFINITY) == UINT32_MAX, "not all below inf");
    query.start = NAN;
    expect(k->edge_scores(out, &edges, &query, dim, INFINITY) == 0, "NaN is below");
    release_all();
}

void check_edge_scores(const struct kernels *k)
{
    for (size_t d = 0; d < COUNT_OF(dims); d++)
        for (int i = 0; i < 20; i++)
            score_one(k, dims[d], i == 0);
}
