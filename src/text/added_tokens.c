#include "text/added_tokens.h"

#include <string.h>

void added_tokens_deinit(struct added_tokens *tokens)
{
    for (size_t i = 0; i < tokens->count; i++) {
        bytes_deinit(&tokens->items[i].text);
        bytes_deinit(&tokens->items[i].content);
    }
    memory_free(tokens->items);
    trie_deinit(&tokens->raw);
    trie_deinit(&tokens->normalized);
    *tokens = (struct added_tokens){ 0 };
}

enum akin_status added_tokens_index(struct added_tokens *tokens, const char *where,
                                    struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    struct trie_key *keys = memory_alloc(tokens->count, sizeof *keys);
    if (!keys)
        return error_memory(error);
    for (int set = 0; set < 2 && status == AKIN_OK; set++) {
        bool normalized = set == 1;
        bool *first = normalized ? tokens->normalized_first : tokens->raw_first;
        size_t count = 0;
        for (size_t i = 0; i < tokens->count; i++) {
            const struct bytes *content = &tokens->items[i].content;
            if (tokens->items[i].normalized != normalized || content->count == 0)
                continue;
            keys[count++] = (struct trie_key){ content->data, content->count, (uint32_t)i };
            first[(unsigned char)content->data[0]] = true;
        }
        *(normalized ? &tokens->any_normalized : &tokens->any_raw) = count > 0;
        size_t twice;
        status =
            trie_build(normalized ? &tokens->normalized : &tokens->raw, keys, count, &twice, error);
        if (status == AKIN_OK && twice != TRIE_NO_DUPLICATE)
            status = error_set(error, AKIN_FORMAT,
                               "%s: added_tokens: two tokens match the same text \"%s\"", where,
                               tokens->items[twice].content.data);
    }
    memory_free(keys);
    return status;
}

static bool word_before(const struct unicode *unicode, const char *bytes, size_t at)
{
    size_t begin = at;
    uint32_t code;
    if (at == 0)
        return false;
    while (begin > 0 && ((unsigned char)bytes[--begin] & 0xc0) == 0x80)
        continue;
    utf8_decode(bytes + begin, at - begin, &code);
    return unicode_flags(unicode, code) & CODE_WORD;
}

static bool word_after(const struct unicode *unicode, const char *bytes, size_t at, size_t count)
{
    uint32_t code;
    if (at == count)
        return false;
    utf8_decode(bytes + at, count - at, &code);
    return unicode_flags(unicode, code) & CODE_WORD;
}

static size_t spaces_before(const struct unicode *unicode, const char *bytes, size_t at,
                            size_t limit)
{
    while (at > limit) {
        size_t begin = at - 1;
        uint32_t code;
        while (begin > limit && ((unsigned char)bytes[begin] & 0xc0) == 0x80)
            begin--;
        utf8_decode(bytes + begin, at - begin, &code);
        if (!(unicode_flags(unicode, code) & CODE_SPACE))
            break;
        at = begin;
    }
    return at;
}

static size_t spaces_after(const struct unicode *unicode, const char *bytes, size_t at,
                           size_t count)
{
    while (at < count) {
        uint32_t code;
        size_t took = utf8_decode(bytes + at, count - at, &code);
        if (!(unicode_flags(unicode, code) & CODE_SPACE))
            break;
        at += took;
    }
    return at;
}

/* A token that must be a word of its own and is not is passed over, and nothing inside it is tried.
 * Spaces that a token takes on its right can hold no other token, so searching goes on behind the
 * token itself, as the peer's does. */
struct added_match added_tokens_next(const struct added_tokens *tokens, bool normalized,
                                     const struct unicode *unicode, const char *bytes, size_t count,
                                     size_t taken, size_t *at)
{
    const struct trie *trie = normalized ? &tokens->normalized : &tokens->raw;
    const bool *first = normalized ? tokens->normalized_first : tokens->raw_first;
    bool any = normalized ? tokens->any_normalized : tokens->any_raw;
    while (any && *at < count) {
        uint32_t index;
        size_t begin = *at;
        size_t length = first[(unsigned char)bytes[begin]]
                            ? trie_longest(trie, TRIE_ROOT, bytes + begin, count - begin, &index)
                            : 0;
        if (length == 0) {
            ++*at;
            continue;
        }
        const struct added_token *token = &tokens->items[index];
        struct added_match match = { token, begin, begin + length };
        *at = match.end;
        if (token->single_word && (word_before(unicode, bytes, begin) ||
                                   word_after(unicode, bytes, match.end, count)))
            continue;
        if (token->left)
            match.begin = spaces_before(unicode, bytes, begin, taken);
        if (token->right)
            match.end = spaces_after(unicode, bytes, match.end, count);
        return match;
    }
    return (struct added_match){ NULL, count, count };
}
