/* A device that encodes, against the formula in double with the weights that it has (fp16): every
 * pooling, heads of 32 and 64, shapes with and without kernels of their own, ragged lengths; and
 * the promise about bits: a sequence has the same bits alone, in a small batch that is recorded, in
 * a large one, and at another place of it.
 *
 *   encode_devicecheck [cuda [--bench]]
 *
 * --bench: how long batches of the shapes of all-MiniLM-L6-v2 and -L12-v2 take, with random
 * weights, by the device's clock and by the host's.
 *
 * Exit status: 0 fine, 1 failed, 2 wrong use, 77 there is no card. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/rng.h"
#include "compute/cpu/half.h"
#include "device_check.h"

enum { VOCABULARY = 500, POSITIONS = 300, SEQUENCES_MAX = 64, TOKENS_MAX = 4096 };
/* Of --bench: films have 16 tokens, queries 23. */
enum { BENCH_TEXTS = 1024, BENCH_TOKENS = 16, ONE_TOKENS = 23, BENCH_TURNS = 20 };

static const double cosine_least = 0.99999;
/* In bytes: to the formula with the same levels, of which rounding may take the next one. Of 144
 * sequences by eight seeds eight were below 0.9999, the worst 0.99981; means of four or five were
 * at least 0.99991. And to the plain formula, with random weights: where a level is the next one,
 * the other was hardly nearer, so that on the mean the device is as far from it as levels are (0.86
 * to 1.14 times as far), whatever they lose. */
static const double narrow_cosine_mean = 0.9999, narrow_cosine_least = 0.9997,
                    narrow_cosine_plain = 0.99, narrow_loss_most = 1.3;
enum { GROUP = 64 };
static const double gelu_least = -0.17;

static struct rng rng;
static const struct encoder_device_ops *ops;

static void expect(bool ok, const char *what, const struct encoder_shape *s, double found)
{
    checks++;
    if (ok)
        return;
    failures++;
    printf("FAILED %s: hidden %zu, heads %zu, pooling %d, precision %d: %.9g\n", what, s->hidden,
           s->heads, (int)s->pooling, (int)s->precision, found);
}

/* ---- a model of random weights ---------------------------------------------------------- */

struct linear_weights {
    float *weight, *bias;       /* [rows][cols], [rows] */
    float *equalizer;           /* [cols], or NULL */
    size_t rows, cols;
};

struct layer_weights {
    struct linear_weights linears[ENCODER_LINEARS];
    float *gamma[ENCODER_NORMS], *beta[ENCODER_NORMS];
};

struct weights {
    struct encoder_shape shape;
    float *word, *position, *type, *gamma, *beta;
    struct layer_weights *layers;
};

/* Of fp16 numbers, as the device has them. */
static float *random_halves(size_t count, float spread, float center)
{
    float *x = must_have(memory_alloc(count, sizeof *x));
    for (size_t i = 0; i < count; i++)
        x[i] = f16_to_f32(f32_to_f16(center + spread * rng_normal(&rng)));
    return x;
}

static void weights_init(struct weights *w, const struct encoder_shape *shape)
{
    size_t h = shape->hidden, wide = shape->intermediate;
    const size_t sizes[ENCODER_LINEARS][2] = { { 3 * h, h }, { h, h }, { wide, h }, { h, wide } };
    w->shape = *shape;
    w->word = random_halves(VOCABULARY * h, 0.1f, 0);
    w->position = random_halves(POSITIONS * h, 0.05f, 0);
    w->type = random_halves(h, 0.05f, 0);
    w->gamma = random_halves(h, 0.1f, 1);
    w->beta = random_halves(h, 0.1f, 0);
    w->layers = must_have(memory_alloc(shape->layers, sizeof *w->layers));
    for (size_t l = 0; l < shape->layers; l++) {
        struct layer_weights *layer = &w->layers[l];
        for (int i = 0; i < ENCODER_LINEARS; i++) {
            struct linear_weights *linear = &layer->linears[i];
            linear->rows = sizes[i][0];
            linear->cols = sizes[i][1];
            linear->weight = random_halves(linear->rows * linear->cols,
                                           1.5f / sqrtf((float)linear->cols), 0);
            linear->bias = random_halves(linear->rows, 0.1f, 0);
            linear->equalizer = NULL;
            if (i == ENCODER_QKV || i == ENCODER_INTERMEDIATE)
                linear->equalizer = random_halves(linear->cols, 0.1f, 1);
        }
        for (int i = 0; i < ENCODER_NORMS; i++) {
            layer->gamma[i] = random_halves(h, 0.1f, 1);
            layer->beta[i] = random_halves(h, 0.1f, 0);
        }
    }
}

static void weights_deinit(struct weights *w)
{
    for (size_t l = 0; l < w->shape.layers; l++) {
        for (int i = 0; i < ENCODER_LINEARS; i++) {
            memory_free(w->layers[l].linears[i].weight);
            memory_free(w->layers[l].linears[i].bias);
            memory_free(w->layers[l].linears[i].equalizer);
        }
        for (int i = 0; i < ENCODER_NORMS; i++) {
            memory_free(w->layers[l].gamma[i]);
            memory_free(w->layers[l].beta[i]);
        }
    }
    memory_free(w->layers);
    memory_free(w->word);
    memory_free(w->position);
    memory_free(w->type);
    memory_free(w->gamma);
    memory_free(w->beta);
}

static struct encoder_device *device_of(const struct weights *w)
{
    const struct encoder_shape *s = &w->shape;
    struct encoder_device *device = NULL;
    struct embedding_tables tables = {
        .word = { w->word, ELEMENT_F32, VOCABULARY, s->hidden },
        .position = { w->position, ELEMENT_F32, POSITIONS, s->hidden },
        .type = { w->type, ELEMENT_F32, 1, s->hidden },
        .gamma = w->gamma, .beta = w->beta, .epsilon = s->epsilon
    };
    must(ops->create(0, s, &tables, &device, &error));
    for (size_t l = 0; l < s->layers; l++) {
        const struct layer_weights *layer = &w->layers[l];
        for (int i = 0; i < ENCODER_LINEARS; i++) {
            const struct linear_weights *linear = &layer->linears[i];
            struct host_matrix matrix = { linear->weight, ELEMENT_F32, linear->rows, linear->cols };
            if (s->precision == COMPUTE_INT8 && linear->equalizer)
                must(ops->set_equalizer(device, l, (enum encoder_linear)i, linear->equalizer,
                                        linear->cols, &error));
            must(ops->set_linear(device, l, (enum encoder_linear)i, &matrix, linear->bias, &error));
        }
        for (int i = 0; i < ENCODER_NORMS; i++)
            must(ops->set_norm(device, l, (enum encoder_norm)i, layer->gamma[i], layer->beta[i],
                               &error));
    }
    return device;
}

/* ---- the formula ------------------------------------------------------------------------ */

static double *doubles(size_t count)
{
    return must_have(memory_alloc(count, sizeof(double)));
}

static void norm_row(double *x, size_t count, const float *gamma, const float *beta, double epsilon)
{
    double mean = 0, squares = 0;
    for (size_t i = 0; i < count; i++)
        mean += x[i] / (double)count;
    for (size_t i = 0; i < count; i++)
        squares += (x[i] - mean) * (x[i] - mean) / (double)count;
    for (size_t i = 0; i < count; i++)
        x[i] = (x[i] - mean) / sqrt(squares + epsilon) * (double)gamma[i] + (double)beta[i];
}

static void map(const struct linear_weights *linear, const double *x, size_t rows, double *out)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < linear->rows; c++) {
            double sum = (double)linear->bias[c];
            for (size_t k = 0; k < linear->cols; k++)
                sum += x[r * linear->cols + k] * (double)linear->weight[c * linear->cols + k];
            out[r * linear->rows + c] = sum;
        }
}

/* What a row [cols] of x becomes: over its equaliser, on 256 levels between its extremes. */
static void narrow_row(const struct linear_weights *linear, double *x)
{
    double low = INFINITY, high = -INFINITY;
    for (size_t k = 0; k < linear->cols; k++) {
        x[k] /= (double)linear->equalizer[k];
        low = fmin(low, x[k]);
        high = fmax(high, x[k]);
    }
    for (size_t k = 0; k < linear->cols; k++)
        x[k] = (low + rint((x[k] - low) / (high - low) * 255) * (high - low) / 255)
               * (double)linear->equalizer[k];
}

static void narrow_groups(const struct linear_weights *linear, double *x)
{
    for (size_t first = 0; first < linear->cols; first += GROUP) {
        double high = gelu_least;
        for (size_t k = first; k < first + GROUP; k++)
            high = fmax(high, x[k]);
        double step = (high - gelu_least) / 255;
        for (size_t k = first; k < first + GROUP; k++)
            x[k] = gelu_least + rint((x[k] - gelu_least) / step) * step;
    }
}

/* The weights and inputs of a linear map in bytes; both may be written over. */
static void narrow_map(const struct linear_weights *linear, double *x, size_t rows, double *out)
{
    struct linear_weights on_levels = *linear;
    on_levels.weight = must_have(memory_alloc(linear->rows * linear->cols, sizeof(float)));
    for (size_t r = 0; r < linear->rows; r++) {
        const float *from = linear->weight + r * linear->cols;
        float *to = on_levels.weight + r * linear->cols, largest = 0;
        for (size_t k = 0; k < linear->cols; k++) {
            to[k] = from[k] * (linear->equalizer ? linear->equalizer[k] : 1);
            largest = fmaxf(largest, fabsf(to[k]));
        }
        for (size_t k = 0; k < linear->cols; k++)
            to[k] = rintf(to[k] / (largest / 127)) * (largest / 127)
                    / (linear->equalizer ? linear->equalizer[k] : 1);
    }
    for (size_t r = 0; r < rows; r++)
        if (linear->equalizer)
            narrow_row(linear, x + r * linear->cols);
        else
            narrow_groups(linear, x + r * linear->cols);
    map(&on_levels, x, rows, out);
    memory_free(on_levels.weight);
}

/* As the device has it: the output of attention stays as it is. */
static void map_as(enum compute_precision precision, const struct linear_weights *linear,
                   const double *x, size_t rows, double *out)
{
    if (precision != COMPUTE_INT8) {
        map(linear, x, rows, out);
        return;
    }
    double *copy = must_have(memory_alloc(rows * linear->cols, sizeof *copy));
    memcpy(copy, x, rows * linear->cols * sizeof *copy);
    narrow_map(linear, copy, rows, out);
    memory_free(copy);
}

/* Row `row` of one head. */
static void attend(const double *qkv, size_t rows, size_t row, size_t hidden, size_t first,
                   size_t dim, double *weights, double *out)
{
    double top = -INFINITY, total = 0;
    const double *query = qkv + row * 3 * hidden + first;
    for (size_t key = 0; key < rows; key++) {
        const double *k = qkv + key * 3 * hidden + hidden + first;
        weights[key] = 0;
        for (size_t i = 0; i < dim; i++)
            weights[key] += query[i] * k[i] / sqrt((double)dim);
        top = fmax(top, weights[key]);
    }
    for (size_t key = 0; key < rows; key++)
        total += weights[key] = exp(weights[key] - top);
    for (size_t i = 0; i < dim; i++) {
        out[row * hidden + first + i] = 0;
        for (size_t key = 0; key < rows; key++)
            out[row * hidden + first + i] += weights[key] / total
                                             * qkv[key * 3 * hidden + 2 * hidden + first + i];
    }
}

static void run_layer(const struct weights *w, const struct layer_weights *layer, double *x,
                      size_t rows)
{
    const struct encoder_shape *s = &w->shape;
    size_t h = s->hidden, dim = h / s->heads;
    double *qkv = doubles(rows * 3 * h), *context = doubles(rows * h), *y = doubles(rows * h);
    double *wide = doubles(rows * s->intermediate), *weights = doubles(rows);
    map_as(s->precision, &layer->linears[ENCODER_QKV], x, rows, qkv);
    for (size_t row = 0; row < rows; row++)
        for (size_t head = 0; head < s->heads; head++)
            attend(qkv, rows, row, h, head * dim, dim, weights, context);
    for (int i = 0; i < ENCODER_NORMS; i++) {
        if (i == ENCODER_ATTENTION_NORM) {
            map(&layer->linears[ENCODER_ATTENTION_OUTPUT], context, rows, y);
        } else {
            map_as(s->precision, &layer->linears[ENCODER_INTERMEDIATE], x, rows, wide);
            for (size_t k = 0; k < rows * s->intermediate; k++)
                wide[k] = 0.5 * wide[k] * erfc(-wide[k] * M_SQRT1_2);
            map_as(s->precision, &layer->linears[ENCODER_OUTPUT], wide, rows, y);
        }
        for (size_t k = 0; k < rows * h; k++)
            x[k] += y[k];
        for (size_t row = 0; row < rows; row++)
            norm_row(x + row * h, h, layer->gamma[i], layer->beta[i], (double)s->epsilon);
    }
    double *all[] = { qkv, context, y, wide, weights };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        memory_free(all[i]);
}

static void encode_truly(const struct weights *w, const struct packed_batch *batch, size_t sequence,
                         double *vector)
{
    const struct encoder_shape *s = &w->shape;
    size_t first = batch->offsets[sequence], rows = batch->offsets[sequence + 1] - first;
    size_t h = s->hidden;
    double *x = doubles(rows * h);
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < h; c++)
            x[r * h + c] = (double)w->word[(size_t)batch->ids[first + r] * h + c]
                           + (double)w->type[c]
                           + (double)w->position[(size_t)batch->positions[first + r] * h + c];
        norm_row(x + r * h, h, w->gamma, w->beta, (double)s->epsilon);
    }
    for (size_t l = 0; l < s->layers; l++)
        run_layer(w, &w->layers[l], x, rows);
    for (size_t c = 0; c < h; c++) {
        vector[c] = x[c];
        for (size_t r = 1; r < rows && s->pooling != POOLING_CLS; r++)
            vector[c] = s->pooling == POOLING_MAX ? fmax(vector[c], x[r * h + c])
                                                  : vector[c] + x[r * h + c];
        if (s->pooling == POOLING_MEAN)
            vector[c] /= (double)rows;
    }
    memory_free(x);
}

/* ---- batches ---------------------------------------------------------------------------- */

struct batch {
    struct packed_batch packed;
    int32_t ids[TOKENS_MAX], positions[TOKENS_MAX];
    uint32_t offsets[SEQUENCES_MAX + 1];
};

static void batch_begin(struct batch *b)
{
    b->offsets[0] = 0;
    b->packed = (struct packed_batch){ .ids = b->ids, .positions = b->positions,
                                       .offsets = b->offsets };
}

static void batch_add(struct batch *b, const int32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        b->ids[b->packed.tokens] = ids[i];
        b->positions[b->packed.tokens++] = (int32_t)(i + 2);
    }
    b->offsets[++b->packed.sequences] = (uint32_t)b->packed.tokens;
}

static void batch_random(struct batch *b, const size_t *lengths, size_t sequences)
{
    static int32_t ids[POSITIONS];
    batch_begin(b);
    for (size_t s = 0; s < sequences; s++) {
        for (size_t i = 0; i < lengths[s]; i++)
            ids[i] = (int32_t)rng_below(&rng, VOCABULARY);
        batch_add(b, ids, lengths[s]);
    }
}

/* Sequence s of `from` alone. */
static void batch_alone(struct batch *b, const struct batch *from, size_t s)
{
    batch_begin(b);
    batch_add(b, from->ids + from->offsets[s], from->offsets[s + 1] - from->offsets[s]);
}

/* ---- checks ----------------------------------------------------------------------------- */

static struct batch all, part;

static void check_truth(const struct weights *w, const struct batch *b, const float *vectors,
                        size_t from, size_t to)
{
    size_t h = w->shape.hidden;
    double *truth = doubles(h), sum = 0, lost = 0, lost_by_levels = 0;
    float *levels = must_have(memory_alloc(h, sizeof *levels));
    bool bytes = w->shape.precision == COMPUTE_INT8;
    struct weights plain = *w;
    plain.shape.precision = COMPUTE_FP16;
    for (size_t s = from; s < to; s++) {
        encode_truly(w, &b->packed, s, truth);
        double found = cosine(vectors + s * h, truth, h), length = 0;
        sum += found;
        expect(found >= (bytes ? narrow_cosine_least : cosine_least), "cosine with the formula",
               &w->shape, found);
        for (size_t i = 0; i < h; i++)
            length += (double)vectors[s * h + i] * (double)vectors[s * h + i];
        expect(fabs(length - 1) < 1e-5, "length", &w->shape, length);
        if (!bytes)
            continue;
        for (size_t i = 0; i < h; i++)
            levels[i] = (float)truth[i];
        encode_truly(&plain, &b->packed, s, truth);
        lost_by_levels += 1 - cosine(levels, truth, h);
        found = cosine(vectors + s * h, truth, h);
        lost += 1 - found;
        expect(found >= narrow_cosine_plain, "cosine with the plain formula", &w->shape, found);
    }
    sum /= (double)(to - from);
    expect(sum >= (bytes ? narrow_cosine_mean : cosine_least), "mean cosine", &w->shape, sum);
    expect(lost <= narrow_loss_most * lost_by_levels, "what levels lose, times", &w->shape,
           bytes ? lost / lost_by_levels : 0);
    memory_free(levels);
    memory_free(truth);
}

/* Alone, three times: without a recording, while it is made, and played. */
static void check_alone(const struct weights *w, struct encoder_stream *stream, size_t sequence,
                        const float *vectors)
{
    size_t h = w->shape.hidden;
    float *alone = must_have(memory_alloc(h, sizeof *alone));
    batch_alone(&part, &all, sequence);
    for (int turn = 0; turn < 3; turn++) {
        memset(alone, 0xff, h * sizeof *alone);
        must(ops->run(stream, &part.packed, true, alone, &error));
        expect(!memcmp(alone, vectors + sequence * h, h * sizeof *alone), "bits, alone", &w->shape,
               turn);
    }
    memory_free(alone);
}

static void check_unnormalized(const struct weights *w, struct encoder_stream *stream)
{
    size_t h = w->shape.hidden;
    float *vector = must_have(memory_alloc(h, sizeof *vector));
    double *truth = doubles(h), worst = 0, largest = 0;
    batch_alone(&part, &all, 0);
    must(ops->run(stream, &part.packed, false, vector, &error));
    encode_truly(w, &part.packed, 0, truth);
    for (size_t i = 0; i < h; i++) {
        worst = fmax(worst, fabs((double)vector[i] - truth[i]));
        largest = fmax(largest, fabs(truth[i]));
    }
    expect(worst < 0.02 * largest, "not normalised: largest difference", &w->shape, worst);
    memory_free(vector);
    memory_free(truth);
}

static void check_shape(struct encoder_shape shape, bool with_many)
{
    /* few: the kernels for few rows, recorded; many: those for many, and above 64 keys */
    static const size_t few[] = { 1, 9, 16, 17, 3 }, many[] = { 70, 1, 130, 64, 65, 2, 31, 90, 128,
                                                               33, 5, 16 };
    enum { FEW = sizeof few / sizeof *few, MANY = sizeof many / sizeof *many };
    struct weights w;
    struct encoder_stream *stream = NULL;
    rng_seed(&rng, 11);         /* whichever shapes came before */
    weights_init(&w, &shape);
    struct encoder_device *device = device_of(&w);
    must(ops->stream_create(device, 1024, SEQUENCES_MAX, &stream, &error));
    float *vectors = must_have(memory_alloc(SEQUENCES_MAX * shape.hidden, sizeof *vectors));
    batch_random(&all, few, FEW);
    must(ops->run(stream, &all.packed, true, vectors, &error));
    check_truth(&w, &all, vectors, 0, FEW);
    check_alone(&w, stream, 3, vectors);
    check_unnormalized(&w, stream);
    if (with_many) {
        batch_random(&all, many, MANY);
        must(ops->run(stream, &all.packed, true, vectors, &error));
        check_truth(&w, &all, vectors, 2, 6);
        check_alone(&w, stream, 4, vectors);
        check_alone(&w, stream, 6, vectors);
    }
    memory_free(vectors);
    ops->stream_destroy(&stream);
    ops->destroy(&device);
    weights_deinit(&w);
}

#ifdef AKIN_CUDA_EMULATED
/* A card with less shared memory takes other tiles, and finds the same bits. */
static void check_small_card(struct encoder_shape shape)
{
    static const size_t lengths[] = { 256, 250, 30 };
    enum { SEQUENCES = sizeof lengths / sizeof *lengths };
    struct weights w;
    weights_init(&w, &shape);
    batch_random(&all, lengths, SEQUENCES);
    float *vectors = must_have(memory_alloc(2 * SEQUENCES * shape.hidden, sizeof *vectors));
    for (size_t i = 0; i < 2; i++) {
        struct encoder_stream *stream = NULL;
        if (i == 1)
            setenv("AKIN_EMULATED_SHARED", "101376", 1);    /* capability 8.6 */
        struct encoder_device *device = device_of(&w);
        must(ops->stream_create(device, 1024, SEQUENCES_MAX, &stream, &error));
        must(ops->run(stream, &all.packed, true, vectors + i * SEQUENCES * shape.hidden, &error));
        ops->stream_destroy(&stream);
        ops->destroy(&device);
    }
    unsetenv("AKIN_EMULATED_SHARED");
    expect(!memcmp(vectors, vectors + SEQUENCES * shape.hidden,
                   SEQUENCES * shape.hidden * sizeof *vectors), "bits, a smaller card", &shape, 0);
    memory_free(vectors);
    weights_deinit(&w);
}
#endif

static void check_refused(void)
{
    static const struct encoder_shape wrong[] = {
        { 100, 4, 128, 1, 0, POOLING_MEAN, COMPUTE_FP16 },
        { 128, 3, 128, 1, 0, POOLING_MEAN, COMPUTE_FP16 },
        { 128, 1, 128, 1, 0, POOLING_MEAN, COMPUTE_FP16 },
        { 2048, 32, 128, 1, 0, POOLING_MEAN, COMPUTE_FP16 },
        { 128, 4, 130, 1, 0, POOLING_MEAN, COMPUTE_FP16 },
        { 128, 0, 128, 1, 0, POOLING_MEAN, COMPUTE_FP16 },
        { 128, 4, 128, 1, 0, POOLING_MEAN, COMPUTE_FP32 },
        { 192, 3, 128, 1, 0, POOLING_MEAN, COMPUTE_INT8 },
        { 128, 4, 192, 1, 0, POOLING_MEAN, COMPUTE_INT8 },
        { 128, 4, 131072, 1, 0, POOLING_MEAN, COMPUTE_INT8 },   /* shared memory */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct encoder_device *device = NULL;
        struct embedding_tables tables = { .epsilon = 1e-12f };
        enum akin_status status = ops->create(0, &wrong[i], &tables, &device, &error);
        expect(status == AKIN_UNSUPPORTED && !device && strstr(error.message, "; use --"),
               "a shape it has no kernels for", &wrong[i], status);
    }
}

/* ---- speed ------------------------------------------------------------------------------ */

static void bench_batch(struct encoder_stream *stream, const struct encoder_shape *s, size_t texts,
                        size_t tokens)
{
    static int32_t ids[BENCH_TEXTS * BENCH_TOKENS], positions[BENCH_TEXTS * BENCH_TOKENS];
    static uint32_t offsets[BENCH_TEXTS + 1];
    double device[BENCH_TURNS], host[BENCH_TURNS];
    float *vectors = must_have(memory_alloc(texts * s->hidden, sizeof *vectors));
    struct packed_batch batch = { ids, positions, offsets, texts * tokens, texts };
    for (size_t i = 0; i < texts * tokens; i++) {
        ids[i] = (int32_t)rng_below(&rng, VOCABULARY);
        positions[i] = (int32_t)(i % tokens);
    }
    for (size_t i = 0; i <= texts; i++)
        offsets[i] = (uint32_t)(i * tokens);
    for (int turn = -3; turn < BENCH_TURNS; turn++) {
        double seconds;
        must(ops->measure(stream, &batch, &seconds, &error));
        uint64_t began = clock_monotonic_ns();
        must(ops->run(stream, &batch, true, vectors, &error));
        if (turn >= 0) {
            host[turn] = (double)(clock_monotonic_ns() - began) * 1e-9;
            device[turn] = seconds;
        }
    }
    qsort(device, BENCH_TURNS, sizeof *device, by_seconds);
    qsort(host, BENCH_TURNS, sizeof *host, by_seconds);
    double flops = (double)(texts * tokens * s->layers)
                   * (double)(2 * s->hidden * (4 * s->hidden + 2 * s->intermediate)
                              + 4 * tokens * s->hidden);
    double best = device[BENCH_TURNS / 2], wall = host[BENCH_TURNS / 2];
    printf("L%zu %s, %zu x %zu tokens: device %.1f us, host %.1f us; %.0f texts/s in one queue by "
           "the device, %.0f by the host; %.1f TFLOPS\n", s->layers,
           s->precision == COMPUTE_INT8 ? "int8" : "fp16", texts, tokens, best * 1e6, wall * 1e6,
           (double)texts / best, (double)texts / wall, flops / best * 1e-12);
    memory_free(vectors);
}

static void bench(size_t layers, enum compute_precision precision)
{
    struct encoder_shape shape = { 384, 12, 1536, layers, 1e-12f, POOLING_MEAN, precision };
    struct weights w;
    struct encoder_stream *stream = NULL;
    weights_init(&w, &shape);
    struct encoder_device *device = device_of(&w);
    must(ops->stream_create(device, BENCH_TEXTS * BENCH_TOKENS, BENCH_TEXTS, &stream, &error));
    bench_batch(stream, &shape, 1, ONE_TOKENS);
    bench_batch(stream, &shape, BENCH_TEXTS, BENCH_TOKENS);
    ops->stream_destroy(&stream);
    ops->destroy(&device);
    weights_deinit(&w);
}

static void check(const struct cuda_plugin *plugin, bool rates)
{
    ops = plugin->encoder;
    rng_seed(&rng, 11);
    if (rates) {
        for (size_t layers = 6; layers <= 12; layers += 6) {
            bench(layers, COMPUTE_FP16);
            bench(layers, COMPUTE_INT8);
        }
        return;
    }
    check_refused();
    check_shape((struct encoder_shape){ 128, 4, 192, 2, 1e-12f, POOLING_MEAN, COMPUTE_FP16 },
                false);
    check_shape((struct encoder_shape){ 128, 2, 64, 1, 1e-5f, POOLING_CLS, COMPUTE_FP16 }, true);
    check_shape((struct encoder_shape){ 384, 12, 64, 1, 1e-12f, POOLING_MAX, COMPUTE_FP16 },
                CHECK_LARGE);
    check_shape((struct encoder_shape){ 192, 3, 128, 1, 1e-12f, POOLING_MEAN, COMPUTE_FP16 },
                false);
    check_shape((struct encoder_shape){ 128, 2, 256, 2, 1e-12f, POOLING_MEAN, COMPUTE_INT8 },
                CHECK_LARGE);
    check_shape((struct encoder_shape){ 384, 12, 128, 1, 1e-12f, POOLING_CLS, COMPUTE_INT8 },
                CHECK_LARGE);
#ifdef AKIN_CUDA_EMULATED
    if (CHECK_LARGE)
        check_small_card((struct encoder_shape){ 128, 2, 3584, 1, 1e-5f, POOLING_CLS,
                                                 COMPUTE_INT8 });
#endif
}

int main(int argc, char **argv)
{
    return device_check_main(argc, argv, "encode_devicecheck [cuda [--bench]]", check);
}
