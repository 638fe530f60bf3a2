/* The encoder-decoder Transformer over the parts that a training device offers, forwards and
 * backwards, a slice of samples at a time. */
#pragma once

#include "train/trainer.h"

enum sublayer_kind { SUBLAYER_SELF, SUBLAYER_CROSS, SUBLAYER_FEED_FORWARD };

struct sublayer {
    enum sublayer_kind kind;
    struct train_attention attention;
    struct train_feed_forward feed_forward;
};

/* Encoder or decoder: layers of `per_layer` sublayers, then a norm. */
struct stack {
    size_t layers, per_layer;
    size_t length;              /* rows of a sample */
    struct sublayer *sublayers; /* [layers * per_layer] */
    struct train_norm norm;
    size_t *begin;              /* [layers + 1] where the parameters of each layer begin, and end */
    size_t end;                 /* of the norm's */
    /* Of the present slice, of the device: what each sublayer reads and the norm reads last, and
     * what each saves. With `recompute` the layers share all but what their first reads. */
    float **inputs;             /* [layers * per_layer + 1] */
    void **saved;               /* [layers * per_layer] */
};

struct transformer {
    struct train_device *device;
    struct transformer_shape shape;
    struct parameter_table table;
    size_t slice;
    bool recompute;
    struct stack encoder, decoder;
    struct train_linear projection;
    const float *tokens, *positions;

    /* Blocks of the device; NULL until transformer_allocate. */
    float *values, *gradients;  /* [table.values] */
    float *source_gradients;    /* what the encoder's side adds to those of both embeddings */
    void *activations, *scratch;
    float *memory, *decoded;    /* what encoder and decoder give, in activations */
    float *gradient, *memory_gradient;  /* in scratch */
};

/* The samples that pass at once: [first, first + samples) of this rank's batch, at most `slice`. */
struct transformer_slice {
    size_t samples;
    const int32_t *source;      /* [samples][seq_len], of the device, as all here */
    const int32_t *input;       /* [samples][seq_len - 1] */
    const int32_t *labels;      /* [samples][seq_len - 1] */
    double row_weight;          /* of a label's cross-entropy in the loss */
    double *loss_sum;
    /* Not NULL with the last slice of a batch: is told which gradients are final. */
    const struct gradient_reducer *reducer;
    bool last;
};

/* Names and places of everything; no memory of the device. */
enum akin_status transformer_init(struct transformer *transformer, struct train_device *device,
                                  const struct transformer_shape *shape, size_t slice,
                                  bool recompute, struct akin_error *error);
void transformer_deinit(struct transformer *transformer);

/* Bytes of each block that transformer_allocate takes; AKIN_LIMIT beyond any memory. */
struct transformer_bytes {
    size_t parameters, gradients, activations, scratch;
};
enum akin_status transformer_bytes(struct transformer *transformer, struct transformer_bytes *bytes,
                                   struct akin_error *error);
enum akin_status transformer_allocate(struct transformer *transformer, struct akin_error *error);

/* After `values` has changed. */
enum akin_status transformer_prepare(struct transformer *transformer, struct akin_error *error);

/* Before the first slice of a batch. */
void transformer_clear_gradients(struct transformer *transformer);
/* Forwards and backwards: the loss and the gradients of one slice are added to what is there. */
void transformer_learn(struct transformer *transformer, const struct train_pass *pass,
                       const struct transformer_slice *slice);
