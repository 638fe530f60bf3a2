/* Seam: a device that runs an encoder as a whole, fused and queued as suits it. The CPU's encoder
 * is written over backend.h, operation by operation; a card that starts a kernel for each of them
 * would mostly wait for starts and for memory.
 *
 * Bits: a sequence has the same bits alone and in any batch, on the same card. */
#pragma once

#include "compute/backend.h"

struct encoder_shape {
    size_t hidden, heads, intermediate, layers;
    float epsilon;
    enum pooling pooling;
    enum compute_precision precision;   /* COMPUTE_FP16, COMPUTE_INT8 */
};

enum encoder_linear {
    ENCODER_QKV,                /* [3 * hidden][hidden], query, key and value */
    ENCODER_ATTENTION_OUTPUT,   /* [hidden][hidden] */
    ENCODER_INTERMEDIATE,       /* [intermediate][hidden], then GELU */
    ENCODER_OUTPUT,             /* [hidden][intermediate] */
    ENCODER_LINEARS
};

/* LayerNorm behind ENCODER_ATTENTION_OUTPUT and behind ENCODER_OUTPUT. */
enum encoder_norm { ENCODER_ATTENTION_NORM, ENCODER_OUTPUT_NORM, ENCODER_NORMS };

struct encoder_device;          /* weights on a device */
struct encoder_stream;          /* one queue of work on it: one thread at a time */

struct encoder_device_ops {
    /* Tokens of a batch that make good use of a stream, and streams that together make good use of
     * the device. */
    size_t batch_tokens, streams;

    /* INT8 narrows what goes into products where that is worth it: a device decides where.
     * Weights are copied as they come; what is not set before the first stream is undefined.
     * AKIN_UNSUPPORTED: a shape that its kernels do not know; AKIN_MEMORY: with bytes asked for and
     * free. */
    enum akin_status (*create)(int ordinal, const struct encoder_shape *shape,
                               const struct embedding_tables *tables,
                               struct encoder_device **device, struct akin_error *error);
    void (*destroy)(struct encoder_device **device);
    enum akin_status (*set_linear)(struct encoder_device *device, size_t layer,
                                   enum encoder_linear which, const struct host_matrix *weight,
                                   const float *bias, struct akin_error *error);
    /* Before set_linear, for COMPUTE_INT8 only and where there is one: as in backend_ops'
     * linear_create. */
    enum akin_status (*set_equalizer)(struct encoder_device *device, size_t layer,
                                      enum encoder_linear which, const float *equalizer,
                                      size_t count, struct akin_error *error);
    enum akin_status (*set_norm)(struct encoder_device *device, size_t layer,
                                 enum encoder_norm which, const float *gamma, const float *beta,
                                 struct akin_error *error);

    /* For batches of at most `tokens` tokens and `sequences` sequences. */
    enum akin_status (*stream_create)(struct encoder_device *device, size_t tokens,
                                      size_t sequences, struct encoder_stream **stream,
                                      struct akin_error *error);
    void (*stream_destroy)(struct encoder_stream **stream);
    /* vectors [sequences][hidden] on the host, each to length 1 where `normalize`. After an error
     * the stream does nothing any more but tell it. */
    enum akin_status (*run)(struct encoder_stream *stream, const struct packed_batch *batch,
                            bool normalize, float *vectors, struct akin_error *error);
    /* Seconds of a run by the device's own clock, copies included. May be NULL. */
    enum akin_status (*measure)(struct encoder_stream *stream, const struct packed_batch *batch,
                                double *seconds, struct akin_error *error);
};

/* Devices of one kind that work together. */
enum { ENCODER_CARDS_MAX = 16 };
struct encoder_cards {
    const struct encoder_device_ops *ops;
    int ordinals[ENCODER_CARDS_MAX];
    int nodes[ENCODER_CARDS_MAX];   /* NUMA nodes near them, as topology.h has them; -1: any */
    size_t count;
};
