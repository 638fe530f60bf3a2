/* Embedding of many texts: the same bits in any company, repeats, windows, progress and cancelling,
 * concurrent callers. */
#include "model_rig.h"

#include <pthread.h>

enum { DIMENSION = 32, TEXTS = 160, TEXT_BYTES = 600 };

static struct {
    char bytes[TEXTS][TEXT_BYTES];
    struct akin_text texts[TEXTS];
    float alone[TEXTS][DIMENSION];      /* each text by itself, one thread */
} fixture;

/* Texts of 0 to 59 words, so that some are cut; every tenth equals an earlier one. */
static void make_texts(void)
{
    static const char *const words[] = {
        "toy",      "story",       "the", "dark", "space", "wars", "of",
        "kings",    "unknownword", ",",   "1999", "night", "day",  "\xc3\xa9t\xc3\xa9",
        "\xff\xfe", "love"};
    struct rng rng;
    rng_seed(&rng, 7);
    for (size_t i = 0; i < TEXTS; i++) {
        size_t used = 0, count = rng_below(&rng, i % 5 ? 12 : 60);
        for (size_t w = 0; w < count; w++)
            used += (size_t)snprintf(fixture.bytes[i] + used, TEXT_BYTES - used, "%s ",
                                     words[rng_below(&rng, sizeof words / sizeof *words)]);
        if (i % 10 == 9)
            memcpy(fixture.bytes[i], fixture.bytes[i / 2], TEXT_BYTES);
        fixture.texts[i] = (struct akin_text){ fixture.bytes[i], strlen(fixture.bytes[i]) };
    }
}

static int group_setup(void **state)
{
    (void)state;
    make_texts();
    struct rig rig;
    rig_open(&rig, TINY, 1);
    for (size_t i = 0; i < TEXTS; i++) {
        float *vector = embed(&rig, &fixture.texts[i], 1, NULL, NULL);
        memcpy(fixture.alone[i], vector, sizeof fixture.alone[i]);
        memory_free(vector);
    }
    rig_close(&rig);
    return 0;
}

/* Embeds the texts of `order` and compares every row's bits with the text alone. */
static void check_bits(struct rig *rig, const size_t *order, size_t count, size_t batch,
                       bool deduplicate)
{
    struct akin_text texts[TEXTS];
    for (size_t i = 0; i < count; i++)
        texts[i] = fixture.texts[order[i]];
    struct akin_embed_settings settings;
    model_embed_settings_default(&settings);
    settings.batch_texts = batch;
    settings.deduplicate = deduplicate;
    float *vectors = embed(rig, texts, count, &settings, NULL);
    for (size_t i = 0; i < count; i++)
        if (memcmp(vectors + i * DIMENSION, fixture.alone[order[i]], sizeof fixture.alone[0]))
            fail_msg("text %zu, row %zu of %zu, batch %zu: other bits than alone", order[i], i,
                     count, batch);
    memory_free(vectors);
}

static void shuffle(struct rng *rng, size_t *order)
{
    for (size_t i = 0; i < TEXTS; i++)
        order[i] = i;
    for (size_t i = TEXTS - 1; i > 0; i--) {
        size_t j = rng_below(rng, i + 1), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

static void test_same_bits(void **state)
{
    (void)state;
    static const size_t batches[] = { 0, 1, 7, 512 };
    struct rng rng;
    rng_seed(&rng, 11);
    for (int threads = 1; threads <= 3; threads++) {
        struct rig rig;
        rig_open(&rig, TINY, threads);
        for (size_t b = 0; b < sizeof batches / sizeof *batches; b++)
            for (int round = 0; round < 4; round++) {
                size_t order[TEXTS], count = round ? 1 + rng_below(&rng, TEXTS) : TEXTS;
                shuffle(&rng, order);
                check_bits(&rig, order, count, batches[b], round & 1);
            }
        rig_close(&rig);
    }
}

static void test_report_and_repeats(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, TINY, 2);
    struct akin_text texts[] = { { "toy story", 9 }, { "love", 4 }, { "toy story", 9 }, { NULL, 0 },
                                 { "", 0 }, { "toy\0story", 9 }, { "love", 4 } };
    struct akin_embed_report report;
    float *vectors = embed(&rig, texts, 7, NULL, &report);
    assert_true(report.texts == 7 && report.texts_computed == 4);
    uint64_t tokens = 0;
    static const size_t computed[] = { 0, 1, 3, 5 };
    for (size_t i = 0; i < 4; i++) {
        int32_t ids[40];
        size_t count = 0;
        assert_int_equal(model_tokenize(rig.model, texts[computed[i]], ids, NULL, 40, &count, NULL),
                         AKIN_OK);
        tokens += count;
    }
    assert_true(report.tokens == tokens && tokens >= 12);
    assert_true(fabs(report.mean_norm - 1) < 1e-6 && report.std_norm < 1e-6 && report.nan_inf == 0);
    assert_true(report.seconds > 0);
    assert_memory_equal(vectors, vectors + 2 * DIMENSION, DIMENSION * sizeof *vectors);
    assert_memory_equal(vectors + 3 * DIMENSION, vectors + 4 * DIMENSION,
                        DIMENSION * sizeof *vectors);
    assert_memory_not_equal(vectors, vectors + DIMENSION, DIMENSION * sizeof *vectors);
    memory_free(vectors);
    struct akin_embed_settings settings;
    model_embed_settings_default(&settings);
    settings.deduplicate = false;
    settings.normalize = AKIN_NORMALIZE_NO;
    vectors = embed(&rig, texts, 7, &settings, &report);
    assert_true(report.texts_computed == 7);
    assert_true(report.std_norm > 1e-3);    /* vectors of different lengths */
    memory_free(vectors);
    assert_int_equal(model_embed(rig.model, NULL, 0, NULL, NULL, &report, NULL), AKIN_OK);
    assert_true(report.texts == 0 && report.texts_computed == 0 && report.tokens == 0);
    rig_close(&rig);
}

/* A prompt gives what the text with it in front gives. */
static void test_prompt_bits(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, TINY, 2);
    struct akin_text with[] = { { "film: toy story", 15 }, { "film: ", 6 } };
    struct akin_text without[] = { { "toy story", 9 }, { NULL, 0 } };
    struct akin_embed_settings settings;
    model_embed_settings_default(&settings);
    float *a = embed(&rig, with, 2, &settings, NULL);
    settings.prompt = "film: ";
    float *b = embed(&rig, without, 2, &settings, NULL);
    assert_memory_equal(a, b, 2 * DIMENSION * sizeof *a);
    memory_free(a);
    memory_free(b);
    rig_close(&rig);
}

/* More texts than a window holds, almost all repeats: their first ones lie in earlier windows. */
static void test_windows(void **state)
{
    (void)state;
    enum { MANY = 230000 };
    struct rig rig;
    rig_open(&rig, TINY, 2);
    struct akin_text *texts = memory_alloc(MANY, sizeof *texts);
    for (size_t i = 0; i < MANY; i++)
        texts[i] = fixture.texts[i < MANY - 8 ? i % 3 : i % 8];
    size_t distinct = 0;
    for (size_t i = 0; i < 8; i++) {
        bool fresh = true;
        for (size_t j = 0; j < i; j++)
            fresh = fresh && strcmp(fixture.bytes[i], fixture.bytes[j]) != 0;
        distinct += fresh;
    }
    struct akin_embed_report report;
    float *vectors = embed(&rig, texts, MANY, NULL, &report);
    assert_true(report.texts == MANY && report.texts_computed == distinct);
    for (size_t i = 0; i < MANY; i++)
        assert_memory_equal(vectors + i * DIMENSION, fixture.alone[i < MANY - 8 ? i % 3 : i % 8],
                            sizeof fixture.alone[0]);
    memory_free(vectors);
    memory_free(texts);
    rig_close(&rig);
}

struct watcher {
    pthread_t thread;
    size_t calls, stop_after;
    uint64_t stop_at, last, total;
    bool good;
};

static bool watch(void *cookie, const char *stage, uint64_t done, uint64_t total)
{
    struct watcher *watcher = cookie;
    watcher->good = watcher->good && pthread_equal(watcher->thread, pthread_self()) &&
                    !strcmp(stage, "embed") && done >= watcher->last && done <= total;
    watcher->last = done;
    watcher->total = total;
    return ++watcher->calls < watcher->stop_after && (!watcher->stop_at || done < watcher->stop_at);
}

static void test_progress_and_cancel(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, TINY, 2);
    struct watcher watcher = { .thread = pthread_self(), .stop_after = SIZE_MAX, .good = true };
    struct akin_embed_settings settings;
    model_embed_settings_default(&settings);
    settings.batch_texts = 4;
    settings.progress = (struct akin_progress){ &watcher, watch };
    float *vectors = embed(&rig, fixture.texts, TEXTS, &settings, NULL);
    assert_true(watcher.good && watcher.calls >= 2);
    assert_true(watcher.last == TEXTS && watcher.total == TEXTS);
    watcher = (struct watcher){ .thread = pthread_self(), .stop_after = 1, .good = true };
    struct akin_error error = { 0 };
    assert_int_equal(model_embed(rig.model, fixture.texts, TEXTS, &settings, vectors, NULL, &error),
                     AKIN_CANCELLED);
    assert_true(watcher.calls == 1 && error.status == AKIN_CANCELLED);
    memory_free(vectors);
    rig_close(&rig);
}

/* Several windows of texts that differ: the second is tokenised while the first is computed. */
static void test_many_windows(void **state)
{
    (void)state;
    enum { MANY = 140000, SHORT = 8 };
    struct rig rig;
    struct akin_text *texts = memory_alloc(MANY, sizeof *texts);
    size_t shorts[SHORT], found = 0;
    for (size_t i = 0; found < SHORT; i++)
        if (fixture.texts[i].count < 20)
            shorts[found++] = i;
    for (size_t i = 0; i < MANY; i++)
        texts[i] = fixture.texts[shorts[i * 5 % 7 % SHORT]];
    texts[MANY - 1] = fixture.texts[shorts[SHORT - 1]];
    for (int threads = 1; threads <= 3; threads += 2) {
        rig_open(&rig, TINY, threads);
        struct watcher watcher = { .thread = pthread_self(), .stop_after = SIZE_MAX, .good = true };
        struct akin_embed_settings settings;
        struct akin_embed_report report;
        model_embed_settings_default(&settings);
        settings.deduplicate = false;
        settings.progress = (struct akin_progress){ &watcher, watch };
        float *vectors = embed(&rig, texts, MANY, &settings, &report);
        assert_true(report.texts_computed == MANY && watcher.good && watcher.last == MANY);
        for (size_t i = 0; i < MANY; i++) {
            size_t text = shorts[i == MANY - 1 ? SHORT - 1 : i * 5 % 7 % SHORT];
            assert_memory_equal(vectors + i * DIMENSION, fixture.alone[text],
                                sizeof fixture.alone[0]);
        }
        assert_true(fabs(report.mean_norm - 1) < 1e-6);
        assert_true(report.threads == (size_t)threads && report.lanes == (size_t)threads);
        assert_true(report.tokenize_seconds > 0 && report.encode_seconds > 0);
        assert_true(report.tokenize_seconds + report.encode_seconds <= report.seconds * threads);
        /* stopped on the way: how often it is called depends on how busy the machine is */
        watcher = (struct watcher){ .thread = pthread_self(), .stop_after = SIZE_MAX,
                                    .stop_at = MANY / 2, .good = true };
        assert_int_equal(model_embed(rig.model, texts, MANY, &settings, vectors, NULL, NULL),
                         AKIN_CANCELLED);
        assert_true(watcher.good && watcher.last > 0 && watcher.last < MANY);
        memory_free(vectors);
        rig_close(&rig);
    }
    memory_free(texts);
}

/* Weights on two nodes, workers wherever the system puts them. */
static void test_nodes(void **state)
{
    (void)state;
    size_t order[TEXTS];
    struct rng rng;
    rng_seed(&rng, 13);
    for (int threads = 2; threads <= 4; threads++) {
        struct rig rig;
        rig_open_on(&rig, "node:2 core:1 pu:1", TINY, threads);
        for (int round = 0; round < 3; round++) {
            shuffle(&rng, order);
            check_bits(&rig, order, TEXTS, 0, false);
        }
        for (size_t i = 0; i < 5; i++)
            check_bits(&rig, &order[i], 1, 0, false);
        rig_close(&rig);
    }
}

struct caller {
    struct rig *rig;
    uint64_t seed;
    bool good;
};

static void *call_often(void *argument)
{
    struct caller *caller = argument;
    struct rng rng;
    rng_seed(&rng, caller->seed);
    caller->good = true;
    for (int round = 0; round < 12; round++) {
        size_t begin = rng_below(&rng, TEXTS), count = 1 + rng_below(&rng, TEXTS - begin);
        if (round % 2)          /* one call of a single text uses the embedder's memory */
            count = 1;
        float *vectors = memory_alloc(count, sizeof fixture.alone[0]);
        enum akin_status status = model_embed(caller->rig->model, fixture.texts + begin, count,
                                              NULL, vectors, NULL, NULL);
        caller->good = caller->good && status == AKIN_OK &&
                       !memcmp(vectors, fixture.alone[begin], count * sizeof fixture.alone[0]);
        memory_free(vectors);
        int32_t ids[40];
        size_t ids_count;
        status = model_tokenize(caller->rig->model, fixture.texts[begin], ids, NULL, 40, &ids_count,
                                NULL);
        caller->good = caller->good && status == AKIN_OK && ids_count >= 2;
    }
    return NULL;
}

static void test_concurrent_calls(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, TINY, 2);
    pthread_t threads[3];
    struct caller callers[3];
    for (size_t i = 0; i < 3; i++) {
        callers[i] = (struct caller){ .rig = &rig, .seed = i };
        assert_int_equal(pthread_create(&threads[i], NULL, call_often, &callers[i]), 0);
    }
    for (size_t i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        assert_true(callers[i].good);
    }
    rig_close(&rig);
}

/* A text by itself allocates nothing, however many threads share it; other text, other length. */
static void test_single_allocates_nothing(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 3; threads += 2) {
        struct rig rig;
        struct akin_embed_settings settings;
        float vector[DIMENSION];
        rig_open(&rig, TINY, threads);
        model_embed_settings_default(&settings);
        settings.prompt = "query: ";
        for (size_t i = 0; i < TEXTS; i++)      /* buffers grow to the longest text */
            for (int prompt = 0; prompt < 2; prompt++)
                assert_int_equal(model_embed(rig.model, &fixture.texts[i], 1,
                                             prompt ? &settings : NULL, vector, NULL, NULL),
                                 AKIN_OK);
        uint64_t before = memory_allocations();
        for (size_t i = 0; i < TEXTS; i++) {
            assert_int_equal(model_embed(rig.model, &fixture.texts[i], 1, NULL, vector, NULL,
                                         NULL), AKIN_OK);
            assert_memory_equal(vector, fixture.alone[i], sizeof vector);
            assert_int_equal(model_embed(rig.model, &fixture.texts[i], 1, &settings, vector, NULL,
                                         NULL), AKIN_OK);
        }
        assert_int_equal(memory_allocations(), before);
        rig_close(&rig);
    }
}

/* Two models on one pool: neither changes the other. */
static void test_two_models(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, TINY, 2);
    struct rig other = { .pool = rig.pool, .backend = rig.backend };
    assert_int_equal(
        model_open(rig.backend, rig.pool, TINY "/", AKIN_PRECISION_FP32, NULL, &other.model, NULL),
        AKIN_OK);
    struct akin_model_info info;
    model_info(other.model, &info);
    assert_string_equal(info.name, "tiny-bert");
    float *a = embed(&rig, fixture.texts, 20, NULL, NULL);
    model_close(&rig.model);
    float *b = embed(&other, fixture.texts, 20, NULL, NULL);
    assert_memory_equal(a, b, 20 * sizeof fixture.alone[0]);
    memory_free(a);
    memory_free(b);
    model_close(&other.model);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),           cmocka_unit_test(test_report_and_repeats),
        cmocka_unit_test(test_prompt_bits),         cmocka_unit_test(test_windows),
        cmocka_unit_test(test_progress_and_cancel), cmocka_unit_test(test_concurrent_calls),
        cmocka_unit_test(test_two_models),          cmocka_unit_test(test_many_windows),
        cmocka_unit_test(test_nodes),
        cmocka_unit_test(test_single_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, group_setup, NULL);
}
