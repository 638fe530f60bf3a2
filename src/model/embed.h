/* Many texts to vectors: tokenise, leave out repeats, sort by length, cut into micro-batches,
 * compute them on all threads, put the vectors back in the order of the texts. Works window by
 * window, so that memory is bounded for any number of texts.
 *
 * Bits: the backend computes every row from that row alone, and what surrounds a text here decides
 * only where and when it is computed. So the same text gives the same bits in any company. */
#pragma once

#include "akin/model.h"
#include "model/encoder.h"

struct embedder;
struct thread_pool;
struct tokenizer;

struct embedder_parts {
    const struct encoder *encoder;
    const struct tokenizer *tokenizer;
    struct thread_pool *pool;
    size_t dimension, tokens_max;
    size_t position_first;
    bool normalize;             /* what AKIN_NORMALIZE_AS_MODEL means */
};

/* The parts must outlive it; every id of the tokenizer has a row in the encoder's table. It owns
 * the encoder's lanes. */
enum akin_status embedder_create(const struct embedder_parts *parts, struct embedder **embedder,
                                 struct akin_error *error);
void embedder_destroy(struct embedder **embedder);

/* As akin_model_embed. Any thread; concurrent calls take turns, group of micro-batches by group. */
enum akin_status embedder_embed(struct embedder *embedder, const struct akin_text *texts,
                                size_t count, const struct akin_embed_settings *settings,
                                float *vectors, struct akin_embed_report *report,
                                struct akin_error *error);
