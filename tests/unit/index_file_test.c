/* The .akx file: what is written is what is read, damage anywhere is found, lies are refused, and
 * nothing is left behind where a build fails. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "index/index.h"
#include "index_v1_writer.h"
#include "index/index_file.h"

#define FIXTURE AKIN_SOURCE_DIR "/tests/fixtures/index/flat_v1.akx"

enum { FIXTURE_ROWS = 20, FIXTURE_DIM = 6 };

static char folder[] = "/tmp/akin_index_XXXXXX";
static char path[256];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/x.akx", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return path_remove_tree(folder, NULL);
}

static size_t files_in_folder(void)
{
    struct names names = { 0 };
    assert_int_equal(path_list(folder, &names, NULL), AKIN_OK);
    size_t count = names.count;
    names_deinit(&names);
    return count;
}

static struct akin_index_settings settings_of(enum akin_metric metric)
{
    struct akin_index_settings settings;
    settings = (struct akin_index_settings){ .kind = "auto" };
    settings.metric = metric;
    return settings;
}

/* Small whole numbers and ids that do not ascend: the content of the fixture. */
static void fixture_content(float *vectors, int64_t *ids)
{
    for (int i = 0; i < FIXTURE_ROWS; i++) {
        ids[i] = (i * 7) % FIXTURE_ROWS + 1000000000000;
        for (int j = 0; j < FIXTURE_DIM; j++)
            vectors[i * FIXTURE_DIM + j] = (float)((i * 5 + j * 3) % 11 - 5);
    }
}

static void build_fixture(const char *to)
{
    float vectors[FIXTURE_ROWS * FIXTURE_DIM];
    int64_t ids[FIXTURE_ROWS];
    struct akin_index_settings settings = settings_of(AKIN_METRIC_INNER_PRODUCT);
    fixture_content(vectors, ids);
    assert_int_equal(index_build(to, vectors, ids, FIXTURE_ROWS, FIXTURE_DIM, &settings, NULL),
                     AKIN_OK);
}

/* A copy of a file aligned as a map is. */
static unsigned char *load(const char *from, size_t *bytes)
{
    struct file_map map;
    assert_int_equal(file_map_open(from, &map, NULL), AKIN_OK);
    unsigned char *copy = memory_alloc_aligned(map.bytes, 1);
    assert_non_null(copy);
    memcpy(copy, map.data, map.bytes);
    *bytes = map.bytes;
    file_map_close(&map);
    return copy;
}

/* Opening and then checking, as index_check does it. */
static enum akin_status verdict(const unsigned char *data, size_t bytes, struct akin_error *error)
{
    struct index_view view;
    enum akin_status status = index_view_init(&view, "x.akx", data, bytes, error);
    return status == AKIN_OK ? index_view_check(&view, error) : status;
}

/* ---- the fixture ------------------------------------------------------------------------ */

static void version_1_stays_readable(void **state)
{
    size_t bytes;
    unsigned char *data = load(FIXTURE, &bytes);
    struct index_view view;
    struct akin_error error = { 0 };
    if (index_view_init(&view, FIXTURE, data, bytes, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    assert_int_equal(index_view_check(&view, &error), AKIN_OK);
    assert_int_equal(view.header->version, 1);
    assert_int_equal(view.header->count, FIXTURE_ROWS);
    assert_int_equal(view.header->dimension, FIXTURE_DIM);
    float vectors[FIXTURE_ROWS * FIXTURE_DIM];
    int64_t ids[FIXTURE_ROWS];
    fixture_content(vectors, ids);
    for (size_t i = 0; i < FIXTURE_ROWS; i++) {
        size_t at = 0;
        while (ids[at] != view.ids[i])
            at++;
        assert_memory_equal(view.rows + i * FIXTURE_DIM, vectors + at * FIXTURE_DIM,
                            FIXTURE_DIM * sizeof(float));
        assert_int_equal(view.ids[i], 1000000000000 + (int64_t)i);
    }
    memory_free(data);
    assert_int_equal(index_check(FIXTURE, NULL), AKIN_OK);
    (void)state;
}

/* Whoever changes what is written must raise the version. */
static void version_1_is_what_we_write(void **state)
{
    size_t committed_bytes, built_bytes;
    build_fixture(path);
    unsigned char *committed = load(FIXTURE, &committed_bytes), *built = load(path, &built_bytes);
    assert_int_equal(committed_bytes, built_bytes);
    assert_memory_equal(committed, built, built_bytes);
    memory_free(committed);
    memory_free(built);
    (void)state;
}

/* ---- damage ----------------------------------------------------------------------------- */

static void every_flipped_bit_is_found(void **state)
{
    size_t bytes;
    unsigned char *data = load(FIXTURE, &bytes);
    for (size_t at = 0; at < bytes; at++)
        for (int bit = 0; bit < 8; bit++) {
            struct akin_error error = { 0 };
            data[at] ^= (unsigned char)(1 << bit);
            enum akin_status status = verdict(data, bytes, &error);
            if (status == AKIN_OK || strchr(error.message, '\n'))
                fail_msg("byte %zu bit %d: \"%s\"", at, bit, error.message);
            data[at] ^= (unsigned char)(1 << bit);
        }
    assert_int_equal(verdict(data, bytes, NULL), AKIN_OK);
    memory_free(data);
    (void)state;
}

/* The copies have exactly the bytes left, so that the sanitizer sees a read beyond them. */
static void every_truncation_is_refused(void **state)
{
    size_t bytes;
    unsigned char *data = load(FIXTURE, &bytes);
    for (size_t left = 0; left < bytes; left++) {
        unsigned char *cut = memory_alloc_aligned(left, 1);
        memcpy(cut, data, left);
        struct akin_error error = { 0 };
        assert_int_equal(verdict(cut, left, &error), AKIN_FORMAT);
        assert_non_null(strstr(error.message, "x.akx: "));
        memory_free(cut);
    }
    memory_free(data);
    (void)state;
}

static void damage_is_named_by_block(void **state)
{
    enum { ROWS = 5000, DIM = 96 };
    float *vectors = memory_alloc(ROWS * DIM, sizeof *vectors);
    int64_t *ids = memory_alloc(ROWS, sizeof *ids);
    for (size_t i = 0; i < ROWS; i++) {
        ids[i] = (int64_t)i * 2;
        vectors[i * DIM] = (float)i;
    }
    assert_int_equal(index_build(path, vectors, ids, ROWS, DIM, NULL, NULL), AKIN_OK);
    struct akin_error error = { 0 };
    assert_int_equal(index_check(path, &error), AKIN_OK);
    size_t bytes;
    unsigned char *data = load(path, &bytes);
    const struct index_block *blocks = (const struct index_block *)(const void *)(data + 128);
    assert_int_equal(((const struct index_header *)(const void *)data)->block_count, 3);
    assert_int_equal(blocks[1].rows + blocks[0].rows, ROWS);
    data[blocks[1].offset + 5] ^= 1;
    assert_int_equal(file_write(path, data, bytes, NULL), AKIN_OK);
    assert_int_equal(index_check(path, &error), AKIN_FORMAT);
    assert_non_null(strstr(error.message, "block 1 of 3 (vectors of rows 2720 to 4999, bytes "));
    data[blocks[1].offset + 5] ^= 1;
    data[blocks[2].offset + blocks[2].bytes - 1] ^= 128;
    assert_int_equal(file_write(path, data, bytes, NULL), AKIN_OK);
    assert_int_equal(index_check(path, &error), AKIN_FORMAT);
    assert_non_null(strstr(error.message, "block 2 of 3 (ids of rows 0 to 4999, bytes "));
    memory_free(data);
    memory_free(ids);
    memory_free(vectors);
    (void)state;
}

/* ---- lies: the checksums hold, the content does not --------------------------------------- */

#define HEADER(field) offsetof(struct index_header, field), sizeof ((struct index_header *)0)->field
#define BLOCK(i, field) \
    128 + 48 * (i) + offsetof(struct index_block, field), sizeof ((struct index_block *)0)->field

static void lies_are_refused(void **state)
{
    static const struct {
        size_t at, bytes;
        uint64_t value;
        enum akin_status status;
    } lies[] = {
        { HEADER(version), 0, AKIN_UNSUPPORTED },
        { HEADER(version), 2, AKIN_UNSUPPORTED },
        { HEADER(kind), 2, AKIN_UNSUPPORTED },
        { HEADER(features_required), 1, AKIN_UNSUPPORTED },
        { HEADER(metric), 3, AKIN_UNSUPPORTED },
        { HEADER(element), 1, AKIN_UNSUPPORTED },
        { HEADER(dimension), 0, AKIN_FORMAT },
        { HEADER(dimension), 7, AKIN_FORMAT },
        { HEADER(dimension), 4097, AKIN_FORMAT },
        { HEADER(dimension), UINT64_MAX, AKIN_FORMAT },
        { HEADER(count), 19, AKIN_FORMAT },
        { HEADER(count), 21, AKIN_FORMAT },
        { HEADER(count), 0, AKIN_FORMAT },
        { HEADER(count), (uint64_t)1 << 62, AKIN_FORMAT },
        { HEADER(block_count), 0, AKIN_FORMAT },
        { HEADER(block_count), 1, AKIN_FORMAT },
        { HEADER(block_count), 3, AKIN_FORMAT },
        { HEADER(block_count), UINT64_MAX, AKIN_FORMAT },
        { HEADER(block_count), UINT64_MAX / 48 + 2, AKIN_FORMAT },
        { HEADER(file_bytes), 1 << 20, AKIN_FORMAT },
        { HEADER(header_bytes), 0, AKIN_FORMAT },
        { HEADER(header_bytes), 128, AKIN_FORMAT },
        { HEADER(header_bytes), 192, AKIN_FORMAT },
        { HEADER(header_bytes), UINT64_MAX - 63, AKIN_FORMAT },
        { HEADER(reserved), 1, AKIN_FORMAT },
        { BLOCK(0, type), 2, AKIN_FORMAT },
        { BLOCK(1, type), 1, AKIN_FORMAT },
        { BLOCK(1, type), 9, AKIN_UNSUPPORTED },
        { BLOCK(0, flags), 1, AKIN_FORMAT },
        { BLOCK(0, offset), 0, AKIN_FORMAT },
        { BLOCK(1, offset), 256, AKIN_FORMAT },
        { BLOCK(1, offset), UINT64_MAX - 63, AKIN_FORMAT },
        { BLOCK(0, bytes), 479, AKIN_FORMAT },
        { BLOCK(0, bytes), UINT64_MAX, AKIN_FORMAT },
        { BLOCK(0, rows), 0, AKIN_FORMAT },
        { BLOCK(0, rows), UINT64_MAX, AKIN_FORMAT },
        { BLOCK(1, rows), 19, AKIN_FORMAT },
        { BLOCK(1, first), 1, AKIN_FORMAT },
        { 128 + 2 * 48, 8, 1, AKIN_FORMAT },    /* between the table and the checksum */
    };
    size_t bytes;
    unsigned char *good = load(FIXTURE, &bytes), *data = memory_alloc_aligned(bytes, 1);
    size_t header_bytes = ((const struct index_header *)(const void *)good)->header_bytes;
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        struct akin_error error = { 0 };
        memcpy(data, good, bytes);
        memcpy(data + lies[i].at, &lies[i].value, lies[i].bytes);
        uint64_t checksum = hash_bytes(data, header_bytes - 8);
        memcpy(data + header_bytes - 8, &checksum, sizeof checksum);
        struct index_view view;
        enum akin_status status = index_view_init(&view, "x.akx", data, bytes, &error);
        if (status != lies[i].status)
            fail_msg("lie %zu at byte %zu: status %d, \"%s\"", i, lies[i].at, status,
                     error.message);
    }
    memory_free(data);
    memory_free(good);
    (void)state;
}

/* Writes `bytes` at `at` and makes both checksums right again. */
static enum akin_status forge(size_t at, const void *value, size_t value_bytes,
                              struct akin_error *error)
{
    size_t bytes;
    unsigned char *data = load(FIXTURE, &bytes);
    struct index_header *header = (struct index_header *)(void *)data;
    struct index_block *blocks = (struct index_block *)(void *)(data + 128);
    memcpy(data + at, value, value_bytes);
    for (size_t i = 0; i < header->block_count; i++)
        blocks[i].checksum = hash_bytes(data + blocks[i].offset, index_pad(blocks[i].bytes));
    uint64_t checksum = hash_bytes(data, header->header_bytes - 8);
    memcpy(data + header->header_bytes - 8, &checksum, sizeof checksum);
    enum akin_status status = verdict(data, bytes, error);
    memory_free(data);
    return status;
}

static void forged_contents_are_found(void **state)
{
    struct akin_error error = { 0 };
    const float nan = NAN;
    const int64_t repeated = 1000000000000, negative = -5;
    const char one = 1;
    size_t rows = 256, ids = rows + 512;    /* 20 * 6 floats and their zeros behind */
    assert_int_equal(forge(rows + 4, &(float){ 3 }, sizeof(float), &error), AKIN_OK);
    assert_int_equal(forge(rows + 4, &nan, sizeof nan, &error), AKIN_FORMAT);
    assert_non_null(strstr(error.message, "not finite"));
    assert_int_equal(forge(ids + 8, &repeated, sizeof repeated, &error), AKIN_FORMAT);
    assert_non_null(strstr(error.message, "do not ascend"));
    assert_int_equal(forge(ids, &negative, sizeof negative, &error), AKIN_FORMAT);
    assert_int_equal(forge(rows + 490, &one, 1, &error), AKIN_FORMAT);
    assert_non_null(strstr(error.message, "not zero"));
    (void)state;
}

static void other_files_are_refused(void **state)
{
    struct akin_error error = { 0 };
    assert_int_equal(index_check("/nonexistent/x.akx", &error), AKIN_NOT_FOUND);
    assert_int_equal(index_check(folder, &error), AKIN_IO);
    assert_int_equal(file_write(path, "", 0, NULL), AKIN_OK);
    assert_int_equal(index_check(path, &error), AKIN_FORMAT);
    assert_non_null(strstr(error.message, "not an index file"));
    assert_int_equal(file_write(path, "\x93NUMPY", 6, NULL), AKIN_OK);
    assert_int_equal(index_check(path, &error), AKIN_FORMAT);
    (void)state;
}

/* ---- building --------------------------------------------------------------------------- */

static enum akin_status build(const float *vectors, const int64_t *ids, size_t count,
                              size_t dimension, const struct akin_index_settings *settings,
                              struct akin_error *error)
{
    assert_int_equal(path_remove(path, NULL), AKIN_OK);
    enum akin_status status = index_build(path, vectors, ids, count, dimension, settings, error);
    assert_int_equal(files_in_folder(), status == AKIN_OK);
    return status;
}

static void bad_input_is_refused(void **state)
{
    struct akin_error error = { 0 };
    struct akin_index_settings settings = settings_of(AKIN_METRIC_COSINE);
    float v[] = { 1, 2, 3, 4, NAN, 6 };
    assert_int_equal(build(v, NULL, 3, 2, &settings, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "row 2: column 0 is not a number"));
    v[4] = -INFINITY;
    assert_int_equal(build(v, NULL, 2, 3, &settings, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "row 1: column 1 is infinite"));
    v[4] = 5;
    assert_int_equal(build(v, (int64_t[]){ 7, 3, 7 }, 3, 2, &settings, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "rows 0 and 2 have the same id 7"));
    assert_int_equal(build(v, (int64_t[]){ 7, -1, 8 }, 3, 2, &settings, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "row 1: its id is -1"));
    assert_int_equal(build(v, NULL, 3, 0, &settings, &error), AKIN_ARGUMENT);
    assert_int_equal(build(v, NULL, 0, 4097, &settings, &error), AKIN_LIMIT);
    assert_int_equal(build(v, NULL, (size_t)1 << 32, 2, &settings, &error), AKIN_LIMIT);
    settings.kind = "graph";
    assert_int_equal(build(v, NULL, 3, 2, &settings, &error), AKIN_UNSUPPORTED);
    settings.kind = "flat";
    assert_int_equal(build(v, NULL, 3, 2, &settings, &error), AKIN_OK);
    assert_int_equal(index_build("/nonexistent/x.akx", v, NULL, 3, 2, &settings, &error),
                     AKIN_NOT_FOUND);
    (void)state;
}

static bool stop_late(void *cookie, const char *stage, uint64_t done, uint64_t total)
{
    assert_string_equal(stage, "index");
    assert_true(done <= total);
    return ++*(int *)cookie < 2;
}

static void cancelling_leaves_nothing(void **state)
{
    enum { ROWS = 1500, DIM = 384 };
    float *vectors = memory_alloc(ROWS * DIM, sizeof *vectors);
    struct akin_index_settings settings = settings_of(AKIN_METRIC_L2);
    int calls = 0;
    settings.progress = (struct akin_progress){ &calls, stop_late };
    struct akin_error error = { 0 };
    assert_int_equal(build(vectors, NULL, ROWS, DIM, &settings, &error), AKIN_CANCELLED);
    assert_int_equal(calls, 2);
    memory_free(vectors);
    (void)state;
}

static void cosine_rows_have_length_1(void **state)
{
    float v[] = { 3, 4, 0, 0, 1e-30f, 0, -1e30f, 1e30f };
    struct akin_index_settings settings = settings_of(AKIN_METRIC_COSINE);
    assert_int_equal(build(v, NULL, 4, 2, &settings, NULL), AKIN_OK);
    size_t bytes;
    unsigned char *data = load(path, &bytes);
    struct index_view view;
    assert_int_equal(index_view_init(&view, "x", data, bytes, NULL), AKIN_OK);
    assert_null(view.ids);
    const float expected[] = { 0.6f, 0.8f, 0, 0, 1, 0, -(float)sqrt(0.5), (float)sqrt(0.5) };
    for (size_t i = 0; i < 8; i++)
        assert_float_equal(view.rows[i], expected[i], 1e-7);
    memory_free(data);
    (void)state;
}

static void metric_names(void **state)
{
    for (enum akin_metric m = AKIN_METRIC_INNER_PRODUCT; m <= AKIN_METRIC_L2; m++) {
        enum akin_metric parsed;
        assert_true(index_metric_parse(index_metric_name(m), &parsed));
        assert_int_equal(parsed, m);
    }
    enum akin_metric metric = AKIN_METRIC_L2;
    assert_true(index_metric_parse("ip", &metric));
    assert_int_equal(metric, AKIN_METRIC_INNER_PRODUCT);
    assert_false(index_metric_parse("manhattan", &metric));
    (void)state;
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--write-fixture")) { /* how the committed file was made */
        build_fixture(argv[2]);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_1_stays_readable),
        cmocka_unit_test(version_1_is_what_we_write),
        cmocka_unit_test(every_flipped_bit_is_found),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(damage_is_named_by_block),
        cmocka_unit_test(lies_are_refused),
        cmocka_unit_test(forged_contents_are_found),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(bad_input_is_refused),
        cmocka_unit_test(cancelling_leaves_nothing),
        cmocka_unit_test(cosine_rows_have_length_1),
        cmocka_unit_test(metric_names),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
