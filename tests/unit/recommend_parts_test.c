/* Scores of parts: each finds what the others do not; people, histories, exclusions, situations,
 * diversity, reasons; and the places where something may join. */
#include "base/limits.h"
#include "parts_rig.h"

enum { K = 10 };

/* ---- similar items ---------------------------------------------------------------------- */

static double recall_of(enum series_kind kind, enum akin_ranking ranking)
{
    struct akin_recommendation results[K];
    double sum = 0;
    size_t films = 0;
    char id[16];
    for (size_t row = 0; row < SERIES * EPISODES; row++) {
        if (kind_of(row) != kind)
            continue;
        struct akin_request request = rig_request(K);
        snprintf(id, sizeof id, "f%zu", row);
        request.similar = id;
        request.ranking = ranking;
        size_t found = rig_ask(&request, results), hits = 0;
        for (size_t i = 0; i < found; i++)
            hits += results[i].row / EPISODES == row / EPISODES;
        sum += (double)hits / (EPISODES - 1);
        films++;
    }
    return sum / (double)films;
}

/* Years are stronger than series in these vectors, so that alone they find strangers. */
static void each_part_finds_its_series(void **state)
{
    static const double vectors_at_most[] = { 0.75, 0.2, 0.2 };
    static const double parts_at_least[] = { 0.9, 0.8, 0.9 };
    (void)state;
    for (int kind = BY_TEXT; kind <= BY_TASTE; kind++) {
        double parts = recall_of((enum series_kind)kind, AKIN_RANK_PARTS);
        double vectors = recall_of((enum series_kind)kind, AKIN_RANK_VECTORS);
        if (!(parts >= parts_at_least[kind] && vectors <= vectors_at_most[kind]))
            fail_msg("kind %d: recall by parts %.3f, by vectors %.3f", kind, parts, vectors);
    }
}

static void automatic(void **state)
{
    struct akin_recommendation by_vectors[K], automatic[K], by_parts[K];
    struct recommend_inputs inputs = { .fitted = true }, none = { 0 };
    struct akin_request request = rig_request(K);
    (void)state;
    request.similar = "f3";
    assert_int_equal(rig_ask(&request, by_parts), K);
    request.ranking = AKIN_RANK_VECTORS;
    assert_int_equal(rig_ask(&request, by_vectors), K);
    request.ranking = AKIN_RANK_AUTO;
    rig_ask(&request, automatic);
    assert_true(rig_same(automatic, by_vectors, K));
    recommender_use_inputs(rig, &inputs);
    rig_ask(&request, automatic);
    assert_true(rig_same(automatic, by_parts, K));
    recommender_use_inputs(rig, &none);
    assert_false(rig_same(by_vectors, by_parts, K));
}

/* Rows that were learned take the place of those that are counted. */
static void learned_rows(void **state)
{
    static uint64_t starts[ITEMS + 1];
    static const struct item_weight entries[] = { { 500, 3 }, { 501, 2 }, { ITEMS + 9, 8 },
                                                  { 502, -1 } };
    struct akin_recommendation results[K];
    struct akin_request request = rig_request(K);
    (void)state;
    for (size_t row = 8; row <= ITEMS; row++)
        starts[row] = 4;        /* row 7 has all of them */
    struct recommend_inputs inputs = { .similar = { ITEMS, starts, entries } }, none = { 0 };
    recommender_use_inputs(rig, &inputs);
    request.similar = "f7";
    size_t found = rig_ask(&request, results);
    assert_true(rig_among(results, found, 500) && rig_among(results, found, 501));
    recommender_use_inputs(rig, &none);
}

/* A request that leaves the weight of its words open takes what was learned, or the default. */
static void open_query_weight(void **state)
{
    struct akin_recommendation open[K], said[K];
    struct recommend_inputs inputs = { .fitted = true, .query_weight = 0.25f }, none = { 0 };
    struct akin_request request = rig_request(K);
    struct akin_error error = { 0 };
    const float *query = rig_vectors + 4 * DIM;
    size_t found;
    (void)state;
    request.query = "words";
    request.user = "p2";
    for (int fitted = 0; fitted < 2; fitted++) {
        recommender_use_inputs(rig, fitted ? &inputs : &none);
        request.query_weight = -1;
        must(recommend(rig, &request, query, open, NULL, &found, NULL, &error), &error);
        request.query_weight = fitted ? 0.25f : BLEND_QUERY;
        must(recommend(rig, &request, query, said, NULL, &found, NULL, &error), &error);
        assert_true(rig_same(open, said, found));
    }
    recommender_use_inputs(rig, &none);
}

/* ---- people ----------------------------------------------------------------------------- */

static void new_users_get_what_is_popular(void **state)
{
    struct akin_recommendation results[K];
    struct akin_request request = rig_request(4);
    (void)state;
    request.user = "somebody";
    assert_int_equal(rig_ask(&request, results), 4);
    for (size_t i = 0; i < 4; i++)
        assert_true(results[i].row >= BLANK + EPISODES && results[i].row < BLANK + EPISODES + 4);
    assert_true(results[0].parts.text == 0 && results[0].parts.popularity > 0);
}

static void what_was_rated_is_left_out(void **state)
{
    static struct akin_recommendation results[ITEMS];
    struct akin_request request = rig_request(ITEMS);
    (void)state;
    request.user = "p5";
    size_t found = rig_ask(&request, results);
    assert_true(found >= ITEMS - RATED && found < ITEMS);
    for (size_t i = 0; i < RATED; i++)
        assert_false(rig_among(results, found, rig_rated(5, i)));
    for (size_t i = 1; i < found; i++)
        assert_true(results[i].score <= results[i - 1].score);
    request.include_seen = true;
    assert_int_equal(rig_ask(&request, results), ITEMS);
}

/* A history counts like ratings just made, and leaves nothing behind. */
static void histories(void **state)
{
    static const char *const series[] = { "f12", "f13", "f14" };
    static const char *const mixed[] = { "f12", "f13", "f30", "f31" };
    struct akin_recommendation before[K], results[K], after[K];
    struct akin_request request = rig_request(K);
    size_t found, mine = 0, counts[2] = { 0 };
    (void)state;
    request.user = "p1";
    rig_ask(&request, before);
    request.user = NULL;
    request.history = series;
    request.history_count = 3;
    found = rig_ask(&request, results);
    for (size_t i = 0; i < found; i++) {
        assert_true(results[i].row < 12 || results[i].row > 14);
        mine += results[i].row / EPISODES == 2;
    }
    assert_int_equal(mine, 3);
    request.include_seen = true;
    found = rig_ask(&request, results);
    assert_true(rig_among(results, found, 12) && rig_among(results, found, 14));
    request.include_seen = false;
    request.history = mixed;
    request.history_count = 4;
    found = rig_ask(&request, results);
    for (size_t i = 0; i < found && i < 4; i++) {   /* the newest count most */
        counts[0] += results[i].row / EPISODES == 2;
        counts[1] += results[i].row / EPISODES == 5;
    }
    assert_true(counts[1] >= counts[0] && counts[1] > 0);
    request.user = "p1";
    rig_ask(&request, results);
    assert_false(rig_same(results, before, K));
    request.history_count = 0;
    rig_ask(&request, after);
    assert_true(rig_same(before, after, K));
}

static void exclusions(void **state)
{
    struct akin_recommendation results[K];
    struct akin_request request = rig_request(K);
    const char *names[3] = { "f1", "word2 of the word62", "f1" };
    (void)state;
    request.similar = "f0";
    size_t found = rig_ask(&request, results);
    assert_true(rig_among(results, found, 1) && rig_among(results, found, 2));
    request.exclude = names;
    request.exclude_count = 3;
    found = rig_ask(&request, results);
    assert_int_equal(found, K);
    assert_false(rig_among(results, found, 1) || rig_among(results, found, 2) ||
                 rig_among(results, found, 0));
}

/* The ends of the fusion are the parts alone. */
static void query_weights(void **state)
{
    struct akin_recommendation words[K], both[K], person[K];
    struct akin_request request = rig_request(K);
    struct akin_error error = { 0 };
    size_t found;
    const float *query = rig_vectors + 4 * DIM;
    (void)state;
    request.query = "words";
    request.popularity = 0;
    must(recommend(rig, &request, query, words, NULL, &found, NULL, &error), &error);
    assert_int_equal(words[0].row, 4);
    request.user = "p2";
    request.query_weight = 1;
    must(recommend(rig, &request, query, both, NULL, &found, NULL, &error), &error);
    for (size_t i = 0; i < K; i++)
        assert_float_equal(both[i].parts.text, both[i].score, 1e-6);
    assert_int_equal(both[0].row, 4);
    request.query_weight = 0;
    request.popularity = -1;
    must(recommend(rig, &request, query, both, NULL, &found, NULL, &error), &error);
    request.query = NULL;
    rig_ask(&request, person);
    for (size_t i = 0; i < K; i++) {
        assert_int_equal(both[i].row, person[i].row);
        assert_float_equal(both[i].score, person[i].score, 1e-5);
    }
    request.popularity = 50;
    rig_ask(&request, person);
    assert_true(person[0].parts.popularity > 25);
}

/* ---- situations ------------------------------------------------------------------------- */

static size_t count_genre(const struct akin_recommendation *results, size_t found,
                          const char *genre)
{
    size_t count = 0;
    for (size_t i = 0; i < found; i++) {
        struct akin_item item;
        catalog_item(rig_catalog, results[i].row, &item);
        count += !strcmp(item.genres[0], genre);
    }
    return count;
}

static void context_changes_the_answer(void **state)
{
    struct akin_recommendation results[K];
    struct akin_request request = rig_request(K);
    size_t unrated = 500;
    char id[16];
    (void)state;
    while (catalog_item_ratings(rig_catalog, unrated))
        unrated++;
    snprintf(id, sizeof id, "f%zu", unrated);
    request.similar = id;
    size_t before = count_genre(results, rig_ask(&request, results), "Western");
    request.context = "{\"genre_prefs\": {\"western\": 1}, \"time_of_day\": [0, 0.5, 1],"
                      " \"social_signal\": [1, 0]}";
    size_t after = count_genre(results, rig_ask(&request, results), "Western");
    if (!(after > before && after >= 7))
        fail_msg("%zu of the genre, %zu before", after, before);
    assert_true(results[0].parts.context > 0);
    request.context = "{\"genre_prefs\": [0, 0, 1]}";
    assert_true(count_genre(results, rig_ask(&request, results), "Comedy") >= 7);
    request.context = "{}";
    assert_int_equal(count_genre(results, rig_ask(&request, results), "Western"), before);
}

static void malformed_contexts(void **state)
{
    static const char *const bad[][2] = {
        { "", "context" },
        { "{", "context:" },
        { "[1]", "context: expected an object" },
        { "{\"weather\": 1}", "context: weather: there is no such field" },
        { "{\"time_of_day\": [1, 2]}", "time_of_day: expected 3 numbers, found 2" },
        { "{\"time_of_day\": 1}", "time_of_day: expected 3 numbers" },
        { "{\"time_of_day\": [0, 0, 1.5]}", "time_of_day[2]: expected a number from 0 to 1" },
        { "{\"social_signal\": [\"a\", 0]}", "social_signal[0]: expected a number" },
        { "{\"genre_prefs\": \"Drama\"}", "genre_prefs: expected an object" },
        { "{\"genre_prefs\": {\"Drama\": -1}}", "genre_prefs: Drama: expected a number" },
        { "{\"genre_prefs\": {\"\": 1}}", "genre_prefs: at most" },
        { "{\"genre_prefs\": [1, 1]}", "genre_prefs: expected 3 numbers, found 2" },
    };
    struct akin_request request = rig_request(K);
    struct akin_recommendation results[K];
    (void)state;
    request.similar = "f1";
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct akin_error error = { 0 };
        size_t found = 99;
        request.context = bad[i][0];
        assert_int_equal(recommend(rig, &request, NULL, results, NULL, &found, NULL, &error),
                         AKIN_ARGUMENT);
        if (!strstr(error.message, bad[i][1]))
            fail_msg("%s: %s", bad[i][0], error.message);
        assert_int_equal(found, 99);
    }
}

/* ---- lists ------------------------------------------------------------------------------ */

static void diverse_lists(void **state)
{
    struct akin_recommendation results[K], plain[K];
    struct akin_list_report near, far;
    struct akin_request request = rig_request(K);
    (void)state;
    request.similar = "f0";
    rig_ask(&request, plain);
    must(recommend_report(rig, plain, K, &near, NULL), NULL);
    request.diversity = 0.7f;
    assert_int_equal(rig_ask(&request, results), K);
    must(recommend_report(rig, results, K, &far, NULL), NULL);
    assert_true(far.diversity > near.diversity + 0.1);
    assert_int_equal(results[0].row, plain[0].row);
    for (size_t i = 0; i < K; i++)
        for (size_t j = 0; j < i; j++)
            assert_int_not_equal(results[i].row, results[j].row);
    assert_true(near.novelty_bits > 0 && near.popular_share >= 0 && near.popular_share <= 1);
}

static void near_duplicates(void **state)
{
    struct akin_recommendation results[K];
    const char *const history[] = { "f72" };
    struct akin_request request = rig_request(K);
    (void)state;
    assert_int_equal(TWIN, 72);
    request.similar = "f300";
    request.filter = "id IN (f72, f73, f80)";
    assert_int_equal(rig_ask(&request, results), 3);
    request.no_near_duplicates = true;
    size_t found = rig_ask(&request, results);
    assert_int_equal(found, 2);
    assert_true(rig_among(results, found, 80));
    request.similar = NULL;     /* and of what was seen */
    request.history = history;
    request.history_count = 1;
    found = rig_ask(&request, results);
    assert_true(found == 1 && results[0].row == 80);
}

static void blank_items_match_nothing(void **state)
{
    static struct akin_recommendation results[ITEMS];
    size_t found;
    struct akin_error error = { 0 };
    struct akin_request request = rig_request(K);
    (void)state;
    must(recommend_vectors(rig, rig_vectors, 1, ITEMS, NULL, results, &found, &error), &error);
    assert_int_equal(found, ITEMS - 1);
    assert_false(rig_among(results, found, BLANK));
    must(recommend_vectors(rig, rig_vectors + BLANK * DIM, 1, ITEMS, NULL, results, &found,
                           &error), &error);
    assert_int_equal(found, 0);
    request.similar = "f74";    /* itself: by title, taste and what is popular */
    assert_true(BLANK == 74 && rig_ask(&request, results) > 0);
    assert_true(results[0].parts.text == 0);
}

/* ---- reasons ---------------------------------------------------------------------------- */

static void reasons(void **state)
{
    static const char *const history[] = { "f12", "f500", "f13" };
    struct akin_recommendation results[K];
    struct akin_explanation why[K];
    struct akin_request request = rig_request(K);
    struct akin_error error = { 0 };
    size_t found;
    (void)state;
    request.history = history;
    request.history_count = 3;
    must(recommend(rig, &request, NULL, results, why, &found, NULL, &error), &error);
    for (size_t i = 0; i < found; i++) {
        const struct akin_score_parts *p = &results[i].parts;
        float last = 2, sum = 0;
        assert_float_equal(p->text + p->title + p->taste + p->popularity + p->context,
                           results[i].score, 1e-5);
        for (size_t b = 0; b < why[i].because_count; b++) {
            size_t row = why[i].because[b].row;
            assert_true(row == 12 || row == 500 || row == 13);
            assert_true(why[i].because[b].share <= last && why[i].because[b].share > 0);
            last = why[i].because[b].share;
            sum += last;
        }
        assert_true(sum <= 1.0001f);
    }
    assert_int_equal(results[0].row / EPISODES, 2);
    assert_int_equal(why[0].because[0].row / EPISODES, 2);
    assert_true(why[0].theme_count == 1 && !strcmp(why[0].themes[0], "tag2"));
    request = rig_request(K);
    request.similar = "f1";
    request.ranking = AKIN_RANK_VECTORS;
    must(recommend(rig, &request, NULL, results, why, &found, NULL, &error), &error);
    assert_true(why[0].because_count == 1 && why[0].because[0].row == 1);
}

/* ---- what may join ---------------------------------------------------------------------- */

static enum akin_status turn_around(void *context, const struct asked *asked,
                                    struct candidate *candidates, size_t count,
                                    struct akin_error *error)
{
    assert_non_null(asked->request->similar);
    if (*(bool *)context)
        return error_set(error, AKIN_LIMIT, "no rescoring today");
    for (size_t i = 0; i < count; i++)
        candidates[i].score = -candidates[i].score;
    return AKIN_OK;
}

static void rescorers(void **state)
{
    struct akin_recommendation plain[K], turned[K];
    struct akin_request request = rig_request(K);
    struct akin_error error = { 0 };
    bool fails = false;
    struct recommend_rescorer rescorer = { &fails, turn_around }, none = { 0 };
    size_t found = 5;
    (void)state;
    request.similar = "f0";
    rig_ask(&request, plain);
    recommender_use_rescorer(rig, &rescorer);
    rig_ask(&request, turned);
    assert_true(turned[0].row != plain[0].row && turned[0].score > turned[K - 1].score);
    fails = true;
    assert_int_equal(recommend(rig, &request, NULL, turned, NULL, &found, NULL, &error),
                     AKIN_LIMIT);
    assert_string_equal(error.message, "no rescoring today");
    recommender_use_rescorer(rig, &none);
    rig_ask(&request, turned);
    assert_true(rig_same(plain, turned, K));
}

/* ---- mistakes --------------------------------------------------------------------------- */

static void refuse(const struct akin_request *request, enum akin_status expected,
                   const char *words)
{
    struct akin_recommendation results[K];
    struct akin_error error = { 0 };
    size_t found = 77;
    enum akin_status status =
        recommend(rig, request, NULL, results, NULL, &found, NULL, &error);
    if (status != expected || !strstr(error.message, words))
        fail_msg("status %d, \"%s\", expected \"%s\"", status, error.message, words);
    assert_int_equal(found, 77);
}

static void mistakes(void **state)
{
    static const char *const names[] = { "f1", "no such thing" };
    static const float not_shares[] = { -0.1f, 1.1f, NAN };
    struct akin_request request = rig_request(K);
    (void)state;
    refuse(&request, AKIN_ARGUMENT, "nothing to recommend by");
    request.history = names;
    request.history_count = 2;
    refuse(&request, AKIN_NOT_FOUND, "history, item 2: no item is called \"no such thing\"");
    request.history_count = REQUEST_ITEMS_MAX + 1;
    refuse(&request, AKIN_LIMIT, "history: 10001 items");
    request.history_count = 1;
    request.exclude = names;
    request.exclude_count = 2;
    refuse(&request, AKIN_NOT_FOUND, "exclude, item 2");
    request.exclude_count = 0;
    for (int i = 0; i < 3; i++) {
        request.diversity = not_shares[i];
        refuse(&request, AKIN_ARGUMENT, "diversity");
        request.diversity = 0;
        request.recall = not_shares[i];
        refuse(&request, AKIN_ARGUMENT, "recall");
        request.recall = 1;
    }
    request.popularity = NAN;
    refuse(&request, AKIN_ARGUMENT, "popularity");
    request.popularity = 1e9f;
    refuse(&request, AKIN_ARGUMENT, "popularity");
    request.popularity = 0;
    request.filter = "genre==";
    refuse(&request, AKIN_ARGUMENT, "column");
    request.filter = "year<1000";
    struct akin_recommendation results[K];
    assert_int_equal(rig_ask(&request, results), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_part_finds_its_series),
        cmocka_unit_test(automatic),
        cmocka_unit_test(learned_rows),
        cmocka_unit_test(new_users_get_what_is_popular),
        cmocka_unit_test(what_was_rated_is_left_out),
        cmocka_unit_test(histories),
        cmocka_unit_test(exclusions),
        cmocka_unit_test(query_weights),
        cmocka_unit_test(open_query_weight),
        cmocka_unit_test(context_changes_the_answer),
        cmocka_unit_test(malformed_contexts),
        cmocka_unit_test(diverse_lists),
        cmocka_unit_test(near_duplicates),
        cmocka_unit_test(blank_items_match_nothing),
        cmocka_unit_test(reasons),
        cmocka_unit_test(rescorers),
        cmocka_unit_test(mistakes),
    };
    return cmocka_run_group_tests(tests, rig_set_up, rig_tear_down);
}
