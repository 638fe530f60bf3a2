/* The BERT encoder, written once over compute/backend.h: weights from a safetensors file, a forward
 * pass over packed sequences (no padding anywhere), pooling. Post-LayerNorm as in Devlin et al.
 * 2018; XLM-RoBERTa differs only in its position numbers, which are the caller's. */
#pragma once

#include "compute/backend.h"
#include "compute/encoder_device.h"
#include "model/config.h"
#include "model/quantized.h"
#include "model/safetensors.h"

struct encoder;

/* Reads every tensor that `config` asks for; `weights` must outlive the encoder (the embedding
 * tables are read where they lie). The matrices come from `narrowed` where it is not NULL, with the
 * same bits; AKIN_FORMAT may then be its fault. Errors: AKIN_FORMAT (a missing tensor, a wrong
 * shape), AKIN_UNSUPPORTED (a dtype, a precision), AKIN_MEMORY. */
enum akin_status encoder_create(struct backend *backend, const struct safetensors *weights,
                                const struct model_config *config, enum compute_precision precision,
                                struct quantized *narrowed, struct encoder **encoder,
                                struct akin_error *error);
/* The same on cards in COMPUTE_FP16 or COMPUTE_INT8; each of them gets the weights.
 * AKIN_UNSUPPORTED: a shape that they have no kernels for. */
enum akin_status encoder_create_on_cards(const struct encoder_cards *cards,
                                         const struct safetensors *weights,
                                         const struct model_config *config,
                                         enum compute_precision precision,
                                         struct encoder **encoder, struct akin_error *error);
void encoder_destroy(struct encoder **encoder);

/* The stored type of the word embeddings. */
enum element_type encoder_weights_type(const struct encoder *encoder);
/* Its matrices by name, for quantized_write: parts [encoder_part_count()]. */
size_t encoder_part_count(const struct encoder *encoder);
void encoder_parts(const struct encoder *encoder, struct quantized_part *parts);
uint64_t encoder_parameters(const struct encoder *encoder);

bool encoder_on_cpu(const struct encoder *encoder);
/* Tokens that are computed well together; it changes no bit. */
size_t encoder_batch_tokens(const struct encoder *encoder);
/* So many are still computed well enough, so that lanes end together. */
size_t encoder_batch_tokens_least(const struct encoder *encoder);
/* How many lanes are worth having for so many threads, at least 1 and at most as many. */
size_t encoder_lanes(const struct encoder *encoder, size_t threads);

/* One at a time is computed in a lane. */
struct encoder_lane {
    struct lane *cpu;
    struct encoder_stream *stream;  /* of a card; else NULL */
};

/* The NUMA node near the card of a lane, as topology.h has it; -1: any. Its lane is best made and
 * used there. */
int encoder_lane_node(const struct encoder *encoder, size_t number);

/* Lane `number`, large enough for batches of at most `tokens` tokens and `sequences` sequences. */
enum akin_status encoder_lane_create(const struct encoder *encoder, size_t number, size_t tokens,
                                     size_t sequences, struct encoder_lane *lane,
                                     struct akin_error *error);
void encoder_lane_destroy(const struct encoder *encoder, struct encoder_lane *lane);
/* As backend_ops.lane_team; nothing on a card. */
void encoder_lane_team(const struct encoder *encoder, struct encoder_lane *lane, bool together);

/* vectors [sequences][hidden]. One thread per lane. Fails on cards only; the lane is then of no use
 * any more. */
enum akin_status encoder_forward(const struct encoder *encoder, struct encoder_lane *lane,
                                 const struct packed_batch *batch, bool normalize, float *vectors,
                                 struct akin_error *error);
