/* Copies of an audit log that were taken while it grew: of one moment, or not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "audit/settle.h"
#include "audit_rig.h"

static void remove_in(const char *folder, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_true(path_exists(path));
    assert_int_equal(path_remove_tree(path, NULL), AKIN_OK);
}

static void take_from(const char *from, const char *to, const char *name)
{
    char path[256];
    struct bytes bytes = {0};
    snprintf(path, sizeof path, "%s/%s", from, name);
    rig_read(path, &bytes);
    snprintf(path, sizeof path, "%s/%s", to, name);
    rig_write(path, bytes.data, bytes.count);
    bytes_deinit(&bytes);
}

static void expect_settled(struct rig *rig, bool expected)
{
    struct akin_audit_verdict verdict;
    bool settled = !expected;
    assert_ok(rig, audit_settle(rig->other, &settled, &rig->error));
    assert_int_equal(settled, expected);
    if (!settled)
        return;
    assert_ok(rig, rig_verify(rig, rig->other, &verdict));
    assert_int_equal(verdict.records, 133);
}

/* Checkpoints of 100 and 133 records. */
static int begin(void **state)
{
    if (rig_begin(state))
        return -1;
    struct rig *rig = *state;
    rig_fill(rig, 0, 100);
    rig_fill(rig, 100, 33);
    rig_copy(rig->log, rig->other);
    return 0;
}

static void test_quiet(void **state)
{
    expect_settled(*state, true);
}

/* Whole tiles came between the first files and the rest. */
static void test_more_than_there_was(void **state)
{
    struct rig *rig = *state;
    rig_fill(rig, 133, 200);
    take_from(rig->log, rig->other, "tile/0/000");
    take_from(rig->log, rig->other, "tile/entries/000");
    take_from(rig->log, rig->other, "checkpoints/333");
    expect_settled(rig, true);
}

/* And the partial ones, of which each checkpoint has its own, were gone before they were copied. */
static void test_partial_tiles_gone(void **state)
{
    static const char *const names[] = {"tile/0/000.p/133", "tile/entries/000.p/133",
                                        "tile/0/000.p/100", "tile/entries/000.p/100"};
    struct rig *rig = *state;
    rig_fill(rig, 133, 200);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char origin[256];
        struct bytes kept = {0};
        snprintf(origin, sizeof origin, "%s/%s", rig->other, names[i]);
        take_from(rig->log, rig->other, "tile/0/000");
        take_from(rig->log, rig->other, "tile/entries/000");
        rig_read(origin, &kept);
        remove_in(rig->other, names[i]);
        expect_settled(rig, false);
        rig_write(origin, kept.data, kept.count);
        bytes_deinit(&kept);
    }
    expect_settled(rig, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_quiet, begin, rig_end),
        cmocka_unit_test_setup_teardown(test_more_than_there_was, begin, rig_end),
        cmocka_unit_test_setup_teardown(test_partial_tiles_gone, begin, rig_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
