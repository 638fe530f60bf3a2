/* Filters over metadata: the rules one by one, and random filters over random rows, sealed, in
 * memory and split between the two, against a naive evaluation of the rows' JSON. */
#include "columns_rig.h"

#include <stdlib.h>
#include <strings.h>

#include "base/json.h"
#include "base/limits.h"
#include "base/rng.h"
#include "base/thread.h"

enum { ROWS_MAX = 6000, WORDS_MAX = ROWS_MAX / 64 + 1 };

static struct filter *compiled(const char *text)
{
    struct filter *filter = NULL;
    struct akin_error error = { 0 };
    if (filter_compile(NULL, 0, text, &filter, &error) != AKIN_OK)
        fail_msg("%s: %s", text, error.message);
    return filter;
}

static void open_checked(struct rig_segment *segment, const char *const *texts, size_t count,
                         struct columns *columns)
{
    struct columns_rows rows = rig_rows(texts, count);
    struct akin_error error = { 0 };
    if (rig_build(segment, &rows, &error) != AKIN_OK ||
        columns_open(columns, &segment->all, count, &error) != AKIN_OK ||
        columns_check(columns, &error) != AKIN_OK)
        fail_msg("%s", error.message);
}

static struct columns_tail *tail_of(const char *const *texts, size_t count)
{
    struct columns_tail *tail = NULL;
    struct columns_rows rows = rig_rows(texts, count);
    struct akin_error error = { 0 };
    assert_int_equal(columns_tail_create(&tail, NULL), AKIN_OK);
    if (columns_tail_add(tail, &rows, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    return tail;
}

/* ---- the rules -------------------------------------------------------------------------- */

static const char *const few[] = {
    "{\"title\": \"Toy Story\", \"genre\": [\"Animation\", \"Children\"], \"year\": 1995}",
    "{\"Title\": \"Alien\", \"genre\": \"Horror\", \"year\": \"1979\", \"adult\": true}",
    "{\"title\": \"1984\", \"genre\": [], \"year\": 1984, \"adult\": false, \"note\": null}",
    "",
    "{}",
    "{\"release date\": \"x\", \"year\": -0.0, \"title\": \"\"}",
    ("{\"STRASSE\": \"Stra\xc3\x9f" "e\", \"year\": 1e300, \"in\": \"a\\u0301b\"}"),
};

enum { FEW = sizeof few / sizeof *few };

static void show_rows(const uint64_t *bits, size_t rows, char *shown, size_t bytes)
{
    *shown = 0;
    for (size_t r = 0; r < rows; r++)
        if (bits[r / 64] >> r % 64 & 1)
            snprintf(shown + strlen(shown), bytes - strlen(shown), "%s%zu", *shown ? " " : "", r);
}

static void rules(void **state)
{
    static const struct {
        const char *text, *rows;
    } cases[] = {
        { "genre=animation", "0" },
        { "genre=Horror OR genre=children", "0 1" },
        { "year=1995", "0" },
        { "year='1995'", "0" },             /* quotes do not make a text of it */
        { "year=1979", "1" },               /* a text is compared as text */
        { "year='1979'", "1" },
        { "year=1979.0", "" },
        { "year=1984.0", "2" },
        { "year<1980", "5" },               /* and is no number */
        { "year>=1980", "0 2 6" },
        { "year!=1995", "1 2 5 6" },
        { "NOT year=1995", "1 2 3 4 5 6" },
        { "year IN (1979, 1984)", "1 2" },
        { "year NOT IN (1979, 1984)", "0 3 4 5 6" },
        { "year=0", "5" },
        { "year=-0", "5" },
        { "year BETWEEN -1 AND 1984", "2 5" },
        { "year>1e300", "" },
        { "year>=1e300", "6" },
        { "title=1984", "2" },
        { "title~19", "2" },
        { "year~19", "1" },                 /* texts only */
        { "year=abc", "" },
        { "year!=abc", "0 1 2 5 6" },
        { "title!=x", "0 1 2" },            /* an empty text is none */
        { "adult=true", "1" },
        { "adult=FALSE", "2" },
        { "adult!=true", "2" },
        { "genre!=x", "0 1" },
        { "note=x", "" },
        { "NOT note=x", "0 1 2 3 4 5 6" },
        { "nothing!=x", "" },
        { "nothing>3 OR nothing~x", "" },
        { "'release date'=X", "5" },
        { "\"Stra\xc3\x9f" "e\" = STRASSE", "6" },
        { "'in'=\xc3\xa1" "b", "6" },
        { "TITLE ~ STORY", "0" },
    };
    struct rig_segment segment;
    struct columns columns;
    open_checked(&segment, few, FEW, &columns);
    struct columns_tail *tail = tail_of(few, FEW);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t bits[1];
        size_t passing;
        char sealed[64], added[64];
        struct filter *filter = compiled(cases[i].text);
        assert_int_equal(columns_evaluate(&columns, filter, bits, &passing, NULL), AKIN_OK);
        assert_int_equal(passing, __builtin_popcountll(bits[0]));
        show_rows(bits, FEW, sealed, sizeof sealed);
        assert_int_equal(columns_tail_evaluate(tail, FEW, filter, bits, &passing, NULL), AKIN_OK);
        show_rows(bits, FEW, added, sizeof added);
        if (strcmp(sealed, cases[i].rows) || strcmp(added, cases[i].rows))
            fail_msg("%s: rows \"%s\" sealed and \"%s\" in memory, expected \"%s\"",
                     cases[i].text, sealed, added, cases[i].rows);
        filter_destroy(&filter);
    }
    columns_tail_destroy(&tail);
    assert_null(tail);
    rig_free(&segment);
    (void)state;
}

static void fields_and_texts(void **state)
{
    struct rig_segment segment;
    struct columns columns;
    open_checked(&segment, few, FEW, &columns);
    struct columns_tail *tail = tail_of(few, FEW);
    struct bytes names = { 0 };
    for (size_t i = 0; i < columns_field_count(&columns); i++) {
        struct columns_field_info info = columns_field(&columns, i);
        bytes_printf(&names, "%.*s:%d:%d ", (int)info.name_bytes, info.name, (int)info.texts,
                     (int)info.numbers);
    }
    assert_string_equal(names.data, "adult:2:0 genre:3:0 in:1:0 release date:1:0 strasse:1:0 "
                                    "title:3:0 year:1:4 ");
    bytes_deinit(&names);
    struct filter *filter = compiled("Title=x AND (NOT 'Relase Date'=1 OR year=2)");
    const char *name = filter_name(filter, 0);
    assert_string_equal(name, "title");
    assert_true(columns_has_field(&columns, name) && columns_tail_has_field(tail, FEW, name));
    name = filter_name(filter, 1);
    assert_string_equal(name, "relase date");
    assert_false(columns_has_field(&columns, name) || columns_tail_has_field(tail, FEW, name));
    assert_false(columns_tail_has_field(tail, 0, "title"));
    assert_string_equal(filter_name(filter, 2), "year");
    assert_null(filter_name(filter, 3));
    filter_destroy(&filter);
    for (size_t r = 0; r < FEW; r++) {
        size_t bytes;
        const char *text = columns_text(&columns, r, &bytes);
        assert_int_equal(bytes, strlen(few[r]));
        assert_memory_equal(text, few[r], bytes);
        text = columns_tail_text(tail, r, &bytes);
        assert_int_equal(bytes, strlen(few[r]));
        assert_string_equal(text, few[r]);
    }
    size_t bytes = 1;
    columns_text(&columns, FEW, &bytes);
    assert_int_equal(bytes, 0);
    columns_tail_destroy(&tail);
    rig_free(&segment);
    (void)state;
}

/* Rows without metadata need no blocks; no rows need nothing. */
static void nothing_at_all(void **state)
{
    static const char *const none[] = { "", "", "" };
    for (size_t rows = 0; rows <= 3; rows += 3) {
        struct rig_segment segment;
        struct columns columns;
        uint64_t bits[1] = { 99 };
        size_t passing = 99;
        open_checked(&segment, none, rows, &columns);
        assert_int_equal(segment.count, 0);
        assert_int_equal(columns_field_count(&columns), 0);
        struct filter *filter = compiled("NOT a=1");
        assert_int_equal(columns_evaluate(&columns, filter, bits, &passing, NULL), AKIN_OK);
        assert_int_equal(passing, rows);
        assert_int_equal(bits[0], rows ? 7 : 99);
        columns_text(&columns, 0, &passing);
        assert_int_equal(passing, 0);
        filter_destroy(&filter);
        rig_free(&segment);
    }
    (void)state;
}

/* ---- random rows and filters ------------------------------------------------------------ */

static const char *const fields[] = { "genre", "year", "mixed", "rating", "sparse", "flag" };
static const char *const words[] = { "Drama", "drama", "Sci-Fi", "War",  "film noir", "7",
                                     "1990",  "AND",   "a, b",   "(x)", "true",      "R&B" };

enum { FIELDS = sizeof fields / sizeof *fields, WORDS = sizeof words / sizeof *words };

struct draw {
    struct rng rng;
    size_t rows;
    char *texts[ROWS_MAX];
    json_t *json[ROWS_MAX];
    struct bytes text;
};

static size_t below(struct draw *draw, size_t bound)
{
    return (size_t)rng_below(&draw->rng, bound);
}

/* Skewed, so that there are values of many rows and of few. */
static const char *any_word(struct draw *draw)
{
    return words[below(draw, 1 + below(draw, WORDS))];
}

static void draw_row(struct draw *draw, size_t row)
{
    struct bytes b = { 0 };
    bytes_append_text(&b, "{\"@\": null");
    if (below(draw, 5)) {
        bytes_printf(&b, ", \"Genre\": [");
        for (size_t i = 0, count = below(draw, 4); i < count; i++)
            bytes_printf(&b, "%s\"%s\"", i ? "," : "", any_word(draw));
        bytes_append_text(&b, "]");
    }
    if (below(draw, 8))
        bytes_printf(&b, ", \"year\": %d", 1980 + (int)below(draw, 1 + below(draw, 40)));
    if (below(draw, 3))
        bytes_printf(&b, below(draw, 2) ? ", \"MIXED\": \"%d\"" : ", \"mixed\": %d",
                     (int)below(draw, 12));
    bytes_printf(&b, ", \"rating\": %.2f", (double)rng_float(&draw->rng) * 10 - 2);
    if (below(draw, 50) == 0)
        bytes_printf(&b, ", \"sparse\": %s", below(draw, 2) ? "\"War\"" : "7");
    if (below(draw, 2))
        bytes_printf(&b, ", \"flag\": %s", below(draw, 3) ? "true" : "false");
    bytes_append_text(&b, "}");
    assert_false(b.failed);
    draw->texts[row] = b.data;
    draw->json[row] = json_loads(b.data, 0, NULL);
    assert_non_null(draw->json[row]);
}

static const json_t *value_of(const json_t *row, const char *field)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)row, key, value)
        if (!strcasecmp(key, field))
            return value;
    return NULL;
}

static bool contains(const char *text, const char *part)
{
    for (; *text; text++)
        if (!strncasecmp(text, part, strlen(part)))
            return true;
    return false;
}

enum form { EQUAL, UNEQUAL, IN, NOT_IN, CONTAINS, LESS, LESS_EQUAL, GREATER, GREATER_EQUAL,
            BETWEEN, FORMS };

struct condition {
    enum form form;
    const char *field;
    char a[32], b[32];
};

/* One value that is not a list. */
static bool value_passes(const json_t *value, const struct condition *c)
{
    double number = json_number_value(value);
    if (json_is_number(value)) {
        char *a_end, *b_end;
        double a = strtod(c->a, &a_end), b = strtod(c->b, &b_end);
        bool is_a = !*a_end && a == number, is_b = !*b_end && b == number;
        const bool results[FORMS] = {
            [EQUAL] = is_a, [UNEQUAL] = is_a, [IN] = is_a || is_b, [NOT_IN] = is_a || is_b,
            [LESS] = number < a, [LESS_EQUAL] = number <= a, [GREATER] = number > a,
            [GREATER_EQUAL] = number >= a, [BETWEEN] = a <= number && number <= b,
        };
        return results[c->form];
    }
    const char *text = json_is_true(value)    ? "true"
                       : json_is_false(value) ? "false"
                                              : json_string_value(value);
    if (c->form == CONTAINS)
        return contains(text, c->a);
    return c->form < CONTAINS && (!strcasecmp(text, c->a) ||
                                  (c->form >= IN && !strcasecmp(text, c->b)));
}

static bool row_passes(const json_t *row, const struct condition *c)
{
    const json_t *value = value_of(row, c->field), *item;
    bool any = false, present = value && !json_is_null(value);
    size_t i;
    if (json_is_array(value)) {
        present = json_array_size(value) > 0;
        json_array_foreach(value, i, item)
            any |= value_passes(item, c);
    } else if (present) {
        any = value_passes(value, c);
    }
    if (c->form == UNEQUAL)
        return present && !any;
    return c->form == NOT_IN ? !any : any;
}

static void draw_condition(struct draw *draw, bool *truth)
{
    static const char *const forms[FORMS] = {
        "%s='%s'", "%s != \"%s\"", "%s IN ('%s', \"%s\")", "%s NOT IN (\"%s\",'%s')", "%s~'%s'",
        "%s<%s", "%s <= %s", "%s>%s", "%s >= %s", "%s BETWEEN %s AND %s" };
    struct condition c = { .field = fields[below(draw, FIELDS)],
                           .form = (enum form)below(draw, FORMS) };
    for (int i = 0; i < 2; i++) {
        char *value = i ? c.b : c.a;
        size_t kind = below(draw, c.form < LESS ? 4 : 3);
        if (kind == 0)
            snprintf(value, sizeof c.a, "%d", 1980 + (int)below(draw, 41));
        else if (kind == 1)
            snprintf(value, sizeof c.a, "%d", (int)below(draw, 12));
        else if (kind == 2)
            snprintf(value, sizeof c.a, "%.2f", (double)rng_float(&draw->rng) * 10 - 2);
        else
            snprintf(value, sizeof c.a, "%s", any_word(draw));
    }
    if (c.form == CONTAINS)
        c.a[1 + below(draw, 2)] = 0;
    bytes_printf(&draw->text, forms[c.form], c.field, c.a, c.b);
    for (size_t r = 0; r < draw->rows; r++)
        truth[r] = row_passes(draw->json[r], &c);
}

static void draw_filter(struct draw *draw, int depth, bool *truth)
{
    size_t what = below(draw, depth > 3 ? 2 : 5);
    if (what < 2) {
        draw_condition(draw, truth);
    } else if (what == 2) {
        bytes_append_text(&draw->text, "NOT (");
        draw_filter(draw, depth + 1, truth);
        bytes_append_text(&draw->text, ")");
        for (size_t r = 0; r < draw->rows; r++)
            truth[r] = !truth[r];
    } else {
        bool other[ROWS_MAX];
        bytes_append_text(&draw->text, "(");
        draw_filter(draw, depth + 1, truth);
        bytes_append_text(&draw->text, what % 2 ? " AND " : " OR ");
        draw_filter(draw, depth + 1, other);
        bytes_append_text(&draw->text, ")");
        for (size_t r = 0; r < draw->rows; r++)
            truth[r] = what % 2 ? truth[r] && other[r] : truth[r] || other[r];
    }
}

static void compare(const struct draw *draw, const uint64_t *bits, size_t begin, size_t end,
                    size_t passing, const bool *truth, const char *what)
{
    size_t counted = 0;
    for (size_t r = begin; r < end; r++) {
        if ((bits[(r - begin) / 64] >> (r - begin) % 64 & 1) != truth[r])
            fail_msg("%s: row %zu (%s) of %zu..%zu of %s: expected %d", what, r, draw->texts[r],
                     begin, end, draw->text.data, truth[r]);
        counted += truth[r];
    }
    assert_int_equal(passing, counted);
    if ((end - begin) % 64)
        assert_int_equal(bits[(end - begin) / 64] >> (end - begin) % 64, 0);
}

/* Two segments and a tail over the rows, cut anywhere; the tail is also asked about fewer rows. */
struct split {
    size_t first, second;
    struct rig_segment segments[2];
    struct columns columns[2];
    struct columns_tail *tail;
};

static void open_split(struct split *split, struct draw *draw, size_t first, size_t second)
{
    const char *const *texts = (const char *const *)draw->texts;
    split->first = first;
    split->second = second;
    open_checked(&split->segments[0], texts, first, &split->columns[0]);
    open_checked(&split->segments[1], texts + first, second - first, &split->columns[1]);
    split->tail = tail_of(texts + second, 0);
    for (size_t at = second; at < draw->rows;) {
        size_t count = 1 + below(draw, below(draw, 3) ? 20 : 2000);
        count = count < draw->rows - at ? count : draw->rows - at;
        struct columns_rows rows = rig_rows(texts + at, count);
        assert_int_equal(columns_tail_add(split->tail, &rows, NULL), AKIN_OK);
        at += count;
    }
    assert_int_equal(columns_tail_rows(split->tail), draw->rows - second);
}

static void try_split(struct split *split, struct draw *draw, const struct filter *filter,
                      const bool *truth)
{
    static uint64_t bits[WORDS_MAX];
    size_t passing, rows = draw->rows - split->second;
    assert_int_equal(columns_evaluate(&split->columns[0], filter, bits, &passing, NULL), AKIN_OK);
    compare(draw, bits, 0, split->first, passing, truth, "first segment");
    assert_int_equal(columns_evaluate(&split->columns[1], filter, bits, &passing, NULL), AKIN_OK);
    compare(draw, bits, split->first, split->second, passing, truth, "second segment");
    rows = below(draw, 2) ? rows : below(draw, rows + 1);
    assert_int_equal(columns_tail_evaluate(split->tail, rows, filter, bits, &passing, NULL),
                     AKIN_OK);
    compare(draw, bits, split->second, split->second + rows, passing, truth, "tail");
}

static void close_split(struct split *split)
{
    rig_free(&split->segments[0]);
    rig_free(&split->segments[1]);
    columns_tail_destroy(&split->tail);
}

static void random_filters(void **state)
{
    static struct draw draw;
    static bool truth[ROWS_MAX];
    rng_seed(&draw.rng, 20261121);
    for (int round = 0; round < 30; round++) {
        struct split split;
        draw.rows = 1 + below(&draw, round % 3 ? 300 : ROWS_MAX);
        for (size_t r = 0; r < draw.rows; r++)
            draw_row(&draw, r);
        size_t first = below(&draw, draw.rows + 1);
        if (round % 4 == 0)
            first = draw.rows;
        open_split(&split, &draw, first, first + below(&draw, draw.rows - first + 1));
        for (int i = 0; i < 60; i++) {
            bytes_clear(&draw.text);
            draw_filter(&draw, 0, truth);
            struct filter *filter = compiled(draw.text.data);
            try_split(&split, &draw, filter, truth);
            filter_destroy(&filter);
        }
        close_split(&split);
        for (size_t r = 0; r < draw.rows; r++) {
            memory_free(draw.texts[r]);
            json_decref(draw.json[r]);
        }
    }
    bytes_deinit(&draw.text);
    (void)state;
}

/* The same rows give the same bytes; ranges of every size over numbers with and without ties. */
static void ranges(void **state)
{
    enum { ROWS = 40000 };
    struct rig_segment segment, again;
    struct columns columns;
    char (*texts)[64] = memory_alloc(ROWS, sizeof *texts);
    const char **pointers = memory_alloc(ROWS, sizeof *pointers);
    int *numbers = memory_alloc(ROWS, sizeof *numbers);
    uint64_t *bits = memory_alloc(filter_words(ROWS), sizeof *bits);
    struct rng rng;
    rng_seed(&rng, 5);
    for (size_t r = 0; r < ROWS; r++) {     /* a third has one of two values, which span cuts */
        size_t kind = (size_t)rng_below(&rng, 6);
        numbers[r] = kind < 2 ? 300 + 400 * (int)kind : (int)rng_below(&rng, 1000);
        snprintf(texts[r], sizeof texts[r], "{\"n\": %d}", numbers[r]);
        pointers[r] = texts[r];
    }
    open_checked(&segment, pointers, ROWS, &columns);
    open_checked(&again, pointers, ROWS, &columns);
    for (size_t i = 0; i < segment.count; i++) {
        assert_int_equal(segment.blocks[i].bytes, again.blocks[i].bytes);
        assert_memory_equal(segment.blocks[i].data, again.blocks[i].data, again.blocks[i].bytes);
    }
    for (int i = 0; i < 600; i++) {
        int a = i % 5 ? (int)rng_below(&rng, 1002) - 1 : 300, b = i % 7 ? a : 700;
        b += (int)rng_below(&rng, 1 + rng_below(&rng, 1002));
        char text[64];
        size_t passing, expected = 0;
        snprintf(text, sizeof text, "n BETWEEN %d AND %d", a, b);
        struct filter *filter = compiled(text);
        assert_int_equal(columns_evaluate(&columns, filter, bits, &passing, NULL), AKIN_OK);
        for (size_t r = 0; r < ROWS; r++) {
            bool inside = a <= numbers[r] && numbers[r] <= b;
            expected += inside;
            if ((bits[r / 64] >> r % 64 & 1) != inside)
                fail_msg("%s: row %zu with %d", text, r, numbers[r]);
        }
        assert_int_equal(passing, expected);
        filter_destroy(&filter);
    }
    rig_free(&segment);
    rig_free(&again);
    memory_free(texts);
    memory_free(pointers);
    memory_free(numbers);
    memory_free(bits);
    (void)state;
}

/* ---- threads ---------------------------------------------------------------------------- */

enum { SHARED_ROWS = 5000 };

struct shared {
    struct columns_tail *tail;
    const struct columns *columns;
    const struct filter *filter;
    struct mutex *told_lock;
    size_t told;                /* rows that readers know of, under the lock */
    bool wrong;
};

/* Worker 0 appends; the others evaluate what they were told of. Row r passes when r % 3 == 0. */
static void share(void *context, size_t begin, size_t end, int worker)
{
    struct shared *shared = context;
    (void)end;
    (void)worker;
    for (size_t told = 0; told < SHARED_ROWS;) {
        uint64_t bits[SHARED_ROWS / 64 + 1];
        size_t passing = 0, sealed = 0;
        if (begin == 0) {
            char text[64];
            const char *pointer = text;
            struct columns_rows rows = rig_rows(&pointer, 1);
            snprintf(text, sizeof text, "{\"n\": %zu, \"s\": [\"a%zu\", \"b\"]}", told % 3, told);
            if (columns_tail_add(shared->tail, &rows, NULL) != AKIN_OK)
                shared->wrong = true;
            mutex_lock(shared->told_lock);
            shared->told = ++told;
            mutex_unlock(shared->told_lock);
            continue;
        }
        mutex_lock(shared->told_lock);
        told = shared->told;
        mutex_unlock(shared->told_lock);
        bool fine = columns_tail_evaluate(shared->tail, told, shared->filter, bits, &passing,
                                          NULL) == AKIN_OK &&
                    columns_evaluate(shared->columns, shared->filter, bits, &sealed, NULL) ==
                        AKIN_OK;
        if (!fine || passing != (told + 2) / 3 || sealed != 1) {
            mutex_lock(shared->told_lock);
            shared->wrong = true;
            mutex_unlock(shared->told_lock);
        }
    }
}

static void threads(void **state)
{
    static const char *const rows[] = { "{\"n\": 1, \"s\": \"b\"}", "{\"n\": 0, \"s\": \"b\"}" };
    struct rig_segment segment;
    struct columns columns;
    open_checked(&segment, rows, 2, &columns);
    struct filter *filter = compiled("n=0 AND s=b AND NOT s=c");
    struct shared shared = { .tail = tail_of(rows, 0), .columns = &columns, .filter = filter };
    shared.told_lock = mutex_create();
    struct thread_pool *pool = thread_pool_create(4);
    assert_non_null(pool);
    thread_pool_run(pool, 4, share, &shared);
    assert_false(shared.wrong);
    thread_pool_destroy(&pool);
    mutex_destroy(&shared.told_lock);
    columns_tail_destroy(&shared.tail);
    filter_destroy(&filter);
    rig_free(&segment);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules), cmocka_unit_test(fields_and_texts),
        cmocka_unit_test(nothing_at_all), cmocka_unit_test(random_filters),
        cmocka_unit_test(ranges), cmocka_unit_test(threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
