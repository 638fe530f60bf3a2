/* Settings: which origin wins, and that bad values name where they stand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "akin/akin.h"
#include "base/file.h"

static char folder[] = "/tmp/akin_settings_XXXXXX";

static struct akin_setting get(const struct akin_settings *settings, const char *key)
{
    struct akin_setting setting;
    for (size_t i = 0; akin_settings_at(settings, i, &setting); i++)
        if (!strcmp(setting.key, key))
            return setting;
    fail_msg("no setting %s", key);
    return setting;
}

static int set_up(void **state)
{
    (void)state;
    char path[256];
    if (!mkdtemp(folder))
        return -1;
    setenv("XDG_CONFIG_HOME", folder, 1);
    setenv("XDG_CACHE_HOME", "/cache", 1);
    static const char *const ours[] = { "AKIN_HOME", "AKIN_DATA", "AKIN_MODEL", "AKIN_DEVICE",
                                        "AKIN_PRECISION", "AKIN_THREADS", "AKIN_CPU", "AKIN_HUB",
                                        "HF_ENDPOINT" };
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        unsetenv(ours[i]);
    snprintf(path, sizeof path, "%s/akin", folder);
    return path_make_folders(path, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    return path_remove_tree(folder, NULL);
}

static void write_ini(const char *text, char *path, size_t bytes)
{
    snprintf(path, bytes, "%s/akin/akin.ini", folder);
    assert_int_equal(file_write(path, text, strlen(text), NULL), AKIN_OK);
}

static void the_stronger_origin_wins(void **state)
{
    (void)state;
    struct akin_settings *settings;
    struct akin_error error = { 0 };
    char path[256];
    write_ini("[akin]\nthreads = 3\nmodel = from-ini\n", path, sizeof path);
    setenv("AKIN_MODEL", "from-environment", 1);
    assert_int_equal(akin_settings_create(&settings, &error), AKIN_OK);
    assert_string_equal(get(settings, "home").value, "/cache/akin");
    assert_string_equal(get(settings, "data").value, "/cache/akin/data");
    assert_int_equal(akin_settings_resolve(settings, &error), AKIN_OK);
    assert_string_equal(get(settings, "threads").value, "3");
    assert_string_equal(get(settings, "threads").origin, path);
    assert_string_equal(get(settings, "model").value, "from-environment");
    assert_string_equal(get(settings, "model").origin, "AKIN_MODEL");
    assert_int_equal(akin_settings_set(settings, "model", "from-flag", "--model", &error), AKIN_OK);
    assert_string_equal(akin_settings_get(settings, "model"), "from-flag");
    assert_int_equal(akin_settings_set(settings, "home", "/h", "--home", &error), AKIN_OK);
    assert_string_equal(get(settings, "data").value, "/h/data");
    assert_int_equal(akin_settings_set(settings, "data", "/d", "--data", &error), AKIN_OK);
    assert_int_equal(akin_settings_set(settings, "home", "/i", "--home", &error), AKIN_OK);
    assert_string_equal(get(settings, "data").value, "/d");
    struct akin_engine_settings engine;
    akin_engine_settings_default(&engine);
    akin_settings_engine(settings, &engine);
    assert_int_equal(engine.threads, 3);
    assert_null(engine.cpu);
    unsetenv("AKIN_MODEL");
    akin_settings_destroy(&settings);
    assert_null(settings);
}

static void bad_values_name_their_place(void **state)
{
    (void)state;
    struct akin_settings *settings;
    struct akin_error error = { 0 };
    char path[256];
    assert_int_equal(akin_settings_create(&settings, &error), AKIN_OK);
    write_ini("model = x\n\nthreads = many\n", path, sizeof path);
    assert_int_equal(akin_settings_load(settings, path, false, &error), AKIN_FORMAT);
    assert_non_null(strstr(error.message, "akin.ini:3: "));
    assert_non_null(strstr(error.message, "many"));
    write_ini("[other]\nmodel = x\n", path, sizeof path);
    assert_int_equal(akin_settings_load(settings, path, false, &error), AKIN_FORMAT);
    write_ini("colour = blue\n", path, sizeof path);
    assert_int_equal(akin_settings_load(settings, path, false, &error), AKIN_FORMAT);
    assert_non_null(strstr(error.message, "colour"));
    assert_int_equal(akin_settings_load(settings, "/nowhere/akin.ini", true, &error), AKIN_OK);
    assert_int_equal(akin_settings_load(settings, "/nowhere/akin.ini", false, &error),
                     AKIN_NOT_FOUND);
    setenv("AKIN_PRECISION", "fp7", 1);
    assert_int_equal(akin_settings_load_environment(settings, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "AKIN_PRECISION"));
    unsetenv("AKIN_PRECISION");
    static const char *const bad[][2] = {{"threads", "-1"}, {"threads", "9999"}, {"home", ""},
                                         {"cpu", "sse"},    {"device", "tpu"},   {"nothing", "x"},
                                         {"numa", "near"},  {"numa", "-1"},      {"numa", ""}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(akin_settings_set(settings, bad[i][0], bad[i][1], "--x", &error),
                         AKIN_ARGUMENT);
    assert_null(akin_settings_get(settings, "nothing"));
    akin_settings_destroy(&settings);
}

static void engines_refuse_what_is_not_there(void **state)
{
    (void)state;
    struct akin_engine *engine = NULL;
    struct akin_engine_settings settings;
    struct akin_error error = { 0 };
    akin_engine_settings_default(&settings);
    static const char *const unknown[] = { "abacus", "cuda:", "cuda:x", "cuda:1x", "cuda:-1",
                                           "cuda:1000", "cuda:al" };
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        settings.device = unknown[i];
        assert_int_equal(akin_engine_open(&settings, &engine, &error), AKIN_ARGUMENT);
    }
    settings.device = "cpu";
    settings.threads = -1;
    assert_int_equal(akin_engine_open(&settings, &engine, &error), AKIN_ARGUMENT);
    settings.threads = 2;
    settings.cpu = "mmx";
    assert_int_equal(akin_engine_open(&settings, &engine, &error), AKIN_ARGUMENT);
    settings.cpu = "ref";
    assert_null(engine);
    assert_int_equal(akin_engine_open(&settings, &engine, &error), AKIN_OK);
    assert_string_equal(akin_engine_kernels(engine), "ref");
    assert_string_equal(akin_engine_device(engine), "cpu");
    assert_int_equal(akin_engine_threads(engine), 2);
    struct akin_engine *second = NULL;
    settings.cpu = NULL;
    assert_int_equal(akin_engine_open(&settings, &second, &error), AKIN_OK);
    assert_string_equal(akin_engine_kernels(engine), "ref");
    akin_engine_close(&second);
    akin_engine_close(&engine);
    assert_null(engine);
    akin_engine_close(&engine);
}

/* A card is looked for when a model is opened; the 999th is nowhere. */
static void a_card_that_is_not_there(void **state)
{
    (void)state;
    struct akin_engine *engine = NULL;
    struct akin_model *model = NULL;
    struct akin_engine_settings settings;
    struct akin_error error = { 0 };
    akin_engine_settings_default(&settings);
    settings.device = "cuda:999";
    assert_int_equal(akin_engine_open(&settings, &engine, &error), AKIN_OK);
    assert_string_equal(akin_engine_device(engine), "cuda");
    assert_int_equal(akin_model_open(engine, "nowhere", AKIN_PRECISION_AUTO, &model, &error),
                     AKIN_NOT_FOUND);
    assert_non_null(strstr(error.message, "device cuda: "));
    assert_null(model);
    akin_engine_close(&engine);
}

static void every_status_has_a_sentence(void **state)
{
    (void)state;
    for (int i = 0; i < AKIN_STATUS_COUNT; i++)
        assert_true(strlen(akin_status_sentence((enum akin_status)i)) > 5);
    assert_string_equal(akin_status_sentence((enum akin_status)999), "unknown status");
    assert_string_equal(akin_version(), AKIN_VERSION);
    assert_true(strlen(akin_commit()) >= 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_stronger_origin_wins),
        cmocka_unit_test(bad_values_name_their_place),
        cmocka_unit_test(a_card_that_is_not_there),
        cmocka_unit_test(engines_refuse_what_is_not_there),
        cmocka_unit_test(every_status_has_a_sentence),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
