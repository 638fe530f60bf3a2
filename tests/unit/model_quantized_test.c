/* The narrowed weights beside a model: same bits with and without, and no trust in the file. */
#include "model_rig.h"

#include <unistd.h>

#include "base/hash.h"
#include "model/quantized.h"
#include "model/safetensors.h"

#define INT8 "akin-int8.safetensors"

/* XXH3 of what STORED_METHOD makes of the small model. If this fails, the weights are narrowed in
 * another way than before: raise STORED_METHOD, then write the new number here. */
static const uint64_t tiny_checksum = 0x736d6c6e1623e77e;

static char folder[PATH_BYTES_MAX];
static struct bytes warnings;

static void keep_warning(void *cookie, enum akin_log_level level, const char *line)
{
    (void)cookie;
    if (level == AKIN_LOG_WARNING)
        bytes_append_text(&warnings, line);
}

static int setup(void **state)
{
    (void)state;
    make_folder(folder);
    copy_tiny(folder);
    warnings = (struct bytes){ 0 };
    bytes_append_text(&warnings, "");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    remove_folder(folder);
    bytes_deinit(&warnings);
    return 0;
}

/* Vectors of the small texts; NULL where the processor lacks the precision. */
static float *vectors_of(const char *model, enum akin_precision precision, bool from_file,
                         size_t *bytes)
{
    struct rig rig;
    struct corpus corpus;
    struct akin_error error = { 0 };
    struct akin_log log = { .write = keep_warning };
    rig_start(&rig, 2);
    enum akin_status status =
        model_open(rig.backend, rig.pool, model, precision, &log, &rig.model, &error);
    if (status == AKIN_UNSUPPORTED) {
        rig_close(&rig);
        return NULL;
    }
    if (status != AKIN_OK)
        fail_msg("%s", error.message);
    struct akin_model_info info;
    model_info(rig.model, &info);
    assert_int_equal(info.from_quantized, from_file);
    corpus_read(&corpus, EXPECTED "/texts.jsonl");
    float *vectors = embed(&rig, corpus.texts, corpus.count, NULL, NULL);
    *bytes = corpus.count * info.dimension * sizeof *vectors;
    corpus_free(&corpus);
    rig_close(&rig);
    return vectors;
}

static enum akin_status quantize(const char *model, enum akin_precision precision,
                                 const char *path, struct akin_error *error)
{
    struct rig rig;
    char written[PATH_BYTES_MAX];
    rig_start(&rig, 1);
    enum akin_status status = model_quantize(rig.backend, model, precision, path, written,
                                             sizeof written, error);
    if (status == AKIN_OK)
        assert_true(path_exists(written));
    rig_close(&rig);
    return status;
}

static void must_quantize(const char *model, enum akin_precision precision)
{
    struct akin_error error = { 0 };
    if (quantize(model, precision, NULL, &error) != AKIN_OK)
        fail_msg("%s", error.message);
}

static void check_same_bits(const char *model, enum akin_precision precision)
{
    size_t bytes = 0;
    float *without = vectors_of(model, precision, false, &bytes);
    if (!without)
        return;
    must_quantize(model, precision);
    float *with = vectors_of(model, precision, true, &bytes);
    assert_memory_equal(without, with, bytes);
    assert_string_equal(warnings.data, "");
    memory_free(without);
    memory_free(with);
}

static void test_same_bits(void **state)
{
    (void)state;
    check_same_bits(folder, AKIN_PRECISION_INT8);
    check_same_bits(folder, AKIN_PRECISION_BF16);
}

/* A folder of links, so that the file is not written beside the real model. */
static void test_real_model(void **state)
{
    const char *models = getenv("AKIN_TEST_MODELS");
    char model[PATH_BYTES_MAX], from[PATH_BYTES_MAX], to[PATH_BYTES_MAX], own[PATH_BYTES_MAX];
    struct names names = { 0 };
    (void)state;
    if (!models || !path_is_folder(in_folder(model, models, "all-minilm-l6-v2"))) {
        print_message("skipped: AKIN_TEST_MODELS has no all-minilm-l6-v2\n");
        skip();
    }
    make_folder(own);
    assert_int_equal(path_list(model, &names, NULL), AKIN_OK);
    for (size_t i = 0; i < names.count; i++)
        if (strncmp(names.items[i], "akin-", 5))
            assert_int_equal(symlink(in_folder(from, model, names.items[i]),
                                     in_folder(to, own, names.items[i])), 0);
    names_deinit(&names);
    check_same_bits(own, AKIN_PRECISION_INT8);
    check_same_bits(own, AKIN_PRECISION_BF16);
    remove_folder(own);
}

/* ---- the file --------------------------------------------------------------------------- */

struct image {
    char *data;
    size_t bytes;
};

static struct image read_image(void)
{
    char path[PATH_BYTES_MAX];
    struct file_map map;
    assert_int_equal(file_map_open(in_folder(path, folder, INT8), &map, NULL), AKIN_OK);
    struct image image = { memory_copy_bytes((const char *)map.data, map.bytes), map.bytes };
    file_map_close(&map);
    return image;
}

static char *find(const struct image *image, const char *text)
{
    char *at = memmem(image->data, image->bytes, text, strlen(text));
    assert_non_null(at);
    return at;
}

/* Where the data of a tensor lie. */
static char *tensor_at(const struct image *image, const char *name)
{
    struct safetensors *file;
    assert_int_equal(safetensors_parse(image->data, image->bytes, "image", &file, NULL), AKIN_OK);
    const struct safetensors_tensor *t = safetensors_find(file, name);
    assert_non_null(t);
    size_t at = (size_t)(t->data - (const unsigned char *)image->data);
    safetensors_close(&file);
    return image->data + at;
}

/* The checksum that its tensors have now. */
static uint64_t checksum_of(const struct image *image)
{
    struct safetensors *file;
    uint64_t hash = 0;
    assert_int_equal(safetensors_parse(image->data, image->bytes, "image", &file, NULL), AKIN_OK);
    for (size_t i = 0; i < safetensors_count(file); i++) {
        const struct safetensors_tensor *t = safetensors_at(file, i);
        hash = hash_bytes_seed(t->name, strlen(t->name), hash);
        hash = hash_bytes_seed(t->data, t->bytes, hash);
    }
    safetensors_close(&file);
    return hash;
}

/* Makes the checksum right again after a change. */
static void sign(const struct image *image)
{
    char hex[17];
    hex64_text(checksum_of(image), hex);
    memcpy(find(image, "\"checksum\":\"") + strlen("\"checksum\":\""), hex, 16);
}

/* The file as it is now is left aside with `reason`, and the model computes without it. */
static void expect_not_used(const float *want, const char *reason)
{
    size_t bytes = 0;
    struct akin_quantized *kept = memory_alloc(1, sizeof *kept);
    struct akin_error error = { 0 };
    bytes_clear(&warnings);
    float *vectors = vectors_of(folder, AKIN_PRECISION_INT8, false, &bytes);
    assert_memory_equal(vectors, want, bytes);
    if (!strstr(warnings.data, "not used: ") || !strstr(warnings.data, reason))
        fail_msg("expected a note about \"%s\", got \"%s\"", reason, warnings.data);
    assert_int_equal(model_quantized(folder, AKIN_PRECISION_INT8, kept, &error), AKIN_OK);
    assert_true(kept->exists);
    struct rig rig;
    rig_start(&rig, 1);
    assert_int_equal(model_check_quantized(rig.backend, folder, &error), AKIN_FORMAT);
    rig_close(&rig);
    memory_free(kept);
    memory_free(vectors);
}

enum damage { CUT, EMPTY, ONE_BIT, PRECISION, VERSION, METHOD, FORMAT, NAN_SCALE, NEGATIVE_SCALE,
              ZERO_FACTOR, PIECE, SHAPE, NO_TENSOR, HUGE_HEADER, NO_DIGITS, DAMAGES };

static const char *const reasons[DAMAGES] = {
    [CUT] = "leave the file", [EMPTY] = "too few", [ONE_BIT] = "checksum does not agree",
    [PRECISION] = "holds bf16", [VERSION] = "version 2", [METHOD] = "method 9",
    [FORMAT] = "akin_format is", [NAN_SCALE] = "element 3 is", [NEGATIVE_SCALE] = "element 3 is",
    [ZERO_FACTOR] = "element 1 is 0", [PIECE] = "expected 1 to", [SHAPE] = "is not I8 of",
    [NO_TENSOR] = "is missing", [HUGE_HEADER] = "header says", [NO_DIGITS] = "not sixteen digits",
};

#define QKV "encoder.layer.0.attention.self.qkv"

static void damage(struct image *image, enum damage kind)
{
    float number = kind == NAN_SCALE ? NAN : kind == NEGATIVE_SCALE ? -1.0f : 0;
    uint32_t piece = 0;
    char *at;
    switch (kind) {
    case CUT: image->bytes -= 100; return;
    case EMPTY: image->bytes = 0; return;
    case ONE_BIT: image->data[image->bytes - 50] ^= 4; return;
    case PRECISION: memcpy(find(image, "\"int8\""), "\"bf16\"", 6); return;
    case VERSION: find(image, "1\",\"method")[0] = '2'; return;
    case METHOD: memcpy(strstr(find(image, "\"method\""), "0000"), "0000000000000009", 16); return;
    case FORMAT: *find(image, "narrowed-weights") = 'N'; return;
    case NO_DIGITS: memcpy(strstr(find(image, "\"weights_sample\""), ":\"") + 2, "xyz", 3); return;
    case HUGE_HEADER: image->data[6] = 1; return;
    case NAN_SCALE:
    case NEGATIVE_SCALE:
        memcpy(tensor_at(image, QKV ".scales") + 12, &number, 4);
        break;
    case ZERO_FACTOR: memcpy(tensor_at(image, QKV ".input_factor") + 4, &number, 4); break;
    case PIECE: memcpy(tensor_at(image, QKV ".piece"), &piece, 4); break;
    case SHAPE:
        at = strstr(find(image, "\"" QKV ".weight\""), "[96,32]");
        assert_non_null(at);
        memcpy(at, "[32,96]", 7);
        break;
    case NO_TENSOR: memcpy(find(image, QKV ".scales"), "x", 1); break;
    default: fail();
    }
    sign(image);
}

static void test_damaged(void **state)
{
    (void)state;
    size_t bytes = 0;
    float *want = vectors_of(folder, AKIN_PRECISION_INT8, false, &bytes);
    must_quantize(folder, AKIN_PRECISION_INT8);
    for (int kind = 0; kind < DAMAGES; kind++) {
        struct image image = read_image();
        size_t whole = image.bytes;
        damage(&image, (enum damage)kind);
        put_file(folder, INT8, image.data, image.bytes);
        expect_not_used(want, reasons[kind]);
        memory_free(image.data);
        must_quantize(folder, AKIN_PRECISION_INT8);
        image = read_image();
        assert_int_equal(image.bytes, whole);
        memory_free(image.data);
    }
    memory_free(want);
}

/* Cut at each of many lengths, and with many bytes turned: never a crash, always the same bits. */
static void test_every_damage(void **state)
{
    (void)state;
    size_t bytes = 0;
    float *want = vectors_of(folder, AKIN_PRECISION_INT8, false, &bytes);
    must_quantize(folder, AKIN_PRECISION_INT8);
    struct image whole = read_image();
    char path[PATH_BYTES_MAX], weights[PATH_BYTES_MAX];
    in_folder(path, folder, INT8);
    in_folder(weights, folder, "model.safetensors");
    for (size_t i = 0; i < 400; i++) {
        struct image image = { memory_copy_bytes(whole.data, whole.bytes), whole.bytes };
        size_t at = i * whole.bytes / 400;
        struct quantized *file = NULL;
        if (i % 2)
            image.data[at] = (char)(image.data[at] ^ 0x55);
        else
            image.bytes = at;
        put_file(folder, INT8, image.data, image.bytes);
        enum akin_status status = quantized_open(path, weights, COMPUTE_INT8, true, &file, NULL);
        /* Blanks behind the header are the only bytes that nothing depends on. */
        if (status == AKIN_OK && whole.data[at] != ' ')
            fail_msg("byte %zu may change unseen", at);
        quantized_close(&file);
        memory_free(image.data);
    }
    memory_free(whole.data);
    memory_free(want);
}

/* Of another model of the same shape; and of this one, only copied. */
static void test_other_weights(void **state)
{
    (void)state;
    size_t bytes = 0;
    char path[PATH_BYTES_MAX];
    struct file_map map;
    must_quantize(folder, AKIN_PRECISION_INT8);
    assert_int_equal(file_map_open(in_folder(path, folder, "model.safetensors"), &map, NULL),
                     AKIN_OK);
    char *copy = memory_copy_bytes((const char *)map.data, map.bytes);
    size_t count = map.bytes;
    file_map_close(&map);
    put_file(folder, "model.safetensors", copy, count);     /* the same, at another time */
    float *same = vectors_of(folder, AKIN_PRECISION_INT8, true, &bytes);
    memory_free(same);
    copy[count - 4] ^= 1;
    put_file(folder, "model.safetensors", copy, count);
    memory_free(copy);
    struct akin_quantized *kept = memory_alloc(1, sizeof *kept);
    assert_int_equal(model_quantized(folder, AKIN_PRECISION_INT8, kept, NULL), AKIN_OK);
    assert_true(kept->exists && !kept->usable);
    assert_non_null(strstr(kept->reason, "other weights"));
    memory_free(kept);
    char aside[PATH_BYTES_MAX], file[PATH_BYTES_MAX];
    in_folder(file, folder, INT8);
    in_folder(aside, folder, "aside");
    assert_int_equal(path_rename(file, aside, NULL), AKIN_OK);
    float *want = vectors_of(folder, AKIN_PRECISION_INT8, false, &bytes);
    assert_int_equal(path_rename(aside, file, NULL), AKIN_OK);
    expect_not_used(want, "other weights");
    memory_free(want);
}

/* ---- making ----------------------------------------------------------------------------- */

static void test_refuses_to_make(void **state)
{
    (void)state;
    char path[PATH_BYTES_MAX], file[PATH_BYTES_MAX];
    struct akin_error error = { 0 };
    in_folder(file, folder, INT8);
    assert_int_equal(quantize(folder, AKIN_PRECISION_FP32, NULL, &error), AKIN_ARGUMENT);
    assert_int_equal(quantize("/nonexistent", AKIN_PRECISION_INT8, NULL, &error), AKIN_NOT_FOUND);
    assert_int_equal(quantize(folder, AKIN_PRECISION_INT8, "/nonexistent/x", &error),
                     AKIN_NOT_FOUND);
    struct file_map map;
    assert_int_equal(file_map_open(in_folder(path, folder, "model.safetensors"), &map, NULL),
                     AKIN_OK);
    char *copy = memory_copy_bytes((const char *)map.data, map.bytes);
    size_t bytes = map.bytes;
    file_map_close(&map);
    struct safetensors *weights;
    assert_int_equal(safetensors_parse(copy, bytes, "copy", &weights, NULL), AKIN_OK);
    const struct safetensors_tensor *t =
        safetensors_find(weights, "encoder.layer.1.output.dense.weight");
    assert_non_null(t);
    memcpy(copy + (t->data - (const unsigned char *)copy), "\x00\x00\xc0\x7f", 4);
    safetensors_close(&weights);
    put_file(folder, "model.safetensors", copy, bytes);
    memory_free(copy);
    assert_int_equal(quantize(folder, AKIN_PRECISION_INT8, NULL, &error), AKIN_FORMAT);
    assert_message_has(error, "encoder.layer.1.output.dense: output 0");
    assert_false(path_exists(file));
    struct names names = { 0 };
    assert_int_equal(path_list(folder, &names, NULL), AKIN_OK);
    for (size_t i = 0; i < names.count; i++)
        assert_null(strstr(names.items[i], ".part"));
    names_deinit(&names);
}

static void test_method(void **state)
{
    (void)state;
    must_quantize(folder, AKIN_PRECISION_INT8);
    struct image image = read_image();
    uint64_t found = checksum_of(&image);
    memory_free(image.data);
    if (found != tiny_checksum)
        fail_msg("the weights are narrowed in another way (0x%016llx): raise STORED_METHOD",
                 (unsigned long long)found);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_same_bits), TEST(test_real_model), TEST(test_damaged), TEST(test_every_damage),
        TEST(test_other_weights), TEST(test_refuses_to_make), TEST(test_method),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
