/* See space.h. Rows are shared out for what concerns one of them, columns for sums over all, so
 * that each number is made by one thread in the order of the rows. */
#include "recommend/space.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/thread.h"
#include "catalog/catalog.h"
#include "compute/backend.h"
#include "compute/cpu/kernels.h"

enum { YEAR_FIRST = 1, YEAR_LAST = 9999 };

/* Less of a vector than this is rounding. */
#define LENGTH_LEAST 1e-6

struct maker {
    struct space *space;
    const struct kernels *kernels;
    const float *published;     /* [items][dim] */
    double *sums;               /* [years][dim] */
    uint32_t *counts;           /* [years] items that are not blank */
    float *lengths;             /* [items] of x */
};

/* In double, in four chains and this order: the space has the same bits on every instruction set,
 * and so have the users who live in it. */
static double dot(const float *a, const float *b, size_t dim)
{
    double sums[4] = { 0 };
    for (size_t i = 0; i < dim; i++)
        sums[i % 4] += (double)a[i] * (double)b[i];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/* x to length 1, or to zeros; false for zeros and for what is not finite. */
static bool to_unit(const struct kernels *k, float *x, size_t dim)
{
    double length = sqrt(dot(x, x, dim));
    bool points = length > LENGTH_LEAST && isfinite(length);
    if (points)
        k->scale_f32(x, (float)(1 / length), dim);
    else
        memset(x, 0, dim * sizeof *x);
    return points;
}

/* ---- the parts, in their order ---------------------------------------------------------- */

static void normalise_rows(void *context, size_t begin, size_t end, int worker)
{
    struct maker *m = context;
    size_t dim = m->space->dim;
    (void)worker;
    for (size_t row = begin; row < end; row++) {
        float *t = m->space->vectors + row * dim;
        memcpy(t, m->published + row * dim, dim * sizeof *t);
        m->lengths[row] = to_unit(m->kernels, t, dim);
    }
}

/* Columns [begin, end) of the sum of all rows; blank ones are zeros. */
static void sum_columns(void *context, size_t begin, size_t end, int worker)
{
    struct maker *m = context;
    (void)worker;
    for (size_t row = 0; row < m->space->items; row++) {
        const float *t = m->space->vectors + row * m->space->dim;
        for (size_t i = begin; i < end; i++)
            m->sums[i] += (double)t[i];
    }
}

static void centre_rows(void *context, size_t begin, size_t end, int worker)
{
    struct maker *m = context;
    size_t dim = m->space->dim;
    (void)worker;
    for (size_t row = begin; row < end; row++) {
        float *t = m->space->vectors + row * dim;
        if (m->lengths[row] == 0)
            continue;
        m->kernels->blend_f32(t, 1, m->space->mean, -1, dim);
        float length = (float)sqrt(dot(t, t, dim));
        m->lengths[row] = length > (float)LENGTH_LEAST ? length : 0;
        if (m->lengths[row] == 0)
            memset(t, 0, dim * sizeof *t);
    }
}

static void sum_years(void *context, size_t begin, size_t end, int worker)
{
    struct maker *m = context;
    size_t dim = m->space->dim;
    (void)worker;
    for (size_t row = 0; row < m->space->items; row++) {
        const float *t = m->space->vectors + row * dim;
        double *sum = m->sums + m->space->year_of[row] * dim;
        for (size_t i = begin; i < end; i++)
            sum[i] += (double)t[i];
    }
}

static void finish_rows(void *context, size_t begin, size_t end, int worker)
{
    struct maker *m = context;
    struct space *s = m->space;
    (void)worker;
    for (size_t row = begin; row < end; row++) {
        float *t = s->vectors + row * s->dim;
        const float *mean = s->year_means + s->year_of[row] * s->dim;
        double length = (double)m->lengths[row];
        if (length == 0)
            continue;
        double left = length * length - 2 * dot(t, mean, s->dim) + dot(mean, mean, s->dim);
        double apart = sqrt(left > 0 ? left : 0);
        bool points = apart > LENGTH_LEAST;
        s->stretch[row] = points ? (float)(length / apart) : 0;
        s->inverse[row] = points ? (float)(1 / apart) : 0;
        m->kernels->scale_f32(t, (float)(1 / length), s->dim);
    }
}

/* sums [classes][dim] to means, shrunk. */
static void divide(const struct maker *m, size_t classes, const uint32_t *counts, float *means)
{
    for (size_t c = 0; c < classes; c++)
        for (size_t i = 0; i < m->space->dim; i++)
            means[c * m->space->dim + i] =
                (float)(m->sums[c * m->space->dim + i] / (counts[c] + SPACE_PRIOR));
}

/* ---- all of it -------------------------------------------------------------------------- */

static void run(const struct backend *backend, size_t count,
                void (*part)(void *context, size_t begin, size_t end, int worker),
                struct maker *m)
{
    struct thread_pool *pool = cpu_threads(backend);
    if (pool)
        thread_pool_run(pool, count, part, m);
    else
        part(m, 0, count, 0);
}

/* Numbers the years that there are, in ascending order; false: no memory. */
static bool number_years(struct space *s, const struct catalog *catalog)
{
    uint16_t *number = memory_alloc(YEAR_LAST + 1, sizeof *number);
    if (!number)
        return false;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t row = 0; row < s->items; row++) {
            struct akin_item item;
            catalog_item(catalog, row, &item);
            int year = item.year >= YEAR_FIRST && item.year <= YEAR_LAST ? item.year : 0;
            s->year_of[row] = pass ? number[year] : 0;
            number[year] = pass ? number[year] : 1;
        }
        s->years = pass ? s->years : 1;
        number[0] = 0;
        for (int year = YEAR_FIRST; pass == 0 && year <= YEAR_LAST; year++)
            number[year] = number[year] ? (uint16_t)s->years++ : 0;
    }
    memory_free(number);
    return true;
}

static void make(struct maker *m, const struct backend *backend)
{
    struct space *s = m->space;
    run(backend, s->items, normalise_rows, m);
    uint32_t live = 0;
    for (size_t row = 0; row < s->items; row++)
        live += m->lengths[row] != 0;
    run(backend, s->dim, sum_columns, m);
    divide(m, 1, &live, s->mean);
    run(backend, s->items, centre_rows, m);
    for (size_t row = 0; row < s->items; row++) {
        bool blank = m->lengths[row] == 0;
        s->blank[row / 64] |= (uint64_t)blank << row % 64;
        s->blank_count += blank;
        m->counts[s->year_of[row]] += !blank;
    }
    memset(m->sums, 0, s->years * s->dim * sizeof *m->sums);
    run(backend, s->dim, sum_years, m);
    divide(m, s->years, m->counts, s->year_means);
    run(backend, s->items, finish_rows, m);
}

static enum akin_status reserve(struct space *s, const struct catalog *catalog,
                                struct akin_error *error)
{
    s->vectors = memory_alloc_aligned(s->items + 1, s->dim * sizeof *s->vectors);
    s->mean = memory_alloc_aligned(s->dim, sizeof *s->mean);
    s->blank = memory_alloc(s->items / 64 + 1, sizeof *s->blank);
    s->year_of = memory_alloc(s->items + 1, sizeof *s->year_of);
    s->stretch = memory_alloc(s->items + 1, sizeof *s->stretch);
    s->inverse = memory_alloc(s->items + 1, sizeof *s->inverse);
    if (!s->vectors || !s->mean || !s->blank || !s->year_of || !s->stretch || !s->inverse ||
        !number_years(s, catalog) ||
        !(s->year_means = memory_alloc_aligned(s->years, s->dim * sizeof *s->year_means)))
        return error_memory(error);
    return AKIN_OK;
}

enum akin_status space_create(const struct backend *backend, const struct catalog *catalog,
                              struct space **space, struct akin_error *error)
{
    struct akin_catalog_info info;
    catalog_info(catalog, &info);
    ASSERT(catalog_item_vectors(catalog) && info.dimension);
    enum akin_status status = AKIN_OK;
    struct maker m = { .kernels = cpu_kernels(backend),
                       .published = catalog_item_vectors(catalog) };
    struct space *s = m.space = memory_alloc(1, sizeof *s);
    if (!s)
        return error_memory(error);
    s->items = info.items;
    s->dim = info.dimension;
    TRY_DONE(reserve(s, catalog, error));
    m.sums = memory_alloc(s->years, s->dim * sizeof *m.sums);
    m.counts = memory_alloc(s->years, sizeof *m.counts);
    m.lengths = memory_alloc(s->items + 1, sizeof *m.lengths);
    if (!m.sums || !m.counts || !m.lengths)
        TRY_DONE(error_memory(error));
    make(&m, backend);
    *space = s;
done:
    memory_free(m.sums);
    memory_free(m.counts);
    memory_free(m.lengths);
    if (status != AKIN_OK)
        space_destroy(&s);
    return status;
}

void space_destroy(struct space **space)
{
    struct space *s = *space;
    if (!s)
        return;
    memory_free(s->vectors);
    memory_free(s->mean);
    memory_free(s->blank);
    memory_free(s->year_means);
    memory_free(s->year_of);
    memory_free(s->stretch);
    memory_free(s->inverse);
    memory_free(s);
    *space = NULL;
}

uint64_t space_bytes(const struct space *s)
{
    return s->items * (s->dim * sizeof *s->vectors + sizeof *s->year_of + sizeof *s->stretch +
                       sizeof *s->inverse) +
           (s->years + 1) * s->dim * sizeof *s->mean + s->items / 8;
}

/* ---- queries ---------------------------------------------------------------------------- */

bool space_map(const struct space *s, const struct backend *backend, const float *vector,
               float *out)
{
    const struct kernels *k = cpu_kernels(backend);
    memcpy(out, vector, s->dim * sizeof *out);
    if (!to_unit(k, out, s->dim))
        return false;
    k->blend_f32(out, 1, s->mean, -1, s->dim);
    return to_unit(k, out, s->dim);
}

bool space_item(const struct space *s, const struct backend *backend, size_t row, float *out)
{
    const struct kernels *k = cpu_kernels(backend);
    if (s->inverse[row] == 0)
        return false;
    memcpy(out, s->year_means + s->year_of[row] * s->dim, s->dim * sizeof *out);
    k->blend_f32(out, -s->inverse[row], s->vectors + row * s->dim, s->stretch[row], s->dim);
    return to_unit(k, out, s->dim);
}

void space_year_terms(const struct space *s, const struct backend *backend, const float *a,
                      float *terms)
{
    const struct kernels *k = cpu_kernels(backend);
    for (size_t year = 0; year < s->years; year++) {
        const float *mean = s->year_means + year * s->dim;
        k->score_dot_f32(&terms[year], a, 1, &mean, 1, s->dim);
    }
}
