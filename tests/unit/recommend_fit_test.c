/* What a taste is learned from: the ratings of the catalogue, and behind them the live ones. */
#include "live_rig.h"

#include "catalog/live_store.h"
#include "recommend/fit_events.h"

static char db[PATH_BYTES_MAX];

static void happened(void *context, const char *user, const struct live_event *event)
{
    (void)context;
    (void)user;
    (void)event;
}

static void rate_live(const char *user, uint32_t row, int64_t timestamp)
{
    struct akin_error error;
    struct live_store *store;
    struct live_settings settings = { .catalog = rig_catalog, .busy_ms = 1000,
                                      .hooks = { .happened = happened } };
    struct live_rating rating = { user, row, 0.5f, timestamp };
    must(live_store_open(db, &settings, &store, &error), &error);
    must(live_store_append(store, &rating, 1, &error), &error);
    live_store_close(&store);
}

/* The same as plain loops make it: all ratings in order, repetitions left out from the back. */
static void check(size_t users, size_t live, const char *const *people, const uint32_t *rows)
{
    struct akin_error error;
    struct histories h;
    struct fit_events counts;
    must(fit_events_read(rig_catalog, &counts, &error), &error);
    must(fit_histories(rig_catalog, &counts, &h, &error), &error);
    assert_int_equal(counts.users, users);
    assert_int_equal(h.user_count, users);
    size_t kept = 0, total = 0;
    for (size_t u = 0; u < users; u++) {
        const char *name = u < RIG_USERS ? catalog_user_id(rig_catalog, u) : "new";
        uint32_t all[RIG_RATED + 16];
        size_t count = 0, own;
        const struct akin_rating *rated =
            u < RIG_USERS ? catalog_user_ratings(rig_catalog, u, &count) : NULL;
        for (size_t i = 0; i < count; i++)
            all[i] = rated[i].row;
        size_t first_live = count;
        for (size_t e = 0; e < live; e++)
            if (!strcmp(people[e], name))
                all[count++] = rows[e];
        const uint32_t *items = histories_of(&h, u, &own);
        size_t at = 0;
        for (size_t i = 0; i < count; i++) {
            bool later = false;
            for (size_t j = i + 1; j < count; j++)
                later |= all[j] == all[i];
            if (later)
                continue;
            assert_true(at < own);
            assert_int_equal(items[at++], all[i]);
            kept += i >= first_live;
        }
        assert_int_equal(at, own);
        total += own;
    }
    assert_int_equal(counts.live, kept);
    assert_int_equal(h.event_count, total);
    histories_deinit(&h);
    fit_events_deinit(&counts);
}

static void live_ratings(void **state)
{
    (void)state;
    snprintf(db, sizeof db, "%s/akin.db", catalog_folder(rig_catalog));
    check(RIG_USERS, 0, NULL, NULL);
    assert_false(path_exists(db));      /* asking makes no database */
    size_t count;
    uint32_t old = catalog_user_ratings(rig_catalog, 1, &count)[3].row;
    const char *const people[] = { "new", "c1", "c1", "new", "c1", "new", "c4" };
    const uint32_t rows[] = { 7, old, 399, 8, 399, 7, 0 };
    const int64_t times[] = { 5000, 6000, 6001, 6002, 5, 6004, 6005 };
    enum { COUNT = sizeof rows / sizeof *rows };
    for (size_t e = 0; e < COUNT; e++)
        rate_live(people[e], rows[e], times[e]);
    check(RIG_USERS + 1, COUNT, people, rows);
    /* the latest in time is the last of the sequence, and nothing is lost */
    struct histories h;
    struct fit_events events;
    assert_int_equal(fit_events_read(rig_catalog, &events, NULL), AKIN_OK);
    assert_int_equal(fit_histories(rig_catalog, &events, &h, NULL), AKIN_OK);
    assert_int_equal(h.sequence[h.event_count - 1], 0);
    assert_int_equal(h.sequence[h.event_count - 2], 7);
    histories_deinit(&h);
    fit_events_deinit(&events);
}

static void damaged(void **state)
{
    (void)state;
    struct akin_error error;
    struct fit_events events;
    assert_int_equal(file_write(db, "no database at all, but long enough to look", 43, NULL),
                     AKIN_OK);
    assert_int_equal(fit_events_read(rig_catalog, &events, &error), AKIN_FORMAT);
    assert_non_null(strstr(error.message, "akin.db"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(live_ratings),
        cmocka_unit_test(damaged),
    };
    return cmocka_run_group_tests(tests, rig_set_up, rig_tear_down);
}
