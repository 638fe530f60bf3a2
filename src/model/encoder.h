/* The BERT encoder, written once over compute/backend.h: weights from a safetensors file, a forward
 * pass over packed sequences (no padding anywhere), pooling. Post-LayerNorm as in Devlin et al.
 * 2018; XLM-RoBERTa differs only in its position numbers, which are the caller's. */
#pragma once

#include "compute/backend.h"
#include "model/config.h"
#include "model/safetensors.h"

struct encoder;

/* Reads every tensor that `config` asks for; `weights` must outlive the encoder (the embedding
 * tables are read where they lie). Errors: AKIN_FORMAT (a missing tensor, a wrong shape),
 * AKIN_UNSUPPORTED (a dtype, a precision), AKIN_MEMORY. */
enum akin_status encoder_create(struct backend *backend, const struct safetensors *weights,
                                const struct model_config *config, enum compute_precision precision,
                                struct encoder **encoder, struct akin_error *error);
void encoder_destroy(struct encoder **encoder);

/* The stored type of the word embeddings. */
enum element_type encoder_weights_type(const struct encoder *encoder);
uint64_t encoder_parameters(const struct encoder *encoder);

/* A lane large enough for batches of at most `tokens` tokens and `sequences` sequences. */
enum akin_status encoder_lane_create(const struct encoder *encoder, size_t tokens, size_t sequences,
                                     struct lane **lane, struct akin_error *error);

/* vectors [sequences][hidden]. One thread per lane. */
void encoder_forward(const struct encoder *encoder, struct lane *lane,
                     const struct packed_batch *batch, bool normalize, float *vectors);
