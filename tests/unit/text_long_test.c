/* Long texts: the same tokens as without cutting into parts, and time that stays in proportion. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/memory.h"
#include "text/tokenizer.h"

#define FIXTURE(name) AKIN_SOURCE_DIR "/tests/fixtures/tokenizers/" name ".json"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { WORD_BYTES = 8000000 };
#else
enum { WORD_BYTES = 100000000 };
#endif
enum { SECONDS_MAX = 120 };     /* far above what it takes, far below anything quadratic */

static const char *const paths[] = { FIXTURE("wordpiece_uncased"), FIXTURE("unigram_xlmr"),
                                     FIXTURE("unigram_bytes"), FIXTURE("unigram_whole") };

struct machine {
    struct tokenizer *tokenizer;
    struct tokenizer_scratch *scratch;
};

static struct machine machine_make(const char *path)
{
    struct machine machine = { 0 };
    struct akin_error error = { 0 };
    if (tokenizer_open(path, &machine.tokenizer, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    assert_int_equal(tokenizer_scratch_create(&machine.scratch, &error), AKIN_OK);
    return machine;
}

static void machine_free(struct machine *machine)
{
    tokenizer_scratch_destroy(&machine->scratch);
    tokenizer_close(&machine->tokenizer);
}

static size_t encode(struct machine *machine, const char *text, size_t bytes, uint32_t *ids,
                     struct token_offset *offsets, size_t ids_max)
{
    size_t count = 0;
    struct akin_error error = { 0 };
    if (tokenizer_encode(machine->tokenizer, text, bytes, machine->scratch, ids, offsets, ids_max,
                         &count, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    return count;
}

/* A text of many parts: its tokens are those of its sentences one after the other. */
static void test_parts_join(void **state)
{
    (void)state;
    static const char *const sentences[] = {
        "The Movie of naive cats",
        " (1999).  Genres: Drama, Action",
        " istanbul caf\xc3\xa9 e\xcc\x81t\xc3\xa9",
        " \xe6\x9d\xb1\xe4\xba\xac tower",
        " x",
        "  two  spaces ",
        " end",
    };
    enum { ROUNDS = 3000, IDS = 400000 };
    for (size_t p = 0; p < 2; p++) {
        struct machine machine = machine_make(paths[p]);
        struct bytes text = { 0 };
        uint32_t *whole = memory_alloc(IDS, sizeof *whole),
                 *joined = memory_alloc(IDS, sizeof *joined);
        struct token_offset *spans = memory_alloc(IDS, sizeof *spans);
        struct token_offset *joined_spans = memory_alloc(IDS, sizeof *joined_spans);
        size_t count = 0;
        for (int i = 0; i < ROUNDS; i++) {
            uint32_t ids[64];
            struct token_offset offsets[64];
            const char *sentence = sentences[i * 5 % 7];
            /* Behind a letter or digit a sentence begins with one space, as if it stood alone. */
            const char *glue = i == 0 ? "" : " and";
            struct bytes part = { 0 };
            bytes_append_text(&part, glue);
            bytes_append_text(&part, sentence[0] == ' ' || i == 0 ? sentence : " ");
            if (sentence[0] != ' ' && i != 0)
                bytes_append_text(&part, sentence);
            bytes_append_text(&part, " z");
            size_t got = encode(&machine, part.data, part.count, ids, offsets, 64);
            for (size_t k = 1; k + 1 < got; k++) {
                joined[count] = ids[k];
                joined_spans[count++] = (struct token_offset){
                    offsets[k].begin + (uint32_t)text.count, offsets[k].end + (uint32_t)text.count};
            }
            bytes_append(&text, part.data, part.count);
            bytes_deinit(&part);
        }
        assert_true(text.count > 50000);
        size_t got = encode(&machine, text.data, text.count, whole, spans, IDS);
        assert_int_equal(got, count + 2);
        assert_memory_equal(whole + 1, joined, count * sizeof *joined);
        assert_memory_equal(spans + 1, joined_spans, count * sizeof *spans);
        /* And a limit takes the first of them. */
        got = encode(&machine, text.data, text.count, joined, NULL, 5000);
        assert_int_equal(got, 5000);
        assert_memory_equal(whole, joined, 4999 * sizeof *joined);
        bytes_deinit(&text);
        memory_free(whole);
        memory_free(joined);
        memory_free(spans);
        memory_free(joined_spans);
        machine_free(&machine);
    }
}

/* Parts never end between spaces that a normalizer makes one. */
static void test_parts_keep_runs(void **state)
{
    (void)state;
    enum { ROUNDS = 20000, IDS = 400000 };
    struct machine machine = machine_make(FIXTURE("unigram_xlmr"));
    struct bytes wide = { 0 }, narrow = { 0 };
    uint32_t *a = memory_alloc(IDS, sizeof *a), *b = memory_alloc(IDS, sizeof *b);
    for (int i = 0; i < ROUNDS; i++) {
        bytes_append_text(&wide, "ab  cd   e)  (f    ");
        bytes_append_text(&narrow, "ab cd e) (f ");
        if (i % 100 == 0) {
            bytes_append_text(&wide, "g h ");
            bytes_append_text(&narrow, "g h ");
        }
    }
    size_t count = encode(&machine, wide.data, wide.count, a, NULL, IDS);
    assert_true(count > ROUNDS);
    assert_int_equal(count, encode(&machine, narrow.data, narrow.count, b, NULL, IDS));
    assert_memory_equal(a, b, count * sizeof *a);
    bytes_deinit(&wide);
    bytes_deinit(&narrow);
    memory_free(a);
    memory_free(b);
    machine_free(&machine);
}

static struct bytes repeat(const char *unit, size_t bytes)
{
    struct bytes text = { 0 };
    while (text.count < bytes)
        bytes_append(&text, unit, strlen(unit));
    assert_false(text.failed);
    return text;
}

static void check_long(const char *unit, size_t bytes)
{
    struct bytes text = repeat(unit, bytes);
    for (size_t p = 0; p < sizeof paths / sizeof paths[0]; p++) {
        uint32_t ids[512];
        struct machine machine = machine_make(paths[p]);
        uint64_t begin = clock_monotonic_ns();
        size_t count = encode(&machine, text.data, text.count, ids, NULL, 512);
        uint64_t seconds = (clock_monotonic_ns() - begin) / 1000000000u;
        assert_true(count <= 512);
        if (seconds > SECONDS_MAX)
            fail_msg("%s: %zu bytes of \"%s\" took %d s", paths[p], text.count, unit, (int)seconds);
        machine_free(&machine);
    }
    bytes_deinit(&text);
}

static void test_one_word(void **state)
{
    (void)state;
    struct bytes text = repeat("a", WORD_BYTES);
    for (size_t p = 0; p < 2; p++) {
        uint32_t ids[512];
        struct machine machine = machine_make(paths[p]);
        uint64_t begin = clock_monotonic_ns();
        size_t count = encode(&machine, text.data, text.count, ids, NULL, 512);
        /* One unknown word, or as many letters as there is room for. */
        assert_int_equal(count, p == 0 ? 3 : 512);
        assert_true((clock_monotonic_ns() - begin) / 1000000000u < SECONDS_MAX);
        machine_free(&machine);
    }
    bytes_deinit(&text);
}

static void test_millions(void **state)
{
    (void)state;
    enum { BYTES = 2000000 };
    check_long(" ", BYTES);
    check_long("\xe4\xb8\xad\xe6\x96\x87", BYTES);
    check_long("e\xcc\x81\xcc\xa3", BYTES);
    check_long("\xcc\xa3\xcc\x81", BYTES);
    check_long("\xf0\x9f\x91\xa8\xe2\x80\x8d", BYTES);
    check_long("\xff", BYTES);
    check_long("[SEP <s <mask", BYTES);
    check_long("a\xc3\xa9\xe4\xb8\xad\xcc\x81 \xe2\x80\x8b!\t", BYTES);
}

static void test_too_long(void **state)
{
    (void)state;
    struct machine machine = machine_make(paths[0]);
    uint32_t ids[8];
    size_t count = 7;
    struct akin_error error = { 0 };
    assert_int_equal(tokenizer_encode(machine.tokenizer, "", LINE_BYTES_MAX + 1, machine.scratch,
                                      ids, NULL, 8, &count, &error),
                     AKIN_LIMIT);
    assert_int_equal(count, 7);
    assert_non_null(strstr(error.message, "LINE_BYTES_MAX"));
    machine_free(&machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_join),
        cmocka_unit_test(test_parts_keep_runs),
        cmocka_unit_test(test_one_word),
        cmocka_unit_test(test_millions),
        cmocka_unit_test(test_too_long),
    };
    return cmocka_run_group_tests_name("text_long", tests, NULL, NULL);
}
