/* Filters against a naive evaluation of the same conditions row by row, every kind of mistake with
 * its column, and the limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/memory.h"
#include "base/rng.h"
#include "index/filter.h"

enum { TEXTS_MAX = 4, ROWS_MAX = 300 };

struct film {
    const char *title;
    const char *genres[TEXTS_MAX];
    int year;                   /* 0: missing */
};

static const char *title_of(const void *films, size_t row, size_t i)
{
    return i == 0 ? ((const struct film *)films)[row].title : NULL;
}

static const char *genre_of(const void *films, size_t row, size_t i)
{
    return i < TEXTS_MAX ? ((const struct film *)films)[row].genres[i] : NULL;
}

static bool year_of(const void *films, size_t row, double *value)
{
    *value = ((const struct film *)films)[row].year;
    return *value != 0;
}

static const struct filter_field film_fields[] = {
    { .names = "genre genres", .type = FILTER_TEXT, .text = genre_of },
    { .names = "year", .type = FILTER_NUMBER, .number = year_of },
    { .names = "title", .type = FILTER_TEXT, .text = title_of },
};

enum { FILM_FIELDS = sizeof film_fields / sizeof *film_fields };

static struct filter_table *table_of(const struct film *films, size_t rows)
{
    struct filter_fields fields = {
        .fields = film_fields, .count = FILM_FIELDS, .rows = rows, .context = films};
    struct filter_table *table = NULL;
    assert_int_equal(filter_table_create(&fields, &table, NULL), AKIN_OK);
    assert_int_equal(filter_table_rows(table), rows);
    return table;
}

/* Rows that pass as a string of digits, such as "0 2 5". */
static void rows_of(const struct filter_table *table, const char *text, char *rows, size_t bytes)
{
    struct filter *filter = NULL;
    struct akin_error error = { 0 };
    enum akin_status status = filter_compile(film_fields, FILM_FIELDS, text, &filter, &error);
    if (status != AKIN_OK)
        fail_msg("%s: %s", text, error.message);
    uint64_t bits[ROWS_MAX / 64 + 1];
    size_t passing, counted = 0;
    assert_int_equal(filter_table_evaluate(table, filter, bits, &passing, NULL), AKIN_OK);
    filter_destroy(&filter);
    assert_null(filter);
    *rows = 0;
    for (size_t r = 0, at = 0; r < filter_table_rows(table); r++)
        if (bits[r / 64] >> r % 64 & 1) {
            at += (size_t)snprintf(rows + at, bytes - at, "%s%zu", counted ? " " : "", r);
            counted++;
        }
    assert_int_equal(counted, passing);
}

static const struct film few[] = {
    { "Toy Story (1995)", { "Animation", "Children" }, 1995 },
    { "Alien (1979)", { "Horror", "Sci-Fi" }, 1979 },
    { "The Matrix (1999)", { "Action", "Sci-Fi" }, 1999 },
    { "Airplane! (1980)", { "Comedy" }, 1980 },
    { "Nameless", { "" }, 0 },
    { "Amélie (2001)", { "Comedy", "", "Film Noir" }, 2001 },
    { "STRASSE", { "Children's" }, 1990 },
};

enum { FEW = sizeof few / sizeof *few };

static void language(void **state)
{
    static const struct {
        const char *text, *rows;
    } cases[] = {
        { "genre=Sci-Fi", "1 2" },
        { "genre = sci-fi", "1 2" },
        { "'genre' = sci-fi AND \"YEAR\"<1990", "1" },
        { "GENRES==\"SCI-FI\"", "1 2" },
        { "genre=Sci-Fi AND year>=1990", "2" },
        { "genre=Sci-Fi AND year>=1990 AND NOT genre=Horror", "2" },
        { "genre=Sci-Fi && !genre=Horror", "2" },
        { "genre=Sci-Fi and not genre=horror or year=1995", "0 2" },
        { "genre=Sci-Fi AND (NOT genre=Horror OR year=1979)", "1 2" },
        { "year<1980", "1" },
        { "year<=1980", "1 3" },
        { "year>1999", "5" },
        { "year>=1999", "2 5" },
        { "year=1999", "2" },
        { "year = 1999.0", "2" },
        { "year!=1999", "0 1 3 5 6" },
        { "NOT year=1999", "0 1 3 4 5 6" },
        { "year <> 1999", "0 1 3 5 6" },
        { "year>-1e9", "0 1 2 3 5 6" },
        { "year between 1979 and 1990", "1 3 6" },
        { "year NOT BETWEEN 1979 AND 1990", "0 2 4 5" },
        { "year BETWEEN 1990 AND 1979", "" },
        { "year BETWEEN 1979 AND 1990 AND genre=Comedy", "3" },
        { "year IN (1979, 1980,2001)", "1 3 5" },
        { "year in(1979)", "1" },
        { "genre != Sci-Fi", "0 3 5 6" },
        { "NOT genre = Sci-Fi", "0 3 4 5 6" },
        { "genre IN (Horror, film noir)", "1 5" },
        { "genre NOT IN (Horror, 'Film Noir')", "0 2 3 4 6" },
        { "genre = Film   Noir", "5" },
        { "genre=Film Noir AND year=2001", "5" },
        { "genre=Children's", "6" },
        { "genre~child", "0 6" },
        { "genre CONTAINS \"CHILD\"", "0 6" },
        { "title ~ Story", "0" },
        { "title='Airplane! (1980)'", "3" },
        { "title ~ airplane!", "3" },
        { "title ~ AM\xc3\x89LIE", "5" },              /* composed capital */
        { "title ~ ame\xcc\x81lie", "5" },             /* decomposed */
        { "title = stra\xc3\x9f" "e", "6" },           /* sharp s folds to ss */
        { "title ~ amelie", "" },                      /* accents do matter in filters */
        { "title CONTAINS \"the \"", "2" },
        { "title ~ 'and'", "" },
        { "title ~ \"\\\"\"", "" },
        { "genre=nothing of the kind", "" },
        { "NOT NOT NOT year=1999", "0 1 3 4 5 6" },
        { "((((year=1999))))", "2" },
        { "!(year=1999||year=1995)", "1 3 4 5 6" },
        { "\t year\n=\r1999 ", "2" },
    };
    struct filter_table *table = table_of(few, FEW);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char rows[64];
        rows_of(table, cases[i].text, rows, sizeof rows);
        if (strcmp(rows, cases[i].rows))
            fail_msg("%s: rows \"%s\", expected \"%s\"", cases[i].text, rows, cases[i].rows);
    }
    assert_true(filter_table_bytes(table) > FEW * sizeof(double));
    filter_table_destroy(&table);
    assert_null(table);
    filter_table_destroy(&table);
    (void)state;
}

static void mistakes(void **state)
{
    static const struct {
        const char *text;
        int column;
        const char *part;       /* of the message */
    } cases[] = {
        {"", 1, "empty"},
        {"  ", 1, "empty"},
        {"genre", 6, "found the end"},
        {"genre=", 7, "expected a value, found the end"},
        {"genre=Sci-Fi AND", 17, "expected a field"},
        {"genre=Sci-Fi AND AND", 18, "found 'AND'"},
        {"genre=Sci-Fi year>=1990", 14, "expected AND or OR, found 'year'"},
        {"genre=Sci-Fi NOT genre=Horror", 14, "expected AND, OR or the end, found 'NOT'"},
        {"gendre=Horror", 1, "unknown field 'gendre': the fields are genre, year, title"},
        {"year=1990 OR gnre=x", 14, "unknown field 'gnre'"},
        {"year=abc", 6, "expected a number"},
        {"year=19 90", 6, "expected a number"},
        {"year>1e999", 6, "expected a number"},
        {"year=nan", 6, "expected a number"},
        {"year~19", 5,
         "expected =, !=, <, <=, >, >=, IN or BETWEEN behind year, which is a number"},
        {"genre<b", 6, "expected =, !=, ~, IN or CONTAINS behind genre, which is text"},
        {"genre BETWEEN a AND b", 7, "which is text"},
        {"year BETWEEN 1990 OR 1999", 19, "expected AND and the upper bound"},
        {"year BETWEEN 1990", 18, "found the end"},
        {"genre IN Horror", 10, "expected '(' behind IN, found 'Horror'"},
        {"genre IN ()", 11, "expected a value, found ')'"},
        {"genre IN (a,", 13, "expected a value"},
        {"genre IN (a", 12, "expected ',' or ')'"},
        {"genre NOT = x", 11, "expected IN, BETWEEN or CONTAINS behind NOT"},
        {"(genre=a", 9, "expected AND, OR or ')', found the end"},
        {"genre=a)", 8, "found ')'"},
        {"genre=\"a", 7, "not closed"},
        {"genre='a\\'", 7, "not closed"},
        {"genre=\"\"", 7, "the value is empty"},
        {"genre=\"a\" b", 11, "expected AND, OR or the end, found 'b'"},
        {"title ~ in", 9, "in quotes if it is a keyword"},
        {"title=Airplane! (1980)", 17, "found '('"},
        {"title=\"Am\xc3\xa9lie\" x", 16, "found 'x'"}, /* characters, not bytes */
        {"=1990", 1, "expected a field, NOT or '(', found '='"},
        {"\"\"=1990", 1, "the name is empty"},
        {"'gendre'=Horror", 1, "unknown field 'gendre'"},
        {"a\n\x01=1", 1, "'a'"},
        {"year=1990 & year=1991", 13, "expected AND or OR, found 'year'"},
        {"genre,Horror", 6, "found ','"},
        {"genre=Horror,Comedy", 13, "found ','"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct filter *filter = NULL;
        struct akin_error error = { 0 };
        enum akin_status status =
            filter_compile(film_fields, FILM_FIELDS, cases[i].text, &filter, &error);
        char column[32];
        snprintf(column, sizeof column, "filter, column %d: ", cases[i].column);
        if (status != AKIN_ARGUMENT || filter || strncmp(error.message, column, strlen(column)) ||
            !strstr(error.message, cases[i].part) || strchr(error.message, '\n'))
            fail_msg("%s: \"%s\", expected column %d, \"%s\"", cases[i].text, error.message,
                     cases[i].column, cases[i].part);
    }
    assert_int_equal(filter_compile(film_fields, FILM_FIELDS, "year", &(struct filter *){0}, NULL),
                     AKIN_ARGUMENT);
    (void)state;
}

static enum akin_status compile(const struct bytes *text, struct akin_error *error)
{
    struct filter *filter = NULL;
    assert_false(text->failed);
    enum akin_status status = filter_compile(film_fields, FILM_FIELDS, text->data, &filter, error);
    filter_destroy(&filter);
    return status;
}

static void limits(void **state)
{
    struct akin_error error = { 0 };
    struct bytes text = { 0 };
    for (int i = 1; i < FILTER_DEPTH_MAX; i++)
        bytes_append_text(&text, "(");
    bytes_append_text(&text, "year=1");
    for (int i = 1; i < FILTER_DEPTH_MAX; i++)
        bytes_append_text(&text, ")");
    assert_int_equal(compile(&text, &error), AKIN_OK);
    bytes_clear(&text);
    for (int i = 0; i < 100000 / 4; i++)
        bytes_append_text(&text, i % 2 ? "(" : "!");
    assert_int_equal(compile(&text, &error), AKIN_LIMIT);
    assert_non_null(strstr(error.message, "column 65: nested deeper than 64"));
    bytes_clear(&text);
    bytes_append_text(&text, "year=1");
    for (int i = 0; i < FILTER_NODES_MAX / 3 - 1; i++)  /* each a value, a test and an OR */
        bytes_append_text(&text, " OR year=1");
    assert_int_equal(compile(&text, &error), AKIN_OK);
    bytes_append_text(&text, " OR year=1 OR year=1");
    assert_int_equal(compile(&text, &error), AKIN_LIMIT);
    bytes_clear(&text);
    bytes_append_text(&text, "year IN (1");
    for (int i = 0; i < FILTER_NODES_MAX; i++)
        bytes_append_text(&text, ",2");
    bytes_append_text(&text, ")");
    assert_int_equal(compile(&text, &error), AKIN_LIMIT);
    assert_non_null(strstr(error.message, "more than 1024 conditions"));
    bytes_clear(&text);
    bytes_append_text(&text, "title=");
    for (int i = 0; i < 1 << 16; i++)
        bytes_append_text(&text, "x");
    assert_int_equal(compile(&text, &error), AKIN_LIMIT);
    bytes_deinit(&text);
    (void)state;
}

/* A long chain needs two bitmaps and not one for each condition; the answer is right besides. */
static void long_chain(void **state)
{
    struct filter_table *table = table_of(few, FEW);
    struct bytes text = { 0 };
    bytes_append_text(&text, "year=1979");
    for (int i = 0; i < 300; i++)
        bytes_printf(&text, " OR year=%d", 3000 + i);
    bytes_append_text(&text, " OR year=2001");
    char rows[64];
    rows_of(table, text.data, rows, sizeof rows);
    assert_string_equal(rows, "1 5");
    bytes_deinit(&text);
    filter_table_destroy(&table);
    (void)state;
}

static void no_rows(void **state)
{
    struct filter_table *table = table_of(few, 0);
    char rows[8];
    rows_of(table, "NOT genre=x OR year!=3", rows, sizeof rows);
    assert_string_equal(rows, "");
    filter_table_destroy(&table);
    (void)state;
}

/* ---- random filters over random films --------------------------------------------------- */

static const char *const words[] = {"Drama", "drama", "Sci-Fi", "War", "Film Noir",
                                    "R&B",   "a, b",  "(x)",    "NOT"};

enum { WORDS = sizeof words / sizeof *words };

struct draw {
    struct rng rng;
    const struct film *films;
    size_t rows;
    struct bytes text;
};

static size_t below(struct draw *draw, size_t bound)
{
    return (size_t)rng_below(&draw->rng, bound);
}

static bool has_genre(const struct film *film, const char *genre)
{
    for (size_t i = 0; i < TEXTS_MAX && film->genres[i]; i++)
        if (!strcasecmp(film->genres[i], genre))
            return true;
    return false;
}

static bool contains(const char *text, const char *part)
{
    for (; *text; text++)
        if (!strncasecmp(text, part, strlen(part)))
            return true;
    return false;
}

/* A condition on year into the text, and its truth for each row. */
static void draw_year(struct draw *draw, bool *truth)
{
    static const char *const operators[] = { "=", "!=", "<", "<=", ">", ">=" };
    int a = 1990 + (int)below(draw, 8), b = 1990 + (int)below(draw, 8);
    size_t op = below(draw, 8);
    if (op < 6)
        bytes_printf(&draw->text, "year%s%d", operators[op], a);
    else
        bytes_printf(&draw->text, op == 6 ? "year BETWEEN %d AND %d" : "year IN (%d, %d)", a, b);
    for (size_t r = 0; r < draw->rows; r++) {
        int y = draw->films[r].year;
        const bool results[] = { y == a, y != a, y < a, y <= a, y > a, y >= a,
                                 y >= a && y <= b, y == a || y == b };
        truth[r] = y && results[op];
    }
}

static void draw_genre(struct draw *draw, bool *truth)
{
    const char *a = words[below(draw, WORDS)], *b = words[below(draw, WORDS)];
    size_t op = below(draw, 4);
    static const char *const forms[] = {"genre=\"%s\"", "genre != '%s'", "genre IN ('%s', \"%s\")",
                                        "genre ~ \"%.2s\""};
    bytes_printf(&draw->text, forms[op], a, b);
    char part[3] = { a[0], a[1], 0 };
    for (size_t r = 0; r < draw->rows; r++) {
        const struct film *film = &draw->films[r];
        truth[r] = false;
        for (size_t i = 0; op == 3 && i < TEXTS_MAX && film->genres[i]; i++)
            truth[r] |= contains(film->genres[i], part);
        if (op == 0)
            truth[r] = has_genre(film, a);
        else if (op == 1)
            truth[r] = film->genres[0] && !has_genre(film, a);
        else if (op == 2)
            truth[r] = has_genre(film, a) || has_genre(film, b);
    }
}

static void draw_filter(struct draw *draw, int depth, bool *truth)
{
    size_t what = below(draw, depth > 4 ? 2 : 6);
    if (what == 0) {
        draw_year(draw, truth);
    } else if (what == 1) {
        draw_genre(draw, truth);
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
        bytes_append_text(&draw->text, what % 2 ? " AND " : " or ");
        draw_filter(draw, depth + 1, other);
        bytes_append_text(&draw->text, ")");
        for (size_t r = 0; r < draw->rows; r++)
            truth[r] = what % 2 ? truth[r] && other[r] : truth[r] || other[r];
    }
}

static void random_filters(void **state)
{
    static struct film films[ROWS_MAX];
    struct draw draw = { .films = films };
    rng_seed(&draw.rng, 20240607);
    for (int round = 0; round < 40; round++) {
        memset(films, 0, sizeof films);
        draw.rows = 1 + below(&draw, ROWS_MAX);
        for (size_t r = 0; r < draw.rows; r++) {
            films[r].title = words[below(&draw, WORDS)];
            films[r].year = below(&draw, 4) ? 1990 + (int)below(&draw, 8) : 0;
            for (size_t i = 0, count = below(&draw, TEXTS_MAX + 1); i < count; i++)
                films[r].genres[i] = words[below(&draw, WORDS)];
        }
        struct filter_table *table = table_of(films, draw.rows);
        for (int i = 0; i < 50; i++) {
            bool truth[ROWS_MAX];
            uint64_t bits[ROWS_MAX / 64 + 1];
            struct filter *filter = NULL;
            struct akin_error error = { 0 };
            size_t passing, counted = 0;
            bytes_clear(&draw.text);
            draw_filter(&draw, 0, truth);
            if (filter_compile(film_fields, FILM_FIELDS, draw.text.data, &filter, &error) !=
                AKIN_OK)
                fail_msg("%s: %s", draw.text.data, error.message);
            assert_int_equal(filter_table_evaluate(table, filter, bits, &passing, NULL), AKIN_OK);
            for (size_t r = 0; r < draw.rows; r++) {
                if ((bits[r / 64] >> r % 64 & 1) != truth[r])
                    fail_msg("row %zu of %s", r, draw.text.data);
                counted += truth[r];
            }
            assert_int_equal(passing, counted);
            if (draw.rows % 64)
                assert_int_equal(bits[draw.rows / 64] >> draw.rows % 64, 0);
            filter_destroy(&filter);
        }
        filter_table_destroy(&table);
    }
    bytes_deinit(&draw.text);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(language), cmocka_unit_test(mistakes), cmocka_unit_test(limits),
        cmocka_unit_test(long_chain), cmocka_unit_test(no_rows), cmocka_unit_test(random_filters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
