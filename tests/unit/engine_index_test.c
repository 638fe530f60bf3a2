/* akin/index.h as programs use it: storage, reading back, hints at filters, and checking a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "akin/akin.h"
#include "base/file.h"

enum { DIM = 16, ROWS = 300, MORE = 3 };

struct rig {
    char folder[64], path[96];
    struct akin_engine *engine;
    struct akin_error error;
    float x[ROWS + MORE][DIM];
    const char *metadata[ROWS + MORE];
};

static void fine(const struct rig *rig, enum akin_status status)
{
    if (status != AKIN_OK)
        fail_msg("status %d, \"%s\"", status, rig->error.message);
}

static int begin(void **state)
{
    static struct rig rig;
    struct akin_engine_settings settings;
    rig = (struct rig){ .folder = "/tmp/akin_engine_index_XXXXXX" };
    assert_non_null(mkdtemp(rig.folder));
    snprintf(rig.path, sizeof rig.path, "%s/x.akx", rig.folder);
    akin_engine_settings_default(&settings);
    settings.threads = 1;
    fine(&rig, akin_engine_open(&settings, &rig.engine, &rig.error));
    for (size_t i = 0; i < ROWS + MORE; i++) {
        for (size_t k = 0; k < DIM; k++)
            rig.x[i][k] = (float)((i * 31 + k * 17) % 97) - 40;
        rig.metadata[i] = "{\"year\": 1990, \"title\": \"Heat\", \"runtime\": 170}";
    }
    *state = &rig;
    return 0;
}

static int end(void **state)
{
    struct rig *rig = *state;
    akin_engine_close(&rig->engine);
    return path_remove_tree(rig->folder, NULL) != AKIN_OK;
}

static void build(struct rig *rig, enum akin_storage storage)
{
    struct akin_index_settings settings;
    struct akin_index_rows rows = { .vectors = rig->x[0], .metadata = rig->metadata,
                                    .count = ROWS };
    akin_index_settings_default(&settings);
    settings.kind = "flat";
    settings.storage = storage;
    settings.metric = AKIN_METRIC_L2;
    fine(rig, akin_index_build(rig->engine, rig->path, &rows, DIM, &settings, &rig->error));
}

static struct akin_index *open(struct rig *rig, enum akin_index_mode mode)
{
    struct akin_index *index = NULL;
    fine(rig, akin_index_open(rig->engine, rig->path, mode, &index, &rig->error));
    return index;
}

/* ---- storage, reading ------------------------------------------------------------------------ */

static void test_names(void **state)
{
    enum akin_storage storage = AKIN_STORAGE_FP32;
    (void)state;
    for (int i = 0; i <= AKIN_STORAGE_INT8; i++) {
        assert_true(akin_storage_parse(akin_storage_name((enum akin_storage)i), &storage));
        assert_int_equal(storage, i);
    }
    assert_false(akin_storage_parse("fp64", &storage));
    assert_int_equal(storage, AKIN_STORAGE_INT8);
    assert_string_equal(akin_storage_name((enum akin_storage)9), "unknown");
}

/* Rows of a segment and of the tail, after updates and deletions, a few at a time. */
static void test_read(void **state)
{
    struct rig *rig = *state;
    int64_t deleted[] = { 0, 7, ROWS - 1 }, changed = 5;
    build(rig, AKIN_STORAGE_FP16);          /* whole numbers: nothing is lost */
    struct akin_index *index = open(rig, AKIN_INDEX_WRITE);
    struct akin_index_rows rows = { .vectors = rig->x[ROWS], .count = MORE };
    fine(rig, akin_index_add(index, &rows, &rig->error));
    rows = (struct akin_index_rows){ .vectors = rig->x[9], .ids = &changed, .count = 1 };
    fine(rig, akin_index_update(index, &rows, &rig->error));
    fine(rig, akin_index_delete(index, deleted, 3, NULL, &rig->error));
    size_t seen = 0, found;
    for (int64_t from = 0, last = -1;; from = last + 1) {
        int64_t ids[7];
        float x[7][DIM];
        fine(rig, akin_index_read(index, from, 7, ids, x[0], &found, &rig->error));
        for (size_t i = 0; i < found; i++) {
            assert_true(ids[i] > last && ids[i] != 0 && ids[i] != 7 && ids[i] != ROWS - 1);
            last = ids[i];
            size_t source = last == changed ? 9 : (size_t)last;
            assert_memory_equal(x[i], rig->x[source], sizeof x[i]);
        }
        seen += found;
        if (!found)
            break;
    }
    assert_int_equal(seen, ROWS + MORE - 3);
    fine(rig, akin_index_read(index, INT64_MAX, 5, NULL, NULL, &found, &rig->error));
    assert_int_equal(found, 0);
    fine(rig, akin_index_read(index, 0, 0, NULL, NULL, &found, &rig->error));
    assert_int_equal(found, 0);
    akin_index_close(&index);
}

/* ---- filters --------------------------------------------------------------------------------- */

static void expect_hints(struct rig *rig, const struct akin_index *index)
{
    static const struct {
        const char *filter, *hint;
    } cases[] = {
        { "year=1990 AND title=heat", "" },
        { "yeer=1990", "no row has a field 'yeer'; did you mean 'year'?" },
        { "title=heat AND NOT yaer>1990", "no row has a field 'yaer'; did you mean 'year'?" },
        { "RUNTIM<100", "no row has a field 'runtim'; did you mean 'runtime'?" },
        { "director=mann", "no row has a field 'director'" },
        { "title>1990", "field 'title' holds texts" },
        { "title BETWEEN 1 AND 2", "field 'title' holds texts" },
        { "year CONTAINS 99", "field 'year' holds numbers" },
        { "year=soon", "field 'year' holds numbers, and 'soon' is not one" },
        { "year IN (soon, 1990)", "" },
    };
    char hint[256];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fine(rig, akin_index_filter_hint(index, cases[i].filter, hint, sizeof hint, &rig->error));
        if (strncmp(hint, cases[i].hint, strlen(cases[i].hint)) || (!*cases[i].hint && *hint))
            fail_msg("%s: \"%s\"", cases[i].filter, hint);
    }
    assert_int_equal(akin_index_filter_hint(index, "year=", hint, sizeof hint, &rig->error),
                     AKIN_ARGUMENT);
    fine(rig, akin_index_filter_hint(index, "yeer=1990", hint, 10, &rig->error));
    assert_string_equal(hint, "no row ha");
}

static void test_hints(void **state)
{
    struct rig *rig = *state;
    build(rig, AKIN_STORAGE_FP32);
    struct akin_index *index = open(rig, AKIN_INDEX_WRITE);
    expect_hints(rig, index);
    struct akin_index_rows rows = { .vectors = rig->x[ROWS], .metadata = rig->metadata,
                                    .count = MORE };
    fine(rig, akin_index_add(index, &rows, &rig->error));
    expect_hints(rig, index);
    akin_index_close(&index);
    fine(rig, akin_index_create(rig->engine, rig->path, DIM, NULL, &rig->error));
    index = open(rig, AKIN_INDEX_WRITE);    /* all in the tail */
    fine(rig, akin_index_add(index, &rows, &rig->error));
    expect_hints(rig, index);
    akin_index_close(&index);
}

/* ---- checking -------------------------------------------------------------------------------- */

/* Every 61st byte flipped, one at a time: found, and named by the place that it lies in. */
static void test_check(void **state)
{
    struct rig *rig = *state;
    build(rig, AKIN_STORAGE_INT8);
    fine(rig, akin_index_check(rig->engine, rig->path, &rig->error));
    struct bytes file = { 0 };
    size_t blocks = 0, flips = 0;
    fine(rig, file_read(rig->path, 1 << 24, &file, &rig->error));
    for (size_t i = 3 * 4096; i < file.count; i += 61, flips++) {
        file.data[i] ^= 0x10;
        fine(rig, file_write(rig->path, file.data, file.count, &rig->error));
        rig->error.message[0] = 0;
        if (akin_index_check(rig->engine, rig->path, &rig->error) == AKIN_OK)
            fail_msg("byte %zu of %zu: flipped, and not found", i, file.count);
        assert_non_null(strstr(rig->error.message, rig->path));
        blocks += strstr(rig->error.message, "block") != NULL;
        file.data[i] ^= 0x10;
    }
    assert_true(blocks > flips / 2);        /* the others lie in frames' headers and between */
    fine(rig, file_write(rig->path, file.data, file.count, &rig->error));
    fine(rig, akin_index_check(rig->engine, rig->path, &rig->error));
    bytes_deinit(&file);
    assert_int_equal(akin_index_check(rig->engine, "/nowhere/x.akx", &rig->error),
                     AKIN_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names), cmocka_unit_test(test_read), cmocka_unit_test(test_hints),
        cmocka_unit_test(test_check),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
