/* Weights that are learned: they move where the events say so beyond doubt, and nowhere else. */
#include "parts_rig.h"

#include "compute/cpu/kernels.h"
#include "recommend/blend_learn.h"
#include "recommend/fit.h"
#include "recommend/space.h"
#include "recommend/taste_store.h"

enum { CROWD = 300, EACH = 14, COUNT = CROWD * EACH };

static struct split_text texts;

/* Everybody chooses items whose texts lie in one direction of his own, or any. */
static void make_events(bool by_text, struct history_event *events)
{
    struct rng rng;
    rng_seed(&rng, 5);
    for (size_t u = 0; u < CROWD; u++) {
        float direction[DIM], score[ITEMS];
        uint32_t own[EACH];
        draw_normal(&rng, direction, DIM);
        for (size_t row = 0; row < ITEMS; row++) {
            score[row] = rng_normal(&rng);
            for (size_t k = 0; by_text && k < DIM; k++)
                score[row] += 9 * direction[k] * texts.rows[row][k];
        }
        for (size_t e = 0; e < EACH; e++) {
            own[e] = 0;
            for (size_t row = 1; row < ITEMS; row++)
                if (score[row] > score[own[e]])
                    own[e] = (uint32_t)row;
            score[own[e]] = -1e9f;
        }
        rng_shuffle(&rng, own, EACH);
        for (size_t e = 0; e < EACH; e++)
            events[u * EACH + e] = (struct history_event){
                (uint32_t)u, own[e], (int64_t)(1000 * e + rng_below(&rng, 900)) };
    }
}

static struct akin_weights_found learn(const struct backend *backend, bool by_text,
                                       enum blend_context context, struct taste_weights *weights)
{
    static struct history_event events[COUNT];
    struct akin_weights_found found;
    struct akin_error error = { 0 };
    make_events(by_text, events);
    struct blend_lesson lesson = { .events = events, .count = COUNT, .users = CROWD,
                                   .items = ITEMS, .text = &texts, .seed = 3 };
    must(blend_learn(backend, &lesson, context, weights, &found, &error), &error);
    return found;
}

static bool same_weights(const struct taste_weights *a, const struct taste_weights *b)
{
    return !memcmp(a, b, sizeof *a);
}

static void texts_teach(void **state)
{
    struct taste_weights weights, again;
    struct backend *other;
    struct thread_pool *alone = thread_pool_create(1);
    struct akin_error error = { 0 };
    (void)state;
    must(cpu_backend_create(cpu_detect(), alone, &other, &error), &error);
    for (int c = 0; c < BLEND_CONTEXTS; c++) {
        struct akin_weights_found found = learn(rig_backend, true, (enum blend_context)c, &weights);
        if (!(found.learned && found.points > CROWD / 2 && found.gain.low > 0))
            fail_msg("%d: %s, points %zu, %g to %g", c, found.formula, found.points,
                     found.ndcg_default, found.ndcg_best);
        assert_true(found.ndcg_best > found.ndcg_default);
        assert_true(weights.text > blend_default((enum blend_context)c)->text);
        assert_non_null(strstr(found.formula, "text"));
        found = learn(other, true, (enum blend_context)c, &again);
        assert_true(same_weights(&weights, &again));    /* one thread or two */
    }
    cpu_backend_destroy(&other);
    thread_pool_destroy(&alone);
}

static void noise_teaches_nothing(void **state)
{
    struct taste_weights weights;
    (void)state;
    for (int c = 0; c < BLEND_CONTEXTS; c++) {
        struct akin_weights_found found =
            learn(rig_backend, false, (enum blend_context)c, &weights);
        assert_true(found.points > 0 && !found.learned);
        assert_true(same_weights(&weights, blend_default((enum blend_context)c)));
    }
}

/* One event of one person: nothing can be held back. */
static void too_few(void **state)
{
    const struct history_event one = { 0, 5, 10 };
    struct blend_lesson lesson = { .events = &one, .count = 1, .users = 1, .items = ITEMS,
                                   .text = &texts, .seed = 3 };
    struct taste_weights weights;
    struct akin_weights_found found;
    struct akin_error error = { 0 };
    (void)state;
    for (int c = 0; c < BLEND_CONTEXTS; c++) {
        must(blend_learn(rig_backend, &lesson, (enum blend_context)c, &weights, &found, &error),
             &error);
        assert_true(found.points == 0 && !found.learned);
        assert_true(same_weights(&weights, blend_default((enum blend_context)c)));
    }
}

/* ---- all that a catalogue teaches --------------------------------------------------------- */

/* What a title is meant by; other words mean nothing. */
static enum akin_status encode(void *context, const struct akin_text *words, size_t count,
                               float *vectors, struct akin_error *error)
{
    bool *fails = context;
    if (*fails)
        return error_set(error, AKIN_LIMIT, "the encoder is tired");
    for (size_t i = 0; i < count; i++) {
        size_t row;
        char title[QUERY_BYTES];
        snprintf(title, sizeof title, "%.*s", (int)words[i].count, words[i].bytes);
        bool known = catalog_find(rig_catalog, title, &row, NULL) == AKIN_OK && row != BLANK;
        for (size_t k = 0; k < DIM; k++)
            vectors[i * DIM + k] = known ? rig_vectors[row * DIM + k] : (float)(k % 3) - 1;
    }
    return AKIN_OK;
}

static void words_teach(void **state)
{
    bool fails = false;
    struct akin_fit_settings settings = { .items_max = 100, .row_max = 20, .seed = 1 };
    struct fit_lesson lesson = { .backend = rig_backend, .catalog = rig_catalog,
                                 .settings = &settings, .encode = encode, .context = &fails };
    struct akin_fit_report report;
    struct akin_error error = { 0 };
    struct taste *taste, *read;
    struct akin_catalog_info info;
    (void)state;
    catalog_info(rig_catalog, &info);
    must(fit_catalog(&lesson, &taste, &report, &error), &error);
    assert_int_equal(report.users, PEOPLE);
    assert_int_equal(report.events, info.ratings);
    assert_int_equal(report.goes_on.points, PEOPLE);
    assert_int_equal(report.query.points, 2 * PEOPLE);
    assert_true(taste->query_weight >= BLEND_QUERY && taste->query_weight <= 1);
    assert_true(report.query.learned == (taste->query_weight > BLEND_QUERY));
    assert_true(report.query.ndcg_best > 0.3);
    must(taste_write(taste, catalog_folder(rig_catalog), rig_catalog, &error), &error);
    must(taste_open(cpu_kernels(rig_backend), catalog_folder(rig_catalog), rig_catalog, &read,
                    &error), &error);
    assert_true(read->query_weight == taste->query_weight);
    assert_true(same_weights(&read->weights[BLEND_RETURN], &taste->weights[BLEND_RETURN]));
    taste_destroy(&taste);
    taste_destroy(&read);
    lesson.encode = NULL;
    must(fit_catalog(&lesson, &taste, &report, &error), &error);
    assert_true(report.query.points == 0 && taste->query_weight == BLEND_QUERY);
    taste_destroy(&taste);
    lesson.encode = encode;
    fails = true;
    assert_int_equal(fit_catalog(&lesson, &taste, &report, &error), AKIN_LIMIT);
    assert_string_equal(error.message, "the encoder is tired");
}

static bool stop(void *cookie, const char *stage, uint64_t done, uint64_t total)
{
    (void)stage;
    (void)done;
    (void)total;
    return --*(int *)cookie > 0;
}

/* Wherever it is interrupted. */
static void cancelled(void **state)
{
    struct akin_fit_settings settings = { .items_max = 100, .row_max = 20, .seed = 1 };
    struct fit_lesson lesson = { .backend = rig_backend, .catalog = rig_catalog,
                                 .settings = &settings };
    struct akin_fit_report report;
    struct taste *taste;
    (void)state;
    for (int calls = 1; calls <= 64; calls *= 4) {
        int left = calls;
        settings.progress = (struct akin_progress){ .update = stop, .cookie = &left };
        enum akin_status status = fit_catalog(&lesson, &taste, &report, NULL);
        assert_true(status == AKIN_CANCELLED || (status == AKIN_OK && left > 0));
        taste_destroy(&taste);
    }
}

static int set_up(void **state)
{
    struct akin_error error = { 0 };
    int failed = rig_set_up(state);
    must(split_text_create(rig_backend, rig_catalog, NULL, &texts, &error), &error);
    return failed;
}

static int tear_down(void **state)
{
    split_text_deinit(&texts);
    return rig_tear_down(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_teach), cmocka_unit_test(noise_teaches_nothing),
        cmocka_unit_test(too_few),     cmocka_unit_test(words_teach),
        cmocka_unit_test(cancelled),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
