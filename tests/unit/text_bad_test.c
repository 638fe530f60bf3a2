/* tokenizer.json files that are cut, foreign, incomplete or lie: each is refused with a message
 * that names the field, and nothing is read out of bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "text/tokenizer.h"

#define WORDS                                                                                      \
    "\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","         \
    "\"max_input_chars_per_word\":100"
#define GOOD "{" WORDS ",\"vocab\":{\"[UNK]\":0,\"a\":1,\"b\":2}}"
#define UNI "\"type\":\"Unigram\",\"unk_id\":0"
#define GOOD_UNIGRAM "{" UNI ",\"vocab\":[[\"<unk>\",0.0],[\"a\",-1.0],[\"\xe2\x96\x81\",-2]]}"
#define TOKEN                                                                                      \
    "\"id\":1,\"content\":\"x\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"          \
    "\"special\":true"

/* A file's parts; NULL leaves a field out. */
struct parts {
    const char *normalizer, *pre_tokenizer, *post_processor, *added_tokens, *model, *more;
};

static void append_field(struct bytes *out, const char *name, const char *value)
{
    if (value)
        bytes_printf(out, ",\"%s\":%s", name, value);
}

static enum akin_status make(struct parts parts, struct tokenizer **tokenizer,
                             struct akin_error *error)
{
    struct bytes text = { 0 };
    json_t *root = NULL;
    bytes_append_text(&text, "{\"version\":\"1.0\"");
    append_field(&text, "normalizer", parts.normalizer);
    append_field(&text, "pre_tokenizer", parts.pre_tokenizer);
    append_field(&text, "post_processor", parts.post_processor);
    append_field(&text, "added_tokens", parts.added_tokens);
    append_field(&text, "model", parts.model);
    bytes_append_text(&text, parts.more ? parts.more : "");
    bytes_append_text(&text, "}");
    assert_false(text.failed);
    enum akin_status status = json_parse(text.data, text.count, "t.json", &root, error);
    if (status != AKIN_OK)
        fail_msg("the test's own JSON: %s: %s", text.data, error->message);
    status = tokenizer_from_json(root, "t.json", tokenizer, error);
    json_decref(root);
    bytes_deinit(&text);
    return status;
}

static void refused(struct parts parts, enum akin_status wanted, const char *field)
{
    struct tokenizer *tokenizer = NULL;
    struct akin_error error = { 0 };
    enum akin_status status = make(parts, &tokenizer, &error);
    assert_null(tokenizer);
    if (status != wanted || !strstr(error.message, field) || !strstr(error.message, "t.json"))
        fail_msg("expected status %d naming %s, got %d: %s", (int)wanted, field, (int)status,
                 error.message);
    assert_int_equal(error.status, wanted);
    assert_null(strchr(error.message, '\n'));
}

static void refused_model(const char *model, enum akin_status wanted, const char *field)
{
    refused((struct parts){ .model = model }, wanted, field);
}

static void test_models(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = NULL;
    struct akin_error error = { 0 };
    assert_int_equal(make((struct parts){ .model = GOOD }, &tokenizer, &error), AKIN_OK);
    tokenizer_close(&tokenizer);
    assert_int_equal(make((struct parts){ .model = GOOD_UNIGRAM }, &tokenizer, &error), AKIN_OK);
    tokenizer_close(&tokenizer);
    refused((struct parts){ 0 }, AKIN_FORMAT, "model");
    refused_model("[]", AKIN_FORMAT, "model");
    refused_model("{}", AKIN_UNSUPPORTED, "WordLevel");
    refused_model("{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}", AKIN_UNSUPPORTED, "BPE");
    refused_model("{\"vocab\":{},\"merges\":[]}", AKIN_UNSUPPORTED, "BPE");
    refused_model("{\"type\":\"WordLevel\",\"vocab\":{}}", AKIN_UNSUPPORTED, "WordLevel");
    refused_model("{\"type\":3}", AKIN_FORMAT, "type");
    refused_model("{\"type\":\"WordPiece\"}", AKIN_FORMAT, "unk_token");
    refused_model("{" WORDS "}", AKIN_FORMAT, "vocab");
    refused_model("{" WORDS ",\"vocab\":[]}", AKIN_FORMAT, "vocab");
    refused_model("{" WORDS ",\"vocab\":{\"a\":0}}", AKIN_FORMAT, "unk_token");
    refused_model("{" WORDS ",\"vocab\":{\"[UNK]\":0,\"a\":0}}", AKIN_FORMAT, "twice");
    refused_model("{" WORDS ",\"vocab\":{\"[UNK]\":-1}}", AKIN_FORMAT, "vocab");
    refused_model("{" WORDS ",\"vocab\":{\"[UNK]\":4000000000}}", AKIN_FORMAT, "vocab");
    refused_model("{" WORDS ",\"vocab\":{\"[UNK]\":9223372036854775807}}", AKIN_FORMAT, "vocab");
    refused_model("{" WORDS ",\"vocab\":{\"[UNK]\":\"0\"}}", AKIN_FORMAT, "vocab");
    refused_model("{" WORDS ",\"vocab\":{\"[UNK]\":0.5}}", AKIN_FORMAT, "vocab");
    refused_model("{\"type\":\"WordPiece\",\"unk_token\":\"u\",\"continuing_subword_prefix\":\"\","
                  "\"max_input_chars_per_word\":-1,\"vocab\":{\"u\":0}}", AKIN_FORMAT,
                  "max_input_chars_per_word");
    refused_model("{" UNI "}", AKIN_FORMAT, "vocab");
    refused_model("{" UNI ",\"vocab\":[]}", AKIN_FORMAT, "vocab");
    refused_model("{" UNI ",\"vocab\":{}}", AKIN_FORMAT, "vocab");
    refused_model("{" UNI ",\"vocab\":[[\"a\",0],[\"b\"]]}", AKIN_FORMAT, "vocab[1]");
    refused_model("{" UNI ",\"vocab\":[[\"a\",\"0\"]]}", AKIN_FORMAT, "vocab[0]");
    refused_model("{\"type\":\"Unigram\",\"unk_id\":7,\"vocab\":[[\"a\",0]]}", AKIN_FORMAT,
                  "unk_id");
    refused_model("{\"type\":\"Unigram\",\"unk_id\":-7,\"vocab\":[[\"a\",0]]}", AKIN_FORMAT,
                  "unk_id");
    refused_model("{" UNI ",\"byte_fallback\":1,\"vocab\":[[\"a\",0]]}", AKIN_FORMAT,
                  "byte_fallback");
}

static void test_long_token(void **state)
{
    (void)state;
    struct bytes model = { 0 };
    bytes_append_text(&model, "{" UNI ",\"vocab\":[[\"");
    for (int i = 0; i < 70000; i++)
        bytes_append(&model, "a", 1);
    bytes_append_text(&model, "\",0]]}");
    refused_model(model.data, AKIN_LIMIT, "vocab[0]");
    bytes_deinit(&model);
}

static void test_normalizers(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        enum akin_status status;
        const char *field;
    } cases[] = {
        {"3", AKIN_FORMAT, "normalizer"},
        {"{}", AKIN_FORMAT, "type"},
        {"{\"type\":\"ByteLevel\"}", AKIN_UNSUPPORTED, "ByteLevel"},
        {"{\"type\":\"BertNormalizer\",\"clean_text\":true}", AKIN_FORMAT, "handle_chinese_chars"},
        {"{\"type\":\"BertNormalizer\",\"clean_text\":1,\"handle_chinese_chars\":true,"
         "\"lowercase\":true}",
         AKIN_FORMAT, "clean_text"},
        {"{\"type\":\"Strip\",\"strip_left\":true}", AKIN_FORMAT, "strip_right"},
        {"{\"type\":\"Sequence\"}", AKIN_FORMAT, "normalizers"},
        {"{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"X\"}]}",
         AKIN_UNSUPPORTED, "\"X\""},
        {"{\"type\":\"Replace\",\"pattern\":\"a\",\"content\":\"b\"}", AKIN_FORMAT, "pattern"},
        {"{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"}}", AKIN_FORMAT, "content"},
        {"{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"b\"}", AKIN_UNSUPPORTED,
         "pattern"},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\"},\"content\":\"b\"}", AKIN_UNSUPPORTED,
         "pattern"},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[a-z]+\"},\"content\":\"b\"}",
         AKIN_UNSUPPORTED, "[a-z]+"},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"ab+\"},\"content\":\"b\"}",
         AKIN_UNSUPPORTED, "ab+"},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {,2}\"},\"content\":\"b\"}",
         AKIN_UNSUPPORTED, "{,2}"},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {0,}\"},\"content\":\"b\"}",
         AKIN_UNSUPPORTED, "{0,}"},
        {"{\"type\":\"Prepend\"}", AKIN_FORMAT, "prepend"},
        {"{\"type\":\"Precompiled\"}", AKIN_FORMAT, "precompiled_charsmap"},
        {"{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"\"}", AKIN_FORMAT,
         "precompiled_charsmap"},
        {"{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"!!!!\"}", AKIN_FORMAT, "base64"},
        {"{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAAA\"}", AKIN_FORMAT, "base64"},
        {"{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAA=AAAA\"}", AKIN_FORMAT, "base64"},
        {"{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAAAA==\"}", AKIN_FORMAT, "trie"},
        {"{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"/////w==\"}", AKIN_FORMAT, "trie"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        refused((struct parts){ .normalizer = cases[i].json, .model = GOOD }, cases[i].status,
                cases[i].field);
    struct bytes deep = { 0 };
    for (int i = 0; i < 40; i++)
        bytes_append_text(&deep, "{\"type\":\"Sequence\",\"normalizers\":[");
    bytes_append_text(&deep, "{\"type\":\"NFC\"}");
    for (int i = 0; i < 40; i++)
        bytes_append_text(&deep, "]}");
    refused((struct parts){ .normalizer = deep.data, .model = GOOD }, AKIN_LIMIT, "normalizer");
    bytes_deinit(&deep);
}

static void test_others(void **state)
{
    (void)state;
#define PRE(json, status, field) \
    refused((struct parts){ .pre_tokenizer = json, .model = GOOD }, status, field)
#define POST(json, status, field) \
    refused((struct parts){ .post_processor = json, .model = GOOD }, status, field)
#define ADDED(json, status, field) \
    refused((struct parts){ .added_tokens = json, .model = GOOD }, status, field)
    PRE("{\"type\":\"Digits\",\"individual_digits\":true}", AKIN_UNSUPPORTED, "Digits");
    PRE("{\"type\":\"Sequence\",\"pretokenizers\":3}", AKIN_FORMAT, "pretokenizers");
    PRE("{\"type\":\"Metaspace\"}", AKIN_FORMAT, "replacement");
    PRE("{\"type\":\"Metaspace\",\"replacement\":\"ab\"}", AKIN_FORMAT, "replacement");
    PRE("{\"type\":\"Metaspace\",\"replacement\":\"\"}", AKIN_FORMAT, "replacement");
    PRE("{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"x\"}", AKIN_FORMAT,
        "prepend_scheme");
    PRE("{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"always\","
        "\"add_prefix_space\":false}", AKIN_FORMAT, "add_prefix_space");
    PRE("{\"type\":\"Metaspace\",\"replacement\":\"_\",\"split\":\"yes\"}", AKIN_FORMAT, "split");
    POST("{\"type\":\"ByteLevel\"}", AKIN_UNSUPPORTED, "ByteLevel");
    POST("{\"type\":\"BertProcessing\",\"sep\":[\"x\",1]}", AKIN_FORMAT, "cls");
    POST("{\"type\":\"BertProcessing\",\"sep\":[\"x\",-1],\"cls\":[\"x\",1]}", AKIN_FORMAT, "sep");
    POST("{\"type\":\"RobertaProcessing\",\"sep\":[\"x\",1],\"cls\":[\"x\",1]}", AKIN_FORMAT,
         "trim_offsets");
    POST("{\"type\":\"TemplateProcessing\"}", AKIN_FORMAT, "single");
    POST("{\"type\":\"TemplateProcessing\",\"single\":[]}", AKIN_UNSUPPORTED, "Sequence A");
    POST("{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"B\"}}]}",
         AKIN_UNSUPPORTED, "single[0]");
    POST("{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\"}},"
         "{\"Sequence\":{\"id\":\"A\"}}]}", AKIN_UNSUPPORTED, "single[1]");
    POST("{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}},"
         "{\"Sequence\":{\"id\":\"A\"}}]}", AKIN_FORMAT, "special_tokens");
    ADDED("{}", AKIN_FORMAT, "added_tokens");
    ADDED("[3]", AKIN_FORMAT, "added_tokens[0]");
    ADDED("[{" TOKEN "}]", AKIN_FORMAT, "normalized");
    ADDED("[{" TOKEN ",\"normalized\":null}]", AKIN_FORMAT, "normalized");
    ADDED("[{\"id\":-1,\"content\":\"x\"}]", AKIN_FORMAT, "id");
    refused((struct parts){ .model = GOOD, .more = ",\"truncation\":{\"direction\":\"Left\"}" },
            AKIN_UNSUPPORTED, "direction");
    refused((struct parts){.model = GOOD, .more = ",\"truncation\":{\"max_length\":-1}"},
            AKIN_FORMAT, "max_length");
    refused((struct parts){ .model = GOOD, .more = ",\"padding\":{\"pad_id\":\"x\"}" }, AKIN_FORMAT,
            "pad_id");
    /* Two added tokens that are one text after normalisation. */
    refused((struct parts){.model = GOOD,
                           .normalizer = "{\"type\":\"Lowercase\"}",
                           .added_tokens =
                               "[{" TOKEN ",\"normalized\":true},{\"id\":2,\"content\":\"X\","
                               "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                               "\"special\":true,\"normalized\":true}]"},
            AKIN_FORMAT, "added_tokens");
}

/* A charsmap whose every unit, label or value points somewhere else: no input may be read or
 * written out of bounds (the sanitizers watch), and the ids must still be ids. */
static void test_lying_charsmaps(void **state)
{
    (void)state;
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char text[] = "a b \xc3\xa9 e\xcc\x81 \xe4\xb8\xad \xf0\x9f\x98\x80 zz\0q";
    uint64_t seed = 12345;
    struct tokenizer_scratch *scratch = NULL;
    assert_int_equal(tokenizer_scratch_create(&scratch, NULL), AKIN_OK);
    for (int round = 0; round < 300; round++) {
        char normalizer[1024] = "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"";
        unsigned char map[4 + 64 * 4 + 4] = {0, 1, 0, 0}; /* 64 units, then the blob "ab\0c" */
        size_t at = strlen(normalizer);
        for (size_t i = 4; i < sizeof map - 4; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            map[i] = (unsigned char)(seed >> 56);
        }
        for (size_t unit = 0; unit < 64 && round % 3 == 0; unit++) {
            map[4 + unit * 4] = (unsigned char)(unit ^ (unsigned)round); /* labels that can match */
            map[4 + unit * 4 + 1] |= 1;                         /* leaves */
            map[4 + unit * 4 + 3] &= round % 2 ? 0x7f : 0;
        }
        memcpy(map + sizeof map - 4, "ab\0c", 4);
        for (size_t i = 0; i < sizeof map; i += 3) {
            uint32_t group = (uint32_t)map[i] << 16 | (uint32_t)map[i + 1] << 8 | map[i + 2];
            for (int shift = 18; shift >= 0; shift -= 6)
                normalizer[at++] = alphabet[group >> shift & 63];
        }
        snprintf(normalizer + at, sizeof normalizer - at, "\"}");
        struct tokenizer *tokenizer = NULL;
        struct akin_error error = { 0 };
        uint32_t ids[64];
        struct token_offset offsets[64];
        size_t count = 0;
        struct parts parts = { .normalizer = normalizer, .model = GOOD_UNIGRAM };
        if (make(parts, &tokenizer, &error) != AKIN_OK)
            fail_msg("%s", error.message);
        assert_int_equal(tokenizer_encode(tokenizer, text, sizeof text - 1, scratch, ids, offsets,
                                          64, &count, &error),
                         AKIN_OK);
        for (size_t i = 0; i < count; i++)
            assert_true(ids[i] < 3 && offsets[i].begin <= offsets[i].end &&
                        offsets[i].end < sizeof text);
        tokenizer_close(&tokenizer);
    }
    tokenizer_scratch_destroy(&scratch);
}

static void test_unknown_without_unknown_token(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = NULL;
    struct tokenizer_scratch *scratch = NULL;
    struct akin_error error = { 0 };
    uint32_t ids[8];
    size_t count = 0;
    struct parts parts = { .model = "{\"type\":\"Unigram\",\"vocab\":[[\"a\",-1]]}" };
    assert_int_equal(make(parts, &tokenizer, &error), AKIN_OK);
    assert_int_equal(tokenizer_scratch_create(&scratch, &error), AKIN_OK);
    assert_int_equal(tokenizer_encode(tokenizer, "aa", 2, scratch, ids, NULL, 8, &count, &error),
                     AKIN_OK);
    assert_int_equal(count, 2);
    assert_int_equal(tokenizer_encode(tokenizer, "ab", 2, scratch, ids, NULL, 8, &count, &error),
                     AKIN_FORMAT);
    assert_non_null(strstr(error.message, "unk_id"));
    tokenizer_scratch_destroy(&scratch);
    tokenizer_close(&tokenizer);
}

/* "abcd" is a + bcd, where a is unknown and costs min_score - 10 = -30, or ab + cd: -30.5 in all
 * beats -31, and would not beat -30. */
static void test_unknown_penalty(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = NULL;
    struct tokenizer_scratch *scratch = NULL;
    struct akin_error error = { 0 };
    uint32_t ids[8];
    size_t count = 0;
    struct parts parts = {
        .model = "{" UNI ",\"vocab\":[[\"<unk>\",0],[\"bcd\",-1],[\"ab\",-20],[\"cd\",-10.5]]}",
    };
    assert_int_equal(make(parts, &tokenizer, &error), AKIN_OK);
    assert_int_equal(tokenizer_scratch_create(&scratch, &error), AKIN_OK);
    assert_int_equal(tokenizer_encode(tokenizer, "abcd", 4, scratch, ids, NULL, 8, &count, &error),
                     AKIN_OK);
    assert_int_equal(count, 2);
    assert_int_equal(ids[0], 2);
    assert_int_equal(ids[1], 3);
    tokenizer_scratch_destroy(&scratch);
    tokenizer_close(&tokenizer);
}

/* Every prefix of a real file, and the file with single bytes changed: never a crash, and what is
 * accepted encodes. */
static void test_cut_and_changed_files(void **state)
{
    (void)state;
    struct bytes file = { 0 };
    struct tokenizer_scratch *scratch = NULL;
    uint64_t seed = 99;
    assert_int_equal(file_read(AKIN_SOURCE_DIR "/tests/fixtures/tokenizers/unigram_xlmr.json",
                               1 << 20, &file, NULL),
                     AKIN_OK);
    assert_int_equal(tokenizer_scratch_create(&scratch, NULL), AKIN_OK);
    for (int round = 0; round < 600; round++) {
        json_t *root = NULL;
        struct tokenizer *tokenizer = NULL;
        struct akin_error error = { 0 };
        uint32_t ids[32];
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t at = (size_t)(seed >> 33) % file.count, count = at;
        char kept = file.data[at];
        if (round % 3 != 0) {
            file.data[at] = (char)(seed >> 24);
            count = file.count;
        }
        enum akin_status status = json_parse(file.data, count, "changed", &root, &error);
        if (status == AKIN_OK)
            status = tokenizer_from_json(root, "changed", &tokenizer, &error);
        if (status == AKIN_OK)
            assert_int_equal(tokenizer_encode(tokenizer, "Hello \xc3\xa9 world", 14, scratch, ids,
                                              NULL, 32, &count, &error),
                             AKIN_OK);
        else
            assert_true(error.message[0] != '\0' && tokenizer == NULL);
        json_decref(root);
        tokenizer_close(&tokenizer);
        file.data[at] = kept;
    }
    tokenizer_scratch_destroy(&scratch);
    bytes_deinit(&file);
}

static void test_open(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = NULL;
    struct akin_error error = { 0 };
    assert_int_equal(tokenizer_open(AKIN_SOURCE_DIR "/no/such.json", &tokenizer, &error),
                     AKIN_NOT_FOUND);
    assert_non_null(strstr(error.message, "no/such.json"));
    assert_int_equal(tokenizer_open(AKIN_SOURCE_DIR "/CMakeLists.txt", &tokenizer, &error),
                     AKIN_FORMAT);
    assert_non_null(strstr(error.message, "CMakeLists.txt"));
    assert_null(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models),
        cmocka_unit_test(test_long_token),
        cmocka_unit_test(test_normalizers),
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_lying_charsmaps),
        cmocka_unit_test(test_unknown_without_unknown_token),
        cmocka_unit_test(test_unknown_penalty),
        cmocka_unit_test(test_cut_and_changed_files),
        cmocka_unit_test(test_open),
    };
    return cmocka_run_group_tests_name("text_bad", tests, NULL, NULL);
}
