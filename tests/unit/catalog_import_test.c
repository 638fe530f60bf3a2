/* Imports: every published kind of MovieLens and JSON lines, from made-up films; and bad input. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/file.h"
#include "base/npy.h"
#include "catalog/catalog.h"
#include "catalog/import_ratings.h"

#define FIXTURES AKIN_SOURCE_DIR "/tests/fixtures/catalog/"

static const struct akin_progress silent;

/* A folder of its own for each test. */
static int make_folder(void **state)
{
    char *path = strdup("/tmp/akin_catalog_XXXXXX");
    assert_non_null(mkdtemp(path));
    *state = path;
    return 0;
}

static int remove_folder(void **state)
{
    int status = path_remove_tree(*state, NULL) != AKIN_OK;
    free(*state);
    return status;
}

static void in_folder(char *path, const char *folder, const char *name)
{
    assert_int_equal(path_join(path, PATH_BYTES_MAX, folder, name, NULL), AKIN_OK);
}

static void put_bytes(const char *folder, const char *name, const char *text, size_t bytes)
{
    char path[PATH_BYTES_MAX];
    in_folder(path, folder, name);
    assert_int_equal(file_write(path, text, bytes, NULL), AKIN_OK);
}

static void put(const char *folder, const char *name, const char *text)
{
    put_bytes(folder, name, text, strlen(text));
}

/* A folder with these films and one rating. */
static void put_films(const char *folder, const char *films)
{
    put(folder, "movies.csv", films);
    put(folder, "ratings.csv", "userId,movieId,rating,timestamp\n1,1,4.0,10\n");
}

static struct akin_import_report import_fixture(const char *name, const char *data)
{
    struct akin_import_report report;
    struct akin_error error = { 0 };
    char folder[PATH_BYTES_MAX];
    in_folder(folder, FIXTURES, name);
    enum akin_status status = catalog_import_movielens(folder, data, silent, &report, &error);
    if (status != AKIN_OK)
        fail_msg("%s", error.message);
    return report;
}

static struct catalog *open_catalog(const char *data)
{
    struct catalog *catalog;
    struct akin_error error = { 0 };
    if (catalog_open(data, CATALOG_ALL, &catalog, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    return catalog;
}

static void expect_item(const struct catalog *catalog, size_t row, const char *id, int year,
                        const char *text)
{
    struct akin_item item;
    catalog_item(catalog, row, &item);
    assert_string_equal(item.id, id);
    assert_int_equal(item.year, year);
    assert_string_equal(item.text, text);
}

static void expect_title(const struct catalog *catalog, size_t row, const char *title)
{
    struct akin_item item;
    catalog_item(catalog, row, &item);
    assert_string_equal(item.title, title);
}

static void test_csv(void **state)
{
    struct akin_import_report r = import_fixture("csv", *state);
    assert_int_equal(r.items, 12);
    assert_int_equal(r.ratings, 5);
    assert_int_equal(r.users, 2);
    assert_int_equal(r.tags, 7);
    assert_int_equal(r.items_with_genome, 1);
    assert_int_equal(r.items_with_year, 11);
    assert_int_equal(r.items_with_genres, 11);
    assert_int_equal(r.items_with_themes, 3);
    assert_int_equal(r.first_rating, 950);
    assert_int_equal(r.last_rating, 2000);
    assert_int_equal(r.skipped.empty_lines, 2);
    assert_int_equal(r.skipped.malformed_rows, 2 /* films */ + 1 /* genome */ + 1 /* tags */ + 2);
    assert_int_equal(r.skipped.duplicate_items, 1);
    assert_int_equal(r.skipped.duplicate_ratings, 1);
    assert_int_equal(r.skipped.ratings_of_unknown_items, 1);
    assert_int_equal(r.skipped.tags_of_unknown_items, 2);
    assert_int_equal(r.skipped.ids_out_of_range, 3);
    assert_int_equal(r.skipped.invalid_ratings, 2);
    assert_int_equal(r.skipped.latin1_files, 0);
    assert_string_equal(r.first_problem, "movies.csv:14: movieId: film 2 is there already");
}

static void test_csv_items(void **state)
{
    import_fixture("csv", *state);
    struct catalog *c = open_catalog(*state);
    expect_item(c, 0, "ml_1", 1995,
                "Paper Lantern (1995). Genres: Adventure, Children. Themes: theme 7, theme 2, "
                "theme 11, theme 10, theme 3, theme 4, theme 8, theme 6, theme 5, theme 1.");
    expect_item(c, 1, "ml_2", 1972,
                "Harbour Master, The (1972). Genres: Crime, Drama. "
                "Themes: slow burn, anchors, fog, thick, harbour.");
    expect_item(c, 2, "ml_3", 1995,
                "City of Quiet Bells, The (Cit\u00e9 des cloches muettes, La) (1995). "
                "Genres: Fantasy, Sci-Fi.");
    expect_item(c, 3, "ml_4", 2001, "The \"Great\" Nothing (2001). Genres: Comedy.");
    expect_item(c, 4, "ml_5", 0, "Nameless Reel.");
    expect_title(c, 6, "Spaced Out (2010)");
    expect_item(c, 7, "ml_8", 2006, "Long March (2006\u20132007). Genres: War.");
    expect_item(c, 8, "ml_9", 2008,
                "Moon\u00b7Eyes (2008). Genres: Animation. Themes: \u00e9t\u00e9.");
    catalog_close(&c);
}

/* The exact bytes: other programs read these files. */
static void test_csv_files(void **state)
{
    static const char first[] =
        "{\"media_id\": \"ml_1\", \"title\": \"Paper Lantern (1995)\", "
        "\"year\": 1995, \"genres\": [\"Adventure\", \"Children\"], \"themes\": [";
    char path[PATH_BYTES_MAX];
    struct bytes text = { 0 };
    struct npy npy;
    import_fixture("csv", *state);
    in_folder(path, *state, "movies.jsonl");
    assert_int_equal(file_read(path, 1 << 20, &text, NULL), AKIN_OK);
    assert_memory_equal(text.data, first, sizeof first - 1);
    assert_non_null(
        strstr(text.data, "\n{\"media_id\": \"ml_5\", \"title\": \"Nameless Reel\", \"year\": "
                          "null, \"genres\": [], \"themes\": [], \"text\": \"Nameless Reel.\"}\n"));
    bytes_deinit(&text);
    in_folder(path, *state, "ratings.npy");
    assert_int_equal(npy_open(path, &npy, NULL), AKIN_OK);
    static const struct rating_record expected[] = {
        { 3, 6, 1.0f, 1500 }, { 3, 1, 5.0f, 2000 }, { 3, 2, 0.5f, 2000 }, { 7, 1, 2.0f, 950 },
        { 7, 2, 4.5f, 1000 },
    };
    /* User 7 rated film 1 twice: the later one stays; user 3's equal times keep the file's order.
     */
    assert_int_equal(npy.shape[0], 5);
    assert_memory_equal(npy.data, expected, sizeof expected);
    npy_close(&npy);
}

static void test_dat(void **state)
{
    struct akin_import_report r = import_fixture("dat", *state);
    assert_int_equal(r.items, 3);       /* "Spread::Across" has a field too many */
    assert_int_equal(r.ratings, 3);
    assert_int_equal(r.users, 2);
    assert_int_equal(r.tags, 2);
    assert_int_equal(r.skipped.malformed_rows, 1);
    assert_int_equal(r.skipped.ratings_of_unknown_items, 1);
    assert_int_equal(r.skipped.latin1_files, 1);
    struct catalog *c = open_catalog(*state);
    expect_item(c, 0, "ml_1", 1999,
                "Caf\u00e9 Nocturne (1999). Genres: Drama, Romance. Themes: se\u00f1al.");
    expect_item(c, 2, "ml_4", 1988, "Iron Meadow (1988). Genres: Film-Noir, Sci-Fi. Themes: rust.");
    catalog_close(&c);
}

static void test_100k(void **state)
{
    struct akin_import_report r = import_fixture("ml100k", *state);
    assert_int_equal(r.items, 4);
    assert_int_equal(r.ratings, 3);
    assert_int_equal(r.users, 2);
    assert_int_equal(r.items_with_genres, 3);
    assert_int_equal(r.items_with_year, 3);
    assert_int_equal(r.skipped.latin1_files, 1);
    assert_int_equal(r.skipped.empty_lines, 1);     /* u.genre ends with one */
    struct catalog *c = open_catalog(*state);
    expect_item(c, 0, "ml_1", 1995, "Paper Lantern (1995). Genres: Children's, Comedy.");
    expect_item(c, 1, "ml_2", 1990, "\u00c9t\u00e9, L' (1990). Genres: Drama.");
    expect_item(c, 2, "ml_3", 0, "unknown.");
    expect_item(c, 3, "ml_4", 1996, "Year Elsewhere (1996). Genres: Film-Noir, Sci-Fi.");
    catalog_close(&c);
}

static void test_recbole(void **state)
{
    struct akin_import_report r = import_fixture("recbole", *state);
    assert_int_equal(r.items, 4);
    assert_int_equal(r.ratings, 3);
    assert_int_equal(r.first_rating, 880000000);
    assert_int_equal(r.last_rating, 881250949);
    assert_int_equal(r.skipped.malformed_rows, 0);
    struct catalog *c = open_catalog(*state);
    expect_item(c, 0, "ml_1", 1995, "Paper Lantern (1995). Genres: Animation, Children's, Comedy.");
    expect_title(c, 0, "Paper Lantern (1995)");
    expect_item(c, 1, "ml_2", 1972, "Harbour Master, The (1972). Genres: Crime, Film-Noir.");
    expect_item(c, 2, "ml_3", 0, "unkonwn.");
    expect_item(c, 3, "ml_4", 1994, "Has A Year (1994). Genres: Sci-Fi.");
    catalog_close(&c);
}

/* ---- JSON lines ------------------------------------------------------------------------- */

static void test_jsonl(void **state)
{
    struct akin_import_report r;
    struct akin_error error = { 0 };
    if (catalog_import_jsonl(FIXTURES "jsonl/items.jsonl", FIXTURES "jsonl/interactions.jsonl",
                             NULL, *state, silent, &r, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    assert_int_equal(r.items, 3);
    assert_int_equal(r.ratings, 4);
    assert_int_equal(r.users, 3);
    assert_int_equal(r.skipped.empty_lines, 1);
    assert_int_equal(r.skipped.duplicate_items, 1);
    assert_int_equal(r.skipped.ids_out_of_range, 1);
    assert_int_equal(r.skipped.malformed_rows, 6 /* items */ + 2 /* interactions */);
    assert_int_equal(r.skipped.ratings_of_unknown_items, 1);
    assert_int_equal(r.skipped.invalid_ratings, 1);
    assert_string_equal(r.first_problem, "items.jsonl:4: the line is empty");

    struct catalog *c = open_catalog(*state);
    size_t user, count;
    expect_item(c, 0, "song-a", 1971,
                "Blue Canal (1971). Genres: Jazz, Ballad. Themes: night, boat.");
    expect_item(c, 1, "42", 1999, "Its own text.\nTwo lines.");
    expect_title(
        c, 2, "Words without any title, long enough that a title made of them has to be cut som");
    assert_int_equal(catalog_find_user(c, "ann", &user, NULL), AKIN_OK);
    const struct akin_rating *ratings = catalog_user_ratings(c, user, &count);
    assert_int_equal(count, 2);
    assert_int_equal(ratings[0].row, 1);
    assert_int_equal(ratings[0].timestamp, 200);
    assert_true(ratings[0].rating == 2.5f);
    assert_int_equal(ratings[1].row, 0);
    assert_int_equal(catalog_find_user(c, "7", &user, NULL), AKIN_OK);
    assert_int_equal(catalog_find_user(c, "zo\u00eb", &user, NULL), AKIN_OK);
    assert_int_equal(catalog_find_user(c, "bob", &user, NULL), AKIN_NOT_FOUND);
    assert_true(catalog_rating_max(c) == 8);    /* the largest one seen */
    catalog_close(&c);
}

static void test_jsonl_fields(void **state)
{
    char items[PATH_BYTES_MAX], interactions[PATH_BYTES_MAX], data[PATH_BYTES_MAX];
    struct akin_jsonl_fields fields = {.id = "sku",
                                       .title = "name",
                                       .themes = "labels",
                                       .user = "who",
                                       .item = "what",
                                       .rating = "stars",
                                       .rating_max = 5};
    struct akin_import_report r;
    put(*state, "i.jsonl", "{\"sku\": 1, \"name\": \"Kettle\", \"labels\": [\"steel\"]}\r\n");
    put(*state, "x.jsonl",
        "{\"who\": 1, \"what\": 1, \"stars\": 4}\n{\"who\": 1, \"what\": 1, \"stars\": 6}");
    in_folder(items, *state, "i.jsonl");
    in_folder(interactions, *state, "x.jsonl");
    in_folder(data, *state, "data");
    assert_int_equal(catalog_import_jsonl(items, interactions, &fields, data, silent, &r, NULL),
                     AKIN_OK);
    assert_int_equal(r.ratings, 1);
    assert_int_equal(r.skipped.invalid_ratings, 1);
    struct catalog *c = open_catalog(data);
    expect_item(c, 0, "1", 0, "Kettle. Themes: steel.");
    assert_true(catalog_rating_max(c) == 5);
    catalog_close(&c);

    struct akin_error error;    /* a wrong field name is an error that names it */
    fields.user = "nobody";
    assert_int_equal(catalog_import_jsonl(items, interactions, &fields, data, silent, NULL, &error),
                     AKIN_FORMAT);
    assert_non_null(strstr(error.message, "x.jsonl:1: nobody: expected a string or an integer"));
}

/* One kind of import after the other leaves nothing of the first. */
static void test_jsonl_replaces_films(void **state)
{
    char path[PATH_BYTES_MAX];
    import_fixture("csv", *state);
    assert_int_equal(catalog_import_jsonl(FIXTURES "jsonl/items.jsonl", NULL, NULL, *state, silent,
                                          NULL, NULL), AKIN_OK);
    in_folder(path, *state, "movies.jsonl");
    assert_false(path_exists(path));
    struct catalog *c = open_catalog(*state);
    struct akin_catalog_info info;
    catalog_info(c, &info);
    assert_int_equal(info.items, 3);
    assert_int_equal(info.users, 0);
    assert_false(info.films);
    catalog_close(&c);
    import_fixture("recbole", *state);
    in_folder(path, *state, "items.jsonl");
    assert_false(path_exists(path));
    in_folder(path, *state, "user_names.json");
    assert_false(path_exists(path));
}

/* ---- bad input -------------------------------------------------------------------------- */

/* The import must fail so and leave the catalogue that is there. */
static void expect_failure(const char *folder, enum akin_status expected, const char *message)
{
    char data[PATH_BYTES_MAX];
    struct akin_error error = { 0 };
    struct names names = { 0 };
    in_folder(data, folder, "data");
    import_fixture("recbole", data);
    assert_int_equal(catalog_import_movielens(folder, data, silent, NULL, &error), expected);
    if (!strstr(error.message, message))
        fail_msg("expected \"%s\" in \"%s\"", message, error.message);
    assert_null(strchr(error.message, '\n'));
    struct catalog *c = open_catalog(data);
    assert_int_equal(catalog_item_count(c), 4);
    catalog_close(&c);
    assert_int_equal(path_list(data, &names, NULL), AKIN_OK);
    assert_int_equal(names.count,
                     3); /* catalog.json movies.jsonl ratings.npy: nothing half written */
    names_deinit(&names);
}

static void test_unclosed_quote(void **state)
{
    put_films(*state, "movieId,title,genres\n1,A (1999),Drama\n2,\"B (1999),Drama\n3,C,Drama\n");
    expect_failure(*state, AKIN_FORMAT, "movies.csv:3: a quote is opened here and never closed "
                                        "(column 2, title)");
}

static void test_missing_column(void **state)
{
    put_films(*state, "movieId,name,genres\n1,A (1999),Drama\n");
    expect_failure(*state, AKIN_FORMAT, "movies.csv:1: the header lacks the column \"title\"");
}

static void test_missing_rating_column(void **state)
{
    put_films(*state, "movieId,title,genres\n1,A (1999),Drama\n");
    put(*state, "ratings.csv", "userId,movieId,timestamp\n1,1,10\n");
    expect_failure(*state, AKIN_FORMAT, "ratings.csv:1: the header lacks the column \"rating\"");
}

static void test_empty_file(void **state)
{
    put_films(*state, "");
    expect_failure(*state, AKIN_FORMAT, "movies.csv:1: there is no header");
}

static void test_no_films(void **state)
{
    put_films(*state, "movieId,title,genres\nx,A (1999),Drama\n");
    expect_failure(*state, AKIN_FORMAT, "there is no film in it; movies.csv:2: movieId: expected a "
                                        "number, found \"x\"");
}

static void test_no_ratings_file(void **state)
{
    put(*state, "movies.csv", "movieId,title,genres\n1,A (1999),Drama\n");
    expect_failure(*state, AKIN_NOT_FOUND, "movies.csv is there, but ratings.csv is not");
}

static void test_nothing_there(void **state)
{
    expect_failure(*state, AKIN_NOT_FOUND, "no MovieLens data here");
    assert_int_equal(catalog_import_movielens("/nonexistent/folder", *state, silent, NULL, NULL),
                     AKIN_NOT_FOUND);
}

static void test_strange_bytes(void **state)
{
    static const char films[] =
        "movieId,title,genres\n1,A\0B\x01 (1999),Dr\0ama\n2,\"C\nD (1999)\",|||\n"
        "3,,Drama\n4,\"   \",Drama\n,,\n";
    struct akin_import_report r;
    char data[PATH_BYTES_MAX];
    put_bytes(*state, "movies.csv", films, sizeof films - 1);
    put(*state, "ratings.csv",
        "userId,movieId,rating,timestamp\n1,1,4.0,-5\n1,2,inf,3\n1,2,4.0,1e99\n");
    in_folder(data, *state, "data");
    assert_int_equal(catalog_import_movielens(*state, data, silent, &r, NULL), AKIN_OK);
    assert_int_equal(r.items, 2);
    assert_int_equal(r.skipped.malformed_rows, 4);
    assert_int_equal(r.skipped.invalid_ratings, 1);
    assert_int_equal(r.first_rating, -5);
    struct catalog *c = open_catalog(data);
    expect_title(c, 0, "A B  (1999)");
    expect_title(c, 1, "C D (1999)");
    catalog_close(&c);
}

static void test_jsonl_bad_items(void **state)
{
    char path[PATH_BYTES_MAX], data[PATH_BYTES_MAX];
    struct akin_error error;
    put(*state, "i.jsonl", "not json\n");
    in_folder(path, *state, "i.jsonl");
    in_folder(data, *state, "data");
    assert_int_equal(catalog_import_jsonl(path, NULL, NULL, data, silent, NULL, &error),
                     AKIN_FORMAT);
    assert_non_null(strstr(error.message, "there is no item in it; i.jsonl:1:"));
    assert_false(path_exists(data));
    assert_int_equal(catalog_import_jsonl("/nonexistent", NULL, NULL, data, silent, NULL, NULL),
                     AKIN_NOT_FOUND);
}

static bool stop(void *cookie, const char *stage, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    return strcmp(stage, cookie);
}

static void test_cancel(void **state)
{
    static const char *const stages[] = { "films", "genome", "tags", "ratings" };
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        struct akin_progress progress = { (void *)(uintptr_t)stages[i], stop };
        struct names names = { 0 };
        assert_int_equal(catalog_import_movielens(FIXTURES "csv", *state, progress, NULL, NULL),
                         AKIN_CANCELLED);
        assert_int_equal(path_list(*state, &names, NULL), AKIN_OK);
        assert_int_equal(names.count, 0);
        names_deinit(&names);
    }
}

/* No file may grow beyond 700 bytes: the catalogue that is there stays whole. */
static void test_disk_full(void **state)
{
    struct rlimit before, small;
    struct akin_error error = { 0 };
    struct names names = { 0 };
    import_fixture("recbole", *state);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 700;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum akin_status status =
        catalog_import_movielens(FIXTURES "csv", *state, silent, NULL, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(status, AKIN_IO);
    assert_non_null(strstr(error.message, "movies.jsonl: cannot be written"));
    struct catalog *c = open_catalog(*state);
    expect_title(c, 0, "Paper Lantern (1995)");
    assert_int_equal(catalog_item_count(c), 4);
    catalog_close(&c);
    assert_int_equal(path_list(*state, &names, NULL), AKIN_OK);
    assert_int_equal(names.count, 3);
    names_deinit(&names);
}

static void test_sort_ratings(void **state)
{
    (void)state;
    struct rating_table table = { 0 };
    uint64_t duplicates;
    for (uint32_t i = 0; i < 5000; i++)     /* every user from both sides of 2^16 */
        assert_true(
            rating_table_add(&table, (struct rating_record){.user = i % 2 ? 70000 + i % 7 : i % 5,
                                                            .item = i,
                                                            .rating = 1,
                                                            .timestamp = 9999 - i}));
    assert_true(rating_table_add(&table, (struct rating_record){ 0, 0, 4, 9999 }));
    assert_int_equal(rating_table_sort(&table, &duplicates, NULL), AKIN_OK);
    assert_int_equal(duplicates, 1);
    assert_int_equal(table.count, 5000);
    assert_int_equal(table.users, 12);
    for (size_t i = 1; i < table.count; i++) {
        struct rating_record a = table.records[i - 1], b = table.records[i];
        assert_true(a.user < b.user || (a.user == b.user && a.timestamp < b.timestamp));
    }
    struct rating_record latest = table.records[499]; /* of user 0: of equal times the later row */
    assert_true(latest.user == 0 && latest.timestamp == 9999 && latest.rating == 4);
    rating_table_deinit(&table);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_csv),
        TEST(test_csv_items),
        TEST(test_csv_files),
        TEST(test_dat),
        TEST(test_100k),
        TEST(test_recbole),
        TEST(test_jsonl),
        TEST(test_jsonl_fields),
        TEST(test_jsonl_replaces_films),
        TEST(test_unclosed_quote),
        TEST(test_missing_column),
        TEST(test_missing_rating_column),
        TEST(test_empty_file),
        TEST(test_no_films),
        TEST(test_no_ratings_file),
        TEST(test_nothing_there),
        TEST(test_strange_bytes),
        TEST(test_jsonl_bad_items),
        TEST(test_cancel), TEST(test_disk_full),
        cmocka_unit_test(test_sort_ratings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
