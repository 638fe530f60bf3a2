#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "text/models.h"

void viterbi_deinit(struct viterbi *viterbi)
{
    memory_free(viterbi->scores);
    memory_free(viterbi->lengths);
    *viterbi = (struct viterbi){ 0 };
}

static size_t code_bytes(unsigned char lead)
{
    return lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

/* lengths[position] and the ring of scores for text[0, bytes). */
static enum akin_status forward(const struct unigram *model, const char *text, size_t bytes,
                                const struct viterbi *viterbi, size_t ring,
                                struct akin_error *error)
{
    double *scores = viterbi->scores;
    uint16_t *lengths = viterbi->lengths;
    const struct trie_unit *units = model->trie.units;
    memset(lengths, 0, (bytes + 1) * sizeof *lengths);
    scores[0] = 0;
    for (size_t at = 0; at < bytes;) {
        double here = scores[at & ring];
        size_t own = code_bytes((unsigned char)text[at]);
        bool alone = false;     /* the code point has a token of its own */
        uint32_t node = TRIE_ROOT;
        for (size_t i = at; i < bytes;) {
            node = trie_child(&model->trie, node, (unsigned char)text[i++]);
            if (node == TRIE_NONE)
                break;
            uint32_t id = units[node].value;
            if (id == TRIE_NONE)
                continue;
            double score = model->scores[id] + here;
            if (lengths[i] == 0 || score > scores[i & ring]) {
                scores[i & ring] = score;
                lengths[i] = (uint16_t)(i - at);
            }
            alone = alone || i - at == own;
        }
        size_t next = at + own;
        if (!alone) {
            double score = model->unknown_score + here;
            if (lengths[next] == 0 || score > scores[next & ring]) {
                if (model->unknown == TRIE_NONE)
                    return error_set(error, AKIN_FORMAT,
                                     "the text has a character that the vocabulary lacks, and the "
                                     "tokenizer's model has no unk_id");
                scores[next & ring] = score;
                lengths[next] = (uint16_t)own;
            }
        }
        at = next;
    }
    return AKIN_OK;
}

/* Turns "the token that ends here" into "the token that begins here", along the best path. */
static void turn_around(uint16_t *lengths, size_t bytes)
{
    size_t end = bytes;
    uint16_t length = lengths[end];
    while (end > 0) {
        size_t begin = end - length;
        uint16_t before = lengths[begin];
        lengths[begin] = length;
        length = before;
        end = begin;
    }
}

/* A run of unknown code points is one token, or its bytes. */
static void add_unknown(const struct unigram *model, const struct text_buffer *text, size_t begin,
                        size_t end, struct token_sink *sink)
{
    uint32_t id = trie_get(&model->trie, text->bytes + begin, end - begin);
    bool spelt = id == TRIE_NONE && model->byte_fallback;
    for (size_t i = begin; i < end && spelt; i++)
        spelt = model->byte_ids[(unsigned char)text->bytes[i]] != TRIE_NONE;
    if (!spelt) {
        sink_add(sink, id == TRIE_NONE ? model->unknown : id, text, begin, end);
        return;
    }
    for (size_t i = begin; i < end && !sink_full(sink); i++)
        sink_add(sink, model->byte_ids[(unsigned char)text->bytes[i]], text, begin, end);
}

enum akin_status unigram_encode(const struct unigram *model, const struct text_buffer *text,
                                struct piece piece, struct viterbi *viterbi,
                                struct token_sink *sink, struct akin_error *error)
{
    const char *bytes = text->bytes + piece.begin;
    size_t count = piece.end - piece.begin, ring = 8;
    while (ring <= model->token_bytes_max)
        ring *= 2;
    if (!array_reserve((void **)&viterbi->scores, &viterbi->scores_capacity, ring,
                       sizeof *viterbi->scores) ||
        !array_reserve((void **)&viterbi->lengths, &viterbi->lengths_capacity, count + 1,
                       sizeof *viterbi->lengths))
        return error_memory(error);
    TRY(forward(model, bytes, count, viterbi, ring - 1, error));
    turn_around(viterbi->lengths, count);
    size_t unknown = SIZE_MAX;      /* where a run of unknown code points began */
    for (size_t at = 0; at < count && !sink_full(sink);) {
        size_t length = viterbi->lengths[at];
        uint32_t id = trie_get(&model->trie, bytes + at, length);
        if (id == TRIE_NONE || id == model->unknown) {
            if (unknown == SIZE_MAX)
                unknown = at;
        } else {
            if (unknown != SIZE_MAX)
                add_unknown(model, text, piece.begin + unknown, piece.begin + at, sink);
            unknown = SIZE_MAX;
            sink_add(sink, id, text, piece.begin + at, piece.begin + at + length);
        }
        at += length;
    }
    if (unknown != SIZE_MAX && !sink_full(sink))
        add_unknown(model, text, piece.begin + unknown, piece.end, sink);
    return AKIN_OK;
}
