/* The encoder-decoder Transformer of torch.nn.Transformer's defaults (post-norm, ReLU, a norm after
 * each stack), with one embedding and one table of positions for both sides. */
#include "train/transformer.h"

#include <string.h>

#include "base/memory.h"

/* ---- where the parameters lie ----------------------------------------------------------- */

/* Goes through the table in its order: a name that does not come next is a bug. */
struct reader {
    struct transformer *t;
    size_t next;
};

static const struct parameter *take(struct reader *r, const char *suffix)
{
    ASSERT(r->next < r->t->table.count);
    const struct parameter *p = &r->t->table.parameters[r->next++];
    size_t name = strlen(p->name), length = strlen(suffix);
    ASSERT(name >= length && strcmp(p->name + name - length, suffix) == 0);
    return p;
}

static float *place(float *block, size_t offset)
{
    return block ? block + offset : NULL;
}

/* Rows [first, first + outputs) of a weight and its bias. */
static struct train_linear linear_of(const struct transformer *t, const struct parameter *weight,
                                     const struct parameter *bias, size_t first, size_t outputs)
{
    size_t w = weight->offset + first * weight->cols, b = bias->offset + first;
    return (struct train_linear){
        .weight = place(t->values, w), .bias = place(t->values, b),
        .weight_gradient = place(t->gradients, w), .bias_gradient = place(t->gradients, b),
        .outputs = outputs, .inputs = weight->cols,
    };
}

static struct train_linear take_linear(struct reader *r, const char *weight, const char *bias)
{
    const struct parameter *w = take(r, weight), *b = take(r, bias);
    return linear_of(r->t, w, b, 0, w->rows);
}

static struct train_norm take_norm(struct reader *r)
{
    const struct parameter *gain = take(r, ".weight"), *offset = take(r, ".bias");
    const struct transformer *t = r->t;
    return (struct train_norm){
        .gain = place(t->values, gain->offset), .offset = place(t->values, offset->offset),
        .gain_gradient = place(t->gradients, gain->offset),
        .offset_gradient = place(t->gradients, offset->offset), .dim = gain->rows,
    };
}

static void take_attention(struct reader *r, enum sublayer_kind kind, bool causal,
                           struct sublayer *sublayer)
{
    const struct parameter *weight = take(r, ".in_proj_weight"), *bias = take(r, ".in_proj_bias");
    bool cross = kind == SUBLAYER_CROSS;
    size_t d = weight->cols;
    sublayer->kind = kind;
    sublayer->attention = (struct train_attention){
        .query = linear_of(r->t, weight, bias, 0, cross ? d : 3 * d),
        .heads = r->t->shape.nhead, .causal = causal,
    };
    if (cross)
        sublayer->attention.memory = linear_of(r->t, weight, bias, d, 2 * d);
    sublayer->attention.out = take_linear(r, ".out_proj.weight", ".out_proj.bias");
}

static void take_layer(struct reader *r, struct sublayer *sublayers, bool decoder)
{
    size_t last = decoder ? 2 : 1;
    take_attention(r, SUBLAYER_SELF, decoder, &sublayers[0]);
    if (decoder)
        take_attention(r, SUBLAYER_CROSS, false, &sublayers[1]);
    sublayers[last].kind = SUBLAYER_FEED_FORWARD;
    sublayers[last].feed_forward.up = take_linear(r, ".linear1.weight", ".linear1.bias");
    sublayers[last].feed_forward.down = take_linear(r, ".linear2.weight", ".linear2.bias");
    for (size_t k = 0; k < last; k++)
        sublayers[k].attention.norm = take_norm(r);
    sublayers[last].feed_forward.norm = take_norm(r);
}

/* Each sublayer has two sites of dropout, numbered from *site. */
static void take_stack(struct reader *r, struct stack *stack, bool decoder, uint32_t *site)
{
    const struct parameter *parameters = r->t->table.parameters;
    for (size_t layer = 0; layer < stack->layers; layer++) {
        struct sublayer *sublayers = &stack->sublayers[layer * stack->per_layer];
        stack->begin[layer] = parameters[r->next].offset;
        take_layer(r, sublayers, decoder);
        for (size_t k = 0; k < stack->per_layer; k++, *site += 2)
            sublayers[k].attention.site = sublayers[k].feed_forward.site = *site;
    }
    stack->begin[stack->layers] = parameters[r->next].offset;
    stack->norm = take_norm(r);
    stack->end = parameters[r->next].offset;
}

/* Points everything at the blocks as they are. */
static void take_all(struct transformer *t)
{
    struct reader r = {.t = t};
    uint32_t site = 0;
    t->tokens = place(t->values, take(&r, "embedding.weight")->offset);
    t->positions = place(t->values, take(&r, "pos_embedding.weight")->offset);
    take_stack(&r, &t->encoder, false, &site);
    take_stack(&r, &t->decoder, true, &site);
    t->projection = take_linear(&r, "output_proj.weight", "output_proj.bias");
    ASSERT(r.next == t->table.count);
}

/* ---- the blocks ------------------------------------------------------------------------- */

enum { BLOCK_ALIGN = 256 };

/* Hands out a block from its front; with base NULL only counts. */
struct cut {
    unsigned char *base;
    size_t used;
    bool overflow;
};

static void *cut(struct cut *c, size_t bytes)
{
    size_t at = c->used, end;
    if (!size_add(at, bytes, &end) || !size_add(end, BLOCK_ALIGN - 1, &end)) {
        c->overflow = true;
        return NULL;
    }
    c->used = end / BLOCK_ALIGN * BLOCK_ALIGN;
    return c->base ? c->base + at : NULL;
}

static float *cut_rows(const struct transformer *t, struct cut *c, size_t length)
{
    return cut(c, t->slice * length * t->shape.d_model * sizeof(float));
}

static size_t saved_bytes(const struct transformer *t, const struct stack *stack,
                          const struct sublayer *sublayer)
{
    const struct train_ops *ops = t->device->ops;
    if (sublayer->kind == SUBLAYER_FEED_FORWARD)
        return ops->feed_forward_saved_bytes(t->device, &sublayer->feed_forward,
                                             t->slice * stack->length);
    size_t keys = sublayer->kind == SUBLAYER_CROSS ? t->encoder.length : stack->length;
    struct train_shape shape = {t->slice, stack->length, keys};
    return ops->attention_saved_bytes(t->device, &sublayer->attention, &shape);
}

static void cut_stack(const struct transformer *t, struct stack *stack, struct cut *c)
{
    size_t per = stack->per_layer, count = stack->layers * per;
    for (size_t i = 0; i < count; i++) {
        bool shared = t->recompute && i >= per;
        stack->inputs[i] = shared && i % per ? stack->inputs[i % per]
                                             : cut_rows(t, c, stack->length);
        stack->saved[i] = shared ? stack->saved[i % per]
                                 : cut(c, saved_bytes(t, stack, &stack->sublayers[i]));
    }
    stack->inputs[count] = cut_rows(t, c, stack->length);
}

static void cut_activations(struct transformer *t, struct cut *c)
{
    cut_stack(t, &t->encoder, c);
    cut_stack(t, &t->decoder, c);
    t->memory = cut_rows(t, c, t->encoder.length);
    t->decoded = cut_rows(t, c, t->decoder.length);
}

static void cut_scratch(struct transformer *t, struct cut *c)
{
    t->gradient = cut_rows(t, c, t->decoder.length);
    t->memory_gradient = cut_rows(t, c, t->encoder.length);
    t->source_gradients = cut(c, t->encoder.begin[0] * sizeof(float));
}

/* What saved_bytes of a device multiplies stays far from overflow. */
static enum akin_status check_sizes(const struct transformer *t, struct akin_error *error)
{
    const struct transformer_shape *s = &t->shape;
    double length = (double)s->seq_len, d = (double)s->d_model, slice = (double)t->slice;
    double of_row = 16 * d + 2 * (double)s->feed_forward + 4 * (double)s->nhead * length;
    double layers = (double)s->encoder_layers + (double)s->decoder_layers + 1;
    double numbers = slice * length * of_row * layers + (double)t->table.values;
    if (numbers < 0x1p52)
        return AKIN_OK;
    return error_set(error, AKIN_LIMIT,
                     "a model of %zu numbers in slices of %zu samples would take %.0f GB; make it "
                     "smaller", t->table.values, t->slice, numbers * 4e-9);
}

enum akin_status transformer_bytes(struct transformer *t, struct transformer_bytes *bytes,
                                   struct akin_error *error)
{
    struct cut activations = {0}, scratch = {0};
    TRY(check_sizes(t, error));
    cut_activations(t, &activations);
    cut_scratch(t, &scratch);
    if (activations.overflow || scratch.overflow)
        return error_set(error, AKIN_LIMIT, "the bytes of the activations overflow");
    bytes->parameters = bytes->gradients = t->table.values * sizeof(float);
    bytes->activations = activations.used;
    bytes->scratch = scratch.used;
    return AKIN_OK;
}

enum akin_status transformer_allocate(struct transformer *t, struct akin_error *error)
{
    const struct train_ops *ops = t->device->ops;
    struct transformer_bytes bytes;
    void *values, *gradients;
    TRY(transformer_bytes(t, &bytes, error));
    TRY(ops->allocate(t->device, bytes.parameters, &values, error));
    t->values = values;
    TRY(ops->allocate(t->device, bytes.gradients, &gradients, error));
    t->gradients = gradients;
    TRY(ops->allocate(t->device, bytes.activations, &t->activations, error));
    TRY(ops->allocate(t->device, bytes.scratch, &t->scratch, error));
    take_all(t);
    cut_activations(t, &(struct cut){.base = t->activations});
    cut_scratch(t, &(struct cut){.base = t->scratch});
    return AKIN_OK;
}

/* ---- from beginning to end -------------------------------------------------------------- */

static enum akin_status init_stack(struct stack *stack, size_t layers, size_t per_layer,
                                   size_t length, struct akin_error *error)
{
    size_t count = layers * per_layer;
    stack->layers = layers;
    stack->per_layer = per_layer;
    stack->length = length;
    stack->sublayers = memory_alloc(count, sizeof *stack->sublayers);
    stack->begin = memory_alloc(layers + 1, sizeof *stack->begin);
    stack->inputs = memory_alloc(count + 1, sizeof *stack->inputs);
    stack->saved = memory_alloc(count, sizeof *stack->saved);
    bool all = stack->sublayers && stack->begin && stack->inputs && stack->saved;
    return all ? AKIN_OK : error_memory(error);
}

static void deinit_stack(struct stack *stack)
{
    memory_free(stack->sublayers);
    memory_free(stack->begin);
    memory_free(stack->inputs);
    memory_free(stack->saved);
}

enum akin_status transformer_init(struct transformer *t, struct train_device *device,
                                  const struct transformer_shape *shape, size_t slice,
                                  bool recompute, struct akin_error *error)
{
    *t = (struct transformer){.device = device, .shape = *shape, .slice = slice,
                              .recompute = recompute};
    enum akin_status status = parameter_table_create(shape, &t->table, error);
    if (status == AKIN_OK)
        status = init_stack(&t->encoder, shape->encoder_layers, 2, shape->seq_len, error);
    if (status == AKIN_OK)
        status = init_stack(&t->decoder, shape->decoder_layers, 3, shape->seq_len - 1, error);
    if (status == AKIN_OK)
        take_all(t);
    else
        transformer_deinit(t);
    return status;
}

/* Calls fn for every linear; stops at the first that fails. */
static enum akin_status each_linear(struct transformer *t,
                                    enum akin_status (*fn)(struct train_device *device,
                                                           struct train_linear *linear,
                                                           struct akin_error *error),
                                    struct akin_error *error)
{
    struct stack *stacks[] = {&t->encoder, &t->decoder};
    for (int side = 0; side < 2; side++)
        for (size_t i = 0; i < stacks[side]->layers * stacks[side]->per_layer; i++) {
            struct sublayer *s = &stacks[side]->sublayers[i];
            bool attention = s->kind != SUBLAYER_FEED_FORWARD;
            TRY(fn(t->device, attention ? &s->attention.query : &s->feed_forward.up, error));
            TRY(fn(t->device, attention ? &s->attention.out : &s->feed_forward.down, error));
            if (s->kind == SUBLAYER_CROSS)
                TRY(fn(t->device, &s->attention.memory, error));
        }
    return fn(t->device, &t->projection, error);
}

static enum akin_status forget(struct train_device *device, struct train_linear *linear,
                               struct akin_error *error)
{
    (void)error;
    device->ops->linear_forget(device, linear);
    return AKIN_OK;
}

void transformer_deinit(struct transformer *t)
{
    if (t->values) {
        each_linear(t, forget, NULL);
        t->device->ops->release(t->device, t->scratch);
        t->device->ops->release(t->device, t->activations);
        t->device->ops->release(t->device, t->gradients);
        t->device->ops->release(t->device, t->values);
    }
    deinit_stack(&t->encoder);
    deinit_stack(&t->decoder);
    parameter_table_destroy(&t->table);
    *t = (struct transformer){0};
}

enum akin_status transformer_prepare(struct transformer *t, struct akin_error *error)
{
    return each_linear(t, t->device->ops->linear_prepare, error);
}

/* ---- forwards --------------------------------------------------------------------------- */

/* One slice on its way. */
struct way {
    struct transformer *t;
    const struct train_ops *ops;
    const struct train_pass *pass;
    const struct transformer_slice *slice;
};

static struct train_shape shape_of(const struct way *w, const struct stack *stack,
                                   const struct sublayer *sublayer)
{
    bool cross = sublayer->kind == SUBLAYER_CROSS;
    return (struct train_shape){w->slice->samples, stack->length,
                                cross ? w->t->encoder.length : stack->length};
}

static void sublayer_forward(const struct way *w, const struct stack *stack, size_t i)
{
    const struct sublayer *s = &stack->sublayers[i];
    if (s->kind == SUBLAYER_FEED_FORWARD) {
        w->ops->feed_forward_forward(w->t->device, w->pass, &s->feed_forward, w->slice->samples,
                                     stack->length, stack->inputs[i], stack->inputs[i + 1],
                                     stack->saved[i]);
        return;
    }
    struct train_shape shape = shape_of(w, stack, s);
    w->ops->attention_forward(w->t->device, w->pass, &s->attention, &shape, stack->inputs[i],
                              s->kind == SUBLAYER_CROSS ? w->t->memory : NULL,
                              stack->inputs[i + 1], stack->saved[i]);
}

static void stack_forward(const struct way *w, const struct stack *stack, const int32_t *ids,
                          float *y)
{
    size_t count = stack->layers * stack->per_layer, samples = w->slice->samples;
    w->ops->embed_forward(w->t->device, ids, w->t->tokens, w->t->positions, samples, stack->length,
                          w->t->shape.d_model, stack->inputs[0]);
    for (size_t i = 0; i < count; i++)
        sublayer_forward(w, stack, i);
    w->ops->norm_forward(w->t->device, &stack->norm, stack->inputs[count],
                         samples * stack->length, y);
}

/* ---- backwards -------------------------------------------------------------------------- */

static void announce(const struct way *w, size_t begin, size_t end)
{
    const struct gradient_reducer *reducer = w->slice->reducer;
    if (w->slice->last && reducer)
        reducer->start(reducer->context, w->t->gradients, begin, end - begin);
}

static void sublayer_backward(const struct way *w, const struct stack *stack, size_t i,
                              float *gradient)
{
    const struct sublayer *s = &stack->sublayers[i];
    if (s->kind == SUBLAYER_FEED_FORWARD) {
        w->ops->feed_forward_backward(w->t->device, w->pass, &s->feed_forward, w->slice->samples,
                                      stack->length, stack->inputs[i], stack->saved[i], gradient);
        return;
    }
    bool cross = s->kind == SUBLAYER_CROSS;
    struct train_shape shape = shape_of(w, stack, s);
    w->ops->attention_backward(w->t->device, w->pass, &s->attention, &shape, stack->inputs[i],
                               cross ? w->t->memory : NULL, stack->saved[i], gradient,
                               cross ? w->t->memory_gradient : NULL);
}

static void stack_backward(const struct way *w, const struct stack *stack, float *gradient)
{
    size_t per = stack->per_layer, end = stack->end;
    w->ops->norm_backward(w->t->device, &stack->norm, stack->inputs[stack->layers * per],
                          w->slice->samples * stack->length, gradient);
    for (size_t layer = stack->layers; layer-- > 0; end = stack->begin[layer]) {
        if (w->t->recompute)
            for (size_t k = 0; k < per; k++)
                sublayer_forward(w, stack, layer * per + k);
        for (size_t k = per; k-- > 0;)
            sublayer_backward(w, stack, layer * per + k, gradient);
        announce(w, stack->begin[layer], end);
    }
    if (stack->layers == 0)
        announce(w, stack->begin[0], end);
}

/* A sum runs over the rows of all slices of one side, and only then over both sides: each side adds
 * to numbers of its own. */
static void embeddings_backward(const struct way *w, const struct stack *stack, const int32_t *ids,
                                const float *gradient, float *embedding_gradients)
{
    const struct parameter_table *table = &w->t->table;
    w->ops->embed_backward(w->t->device, ids, gradient, w->slice->samples, stack->length,
                           w->t->shape.d_model, w->t->shape.vocab,
                           embedding_gradients + table->parameters[0].offset,
                           embedding_gradients + table->parameters[1].offset);
}

void transformer_clear_gradients(struct transformer *t)
{
    const struct train_ops *ops = t->device->ops;
    ops->clear(t->device, t->gradients, t->table.values * sizeof(float));
    ops->clear(t->device, t->source_gradients, t->encoder.begin[0] * sizeof(float));
}

void transformer_learn(struct transformer *t, const struct train_pass *pass,
                       const struct transformer_slice *slice)
{
    struct way w = {t, t->device->ops, pass, slice};
    size_t source_rows = slice->samples * t->encoder.length;
    ASSERT(slice->samples <= t->slice);
    stack_forward(&w, &t->encoder, slice->source, t->memory);
    stack_forward(&w, &t->decoder, slice->input, t->decoded);
    w.ops->cross_entropy(t->device, pass, &t->projection, slice->labels, t->decoded,
                         slice->samples * t->decoder.length, slice->row_weight, slice->loss_sum,
                         t->gradient);
    announce(&w, t->decoder.end, t->table.values);

    w.ops->clear(t->device, t->memory_gradient, source_rows * t->shape.d_model * sizeof(float));
    stack_backward(&w, &t->decoder, t->gradient);
    embeddings_backward(&w, &t->decoder, slice->input, t->gradient, t->gradients);
    stack_backward(&w, &t->encoder, t->memory_gradient);
    embeddings_backward(&w, &t->encoder, slice->source, t->memory_gradient, t->source_gradients);
    if (slice->last) {
        w.ops->add(t->device, t->gradients, t->source_gradients, t->encoder.begin[0]);
        announce(&w, 0, t->encoder.begin[0]);
    }
}
