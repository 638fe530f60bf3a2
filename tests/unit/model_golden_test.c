/* Whole models against vectors computed elsewhere: the small one of tests/fixtures/models (made by
 * tests/golden/make_golden.py in float64) in all its variants, and, where AKIN_TEST_MODELS and
 * AKIN_TEST_REFERENCE name folders, real models against sentence-transformers. */
#include "model_rig.h"

#include "base/clock.h"

static char folder[PATH_BYTES_MAX];

static int setup(void **state)
{
    (void)state;
    make_folder(folder);
    copy_tiny(folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    remove_folder(folder);
    return 0;
}

static void check_golden(const char *expected, const struct akin_embed_settings *settings)
{
    struct rig rig;
    struct corpus corpus;
    corpus_read(&corpus, EXPECTED "/texts.jsonl");
    rig_open(&rig, folder, 2);
    float *vectors = embed(&rig, corpus.texts, corpus.count, settings, NULL);
    char path[PATH_BYTES_MAX];
    compare_with(vectors, corpus.count, 32, in_folder(path, EXPECTED, expected), 0.9999999, 1e-5);
    memory_free(vectors);
    rig_close(&rig);
    corpus_free(&corpus);
}

static void test_mean(void **state)
{
    (void)state;
    check_golden("mean.npy", NULL);
}

static void test_cls(void **state)
{
    (void)state;
    put_text(folder, "1_Pooling/config.json", "{\"pooling_mode_cls_token\": true}");
    check_golden("cls.npy", NULL);
}

static void test_max(void **state)
{
    (void)state;
    put_text(folder, "1_Pooling/config.json", "{\"pooling_mode_max_tokens\": true}");
    check_golden("max.npy", NULL);
}

static void test_not_normalized(void **state)
{
    (void)state;
    struct akin_embed_settings settings;
    model_embed_settings_default(&settings);
    settings.normalize = AKIN_NORMALIZE_NO;
    check_golden("raw.npy", &settings);
    remove_file(folder, "modules.json");    /* then the model itself does not normalise */
    check_golden("raw.npy", NULL);
    settings.normalize = AKIN_NORMALIZE_YES;
    check_golden("mean.npy", &settings);
}

static void test_roberta_positions(void **state)
{
    (void)state;
    set_field(folder, "config.json", "architectures", "[\"XLMRobertaModel\"]");
    set_field(folder, "config.json", "model_type", "\"xlm-roberta\"");
    set_field(folder, "config.json", "pad_token_id", "1");
    check_golden("xlmr.npy", NULL);
}

static void test_half_weights(void **state)
{
    (void)state;
    copy_file(EXPECTED "/f16.safetensors", folder, "model.safetensors");
    check_golden("f16.npy", NULL);
    copy_file(EXPECTED "/bf16.safetensors", folder, "model.safetensors");
    check_golden("bf16.npy", NULL);
}

static void test_prompt(void **state)
{
    (void)state;
    struct akin_embed_settings settings;
    model_embed_settings_default(&settings);
    settings.prompt = "film: ";
    check_golden("prompted.npy", &settings);
}

static void rename_tensors(json_t *header, const char *prefix, bool old_norm)
{
    json_t *renamed = json_object();
    const char *name;
    json_t *value;
    json_object_foreach(header, name, value) {
        char full[256];
        const char *norm = old_norm ? strstr(name, "LayerNorm.") : NULL;
        if (norm)
            snprintf(full, sizeof full, "%s%.*sLayerNorm.%s", prefix, (int)(norm - name), name,
                     strstr(norm, "weight") ? "gamma" : "beta");
        else
            snprintf(full, sizeof full, "%s%s", prefix, name);
        json_object_set(renamed, strcmp(name, "__metadata__") ? full : name, value);
    }
    json_object_clear(header);
    json_object_update(header, renamed);
    json_decref(renamed);
}

static void rename_bert(json_t *header)
{
    rename_tensors(header, "bert.", true);
}

static void rename_auto_model(json_t *header)
{
    rename_tensors(header, "0.auto_model.", false);
}

static void test_tensor_names(void **state)
{
    (void)state;
    rewrite_header(folder, rename_bert);
    check_golden("mean.npy", NULL);
    copy_file(TINY "/model.safetensors", folder, "model.safetensors");
    rewrite_header(folder, rename_auto_model);
    check_golden("mean.npy", NULL);
}

static void test_tokens(void **state)
{
    (void)state;
    struct rig rig;
    struct corpus corpus;
    corpus_read(&corpus, EXPECTED "/texts.jsonl");
    rig_open(&rig, folder, 1);
    for (size_t i = 0; i < corpus.count; i++) {
        const json_t *want = json_object_get(corpus.rows[i], "ids");
        int32_t ids[40];
        uint32_t offsets[40][2];
        size_t count = 0;
        assert_int_equal(model_tokenize(rig.model, corpus.texts[i], ids, offsets, 40, &count, NULL),
                         AKIN_OK);
        assert_true(count == json_array_size(want));
        for (size_t t = 0; t < count; t++) {
            assert_int_equal(ids[t], json_integer_value(json_array_get(want, t)));
            assert_true(offsets[t][0] <= offsets[t][1] && offsets[t][1] <= corpus.texts[i].count);
        }
        assert_true(offsets[0][1] == 0);
    }
    rig_close(&rig);
    corpus_free(&corpus);
}

/* ---- real models ------------------------------------------------------------------------ */

/* The same bits in the opposite order, in batches of seven, repeats computed again. */
static void check_reversed(struct rig *rig, const struct corpus *corpus, const float *vectors,
                           size_t dimension)
{
    struct akin_text *texts = memory_alloc(corpus->count, sizeof *texts);
    for (size_t i = 0; i < corpus->count; i++)
        texts[i] = corpus->texts[corpus->count - 1 - i];
    struct akin_embed_settings settings;
    model_embed_settings_default(&settings);
    settings.batch_texts = 7;
    settings.deduplicate = false;
    float *reversed = embed(rig, texts, corpus->count, &settings, NULL);
    for (size_t i = 0; i < corpus->count; i++)
        assert_memory_equal(reversed + (corpus->count - 1 - i) * dimension, vectors + i * dimension,
                            dimension * sizeof *vectors);
    memory_free(reversed);
    memory_free(texts);
}

static void check_real(const char *model, const char *reference)
{
    const char *models = getenv("AKIN_TEST_MODELS"), *references = getenv("AKIN_TEST_REFERENCE");
    if (!models || !references) {
        print_message("skipped: AKIN_TEST_MODELS and AKIN_TEST_REFERENCE are not set\n");
        skip();
    }
    char path[PATH_BYTES_MAX], model_path[PATH_BYTES_MAX], texts[PATH_BYTES_MAX],
        want[PATH_BYTES_MAX];
    in_folder(model_path, models, model);
    in_folder(path, references, reference);
    in_folder(texts, path, "texts.jsonl");
    in_folder(want, path, "vectors.npy");
    if (!path_exists(model_path) || !path_exists(texts)) {
        print_message("skipped: %s or %s is absent\n", model_path, texts);
        skip();
    }
    struct rig rig;
    struct corpus corpus;
    corpus_read(&corpus, texts);
    rig_open(&rig, model_path, thread_cpus());
    struct akin_embed_report report;
    float *vectors = embed(&rig, corpus.texts, corpus.count, NULL, &report);
    print_message("%s: %zu texts, %llu tokens, %.1f texts/s\n", model, report.texts,
                  (unsigned long long)report.tokens, (double)report.texts / report.seconds);
    compare_with(vectors, corpus.count, 384, want, 0.999999, 0);
    assert_true(fabs(report.mean_norm - 1) < 1e-6 && report.std_norm < 1e-6 && report.nan_inf == 0);
    check_reversed(&rig, &corpus, vectors, 384);
    memory_free(vectors);
    rig_close(&rig);
    corpus_free(&corpus);
}

static void test_all_minilm_l6_v2(void **state)
{
    (void)state;
    check_real("all-minilm-l6-v2", "l6");
}

static void test_multilingual_e5_small(void **state)
{
    (void)state;
    check_real("multilingual-e5-small", "e5");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_mean), TEST(test_cls), TEST(test_max), TEST(test_not_normalized),
        TEST(test_roberta_positions), TEST(test_half_weights), TEST(test_prompt),
        TEST(test_tensor_names), TEST(test_tokens),
        cmocka_unit_test(test_all_minilm_l6_v2), cmocka_unit_test(test_multilingual_e5_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
