/* What int8 and bf16 cost in quality, and that they keep the promise about bits: on the small model
 * of tests/fixtures/models, and on real ones where AKIN_TEST_MODELS and AKIN_TEST_REFERENCE name
 * folders. */
#include "model_rig.h"

struct demand {
    enum akin_precision precision;
    double mean, least;         /* cosine to the reference */
};

static const struct demand demands[] = {
    { AKIN_PRECISION_INT8, 0.997, 0.98 },
    { AKIN_PRECISION_BF16, 0.9999, 0.999 },
};

/* False where this processor lacks the precision. */
static bool open_at(struct rig *rig, const char *model, enum akin_precision precision, int threads)
{
    struct akin_error error = { 0 };
    rig_start(rig, threads);
    enum akin_status status =
        model_open(rig->backend, rig->pool, model, precision, NULL, &rig->model, &error);
    if (status == AKIN_UNSUPPORTED && precision == AKIN_PRECISION_BF16) {
        assert_message_has(error, "bf16");
        rig_close(rig);
        return false;
    }
    if (status != AKIN_OK)
        fail_msg("%s", error.message);
    struct akin_model_info info;
    model_info(rig->model, &info);
    assert_int_equal(info.precision, precision);
    return true;
}

static void check_quality(const char *model, const char *texts, const char *expected,
                          const struct demand *demand)
{
    struct rig rig;
    struct corpus corpus;
    struct npy npy;
    struct akin_error error = { 0 };
    if (!open_at(&rig, model, demand->precision, 2))
        return;
    corpus_read(&corpus, texts);
    if (npy_open_matrix(expected, &npy, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    float *vectors = embed(&rig, corpus.texts, corpus.count, NULL, NULL);
    const float *want = npy.data;
    size_t dimension = npy.shape[1];
    double sum = 0, least = 1;
    for (size_t i = 0; i < corpus.count; i++) {
        double cosine = 0;      /* both have length 1 */
        for (size_t d = 0; d < dimension; d++)
            cosine += (double)vectors[i * dimension + d] * (double)want[i * dimension + d];
        sum += cosine;
        least = fmin(least, cosine);
    }
    double mean = sum / (double)corpus.count;
    print_message("precision %s: cosine mean %.6f, min %.6f\n",
                  demand->precision == AKIN_PRECISION_INT8 ? "int8" : "bf16", mean, least);
    if (!(mean >= demand->mean && least >= demand->least))
        fail_msg("cosine mean %.6f, min %.6f; wanted %.4f, %.4f", mean, least, demand->mean,
                 demand->least);
    memory_free(vectors);
    npy_close(&npy);
    corpus_free(&corpus);
    rig_close(&rig);
}

static void test_small_model(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof demands / sizeof *demands; i++)
        check_quality(TINY, EXPECTED "/texts.jsonl", EXPECTED "/mean.npy", &demands[i]);
}

/* One text at a time on one thread; all at once on three; and in the other order. */
static void test_same_bits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof demands / sizeof *demands; i++) {
        struct rig one, three;
        struct corpus corpus;
        if (!open_at(&one, TINY, demands[i].precision, 1))
            continue;
        assert_true(open_at(&three, TINY, demands[i].precision, 3));
        corpus_read(&corpus, EXPECTED "/texts.jsonl");
        struct akin_embed_settings settings;
        model_embed_settings_default(&settings);
        settings.batch_texts = 1;
        float *alone = embed(&one, corpus.texts, corpus.count, &settings, NULL);
        float *together = embed(&three, corpus.texts, corpus.count, NULL, NULL);
        struct akin_model_info info;
        model_info(one.model, &info);
        size_t bytes = info.dimension * sizeof *alone;
        assert_memory_equal(alone, together, corpus.count * bytes);
        for (size_t a = 0, b = corpus.count - 1; a < b; a++, b--) {
            struct akin_text text = corpus.texts[a];
            corpus.texts[a] = corpus.texts[b];
            corpus.texts[b] = text;
        }
        float *reversed = embed(&three, corpus.texts, corpus.count, NULL, NULL);
        for (size_t t = 0; t < corpus.count; t++)
            assert_memory_equal(alone + t * info.dimension,
                                reversed + (corpus.count - 1 - t) * info.dimension, bytes);
        memory_free(alone);
        memory_free(together);
        memory_free(reversed);
        corpus_free(&corpus);
        rig_close(&one);
        rig_close(&three);
    }
}

static void check_real(const char *model, const char *reference)
{
    const char *models = getenv("AKIN_TEST_MODELS"), *references = getenv("AKIN_TEST_REFERENCE");
    char path[PATH_BYTES_MAX], model_path[PATH_BYTES_MAX], texts[PATH_BYTES_MAX],
        want[PATH_BYTES_MAX];
    if (!models || !references) {
        print_message("skipped: AKIN_TEST_MODELS and AKIN_TEST_REFERENCE are not set\n");
        skip();
    }
    in_folder(model_path, models, model);
    in_folder(path, references, reference);
    in_folder(texts, path, "texts.jsonl");
    in_folder(want, path, "vectors.npy");
    if (!path_exists(model_path) || !path_exists(texts)) {
        print_message("skipped: %s or %s is absent\n", model_path, texts);
        skip();
    }
    for (size_t i = 0; i < sizeof demands / sizeof *demands; i++)
        check_quality(model_path, texts, want, &demands[i]);
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_model), cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_all_minilm_l6_v2), cmocka_unit_test(test_multilingual_e5_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
