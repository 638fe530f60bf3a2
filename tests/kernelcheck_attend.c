/* Attention of one head against its contract. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attend_exact.h"
#include "kernelcheck.h"

typedef void attend_fn(const struct head *, struct attend_scratch *);

enum { GAP = 3 };       /* floats between two rows, which nobody may touch */

/* q, k, v and out that end at unreadable pages; what may not be used is NaN. `size` scales q. */
static struct head random_head(size_t queries, size_t keys, size_t dim, float size)
{
    size_t stride = dim + GAP, counts[] = { queries, keys, keys };
    float *parts[3];
    for (size_t i = 0; i < 3; i++) {
        parts[i] = random_floats((counts[i] - 1) * stride + dim, PLAIN);
        for (size_t r = 0; r + 1 < counts[i]; r++)
            for (size_t g = 0; g < GAP; g++)
                parts[i][r * stride + dim + g] = NAN;
    }
    for (size_t r = 0; r < queries; r++)
        for (size_t d = 0; d < dim; d++)
            parts[0][r * stride + d] *= size;
    return (struct head){ .q = parts[0], .k = parts[1], .v = parts[2],
                          .out = guarded((queries - 1) * stride + dim), .stride = stride,
                          .out_stride = stride, .queries = queries, .keys = keys, .dim = dim };
}

static bool values_right(const struct head *h, bool rough)
{
    double *p = guarded_bytes(h->keys * sizeof *p), *exact = guarded_bytes(h->dim * sizeof *exact),
           *bound = guarded_bytes(h->dim * sizeof *bound);
    for (size_t i = 0; i < h->queries; i += h->queries > 50 ? 7 : 1) {
        attend_exact(h, i, rough, p, exact, bound);
        for (size_t d = 0; d < h->dim; d++)
            if (!within(h->out[i * h->out_stride + d], exact[d], bound[d] + 0x1p-120))
                return false;
    }
    return true;
}

/* What lies between the rows of `out` is still 7. */
static bool gaps_intact(const struct head *h)
{
    for (size_t i = 0; i + 1 < h->queries; i++)
        for (size_t g = h->dim; g < h->out_stride; g++)
            if (h->out[i * h->out_stride + g] != 7)
                return false;
    return true;
}

static void attend_one(attend_fn *attend, attend_fn *peer_attend, size_t queries, size_t keys,
                       size_t dim, float size, bool rough)
{
    at(queries, keys, dim);
    struct head h = random_head(queries, keys, dim, size), one = h;
    size_t outs = (queries - 1) * h.out_stride + dim;
    struct attend_scratch *s = guarded_bytes((sizeof *s + 63) / 64 * 64);
    memset(s, 0xff, sizeof *s);     /* NaN */
    for (size_t i = 0; i < outs; i++)
        h.out[i] = 7;
    attend(&h, s);
    expect(values_right(&h, rough), "wrong value");
    expect(gaps_intact(&h) && canary_intact(h.out), "wrote where it may not");
    float *again = guarded(dim);
    bool alone = true;
    for (size_t i = 0; i < queries; i += queries > 50 ? 11 : 1) {
        one.q = h.q + i * h.stride;
        one.out = again;
        one.queries = 1;
        attend(&one, s);
        alone &= same_bits(again, h.out + i * h.out_stride, dim);
    }
    expect(alone, "a query alone has other bits");
    if (peer_attend) {
        float *first = copy_of(h.out, outs);
        peer_attend(&h, s);
        expect(same_bits(first, h.out, outs), "other bits than the level below");
    }
    release_all();
}

/* A key of huge, infinite or NaN numbers: never a finite result that hides it. */
static void attend_odd(attend_fn *attend, float odd, bool in_values)
{
    struct head h = random_head(5, 21, 32, 1);
    struct attend_scratch *s = guarded_bytes((sizeof *s + 63) / 64 * 64);
    float *row = in_values ? (float *)h.v : (float *)h.k;
    row[7 * h.stride + 3] = odd;
    at(5, 21, 32);
    attend(&h, s);
    bool shown = true;
    for (size_t i = 0; i < h.queries; i++)
        shown &= !isfinite(h.out[i * h.out_stride + 3]);
    expect(shown, "a NaN or an infinity vanished");
    release_all();
}

static void check_attend(attend_fn *attend, attend_fn *peer_attend, bool rough)
{
    static const size_t dims[] = { 32, 64, 1, 2, 5, 16, 33, 47, 96, 128 };
    static const size_t lengths[] = { 1, 2, 3, 7, 8, 15, 16, 17, 22, 23, 24, 25, 31, 32, 33, 40, 48,
                                      49, 64, 65, 100, 127, 128, 129, 200, 257, 300 };
    for (size_t d = 0; d < COUNT_OF(dims); d++)
        for (size_t n = 0; n < COUNT_OF(lengths); n += d < 2 ? 1 : 2)
            for (int size = 0; size < 3; size++)
                attend_one(attend, peer_attend, lengths[n], lengths[n], dims[d],
                           size == 0 ? 1 : size == 1 ? 30 : 1e-30f, rough);
    attend_one(attend, peer_attend, 3, 130, 32, 1, rough);
    attend_one(attend, peer_attend, 45, 2, 64, 1, rough);
    attend_one(attend, peer_attend, 600, 520, 32, 4, rough);
    if (!rough)
        attend_one(attend, peer_attend, 40, 150, 300, 1, rough);
    attend_odd(attend, NAN, false);
    attend_odd(attend, NAN, true);
    attend_odd(attend, INFINITY, true);
}

void check_attend_f32(const struct kernels *k)
{
    check_attend(k->attend_f32, peer ? peer->attend_f32 : NULL, false);
}

/* Levels may round differently here: no level below. */
void check_attend_rough(const struct kernels *k)
{
    check_attend(k->attend_rough, NULL, true);
}
