/* Names and places of the parameters, in the order of PyTorch's state_dict. */
#include "train/parameters.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

enum { ALIGN = 16, SIZE_LARGEST = 1 << 24 };

static enum akin_status check_shape(const struct transformer_shape *s, struct akin_error *error)
{
    const struct {
        const char *name;
        size_t value, least, most;
    } sizes[] = {
        {"d-model", s->d_model, 1, SIZE_LARGEST},
        {"nhead", s->nhead, 1, SIZE_LARGEST},
        {"num-encoder-layers", s->encoder_layers, 0, TRAIN_LAYERS_MAX},
        {"num-decoder-layers", s->decoder_layers, 0, TRAIN_LAYERS_MAX},
        {"dim-feedforward", s->feed_forward, 1, SIZE_LARGEST},
        {"vocab-size", s->vocab, 1, SIZE_LARGEST},
        {"seq-len", s->seq_len, 2, SIZE_LARGEST},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].value < sizes[i].least || sizes[i].value > sizes[i].most)
            return error_set(error, AKIN_ARGUMENT, "%s is %zu; it must be %zu to %zu",
                             sizes[i].name, sizes[i].value, sizes[i].least, sizes[i].most);
    if (s->d_model % s->nhead != 0)
        return error_set(error, AKIN_ARGUMENT,
                         "nhead %zu does not divide d-model %zu; each head has d-model / nhead "
                         "columns",
                         s->nhead, s->d_model);
    return AKIN_OK;
}

__attribute__((format(printf, 4, 5)))
static void add(struct parameter_table *table, size_t rows, size_t cols, const char *format, ...)
{
    struct parameter *p = &table->parameters[table->count++];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(p->name, sizeof p->name, format, arguments);
    va_end(arguments);
    size_t count = rows * (cols > 0 ? cols : 1);
    p->offset = table->values;
    p->rows = rows;
    p->cols = cols;
    table->values += (count + ALIGN - 1) / ALIGN * ALIGN;
    table->trained += count;
}

static void add_attention(struct parameter_table *table, const char *layer, const char *name,
                          size_t d)
{
    add(table, 3 * d, d, "%s.%s.in_proj_weight", layer, name);
    add(table, 3 * d, 0, "%s.%s.in_proj_bias", layer, name);
    add(table, d, d, "%s.%s.out_proj.weight", layer, name);
    add(table, d, 0, "%s.%s.out_proj.bias", layer, name);
}

static void add_layer(struct parameter_table *table, const char *layer,
                      const struct transformer_shape *s, bool decoder)
{
    size_t d = s->d_model;
    add_attention(table, layer, "self_attn", d);
    if (decoder)
        add_attention(table, layer, "multihead_attn", d);
    add(table, s->feed_forward, d, "%s.linear1.weight", layer);
    add(table, s->feed_forward, 0, "%s.linear1.bias", layer);
    add(table, d, s->feed_forward, "%s.linear2.weight", layer);
    add(table, d, 0, "%s.linear2.bias", layer);
    for (int norm = 1; norm <= (decoder ? 3 : 2); norm++) {
        add(table, d, 0, "%s.norm%d.weight", layer, norm);
        add(table, d, 0, "%s.norm%d.bias", layer, norm);
    }
}

static void add_stack(struct parameter_table *table, const struct transformer_shape *s,
                      bool decoder)
{
    const char *name = decoder ? "decoder" : "encoder";
    size_t layers = decoder ? s->decoder_layers : s->encoder_layers;
    for (size_t i = 0; i < layers; i++) {
        char layer[64];
        snprintf(layer, sizeof layer, "transformer.%s.layers.%zu", name, i);
        add_layer(table, layer, s, decoder);
    }
    add(table, s->d_model, 0, "transformer.%s.norm.weight", name);
    add(table, s->d_model, 0, "transformer.%s.norm.bias", name);
}

enum { OUTSIDE_LAYERS = 8, IN_ENCODER_LAYER = 12, IN_DECODER_LAYER = 18 };

enum akin_status parameter_table_create(const struct transformer_shape *shape,
                                        struct parameter_table *table, struct akin_error *error)
{
    *table = (struct parameter_table){0};
    enum akin_status status = check_shape(shape, error);
    if (status != AKIN_OK)
        return status;
    size_t most = OUTSIDE_LAYERS + IN_ENCODER_LAYER * shape->encoder_layers
                  + IN_DECODER_LAYER * shape->decoder_layers;
    table->parameters = memory_alloc(most, sizeof *table->parameters);
    if (!table->parameters)
        return error_set(error, AKIN_MEMORY, "no memory for the names of %zu parameters", most);
    add(table, shape->vocab, shape->d_model, "embedding.weight");
    add(table, shape->seq_len, shape->d_model, "pos_embedding.weight");
    add_stack(table, shape, false);
    add_stack(table, shape, true);
    add(table, shape->vocab, shape->d_model, "output_proj.weight");
    add(table, shape->vocab, 0, "output_proj.bias");
    return AKIN_OK;
}

void parameter_table_destroy(struct parameter_table *table)
{
    memory_free(table->parameters);
    *table = (struct parameter_table){0};
}

ptrdiff_t parameter_find(const struct parameter_table *table, const char *name)
{
    for (size_t i = 0; i < table->count; i++)
        if (strcmp(table->parameters[i].name, name) == 0)
            return (ptrdiff_t)i;
    return -1;
}

double transformer_sample_flops(const struct transformer_shape *shape)
{
    double d = (double)shape->d_model, f = (double)shape->feed_forward, s = (double)shape->seq_len;
    double t = s - 1;
    double self_products = 4 * d * d, attention = 2 * d, feed_forward = 2 * d * f;
    double encoder = s * (self_products + attention * s + feed_forward);
    double cross = t * (2 * d * d + attention * s) + s * 2 * d * d;
    double decoder = t * (self_products + attention * t + feed_forward) + cross;
    double projection = t * d * (double)shape->vocab;
    /* a multiply and an add each; backwards takes twice what forwards takes */
    return 2 * 3 * ((double)shape->encoder_layers * encoder
                    + (double)shape->decoder_layers * decoder + projection);
}
