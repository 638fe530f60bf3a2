/* What is not metadata, with the row and field in the message; the limits; blocks that lie. */
#include "columns_rig.h"

#include "base/limits.h"
#include "base/rng.h"
#include "index/columns_image.h"

static enum akin_status check_text(const struct bytes *text, struct akin_error *error)
{
    assert_false(text->failed);
    return columns_row_check(text->data, text->count, "films.jsonl:7", error);
}

/* ---- rows ------------------------------------------------------------------------------- */

static void mistakes(void **state)
{
    static const struct {
        const char *text;
        enum akin_status status;
        const char *part;
    } cases[] = {
        {"nonsense", AKIN_FORMAT, "row 1:"},
        {"[]", AKIN_FORMAT, "row 1: byte 1: not valid JSON: expected an object"},
        {"7", AKIN_FORMAT, "byte 1: not valid JSON: expected an object"},
        {"{\"a\": 1", AKIN_FORMAT, "row 1: byte 8: not valid JSON: expected ',' or '}'"},
        {"{\"a\": 1} x", AKIN_FORMAT, "byte 10: not valid JSON: expected the end"},
        {"{\"a\": 1, \"a\": 2}", AKIN_FORMAT, "row 1: a: twice in one row"},
        {"{\"Genre\": 1, \"genre\": 2}", AKIN_FORMAT, "row 1: genre: twice in one row"},
        {"{\"Stra\xc3\x9f"
         "e\": 1, \"STRASSE\": 2}",
         AKIN_FORMAT, "STRASSE: twice"},
        {"{\"a\": {\"b\": 1}}", AKIN_FORMAT, "row 1: a: expected a string, a number, a boolean"},
        {"{\"a\": [1]}", AKIN_FORMAT, "row 1: a: expected a list of strings only, found a number"},
        {"{\"a\": [\"x\", null]}", AKIN_FORMAT, "a: expected a list of strings only, found null"},
        {"{\"a\": [[\"x\"]]}", AKIN_FORMAT, "found an array"},
        {"{\"\": 1}", AKIN_FORMAT, "without a name"},
        {"{\"a\": NaN}", AKIN_FORMAT, "row 1:"},
        {"{\"a\": Infinity}", AKIN_FORMAT, "row 1:"},
        {"{\"a\": 1e999}", AKIN_LIMIT, "row 1: a: a number beyond the range"},
        {"{\"a\": 99999999999999999999}", AKIN_LIMIT, "row 1: a: whole numbers"},
        {"{\"a\": 9007199254740993}", AKIN_LIMIT, "a: whole numbers beyond 2^53"},
        {"{\"a\": -9007199254740993}", AKIN_LIMIT, "write a string"},
        {"{\"a\": \"\xff\"}", AKIN_FORMAT, "byte 7: not valid JSON: expected valid UTF-8"},
        {"{\"a\": \"\\ud800\"}", AKIN_FORMAT, "the second half of a surrogate pair"},
        {"{\"a\": \"\\ud800\\u0041\"}", AKIN_FORMAT, "second half"},
        {"{\"a\": \"\\udc00\"}", AKIN_FORMAT, "the first half of a surrogate pair"},
        {"{\"a\": \"\\u12g4\"}", AKIN_FORMAT, "an escape"},
        {"{\"a\": \"\\x\"}", AKIN_FORMAT, "an escape"},
        {"{\"a\": \"x\ty\"}", AKIN_FORMAT, "control character"},
        {"{\"a\": \"x", AKIN_FORMAT, "expected a quote"},
        {"{\"a\": \"x\\", AKIN_FORMAT, "an escape"},
        {"{\"a\": 01}", AKIN_FORMAT, "a number"},
        {"{\"a\": -}", AKIN_FORMAT, "a number"},
        {"{\"a\": 1.}", AKIN_FORMAT, "a number"},
        {"{\"a\": 1e}", AKIN_FORMAT, "a number"},
        {"{\"a\": +1}", AKIN_FORMAT, "a value"},
        {"{\"a\": tru}", AKIN_FORMAT, "a value"},
        {"{\"a\": }", AKIN_FORMAT, "a value"},
        {"{\"a\" 1}", AKIN_FORMAT, "':'"},
        {"{\"a\": 1,}", AKIN_FORMAT, "the name of a field"},
        {"{a: 1}", AKIN_FORMAT, "the name of a field"},
        {"{\"a\": [\"x\",]}", AKIN_FORMAT, "a value"},
        {"{\"a\": [\"x\" \"y\"]}", AKIN_FORMAT, "',' or ']'"},
        {"{\"a\": \"x\\u0000y\"}", AKIN_FORMAT, "row 1:"},
        {"{\"a\\u0000\": 1}", AKIN_FORMAT, "row 1:"},
        {"{\"a\": 'x'}", AKIN_FORMAT, "row 1:"},
        {" ", AKIN_FORMAT, "row 1: byte 2: not valid JSON: expected an object"},
    };
    struct columns_tail *tail = NULL;
    assert_int_equal(columns_tail_create(&tail, NULL), AKIN_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *texts[] = { "{\"fine\": 1}", cases[i].text, "{}" };
        struct columns_rows rows = rig_rows(texts, 3);
        struct rig_segment segment;
        struct akin_error built = { 0 }, added = { 0 };
        enum akin_status status = rig_build(&segment, &rows, &built);
        rig_free(&segment);
        if (status != cases[i].status || !strstr(built.message, cases[i].part) ||
            strncmp(built.message, "row 1:", 6) || strchr(built.message, '\n'))
            fail_msg("%s: \"%s\", expected \"%s\"", cases[i].text, built.message, cases[i].part);
        assert_int_equal(columns_tail_add(tail, &rows, &added), status);
        assert_string_equal(added.message, built.message);
        assert_int_equal(columns_tail_rows(tail), 0);
        assert_int_equal(columns_row_check(texts[1], strlen(texts[1]), "row 1", &added), status);
    }
    columns_tail_destroy(&tail);
    (void)state;
}

static void whole_numbers(void **state)
{
    struct akin_error error;
    const char *text = "{\"a\": 9007199254740992, \"b\": -9007199254740992, \"c\": 1e20}";
    assert_int_equal(columns_row_check(text, strlen(text), "x", &error), AKIN_OK);
    (void)state;
}

/* A text of `count` copies of a letter between two others. */
static void put_long(struct bytes *b, const char *before, size_t count, const char *behind)
{
    bytes_clear(b);
    bytes_append_text(b, before);
    for (size_t i = 0; i < count; i++)
        bytes_append(b, "x", 1);
    bytes_append_text(b, behind);
}

/* An object or list of `count` items. */
static void put_many(struct bytes *b, const char *before, size_t count, const char *item,
                     const char *behind)
{
    bytes_clear(b);
    bytes_append_text(b, before);
    for (size_t i = 0; i < count; i++) {
        bytes_append_text(b, i ? "," : "");
        bytes_printf(b, item, (int)i);
    }
    bytes_append_text(b, behind);
}

static void limits(void **state)
{
    struct bytes text = { 0 };
    struct akin_error error = { 0 };
    put_long(&text, "{\"a\": \"", METADATA_TEXT_BYTES_MAX, "\"}");
    assert_int_equal(check_text(&text, &error), AKIN_OK);
    put_long(&text, "{\"a\": \"", METADATA_TEXT_BYTES_MAX + 1, "\"}");
    assert_int_equal(check_text(&text, &error), AKIN_LIMIT);
    assert_non_null(strstr(error.message, "films.jsonl:7: a: a text of 65537 bytes"));
    put_long(&text, "{\"a\": \"", METADATA_BYTES_MAX, "\"}");
    assert_int_equal(check_text(&text, &error), AKIN_LIMIT);
    assert_non_null(strstr(error.message, "films.jsonl:7: metadata of 1048585 bytes"));
    put_long(&text, "{\"", METADATA_NAME_BYTES_MAX, "\": 1}");
    assert_int_equal(check_text(&text, &error), AKIN_OK);
    put_long(&text, "{\"", METADATA_NAME_BYTES_MAX + 1, "\": 1}");
    assert_int_equal(check_text(&text, &error), AKIN_LIMIT);
    assert_non_null(strstr(error.message, "a name of 257 bytes"));
    put_many(&text, "{", METADATA_FIELDS_MAX, "\"f%d\": 1", "}");
    assert_int_equal(check_text(&text, &error), AKIN_OK);
    put_many(&text, "{", METADATA_FIELDS_MAX + 1, "\"f%d\": 1", "}");
    assert_int_equal(check_text(&text, &error), AKIN_LIMIT);
    assert_non_null(strstr(error.message, "films.jsonl:7: f1024: more than 1024 fields"));
    put_many(&text, "{\"a\": [", METADATA_TEXTS_MAX, "\"%d\"", "]}");
    assert_int_equal(check_text(&text, &error), AKIN_OK);
    put_many(&text, "{\"a\": [", METADATA_TEXTS_MAX + 1, "\"%d\"", "]}");
    assert_int_equal(check_text(&text, &error), AKIN_LIMIT);
    assert_non_null(strstr(error.message, "more than 16384 values"));
    bytes_clear(&text);
    bytes_append_text(&text, "{\"a\": ");
    for (int i = 0; i < 500000; i++)
        bytes_append_text(&text, "[");
    assert_int_equal(check_text(&text, &error), AKIN_FORMAT);
    bytes_deinit(&text);
    (void)state;
}

static void expect_passing(const struct columns *columns, const struct columns_tail *tail,
                           size_t rows, const char *text, size_t expected)
{
    struct filter *filter = NULL;
    uint64_t *bits = memory_alloc(filter_words(rows), sizeof *bits);
    size_t passing;
    assert_int_equal(filter_compile(NULL, 0, text, &filter, NULL), AKIN_OK);
    assert_int_equal(columns_evaluate(columns, filter, bits, &passing, NULL), AKIN_OK);
    assert_int_equal(passing, expected);
    assert_int_equal(columns_tail_evaluate(tail, rows, filter, bits, &passing, NULL), AKIN_OK);
    assert_int_equal(passing, expected);
    filter_destroy(&filter);
    memory_free(bits);
}

/* No row has many fields, all rows together have 10,000; the block does not grow with rows times
 * fields. */
static void many_fields(void **state)
{
    enum { ROWS = 5000 };
    char (*texts)[64] = memory_alloc(ROWS, sizeof *texts);
    const char **pointers = memory_alloc(ROWS, sizeof *pointers);
    for (int r = 0; r < ROWS; r++) {
        snprintf(texts[r], sizeof texts[r], "{\"f%d\": %d, \"F%d\": \"t%d\"}", 2 * r, r, 2 * r + 1,
                 r);
        pointers[r] = texts[r];
    }
    struct columns_rows rows = rig_rows(pointers, ROWS);
    struct rig_segment segment;
    struct columns columns;
    struct columns_tail *tail = NULL;
    assert_int_equal(rig_build(&segment, &rows, NULL), AKIN_OK);
    assert_int_equal(columns_open(&columns, &segment.all, ROWS, NULL), AKIN_OK);
    assert_int_equal(columns_check(&columns, NULL), AKIN_OK);
    assert_int_equal(columns_field_count(&columns), 2 * ROWS);
    assert_true(columns.image.bytes < 2000000);
    assert_int_equal(columns_tail_create(&tail, NULL), AKIN_OK);
    assert_int_equal(columns_tail_add(tail, &rows, NULL), AKIN_OK);
    expect_passing(&columns, tail, ROWS, "f8000=4000 OR F8001=T4000 OR f77!=x", 2);
    columns_tail_destroy(&tail);
    rig_free(&segment);
    memory_free(texts);
    memory_free(pointers);
    (void)state;
}

/* A batch with a bad row adds nothing, at chunk boundaries as well; rows may be taken back. */
static void taken_back(void **state)
{
    enum { ROWS = 2100 };
    const char **texts = memory_alloc(ROWS, sizeof *texts);
    struct columns_tail *tail = NULL;
    struct columns none = { .image.rows = 0 };
    assert_int_equal(columns_tail_create(&tail, NULL), AKIN_OK);
    for (size_t r = 0; r < ROWS; r++)
        texts[r] = r % 2 ? "{\"a\": 1}" : "{\"a\": \"x\"}";
    for (size_t at = 0; at < 2048; at += 512) {
        size_t held = columns_tail_rows(tail);
        struct columns_rows rows = rig_rows(texts, ROWS);
        texts[ROWS - 1] = "{";
        assert_int_equal(columns_tail_add(tail, &rows, NULL), AKIN_FORMAT);
        texts[ROWS - 1] = "{\"a\": 1}";
        assert_int_equal(columns_tail_rows(tail), held);
        assert_int_equal(columns_tail_add(tail, &rows, NULL), AKIN_OK);
        columns_tail_cut(tail, at + 512);
        rows.count = 0;
        assert_int_equal(columns_tail_add(tail, &rows, NULL), AKIN_OK);
        struct filter *filter = NULL;
        uint64_t bits[ROWS / 64 + 1];
        size_t passing;
        assert_int_equal(filter_compile(NULL, 0, "a=1", &filter, NULL), AKIN_OK);
        assert_int_equal(columns_tail_evaluate(tail, at + 512, filter, bits, &passing, NULL),
                         AKIN_OK);
        assert_int_equal(passing, (at + 512) / 2);
        for (size_t w = 0; w < (at + 512) / 64; w++)
            assert_int_equal(bits[w], 0xaaaaaaaaaaaaaaaau);
        filter_destroy(&filter);
    }
    assert_true(columns_tail_bytes(tail) > 2048 * sizeof(uint64_t));
    expect_passing(&none, tail, 0, "a=1", 0);
    columns_tail_destroy(&tail);
    memory_free(texts);
    (void)state;
}

/* ---- damage ----------------------------------------------------------------------------- */

enum { DAMAGED_ROWS = 200 };

static void build_damaged(struct rig_segment *segment)
{
    static char texts[DAMAGED_ROWS][96];
    static const char *pointers[DAMAGED_ROWS];
    for (int r = 0; r < DAMAGED_ROWS; r++) {
        snprintf(texts[r], sizeof texts[r], "{\"g\": [\"all\", \"t%d\"], \"y\": %d, %s%d}",
                 r / 3, r % 70, r % 50 ? "\"z\": 1" : "\"rare\": ", r);
        pointers[r] = texts[r];
    }
    struct columns_rows rows = rig_rows(pointers, DAMAGED_ROWS);
    assert_int_equal(rig_build(segment, &rows, NULL), AKIN_OK);
    assert_int_equal(segment->count, 3);
}

/* Everything that can be called; only the sanitizers see what goes wrong. */
static void use_all(const struct columns *columns)
{
    static const char *const texts[] = { "g=all OR g~t1 OR g!=t5", "y>3 AND y<60 AND y!=7",
                                         "rare!=x OR z=s OR y IN (1, 2, 69)",
                                         "NOT y BETWEEN 0 AND 69" };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct filter *filter = NULL;
        uint64_t bits[DAMAGED_ROWS / 64 + 1] = { 0 };
        size_t passing;
        assert_int_equal(filter_compile(NULL, 0, texts[i], &filter, NULL), AKIN_OK);
        assert_int_equal(columns_evaluate(columns, filter, bits, &passing, NULL), AKIN_OK);
        assert_true(passing <= DAMAGED_ROWS);
        assert_int_equal(bits[DAMAGED_ROWS / 64] >> DAMAGED_ROWS % 64, 0);
        filter_destroy(&filter);
    }
    for (size_t r = 0; r < DAMAGED_ROWS; r++) {
        size_t bytes, sum = 0;
        const char *text = columns_text(columns, r, &bytes);
        for (size_t i = 0; i < bytes; i++)
            sum += (unsigned char)text[i];
        assert_true(sum || !bytes);
    }
}

static void flipped_bytes(void **state)
{
    struct rig_segment segment;
    struct rng rng;
    size_t refused = 0, found = 0, tried = 0;
    build_damaged(&segment);
    rng_seed(&rng, 3);
    for (size_t b = 0; b < 2; b++) {
        unsigned char *data = (unsigned char *)segment.blocks[b].data;
        for (size_t at = 0; at < segment.blocks[b].bytes; at++, tried++) {
            struct columns columns;
            struct akin_error error = { 0 };
            unsigned char kept = data[at];
            data[at] = rng_below(&rng, 2) ? kept ^ (unsigned char)(1u << rng_below(&rng, 8))
                                          : (unsigned char)(255 - kept);
            if (columns_open(&columns, &segment.all, DAMAGED_ROWS, &error) != AKIN_OK) {
                assert_non_null(strstr(error.message, "metadata: "));
                refused++;
            } else {
                use_all(&columns);
                found += columns_check(&columns, &error) != AKIN_OK;
            }
            data[at] = kept;
        }
    }
    assert_true(refused > 100 && found > tried / 2);
    rig_free(&segment);
    (void)state;
}

static void expect_refused(const struct rig_segment *segment, const char *part)
{
    struct columns columns;
    struct akin_error error = { 0 };
    enum akin_status status = columns_open(&columns, &segment->all, DAMAGED_ROWS, &error);
    if (status == AKIN_OK)
        status = columns_check(&columns, &error);
    if (status != AKIN_FORMAT || !strstr(error.message, part))
        fail_msg("\"%s\", expected \"%s\"", error.message, part);
}

static void lies(void **state)
{
    struct rig_segment segment;
    struct columns columns;
    struct image_field g, y, rare;
    build_damaged(&segment);
    assert_int_equal(columns_open(&columns, &segment.all, DAMAGED_ROWS, NULL), AKIN_OK);
    assert_int_equal(columns_check(&columns, NULL), AKIN_OK);
    assert_true(image_find(&columns.image, "g", 1, &g) && image_find(&columns.image, "y", 1, &y));
    assert_true(image_find(&columns.image, "rare", 4, &rare) && !rare.number_cuts);
    assert_true(g.text_maps && y.number_cuts && g.text_present);
    static const uint64_t huge = (uint64_t)1 << 62;
    uint64_t *header = (uint64_t *)segment.blocks[0].data;
    uint64_t *entry = header + sizeof(struct image_header) / sizeof(uint64_t);
    const struct {
        void *at;
        const void *with;
        size_t bytes;
        const char *part;
    } cases[] = {
        { header, &huge, 8, "block 4" }, { header + 1, &huge, 8, "block 4" },
        { header + 2, &huge, 8, "block 4" }, { header + 3, &huge, 8, "block 4" },
        { header + 4, &huge, 8, "block 4" }, { entry, &huge, 8, "block 4" },
        { entry + 1, &huge, 8, "block 4" }, { entry + 2, &huge, 8, "block 4" },
        { entry + 3, &huge, 8, "block 4" }, { entry + 5, &huge, 8, "block 4" },
        { entry + 6, &huge, 8, "block 4" }, { entry + 7, &huge, 8, "block 4" },
        { entry + 10, &huge, 8, "block 4" },
        { (char *)g.name, "z", 1, "not in order" },
        { (char *)g.text_bytes, "z", 1, "'g': its texts are not in order" },
        { (char *)g.text_bytes, "\xff", 1, "'g': one of its texts is not a text" },
        { (uint64_t *)g.text_starts + 1, &huge, 8, "'g': the places of its texts" },
        { (uint64_t *)g.text_lists + 1, &huge, 8, "'g': the places of its lists" },
        { (uint64_t *)g.map_bits, &(uint64_t){ 1 }, 8, "'g': a bitmap has too many or too few" },
        { (uint64_t *)g.text_present, &(uint64_t){ 1 }, 8, "'g': the bitmap of rows" },
        { (struct image_map *)g.maps, &(uint32_t){ 7 }, 4, "'g': " },
        { (uint32_t *)g.text_rows, &(uint32_t){ DAMAGED_ROWS }, 4, "'g': a list of rows" },
        { (double *)y.values + 1, &(double){ 0 }, 8, "'y': its numbers are not in order" },
        { (uint32_t *)y.number_rows + 1, &(uint32_t){ 0 }, 4, "'y': a list of rows" },
        { (uint32_t *)y.number_rows, &(uint32_t){ 69 }, 4, "'y': " },
        { (uint32_t *)rare.number_rows + 1, &(uint32_t){ 0 }, 4, "'rare': a row has two numbers" },
        { (uint64_t *)y.cut_bits, &(uint64_t){ 1 }, 8, "'y': a cut disagrees" },
        { (uint64_t *)y.cuts, &(uint64_t){ 5 }, 8, "'y': " },
        { (uint64_t *)segment.blocks[1].data, &huge, 8, "block 5" },
        { (uint64_t *)segment.blocks[1].data + 9, &huge, 8, "row 8: its text has no place" },
        { (char *)segment.blocks[2].data, "[", 1, "row 0" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned char kept[8];
        memcpy(kept, cases[i].at, cases[i].bytes);
        memcpy(cases[i].at, cases[i].with, cases[i].bytes);
        expect_refused(&segment, cases[i].part);
        memcpy(cases[i].at, kept, cases[i].bytes);
    }
    for (size_t i = 0; i < 3; i++) {
        segment.blocks[i].bytes -= 8;
        expect_refused(&segment, "block ");
        segment.blocks[i].bytes += 8;
        segment.blocks[i].type += 100;
        expect_refused(&segment, "missing");
        segment.blocks[i].type -= 100;
    }
    assert_int_equal(columns_open(&columns, &segment.all, DAMAGED_ROWS + 1, NULL), AKIN_FORMAT);
    assert_int_equal(columns_open(&columns, &segment.all, SIZE_MAX, NULL), AKIN_FORMAT);
    assert_int_equal(columns_check(&columns, NULL), AKIN_OK);   /* open left it empty */
    rig_free(&segment);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes), cmocka_unit_test(whole_numbers), cmocka_unit_test(limits),
        cmocka_unit_test(many_fields), cmocka_unit_test(taken_back),
        cmocka_unit_test(flipped_bytes), cmocka_unit_test(lies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
