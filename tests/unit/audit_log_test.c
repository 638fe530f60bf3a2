/* Audit logs: what goes in comes out, is found when changed, and survives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <signal.h>

#include <cmocka.h>

#include "audit/note.h"
#include "base/base64.h"
#include "base/hash.h"
#include "base/thread.h"
#include "audit_rig.h"

static void expect_records(struct rig *rig, const char *folder, size_t count)
{
    struct akin_audit_reader *reader = NULL;
    struct akin_audit_entry entry;
    bool more = true;
    assert_ok(rig, akin_audit_reader_open(folder, 0, &reader, &rig->error));
    for (size_t i = 0; i < count; i++) {
        char text[64];
        int bytes = snprintf(text, sizeof text, "record %zu", i);
        assert_ok(rig, akin_audit_reader_next(reader, &entry, &more, &rig->error));
        assert_true(more);
        assert_int_equal(entry.index, i);
        assert_int_equal(entry.bytes, bytes);
        assert_memory_equal(entry.data, text, entry.bytes);
        assert_string_equal(entry.source, i % 3 ? "" : "x");
    }
    assert_ok(rig, akin_audit_reader_next(reader, &entry, &more, &rig->error));
    assert_false(more);
    akin_audit_reader_close(&reader);
}

static void test_sizes(void **state)
{
    static const size_t sizes[] = {0, 1, 2, 255, 256, 257, 511, 513};
    struct rig *rig = *state;
    size_t have = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct akin_audit_verdict verdict;
        rig_fill(rig, have, sizes[i] - have);
        have = sizes[i];
        assert_ok(rig, rig_verify(rig, rig->log, &verdict));
        assert_int_equal(verdict.records, have);
        assert_int_equal(verdict.checkpoint, have);
        expect_records(rig, rig->log, have);
    }
}

static void test_proofs_of_files(void **state)
{
    struct rig *rig = *state;
    struct akin_audit_proof proof;
    char key[160], path[160], since[160], record[160];
    snprintf(key, sizeof key, "%s/key.pub", rig->log);
    snprintf(path, sizeof path, "%s/p.json", rig->folder);
    snprintf(since, sizeof since, "%s/checkpoints/5", rig->log);
    snprintf(record, sizeof record, "%s/record", rig->folder);
    rig_fill(rig, 0, 5);
    rig_fill(rig, 5, 300);
    for (uint64_t i = 0; i < 305; i += 19) {
        assert_ok(rig, akin_audit_prove(rig->log, i, path, &rig->error));
        assert_ok(rig, akin_audit_verify_proof(path, key, NULL, &proof, &rig->error));
        assert_int_equal(proof.index, i);
        assert_int_equal(proof.size, 305);
    }
    rig_write(record, "record 304", 10);
    assert_ok(rig, akin_audit_prove(rig->log, 304, path, &rig->error));
    assert_ok(rig, akin_audit_verify_proof(path, key, record, &proof, &rig->error));
    rig_write(record, "record 305", 10);
    assert_int_equal(akin_audit_verify_proof(path, key, record, &proof, &rig->error), AKIN_FORMAT);
    assert_int_equal(akin_audit_prove(rig->log, 305, path, &rig->error), AKIN_NOT_FOUND);
    struct bytes text = {0};
    rig_read(path, &text);
    for (size_t i = 0; i < text.count; i++) {           /* a changed proof proves nothing */
        text.data[i] ^= 1;
        rig_write(path, text.data, text.count);
        enum akin_status status = akin_audit_verify_proof(path, key, NULL, &proof, &rig->error);
        bool blank = text.data[i] == ('\n' ^ 1) || text.data[i] == (' ' ^ 1);
        if (status == AKIN_OK && !blank)
            fail_msg("byte %zu of the proof", i);
        text.data[i] ^= 1;
    }
    bytes_deinit(&text);
    assert_ok(rig, akin_audit_prove_consistency(rig->log, since, path, &rig->error));
    assert_ok(rig, akin_audit_verify_proof(path, key, NULL, &proof, &rig->error));
    assert_true(proof.consistency);
    assert_int_equal(proof.index, 5);
    assert_ok(rig, akin_audit_create(rig->other, "example.com/log", &rig->error));
    snprintf(key, sizeof key, "%s/key.pub", rig->other);
    assert_int_equal(akin_audit_verify_proof(path, key, NULL, &proof, &rig->error), AKIN_FORMAT);
}

/* ---- many writers ------------------------------------------------------------------------ */

enum { WRITERS = 8, EACH = 40 };

struct writer {
    struct akin_audit *audit;
    unsigned number;
    uint64_t places[EACH];
    bool failed;
};

static void write_some(void *context)
{
    struct writer *w = context;
    for (unsigned i = 0; i < EACH; i++) {
        char text[32];
        struct akin_audit_record record = {
            .data = text, .bytes = (size_t)snprintf(text, sizeof text, "%u %u", w->number, i)};
        if (akin_audit_append(w->audit, &record, 1, &w->places[i], NULL) != AKIN_OK)
            w->failed = true;
    }
}

static void test_many_writers(void **state)
{
    struct rig *rig = *state;
    struct writer writers[WRITERS];
    struct thread *threads[WRITERS];
    struct akin_audit *audit = rig_open(rig, rig->log);
    struct akin_audit_reader *reader = NULL;
    struct akin_audit_entry entry;
    struct akin_audit_verdict verdict;
    uint64_t size = 0;
    bool more = true;
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.audit = audit, .number = i};
        threads[i] = thread_start(write_some, &writers[i], false);
        assert_non_null(threads[i]);
    }
    assert_ok(rig, akin_audit_checkpoint(audit, &size, &rig->error));   /* in between */
    for (unsigned i = 0; i < WRITERS; i++) {
        thread_join(&threads[i]);
        assert_false(writers[i].failed);
    }
    akin_audit_close(&audit);
    assert_ok(rig, rig_verify(rig, rig->log, &verdict));
    assert_int_equal(verdict.records, WRITERS * EACH);
    assert_ok(rig, akin_audit_reader_open(rig->log, 0, &reader, &rig->error));
    for (unsigned at = 0; at < WRITERS * EACH; at++) {
        unsigned number, i;
        char text[32] = "";
        assert_ok(rig, akin_audit_reader_next(reader, &entry, &more, &rig->error));
        memcpy(text, entry.data, entry.bytes);
        assert_int_equal(sscanf(text, "%u %u", &number, &i), 2);
        assert_true(number < WRITERS && i < EACH);
        assert_int_equal(writers[number].places[i], at);
    }
    akin_audit_reader_close(&reader);
}

/* ---- crashes ----------------------------------------------------------------------------- */

static void test_killed(void **state)
{
    struct rig *rig = *state;
    struct akin_audit *audit = rig_open(rig, rig->log);
    struct akin_audit_info info;
    struct akin_audit_verdict verdict;
    struct bytes journal = {0};
    char path[160], cursor[32];
    rig_append(rig, audit, 0, 10);
    assert_ok(rig, akin_audit_checkpoint(audit, NULL, &rig->error));
    rig_append(rig, audit, 10, 7);
    rig_copy(rig->log, rig->other);
    akin_audit_close(&audit);
    snprintf(path, sizeof path, "%s/journal", rig->other);
    assert_ok(rig, rig_verify(rig, rig->other, &verdict));
    assert_int_equal(verdict.checkpoint, 10);
    assert_int_equal(verdict.records, 17);
    expect_records(rig, rig->other, 17);
    rig_read(path, &journal);
    char torn[60];                      /* of a frame */
    memcpy(torn, journal.data + journal.count - 100, sizeof torn);
    bytes_append(&journal, torn, sizeof torn);
    rig_write(path, journal.data, journal.count);
    assert_int_equal(rig_verify(rig, rig->other, &verdict), AKIN_FORMAT);
    audit = rig_open(rig, rig->other);
    akin_audit_info(audit, &info);
    assert_int_equal(info.recovered, 7);
    assert_int_equal(info.cut_bytes, 60);
    assert_int_equal(info.records, 17);
    assert_ok(rig, akin_audit_cursor(audit, "x", cursor, sizeof cursor, &rig->error));
    assert_string_equal(cursor, "15");
    assert_ok(rig, akin_audit_cursor(audit, "y", cursor, sizeof cursor, &rig->error));
    assert_string_equal(cursor, "");
    akin_audit_close(&audit);
    assert_ok(rig, rig_verify(rig, rig->other, &verdict));
    assert_int_equal(verdict.checkpoint, 17);
    expect_records(rig, rig->other, 17);
    bytes_deinit(&journal);
}

/* Each prefix of the journal: whole frames stay, the rest goes, and the log is whole again. */
static void test_torn_anywhere(void **state)
{
    struct rig *rig = *state;
    struct akin_audit *audit = rig_open(rig, rig->log);
    struct bytes journal = {0};
    char path[300], copy[160];
    uint64_t last = 0;
    rig_append(rig, audit, 0, 3);
    rig_copy(rig->log, rig->other);
    akin_audit_close(&audit);
    snprintf(path, sizeof path, "%s/journal", rig->other);
    rig_read(path, &journal);
    for (size_t count = 129; count <= journal.count; count += 11) {
        struct akin_audit_info info;
        struct akin_audit_verdict verdict;
        snprintf(copy, sizeof copy, "%s/torn%zu", rig->folder, count);
        rig_copy(rig->other, copy);
        snprintf(path, sizeof path, "%s/journal", copy);
        rig_write(path, journal.data, count);
        audit = rig_open(rig, copy);
        akin_audit_info(audit, &info);
        assert_true(info.records >= last && info.records <= 3);
        last = info.records;
        akin_audit_close(&audit);
        assert_ok(rig, rig_verify(rig, copy, &verdict));
        assert_int_equal(verdict.records, last);
    }
    bytes_deinit(&journal);
}

static void test_full_disk(void **state)
{
    struct rig *rig = *state;
    struct akin_audit *audit = rig_open(rig, rig->log);
    struct rlimit limit = {.rlim_cur = 4000, .rlim_max = RLIM_INFINITY}, old;
    static const char long_text[5000];
    struct akin_audit_record record = {.data = long_text, .bytes = sizeof long_text};
    struct akin_audit_verdict verdict;
    rig_append(rig, audit, 0, 5);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    limit.rlim_max = old.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(akin_audit_append(audit, &record, 1, NULL, &rig->error), AKIN_IO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    record.bytes = 1;
    assert_int_equal(akin_audit_append(audit, &record, 1, NULL, &rig->error), AKIN_IO);
    assert_non_null(strstr(rig->error.message, "takes no more records"));
    assert_int_equal(akin_audit_checkpoint(audit, NULL, &rig->error), AKIN_IO);
    akin_audit_close(&audit);
    audit = rig_open(rig, rig->log);
    akin_audit_close(&audit);
    assert_ok(rig, rig_verify(rig, rig->log, &verdict));
    assert_int_equal(verdict.records, 5);
    expect_records(rig, rig->log, 5);
}

/* ---- keys and witnesses ------------------------------------------------------------------ */

static void test_rotation(void **state)
{
    struct rig *rig = *state;
    struct akin_audit_verdict verdict;
    struct akin_audit_verify_options options = {0};
    char key[160], foreign[160], since[160];
    snprintf(key, sizeof key, "%s/first.pub", rig->folder);
    snprintf(foreign, sizeof foreign, "%s/key.pub", rig->other);
    snprintf(since, sizeof since, "%s/kept", rig->folder);
    struct bytes text = {0};
    char path[160];
    snprintf(path, sizeof path, "%s/key.pub", rig->log);
    rig_read(path, &text);
    rig_write(key, text.data, text.count);
    rig_fill(rig, 0, 4);
    snprintf(path, sizeof path, "%s/checkpoint", rig->log);
    rig_read(path, &text);
    rig_write(since, text.data, text.count);
    for (int i = 0; i < 3; i++) {
        struct akin_audit *audit = rig_open(rig, rig->log);
        assert_ok(rig, akin_audit_rotate_key(audit, &rig->error));
        rig_append(rig, audit, 10, 2);
        akin_audit_close(&audit);
    }
    options.public_key = key;
    options.since = since;
    assert_ok(rig, akin_audit_verify(rig->log, &options, &verdict, &rig->error));
    assert_int_equal(verdict.keys, 4);
    assert_int_equal(verdict.records, 13);
    assert_int_equal(verdict.since, 4);
    assert_ok(rig, akin_audit_create(rig->other, "example.com/log", &rig->error));
    options.public_key = foreign;
    assert_int_equal(akin_audit_verify(rig->log, &options, &verdict, &rig->error), AKIN_FORMAT);
    options.public_key = NULL;          /* a log that is shorter than it was */
    assert_int_equal(akin_audit_verify(rig->other, &options, &verdict, &rig->error), AKIN_FORMAT);
    assert_non_null(strstr(rig->error.message, "removed"));
    bytes_deinit(&text);
}

/* A witness of C2SP cosignature/v1, in a few lines. */
static void make_cosignature(struct signer *witness, const char *note_path, struct bytes *line)
{
    struct bytes note = {0}, message = {0};
    struct checkpoint c;
    unsigned char blob[4 + 8 + 64] = {0};
    struct sha256 sha;
    unsigned char digest[32], type = KEY_WITNESS;
    rig_read(note_path, &note);
    assert_int_equal(checkpoint_parse(note.data, note.count, "note", &c, NULL), AKIN_OK);
    witness->key.type = type;
    sha256_begin(&sha);
    sha256_add(&sha, witness->key.name, strlen(witness->key.name));
    sha256_add(&sha, "\n", 1);
    sha256_add(&sha, &type, 1);
    sha256_add(&sha, witness->key.bytes, 32);
    sha256_end_bytes(&sha, digest);
    memcpy(witness->key.id, digest, 4);
    memcpy(blob, digest, 4);
    blob[11] = 99;
    bytes_append_text(&message, "cosignature/v1\ntime 99\n");
    bytes_append(&message, c.text, c.text_bytes);
    signer_sign(witness, message.data, message.count, blob + 12);
    bytes_clear(line);
    bytes_printf(line, "\xe2\x80\x94 %s ", witness->key.name);
    base64_append(line, blob, sizeof blob);
    bytes_deinit(&note);
    bytes_deinit(&message);
}

static void test_witness(void **state)
{
    struct rig *rig = *state;
    struct signer witness;
    struct bytes line = {0};
    char path[160], key[AKIN_AUDIT_KEY_TEXT_BYTES];
    const char *witnesses[] = {key};
    struct akin_audit_verify_options options = {.witnesses = witnesses, .witness_count = 1};
    struct akin_audit_verdict verdict;
    snprintf(path, sizeof path, "%s/checkpoint", rig->log);
    rig_fill(rig, 0, 3);
    assert_int_equal(signer_create("witness.example", &witness, &rig->error), AKIN_OK);
    make_cosignature(&witness, path, &line);
    public_key_text(&witness.key, key);
    assert_int_equal(akin_audit_verify(rig->log, &options, &verdict, &rig->error), AKIN_FORMAT);
    struct akin_audit *audit = rig_open(rig, rig->log);
    assert_int_equal(akin_audit_cosign(audit, 0, line.data, key, &rig->error), AKIN_ARGUMENT);
    assert_int_equal(akin_audit_cosign(audit, 2, line.data, key, &rig->error), AKIN_ARGUMENT);
    for (int i = 0; i < 2; i++)         /* the second time nothing happens */
        assert_ok(rig, akin_audit_cosign(audit, 3, line.data, key, &rig->error));
    akin_audit_close(&audit);
    rig_fill(rig, 5, 3);
    assert_ok(rig, akin_audit_verify(rig->log, &options, &verdict, &rig->error));
    assert_int_equal(verdict.witnessed, 3);
    assert_int_equal(verdict.records, 7);   /* one of them names the witness */
    bytes_deinit(&line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sizes, rig_begin, rig_end),
        cmocka_unit_test_setup_teardown(test_proofs_of_files, rig_begin, rig_end),
        cmocka_unit_test_setup_teardown(test_many_writers, rig_begin, rig_end),
        cmocka_unit_test_setup_teardown(test_killed, rig_begin, rig_end),
        cmocka_unit_test_setup_teardown(test_torn_anywhere, rig_begin, rig_end),
        cmocka_unit_test_setup_teardown(test_full_disk, rig_begin, rig_end),
        cmocka_unit_test_setup_teardown(test_rotation, rig_begin, rig_end),
        cmocka_unit_test_setup_teardown(test_witness, rig_begin, rig_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
