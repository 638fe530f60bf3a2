/* Texts: the first byte chooses one of the committed tokenizers, the second how many tokens there
 * is room for, the rest is the text. Ids must be below the vocabulary size and offsets inside the
 * text. */
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/status.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TOKENIZERS = 8, IDS_MAX = 1024 };

#define FIXTURE(name) AKIN_SOURCE_DIR "/tests/fixtures/tokenizers/" name ".json"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const paths[TOKENIZERS] = {
        FIXTURE("wordpiece_uncased"), FIXTURE("wordpiece_added"), FIXTURE("wordpiece_folded"),
        FIXTURE("wordpiece_words"), FIXTURE("unigram_xlmr"), FIXTURE("unigram_clusters"),
        FIXTURE("unigram_bytes"), FIXTURE("unigram_whole"),
    };
    static struct tokenizer *tokenizers[TOKENIZERS];
    static struct tokenizer_scratch *scratch;
    static uint32_t ids[2][IDS_MAX];
    static struct token_offset offsets[IDS_MAX];
    if (size < 2)
        return 0;
    size_t choice = data[0] % TOKENIZERS, ids_max = (size_t)data[1] * 4 + 2, count = 0, again = 0;
    const char *text = (const char *)data + 2;
    size_t bytes = size - 2;
    if (!scratch)
        ASSERT(tokenizer_scratch_create(&scratch, NULL) == AKIN_OK);
    if (!tokenizers[choice])
        ASSERT(tokenizer_open(paths[choice], &tokenizers[choice], NULL) == AKIN_OK);
    const struct tokenizer *tokenizer = tokenizers[choice];
    ids_max = ids_max > IDS_MAX ? IDS_MAX : ids_max;
    ASSERT(tokenizer_encode(tokenizer, text, bytes, scratch, ids[0], offsets, ids_max, &count,
                            NULL) == AKIN_OK);
    ASSERT(tokenizer_encode(tokenizer, text, bytes, scratch, ids[1], NULL, ids_max, &again, NULL) ==
           AKIN_OK);
    ASSERT(count <= ids_max && count == again);
    for (size_t i = 0; i < count; i++) {
        ASSERT(ids[0][i] == ids[1][i] && ids[0][i] < tokenizer_vocabulary_size(tokenizer));
        ASSERT(offsets[i].begin <= offsets[i].end && offsets[i].end <= bytes);
    }
    return 0;
}
