/* The .akx file of version 2, damaged: every flipped bit is found and named, every lie is refused,
 * and damage to what was not promised is no damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/file_at.h"
#include "base/hash.h"
#include "base/rng.h"
#include "index/store_file.h"
#include "store_rig.h"

#define FIXTURE AKIN_SOURCE_DIR "/tests/fixtures/index/store_v2.akx"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { FLIPS = 1000, FLIP_STEP = 7 };
#else
enum { FLIPS = 10000, FLIP_STEP = 1 };
#endif

static struct rig rig;

static int set_up(void **state)
{
    (void)state;
    return rig_begin(&rig);
}

static int tear_down(void **state)
{
    (void)state;
    return rig_end(&rig);
}

static struct file_at open_raw(void)
{
    struct file_at file;
    assert_ok(file_at_open(rig.path, FILE_AT_WRITE, &file, &rig.error));
    return file;
}

static void put(const struct file_at *file, uint64_t at, const void *data, size_t bytes)
{
    assert_ok(file_at_write(file, at, &(struct file_part){ data, bytes }, 1, &rig.error));
}

/* ---- the fixture ------------------------------------------------------------------------ */

/* Whoever changes what is written must raise the version, and keep the reader of this one. */
static void version_2_is_what_we_write(void **state)
{
    size_t committed_bytes, bytes;
    rig_small(&rig, true);
    unsigned char *committed = rig_load(FIXTURE, &committed_bytes);
    unsigned char *built = rig_load(rig.path, &bytes);
    assert_int_equal(committed_bytes, bytes);
    assert_memory_equal(committed, built, bytes);
    memory_free(committed);
    memory_free(built);
    assert_ok(store_check(FIXTURE, NULL, &rig.error));
    (void)state;
}

/* ---- flipped bits ----------------------------------------------------------------------- */

static void every_flipped_bit_is_found(void **state)
{
    rig_small(&rig, true);
    size_t bytes;
    unsigned char *good = rig_load(rig.path, &bytes);
    struct file_at file = open_raw();
    for (size_t at = 0; at < bytes; at += FLIP_STEP)
        for (int bit = 0; bit < 8; bit++) {
            unsigned char bad = good[at] ^ (unsigned char)(1 << bit);
            struct akin_error error = { 0 };
            put(&file, at, &bad, 1);
            enum akin_status status = store_check(rig.path, NULL, &error);
            if (status == AKIN_OK || strchr(error.message, '\n') || !strstr(error.message, "x.akx"))
                fail_msg("byte %zu bit %d: status %d \"%s\"", at, bit, status, error.message);
            put(&file, at, &good[at], 1);
        }
    file_at_close(&file);
    memory_free(good);
    assert_ok(store_check(rig.path, NULL, &rig.error));
    (void)state;
}

/* The numbers behind "bytes " in a message about a block. */
static bool names_offset(const char *message, uint64_t at)
{
    unsigned long long from, to;
    const char *text = strstr(message, "bytes ");
    return text && sscanf(text, "bytes %llu to %llu", &from, &to) == 2 && from <= at && at <= to &&
           to - from < STORE_GRANULE_BYTES;
}

static void flips_in_a_larger_file_are_named(void **state)
{
    struct store *store = rig_create(&rig);
    struct store_segment_ref ref = { rig_segment(&rig, store, 33000), 0 };
    struct store_layout layout = { &ref, 1, 0, NULL, 0 };
    assert_ok(store_publish(store, &layout, &rig.error));
    rig_add(&rig, store, 0, 5000);
    assert_ok(store_appear(store, NULL, &rig.error));
    store_close(&store);
    uint64_t bytes;
    struct file_at file = open_raw();
    assert_ok(file_at_size(&file, &bytes, &rig.error));
    assert_true(bytes > 2 * STORE_GRANULE_BYTES);
    struct rng rng;
    rng_seed(&rng, 5);
    for (int i = 0; i < FLIPS; i++) {
        unsigned char good, bad;
        uint64_t at = rng_below(&rng, bytes);
        assert_ok(file_at_read(&file, at, &good, 1, &rig.error));
        bad = good ^ (unsigned char)(1u << rng_below(&rng, 8));
        put(&file, at, &bad, 1);
        struct akin_error error = { 0 };
        if (store_check(rig.path, NULL, &error) != AKIN_FORMAT)
            fail_msg("byte %llu: \"%s\"", (unsigned long long)at, error.message);
        if (strstr(error.message, "of the file do not match") && !names_offset(error.message, at))
            fail_msg("byte %llu is not named: \"%s\"", (unsigned long long)at, error.message);
        put(&file, at, &good, 1);
    }
    assert_ok(store_check(rig.path, NULL, &rig.error));
    unsigned char one = 1;
    put(&file, ref.frame + 64 + STORE_GRANULE_BYTES + 17, &one, 1);
    assert_int_equal(store_check(rig.path, NULL, &rig.error), AKIN_FORMAT);
    assert_non_null(strstr(rig.error.message, "frame at byte 12288 (segment): block 0 of 1 (type "
                                              "16), bytes 1060928 to 2109503 of the file"));
    file_at_close(&file);
    (void)state;
}

/* ---- cut short, cut off ------------------------------------------------------------------- */

static void a_promised_byte_that_is_gone_is_missed(void **state)
{
    struct rig_small at = rig_small(&rig, false);
    struct file_at file = open_raw();
    for (uint64_t bytes = at.end; bytes-- > 0;) {
        struct store *store;
        assert_ok(file_at_truncate(&file, bytes, &rig.error));
        assert_int_equal(store_open(rig.path, STORE_READ, &store, &rig.error), AKIN_FORMAT);
        assert_non_null(strstr(rig.error.message, "x.akx: "));
        if (bytes % 64 == 0)
            assert_int_equal(store_open(rig.path, STORE_WRITE, &store, &rig.error), AKIN_FORMAT);
    }
    file_at_close(&file);
    (void)state;
}

static void what_was_not_promised_may_be_anything(void **state)
{
    struct rig_small at = rig_small(&rig, true);
    uint64_t bytes;
    struct file_at file = open_raw();
    assert_ok(file_at_size(&file, &bytes, &rig.error));
    struct store_report report;
    for (uint64_t cut = bytes; cut-- > at.end;) {
        assert_ok(file_at_truncate(&file, cut, &rig.error));
        assert_ok(store_check(rig.path, &report, &rig.error));
        assert_int_equal(report.unpromised_bytes, cut - at.end);
        rig_expect_tail_start(&rig, 3, 5);
    }
    assert_ok(file_at_truncate(&file, at.end + 3000, &rig.error));
    assert_ok(store_check(rig.path, &report, &rig.error));      /* zeros */
    put(&file, at.end + 1000, "garbage", 7);
    assert_int_equal(store_check(rig.path, &report, &rig.error), AKIN_FORMAT);
    assert_true(report.in_tail);
    assert_non_null(strstr(rig.error.message, "nothing that was promised is damaged"));
    struct store *store = rig_open(&rig, STORE_READ);
    assert_int_equal(store_operations(store), 5);
    store_close(&store);
    store = rig_open(&rig, STORE_WRITE);
    store_close(&store);
    assert_ok(store_check(rig.path, &report, &rig.error));
    assert_int_equal(report.unpromised_bytes, 0);
    file_at_close(&file);
    (void)state;
}

/* ---- marks ------------------------------------------------------------------------------ */

static void one_lost_mark_loses_nothing(void **state)
{
    for (int slot = 0; slot < 2; slot++)
        for (int writes = 0; writes < 3; writes++) {
            struct store *store = rig_new(&rig);
            for (int i = 0; i <= writes; i++) {
                rig_add(&rig, store, (size_t)i * 4, 4);
                assert_ok(store_sync(store, NULL, &rig.error));
            }
            struct store_segment_ref ref = { rig_segment(&rig, store, 9), 0 };
            struct store_layout layout = { &ref, 1, 4, NULL, 0 };
            assert_ok(store_publish(store, &layout, &rig.error));
            assert_ok(store_sync(store, NULL, &rig.error));
            store_close(&store);
            struct file_at file = open_raw();
            put(&file, (uint64_t)(1 + slot) * STORE_PAGE_BYTES + 8, "\xff", 1);
            file_at_close(&file);
            assert_int_equal(store_check(rig.path, NULL, &rig.error), AKIN_FORMAT);
            assert_non_null(strstr(rig.error.message, slot ? "mark 1, bytes 8192 to 12287"
                                                           : "mark 0, bytes 4096 to 8191"));
            for (int mode = STORE_READ; mode <= STORE_WRITE; mode++) {
                store = rig_open(&rig, (enum store_mode)mode);
                assert_int_equal(store_operations(store), 4 * (writes + 1));
                assert_int_equal(store_layout(store)->segment_count, 1);
                assert_int_equal(store_layout(store)->sealed, 4);
                rig_expect_tail_from(store, 4, (size_t)writes * 4);
                store_close(&store);
            }
            assert_ok(store_check(rig.path, NULL, &rig.error));
        }
    (void)state;
}

static void two_lost_marks_are_said(void **state)
{
    rig_small(&rig, false);
    struct file_at file = open_raw();
    put(&file, STORE_PAGE_BYTES, "\xff", 1);
    put(&file, 2 * STORE_PAGE_BYTES, "\xff", 1);
    file_at_close(&file);
    struct store *store;
    assert_int_equal(store_open(rig.path, STORE_READ, &store, &rig.error), AKIN_FORMAT);
    assert_non_null(strstr(rig.error.message, "marks, bytes 4096 to 12287: neither is whole"));
    assert_int_equal(store_open(rig.path, STORE_WRITE, &store, &rig.error), AKIN_FORMAT);
    (void)state;
}

/* ---- lies: every checksum is right ---------------------------------------------------------- */

static void seal_page(unsigned char *page)
{
    uint64_t sum = hash_bytes(page, STORE_PAGE_BYTES - 8);
    memcpy(page + STORE_PAGE_BYTES - 8, &sum, sizeof sum);
}

static void seal_mark(unsigned char *data, int slot)
{
    unsigned char *mark = data + (1 + slot) * STORE_PAGE_BYTES;
    uint64_t sum = hash_bytes(mark, 56);
    memcpy(mark + 56, &sum, sizeof sum);
}

/* `frame` and `table` as they were before the lie. */
static void seal_frame(unsigned char *data, uint64_t at, uint64_t bytes, uint64_t table_bytes)
{
    uint64_t sum = hash_bytes(data + at + bytes - table_bytes, table_bytes);
    memcpy(data + at + offsetof(struct store_frame, table_checksum), &sum, sizeof sum);
    sum = hash_bytes(data + at, offsetof(struct store_frame, checksum));
    memcpy(data + at + offsetof(struct store_frame, checksum), &sum, sizeof sum);
}

enum where { HEADER, MARK, SEGMENT, DEAD, MANIFEST, ROWS, DELETES };

struct lie {
    enum where where;
    bool in_table, in_block;    /* else in the header of the frame, page or mark */
    size_t at, bytes;
    uint64_t value;
    enum akin_status status;
};

#define FIELD(type, field) offsetof(struct type, field), sizeof ((struct type *)0)->field
#define IN_HEADER(field) HEADER, false, false, FIELD(store_header, field)
#define IN_MARK(field) MARK, false, false, FIELD(store_mark, field)
#define IN_FRAME(where, field) where, false, false, FIELD(store_frame, field)
#define IN_TABLE(where, i, field) \
    where, true, false, 32 * (i) + FIELD(store_entry, field)
#define IN_BLOCK(where, at, bytes) where, false, true, at, bytes

static const struct lie lies[] = {
    { IN_HEADER(version), 0, AKIN_UNSUPPORTED },
    { IN_HEADER(version), 1, AKIN_FORMAT },
    { IN_HEADER(version), 3, AKIN_UNSUPPORTED },
    { IN_HEADER(metric), 3, AKIN_UNSUPPORTED },
    { IN_HEADER(element), 2, AKIN_UNSUPPORTED },
    { IN_HEADER(features_required), 1, AKIN_UNSUPPORTED },
    { IN_HEADER(dimension), 0, AKIN_FORMAT },
    { IN_HEADER(dimension), 5, AKIN_FORMAT },
    { IN_HEADER(dimension), 4097, AKIN_FORMAT },
    { IN_HEADER(first_operation), 1, AKIN_FORMAT },
    { IN_HEADER(first_operation), UINT64_MAX, AKIN_FORMAT },
    { IN_HEADER(creation_bytes), UINT64_MAX, AKIN_FORMAT },
    { IN_HEADER(creation_bytes), STORE_CREATION_BYTES_MAX + 1, AKIN_FORMAT },
    { IN_HEADER(creation_bytes), 2, AKIN_FORMAT },
    { IN_HEADER(reserved), 1, AKIN_FORMAT },
    { IN_MARK(bytes), 0, AKIN_FORMAT },
    { IN_MARK(bytes), STORE_FRAMES, AKIN_FORMAT },
    { IN_MARK(bytes), STORE_FRAMES + 64, AKIN_FORMAT },
    { IN_MARK(bytes), (uint64_t)1 << 40, AKIN_FORMAT },
    { IN_MARK(bytes), UINT64_MAX - 63, AKIN_FORMAT },
    { IN_MARK(manifest), 0, AKIN_FORMAT },
    { IN_MARK(manifest), 64, AKIN_FORMAT },
    { IN_MARK(manifest), STORE_FRAMES, AKIN_FORMAT },
    { IN_MARK(manifest), UINT64_MAX - 63, AKIN_FORMAT },
    { IN_MARK(operations), 4, AKIN_FORMAT },
    { IN_MARK(operations), 6, AKIN_FORMAT },
    { IN_MARK(operations), UINT64_MAX, AKIN_FORMAT },
    { IN_MARK(number), 7, AKIN_FORMAT },
    { IN_MARK(reserved), 1, AKIN_FORMAT },
    { IN_FRAME(ROWS, magic), 1, AKIN_FORMAT },
    { IN_FRAME(ROWS, type), 0, AKIN_UNSUPPORTED },
    { IN_FRAME(ROWS, type), 6, AKIN_UNSUPPORTED },
    { IN_FRAME(ROWS, type), STORE_DELETE, AKIN_FORMAT },
    { IN_FRAME(ROWS, type), STORE_SEGMENT, AKIN_FORMAT },
    { IN_FRAME(ROWS, flags), 1, AKIN_FORMAT },
    { IN_FRAME(ROWS, bytes), 0, AKIN_FORMAT },
    { IN_FRAME(ROWS, bytes), 64, AKIN_FORMAT },
    { IN_FRAME(ROWS, bytes), 1, AKIN_FORMAT },
    { IN_FRAME(ROWS, bytes), (uint64_t)1 << 50, AKIN_FORMAT },
    { IN_FRAME(ROWS, bytes), UINT64_MAX - 63, AKIN_FORMAT },
    { IN_FRAME(ROWS, operation), 1, AKIN_FORMAT },
    { IN_FRAME(ROWS, operation), UINT64_MAX, AKIN_FORMAT },
    { IN_FRAME(ROWS, rows), 0, AKIN_FORMAT },
    { IN_FRAME(ROWS, rows), 2, AKIN_FORMAT },
    { IN_FRAME(ROWS, rows), UINT64_MAX, AKIN_FORMAT },
    { IN_FRAME(ROWS, rows), (uint64_t)1 << 61, AKIN_FORMAT },
    { IN_FRAME(ROWS, detail), 1, AKIN_FORMAT },
    { IN_FRAME(ROWS, block_count), 0, AKIN_FORMAT },
    { IN_FRAME(ROWS, block_count), 1, AKIN_FORMAT },
    { IN_FRAME(ROWS, block_count), 3, AKIN_FORMAT },
    { IN_FRAME(ROWS, block_count), UINT32_MAX, AKIN_FORMAT },
    { IN_FRAME(ROWS, granule_count), 0, AKIN_FORMAT },
    { IN_FRAME(ROWS, granule_count), 3, AKIN_FORMAT },
    { IN_FRAME(ROWS, granule_count), UINT32_MAX, AKIN_FORMAT },
    { IN_TABLE(ROWS, 0, type), 2 + 256, AKIN_FORMAT },
    { IN_TABLE(ROWS, 1, type), 2, AKIN_FORMAT },
    { IN_TABLE(ROWS, 0, flags), 1, AKIN_FORMAT },
    { IN_TABLE(ROWS, 0, offset), 0, AKIN_FORMAT },
    { IN_TABLE(ROWS, 1, offset), UINT64_MAX - 63, AKIN_FORMAT },
    { IN_TABLE(ROWS, 0, bytes), 16, AKIN_FORMAT },
    { IN_TABLE(ROWS, 0, bytes), UINT64_MAX, AKIN_FORMAT },
    { IN_TABLE(ROWS, 1, bytes), UINT64_MAX - 200, AKIN_FORMAT },
    { IN_TABLE(ROWS, 1, granule), 0, AKIN_FORMAT },
    { IN_TABLE(ROWS, 1, granule), UINT64_MAX, AKIN_FORMAT },
    { ROWS, true, false, 80, 8, 1, AKIN_FORMAT },       /* behind the checksums */
    { IN_BLOCK(ROWS, 0, 8), (uint64_t)-1, AKIN_FORMAT },
    { IN_BLOCK(ROWS, 64 + 4, 4), 0x7f800000, AKIN_FORMAT },
    { IN_BLOCK(ROWS, 24, 1), 1, AKIN_FORMAT },          /* behind the ids */
    { IN_FRAME(DELETES, rows), 1, AKIN_FORMAT },
    { IN_FRAME(DELETES, operation), 2, AKIN_FORMAT },
    { IN_BLOCK(DELETES, 8, 8), (uint64_t)1 << 63, AKIN_FORMAT },
    { IN_FRAME(DEAD, rows), 5, AKIN_FORMAT },
    { IN_FRAME(DEAD, detail), 5, AKIN_FORMAT },
    { IN_FRAME(DEAD, detail), 1, AKIN_FORMAT },
    { IN_FRAME(DEAD, type), STORE_MANIFEST, AKIN_FORMAT },
    { IN_BLOCK(DEAD, 0, 8), 1, AKIN_FORMAT },
    { IN_BLOCK(DEAD, 0, 8), 0x21, AKIN_FORMAT },
    { IN_FRAME(SEGMENT, rows), 3, AKIN_FORMAT },
    { IN_FRAME(SEGMENT, rows), (uint64_t)1 << 33, AKIN_FORMAT },
    { IN_FRAME(SEGMENT, detail), (uint64_t)1 << 33, AKIN_FORMAT },
    { IN_FRAME(SEGMENT, type), STORE_DEAD, AKIN_FORMAT },
    { IN_FRAME(MANIFEST, rows), 0, AKIN_FORMAT },
    { IN_FRAME(MANIFEST, rows), 2, AKIN_FORMAT },
    { IN_FRAME(MANIFEST, rows), UINT64_MAX / 16, AKIN_FORMAT },
    { IN_BLOCK(MANIFEST, 0, 8), 1, AKIN_FORMAT },                   /* sealed */
    { IN_BLOCK(MANIFEST, 0, 8), UINT64_MAX, AKIN_FORMAT },
    { IN_BLOCK(MANIFEST, 8, 8), 0, AKIN_FORMAT },                   /* replay */
    { IN_BLOCK(MANIFEST, 8, 8), UINT64_MAX - 63, AKIN_FORMAT },
    { IN_BLOCK(MANIFEST, 8, 8), STORE_FRAMES + 64, AKIN_FORMAT },
    { IN_BLOCK(MANIFEST, 16, 8), 1, AKIN_FORMAT },                  /* reserved */
    { IN_BLOCK(MANIFEST, 32, 8), 0, AKIN_FORMAT },                  /* a segment */
    { IN_BLOCK(MANIFEST, 32, 8), STORE_FRAMES + 64, AKIN_FORMAT },
    { IN_BLOCK(MANIFEST, 32, 8), UINT64_MAX - 63, AKIN_FORMAT },
    { IN_BLOCK(MANIFEST, 40, 8), STORE_FRAMES, AKIN_FORMAT },       /* its dead rows */
};

static void tell_lie(unsigned char *data, const struct rig_small *at, const struct lie *lie)
{
    if (lie->where == HEADER) {
        memcpy(data + lie->at, &lie->value, lie->bytes);
        seal_page(data);
        return;
    }
    if (lie->where == MARK) {
        for (int slot = 0; slot < 2; slot++) {
            memcpy(data + (1 + slot) * STORE_PAGE_BYTES + lie->at, &lie->value, lie->bytes);
            seal_mark(data, slot);
        }
        /* Number 7 suits slot 1 and is larger than the other. */
        return;
    }
    uint64_t begins[] = { [SEGMENT] = at->segment, [DEAD] = at->dead, [MANIFEST] = at->manifest,
                          [ROWS] = at->rows, [DELETES] = at->deletes };
    uint64_t begin = begins[lie->where];
    struct store_frame frame;
    memcpy(&frame, data + begin, sizeof frame);
    uint64_t table_bytes = store_table_bytes(frame.block_count, frame.granule_count);
    unsigned char *table = data + begin + frame.bytes - table_bytes;
    uint64_t offset = lie->in_table ? frame.bytes - table_bytes : lie->in_block ? sizeof frame : 0;
    memcpy(data + begin + offset + lie->at, &lie->value, lie->bytes);
    for (uint32_t i = 0; lie->in_block && i < frame.block_count; i++) {
        struct store_entry entry;
        memcpy(&entry, table + i * sizeof entry, sizeof entry);
        uint64_t sum = hash_bytes(data + begin + entry.offset, entry.bytes);
        memcpy(table + frame.block_count * sizeof entry + entry.granule * 8, &sum,
               entry.bytes ? 8 : 0);
    }
    seal_frame(data, begin, frame.bytes, table_bytes);
}

static void lies_are_refused(void **state)
{
    struct rig_small at = rig_small(&rig, false);
    size_t bytes;
    unsigned char *good = rig_load(rig.path, &bytes), *data = memory_alloc_aligned(bytes, 1);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        memcpy(data, good, bytes);
        tell_lie(data, &at, &lies[i]);
        assert_ok(file_write(rig.path, data, bytes, &rig.error));
        struct akin_error error = { 0 };
        enum akin_status status = store_check(rig.path, NULL, &error);
        if (status != lies[i].status && !(lies[i].where == MARK && lies[i].at == 0))
            fail_msg("lie %zu: status %d \"%s\"", i, status, error.message);
        if (status == AKIN_FORMAT)
            assert_non_null(strstr(error.message, "byte"));
    }
    memory_free(data);
    memory_free(good);
    (void)state;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(version_2_is_what_we_write),
        TEST(every_flipped_bit_is_found),
        TEST(flips_in_a_larger_file_are_named),
        TEST(a_promised_byte_that_is_gone_is_missed),
        TEST(what_was_not_promised_may_be_anything),
        TEST(one_lost_mark_loses_nothing),
        TEST(two_lost_marks_are_said),
        TEST(lies_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
