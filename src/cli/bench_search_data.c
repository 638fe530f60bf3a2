/* The vectors and queries of a search benchmark: read, or made from a fixed seed. */
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/rng.h"
#include "cli/bench_search.h"

enum { CENTRES = 1024, MADE_DIMENSION = 384, SEED_CENTRES = 1, SEED_ROWS = 2, SEED_QUERIES = 3 };

static double length_of(const float *vector, size_t dimension)
{
    double sum = 0;
    for (size_t i = 0; i < dimension; i++)
        sum += (double)vector[i] * vector[i];
    return sqrt(sum);
}

/* `from`, and noise that is `noise` times as long, at the length of `from`. */
static void make_near(const float *from, size_t dimension, double noise, struct rng *rng,
                      float *out)
{
    double length = length_of(from, dimension);
    double scale = noise * length / sqrt((double)dimension);
    for (size_t i = 0; i < dimension; i++)
        out[i] = from[i] + (float)scale * rng_normal(rng);
    double made = length_of(out, dimension);
    for (size_t i = 0; i < dimension && made > 0; i++)
        out[i] = (float)(out[i] * length / made);
}

static float *alloc_rows(size_t rows, size_t dimension)
{
    size_t cells;
    return size_mul(rows, dimension, &cells) ? memory_alloc_aligned(cells, sizeof(float)) : NULL;
}

static enum akin_status make_rows(struct search_data *d, size_t rows, struct akin_error *error)
{
    struct rng rng;
    float *own = alloc_rows(rows, d->dimension), *centres = NULL;
    size_t first = d->given_rows, sources = d->given ? d->given_rows : CENTRES;
    if (!d->given)
        centres = alloc_rows(CENTRES, d->dimension);
    if (!own || (!d->given && !centres)) {
        memory_free(own);
        memory_free(centres);
        return error_set(error, AKIN_MEMORY, "no memory for %zu rows of %zu dimensions", rows,
                         d->dimension);
    }
    rng_seed(&rng, SEED_CENTRES);
    for (size_t c = 0; centres && c < CENTRES; c++) {
        float *centre = centres + c * d->dimension;
        for (size_t i = 0; i < d->dimension; i++)
            centre[i] = rng_normal(&rng);
        double length = length_of(centre, d->dimension);
        for (size_t i = 0; i < d->dimension; i++)
            centre[i] = (float)(centre[i] / length);
    }
    if (first)
        memcpy(own, d->given, first * d->dimension * sizeof(float));
    rng_seed(&rng, SEED_ROWS);
    for (size_t row = first; row < rows; row++) {
        const float *from =
            (centres ? centres : d->given) + rng_below(&rng, sources) * d->dimension;
        make_near(from, d->dimension, SEARCH_ROW_NOISE, &rng, own + row * d->dimension);
    }
    memory_free(centres);
    memory_free(d->own_rows);
    d->own_rows = own;
    d->own_count = rows;
    d->rows_made = true;
    return AKIN_OK;
}

enum akin_status search_data_rows(struct search_data *d, size_t rows, const float **out,
                                  struct akin_error *error)
{
    if (rows > d->given_rows && rows > d->own_count)
        TRY(make_rows(d, rows, error));
    *out = rows <= d->given_rows ? d->given : d->own_rows;
    return AKIN_OK;
}

static enum akin_status make_queries(struct search_data *d, size_t count, struct akin_error *error)
{
    struct rng rng;
    const float *rows;
    size_t sources = d->given_rows ? d->given_rows : CENTRES;
    TRY(search_data_rows(d, sources, &rows, error));
    d->own_queries = alloc_rows(count, d->dimension);
    if (!d->own_queries)
        return error_memory(error);
    rng_seed(&rng, SEED_QUERIES);
    for (size_t q = 0; q < count; q++)
        make_near(rows + rng_below(&rng, sources) * d->dimension, d->dimension, SEARCH_QUERY_NOISE,
                  &rng, d->own_queries + q * d->dimension);
    d->queries = d->own_queries;
    d->query_count = count;
    d->queries_made = true;
    return AKIN_OK;
}

static enum akin_status read_queries(struct search_data *d, const char *queries, size_t count,
                                     struct akin_error *error)
{
    TRY(vectors_input_open(queries, "test", &d->queries_input, error));
    if (d->dimension && vectors_input_dimension(d->queries_input) != d->dimension)
        return error_set(error, AKIN_ARGUMENT,
                         "%s: queries of %zu dimensions, the vectors have %zu", queries,
                         vectors_input_dimension(d->queries_input), d->dimension);
    TRY(vectors_input_all(d->queries_input, &d->queries, error));
    d->dimension = vectors_input_dimension(d->queries_input);
    d->query_count = vectors_input_rows(d->queries_input);
    if (count < d->query_count)
        d->query_count = count;
    if (d->query_count == 0)
        return error_set(error, AKIN_ARGUMENT, "%s: no queries in it", queries);
    return AKIN_OK;
}

enum akin_status search_data_open(struct search_data *d, const char *rows, const char *queries,
                                  size_t query_count, struct akin_error *error)
{
    *d = (struct search_data){.dimension = queries ? 0 : MADE_DIMENSION};
    if (rows) {
        TRY(vectors_input_open(rows, "train", &d->rows_input, error));
        d->dimension = vectors_input_dimension(d->rows_input);
        d->given_rows = vectors_input_rows(d->rows_input);
        if (d->given_rows == 0)
            return error_set(error, AKIN_ARGUMENT, "%s: no vectors in it", rows);
        TRY(vectors_input_all(d->rows_input, &d->given, error));
    }
    if (queries)
        return read_queries(d, queries, query_count, error);
    return make_queries(d, query_count, error);
}

void search_data_close(struct search_data *d)
{
    vectors_input_close(&d->rows_input);
    vectors_input_close(&d->queries_input);
    memory_free(d->own_rows);
    memory_free(d->own_queries);
    *d = (struct search_data){0};
}
