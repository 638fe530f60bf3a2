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
enum { HEADS = 8 };

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
    double *covariance, *values, *scratch;      /* of one part */
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
};

/* Rows [begin, end) of the covariance of a part; eight of them at a time share what is read. */
static void covariance_rows(void *context, size_t begin, size_t end, int worker)
{
    const struct covariance_job *job = context;
    const struct sketch_training *t = job->tr->t;
    size_t n = job->length;
    (void)worker;
    memset(job->tr->covariance + begin * n, 0, (end - begin) * n * sizeof(double));
    for (size_t i = begin; i < end; i += 8)
        for (size_t r = 0; r < t->count; r++) {
            const float *u = job->tr->unit + r * t->dim + job->first;
            for (size_t a = i; a < end && a < i + 8; a++) {
                double x = (double)u[a], *row = job->tr->covariance + a * n;
                for (size_t b = 0; b < n; b++)
                    row[b] += x * (double)u[b];
            }
        }
}

static void find_directions(struct trainer *tr, struct thread_pool *pool)
{
    size_t dim = tr->t->dim;
    for (size_t p = 0; p < tr->header.parts; p++) {
        size_t first = p * tr->part_dim, length = min_size(tr->part_dim, dim - first);
        double *vectors = tr->vectors + p * tr->part_dim * tr->part_dim;
        struct covariance_job job = { tr, first, length };
        thread_pool_run(pool, length, covariance_rows, &job);
        eigen_symmetric(tr->covariance, length, tr->values, vectors, tr->scratch);
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
    size_t floats, part = tr->part_dim * tr->part_dim;
    tr->mean = memory_alloc(t->dim, sizeof *tr->mean);
    tr->unit = size_mul(t->count, t->dim, &floats) ? memory_alloc(floats, sizeof *tr->unit) : NULL;
    tr->covariance = memory_alloc(part, sizeof *tr->covariance);
    tr->vectors = memory_alloc(part * tr->header.parts, sizeof *tr->vectors);
    tr->values = memory_alloc(tr->part_dim, sizeof *tr->values);
    tr->scratch = memory_alloc(3 * tr->part_dim, sizeof *tr->scratch);
    tr->directions = memory_alloc(t->dim, sizeof *tr->directions);
    return tr->mean && tr->unit && tr->covariance && tr->vectors && tr->values && tr->scratch &&
           tr->directions;
}

static void free_trainer(struct trainer *tr)
{
    memory_free(tr->mean);
    memory_free(tr->unit);
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

static void *write_blob(const struct trainer *tr, size_t *bytes)
{
    const struct sketch_header *h = &tr->header;
    size_t dim = tr->t->dim, count = (size_t)h->heads + h->twos + h->ones, floats = dim + 2 * count;
    for (size_t i = 0; i < count; i++)
        floats += length_of(tr, &tr->directions[i]);
    *bytes = round_up(sizeof *h + floats * sizeof(float), 64);
    void *blob = memory_alloc_aligned(*bytes, 1);
    if (!blob)
        return NULL;
    memset(blob, 0, *bytes);
    memcpy(blob, h, sizeof *h);
    float *at = (float *)((struct sketch_header *)blob + 1);
    memcpy(at, tr->mean, dim * sizeof *at);
    at += dim;
    for (size_t i = 0; i < count; i++) {
        at[i] = (float)sqrt(tr->directions[i].variance / (double)tr->t->count);
        at[count + i] = (float)tr->directions[i].part;
    }
    at += 2 * count;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < length_of(tr, &tr->directions[i]); k++)
            *at++ = (float)tr->directions[i].vector[k];
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
