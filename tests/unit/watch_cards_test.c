/* A watch whose model is on cards that are made up: many kinds go to them together, and where they
 * fail another model goes on; nothing is lost or doubled. */
#include "cards_rig.h"

#include "base/cpu.h"
#include "base/log.h"
#include "live_watch_rig.h"
#include "model/model.h"

enum { EVENTS = 3000, THREADS = 4 };

struct setup {
    struct live_rig rig;
    struct thread_pool *pool;
    struct backend *backend;
    struct encoder_cards cards;
    struct model *model, *spare;
    int asked;                  /* how often for another model */
    enum akin_status why;
};

static struct setup setup;

static int set_up(void **state)
{
    struct setup *s = &setup;
    struct akin_error error = {0};
    (void)state;
    *s = (struct setup){.cards = {.ops = &fake_cards, .ordinals = {0, 1}, .count = 1}};
    memset((void *)runs, 0, sizeof runs);
    memset((void *)encoded, 0, sizeof encoded);
    memset(fails_at, 0, sizeof fails_at);
    if (!rig_set_up(&s->rig))
        return -1;
    s->pool = thread_pool_create(THREADS);
    if (!s->pool || cpu_backend_create(cpu_detect(), s->pool, &s->backend, &error) != AKIN_OK)
        return -1;
    return 0;
}

static int tear_down(void **state)
{
    struct setup *s = &setup;
    (void)state;
    rig_tear_down(&s->rig);
    model_close(&s->model);
    model_close(&s->spare);
    cpu_backend_destroy(&s->backend);
    thread_pool_destroy(&s->pool);
    assert_int_equal(after_failure, 0);
    return 0;
}

static struct model *open_on_cpu(void)
{
    struct akin_error error = {0};
    struct model *model = NULL;
    if (model_open(setup.backend, setup.pool, TINY, AKIN_PRECISION_FP32, NULL, &model, &error))
        fail_msg("%s", error.message);
    return model;
}

static struct model *instead(void *cookie, enum akin_status status, const struct akin_error *why)
{
    struct setup *s = cookie;
    assert_non_null(strstr(why->message, "fell out"));
    s->asked++;
    s->why = status;
    if (!s->spare)
        s->spare = open_on_cpu();
    return s->spare;
}

static void open_cards(size_t count, bool with_spare)
{
    struct setup *s = &setup;
    struct akin_error error = {0};
    s->cards.count = count;
    if (model_open_on_cards(&s->cards, s->pool, TINY, AKIN_PRECISION_FP16, NULL, &s->model,
                            &error))
        fail_msg("%s", error.message);
    s->rig.tools = (struct scorer_tools){ .kernels = cpu_kernels(s->backend), .pool = s->pool,
                                          .model = s->model, .cookie = s,
                                          .instead = with_spare ? instead : NULL };
}

static bool count_stored(void *cookie, const struct stored_event *event)
{
    uint64_t *next = cookie;
    assert_int_equal(strtoull(strrchr(event->text, ' '), NULL, 10), *next);
    ++*next;
    return true;
}

/* All of them, once each and in order. */
static void assert_stored(uint64_t wanted)
{
    uint64_t next = 0;
    assert_int_equal(event_store_read(setup.rig.keeper.store, 0, false, NULL, count_stored, &next,
                                      NULL), AKIN_OK);
    assert_int_equal(next, wanted);
}

static struct made_source distinct_events(uint64_t from)
{
    struct made_source made = made_source("a", true, EVENTS);
    made.distinct = true;
    made.next = from;
    return made;
}

static enum akin_status watch(struct made_source *made, struct akin_error *error)
{
    struct made_source *const sources[] = {made};
    setup.rig.live.queue_events = 1024;
    setup.rig.live.deadline_ms = 20;
    return rig_run(&setup.rig, sources, 1, error);
}

static void kinds_go_to_the_card_together(void **state)
{
    (void)state;
    open_cards(1, true);
    rig_open(&setup.rig, false);
    struct made_source made = distinct_events(0);
    assert_int_equal(watch(&made, NULL), AKIN_OK);
    assert_stored(EVENTS);
    assert_int_equal(setup.rig.report.counts.embedded, EVENTS);
    assert_int_equal(encoded[0], EVENTS);
    /* a text has at least five tokens, a batch BATCH_TOKENS: it is not one text at a time */
    assert_true(runs[0] * 2 < EVENTS);
    assert_int_equal(setup.asked, 0);
    rig_close(&setup.rig);
}

/* Two cards share the work; one of them goes, then the other one. */
static void the_last_card_fails(void **state)
{
    static const int when[][2] = {{1, 1}, {7, 40}, {150, 3}};
    (void)state;
    for (size_t i = 0; i < sizeof when / sizeof when[0]; i++) {
        struct setup *s = &setup;
        memset((void *)runs, 0, sizeof runs);
        memcpy(fails_at, when[i], sizeof when[i]);
        s->asked = 0;
        open_cards(2, true);
        rig_open(&s->rig, false);
        struct made_source made = distinct_events(0);
        made.store = s->rig.keeper.store;
        assert_int_equal(watch(&made, NULL), AKIN_OK);
        assert_stored(EVENTS);
        assert_int_equal(made.acknowledged, EVENTS);
        assert_false(made.too_early);
        assert_int_equal(s->rig.report.counts.embedded, EVENTS);
        assert_int_equal(s->asked, 1);      /* and never again */
        assert_int_equal(s->why, AKIN_IO);
        rig_close(&s->rig);
        assert_int_equal(path_remove_tree(s->rig.store_path, NULL), AKIN_OK);
        model_close(&s->model);
    }
}

/* Where a card was asked for there is no other model: what was not judged is with the source
 * still, and the next watch takes it from there. */
static void without_another_model_the_watch_ends(void **state)
{
    struct setup *s = &setup;
    struct akin_error error = {0};
    char cursor[64];
    (void)state;
    fails_at[0] = 100;
    open_cards(1, false);
    rig_open(&s->rig, false);
    struct made_source made = distinct_events(0);
    made.store = s->rig.keeper.store;
    assert_int_equal(watch(&made, &error), AKIN_IO);
    assert_string_equal(error.message, "card 0 fell out");
    assert_true(made.acknowledged < EVENTS);
    assert_false(made.too_early);
    assert_stored(made.acknowledged);
    rig_close(&s->rig);
    s->rig.tools.model = s->spare = open_on_cpu();
    rig_open(&s->rig, false);
    assert_int_equal(event_store_cursor(s->rig.keeper.store, "a", cursor, sizeof cursor, NULL),
                     AKIN_OK);
    struct made_source rest = distinct_events(strtoull(cursor, NULL, 10));
    assert_int_equal(watch(&rest, NULL), AKIN_OK);
    assert_stored(EVENTS);
    rig_close(&s->rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(kinds_go_to_the_card_together, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_last_card_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_another_model_the_watch_ends, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
