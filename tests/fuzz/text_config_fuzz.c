/* The bytes of a tokenizer.json: refused with a message, or a tokenizer that encodes. */
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "base/status.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] =
        "Hello  World na\xc3\xafve e\xcc\x81 \xe4\xb8\xad\xe6\x96\x87 [SEP] <mask>\0 \xff a";
    enum { IDS_MAX = 256 };
    struct tokenizer *tokenizer = NULL;
    struct tokenizer_scratch *scratch = NULL;
    struct akin_error error = { 0 };
    uint32_t ids[IDS_MAX];
    struct token_offset offsets[IDS_MAX];
    json_t *root = NULL;
    size_t count = 0;
    if (json_parse((const char *)data, size, "fuzz", &root, &error) != AKIN_OK)
        return 0;
    enum akin_status status = tokenizer_from_json(root, "fuzz", &tokenizer, &error);
    json_decref(root);
    if (status != AKIN_OK) {
        ASSERT(error.message[0] != '\0' && tokenizer == NULL);
        return 0;
    }
    ASSERT(tokenizer_scratch_create(&scratch, NULL) == AKIN_OK);
    status = tokenizer_encode(tokenizer, text, sizeof text - 1, scratch, ids, offsets, IDS_MAX,
                              &count, &error);
    if (status == AKIN_OK)
        ASSERT(count <= IDS_MAX);
    for (size_t i = 0; status == AKIN_OK && i < count; i++)
        ASSERT(ids[i] < tokenizer_vocabulary_size(tokenizer) && offsets[i].end <= sizeof text);
    tokenizer_scratch_destroy(&scratch);
    tokenizer_close(&tokenizer);
    return 0;
}
