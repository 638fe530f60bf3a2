/* A situation in requests, with a reranker that was trained on some: it is kept on disk beside the
 * taste and minded, what it does not know changes nothing, a damaged file is left aside, and a
 * training that was interrupted leaves what was there. */
#include "recommend/fit_events.h"
#include "recommend/speaker.h"
#include "recommend/split_text.h"
#include "recommend/taste_store.h"
#include "parts_rig.h"

enum { K = 10, MODEL = 600 };

static struct taste *taste;
static struct speaker *speaker;

/* `progress` may stop it. */
static enum akin_status learn(struct akin_progress progress, struct taste **made)
{
    struct taste_settings settings;
    struct histories histories;
    struct fit_events events;
    struct split_text text;
    taste_settings_default(&settings);
    settings.parts |= TASTE_BIT(TASTE_ATTENTION);
    settings.items_max = MODEL;
    settings.sequence.dim = 8;
    settings.reranker.fixed = 5;
    settings.cpu_flags = cpu_detect();
    settings.progress = progress;
    must(split_text_create(rig_backend, rig_catalog, NULL, &text, NULL), NULL);
    settings.texts = text.rows;
    settings.text_dim = text.dim;
    settings.situations = &text.situations;
    must(fit_events_read(rig_catalog, &events, NULL), NULL);
    must(fit_histories(rig_catalog, &events, &histories, NULL), NULL);
    enum akin_status status = taste_learn(cpu_kernels(rig_backend), rig_pool, &histories,
                                          &settings, made, NULL);
    fit_events_deinit(&events);
    histories_deinit(&histories);
    split_text_deinit(&text);
    return status;
}

static void use(const struct taste *of)
{
    speaker_destroy(&speaker);
    must(speaker_create(of, cpu_kernels(rig_backend), &speaker, NULL), NULL);
    recommender_use_inputs(rig, &(struct recommend_inputs){ .fitted = true, .speaker = speaker });
}

static int set_up(void **state)
{
    struct taste *made;
    if (rig_set_up(state))
        return -1;
    must(learn((struct akin_progress){ 0 }, &made), NULL);
    must(taste_cut(made, 50, NULL), NULL);
    must(taste_write(made, rig_folder, rig_catalog, NULL), NULL);
    taste_destroy(&made);
    must(taste_open(cpu_kernels(rig_backend), rig_folder, rig_catalog, &taste, NULL), NULL);
    use(taste);
    return 0;
}

static int tear_down(void **state)
{
    speaker_destroy(&speaker);
    taste_destroy(&taste);
    return rig_tear_down(state);
}

static size_t ask(const char *user, const char *context, struct akin_recommendation *results)
{
    struct akin_request request = rig_request(K);
    request.user = user;
    request.context = context;
    return rig_ask(&request, results);
}

static size_t westerns(const struct akin_recommendation *results, size_t count)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        struct akin_item item;
        catalog_item(rig_catalog, results[i].row, &item);
        found += item.genre_count && !strcmp(item.genres[0], "Western");
    }
    return found;
}

static bool same(const struct akin_recommendation *a, const struct akin_recommendation *b)
{
    for (size_t i = 0; i < K; i++)
        if (a[i].row != b[i].row || a[i].score != b[i].score)
            return false;
    return true;
}

static void minded(void **state)
{
    struct akin_recommendation plain[K], told[K], again[K];
    size_t more = 0, fewer = 0;
    (void)state;
    assert_int_equal(taste->reranker.layout.wanted, SITUATION_TIMES + 4);
    assert_true(taste->weights[0].part[TASTE_ATTENTION] == 0);  /* it is there for situations */
    for (size_t p = 0; p < PEOPLE; p++) {
        char user[16];
        snprintf(user, sizeof user, "p%zu", p);
        size_t before = westerns(plain, ask(user, NULL, plain));
        size_t after = westerns(told, ask(user, "{\"genre_prefs\": {\"western\": 1}}", told));
        more += after > before;
        fewer += after < before;
        double lifts[2] = { 0 };
        size_t counts[2] = { 0 };
        for (size_t i = 0; i < K; i++) {
            size_t western = westerns(told + i, 1);
            lifts[western] += (double)told[i].parts.context;
            counts[western]++;
        }
        if (counts[0] && counts[1])
            assert_true(lifts[1] / (double)counts[1] > lifts[0] / (double)counts[0] + 0.1);
        ask(user, "{\"social_signal\": [0, 1], \"time_of_day\": [1, 0, 0]}", again);
        assert_true(same(plain, again));
        ask(user, "{\"genre_prefs\": {\"western\": 1}}", again);
        assert_true(same(told, again));
    }
    if (!(more > PEOPLE / 2 && fewer == 0))
        fail_msg("more of the genre for %zu people, fewer for %zu", more, fewer);
}

/* Among the rows asked, the lifts of a softmax: the mean of exp over p(item | past) is 1. */
static void lifts_of_some(void **state)
{
    enum { SOME = 7 };
    const uint32_t past[] = { 3, 40, 41 }, rows[SOME] = { 0, BLANK + 7, ITEMS - 1, 1, 2, 50, 51 };
    struct speech speech = { .speaker = NULL };
    struct context context;
    float wanted[SITUATION_TERMS_MAX], lifts[SOME], reversed[SOME];
    uint32_t backwards[SOME];
    (void)state;
    must(context_parse("{\"genre_prefs\": [0, 1, 0]}", &context, NULL), NULL);
    assert_true(speaker_minds(speaker, &context, wanted));
    must(speaker_say(speaker, past, 3, false, &speech, NULL), NULL);
    must(speech_situate(&speech, wanted, rows, SOME, lifts, NULL), NULL);
    for (size_t i = 0; i < SOME; i++)
        backwards[i] = rows[SOME - 1 - i];
    uint64_t before = memory_allocations();
    must(speech_situate(&speech, wanted, backwards, SOME, reversed, NULL), NULL);
    assert_int_equal(memory_allocations(), before);
    for (size_t i = 0; i < SOME; i++) {
        assert_true(!(fabsf(lifts[i] - reversed[SOME - 1 - i]) >= 1e-4f));
        assert_int_equal(isnan(lifts[i]) != 0, taste->places[rows[i]] == UINT32_MAX);
    }
    must(speaker_say(speaker, NULL, 0, false, &speech, NULL), NULL);    /* somebody new */
    must(speech_situate(&speech, wanted, rows, SOME, lifts, NULL), NULL);
    for (size_t i = 0; i < SOME; i++)
        assert_int_equal(isfinite(lifts[i]) != 0, taste->places[rows[i]] != UINT32_MAX);
    must(speech_situate(&speech, wanted, rows, 0, lifts, NULL), NULL);
    speech_deinit(&speech);
}

static void unknown_genres(void **state)
{
    struct akin_recommendation results[K];
    struct akin_request request = rig_request(K);
    struct akin_error error = { 0 };
    size_t found = 99;
    (void)state;
    request.user = "p1";
    request.context = "{\"genre_prefs\": {\"Drama\": 1, \"Sci-Fy\": 0.5}}";
    assert_int_equal(recommend(rig, &request, NULL, results, NULL, &found, NULL, &error),
                     AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "Sci-Fy"));
    assert_non_null(strstr(error.message, "Drama, Comedy, Action, Western"));
    assert_int_equal(found, 99);
    assert_int_equal(ask("p1", "{\"genre_prefs\": {\"Sci-Fy\": 0}}", results), K);  /* nothing */
    assert_int_equal(ask("p1", "{\"genre_prefs\": {}}", results), K);
    assert_int_equal(ask("nobody", "{\"genre_prefs\": {\"western\": 1}}", results), K);
    assert_true(westerns(results, K) > 0);
}

static void a_damaged_file(void **state)
{
    char path[PATH_BYTES_MAX];
    struct akin_recommendation results[K];
    struct bytes whole = { 0 };
    struct taste *read;
    const float nan = NAN;
    (void)state;
    must(path_join(path, sizeof path, rig_folder, "taste/reranker.safetensors", NULL), NULL);
    must(file_read(path, 1 << 26, &whole, NULL), NULL);
    memcpy(whole.data + whole.count - sizeof nan, &nan, sizeof nan);
    must(file_write(path, whole.data, whole.count, NULL), NULL);
    must(taste_open(cpu_kernels(rig_backend), rig_folder, rig_catalog, &read, NULL), NULL);
    assert_null(read->reranker.values);
    assert_non_null(strstr(read->left_aside.message, "is not finite"));
    use(read);
    assert_int_equal(ask("p1", "{\"genre_prefs\": {\"western\": 1}}", results), K); /* by hand */
    assert_true(results[0].parts.context > 0);
    use(taste);
    taste_destroy(&read);
    bytes_deinit(&whole);
}

static bool stop_late(void *cookie, const char *stage, uint64_t done, uint64_t total)
{
    (void)cookie;
    (void)total;
    return strcmp(stage, "training the reranker") != 0 || done < 3;
}

static void interrupted(void **state)
{
    struct taste *made = NULL, *read;
    (void)state;
    must(taste_write(taste, rig_folder, rig_catalog, NULL), NULL);
    assert_int_equal(learn((struct akin_progress){ .update = stop_late }, &made), AKIN_CANCELLED);
    assert_null(made);
    must(taste_open(cpu_kernels(rig_backend), rig_folder, rig_catalog, &read, NULL), NULL);
    assert_non_null(read->reranker.values);
    assert_memory_equal(reranker_at(&read->reranker, RERANKER_MATCH),
                        reranker_at(&taste->reranker, RERANKER_MATCH),
                        taste->size * taste->reranker.layout.wanted * sizeof(float));
    taste_destroy(&read);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(minded),         cmocka_unit_test(lifts_of_some),
        cmocka_unit_test(unknown_genres), cmocka_unit_test(a_damaged_file),
        cmocka_unit_test(interrupted),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
