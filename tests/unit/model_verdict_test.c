/* Precision "auto": the gate, the measurement, and the file that keeps it. */
#include "cards_rig.h"
#include "model_rig.h"

#include "base/hash.h"
#include "model/precision.h"
#include "model/sample.h"

#define FILE_NAME "akin-precision.json"

static char folder[PATH_BYTES_MAX], home[PATH_BYTES_MAX];
static struct bytes warnings;
static struct rig rig;

static void keep_warning(void *cookie, enum akin_log_level level, const char *line)
{
    (void)cookie;
    if (level == AKIN_LOG_WARNING)
        bytes_append_text(&warnings, line);
}

static const struct akin_log test_log = { .write = keep_warning };

static int setup(void **state)
{
    (void)state;
    make_folder(folder);
    make_folder(home);
    copy_tiny(folder);
    warnings = (struct bytes){ 0 };
    bytes_append_text(&warnings, "");
    rig_start(&rig, 2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_close(&rig);
    remove_folder(folder);
    remove_folder(home);
    bytes_deinit(&warnings);
    return 0;
}

static struct precision_place here(void)
{
    return (struct precision_place){ .backend = rig.backend, .pool = rig.pool,
                                     .directory = folder, .home = home, .kernels = "some set",
                                     .version = "1", .log = &test_log };
}

static enum akin_status ask(const struct precision_place *place, enum akin_verdict_ask how,
                            struct akin_verdict *verdict)
{
    struct akin_error error = { 0 };
    enum akin_status status = precision_verdict(place, how, verdict, &error);
    if (status != AKIN_OK && status != AKIN_NOT_FOUND)
        fail_msg("%s", error.message);
    return status;
}

/* ---- the gate --------------------------------------------------------------------------- */

static enum akin_precision judged(double bf16_speed, double bf16_mean, double int8_speed,
                                  double mean, double least, double kept)
{
    struct akin_verdict v = { .count = 3 };
    v.figures[0] = (struct akin_precision_figures){ AKIN_PRECISION_FP32, 100, 1, 1, 1, false };
    v.figures[1] = (struct akin_precision_figures){ AKIN_PRECISION_INT8, int8_speed, mean, least,
                                                    kept, false };
    v.figures[2] = (struct akin_precision_figures){ AKIN_PRECISION_BF16, bf16_speed, bf16_mean,
                                                    0.99, 0.99, false };
    precision_judge(&v, false);
    assert_true(v.figures[0].passes);
    return v.chosen;
}

static void test_gate(void **state)
{
    (void)state;
    assert_int_equal(judged(200, 0.99995, 400, 0.998, 0.99, 0.96), AKIN_PRECISION_INT8);
    assert_int_equal(judged(200, 0.99995, 400, 0.9969, 0.99, 0.96), AKIN_PRECISION_BF16);
    assert_int_equal(judged(200, 0.99995, 400, 0.998, 0.979, 0.96), AKIN_PRECISION_BF16);
    assert_int_equal(judged(200, 0.99995, 400, 0.998, 0.99, 0.949), AKIN_PRECISION_BF16);
    assert_int_equal(judged(200, 0.99989, 400, 0.998, 0.99, 0.949), AKIN_PRECISION_FP32);
    assert_int_equal(judged(200, 0.99995, 210, 0.998, 0.99, 0.96), AKIN_PRECISION_BF16);
    assert_int_equal(judged(105, 0.99995, 90, 0.998, 0.99, 0.96), AKIN_PRECISION_FP32);
    assert_int_equal(judged(105, 0.99995, 112, 0.998, 0.99, 0.96), AKIN_PRECISION_INT8);
    assert_int_equal(judged(200, NAN, 400, NAN, 0.99, 0.96), AKIN_PRECISION_FP32);
}

static enum akin_precision judged_on_cards(double fp16_speed, double speed, double mean,
                                           double least, double kept)
{
    struct akin_verdict v = { .count = 3 };
    v.figures[0] = (struct akin_precision_figures){ AKIN_PRECISION_FP32, 1e6, 1, 1, 1, false };
    v.figures[1] = (struct akin_precision_figures){ AKIN_PRECISION_FP16, fp16_speed, 0.999999,
                                                    0.99999, 0.999, false };
    v.figures[2] = (struct akin_precision_figures){ AKIN_PRECISION_INT8, speed, mean, least, kept,
                                                    false };
    precision_judge(&v, true);
    assert_true(v.figures[1].passes);
    return v.chosen;
}

/* The CPU's fp32 is for comparison, however fast; int8 has to be better than on the CPU. */
static void test_gate_of_cards(void **state)
{
    (void)state;
    assert_int_equal(judged_on_cards(100, 200, 0.9995, 0.9991, 0.991), AKIN_PRECISION_INT8);
    assert_int_equal(judged_on_cards(100, 200, 0.9989, 0.9991, 0.991), AKIN_PRECISION_FP16);
    assert_int_equal(judged_on_cards(100, 200, 0.9995, 0.9989, 0.991), AKIN_PRECISION_FP16);
    assert_int_equal(judged_on_cards(100, 200, 0.9995, 0.9991, 0.989), AKIN_PRECISION_FP16);
    assert_int_equal(judged_on_cards(100, 105, 0.9995, 0.9991, 0.991), AKIN_PRECISION_FP16);
    assert_int_equal(judged_on_cards(100, 200, NAN, NAN, 0.991), AKIN_PRECISION_FP16);
    struct akin_verdict none = { .count = 1 };
    none.figures[0] = (struct akin_precision_figures){ AKIN_PRECISION_FP32, 100, 1, 1, 1, false };
    precision_judge(&none, true);
    assert_int_equal(none.chosen, AKIN_PRECISION_FP16);
}

static void test_sample(void **state)
{
    (void)state;
    struct akin_text texts[SAMPLE_TEXTS];
    struct string_pool pool = { 0 };
    uint64_t hash = 0;
    assert_true(sample_texts(&pool, texts, SAMPLE_TEXTS));
    for (size_t i = 0; i < SAMPLE_TEXTS; i++) {
        assert_true(texts[i].count > 3 && texts[i].count < 399);
        hash = hash_bytes_seed(texts[i].bytes, texts[i].count, hash);
        for (size_t k = 0; k < i; k++)
            assert_false(texts[k].count == texts[i].count &&
                         !memcmp(texts[k].bytes, texts[i].bytes, texts[i].count));
    }
    string_pool_deinit(&pool);
    /* The same on every machine; figures of other texts could not be compared. */
    assert_int_equal(hash, 0x0d34d29854f2821f);
}

/* ---- measured, kept, found again -------------------------------------------------------- */

static void test_measured_once(void **state)
{
    (void)state;
    struct precision_place place = here();
    struct akin_verdict first, again;
    char path[PATH_BYTES_MAX];
    assert_int_equal(ask(&place, AKIN_VERDICT_KEPT, &first), AKIN_NOT_FOUND);
    assert_false(path_exists(in_folder(path, folder, FILE_NAME)));
    assert_int_equal(ask(&place, AKIN_VERDICT_IF_NONE, &first), AKIN_OK);
    assert_string_equal(first.path, in_folder(path, folder, FILE_NAME));
    assert_true(path_exists(path));
    assert_true(first.count >= 2 && first.texts >= 120);
    assert_int_equal(first.figures[0].precision, AKIN_PRECISION_FP32);
    assert_true(first.figures[0].cosine_min > 0.999999 && first.figures[0].neighbours_kept == 1);
    for (size_t i = 0; i < first.count; i++) {
        const struct akin_precision_figures *f = &first.figures[i];
        assert_true(f->texts_per_second > 0 && f->cosine_mean > 0.99 && f->cosine_min > 0.9);
    }
    /* Measured again, the speeds would not be the same. */
    for (int i = 0; i < 2; i++) {
        enum akin_verdict_ask how = i ? AKIN_VERDICT_IF_NONE : AKIN_VERDICT_KEPT;
        assert_int_equal(ask(&place, how, &again), AKIN_OK);
        assert_int_equal(again.chosen, first.chosen);
        assert_int_equal(again.count, first.count);
        assert_string_equal(again.measured, first.measured);
        for (size_t k = 0; k < first.count; k++)
            assert_true(fabs(again.figures[k].texts_per_second / first.figures[k].texts_per_second
                             - 1) < 1e-6);
    }
    assert_string_equal(warnings.data, "");
}

static void test_other_keys(void **state)
{
    (void)state;
    struct precision_place place = here(), other = here();
    struct akin_verdict verdict;
    assert_int_equal(ask(&place, AKIN_VERDICT_IF_NONE, &verdict), AKIN_OK);
    other.kernels = "another set";
    assert_int_equal(ask(&other, AKIN_VERDICT_KEPT, &verdict), AKIN_NOT_FOUND);
    assert_int_equal(ask(&other, AKIN_VERDICT_IF_NONE, &verdict), AKIN_OK);
    assert_int_equal(ask(&place, AKIN_VERDICT_KEPT, &verdict), AKIN_OK);    /* both are kept */
    assert_int_equal(ask(&other, AKIN_VERDICT_KEPT, &verdict), AKIN_OK);
    for (int i = 0; i < 20; i++) {      /* and not without end */
        char name[16];
        snprintf(name, sizeof name, "set %d", i);
        other.kernels = name;
        assert_int_equal(ask(&other, AKIN_VERDICT_IF_NONE, &verdict), AKIN_OK);
    }
    assert_int_equal(ask(&place, AKIN_VERDICT_KEPT, &verdict), AKIN_NOT_FOUND);
    assert_int_equal(ask(&place, AKIN_VERDICT_IF_NONE, &verdict), AKIN_OK);
    other = here();
    other.version = "2";
    assert_int_equal(ask(&other, AKIN_VERDICT_KEPT, &verdict), AKIN_NOT_FOUND);
    char path[PATH_BYTES_MAX];
    struct file_map map;
    assert_int_equal(file_map_open(in_folder(path, folder, "model.safetensors"), &map, NULL),
                     AKIN_OK);
    char *copy = memory_copy_bytes((const char *)map.data, map.bytes);
    size_t bytes = map.bytes;
    file_map_close(&map);
    put_file(folder, "model.safetensors", copy, bytes);     /* written again, unchanged */
    assert_int_equal(ask(&place, AKIN_VERDICT_KEPT, &verdict), AKIN_OK);
    copy[bytes - 4] ^= 1;
    put_file(folder, "model.safetensors", copy, bytes);
    memory_free(copy);
    assert_int_equal(ask(&place, AKIN_VERDICT_KEPT, &verdict), AKIN_NOT_FOUND);
    assert_string_equal(warnings.data, "");
}

/* Cards whose vectors have nothing to do with the model's: int8 fails, whatever its speed. The
 * CPU's verdict is another one. */
static void test_measured_on_cards(void **state)
{
    (void)state;
    struct encoder_cards cards = { .ops = &fake_cards, .count = 1 };
    struct precision_place cpu = here(), place = here();
    struct akin_verdict verdict, again;
    place.cards = &cards;
    place.kernels = "1 x made up";
    assert_int_equal(ask(&place, AKIN_VERDICT_IF_NONE, &verdict), AKIN_OK);
    assert_int_equal(verdict.chosen, AKIN_PRECISION_FP16);
    assert_int_equal(verdict.count, 3);
    assert_int_equal(verdict.figures[0].precision, AKIN_PRECISION_FP32);
    assert_int_equal(verdict.figures[1].precision, AKIN_PRECISION_FP16);
    assert_int_equal(verdict.figures[2].precision, AKIN_PRECISION_INT8);
    assert_true(verdict.figures[0].passes && !verdict.figures[2].passes);
    assert_true(verdict.figures[2].cosine_mean < 0.99);
    assert_ptr_equal(precision_figures(&verdict, AKIN_PRECISION_INT8), &verdict.figures[2]);
    assert_null(precision_figures(&verdict, AKIN_PRECISION_BF16));
    assert_int_equal(ask(&place, AKIN_VERDICT_KEPT, &again), AKIN_OK);
    assert_true(again.chosen == AKIN_PRECISION_FP16 && again.count == 3);
    assert_int_equal(ask(&cpu, AKIN_VERDICT_KEPT, &again), AKIN_NOT_FOUND);
    assert_true(devices == 0 && streams == 0);
}

/* A folder in the way of the file stands for a model's folder that cannot be written: root may
 * write everywhere. */
static void test_other_place(void **state)
{
    (void)state;
    struct precision_place place = here();
    struct akin_verdict verdict;
    put_text(folder, FILE_NAME "/in-the-way", "");
    assert_int_equal(ask(&place, AKIN_VERDICT_IF_NONE, &verdict), AKIN_OK);
    assert_int_equal(strncmp(verdict.path, home, strlen(home)), 0);
    assert_true(path_exists(verdict.path));
    struct akin_verdict again;
    assert_int_equal(ask(&place, AKIN_VERDICT_KEPT, &again), AKIN_OK);
    assert_string_equal(again.path, verdict.path);
    place.home = NULL;      /* nowhere: nothing is measured, not at every start */
    bytes_clear(&warnings);
    assert_int_equal(ask(&place, AKIN_VERDICT_IF_NONE, &verdict), AKIN_OK);
    assert_int_equal(verdict.chosen, AKIN_PRECISION_FP32);
    assert_int_equal(verdict.texts, 0);
    assert_non_null(strstr(warnings.data, "cannot be kept"));
    assert_int_equal(ask(&place, AKIN_VERDICT_ANEW, &verdict), AKIN_OK);
    assert_true(verdict.texts > 0 && !*verdict.path);
}

/* ---- bad files -------------------------------------------------------------------------- */

static char *text_of(const char *name)
{
    char path[PATH_BYTES_MAX];
    struct bytes text = { 0 };
    assert_int_equal(file_read(in_folder(path, folder, name), 1 << 20, &text, NULL), AKIN_OK);
    return text.data;
}

/* `from` replaced by `to`, once; the caller frees. */
static char *replaced(const char *text, const char *from, const char *to)
{
    struct bytes out = { 0 };
    const char *at = strstr(text, from);
    if (!at)
        fail_msg("no %s in the file", from);
    bytes_append(&out, text, (size_t)(at - text));
    bytes_append_text(&out, to);
    bytes_append_text(&out, at + strlen(from));
    return out.data;
}

static void expect_ignored(const char *text, const char *reason)
{
    struct precision_place place = here();
    struct akin_verdict verdict;
    put_text(folder, FILE_NAME, text);
    bytes_clear(&warnings);
    if (ask(&place, AKIN_VERDICT_KEPT, &verdict) != AKIN_NOT_FOUND)
        fail_msg("believed: %s", text);
    if (!strstr(warnings.data, reason))
        fail_msg("expected a note about \"%s\", got \"%s\"", reason, warnings.data);
}

static void test_bad_files(void **state)
{
    static const char *const changes[][3] = {
        { "\"format\": 1", "\"format\": 2", "format: 2" },
        { "\"format\": 1", "\"format\": \"1\"", "format" },
        { "\"weights\": {", "\"weighs\": {", "weights: expected an object" },
        { "\"bytes\": ", "\"bytes\": -0.5, \"b\": ", "bytes" },
        { "\"sample\": \"", "\"sample\": \"x", "sixteen" },
        { "\"verdicts\": [", "\"verdict\": [", "verdicts: expected a list" },
        { "\"precision\": \"fp32\"", "\"precision\": \"fp33\"", "fp33" },
        { "\"precision\": \"fp32\"", "\"precision\": \"int8\"", "" },
        { "\"precision\": \"int8\"", "\"precision\": \"fp32\"", "twice" },
        { "\"cosine_mean\": ", "\"cosine_mean\": 1", "cosine_mean" },
        { "\"cosine_min\": ", "\"cosine_min\": null, \"c\": ", "cosine_min" },
        { "\"neighbours_kept\": ", "\"neighbours_kept\": -", "neighbours_kept" },
        { "\"texts_per_second\": ", "\"texts_per_second\": -", "texts_per_second" },
        { "\"texts_per_second\": ", "\"texts_per_second\": 1e300, \"t\": ", "texts_per_second" },
        { "\"texts\": ", "\"texts\": -", "texts" },
        { "\"precisions\": [", "\"precisions\": [], \"p\": [", "precisions" },
        { "\"measured\": \"", "\"measured\": 7, \"m\": \"", "measured" },
    };
    (void)state;
    struct precision_place place = here();
    struct akin_verdict verdict;
    assert_int_equal(ask(&place, AKIN_VERDICT_IF_NONE, &verdict), AKIN_OK);
    char *good = text_of(FILE_NAME);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        char *bad = replaced(good, changes[i][0], changes[i][1]);
        expect_ignored(bad, changes[i][2]);
        memory_free(bad);
    }
    for (size_t bytes = 0; bytes + 2 < strlen(good); bytes += 37) {
        char *cut = memory_copy_bytes(good, bytes);
        expect_ignored(cut, FILE_NAME);
        memory_free(cut);
    }
    expect_ignored("[]", "format");
    expect_ignored("\xff\xfe{", FILE_NAME);
    expect_ignored("{\"format\": 1e999}", FILE_NAME);
    /* And then it is measured anew, and the file is good again. */
    assert_int_equal(ask(&place, AKIN_VERDICT_IF_NONE, &verdict), AKIN_OK);
    bytes_clear(&warnings);
    assert_int_equal(ask(&place, AKIN_VERDICT_KEPT, &verdict), AKIN_OK);
    assert_string_equal(warnings.data, "");
    memory_free(good);
}

static void test_no_model(void **state)
{
    (void)state;
    struct precision_place place = here();
    struct akin_verdict verdict;
    struct akin_error error = { 0 };
    place.directory = "/nonexistent";
    for (int how = AKIN_VERDICT_KEPT; how <= AKIN_VERDICT_ANEW; how++)
        assert_int_not_equal(precision_verdict(&place, (enum akin_verdict_ask)how, &verdict,
                                               &error), AKIN_OK);
    assert_message_has(error, "/nonexistent");
    char path[PATH_BYTES_MAX];
    remove_file(folder, "tokenizer.json");
    place = here();
    assert_int_equal(precision_verdict(&place, AKIN_VERDICT_IF_NONE, &verdict, &error),
                     AKIN_NOT_FOUND);
    assert_message_has(error, "tokenizer.json");
    assert_false(path_exists(in_folder(path, folder, FILE_NAME)));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_gate), TEST(test_gate_of_cards), TEST(test_measured_on_cards),
        TEST(test_sample), TEST(test_measured_once), TEST(test_other_keys),
        TEST(test_other_place), TEST(test_bad_files), TEST(test_no_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
