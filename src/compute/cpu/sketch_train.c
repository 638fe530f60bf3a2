/* Learns a space of sketches: mean, principal directions of each part, and how many bits each
 * direction is worth. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "compute/cpu/eigen.h"
#include "compute/cpu/sketch_space.h"

/* What is left of the variance of a direction after 0, 1 and 2 bits. */
static const float left_after[3] = { 1, 0.3634f, 0.1175f };
enum { HEADS = 8, TILE = 4 };
typedef double v2d __attribute__((vector_size(2 * sizeof(double))));

/* A principal direction of one part. */
struct direction {
    double variance;
    const double *vector;       /* [length of its part] */
    size_t part;
};

struct trainer {
    const struct sketch_training *t;
    struct sketch_header header;
    size_t part_dim;
    float *mean;                /* [dim] */
    float *unit;                /* [count][dim]: rows less the mean, at length 1 */
    float *panels;              /* of one part, see struct covariance_job */
    double *covariance, *values, *scratch;      /* of it as well */
    double *vectors;            /* [parts][part_dim][part_dim] */
    struct direction *directions;               /* [dim] */
};

static void find_mean(struct trainer *tr)
{
    const struct sketch_training *t = tr->t;
    for (size_t k = 0; k < t->dim; k++) {
        double sum = 0;
        for (size_t r = 0; r < t->count; r++)
            sum += (double)t->rows[r][k];
        tr->mean[k] = (float)(sum / (double)t->count);
    }
}

static void find_units(struct trainer *tr)
{
    const struct sketch_training *t = tr->t;
    for (size_t r = 0; r < t->count; r++) {
        double squares = 0;
        for (size_t k = 0; k < t->dim; k++) {
            double z = (double)t->rows[r][k] - (double)tr->mean[k];
            squares += z * z;
        }
        double inverse = squares > 0 ? 1 / sqrt(squares) : 0;
        for (size_t k = 0; k < t->dim; k++)
            tr->unit[r * t->dim + k] =
                (float)(((double)t->rows[r][k] - (double)tr->mean[k]) * inverse);
    }
}

struct covariance_job {
    const struct trainer *tr;
    size_t first, length;
    float *panels;              /* [round_up(length, TILE) / TILE][count][TILE] */
};

/* Sums of TILE x TILE products over all rows, in their order: panels [count][TILE]. */
static void add_products(const float *left, const float *right, size_t count,
                         double sums[TILE][TILE])
{
    v2d a0 = { 0 }, a1 = { 0 }, b0 = { 0 }, b1 = { 0 };     /* all of them stay in registers */
    v2d c0 = { 0 }, c1 = { 0 }, d0 = { 0 }, d1 = { 0 };
    for (const float *end = left + count * TILE; left < end; left += TILE, right += TILE) {
        v2d x = { (double)right[0], (double)right[1] }, y = { (double)right[2], (double)right[3] };
        double a = (double)left[0], b = (double)left[1], c = (double)left[2], d = (double)left[3];
        a0 += a * x, a1 += a * y;
        b0 += b * x, b1 += b * y;
        c0 += c * x, c1 += c * y;
        d0 += d * x, d1 += d * y;
    }
    const v2d own[TILE][2] = { { a0, a1 }, { b0, b1 }, { c0, c1 }, { d0, d1 } };
    memcpy(sums, own, sizeof own);
}

/* One line of tiles of the covariance of a part, up to the diagonal. */
static void covariance_tiles(void *context, size_t line, int worker)
{
    const struct covariance_job *job = context;
    size_t n = job->length, count = job->tr->t->count;
    const float *left = job->panels + line * count * TILE;
    (void)worker;
    for (size_t column = 0; column <= line; column++) {
        double sums[TILE][TILE];
        add_products(left, job->panels + column * count * TILE, count, sums);
        for (size_t i = 0; i < TILE && line * TILE + i < n; i++)
            for (size_t j = 0; j < TILE && column * TILE + j < n; j++)
                job->tr->covariance[(line * TILE + i) * n + column * TILE + j] = sums[i][j];
    }
}

/* TILE numbers of each row side by side; zeros behind the last one. */
static void pack_panels(const struct covariance_job *job)
{
    const struct sketch_training *t = job->tr->t;
    for (size_t k = 0; k < round_up(job->length, TILE); k++)
        for (size_t r = 0; r < t->count; r++)
            job->panels[(k / TILE * t->count + r) * TILE + k % TILE] =
                k < job->length ? job->tr->unit[r * t->dim + job->first + k] : 0;
}

static void mirror(double *a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            a[j * n + i] = a[i * n + j];
}

static void find_directions(struct trainer *tr, struct thread_pool *pool)
{
    size_t dim = tr->t->dim;
    for (size_t p = 0; p < tr->header.parts; p++) {
        size_t first = p * tr->part_dim, length = min_size(tr->part_dim, dim - first);
        double *vectors = tr->vectors + p * tr->part_dim * tr->part_dim;
        struct covariance_job job = { tr, first, length, tr->panels };
        pack_panels(&job);
        thread_pool_each(pool, (length + TILE - 1) / TILE, covariance_tiles, &job);
        mirror(tr->covariance, length);
        eigen_solve(tr->covariance, length, tr->values, vectors, tr->scratch);
        for (size_t i = 0; i < length; i++)
            tr->directions[first + i] =
                (struct direction){ fmax(tr->values[i], 0), vectors + i * length, p };
    }
}

static int by_variance(const void *a, const void *b)
{
    const struct direction *x = a, *y = b;
    if (x->variance != y->variance)
        return x->variance > y->variance ? -1 : 1;
    return x->vector < y->vector ? -1 : x->vector > y->vector;
}

/* Seven bits to the first ones; of the others, which are in descending order, one bit at a time to
 * the direction whose error it reduces most. */
static void share_bits(struct trainer *tr)
{
    struct sketch_header *h = &tr->header;
    size_t dim = tr->t->dim, bits = 8 * (size_t)h->planes, first, second;
    h->heads = (uint32_t)min_size(HEADS, dim);
    for (first = second = h->heads; bits && second < dim; bits--) {
        double gain_first = first < dim ? tr->directions[first].variance *
                                              (double)(left_after[0] - left_after[1]) : -1;
        double gain_second = second < first ? tr->directions[second].variance *
                                                  (double)(left_after[1] - left_after[2]) : -1;
        if (gain_first >= gain_second)
            first++;
        else
            second++;
    }
    h->twos = (uint32_t)(second - h->heads);
    h->ones = (uint32_t)(first - second);
}

/* Bytes of a row: an eighth of the dimension and a little; where vectors are short, more for each
 * dimension, because the noise of fewer ones averages less. Never more than two bits each. */
static size_t planes_for(const struct sketch_training *t)
{
    size_t usual = t->dim / 8 + 2, small = min_size(t->dim / 4 + HEADS, 32);
    size_t bytes = t->row_bytes ? t->row_bytes : usual > small ? usual : small;
    size_t rest = t->dim > HEADS ? t->dim - HEADS : 0;
    size_t planes = round_up(bytes > HEADS ? bytes - HEADS : 0, 3);
    return min_size(min_size(planes, round_up((rest + 3) / 4, 3)), SKETCH_PLANES_MAX);
}

static bool make_trainer(struct trainer *tr)
{
    const struct sketch_training *t = tr->t;
    size_t floats, packed, part = tr->part_dim * tr->part_dim;
    tr->mean = memory_alloc(t->dim, sizeof *tr->mean);
    tr->unit = size_mul(t->count, t->dim, &floats) ? memory_alloc(floats, sizeof *tr->unit) : NULL;
    if (size_mul(t->count, round_up(tr->part_dim, TILE), &packed))
        tr->panels = memory_alloc(packed, sizeof *tr->panels);
    tr->covariance = memory_alloc(part, sizeof *tr->covariance);
    tr->vectors = memory_alloc(part * tr->header.parts, sizeof *tr->vectors);
    tr->values = memory_alloc(tr->part_dim, sizeof *tr->values);
    tr->scratch = memory_alloc(3 * tr->part_dim, sizeof *tr->scratch);
    tr->directions = memory_alloc(t->dim, sizeof *tr->directions);
    return tr->mean && tr->unit && tr->panels && tr->covariance && tr->vectors && tr->values &&
           tr->scratch && tr->directions;
}

static void free_trainer(struct trainer *tr)
{
    memory_free(tr->mean);
    memory_free(tr->unit);
    memory_free(tr->panels);
    memory_free(tr->covariance);
    memory_free(tr->vectors);
    memory_free(tr->values);
    memory_free(tr->scratch);
    memory_free(tr->directions);
}

static size_t length_of(const struct trainer *tr, const struct direction *d)
{
    return min_size(tr->part_dim, tr->t->dim - d->part * tr->part_dim);
}

/* A direction in signed bytes; returns their scale. */
static float narrow_direction(int8_t *out, const double *direction, size_t length)
{
    double largest = 0;
    for (size_t k = 0; k < length; k++)
        largest = fmax(largest, fabs(direction[k]));
    for (size_t k = 0; k < length; k++)
        out[k] = (int8_t)lrint(largest > 0 ? direction[k] / largest * 127 : 0);
    return (float)(largest / 127);
}

static void *write_blob(const struct trainer *tr, size_t *bytes)
{
    const struct sketch_header *h = &tr->header;
    size_t dim = tr->t->dim, count = (size_t)h->heads + h->twos + h->ones, used;
    used = sizeof *h + (dim + 3 * count) * sizeof(float);
    for (size_t i = 0; i < count; i++)
        used += length_of(tr, &tr->directions[i]);
    *bytes = round_up(used, 64);
    void *blob = memory_alloc_aligned(*bytes, 1);
    if (!blob)
        return NULL;
    memset(blob, 0, *bytes);
    memcpy(blob, h, sizeof *h);
    float *at = (float *)((struct sketch_header *)blob + 1);
    memcpy(at, tr->mean, dim * sizeof *at);
    at += dim;
    int8_t *direction = (int8_t *)(at + 3 * count);
    for (size_t i = 0; i < count; i++) {
        const struct direction *d = &tr->directions[i];
        at[i] = (float)sqrt(d->variance / (double)tr->t->count);
        at[count + i] = (float)d->part;
        at[2 * count + i] = narrow_direction(direction, d->vector, length_of(tr, d));
        direction += length_of(tr, d);
    }
    return blob;
}

enum akin_status sketch_train(struct backend *backend, const struct sketch_training *training,
                              struct sketch **space, struct akin_error *error)
{
    const struct sketch_training *t = training;
    if (t->dim < 1 || t->dim > SKETCH_DIM_MAX || t->count < 1)
        return error_set(error, AKIN_ARGUMENT, "sketches of %zu rows of dimension %zu: at least "
                         "one row, and dimensions 1..%d", t->count, t->dim, SKETCH_DIM_MAX);
    struct trainer tr = { .t = t, .part_dim = sketch_part_dim(t->dim) };
    tr.header = (struct sketch_header){
        .magic = SKETCH_MAGIC, .dim = (uint32_t)t->dim, .score = (uint32_t)t->score,
        .block_rows = (uint32_t)t->block_rows, .planes = (uint32_t)planes_for(t),
        .parts = (uint32_t)sketch_parts(t->dim),
    };
    enum akin_status status = AKIN_OK;
    void *blob = NULL;
    size_t bytes;
    if (!make_trainer(&tr))
        TRY_DONE(error_memory(error));
    find_mean(&tr);
    find_units(&tr);
    find_directions(&tr, ((struct cpu_backend *)backend)->pool);
    qsort(tr.directions, t->dim, sizeof *tr.directions, by_variance);
    share_bits(&tr);
    blob = write_blob(&tr, &bytes);
    if (!blob)
        TRY_DONE(error_memory(error));
    TRY_DONE(sketch_open(backend, blob, bytes, space, error));
    (*space)->owned = blob;
    blob = NULL;
done:
    memory_free(blob);
    free_trainer(&tr);
    return status;
}
