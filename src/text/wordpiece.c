#include "text/models.h"

static bool longer_than(const char *bytes, size_t count, size_t codes_max)
{
    size_t codes = 0;
    if (count <= codes_max)
        return false;
    for (size_t i = 0; i < count && codes <= codes_max; i++)
        codes += ((unsigned char)bytes[i] & 0xc0) != 0x80;
    return codes > codes_max;
}

void wordpiece_encode(const struct wordpiece *model, const struct text_buffer *text,
                      struct piece piece, struct token_sink *sink)
{
    size_t first = sink->count, at = piece.begin;
    uint32_t node = TRIE_ROOT;
    bool spelt =
        !longer_than(text->bytes + piece.begin, piece.end - piece.begin, model->word_codes_max);
    while (spelt && at < piece.end) {
        uint32_t id;
        size_t length = node == TRIE_NONE ? 0
                                          : trie_longest(&model->trie, node, text->bytes + at,
                                                         piece.end - at, &id);
        if (length == 0) {
            spelt = false;
            break;
        }
        sink_add(sink, id, text, at, at + length);
        at += length;
        node = model->continuation;
    }
    if (!spelt) {
        sink->count = first;    /* also when the sink became full on the way */
        sink_add(sink, model->unknown, text, piece.begin, piece.end);
    }
}
