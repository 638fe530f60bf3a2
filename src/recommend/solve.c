/* Blocked sweeps (Gauss-Jordan without pivots; Goodnight, "A tutorial on the SWEEP operator",
 * 1979): sweeping block K turns
 *     A_KK -> -A_KK^-1,   A_iK -> A_iK A_KK^-1,   A_ij -> A_ij - A_iK A_KK^-1 A_Kj
 * and leaves -A^-1 once all blocks are swept. The matrix stays symmetric, so only its lower
 * triangle is worked on; nearly all work is one product of the project's kernel per block. The
 * blocks on the diagonal are inverted in double precision. Matrices here have a ridge on the
 * diagonal and a condition of some thousands, which float32 bears. */
#include "recommend/solve.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/thread.h"
#include "compute/cpu/kernels.h"

enum { BLOCK = 128 };   /* the depth of a product; its panels stay in the first-level cache */

struct sweep {
    const struct kernels *kernels;
    float *a;               /* [n][n] */
    size_t n, first, size;  /* the block */
    float *column;          /* [n][BLOCK] A_iK; zeros where i is in K */
    float *product;         /* [n][BLOCK] A_iK A_KK^-1; likewise */
    float *panels;          /* [n rounded up to nr / nr][BLOCK][nr] minus product, turned */
    float *inverse;         /* [BLOCK rounded up to nr / nr][BLOCK][nr] A_KK^-1 */
    double *square;         /* [BLOCK][BLOCK] */
    double *factor;         /* [BLOCK][BLOCK] */
};

/* square := its inverse, by a Cholesky factor in `factor`; false: not positive definite. */
static bool invert_small(double *square, double *factor, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double sum = square[i * BLOCK + j];
            for (size_t k = 0; k < j; k++)
                sum -= factor[i * BLOCK + k] * factor[j * BLOCK + k];
            if (i == j && !(sum > 0 && isfinite(sum)))
                return false;
            factor[i * BLOCK + j] = i == j ? sqrt(sum) : sum / factor[j * BLOCK + j];
        }
    for (size_t c = 0; c < n; c++) {    /* columns of the inverse, one pair of triangles each */
        double x[BLOCK];
        for (size_t i = 0; i < n; i++) {
            double sum = i == c;
            for (size_t k = 0; k < i; k++)
                sum -= factor[i * BLOCK + k] * x[k];
            x[i] = sum / factor[i * BLOCK + i];
        }
        for (size_t i = n; i-- > 0;) {
            for (size_t k = i + 1; k < n; k++)
                x[i] -= factor[k * BLOCK + i] * x[k];
            x[i] /= factor[i * BLOCK + i];
            square[i * BLOCK + c] = x[i];
        }
    }
    return true;
}

static size_t panel_count(const struct sweep *s, size_t cols)
{
    return (cols + s->kernels->gemm.nr - 1) / s->kernels->gemm.nr;
}

/* A_KK^-1 as panels, the columns of the block aside. */
static bool begin_block(struct sweep *s)
{
    size_t nr = s->kernels->gemm.nr, n = s->n;
    for (size_t i = 0; i < s->size; i++)
        for (size_t j = 0; j <= i; j++)
            s->square[i * BLOCK + j] = s->square[j * BLOCK + i] =
                (double)s->a[(s->first + i) * n + s->first + j];
    if (!invert_small(s->square, s->factor, s->size))
        return false;
    memset(s->inverse, 0, panel_count(s, BLOCK) * BLOCK * nr * sizeof *s->inverse);
    for (size_t k = 0; k < s->size; k++)
        for (size_t c = 0; c < s->size; c++)
            s->inverse[(c / nr * BLOCK + k) * nr + c % nr] = (float)s->square[k * BLOCK + c];
    return true;
}

/* column, product and panels of some rows. */
static void prepare_rows(void *context, size_t begin, size_t end, int worker)
{
    struct sweep *s = context;
    const struct kernels *k = s->kernels;
    size_t nr = k->gemm.nr, mr = k->gemm.mr, n = s->n;
    (void)worker;
    for (size_t i = begin; i < end; i++) {
        float *to = s->column + i * BLOCK;
        for (size_t b = 0; b < s->size; b++)
            to[b] = i < s->first            ? s->a[(s->first + b) * n + i]
                    : i < s->first + s->size ? 0
                                             : s->a[i * n + s->first + b];
    }
    for (size_t i = begin; i < end; i += mr) {
        size_t rows = end - i < mr ? end - i : mr;
        for (size_t p = 0; p < panel_count(s, s->size); p++) {
            size_t cols = s->size - p * nr < nr ? s->size - p * nr : nr;
            k->gemm_f32(s->product + i * BLOCK + p * nr, BLOCK, s->column + i * BLOCK, BLOCK,
                        s->inverse + p * BLOCK * nr, s->size, rows, cols, NULL, false);
        }
    }
    for (size_t i = begin; i < end; i++)
        for (size_t b = 0; b < s->size; b++)
            s->panels[(i / nr * BLOCK + b) * nr + i % nr] = -s->product[i * BLOCK + b];
}

/* A_ij of the lower triangle, for the columns of one panel. */
static void update_panel(void *context, size_t panel, int worker)
{
    struct sweep *s = context;
    const struct kernels *k = s->kernels;
    size_t nr = k->gemm.nr, mr = k->gemm.mr, n = s->n, j = panel * nr;
    size_t cols = n - j < nr ? n - j : nr;
    (void)worker;
    for (size_t i = j / mr * mr; i < n; i += mr)
        k->gemm_f32(s->a + i * n + j, n, s->column + i * BLOCK, BLOCK,
                    s->panels + panel * BLOCK * nr, s->size, n - i < mr ? n - i : mr, cols, NULL,
                    true);
}

static void end_block(struct sweep *s)
{
    size_t n = s->n;
    for (size_t i = 0; i < n; i++) {
        const float *from = s->product + i * BLOCK;
        for (size_t b = 0; b < s->size; b++)
            if (i < s->first)
                s->a[(s->first + b) * n + i] = from[b];
            else if (i < s->first + s->size)
                s->a[i * n + s->first + b] =
                    -(float)s->square[(i - s->first) * BLOCK + b];
            else
                s->a[i * n + s->first + b] = from[b];
    }
}

/* The whole matrix from minus its lower triangle. */
static void mirror_rows(void *context, size_t begin, size_t end, int worker)
{
    struct sweep *s = context;
    (void)worker;
    for (size_t i = begin; i < end; i++)
        for (size_t j = i + 1; j < s->n; j++)
            s->a[i * s->n + j] = -s->a[j * s->n + i];
}

static void finish(struct sweep *s, struct thread_pool *pool)
{
    thread_pool_run(pool, s->n, mirror_rows, s);
    for (size_t i = 0; i < s->n; i++)
        for (size_t j = 0; j <= i; j++)
            s->a[i * s->n + j] = -s->a[i * s->n + j];
}

static enum akin_status sweep_all(struct sweep *s, struct thread_pool *pool,
                                  struct akin_error *error)
{
    for (s->first = 0; s->first < s->n; s->first += BLOCK) {
        s->size = s->n - s->first < BLOCK ? s->n - s->first : BLOCK;
        if (!begin_block(s))
            return error_set(error, AKIN_FORMAT, "a matrix of %zu items is not positive definite",
                             s->n);
        thread_pool_run(pool, s->n, prepare_rows, s);
        thread_pool_each(pool, panel_count(s, s->n), update_panel, s);
        end_block(s);
    }
    finish(s, pool);
    return AKIN_OK;
}

enum akin_status symmetric_invert(const struct kernels *kernels, struct thread_pool *pool, float *a,
                                  size_t n, struct akin_error *error)
{
    size_t nr = kernels->gemm.nr, wide;
    struct sweep s = { .kernels = kernels, .a = a, .n = n };
    enum akin_status status;
    if (!size_mul(n + nr, BLOCK, &wide))
        return error_memory(error);
    s.column = memory_alloc(wide, sizeof *s.column);
    s.product = memory_alloc(wide, sizeof *s.product);
    s.panels = memory_alloc(wide, sizeof *s.panels);
    s.inverse = memory_alloc((BLOCK + nr) * BLOCK, sizeof *s.inverse);
    s.square = memory_alloc(BLOCK * BLOCK, sizeof *s.square);
    s.factor = memory_alloc(BLOCK * BLOCK, sizeof *s.factor);
    if (s.column && s.product && s.panels && s.inverse && s.square && s.factor)
        status = sweep_all(&s, pool, error);
    else
        status = error_memory(error);
    memory_free(s.column);
    memory_free(s.product);
    memory_free(s.panels);
    memory_free(s.inverse);
    memory_free(s.square);
    memory_free(s.factor);
    return status;
}
