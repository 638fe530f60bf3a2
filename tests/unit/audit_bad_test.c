/* Audit logs: every byte of every file is under verify's eyes; input and folders that are not what
 * they should be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "audit_rig.h"
#include "base/rng.h"

/* ---- tampering --------------------------------------------------------------------------- */

static void expect_found(struct rig *rig, const char *what, const char *path, size_t at)
{
    struct akin_audit_verdict verdict;
    enum akin_status status = rig_verify(rig, rig->log, &verdict);
    if (status == AKIN_OK)
        fail_msg("%s of %s at byte %zu was not found", what, path, at);
    assert_true(status == AKIN_FORMAT || status == AKIN_UNSUPPORTED);
    assert_true(strlen(rig->error.message) > 10);
}

/* Changes of each kind at `at`; the file is as before afterwards. */
static void tamper(struct rig *rig, const char *path, const struct bytes *whole, size_t at,
                   struct rng *rng)
{
    char *copy = memory_copy_bytes(whole->data, whole->count);
    copy[at] ^= (char)(1u << rng_below(rng, 8));
    rig_write(path, copy, whole->count);
    expect_found(rig, "a flipped bit", path, at);
    rig_write(path, whole->data, at);
    expect_found(rig, "a cut", path, at);
    memcpy(copy, whole->data, whole->count);
    memmove(copy + at, copy + at + 1, whole->count - at - 1);
    rig_write(path, copy, whole->count - 1);
    expect_found(rig, "a deleted byte", path, at);
    memory_free(copy);
    rig_write(path, whole->data, whole->count);
}

static void tamper_files(struct rig *rig, const char *folder, size_t step, struct rng *rng)
{
    struct names names = {0};
    struct bytes whole = {0};
    assert_int_equal(path_list(folder, &names, NULL), AKIN_OK);
    for (size_t i = 0; i < names.count; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, names.items[i]);
        if (path_is_folder(path)) {
            tamper_files(rig, path, step, rng);
            continue;
        }
        if (!strcmp(names.items[i], "key"))
            continue;
        rig_read(path, &whole);
        for (size_t at = 0; at < whole.count; at += 1 + rng_below(rng, step))
            tamper(rig, path, &whole, at, rng);
        bytes_append_text(&whole, "x");
        rig_write(path, whole.data, whole.count);
        expect_found(rig, "an added byte", path, whole.count - 1);
        rig_write(path, whole.data, whole.count - 1);
        assert_int_equal(path_remove(path, NULL), AKIN_OK);
        if (strstr(path, ".p/") == NULL || strstr(path, "/002.p/"))
            expect_found(rig, "removal", path, 0);
        rig_write(path, whole.data, whole.count - 1);
    }
    names_deinit(&names);
    bytes_deinit(&whole);
}

/* Everything there can be: whole and partial tiles, a long record, a new key, cursors, a journal
 * that a kill has left. */
static void fill_richly(struct rig *rig)
{
    char *large = memory_alloc(70000, 1);
    struct akin_audit_record record = {.data = large, .bytes = 70000};
    struct akin_audit *audit = rig_open(rig, rig->log);
    rig_append(rig, audit, 0, 3);
    assert_ok(rig, akin_audit_checkpoint(audit, NULL, &rig->error));
    assert_ok(rig, akin_audit_append(audit, &record, 1, NULL, &rig->error));
    assert_ok(rig, akin_audit_rotate_key(audit, &rig->error));
    for (size_t i = 0; i < 520; i++) {
        record = (struct akin_audit_record){.data = "short", .bytes = i % 6};
        assert_ok(rig, akin_audit_submit(audit, &record, 1, NULL, &rig->error));
    }
    assert_ok(rig, akin_audit_checkpoint(audit, NULL, &rig->error));
    rig_append(rig, audit, 3, 3);
    rig_copy(rig->log, rig->other);
    akin_audit_close(&audit);
    assert_int_equal(path_remove_tree(rig->log, NULL), AKIN_OK);
    rig_copy(rig->other, rig->log);
    memory_free(large);
}

static void test_tampering(void **state)
{
    struct rig *rig = *state;
    struct rng rng;
    struct akin_audit_verdict verdict;
    rng_seed(&rng, 7);
    fill_richly(rig);
    assert_ok(rig, rig_verify(rig, rig->log, &verdict));
    assert_int_equal(verdict.records, 528);
    tamper_files(rig, rig->log, 500, &rng);
    assert_ok(rig, rig_verify(rig, rig->log, &verdict));
}

/* Files that do not belong; two that changed places. */
static void test_strangers(void **state)
{
    static const char *const names[] = {"x", "tile/0/003", "tile/0/000.p/300", "records/0",
                                        "records/x", "checkpoints/9999", "checkpoints/1x",
                                        "key.next", "tile/entries/000.p/1", "journal.part"};
    struct rig *rig = *state;
    char path[300], other[300];
    struct bytes a = {0}, b = {0};
    rig_fill(rig, 0, 600);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", rig->log, names[i]);
        char folder[300];
        snprintf(folder, sizeof folder, "%.*s", (int)(path_last(path) - path), path);
        assert_int_equal(path_make_folders(folder, NULL), AKIN_OK);
        rig_write(path, "stranger", 8);
        expect_found(rig, "a stranger", path, 0);
        assert_int_equal(path_remove(path, NULL), AKIN_OK);
    }
    snprintf(path, sizeof path, "%s/tile/entries/000", rig->log);
    snprintf(other, sizeof other, "%s/tile/entries/001", rig->log);
    rig_read(path, &a);
    rig_read(other, &b);
    rig_write(path, b.data, b.count);
    rig_write(other, a.data, a.count);
    expect_found(rig, "a swap", path, 0);
    assert_non_null(strstr(rig->error.message, "record 0"));
    bytes_deinit(&a);
    bytes_deinit(&b);
}

/* A tail that was cut off and signed anew by who has the key: only an earlier checkpoint tells. */
static void test_history_rewritten(void **state)
{
    struct rig *rig = *state;
    struct akin_audit_verdict verdict;
    struct akin_audit_verify_options options = {0};
    char kept[160], path[160];
    struct bytes note = {0};
    rig_fill(rig, 0, 20);
    rig_copy(rig->log, rig->other);
    rig_fill(rig, 20, 20);
    snprintf(kept, sizeof kept, "%s/kept", rig->folder);
    snprintf(path, sizeof path, "%s/checkpoint", rig->log);
    rig_read(path, &note);
    rig_write(kept, note.data, note.count);
    bytes_deinit(&note);
    options.since = kept;
    assert_ok(rig, akin_audit_verify(rig->log, &options, &verdict, &rig->error));
    assert_ok(rig, akin_audit_verify(rig->other, NULL, &verdict, &rig->error));
    assert_int_equal(akin_audit_verify(rig->other, &options, &verdict, &rig->error), AKIN_FORMAT);
    struct akin_audit *audit = rig_open(rig, rig->other);   /* as many records, others */
    rig_append(rig, audit, 21, 25);
    akin_audit_close(&audit);
    assert_ok(rig, akin_audit_verify(rig->other, NULL, &verdict, &rig->error));
    assert_int_equal(akin_audit_verify(rig->other, &options, &verdict, &rig->error), AKIN_FORMAT);
    assert_non_null(strstr(rig->error.message, "anew"));
}

/* ---- input ------------------------------------------------------------------------------- */

static void test_records(void **state)
{
    struct rig *rig = *state;
    size_t most = AKIN_AUDIT_RECORD_BYTES_MAX;
    char *data = memory_alloc(most + 1, 1);
    char long_text[AKIN_AUDIT_CURSOR_BYTES_MAX + 2];
    struct akin_audit *audit = rig_open(rig, rig->log);
    struct akin_audit_record records[] = {
        {.data = NULL, .bytes = 0, .time_us = 1000},
        {.data = data, .bytes = most, .time_us = 900},      /* the clock went back */
        {.data = "\0\xff\n", .bytes = 3, .time_us = -1},
    };
    struct akin_audit_verdict verdict;
    uint64_t first = 99;
    memset(data, 0xa5, most + 1);
    assert_ok(rig, akin_audit_append(audit, records, 3, &first, &rig->error));
    assert_int_equal(first, 0);
    records[1].bytes = most + 1;
    assert_int_equal(akin_audit_append(audit, records, 3, NULL, &rig->error), AKIN_LIMIT);
    records[1].bytes = 1;
    records[1].cursor = "c";
    assert_int_equal(akin_audit_append(audit, records, 3, NULL, &rig->error), AKIN_ARGUMENT);
    memset(long_text, 'y', sizeof long_text);
    long_text[sizeof long_text - 1] = 0;
    records[1].source = "s";
    records[1].cursor = long_text;
    assert_int_equal(akin_audit_append(audit, records, 3, NULL, &rig->error), AKIN_LIMIT);
    assert_ok(rig, akin_audit_append(audit, records, 0, &first, &rig->error));
    assert_int_equal(first, 3);
    akin_audit_close(&audit);
    assert_ok(rig, rig_verify(rig, rig->log, &verdict));
    assert_int_equal(verdict.records, 3);
    struct akin_audit_reader *reader = NULL;
    struct akin_audit_entry entry;
    bool more;
    assert_ok(rig, akin_audit_reader_open(rig->log, 1, &reader, &rig->error));
    assert_ok(rig, akin_audit_reader_next(reader, &entry, &more, &rig->error));
    assert_int_equal(entry.bytes, most);
    assert_int_equal(entry.time_us, 900);
    assert_memory_equal(entry.data, data, most);
    assert_ok(rig, akin_audit_reader_next(reader, &entry, &more, &rig->error));
    assert_memory_equal(entry.data, "\0\xff\n", 3);
    akin_audit_reader_close(&reader);
    memory_free(data);
}

/* ---- folders ----------------------------------------------------------------------------- */

static void expect_refused(struct rig *rig, enum akin_status wanted, const char *word)
{
    struct akin_audit *audit = NULL;
    assert_int_equal(akin_audit_open(rig->log, &audit, &rig->error), wanted);
    assert_null(audit);
    if (!strstr(rig->error.message, word))
        fail_msg("'%s' is not in: %s", word, rig->error.message);
}

static void test_two_writers(void **state)
{
    struct rig *rig = *state;
    struct akin_audit *audit = rig_open(rig, rig->log);
    struct akin_audit_verdict verdict;
    rig_append(rig, audit, 0, 2);
    expect_refused(rig, AKIN_BUSY, "writer");
    assert_ok(rig, rig_verify(rig, rig->log, &verdict));
    assert_true(verdict.writer);
    akin_audit_close(&audit);
    audit = rig_open(rig, rig->log);
    akin_audit_close(&audit);
}

static void test_folders(void **state)
{
    struct rig *rig = *state;
    struct bytes text = {0};
    char path[160];
    assert_int_equal(akin_audit_create(rig->log, NULL, &rig->error), AKIN_BUSY);
    assert_int_equal(akin_audit_create(rig->other, "with blank", &rig->error), AKIN_ARGUMENT);
    assert_int_equal(akin_audit_create(rig->other, "with+plus", &rig->error), AKIN_ARGUMENT);
    assert_false(path_exists(rig->other));
    snprintf(path, sizeof path, "%s/key", rig->log);
    assert_int_equal(chmod(path, 0640), 0);
    expect_refused(rig, AKIN_IO, "chmod 600");
    assert_int_equal(chmod(path, 0600), 0);
    rig_read(path, &text);
    text.data[text.count - 6] ^= 1;
    rig_write(path, text.data, text.count);
    expect_refused(rig, AKIN_FORMAT, "secret key");
    assert_int_equal(path_remove(path, NULL), AKIN_OK);
    expect_refused(rig, AKIN_NOT_FOUND, "missing");
    struct akin_audit_verdict verdict;
    assert_ok(rig, rig_verify(rig, rig->log, &verdict));    /* needs no secret */
    snprintf(path, sizeof path, "%s/format", rig->log);
    rig_write(path, "akin audit log 2\nexample.com/log\n", 33);
    expect_refused(rig, AKIN_UNSUPPORTED, "newer");
    assert_int_equal(rig_verify(rig, rig->log, &verdict), AKIN_UNSUPPORTED);
    assert_int_equal(path_remove(path, NULL), AKIN_OK);
    expect_refused(rig, AKIN_FORMAT, "not an audit log");
    assert_int_equal(path_remove_tree(rig->log, NULL), AKIN_OK);
    expect_refused(rig, AKIN_NOT_FOUND, "no such folder");
    bytes_deinit(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_tampering, rig_begin, rig_end),
        cmocka_unit_test_setup_teardown(test_strangers, rig_begin, rig_end),
        cmocka_unit_test_setup_teardown(test_history_rewritten, rig_begin, rig_end),
        cmocka_unit_test_setup_teardown(test_records, rig_begin, rig_end),
        cmocka_unit_test_setup_teardown(test_two_writers, rig_begin, rig_end),
        cmocka_unit_test_setup_teardown(test_folders, rig_begin, rig_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
