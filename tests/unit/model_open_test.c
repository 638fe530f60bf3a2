/* Opening, finding and checking model folders: good ones, and damaged ones that are refused with
 * the file and the field. */
#include "model_rig.h"

#include "base/hash.h"

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

static void test_info(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, TINY, 1);
    struct akin_model_info info;
    model_info(rig.model, &info);
    assert_string_equal(info.name, "tiny-bert");
    assert_string_equal(info.architecture, "BertModel");
    assert_string_equal(info.tokenizer, "wordpiece");
    assert_string_equal(info.pooling, "mean");
    assert_string_equal(info.weights, "F32");
    assert_true(info.layers == 2 && info.hidden == 32 && info.heads == 4 &&
                info.intermediate == 64);
    assert_true(info.vocabulary == 183 && info.positions == 48 && info.tokens_max == 40);
    assert_true(info.dimension == 32 && info.normalized && info.file_bytes == 102712);
    /* tables, their LayerNorm, and per layer four attention maps, two wide ones, two LayerNorms */
    size_t layer = 4 * (32 * 32 + 32) + 2 * 32 * 64 + 64 + 32 + 4 * 32;
    assert_true(info.parameters == (183 + 48 + 2) * 32 + 64 + 2 * layer);
    assert_int_equal(info.precision, AKIN_PRECISION_FP32);
    const char *name, *text;
    assert_true(model_prompt(rig.model, 0, &name, &text));
    assert_string_equal(name, "query");
    assert_string_equal(text, "film: ");
    assert_true(model_prompt(rig.model, 1, &name, &text));
    assert_false(model_prompt(rig.model, 2, &name, &text));
    int32_t ids[4];
    size_t count;
    struct akin_error error;
    struct akin_text long_text = { "a a a a a a", 11 };
    assert_int_equal(model_tokenize(rig.model, long_text, ids, NULL, 4, &count, &error), AKIN_OK);
    assert_true(count == 4);
    assert_int_equal(model_tokenize(rig.model, long_text, ids, NULL, 1, &count, &error),
                     AKIN_ARGUMENT);
    rig_close(&rig);
    model_close(&rig.model);
}

static void refused(enum akin_status status, const char *file, const char *part)
{
    struct rig rig;
    rig_start(&rig, 1);
    struct akin_error error = { 0 };
    assert_int_equal(
        model_open(rig.backend, rig.pool, folder, AKIN_PRECISION_FP32, NULL, &rig.model, &error),
        status);
    assert_null(rig.model);
    assert_int_equal(error.status, status);
    assert_message_has(error, file);
    assert_message_has(error, part);
    rig_close(&rig);
}

#define QUERY "encoder.layer.1.attention.self.query.weight"

static void drop_query(json_t *header)
{
    json_object_del(header, QUERY);
}

static void set_query(json_t *header, const char *key, json_t *value)
{
    json_object_set_new(json_object_get(header, QUERY), key, value);
}

static void make_query_i8(json_t *header)
{
    set_query(header, "dtype", json_string("I8"));
}

static void make_query_i32(json_t *header)
{
    set_query(header, "dtype", json_string("I32"));
}

static void shorten_query(json_t *header)
{
    set_query(header, "shape", json_pack("[i,i]", 32, 31));
}

static void turn_query(json_t *header)
{
    set_query(header, "shape", json_pack("[i,i]", 16, 64));
}

static void send_query_away(json_t *header)
{
    set_query(header, "data_offsets", json_pack("[i,I]", 0, (json_int_t)1 << 62));
}

static void test_bad_weights(void **state)
{
    (void)state;
    static const struct {
        void (*change)(json_t *header);
        enum akin_status status;
        const char *part;
    } cases[] = {
        { drop_query, AKIN_FORMAT, "tensor " QUERY " is missing" },
        { make_query_i8, AKIN_FORMAT, QUERY },
        { make_query_i32, AKIN_UNSUPPORTED, QUERY ": dtype I32" },
        { shorten_query, AKIN_FORMAT, QUERY },
        { turn_query, AKIN_FORMAT, QUERY ": shape [16,64], but config.json makes it [32,32]" },
        { send_query_away, AKIN_FORMAT, QUERY ": data_offsets" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        copy_file(TINY "/model.safetensors", folder, "model.safetensors");
        rewrite_header(folder, cases[i].change);
        refused(cases[i].status, "model.safetensors", cases[i].part);
    }
    struct file_map map;
    assert_int_equal(file_map_open(TINY "/model.safetensors", &map, NULL), AKIN_OK);
    put_file(folder, "model.safetensors", map.data, map.bytes / 2);
    refused(AKIN_FORMAT, "model.safetensors", "cut short");
    put_file(folder, "model.safetensors", map.data, 0);
    refused(AKIN_FORMAT, "model.safetensors", "too few");
    file_map_close(&map);
}

static void test_missing_files(void **state)
{
    (void)state;
    remove_file(folder, "tokenizer.json");
    refused(AKIN_NOT_FOUND, "tokenizer.json", "No such file");
    remove_file(folder, "model.safetensors");
    refused(AKIN_NOT_FOUND, "model.safetensors", "no such file");
    put_text(folder, "pytorch_model.bin", "x");
    refused(AKIN_UNSUPPORTED, "pytorch_model.bin", "safe_serialization");
    put_text(folder, "model.safetensors.index.json", "{}");
    refused(AKIN_UNSUPPORTED, "model.safetensors.index.json", "several files");
    remove_file(folder, "config.json");
    refused(AKIN_NOT_FOUND, "config.json", "No such file");
}

static void shrink_words(json_t *header)
{
    json_t *word = json_object_get(header, "embeddings.word_embeddings.weight");
    json_object_set_new(word, "shape", json_pack("[i,i]", 100, 32));
    json_t *offsets = json_object_get(word, "data_offsets");
    json_array_set_new(offsets, 1,
                       json_integer(json_integer_value(json_array_get(offsets, 0)) + 100 * 32 * 4));
}

static void test_tokenizer_disagrees(void **state)
{
    (void)state;
    set_field(folder, "config.json", "vocab_size", "100");
    rewrite_header(folder, shrink_words);
    refused(AKIN_FORMAT, "tokenizer.json", "vocab_size 100");
    copy_tiny(folder);
    put_text(folder, "sentence_bert_config.json", "{\"max_seq_length\": 2}");
    refused(AKIN_FORMAT, "tokenizer.json", "special tokens");
}

static void test_precision(void **state)
{
    (void)state;
    struct rig rig;
    rig_start(&rig, 1);
    struct akin_error error = { 0 };
    assert_int_equal(
        model_open(rig.backend, rig.pool, folder, AKIN_PRECISION_FP16, NULL, &rig.model, &error),
        AKIN_UNSUPPORTED);
    assert_message_has(error, "fp16");
    assert_int_equal(model_open(rig.backend, rig.pool, folder, (enum akin_precision)99, NULL,
                                &rig.model, &error),
                     AKIN_ARGUMENT);
    rig_close(&rig);
}

/* ---- check ------------------------------------------------------------------------------ */

static enum akin_status check(struct akin_error *error)
{
    struct rig rig;
    rig_start(&rig, 2);
    enum akin_status status = model_check(rig.backend, rig.pool, folder, NULL,
                                          (struct akin_progress){ 0 }, error);
    rig_close(&rig);
    return status;
}

static void test_check(void **state)
{
    (void)state;
    struct akin_error error = { 0 };
    if (check(&error) != AKIN_OK)
        fail_msg("%s", error.message);
    char path[PATH_BYTES_MAX], hex[65], sums[256];
    assert_int_equal(sha256_file(in_folder(path, folder, "config.json"), hex, NULL), AKIN_OK);
    snprintf(sums, sizeof sums, "# somewhere\n%s  config.json\n", hex);
    put_text(folder, "SHA256SUMS", sums);
    assert_int_equal(check(&error), AKIN_OK);
    sums[12] = sums[12] == '0' ? '1' : '0';
    put_text(folder, "SHA256SUMS", sums);
    assert_int_equal(check(&error), AKIN_FORMAT);
    assert_message_has(error, "config.json: SHA-256 is");
    snprintf(sums, sizeof sums, "%s  ../config.json\n", hex);
    put_text(folder, "SHA256SUMS", sums);
    assert_int_equal(check(&error), AKIN_FORMAT);
    assert_message_has(error, "SHA256SUMS:1");
    put_text(folder, "SHA256SUMS", "nonsense\n");
    assert_int_equal(check(&error), AKIN_FORMAT);
    snprintf(sums, sizeof sums, "%s  gone.json\n", hex);
    put_text(folder, "SHA256SUMS", sums);
    assert_int_equal(check(&error), AKIN_NOT_FOUND);
}

/* A NaN in the last row of the position table, which no text reaches. */
static void test_check_finds_nan(void **state)
{
    (void)state;
    char path[PATH_BYTES_MAX];
    struct file_map map;
    assert_int_equal(file_map_open(in_folder(path, folder, "model.safetensors"), &map, NULL),
                     AKIN_OK);
    char *copy = memory_copy_bytes((const char *)map.data, map.bytes);
    size_t bytes = map.bytes, header = map.data[0] | (size_t)map.data[1] << 8;
    file_map_close(&map);
    size_t at = 8 + header + 48 * 8 + 183 * 32 * 4 + 47 * 32 * 4;
    memcpy(copy + at, "\x00\x00\xc0\x7f", 4);
    put_file(folder, "model.safetensors", copy, bytes);
    memory_free(copy);
    struct akin_error error = { 0 };
    assert_int_equal(check(&error), AKIN_FORMAT);
    assert_message_has(error, "position_embeddings.weight: element 1504 is not finite");
}

/* ---- where models lie ------------------------------------------------------------------- */

static void collect(void *cookie, const char *name, const char *path)
{
    assert_true(path_is_folder(path));
    bytes_printf(cookie, "%s ", name);
}

static void test_locate_and_list(void **state)
{
    (void)state;
    put_text(folder, "models/beta/config.json", "{}");
    put_text(folder, "models/alpha/modules.json", "[]");
    put_text(folder, "models/empty/readme", "");
    put_text(folder, "models/.pull-gamma/config.json", "{}");
    struct bytes names = { 0 };
    struct akin_error error = { 0 };
    assert_int_equal(model_list(folder, &names, collect, &error), AKIN_OK);
    assert_string_equal(names.data, "alpha beta ");
    bytes_deinit(&names);
    char path[PATH_BYTES_MAX], want[PATH_BYTES_MAX], small[8];
    assert_int_equal(model_locate(folder, "alpha", path, sizeof path, &error), AKIN_OK);
    assert_string_equal(path, in_folder(want, folder, "models/alpha"));
    assert_int_equal(model_locate(folder, "owner/beta", path, sizeof path, &error), AKIN_OK);
    assert_string_equal(path, in_folder(want, folder, "models/beta"));
    assert_int_equal(model_locate(folder, "Owner/ALPHA", path, sizeof path, &error), AKIN_OK);
    assert_string_equal(path_last(path), "alpha");
    assert_int_equal(model_locate(folder, folder, path, sizeof path, &error), AKIN_OK);
    assert_string_equal(path, folder);
    assert_int_equal(model_locate(folder, "alpha", small, sizeof small, &error), AKIN_LIMIT);
    static const char *const bad[] = {"gamma", ".pull-gamma",    "..",
                                      "../..", "/nonexistent/x", "a/.."};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(model_locate(folder, bad[i], path, sizeof path, &error), AKIN_NOT_FOUND);
        assert_message_has(error, "akin model pull");
    }
    assert_int_equal(model_locate(folder, bad[4], path, sizeof path, &error), AKIN_NOT_FOUND);
    assert_int_equal(model_locate(folder, bad[5], path, sizeof path, &error), AKIN_NOT_FOUND);
    assert_int_equal(model_locate(folder, "", path, sizeof path, &error), AKIN_ARGUMENT);
    assert_int_equal(model_list("/nonexistent", NULL, collect, &error), AKIN_OK);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_info), TEST(test_bad_weights), TEST(test_missing_files),
        TEST(test_tokenizer_disagrees), TEST(test_precision), TEST(test_check),
        TEST(test_check_finds_nan), TEST(test_locate_and_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
