/* Texts to try a model on where no data are at hand: the same on every machine, different from one
 * another, of the kinds that people embed (titles, queries, sentences, questions, log lines,
 * products, several languages), 1 to about 40 tokens long. */
#pragma once

#include "akin/model.h"
#include "base/memory.h"

enum { SAMPLE_TEXTS = 240 };

/* The first `count` <= SAMPLE_TEXTS of them, kinds taking turns; the bytes belong to `pool`. */
bool sample_texts(struct string_pool *pool, struct akin_text *texts, size_t count);
