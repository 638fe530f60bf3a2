/* What the two models have in common: tokens go into a sink that may be full. */
#pragma once

#include "text/pretokenize.h"
#include "text/text_buffer.h"
#include "text/trie.h"

struct token_sink {
    uint32_t *ids;
    struct token_offset *offsets;   /* NULL: nobody asks */
    size_t count, limit;
};

static inline bool sink_full(const struct token_sink *sink)
{
    return sink->count >= sink->limit;
}

/* One token that stands for text[begin, end); does nothing when the sink is full. */
static inline void sink_add(struct token_sink *sink, uint32_t id, const struct text_buffer *text,
                            size_t begin, size_t end)
{
    if (sink_full(sink))
        return;
    sink->ids[sink->count] = id;
    if (sink->offsets)
        sink->offsets[sink->count] = (struct token_offset){ text->spans[begin].begin,
                                                            text->spans[end - 1].end };
    sink->count++;
}

/* ---- WordPiece --------------------------------------------------------------------------- */

/* Greedy longest match from the left; a word that cannot be spelt, or is longer than word_codes_max
 * code points, is one unknown token. */
struct wordpiece {
    struct trie trie;
    uint32_t continuation; /* trie node behind the continuing prefix, TRIE_NONE if there is none */
    uint32_t unknown;
    size_t word_codes_max;
};

void wordpiece_encode(const struct wordpiece *model, const struct text_buffer *text,
                      struct piece piece, struct token_sink *sink);

/* ---- Unigram ----------------------------------------------------------------------------- */

/* The most probable segmentation (Viterbi), as the peer's encode_optimized: scores add up from the
 * left in double, the first of equal ones stays, a code point without a token of its own scores
 * min_score - 10, and neighbouring unknown ones fuse. */
struct unigram {
    struct trie trie;
    double *scores;             /* [id] */
    uint32_t count;
    uint32_t unknown;           /* TRIE_NONE where the model has none */
    double unknown_score;
    size_t token_bytes_max;
    bool byte_fallback;         /* and every byte has a token */
    uint32_t byte_ids[256];     /* TRIE_NONE where that byte has none */
};

struct viterbi {
    double *scores;             /* ring of the last token_bytes_max positions, a power of two */
    uint16_t *lengths; /* [position]: bytes of the best token that ends there, 0 for none */
    size_t scores_capacity, lengths_capacity;
};

void viterbi_deinit(struct viterbi *viterbi);
/* AKIN_FORMAT when an unknown code point turns up and the model has no unknown token. */
enum akin_status unigram_encode(const struct unigram *model, const struct text_buffer *text,
                                struct piece piece, struct viterbi *viterbi,
                                struct token_sink *sink, struct akin_error *error);
