/* Loading of the encoder's weights, and its forward pass. */
#include "model/encoder.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

struct layer {
    struct linear *qkv;         /* query, key and value in one: [3 * hidden][hidden] */
    struct linear *attention_output;
    struct linear *intermediate;
    struct linear *output;
    float *attention_gamma, *attention_beta;    /* LayerNorm [hidden] */
    float *output_gamma, *output_beta;
};

struct encoder {
    struct backend *backend;    /* NULL where it is on cards */
    const struct encoder_device_ops *card_ops;
    struct encoder_device *cards[ENCODER_CARDS_MAX];
    int card_nodes[ENCODER_CARDS_MAX];
    size_t card_count;
    size_t hidden, heads, intermediate, layer_count;
    float epsilon;
    enum pooling pooling;
    enum compute_precision precision;
    struct embedding_tables tables;
    float *embedding_gamma, *embedding_beta;
    struct layer *layers;
    uint64_t parameters;
};

/* ---- weights ---------------------------------------------------------------------------- */

enum { NAME_BYTES = 160 };

struct loader {
    const struct safetensors *weights;
    const char *prefix;         /* before every tensor's name */
    enum compute_precision precision;
    struct quantized *narrowed; /* NULL: the matrices are narrowed from `weights` */
    struct encoder *encoder;
    float *range;               /* [hidden], scratch */
    struct akin_error *error;
};

/* Checkpoints name the same tensors with or without the name of the module around them. */
static const char *find_prefix(const struct safetensors *weights)
{
    static const char *const prefixes[] = { "", "bert.", "roberta.", "0.auto_model.", "model.",
                                            "0.auto_model.bert.", "0.auto_model.roberta." };
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "%sembeddings.word_embeddings.weight", prefixes[i]);
        if (safetensors_find(weights, name))
            return prefixes[i];
    }
    return "";
}

static enum akin_status load_matrix(struct loader *loader, const char *scope, const char *name,
                                    size_t rows, size_t cols, struct host_matrix *matrix)
{
    char full[NAME_BYTES];
    snprintf(full, sizeof full, "%s%s%s", loader->prefix, scope, name);
    loader->encoder->parameters += (uint64_t)rows * cols;
    return safetensors_matrix(loader->weights, full, rows, cols, matrix, loader->error);
}

/* A vector [count] as float32, into *out; the caller frees it. */
static enum akin_status load_vector(struct loader *loader, const char *scope, const char *name,
                                    size_t count, float **out)
{
    struct host_matrix matrix;
    TRY(load_matrix(loader, scope, name, 1, count, &matrix));
    *out = memory_alloc_aligned(count, sizeof **out);
    if (!*out)
        return error_memory(loader->error);
    host_matrix_to_f32(&matrix, *out);
    return AKIN_OK;
}

/* LayerNorm's two vectors; the oldest checkpoints call them gamma and beta. */
static enum akin_status load_norm(struct loader *loader, const char *scope, float **gamma,
                                  float **beta)
{
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%s%sLayerNorm.gamma", loader->prefix, scope);
    bool old = safetensors_find(loader->weights, name) != NULL;
    size_t hidden = loader->encoder->hidden;
    TRY(load_vector(loader, scope, old ? "LayerNorm.gamma" : "LayerNorm.weight", hidden, gamma));
    return load_vector(loader, scope, old ? "LayerNorm.beta" : "LayerNorm.bias", hidden, beta);
}

/* How large each column of a LayerNorm's result becomes: three deviations of its input.
 * Nothing where range is NULL. */
static void norm_range(const float *gamma, const float *beta, size_t count, float *range)
{
    for (size_t i = 0; range && i < count; i++)
        range[i] = 3 * fabsf(gamma[i]) + fabsf(beta[i]);
}

/* From the range of x, range [cols] becomes the equaliser sqrt(range of x / range of the weights),
 * as in Xiao et al., "SmoothQuant" (2023) with alpha 0.5. Where we differ: the range of x comes
 * from the LayerNorm in front and not from data. */
static enum akin_status equalize(const struct loader *loader, const struct host_matrix *weight,
                                 float *range)
{
    static const float range_min = 1e-3f;   /* of a column that hardly takes part */
    size_t rows = weight->rows, cols = weight->cols;
    float *values = memory_alloc_aligned(rows * cols, sizeof *values);
    if (!values)
        return error_memory(loader->error);
    host_matrix_to_f32(weight, values);
    for (size_t k = 0; k < cols; k++) {
        float largest = range_min;
        for (size_t r = 0; r < rows; r++)
            largest = fmaxf(largest, fabsf(values[r * cols + k]));
        float equalizer = sqrtf(fmaxf(range[k], range_min) / largest);
        range[k] = equalizer > 0 && equalizer <= FLT_MAX ? equalizer : 1;
    }
    memory_free(values);
    return AKIN_OK;
}

/* What a joined matrix is called where it is kept: as its parts, or "self.qkv". */
static void part_name(char *name, const char *scope, const char *part)
{
    snprintf(name, sizeof ((struct quantized_part *)0)->name, "%s%s", scope, part);
}

static enum akin_status load_narrowed(struct loader *loader, const char *scope, const char *part,
                                      size_t rows, size_t cols, const float *bias,
                                      struct linear **linear)
{
    struct quantized_part named;
    struct stored_linear stored;
    part_name(named.name, scope, part);
    TRY(quantized_find(loader->narrowed, named.name, rows, cols, &stored, loader->error));
    return cpu_linear_restore(loader->encoder->backend, &stored, bias, linear, loader->error);
}

/* Which linear map of which layer. */
struct place {
    size_t layer;
    enum encoder_linear which;
};

static struct linear **linear_at(struct layer *layer, enum encoder_linear which)
{
    switch (which) {
    case ENCODER_QKV:
        return &layer->qkv;
    case ENCODER_ATTENTION_OUTPUT:
        return &layer->attention_output;
    case ENCODER_INTERMEDIATE:
        return &layer->intermediate;
    default:
        return &layer->output;
    }
}

static enum akin_status put_linear(struct loader *loader, struct place place,
                                   const struct host_matrix *weight, const float *bias,
                                   const float *range)
{
    struct encoder *e = loader->encoder;
    if (e->backend)
        return e->backend->ops->linear_create(e->backend, weight, bias, range, loader->precision,
                                              linear_at(&e->layers[place.layer], place.which),
                                              loader->error);
    for (size_t i = 0; i < e->card_count; i++) {
        if (range)
            TRY(e->card_ops->set_equalizer(e->cards[i], place.layer, place.which, range,
                                           weight->cols, loader->error));
        TRY(e->card_ops->set_linear(e->cards[i], place.layer, place.which, weight, bias,
                                    loader->error));
    }
    return AKIN_OK;
}

/* `count` linear maps [rows][cols] of the same input, one below the other in one. `range` [cols]
 * (NULL: not known) of that input is overwritten. */
static enum akin_status load_linear(struct loader *loader, const char *scope,
                                    const char *const *names, size_t count, size_t rows,
                                    size_t cols, float *range, struct place place)
{
    size_t rows_all, floats;
    if (!size_mul(count, rows, &rows_all) || !size_mul(rows_all, cols, &floats))
        return error_memory(loader->error);
    float *bias = memory_alloc_aligned(rows_all, sizeof *bias);             /* [count * rows] */
    bool join = count > 1 && !loader->narrowed;
    float *joined = join ? memory_alloc_aligned(floats, sizeof *joined) : NULL;
    enum akin_status status = AKIN_OK;
    if (!bias || (join && !joined))
        status = error_memory(loader->error);
    struct host_matrix weight = { 0 };
    for (size_t i = 0; status == AKIN_OK && i < count; i++) {
        char name[NAME_BYTES];
        struct host_matrix part;
        snprintf(name, sizeof name, "%s.weight", names[i]);
        TRY_DONE(load_matrix(loader, scope, name, rows, cols, &weight));
        if (joined)
            host_matrix_to_f32(&weight, joined + i * rows * cols);
        snprintf(name, sizeof name, "%s.bias", names[i]);
        TRY_DONE(load_matrix(loader, scope, name, 1, rows, &part));
        host_matrix_to_f32(&part, bias + i * rows);
    }
    if (status == AKIN_OK && loader->narrowed) {
        status = load_narrowed(loader, scope, count > 1 ? "self.qkv" : names[0], rows_all, cols,
                               bias, linear_at(&loader->encoder->layers[place.layer],
                                               place.which));
        goto done;
    }
    /* The last one decides: of query, key and value the errors of the last weigh most, because no
     * softmax damps them. */
    if (range && status == AKIN_OK)
        TRY_DONE(equalize(loader, &weight, range));
    if (joined)
        weight = (struct host_matrix){ .data = joined, .type = ELEMENT_F32, .rows = rows_all,
                                       .cols = cols };
    if (status == AKIN_OK)
        status = put_linear(loader, place, &weight, bias, range);
done:
    memory_free(joined);
    memory_free(bias);
    return status;
}

static enum akin_status put_norms(struct loader *loader, size_t index)
{
    struct encoder *e = loader->encoder;
    const struct layer *layer = &e->layers[index];
    for (size_t i = 0; i < e->card_count; i++) {
        TRY(e->card_ops->set_norm(e->cards[i], index, ENCODER_ATTENTION_NORM,
                                  layer->attention_gamma, layer->attention_beta, loader->error));
        TRY(e->card_ops->set_norm(e->cards[i], index, ENCODER_OUTPUT_NORM, layer->output_gamma,
                                  layer->output_beta, loader->error));
    }
    return AKIN_OK;
}

static enum akin_status load_layer(struct loader *loader, size_t index)
{
    static const char *const qkv[] = { "self.query", "self.key", "self.value" };
    static const char *const dense[] = { "dense" };
    struct layer *layer = &loader->encoder->layers[index];
    size_t hidden = loader->encoder->hidden, intermediate = loader->encoder->intermediate;
    struct encoder *e = loader->encoder;
    const struct layer *before = index ? layer - 1 : NULL;
    float *range = loader->precision == COMPUTE_INT8 ? loader->range : NULL;
    char scope[NAME_BYTES];
    snprintf(scope, sizeof scope, "encoder.layer.%zu.attention.", index);
    norm_range(before ? before->output_gamma : e->embedding_gamma,
               before ? before->output_beta : e->embedding_beta, hidden, range);
    TRY(load_linear(loader, scope, qkv, 3, hidden, hidden, range,
                    (struct place){index, ENCODER_QKV}));
    snprintf(scope, sizeof scope, "encoder.layer.%zu.attention.output.", index);
    TRY(load_linear(loader, scope, dense, 1, hidden, hidden, NULL,
                    (struct place){index, ENCODER_ATTENTION_OUTPUT}));
    TRY(load_norm(loader, scope, &layer->attention_gamma, &layer->attention_beta));
    snprintf(scope, sizeof scope, "encoder.layer.%zu.intermediate.", index);
    norm_range(layer->attention_gamma, layer->attention_beta, hidden, range);
    TRY(load_linear(loader, scope, dense, 1, intermediate, hidden, range,
                    (struct place){index, ENCODER_INTERMEDIATE}));
    snprintf(scope, sizeof scope, "encoder.layer.%zu.output.", index);
    TRY(load_linear(loader, scope, dense, 1, hidden, intermediate, NULL,
                    (struct place){index, ENCODER_OUTPUT}));
    TRY(load_norm(loader, scope, &layer->output_gamma, &layer->output_beta));
    return put_norms(loader, index);
}

static enum akin_status load_embeddings(struct loader *loader, const struct model_config *config)
{
    struct encoder *e = loader->encoder;
    TRY(load_matrix(loader, "embeddings.", "word_embeddings.weight", config->vocabulary, e->hidden,
                    &e->tables.word));
    TRY(load_matrix(loader, "embeddings.", "position_embeddings.weight", config->positions,
                    e->hidden, &e->tables.position));
    if (config->types)
        TRY(load_matrix(loader, "embeddings.", "token_type_embeddings.weight", config->types,
                        e->hidden, &e->tables.type));
    TRY(load_norm(loader, "embeddings.", &e->embedding_gamma, &e->embedding_beta));
    e->tables.gamma = e->embedding_gamma;
    e->tables.beta = e->embedding_beta;
    e->tables.epsilon = config->epsilon;
    return AKIN_OK;
}

/* An encoder without weights, for the CPU or for cards. */
static enum akin_status encoder_new(const struct model_config *config,
                                    enum compute_precision precision, struct encoder **encoder,
                                    struct akin_error *error)
{
    struct encoder *e = memory_alloc(1, sizeof *e);
    if (!e)
        return error_memory(error);
    *e = (struct encoder){ .hidden = config->hidden, .heads = config->heads,
                           .intermediate = config->intermediate, .layer_count = config->layers,
                           .epsilon = config->epsilon, .pooling = config->pooling,
                           .precision = precision };
    e->layers = memory_alloc(config->layers, sizeof *e->layers);
    *encoder = e;
    return e->layers ? AKIN_OK : error_memory(error);
}

static enum akin_status load_all(struct loader *loader, const struct model_config *config,
                                 const struct encoder_cards *cards)
{
    struct encoder *e = loader->encoder;
    loader->range = memory_alloc(config->hidden, sizeof *loader->range);
    if (!loader->range)
        return error_memory(loader->error);
    TRY(load_embeddings(loader, config));
    struct encoder_shape shape = { .hidden = e->hidden, .heads = e->heads, .layers = e->layer_count,
                                   .intermediate = e->intermediate, .epsilon = e->epsilon,
                                   .pooling = e->pooling, .precision = e->precision };
    for (size_t i = 0; cards && i < cards->count; i++) {
        TRY(cards->ops->create(cards->ordinals[i], &shape, &e->tables, &e->cards[i],
                               loader->error));
        e->card_nodes[e->card_count++] = cards->nodes[i];
    }
    for (size_t i = 0; i < e->layer_count; i++) {
        TRY(load_layer(loader, i));
        safetensors_release(loader->weights);   /* a layer's packed weights are copies */
        if (loader->narrowed)
            quantized_release(loader->narrowed);
    }
    return AKIN_OK;
}

enum akin_status encoder_create(struct backend *backend, const struct safetensors *weights,
                                const struct model_config *config, enum compute_precision precision,
                                struct quantized *narrowed, struct encoder **encoder,
                                struct akin_error *error)
{
    struct encoder *e = NULL;
    enum akin_status status = encoder_new(config, precision, &e, error);
    struct loader loader = { .weights = weights, .prefix = find_prefix(weights), .encoder = e,
                             .precision = precision, .narrowed = narrowed, .error = error };
    if (status == AKIN_OK) {
        e->backend = backend;
        status = load_all(&loader, config, NULL);
    }
    memory_free(loader.range);
    if (status == AKIN_OK)
        *encoder = e;
    else
        encoder_destroy(&e);
    return status;
}

enum akin_status encoder_create_on_cards(const struct encoder_cards *cards,
                                         const struct safetensors *weights,
                                         const struct model_config *config,
                                         enum compute_precision precision,
                                         struct encoder **encoder, struct akin_error *error)
{
    struct encoder *e = NULL;
    enum akin_status status = encoder_new(config, precision, &e, error);
    struct loader loader = { .weights = weights, .prefix = find_prefix(weights), .encoder = e,
                             .precision = precision, .error = error };
    if (status == AKIN_OK) {
        e->card_ops = cards->ops;
        status = load_all(&loader, config, cards);
    }
    memory_free(loader.range);
    if (status == AKIN_OK)
        *encoder = e;
    else
        encoder_destroy(&e);
    return status;
}

static void layer_deinit(const struct backend *backend, struct layer *layer)
{
    for (int i = 0; backend && i < ENCODER_LINEARS; i++) {
        struct linear **linear = linear_at(layer, (enum encoder_linear)i);
        if (*linear)
            backend->ops->linear_destroy(linear);
    }
    memory_free(layer->attention_gamma);
    memory_free(layer->attention_beta);
    memory_free(layer->output_gamma);
    memory_free(layer->output_beta);
}

void encoder_destroy(struct encoder **encoder)
{
    struct encoder *e = *encoder;
    if (!e)
        return;
    for (size_t i = 0; e->layers && i < e->layer_count; i++)
        layer_deinit(e->backend, &e->layers[i]);
    for (size_t i = 0; i < e->card_count; i++)
        e->card_ops->destroy(&e->cards[i]);
    memory_free(e->layers);
    memory_free(e->embedding_gamma);
    memory_free(e->embedding_beta);
    memory_free(e);
    *encoder = NULL;
}

enum element_type encoder_weights_type(const struct encoder *encoder)
{
    return encoder->tables.word.type;
}

size_t encoder_part_count(const struct encoder *encoder)
{
    return encoder->layer_count * 4;
}

void encoder_parts(const struct encoder *encoder, struct quantized_part *parts)
{
    for (size_t i = 0; i < encoder->layer_count; i++, parts += 4) {
        const struct layer *layer = &encoder->layers[i];
        char scope[NAME_BYTES];
        snprintf(scope, sizeof scope, "encoder.layer.%zu.attention.", i);
        part_name(parts[0].name, scope, "self.qkv");
        part_name(parts[1].name, scope, "output.dense");
        snprintf(scope, sizeof scope, "encoder.layer.%zu.", i);
        part_name(parts[2].name, scope, "intermediate.dense");
        part_name(parts[3].name, scope, "output.dense");
        parts[0].linear = layer->qkv;
        parts[1].linear = layer->attention_output;
        parts[2].linear = layer->intermediate;
        parts[3].linear = layer->output;
    }
}

uint64_t encoder_parameters(const struct encoder *encoder)
{
    return encoder->parameters;
}

/* ---- forward ---------------------------------------------------------------------------- */

/* Tokens that pass through the feed-forward part together, so that its widest tensor stays near the
 * core; in fp32 twice as many, because its weights come from memory each time. Measured; it changes
 * no bit, because every row is on its own. */
enum { FEED_FORWARD_TOKENS = 96, FEED_FORWARD_TOKENS_FP32 = 192 };

static size_t feed_forward_tokens(const struct encoder *encoder, size_t tokens)
{
    size_t most = encoder->precision == COMPUTE_FP32 ? FEED_FORWARD_TOKENS_FP32
                                                     : FEED_FORWARD_TOKENS;
    return tokens < most ? tokens : most;
}

/* Tokens computed together by one thread: large enough for the matrix products to run at speed,
 * small enough for the activations to stay near the core (192 tokens of MiniLM are 2 MB, used a
 * part at a time). Measured with the embed benchmark. */
enum { BATCH_TOKENS = 192 };

bool encoder_on_cpu(const struct encoder *encoder)
{
    return encoder->backend != NULL;
}

size_t encoder_batch_tokens(const struct encoder *encoder)
{
    return encoder->backend ? BATCH_TOKENS : encoder->card_ops->batch_tokens;
}

/* Threads of the CPU are equal, and their batches small; the streams of one card share it. Several
 * cards need not be equal, and what one is behind with the others wait for. */
size_t encoder_batch_tokens_least(const struct encoder *encoder)
{
    size_t tokens = encoder_batch_tokens(encoder);
    return encoder->card_count > 1 ? (tokens + 15) / 16 : tokens;
}

int encoder_lane_node(const struct encoder *encoder, size_t number)
{
    return encoder->card_count ? encoder->card_nodes[number % encoder->card_count] : -1;
}

size_t encoder_lanes(const struct encoder *encoder, size_t threads)
{
    size_t wanted = encoder->card_count * (encoder->backend ? 0 : encoder->card_ops->streams);
    return encoder->backend || wanted > threads ? threads : wanted;
}

static enum akin_status cpu_lane_create(const struct encoder *encoder, size_t tokens,
                                        size_t sequences, struct lane **lane,
                                        struct akin_error *error)
{
    /* x, qkv, context, y [tokens][.], wide [feed_forward_tokens][.]; pooled [sequences][hidden];
     * and what a backend may lose by aligning six tensors */
    enum { TENSORS = 6, ALIGNMENT_FLOATS = 64 };
    size_t floats, pooled, wide;
    if (!size_mul(tokens, encoder->hidden * 6, &floats) ||
        !size_mul(feed_forward_tokens(encoder, tokens), encoder->intermediate, &wide) ||
        !size_mul(sequences, encoder->hidden, &pooled) || !size_add(floats, pooled, &floats) ||
        !size_add(floats, wide, &floats) ||
        !size_add(floats, TENSORS * ALIGNMENT_FLOATS, &floats))
        return error_memory(error);
    return encoder->backend->ops->lane_create(encoder->backend, floats, lane, error);
}

enum akin_status encoder_lane_create(const struct encoder *encoder, size_t number, size_t tokens,
                                     size_t sequences, struct encoder_lane *lane,
                                     struct akin_error *error)
{
    if (encoder->backend)
        return cpu_lane_create(encoder, tokens, sequences, &lane->cpu, error);
    return encoder->card_ops->stream_create(encoder->cards[number % encoder->card_count], tokens,
                                            sequences, &lane->stream, error);
}

void encoder_lane_destroy(const struct encoder *encoder, struct encoder_lane *lane)
{
    if (lane->cpu)
        encoder->backend->ops->lane_destroy(&lane->cpu);
    if (lane->stream)
        encoder->card_ops->stream_destroy(&lane->stream);
}

void encoder_lane_team(const struct encoder *encoder, struct encoder_lane *lane, bool together)
{
    if (lane->cpu)
        encoder->backend->ops->lane_team(lane->cpu, together);
}

/* The rows [first, first + rows) of a tensor. */
static struct tensor slice(const struct tensor *tensor, size_t first, size_t rows)
{
    return (struct tensor){ .data = tensor->data + first * tensor->cols, .rows = rows,
                            .cols = tensor->cols };
}

/* x = LayerNorm(x + output(GELU(intermediate(x)))), some rows at a time */
static void feed_forward(const struct encoder *encoder, struct lane *lane,
                         const struct layer *layer, struct tensor *x, struct tensor *y,
                         const struct tensor *wide)
{
    const struct backend_ops *op = encoder->backend->ops;
    for (size_t first = 0; first < x->rows; first += wide->rows) {
        size_t rows = x->rows - first < wide->rows ? x->rows - first : wide->rows;
        struct tensor part = slice(x, first, rows), result = slice(y, first, rows),
                      inner = slice(wide, 0, rows);
        op->feed_forward(lane, &result, &part, &inner, layer->intermediate, layer->output,
                         ACTIVATION_GELU);
        op->residual_layernorm(lane, &part, &result, layer->output_gamma, layer->output_beta,
                               encoder->epsilon);
    }
}

static void cpu_forward(const struct encoder *encoder, struct lane *lane,
                        const struct packed_batch *batch, bool normalize, float *vectors)
{
    const struct backend_ops *op = encoder->backend->ops;
    size_t tokens = batch->tokens, hidden = encoder->hidden;
    op->lane_reset(lane);
    struct tensor x = op->tensor_take(lane, tokens, hidden);
    struct tensor qkv = op->tensor_take(lane, tokens, 3 * hidden);
    struct tensor context = op->tensor_take(lane, tokens, hidden);
    struct tensor y = op->tensor_take(lane, tokens, hidden);
    struct tensor wide = op->tensor_take(lane, feed_forward_tokens(encoder, tokens),
                                         encoder->intermediate);
    struct tensor pooled = op->tensor_take(lane, batch->sequences, hidden);
    ASSERT(x.data && qkv.data && context.data && y.data && wide.data && pooled.data);

    op->embed_rows(lane, &x, batch, &encoder->tables);
    for (size_t i = 0; i < encoder->layer_count; i++) {
        const struct layer *layer = &encoder->layers[i];
        op->linear(lane, &qkv, &x, layer->qkv, ACTIVATION_NONE);
        op->attention(lane, &context, &qkv, batch, encoder->heads, encoder->precision);
        op->linear(lane, &y, &context, layer->attention_output, ACTIVATION_NONE);
        op->residual_layernorm(lane, &x, &y, layer->attention_gamma, layer->attention_beta,
                               encoder->epsilon);
        feed_forward(encoder, lane, layer, &x, &y, &wide);
    }
    op->pool(lane, &pooled, &x, batch, encoder->pooling);
    if (normalize)
        op->normalize(lane, &pooled);
    op->download(lane, &pooled, vectors);
}

enum akin_status encoder_forward(const struct encoder *encoder, struct encoder_lane *lane,
                                 const struct packed_batch *batch, bool normalize, float *vectors,
                                 struct akin_error *error)
{
    if (lane->stream)
        return encoder->card_ops->run(lane->stream, batch, normalize, vectors, error);
    cpu_forward(encoder, lane->cpu, batch, normalize, vectors);
    return AKIN_OK;
}
