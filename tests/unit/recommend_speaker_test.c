/* A learned taste in requests: its best items against all of them sorted, what a request makes of
 * it, that it is opened when it is first needed, and that a warm request allocates nothing. */
#include "recommend/blend.h"
#include "recommend/fit_events.h"
#include "recommend/speaker.h"
#include "recommend/taste_store.h"
#include "parts_rig.h"

enum { K = 10, MODEL = 300, PAST = 40 };

static struct taste *taste;
static struct speaker *speaker;

static int set_up(void **state)
{
    struct taste_settings settings;
    struct histories histories;
    struct fit_events events;
    if (rig_set_up(state))
        return -1;
    taste_settings_default(&settings);
    settings.items_max = MODEL;
    settings.sequence.dim = 8;
    const struct kernels *kernels = cpu_kernels(rig_backend);
    must(fit_events_read(rig_catalog, &events, NULL), NULL);
    must(fit_histories(rig_catalog, &events, &histories, NULL), NULL);
    fit_events_deinit(&events);
    must(taste_learn(kernels, rig_pool, &histories, &settings, &taste, NULL), NULL);
    histories_deinit(&histories);
    assert_int_equal(taste->size, MODEL);
    must(taste_cut(taste, 50, NULL), NULL);
    must(speaker_create(taste, kernels, &speaker, NULL), NULL);
    return 0;
}

static int tear_down(void **state)
{
    speaker_destroy(&speaker);
    assert_null(speaker);
    taste_destroy(&taste);
    return rig_tear_down(state);
}

/* The whole blend, as akin_evaluate computes it. */
static void score_all(const uint32_t *past, size_t count, bool returning, float *scores)
{
    const struct taste_weights *weights = blend_default(returning ? BLEND_RETURN : BLEND_NEXT);
    struct taste_features features;
    unsigned parts = 0;
    for (unsigned part = 0; part < TASTE_PARTS; part++)
        parts |= weights->part[part] != 0 ? TASTE_BIT(part) : 0;
    must(taste_features_init(taste, &features, NULL), NULL);
    taste_say(taste, cpu_kernels(rig_backend), past, count, parts, &features);
    taste_blend(taste, cpu_kernels(rig_backend), &features, weights->part, scores);
    taste_features_deinit(&features);
}

static int best_first(const void *a, const void *b)
{
    const struct hit *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* Those that are allowed, sorted; returns how many. */
static size_t sort_all(const float *scores, const uint64_t *allowed, struct hit *sorted)
{
    size_t count = 0;
    for (uint32_t row = 0; row < ITEMS; row++)
        if (allowed[row / 64] >> row % 64 & 1)
            sorted[count++] = (struct hit){ scores[row], row };
    qsort(sorted, count, sizeof *sorted, best_first);
    return count;
}

/* ---- the best --------------------------------------------------------------------------- */

static void compare(struct rng *rng, struct speech *speech, unsigned share, size_t wanted)
{
    static uint64_t allowed[ITEMS / 64 + 1];
    static struct hit sorted[ITEMS];
    static float scores[ITEMS];
    uint32_t past[PAST];
    struct hit *best;
    size_t found, count = rng_below(rng, PAST);
    bool returning = rng_below(rng, 2);
    memset(allowed, 0, sizeof allowed);
    for (size_t i = 0; i < count; i++)
        past[i] = (uint32_t)rng_below(rng, ITEMS);
    for (size_t row = 0; row < ITEMS; row++)
        allowed[row / 64] |= (uint64_t)(rng_below(rng, 100) < share) << row % 64;
    score_all(past, count, returning, scores);
    must(speaker_say(speaker, past, count, returning, speech, NULL), NULL);
    for (uint32_t row = 0; row < ITEMS; row++) {
        float said = speech_score(speech, row);
        assert_memory_equal(&said, &scores[row], sizeof said);
    }
    must(speech_best(speech, allowed, wanted, &best, &found, NULL), NULL);
    size_t all = sort_all(scores, allowed, sorted);
    assert_int_equal(found, wanted < all ? wanted : all);
    qsort(best, found, sizeof *best, best_first);
    assert_memory_equal(best, sorted, found * sizeof *best);
}

static void best_of_all(void **state)
{
    struct speech speech = { .speaker = NULL };
    struct rng rng;
    (void)state;
    rng_seed(&rng, 3);
    for (int round = 0; round < 60; round++)
        compare(&rng, &speech, (unsigned[]){ 0, 3, 40, 100 }[round % 4],
                (size_t[]){ 1, 10, 200, MODEL, 2 * ITEMS }[round % 5]);
    speech_deinit(&speech);
}

/* Scores that many items share, or all of them: ties go by row, also at the threshold. */
static void best_of_equals(void **state)
{
    struct speech speech = { .speaker = NULL };
    static uint64_t allowed[ITEMS / 64 + 1];
    static struct hit sorted[ITEMS];
    static float scores[ITEMS];
    const uint32_t past[] = { 1, 2, 3 };
    (void)state;
    for (size_t round = 0; round < 60; round++) {
        size_t wanted = (size_t[]){ 1, 10, 60, MODEL, 2 * ITEMS }[round % 5], found;
        float steps = (float[]){ 0, 1, 4 }[round % 3];
        struct hit *best;
        memset(allowed, round % 4 ? 0x5f : 0, sizeof allowed);
        must(speaker_say(speaker, past, 3, false, &speech, NULL), NULL);
        for (size_t j = 0; j < MODEL; j++)
            speech.scores[j] = floorf(speech.scores[j] * steps);
        for (uint32_t row = 0; row < ITEMS; row++)
            scores[row] = speech_score(&speech, row);
        must(speech_best(&speech, allowed, wanted, &best, &found, NULL), NULL);
        size_t all = sort_all(scores, allowed, sorted);
        assert_int_equal(found, wanted < all ? wanted : all);
        qsort(best, found, sizeof *best, best_first);
        for (size_t i = 0; i < found; i++) {
            assert_int_equal(best[i].row, sorted[i].row);
            assert_true(best[i].score == sorted[i].score);
        }
    }
    speech_deinit(&speech);
}

/* ---- requests --------------------------------------------------------------------------- */

static void use_speaker(void)
{
    recommender_use_inputs(rig, &(struct recommend_inputs){ .fitted = true, .speaker = speaker });
}

static void use_nothing(void)
{
    recommender_use_inputs(rig, &(struct recommend_inputs){ .fitted = false });
}

/* That the taste of each result is what the model says about this past; `allowed` is what the
 * person has not seen. */
static void expect(const struct akin_request *request, const uint32_t *past, size_t count,
                   bool returning)
{
    struct akin_recommendation results[K];
    static struct hit sorted[ITEMS];
    static float scores[ITEMS];
    uint64_t allowed[ITEMS / 64 + 1];
    double sum = 0;
    memset(allowed, 0xff, sizeof allowed);
    for (size_t i = 0; i < count; i++)
        allowed[past[i] / 64] &= ~(1ull << past[i] % 64);
    score_all(past, count, returning, scores);
    sort_all(scores, allowed, sorted);
    for (size_t i = 0; i < 10; i++)
        sum += (double)sorted[i].score - (double)sorted[99].score;
    size_t found = rig_ask(request, results);
    assert_int_equal(found, K);
    for (size_t i = 0; i < found; i++) {
        double wanted = ((double)scores[results[i].row] - (double)sorted[99].score) / (sum / 10);
        assert_true(fabs((double)results[i].parts.taste - wanted) < 1e-4);
        wanted = (double)blend_default(returning ? BLEND_RETURN : BLEND_NEXT)->text / (sum / 10) *
                 (double)results[i].similarity;
        assert_true(fabs((double)results[i].parts.text - wanted) < 1e-4);
    }
    assert_true(rig_among(results, found, sorted[0].row));
}

static void requests(void **state)
{
    static const char *const history[] = { "f1", "f2" };
    struct akin_request request = rig_request(K);
    uint32_t past[RATED + 3];
    (void)state;
    use_speaker();
    request.user = "p6";
    request.popularity = 0;
    for (size_t i = 0; i < RATED; i++)
        past[i] = (uint32_t)rig_rated(6, i);
    expect(&request, past, RATED, true);
    request.now = 1000 * RATED;
    expect(&request, past, RATED, false);
    struct akin_feedback rated = { "p6", "f30", 1, 1000 * RATED };
    must(users_update(rig_users, &rated, NULL), NULL);
    past[RATED] = 30;
    past[RATED + 1] = 1;
    past[RATED + 2] = 2;
    request.history = history;
    request.history_count = 2;
    request.now = 0;
    expect(&request, past, RATED + 3, false);
    use_nothing();
}

/* ---- opened when it is needed ----------------------------------------------------------- */

struct opening {
    int calls;
    bool fails;
};

static enum akin_status open_later(void *context, struct recommend_inputs *inputs,
                                   struct akin_error *error)
{
    struct opening *opening = context;
    opening->calls++;
    if (opening->fails)
        return error_set(error, AKIN_IO, "the disk is tired");
    *inputs = (struct recommend_inputs){ .fitted = true, .speaker = speaker };
    return AKIN_OK;
}

static void opened_once(void **state)
{
    struct akin_recommendation results[K];
    struct opening opening = { .fails = true };
    struct akin_request request = rig_request(K);
    struct akin_error error = { 0 };
    size_t found = 5;
    (void)state;
    recommender_use_source(rig, &(struct recommend_source){ open_later, &opening });
    request.similar = "f7";
    request.ranking = AKIN_RANK_VECTORS;
    rig_ask(&request, results);
    assert_int_equal(opening.calls, 0);
    request.ranking = AKIN_RANK_AUTO;
    assert_int_equal(recommend(rig, &request, NULL, results, NULL, &found, NULL, &error), AKIN_IO);
    assert_non_null(strstr(error.message, "tired"));
    assert_int_equal(found, 5);
    opening.fails = false;
    rig_ask(&request, results);
    assert_true(results[0].score > results[0].similarity);      /* by parts: it is fitted */
    rig_ask(&request, results);
    assert_int_equal(opening.calls, 2);
    use_nothing();
}

/* ---- first requests at once ------------------------------------------------------------- */

enum { THREADS = 4 };

struct first {
    struct akin_recommendation results[K];
    size_t found;
    int number;
};

static void ask_first(void *context)
{
    struct first *first = context;
    struct akin_request request = rig_request(K);
    struct user_profile profile;
    request.ranking = AKIN_RANK_AUTO;
    request.user = first->number % 2 ? "p3" : NULL;
    request.similar = first->number % 2 ? NULL : "f7";
    must(recommend(rig, &request, NULL, first->results, NULL, &first->found, NULL, NULL), NULL);
    assert_true(user_profile_init(&profile, DIM));
    must(users_read(rig_users, "p5", &profile, NULL), NULL);
    assert_true(profile.count > 0);
    user_profile_deinit(&profile);
}

static void first_requests_at_once(void **state)
{
    static struct first firsts[THREADS];
    struct thread *threads[THREADS];
    struct opening opening = { .fails = false };
    struct akin_recommender_memory memory;
    (void)state;
    close_rig();
    open_rig();
    recommender_use_source(rig, &(struct recommend_source){ open_later, &opening });
    recommender_memory(rig, &memory);
    assert_true(memory.space == 0);
    for (int i = 0; i < THREADS; i++) {
        firsts[i].number = i;
        assert_non_null(threads[i] = thread_start(ask_first, &firsts[i], false));
    }
    for (int i = 0; i < THREADS; i++)
        thread_join(&threads[i]);
    for (int i = 2; i < THREADS; i++) {
        assert_int_equal(firsts[i].found, K);
        assert_true(rig_same(firsts[i].results, firsts[i - 2].results, K));
    }
    assert_int_equal(opening.calls, 1);
    recommender_memory(rig, &memory);
    assert_true(memory.space > 0);
    use_nothing();
}

/* A rating is taken without the space, which nothing needs until somebody is asked for. */
static void ratings_need_no_space(void **state)
{
    struct akin_recommender_memory memory;
    struct users_settings live = { .catalog = rig_catalog, .dim = DIM,
                                   .find_vectors = rig_space_vectors,
                                   .kernels = cpu_kernels(rig_backend) };
    struct akin_feedback rated = { "somebody", "f3", 1, 5 };
    struct user_profile profile;
    struct users *users;
    char path[96];
    (void)state;
    close_rig();
    open_rig();
    snprintf(path, sizeof path, "%s/live.db", rig_folder);
    users_settings_default(&live.live);
    live.live.max_active_users = 10;
    live.store_path = path;
    live.vectors_context = rig;
    must(users_open(&live, &users, NULL), NULL);
    must(users_update(users, &rated, NULL), NULL);
    recommender_memory(rig, &memory);
    assert_true(memory.space == 0);
    assert_true(user_profile_init(&profile, DIM));
    must(users_read(users, "somebody", &profile, NULL), NULL);
    assert_int_equal(profile.count, 1);
    recommender_memory(rig, &memory);
    assert_true(memory.space > 0);
    user_profile_deinit(&profile);
    users_close(&users);
}

/* ---- memory ----------------------------------------------------------------------------- */

static void ask_all(struct akin_recommendation *results)
{
    static const char *const history[] = { "f12", "f80", "f13" };
    struct akin_request requests[6];
    size_t found;
    for (int i = 0; i < 6; i++)
        requests[i] = rig_request(K);
    requests[0].user = "p3";
    requests[1].query = "words";
    requests[2].query = "words";
    requests[2].user = "p4";
    requests[3].history = history;
    requests[3].history_count = 3;
    requests[4].similar = "f1";
    requests[5].similar = "f9";
    requests[5].query = "words";
    for (int i = 0; i < 6; i++)
        must(recommend(rig, &requests[i], requests[i].query ? rig_vectors + 5 * DIM : NULL,
                       results, NULL, &found, NULL, NULL), NULL);
}

static void allocates_nothing(bool fitted)
{
    struct akin_recommendation results[K];
    uint64_t allocations = 0;
    if (fitted)
        use_speaker();
    for (int round = 0; round < 4; round++) {
        if (round == 2)
            allocations = memory_allocations();
        ask_all(results);
    }
    assert_int_equal(memory_allocations(), allocations);
    use_nothing();
}

static void warm_requests_allocate_nothing(void **state)
{
    (void)state;
    must(recommender_prepare(rig, (struct akin_progress){ 0 }, NULL), NULL);
    allocates_nothing(false);
    allocates_nothing(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(best_of_all),
        cmocka_unit_test(best_of_equals),
        cmocka_unit_test(requests),
        cmocka_unit_test(opened_once),
        cmocka_unit_test(first_requests_at_once),
        cmocka_unit_test(ratings_need_no_space),
        cmocka_unit_test(warm_requests_allocate_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
