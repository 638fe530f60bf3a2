/* Requests through the engine and the library of the CUDA part, on cards that are made up
 * (cuda_emulation/cards.h): the CPU's answers, also from a card that fails or has no memory, and a
 * warning then; an error where that card was asked for. */
#define RIG_DIM 64
#include "unit/parts_rig.h"

#include "akin/akin.h"

enum { K = 5, REQUESTS = 5 };

struct answers {
    size_t found[2 * REQUESTS];
    struct akin_recommendation results[2 * REQUESTS][K];
};

static char warnings[4096];

static void keep_warning(void *context, enum akin_log_level level, const char *line)
{
    (void)context;
    size_t used = strlen(warnings);
    if (level == AKIN_LOG_WARNING)
        snprintf(warnings + used, sizeof warnings - used, "%s\n", line);
}

static size_t times_warned(const char *what)
{
    size_t times = 0;
    for (const char *at = warnings; (at = strstr(at, what)); at++)
        times++;
    return times;
}

static void tell_card(const char *name, const char *value)
{
    if (value)
        setenv(name, value, 1);
    else
        unsetenv(name);
}

/* People, a past, an item, and somebody whom nobody knows; each alone, and then all together. */
static void set_requests(struct akin_request *requests)
{
    static const char *const past[] = { "f90", "f14", "f200" };
    for (size_t i = 0; i < REQUESTS; i++) {
        requests[i] = rig_request(K);
        requests[i].recall = 1;
    }
    requests[0].user = "p3";
    requests[1].user = "p17";
    requests[1].filter = "year>=1973";
    requests[2].history = past;
    requests[2].history_count = 3;
    requests[3].similar = "f100";
    requests[4].user = "nobody";
}

static enum akin_status ask(const char *device, struct answers *answers, struct akin_error *error)
{
    char data[96];
    struct akin_engine *engine = NULL;
    struct akin_catalog *catalog = NULL;
    struct akin_recommender *recommender = NULL;
    struct akin_request requests[REQUESTS];
    struct akin_answer batch[REQUESTS];
    struct akin_engine_settings settings;
    struct akin_recommender_settings live;
    enum akin_status status = AKIN_OK;
    warnings[0] = 0;
    snprintf(data, sizeof data, "%s/data", rig_folder);
    akin_engine_settings_default(&settings);
    settings.device = device;
    settings.cuda_library = AKIN_EMULATED_PLUGIN;
    settings.log = (struct akin_log){ .write = keep_warning };
    akin_recommender_settings_default(&live);
    live.store = false;
    set_requests(requests);
    TRY_DONE(akin_engine_open(&settings, &engine, error));
    TRY_DONE(akin_catalog_open(data, &catalog, error));
    TRY_DONE(akin_recommender_open(engine, catalog, NULL, &live, &recommender, error));
    TRY_DONE(akin_recommender_prepare(recommender, (struct akin_progress){ 0 }, error));
    for (size_t i = 0; i < REQUESTS; i++) {
        batch[i] = (struct akin_answer){ .results = answers->results[REQUESTS + i] };
        TRY_DONE(akin_recommend(recommender, &requests[i], answers->results[i], &answers->found[i],
                                NULL, error));
    }
    TRY_DONE(akin_recommend_batch(recommender, requests, REQUESTS, batch, error));
    for (size_t i = 0; i < REQUESTS; i++)
        answers->found[REQUESTS + i] = batch[i].found;
done:
    akin_recommender_close(&recommender);
    akin_catalog_close(&catalog);
    akin_engine_close(&engine);
    return status;
}

static void check_same(const struct answers *one, const struct answers *other)
{
    for (size_t i = 0; i < 2 * REQUESTS; i++) {
        assert_int_equal(one->found[i], other->found[i]);
        for (size_t j = 0; j < one->found[i]; j++) {
            assert_int_equal(one->results[i][j].row, other->results[i][j].row);
            assert_true(fabsf(one->results[i][j].score - other->results[i][j].score) < 4e-6f);
        }
    }
}

static size_t count_lines(const char *path)
{
    size_t lines = 0;
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    for (int c; (c = getc(file)) != EOF;)
        lines += c == '\n';
    fclose(file);
    return lines;
}

static void cards(void **state)
{
    static struct answers on_cpu, here;
    struct akin_error error = { 0 };
    char log[96], fault[32];
    (void)state;
    snprintf(log, sizeof log, "%s/log", rig_folder);
    tell_card("AKIN_EMULATED_LOG", log);
    must(ask("cpu", &on_cpu, &error), &error);
    assert_true(on_cpu.found[0] == K && on_cpu.found[2 * REQUESTS - 1] == K);
    must(ask("cuda", &here, &error), &error);
    check_same(&here, &on_cpu);
    assert_string_equal(warnings, "");
    tell_card("AKIN_EMULATED_WAIT_MS", "300");
    /* Cards count on from engine to engine: this fails at the last of the second run, which is the
     * call with many; requests alone are told by their kernel and not counted. */
    snprintf(fault, sizeof fault, "0:%zu", 2 * count_lines(log));
    tell_card("AKIN_EMULATED_FAIL", fault);
    must(ask("auto", &here, &error), &error);
    check_same(&here, &on_cpu);
    if (times_warned("\n") != 1 || times_warned("recommending on the CPU from now on") != 1)
        fail_msg("a card that fails at %s: %s", fault, warnings);
    tell_card("AKIN_EMULATED_FAIL", NULL);
    tell_card("AKIN_EMULATED_MEMORY", "100000");
    must(ask("auto", &here, &error), &error);
    check_same(&here, &on_cpu);
    assert_int_equal(times_warned("bytes"), 1);
    assert_int_equal(ask("cuda", &here, &error), AKIN_MEMORY);
    assert_non_null(strstr(error.message, "bytes"));
    tell_card("AKIN_EMULATED_MEMORY", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(cards) };
    return cmocka_run_group_tests(tests, rig_set_up, rig_tear_down);
}
