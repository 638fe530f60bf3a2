/* The main job through the public API alone: items to a catalogue, to vectors, to an index, to
 * recommendations; and two engines with a model each in one process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "akin/akin.h"
#include "base/file.h"

#define MODEL AKIN_SOURCE_DIR "/tests/fixtures/models/tiny-bert"

static char folder[] = "/tmp/akin_flow_XXXXXX";

struct fixture {
    struct akin_engine *engine;
    struct akin_model *model;
};

static const char *in_folder(const char *name)
{
    static char path[4][256];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static void must(enum akin_status status, const struct akin_error *error)
{
    if (status != AKIN_OK)
        fail_msg("%s", error->message);
}

static void open_all(struct fixture *f, const char *cpu, int threads)
{
    struct akin_engine_settings settings;
    struct akin_error error = { 0 };
    akin_engine_settings_default(&settings);
    settings.cpu = cpu;
    settings.threads = threads;
    must(akin_engine_open(&settings, &f->engine, &error), &error);
    must(akin_model_open(f->engine, MODEL, AKIN_PRECISION_FP32, &f->model, &error), &error);
}

static void close_all(struct fixture *f)
{
    akin_model_close(&f->model);
    akin_engine_close(&f->engine);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return path_remove_tree(folder, NULL);
}

static void put(const char *name, const char *text)
{
    assert_int_equal(file_write(in_folder(name), text, strlen(text), NULL), AKIN_OK);
}

static void make_catalog(struct fixture *f)
{
    struct akin_import_report report;
    struct akin_catalog_embed_report embedded;
    struct akin_error error = { 0 };
    put("items.jsonl",
        "{\"id\": \"a\", \"title\": \"The cat\", \"genres\": [\"Drama\"], \"year\": 1990}\n"
        "{\"id\": \"b\", \"title\": \"The cat 2\", \"genres\": [\"Drama\"], \"year\": 1995}\n"
        "{\"id\": \"c\", \"title\": \"A war\", \"genres\": [\"War\"]}\n"
        "{\"id\": \"d\", \"title\": \"A long war\", \"genres\": [\"War\", \"Drama\"]}\n");
    put("ratings.jsonl", "{\"user\": \"u\", \"item\": \"a\", \"rating\": 5}\n"
                         "{\"user\": \"u\", \"item\": \"c\", \"rating\": 1}\n");
    must(akin_catalog_import_jsonl(in_folder("items.jsonl"), in_folder("ratings.jsonl"), NULL,
                                   in_folder("data"), (struct akin_progress){ 0 }, &report, &error),
         &error);
    assert_int_equal(report.items, 4);
    assert_int_equal(report.ratings, 2);
    must(akin_catalog_embed(f->model, in_folder("data"), NULL, &embedded, &error), &error);
    assert_false(embedded.current);
    assert_int_equal(embedded.items.texts, 4);
    assert_int_equal(embedded.users, 1);
    must(akin_catalog_embed(f->model, in_folder("data"), NULL, &embedded, &error), &error);
    assert_true(embedded.current);
}

static void items_to_recommendations(void **state)
{
    (void)state;
    struct fixture f = { 0 };
    struct akin_catalog *catalog = NULL;
    struct akin_recommender *recommender = NULL;
    struct akin_error error = { 0 };
    struct akin_request request;
    struct akin_recommendation results[10];
    struct akin_recommend_timing timing;
    size_t found;
    open_all(&f, NULL, 2);
    make_catalog(&f);
    must(akin_catalog_open(in_folder("data"), &catalog, &error), &error);
    must(akin_recommender_open(f.engine, catalog, f.model, NULL, &recommender, &error), &error);
    akin_request_default(&request);
    request.k = 10;
    assert_int_equal(akin_recommend(recommender, &request, results, &found, NULL, &error),
                     AKIN_ARGUMENT);
    request.similar = "the cat";
    must(akin_recommend(recommender, &request, results, &found, &timing, &error), &error);
    assert_int_equal(found, 3);
    for (size_t i = 0; i < found; i++)
        assert_int_not_equal(results[i].row, 0);
    request.filter = "genre=war";
    must(akin_recommend(recommender, &request, results, &found, &timing, &error), &error);
    assert_int_equal(found, 2);
    request.similar = NULL;
    request.user = "u";
    request.query = "a war";
    must(akin_recommend(recommender, &request, results, &found, &timing, &error), &error);
    assert_int_equal(found, 1);                 /* c is rated, d is not */
    assert_int_equal(results[0].row, 3);
    assert_true(timing.encode_ms > 0 && timing.total_ms >= timing.encode_ms);
    request.user = "nobody";                    /* is new: the query alone */
    must(akin_recommend(recommender, &request, results, &found, NULL, &error), &error);
    assert_int_equal(found, 2);
    akin_recommender_close(&recommender);
    /* Without a model words cannot be asked for; with another dimension neither. */
    must(akin_recommender_open(f.engine, catalog, NULL, NULL, &recommender, &error), &error);
    request.user = NULL;
    assert_int_equal(akin_recommend(recommender, &request, results, &found, NULL, &error),
                     AKIN_ARGUMENT);
    akin_recommender_close(&recommender);
    akin_catalog_close(&catalog);
    close_all(&f);
}

static bool is_among(const struct akin_recommendation *results, size_t found, size_t row)
{
    bool among = false;
    for (size_t i = 0; i < found; i++)
        among |= results[i].row == row;
    return among;
}

/* What is rated is known to the next request, and to the next recommender where it is kept. */
static void ratings_to_recommendations(void **state)
{
    (void)state;
    struct fixture f = { 0 };
    struct akin_catalog *catalog = NULL;
    struct akin_recommender *recommender = NULL;
    struct akin_recommender_settings settings;
    struct akin_recommender_memory memory;
    struct akin_error error = { 0 };
    struct akin_request request;
    struct akin_recommendation results[4];
    const struct akin_feedback more[] = { { "new", "c", 1, 9 }, { "new", "d", 0.5f, 10 },
                                          { "new", "e", 0.5f, 11 } };
    size_t found, refused;
    open_all(&f, NULL, 2);
    must(path_remove_tree(in_folder("data"), &error), &error);
    make_catalog(&f);
    must(akin_catalog_open(in_folder("data"), &catalog, &error), &error);
    akin_recommender_settings_default(&settings);
    assert_int_equal(settings.max_active_users, 100000);
    settings.max_active_users = 0;
    assert_int_equal(akin_recommender_open(f.engine, catalog, NULL, &settings, &recommender,
                                           &error), AKIN_ARGUMENT);
    settings.max_active_users = 10;
    akin_request_default(&request);
    request.k = 4;
    for (int kept = 0; kept < 2; kept++) {
        settings.store = kept;
        must(akin_recommender_open(f.engine, catalog, NULL, &settings, &recommender, &error),
             &error);
        request.user = "u";
        must(akin_recommend(recommender, &request, results, &found, NULL, &error), &error);
        assert_true(found == 2 && is_among(results, found, 1));
        must(akin_recommend_update(recommender, "u", "b", 1, 7, &error), &error);
        must(akin_recommend(recommender, &request, results, &found, NULL, &error), &error);
        assert_true(found == 1 && results[0].row == 3);
        bool knows = true;
        request.user = "new";
        must(akin_recommender_knows(recommender, "new", &knows, &error), &error);
        assert_false(knows);
        must(akin_recommend(recommender, &request, results, &found, NULL, &error), &error);
        assert_int_equal(found, 4);
        assert_int_equal(akin_recommend_update_batch(recommender, more, 3, &refused, &error),
                         AKIN_NOT_FOUND);
        assert_int_equal(refused, 2);
        must(akin_recommend_update_batch(recommender, more, 2, &refused, &error), &error);
        must(akin_recommender_knows(recommender, "new", &knows, &error), &error);
        assert_true(knows);
        must(akin_recommend(recommender, &request, results, &found, NULL, &error), &error);
        assert_true(found == 2 && !is_among(results, found, 2));
        akin_recommender_memory(recommender, &memory);
        assert_true(memory.active_users > 0 && memory.total > memory.active_users);
        akin_recommender_close(&recommender);
    }
    settings.store = true;
    must(akin_recommender_open(f.engine, catalog, NULL, &settings, &recommender, &error), &error);
    must(akin_recommend(recommender, &request, results, &found, NULL, &error), &error);
    assert_true(found == 2 && !is_among(results, found, 2));
    akin_recommender_close(&recommender);
    akin_catalog_close(&catalog);
    close_all(&f);
}

/* Two engines of different levels and thread counts, used in turn: each gives what it gives alone.
 */
static void engines_share_nothing(void **state)
{
    (void)state;
    struct fixture a = { 0 }, b = { 0 };
    struct akin_model_info info;
    struct akin_error error = { 0 };
    static const struct akin_text texts[] = { { "the cat", 7 }, { "a long war", 10 }, { "", 0 } };
    float alone[3 * 64], beside[3 * 64], other[3 * 64];    /* [text][dimension] */
    open_all(&a, NULL, 2);
    akin_model_info(a.model, &info);
    assert_true(info.dimension <= 64);
    must(akin_model_embed(a.model, texts, 3, NULL, alone, NULL, &error), &error);
    open_all(&b, "ref", 1);
    must(akin_model_embed(b.model, texts, 3, NULL, other, NULL, &error), &error);
    must(akin_model_embed(a.model, texts, 3, NULL, beside, NULL, &error), &error);
    assert_memory_equal(alone, beside, 3 * info.dimension * sizeof(float));
    for (size_t i = 0; i < 3 * info.dimension; i++)
        assert_true(other[i] - alone[i] < 1e-5f && alone[i] - other[i] < 1e-5f);
    close_all(&a);
    must(akin_model_embed(b.model, texts, 3, NULL, beside, NULL, &error), &error);
    assert_memory_equal(other, beside, 3 * info.dimension * sizeof(float));
    close_all(&b);
}

static void an_index_finds_its_own_rows(void **state)
{
    (void)state;
    struct fixture f = { 0 };
    struct akin_index *index = NULL;
    struct akin_index_settings settings;
    struct akin_index_info info;
    struct akin_error error = { 0 };
    float vectors[4][2] = { { 1, 0 }, { 0, 1 }, { -1, 0 }, { 0.6f, 0.8f } }, scores[2][3];
    int64_t ids[4] = { 40, 10, 30, 20 }, found[2][3];
    open_all(&f, NULL, 1);
    akin_index_settings_default(&settings);
    struct akin_index_rows rows = { .vectors = vectors[0], .ids = ids, .count = 4 };
    must(akin_index_build(f.engine, in_folder("x.akx"), &rows, 2, &settings, &error), &error);
    must(akin_index_check(f.engine, in_folder("x.akx"), &error), &error);
    must(akin_index_open(f.engine, in_folder("x.akx"), AKIN_INDEX_WRITE, &index, &error), &error);
    akin_index_info(index, &info);
    assert_int_equal(info.count, 4);
    struct akin_index_query query = { .vectors = vectors[0], .count = 2, .k = 3 };
    must(akin_index_search(index, &query, found[0], scores[0], &error), &error);
    assert_int_equal(found[0][0], 40);
    assert_int_equal(found[0][1], 20);
    assert_int_equal(found[1][0], 10);
    assert_int_equal(found[1][1], 20);
    const char *keys[2] = { "north", "south" };
    char text[32];
    size_t count = 0;
    rows = (struct akin_index_rows){ .vectors = vectors[1], .keys = keys, .count = 2 };
    must(akin_index_add(index, &rows, &error), &error);
    must(akin_index_search(index, &query, found[0], scores[0], &error), &error);
    assert_int_equal(found[1][1], 41);          /* the next free id, at once */
    must(akin_index_key(index, 41, text, sizeof text, &error), &error);
    assert_string_equal(text, "north");
    must(akin_index_delete_keys(index, keys, 1, &count, &error), &error);
    assert_int_equal(count, 1);
    must(akin_index_sync(index, &count, &error), &error);
    assert_int_equal(count, 5);
    must(akin_index_compact(index, NULL, &error), &error);
    must(akin_index_refresh(index, &error), &error);
    must(akin_index_search(index, &query, found[0], scores[0], &error), &error);
    assert_int_equal(found[1][1], 20);
    akin_index_close(&index);
    close_all(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_to_recommendations),
        cmocka_unit_test(ratings_to_recommendations),
        cmocka_unit_test(engines_share_nothing),
        cmocka_unit_test(an_index_finds_its_own_rows),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
