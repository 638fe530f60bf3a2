/* A model folder's JSON files: what is read, and what is refused by which name. */
#include "model_helpers.h"

#include "base/limits.h"
#include "model/config.h"

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

static struct model_config load(void)
{
    struct model_config config;
    struct akin_error error = { 0 };
    if (model_config_load(folder, NULL, &config, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    return config;
}

static void refused(enum akin_status status, const char *file, const char *part)
{
    struct model_config config;
    struct akin_error error = { 0 };
    assert_int_equal(model_config_load(folder, NULL, &config, &error), status);
    assert_int_equal(error.status, status);
    assert_message_has(error, file);
    assert_message_has(error, part);
    assert_null(config.prompts);
}

static void test_good(void **state)
{
    (void)state;
    struct model_config config = load();
    assert_string_equal(config.architecture, "BertModel");
    assert_true(config.layers == 2 && config.hidden == 32 && config.heads == 4);
    assert_true(config.intermediate == 64 && config.vocabulary == 183 && config.positions == 48);
    assert_true(config.types == 2 && config.position_first == 0 && config.tokens_max == 40);
    assert_int_equal(config.pooling, POOLING_MEAN);
    assert_true(config.normalize);
    assert_true(config.prompt_count == 2);
    assert_string_equal(config.prompts[0].name, "query");
    assert_string_equal(config.prompts[0].text, "film: ");
    model_config_deinit(&config);
}

static void test_roberta_positions(void **state)
{
    (void)state;
    set_field(folder, "config.json", "architectures", "[\"XLMRobertaModel\"]");
    set_field(folder, "config.json", "model_type", "\"xlm-roberta\"");
    set_field(folder, "config.json", "pad_token_id", "1");
    remove_file(folder, "sentence_bert_config.json");
    remove_file(folder, "tokenizer_config.json");
    struct model_config config = load();
    assert_string_equal(config.architecture, "XLMRobertaModel");
    assert_true(config.position_first == 2);
    assert_true(config.tokens_max == 46);   /* what the position table leaves */
    model_config_deinit(&config);
    set_field(folder, "config.json", "pad_token_id", "100");
    refused(AKIN_FORMAT, "config.json", "max_position_embeddings");
}

static void test_lengths(void **state)
{
    (void)state;
    set_field(folder, "sentence_bert_config.json", "max_seq_length", "1000");
    struct model_config config = load();
    assert_true(config.tokens_max == 48);   /* never more than positions */
    model_config_deinit(&config);
    set_field(folder, "sentence_bert_config.json", "max_seq_length", "null");
    config = load();
    assert_true(config.tokens_max == 48);   /* model_max_length 1e30, a number above 64 bits */
    model_config_deinit(&config);
    put_text(folder, "tokenizer_config.json", "{\"model_max_length\": 17}");
    config = load();
    assert_true(config.tokens_max == 17);
    model_config_deinit(&config);
    set_field(folder, "sentence_bert_config.json", "max_seq_length", "0");
    refused(AKIN_FORMAT, "sentence_bert_config.json", "max_seq_length");
    set_field(folder, "sentence_bert_config.json", "max_seq_length", "\"12\"");
    refused(AKIN_FORMAT, "sentence_bert_config.json", "max_seq_length");
}

static void test_modules(void **state)
{
    (void)state;
    remove_file(folder, "modules.json");
    struct model_config config = load();
    assert_int_equal(config.pooling, POOLING_MEAN);
    assert_false(config.normalize);
    model_config_deinit(&config);
    put_text(folder, "modules.json",
             "[{\"type\":\"a.Transformer\",\"path\":\"\"},{\"type\":\"a.Pooling\",\"path\":\"1_"
             "Pooling\"}]");
    config = load();
    assert_false(config.normalize);
    model_config_deinit(&config);
    put_text(folder, "modules.json",
             "[{\"type\":\"a.Transformer\",\"path\":\"\"},{\"type\":\"a.Pooling\",\"path\":\"1_"
             "Pooling\"},"
             "{\"type\":\"a.Dense\",\"path\":\"2_Dense\"}]");
    refused(AKIN_UNSUPPORTED, "modules.json", "a.Dense");
    put_text(folder, "modules.json", "[{\"type\":\"a.Transformer\",\"path\":\"\"}]");
    refused(AKIN_UNSUPPORTED, "modules.json", "no Pooling");
    put_text(folder, "modules.json", "[{\"type\":\"a.Transformer\",\"path\":\"../else\"}]");
    refused(AKIN_FORMAT, "modules.json", "leaves the model's folder");
    put_text(folder, "modules.json", "{}");
    refused(AKIN_FORMAT, "modules.json", "list of modules");
}

static void test_pooling(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        enum akin_status status;
        enum pooling pooling;
        const char *part;
    } cases[] = {
        {"{\"pooling_mode_cls_token\":true}", AKIN_OK, POOLING_CLS, ""},
        {"{\"pooling_mode_max_tokens\":true}", AKIN_OK, POOLING_MAX, ""},
        {"{\"pooling_mode_mean_tokens\":true,\"pooling_mode_cls_token\":true}", AKIN_UNSUPPORTED, 0,
         "exactly one"},
        {"{\"pooling_mode_lasttoken\":true}", AKIN_UNSUPPORTED, 0, "pooling_mode_lasttoken"},
        {"{\"pooling_mode_mean_tokens\":1}", AKIN_FORMAT, 0, "pooling_mode_mean_tokens"},
        {"{}", AKIN_FORMAT, 0, "exactly one"},
        {"{\"pooling_mode_mean_tokens\":true,\"word_embedding_dimension\":31}", AKIN_FORMAT, 0,
         "word_embedding_dimension"},
        {"[]", AKIN_FORMAT, 0, "expected an object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_text(folder, "1_Pooling/config.json", cases[i].json);
        if (cases[i].status != AKIN_OK) {
            refused(cases[i].status, "1_Pooling/config.json", cases[i].part);
            continue;
        }
        struct model_config config = load();
        assert_int_equal(config.pooling, cases[i].pooling);
        model_config_deinit(&config);
    }
    remove_file(folder, "1_Pooling/config.json");
    refused(AKIN_NOT_FOUND, "1_Pooling/config.json", "No such file");
}

static void test_bad_fields(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value;
        enum akin_status status;
    } cases[] = {
        { "hidden_size", "0", AKIN_FORMAT },
        { "hidden_size", "-1", AKIN_FORMAT },
        { "hidden_size", "1e18", AKIN_FORMAT },
        { "hidden_size", "32.5", AKIN_FORMAT },
        { "hidden_size", "\"32\"", AKIN_FORMAT },
        { "hidden_size", NULL, AKIN_FORMAT },
        { "num_attention_heads", "5", AKIN_FORMAT },
        { "num_attention_heads", "0", AKIN_FORMAT },
        { "num_hidden_layers", "100000", AKIN_FORMAT },
        { "intermediate_size", "null", AKIN_FORMAT },
        { "vocab_size", "0", AKIN_FORMAT },
        { "max_position_embeddings", "0", AKIN_FORMAT },
        { "layer_norm_eps", "0", AKIN_FORMAT },
        { "layer_norm_eps", "\"x\"", AKIN_FORMAT },
        { "hidden_act", "\"gelu_new\"", AKIN_UNSUPPORTED },
        { "hidden_act", "\"relu\"", AKIN_UNSUPPORTED },
        { "position_embedding_type", "\"relative_key\"", AKIN_UNSUPPORTED },
        { "is_decoder", "true", AKIN_UNSUPPORTED },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        copy_file(TINY "/config.json", folder, "config.json");
        set_field(folder, "config.json", cases[i].key, cases[i].value);
        refused(cases[i].status, "config.json", cases[i].key);
    }
}

static void test_architectures(void **state)
{
    (void)state;
    set_field(folder, "config.json", "architectures", "[\"GPT2LMHeadModel\"]");
    refused(AKIN_UNSUPPORTED, "config.json", "GPT2LMHeadModel");
    set_field(folder, "config.json", "model_type", "\"gpt2\"");
    refused(AKIN_UNSUPPORTED, "config.json", "GPT2LMHeadModel");
    set_field(folder, "config.json", "architectures", "[\"JinaBertModel\"]");
    set_field(folder, "config.json", "model_type", "\"bert\"");
    refused(AKIN_UNSUPPORTED, "config.json", "JinaBertModel");
    set_field(folder, "config.json", "architectures", NULL);
    set_field(folder, "config.json", "model_type", NULL);
    refused(AKIN_FORMAT, "config.json", "architectures");
    set_field(folder, "config.json", "architectures", "[\"BertForMaskedLM\"]");
    struct model_config config = load();
    assert_string_equal(config.architecture, "BertModel");
    model_config_deinit(&config);
}

static void test_not_json(void **state)
{
    (void)state;
    static const char *const files[] = {
        "config.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json",
        "config_sentence_transformers.json",
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        static const char *const texts[] = { "{\"hidden_size\": ", "", "\xff\xfe" };
        for (size_t j = 0; j < sizeof texts / sizeof *texts; j++) {
            put_text(folder, files[i], texts[j]);
            refused(AKIN_FORMAT, files[i], "not valid JSON");
        }
        char from[PATH_BYTES_MAX];
        copy_file(in_folder(from, TINY, files[i]), folder, files[i]);
    }
    put_text(folder, "config_sentence_transformers.json", "{\"prompts\": {\"q\": 5}}");
    refused(AKIN_FORMAT, "config_sentence_transformers.json", "prompts.q");
    struct model_config config;
    struct akin_error error;
    assert_int_equal(model_config_load("/nonexistent", NULL, &config, &error), AKIN_NOT_FOUND);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_good),       TEST(test_roberta_positions), TEST(test_lengths),
        TEST(test_modules),    TEST(test_pooling),           TEST(test_bad_fields),
        TEST(test_architectures), TEST(test_not_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
