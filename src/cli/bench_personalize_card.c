/* People made active ahead of their requests (akin_recommender_wake): what the CPU needs for the
 * fold of all that they rated, and a card where the engine has one, in turn. Also the rate at which
 * a card alone moves users' vectors, by its clock. */
#include <math.h>

#include "cli/bench_personalize.h"
#include "cli/report.h"

enum { AWAKE_MAX = 100000, TURNS = 3 };

/* One time: a recommender of its own, whose people are all asleep. */
static enum akin_status wake(struct personal_bench *b, struct akin_engine *engine,
                             const struct akin_catalog *catalog, struct akin_wake_report *report)
{
    struct akin_recommender_settings settings;
    struct akin_recommender *recommender = NULL;
    struct akin_wake_report warm_up;
    akin_recommender_settings_default(&settings);
    settings.store = false;
    settings.max_active_users = AWAKE_MAX;
    TRY(akin_recommender_open(engine, catalog, NULL, &settings, &recommender, &b->cli->error));
    /* the first one also finds the vectors, and a driver */
    enum akin_status status = akin_recommender_wake(recommender, 1, (struct akin_progress){ 0 },
                                                    &warm_up, &b->cli->error);
    if (status == AKIN_OK)
        status = akin_recommender_wake(recommender, AWAKE_MAX,
                                       progress_begin(&b->cli->progress, NULL), report,
                                       &b->cli->error);
    akin_recommender_close(&recommender);
    return status;
}

enum akin_status personal_wake(struct personal_bench *b, const struct akin_catalog *catalog)
{
    struct akin_engine_settings settings;
    struct akin_engine *cpu = NULL;
    struct akin_wake_report report;
    struct personal_wake *w = &b->wake;
    enum akin_status status = AKIN_OK;
    *w = (struct personal_wake){ .cpu_s = INFINITY, .card_s = INFINITY, .card_alone_s = INFINITY };
    akin_engine_settings_default(&settings);
    akin_settings_engine(b->cli->settings, &settings);
    settings.device = "cpu";
    TRY(akin_engine_open(&settings, &cpu, &b->cli->error));
    for (int turn = 0; turn < TURNS; turn++) {
        TRY_DONE(wake(b, cpu, catalog, &report));
        w->users = report.users;
        w->ratings = report.ratings;
        w->cpu_s = fmin(w->cpu_s, report.seconds);
        TRY_DONE(wake(b, b->cli->engine, catalog, &report));
        if (!report.on_card)
            break;
        w->on_card = true;
        w->card_s = fmin(w->card_s, report.seconds);
        w->card_alone_s = fmin(w->card_alone_s, report.card_ms * 1e-3);
        w->card_bytes = report.card_bytes;
    }
done:
    progress_end(&b->cli->progress);
    akin_engine_close(&cpu);
    return status;
}

/* Vectors that were moved in a second: two for a rating. */
static double rate_of(const struct personal_wake *w, double seconds)
{
    return 2 * (double)w->ratings / seconds;
}

void personal_wake_print(const struct personal_bench *b)
{
    const struct personal_wake *w = &b->wake;
    char users[NUMBER_BYTES], ratings[NUMBER_BYTES];
    if (!w->users)
        return;
    report_line("made active", "%s people of %s ratings in %.2f s here: %.1f million updates/s",
                format_count(users, w->users), format_count(ratings, w->ratings), w->cpu_s,
                rate_of(w, w->cpu_s) * 1e-6);
    if (w->on_card)
        report_line("  with the card", "in %.2f s: %.1f million/s; the card alone %.1f million/s, "
                    "%.0f MB of it", w->card_s, rate_of(w, w->card_s) * 1e-6,
                    rate_of(w, w->card_alone_s) * 1e-6, (double)w->card_bytes * 1e-6);
}

json_t *personal_wake_json(const struct personal_bench *b)
{
    const struct personal_wake *w = &b->wake;
    json_t *root = json_object();
    json_object_set_new(root, "users", json_of_count(w->users));
    json_object_set_new(root, "ratings", json_of_count(w->ratings));
    json_object_set_new(root, "cpu_s", json_of_double(w->users ? w->cpu_s : NAN));
    json_object_set_new(root, "card_s", json_of_double(w->on_card ? w->card_s : NAN));
    json_object_set_new(root, "card_updates_per_s",
                        json_of_double(w->on_card ? rate_of(w, w->card_s) : NAN));
    json_object_set_new(root, "card_alone_updates_per_s",
                        json_of_double(w->on_card ? rate_of(w, w->card_alone_s) : NAN));
    json_object_set_new(root, "card_bytes", json_of_count(w->card_bytes));
    return root;
}
