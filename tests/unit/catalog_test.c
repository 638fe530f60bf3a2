/* The catalogue once it is there: titles as people type them, users, embeddings, damaged files. And
 * the published data sets, where AKIN_TEST_DATA names the folder that holds them. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/npy.h"
#include "base/thread.h"
#include "catalog/catalog.h"

#define FIXTURES AKIN_SOURCE_DIR "/tests/fixtures/catalog/"

static const struct akin_progress silent;

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

static void put(const char *folder, const char *name, const char *text)
{
    char path[PATH_BYTES_MAX];
    in_folder(path, folder, name);
    assert_int_equal(file_write(path, text, strlen(text), NULL), AKIN_OK);
}

static struct catalog *open_catalog(const char *data)
{
    struct catalog *catalog;
    struct akin_error error = { 0 };
    if (catalog_open(data, CATALOG_ALL, &catalog, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    return catalog;
}

static struct catalog *import_csv(const char *data)
{
    assert_int_equal(catalog_import_movielens(FIXTURES "csv", data, silent, NULL, NULL), AKIN_OK);
    return open_catalog(data);
}

/* Films with these titles and no ratings but those given: "item user\n" lines. */
static struct catalog *import_titles(const char *folder, const char *const *titles, size_t count,
                                     const char *ratings)
{
    char data[PATH_BYTES_MAX];
    struct bytes films = { 0 };
    bytes_append_text(&films, "movieId,title,genres\n");
    for (size_t i = 0; i < count; i++)
        bytes_printf(&films, "%zu,\"%s\",Drama\n", i + 1, titles[i]);
    put(folder, "movies.csv", films.data);
    put(folder, "ratings.csv", ratings);
    bytes_deinit(&films);
    in_folder(data, folder, "data");
    assert_int_equal(catalog_import_movielens(folder, data, silent, NULL, NULL), AKIN_OK);
    return open_catalog(data);
}

/* ---- titles ----------------------------------------------------------------------------- */

static void expect_found(const struct catalog *c, const char *typed, const char *id)
{
    size_t row;
    struct akin_item item;
    struct akin_error error = { 0 };
    if (catalog_find(c, typed, &row, &error) != AKIN_OK)
        fail_msg("%s: %s", typed, error.message);
    catalog_item(c, row, &item);
    if (strcmp(item.id, id))
        fail_msg("%s: expected %s, found %s", typed, id, item.id);
}

static void expect_unknown(const struct catalog *c, const char *typed, const char *offered)
{
    size_t row = 77;
    struct akin_error error = { 0 };
    assert_int_equal(catalog_find(c, typed, &row, &error), AKIN_NOT_FOUND);
    assert_int_equal(row, 77);
    if (!strstr(error.message, offered))
        fail_msg("%s: expected %s in: %s", typed, offered, error.message);
}

static void test_find(void **state)
{
    static const char *const cases[][2] = {
        { "ml_4", "ml_4" },
        { "Harbour Master, The (1972)", "ml_2" },
        { "The Harbour Master (1972)", "ml_2" },
        { "the harbour master", "ml_2" },
        { "  HARBOUR   master ", "ml_2" },
        { "harbour-master 1972", "ml_2" },
        { "Harbour Master: Part II", "ml_10" },
        { "harbour master part ii", "ml_10" },
        { "City of Quiet Bells", "ml_3" },
        { "La Cite des Cloches Muettes", "ml_3" },
        { "cit\u00e9 des cloches muettes, la", "ml_3" },
        { "City of Quiet Bells, The (Cit\u00e9 des cloches muettes, La) (1995)", "ml_3" },
        { "the city of quiet bells (Cite des cloches muettes, La)", "ml_3" },
        { "great nothing", "ml_4" },    /* the article and the quotes do not matter */
        { "nameless reel", "ml_5" },
        { "Nameless Reel (2015)", "ml_5" },     /* its year is unknown */
        { "Paper Lantern", "ml_1" },            /* the most rated */
        { "Paper Lantern (1954)", "ml_6" },
        { "paper lantern 1954", "ml_6" },
        { "Paper Lantern (1995)", "ml_1" },
        { "moon eyes", "ml_9" },
        { "se7en keys", "ml_11" },
        { "500 miles or so", "ml_12" },
        { "(500) Miles, or so (2009)", "ml_12" },
        { "long march", "ml_8" },
        { "Long March (2006)", "ml_8" },
    };
    struct catalog *c = import_csv(*state);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_found(c, cases[i][0], cases[i][1]);
    catalog_close(&c);
}

static void test_find_unknown(void **state)
{
    struct catalog *c = import_csv(*state);
    struct akin_error error;
    size_t row;
    expect_unknown(c, "Paper Lanterrn (1995)",
                   "nearest: \"Paper Lantern (1995)\", \"Paper Lantern (1954)\"");
    expect_unknown(c, "Paper Lantern (1960)", "\"Paper Lantern (1995)\"");
    expect_unknown(c, "harbour",
                   "nearest: \"Harbour Master, The (1972)\", \"Harbour Master: Part II");
    expect_unknown(c, "???", "no item is called \"???\"");
    expect_unknown(c, "(1999)", "no item is called");
    expect_unknown(c, "\xff\xfe\x80", "no item is called");
    assert_int_equal(catalog_find(c, " \t", &row, &error), AKIN_ARGUMENT);
    assert_int_equal(catalog_find_id(c, "ml_999", &row, &error), AKIN_NOT_FOUND);
    assert_int_equal(catalog_find_id(c, "ml_12", &row, NULL), AKIN_OK);
    assert_int_equal(row, 11);

    char *huge = malloc(200001);    /* longer than any key */
    memset(huge, 'x', 200000);
    huge[200000] = 0;
    expect_unknown(c, huge, "no item is called \"xxxx");
    free(huge);
    catalog_close(&c);
}

/* Which of several films of one name. */
static void test_find_among_equals(void **state)
{
    static const char *const titles[] = {
        "Mask (1985)", "Mask, The (1994)", "Twin (1990)", "Twin (1990)", "Die Hard Winter (1988)",
        "Other (Mask) (1970)", "&c. (1950)", "Straße, Die (1923)", "...", "Œuvre (1999)",
    };
    struct catalog *c = import_titles(*state, titles, sizeof titles / sizeof *titles,
                                      "userId,movieId,rating,timestamp\n"
                                      "1,2,4,1\n2,2,4,1\n1,1,4,1\n1,6,4,1\n2,6,4,1\n3,6,4,1\n");
    expect_found(c, "mask", "ml_2");            /* more ratings; the alternate title has most */
    expect_found(c, "the mask", "ml_2");
    expect_found(c, "mask (1985)", "ml_1");
    expect_found(c, "mask (1970)", "ml_6");
    expect_found(c, "a mask", "ml_2");
    expect_found(c, "twin", "ml_3");            /* ties by row */
    expect_found(c, "die hard winter", "ml_5"); /* no article in English */
    expect_unknown(c, "hard winter", "\"Die Hard Winter (1988)\"");
    expect_found(c, "and c", "ml_7");
    expect_found(c, "die strasse", "ml_8");
    expect_found(c, "STRASSE", "ml_8");
    expect_found(c, "...", "ml_9");
    expect_found(c, "oeuvre", "ml_10");
    catalog_close(&c);
}

/* What people call a series: the name before the colon or the dash, unless it is a title itself. */
static void test_find_by_beginning(void **state)
{
    static const char *const titles[] = {
        "Star Wars: Episode V - The Empire Strikes Back (1980)",
        "Star Wars: Episode IV - A New Hope (1977)",
        "Lord of the Rings: The Fellowship of the Ring, The (2001)",
        "Alien: Resurrection (1997)", "Alien (1979)", "Spider-Man: Far from Home (2019)",
    };
    struct catalog *c = import_titles(*state, titles, sizeof titles / sizeof *titles,
                                      "userId,movieId,rating,timestamp\n1,2,4,1\n1,4,4,1\n");
    expect_found(c, "star wars", "ml_2");           /* the most rated */
    expect_found(c, "Star Wars (1980)", "ml_1");
    expect_found(c, "star wars episode iv", "ml_2");
    expect_found(c, "the lord of the rings", "ml_3");
    expect_found(c, "alien", "ml_5");               /* a title of its own goes first */
    expect_found(c, "spider-man", "ml_6");
    expect_unknown(c, "star war", "\"Star Wars: Episode IV - A New Hope (1977)\"");
    expect_unknown(c, "spider", "\"Spider-Man: Far from Home (2019)\"");
    expect_unknown(c, "star wars 1999", "Star Wars: Episode");
    catalog_close(&c);
}

/* ---- users and embeddings --------------------------------------------------------------- */

static void test_users(void **state)
{
    struct catalog *c = import_csv(*state);
    struct akin_catalog_info info;
    size_t user, count;
    struct akin_error error;
    catalog_info(c, &info);
    assert_int_equal(info.items, 12);
    assert_int_equal(info.users, 2);
    assert_int_equal(info.users_with_vector, 0);
    assert_int_equal(info.ratings, 5);
    assert_int_equal(info.dimension, 0);
    assert_int_equal(info.year_min, 1954);
    assert_int_equal(info.year_max, 2010);
    assert_true(info.films);
    assert_string_equal(info.model, "");
    assert_int_equal(catalog_find_user(c, "7", &user, NULL), AKIN_OK);
    assert_string_equal(catalog_user_id(c, user), "7");
    const struct akin_rating *ratings = catalog_user_ratings(c, user, &count);
    assert_int_equal(count, 2);
    assert_int_equal(ratings[0].row, 0);
    assert_true(ratings[0].rating == 2 && ratings[0].timestamp == 950);
    assert_int_equal(ratings[1].row, 1);
    assert_int_equal(catalog_find_user(c, "8", &user, &error), AKIN_NOT_FOUND);
    assert_int_equal(catalog_item_ratings(c, 0), 2);
    assert_int_equal(catalog_item_ratings(c, 2), 0);
    assert_null(catalog_item_vector(c, 0));
    assert_null(catalog_item_vectors(c));
    assert_null(catalog_user_vector(c, 0));
    assert_false(catalog_embeddings_current(c, "m", "fp32"));
    catalog_close(&c);
    catalog_close(&c);
}

enum { ITEMS = 12, DIM = 3 };

static void write_embeddings(const struct catalog *c)
{
    float vectors[ITEMS * DIM];
    size_t users, without;
    for (size_t i = 0; i < ITEMS * DIM; i++)
        vectors[i] = (float)(i * i % 17) / 8 - 1;
    assert_int_equal(catalog_write_item_vectors(c, "made-up", "fp32", vectors, DIM, NULL), AKIN_OK);
    assert_int_equal(catalog_write_user_vectors(c, vectors, DIM, silent, &users, &without, NULL),
                     AKIN_OK);
    assert_int_equal(users, 2);
    assert_int_equal(without, 0);
}


static void test_user_vectors_have_the_same_bits_by_any_threads(void **state)
{
    enum { WIDE = 3000 };       /* few users to a block */
    struct catalog *c = import_csv(*state);
    float *vectors = memory_alloc(ITEMS * WIDE, sizeof *vectors);
    struct bytes alone = { 0 }, together = { 0 };
    struct thread_pool *pool = thread_pool_create(3);
    char path[PATH_BYTES_MAX];
    size_t users, without;
    assert_true(vectors && pool);
    for (size_t i = 0; i < ITEMS * WIDE; i++)
        vectors[i] = (float)(i * i % 1013) / 777 - 0.6f;
    assert_int_equal(path_join(path, sizeof path, *state,
                               "embeddings/users/preference_vectors.npy", NULL), AKIN_OK);
    assert_int_equal(catalog_write_user_vectors(c, vectors, WIDE, silent, &users, &without, NULL),
                     AKIN_OK);
    assert_int_equal(file_read(path, 1 << 20, &alone, NULL), AKIN_OK);
    assert_int_equal(catalog_write_user_vectors_on(pool, c, vectors, WIDE, silent, &users,
                                                   &without, NULL), AKIN_OK);
    assert_int_equal(file_read(path, 1 << 20, &together, NULL), AKIN_OK);
    assert_int_equal(alone.count, together.count);
    assert_memory_equal(alone.data, together.data, alone.count);
    bytes_deinit(&alone);
    bytes_deinit(&together);
    thread_pool_destroy(&pool);
    memory_free(vectors);
    catalog_close(&c);
}

static void test_embeddings(void **state)
{
    struct catalog *c = import_csv(*state);
    struct akin_catalog_info info;
    size_t user, count;
    write_embeddings(c);
    catalog_close(&c);
    c = open_catalog(*state);
    catalog_info(c, &info);
    assert_int_equal(info.dimension, DIM);
    assert_int_equal(info.users_with_vector, 2);
    assert_string_equal(info.model, "made-up");
    assert_true(catalog_embeddings_current(c, "made-up", "fp32"));
    assert_false(catalog_embeddings_current(c, "another", "fp32"));
    assert_false(catalog_embeddings_current(c, "made-up", "int8"));
    assert_true(catalog_item_vector(c, 2)[1] == (float)(7 * 7 % 17) / 8 - 1);

    /* u = sum w v / sum w for user 7: film row 0 with 2 / 5, row 1 with 4.5 / 5 */
    assert_int_equal(catalog_find_user(c, "7", &user, NULL), AKIN_OK);
    catalog_user_ratings(c, user, &count);
    assert_int_equal(count, 2);
    for (size_t d = 0; d < DIM; d++) {
        double a = catalog_item_vector(c, 0)[d], b = catalog_item_vector(c, 1)[d];
        double expected = (2.0 / 5 * a + 4.5 / 5 * b) / (2.0 / 5 + 4.5 / 5);
        assert_true(catalog_user_vector(c, user)[d] == (float)expected);
    }
    catalog_close(&c);

    c = import_csv(*state);     /* the same data again: the vectors still belong to them */
    assert_true(catalog_embeddings_current(c, "made-up", "fp32"));
    catalog_close(&c);
    assert_int_equal(catalog_import_movielens(FIXTURES "recbole", *state, silent, NULL, NULL),
                     AKIN_OK);
    c = open_catalog(*state);   /* other data: they are gone */
    catalog_info(c, &info);
    assert_int_equal(info.dimension, 0);
    catalog_close(&c);
}

/* Users whose weights are all 0 have no vector and are numbered behind the others. */
static void test_users_without_vector(void **state)
{
    char items[PATH_BYTES_MAX], interactions[PATH_BYTES_MAX], data[PATH_BYTES_MAX];
    static const float vectors[] = { 1, 2 };
    size_t users, without, user;
    put(*state, "i.jsonl", "{\"id\": \"a\", \"title\": \"A\"}\n");
    put(*state, "x.jsonl", "{\"user\": \"zero\", \"item\": \"a\", \"rating\": 0}\n"
                           "{\"user\": \"one\", \"item\": \"a\", \"rating\": 1}\n");
    in_folder(items, *state, "i.jsonl");
    in_folder(interactions, *state, "x.jsonl");
    in_folder(data, *state, "data");
    assert_int_equal(catalog_import_jsonl(items, interactions, NULL, data, silent, NULL, NULL),
                     AKIN_OK);
    struct catalog *c = open_catalog(data);
    assert_int_equal(catalog_write_item_vectors(c, "m", "", vectors, 2, NULL), AKIN_OK);
    assert_int_equal(catalog_write_user_vectors(c, vectors, 2, silent, &users, &without, NULL),
                     AKIN_OK);
    assert_int_equal(users, 1);
    assert_int_equal(without, 1);
    catalog_close(&c);
    c = open_catalog(data);
    assert_int_equal(catalog_find_user(c, "zero", &user, NULL), AKIN_OK);
    assert_int_equal(user, 1);
    assert_null(catalog_user_vector(c, user));
    assert_int_equal(catalog_find_user(c, "one", &user, NULL), AKIN_OK);
    assert_int_equal(user, 0);
    assert_true(catalog_user_vector(c, user)[1] == 2);
    catalog_close(&c);
}

/* ---- damaged folders -------------------------------------------------------------------- */

static void expect_damage(const char *folder, const char *name, const char *text,
                          const char *message)
{
    struct catalog *c = import_csv(folder);
    struct akin_error error = { 0 };
    write_embeddings(c);
    catalog_close(&c);
    if (text)
        put(folder, name, text);
    enum akin_status status = catalog_open(folder, CATALOG_ALL, &c, &error);
    assert_true(status == AKIN_FORMAT || status == AKIN_NOT_FOUND);
    if (!strstr(error.message, message))
        fail_msg("expected \"%s\" in \"%s\"", message, error.message);
    char path[PATH_BYTES_MAX];
    in_folder(path, folder, "embeddings");
    assert_int_equal(path_remove_tree(path, NULL), AKIN_OK);
}

static void test_damage(void **state)
{
    static const char item[] = "{\"media_id\": \"a\", \"title\": \"A\", \"text\": \"A.\"}\n";
    char twice[2 * sizeof item];
    snprintf(twice, sizeof twice, "%s%s", item, item);
    expect_damage(*state, "movies.jsonl", "{\n", "movies.jsonl:1:");
    expect_damage(*state, "movies.jsonl", "{\"media_id\": 7}\n",
                  "movies.jsonl:1: media_id: expected a string, found an integer");
    expect_damage(*state, "movies.jsonl", "", "there is no item in it");
    expect_damage(*state, "movies.jsonl", twice,
                  "movies.jsonl:2: media_id: \"a\" is there already");
    expect_damage(*state, "movies.jsonl", item, "ratings.npy: row 0: there is no item 6");
    expect_damage(*state, "catalog.json", "{}", "catalog.json: items_file: expected a string");
    expect_damage(*state, "catalog.json", "{\"items_file\": \"../x\"}",
                  "expected movies.jsonl or items.jsonl");
    expect_damage(*state, "ratings.npy", "text", "ratings.npy: not a .npy file");
    expect_damage(*state, "embeddings/media/content_vectors.npy", "text", "not a .npy file");
    expect_damage(*state, "embeddings/media/metadata.jsonl", item,
                  "metadata.jsonl:1: media_id: expected");
    expect_damage(*state, "embeddings/media/metadata.jsonl", "",
                  "it has fewer lines than there are items");
    expect_damage(*state, "embeddings/users/user_ids.json", "[\"3\"]", "1 ids for 2 vectors");
    expect_damage(*state, "embeddings/users/user_ids.json", "[\"3\", \"3\"]",
                  "\"3\" is there twice");
    expect_damage(*state, "embeddings/users/user_ids.json", "[3, 7]", "entry 1: expected a string");
    expect_damage(*state, "embeddings/model.json", "[", "model.json:1:");
}

static void test_wrong_arrays(void **state)
{
    static const float values[ITEMS * DIM] = { 0 };
    size_t few[] = { ITEMS - 1, DIM }, flat[] = { ITEMS * DIM };
    char path[PATH_BYTES_MAX];
    struct catalog *c = import_csv(*state);
    struct akin_error error;
    write_embeddings(c);
    catalog_close(&c);
    in_folder(path, *state, "embeddings/media/content_vectors.npy");
    assert_int_equal(npy_write(path, "'<f4'", 2, few, values, sizeof(float) * few[0] * DIM, NULL),
                     AKIN_OK);
    assert_int_equal(catalog_open(*state, CATALOG_ALL, &c, &error), AKIN_FORMAT);
    assert_non_null(strstr(error.message, "11 vectors for 12 items; make the embeddings again"));
    assert_int_equal(catalog_open(*state, CATALOG_WITHOUT_EMBEDDINGS, &c, &error), AKIN_OK);
    catalog_close(&c);
    in_folder(path, *state, "ratings.npy");
    assert_int_equal(npy_write(path, "'<f4'", 1, flat, values, sizeof values, NULL), AKIN_OK);
    assert_int_equal(catalog_open(*state, CATALOG_ALL, &c, &error), AKIN_FORMAT);
    assert_non_null(strstr(error.message, "expected one dimension of type [('user', '<u4')"));
}

static void test_no_catalogue(void **state)
{
    struct catalog *c;
    struct akin_error error;
    assert_int_equal(catalog_open(*state, CATALOG_ALL, &c, &error), AKIN_NOT_FOUND);
    assert_non_null(strstr(error.message, "akin data import"));
}

/* A folder that has the items alone, as somebody else may write it. */
static void test_items_alone(void **state)
{
    put(*state, "movies.jsonl", "{\"media_id\": \"ml_1\", \"title\": \"A (1999)\", \"year\": 1999, "
                                "\"genres\": [\"X\"], \"themes\": null, \"text\": \"A.\"}\n\n");
    struct catalog *c = open_catalog(*state);
    expect_found(c, "a", "ml_1");
    assert_true(catalog_rating_max(c) == 5);
    catalog_close(&c);
}

/* ---- the published data sets ------------------------------------------------------------ */

static struct akin_import_report import_set(const char *name, const char *data)
{
    const char *shared = getenv("AKIN_TEST_DATA");
    char folder[PATH_BYTES_MAX];
    struct akin_import_report report = { 0 };
    struct akin_error error = { 0 };
    if (!shared)
        skip();
    in_folder(folder, shared, name);
    if (!path_is_folder(folder))
        skip();
    if (catalog_import_movielens(folder, data, silent, &report, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    assert_string_equal(report.first_problem, "");
    return report;
}

static void test_latest_small(void **state)
{
    struct akin_import_report r = import_set("ml-latest-small", *state);
    assert_int_equal(r.items, 9742);
    assert_int_equal(r.ratings, 100836);
    assert_int_equal(r.users, 610);
    assert_int_equal(r.tags, 3683);
    assert_int_equal(r.items_with_genres, 9708);
    struct catalog *c = open_catalog(*state);
    struct akin_item item;
    catalog_item(c, 0, &item);
    static const char begins[] =
        "Toy Story (1995). Genres: Adventure, Animation, Children, Comedy, Fantasy. Themes: ";
    assert_memory_equal(item.text, begins, sizeof begins - 1);
    expect_found(c, "the godfather", "ml_858");
    expect_unknown(c, "Toy Storry (1995)", "nearest: \"Toy Story (1995)\"");
    catalog_close(&c);
}

static void test_ml100k(void **state)
{
    struct akin_import_report r = import_set("ml-100k", *state);
    assert_int_equal(r.items, 1682);
    assert_int_equal(r.ratings, 100000);
    assert_int_equal(r.users, 943);
    struct catalog *c = open_catalog(*state);
    expect_found(c, "the godfather", "ml_127");
    catalog_close(&c);
}

static void test_25m(void **state)
{
    struct akin_import_report r = import_set("ml-25m", *state);
    assert_int_equal(r.items, 62423);
    assert_true(r.items_with_genome > 0);
    struct catalog *c = open_catalog(*state);
    struct akin_item item;
    catalog_item(c, 0, &item);
    assert_int_equal(item.theme_count, 10);
    expect_found(c, "city of lost children", "ml_29");
    expect_found(c, "la cite des enfants perdus", "ml_29");
    uint64_t began = clock_monotonic_ns();
    expect_unknown(c, "Toy Storry (1995)", "nearest: \"Toy Story (1995)\", \"Toy Story 2 (1999)\"");
    assert_true(clock_monotonic_ns() - began < 10000000000u);   /* 8 ms; sanitizers are slower */
    catalog_close(&c);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_find),        TEST(test_find_unknown), TEST(test_find_among_equals),
        TEST(test_find_by_beginning),
        TEST(test_users),       TEST(test_embeddings),
        TEST(test_user_vectors_have_the_same_bits_by_any_threads),
        TEST(test_users_without_vector),
        TEST(test_damage),      TEST(test_wrong_arrays), TEST(test_no_catalogue),
        TEST(test_items_alone), TEST(test_latest_small), TEST(test_ml100k),
        TEST(test_25m),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
