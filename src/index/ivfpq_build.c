/* Kind "ivfpq": building. Centroids from a sample, each row to its nearest one, a codebook from the
 * residuals of another sample; then one pass over the rows writes their records and codes. What is
 * in memory at a time is the codes and a few numbers per row, never the rows.
 *
 * Residuals are taken from the centroids as they are stored, in eight bits, so that a row's score
 * is the centroid's plus its codes', and nothing is lost in between. */
#include <math.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "base/thread.h"
#include "index/ivfpq_parts.h"
#include "index/kmeans.h"

enum { CODEBOOK_ROWS = 16384, CODEBOOK_ITERATIONS = 12, CHUNK_ROWS = 8192, ROWS_PER_CELL = 16,
       NORM_LEVELS = 255 };

struct builder {
    const struct segment_build *build;
    const struct segment_sink *sink;
    struct ivfpq v;             /* what is built, as a search sees it */
    struct ivfpq_header header;
    struct ivf_cell *cells;
    float *mean, *codebook, *start;
    int8_t *centroids, *records;    /* [cells], [CHUNK_ROWS] records */
    uint32_t *cell_of, *position;   /* [rows] */
    uint8_t *codes;
    uint32_t *entries;
    float *residual_norm, *norm;    /* [rows]: |r|^2; L2: -|c + r|^2 / 2 by the codes */
    float *scratch;             /* [threads][scratch_floats] */
    size_t threads, scratch_floats;
    size_t first;               /* of the chunk at hand */
};

/* ---- sizes ------------------------------------------------------------------------------ */

/* Four times the square root of the rows; from 147,000 rows on 1,536, until those are few again:
 * the build compares every row with every centroid. */
static size_t choose_cells(const struct segment_build *build)
{
    size_t rows = build->rows.count, wanted = build->settings.nlist;
    double root = sqrt((double)rows);
    if (!wanted)
        wanted = (size_t)fmin(4 * root, fmax(1536, root));
    size_t most = rows / ROWS_PER_CELL > 1 ? rows / ROWS_PER_CELL : 1;
    wanted = wanted > most ? most : wanted;
    wanted = wanted > IVFPQ_CELLS_MAX ? IVFPQ_CELLS_MAX : wanted;
    return rows ? wanted : 0;
}

static enum akin_status choose_sizes(struct builder *b, struct akin_error *error)
{
    const struct segment_build *build = b->build;
    size_t dim = build->rows.dim, rows = build->rows.count;
    if (dim < 1 || dim > IVFPQ_DIM_MAX)
        return error_set(error, AKIN_LIMIT, "vectors of dimension %zu; an ivfpq index takes 1..%d: "
                                            "use kind flat",
                         dim, IVFPQ_DIM_MAX);
    if (rows > IVFPQ_ROWS_MAX)
        return error_set(error, AKIN_LIMIT, "%zu rows; an ivfpq segment takes at most %u", rows,
                         IVFPQ_ROWS_MAX);
    size_t bits = build->settings.pq_bits, bytes = build->settings.pq_bytes;
    if (bits && bits != 4 && bits != 8)
        return error_set(error, AKIN_ARGUMENT, "pq_bits %zu: product codes have 4 or 8 bits",
                         bits);
    size_t parts = (bytes ? bytes : (dim + 7) / 8) * (bits == 8 ? 1 : 2);
    parts = bytes || bits == 8 ? parts : (dim + 3) / 4;
    parts = parts > dim ? dim : parts;
    size_t width = (dim + parts - 1) / parts;
    parts = (dim + width - 1) / width;
    b->header = (struct ivfpq_header){
        .version = IVFPQ_VERSION, .score = (uint32_t)build->rows.score, .dim = (uint32_t)dim,
        .cells = (uint32_t)choose_cells(build), .parts = (uint32_t)parts,
        .width = (uint32_t)width, .wide = bits == 8, .rows = rows, .norm_step = 0 };
    struct ivfpq_header *h = &b->header;
    size_t all = parts + header_norm_parts(h), group = header_group(h);
    h->groups = (uint32_t)((all + group - 1) / group);
    return AKIN_OK;
}

static bool builder_init(struct builder *b)
{
    const struct ivfpq_header *h = &b->header;
    size_t rows = h->rows, padded = (size_t)h->parts * h->width;
    struct ivfpq *v = &b->v;
    *v = (struct ivfpq){ .backend = b->build->backend, .pool = b->build->pool,
                         .kernels = cpu_kernels(b->build->backend), .rows = b->build->rows,
                         .header = h, .depth = ((size_t)h->dim + 31) / 32 * 32 };
    v->stride = v->depth + sizeof(struct ivf_tail);
    b->threads = (size_t)thread_pool_size(b->build->pool);
    size_t codes = header_codes(h);
    b->scratch_floats = 2 * (size_t)h->dim + padded + 2 * h->parts * codes;
    b->cells = memory_alloc(h->cells, sizeof *b->cells);
    b->mean = memory_alloc(h->dim, sizeof *b->mean);
    b->codebook = memory_alloc(padded * codes, sizeof *b->codebook);
    b->start = memory_alloc(h->parts * codes, sizeof *b->start);
    b->centroids = memory_alloc(h->cells, v->stride);
    b->records = memory_alloc(CHUNK_ROWS, v->stride);
    b->cell_of = memory_alloc(rows, sizeof *b->cell_of);
    b->position = memory_alloc(rows, sizeof *b->position);
    b->residual_norm = memory_alloc(rows, sizeof *b->residual_norm);
    b->norm = memory_alloc(rows, sizeof *b->norm);
    b->scratch = memory_alloc_aligned(b->threads * b->scratch_floats, sizeof *b->scratch);
    v->cells = b->cells;
    v->mean = b->mean;
    v->codebook = b->codebook;
    v->centroids = b->centroids;
    return b->cells && b->mean && b->codebook && b->start && b->centroids && b->records &&
           b->cell_of && b->position && b->residual_norm && b->norm && b->scratch;
}

static void builder_deinit(struct builder *b)
{
    memory_free(b->cells);
    memory_free(b->mean);
    memory_free(b->codebook);
    memory_free(b->start);
    memory_free(b->centroids);
    memory_free(b->records);
    memory_free(b->cell_of);
    memory_free(b->position);
    memory_free(b->residual_norm);
    memory_free(b->norm);
    memory_free(b->scratch);
    memory_free(b->codes);
    memory_free(b->entries);
}

static enum akin_status progress(const struct builder *b, const char *stage, size_t done,
                                 size_t total, struct akin_error *error)
{
    const struct akin_progress *p = &b->build->settings.progress;
    if (p->update && !p->update(p->cookie, stage, done, total))
        return error_set(error, AKIN_CANCELLED, "stopped while the index was built");
    return AKIN_OK;
}

/* ---- cells ------------------------------------------------------------------------------ */

static enum akin_status train_cells(struct builder *b, float *centroids, struct akin_error *error)
{
    const struct segment_build *build = b->build;
    struct kmeans_settings settings = { .clusters = b->header.cells, .seed = build->settings.seed,
                                        .progress = build->settings.progress };
    TRY(kmeans_mean(build->backend, &build->rows, settings.seed, b->mean, error));
    TRY(kmeans_train(build->backend, build->pool, &build->rows, b->mean, &settings, centroids,
                     error));
    for (size_t c = 0; c < b->header.cells; c++) {
        record_write(&b->v, centroids + c * b->header.dim, b->centroids + c * b->v.stride);
        record_read(&b->v, b->centroids + c * b->v.stride, centroids + c * b->header.dim);
    }
    return AKIN_OK;
}

static enum akin_status assign_rows(struct builder *b, const float *centroids,
                                    struct akin_error *error)
{
    const struct segment_build *build = b->build;
    struct kmeans_assigner *assigner = NULL;
    size_t rows = b->header.rows, step = 16 * CHUNK_ROWS;
    TRY(kmeans_assigner_create(build->backend, build->pool, &build->rows, b->mean, centroids,
                               b->header.cells, &assigner, error));
    enum akin_status status = AKIN_OK;
    for (size_t row = 0; row < rows && status == AKIN_OK; row += step) {
        status = progress(b, "assign", row, rows, error);
        kmeans_assign(assigner, NULL, row, rows - row < step ? rows : row + step,
                      b->cell_of + row);
    }
    kmeans_assigner_destroy(&assigner);
    return status;
}

static bool place_rows(struct builder *b)
{
    struct ivfpq_header *h = &b->header;
    for (size_t row = 0; row < h->rows; row++)
        b->cells[b->cell_of[row]].rows++;
    uint32_t block = 0;
    for (size_t c = 0; c < h->cells; c++) {
        b->cells[c].first = block;
        block += (b->cells[c].rows + PQ4_BLOCK_ROWS - 1) / PQ4_BLOCK_ROWS;
        b->cells[c].rows = 0;
    }
    h->blocks = block;
    b->codes = memory_alloc((size_t)h->blocks * h->groups, PQ4_GROUP_BYTES);
    b->entries = memory_alloc((size_t)h->blocks * PQ4_BLOCK_ROWS, sizeof *b->entries);
    if (!b->codes || !b->entries)
        return false;
    memset(b->entries, 0xff, (size_t)h->blocks * PQ4_BLOCK_ROWS * sizeof *b->entries);
    for (size_t row = 0; row < h->rows; row++) {
        struct ivf_cell *cell = &b->cells[b->cell_of[row]];
        b->position[row] = cell->first * PQ4_BLOCK_ROWS + cell->rows++;
        b->entries[b->position[row]] = (uint32_t)row;
    }
    b->v.codes = b->codes;
    b->v.entries = b->entries;
    return true;
}

/* ---- the codebook ----------------------------------------------------------------------- */

void codebook_norms(const struct ivfpq *v, const float *codebook, float *start)
{
    const struct ivfpq_header *h = v->header;
    size_t codes = header_codes(h);
    for (size_t part = 0; part < h->parts; part++)
        for (size_t j = 0; j < codes; j++) {
            float sum = 0;
            for (size_t d = 0; d < h->width; d++) {
                float x = codebook[codebook_at(h, part, j, d)];
                sum += x * x;
            }
            start[part * codes + j] = -sum / 2;
        }
}

void code_products(const struct ivfpq *v, const float *x, const float *start, float *out)
{
    const struct ivfpq_header *h = v->header;
    const struct kernels *k = v->kernels;
    size_t slices = header_slices(h), width = h->width;
    if (slices == 1) {
        k->pq4_products_f32(out, x, v->codebook, start, h->parts, width);
        return;
    }
    for (size_t i = 0; i < h->parts * slices; i++)
        k->pq4_products_f32(out + i * PQ4_CODES, x + i / slices * width,
                            v->codebook + i * width * PQ4_CODES,
                            start ? start + i * PQ4_CODES : NULL, 1, width);
}

void encode(const struct encoder *e, const float *residual, float *products, uint32_t *codes)
{
    const struct ivfpq_header *h = e->v->header;
    const struct kernels *k = e->v->kernels;
    code_products(e->v, residual, e->start, products);
    k->argmax_f32(codes, products, header_codes(h), h->parts, header_codes(h));
}

/* Row less mean into `row`, less its centroid as well into `residual`. */
static void take_residual(const struct builder *b, size_t row, float *centred, float *centroid,
                          float *residual)
{
    const struct ivfpq *v = &b->v;
    size_t dim = b->header.dim, padded = (size_t)b->header.parts * b->header.width;
    segment_row(v->backend, &v->rows, row, b->mean, centred);
    record_read(v, b->centroids + b->cell_of[row] * v->stride, centroid);
    for (size_t d = 0; d < dim; d++)
        residual[d] = centred[d] - centroid[d];
    memset(residual + dim, 0, (padded - dim) * sizeof *residual);
}

struct codebook_training {
    struct builder *b;
    struct encoder encoder;
    const uint32_t *sample;
    size_t count;
    float *residuals;           /* [count][parts * width] */
    uint32_t *codes;            /* [count][parts] */
};

static void load_residuals(void *context, size_t begin, size_t end, int worker)
{
    const struct codebook_training *t = context;
    const struct builder *b = t->b;
    float *scratch = b->scratch + (size_t)worker * b->scratch_floats;
    size_t padded = (size_t)b->header.parts * b->header.width;
    for (size_t i = begin; i < end; i++)
        take_residual(b, t->sample[i], scratch, scratch + b->header.dim,
                      t->residuals + i * padded);
}

static void encode_sample(void *context, size_t begin, size_t end, int worker)
{
    const struct codebook_training *t = context;
    const struct ivfpq_header *h = &t->b->header;
    float *products = t->b->scratch + (size_t)worker * t->b->scratch_floats;
    for (size_t i = begin; i < end; i++)
        encode(&t->encoder, t->residuals + i * h->parts * h->width, products,
               t->codes + i * h->parts);
}

/* The mean of each code's members, part by part, in order of row; a code that nobody has stays. */
static void update_parts(void *context, size_t begin, size_t end, int worker)
{
    const struct codebook_training *t = context;
    const struct ivfpq_header *h = &t->b->header;
    size_t width = h->width, padded = h->parts * width, codes = header_codes(h);
    (void)worker;
    for (size_t part = begin; part < end; part++) {
        float *book = t->b->codebook;
        uint32_t counts[PQ8_CODES] = { 0 };
        for (size_t i = 0; i < t->count; i++)
            counts[t->codes[i * h->parts + part]]++;
        for (size_t j = 0; j < codes; j++)
            for (size_t d = 0; counts[j] && d < width; d++)
                book[codebook_at(h, part, j, d)] = 0;
        for (size_t i = 0; i < t->count; i++) {
            size_t j = t->codes[i * h->parts + part];
            const float *x = t->residuals + i * padded + part * width;
            for (size_t d = 0; d < width; d++)
                book[codebook_at(h, part, j, d)] += x[d];
        }
        for (size_t j = 0; j < codes; j++)
            for (size_t d = 0; counts[j] && d < width; d++)
                book[codebook_at(h, part, j, d)] /= (float)counts[j];
    }
}

/* Code j starts as a residual taken at equal steps from the sample. */
static void start_codebook(struct codebook_training *t)
{
    const struct ivfpq_header *h = &t->b->header;
    size_t padded = (size_t)h->parts * h->width, codes = header_codes(h);
    for (size_t i = 0; i < padded; i++)
        for (size_t j = 0; j < codes; j++)
            t->b->codebook[codebook_at(h, i / h->width, j, i % h->width)] =
                t->residuals[(j * t->count / codes) * padded + i];
}

static enum akin_status train_codebook(struct builder *b, struct akin_error *error)
{
    const struct ivfpq_header *h = &b->header;
    struct thread_pool *pool = b->build->pool;
    struct codebook_training t = { .b = b, .encoder = { &b->v, b->start },
                                   .count = h->rows < CODEBOOK_ROWS ? h->rows : CODEBOOK_ROWS };
    uint32_t *sample = memory_alloc(t.count, sizeof *sample);
    t.residuals = memory_alloc_aligned(t.count * h->parts * h->width, sizeof *t.residuals);
    t.codes = memory_alloc(t.count * h->parts, sizeof *t.codes);
    enum akin_status status = AKIN_OK;
    if (!sample || !t.residuals || !t.codes)
        TRY_DONE(error_memory(error));
    t.sample = sample;
    sample_rows(b->build->settings.seed + 2, h->rows, t.count, sample);
    thread_pool_run(pool, t.count, load_residuals, &t);
    start_codebook(&t);
    for (size_t i = 0; i < CODEBOOK_ITERATIONS; i++) {
        TRY_DONE(progress(b, "codebook", i, CODEBOOK_ITERATIONS, error));
        codebook_norms(&b->v, b->codebook, b->start);
        thread_pool_run(pool, t.count, encode_sample, &t);
        thread_pool_run(pool, h->parts, update_parts, &t);
    }
    codebook_norms(&b->v, b->codebook, b->start);
done:
    memory_free(t.codes);
    memory_free(t.residuals);
    memory_free(sample);
    return status;
}

/* ---- rows ------------------------------------------------------------------------------- */

static void put_code(const struct builder *b, size_t position, size_t part, uint32_t code)
{
    bool high = !b->header.wide && part % PQ4_GROUP >= 2;
    b->codes[code_byte(&b->header, position, part)] |= (uint8_t)(high ? code << 4 : code);
}

/* -|c + r|^2 / 2 as the codes have r. */
static float decoded_norm(const struct builder *b, const float *centroid, const uint32_t *codes)
{
    const struct ivfpq_header *h = &b->header;
    float sum = 0;
    for (size_t d = 0; d < h->dim; d++) {
        size_t part = d / h->width;
        float x = centroid[d] + b->codebook[codebook_at(h, part, codes[part], d % h->width)];
        sum += x * x;
    }
    return -sum / 2;
}

static void write_rows(void *context, size_t begin, size_t end, int worker)
{
    const struct builder *b = context;
    const struct ivfpq_header *h = &b->header;
    struct encoder encoder = { &b->v, b->start };
    float *centred = b->scratch + (size_t)worker * b->scratch_floats;
    float *centroid = centred + h->dim, *residual = centroid + h->dim;
    float *products = residual + (size_t)h->parts * h->width;
    uint32_t *codes = (uint32_t *)(products + h->parts * header_codes(h));
    for (size_t i = begin; i < end; i++) {
        size_t row = b->first + i;
        take_residual(b, row, centred, centroid, residual);
        record_write(&b->v, centred, b->records + i * b->v.stride);
        encode(&encoder, residual, products, codes);
        for (size_t part = 0; part < h->parts; part++)
            put_code(b, b->position[row], part, codes[part]);
        float sum = 0;
        for (size_t d = 0; d < h->dim; d++)
            sum += residual[d] * residual[d];
        b->residual_norm[row] = sum;
        if (h->score == SCORE_L2)
            b->norm[row] = decoded_norm(b, centroid, codes);
    }
}

static enum akin_status write_all_rows(struct builder *b, struct akin_error *error)
{
    const struct segment_sink *sink = b->sink;
    size_t rows = b->header.rows;
    TRY(sink->begin(sink->context, IVFPQ_ROWS, error));
    for (b->first = 0; b->first < rows; b->first += CHUNK_ROWS) {
        size_t count = rows - b->first < CHUNK_ROWS ? rows - b->first : CHUNK_ROWS;
        TRY(progress(b, "encode", b->first, rows, error));
        thread_pool_run(b->build->pool, count, write_rows, b);
        TRY(sink->append(sink->context, b->records, count * b->v.stride, error));
    }
    return AKIN_OK;
}

/* Spreads of the cells from their residuals; with L2 also their offsets, and what each row's norm
 * differs from its cell's, in 255 steps. */
static void finish_cells(struct builder *b)
{
    struct ivfpq_header *h = &b->header;
    float low = INFINITY, high = -INFINITY;
    for (size_t c = 0; c < h->cells; c++) {
        struct ivf_cell *cell = &b->cells[c];
        const uint32_t *rows = b->entries + (size_t)cell->first * PQ4_BLOCK_ROWS;
        double squares = 0, norms = 0, count = cell->rows ? cell->rows : 1;
        for (size_t i = 0; i < cell->rows; i++) {
            squares += (double)b->residual_norm[rows[i]];
            norms += (double)b->norm[rows[i]];
        }
        double sigma = sqrt(squares / count / h->dim);
        cell->spread = (float)(sigma * sqrt(2 * log(fmax(2, count))));
        cell->offset = h->score == SCORE_L2 ? (float)(norms / count) : 0;
        for (size_t i = 0; i < cell->rows && h->score == SCORE_L2; i++) {
            float more = b->norm[rows[i]] -= cell->offset;
            low = fminf(low, more);
            high = fmaxf(high, more);
        }
    }
    if (h->score != SCORE_L2)
        return;
    h->norm_step = high > low ? (high - low) / NORM_LEVELS : 0;
    for (size_t row = 0; row < h->rows; row++) {
        float level = h->norm_step > 0 ? (b->norm[row] - low) / h->norm_step + 0.5f : 0;
        uint32_t whole = level >= 0 && level <= NORM_LEVELS ? (uint32_t)level : NORM_LEVELS;
        put_code(b, b->position[row], h->parts, h->wide ? whole : whole >> 4);
        if (!h->wide)
            put_code(b, b->position[row], h->parts + 1, whole & 15);
    }
}

static enum akin_status write_block(const struct builder *b, uint32_t type, const void *data,
                                    size_t bytes, struct akin_error *error)
{
    TRY(b->sink->begin(b->sink->context, type, error));
    return bytes ? b->sink->append(b->sink->context, data, bytes, error) : AKIN_OK;
}

static enum akin_status write_blocks(const struct builder *b, struct akin_error *error)
{
    const struct ivfpq_header *h = &b->header;
    TRY(write_block(b, IVFPQ_CENTROIDS, b->centroids, h->cells * b->v.stride, error));
    TRY(write_block(b, IVFPQ_CELLS, b->cells, h->cells * sizeof *b->cells, error));
    TRY(write_block(b, IVFPQ_MEAN, b->mean, h->dim * sizeof *b->mean, error));
    TRY(write_block(b, IVFPQ_CODEBOOK, b->codebook,
                    h->parts * h->width * header_codes(h) * sizeof *b->codebook, error));
    TRY(write_block(b, IVFPQ_CODES, b->codes, h->blocks * h->groups * PQ4_GROUP_BYTES, error));
    TRY(write_block(b, IVFPQ_ENTRIES, b->entries, h->blocks * PQ4_BLOCK_ROWS * 4, error));
    return write_block(b, IVFPQ_HEADER, h, sizeof *h, error);
}

enum akin_status ivfpq_build(const struct segment_build *build, const struct segment_sink *sink,
                             struct akin_error *error)
{
    struct builder b = { .build = build, .sink = sink };
    TRY(choose_sizes(&b, error));
    float *centroids = NULL;
    enum akin_status status = AKIN_OK;
    if (!builder_init(&b))
        TRY_DONE(error_memory(error));
    centroids = memory_alloc_aligned((size_t)b.header.cells * b.header.dim + 1, sizeof *centroids);
    if (!centroids)
        TRY_DONE(error_memory(error));
    if (b.header.rows) {
        TRY_DONE(train_cells(&b, centroids, error));
        TRY_DONE(assign_rows(&b, centroids, error));
    }
    if (!place_rows(&b))
        TRY_DONE(error_memory(error));
    if (b.header.rows)
        TRY_DONE(train_codebook(&b, error));
    TRY_DONE(write_all_rows(&b, error));
    finish_cells(&b);
    TRY_DONE(ivfpq_calibrate(&b.v, b.position, build, b.header.plans, error));
    TRY_DONE(write_blocks(&b, error));
done:
    memory_free(centroids);
    builder_deinit(&b);
    return status;
}
