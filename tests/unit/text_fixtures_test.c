/* The committed tokenizers against what the Hugging Face package made of the same strings, and what
 * must hold whatever the tokenizer: no allocation once warm, truncation, invalid UTF-8. */
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

#define FIXTURES AKIN_SOURCE_DIR "/tests/fixtures/tokenizers/"

enum { IDS_MAX = 4096, ROWS_MAX = 400 };

static const char *const names[] = {
    "wordpiece_uncased", "wordpiece_added", "wordpiece_folded", "wordpiece_words",
    "unigram_xlmr", "unigram_clusters", "unigram_bytes", "unigram_whole",
};
enum { NAMES = sizeof names / sizeof names[0] };

static struct tokenizer *open_fixture(const char *name)
{
    char path[PATH_BYTES_MAX];
    struct tokenizer *tokenizer = NULL;
    struct akin_error error = { 0 };
    snprintf(path, sizeof path, FIXTURES "%s.json", name);
    if (tokenizer_open(path, &tokenizer, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    return tokenizer;
}

static struct tokenizer_scratch *make_scratch(void)
{
    struct tokenizer_scratch *scratch = NULL;
    assert_int_equal(tokenizer_scratch_create(&scratch, NULL), AKIN_OK);
    return scratch;
}

static size_t encode(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                     const char *text, size_t bytes, size_t ids_max, uint32_t *ids,
                     struct token_offset *offsets)
{
    size_t count = SIZE_MAX;
    struct akin_error error = { 0 };
    if (tokenizer_encode(tokenizer, text, bytes, scratch, ids, offsets, ids_max, &count, &error) !=
        AKIN_OK)
        fail_msg("%s", error.message);
    return count;
}

static size_t read_rows(const char *name, json_t **rows)
{
    char path[PATH_BYTES_MAX];
    struct line_reader *reader = NULL;
    const char *line;
    size_t bytes, count = 0;
    snprintf(path, sizeof path, FIXTURES "%s.expected.jsonl", name);
    assert_int_equal(line_reader_open(path, &reader, NULL), AKIN_OK);
    while (line_reader_next(reader, &line, &bytes, NULL) == AKIN_OK && line) {
        assert_true(count < ROWS_MAX);
        assert_int_equal(json_parse(line, bytes, path, &rows[count++], NULL), AKIN_OK);
    }
    line_reader_close(&reader);
    return count;
}

static void check_row(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                      const char *name, size_t number, const json_t *row)
{
    static uint32_t ids[IDS_MAX], plain[IDS_MAX];
    static struct token_offset offsets[IDS_MAX];
    const json_t *text = json_object_get(row, "text"), *wanted = json_object_get(row, "ids");
    const json_t *spans = json_object_get(row, "offsets");
    size_t ids_max = (size_t)json_integer_value(json_object_get(row, "tokens_max"));
    const char *bytes = json_string_value(text);
    size_t count =
        encode(tokenizer, scratch, bytes, json_string_length(text), ids_max, ids, offsets);
    size_t again =
        encode(tokenizer, scratch, bytes, json_string_length(text), ids_max, plain, NULL);
    bool same = count == json_array_size(wanted) && count == again &&
                memcmp(ids, plain, count * sizeof *ids) == 0;
    for (size_t i = 0; same && i < count; i++) {
        const json_t *span = json_array_get(spans, i);
        same = ids[i] == json_integer_value(json_array_get(wanted, i)) &&
               offsets[i].begin == json_integer_value(json_array_get(span, 0)) &&
               offsets[i].end == json_integer_value(json_array_get(span, 1));
    }
    if (!same)
        fail_msg("%s.expected.jsonl:%zu: other ids or offsets", name, number + 1);
}

static void test_same_as_peer(void **state)
{
    (void)state;
    struct tokenizer_scratch *scratch = make_scratch();
    for (size_t n = 0; n < NAMES; n++) {
        json_t *rows[ROWS_MAX];
        struct tokenizer *tokenizer = open_fixture(names[n]);
        size_t count = read_rows(names[n], rows);
        assert_true(count >= 100);
        for (size_t i = 0; i < count; i++) {
            check_row(tokenizer, scratch, names[n], i, rows[i]);
            json_decref(rows[i]);
        }
        tokenizer_close(&tokenizer);
        assert_null(tokenizer);
    }
    tokenizer_scratch_destroy(&scratch);
    assert_null(scratch);
}

static void test_no_allocation_once_warm(void **state)
{
    (void)state;
    for (size_t n = 0; n < NAMES; n++) {
        json_t *rows[ROWS_MAX];
        struct tokenizer *tokenizer = open_fixture(names[n]);
        struct tokenizer_scratch *scratch = make_scratch();
        size_t count = read_rows(names[n], rows);
        for (size_t i = 0; i < count; i++)
            check_row(tokenizer, scratch, names[n], i, rows[i]);
        uint64_t before = memory_allocations();
        for (size_t i = 0; i < count; i++)
            check_row(tokenizer, scratch, names[n], i, rows[i]);
        assert_int_equal(memory_allocations() - before, 0);
        for (size_t i = 0; i < count; i++)
            json_decref(rows[i]);
        tokenizer_scratch_destroy(&scratch);
        tokenizer_close(&tokenizer);
    }
}

static void test_properties(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = open_fixture("wordpiece_added");
    assert_string_equal(tokenizer_kind(tokenizer), "wordpiece");
    assert_int_equal(tokenizer_special_tokens(tokenizer), 2);
    assert_int_equal(tokenizer_pad_id(tokenizer), 0);
    assert_int_equal(tokenizer_file_tokens_max(tokenizer), 0);
    assert_int_equal(tokenizer_token_id(tokenizer, "[SEP]", 5), 3);
    assert_int_equal(tokenizer_token_id(tokenizer, "no such", 7), -1);
    int64_t last = tokenizer_token_id(tokenizer, "\xc3\xa9" "clair", 7);
    assert_int_equal(tokenizer_vocabulary_size(tokenizer), last + 1);
    tokenizer_close(&tokenizer);
    tokenizer = open_fixture("unigram_xlmr");
    assert_string_equal(tokenizer_kind(tokenizer), "unigram");
    assert_int_equal(tokenizer_pad_id(tokenizer), 1);
    assert_int_equal(tokenizer_token_id(tokenizer, "<mask>", 6),
                     tokenizer_vocabulary_size(tokenizer) - 1);
    tokenizer_close(&tokenizer);
    tokenizer_close(&tokenizer);
}

static void test_truncation(void **state)
{
    (void)state;
    uint32_t whole[IDS_MAX], cut[IDS_MAX];
    static const char text[] = "the movie of naive cats (1999). Genres: Drama, Action";
    struct tokenizer *tokenizer = open_fixture("wordpiece_uncased");
    struct tokenizer_scratch *scratch = make_scratch();
    size_t count = encode(tokenizer, scratch, text, sizeof text - 1, IDS_MAX, whole, NULL);
    assert_true(count > 20);
    for (size_t ids_max = 2; ids_max <= count + 3; ids_max++) {
        size_t got = encode(tokenizer, scratch, text, sizeof text - 1, ids_max, cut, NULL);
        assert_int_equal(got, ids_max < count ? ids_max : count);
        assert_memory_equal(cut, whole, (got - 1) * sizeof *cut);
        assert_int_equal(cut[got - 1], whole[count - 1]);
    }
    struct akin_error error = { 0 };
    assert_int_equal(tokenizer_encode(tokenizer, "a", 1, scratch, cut, NULL, 1, &count, &error),
                     AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "special"));
    tokenizer_scratch_destroy(&scratch);
    tokenizer_close(&tokenizer);
}

/* Each maximal ill-formed part reads as one U+FFFD, and its offsets are those of the bytes. */
static void test_invalid_utf8(void **state)
{
    (void)state;
    static const char broken[] = "ab\xff" "cd \xe2\x82 x\xc3";
    static const char repaired[] = "ab\xef\xbf\xbd" "cd \xef\xbf\xbd x\xef\xbf\xbd";
    uint32_t ids[64], wanted[64];
    struct token_offset offsets[64];
    struct tokenizer_scratch *scratch = make_scratch();
    for (size_t n = 0; n < NAMES; n++) {
        struct tokenizer *tokenizer = open_fixture(names[n]);
        size_t count = encode(tokenizer, scratch, broken, sizeof broken - 1, 64, ids, offsets);
        assert_int_equal(
            count, encode(tokenizer, scratch, repaired, sizeof repaired - 1, 64, wanted, NULL));
        assert_memory_equal(ids, wanted, count * sizeof *ids);
        for (size_t i = 0; i < count; i++)
            assert_true(offsets[i].begin <= offsets[i].end && offsets[i].end < sizeof broken);
        tokenizer_close(&tokenizer);
    }
    /* One broken byte alone is one token of one byte. */
    struct tokenizer *tokenizer = open_fixture("wordpiece_words");
    size_t count = encode(tokenizer, scratch, "\xff", 1, 64, ids, offsets);
    assert_int_equal(count, 1);
    assert_int_equal(offsets[0].begin, 0);
    assert_int_equal(offsets[0].end, 1);
    tokenizer_close(&tokenizer);
    tokenizer_scratch_destroy(&scratch);
}

static void test_empty_and_nul(void **state)
{
    (void)state;
    uint32_t ids[16];
    struct tokenizer_scratch *scratch = make_scratch();
    for (size_t n = 0; n < NAMES; n++) {
        struct tokenizer *tokenizer = open_fixture(names[n]);
        assert_int_equal(encode(tokenizer, scratch, "", 0, 16, ids, NULL),
                         tokenizer_special_tokens(tokenizer));
        assert_true(encode(tokenizer, scratch, "\0\0", 2, 16, ids, NULL) <= 5);
        tokenizer_close(&tokenizer);
    }
    tokenizer_scratch_destroy(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_peer),
        cmocka_unit_test(test_no_allocation_once_warm),
        cmocka_unit_test(test_properties),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_invalid_utf8),
        cmocka_unit_test(test_empty_and_nul),
    };
    return cmocka_run_group_tests_name("text_fixtures", tests, NULL, NULL);
}
