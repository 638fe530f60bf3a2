/* Snapshots of a store and its audit trail while both are written: each opens, verifies, and has
 * what was acknowledged before. On btrfs where this machine lets us mount one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "akin/audit.h"
#include "base/clock.h"
#include "base/thread.h"
#include "event_store_rig.h"
#include "watch/event_snapshot.h"

enum { SNAPSHOTS = 8, KEEP = 3, SEGMENT = 20000 };

struct writing {
    struct rig *rig;
    struct akin_audit *audit;
    struct mutex *lock;
    uint64_t acked;                 /* events and records, under the lock */
    bool stop;
    enum akin_status status;
    struct akin_error error;
};

static bool stopped(struct writing *w, uint64_t acked)
{
    mutex_lock(w->lock);
    w->acked = acked;
    bool stop = w->stop;
    mutex_unlock(w->lock);
    return stop;
}

/* Event n and record n, ten at a time; now and then tiles are made, or the key changes. */
static void write_on(void *context)
{
    struct writing *w = context;
    struct made made[10];
    struct stored_event events[10];
    struct akin_audit_record records[10];
    uint64_t numbers[10], n = 0;
    do {
        for (size_t i = 0; i < 10; i++) {
            rig_make(n + i + 1, &made[i]);
            events[i] = made[i].event;
            records[i] = (struct akin_audit_record){.data = made[i].text,
                                                    .bytes = made[i].event.text_bytes,
                                                    .source = "x", .cursor = made[i].cursor};
        }
        w->status = event_store_append(w->rig->store, events, 10, numbers, &w->error);
        if (w->status == AKIN_OK)
            w->status = akin_audit_append(w->audit, records, 10, NULL, &w->error);
        n += 10;
        clock_sleep_us(500);            /* or most of the time goes into what piled up */
        if (w->status == AKIN_OK && n % 300 == 0)
            w->status = akin_audit_checkpoint(w->audit, NULL, &w->error);
        if (w->status == AKIN_OK && n % 700 == 0)
            w->status = akin_audit_rotate_key(w->audit, &w->error);
    } while (!stopped(w, n) && w->status == AKIN_OK);
}

static bool take(void *cookie, const struct stored_event *event)
{
    uint64_t *count = cookie;
    assert_int_equal(event->number, ++*count);
    return true;
}

static void expect_snapshot(struct rig *rig, const char *path, uint64_t acked)
{
    char folder[PATH_BYTES_MAX + 8];
    struct akin_audit_verdict verdict;
    struct event_store *store;
    struct akin_audit *audit;
    uint64_t count = 0;
    struct event_store_settings settings = rig->settings;
    snprintf(folder, sizeof folder, "%s/store", path);
    settings.folder = folder;
    settings.read_only = true;
    bytes_clear(&rig->told);
    assert_ok(rig, event_store_open(&settings, (struct event_store_note){ rig, rig_tell }, &store,
                                    &rig->error));
    assert_ok(rig, event_store_read(store, 0, false, NULL, take, &count, &rig->error));
    event_store_close(&store);
    assert_true(count >= acked);
    assert_int_equal(rig->told.count, 0);
    snprintf(folder, sizeof folder, "%s/audit", path);
    assert_ok(rig, akin_audit_verify(folder, NULL, &verdict, &rig->error));
    assert_true(verdict.records >= acked && !verdict.writer);
    assert_ok(rig, akin_audit_open(folder, &audit, &rig->error));   /* and can be gone on with */
    assert_ok(rig, akin_audit_append(audit, &(struct akin_audit_record){.data = "x", .bytes = 1},
                                     1, NULL, &rig->error));
    akin_audit_close(&audit);
    assert_ok(rig, akin_audit_verify(folder, NULL, &verdict, &rig->error));
}

static size_t snapshots_in(const char *folder)
{
    struct names names = { 0 };
    size_t count = 0;
    assert_int_equal(path_list(folder, &names, NULL), AKIN_OK);
    for (size_t i = 0; i < names.count; i++)
        count += !strncmp(names.items[i], "snapshot-", 9);
    names_deinit(&names);
    return count;
}

__attribute__((format(printf, 1, 2)))
static bool shell(const char *format, ...)
{
    char command[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command, sizeof command, format, arguments);
    va_end(arguments);
    return system(command) == 0;
}

/* Store and trail are below `base`; subvolumes where they are there already. */
static void snapshots_while_written(struct rig *rig, const char *base, const char *method)
{
    char store[160], audit[160], folder[160], foreign[200];
    struct writing w = { .rig = rig, .lock = mutex_create() };
    struct akin_snapshot_report report;
    snprintf(store, sizeof store, "%s/store", base);
    snprintf(audit, sizeof audit, "%s/audit", base);
    snprintf(folder, sizeof folder, "%s/snapshots", base);
    snprintf(foreign, sizeof foreign, "%s/snapshot-2001", folder);
    rig->settings.folder = store;
    rig->settings.segment_bytes = SEGMENT;
    rig_open(rig);
    assert_ok(rig, akin_audit_create(audit, "snapshot.test", &rig->error));
    if (method[0] == 'b')               /* a log is made by a rename, which makes no subvolume */
        assert_true(shell("cd %s && mv audit made && btrfs subvolume create audit >/dev/null && "
                          "cp -a made/. audit", base));
    assert_ok(rig, akin_audit_open(audit, &w.audit, &rig->error));
    assert_ok(rig, path_make_folders(foreign, &rig->error));    /* not ours */
    struct thread *thread = thread_start(write_on, &w, false);
    assert_non_null(thread);
    for (int i = 0; i < SNAPSHOTS; i++) {
        struct akin_snapshot_settings settings = { folder, store, audit, KEEP };
        clock_sleep_us(20000);
        mutex_lock(w.lock);
        uint64_t acked = w.acked;
        mutex_unlock(w.lock);
        assert_ok(rig, event_snapshot_make(&settings, &report, &rig->error));
        assert_string_equal(report.store_method, method);
        assert_string_equal(report.audit_method, method);
        expect_snapshot(rig, report.path, acked);
        assert_int_equal(snapshots_in(folder), (i < KEEP ? i + 1 : KEEP) + 1);
    }
    mutex_lock(w.lock);
    w.stop = true;
    mutex_unlock(w.lock);
    thread_join(&thread);
    assert_int_equal(w.status, AKIN_OK);
    assert_true(w.acked > 0 && path_exists(foreign));
    akin_audit_close(&w.audit);
    event_store_close(&rig->store);
    mutex_destroy(&w.lock);
}

static void test_copies(void **state)
{
    struct rig *rig = *state;
    struct akin_error error = { 0 };
    struct akin_snapshot_report report;
    char folder[128];
    snprintf(folder, sizeof folder, "%s/x", rig->folder);
    struct akin_snapshot_settings settings = { .folder = folder, .store = rig->folder };
    assert_int_equal(event_snapshot_make(&settings, &report, &error), AKIN_NOT_FOUND);
    assert_non_null(strstr(error.message, "no store"));
    assert_int_equal(snapshots_in(folder), 0);
    snapshots_while_written(rig, rig->folder, "copy");
}

/* ---- btrfs ---------------------------------------------------------------------------------- */

static bool mount_btrfs(const struct rig *rig)
{
    return rig_mounts_of_our_own() &&
           shell("exec >/dev/null 2>&1; cd %s && truncate -s 256M image && mkfs.btrfs -q image && "
                 "mkdir mounted && mount -o loop image mounted", rig->folder);
}

static void on_btrfs(struct rig *rig, bool subvolumes)
{
    char mounted[128];
    snprintf(mounted, sizeof mounted, "%s/mounted", rig->folder);
    if (!mount_btrfs(rig)) {
        print_message("skipped: no btrfs image can be mounted here\n");
        skip();
    }
    if (subvolumes)
        assert_true(shell("btrfs subvolume create %s/store >/dev/null", mounted));
    snapshots_while_written(rig, mounted, subvolumes ? "btrfs snapshot" : "reflink");
}

static void test_btrfs(void **state)
{
    on_btrfs(*state, true);
}

static void test_reflinks(void **state)
{
    on_btrfs(*state, false);
}

static int unmount(void **state)
{
    struct rig *rig = *state;
    event_store_close(&rig->store);
    if (!shell("exec >/dev/null 2>&1; cd %s && ! mountpoint -q mounted || umount mounted",
               rig->folder))
        return -1;
    return rig_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_copies, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_btrfs, rig_setup, unmount),
        cmocka_unit_test_setup_teardown(test_reflinks, rig_setup, unmount),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
