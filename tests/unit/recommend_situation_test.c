/* Situations: what is told of events that happened, by hand; the choice itself is never among the
 * others; training is told what requests can tell; names find their terms, whatever their case. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "recommend/context.h"
#include "recommend/situation.h"

enum { ITEMS = 6, TERMS = 6, DRAMA = 4, COMEDY = 5, WAR = 6, EVENTS = 8, HOUR = 3600, TRIES = 400 };

static struct situation_term names[TERMS + 1] = {
    { "" }, { "time_of_day.morning" }, { "time_of_day.afternoon" }, { "time_of_day.evening" },
    { "genre.Drama" }, { "genre.Comedy" }, { "genre.War" }
};
/* drama; comedy; war; drama and war; nothing; comedy and war */
static size_t offsets[ITEMS + 1] = { 0, 1, 2, 3, 5, 5, 7 };
static uint16_t of[] = { DRAMA, COMEDY, WAR, DRAMA, WAR, COMEDY, WAR };
static const struct situations situations = { TERMS, ITEMS, names, offsets, of };

/* Two sittings: three choices, a night, five choices. */
static const uint32_t items[EVENTS] = { 0, 1, 2, 1, 0, 2, 4, 1 };
static const int64_t times[EVENTS] = { 8 * HOUR, 8 * HOUR + 60, 9 * HOUR, 37 * HOUR,
                                       37 * HOUR, 37 * HOUR + 10, 37 * HOUR + 20, 38 * HOUR };

static void tell(enum situation_kind kind, size_t at, uint64_t seed, float wanted[TERMS])
{
    struct situation_events events = { items, times, EVENTS, at, times[at] };
    struct rng rng;
    rng_seed(&rng, seed);
    situation_of(&situations, kind, &events, &rng, wanted);
}

static float sum_of(const float wanted[TERMS])
{
    float sum = 0;
    for (size_t t = 0; t < TERMS; t++)
        sum += wanted[t];
    return sum;
}

static void hours(void **state)
{
    static const struct { int64_t when; size_t time; } cases[] = {
        { 5 * HOUR, 0 }, { 12 * HOUR - 1, 0 }, { 12 * HOUR, 1 }, { 18 * HOUR - 1, 1 },
        { 18 * HOUR, 2 }, { 5 * HOUR - 1, 2 }, { 0, 2 }, { -1, 2 }, { -12 * HOUR, 1 },
        { INT64_MIN, 2 }, { INT64_MAX, 1 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct situation_events events = { items, times, EVENTS, 1, cases[i].when };
        float wanted[TERMS];
        situation_of(&situations, SITUATION_HOUR, &events, NULL, wanted);
        if (i < sizeof cases / sizeof *cases - 2)   /* of the two last only that there is one */
            assert_true(wanted[cases[i].time] == 1);
        assert_true(sum_of(wanted) == 1);
    }
}

static void the_sitting_under_way(void **state)
{
    float wanted[TERMS];
    (void)state;
    tell(SITUATION_UNDER_WAY, 0, 1, wanted);        /* nothing before */
    assert_true(sum_of(wanted) == 0);
    tell(SITUATION_UNDER_WAY, 3, 1, wanted);        /* the first after a night */
    assert_true(sum_of(wanted) == 0);
    tell(SITUATION_UNDER_WAY, 2, 1, wanted);
    assert_true(wanted[DRAMA - 1] == 0.5f && wanted[COMEDY - 1] == 0.5f && sum_of(wanted) == 1);
    tell(SITUATION_UNDER_WAY, 7, 1, wanted);        /* four before, one of them of no genre */
    assert_true(sum_of(wanted) > 0.999f && sum_of(wanted) < 1.001f);
    assert_true(wanted[COMEDY - 1] == wanted[DRAMA - 1] && wanted[WAR - 1] == wanted[DRAMA - 1]);
}

static void others_and_what_is_told(void **state)
{
    size_t own = 0, own_of_others = 0, ends = 0;
    (void)state;
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        float wanted[TERMS];
        tell(SITUATION_TOLD_EXACTLY, 4, seed, wanted);
        assert_true(wanted[DRAMA - 1] == 1 && sum_of(wanted) == 1);
        tell(SITUATION_TOLD, 4, seed, wanted);      /* drama, war, nothing */
        own += wanted[DRAMA - 1] == 1;
        assert_true(wanted[COMEDY - 1] == 0);
        tell(SITUATION_OTHERS, 4, seed, wanted);    /* war, nothing, comedy */
        own_of_others += wanted[DRAMA - 1] != 0;
        tell(SITUATION_OTHERS, 2, seed, wanted);    /* the last of its sitting */
        ends += sum_of(wanted) != 0;
        tell(SITUATION_OTHERS, 7, seed, wanted);    /* the last of all */
        ends += sum_of(wanted) != 0;
        tell(SITUATION_NONE, 4, seed, wanted);
        ends += sum_of(wanted) != 0;
    }
    assert_true(own > TRIES / 4 && own < TRIES / 2);        /* a third */
    assert_int_equal(own_of_others, 0);
    assert_int_equal(ends, 0);
}

static void what_training_is_told(void **state)
{
    struct situation_events events = { items, times, EVENTS, 4, times[4] };
    struct rng rng;
    size_t nothing = 0, alone = 0, both = 0;
    float wanted[TERMS];
    (void)state;
    rng_seed(&rng, 3);
    for (size_t i = 0; i < TRIES; i++) {
        situation_draw(&situations, 0, &events, &rng, wanted);
        assert_true(sum_of(wanted) == 0);
        situation_draw(&situations, 1, &events, &rng, wanted);
        float hour = wanted[0] + wanted[1] + wanted[2], genres = sum_of(wanted) - hour;
        assert_true((hour == 0 || hour == 1) && genres <= 1.001f);
        nothing += sum_of(wanted) == 0;
        alone += (hour == 1) != (genres > 0);
        both += hour == 1 && genres > 0;
    }
    assert_true(nothing < TRIES / 4 && alone > TRIES / 4 && both > TRIES / 8);
}

static void requests_by_name(void **state)
{
    struct context context;
    float wanted[TERMS];
    (void)state;
    assert_int_equal(context_parse("{\"genre_prefs\": {\"wAr\": 0.5, \"Western\": 0.4}}", &context,
                                   NULL), AKIN_OK);
    assert_true(situation_asked(names, TERMS, &context, wanted));
    assert_true(wanted[WAR - 1] == 0.5f && sum_of(wanted) == 0.5f);
    assert_int_equal(context_parse("{\"genre_prefs\": [0.5, 1, 1]}", &context, NULL), AKIN_OK);
    assert_true(situation_asked(names, TERMS, &context, wanted));   /* Action has no term */
    assert_true(wanted[DRAMA - 1] == 0.4f && wanted[COMEDY - 1] == 0.4f);
    assert_int_equal(context_parse("{\"genre_prefs\": {\"Western\": 1}, \"time_of_day\": [1, 0, 0],"
                                   " \"social_signal\": [0, 1]}", &context, NULL), AKIN_OK);
    assert_false(situation_asked(names, TERMS, &context, wanted));
    assert_true(sum_of(wanted) == 0);
    struct situation_term social[2] = { { "" }, { "social_signal.together" } };
    assert_true(situation_asked(social, 1, &context, wanted));      /* where there are weights */
    assert_true(wanted[0] == 1);
}

static void picked(void **state)
{
    const uint32_t some[] = { 5, 4, 3 };
    struct situations own;
    (void)state;
    assert_int_equal(situations_pick(&situations, some, 3, &own, NULL), AKIN_OK);
    assert_int_equal(own.terms, TERMS);
    assert_string_equal(own.names[WAR].text, "genre.War");
    const float wanted[TERMS] = { 0, 0, 0, 0, 1, 0.5f };
    assert_true(situation_match(&own, wanted, 0) == 0.75f);
    assert_true(situation_match(&own, wanted, 1) == 0);
    assert_true(situation_match(&own, wanted, 2) == 0.25f);
    situations_deinit(&own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hours),
        cmocka_unit_test(the_sitting_under_way),
        cmocka_unit_test(others_and_what_is_told),
        cmocka_unit_test(what_training_is_told),
        cmocka_unit_test(requests_by_name),
        cmocka_unit_test(picked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
